"""``palaestra check`` as a user meets it: bad environments in files, each named precisely; exit statuses; text."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

from palaestra.envs.checker.findings import Finding, table
from palaestra.train import cli
from palaestra.train.commands.check import summary
from palaestra.train.formatting import two_digits as short

GOOD = """
from dataclasses import dataclass, replace

import torch
from gymnasium.spaces import Box, Discrete

from palaestra.envs import TensorEnv


@dataclass(frozen=True)
class State:
    place: torch.Tensor
    age: torch.Tensor


class Walk(TensorEnv):
    max_episode_steps = 12

    def __init__(self, speed=0.1):
        self.observation_space = Box(-1.0, 1.0, (2,))
        self.action_space = Discrete(2)
        self.speed = speed

    def reset(self, rng):
        place = rng.uniform(-0.7, 0.7)
        return State(place, torch.zeros_like(place, dtype=torch.int64))

    def step(self, state, action, rng):
        place = (state.place + self.speed * (2 * action - 1) * rng.uniform()).clamp(-1.0, 1.0)
        terminated = place.abs() > 0.9
        reward = place.abs()
        return State(place, state.age + 1), reward, terminated

    def observe(self, state):
        return torch.stack((state.place, state.age / 50), 1)
"""
"""The environment that every case below spoils by replacing one piece of text."""
REWARD = "reward = place.abs()"
OBSERVE = "torch.stack((state.place, state.age / 50), 1)"
RESET = "        place = rng.uniform(-0.7, 0.7)\n"

FAULTS = {
    "import error": ("import torch", "import torch\nimport no_such_thing", "builds", "No module named 'no_such_thing'"),
    "syntax error": ("def observe(self, state):", "def observe(self, state:", "builds", "SyntaxError: "),
    "constructor": ("self.speed = speed", "self.speed = 1 / 0", "builds", "ZeroDivisionError: .* (bad_env.py:LINE)"),
    "missing member": ("def observe(", "def observed(", "builds", "abstract method '?observe'?"),
    "no action space": ("self.action_space = ", "self.actions = ", "spaces", "action_space must be gymnasium spaces"),
    "action space": ("Discrete(2)", "2", "spaces", "action_space must be gymnasium spaces"),
    "float64 actions": (
        "Discrete(2)",
        "Box(-1.0, 1.0, (1,), dtype='float64')",
        "spaces",
        "action_space is float64: use dtype=np.float32",
    ),
    "shape": (OBSERVE, "state.place", "shapes, dtypes, device", "observation must have shape (1, 2), got (1,)"),
    "dtype": (
        OBSERVE,
        OBSERVE + ".double()",
        "shapes, dtypes, device",
        "observation must be torch.float32, got torch.float64",
    ),
    "exception": (REWARD, "reward = place[:, 0]", "state", "IndexError: .* (bad_env.py:LINE)"),
    "NaN": (OBSERVE, OBSERVE + ".log()", "finite numbers", "observation of env .* at step 0 is NaN or infinite"),
    "out of bounds": ("/ 50", "/ 5", "observation in bounds", "observation[1] = 1.2 of env 0 at step 6 is outside"),
    "item": (
        REWARD,
        REWARD + " * (1.0 if place.sum().item() < 9e9 else 0.0)",
        "no host synchronisation",
        "no .item(), no if on a tensor, .* (bad_env.py:LINE)",
    ),
    "mask indexing": (
        REWARD,
        REWARD + "; reward[terminated] = reward[terminated] * 2",
        "no host synchronisation",
        "no boolean-mask indexing; .* (bad_env.py:LINE)",
    ),
    "merged done": (
        "terminated = place.abs() > 0.9",
        "terminated = (place.abs() > 0.9) | (state.age >= 11)",
        "terminated and truncated apart",
        "every episode terminates at step 12, which is max_episode_steps",
    ),
    "reset repeats": (
        RESET,
        "        place = rng.uniform(-0.7, 0.7)[:1] * torch.ones(rng.num_envs, device=self.device)\n",
        "batch invariance",
        "a row must not depend on the other rows",
    ),
    "reset keeps": (
        RESET,
        "        self.first = getattr(self, 'first', None)\n"
        "        if self.first is None or len(self.first) < rng.num_envs or self.first.device != rng.device:\n"
        "            self.first = rng.uniform(-0.7, 0.7)\n"
        "        place = self.first[:rng.num_envs].clone()\n",
        "batch invariance|resets differ",
        "keep none",
    ),
    "not deterministic": (
        REWARD,
        "reward = place.abs() + torch.rand(len(place), device=self.device)",
        "determinism",
        "reward at step 1 differs between two runs with the same seed: draw from rng only",
    ),
    "in place": (
        "State(place, state.age + 1)",
        "State(place, state.age.add_(1))",
        "step is pure",
        "step changes state.age in place at step 1: make a new tensor",
    ),
}
"""What is replaced, by what, the first rule that fails, and what the report says of it or of a later one (a pattern,
whose brackets are meant as they are)."""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "400")
    return tmp_path


def run_cli(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Run the command in this process; its exit status."""
    monkeypatch.setattr(sys, "argv", ["palaestra", "check", *arguments])
    with pytest.raises(SystemExit) as exit_:
        cli.main()
    return int(exit_.value.code or 0)


@pytest.mark.parametrize("fault", FAULTS)
def test_bad_environments_are_named_precisely(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], fault: str
) -> None:
    old, new, rule, said = FAULTS[fault]
    assert GOOD.count(old) >= 1
    (here / "bad_env.py").write_text(GOOD.replace(old, new, 1), encoding="utf-8")
    assert run_cli(monkeypatch, "bad_env.py:Walk", "--json") == 1
    out, err = capsys.readouterr()
    assert "Traceback" not in out + err
    failed = [row for row in json.loads(out)["findings"] if row["verdict"] == "fail"]
    assert re.fullmatch(rule, failed[0]["rule"]), failed
    line = GOOD[: GOOD.index(old)].count("\n") + 1
    pattern = re.sub(r"([()\[\]])", r"\\\1", said.replace("LINE", str(line)))
    assert re.search(pattern, " | ".join(row["detail"] for row in failed)), failed


def test_a_good_environment_in_a_file_keeps_every_rule(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "good_env.py").write_text(GOOD, encoding="utf-8")
    assert run_cli(monkeypatch, "good_env.py:Walk", "--set", "env.speed=0.2", "--set", "env.max_episode_steps=9") == 0
    lines = capsys.readouterr().out.splitlines()
    assert "ok    agents                          ppo, dqn, pqn, bc, recurrent-ppo" in lines
    assert not any(line.startswith("FAIL") for line in lines)
    assert re.fullmatch(
        r"16 rules kept, 0 broken, 12 do not apply · [\d.]+( [kM])? steps/s with 1,024 environments on one thread",
        lines[-1],
    )


def test_a_gymnasium_environment_as_json(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_cli(monkeypatch, "FrozenLake-v1", "--set", "env.is_slippery=false", "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert set(report) == {"env", "findings", "steps_per_second"}
    assert report["env"] == "FrozenLake-v1"
    assert report["steps_per_second"] > 100
    assert {"rule": "agents", "verdict": "pass", "detail": "ppo, dqn, pqn, bc, recurrent-ppo"} in report["findings"]
    assert {row["verdict"] for row in report["findings"]} == {"pass", "does not apply"}
    assert run_cli(monkeypatch, "Blackjack-v1", "--json") == 1  # a Tuple is for none of our agents
    failed = [row for row in json.loads(capsys.readouterr().out)["findings"] if row["verdict"] == "fail"]
    assert [row["rule"] for row in failed] == ["agents"]
    assert "Tuple(Discrete(32)" in failed[0]["detail"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("snaky", "did you mean 'snake'"),
        ("snake --set env.sise=8", "did you mean 'size'"),
        ("snake --set env.size=7", "size must be an even number"),
        ("snake --set size=8", "only environment settings (env.KEY=VALUE) apply here"),
        ("snake --set env.size", "expected key=value"),
        ("CartPole-v1 --set env.colour=red", "unexpected keyword argument 'colour'"),
        ("nowhere.py:Walk", "there is no file"),
        ("nosuchmodule:Walk", "cannot import nosuchmodule"),
    ],
)
def test_bad_usage_is_one_line_and_status_2(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: str, message: str
) -> None:
    assert run_cli(monkeypatch, *arguments.split()) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert message in captured.err


@pytest.mark.parametrize("width", [60, 99, 100, 140])
def test_the_table_fits_its_width(width: int) -> None:
    findings = [
        Finding("builds", "pass"),
        Finding("terminated and truncated apart", "fail", "every episode terminates at step 12: " + "word " * 40),
        Finding("pictures", "does not apply", "write draw(state, canvas)"),
    ]
    lines = table(findings, width).splitlines()
    assert max(map(len, lines)) <= width
    assert [line[:4].strip() for line in lines if line[0] != " "] == ["ok", "FAIL", "–"]
    words = " ".join(" ".join(lines).split())
    assert f"FAIL terminated and truncated apart {findings[1].detail.strip()}" in words


def test_the_last_line_counts() -> None:
    findings = [Finding("a", "pass"), Finding("b", "fail"), Finding("c", "does not apply")]
    assert summary(findings, None, True) == "1 rule kept, 1 broken, 1 does not apply"
    assert summary(findings[:1] * 2, 1.94e6, False) == (
        "2 rules kept, 0 broken, 0 do not apply · 1.9 M steps/s with one environment"
    )
    assert [short(n) for n in (740.4, 7.25, 9_940, 9_960, 85_600, 2.2e6)] == [
        "740",
        "7.2",
        "9.9 k",
        "10 k",
        "86 k",
        "2.2 M",
    ]
