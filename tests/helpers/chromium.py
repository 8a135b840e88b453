"""Headless Chromium that opens a file, without a network, and tells its errors and its requests; skips where there is
none."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest


@contextmanager
def browser(width: int = 1280, dark: bool = False) -> Iterator[Any]:
    """A window of that width, in CSS pixels; narrow ones are a phone's."""
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
    window = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    try:
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
        window.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        window.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        window.execute_cdp_cmd("Network.enable", {})
        yield window
    finally:
        window.quit()


def opened(window: Any, page: Path) -> None:
    """Open the page, and forget what was logged before."""
    window.get("about:blank")
    window.get_log("performance")
    window.get_log("browser")
    window.get(page.resolve().as_uri())


def console_errors(window: Any) -> list[str]:
    """What the page has told its console, but for what is only informative."""
    return [entry["message"] for entry in window.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]


def requested_hosts(window: Any) -> list[str]:
    """The addresses that were asked for since the page was opened, but for files and data."""
    messages = [json.loads(entry["message"])["message"] for entry in window.get_log("performance")]
    sent = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    assert any(address.startswith("file:") for address in sent), "the log has not even the page itself"
    return [address for address in sent if not address.startswith(("file:", "data:", "about:"))]
