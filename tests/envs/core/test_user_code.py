"""Descriptions of what user code raises."""

from __future__ import annotations

from pathlib import Path

import pytest

from palaestra.envs.core.user_code import describe, import_file


@pytest.mark.parametrize(
    ("statement", "text"),
    [
        ("assert 1 in (2, 3)", "AssertionError: assert 1 in (2, 3) (robot.py:2)"),
        ("assert False, 'no such joint'", "AssertionError: no such joint (robot.py:2)"),
        ("raise ValueError", "ValueError: raise ValueError (robot.py:2)"),
        ("int('x')", "ValueError: invalid literal for int() with base 10: 'x' (robot.py:2)"),
    ],
)
def test_an_exception_without_a_message_is_told_by_its_line(statement: str, text: str, tmp_path: Path) -> None:
    (tmp_path / "robot.py").write_text(f"def build():\n    {statement}\n")
    module = import_file(tmp_path / "robot.py")
    with pytest.raises((AssertionError, ValueError)) as caught:
        module.build()
    assert describe(caught.value) == text
