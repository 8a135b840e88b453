"""Headless Chromium that opens a file, without a network, and tells its errors and its requests; skips where there is
none."""

from __future__ import annotations

import atexit
import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest

SECONDS = 60  # until a page has to be there
_idle: list[Any] = []  # windows that no test uses now: to start a browser takes longer than most tests of a page


@contextmanager
def browser(width: int = 1280, dark: bool = False) -> Iterator[Any]:
    """A window of that width, in CSS pixels; narrow ones are a phone's. It is kept for the next test, if none fails."""
    window = _idle.pop() if _idle else _started()
    try:
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
        window.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        window.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        window.execute_cdp_cmd("Network.enable", {})
        yield window
        window.get("about:blank")
    except BaseException:
        window.quit()
        raise
    _idle.append(window)


def _started() -> Any:
    """A window with an empty profile of its own."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="pages are tested with selenium")
    binary = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if binary is None or driver is None:
        pytest.skip("pages are tested with chromium and chromedriver (apt-get install chromium chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--hide-scrollbars", "--disable-gpu"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    return webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))


@atexit.register
def _quit() -> None:
    for window in _idle:
        window.quit()


def opened(window: Any, page: Path) -> None:
    """Open the page, and forget what was logged before."""
    window.get("about:blank")
    window.get_log("performance")
    window.get_log("browser")
    address = page.resolve().as_uri()
    window.get(address)  # on a busy machine it was seen to return in the middle of a long page
    deadline = time.monotonic() + SECONDS
    while window.execute_script("return [document.URL, document.readyState]") != [address, "complete"]:
        assert time.monotonic() < deadline, f"{page} is not there after {SECONDS} s"
        time.sleep(0.02)


@contextmanager
def shown(page: Path, width: int = 1280, scheme: str = "light") -> Iterator[Any]:
    """The page in a window; in the end nothing stands in its console, and nothing was asked of any host."""
    with browser(width, scheme == "dark") as window:
        opened(window, page)
        yield window
        assert console_errors(window) == []
        assert requested_hosts(window) == []


def press(window: Any, key: str, kind: str = "keydown") -> None:
    """A key in the element that has the focus, and no key that a browser itself knows."""
    window.execute_script(
        "document.activeElement.dispatchEvent(new KeyboardEvent(arguments[1], {key: arguments[0], bubbles: true}))",
        key,
        kind,
    )


def console_errors(window: Any) -> list[str]:
    """What the page has told its console, but for what is only informative."""
    return [entry["message"] for entry in window.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]


def requested_hosts(window: Any) -> list[str]:
    """The addresses that were asked for since the page was opened, but for files and data."""
    messages = [json.loads(entry["message"])["message"] for entry in window.get_log("performance")]
    sent = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    assert any(address.startswith("file:") for address in sent), "the log has not even the page itself"
    return [address for address in sent if not address.startswith(("file:", "data:", "about:"))]


AXE = "axe-core@4.10.3"
RUN_AXE = """
const tell = arguments[0];
const fault = (found) => [found.id, found.impact, found.nodes[0].html.slice(0, 200)];
const told = (found) => tell([found.passes.length, found.violations.map(fault)]);
axe.run({resultTypes: ["violations"]}).then(told, (error) => tell(String(error)));
"""  # of each rule that is kept axe describes one element, instead of thousands in a page of figures


def barriers(window: Any) -> list[tuple[str, str, str]]:
    """Faults that axe-core calls serious or critical: rule, impact and an element. Skips without npm."""
    window.execute_cdp_cmd("Runtime.evaluate", {"expression": _axe()})  # which a page's policy does not hold back
    window.set_script_timeout(60)
    rules, faults = window.execute_async_script(RUN_AXE)
    assert rules > 10
    return [tuple(fault) for fault in faults if fault[1] in ("serious", "critical")]


@cache
def _axe() -> str:
    """The source of axe-core."""
    if (npm := shutil.which("npm")) is None:
        pytest.skip("accessibility is tested with axe-core, which npm installs")
    with tempfile.TemporaryDirectory() as folder:
        command = [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", folder, AXE]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        except subprocess.TimeoutExpired:
            pytest.skip("npm cannot install axe-core in 120 s")
        if done.returncode:
            pytest.skip(f"npm cannot install axe-core: {done.stderr.strip().splitlines()[-1:]}")
        return (Path(folder) / "node_modules/axe-core/axe.min.js").read_text(encoding="utf-8")
