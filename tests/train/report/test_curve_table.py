"""The curves of a report: columns, damage, gaps, and thinning that keeps means and ends."""

from __future__ import annotations

import random
from pathlib import Path
from statistics import fmean

import pytest

from palaestra.train.report.curve_table import MOST_POINTS, MOST_ROWS, read_curves

HEAD = "global_step,time/total_timesteps,train/loss,eval/mean_reward\n"


def written(tmp_path: Path, text: str) -> Path:
    (tmp_path / "progress.csv").write_bytes(text.encode())
    return tmp_path / "progress.csv"


def test_columns_and_the_row_of_the_final_evaluation(tmp_path: Path) -> None:
    found = read_curves(written(tmp_path, HEAD + "10,10,0.5,\n20,20,0.25,7\n20,,,9\n"))
    assert found.steps == [10, 20, 20]
    assert found.points("train/loss") == ([10, 20], [0.5, 0.25])
    assert found.points("eval/mean_reward") == ([20, 20], [7.0, 9.0])
    assert found.points("eval/mean_reward", training_only=True) == ([20], [7.0])
    assert (found.unread, found.broken) == (0, {})
    assert not found.has("no such column")


def test_nan_and_infinity_are_gaps_and_counted(tmp_path: Path) -> None:
    found = read_curves(written(tmp_path, HEAD + "10,10,0.5,\n20,20,nan,\n30,30,inf,\n40,40,0.1,\n"))
    curve = found.curve("train/loss", "loss")
    assert (curve.x, curve.y) == ([10, 20, 30, 40], [0.5, None, None, 0.1])
    assert found.broken == {"train/loss": (20, 2)}


@pytest.mark.parametrize(
    ("row", "unread"),
    [("20,20\n", 1), ("x,20,1,\n", 1), ("20,20,one,\n", 1), ("20,20,1,,5\n", 1), ("-5,1,1,\n", 1), ("20,20,0.", 0)],
)
def test_damaged_rows_are_left_out_and_counted(tmp_path: Path, row: str, unread: int) -> None:
    """Only the last one, which a killed run has not finished, is not counted."""
    found = read_curves(written(tmp_path, f"{HEAD}10,10,0.5,\n{row}"))
    assert (found.steps, found.unread) == ([10], unread)


@pytest.mark.parametrize("text", ["", "\n", "hello\nthere\n", "\0\0\0\n", "global_step,global_step\n1,2\n"])
def test_what_is_no_table_has_no_rows(tmp_path: Path, text: str) -> None:
    assert read_curves(written(tmp_path, text)).steps == []


def test_a_long_curve_is_means_in_a_band_over_rows_after_each_other(tmp_path: Path) -> None:
    random.seed(0)
    values = [random.random() for _ in range(10_000)]
    text = "".join(f"{n + 1},{n + 1},{value},{5 if n % 1000 == 999 else ''}\n" for n, value in enumerate(values))
    found = read_curves(written(tmp_path, HEAD + text))
    curve = found.curve("train/loss", "loss")
    size = 10_000 // MOST_POINTS
    assert list(curve.x) == list(range(size, 10_001, size))
    for n in (0, 1, 200, 399):
        part = values[n * size : (n + 1) * size]
        assert curve.y[n] == pytest.approx(fmean(part), rel=1e-6)
        assert (curve.low[n], curve.high[n]) == pytest.approx((min(part), max(part)), rel=1e-6)
    data = found.rows_for_data()
    assert data["rows"] == 10_000
    assert len(data["columns"]["global_step"]) <= MOST_ROWS + 11
    assert {1000, 2000, 10_000} <= {*data["columns"]["global_step"]}
