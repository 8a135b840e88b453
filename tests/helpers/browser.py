"""Pages in headless Chromium, without any network."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest

_DRIVER = "chromedriver"
_FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--window-size=1280,1000")
_AXE = "axe-core@4.10.3"


@contextmanager
def opened(file: Path, width: int = 1280, scheme: str = "light") -> Iterator[Any]:
    """Selenium's driver with that file shown, ``width`` pixels wide in a light or dark colour scheme.

    Afterwards the page must have written nothing to the console and asked for nothing but itself. Skips where there is
    no Chromium.
    """
    webdriver = pytest.importorskip("selenium.webdriver")
    chromium, driver = (shutil.which(name) for name in ("chromium", _DRIVER))
    if chromium is None or driver is None:
        pytest.skip("there is no chromium with its driver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in _FLAGS:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    try:
        media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
        size = {"width": width, "height": 1000, "deviceScaleFactor": 1, "mobile": width < 500}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        browser.get(file.as_uri())
        yield browser
        assert browser.get_log("browser") == []
        asked = [entry["message"] for entry in browser.get_log("performance")]
        assert not [line for line in asked if '"Network.requestWillBeSent"' in line and "http" in _url(line)]
    finally:
        browser.quit()


def _url(line: str) -> str:
    return line.partition('"url":"')[2].partition('"')[0]


@cache
def _axe_source() -> str:
    if shutil.which("npm") is None:
        pytest.skip("there is no npm")
    import tempfile

    folder = Path(tempfile.mkdtemp())
    command = ["npm", "install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts", _AXE]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode != 0:
        pytest.skip(f"npm cannot install {_AXE}: {done.stderr[-200:]}")
    source = (folder / "node_modules" / "axe-core" / "axe.min.js").read_text()
    shutil.rmtree(folder)
    return source


def barriers(browser: Any) -> list[str]:
    """What axe-core calls serious or critical on the page shown: the rule, and the elements."""
    browser.execute_script(_axe_source())
    found = browser.execute_async_script("const done = arguments[0]; axe.run().then(done)")
    return [
        f"{one['id']}: {[node['target'] for node in one['nodes']]}"
        for one in found["violations"]
        if one["impact"] in ("serious", "critical")
    ]
