"""The number of the project's files that one iteration of training enters: few, so that it can be followed."""

from __future__ import annotations

import sys
from pathlib import Path
from types import FrameType
from typing import Any

from palaestra.agents import PPO
from palaestra.agents.networks import onednn
from palaestra.envs import make
from palaestra.train.config.run_config import build_arguments, resolve_config

ROOT = Path(__file__).parents[2]


def files_entered(action: Any) -> set[str]:
    """The project's files with a function that ``action`` calls."""
    found: set[str] = set()

    def note(frame: FrameType, event: str, argument: Any) -> None:
        if event == "call":
            found.add(frame.f_code.co_filename)

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        action()
    finally:
        sys.setprofile(before)
    paths = [Path(name).resolve() for name in found if not name.startswith("<")]
    ours = [ROOT / part for part in ("envs", "agents", "train")]  # not a virtual environment below ROOT
    return {str(path.relative_to(ROOT)) for path in paths if any(path.is_relative_to(part) for part in ours)}


def test_an_iteration_of_ppo_enters_few_files() -> None:
    config = resolve_config("snake-small", "ppo", num_envs=64, settings=["n_steps=8", "batch_size=256", "n_epochs=2"])
    model = PPO(env=make(config.env, 64, "cpu", seed=0), seed=0, **build_arguments(config))
    model.learn(3 * 8 * 64)
    _, callback = model._setup_learn(10**9, None, reset_num_timesteps=False)

    def iteration() -> None:
        model.collect_rollouts(model.env, callback, model.rollout_buffer, model.n_steps)  # type: ignore[arg-type]
        model.dump_logs(1)
        model.train()

    iteration()
    entered = files_entered(iteration)
    assert "agents/ppo.py" in entered
    replay = {name for name in entered if name.startswith("envs/core/replay/")}  # replays a recorded step: less time
    # 5 of the others since rollouts keep states and the core draws ahead: a sixth of the memory, less time a step.
    # 7 since, among them: networks in two threads, symmetries and schedules by score answer in their own files that
    # they are off, fruits are chosen in NumPy, what an agent says of itself is asked in one place, and self-play says
    # whose the next state is.
    assert len(entered - replay) <= 24 + onednn.is_faster(), "\n".join(sorted(entered))
    assert len(replay) <= 9, "\n".join(sorted(replay))
