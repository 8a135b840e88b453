"""Runs with ``--compile``, killed and resumed, and runs without: the same weights; and how fast each is. Minutes.

Usage: python tests/stress/compiled_training.py [cartpole pricing …]
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from palaestra.agents import PPO

STEPS = "400000"


def command(env: str, folder: Path, *flags: str) -> list[str]:
    words = ["train", env, "--total-timesteps", STEPS, "--threads", "1", "--track", "disabled", "--no-report"]
    return [sys.executable, "-m", "palaestra.train", *words, "--run-dir", str(folder), *flags]


def killed_and_resumed(env: str, folder: Path) -> None:
    """A compiled run that ends by SIGKILL after its first checkpoint, and goes on."""
    with subprocess.Popen(command(env, folder, "--compile", "--checkpoint-every", "50000")) as process:
        while not [*folder.glob("checkpoints/*.zip")] and process.poll() is None:
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    words = ["train", "--resume", str(folder), "--track", "disabled", "--no-report"]
    subprocess.run([sys.executable, "-m", "palaestra.train", *words], check=True)


def weights(folder: Path) -> list[torch.Tensor]:
    return [*PPO.load(folder / "model.zip").policy.state_dict().values()]


def speed(folder: Path) -> float:
    return float(json.loads((folder / "run.json").read_text())["steps_per_second"])


def compare(env: str, place: Path) -> None:
    plain, compiled, killed = (place / f"{env}-{name}" for name in ("plain", "compiled", "killed"))
    subprocess.run(command(env, plain), check=True)
    subprocess.run(command(env, compiled, "--compile"), check=True)
    killed_and_resumed(env, killed)
    for other in (compiled, killed):
        same = all(torch.equal(a, b) for a, b in zip(weights(plain), weights(other), strict=True))
        assert same, f"{other.name} has other weights than {plain.name}"
    print(f"{env}: the same weights; {speed(plain):,.0f} steps/s, compiled {speed(compiled):,.0f}", flush=True)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        for name in sys.argv[1:] or ["cartpole", "pricing"]:
            compare(name, Path(folder))
