r"""Train, evaluate and record environments of other packages from the command line, without a display.

    python tests/stress/gymnasium_zoo.py [--only Pong …] [--steps 20000] [--report zoo.json]

A package that is not installed is said and left out. Pinned versions that were tried together (Python 3.11):

    pip install "gymnasium==1.4.0" mujoco==4.0.0 Box2D==2.3.10 minigrid==3.2.0 ale-py==0.12.1 highway-env==1.12.1 \
        panda-gym==3.0.7 flappy-bird-gymnasium==0.4.0 gym-anytrading==2.0.0 gymnasium-robotics==1.4.2 \
        opencv-python-headless==5.0.0.93

Every environment must train, evaluate and give a video, or end with status 1 or 2 and one line that says why not. The
exit status is 1 if one of them ends otherwise, with a traceback in particular.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

OWN = '''
import gymnasium, numpy as np

class Corridor(gymnasium.Env):
    """Five cells; the right end pays 1. One array is changed in place, and the flag of success is NumPy's."""

    metadata = {"render_modes": ["rgb_array"]}
    observation_space = gymnasium.spaces.Box(0.0, 1.0, (5,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, render_mode=None):
        self.render_mode, self._obs = render_mode, np.zeros(5, np.float32)

    def _see(self, cell):
        self.cell = cell
        self._obs[:] = 0.0
        self._obs[cell] = 1.0
        return self._obs

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self._see(int(self.np_random.integers(4))), {}

    def step(self, action):
        cell = min(max(self.cell + (1 if action else -1), 0), 4)
        return self._see(cell), float(cell == 4), cell == 4, False, {"is_success": np.bool_(cell == 4)}

    def render(self):
        return np.repeat(np.uint8(255 * self._obs)[None, :, None], 3, 2).repeat(20, 0).repeat(20, 1)

gymnasium.register("Corridor-v0", Corridor)
'''
SHORT = ["--set", "env.max_episode_steps=100"]  # of those whose steps take long: 100 episodes are evaluated
ATARI = ["--set", "env.frameskip=1", "--set", "env.wrappers=[gymnasium.wrappers:AtariPreprocessing]"]


@dataclass(frozen=True)
class Case:
    """An environment, the package it needs, and further options of ``palaestra train``."""

    env: str
    package: str = "gymnasium"
    options: list[str] = field(default_factory=list)


CASES = {
    "cartpole": Case("CartPole-v1"),
    "pendulum": Case("Pendulum-v1"),
    "taxi": Case("Taxi-v4"),
    "blackjack": Case("Blackjack-v1"),
    "frozenlake": Case("FrozenLake-v1"),
    "cliffwalking": Case("CliffWalking-v1", options=SHORT),
    "halfcheetah": Case("HalfCheetah-v5", "mujoco"),
    "ant": Case("Ant-v5", "mujoco"),
    "reacher": Case("Reacher-v5", "mujoco"),
    "lunarlander": Case("LunarLander-v3", "Box2D"),
    "carracing": Case("CarRacing-v3", "Box2D", SHORT),
    "bipedalwalker": Case("BipedalWalker-v3", "Box2D"),
    "minigrid": Case("minigrid:MiniGrid-Empty-5x5-v0", "minigrid"),
    "minigrid image": Case(
        "minigrid:MiniGrid-Empty-5x5-v0", "minigrid", ["--set", "env.wrappers=[minigrid.wrappers:ImgObsWrapper]"]
    ),
    "pong": Case("ale_py:ALE/Pong-v5", "ale_py", [*ATARI, *SHORT]),
    "highway": Case("highway_env:highway-fast-v0", "highway_env", SHORT),
    "parking": Case("highway_env:parking-v0", "highway_env", SHORT),
    "panda": Case("panda_gym:PandaReach-v3", "panda_gym"),
    "flappybird": Case("flappy_bird_gymnasium:FlappyBird-v0", "flappy_bird_gymnasium"),
    "anytrading": Case("gym_anytrading:stocks-v0", "gym_anytrading"),
    "fetch": Case("gymnasium_robotics:FetchReach-v4", "gymnasium_robotics"),
    "own class": Case("own_env:Corridor-v0", options=SHORT),
}


@dataclass
class Outcome:
    """What came of one environment; empty words mean that the step was not reached."""

    case: str
    env: str
    train: str = ""
    evaluate: str = ""
    video: str = ""
    seconds: float = 0.0
    faults: list[str] = field(default_factory=list)


def run(words: list[str], folder: Path, outcome: Outcome, limit: float) -> tuple[bool, str]:
    """The command's success and what it printed; a traceback, a signal or a wordy refusal is noted as a fault."""
    environment = {**os.environ, "PYTHONPATH": str(folder), "SDL_VIDEODRIVER": "dummy", "COLUMNS": "200"}
    environment.pop("DISPLAY", None)
    command = [sys.executable, "-m", "palaestra.train", *words]
    try:
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, errors="replace", timeout=limit
        )
    except subprocess.TimeoutExpired:
        outcome.faults.append(f"{words[0]} took more than {limit:.0f} s")
        return False, ""
    said = done.stdout + done.stderr
    (folder / f"{words[0]}.log").write_text(said)
    if "Traceback (most recent call last)" in said:
        outcome.faults.append(f"{words[0]} prints a traceback")
    if done.returncode not in (0, 1, 2):
        outcome.faults.append(f"{words[0]} ends with status {done.returncode}")
    errors = [line for line in said.splitlines() if line.startswith("palaestra: error:")]
    if done.returncode and len(errors) != 1:
        outcome.faults.append(f"{words[0]} ends with status {done.returncode} and {len(errors)} lines of error")
    return done.returncode == 0, said if done.returncode == 0 else [*errors, *said.splitlines()[-1:]][0]


def try_out(name: str, case: Case, folder: Path, steps: int, limit: float) -> Outcome:
    """Train, evaluate five episodes and record one."""
    outcome, started = Outcome(name, case.env), time.monotonic()
    (folder / "own_env.py").write_text(OWN)
    train = ["train", case.env, "--num-envs", "4", "--total-timesteps", str(steps), "--track", "disabled"]
    well, said = run([*train, "--run-dir", "made", *case.options], folder, outcome, limit)
    outcome.train = "trained" if well else said
    if well:
        well, said = run(["evaluate", "made", "--episodes", "5", "--json"], folder, outcome, limit)
        outcome.evaluate = f"{_first_object(said)['mean']:.4g}" if well else said
        well, said = run(["watch", "made", "--record", "seen.mp4", "--episodes", "1"], folder, outcome, limit)
        video = folder / "seen.mp4"
        outcome.video = f"{video.stat().st_size / 1024:.0f} KiB" if well and video.is_file() else said
        if well and not video.is_file():
            outcome.faults.append("watch --record ends well and leaves no video")
    outcome.seconds = round(time.monotonic() - started, 1)
    return outcome


def _first_object(said: str) -> dict[str, float]:
    """The JSON object in what a command printed; some environments print text around it."""
    found: dict[str, float] = json.JSONDecoder().raw_decode(said[said.index("{") :])[0]
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=[*CASES], default=[*CASES])
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--limit", type=float, default=1800.0, help="seconds per command")
    parser.add_argument("--report", type=Path)
    chosen = parser.parse_args()
    outcomes = []
    for name in chosen.only:
        case = CASES[name]
        if importlib.util.find_spec(case.package) is None:
            print(f"{name:<15} left out: {case.package} is not installed", flush=True)
            continue
        with tempfile.TemporaryDirectory() as folder:
            outcome = try_out(name, case, Path(folder), chosen.steps, chosen.limit)
        outcomes.append(outcome)
        print(f"{name:<15} {outcome.seconds:>6.0f} s  {outcome.train}", flush=True)
        for line in (f"evaluate: {outcome.evaluate}", f"video: {outcome.video}", *outcome.faults):
            print(f"{'':<25} {line}", flush=True)
        if chosen.report:
            chosen.report.write_text(json.dumps([asdict(one) for one in outcomes], indent=1) + "\n")
    faults = sum(bool(outcome.faults) for outcome in outcomes)
    print(f"{len(outcomes)} environments, {faults} with faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
