"""Actions in −1 … 1 for any Box: what arrives, what is learned, what vanilla Stable-Baselines3 makes of the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import stable_baselines3
import torch
from gymnasium.spaces import Box

from palaestra.agents import PPO
from palaestra.agents.checkpoints.zip_archive import CheckpointError
from palaestra.envs.core.rng import Rng

BOXES: dict[str, Box] = {
    "wide": Box(0.0, 1000.0, (2,)),
    "narrow": Box(-0.01, 0.01, (2,), np.float64),
    "each its own": Box(np.array([-1.0, 5.0], np.float32), np.array([1.0, 3.4e38], np.float32)),
    "integers": Box(0, 9, (2,), np.int64),
    "no bounds in truth": Box(-3.4e38, 3.4e38, (2,)),
}


class Recorder(gymnasium.Env[Any, Any]):
    """Keeps the actions that it gets; observes two numbers; episodes of 16 steps."""

    def __init__(self, space: Box) -> None:
        self.observation_space, self.action_space = Box(-1.0, 1.0, (2,)), space
        self.seen: list[Any] = []

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.time = 0
        return self.np_random.uniform(-1, 1, 2).astype(np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(action), action
        self.seen.append(action.copy())
        self.time += 1
        return self.np_random.uniform(-1, 1, 2).astype(np.float32), float(action[0]), self.time == 16, False, {}


def model_in(space: Box, **kwargs: Any) -> tuple[PPO, Recorder]:
    env = Recorder(space)
    return PPO("MlpPolicy", env, n_steps=64, batch_size=64, seed=0, scale_actions=True, **kwargs), env


@pytest.mark.parametrize("name", BOXES)
def test_actions_reach_the_environment_in_its_box(name: str) -> None:
    model, env = model_in(BOXES[name])
    model.learn(64)
    seen = np.array(env.seen, dtype=np.float64)
    low, high = (np.array(b, dtype=np.float64) for b in (env.action_space.low, env.action_space.high))
    assert seen.dtype == np.float64
    if name in ("wide", "narrow", "integers"):
        units = (seen - (low + high) / 2) / ((high - low) / 2)
        assert 0.5 < units.std() < 0.9  # a clipped Gaussian of deviation 1
        assert 0.2 < (np.abs(units) > 0.98).mean() < 0.5
    elif name == "each its own":
        assert seen[:, 0].std() > 0.5
        assert (seen[:, 1] == 5.0).mean() > 0.9  # half bounded: as it was


@pytest.mark.parametrize("use_sde", [False, True])
@pytest.mark.parametrize("name", ["wide", "narrow", "integers"])
def test_saved_models_act_alike_in_ours_and_in_vanilla_sb3(name: str, use_sde: bool, tmp_path: Path) -> None:
    model, env = model_in(BOXES[name], use_sde=use_sde)
    model.learn(256)
    before = {key: value.clone() for key, value in model.policy.state_dict().items()}
    model.save(tmp_path / "model")
    ours, theirs = PPO.load(tmp_path / "model"), stable_baselines3.PPO.load(tmp_path / "model")
    assert ours.scale_actions
    obs = np.random.default_rng(0).uniform(-1, 1, (50, 2)).astype(np.float32)
    expected = model.act(torch.as_tensor(obs)).numpy()
    rounding = 0.5 if name == "integers" else 0.0
    scale = float((env.action_space.high - env.action_space.low)[0])
    for found in (model.predict(obs, deterministic=True)[0], ours.predict(obs, deterministic=True)[0]):
        assert np.allclose(found, expected, atol=1e-5 * scale)
        assert found.dtype == env.action_space.dtype or name == "narrow"
    vanilla = theirs.predict(obs, deterministic=True)[0]
    assert np.allclose(vanilla, expected, atol=1e-5 * scale + rounding)
    if not use_sde:
        spread = [np.std([m.predict(obs[:1])[0] for _ in range(200)]) for m in (ours, theirs)]
        assert spread[0] == pytest.approx(spread[1], rel=0.3)
    assert all(torch.equal(value, before[key]) for key, value in model.policy.state_dict().items())


def test_a_box_of_one_is_the_same_bit_for_bit() -> None:
    weights = []
    for scale in (False, True):
        env = Recorder(Box(-1.0, 1.0, (2,)))
        model = PPO("MlpPolicy", env, n_steps=64, batch_size=64, seed=0, scale_actions=scale)
        weights.append(model.learn(256).policy.state_dict())
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


def test_learning_does_not_depend_on_the_box() -> None:
    """The same weights, to the last bit, where the environment undoes the scale: the policy knows of −1 … 1 alone."""

    class Undone(Recorder):
        def step(self, action: Any) -> Any:
            space = self.action_space
            obs, _, *rest = super().step(action)
            return obs, float(np.round((action[0] - space.low[0]) / (space.high[0] - space.low[0]) * 64)), *rest

    weights = []
    for space in (Box(-1.0, 1.0, (2,)), Box(-256.0, 256.0, (2,))):
        model = PPO("MlpPolicy", Undone(space), n_steps=64, batch_size=64, seed=0, scale_actions=True)
        model.learn(256)
        weights.append(model.policy.state_dict())
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


def test_squashed_noise_scales_by_itself() -> None:
    model, env = model_in(BOXES["wide"], use_sde=True, policy_kwargs={"squash_output": True})
    model.learn(64)
    assert model._actor_critic.units is None
    assert 200 < np.std(env.seen) < 500


def test_what_cannot_be_scaled_is_said() -> None:
    with pytest.raises(ValueError, match="scale_actions does not work with use_expln or full_std=False: set scale_a"):
        model_in(BOXES["wide"], use_sde=True, policy_kwargs={"use_expln": True})


def test_weights_in_other_units_are_refused(tmp_path: Path) -> None:
    model, env = model_in(BOXES["wide"])
    model.save(tmp_path / "model")
    other = PPO("MlpPolicy", env, n_steps=64, batch_size=64)
    with pytest.raises(CheckpointError, match="scale_actions=True"):
        other.take_weights(tmp_path / "model.zip")


def test_sampled_actions_too() -> None:
    model, env = model_in(BOXES["wide"])
    rng = Rng(torch.arange(400), 0)
    drawn = model.act(torch.zeros(400, 2), rng)
    assert env.action_space.contains(drawn[0].numpy())
    assert 250 < drawn.std() < 450
