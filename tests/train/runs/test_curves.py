"""The curves of a run as columns, whatever state the file is in."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest

from palaestra.train import curves
from palaestra.train.config.schema import ConfigError

RUN = Path(__file__).parents[2] / "data/runs-885ce09/ppo-cartpole"


def test_the_numbers_are_those_of_the_file() -> None:
    found = curves(RUN)
    other = np.genfromtxt(RUN / "progress.csv", delimiter=",", skip_header=1)
    heads = (RUN / "progress.csv").read_text().splitlines()[0].split(",")
    assert list(found) == heads
    for column, name in zip(other.T, heads, strict=True):
        np.testing.assert_array_equal(found[name], column)
    assert found["global_step"].dtype == np.int64


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return Path(shutil.copytree(RUN, tmp_path / "run"))


def test_damaged_rows_are_left_out_with_a_warning(run: Path) -> None:
    file = run / "progress.csv"
    lines = [line for line in file.read_text().splitlines() if line]
    wrong = ["x" + lines[2][1:], "1,2", "nan" + lines[2][lines[2].index(",") :], "1e300" + lines[2][3:], "\0", '"']
    file.write_text("\n".join([*lines[:4], *wrong[:5], *lines[4:], "512,1,2"]))  # the last is half written
    with pytest.warns(UserWarning, match="5 rows that cannot be read are left out"):
        found = curves(run)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        whole = curves(RUN)
    for name, column in whole.items():
        np.testing.assert_array_equal(found[name], column)


@pytest.mark.parametrize("content", [b"", b"a,b\n1,2\n", b"global_step,global_step\n1,1\n", b"\xff\xfe\n"])
def test_what_is_no_table_is_refused(content: bytes, run: Path) -> None:
    (run / "progress.csv").write_bytes(content)
    with pytest.raises(ConfigError, match=r"progress\.csv is damaged: its first line names no column global_step"):
        curves(run)


def test_a_table_without_rows_and_none_at_all(run: Path, tmp_path: Path) -> None:
    (run / "progress.csv").write_bytes(b"global_step,a\n")
    assert {name: column.shape for name, column in curves(run).items()} == {"global_step": (0,), "a": (0,)}
    (run / "progress.csv").unlink()
    for path in (run, tmp_path / "nowhere"):
        with pytest.raises(ConfigError, match="give a run folder with curves"):
            curves(path)
