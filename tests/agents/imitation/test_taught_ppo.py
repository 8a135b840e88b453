"""Cloning a teacher: gradients as of a plain loss, who plays and who is learned from, the way into PPO, files."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import pytest
import stable_baselines3
import torch
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete, Space
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.utils import ConstantSchedule, LinearSchedule
from torch import Tensor
from training_cases import SaveAt, all_tensors

from palaestra.agents import PPO, CheckpointError, SharedMlp
from palaestra.agents.buffers.rollout import Minibatch
from palaestra.agents.imitation.bc import BC
from palaestra.agents.imitation.lesson import Lesson, expert_of
from palaestra.agents.imitation.taught_ppo import TaughtPPO
from palaestra.envs import TensorEnv, TensorVectorEnv, make
from palaestra.envs.core import BatchedEnv
from palaestra.envs.core.rng import Rng

SPACES: list[Space[Any]] = [Discrete(3, start=2), MultiDiscrete([3, 4], start=[1, 0]), MultiBinary(3), Box(-2, 6, (2,))]
SHARED = {"features_extractor_class": SharedMlp, "features_extractor_kwargs": {"hidden": [16]}, "net_arch": []}


class Shown(NamedTuple):
    numbers: Tensor  # [N, 2]


class Aims(TensorEnv[Shown]):
    """Two numbers are shown; what to do about them is the expert's secret. An episode lasts five steps."""

    max_episode_steps = 5

    def __init__(self, actions: Space[Any]) -> None:
        self.observation_space, self.action_space = Box(-1.0, 1.0, (2,)), actions

    def reset(self, rng: Rng) -> Shown:
        return Shown(rng.uniform(-1.0, 1.0, (2,)))

    def step(self, state: Shown, action: Tensor, rng: Rng) -> tuple[Shown, Tensor, Tensor]:
        hit = (action == self.expert(state)).view(len(action), -1).all(1)
        return self.reset(rng), hit.float(), torch.zeros_like(hit)

    def observe(self, state: Shown) -> Tensor:
        return state.numbers

    def expert(self, state: Shown) -> Tensor:
        return aim(self.action_space, state.numbers)


def aim(space: Space[Any], shown: Tensor) -> Tensor:
    """The expert's actions for numbers [B, 2]."""
    above = shown > 0.0
    if isinstance(space, Discrete):
        return above.sum(1) + int(space.start)
    if isinstance(space, MultiDiscrete):
        return above * 2 + torch.as_tensor(space.start)
    if isinstance(space, MultiBinary):
        return torch.cat((above, ~above[:, :1]), 1).to(torch.int8)
    return 2.0 + 4.0 * shown.flip(1)


def taught(actions: Space[Any], steps: int, kind: type[TaughtPPO] = TaughtPPO, **settings: Any) -> Any:
    batch = TensorVectorEnv(Aims(actions), 32, seed=1)
    settings = {"n_steps": 8, "batch_size": 64, "seed": 3, "learning_rate": 3e-3, "scale_actions": True} | settings
    model = kind("MlpPolicy", batch, **settings)
    model.set_logger(Logger(None, []))
    if kind is TaughtPPO and steps:
        model.begin_lesson(Lesson(expert_of, steps))
    return model


# ----------------------------------------------------------------------------------------------------------- the loss


@pytest.mark.parametrize("actions", SPACES, ids=str)
@pytest.mark.parametrize("policy_kwargs", [{}, SHARED], ids=["apart", "shared"])
def test_gradients_are_those_of_the_plain_loss(actions: Space[Any], policy_kwargs: dict[str, Any]) -> None:
    model = taught(actions, 10**6, policy_kwargs=policy_kwargs, vf_coef=0.3)
    model._in_lesson = True
    generator = torch.Generator().manual_seed(5)
    obs, returns = torch.rand(64, 2, generator=generator) * 2 - 1, torch.randn(64, generator=generator)
    wanted = model._own_actions(aim(actions, obs))
    model._cloning_gradients(Minibatch(obs, wanted, returns, returns, returns, returns))
    found = [p.grad.clone() for p in model.policy.parameters() if p.grad is not None]

    for parameter in model.policy.parameters():
        parameter.grad = None
    flat = wanted.float() if isinstance(actions, MultiBinary) else wanted
    values, log_prob, _ = model.policy.evaluate_actions(obs, flat)
    (-log_prob.mean() + 0.3 * (values.flatten() - returns).square().mean()).backward()
    expected = [
        torch.zeros_like(p.grad) if name == "log_std" else p.grad
        for name, p in model.policy.named_parameters()
        if p.grad is not None
    ]
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("actions", SPACES, ids=str)
def test_the_teacher_is_learned_in_its_own_numbers_and_units(actions: Space[Any]) -> None:
    model = taught(actions, 10**9, n_epochs=4)
    model.learn(32 * 8 * 40)
    obs = torch.rand(1000, 2, generator=torch.Generator().manual_seed(1)) * 2 - 1
    found, wanted = model.act(obs), aim(actions, obs)
    if isinstance(actions, Box):
        assert (found - wanted).abs().mean() < 0.25
    else:
        assert (found == wanted).view(1000, -1).all(1).float().mean() > 0.95
    assert model._losses is not None
    numbers = dict(zip(model._summaries, model._losses.tolist(), strict=True))
    assert numbers["agreement"] > 0.95
    assert numbers["teacher_share"] > 0.99, "the lesson has hardly begun"


def test_what_a_gaussian_explores_with_stays_as_it_was() -> None:
    model = taught(Box(-2, 6, (2,)), 10**6, policy_kwargs={"log_std_init": -1.5})
    model.learn(32 * 8 * 4)
    assert (model.policy.log_std == -1.5).all()


# ------------------------------------------------------------------------------------------------------------ who plays


class Told:
    """A teacher that keeps what it was asked."""

    def __init__(self) -> None:
        self.seen: list[Tensor] = []

    def __call__(self, batch: BatchedEnv, obs: Any) -> Tensor:
        self.seen.append(obs.clone())
        return expert_of(batch, obs)


@pytest.mark.parametrize(("share", "least", "most"), [(1.0, 1.0, 1.0), (0.6, 0.67, 0.79), (0.0, 0.25, 0.42)])
def test_the_teacher_plays_its_share_and_is_learned_from_everywhere(share: float, least: float, most: float) -> None:
    model = taught(Discrete(3), 0, learning_rate=0.0, n_steps=64)
    model.begin_lesson(Lesson(teacher := Told(), 10**6, ConstantSchedule(share)))
    model.learn(32 * 64)
    observed = torch.stack(teacher.seen)
    assert (model.rollout_buffer.observations == observed).all()
    assert (model.rollout_buffer.actions == (observed > 0.0).sum(2)).all(), "labels everywhere, whoever plays"
    goes_on = ~model.rollout_buffer.dones  # elsewhere V is added
    hits = model.rollout_buffer.rewards[goes_on].mean()  # 1 for each action of the expert's; by chance a third
    assert least <= hits <= most


def test_the_share_falls_with_what_is_left_of_the_lesson() -> None:
    model = taught(Discrete(3), 0)
    rollout = 32 * 8
    model.begin_lesson(Lesson(expert_of, 4 * rollout, LinearSchedule(1.0, 0.0, 1.0)))
    shares = []
    train = model.train

    def noted() -> None:
        train()
        shares.append(dict(zip(model._summaries, model._losses.tolist(), strict=True)).get("teacher_share"))

    model.train = noted
    model.learn(6 * rollout)
    assert shares == [0.75, 0.5, 0.25, 0.0, None, None]


# -------------------------------------------------------------------------------------------------- before and after it


def test_without_a_lesson_it_is_ppo_bit_for_bit() -> None:
    weights = []
    for kind in (PPO, TaughtPPO):
        model = kind("MlpPolicy", make("cartpole", num_envs=16, seed=2), n_steps=16, batch_size=64, seed=4)
        model.learn(16 * 16 * 3)
        weights.append(torch.nn.utils.parameters_to_vector(model.policy.parameters()))
    assert torch.equal(*weights)


def test_ppo_goes_on_with_the_cloned_weights_and_a_new_optimizer() -> None:
    model = taught(Discrete(3), 32 * 8 * 4, n_epochs=2)
    model.learn(32 * 8 * 4)
    (step,) = {float(state["step"]) for state in model.policy.optimizer.state.values()}
    assert step == 4 * 2 * 4
    model.learn(32 * 8, reset_num_timesteps=False)
    (step,) = {float(state["step"]) for state in model.policy.optimizer.state.values()}
    assert step == 2 * 4
    assert "policy_gradient_loss" in model._summaries


def test_the_critic_knows_the_returns_when_ppo_begins() -> None:
    model = taught(Discrete(3), 32 * 8 * 60, gamma=0.9, gae_lambda=0.95, n_epochs=4)
    model.learn(32 * 8 * 60)
    values = model._actor_critic.values(torch.rand(500, 2) * 2 - 1)
    assert values.mean() == pytest.approx(1 / (1 - 0.9), rel=0.15), "a reward of 1 in each step, for ever"


@pytest.mark.parametrize("saved_at", [1, 3, 4, 5, 6])
def test_a_run_goes_on_bit_for_bit_within_its_lesson_and_after_it(tmp_path: Path, saved_at: int) -> None:
    rollout, path = 32 * 8, tmp_path / "checkpoint.zip"
    settings = {"normalize_observation": True, "normalize_reward": True, "n_epochs": 2}
    whole = taught(Box(-2, 6, (2,)), 4 * rollout, **settings)
    whole.learn(8 * rollout)
    first = taught(Box(-2, 6, (2,)), 4 * rollout, **settings)
    first.learn(8 * rollout, SaveAt(saved_at * rollout, path, stop=True))
    second = TaughtPPO.resume(path, TensorVectorEnv(Aims(Box(-2, 6, (2,))), 32, seed=1))
    second.set_logger(Logger(None, []))
    second.begin_lesson(Lesson(expert_of, 4 * rollout))
    second.learn(8 * rollout - second.num_timesteps, reset_num_timesteps=False)
    expected, found = all_tensors(whole), all_tensors(second)
    assert expected.keys() == found.keys()
    assert not [name for name, value in expected.items() if not torch.equal(value, found[name])]


# ---------------------------------------------------------------------------------------------------------------- files


def test_files_are_ppos_and_vanilla_sb3_acts_alike(tmp_path: Path) -> None:
    model = taught(Discrete(3), 32 * 8 * 2)
    model.learn(32 * 8 * 3)
    model.save(path := tmp_path / "model.zip")
    obs = (torch.rand(100, 2) * 2 - 1).numpy()
    for kind in (PPO, TaughtPPO, stable_baselines3.PPO):
        assert (kind.load(path).predict(obs, deterministic=True)[0] == model.predict(obs, deterministic=True)[0]).all()


def test_ppo_takes_the_weights_of_bc(tmp_path: Path) -> None:
    model = taught(MultiDiscrete([3, 4]), 0, BC, teacher_share=0.5)
    model.learn(32 * 8 * 4)
    model.save(path := tmp_path / "bc.zip")
    assert BC.load(path).teacher_share == 0.5
    with pytest.raises(CheckpointError, match="holds a BC agent, not PPO"):
        PPO.load(path)
    further = PPO("MlpPolicy", TensorVectorEnv(Aims(MultiDiscrete([3, 4])), 32), n_steps=8, scale_actions=True)
    further.take_weights(path)
    obs = torch.rand(100, 2) * 2 - 1
    assert torch.equal(further.act(obs), model.act(obs))
    stable_baselines3.PPO.load(path)


def test_bc_without_a_teacher_says_so() -> None:
    model = BC("MlpPolicy", make("cartpole", num_envs=4), n_steps=8, batch_size=32)
    with pytest.raises(ValueError, match="has no expert: name another teacher"):
        model.learn(100)
