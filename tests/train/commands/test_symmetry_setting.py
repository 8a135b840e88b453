"""``--set symmetry=…`` of ``palaestra train``: what does not fit is told in one line, before there is a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from palaestra.train import cli

LOPSIDED = """
from dataclasses import replace

import torch

from palaestra.envs.cartpole import CartPole
from palaestra.envs.core.symmetries import SignedPermutation


class Lopsided(CartPole):
    def symmetries(self):
        (mirror,) = super().symmetries()
        return [replace(mirror, action=SignedPermutation.identity(2))]


class Narrow(CartPole):
    def symmetries(self):
        (mirror,) = super().symmetries()
        return [replace(mirror, observation=SignedPermutation.flipping(3))]


class Twice(CartPole):
    def symmetries(self):
        (mirror,) = super().symmetries()
        return [replace(mirror, action=SignedPermutation((0, 0)))]
"""


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            "FILE:Lopsided symmetry=augment",
            "symmetry 'mirror' does not commute with the rules: velocity after a step is ",
        ),
        ("FILE:Lopsided symmetry=equivariant", "symmetry 'mirror' does not commute with the rules: velocity after a "),
        ("FILE:Narrow symmetry=augment", "symmetry 'mirror': its map of observations must be of 4 numbers, got 3"),
        ("FILE:Twice symmetry=augment", "a permutation needs each of 0 … 1 once, not 0"),
        ("cartpole symmetry=both", "unknown symmetry 'both'; known: none, augment, equivariant"),
        ("pricing symmetry=augment", "Pricing names no symmetries (with these settings and wrappers)"),
        ("CartPole-v1 symmetry=augment", "symmetry=augment is for environments in tensors"),
        ("cartpole symmetry=augment env.delayed_observation=1", "DelayedObservation names no symmetries"),
        ("cartpole symmetry=equivariant normalize_observation=true", "does not go with normalize_observation"),
    ],
)
@pytest.mark.parametrize("agent", ["ppo", "pqn"])
def test_bad_settings_are_told_before_a_run_begins(
    words: str,
    said: str,
    agent: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "mine.py").write_text(LOPSIDED)
    env, *settings = words.replace("FILE", str(tmp_path / "mine.py")).split()
    sets = [part for setting in settings for part in ("--set", setting)]
    monkeypatch.setattr(
        "sys.argv", ["palaestra", "train", env, "--agent", agent, *sets, "--run-dir", str(tmp_path / "run")]
    )
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("palaestra: error: ")
    assert said in lines[0]
    assert not (tmp_path / "run").exists()
