"""Replayed steps are steps: every environment, whoever holds what, whatever is set in between, whatever fails."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import probes
import pytest
import torch
from replay_cases import CASES, actions_of, assert_same, result_of
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from palaestra.envs import TensorVectorEnv, make
from palaestra.envs.cartpole import CartPole, CartPoleState
from palaestra.envs.core.errors import EnvError
from palaestra.envs.core.replay.recorded_step import RecordedStep
from palaestra.envs.core.replay.replayed_steps import KEPT
from palaestra.envs.core.rng import Rng


def pair(name: str, n: int = 8, **arguments: Any) -> tuple[Any, Any]:
    """Two batches of the same episodes, of which the second one steps as it is."""
    replayed, plain = (make(name, n, "cpu", seed=3, **arguments) for _ in range(2))
    plain.records_steps(False)
    for batch in (replayed, plain):
        batch.reset()
    return replayed, plain


def is_replayed(batch: Any) -> bool:
    return batch._steps.why_not is None and batch._steps.replay is not None


@pytest.mark.parametrize("case", CASES)
def test_a_replayed_step_is_a_step(case: str) -> None:
    """Across ends of episodes: observations, rewards, ends, information, and what a checkpoint would hold."""
    name, arguments = CASES[case]
    replayed, plain = pair(name, max_episode_steps=17, **arguments)
    for step in range(60):
        actions = actions_of(plain, step)
        assert_same(result_of(replayed, actions), result_of(plain, actions), f"step {step}")
        if step % 5 == 0:
            for attribute in KEPT:
                assert_same(getattr(replayed, attribute), getattr(plain, attribute), f"{attribute} after step {step}")
            assert_same(replayed.final_action_masks(), plain.final_action_masks())
    assert is_replayed(replayed), replayed._steps.why_not
    assert_same(replayed.state_dict(), plain.state_dict())


@pytest.mark.parametrize("n", [1, 7, 2500])
def test_any_number_of_environments(n: int) -> None:
    replayed, plain = pair("cartpole", n)
    for step in range(120 if n < 100 else 40):
        actions = actions_of(plain, step)
        assert_same(result_of(replayed, actions), result_of(plain, actions), f"step {step}")
    assert is_replayed(replayed)


class ByColumns(CartPole):
    """Whose observations lie one column after the other."""

    def observe(self, state: CartPoleState) -> Tensor:
        return super().observe(state).t().contiguous().t()


def test_observations_that_lie_by_columns() -> None:
    """With as many environments as numbers in an observation, where one could be taken for the other."""
    replayed, plain = (TensorVectorEnv(ByColumns(), 4, seed=3) for _ in range(2))
    plain.records_steps(False)
    for batch in (replayed, plain):
        batch.reset()
    for step in range(120):
        actions = actions_of(plain, step)
        assert_same(result_of(replayed, actions), result_of(plain, actions), f"step {step}")
    assert is_replayed(replayed)
    assert int(plain.episode.min()) > 1


def test_results_stay_as_they_are() -> None:
    """Whoever holds a result, a view of it or its array finds in it what was there."""
    replayed, _ = pair("snake-small")
    held: list[tuple[Any, Any]] = []
    for step in range(60):
        obs, reward, terminated, _, info = replayed.step(actions_of(replayed, step))
        things = (obs, obs[3], reward.numpy(), terminated, info["episode"]["r"].view(2, 4), replayed.state.head)
        held += [(thing, copy.deepcopy(thing)) for thing in things]
        if step % 4 == 0:
            held.append((info["final_obs"], info["final_obs"].clone()))
    assert is_replayed(replayed)
    assert all(np.array_equal(np.asarray(thing), np.asarray(was)) for thing, was in held)


def test_memory_of_results_is_used_again() -> None:
    batch, _ = pair("cartpole")
    places = set()
    for step in range(60):
        obs = batch.step(actions_of(batch, step))[0]
        places.add(obs.data_ptr())
    assert len(places) < 25  # 11 steps are as they are


def test_a_tensor_saved_for_a_gradient_stays() -> None:
    batch, _ = pair("cartpole")
    weight = torch.ones(4, requires_grad=True)
    losses, expected = [], torch.zeros(4)
    for step in range(40):
        with torch.no_grad():
            obs = batch.step(actions_of(batch, step))[0]
        expected += obs.sum(0)
        losses.append((obs * weight).sum())
        del obs
    torch.stack(losses).sum().backward()
    assert weight.grad is not None
    assert torch.allclose(weight.grad, expected, atol=1e-4)


def test_information_is_a_dictionary() -> None:
    batch, plain = pair("cartpole")
    for step in range(60):
        actions = actions_of(plain, step)
        info, expected = batch.step(actions)[4], plain.step(actions)[4]
        if not expected["_final_obs"].any():
            continue
        for whole in (info, dict(info), {**info}, info.copy(), info | {}, {} | info, pickle.loads(pickle.dumps(info))):
            assert set(whole) - {"ended"} == set(expected)
            assert_same(dict(whole.items())["final_obs"], expected["final_obs"])
        assert "final_obs" in info
        assert_same(info.get("final_obs"), expected["final_obs"])
        assert_same(batch.step(actions)[4].pop("final_obs"), plain.step(actions)[4]["final_obs"])
    assert is_replayed(batch)


def _load(batch: Any) -> None:
    other = make("cartpole", 8, "cpu", seed=1)
    other.reset()
    batch.load_state_dict(other.state_dict())


def test_what_is_set_counts() -> None:
    """A state that is set, or changed in place; counters; another seed; a checkpoint; a jump to an episode."""
    replayed, plain = pair("cartpole")
    changes: list[Callable[[Any], Any]] = [
        lambda batch: setattr(batch, "state", type(batch.state)(*(0.01 * torch.ones(8) for _ in range(4)))),
        lambda batch: batch.state.position.mul_(0.5),
        lambda batch: setattr(batch, "episode_length", batch.episode_length + 490),
        lambda batch: batch.reset(seed=9),
        lambda batch: batch.reset(options={"episode": 4}),
        lambda batch: batch.reset(),
        _load,
        lambda batch: batch.shift_indices(40) or batch.reset(),
        lambda batch: batch.reset_finished(torch.ones(8, dtype=torch.bool), batch.env.observe(batch.state)),
        lambda batch: batch.advance(torch.ones(8, dtype=torch.int64)),
    ]
    for step in range(16 * len(changes)):
        actions = actions_of(plain, step)
        assert_same(result_of(replayed, actions), result_of(plain, actions), f"step {step}")
        if step % 16 == 15:
            for batch in (replayed, plain):
                changes[step // 16](batch)
    assert is_replayed(replayed)


def test_copies_and_pickles_go_on_by_themselves() -> None:
    batch, plain = pair("cartpole")
    for step in range(20):
        batch.step(actions_of(plain, step))
        plain.step(actions_of(plain, step))
    copies = [copy.deepcopy(batch), pickle.loads(pickle.dumps(batch))]
    for step in range(20, 50):
        actions = actions_of(plain, step)
        expected = result_of(plain, actions)
        for each in (batch, *copies):
            assert_same(result_of(each, actions), expected)


def test_changed_rules_count_at_once() -> None:
    replayed, plain = pair("cartpole")
    for step in range(40):
        if step == 20:
            replayed.env.force = plain.env.force = 2.0
        actions = actions_of(plain, step)
        assert_same(result_of(replayed, actions), result_of(plain, actions), f"step {step}")


class Odd(probes.ConstantReward):
    """Rules that a recording cannot hold, by name."""

    count = 0

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind, self.total = kind, torch.zeros(())
        self.noted: list[Tensor] = []

    def step(self, state: Any, action: Tensor, rng: Rng) -> Any:
        after, reward, terminated = super().step(state, action, rng)
        if self.kind == "counts":
            self.count += 1
            reward = reward + self.count
        elif self.kind == "counts in place":
            self.total += 1
            reward = reward + self.total
        elif self.kind == "notes":
            self.noted.append(action)
            reward = reward + len(self.noted)
        elif self.kind == "looks":
            reward = reward + (1.0 if float(action.sum()) > 3 else 0.0)
        elif self.kind == "decides":
            reward = reward + (1.0 if bool((action > 0).any()) else 0.0)
        elif self.kind == "lists":
            reward = reward + float(sum(action.tolist()))
        elif self.kind == "uses NumPy":
            reward = reward + torch.from_numpy(np.cumsum(action.numpy())).float()
        elif self.kind == "finds rows":
            rows = action.nonzero().squeeze(1)
            reward = reward.index_fill(0, rows, 7.0)
        elif self.kind == "draws elsewhere":
            reward = reward + torch.rand(len(reward))
        return after, reward, terminated


@pytest.mark.parametrize(
    "kind",
    ["counts", "counts in place", "notes", "looks", "decides", "lists", "uses NumPy", "finds rows", "draws elsewhere"],
)
def test_odd_rules_run_as_they_are(kind: str) -> None:
    replayed, plain = (TensorVectorEnv(Odd(kind), 8, device="cpu", seed=3) for _ in range(2))
    plain.records_steps(False)
    for batch in (replayed, plain):
        batch.reset()
    for step in range(30):
        actions = actions_of(plain, step)
        torch.manual_seed(step)
        found = result_of(replayed, actions)
        torch.manual_seed(step)
        assert_same(found, result_of(plain, actions), f"step {step}")
    assert not is_replayed(replayed)
    assert replayed._steps.why_not


def test_whoever_looks_at_operations_sees_them() -> None:
    batch, _ = pair("cartpole")
    for step in range(20):
        batch.step(actions_of(batch, step))
    assert is_replayed(batch)
    with Names() as names:
        batch.step(actions_of(batch, 20))
    assert {"sin", "cos", "stack"} <= names.found
    batch.step(actions_of(batch, 21))


class Names(TorchDispatchMode):
    """Names of operations."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.found.add(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


class HandingOn(probes.ConstantReward):
    """Returns what it was given: the state's fields change places, and the actions become a field."""

    max_episode_steps = 9

    def reset(self, rng: Rng) -> Any:
        return Trio(*rng.uniform(shape=(2,)).unbind(1), rng.integers(0, 2))

    def step(self, state: Any, action: Tensor, rng: Rng) -> Any:
        return Trio(state.second, state.first, action), state.first, state.first > 2.0

    def observe(self, state: Any) -> Tensor:
        return (state.first + state.latest).unsqueeze(1)


class Trio(NamedTuple):
    first: Tensor
    second: Tensor
    latest: Tensor


def test_rules_may_return_what_they_were_given() -> None:
    replayed, plain = (TensorVectorEnv(HandingOn(), 4, device="cpu", seed=3) for _ in range(2))
    plain.records_steps(False)
    held = []
    for batch in (replayed, plain):
        batch.reset()
    for step in range(40):
        actions = actions_of(plain, step)
        found, expected = replayed.step(actions), plain.step(actions)
        held.append((found[:4], copy.deepcopy(expected[:4])))
        assert_same(replayed.final_state, plain.final_state)
    assert is_replayed(replayed), replayed._steps.why_not
    for found, expected in held:
        assert_same(found, expected)


class Falling(probes.EndlessReward):
    """Counts steps in its signal, and raises in the thirtieth."""

    max_episode_steps = 100

    def __init__(self) -> None:
        super().__init__()
        self.room = torch.ones(30)

    def step(self, state: Any, action: Tensor, rng: Rng) -> Any:
        after = type(state)(state.signal + 1.0)
        reward = self.room.index_select(0, after.signal.long())
        return after, reward, reward < 0.0


def test_errors_of_rules_are_located_and_change_nothing() -> None:
    batch = TensorVectorEnv(Falling(), 4, device="cpu", seed=3)
    batch.reset()
    for step in range(29):
        batch.step(actions_of(batch, step))
    assert is_replayed(batch)
    before = copy.deepcopy(batch.state_dict())
    for _ in range(2):
        with pytest.raises(EnvError, match=r"Falling: step raises IndexError.* episode 0, step 30"):
            batch.step(actions_of(batch, 0))
        assert_same(batch.state_dict(), before)
    batch.reset()
    batch.step(actions_of(batch, 1))


def test_actions_outside_the_space_are_refused_and_change_nothing() -> None:
    batch, _ = pair("snake-small")
    for step in range(20):
        batch.step(actions_of(batch, step))
    before = copy.deepcopy(batch.state_dict())
    for wrong, words in ((torch.full((8,), 3), "0 … 2"), (torch.full((8,), -1), "0 … 2"), (torch.zeros(7), "shape")):
        with pytest.raises(ValueError, match=words):
            batch.step(wrong.long() if wrong.dtype != torch.float32 else wrong)
    assert_same(batch.state_dict(), before)
    batch.step(actions_of(batch, 1))


def test_an_interrupted_step_has_changed_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    replayed, plain = pair("cartpole")
    run, left = RecordedStep.run, [3]

    def interrupted(self: RecordedStep, side: int) -> Any:
        result = run(self, side)
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt
        return result

    monkeypatch.setattr(RecordedStep, "run", interrupted)
    for step in range(30):
        actions = actions_of(plain, step)
        expected = result_of(plain, actions)
        try:
            found = result_of(replayed, actions)
        except KeyboardInterrupt:
            found = result_of(replayed, actions)
        assert_same(found, expected, f"step {step}")
    assert left[0] < 0


def test_gradients_of_actions_are_followed() -> None:
    batch, _ = pair("reach")
    for step in range(20):
        batch.step(actions_of(batch, step))
    actions = actions_of(batch, 21).requires_grad_()
    _, reward, *_ = batch.step(actions)
    (gradient,) = torch.autograd.grad(reward.sum(), actions)
    assert gradient.abs().sum() > 0


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_modes_of_the_caller(mode: Any) -> None:
    """Steps in inference mode and out of it, in turns."""
    replayed, plain = pair("pricing")
    for step in range(60):
        actions = actions_of(plain, step)
        with mode():
            found = result_of(replayed, actions)
        assert_same(found, result_of(plain, actions), f"step {step}")
        if step % 3 == 0:
            assert_same(result_of(replayed, actions), result_of(plain, actions), f"step {step}")
    assert is_replayed(replayed)


def test_first_states_where_one_environment_ends_far_more_often_than_the_others() -> None:
    """Stocks of the next few episodes of all are used up by one, again and again; steps as they are come between."""
    replayed, plain = pair("snake-small", 16)
    for step in range(400):
        actions = plain.env.expert(plain.state)
        actions[7] = 1  # straight on, into the wall
        if step % 50 in (30, 33):
            replayed.records_steps(step % 50 == 33)
        assert_same(result_of(replayed, actions), result_of(plain, actions), f"step {step}")
    assert int(plain.episode[7]) > 60 > 5 > int(plain.episode[0])
