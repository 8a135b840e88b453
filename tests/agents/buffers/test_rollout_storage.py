"""Rollouts that keep states: the same weights to the bit, what decides, what is refused, and the bytes."""

from __future__ import annotations

import io
from typing import Any

import gymnasium
import pytest
import torch
from stable_baselines3.common.callbacks import BaseCallback

from palaestra.agents import PPO, PQN
from palaestra.envs import EnvError, TensorVectorEnv, make
from palaestra.envs.snake import Snake, SnakeState
from palaestra.train.bench.memory_plan import plan
from palaestra.train.config.run_config import resolve_config

SETTINGS: dict[str, Any] = {"n_steps": 8, "batch_size": 48, "n_epochs": 2, "seed": 3}  # 128 is not divided by 48
ROLLOUT = 16 * 8


def agent(kind: Any, storage: str, env: str = "snake-small", **kwargs: Any) -> Any:
    torch.manual_seed(0)
    batch = make(env, 16, "cpu", seed=2, **kwargs)
    return kind("MlpPolicy", batch, rollout_storage=storage, **SETTINGS)


def weights(model: Any) -> dict[str, bytes]:
    return {name: value.numpy().tobytes() for name, value in model.policy.state_dict().items()}


@pytest.mark.parametrize("kind", [PPO, PQN])
@pytest.mark.parametrize(
    ("env", "kwargs"),
    [
        ("snake-small", {}),
        ("snake-small", {"observation": "grid", "frame_stack": 2}),
        ("cartpole", {"time_aware": True}),
    ],
)
def test_weights_are_those_of_kept_observations_to_the_bit(kind: Any, env: str, kwargs: dict[str, Any]) -> None:
    models = {storage: agent(kind, storage, env, **kwargs).learn(4 * ROLLOUT) for storage in ("observations", "states")}
    assert [model.rollout_buffer.store is not None for model in models.values()] == [False, True]
    assert weights(models["observations"]) == weights(models["states"])
    observed, computed = (model.rollout_buffer.observations for model in models.values())
    assert torch.equal(observed, computed)


@pytest.mark.parametrize("kind", [PPO, PQN])
def test_a_resumed_run_goes_on_to_the_bit_whatever_either_part_keeps(kind: Any) -> None:
    whole = agent(kind, "states").learn(6 * ROLLOUT)
    for first, second in (("states", "states"), ("observations", "auto")):
        model, file = agent(kind, first), io.BytesIO()

        class Save(BaseCallback):
            def _on_step(self) -> bool:
                return True

            def _on_rollout_start(self, model: Any = model, file: Any = file) -> None:
                if model.num_timesteps == 3 * ROLLOUT and not file.tell():
                    model.save_checkpoint(file)

        model.learn(6 * ROLLOUT, callback=Save())
        file.seek(0)
        again = kind.resume(file, make("snake-small", 16, "cpu", seed=2))
        again.rollout_storage = second
        again.set_env(again.env, force_reset=False)
        again.learn(3 * ROLLOUT, reset_num_timesteps=False)
        assert weights(again) == weights(model) == weights(whole)


def test_states_are_kept_where_they_take_half_the_memory_unless_all_observations_are_needed() -> None:
    assert agent(PPO, "auto").rollout_buffer.store is not None
    assert agent(PPO, "auto", "cartpole").rollout_buffer.store is None
    batch = make("snake-small", 16, "cpu")
    model = PPO("MlpPolicy", batch, normalize_observation=True, **SETTINGS)
    assert model.rollout_buffer.store is None
    with pytest.raises(ValueError, match='rollout_storage="states" is not possible: normalize_observation takes'):
        PPO("MlpPolicy", batch, normalize_observation=True, rollout_storage="states", **SETTINGS)
    with pytest.raises(ValueError, match="only environments in tensors have states"):
        PPO("MlpPolicy", gymnasium.make("CartPole-v1"), rollout_storage="states", **SETTINGS)
    with pytest.raises(ValueError, match="rollout_storage must be"):
        agent(PQN, "state")


class Blinded(Snake):
    """Sees nothing but NaN once a snake is hungry enough."""

    def observe(self, state: SnakeState) -> torch.Tensor:
        return torch.where(state.hunger.unsqueeze(1) < 9, super().observe(state), torch.nan)


def test_an_observation_that_is_not_finite_is_found_though_it_is_not_kept() -> None:
    for storage in ("observations", "states"):
        model = PPO("MlpPolicy", TensorVectorEnv(Blinded(6), 16, device="cpu"), rollout_storage=storage, **SETTINGS)
        with pytest.raises(EnvError, match=r"^observation is not finite in environment 5 at step 9 of the run"):
            model.learn(8 * ROLLOUT)


def test_65_536_snake_boards_take_0_6_gib_at_most() -> None:
    """States of 100 · 2 + 5 · 8 bytes, an action of 8, an end of 1, five numbers of 4, and each step's sum."""
    found = plan(resolve_config("snake", "ppo"), 65_536)
    assert found.rollout == 65_536 * 32 * (240 + 8 + 1 + 20) + 32 * 4 <= 0.6 * 2**30
    kept = plan(resolve_config("snake", "ppo", settings=["rollout_storage=observations"]), 65_536)
    assert kept.rollout == 65_536 * 32 * 1633
    assert (found.stored, kept.stored) == ("states", "observations")
