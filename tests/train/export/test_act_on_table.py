"""``palaestra act``: each row's action is the policy's, and a table that does not fit is refused with its place."""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from policy_files import CONTRACT, model, written

from palaestra.train import cli
from palaestra.train.export import act_on_table as module
from palaestra.train.export import observation_reader
from palaestra.train.export.act_on_table import TableError, act_on_table
from palaestra.train.export.policy_file import PolicyFile, PolicyFileError
from palaestra.train.table_file import TableFileError

NAMED = {**CONTRACT["inputs"][0], "low": -5.0, "high": 5.0, "elements": [{"name": name} for name in "abcd"]}
CHOICES = {**CONTRACT["outputs"][0], "first": 0, "choices": ["left", "right"]}


@pytest.fixture
def policy(tmp_path: Path) -> PolicyFile:
    return PolicyFile(written(tmp_path, model(), {**CONTRACT, "inputs": [NAMED], "outputs": [CHOICES]}))


def table(path: Path, rows: Any, head: str = "b,note,a,d,c") -> Path:
    path.write_text("\n".join([head, *(",".join(map(str, row)) for row in rows)]) + "\n", encoding="utf-8")
    return path


def test_rows_become_actions_in_their_order(
    tmp_path: Path, policy: PolicyFile, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "MOST_ROWS", 7)  # several blocks
    seen = np.random.default_rng(0).uniform(-5, 5, (40, 4)).astype(np.float32)
    source = table(tmp_path / "seen.csv", [(b, "x", a, d, c) for a, b, c, d in seen.tolist()])
    words = ["palaestra", "act", str(policy.path), str(source), "--out", str(tmp_path / "actions.csv")]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert not end.value.code
    assert "40 actions of" in " ".join(capsys.readouterr().out.split())
    expected = policy({"observation": seen})["action"].tolist()
    with (tmp_path / "actions.csv").open() as file:
        assert [*csv.reader(file)] == [["action", "choice"], *([str(i), ["left", "right"][i]] for i in expected)]


def test_parquet_and_excel(tmp_path: Path, policy: PolicyFile) -> None:
    polars = pytest.importorskip("polars")
    seen = np.random.default_rng(0).uniform(-5, 5, (10, 4)).astype(np.float32)
    polars.DataFrame(dict(zip("abcd", seen.T, strict=True))).write_parquet(tmp_path / "seen.parquet")
    act_on_table(policy, tmp_path / "seen.parquet", tmp_path / "actions.xlsx")
    expected = policy({"observation": seen})["action"].tolist()
    assert polars.read_excel(tmp_path / "actions.xlsx")["action"].to_list() == expected


def test_arrays(tmp_path: Path, policy: PolicyFile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_ROWS", 7)
    seen = np.random.default_rng(0).uniform(-5, 5, (40, 4))
    np.savez(tmp_path / "seen.npz", observation=seen)
    assert act_on_table(policy, tmp_path / "seen.npz", tmp_path / "actions.npz") == 40
    with np.load(tmp_path / "actions.npz") as found:
        expected = policy({"observation": seen.astype(np.float32)})["action"]
        np.testing.assert_array_equal(found["action"], expected)


@pytest.mark.parametrize(
    ("rows", "head", "message"),
    [
        ([], "a,b,c,d", "seen.csv has no rows"),
        ([(1, 2, 3)], "a,b,c", "lacks the columns d; it has a, b, c"),
        ([(1, 2, 3, 4, 5)], "a,b,c,d,a", "two columns 'a'"),
        ([(1, 2, 3, 4), (1, 2, "x", 4)], "a,b,c,d", "row 2, c: 'x' is no number"),
        ([(1, 2, 3, 4), (1, 2, "", 4)], "a,b,c,d", "row 2, c: '' is no number"),
        ([(1, 2, 3, 4), (1, 2, 3, 9)], "a,b,c,d", "row 2, d: must be -5 … 5, got 9"),
        ([(1, 2, 3, 4), (1, "nan", 3, 4)], "a,b,c,d", "row 2, observation|row 2, b"),
        ([(1, 2, 3, 4), (1, 2)], "a,b,c,d", "line 3: it has 2 cells, fewer than its head"),
        ([(1, 2, 3, "9" * 5000)], "a,b,c,d", "row 1"),
        ([(1, 2, 3, "1_0")], "a,b,c,d", "row 1, d: '1_0' is no number"),
        ([], "a;b;c;d", "its columns are separated by semicolons: save it with commas"),
        ([], "a\tb\tc\td", "its columns are separated by tabs"),
    ],
)
def test_tables_that_do_not_fit(tmp_path: Path, policy: PolicyFile, rows: Any, head: str, message: str) -> None:
    with pytest.raises(TableError, match=message):
        act_on_table(policy, table(tmp_path / "seen.csv", rows, head), tmp_path / "actions.csv")
    assert not (tmp_path / "actions.csv").exists()


def test_clamping(tmp_path: Path, policy: PolicyFile) -> None:
    source = table(tmp_path / "seen.csv", [(1, 2, 3, 900)], "a,b,c,d")
    assert act_on_table(policy, source, tmp_path / "actions.csv", clamp=True) == 1


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("seen.txt", b"a", r"observations are in a \.csv, \.parquet or \.npz file"),
        ("none.csv", None, "there is no file"),
        ("seen.csv", b"\xff\xfe\x00", "no CSV file in UTF-8"),
        ("seen.csv", b"a,b,c,d\n1,2,3,\x00\n", "seen.csv"),
        ("seen.parquet", b"PAR1", "is no Parquet file"),
        ("seen.npz", b"PK", "is no file of arrays"),
    ],
)
def test_other_files(tmp_path: Path, policy: PolicyFile, name: str, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    out = tmp_path / ("actions.npz" if name.endswith(".npz") else "actions.csv")
    with pytest.raises(TableError, match=message):
        act_on_table(policy, tmp_path / name, out)
    assert not out.exists()


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"seen": np.zeros((2, 4))}, "has the arrays seen; the inputs are observation"),
        ({"observation": np.zeros((2, 5))}, "its arrays have the shapes"),
        ({"observation": np.zeros((0, 4))}, "its arrays have the shapes"),
        ({"observation": np.array([[0.0, 0, 0, 0], [0, np.nan, 0, 0]])}, "observation, row 2: must be finite"),
        ({"observation": np.array([[0.0, 0, 0, 0], [0, 7, 0, 0]])}, "observation, row 2: must be -5 … 5, got 7"),
        ({"observation": np.array([["a", "b", "c", "d"]])}, "must hold numbers"),
        ({"observation": np.array([[{}, 1, 2, 3]], object)}, "is no file of arrays"),
    ],
)
def test_arrays_that_do_not_fit(tmp_path: Path, policy: PolicyFile, arrays: dict[str, Any], message: str) -> None:
    np.savez(tmp_path / "seen.npz", **arrays)
    with pytest.raises(TableError, match=message):
        act_on_table(policy, tmp_path / "seen.npz", tmp_path / "actions.npz")


@pytest.mark.parametrize("clamp", [False, True])
@pytest.mark.parametrize("kind", ["csv", "npz"])
def test_numbers_beyond_those_of_float32(tmp_path: Path, clamp: bool, kind: str) -> None:
    """They are out of range where the contract has no bounds, and never infinite."""
    policy = PolicyFile(written(tmp_path, model(), {**CONTRACT, "inputs": [{**NAMED, "low": None, "high": None}]}))
    source, out = tmp_path / f"seen.{kind}", tmp_path / f"actions.{kind}"
    if kind == "csv":
        table(source, [(0, 0, 0, 0), (0, 1e39, 0, 0)], "a,b,c,d")
    else:
        np.savez(source, observation=np.array([[0.0, 0, 0, 0], [0, 1e39, 0, 0]]))
    if clamp:
        assert act_on_table(policy, source, out, clamp=True) == 2
    else:
        with pytest.raises(TableError, match=r"row 2.* must be -3.4\S+ … 3.4\S+, got 1e\+39"):
            act_on_table(policy, source, out)


def test_an_action_without_a_name_is_told(tmp_path: Path) -> None:
    contract = {**CONTRACT, "inputs": [NAMED], "outputs": [{**CONTRACT["outputs"][0], "choices": ["left"]}]}
    source = table(tmp_path / "seen.csv", [(5, 0, 0, 0)], "a,b,c,d")
    with pytest.raises(PolicyFileError, match="its action is number 1 of the contract's 1 choices"):
        act_on_table(PolicyFile(written(tmp_path, model(), contract)), source, tmp_path / "actions.csv")
    assert not (tmp_path / "actions.csv").exists()


def test_folders_that_are_not_there_are_not_made(tmp_path: Path, policy: PolicyFile) -> None:
    table(tmp_path / "seen.csv", [(1, 2, 3, 4)], "a,b,c,d")
    np.savez(tmp_path / "seen.npz", observation=np.zeros((2, 4)))
    for kind in ("csv", "npz"):
        with pytest.raises((TableError, TableFileError), match="there is no folder"):
            act_on_table(policy, tmp_path / f"seen.{kind}", tmp_path / f"none/actions.{kind}")
    assert not (tmp_path / "none").exists()


def test_large_observations_are_acted_on_in_smaller_blocks(
    tmp_path: Path, policy: PolicyFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(observation_reader, "MOST_NUMBERS", 12)
    np.savez(tmp_path / "seen.npz", observation=np.zeros((7, 4)))
    table(tmp_path / "seen.csv", [(1, 2, 3, 4)] * 7, "a,b,c,d")
    sizes: list[int] = []
    real = PolicyFile.__call__
    monkeypatch.setattr(
        PolicyFile, "__call__", lambda self, feed: (sizes.append(len(feed["observation"])), real(self, feed))[1]
    )
    for kind in ("csv", "npz"):
        assert act_on_table(policy, tmp_path / f"seen.{kind}", tmp_path / f"actions.{kind}") == 7
    assert sizes == [3, 3, 1] * 2


def test_files_that_are_there_stay(tmp_path: Path, policy: PolicyFile) -> None:
    source = table(tmp_path / "seen.csv", [(1, 2, 3, 4)], "a,b,c,d")
    (tmp_path / "actions.csv").write_text("mine")
    with pytest.raises(TableFileError, match="is there already"):
        act_on_table(policy, source, tmp_path / "actions.csv")
    assert (tmp_path / "actions.csv").read_text() == "mine"


def test_a_policy_of_images_needs_arrays(tmp_path: Path) -> None:
    from types import SimpleNamespace

    camera = {"name": "camera", "kind": "image", "dtype": "uint8", "shape": [2, 2, 3]}
    policy: Any = SimpleNamespace(inputs=[camera], path="p.onnx", contract={"inputs": [camera], "outputs": []})
    with pytest.raises(TableError, match=r"its input camera is no vector, which rows could hold: use \.npz"):
        act_on_table(policy, table(tmp_path / "seen.csv", [(1,)], "camera"), tmp_path / "actions.csv")
