"""The time-optimal bound: closed forms, the Panda's stored one, and what a run keeps of it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from arm_play import GANTRY
from whole_steps import fewest_steps, played

from palaestra.envs.arm import PANDA, PANDA_READY
from palaestra.envs.arm.panda import PANDA_TARGETS
from palaestra.envs.arm.reach import PERIOD, Reach
from palaestra.envs.arm.robots.panda_bound import held_out
from palaestra.envs.arm.robots.scores import held_out_bound, held_out_targets, task_digest
from palaestra.envs.arm.robots.time_bound import time_bound
from palaestra.envs.arm.task import TOLERANCE


def seconds(distance: float, velocity: float, acceleration: float) -> float:
    """From rest, without having to stop."""
    if distance <= velocity**2 / (2 * acceleration):
        return math.sqrt(2 * distance / acceleration)
    return velocity / acceleration + (distance - velocity**2 / (2 * acceleration)) / velocity


def test_a_gantry_takes_what_its_slowest_axis_takes() -> None:
    rng = np.random.default_rng(0)
    start, targets = (0.1, -0.2, 0.9), rng.uniform((-1, -1, 0), (1, 1, 2), (200, 3))
    limits = list(zip(GANTRY.velocity, GANTRY.acceleration, strict=True))
    expected = [max(seconds(abs(d), *limit) for d, limit in zip(x - start, limits, strict=True)) for x in targets]
    bound = time_bound(GANTRY, start, torch.tensor(targets), 0.02)
    assert bound.seconds.numpy() == pytest.approx(np.array(expected), rel=1e-3, abs=2e-4)
    less = np.clip(np.abs(targets - start) - 0.02, 0, None)
    near = [max(seconds(d, *limit) for d, limit in zip(x, limits, strict=True)) for x in less]
    assert (bound.within_tolerance.numpy() > np.array(near) - 1e-3).all()  # a ball lies within its cube
    assert (bound.within_tolerance <= bound.seconds).all()


def test_it_finds_the_bound_that_a_longer_search_has_stored_of_the_panda() -> None:
    """100 of the 1,000 targets: 0.1 and 1 ms on average, never below by more than the search's own tolerance."""
    stored = {key: np.array(held_out()[key])[:100] for key in ("target", "seconds", "seconds_within_tolerance")}
    bound = time_bound(PANDA, PANDA_READY, torch.tensor(stored["target"]), TOLERANCE)
    for found, key, mean in zip(bound, ("seconds", "seconds_within_tolerance"), (3e-4, 2e-3), strict=True):
        more = found.numpy() - stored[key]
        assert more.min() > -1e-3, key
        assert abs(more.mean()) < mean, key


def test_held_out_targets_are_those_of_evaluations() -> None:
    assert held_out_targets(PANDA_TARGETS).numpy() == pytest.approx(np.array(held_out()["target"]), abs=1e-7)


def test_an_unreached_target_has_no_bound() -> None:
    far = torch.tensor([[0.5, 0.0, 0.4], [3.0, 0.0, 0.4]], dtype=torch.float64)
    bound = time_bound(PANDA, PANDA_READY, far, TOLERANCE)
    assert bound.seconds.isfinite().tolist() == [True, False]
    assert held_out_bound(PANDA, PANDA_READY, ((0.4, 3.0), (0.0, 0.1), (0.2, 0.3)), TOLERANCE, PERIOD) == {}


def test_the_reference_of_a_gantry_is_that_of_its_closed_form() -> None:
    env = Reach(GANTRY, start=(0.0, 0.0, 1.0), targets=((-0.8, 0.8), (0.3, 0.8), (0.4, 1.6)))
    targets = held_out_targets(env.targets).numpy()
    limits = list(zip(GANTRY.velocity, GANTRY.acceleration, strict=True))
    moves = targets - np.array(env.start)
    mean = np.mean([max(seconds(abs(d), *limit) for d, limit in zip(x, limits, strict=True)) for x in moves])
    assert env.summary(np.ones(2), np.array([20, 40]), None)["seconds_per_bound"] == pytest.approx(1.5 / mean, rel=2e-3)
    reference = env.reference
    assert reference.optimum is not None
    gain = 10 * np.clip(np.linalg.norm(moves, axis=1) - TOLERANCE, 0, None).mean() + 1
    assert (gain - reference.optimum) / 0.1 * PERIOD == pytest.approx(mean, abs=PERIOD)  # in whole steps
    assert reference.random < reference.solved_at < reference.heuristic < reference.optimum  # type: ignore[operator]


def test_a_control_found_in_the_environment_takes_the_bound_in_whole_steps() -> None:
    """What no control beats is what one needs, but for the braking that the bound leaves out."""
    env = Reach("ur5e")
    targets = held_out_targets(env.targets)[:40]
    steps, actions = fewest_steps(env, targets)
    bound = time_bound(env.chain, env.start, targets, TOLERANCE)
    least = (bound.within_tolerance / PERIOD).ceil()
    assert (played(env, actions, int(steps.max())) == steps).all()
    assert (steps >= (bound.within_tolerance / PERIOD - 0.02).ceil()).all()  # the bound's own search, 1 ms
    assert (steps - least).mean() < 0.03


def test_a_run_keeps_the_figures_and_looks_again_where_the_task_is_another() -> None:
    data = Reach.self_contained({"robot": "so101", "control": "cartesian"})["robot"]
    kept = data["bound"]
    assert kept["task"] == task_digest(Reach("so101").chain, Reach("so101").start, Reach("so101").targets)
    forged = {**data, "bound": {**kept, "seconds": 123.0}}
    assert Reach(forged, "cartesian")._bound["seconds"] == 123.0  # no search
    assert Reach({**forged, "start": [0.0, 0.1, -0.6, 1.2, 0.0]})._bound["seconds"] < 1.0
    assert Reach({**forged, "velocity": 5})._bound["seconds"] < 1.0
    assert Reach.self_contained({"robot": data, "control": "cartesian"})["robot"] == data
    assert "bound" not in Reach.self_contained({"robot": "panda"})["robot"]  # its own is stored
