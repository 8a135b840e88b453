"""Scripts for Stable-Baselines3 run with one import changed, and the page of differences names what else differs."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import stable_baselines3
from pages import read
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger
from walk import Rows

import palaestra.agents

ZOO = """
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback, CallbackList, CheckpointCallback, EvalCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecNormalize

class Episodes(BaseCallback):
    def __init__(self):
        super().__init__()
        self.returns = []

    def _on_step(self):
        for info in self.locals["infos"]:
            if "episode" in info:
                self.returns.append(info["episode"]["r"])
                self.logger.record("raw/episodic_return", info["episode"]["r"])
                assert info["terminal_observation"].shape == (4,)
        return True

class SaveStatistics(BaseCallback):
    def _on_step(self):
        if self.num_timesteps % 128 == 0:
            self.model.get_vec_normalize_env().save(folder + "/vecnormalize.pkl")
        return True

env = VecNormalize(make_vec_env("CartPole-v1", n_envs=2, seed=0))
eval_env = VecNormalize(make_vec_env("CartPole-v1", n_envs=1, seed=1), training=False, norm_reward=False)
model = PPO("MlpPolicy", env, n_steps=32, batch_size=32, n_epochs=2, seed=0, device="cpu")
model.set_logger(logger)
episodes = Episodes()
evaluations = EvalCallback(eval_env, eval_freq=64, n_eval_episodes=1, best_model_save_path=folder, verbose=0)
callbacks = [CheckpointCallback(64, folder + "/checkpoints", save_vecnormalize=True), evaluations, SaveStatistics()]
model.learn(256, callback=CallbackList([episodes, *callbacks]), log_interval=1)
model.save(folder + "/model")
model = PPO.load(folder + "/best_model", env=env, custom_objects={"learning_rate": 1e-4}, print_system_info=False)
model.learn(64, reset_num_timesteps=False)
"""

MEMORY = """
from stable_baselines3 import DQN

settings = dict(learning_starts=32, buffer_size=500, batch_size=16, seed=0, device="cpu")
model = DQN("MlpPolicy", "CartPole-v1", **settings)
model.learn(200)
model.save(folder + "/dqn")
model.save_replay_buffer(folder + "/memory")
model = DQN.load(folder + "/dqn", env=model.get_env())
model.load_replay_buffer(folder + "/memory")
model.learn(64, reset_num_timesteps=False)
"""

MASKED = """
from sb3_contrib import MaskablePPO
from sb3_contrib.common.maskable.evaluation import evaluate_policy
import palaestra.envs

env = palaestra.envs.SB3VecEnv(palaestra.envs.make("snake-small", num_envs=8, device="cpu", seed=0))
model = MaskablePPO("MlpPolicy", env, n_steps=16, batch_size=64, n_epochs=1, seed=0, device="cpu")
model.learn(256)
mean, _ = evaluate_policy(model, env, n_eval_episodes=2, warn=False)
"""


def run(script: str, package: str, folder: Path) -> tuple[dict[str, Any], Rows, list[str]]:
    folder.mkdir()
    rows = Rows()
    scope: dict[str, Any] = {"logger": Logger(None, [rows]), "folder": str(folder)}
    exec(script.replace("from stable_baselines3 import", f"from {package} import"), scope)
    return scope, rows, sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def both(script: str, tmp_path: Path) -> list[tuple[dict[str, Any], Rows, list[str]]]:
    return [run(script, package, tmp_path / package) for package in ("stable_baselines3", "palaestra.agents")]


def test_a_script_of_the_zoo_whose_callbacks_read_infos(tmp_path: Path) -> None:
    theirs, ours = both(ZOO, tmp_path)
    assert ours[2] == theirs[2]
    assert any("raw/episodic_return" in row for row in ours[1].rows)
    for scope, _, _ in (theirs, ours):
        assert 256 / 60 < len(scope["episodes"].returns) < 256 / 8
        assert scope["model"].learning_rate == 1e-4


def test_a_script_that_saves_and_loads_its_replay_memory(tmp_path: Path) -> None:
    theirs, ours = both(MEMORY, tmp_path)
    assert ours[2] == theirs[2] == ["dqn.zip", "memory.pkl"]
    assert ours[0]["model"].num_timesteps == theirs[0]["model"].num_timesteps == 264
    assert ours[0]["model"].replay.steps == theirs[0]["model"].replay_buffer.pos == 264


def test_maskable_ppo_trains_on_snake(tmp_path: Path) -> None:
    pytest.importorskip("sb3_contrib")
    scope = run(MASKED, "stable_baselines3", tmp_path / "masked")[0]
    assert scope["model"].num_timesteps == 256
    assert np.isfinite(scope["mean"])


class Names(BaseCallback):
    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def _on_step(self) -> bool:
        self.names |= {*self.locals}
        return True


@pytest.mark.parametrize("agent", ["PPO", "DQN"])
def test_the_page_of_differences_names_them_all(agent: str) -> None:
    page = read("agents/README.md").partition("## What differs from Stable-Baselines3")[2].partition("\n## ")[0]
    kinds = [getattr(package, agent) for package in (stable_baselines3, palaestra.agents)]
    theirs, ours = (inspect.signature(kind.__init__).parameters for kind in kinds)
    common = palaestra.agents.options.CommonOptions.__annotations__
    missing = {*theirs} - {*ours, *common}
    moved = {n for n in {*theirs} & {*ours} if theirs[n].default != ours[n].default}
    found, keys = [], []
    for kind in kinds:
        sizes = {"n_steps": 64} if agent == "PPO" else {"learning_starts": 32, "buffer_size": 500}
        model, rows, callback = kind("MlpPolicy", "CartPole-v1", seed=0, device="cpu", **sizes), Rows(), Names()
        model.set_logger(Logger(None, [rows]))
        model.learn(128, callback=callback, log_interval=1)
        found.append(callback.names)
        keys.append({key for row in rows.rows for key in row})
    assert not keys[0] - keys[1]
    differences = missing | moved | (found[0] - found[1]) | (keys[1] - keys[0])
    assert [name for name in sorted(differences) if f"`{name}`" not in page] == []


def test_memories_of_other_kinds_are_refused() -> None:
    with pytest.raises(ValueError, match="rollout_buffer_class must be None, without kwargs"):
        palaestra.agents.PPO("MlpPolicy", "CartPole-v1", rollout_buffer_kwargs={"n": 1})  # type: ignore[call-arg]
