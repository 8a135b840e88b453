"""The checker on environments with goals: rewards that are what compute_reward says, and others."""

from __future__ import annotations

from typing import Any

import gymnasium
from goal_worlds import Bits, NoRule, OneByOne, Point
from gymnasium.envs.registration import EnvSpec

from palaestra.envs.checker.conformance import check_env
from palaestra.envs.checker.findings import Finding


class Bonus(Point):
    """It pays more than its rule says."""

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        obs, reward, *rest = super().step(action)
        return obs, reward + 0.5, *rest


class Rotten(Point):
    """Its spaces are fine, its resets are not."""

    def reset(self, **kwargs: Any) -> Any:
        return super().reset(**kwargs)[0]


def check(env: Any) -> dict[str, Finding]:
    return {f.rule: f for f in check_env(EnvSpec(f"test/{env.__name__}-v0", entry_point=env, max_episode_steps=20))}


def test_environments_that_pay_what_they_say_pass() -> None:
    for env in (Point, Bits):
        assert check(env)["goals"] == Finding("goals", "pass")


def test_what_hindsight_would_learn_wrong_is_told() -> None:
    found = check(Bonus)["goals"]
    assert found.verdict == "fail"
    assert found.detail.startswith("the reward at step 1 is -0.5, and compute_reward gives -1 for its goals")
    assert "compute_reward must give" in check(OneByOne)["goals"].detail
    assert check(NoRule)["goals"].verdict == "does not apply"


def test_other_environments_have_no_such_rule() -> None:
    assert "goals" not in {f.rule for f in check_env(gymnasium.spec("Pendulum-v1"))}
    found = check(Rotten)
    assert not found["reset and step"].passed
    assert "goals" not in found
