"""Figures of the arms: a replay equals the evaluation of the same episodes, and known answers of each figure."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from palaestra.envs.arm.figures.arm_figures import arm_figures
from palaestra.envs.arm.figures.replayed import replayed
from palaestra.envs.arm.figures.targets import reached_maps, time_over
from palaestra.envs.arm.reach import PERIOD, Reach
from palaestra.envs.arm.reach_torque import ReachTorque
from palaestra.envs.arm.robots.panda_bound import held_out
from palaestra.envs.core.reference import BarFigure, LineFigure, MapFigure, RowFigure
from palaestra.train.evaluation.episodes import evaluate
from palaestra.train.evaluation.policies import ExpertPolicy, RandomPolicy

TASKS = {"reach": Reach, "reach-torque": ReachTorque}


def titles(figures: Any) -> list[str]:
    return [figure.title for figure in figures]


@pytest.mark.parametrize("name", TASKS)
def test_a_replay_is_the_evaluation(name: str) -> None:
    """Step by step by itself it gives what the vectorised evaluation of the same episodes gives."""
    env, found = TASKS[name](), evaluate(name, ExpertPolicy(), episodes=24)
    again, played = replayed(env, env.expert, 24), found.played
    assert played is not None
    assert played.successes is not None
    assert again.lengths.tolist() == played.lengths.tolist()
    assert again.arrived.tolist() == played.successes.tolist()
    assert again.rms_jerk == pytest.approx(found.more["rms_jerk"], rel=1e-6)
    for limit, shares in again.shares.items():  # a step counts there if any joint is at its limit
        total = found.more[f"at_{limit}_limit_percent"]
        assert shares.max() - 1e-9 <= total <= shares.sum() + 1e-9
    for errors, tolerance in zip(again.errors, env.tolerances, strict=True):
        assert (errors[-1][again.arrived] <= tolerance).all()
        assert len(errors) == again.lengths.max() + 1


def test_what_is_of_an_ended_episode_stays() -> None:
    env = Reach()
    alone, many = replayed(env, env.expert, 1), replayed(env, env.expert, 16)
    assert many.errors[0][: len(alone.errors[0]), 0].tolist() == alone.errors[0][:, 0].tolist()
    assert (many.errors[0][len(alone.errors[0]) :, 0] == alone.errors[0][-1, 0]).all()
    assert many.ended[0].tolist() == alone.ended[0].tolist()


def test_times_over_the_pandas_bound() -> None:
    bound = np.array(held_out()["seconds_within_tolerance"])
    lengths, successes = np.full(100, 20), np.arange(100) % 2 == 0
    figure, *maps = Reach().report_figures(np.zeros(100), lengths, successes, None)
    assert isinstance(figure, BarFigure)
    assert titles(maps) == ["Targets reached, from above", "Targets reached, from the side"]
    ratio = 20 * PERIOD / bound[:100:2]
    assert (figure.edges[0], figure.edges[-1]) == pytest.approx((ratio.min(), ratio.max()))
    assert (sum(figure.counts), figure.levels) == (50, [("median", pytest.approx(np.median(ratio)))])
    assert "50 of 100 targets were reached" in figure.note


@pytest.mark.parametrize("robot", ["panda", "so101", "ur5e"])
def test_no_time_is_below_the_bound(robot: str) -> None:
    """Of the expert, by the steps that it takes: a bound of the arm's own targets."""
    env = Reach(robot)
    played = evaluate("reach", ExpertPolicy(), episodes=48, env_kwargs={"robot": robot}).played
    assert played is not None
    figure = env.report_figures(played.returns, played.lengths, played.successes, None)[0]
    assert isinstance(figure, BarFigure)
    assert figure.title == "Time over the bound"
    assert figure.edges[0] >= 1.0


@pytest.mark.parametrize("env", [ReachTorque(), Reach(action_delay=1)], ids=["torque", "delayed"])
def test_without_a_bound_times_are_told_beside_the_experts(env: Any) -> None:
    expert = replayed(env, env.expert, 16)
    figure = env.report_figures(np.zeros(16), 2 * expert.lengths, np.ones(16, bool), None)[0]
    assert figure.title == "Time beside the expert's"
    assert figure.levels == [("median", 2.0)]
    assert figure.note == f"Of {expert.arrived.sum()} of the first 16 held-out targets, which both have reached."


def test_an_agent_as_good_as_the_expert_has_its_curves() -> None:
    env = ReachTorque()
    expert = replayed(env, env.expert, 16)
    figures = arm_figures(env, expert.lengths, expert.arrived, env.expert)
    assert titles(figures)[:3] == ["Time beside the expert's", "Distance to the target", "Angle to the target"]
    for figure, errors, scale in zip(figures[1:3], expert.errors, (100.0, 180.0 / np.pi), strict=True):
        assert isinstance(figure, LineFigure)
        assert figure.curves["agent"] == figure.curves["expert"]
        assert figure.curves["agent"] == pytest.approx(scale * np.median(errors, 1), rel=1e-3)
        assert figure.x[:3] == [0.0, 0.02, 0.04]
    (jerk,) = (figure for figure in figures if figure.title == "Jerk")
    assert isinstance(jerk, RowFigure)
    assert jerk.values["this agent"] == jerk.values["expert"]
    assert "Targets reached, from above" not in titles(figures)


def test_an_arm_without_orientations_has_no_angle() -> None:
    env = ReachTorque(orientation=False)
    assert "Angle to the target" not in titles(arm_figures(env, np.full(4, 9), np.ones(4, bool), env.expert))


def test_a_joint_that_is_driven_to_its_end_is_named() -> None:
    """All the way one way with the first joint: no target is reached, and that joint alone is at its end."""
    env = Reach()

    def turning(state: Any) -> torch.Tensor:
        return torch.eye(7)[0].expand(len(state.q), -1)

    figures = arm_figures(env, np.full(8, 100), np.zeros(8, bool), turning)
    named = {figure.title: figure for figure in figures}
    (ends,) = (figure for figure in figures if figure.title == "Joints at an end of their range")
    assert isinstance(ends, RowFigure)
    assert ends.values == {"joint1": 100.0, **{f"joint{n}": 0.0 for n in range(2, 8)}}
    assert "Time over the bound" not in named  # nothing has arrived
    fast = named["Joints at their velocity limit"]
    assert isinstance(fast, RowFigure)
    assert fast.values["joint1"] > 10.0
    assert not any(fast.values[f"joint{n}"] for n in range(2, 8))
    resting = arm_figures(env, np.full(8, 100), np.zeros(8, bool), lambda state: torch.zeros(len(state.q), 7))
    (above,) = (figure for figure in resting if figure.title == "Targets reached, from above")
    assert above.note == "8 of 8 targets were missed. No joint was at an end of its range when time was up."


def test_maps_of_the_targets_that_were_reached() -> None:
    corners = np.array([[x, y, z] for x in (0.0, 3.0) for y in (0.0, 6.0) for z in (0.0, 9.0)])
    arrived = corners[:, 0] > 1.0
    arrived[7] = False  # x 3, y 6, z 9
    above, side = reached_maps(corners, arrived, "a note")
    assert isinstance(above, MapFigure)
    assert isinstance(side, MapFigure)
    none = [None] * 3
    assert above.maps[""] == [[0.0, None, 100.0], none, [0.0, None, 50.0]]
    assert side.maps[""] == [[0.0, None, 100.0], none, [0.0, None, 50.0]]
    assert (above.first, above.steps, above.note) == ((0.5, 1.0), (1.0, 2.0), "a note")
    assert (side.first, side.steps, side.y_label) == ((0.5, 1.5), (1.0, 3.0), "z, m")
    assert reached_maps(corners, np.ones(8, bool), "") == []
    flat = corners * [1, 0, 1]
    assert titles(reached_maps(flat, arrived, "")) == ["Targets reached, from the side"]


def test_nothing_is_told_of_times_where_none_arrived() -> None:
    assert time_over(np.zeros(0), "Times", "other", "") == []


def test_random_play_has_all_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Through the evaluation, as a run makes them."""
    found = evaluate("reach-torque", RandomPolicy(), episodes=8)
    played, rules = found.played, found.rules
    assert played is not None
    assert rules is not None
    figures = rules.report_figures(played.returns, played.lengths, played.successes, None)
    assert titles(figures) == ["Targets reached, from above", "Targets reached, from the side"]
