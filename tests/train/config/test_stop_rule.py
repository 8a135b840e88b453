"""Rules by which training ends early: known answers, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from palaestra.envs import resolve
from palaestra.train.config.run_config import RunConfig, resolve_config
from palaestra.train.config.schema import ConfigError
from palaestra.train.config.stop_rule import StopRule, stop_rule


def rule(value: Any, env: str = "cartpole", **env_kwargs: Any) -> StopRule | None:
    return stop_rule(value, resolve(env), env_kwargs)


def test_what_a_rule_means() -> None:
    assert rule(None) is None
    assert rule("solved") == StopRule(score=475.0)
    assert rule("solved", "CartPole-v1") == StopRule(score=475.0)
    for value in ("-110.5", -110.5, "-1.105e2"):
        assert rule(value) == StopRule(score=-110.5)
    assert rule(0) == StopRule(score=0.0)
    assert rule("1.5m") == StopRule(seconds=90.0)
    assert rule("plateau") == StopRule(plateau=True)


@pytest.mark.parametrize(
    "value", ["soon", "0m", "-3m", "3 m", "1h", "nan", "inf", "1e999", "", "5X", True, [1], "Solved", "475,5"]
)
def test_what_is_no_rule(value: Any) -> None:
    with pytest.raises(ConfigError, match=r"expected solved, plateau, a score \(475\) or minutes \(10m\)"):
        rule(value)


def test_solved_needs_a_score_and_the_error_names_the_way_out() -> None:
    with pytest.raises(ConfigError, match=r"Pendulum-v1 does not say .*; give a score \(475\), plateau"):
        rule("solved", "Pendulum-v1")


def test_a_small_game_is_solved_by_who_cannot_be_exploited() -> None:
    found = StopRule(unexploitable=True)
    assert rule("solved", "connect-four", rows=4, columns=4, opponent="self") == found
    assert rule("solved", "connect-four", rows=4, columns=4, opponent="two-ply") == found
    assert found.reason([0.9, 0.9], [], 1e9) is None
    assert found.reason([0.9, 0.9], [], 1e9, [1.0, 0.5]) is None
    assert found.reason([0.9, 0.2], [], 0.0, [0.5, 1e-12]) is not None
    assert "no opponent" in found.plan()
    with pytest.raises(ConfigError, match=r"connect-four has chance, or too many positions .*; give a score"):
        rule("solved", "connect-four", opponent="self")


def test_a_score_counts_by_the_lower_end_of_the_repeated_evaluation() -> None:
    found = StopRule(score=475.0)
    assert found.reason([480.0, 490.0], [], 1e9) is None
    assert found.reason([480.0, 490.0], [474.9, 473.0], 1e9) is None
    assert found.reason([480.0, 490.0], [475.0, 473.0], 0.0) == "the agent scores at least 475"


def test_a_plateau_is_five_evaluations_without_a_better_one() -> None:
    found = StopRule(plateau=True)
    rising = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]
    assert all(found.reason(rising[:n], [], 0.0) is None for n in range(8))
    flat = [1.0, 5.0, 4.0, 5.0, 3.0, 5.0, 1.0]
    assert [found.reason(flat[:n], [], 0.0) is not None for n in range(8)] == [False] * 7 + [True]
    assert found.reason([1.0, 5.0, 4.0, 4.0, 4.0, 4.0, 5.5], [], 0.0) is None
    assert found.reason([-200.0] * 20, [], 0.0) is None  # MountainCar before it has reached the top once


def test_minutes_count() -> None:
    assert StopRule(seconds=90.0).reason([], [], 89.9) is None
    assert StopRule(seconds=90.0).reason([], [], 90.0) == "1.5 minutes of training are over"


def test_a_configuration_holds_it_and_is_checked() -> None:
    config = resolve_config("cartpole", stop_at="solved")
    assert RunConfig.from_dict(config.as_dict()) == config
    assert resolve_config("cartpole").stop_at is None
    with pytest.raises(ConfigError, match="expected solved"):
        RunConfig.from_dict({**config.as_dict(), "stop_at": "soon"})
    with pytest.raises(ConfigError, match="use --stop-at solved"):
        resolve_config("cartpole", settings=["stop_at=solved"])
