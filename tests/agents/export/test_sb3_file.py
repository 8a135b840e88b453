"""Files for Stable-Baselines3: they open without palaestra and act alike, or are refused."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from policies_to_export import BOX, CASES, made

from palaestra.agents import PPO
from palaestra.agents.export.policy_network import ExportError
from palaestra.agents.export.sb3_file import sb3_model
from palaestra.agents.networks.extractors import SharedMlp

TRUNK = {"net_arch": [], "features_extractor_class": SharedMlp, "features_extractor_kwargs": {"hidden": [16, 16]}}
CASES["trunk"] = (CASES["discrete"][0], "MlpPolicy", BOX, spaces.Discrete(4), {"policy_kwargs": TRUNK})
CASES["trunk dqn"] = (CASES["dqn"][0], "MlpPolicy", BOX, spaces.Discrete(4), {"policy_kwargs": TRUNK})
CASES["average"] = (CASES["dqn"][0], "MlpPolicy", BOX, spaces.Discrete(4), {"weight_average": 0.1})
OPENED = ["discrete", "bits", "box", "vanilla box", "image", "trunk", "trunk dqn", "average"]


@pytest.mark.parametrize("name", OPENED)
def test_stable_baselines_acts_alike(name: str) -> None:
    model, env = made(name)
    theirs = sb3_model(model)
    assert type(theirs).__module__.startswith("stable_baselines3.")
    theirs.save(buffer := io.BytesIO())
    opened = type(theirs).load(io.BytesIO(buffer.getvalue()), device="cpu")
    obs, _ = env.reset()
    for _ in range(10):
        with torch.no_grad():
            action = model.act(obs)
        found, _ = opened.predict(obs.numpy(), deterministic=True)
        np.testing.assert_allclose(found, action.numpy(), rtol=1e-5, atol=1e-6)
        obs, *_ = env.step(action)
    env.close()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("octaves", "no FourierFeatures; --format onnx exports it"),
        ("normalised", "no Normalized"),
        ("dueling", "DuelingQNetwork is no network of"),
        ("pqn", "no Normalized"),
        ("shifted", "do not count from 0"),
    ],
)
def test_networks_that_it_lacks_are_refused(name: str, message: str) -> None:
    model, _ = made(name)
    with pytest.raises(ExportError, match=message):
        sb3_model(model)


WITHOUT = """
import sys
sys.modules["palaestra"] = None  # as if it were not installed
import numpy as np, stable_baselines3
for kind, name in zip(sys.argv[1::2], sys.argv[2::2]):
    model = getattr(stable_baselines3, kind).load(f"{name}.zip", device="cpu")
    print(model.predict(np.load(f"{name}.npy"), deterministic=True)[0].tolist())
"""


def test_they_open_without_palaestra(tmp_path: Path) -> None:
    words, expected = [sys.executable, "-c", WITHOUT], []
    for name in ("trunk", "trunk dqn", "box"):
        model, env = made(name)
        obs: Any = env.reset()[0]
        np.save(tmp_path / f"{name}.npy", obs.numpy())
        theirs = sb3_model(model)
        theirs.save(tmp_path / f"{name}.zip")
        words += [type(theirs).__name__, name]
        with torch.no_grad():
            expected.append(model.act(obs))
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=True)
    for line, action in zip(done.stdout.strip().splitlines()[-3:], expected, strict=True):
        torch.testing.assert_close(torch.tensor(json.loads(line), dtype=action.dtype), action, rtol=1e-5, atol=1e-6)


def test_a_trunk_with_more_layers_behind_it_is_refused() -> None:
    _, env = made("discrete")
    kwargs = {**TRUNK, "net_arch": [8]}
    model = PPO("MlpPolicy", env, n_steps=8, batch_size=16, device="cpu", policy_kwargs=kwargs)
    with pytest.raises(ExportError, match=r"SharedMlp with net_arch=\[8\]"):
        sb3_model(model)
