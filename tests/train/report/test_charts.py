"""Charts: round ticks and positions as known answers, text that stays text, tables and words with the same numbers."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palaestra.train.report.charts import (
    Curve,
    ScoreRow,
    SvgChart,
    colour_of,
    histogram_chart,
    interval_chart,
    line_chart,
    map_chart,
)
from palaestra.train.report.scales import Scale, round_step, scale_for, short_number

SVG = "{http://www.w3.org/2000/svg}"
TAG = "<script>alert('1')</script>"


def drawn(chart: SvgChart) -> ElementTree.Element:
    return ElementTree.fromstring(chart.svg)


@pytest.mark.parametrize(
    ("value", "step", "text"),
    [
        *((0.0, 1.0, "0"), (3.0, 1.0, "3"), (-20.0, 10.0, "−20"), (0.25, 0.25, "0.25"), (0.5, 0.25, "0.50")),
        *((1_500_000.0, 500_000.0, "1.5 M"), (20_000.0, 5_000.0, "20 k"), (0.0001, 0.0001, "0.0001")),
        *((0.00002, 0.00001, "2.0e−5"), (12_345.0, 0.0, "12,345"), (0.123456, 0.0, "0.1235"), (2.5e-7, 0.0, "2.5e−7")),
    ],
)
def test_labels(value: float, step: float, text: str) -> None:
    assert short_number(value, step) == text


@pytest.mark.parametrize(("least", "step"), [(0.3, 0.5), (1.0, 1.0), (2.1, 5.0), (21.0, 25.0), (0.021, 0.025), (6, 10)])
def test_steps_are_round(least: float, step: float) -> None:
    assert round_step(least) == pytest.approx(step)


def test_a_scale_has_room_for_everything_to_round_ends() -> None:
    scale = scale_for([3.2, None, 96.0, float("nan")], 200.0, 0.0)
    assert (scale.low, scale.high) == (0.0, 100.0)
    assert [label for _, label in scale.ticks()] == ["0", "25", "50", "75", "100"]
    assert scale(25.0) == 150.0
    powers = scale_for([0.02, 30.0], 0.0, 4.0, logarithmic=True)
    assert [label for _, label in powers.ticks()] == ["0.01", "0.1", "1", "10", "100"]
    assert powers(1.0) == pytest.approx(2.0)


@given(st.lists(st.floats(-1e12, 1e12), min_size=1, max_size=6))
def test_every_number_lies_on_its_scale(values: list[float]) -> None:
    scale = scale_for(values, 100.0, 0.0)
    assert all(-1e-6 <= scale(value) <= 100.0 + 1e-6 for value in values)
    labels = [label for _, label in scale.ticks(5)]
    assert 1 <= len(labels) <= 7
    assert len({*labels}) == len(labels)


def test_a_curve_goes_through_its_points_and_breaks_where_there_is_no_number() -> None:
    chart = line_chart(
        "a", "Title", [Curve("one", [0, 1, 2, 3], [1.0, None, 3.0, 2.0])], x_label="steps", y_label="return"
    )
    (path,) = (e for e in drawn(chart).iter(f"{SVG}path") if e.get("class") == "line c0")
    x, y = (Scale(*chart.hover[name]) for name in "xy")
    wanted = [(x(0), y(1.0)), (x(2), y(3.0)), (x(3), y(2.0))]
    found = re.findall(r"([ML])([\d.]+) ([\d.]+)", path.get("d") or "")
    assert [letter for letter, *_ in found] == ["M", "M", "L"]
    for (_, *place), point in zip(found, wanted, strict=True):
        assert [float(number) for number in place] == pytest.approx(point, abs=0.06)
    assert chart.rows == [["0", "1"], ["1", "–"], ["2", "3"], ["3", "2"]]
    description = drawn(chart).find(f"{SVG}desc")
    assert description is not None
    assert description.text is not None
    assert "from 1 at 0 to 2 at 3, with 3 at 2 the highest" in description.text


def test_a_band_lies_between_its_ends() -> None:
    curve = Curve("one", [0, 1, 2], [1.0, 2.0, 3.0], [0.0, None, 2.0], [2.0, 3.0, 4.0])
    chart = line_chart("a", "Title", [curve], x_label="steps", y_label="return")
    (path,) = (e for e in drawn(chart).iter(f"{SVG}path") if "band" in (e.get("class") or ""))
    y = Scale(*chart.hover["y"])
    ys = [float(number) for number in re.findall(r"[ML][\d.]+ ([\d.]+)", path.get("d") or "")]
    assert ys == pytest.approx([y(2.0), y(0.0), y(4.0), y(2.0)], abs=0.06)  # two pieces of one point each


def test_bars_of_scores_and_their_intervals() -> None:
    rows = [ScoreRow("random", 1.0, colour=-1), ScoreRow("agent", 8.0, 6.0, 10.0)]
    chart = interval_chart("a", "Score", rows, x_label="mean return", levels=[("solved at", 9.0)])
    root = drawn(chart)
    bars = list(root.iter(f"{SVG}rect"))
    low, high = Scale(0.0, 10.0, 12.0, 346.0)(0.0), Scale(0.0, 10.0, 12.0, 346.0)(8.0)
    assert float(bars[1].get("x") or 0) == pytest.approx(low, abs=0.06)
    assert float(bars[1].get("width") or 0) == pytest.approx(high - low, abs=0.06)
    whisker = next(e for e in root.iter(f"{SVG}line") if e.get("class") == "whisker")
    ends = [float(whisker.get(name) or 0) for name in ("x1", "x2")]
    assert ends == pytest.approx([Scale(0.0, 10.0, 12.0, 346.0)(value) for value in (6.0, 10.0)], abs=0.06)
    assert chart.rows == [["random", "1", "–"], ["agent", "8", "6 to 10"]]


def test_bars_of_a_histogram_are_as_high_as_their_counts() -> None:
    chart = histogram_chart("a", "Returns", [0, 1, 2, 3], [4, 0, 2], x_label="return", y_label="episodes", marked=[2])
    bars = list(drawn(chart).iter(f"{SVG}rect"))
    assert [e.get("class") for e in bars] == ["bar c0", "bar marked"]
    heights = [float(e.get("height") or 0) for e in bars]
    assert heights[0] == pytest.approx(2 * heights[1], abs=0.2)
    assert chart.rows == [["0 to 1", "4"], ["2 to 3", "2"]]


def test_a_map_has_a_cell_for_each_number_from_the_bottom() -> None:
    chart = map_chart(
        "a", "Prices", [[1.0, 2.0], [None, 1.0]], x_label="period", y_label="units", value_label="price", first=(1, 1)
    )
    paths = {e.get("fill"): e.get("d") or "" for e in drawn(chart).iter(f"{SVG}path")}
    assert paths.keys() == {colour_of(1.0, 1.0, 2.0), colour_of(2.0, 1.0, 2.0)}
    assert paths[colour_of(1.0, 1.0, 2.0)].count("M") == 2
    (x,), (y,) = zip(*re.findall(r"M([\d.]+) ([\d.]+)", paths[colour_of(2.0, 1.0, 2.0)]), strict=True)
    assert float(x) == pytest.approx(chart.hover["x"][0] + chart.hover["x"][1], abs=0.06)  # the second column
    assert float(y) == pytest.approx(chart.hover["y"][0] - chart.hover["y"][1], abs=0.06)  # the lowest row
    assert chart.rows == [["1", "1", "2"], ["2", "–", "1"]]


@pytest.mark.parametrize(
    "chart",
    [
        line_chart("a", TAG, [Curve(TAG, [0], [1.0])], x_label=TAG, y_label=TAG, levels=[(TAG, 1.0)]),
        interval_chart("a", TAG, [ScoreRow(TAG, 1.0, note=TAG)], x_label=TAG, levels=[(TAG, 1.0)]),
        histogram_chart("a", TAG, [0, 1], [1], x_label=TAG, y_label=TAG, levels=[(TAG, 1.0)], names=[TAG]),
        map_chart("a", TAG, [[1.0]], x_label=TAG, y_label=TAG, value_label=TAG),
    ],
)
def test_text_stays_text(chart: SvgChart) -> None:
    root = drawn(chart)  # which is well-formed
    assert "script" not in {e.tag.removeprefix(SVG) for e in root.iter()}
    assert root.find(f"{SVG}title") is not None
    assert any(TAG[:20] in (e.text or "") for e in root.iter())


@pytest.mark.parametrize("curves", [[], [Curve("none", [], [])], [Curve("none", [0, 1], [None, None])]])
def test_without_numbers_there_is_a_frame(curves: list[Curve]) -> None:
    chart = line_chart("a", "Title", curves, x_label="steps", y_label="return")
    assert len(list(drawn(chart).iter(f"{SVG}line"))) > 5
