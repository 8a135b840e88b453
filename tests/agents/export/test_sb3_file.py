"""Files for Stable-Baselines3: they open without palaestra and act alike, or are refused."""

from __future__ import annotations

import io
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
model = getattr(stable_baselines3, sys.argv[1]).load(sys.argv[2], device="cpu")
print(model.predict(np.load(sys.argv[3]), deterministic=True)[0].tolist())
"""


@pytest.mark.parametrize("name", ["trunk", "trunk dqn", "box"])
def test_it_opens_without_palaestra(name: str, tmp_path: Path) -> None:
    model, env = made(name)
    obs: Any = env.reset()[0]
    np.save(tmp_path / "seen.npy", obs.numpy())
    theirs = sb3_model(model)
    theirs.save(tmp_path / "policy.zip")
    words = [
        sys.executable,
        "-c",
        WITHOUT,
        type(theirs).__name__,
        str(tmp_path / "policy.zip"),
        str(tmp_path / "seen.npy"),
    ]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=True)
    with torch.no_grad():
        expected = model.act(obs)
    found = torch.tensor(listed(done.stdout), dtype=expected.dtype)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def listed(text: str) -> Any:
    import json

    return json.loads(text.strip().splitlines()[-1])


def test_a_trunk_with_more_layers_behind_it_is_refused() -> None:
    _, env = made("discrete")
    kwargs = {**TRUNK, "net_arch": [8]}
    model = PPO("MlpPolicy", env, n_steps=8, batch_size=16, device="cpu", policy_kwargs=kwargs)
    with pytest.raises(ExportError, match=r"SharedMlp with net_arch=\[8\]"):
        sb3_model(model)
