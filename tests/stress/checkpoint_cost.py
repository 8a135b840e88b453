"""What checkpoints cost with real presets: how long one takes, how large it is, how long it takes to go on from it.

    python tests/stress/checkpoint_cost.py snake-small:ppo snake:dqn pricing:ppo [--seconds 10] [--repeats 5]

Trains each preset for some seconds and writes and reads checkpoints in between, in the folder for temporary files; a
replay memory takes its whole room from the beginning, so its file is as large as one of a full memory. Prints medians,
and the share of the training that saving takes at the default interval.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from stable_baselines3.common.logger import Logger

from palaestra.envs import make
from palaestra.train.config import AGENTS
from palaestra.train.config.run_config import build_arguments, resolve_config
from palaestra.train.config.schema import checkpoint_interval
from palaestra.train.runs.callbacks import SAVING_SHARE


def seconds_of(action: Callable[[], Any]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def measure(name: str, agent: str, seconds: float, repeats: int, folder: Path) -> str:
    config = resolve_config(name, agent)
    env = make(config.env, config.num_envs, config.device, config.seed, **config.env_kwargs)
    model: Any = AGENTS[agent](env=env, seed=config.seed, **build_arguments(config))
    model.set_logger(Logger(None, []))
    began = time.perf_counter()
    while time.perf_counter() - began < seconds:
        model.learn(64 * config.num_envs, reset_num_timesteps=False)
    path = folder / "checkpoint.zip"
    saving = [
        seconds_of(lambda: model.save_checkpoint(path)) + seconds_of(lambda: model.save(folder / "model.zip"))
        for _ in range(repeats)
    ]
    again = make(config.env, config.num_envs, config.device, config.seed, **config.env_kwargs)
    reading = [seconds_of(lambda: AGENTS[agent].resume(path, again)) for _ in range(repeats)]
    cost = statistics.median(saving)
    interval = max(checkpoint_interval(config.checkpoint_every)[1], cost / SAVING_SHARE)
    return (
        f"{name:12} {agent:4} {path.stat().st_size / 2**20:8.2f} MiB   saved in {cost:6.3f} s ({min(saving):.3f} to "
        f"{max(saving):.3f})   read in {statistics.median(reading):6.3f} s   every {interval:.0f} s: "
        f"{100 * cost / (interval + cost):.2f} % of the time"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description="What checkpoints cost.")
    parser.add_argument("presets", nargs="+", metavar="ENV:AGENT")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    print(f"{torch.get_num_threads()} threads")
    for preset in options.presets:
        name, _, agent = preset.partition(":")
        with tempfile.TemporaryDirectory() as folder:
            print(measure(name, agent, options.seconds, options.repeats, Path(folder)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
