"""Exports the agent of every preset and of other kinds of environment, and compares each file with its agent.

    python tests/stress/export_presets.py [--only snake cartpole …] [--speed]

The networks are those that training would begin with, with larger last layers, so that actions vary; nothing is
trained. Each file is compared on 10,000 states of episodes (the command refuses to write otherwise). A row tells how
many seconds an export took, and in brackets those of the processor, which count beside other work. ``--speed`` times
one observation through the file, through PyTorch, and through ``predict`` of Stable-Baselines3, in turns.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces

from palaestra.agents.export.policy_network import ExportError, PolicyNetwork
from palaestra.agents.export.sb3_file import sb3_model
from palaestra.envs.registry import entries
from palaestra.train.config import AGENTS
from palaestra.train.config.run_config import build_arguments, resolve_config
from palaestra.train.config.schema import ConfigError
from palaestra.train.evaluation.policies import AgentPolicy
from palaestra.train.export.policy_file import PolicyFile
from palaestra.train.export.write import export
from palaestra.train.players import find_player
from palaestra.train.runs.run_folder import RunFolder


class Rooms(gymnasium.Env[Any, Any]):
    """Drawn observations of several kinds in a dictionary."""

    observation_space = spaces.Dict(
        {
            "camera": spaces.Box(0, 255, (40, 40, 3), np.uint8),
            "room": spaces.Discrete(5, start=1),
            "pose": spaces.Box(-1.0, 1.0, (3,), np.float32),
        }
    )
    action_space: Any = spaces.Discrete(4)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.observation_space.seed(seed)
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> Any:
        return self.observation_space.sample(), 0.0, False, False, {}


class Pictures(Rooms):
    observation_space: Any = spaces.Box(0, 255, (48, 40, 3), np.uint8)


class Levers(Rooms):
    observation_space: Any = spaces.Box(-1.0, 1.0, (3,), np.float32)
    action_space = spaces.MultiDiscrete([3, 4, 2])


OTHERS = {"Rooms-v0": Rooms, "Pictures-v0": Pictures, "Levers-v0": Levers}
for name, kind in OTHERS.items():
    gymnasium.register(name, kind, max_episode_steps=50)

CASES: list[tuple[str, tuple[str, ...]]] = [
    ("CartPole-v1", ()),
    ("Pendulum-v1", ()),
    ("Taxi-v4", ()),
    ("CartPole-v1", ("env.frame_stack=4",)),
    *((name, ()) for name in OTHERS),
]


def untrained(env: str, agent: str, settings: tuple[str, ...], folder: Path) -> RunFolder:
    """A run folder with the model that training would begin with, its last layers larger."""
    config = dataclasses.replace(resolve_config(env, agent, settings=settings), device="cpu")
    batch = config.resolved_env.make(config.num_envs, device="cpu", seed=0, **config.env_kwargs)
    model: Any = AGENTS[agent](env=batch, seed=0, **build_arguments(config))
    with torch.no_grad():
        for name, parameter in model.policy.named_parameters():
            if parameter.shape[0] < 64 and "features" not in name:
                parameter *= 20.0
    run = RunFolder(folder)
    run.path.mkdir()
    run.write_config(config)
    model.save(run.model_file)
    batch.close()
    return run


def speeds(run: RunFolder, file: Path) -> str:
    """Microseconds of one observation, medians of rounds in turns: file, PyTorch, SB3; and the 99th percentile."""
    policy = find_player(str(run.path), None, False, ()).policy
    assert isinstance(policy, AgentPolicy)
    opened, network = PolicyFile(file), PolicyNetwork(policy.model)
    seen = {
        end["name"]: np.zeros((1, *end["shape"]), end["dtype"]) for end in opened.inputs if end.get("kind") != "mask"
    }
    one = {key: value[0] for key, value in seen.items()} if len(seen) > 1 else next(iter(seen.values()))[0]
    tensors = [torch.as_tensor(value) for value in seen.values()]

    def eager() -> None:
        with torch.no_grad():
            network(*tensors)

    try:
        theirs = sb3_model(policy.model)
    except ExportError:  # SB3 has no such network: its predict around ours
        theirs = policy.model
    calls: list[Callable[[], Any]] = [
        lambda: opened(seen, ["action"]),
        eager,
        lambda: theirs.predict(one, deterministic=True),
    ]
    times: list[list[float]] = [[], [], []]
    for _ in range(10):
        for call, taken in zip(calls, times, strict=True):
            for count in range(60):
                start = time.perf_counter()
                call()
                if count >= 10:  # the caches are its own by then
                    taken.append(1e6 * (time.perf_counter() - start))
    figures = [(statistics.median(t), sorted(t)[int(0.99 * len(t))]) for t in times]
    ratios = [figures[i][0] / figures[0][0] for i in (1, 2)]
    texts = (f"{median:.0f} (p99 {tail:.0f})" for median, tail in figures)
    return f"{', '.join(texts)} µs; {ratios[0]:.1f} and {ratios[1]:.1f} times"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--speed", action="store_true")
    chosen = parser.parse_args()
    cases = [*((entry.short_name, ()) for entry in entries()), *CASES]
    torch.set_num_threads(1)
    for env, settings in cases:
        if chosen.only and env not in chosen.only:
            continue
        for agent in AGENTS:
            with tempfile.TemporaryDirectory() as scratch:
                label = " ".join((env, *settings, agent))
                try:
                    run = untrained(env, agent, settings, Path(scratch, "run"))
                except ConfigError as error:
                    print(f"| {label} | no such agent: {str(error)[:70]} | |", flush=True)
                    continue
                start, computed = time.monotonic(), time.process_time()
                found = export(find_player(str(run.path), None, False, ()), run, Path(scratch, "policy.onnx"))
                seconds, computed = time.monotonic() - start, time.process_time() - computed
                size = found.path.stat().st_size / 1000
                speed = speeds(run, found.path) if chosen.speed else ""
                print(
                    f"| {label} | {found.confirmation} | {size:.0f} kB, {seconds:.1f} s ({computed:.1f}) | {speed}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
