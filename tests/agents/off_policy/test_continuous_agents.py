"""SAC and TD3 as agents: what they learn, how they bootstrap, explore and store, their files, and what they refuse."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import stable_baselines3
import torch
from gymnasium.spaces import Box
from probes import ContinuousTarget, EndlessReward
from stable_baselines3.common.buffers import ReplayBuffer

from palaestra.agents import DQN, SAC, TD3, CheckpointError
from palaestra.envs import TensorVectorEnv, make
from palaestra.envs.core.rng import Rng
from palaestra.train.config.run_config import resolve_config
from palaestra.train.config.schema import ConfigError

KINDS: list[Any] = [SAC, TD3]
SMALL: dict[str, Any] = {"policy_kwargs": {"net_arch": [32, 32]}, "batch_size": 128, "learning_starts": 128, "seed": 0}


class EndlessBox(EndlessReward):
    """Reward 1 at each of a few steps before the time limit, whatever is done with a continuous action."""

    def __init__(self) -> None:
        super().__init__()
        self.action_space = Box(-2.0, 2.0, (2,))


def probe(kind: Any, rules: Any, **kwargs: Any) -> Any:
    batch = TensorVectorEnv(rules, 32, device="cpu", seed=0)
    return kind("MlpPolicy", batch, samples_per_insert=16.0, learning_rate=3e-3, tau=0.05, **{**SMALL, **kwargs})


@pytest.mark.parametrize("kind", KINDS)
def test_the_actions_come_to_the_target(kind: Any) -> None:
    model = probe(kind, ContinuousTarget(), **({"ent_coef": "auto_0.1"} if kind is SAC else {}))
    model.learn(6_000)
    obs = torch.linspace(-0.8, 0.8, 9).unsqueeze(1)
    torch.testing.assert_close(model.act(obs), obs, rtol=0.0, atol=0.12)


@pytest.mark.parametrize("kind", KINDS)
def test_a_time_limit_bootstraps(kind: Any) -> None:
    """V = 1 / (1 − γ), not the return until the limit; without an entropy term in SAC's values."""
    model = probe(kind, EndlessBox(), gamma=0.7, **({"ent_coef": 0.0} if kind is SAC else {}))
    model.learn(10_000)
    obs = torch.zeros(1, 1)
    values = model._critics.infer(obs, torch.zeros(1, 2))
    torch.testing.assert_close(values, torch.full((2, 1), 1 / 0.3), rtol=0.1, atol=0.0)


@pytest.mark.parametrize("kind", KINDS)
def test_vanilla_sb3_opens_the_file_and_acts_alike(kind: Any, tmp_path: Path) -> None:
    model = kind("MlpPolicy", make("reach", 8, "cpu"), samples_per_insert=1.0, **SMALL)
    model.learn(400)
    model.save(tmp_path / "m.zip")
    vanilla = getattr(stable_baselines3, kind.__name__).load(tmp_path / "m.zip", device="cpu")
    again = kind.load(tmp_path / "m.zip")
    obs = torch.randn(16, *model.observation_space.shape)
    theirs, _ = vanilla.predict(obs.numpy(), deterministic=True)
    np.testing.assert_allclose(again.act(obs).numpy(), theirs, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(again.predict(obs.numpy(), deterministic=True)[0], theirs, rtol=1e-4, atol=1e-5)
    if kind is SAC:
        assert float(again.log_ent_coef.detach()) == float(model.log_ent_coef.detach()) != 0.0
        assert float(vanilla.log_ent_coef.detach()) == float(model.log_ent_coef.detach())
    for own, other in zip(again.critic.parameters(), vanilla.critic.parameters(), strict=True):
        assert torch.equal(own, other)
    with pytest.raises(CheckpointError, match=f"holds a {kind.__name__} agent, not DQN"):
        DQN.load(tmp_path / "m.zip")


def test_a_fixed_coefficient_stays_and_a_learned_one_moves(tmp_path: Path) -> None:
    for given, fixed in [(0.3, True), ("auto_0.01", False)]:
        model = SAC("MlpPolicy", make("reach", 8, "cpu"), samples_per_insert=4.0, ent_coef=given, **SMALL)
        start = float(model._coefficient())
        assert start == pytest.approx(0.3 if fixed else 0.01)
        model.learn(400)
        assert (float(model._coefficient()) == start) is fixed
        model.save(tmp_path / "m.zip")
        assert SAC.load(tmp_path / "m.zip").ent_coef == given


@pytest.mark.parametrize("kind", KINDS)
def test_what_an_environment_does_depends_on_no_other(kind: Any) -> None:
    """Random and exploring actions of environment 5 are the same in a batch of 8 and alone."""
    model = kind("MlpPolicy", make("reach", 8, "cpu"), **SMALL)
    obs, keys = torch.randn(8, *model.observation_space.shape), torch.arange(8)
    for explore in (lambda o, r: model._uniform(r), model.act):
        whole, alone = explore(obs, Rng(keys, 3)), explore(obs[5:6], Rng(keys[5:6], 3))
        torch.testing.assert_close(whole[5:6], alone, rtol=1e-5, atol=1e-6)
        assert not torch.equal(whole[0], whole[1])
    low, high = (torch.as_tensor(bound) for bound in (model.action_space.low, model.action_space.high))
    drawn = model._to_box(model._uniform(Rng(torch.arange(4096), 0)))
    assert (drawn >= low).all()
    assert (drawn <= high).all()
    torch.testing.assert_close(drawn.std(0), (high - low) / 12**0.5, rtol=0.05, atol=0.0)


def test_a_spread_of_noise_goes_down_from_the_first_environment_to_the_last() -> None:
    batch = make("reach", 64, "cpu")
    model = TD3("MlpPolicy", batch, exploration_noise=0.5, exploration_spread=3.0, **SMALL)
    deviations = model._deviations.squeeze(1)
    assert deviations[0] == 0.5
    assert deviations[-1] == pytest.approx(0.5**4)
    assert (deviations.diff() < 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_the_memory_is_no_larger_than_sb3s(kind: Any) -> None:
    model = kind("MlpPolicy", make("reach", 8, "cpu"), buffer_size=8000, **{**SMALL, "learning_starts": 10_000})
    model.learn(64)
    theirs = ReplayBuffer(8000, model.observation_space, model.action_space, n_envs=8)
    parts = (theirs.observations, theirs.next_observations, theirs.actions, theirs.rewards, theirs.dones)
    assert model.replay.nbytes < sum(part.nbytes for part in parts)


def test_what_is_stored_are_actions_in_units_of_the_box() -> None:
    batch = TensorVectorEnv(EndlessBox(), 4, device="cpu", seed=0)
    model = SAC("MlpPolicy", batch, buffer_size=400, **{**SMALL, "learning_starts": 1000})
    model.learn(200)
    assert model.replay is not None
    stored = model.replay.gather(model.replay.draw(64)[0]).actions
    assert stored.shape == (64, 2)
    assert 0.9 < float(stored.abs().max()) <= 1.0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("given", [{"action_noise": object()}, {"replay_buffer_class": ReplayBuffer}, {"n_steps": 0}])
def test_what_it_does_not_do_is_refused(kind: Any, given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(given))):
        kind("MlpPolicy", make("reach", 2, "cpu"), **given)


@pytest.mark.parametrize("agent", ["sac", "td3"])
def test_an_environment_without_bounded_continuous_actions_is_refused_before_the_run(agent: str) -> None:
    with pytest.raises(ConfigError, match=f"^{agent} needs bounded continuous actions, .*CartPole-v1 has Discrete"):
        resolve_config("cartpole", agent)
    for value in ("fast", "auto_7", -1):
        if agent == "sac":
            with pytest.raises(ConfigError, match=r"ent_coef=.*: (expected a number|must be at least 0)"):
                resolve_config("reach", agent, settings=[f"ent_coef={value}"])
    assert resolve_config("reach", "sac", settings=["ent_coef=auto"]).agent_kwargs["ent_coef"] == "auto"
    assert resolve_config("reach", "sac", settings=["ent_coef=0.2"]).agent_kwargs["ent_coef"] == 0.2


@pytest.mark.parametrize("kind", KINDS)
def test_it_learns_on_gymnasiums_environments_too(kind: Any) -> None:
    model = kind("MlpPolicy", gymnasium.make("Pendulum-v1"), **SMALL)
    model.learn(200)
    assert model._n_updates == 200 - 128
    assert np.isfinite(model.predict(np.zeros(3, np.float32))[0]).all()
