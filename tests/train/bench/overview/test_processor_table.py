"""The table with a column for each processor: a run writes its own and never touches the others."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from palaestra.train.bench.overview import processor
from palaestra.train.bench.overview.processor_table import HEAD, ProcessorTable, read_table, write_column
from palaestra.train.config.schema import ConfigError

EMPTY = "# Speed\n\n<!-- bench:begin -->\n<!-- bench:end -->\n\nAfter it.\n"


@pytest.fixture
def page(tmp_path: Path) -> Path:
    path = tmp_path / "RESULTS.md"
    path.write_text(EMPTY, encoding="utf-8")
    return path


def test_two_processors_stand_beside_each_other(page: Path) -> None:
    write_column(page, "bench", "EPYC, AVX-512", {"PPO: palaestra": "475 k", "PPO: sbx": "296 k, 1.60 ×"}, "`bench` 1")
    write_column(page, "bench", "EPYC, AVX2", {"PPO: palaestra": "109 k", "PPO: skrl": "67 k"}, "`bench` 2")
    assert page.read_text(encoding="utf-8") == (
        "# Speed\n\n<!-- bench:begin -->\n"
        f"| {HEAD} | EPYC, AVX-512 | EPYC, AVX2 |\n"
        "| --- | --- | --- |\n"
        "| PPO: palaestra | 475 k | 109 k |\n"
        "| PPO: skrl | – | 67 k |\n"
        "| PPO: sbx | 296 k, 1.60 × | – |\n"
        "\n* EPYC, AVX-512: `bench` 1\n* EPYC, AVX2: `bench` 2\n"
        "<!-- bench:end -->\n\nAfter it.\n"
    )


def test_a_second_run_replaces_its_own_column_only(page: Path) -> None:
    write_column(page, "bench", "A", {"x": "1", "y": "2"}, "first")
    write_column(page, "bench", "B", {"x": "3"}, "other")
    write_column(page, "bench", "A", {"x": "4"}, "second")
    table = read_table(page, "bench")
    assert table.columns == {"A": {"x": "4"}, "B": {"x": "3"}}
    assert table.sources == {"A": "second", "B": "other"}
    assert table.rows == ["x"]  # nobody has y any more


TEXT = st.text("abc 0123456789×,()–:%", min_size=1, max_size=12).map(str.strip).filter(lambda s: s.strip("–"))
CELLS = st.dictionaries(TEXT, TEXT, min_size=1, max_size=6)
NAME = st.text("ABC, -0123456789", min_size=1, max_size=9).map(str.strip).filter(bool)


@given(st.lists(st.tuples(NAME, CELLS, TEXT), min_size=1, max_size=6))
def test_nobody_s_figures_are_lost_whatever_is_written(runs: list[tuple[str, dict[str, str], str]]) -> None:
    table, wanted, sources = ProcessorTable(), dict[str, dict[str, str]](), dict[str, str]()
    for name, cells, source in runs:
        table = ProcessorTable.read(table.text()) if table.columns else table
        table.put(name, cells, source)
        wanted[name], sources[name] = cells, source
    found = ProcessorTable.read(table.text())
    assert found.columns == wanted
    assert found.sources == sources
    assert set(found.rows) == {row for cells in wanted.values() for row in cells}
    assert [row for row in found.rows if row in runs[0][1]] or runs[0][0] in [name for name, _, _ in runs[1:]]


def test_rows_of_a_gpu_come_where_its_run_had_them() -> None:
    table = ProcessorTable()
    table.put("CPU", dict.fromkeys(["a", "c", "d"], "1"), "")
    table.put("GPU", dict.fromkeys(["a", "b", "d", "e"], "2"), "")
    assert table.rows == ["a", "b", "c", "d", "e"]


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("no markers", "must have one line <!-- bench:begin -->"),
        (EMPTY.replace("begin -->\n", "begin -->\nSomebody's words.\n"), "no table of palaestra bench stands between"),
        (EMPTY.replace("begin -->\n", "begin -->\n| a | b |\n|---|---|\n| x | 1 |\n"), "no table of palaestra bench"),
    ],
)
def test_what_else_stands_there_is_not_overwritten(content: str, what: str, page: Path) -> None:
    page.write_text(content, encoding="utf-8")
    with pytest.raises(ConfigError, match=what):
        write_column(page, "bench", "A", {"x": "1"}, "")
    assert page.read_text(encoding="utf-8") == content


# ------------------------------------------------------------------------------------------- the processor's name

AVX512, AVX2 = "flags : fpu avx2 avx512f", "flags : fpu avx2"
ALL = list(processor.LIMITS)


@pytest.mark.parametrize(
    ("used", "flags", "limited", "told"),
    [
        ("AVX512", AVX512, [], "AVX-512"),
        ("AVX2", AVX2, [], "AVX2"),
        ("AVX2", AVX2, ALL, "AVX2"),
        ("AVX2", AVX512, ALL, "limited to AVX2"),
        ("AVX2", AVX512, ["PyTorch"], "limited to AVX2 but for MKL and oneDNN and NumPy and JAX"),
        ("AVX2", AVX512, ["PyTorch", "MKL", "oneDNN"], "limited to AVX2 but for NumPy and JAX"),
        ("AVX512", AVX512, ["MKL", "oneDNN", "NumPy", "JAX"], "limited to AVX2 but for PyTorch"),
        ("DEFAULT", "", [], "no AVX2"),
        ("NEON", "", [], "NEON"),
    ],
)
def test_a_limited_processor_says_so(
    used: str, flags: str, limited: list[str], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for library, setting in processor.LIMITS.items():
        name, _, value = setting.partition("=")
        monkeypatch.delenv(name, raising=False)
        if library in limited:
            monkeypatch.setenv(name, shlex.split(value)[0])
    (tmp_path / "cpuinfo").write_text(flags)
    monkeypatch.setattr(processor, "_FLAGS", tmp_path / "cpuinfo")
    monkeypatch.setattr(processor.torch.backends.cpu, "get_cpu_capability", lambda: used)
    monkeypatch.setattr(processor, "numpy_uses_avx512", lambda: flags == AVX512 and "NumPy" not in limited)
    monkeypatch.setattr(processor, "find_spec", lambda name: name)
    assert processor.instructions() == told


@pytest.mark.skipif(not hasattr(np.lib, "introspect"), reason="NumPy 2 tells what it uses")
def test_numpy_is_limited_by_that_setting() -> None:
    """In a process of its own, for NumPy reads it when it is imported; other words are ignored with a warning."""
    name, _, value = processor.LIMITS["NumPy"].partition("=")
    program = "from palaestra.train.bench.overview.processor import numpy_uses_avx512 as n; print(n())"
    for words, wanted in ((shlex.split(value)[0], "False"), ("", str(processor.numpy_uses_avx512()))):
        command, environ = [sys.executable, "-c", program], {**os.environ, name: words}
        answer = subprocess.run(command, env=environ, capture_output=True, text=True, check=True)
        assert (answer.stdout.strip(), answer.stderr) == (wanted, "")


def test_a_processor_has_a_name_cores_and_instructions() -> None:
    name, cores, *_ = processor.processor("cpu").rsplit(", ", 2)
    assert name
    assert cores == f"{processor.available_cores()} core{'s' if processor.available_cores() > 1 else ''}"


def test_a_commit_has_a_plus_where_the_code_differs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def git(*words: str) -> str:
        identity = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
        command = ["git", "-C", str(tmp_path), *identity, *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    place = tmp_path / "train"
    place.mkdir()
    monkeypatch.setattr(processor, "__file__", str(place / "processor.py"))
    assert processor.commit() is None
    git("init", "-q")
    (tmp_path / "code.py").write_text("a = 1")
    (tmp_path / "RESULTS.md").write_text("old")
    git("add", ".")
    git("commit", "-q", "-m", "first")
    assert processor.commit() == git("rev-parse", "HEAD")[:7]
    (tmp_path / "RESULTS.md").write_text("new")  # which a run before this one has written
    assert processor.commit() == git("rev-parse", "HEAD")[:7]
    (tmp_path / "code.py").write_text("a = 2")
    assert processor.commit() == git("rev-parse", "HEAD")[:7] + "+"
