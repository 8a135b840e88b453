"""Sticky actions, noise and delays: against what they are to do to the environment inside, and against their twins."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from torch import Tensor

from palaestra.envs import Reference, SingleEnv, TensorEnv, TensorVectorEnv, make
from palaestra.envs.cartpole import CartPole
from palaestra.envs.checker.conformance import check_env
from palaestra.envs.checker.value_rules import random_actions
from palaestra.envs.pricing import Pricing
from palaestra.envs.snake import Snake
from palaestra.envs.wrappers import DelayedObservation, FrameStack, ObservationNoise, StickyActions, common_stresses
from palaestra.envs.wrappers.imperfections import GymnasiumDelay, GymnasiumNoise, GymnasiumStickyActions
from palaestra.train.config.run_config import resolve_config
from palaestra.train.config.schema import ConfigError

STEPS, ROWS = 200, 64


def batch_of(env: TensorEnv[Any], rows: int = ROWS) -> TensorVectorEnv[Any]:
    return TensorVectorEnv(env, rows, device="cpu", seed=3)


class Recorder(CartPole):
    """Keeps the actions that arrive, [T] of [N]."""

    def __init__(self) -> None:
        super().__init__()
        self.arrived: list[Tensor] = []

    def step(self, state: Any, action: Tensor, rng: Any) -> Any:
        self.arrived.append(action)
        return super().step(state, action, rng)


# ------------------------------------------------------------------------------------------------------------ sticky


def test_what_arrives_is_the_action_chosen_or_the_one_before() -> None:
    """A step that sticks shows where the chosen action is another than the one before."""
    probability, inside = 0.4, Recorder()
    batch = batch_of(StickyActions(inside, probability), 500)
    batch.reset()
    before, differs, first, others = None, 0, 0, 0
    for step in range(1, 60):
        fresh = batch.episode_length == 0
        actions = random_actions(batch, step)
        batch.step(actions)
        arrived = inside.arrived[-1]
        assert torch.equal(arrived[fresh], actions[fresh])
        if before is not None:
            other = actions != before
            assert torch.equal(arrived[~other & ~fresh], actions[~other & ~fresh])
            others += int((other & ~fresh).sum())
            differs += int((arrived != actions).sum())
            assert torch.equal(arrived[arrived != actions], before[arrived != actions])
        first += int(fresh.sum())
        before = arrived
    assert first > 500
    assert abs(differs / others - probability) < 5 * (probability * (1 - probability) / others) ** 0.5


def test_no_probability_changes_no_bit() -> None:
    plain, sticky = batch_of(Snake(6)), batch_of(StickyActions(Snake(6), 0.0))
    assert torch.equal(plain.reset()[0], sticky.reset()[0])
    for step in range(1, 60):
        actions = random_actions(plain, step)
        for ours, theirs in zip(sticky.step(actions)[:4], plain.step(actions)[:4], strict=True):
            assert torch.equal(ours, theirs)


def test_a_forbidden_action_is_never_repeated() -> None:
    """Prices that only fall: once a price is left, no higher one may come back."""
    market = Pricing(12, 6, prices=[10, 20, 30, 40], markdowns_only=True)
    batch = batch_of(StickyActions(market, 0.8))
    batch.reset()
    last = torch.full((ROWS,), 3)
    for step in range(1, 10):
        fresh = batch.episode_length == 0
        batch.step(random_actions(batch, step, batch.action_masks()))
        arrived = batch.final_state.price  # type: ignore[union-attr]
        assert (arrived <= torch.where(fresh, 3, last)).all()
        last = arrived


def test_only_the_optimum_is_known_of_sticky_actions() -> None:
    assert StickyActions(Snake(6), 0.1).reference == Reference(
        35.0, solved_at=0.97 * 35, source=Snake(6).reference.source
    )
    assert DelayedObservation(Snake(6), 1).reference == ObservationNoise(Snake(6), 0.1).reference == Snake(6).reference


def test_gymnasiums_environments_stick_as_often_and_the_same_again() -> None:
    class Heard(gymnasium.Wrapper[Any, Any, Any, Any]):
        def step(self, action: Any) -> Any:
            heard.append(int(action))
            return self.env.step(action)

    runs = []
    for _ in range(2):
        heard: list[int] = []
        env = GymnasiumStickyActions(Heard(gymnasium.make("CartPole-v1", max_episode_steps=400)), 0.3)
        chosen, fresh = [], []
        env.reset(seed=1)
        random = np.random.default_rng(0)
        over = True
        for _ in range(3000):
            chosen.append(int(random.integers(2)))
            fresh.append(over)
            _, _, terminated, truncated, _ = env.step(chosen[-1])
            if over := terminated or truncated:
                env.reset()
        runs.append(heard)
    others = [i for i in range(1, 3000) if not fresh[i] and chosen[i] != heard[i - 1]]
    assert all(heard[i] == chosen[i] for i in range(3000) if i not in {*others})
    stuck = sum(heard[i] == heard[i - 1] for i in others)
    assert abs(stuck / len(others) - 0.3) < 5 * (0.21 / len(others)) ** 0.5
    assert runs[0] == runs[1]


# ------------------------------------------------------------------------------------------------------------- delay


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("build", [CartPole, lambda: Snake(6), lambda: FrameStack(CartPole(), 2)])
def test_what_is_seen_is_what_was_so_many_steps_ago(build: Callable[[], TensorEnv[Any]], steps: int) -> None:
    plain, late = batch_of(build()), batch_of(DelayedObservation(build(), steps))
    seen = [plain.reset()[0]] * (steps + 1)  # of the running episode, the oldest first
    assert torch.equal(late.reset()[0], seen[0])
    for step in range(1, 80):
        actions = random_actions(plain, step)
        new, reward, terminated, truncated, info = plain.step(actions)
        shown, *outcome, late_info = late.step(actions)
        assert all(map(torch.equal, outcome, (reward, terminated, truncated)))
        seen = [*seen[1:], info["final_obs"]]
        assert torch.equal(late_info["final_obs"], seen[0])
        done = (terminated | truncated).view(-1, *(1,) * (new.dim() - 1))
        seen = [torch.where(done, new, old) for old in seen]
        assert torch.equal(shown, seen[0])


@pytest.mark.parametrize("steps", [1, 4])
def test_gymnasiums_environments_are_as_late(steps: int) -> None:
    ours = SingleEnv(DelayedObservation(CartPole(), steps))
    theirs = GymnasiumDelay(SingleEnv(CartPole()), steps)
    for seed in (1, 2):
        np.testing.assert_array_equal(ours.reset(seed=seed)[0], theirs.reset(seed=seed)[0])
        for step in range(12):
            action = step % 3 % 2
            mine, other = ours.step(action), theirs.step(action)
            np.testing.assert_array_equal(mine[0], other[0])
            assert mine[1:4] == other[1:4]
            if mine[2]:
                break


def test_observations_of_any_kind_come_late() -> None:
    class Words(gymnasium.Env[Any, Any]):
        observation_space = gymnasium.spaces.Dict({"place": Discrete(100)})
        action_space = Discrete(2)

        def reset(self, **kwargs: Any) -> Any:
            self.at = {"place": 0}
            return self.at, {}

        def step(self, action: Any) -> Any:
            self.at["place"] += 1  # in the same object
            return self.at, 0.0, False, False, {}

    env = GymnasiumDelay(Words(), 2)
    assert [env.reset()[0]["place"], *(env.step(0)[0]["place"] for _ in range(5))] == [0, 0, 0, 1, 2, 3]


# ------------------------------------------------------------------------------------------------------------- noise


def test_errors_are_normal_of_that_size_and_change_nothing_else() -> None:
    sizes = [0.1, 0.5, 0.0, 2.0]
    plain, noisy = batch_of(CartPole(), 4000), batch_of(ObservationNoise(CartPole(), sizes), 4000)
    errors = [noisy.reset()[0] - plain.reset()[0]]
    for step in range(1, 4):
        actions = random_actions(plain, step)
        results = [batch.step(actions) for batch in (plain, noisy)]
        errors.append(results[1][0] - results[0][0])
        assert all(map(torch.equal, results[0][1:4], results[1][1:4]))
    every = torch.stack(errors)  # [T, N, 4]
    expected = torch.tensor(sizes)
    torch.testing.assert_close(every.std((0, 1)), expected, rtol=0.03, atol=1e-7)
    assert (every.mean((0, 1)).abs() <= 5 * expected / (4 * 4000) ** 0.5 + 1e-7).all()
    assert torch.corrcoef(every[:, :, 1]).fill_diagonal_(0).abs().max() < 5 / 4000**0.5  # new ones in each step
    assert torch.equal(noisy.env.observe(noisy.state), noisy.env.observe(noisy.state))


def test_noisy_observations_stay_within_the_bounds() -> None:
    batch = batch_of(ObservationNoise(Snake(6), 0.5))
    obs, _ = batch.reset()
    assert obs.min() == 0.0
    assert obs.max() == 1.0
    env = GymnasiumNoise(SingleEnv(Snake(6)), 0.5)
    assert env.observation_space.contains(env.reset(seed=0)[0])
    assert env.observation_space.contains(env.step(1)[0])


def test_the_noise_of_gymnasiums_environments_has_that_size_and_comes_again() -> None:
    def seen() -> Any:
        noisy, plain = GymnasiumNoise(gymnasium.make("Pendulum-v1"), [0.0, 0.25, 0.5]), gymnasium.make("Pendulum-v1")
        first = [env.reset(seed=4)[0] for env in (noisy, plain)]
        pairs = [first, *([env.step(np.array([0.5]))[0] for env in (noisy, plain)] for _ in range(STEPS - 1))]
        return np.array(pairs)

    found = seen()
    errors = found[:, 0] - found[:, 1]
    np.testing.assert_array_equal(found, seen())
    np.testing.assert_array_equal(errors[:, 0], 0.0)
    assert abs(errors[:, 2].std() - 0.5) < 0.5 * 5 / (2 * STEPS) ** 0.5


# ---------------------------------------------------------------------------------------------------- all, and mistakes


@pytest.mark.parametrize(
    "build",
    [
        lambda: StickyActions(CartPole(), 0.25),
        lambda: ObservationNoise(Snake(6), 0.05),
        lambda: DelayedObservation(CartPole(), 2),
        lambda: DelayedObservation(ObservationNoise(StickyActions(Snake(6), 0.5), 0.1), 3),
    ],
)
def test_the_contract_is_kept(build: Callable[[], TensorEnv[Any]]) -> None:
    assert not [finding for finding in check_env(build(), num_envs=24, steps=12) if not finding.passed]


def test_settings_name_them_in_any_environment() -> None:
    settings: dict[str, Any] = {"sticky_actions": 0.25, "observation_noise": 0.01, "delayed_observation": 2}
    for name in ("cartpole", "CartPole-v1"):
        batch = make(name, 3, device="cpu", **settings)
        obs, _ = batch.reset()
        later = [batch.step(torch.ones(3, dtype=torch.int64))[0] for _ in range(4)]
        assert all(o.shape == (3, 4) for o in later)
        assert (obs - later[1]).abs().max() < 0.1 < (obs - later[3]).abs().max()  # pushed, and seen 2 steps late
        batch.close()


@pytest.mark.parametrize(
    ("env", "setting", "text"),
    [
        ("cartpole", "sticky_actions=1", "env.sticky_actions=1: must be a probability, from 0 to below 1"),
        ("CartPole-v1", "sticky_actions=true", "env.sticky_actions=True: must be a probability"),
        ("cartpole", "delayed_observation=0", "env.delayed_observation=0: must be an integer of at least 1"),
        ("CartPole-v1", "delayed_observation=0.5", "env.delayed_observation=0.5: must be an integer of at least 1"),
        ("cartpole", "observation_noise=-1", "env.observation_noise=-1: must be a standard deviation"),
        ("cartpole", "observation_noise=[1, 2]", r"env.observation_noise=\[1, 2\]: has 2 entries, the observation 4"),
        ("Taxi-v4", "observation_noise=1", "env.observation_noise=1: needs Box observations of floating-point"),
    ],
)
def test_a_wrong_setting_is_named(env: str, setting: str, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        resolve_config(env, settings=[f"env.{setting}"])


def test_stresses_that_every_environment_can_have() -> None:
    bounded = common_stresses(Box(np.float32([-1, 0]), np.float32([1, 8])))
    assert bounded["noise_5_percent"] == {"observation_noise": [0.05, 0.2]}
    assert common_stresses(Snake(6).observation_space)["noise_5_percent"] == {"observation_noise": 0.025}
    for space in (CartPole().observation_space, Discrete(5), Box(0, 255, (84, 84), np.uint8)):
        assert set(common_stresses(space)) == {"sticky_actions_25_percent", "delay_1_step", "delay_2_steps"}
