"""Recurrent PPO: gradients beside a slow reference, memories through rollouts, what only a memory can learn."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from torch import Tensor, nn

from palaestra.agents import PPO, RecurrentPPO
from palaestra.agents.recurrent.gru_policy import without_memory
from palaestra.envs import TensorVectorEnv, make
from palaestra.envs.core import TensorEnv
from palaestra.train.evaluation.episodes import run_episodes
from palaestra.train.evaluation.policies import AgentPolicy

if TYPE_CHECKING:
    from palaestra.envs.core.rng import Rng

SMALL: dict[str, Any] = {"n_steps": 16, "batch_size": 64, "n_epochs": 2, "sequence_length": 8, "hidden_size": 12}


def agent(env: Any = "cartpole", num_envs: int = 12, **settings: Any) -> RecurrentPPO:
    batch = make(env, num_envs, "cpu", 3, **settings.pop("env_kwargs", {})) if isinstance(env, str) else env
    return RecurrentPPO("MlpPolicy", batch, seed=1, device="cpu", **{**SMALL, **settings})


def slow_loss(model: RecurrentPPO, minibatch: Any, clip_range: float, ent_coef: float) -> Tensor:
    """SB3's loss of a minibatch of sequences, by PyTorch's own cell, layers and distributions, a step at a time."""
    policy, seen = model.policy, minibatch.observations
    cell = nn.GRUCell(policy.features_dim, model.hidden_size)
    for name, parameter in policy.gru.named_parameters():
        del cell._parameters[name]
        setattr(cell, name, parameter)
    memory, starts = (seen[key] for key in seen if key.startswith(("memory", "starts")))
    x = without_memory(seen).view(*starts.shape, -1)
    after = []
    for step, begins in zip(x, starts, strict=True):
        memory = cell(step, memory * (1.0 - begins.float().unsqueeze(1)))
        after.append(memory)
    latent = torch.cat(after)
    logits = policy.action_net(policy.mlp_extractor.policy_net(latent))
    values = policy.value_net(policy.mlp_extractor.value_net(latent)).squeeze(1)
    chosen = torch.distributions.Categorical(logits=logits)
    advantages = (minibatch.advantages - minibatch.advantages.mean()) / (minibatch.advantages.std() + 1e-8)
    ratio = (chosen.log_prob(minibatch.actions) - minibatch.old_log_prob).exp()
    surrogate = torch.min(advantages * ratio, advantages * ratio.clamp(1 - clip_range, 1 + clip_range)).mean()
    squares = nn.functional.mse_loss(minibatch.returns, values)
    return -surrogate - ent_coef * chosen.entropy().mean() + model.vf_coef * squares


@pytest.mark.parametrize("length", [1, 4, 16])
def test_gradients_equal_those_of_a_slow_reference(length: int) -> None:
    """After some learning, so that ratios are not 1; episodes of 5 steps begin and end within the sequences."""
    model = agent(sequence_length=length, env_kwargs={"max_episode_steps": 5}, learning_rate=3e-3)
    model.learn(400)
    for number, minibatch in enumerate(model.rollout_buffer.get(64)):
        model._flat_optimizer.gather()
        model._flat_optimizer.zero_grad(check=False)
        losses, _ = model._losses_of(minibatch, 0.1, None, 0.02)
        model._actor_critic.learn(minibatch.observations, minibatch.actions, minibatch.masks, *losses)
        ours = {name: p.grad.clone() for name, p in model.policy.named_parameters() if p.grad is not None}
        model.policy.zero_grad(set_to_none=True)
        slow_loss(model, minibatch, 0.1, 0.02).backward()
        theirs = {name: p.grad for name, p in model.policy.named_parameters()}
        assert ours.keys() == theirs.keys()
        assert {"gru.weight_hh", "gru.bias_ih"} <= ours.keys()
        for name, gradient in ours.items():
            torch.testing.assert_close(gradient, theirs[name], rtol=1e-4, atol=1e-5, msg=f"{number} {name}")
        model._flat_optimizer.gather()


@pytest.mark.parametrize(
    ("env", "kwargs"), [("cartpole", {"max_episode_steps": 7}), ("pricing-hidden", {"periods": 6})]
)
def test_what_is_learned_from_is_what_acted(env: str, kwargs: dict[str, Any]) -> None:
    """With unchanged weights sequences give the probabilities and values of the rollout again, over episodes' ends."""
    model = agent(env, env_kwargs=kwargs, n_epochs=1, learning_rate=0.0)
    model.learn(12 * 16 * 3)
    buffer = model.rollout_buffer
    assert buffer.dones.any()
    seen = 0
    for minibatch in buffer.get(64):
        params, values = model._actor_critic._params_and_values(minibatch.observations, None, learns=False)
        assert model._actor_critic.head is not None
        log_prob, _ = model._actor_critic.head.log_prob_entropy(params, minibatch.actions)
        torch.testing.assert_close(log_prob, minibatch.old_log_prob, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(values, minibatch.old_values, rtol=1e-5, atol=1e-5)
        seen += len(values)
    assert seen == 12 * 16


def test_minibatches_hold_every_row_once_and_sequences_in_order() -> None:
    model = agent(n_epochs=1)
    model.learn(12 * 16)
    buffer = model.rollout_buffer
    buffer.returns.copy_(torch.arange(16 * 12.0).view(16, 12))  # marks: step · 12 + environment
    marks = []
    for minibatch in buffer.get(64):
        rows = minibatch.returns.view(8, -1)
        assert (rows[1:] - rows[:-1] == 12).all()
        assert ((rows[0] // 12) % 8 == 0).all()
        marks += minibatch.returns.tolist()
    assert sorted(marks) == list(range(16 * 12))


def test_predict_takes_and_gives_memories_as_sb3_contrib_does() -> None:
    model = agent("pricing-hidden", env_kwargs={"periods": 9})
    model.learn(400)
    env = TensorVectorEnv(make("pricing-hidden", 1, periods=9).env, 5, device="cpu", seed=8)
    obs, _ = env.reset()
    state, starts, memory = None, np.ones(5, dtype=bool), model.new_memory(5)
    for _ in range(20):
        actions, state = model.predict(obs.numpy(), state, starts, deterministic=True)
        theirs, memory = model.act_remembering(obs, memory)
        assert actions.tolist() == theirs.tolist()
        np.testing.assert_allclose(state, memory.numpy(), rtol=1e-6)
        obs, _, terminated, truncated, _ = env.step(theirs)
        starts = (terminated | truncated).numpy()
        memory = memory.masked_fill((terminated | truncated).unsqueeze(1), 0.0)
    alone, state = model.predict(obs[0].numpy(), None, None, deterministic=True)
    assert np.shape(alone) == ()
    assert state.shape == (1, 12)
    with pytest.raises(ValueError, match=r"state has shape \(1, 12\), expected \(5, 12\)"):
        model.predict(obs.numpy(), state)


def test_episodes_played_alone_are_those_of_the_batch() -> None:
    """Third episodes: their memories begin with them, whether the first two were played before or not."""
    model = agent(env_kwargs={"velocities": False})
    model.learn(4000)
    policy = AgentPolicy(model)
    env = make("cartpole", 6, "cpu", 9, velocities=False)
    obs, _ = env.reset()
    returns: list[list[float]] = [[] for _ in range(6)]
    while min(map(len, returns)) < 3:
        obs, _, terminated, truncated, info = env.step(policy(env, obs))
        for row in (terminated | truncated).nonzero().flatten().tolist():
            returns[row].append(float(info["episode"]["r"][row]))
    for row in range(6):
        one: Any = make("cartpole", 1, "cpu", 9, velocities=False, first_env_index=row)
        obs, _ = one.reset(options={"episode": 2})
        over = False
        while not over:
            obs, _, terminated, truncated, info = one.step(policy(one, obs))
            over = bool(terminated | truncated)
        assert float(info["episode"]["r"]) == returns[row][2]
    assert len({played[2] for played in returns}) > 1
    assert not policy.deterministic


@dataclass(frozen=True)
class SignalState:
    signal: Tensor  # float32 [N] −1 or 1, shown at first
    step: Tensor  # int64 [N]


class RememberSignal(TensorEnv[SignalState]):
    """A signal is shown at first and is the right action after five steps: without a memory the mean return is 0.5."""

    def __init__(self) -> None:
        self.observation_space, self.action_space = Box(-1.0, 1.0, (2,)), Discrete(2)

    def reset(self, rng: Rng) -> SignalState:
        signal = rng.integers(0, 2) * 2.0 - 1.0
        return SignalState(signal, torch.zeros_like(signal, dtype=torch.int64))

    def step(self, state: SignalState, action: Tensor, rng: Rng) -> tuple[SignalState, Tensor, Tensor]:
        after = SignalState(state.signal, state.step + 1)
        over = after.step == 5
        return after, ((action * 2.0 - 1.0 == state.signal) & over).float(), over

    def observe(self, state: SignalState) -> Tensor:
        return torch.stack((state.signal * (state.step == 0), state.step / 5), 1)


class EndlessSignal(RememberSignal):
    """The signal is the reward of every step, and is shown at first; only the time limit of four steps ends it."""

    max_episode_steps = 4

    def step(self, state: SignalState, action: Tensor, rng: Rng) -> tuple[SignalState, Tensor, Tensor]:
        return SignalState(state.signal, state.step + 1), state.signal, torch.zeros_like(state.signal, dtype=torch.bool)

    def observe(self, state: SignalState) -> Tensor:
        return torch.stack((state.signal * (state.step == 0), torch.zeros_like(state.signal)), 1)


def test_it_learns_what_takes_a_memory_and_ppo_does_not() -> None:
    settings = {"n_steps": 20, "batch_size": 320, "n_epochs": 4, "learning_rate": 5e-3, "gamma": 0.95}
    returns = {}
    for kind, more in ((RecurrentPPO, {"sequence_length": 10, "hidden_size": 16}), (PPO, {})):
        model = kind(
            "MlpPolicy", TensorVectorEnv(RememberSignal(), 32, device="cpu", seed=0), seed=0, **settings, **more
        )
        model.learn(32 * 20 * 30)
        held_out = TensorVectorEnv(RememberSignal(), 500, device="cpu", seed=7)
        returns[kind] = run_episodes(held_out, AgentPolicy(model)).returns.mean()
    assert returns[RecurrentPPO] == 1.0
    assert 0.4 < returns[PPO] < 0.6


def test_the_value_after_a_time_limit_is_that_of_the_memory() -> None:
    """V = ±1 / (1 − γ) by the signal of the first step: without the memory at the end it would be near 0 there."""
    batch = TensorVectorEnv(EndlessSignal(), 32, device="cpu", seed=0)
    settings: dict[str, Any] = {"n_steps": 20, "batch_size": 320, "sequence_length": 20, "gamma": 0.8, "vf_coef": 1.0}
    model = RecurrentPPO("MlpPolicy", batch, seed=0, n_epochs=6, learning_rate=5e-3, hidden_size=16, **settings)
    model.learn(32 * 20 * 60)
    signal = torch.where(model.rollout_buffer.rewards > 2.5, 1.0, torch.sign(model.rollout_buffer.rewards))
    assert float((model.rollout_buffer.values - 5.0 * signal).abs().mean()) < 0.5


def test_a_file_gives_the_agent_again() -> None:
    model = agent("pricing-hidden")
    model.learn(400)
    file = io.BytesIO()
    model.save(file)
    file.seek(0)
    again = RecurrentPPO.load(file, device="cpu")
    obs, memory = torch.rand(7, 3), torch.randn(7, 12)
    for ours, theirs in zip(model.act_remembering(obs, memory), again.act_remembering(obs, memory), strict=True):
        assert torch.equal(ours, theirs)
    assert (again.hidden_size, again.sequence_length) == (12, 8)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sequence_length": 5}, "sequence_length must divide n_steps and batch_size: 5 does not divide n_steps=16"),
        ({"batch_size": 60}, "8 does not divide batch_size=60"),
        (
            {"sequence_length": None, "batch_size": 24},
            r"16 \(that of n_steps unless given\) does not divide batch_size=24",
        ),
        ({"restart_states": 0.5}, "an agent with a memory begins episodes at their beginning"),
        ({"policy_kwargs": {"hidden_size": 3}}, "hidden_size is an option of the agent: it is 12, policy_kwargs say 3"),
    ],
)
def test_bad_settings_are_told(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        agent(**settings)


def test_policies_without_a_memory_and_acting_without_one_are_refused() -> None:
    from stable_baselines3.common.policies import ActorCriticPolicy

    with pytest.raises(ValueError, match="has no memory: the policy must be a GruPolicy"):
        RecurrentPPO(ActorCriticPolicy, make("cartpole", 4, "cpu"), **SMALL)
    with pytest.raises(ValueError, match="acts by act_remembering"):
        agent().act(torch.zeros(12, 4))
