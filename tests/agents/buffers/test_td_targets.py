"""DQN's targets and loss against numbers worked by hand, with linear Q-networks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from gymnasium.spaces import Box, Discrete
from torch import Tensor

from palaestra.agents import DQN
from palaestra.agents.buffers.prioritized import Priorities
from palaestra.agents.buffers.replay import Content, Replay, Transitions
from palaestra.agents.buffers.stored_observations import ObservationStore, StateStore
from palaestra.agents.reward_norm import RewardScale
from palaestra.envs import TensorEnv, TensorVectorEnv
from palaestra.envs.core.rng import Rng


@dataclass(frozen=True)
class PointState:
    x: Tensor  # float32 [N]
    legal: Tensor  # bool [N, 2]


class Point(TensorEnv[PointState]):
    """A number that is seen as it is."""

    def __init__(self) -> None:
        self.observation_space, self.action_space = Box(-100.0, 100.0, (1,)), Discrete(2)

    def reset(self, rng: Rng) -> PointState:
        return PointState(torch.zeros(rng.num_envs), torch.ones(rng.num_envs, 2, dtype=torch.bool))

    def step(self, state: PointState, action: Tensor, rng: Rng) -> tuple[PointState, Tensor, Tensor]:
        return state, state.x, state.x > 0

    def observe(self, state: PointState) -> Tensor:
        return state.x.unsqueeze(1)


class MaskedPoint(Point):
    def action_mask(self, state: PointState) -> Tensor:
        return state.legal


def model(env: Point | None = None, **kwargs: Any) -> DQN:
    """γ = ½; online Q(x) = (x, 2 − x), target Q′(x) = (10 x, 3)."""
    batch = TensorVectorEnv(env or Point(), 1, device="cpu")
    batch.reset()
    agent = DQN("MlpPolicy", batch, gamma=0.5, policy_kwargs={"net_arch": []}, seed=0, **kwargs)
    agent._stored = ObservationStore(batch, single=True) if env is None else StateStore(batch)
    layers = ((agent.q_net, [1.0, -1.0], [0.0, 2.0]), (agent.q_net_target, [10.0, 0.0], [0.0, 3.0]))
    for net, weight, bias in layers:
        net.load_state_dict(
            {"q_net.0.weight": torch.tensor(weight).unsqueeze(1), "q_net.0.bias": torch.tensor(bias)}, strict=True
        )
    return agent


def points(*x: float) -> Content:
    return {"": torch.tensor(x).unsqueeze(1)}


def batch_of(next_content: Content, discounts: list[float], returns: list[float], **other: Any) -> Transitions:
    count = len(returns)
    filled = {"content": points(*[0.0] * count), "actions": torch.zeros(count, dtype=torch.int64)}
    filled |= {"weights": torch.ones(count), "indices": torch.arange(count)}
    return Transitions(
        returns=torch.tensor(returns), discounts=torch.tensor(discounts), next_content=next_content, **(filled | other)
    )


def test_a_plain_target_takes_the_largest_target_value() -> None:
    """At x = ½: max(5, 3) = 5; at x = 0: max(0, 3) = 3. 1 + ½·5 = 3.5, 2 + ¼·3 = 2.75; after an end only 4."""
    batch = batch_of(points(0.5, 0.0, 0.5), [0.5, 0.25, 0.0], [1.0, 2.0, 4.0])
    assert model()._targets(batch).tolist() == [3.5, 2.75, 4.0]


def test_with_double_q_the_online_network_chooses() -> None:
    """At x = ½ online (½, 1½) chooses the second: 3; at x = 2 online (2, 0) chooses the first: 20; after an end 4."""
    batch = batch_of(points(0.5, 2.0, 0.5), [0.5, 0.25, 0.0], [1.0, 2.0, 4.0])
    assert model(double_q=True)._targets(batch).tolist() == [2.5, 7.0, 4.0]


@pytest.mark.parametrize(("double_q", "expected"), [(False, [2.5, 3.5, 3.5]), (True, [2.5, 3.5, 2.5])])
def test_illegal_actions_do_not_count(double_q: bool, expected: list[float]) -> None:
    """At x = ½ Q′ = (5, 3), and online prefers the second: only it is legal, only the first, both."""
    legal = torch.tensor([[False, True], [True, False], [True, True]])
    state = {"x": torch.full((3,), 0.5), "legal": legal}
    agent = model(MaskedPoint(), double_q=double_q)
    assert agent._targets(batch_of(state, [0.5] * 3, [1.0] * 3)).tolist() == expected


@pytest.mark.parametrize("double_q", [False, True])
def test_an_end_where_nothing_is_legal_is_worth_nothing(double_q: bool) -> None:
    state = {"x": torch.tensor([0.5]), "legal": torch.zeros(1, 2, dtype=torch.bool)}
    agent = model(MaskedPoint(), double_q=double_q)
    assert agent._targets(batch_of(state, [0.0], [7.0])).tolist() == [7.0]


@pytest.mark.parametrize("double_q", [False, True])
def test_targets_over_three_steps(double_q: bool) -> None:
    """Moments x = 0, ½, 1, 3/2 of one episode, 4, 4½, 5 of the next; rewards 1, 2, 4, then 8, 16; γ = ½, n = 3.

    The first episode is cut at x = 3/2, where both choose the first action: Q′ = 15; or it terminates there, and is
    worth nothing more. The second terminates.
    """
    for end in ("cut", "terminated"):
        replay = Replay(10, points(0.0), num_actions=2, gamma=0.5, n_steps=3)
        x = [0.5, 1.0, 1.5, 4.5, 5.0]
        after = [0.5, 1.0, 4.0, 4.5, 5.0]
        for t in range(5):
            terminated = torch.tensor([t == 4 or (t == 2 and end == "terminated")])
            truncated = torch.tensor([t == 2 and end == "cut"])
            zero, reward = torch.zeros(1, dtype=torch.int64), torch.tensor([2.0**t])
            replay.add(zero, reward, terminated, truncated, points(x[t]), points(after[t]))
        agent = model(double_q=double_q)
        found = replay.gather(torch.tensor([0, 1, 2, 4, 5] if end == "cut" else [0, 1, 2, 3, 4]))
        assert found.content[""].flatten().tolist() == [0.0, 0.5, 1.0, 4.0, 4.5]
        value = 15.0 if end == "cut" else 0.0
        first = [1 + 1 + 1 + value / 8, 2 + 2 + value / 4, 4 + value / 2]
        assert agent._targets(found).tolist() == [*first, 8 + 8, 16]


def test_normalised_rewards_scale_the_return_and_not_the_value() -> None:
    """A variance of 4 halves rewards: 3 / 2 + ½·5 = 4."""
    agent = model(normalize_reward=True)
    assert isinstance(agent._reward_scale, RewardScale)
    agent._reward_scale.set_state([0.0, 4.0, 10.0])
    assert agent._targets(batch_of(points(0.5), [0.5], [3.0])).tolist() == pytest.approx([4.0])


def test_the_target_has_no_gradient() -> None:
    assert not model(double_q=True)._targets(batch_of(points(0.5), [0.5], [1.0])).requires_grad


def test_weights_in_the_loss_and_new_priorities() -> None:
    """Q(x = 0) = (0, 2), after an end. Targets 3, ½, 1 and 9 for actions 1, 0, 1, 0, so errors 1, ½, −1, 9.

    Huber: ½, ⅛, ½ and 8½, of weights 1, ½, ¼, 0: (½ + 1/16 + ⅛) / 3 = 11/48. Mean Q: (2 + 0 + 2 + 0) / 4 = 1.
    The gradient of the biases is −(½·½, 1·1 − ¼·1) / 3 = (−1/12, −1/4).
    """
    agent = model(learning_rate=0.0)
    priorities = Priorities(6, 1.0)
    agent.replay = Replay(5, points(0.0), num_actions=2, gamma=0.5, priorities=priorities)
    batch = batch_of(
        points(1.0, 1.0, 1.0, 1.0),
        [0.0] * 4,
        [3.0, 0.5, 1.0, 9.0],
        actions=torch.tensor([1, 0, 1, 0]),
        weights=torch.tensor([1.0, 0.5, 0.25, 0.0]),
        indices=torch.tensor([4, 1, 0, 2]),
    )
    agent._begin_update()
    loss, mean, _ = agent._update(batch).tolist()
    assert loss == pytest.approx(11 / 48)
    assert mean == 1.0
    bias = dict(agent.q_net.named_parameters())["q_net.0.bias"]
    assert bias.grad is not None
    assert bias.grad.tolist() == pytest.approx([-1 / 12, -1 / 4])
    assert priorities.values.tolist() == pytest.approx([1.0, 0.5, 9.0, 0.0, 1.0, 0.0], abs=1e-5)


def test_a_batch_without_weight_changes_nothing() -> None:
    agent = model(learning_rate=1.0)
    agent.replay = Replay(5, points(0.0), num_actions=2, gamma=0.5)
    before = {name: value.clone() for name, value in agent.q_net.state_dict().items()}
    agent._begin_update()
    loss, *_ = agent._update(batch_of(points(0.5, 0.5), [1.0, 1.0], [0.0, 0.0], weights=torch.zeros(2))).tolist()
    assert loss == 0.0
    for name, value in agent.q_net.state_dict().items():
        assert torch.equal(value, before[name])
