"""The checker on Gymnasium environments: every rule fails on an environment that breaks it."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from gymnasium.spaces import Box, Dict, Discrete, Tuple

from palaestra.envs.checker.conformance import check_env
from palaestra.envs.checker.findings import Finding
from palaestra.envs.checker.gymnasium_rules import RULES, STRUCTURE, leaves, misfit, same


class Walk(gymnasium.Env[Any, Any]):
    """A healthy environment: a noisy walk between two walls; touching one terminates."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012 (Gymnasium's own type)

    def __init__(self, render_mode: str | None = None) -> None:
        self.observation_space: Any = Box(-1.0, 1.0, (2,))
        self.action_space: Any = Discrete(2)
        self.render_mode = render_mode
        self.place, self.age = 0.0, 0

    def observe(self) -> Any:
        return np.array([self.place, self.age / 1000], dtype=np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.place, self.age = float(self.np_random.uniform(-0.7, 0.7)), 0
        return self.observe(), {}

    def step(self, action: Any) -> Any:
        self.age += 1
        self.place += (0.2 * float(action) - 0.1) * float(self.np_random.uniform())
        self.place = min(max(self.place, -1.0), 1.0)
        return self.observe(), abs(self.place), abs(self.place) > 0.9, False, {}

    def render(self) -> Any:
        return np.zeros((8, 8, 3), dtype=np.uint8)


class TextSpace(Walk):
    def __init__(self, render_mode: str | None = None) -> None:
        super().__init__(render_mode)
        self.action_space = 2


class LonelyReset(Walk):
    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return super().reset(seed=seed)[0]


class OldStep(Walk):
    def step(self, action: Any) -> Any:
        obs, reward, terminated, _, info = super().step(action)
        return obs, reward, terminated, info


class ListInfo(Walk):
    def step(self, action: Any) -> Any:
        return *super().step(action)[:4], []


class RewardArray(Walk):
    def step(self, action: Any) -> Any:
        obs, reward, *rest = super().step(action)
        return obs, np.array([reward]), *rest


class NumberFlag(Walk):
    def step(self, action: Any) -> Any:
        obs, reward, terminated, _, info = super().step(action)
        return obs, reward, int(terminated), False, info


class NumberTruncated(Walk):
    def step(self, action: Any) -> Any:
        return *super().step(action)[:3], 0, {}


class RaisesAtSeven(Walk):
    def step(self, action: Any) -> Any:
        if self.age == 6:
            raise KeyError("no seventh")
        return super().step(action)


class NanObservation(Walk):
    def observe(self) -> Any:
        return super().observe() * (np.nan if self.age == 3 else 1.0)


class InfiniteReward(Walk):
    def step(self, action: Any) -> Any:
        obs, _, *rest = super().step(action)
        return obs, np.inf if self.age == 2 else 0.0, *rest


class DoubleObservation(Walk):
    def observe(self) -> Any:
        return super().observe().astype(np.float64)


class WrongShape(Walk):
    def observe(self) -> Any:
        return super().observe()[:1]


class OutOfBounds(Walk):
    def observe(self) -> Any:
        return super().observe() + np.float32([0.0, 0.9985])


class GlobalRandomness(Walk):
    def step(self, action: Any) -> Any:
        obs, reward, *rest = super().step(action)
        return obs, reward + np.random.rand(), *rest


class Leftovers(Walk):
    """reset forgets the age."""

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        age = self.age
        super().reset(seed=seed)
        self.age = min(age, 50)
        return self.observe(), {}


class ResetRepeats(Walk):
    """Seeds again at every reset."""

    first = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self.first = self.first if seed is None else seed
        return super().reset(seed=self.first)


class SeedIgnored(Walk):
    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return super().reset(seed=None if seed is None else 7)


class MergedDone(Walk):
    def step(self, action: Any) -> Any:
        obs, reward, *_ = super().step(action)
        return obs, reward, self.age >= 20, False, {}


class BothFlags(Walk):
    def step(self, action: Any) -> Any:
        obs, reward, *_ = super().step(action)
        return obs, reward, self.age >= 12, self.age >= 12, {}


class FloatPicture(Walk):
    def render(self) -> Any:
        return np.zeros((8, 8, 3))


class GrowingPicture(Walk):
    def render(self) -> Any:
        return np.zeros((8 + self.age, 8, 3), dtype=np.uint8)


class BrokenPicture(Walk):
    def render(self) -> Any:
        raise ZeroDivisionError("no paint")


class NoOptions(Walk):
    def reset(self, *, seed: int | None = None) -> Any:  # type: ignore[override]
        return super().reset(seed=seed)


class OwnGenerator(Walk):
    """Keeps the rules by a generator of its own; Gymnasium wants its base class seeded."""

    generator = np.random.default_rng(0)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self.generator = self.generator if seed is None else np.random.default_rng(seed)
        self.place, self.age = float(self.generator.uniform(-0.7, 0.7)), 0
        return self.observe(), {}

    def step(self, action: Any) -> Any:
        self.age += 1
        return self.observe(), 0.0, self.age > 5 + self.generator.integers(5), False, {}


class RaisesWhenMade(Walk):
    def __init__(self) -> None:
        raise RuntimeError("no licence")


SPACES, STEP = STRUCTURE
APART, OFFICIAL = "terminated and truncated apart", "gymnasium's check"
CASES: list[tuple[type[Walk], set[str], str]] = [
    (RaisesWhenMade, {"builds"}, "RuntimeError: no licence"),
    (TextSpace, {SPACES}, "action_space must be a gymnasium space, set in __init__, got 2"),
    (LonelyReset, {STEP}, "reset must return (observation, info), info a dict, got array("),
    (OldStep, {STEP}, "step must return (observation, reward, terminated, truncated, info), info a dict, got (array("),
    (ListInfo, {STEP}, "info a dict, got (array("),
    (RewardArray, {STEP}, "reward must be a number, got ndarray"),
    (NumberFlag, {STEP}, "terminated must be a bool, got int 0 at step 1"),
    (NumberTruncated, {STEP}, "truncated must be a bool, got int 0 at step 1"),
    (RaisesAtSeven, {STEP}, "step 7 raises KeyError: 'no seventh' (test_gymnasium_rules.py:"),
    (NanObservation, {"finite numbers"}, "observation is NaN or infinite at step 3"),
    (InfiniteReward, {"finite numbers"}, "reward is inf at step 2"),
    (DoubleObservation, {"observation in space"}, "at reset: observation must be float32, got float64"),
    (WrongShape, {"observation in space"}, "at reset: observation must have shape (2,), got (1,)"),
    (OutOfBounds, {"observation in space"}, "at step 2: observation[1] = 1.0005 is outside -1 … 1: widen"),
    (GlobalRandomness, {"determinism"}, "reward at step 1 differs between two runs"),
    (Leftovers, {"determinism"}, "observation at reset differs between two runs"),
    (ResetRepeats, {"resets differ"}, "reset without a seed starts every episode alike"),
    (SeedIgnored, {"resets differ"}, "different seeds start alike"),
    (MergedDone, {APART}, "every episode terminates at step 20, which is max_episode_steps"),
    (BothFlags, {APART}, "terminated is set whenever truncated is (step 12)"),
    (FloatPicture, {"pictures"}, "render must give uint8 [height, width, 3], got float64 (8, 8, 3)"),
    (GrowingPicture, {"pictures"}, "the size of the picture changes"),
    (BrokenPicture, {"pictures"}, "render after reset raises ZeroDivisionError: no paint (test_gymnasium_rules.py:"),
    (NoOptions, {STEP}, "reset raises TypeError: "),
    (OwnGenerator, {OFFICIAL}, "gymnasium: AssertionError: Expects the random number generator to have been generated"),
]


def spec_of(env: type[gymnasium.Env[Any, Any]], limit: int | None = 20) -> EnvSpec:
    return EnvSpec(f"test/{env.__name__}-v0", entry_point=env, max_episode_steps=limit)


def check(env: type[gymnasium.Env[Any, Any]], limit: int | None = 20) -> dict[str, Finding]:
    return {finding.rule: finding for finding in check_env(spec_of(env, limit))}


@pytest.mark.parametrize(("broken", "rules", "detail"), CASES, ids=[case[0].__name__ for case in CASES])
def test_a_fault_is_found_by_its_rule_alone(broken: type[Walk], rules: set[str], detail: str) -> None:
    failed = {finding.rule: finding.detail for finding in check(broken).values() if not finding.passed}
    if rules != {OFFICIAL}:  # what else Gymnasium's checker looks at differs from version to version
        failed.pop(OFFICIAL, None)
    assert set(failed) == rules, failed
    assert any(detail in text for text in failed.values()), failed


def test_every_rule_has_an_environment_that_breaks_it() -> None:
    assert set().union(*(rules for _, rules, _ in CASES)) == {"builds", *STRUCTURE, *RULES}


@pytest.mark.parametrize("limit", [20, None])
def test_the_healthy_environment_keeps_every_rule(limit: int | None) -> None:
    findings = check(Walk, limit)
    assert list(findings) == ["builds", *STRUCTURE, *RULES]
    assert {rule: f for rule, f in findings.items() if f.verdict != "pass"} == {}


class Parts(Walk):
    """A dictionary of observations, no pictures, one start for all, and an end at step 9 by the rules."""

    metadata = {"render_modes": []}  # noqa: RUF012

    def __init__(self) -> None:
        super().__init__()
        self.observation_space = Dict({"place": Box(-1.0, 1.0), "old": Discrete(2)})

    def observe(self) -> Any:
        return {"place": np.array([self.age / 10], dtype=np.float32), "old": np.int64(self.age > 4)}

    def step(self, action: Any) -> Any:
        self.age += 1
        return self.observe(), 1.0, self.age >= 9, False, {}


class SpacesOfTheClass(Walk):
    """Many write them so; the copies share their random numbers."""

    observation_space: Any = Box(-1.0, 1.0, (2,))
    action_space: Any = Discrete(2)

    def __init__(self, render_mode: str | None = None) -> None:
        self.render_mode, self.place, self.age = render_mode, 0.0, 0


def test_spaces_may_belong_to_the_class() -> None:
    findings = check(SpacesOfTheClass)
    assert all(finding.passed for finding in findings.values()), findings


def test_what_does_not_apply_is_no_fault() -> None:
    findings = check(Parts, None)
    assert {rule for rule, f in findings.items() if f.verdict == "does not apply"} == {"pictures", "resets differ"}
    assert all(finding.passed for finding in findings.values()), findings
    assert "every episode terminates at step 9: if that is a time limit" in findings[APART].detail


@pytest.mark.parametrize("name", ["CartPole-v1", "Pendulum-v1", "FrozenLake-v1", "MountainCar-v0", "Acrobot-v1"])
def test_gymnasiums_own_environments_pass(name: str) -> None:
    findings = check_env(name)
    assert all(finding.passed for finding in findings), findings
    if name == "Pendulum-v1":
        quoted = findings[-1].detail
        assert "gymnasium warns: For Box action spaces, we recommend using a symmetric" in quoted
        assert "\x1b" not in quoted


def test_what_keeps_an_observation_out_of_its_space_is_named_by_its_part() -> None:
    space = Dict({"a": Box(0.0, 1.0, (2, 2)), "b": Tuple((Discrete(3),))})
    good = {"a": np.zeros((2, 2), np.float32), "b": (np.int64(1),)}
    assert misfit(space, good) is None
    assert [name for name, _ in leaves(good)] == ["observation['a']", "observation['b'][0]"]
    high = {**good, "a": np.float32([[0, 0], [2, 0]])}
    assert misfit(space, high) == "observation['a'][1, 0] = 2 is outside 0 … 1: widen the bounds or clip"
    assert "observation['b'] (7,) is not in" in (misfit(space, {**good, "b": (7,)}) or "")
    assert misfit(space, {"a": good["a"]}) is not None
    assert misfit(Box(0.0, 1.0, (1,)), [0.5]) == "observation must be a NumPy array, got list"
    assert same(good, high) == "observation['a']"
    assert same({"x": np.array([np.nan])}, {"x": np.array([np.nan])}) is None
