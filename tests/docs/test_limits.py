"""The limits of the house: a file is read in one go, and a folder seen at a glance."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]
LINES, MODULES = 350, 12  # in a file; in a folder, __init__.py included
SOURCES = sorted(path for folder in ("envs", "agents", "train") for path in (ROOT / folder).rglob("*.py"))


def too_long(files: list[Path]) -> dict[str, int]:
    """The lines of those files that have too many."""
    lines = {str(file): len(file.read_text(encoding="utf-8").splitlines()) for file in files}
    return {name: n for name, n in lines.items() if n > LINES}


def too_full(files: list[Path]) -> dict[str, int]:
    """The modules of those files' folders that have too many."""
    folders = [str(file.parent) for file in files]
    return {name: n for name in folders if (n := folders.count(name)) > MODULES}


def test_what_is_over_a_limit_is_found(tmp_path: Path) -> None:
    files = [tmp_path / f"module_{k}.py" for k in range(MODULES)]
    for file in files:
        file.write_text("pass\n" * LINES, encoding="utf-8")
    assert (too_long(files), too_full(files)) == ({}, {})
    files.append(tmp_path / "__init__.py")
    files[-1].write_text("pass\n" * (LINES + 1), encoding="utf-8")
    assert (too_long(files), too_full(files)) == ({str(files[-1]): LINES + 1}, {str(tmp_path): MODULES + 1})


def test_files_and_folders_keep_the_limits() -> None:
    assert len(SOURCES) > 300
    assert too_long(SOURCES) == {}
    assert too_full(SOURCES) == {}
