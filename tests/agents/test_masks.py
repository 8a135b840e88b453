"""Action masks: no agent takes an illegal action or hopes for one, and each finds the best of the legal ones."""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
import torch
from gymnasium.spaces import Box, Discrete
from hypothesis import given
from hypothesis import strategies as st
from stable_baselines3.common.distributions import CategoricalDistribution
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.utils import LinearSchedule
from torch import Tensor
from torch.distributions import Categorical
from walk import bootstrap_densely

from palaestra.agents import DQN, PPO, PQN
from palaestra.agents import q_learning as base
from palaestra.agents.buffers.replay import Transitions
from palaestra.envs import TensorEnv, TensorVectorEnv
from palaestra.envs.core.rng import Rng, env_keys
from palaestra.train.evaluation.policies import AgentPolicy


@dataclass(frozen=True)
class DoorState:
    open: Tensor  # bool [N, 4] doors that may be taken
    steps: Tensor  # int64 [N]


class Doors(TensorEnv[DoorState]):
    """Four doors, the a-th pays a. Door 0 is always open, each other one with probability 1/2 at every step.

    Observed are the open doors. Every other episode of 4 steps terminates, the rest are cut after 6.

    Known answer: the highest open door, worth E = 3/2 + 2/4 + 1/8 = 17/8 a step. Without ends, Q(s, a) = a +
    γ E / (1 − γ); an agent that hopes for closed doors takes E for 3.
    """

    max_episode_steps = 6

    def __init__(self, endless: bool = True) -> None:
        self.observation_space, self.action_space = Box(0.0, 1.0, (4,)), Discrete(4)
        self.endless, self.illegal, self.taken = endless, 0, 0

    def _doors(self, rng: Rng) -> Tensor:
        draw = rng.uniform(shape=(4,)) < 0.5
        return draw | (torch.arange(4, device=self.device) == 0)

    def reset(self, rng: Rng) -> DoorState:
        return DoorState(self._doors(rng), torch.zeros(rng.num_envs, dtype=torch.int64, device=self.device))

    def step(self, state: DoorState, action: Tensor, rng: Rng) -> tuple[DoorState, Tensor, Tensor]:
        self.illegal += int((~state.open.gather(1, action.unsqueeze(1))).sum())
        self.taken += len(action)
        after = DoorState(self._doors(rng), state.steps + 1)
        ended = torch.zeros_like(after.open[:, 0]) if self.endless else (after.steps == 4) & after.open[:, 3]
        # nothing may be done after the end
        return DoorState(after.open & ~ended.unsqueeze(1), after.steps), action.float(), ended

    def observe(self, state: DoorState) -> Tensor:
        return state.open.float()

    def action_mask(self, state: DoorState) -> Tensor:
        return state.open


def doors(n: int = 32, **kwargs: Any) -> TensorVectorEnv[DoorState]:
    return TensorVectorEnv(Doors(**kwargs), n, device="cpu")


LEARNING = {"seed": 1, "gamma": 0.5, "learning_rate": LinearSchedule(1e-2, 1e-4, 1.0)}
Q_LEARNING = {**LEARNING, "exploration_fraction": 0.5, "exploration_final_eps": 0.3}
REPLAY = {"buffer_size": 4000, "learning_starts": 64, "batch_size": 64, "train_freq": 1, "gradient_steps": 1}
AGENTS: dict[str, Any] = {
    "dqn": (DQN, 32 * 250, {**Q_LEARNING, **REPLAY, "target_update_interval": 64}),
    "double": (DQN, 32 * 250, {**Q_LEARNING, **REPLAY, "target_update_interval": 64, "double_q": True}),
    # λ = 0, since returns over several steps contain what exploration costs
    "pqn": (PQN, 32 * 16 * 30, {**Q_LEARNING, "n_steps": 16, "batch_size": 128, "gae_lambda": 0.0}),
    "ppo": (PPO, 32 * 16 * 14, {**LEARNING, "n_steps": 16, "batch_size": 128, "ent_coef": 0.01}),
}


@cache
def trained(name: str) -> tuple[Any, Any]:
    """A trained agent, and the rules that it was trained with."""
    kind, steps, settings = AGENTS[name]
    env = doors()
    return kind("MlpPolicy", env, **settings).learn(steps), env.env


@pytest.mark.parametrize("name", AGENTS)
def test_agents_keep_to_the_mask_and_learn_the_best(name: str) -> None:
    model, rules = trained(name)
    assert rules.illegal == 0
    assert rules.taken == model.num_timesteps
    best = (torch.arange(4) * torch.ones(500, 1)).long()
    for deterministic in (True, False):
        other = doors(500)
        policy = AgentPolicy(model, deterministic)
        obs, _ = other.reset(seed=10**9)
        for _ in range(8):
            actions = policy(other, obs)
            if deterministic:
                assert torch.equal(actions, (best * obs.long()).amax(1))
            obs, *_ = other.step(actions)
        assert other.env.illegal == 0  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["dqn", "double", "pqn"])
def test_targets_do_not_hope_for_illegal_actions(name: str) -> None:
    """Q(s, a) = a + γ E / (1 − γ) = a + 17/8 for open doors; one that hopes would find a + 3."""
    model, _ = trained(name)
    obs, _ = doors(300).reset(seed=10**9)
    with torch.no_grad():
        q_values = model.q_net(obs)
    error = (q_values - torch.arange(4) - 17 / 8)[obs > 0]
    assert error.abs().mean() < 0.15


@pytest.mark.parametrize("name", AGENTS)
def test_ends_without_legal_actions(name: str) -> None:
    """Nothing is finite about max over no action: it must not reach the weights, on any device."""
    kind, _, settings = AGENTS[name]
    env = doors(endless=False)
    model = kind("MlpPolicy", env, **settings)
    if name == "pqn":
        bootstrap_densely(model)
    model.learn(32 * 32)
    assert env.env.illegal == 0  # type: ignore[attr-defined]
    assert all(p.isfinite().all() for p in model.policy.parameters())
    assert model._losses[0].isfinite()


def test_q_targets_with_masks_by_hand() -> None:
    """Target network (10, 20, 30, 40), online (1, 4, 2, 3); doors 0 and 2 are open; r = 1, γ = 1/2.

    DQN: 1 + ½ · 30 = 16; double: online prefers 2, the same. Doors 0 and 1: 11. Terminated, no door: 1.
    """
    model = DQN("MlpPolicy", doors(1), learning_starts=0, buffer_size=10)
    model._setup_learn(10, None)
    model._online.infer = lambda obs: torch.tensor([[1.0, 4.0, 2.0, 3.0]]).expand(len(obs), 4)  # type: ignore[method-assign]
    model._target.infer = lambda obs: torch.tensor([[10.0, 20.0, 30.0, 40.0]]).expand(len(obs), 4)  # type: ignore[method-assign]
    after = {"open": torch.tensor([[1, 0, 1, 0], [1, 1, 0, 0], [0, 0, 0, 0]]).bool(), "steps": torch.zeros(3).long()}
    zeros = torch.zeros(3, dtype=torch.int64)
    batch = Transitions(after, zeros, torch.ones(3), torch.tensor([0.5, 0.5, 0.0]), after, torch.ones(3), zeros)
    for double_q in (False, True):
        model.double_q = double_q
        assert model._targets(batch).tolist() == [16.0, 11.0, 1.0]


def test_a_draw_without_a_transition_and_without_legal_actions_is_harmless() -> None:
    """Where an episode was cut in a state without open doors, max Q is −∞; times a weight of 0 that would be NaN."""
    model = DQN("MlpPolicy", doors(1), learning_starts=0, buffer_size=10)
    model._setup_learn(10, None)
    assert model.replay is not None
    model.replay.content["open"].fill_(False)
    found = model.replay.gather(torch.tensor([0]))  # where the environment is now
    assert found.weights.tolist() == [0.0]
    assert model._targets(found).tolist() == [0.0]
    model._begin_update()
    assert model._update(found)[0] == 0.0
    assert all(p.isfinite().all() for p in model.policy.parameters())


def test_pqn_bootstraps_from_the_best_legal_action() -> None:
    """Q = (10, 20, 30, 40) everywhere, γ = 1/2: the cut step gets 5, 10, 15 or 20, by the last state's doors."""
    env = doors(16)
    model = PQN("MlpPolicy", env, n_steps=6, gamma=0.5, seed=0)
    model._online.infer = lambda obs: torch.tensor([[10.0, 20.0, 30.0, 40.0]]).expand(len(obs), 4)  # type: ignore[method-assign]
    _, callback = model._setup_learn(10**6, None)
    model.collect_rollouts(model.env, callback, model.train_freq, None)
    assert env.final_state is not None
    best = (torch.arange(4) * env.final_state.open).amax(1)
    assert set(best.tolist()) == {0, 1, 2, 3}
    assert torch.equal(model.rollout_buffer.rewards[5], model.rollout_buffer.actions[5] + 5.0 * (best + 1))


def test_random_actions_are_uniform_over_the_legal_ones() -> None:
    n = 30_000
    keys = env_keys(0, torch.arange(n), 1)
    mask = torch.tensor([[True, False, True, True]]).expand(n, 4)
    q_values = torch.tensor([[0.0, 9.0, 1.0, 0.0]]).expand(n, 4)
    for epsilon in (1.0, 0.3):
        shares = base.epsilon_greedy(q_values, epsilon, Rng(keys, 0), mask).bincount(minlength=4) / n
        p = torch.tensor([epsilon / 3, 0.0, epsilon / 3 + 1 - epsilon, epsilon / 3])
        assert ((shares - p).abs() <= 5 * (p * (1 - p) / n).sqrt()).all()
        assert not base.epsilon_greedy(q_values, epsilon, Rng(keys, 0), torch.zeros_like(mask)).any()


# ------------------------------------------------------------------------------------------- PPO's distribution


@given(seed=st.integers(0, 2**31), scale=st.sampled_from([0.0, 1.0, 30.0]))
def test_log_probabilities_and_entropy_equal_torch(seed: int, scale: float) -> None:
    """Against torch's Categorical with logits −∞, gradients too; a single legal action has probability 1."""
    generator = torch.Generator().manual_seed(seed)
    model = PPO("MlpPolicy", doors(), n_steps=8, batch_size=32, seed=0)
    model.policy.action_net.weight.data.mul_(100 * scale)  # type: ignore[operator]
    obs, mask = torch.rand(40, 4, generator=generator), torch.rand(40, 4, generator=generator) < 0.5
    mask[:, 1] |= ~mask.any(1)
    actions = torch.multinomial(mask.float(), 1, generator=generator).squeeze(1)
    seen: list[Any] = []

    def policy_loss(*found: Any) -> tuple[Tensor, float]:
        seen.extend(found)
        return torch.ones(40), 1.0

    model._actor_critic.learn(obs, actions, mask, policy_loss, torch.zeros_like)
    ours = [p.grad.clone() for p in model.policy.action_net.parameters() if p.grad is not None]
    log_prob, entropy = seen
    logits = model.policy.get_distribution(obs).distribution.logits  # type: ignore[union-attr]
    reference = Categorical(logits=logits.masked_fill(~mask, -torch.inf))
    torch.testing.assert_close(log_prob, reference.log_prob(actions))
    torch.testing.assert_close(entropy, reference.entropy(), rtol=1e-4, atol=1e-5)
    alone = mask.sum(1) == 1
    assert (log_prob[alone].abs() + entropy[alone].abs() == 0).all()
    model.policy.zero_grad()
    shares = torch.softmax(logits.masked_fill(~mask, -torch.inf), 1)
    plain = torch.where(mask, shares * torch.where(mask, shares, 1.0).clamp(min=1e-38).log(), 0.0).sum(1)
    (reference.log_prob(actions).sum() - plain.sum()).backward()  # type: ignore[no-untyped-call]
    theirs = [p.grad for p in model.policy.action_net.parameters()]
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)


def test_sampled_frequencies_equal_torch() -> None:
    n = 30_000
    env = doors(n)
    model = PPO("MlpPolicy", env, n_steps=1, batch_size=n, seed=0)
    obs = torch.tensor([[1.0, 0.0, 1.0, 1.0]]).expand(n, 4)
    mask = obs.bool()
    (noise,) = model._actor_critic.noise(env_keys(0, torch.arange(n), 1), range(1))
    actions, _, log_prob = model._actor_critic.sample(obs, noise, mask)
    logits = model.policy.get_distribution(obs[:1]).distribution.logits  # type: ignore[union-attr]
    p = torch.softmax(logits.masked_fill(~mask[:1], -torch.inf), 1)[0]
    shares = actions.bincount(minlength=4) / n
    assert ((shares - p).abs() <= 5 * (p * (1 - p) / n).sqrt()).all()
    torch.testing.assert_close(log_prob, p.log()[actions])


class OwnForward(ActorCriticPolicy):
    """Overrides SB3's, so that nobody knows where its logits are."""

    def forward(self, obs: Any, deterministic: bool = False) -> Any:
        return super().forward(obs, deterministic)


class OwnDistribution(ActorCriticPolicy):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.action_dist = type("Mine", (CategoricalDistribution,), {})(4)


class Free(Doors):
    """Without masks: closed doors pay too."""

    action_mask = TensorEnv.action_mask


@pytest.mark.parametrize("policy", [OwnForward, OwnDistribution])
def test_a_policy_that_cannot_keep_to_masks_is_refused(policy: type[ActorCriticPolicy]) -> None:
    message = f"the environment has action masks, which {policy.__name__} would not keep to"
    settings = {"n_steps": 4, "batch_size": 16, "seed": 0}
    with pytest.raises(ValueError, match=message):
        PPO(policy, doors(4), **settings)
    model = PPO(policy, TensorVectorEnv(Free(), 4, device="cpu"), **settings).learn(16)
    with pytest.raises(ValueError, match=message):
        model.set_env(doors(4))
    obs, mask = torch.ones(4, 4), torch.eye(4).bool()
    for rng in (None, Rng(env_keys(0, torch.arange(4), 1), 0)):
        assert model.act(obs, rng).shape == (4,)
        with pytest.raises(ValueError, match=message):
            model.act(obs, rng, mask)


def test_masks_are_those_of_the_step_in_the_rollout() -> None:
    """What the update sees: the mask of a row is that of its own observation, and the first ratio is 1."""
    model = PPO("MlpPolicy", doors(8), n_steps=16, batch_size=128, n_epochs=1, seed=0).learn(128)
    buffer = model.rollout_buffer
    assert torch.equal(buffer.masks, buffer.observations > 0)  # type: ignore[operator, arg-type]
    assert abs(float(model._losses[list(PPO._summaries).index("approx_kl")])) < 1e-6


@pytest.mark.parametrize("name", AGENTS)
def test_a_loaded_agent_keeps_to_the_mask(name: str) -> None:
    kind, _, settings = AGENTS[name]
    model = kind("MlpPolicy", doors(), **settings).learn(32 * 16)
    buffer = io.BytesIO()
    model.save(buffer)
    env = doors()
    kind.load(buffer, env=env).learn(32 * 16, reset_num_timesteps=False)
    assert env.env.illegal == 0  # type: ignore[attr-defined]
    assert env.env.taken > 0  # type: ignore[attr-defined]
