"""The help of every command: plain words, whole sentences, nothing broken within a word."""

from __future__ import annotations

import re
import sys

import pytest

from palaestra.train import cli


def shown(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    monkeypatch.setattr(sys, "argv", ["palaestra", *arguments])
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as end:
        cli.main()
    captured = capsys.readouterr()
    assert not end.value.code
    assert captured.err == ""
    return captured.out


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_help_of_a_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str) -> None:
    text = shown(monkeypatch, capsys, command, "--help")
    assert not re.search(r"<\w|x>=|INTEGER|TEXT\b", text), text
    assert [line for line in text.splitlines() if line.endswith("-")] == []


def test_the_list_has_whole_sentences(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    text = shown(monkeypatch, capsys, "--help")
    listed = " ".join(text.partition("Commands:")[2].split())
    assert "..." not in listed
    for command in cli.COMMANDS:
        assert re.search(rf"{command} [A-Z].*?\.( |$)", listed)
