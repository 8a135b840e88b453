"""Run folders that commit 885ce09 made: their models load and are evaluated, and training goes on from them."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import fuzz_checkpoints as fuzz
import numpy as np
import pytest
import stable_baselines3
import torch
from stable_baselines3.common.base_class import BaseAlgorithm

from palaestra.agents import DQN, PPO, PQN, DuelingPolicy, SharedMlp
from palaestra.envs import make
from palaestra.train.commands.train import resume_run
from palaestra.train.config import AGENTS
from palaestra.train.evaluation.policies import AgentPolicy
from palaestra.train.runs.callbacks import evaluate_run
from palaestra.train.runs.run_folder import RunFolder

OLD = Path(__file__).parents[2] / "data" / "runs-885ce09"
RUNS = {"ppo-cartpole": PPO, "dqn-pricing": DQN, "pqn-cartpole": PQN}
WEIGHTS = {"ppo-cartpole": "fc408550b24d40821fcb45f2fb00e3d42ca6650bd8f670f40565ac6b53c47e86"}


def digest(model: BaseAlgorithm) -> str:
    """The SHA-256 of all weights."""
    found = hashlib.sha256()
    for name, value in sorted(model.policy.state_dict().items()):
        found.update(name.encode())
        found.update(value.numpy().tobytes())
    return found.hexdigest()


def settings_in(content: bytes) -> Any:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return json.loads(archive.read("palaestra.json"))


@pytest.fixture(params=RUNS)
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return Path(shutil.copytree(OLD / request.param, tmp_path / request.param))


@pytest.mark.parametrize("name", ["model.zip", "best.zip"])
def test_models_have_the_weights_that_were_saved(run: Path, name: str) -> None:
    """Those that SB3's member holds; saved again, the file says the same in the new form."""
    model = RUNS[run.name].load(run / name)
    with zipfile.ZipFile(run / name) as archive, archive.open("policy.pth") as member:
        saved = torch.load(io.BytesIO(member.read()), weights_only=True)
    assert all(torch.equal(saved[key], value) for key, value in model.policy.state_dict().items())
    if name == "model.zip" and run.name in WEIGHTS:
        assert digest(model) == WEIGHTS[run.name]
    again = io.BytesIO()
    model.save(again)
    before, after = settings_in((run / name).read_bytes()), settings_in(again.getvalue())
    assert (before.pop("format"), after.pop("format")) == (2, 3)
    added = {key: after["arguments"].pop(key) for key in after["arguments"].keys() - before["arguments"].keys()}
    # options with the value that changes nothing
    later = {"scale_actions": False, "rollout_storage": "auto"}
    later |= {"symmetry": "none", "restart_states": 0.0, "weight_decay": 0.0, "hindsight": 0}
    assert added.items() <= later.items()
    assert after == before
    assert digest(RUNS[run.name].load(again)) == digest(model)


def test_models_are_evaluated(run: Path) -> None:
    folder = RunFolder(run)
    config = folder.config()
    assert config is not None
    model = AGENTS[config.agent].load(folder.model(), make(config.env, 2, "cpu", **config.env_kwargs))
    result = evaluate_run(AgentPolicy(model), config, episodes=20)
    assert result.episodes == 20
    if folder.evaluation_file.is_file():
        assert result.mean == pytest.approx(folder.evaluation()["mean"], rel=0.1)


@pytest.mark.parametrize("run", ["dqn-pricing", "pqn-cartpole"], indirect=True)
def test_training_goes_on(run: Path) -> None:
    settings = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(settings.replace("total_timesteps: 40000", "total_timesteps: 12000"))
    folder = RunFolder(run)
    before = list(csv.DictReader(folder.progress_file.open()))
    config = folder.config()
    assert config is not None
    resume_run(str(run), "disabled")
    after = list(csv.DictReader(folder.progress_file.open()))
    steps = [int(float(row["time/total_timesteps"])) for row in after if row.get("time/total_timesteps")]
    assert steps == sorted(steps)
    assert steps[-1] >= config.total_timesteps
    assert steps[-1] < 13_000
    kept = [row for row in before if row.get("time/total_timesteps") and float(row["time/total_timesteps"]) <= 8000]
    assert kept
    for old, new in zip(kept, after, strict=False):
        assert {k: v for k, v in old.items() if v} == {k: new[k] for k, v in old.items() if v}
    model = RUNS[run.name].load(folder.model())
    assert model.num_timesteps >= config.total_timesteps
    assert folder.evaluation()["episodes"] > 0


def test_vanilla_sb3_opens_old_and_new_files(tmp_path: Path) -> None:
    """Its pickles name classes where they were: in agents/networks.py and agents/observation_scale.py."""
    obs = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    for kind in (PPO, PQN):
        path = OLD / f"{kind.__name__.lower()}-cartpole" / "model.zip"
        theirs = (stable_baselines3.PPO if kind is PPO else stable_baselines3.DQN).load(path, device="cpu")
        np.testing.assert_array_equal(
            theirs.predict(obs, deterministic=True)[0], kind.load(path).predict(obs, deterministic=True)[0]
        )
    assert stable_baselines3.DQN.load(OLD / "dqn-pricing" / "model.zip", device="cpu").policy_class is DuelingPolicy


def test_classes_are_found_under_the_names_of_format_2() -> None:
    kwargs = {"features_extractor_class": SharedMlp, "features_extractor_kwargs": {"hidden": [8]}, "net_arch": []}
    batch = make("cartpole", 2, "cpu")
    model = PPO("MlpPolicy", batch, n_steps=4, batch_size=4, policy_kwargs=kwargs, normalize_observation=True)
    buffer = io.BytesIO()
    model.save(buffer)
    members = fuzz.unpacked(fuzz.in_format_2(buffer.getvalue()))
    moved = [(b"networks.extractors:SharedMlp", b"networks:SharedMlp")]
    moved += [(b"networks.observation_norm:Normalized", b"observation_scale:Normalized")]
    for new, old in moved:
        assert new in members["palaestra.json"]
        members["palaestra.json"] = members["palaestra.json"].replace(new, old)
    loaded = PPO.load(io.BytesIO(fuzz.packed(members)))
    assert digest(loaded) == digest(model)
