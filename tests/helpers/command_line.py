"""Commands of the command line, run in this process."""

from __future__ import annotations

import sys

import pytest

from palaestra.train import cli


def palaestra(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """The exit status of ``palaestra`` with these arguments."""
    monkeypatch.setattr(sys, "argv", ["palaestra", *arguments])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return int(end.value.code or 0)


def command(monkeypatch: pytest.MonkeyPatch, line: str) -> int:
    """The same for arguments in one line, none of which holds a space."""
    return palaestra(monkeypatch, *line.split())
