"""The section "Add an environment" of envs/README.md, followed in an empty folder and a fresh virtual environment.

The section is read from top to bottom: a Python block whose first line is ``# NAME.py`` is saved under that name, any
other Python block is run, and so is every command, only with fewer training steps. Commands of ``palaestra`` run in
this process until one installs a package, and from then on in the virtual environment, where a training is a process
that is forked and sees its packages. The exact optimum of the section's environment is compared with an independent
backward induction, and with what its expert and random play really earn.
"""

from __future__ import annotations

import math
import os
import re
import shlex
import site
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from command_line import palaestra
from forked_command import ForkedCommand
from pages import blocks, read

from palaestra.envs import TensorVectorEnv
from palaestra.envs.checker import conformance
from palaestra.train.evaluation.episodes import run_episodes
from palaestra.train.evaluation.policies import ExpertPolicy, Policy, RandomPolicy

SECTION = read("envs/README.md").partition("\n## Add an environment\n")[2].partition("\n## ")[0]
BLOCKS = blocks(SECTION)
FILES = {block.split()[1]: block for kind, block in BLOCKS if kind == "python" and re.match(r"# \w+\.py\n", block)}
FEWER = "--track disabled --num-envs 64 --set batch_size=512"
FEWER_STEPS = {  # by command
    "palaestra train bidding.py:AdBidding": f"{FEWER} --total-timesteps 80000 --set learning_rate=2e-3",
    "palaestra train bidding.py:AdBidding --agent dqn": f"{FEWER} --no-report --total-timesteps 2000 "
    "--set learning_starts=1000",
    "palaestra train ad_bidding": f"{FEWER} --no-report --total-timesteps 2048 --set n_steps=16",
}
Array = np.ndarray[Any, np.dtype[np.float64]]


# ---------------------------------------------------------------------------------------------------- the commands


@dataclass(frozen=True)
class Place:
    """An empty folder, and a virtual environment of its own that sees the packages of this one."""

    folder: Path
    environ: dict[str, str]
    packages: Path

    @classmethod
    def fresh(cls, root: Path) -> Place:
        """Make both. ``pip`` there installs into the new virtual environment, without looking at an index."""
        venv, folder = root / "venv", root / "empty"
        folder.mkdir()
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
        python = venv / "bin" / "python"
        where = {"base": str(venv), "platbase": str(venv)}
        packages = Path(sysconfig.get_path("purelib", "venv", where))
        parents = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
        (packages / "parent.pth").write_text("".join(f"import site; site.addsitedir({p!r})\n" for p in sorted(parents)))
        scripts = {
            "palaestra": f"exec {python} -m palaestra.train.cli",
            "pip": f"exec {sys.executable} -m pip --disable-pip-version-check --python {python}",
        }
        after = {"palaestra": "", "pip": " --no-deps --no-build-isolation"}
        for name, start in scripts.items():
            (venv / "bin" / name).write_text(f'#!/bin/sh\n{start} "$@"{after[name]}\n')
            (venv / "bin" / name).chmod(0o755)
        unwanted = ("PYTHONPATH", "PYTHONHOME", "PIP_REQUIRE_VIRTUALENV", "DISPLAY", "WAYLAND_DISPLAY")
        environ = {name: value for name, value in os.environ.items() if name not in unwanted}
        environ |= {"HOME": str(root), "PATH": f"{venv / 'bin'}:{os.environ['PATH']}", "VIRTUAL_ENV": str(venv)}
        environ |= {"COLUMNS": "120"}  # a worker of pytest-xdist would hand down its own
        return cls(folder, environ | {"OMP_NUM_THREADS": "1", "SDL_VIDEODRIVER": "dummy"}, packages)

    def run(self, command: str | list[str]) -> str:
        """What it prints; it must succeed."""
        shell = isinstance(command, str)
        done = subprocess.run(command, cwd=self.folder, env=self.environ, shell=shell, capture_output=True, text=True)
        assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
        return done.stdout

    def train(self, words: list[str]) -> str:
        """What ``palaestra train`` prints, in a process that is forked; it must succeed."""
        see_packages = partial(site.addsitedir, str(self.packages))
        command = ForkedCommand(words, self.folder / "log", see_packages, environ=self.environ)
        assert command.wait() == 0, command.said()
        return command.said()


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A fresh place, whose folder is the current one; what takes seconds is tested elsewhere."""
    place = Place.fresh(tmp_path)
    monkeypatch.chdir(place.folder)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr(conformance, "SPEED_SECONDS", 0.05)
    return place


def test_the_section_as_written(
    here: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("pip")
    printed: dict[str, str] = {}
    for kind, block in BLOCKS:
        if kind == "python" and block in FILES.values():
            Path(block.split()[1]).write_text(block)
        elif kind == "python" and "ad_bidding" in block:
            printed[block] = here.run(["python", "-c", f"{block}\nimport ad_bidding; print(ad_bidding.__file__)"])
            assert Path(printed[block].strip()).is_relative_to(here.folder)
        elif kind == "python":
            exec(compile(block, "envs/README.md", "exec"), {"__name__": "readme"})
        elif kind == "bash":
            for line in block.splitlines():
                command = line.partition("#")[0].strip()
                words = shlex.split(f"{command} {FEWER_STEPS.get(command, '')}")
                if words[0] == "palaestra" and "pip install -e ad_bidding" not in printed:
                    assert palaestra(monkeypatch, *words[1:]) == 0, capsys.readouterr().err
                    printed[command] = capsys.readouterr().out
                elif words[:2] == ["palaestra", "train"]:
                    printed[command] = here.train(words[1:])
                else:
                    printed[command] = here.run(shlex.join(words))
    assert {*FEWER_STEPS} == {command for command in printed if command.startswith("palaestra train")}
    percent = re.search(r"([-\d.]+) %\s+of\s+the\s+way", printed["palaestra evaluate latest"])
    assert percent is not None
    assert float(percent[1]) > 40.0  # the random policy has 0
    assert re.search(
        r"^ad_bidding +ppo dqn pqn bc recurrent-ppo +45.43 +– +121.9 ", printed["palaestra envs"], re.MULTILINE
    )
    quoted = next(block for kind, block in BLOCKS if kind == "" and "rules kept" in block)
    real = printed["palaestra check bidding.py:AdBidding"].splitlines()
    assert [line for line in quoted.splitlines()[:-1] if line != "…" and line not in real] == []
    assert real[-1].partition("·")[0] == quoted.splitlines()[-1].partition("·")[0]  # the rest is the speed
    assert any("gymnasium.make(" in block for kind, block in BLOCKS if kind == "python" and block in printed)


# ---------------------------------------------------------------------------------------------------- the example


@pytest.fixture(scope="module")
def bidding(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The module that the section writes."""
    module = ModuleType("readme_bidding")
    sys.modules[module.__name__] = module  # dataclasses look their module up
    exec(compile(FILES["bidding.py"], "bidding.py", "exec"), module.__dict__)
    return module


def market(auctions: int) -> Array:
    """Probability of each highest other bid 1 … 10, [auctions, 10], from the words of the card."""
    chance = np.empty((auctions, 10))
    for time in range(auctions):
        usual = 8.0 - 6.0 * time / (auctions - 1) if auctions > 1 else 8.0
        weights = [math.exp(-(((price - usual) / 2) ** 2)) for price in range(1, 11)]
        chance[time] = np.array(weights) / sum(weights)
    return chance


def expected(auctions: int, budget: int, choose: Any) -> tuple[float, Array]:
    """Mean return from the start, by recursion over single states; ``choose`` makes a value of those of the bids.

    Also the values of all states, [auctions + 1, budget + 1].
    """
    value, chance = np.zeros((auctions + 1, budget + 1)), market(auctions)
    for time in reversed(range(auctions)):
        for cents in range(1, budget + 1):
            for visitor, worth in enumerate((1.0, 2.0, 5.0)):
                of_bids = []
                for bid in range(11):
                    total = 0.0
                    for price, probability in enumerate(chance[time], start=1):
                        won = price <= min(bid, cents)
                        total += probability * (
                            worth + value[time + 1, cents - price] if won else value[time + 1, cents]
                        )
                    of_bids.append(total)
                value[time, cents] += choose(of_bids, time, visitor, cents) / 3
    return float(value[0, budget]), value


def test_optimum_and_random_equal_an_independent_induction(bidding: Any) -> None:
    for auctions, budget in ((12, 25), (7, 4)):
        env = bidding.AdBidding(auctions, budget)
        assert env.reference.optimum == pytest.approx(expected(auctions, budget, lambda q, *_: max(q))[0], rel=1e-6)
        assert env.reference.random == pytest.approx(expected(auctions, budget, lambda q, *_: np.mean(q))[0], rel=1e-6)


def test_the_expert_takes_a_best_bid_in_every_state(bidding: Any) -> None:
    """Following the expert's table earns the optimum, and bids beyond the budget change nothing."""
    env = bidding.AdBidding(9, 20)
    table = env.best_bid.numpy()
    followed, _ = expected(9, 20, lambda q, time, visitor, cents: q[table[time, visitor, cents]])
    assert followed == pytest.approx(env.reference.optimum, rel=1e-6)


def test_one_auction_by_hand(bidding: Any) -> None:
    """With nothing to save for, the highest bid wins whatever the budget pays for: any price, or 3 cents at most."""
    weights = np.exp(-(((np.arange(1, 11) - 8.0) / 2) ** 2))
    mean_worth = (1 + 2 + 5) / 3
    assert bidding.AdBidding(1, 10).reference.optimum == pytest.approx(mean_worth)
    assert bidding.AdBidding(1, 3).reference.optimum == pytest.approx(mean_worth * weights[:3].sum() / weights.sum())


@pytest.mark.parametrize("policy", [ExpertPolicy(), RandomPolicy()], ids=["expert", "random"])
def test_play_earns_what_was_computed(bidding: Any, policy: Policy) -> None:
    env = bidding.AdBidding()
    reference = env.reference
    returns = run_episodes(TensorVectorEnv(env, 20_000, device="cpu", seed=3), policy).returns
    computed = reference.optimum if isinstance(policy, ExpertPolicy) else reference.random
    assert abs(returns.mean() - computed) < 4 * returns.std() / math.sqrt(len(returns))


def test_a_proportional_bid_earns_what_the_section_says(bidding: Any) -> None:
    """The section compares with a bid of a fixed factor times the worth, the best factor being searched here."""
    said = re.search(r"worth of the visitor, .*?reaches (\d+) %", SECTION, re.DOTALL)
    assert said is not None
    env, shares = bidding.AdBidding(), []
    chance = torch.tensor(market(100))
    for factor in np.arange(0.6, 2.05, 0.1):
        value = torch.zeros(101, dtype=torch.float64)
        for time in reversed(range(100)):
            of_bids = env.bid_values(chance[time], value)  # equal to the induction above, as was tested
            value = torch.stack([of_bids[kind, :, min(10, round(factor * w))] for kind, w in enumerate((1, 2, 5))])
            value = value.mean(0)
        shares.append(100 * float(value[-1]) / env.reference.optimum)
    assert round(max(shares)) == int(said[1])


def test_a_long_bid_never_costs_more_than_the_budget(bidding: Any) -> None:
    batch = TensorVectorEnv(bidding.AdBidding(40, 15), 512, device="cpu", seed=0)
    batch.reset()
    for _ in range(40):
        before = batch.state
        _, reward, terminated, truncated = batch.advance(torch.full((512,), 10))
        spent = before.budget - batch.state.budget
        assert bool(((spent > 0) == (reward > 0)).all())
        assert bool((batch.state.budget >= 0).all())
        assert torch.equal(terminated, (batch.state.budget == 0) | (batch.state.time == 40))
        assert not truncated.any()
        batch.reset_finished(terminated, batch.env.observe(batch.state))
