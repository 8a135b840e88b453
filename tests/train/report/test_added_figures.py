"""Figures that environments add, on the page: numbers, words for those who do not see them, phone and dark."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chromium import barriers, browser, console_errors, opened, requested_hosts

from palaestra.envs import resolve
from palaestra.envs.core.reference import LineFigure, MapFigure, ReportFigure, RowFigure
from palaestra.train.report.run_charts import added_charts
from palaestra.train.report.run_record import RunRecord, read_record
from palaestra.train.report.run_report import write_report
from palaestra.train.runs.run_folder import RunFolder

EVIL = "<script>alert(1)</script>"


def of(name: str, **arguments: Any) -> Sequence[ReportFigure]:
    """What an environment adds for its expert, where every third episode missed."""
    env = resolve(name).build(**arguments)
    assert env is not None
    reached = np.arange(12) % 3 > 0
    return env.report_figures(reached * 35.0, np.full(12, 40), reached, env.expert)


def record_with(figures: Sequence[ReportFigure], run: RunFolder) -> RunRecord:
    run.figures_file.write_text(json.dumps([figure.as_dict() for figure in figures]))
    return read_record(run)


@pytest.fixture(scope="module")
def added() -> list[ReportFigure]:
    """All that ours add."""
    names = ("snake-small", "reach-torque", "pricing-duopoly", "pricing-two", "pricing-yogurt")
    return [figure for name in names for figure in of(name)] + list(of("reach", robot="so101"))


@pytest.fixture(scope="module")
def page(trained: Path, tmp_path_factory: pytest.TempPathFactory, added: list[ReportFigure]) -> Path:
    run = RunFolder(shutil.copytree(trained, tmp_path_factory.mktemp("added") / "run"))
    record_with(added, run)
    write_report([run], run.report_file)
    return run.report_file


def test_lines_have_their_numbers_bands_and_words(run: RunFolder) -> None:
    figure = LineFigure(
        "Way", "time, s", "distance, cm", [0.0, 1.0, 2.0], {"agent": [3.0, 2.0, None], "expert": [3.0, 1.0, 0.5]},
        {"agent": ([2.0, 1.0, None], [4.0, 3.0, None])}, [("tolerance", 0.7)], True, "A note.",
    )  # fmt: skip
    (chart,) = added_charts(record_with([figure], run), "")
    agent, expert = chart.hover["series"]
    assert (agent["x"], agent["y"], agent["low"], agent["high"]) == (
        [0.0, 1.0, 2.0],
        [3.0, 2.0, None],
        [2.0, 1.0, None],
        [4.0, 3.0, None],
    )
    assert "low" not in expert
    assert chart.rows == [["0", "3", "3"], ["1", "2", "1"], ["2", "–", "0.5"]]
    assert [name for _, name in chart.legend] == ["agent", "expert"]
    assert "agent: from 3 at 0 to 2 at 1, with 3 at 0 the highest." in chart.svg
    assert ">tolerance</text>" in chart.svg
    assert chart.note == "A note."
    assert chart.hover["y"][0] == 0.0


def test_rows_have_their_numbers_and_words(run: RunFolder) -> None:
    figure = RowFigure("Profit", "profit of a period", {"agent": 0.25, "best known": 0.5}, ["best known"])
    (chart,) = added_charts(record_with([figure], run), "")
    assert chart.rows == [["agent", "0.25"], ["best known", "0.5"]]
    assert list(chart.heads) == ["", "profit of a period"]
    assert "profit of a period. agent: 0.25. best known: 0.5." in chart.svg
    assert 'class="bar c0"' in chart.svg
    assert 'class="bar plain"' in chart.svg


def test_a_map_without_a_name_has_the_title_alone(run: RunFolder) -> None:
    figure = MapFigure("Reached", "x, m", "y, m", "reached, %", {"": [[1.0, 2.0]]})
    (chart,) = added_charts(record_with([figure], run), "")
    assert chart.title == "Reached"


@pytest.mark.parametrize(
    "figure",
    [
        LineFigure(EVIL, EVIL, EVIL, [0.0], {EVIL: [1.0]}, levels=[(EVIL, 1.0)], note=EVIL),
        RowFigure(EVIL, EVIL, {EVIL: 1.0}, levels=[(EVIL, 1.0)], note=EVIL),
    ],
    ids=["lines", "rows"],
)
def test_markup_in_them_is_text(run: RunFolder, figure: ReportFigure) -> None:
    record_with([figure], run)
    write_report([run], run.report_file)
    assert EVIL not in run.report_file.read_text()


@pytest.mark.parametrize("change", [{"x": None}, {"curves": {"a": ["b"]}}, {"levels": 3}, {"bands": {"a": [1]}}])
def test_a_damaged_one_is_told(run: RunFolder, change: dict[str, Any]) -> None:
    figure = LineFigure("Way", "s", "cm", [0.0], {"a": [1.0]}).as_dict() | change
    run.figures_file.write_text(json.dumps([figure]))
    record = read_record(run)
    assert added_charts(record, "") == []
    assert any("is damaged" in text for text in record.troubles)


def test_ours_fit_and_can_be_read(page: Path, added: list[ReportFigure]) -> None:
    """No text of a chart leaves its picture, none lies over another, and each has a title, words and a table."""
    inside = """
        const faults = [];
        for (const svg of document.querySelectorAll("#run svg.chart[id^=own]")) {
            const box = svg.getBoundingClientRect();
            const words = [...svg.querySelectorAll("text")].map((e) => [e.textContent, e.getBoundingClientRect()]);
            for (const [text, at] of words)
                if (Math.min(at.left - box.left, box.right - at.right, at.top - box.top, box.bottom - at.bottom) < -3)
                    faults.push(`${svg.id}: ${text} leaves the picture`);
            words.forEach(([a, one], i) => words.slice(i + 1).forEach(([b, other]) => {
                const wide = Math.min(one.right, other.right) - Math.max(one.left, other.left);
                const deep = Math.min(one.bottom, other.bottom) - Math.max(one.top, other.top);
                if (wide > 2 && deep > 3) faults.push(`${svg.id}: ${a} lies over ${b}`);
            }));
            if (!svg.querySelector("desc").textContent || !svg.querySelector("title").textContent) faults.push(svg.id);
            if (!svg.closest("figure").querySelector("details table tbody tr")) faults.push(`${svg.id}: no table`);
        }
        return [document.querySelectorAll("#run svg.chart[id^=own]").length, faults];
    """
    expected = sum(len(figure.maps) if isinstance(figure, MapFigure) else 1 for figure in added)
    with browser(1280) as window:
        opened(window, page)
        assert window.execute_script(inside) == [expected, []]
        assert console_errors(window) == []
        assert requested_hosts(window) == []


def test_arrow_keys_tell_the_numbers_of_rows_and_lines(page: Path, added: list[ReportFigure]) -> None:
    from selenium.webdriver.common.keys import Keys

    number = next(n for n, figure in enumerate(added) if isinstance(figure, RowFigure))
    figure = added[number]
    assert isinstance(figure, RowFigure)
    first, second = list(figure.values)[:2]
    with browser() as window:
        opened(window, page)
        chart, tip = window.find_element("id", f"own-{number}"), window.find_element("id", "tip")
        chart.send_keys(Keys.HOME)
        assert tip.text.startswith(f"{first}: ")
        chart.send_keys(Keys.ARROW_DOWN)
        assert tip.text.startswith(f"{second}: ")
        line = next(n for n, figure in enumerate(added) if isinstance(figure, LineFigure))
        window.find_element("id", f"own-{line}").send_keys(Keys.HOME)
        assert "agent: " in tip.text


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_axe_finds_no_serious_fault(page: Path, dark: bool) -> None:
    with browser(390, dark=dark) as window:
        opened(window, page)
        window.execute_script("document.querySelectorAll('details').forEach((part) => { part.open = true; })")
        assert barriers(window) == []
        assert window.execute_script("return document.documentElement.scrollWidth") <= 390
