"""The report in Chromium: no error, no request, the numbers of the curves, keyboard, phone, film, accessibility."""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from chromium import browser, console_errors, opened, requested_hosts

from palaestra.train.report.run_report import write_report
from palaestra.train.runs.run_folder import RunFolder

OLD = Path(__file__).parents[2] / "data/runs-885ce09"
AXE = "axe-core@4.10.3"


@pytest.fixture(scope="module")
def page(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("page") / "report.html"
    write_report([RunFolder(trained)], out)
    return out


@pytest.fixture(scope="module")
def window() -> Iterator[Any]:
    with browser() as found:
        yield found


@pytest.fixture
def shown(window: Any, page: Path) -> Any:
    opened(window, page)
    return window


def rows_of(run: Path) -> list[dict[str, str]]:
    with (run / "progress.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_it_tells_no_error_and_asks_no_host(shown: Any) -> None:
    shown.execute_script("document.querySelectorAll('details').forEach((part) => { part.open = true; })")
    assert console_errors(shown) == []
    assert requested_hosts(shown) == []


def test_nothing_could_be_loaded_anyway(shown: Any) -> None:
    """The page's policy holds back what would; the log has what is tried."""
    shown.execute_script("document.body.append(Object.assign(new Image(), {src: 'https://example.com/a.png'}))")
    script = "document.body.append(Object.assign(document.createElement('script'), {text: 'window.ran = 1'}))"
    shown.execute_script(script)
    assert shown.execute_script("return window.ran") is None
    errors = console_errors(shown)
    assert len(errors) == 2
    assert all("Content Security Policy" in text for text in errors)
    assert requested_hosts(shown) == ["https://example.com/a.png"]


@pytest.mark.parametrize(
    ("chart", "series", "column", "factor"),
    [
        ("return", 0, "rollout/ep_rew_mean", 1.0),
        ("return", 1, "eval/mean_reward", 1.0),
        ("normalised", 0, "eval/percent_of_optimal", 1.0),
        ("train-value-loss", 0, "train/value_loss", 1.0),
        ("train-entropy-loss", 0, "train/entropy_loss", -1.0),
        ("time-fps", 0, "time/fps", 1.0),
        ("train-learning-rate", 0, "train/learning_rate", 1.0),
    ],
)
def test_charts_have_the_numbers_of_the_curves(
    shown: Any, trained: Path, chart: str, series: int, column: str, factor: float
) -> None:
    rows = [row for row in rows_of(trained) if row[column]]
    if column.startswith("eval/"):  # while training
        rows = [row for row in rows if row["time/total_timesteps"]]
    wanted = [(int(row["global_step"]), factor * float(row[column])) for row in rows]
    data = shown.execute_script("return JSON.parse(document.getElementById('data').textContent)")["charts"][chart]
    found = data["series"][series]
    assert list(zip(found["x"], found["y"], strict=True)) == wanted
    path = shown.execute_script(f"return document.querySelectorAll('#{chart} path.line')[{series}].getAttribute('d')")
    drawn = [tuple(map(float, pair)) for pair in re.findall(r"[ML]([\d.-]+) ([\d.-]+)", path)]
    (low, high, start, end), (bottom, top, y_start, y_end) = data["x"], data["y"]
    assert not data["logarithmic"]
    for (x, y), (step, value) in zip(drawn, wanted, strict=True):
        assert x == pytest.approx(start + (step - low) / (high - low) * (end - start), abs=0.06)
        assert y == pytest.approx(y_start + (value - bottom) / (top - bottom) * (y_end - y_start), abs=0.06)


def test_the_data_are_inside(shown: Any, trained: Path) -> None:
    (run,) = shown.execute_script("return JSON.parse(document.getElementById('data').textContent)")["runs"]
    assert run["evaluation"] == json.loads((trained / "eval.json").read_text())
    rows = rows_of(trained)
    assert run["curves"]["columns"]["global_step"] == [int(row["global_step"]) for row in rows]
    assert run["curves"]["columns"]["train/loss"] == [float(c) if c else None for c in (r["train/loss"] for r in rows)]
    with (trained / "episodes.csv").open(newline="") as file:
        assert run["episodes"]["return"] == [float(row["return"]) for row in csv.DictReader(file)]


def test_numbers_are_told_under_the_pointer_and_by_the_keys(shown: Any, trained: Path) -> None:
    from selenium.webdriver.common.keys import Keys

    rows = [row for row in rows_of(trained) if row["rollout/ep_rew_mean"]]
    chart, tip = shown.find_element("id", "return"), shown.find_element("id", "tip")
    assert not tip.is_displayed()
    shown.execute_script(
        "const box = arguments[0].getBoundingClientRect();"
        "arguments[0].dispatchEvent(new PointerEvent('pointermove', {clientX: box.right - 1, clientY: box.top + 40}))",
        chart,
    )
    assert tip.is_displayed()
    assert f"environment steps {int(rows[-1]['global_step']):,}" in tip.text
    assert f"training, exploring: {float(rows[-1]['rollout/ep_rew_mean']):.4g}" in tip.text
    shown.execute_script("arguments[0].dispatchEvent(new PointerEvent('pointerleave'))", chart)
    assert not tip.is_displayed()
    chart.send_keys(Keys.HOME)
    assert f"environment steps {int(rows[0]['global_step']):,}" in tip.text
    chart.send_keys(Keys.ARROW_RIGHT)
    assert f"environment steps {int(rows[1]['global_step']):,}" in tip.text
    chart.send_keys(Keys.ESCAPE)
    assert not tip.is_displayed()


def test_the_film_plays(shown: Any) -> None:
    script = """
        const done = arguments[0], film = document.querySelector("video");
        if (!film.poster.startsWith("data:image/jpeg")) done("no poster");
        film.onerror = () => done(String(film.error.message));
        film.onloadeddata = () => done([film.videoWidth > 100, film.duration > 0]);
        film.load(); film.play();
    """
    assert shown.execute_async_script(script) == [True, True]


@pytest.mark.parametrize("width", [390, 320])
def test_a_phone_need_not_scroll_sideways(page: Path, width: int) -> None:
    with browser(width) as phone:
        opened(phone, page)
        assert phone.execute_script("return document.documentElement.scrollWidth") <= width
        script = "return [...document.querySelectorAll('svg.chart text')].map((e) => e.getBoundingClientRect().height)"
        shown = [height for height in phone.execute_script(script) if height > 0]
        assert min(shown) >= 8.5  # pixels


@pytest.fixture(scope="module")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The source of axe-core, which finds faults of accessibility."""
    if (npm := shutil.which("npm")) is None:
        pytest.skip("accessibility is tested with axe-core, which npm installs")
    folder = tmp_path_factory.mktemp("axe")
    command = [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(folder), AXE]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    except subprocess.TimeoutExpired:
        pytest.skip("npm cannot install axe-core in 120 s")
    if done.returncode:
        pytest.skip(f"npm cannot install axe-core: {done.stderr.strip().splitlines()[-1:]}")
    return (folder / "node_modules/axe-core/axe.min.js").read_text(encoding="utf-8")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("several", [False, True], ids=["one run", "several"])
def test_axe_finds_no_serious_fault(trained: Path, tmp_path: Path, axe: str, dark: bool, several: bool) -> None:
    runs = [trained, *([OLD / "ppo-cartpole", OLD / "dqn-pricing"] if several else [])]
    write_report([RunFolder(path) for path in runs], tmp_path / "page.html")
    with browser(dark=dark) as window:
        opened(window, tmp_path / "page.html")
        window.execute_script("document.querySelectorAll('details').forEach((part) => { part.open = true; })")
        window.execute_cdp_cmd("Runtime.evaluate", {"expression": axe})  # which the page's policy does not hold back
        window.set_script_timeout(60)
        found = window.execute_async_script("axe.run().then(arguments[0], (error) => arguments[0](String(error)))")
        faults = [(f["id"], f["impact"], f["nodes"][0]["html"][:200]) for f in found["violations"]]
        assert [fault for fault in faults if fault[1] in ("serious", "critical")] == []
        assert len(found["passes"]) > 10
