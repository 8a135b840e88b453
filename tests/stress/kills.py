"""Kill runs with SIGKILL at random moments, let them go on, and compare their final weights bit for bit.

    python tests/stress/kills.py --kills 50 [--seed 0] [--case "snake ppo" …] [--report kills.json]

Every case (environment, agent, way of training) is trained once without a disturbance and once with kills, drawn
uniformly over the time that its process takes, start-up and evaluation included, until its share of the kills is used
up. A run that was killed before its first checkpoint is started anew, as its user would. Of two processes all are
killed, or one, which ends the other. Runs that train from recordings take the ways of a GPU, and are compared with one
that calls each operation by itself. The exit status is 1 if a weight or a row of the curves differs anywhere. A short
version is in tests/train/runs/test_killed_runs.py.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

HELPERS = Path(__file__).parents[1] / "helpers"
QUIET = ("--track", "disabled", "--no-report")
ROLLOUTS = ["n_steps=16", "batch_size=512"]
MEMORY = [*ROLLOUTS, "sequence_length=8"]
REPLAY = ["learning_starts=2000", "buffer_size=20000", "batch_size=256"]
OFF_POLICY = ["learning_starts=1000", "buffer_size=20000", "batch_size=128", "samples_per_insert=2"]
SMALL = ["env.rows=4", "env.columns=4"]
LESSON = ("--pretrain", "expert", "--pretrain-steps", "75000")
STAGES = ["env.size=curriculum(4, 6, 8, score=0.4)", "env.frame=8"]


@dataclass(frozen=True)
class Case:
    """What is trained, and how: what Python runs, and what it runs for the run that is left alone."""

    env: str
    agent: str
    steps: int
    settings: list[str]
    words: tuple[str, ...] = ()
    program: tuple[str, ...] = ("-m", "palaestra.train.cli")
    undisturbed: tuple[str, ...] = ("-m", "palaestra.train.cli")


def recorded(env: str, agent: str, steps: int, settings: list[str]) -> Case:
    ways = (f"import fx_graph; fx_graph.{way}(); from palaestra.train.cli import main; main()" for way in WAYS)
    program, undisturbed = (("-c", way) for way in ways)
    return Case(env, agent, steps, settings, ("--deterministic",), program, undisturbed)


WAYS = ("record_always", "record_never")
CASES: dict[str, Case] = {
    "snake ppo": Case("snake-small", "ppo", 200_000, ROLLOUTS),
    "snake dqn": Case("snake-small", "dqn", 60_000, REPLAY),
    "snake pqn": Case("snake-small", "pqn", 120_000, ROLLOUTS),
    "snake restarts": Case("snake-small", "ppo", 200_000, [*ROLLOUTS, "restart_states=0.5"]),
    "snake stages": Case("snake", "ppo", 200_000, [*ROLLOUTS, *STAGES]),
    "snake dqn stages": Case("snake", "dqn", 60_000, [*REPLAY, *STAGES, "restart_states=0.3"]),
    "cartpole ppo": Case("cartpole", "ppo", 200_000, ROLLOUTS),
    "cartpole dqn": Case("cartpole", "dqn", 60_000, [*REPLAY, "prioritized_replay=0.6"]),
    "pricing ppo": Case("pricing", "ppo", 150_000, [*ROLLOUTS, "normalize_observation=true"]),
    "pricing dqn": Case("pricing", "dqn", 80_000, REPLAY),
    "reach ppo": Case("reach", "ppo", 100_000, ROLLOUTS),
    "reach pqn": Case("reach", "pqn", 60_000, ROLLOUTS),
    "reach-torque ppo": Case("reach-torque", "ppo", 30_000, ROLLOUTS),
    "duopoly ppo": Case("pricing-duopoly", "ppo", 100_000, ROLLOUTS),
    "snake ppo, observations": Case("snake-small", "ppo", 100_000, [*ROLLOUTS, "rollout_storage=observations"]),
    "snake ppo, states": Case("snake-small", "ppo", 100_000, [*ROLLOUTS, "rollout_storage=states"]),
    "snake pqn, states": Case("snake-small", "pqn", 100_000, [*ROLLOUTS, "rollout_storage=states"]),
    "pricing bc": Case("pricing", "bc", 150_000, [*ROLLOUTS, "normalize_observation=true"]),
    "reach sac": Case("reach", "sac", 8_000, OFF_POLICY),
    "reach td3": Case("reach", "td3", 8_000, OFF_POLICY),
    "cartpole recurrent-ppo": Case("cartpole", "recurrent-ppo", 60_000, [*MEMORY, "env.velocities=false"]),
    "hidden recurrent-ppo": Case("pricing-hidden", "recurrent-ppo", 60_000, MEMORY),
    "game ppo": Case("connect-four", "ppo", 100_000, [*ROLLOUTS, *SMALL]),
    "game ppo, earlier selves": Case("connect-four", "ppo", 60_000, [*ROLLOUTS, *SMALL, "env.opponent=earlier+random"]),
    "game pqn": Case("connect-four", "pqn", 60_000, [*ROLLOUTS, *SMALL]),
    "snake ppo, taught": Case("snake-small", "ppo", 150_000, ROLLOUTS, LESSON),
    "cartpole ppo, compiled": Case("cartpole", "ppo", 200_000, ROLLOUTS, ("--compile",)),
    "cartpole ppo, two processes": Case("cartpole", "ppo", 200_000, ROLLOUTS, ("--processes", "2")),
    "snake dqn, two processes": Case("snake-small", "dqn", 60_000, REPLAY, ("--processes", "2")),
    "pricing ppo, recorded": recorded("pricing", "ppo", 50_000, ROLLOUTS),
    "snake dqn, recorded": recorded("snake-small", "dqn", 30_000, REPLAY),
    "snake pqn, recorded": recorded("snake-small", "pqn", 50_000, [*ROLLOUTS, "rollout_storage=states"]),
}
NUM_ENVS = 128
_TIMED = ("time/fps", "time/time_elapsed", "time/iterations")


@dataclass
class Outcome:
    """What happened to one case."""

    case: str
    kills: int = 0
    resumes: int = 0
    fresh_starts: int = 0
    seconds: float = 0.0  # of the undisturbed run
    same_weights: bool = False
    same_curves: bool = False


def arguments(case: Case, folder: Path) -> list[str]:
    sets = [part for setting in case.settings for part in ("--set", setting)]
    size = ["--total-timesteps", str(case.steps), "--num-envs", str(NUM_ENVS)]
    often = ["--checkpoint-every", str(case.steps // 10), *case.words]
    return ["train", case.env, "--agent", case.agent, *size, *often, *sets, "--run-dir", str(folder), *QUIET]


def start(program: tuple[str, ...], command: list[str], log: Path) -> subprocess.Popen[bytes]:
    """The process of a command, in a group of its own."""
    helpers = [str(HELPERS), *filter(None, [os.environ.get("PYTHONPATH")])]
    environ = {"OMP_NUM_THREADS": "1", **os.environ, "PYTHONPATH": os.pathsep.join(helpers)}
    with log.open("ab") as out:
        return subprocess.Popen(
            [sys.executable, *program, *command], stdout=out, stderr=subprocess.STDOUT, env=environ, process_group=0
        )


def kill(process: subprocess.Popen[bytes], moments: random.Random) -> None:
    """All of its group, or one of those that train together."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    members = [int(child) for child in children.read_text().split()] if children.exists() else []
    if len(members) > 1 and moments.random() < 0.5:
        os.kill(moments.choice(members), signal.SIGKILL)
    else:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def weights(folder: Path) -> dict[str, torch.Tensor]:
    with zipfile.ZipFile(folder / "model.zip") as archive, archive.open("policy.pth") as member:
        found: dict[str, torch.Tensor] = torch.load(member, weights_only=True)
    return found


def same_weights(one: Path, other: Path) -> bool:
    """Whether the models in two run folders are the same to the last bit."""
    ours, theirs = weights(one), weights(other)
    return ours.keys() == theirs.keys() and all(torch.equal(value, theirs[name]) for name, value in ours.items())


def curves(folder: Path) -> list[dict[str, str]]:
    """The rows of ``progress.csv`` without what the clock says."""
    with (folder / "progress.csv").open(newline="") as file:
        return [{k: v for k, v in row.items() if k not in _TIMED} for row in csv.DictReader(file)]


def run_case(name: str, kills: int, root: Path, moments: random.Random) -> Outcome:
    """One case: undisturbed, then with at most that many kills."""
    outcome, case = Outcome(name), CASES[name]
    whole, killed = root / f"{name} whole", root / f"{name} killed"
    log = root / f"{name}.log"
    began = time.monotonic()
    if start(case.undisturbed, arguments(case, whole), log).wait() != 0:
        raise RuntimeError(f"{name} fails undisturbed: see {log}")
    outcome.seconds = time.monotonic() - began
    status: int | None = None
    while status is None:
        command = arguments(case, killed)
        if killed.exists():
            if (killed / "model.zip").exists() or list((killed / "checkpoints").glob("*.zip")):
                command = ["train", "--resume", str(killed), *QUIET]
                outcome.resumes += 1
            else:
                shutil.rmtree(killed)
                outcome.fresh_starts += 1
        process = start(case.program, command, log)
        if outcome.kills == kills:
            status = process.wait()
            continue
        try:
            status = process.wait(moments.uniform(0.0, outcome.seconds))
        except subprocess.TimeoutExpired:
            kill(process, moments)
            outcome.kills += 1
    if status != 0:
        raise RuntimeError(f"{name} ended with status {status}: see {log}")
    outcome.same_weights, outcome.same_curves = same_weights(whole, killed), curves(whole) == curves(killed)
    return outcome


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--case", action="append", choices=CASES, help="only this one; repeatable")
    parser.add_argument("--report", type=Path)
    options = parser.parse_args()
    moments, outcomes, made = random.Random(options.seed), [], 0
    root, cases = Path(tempfile.mkdtemp(prefix="kills-")), options.case or [*CASES]
    while made < options.kills:
        for case in cases:
            share = -(-(options.kills - made) // len(cases)) if made < options.kills else 0
            if share == 0:
                break
            outcome = run_case(case, max(3, share), root, moments)
            made += outcome.kills
            outcomes.append(outcome)
            print(json.dumps(asdict(outcome)), flush=True)
            for part in ("whole", "killed"):
                shutil.rmtree(root / f"{case} {part}")
    good = all(outcome.same_weights and outcome.same_curves for outcome in outcomes)
    total: dict[str, Any] = {
        name: sum(getattr(outcome, name) for outcome in outcomes) for name in ("kills", "resumes", "fresh_starts")
    }
    total |= {"runs": len(outcomes), "all_the_same": good}
    print(json.dumps(total))
    if options.report is not None:
        options.report.write_text(json.dumps({"total": total, "runs": [asdict(o) for o in outcomes]}, indent=1))
    if good:
        shutil.rmtree(root)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
