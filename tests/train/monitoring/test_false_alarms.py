"""False alarms on episodes whose states depend on each other, beside those of taking states as independent."""

from __future__ import annotations

import numpy as np
import pytest

from palaestra.train.export.held_out.monitored import Distribution, WatchedNumber, distribution_of, parts_of
from palaestra.train.monitoring.drift import Limits, has_drifted, shift_of

X = WatchedNumber("observation", "x")
LENGTH, LOGS = 100, 200


def episodes(kind: str, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """States [S] of so many episodes and their episodes [S].

    An autoregressive state around a level of the episode's own, a stock that is sold, or the time that is left.
    """
    if kind == "time left":
        values = np.tile(np.arange(LENGTH)[::-1], (count, 1)).astype(float)
    elif kind == "stock":
        values = 15.0 - np.minimum(15, (rng.random((count, LENGTH)) < 0.12).cumsum(1))
    else:
        noise = rng.normal(size=(count, LENGTH))
        values = np.empty((count, LENGTH))
        values[:, 0] = noise[:, 0]
        for t in range(1, LENGTH):
            values[:, t] = 0.95 * values[:, t - 1] + np.sqrt(1 - 0.95**2) * noise[:, t]
        values += rng.normal(size=(count, 1))
    return values.ravel(), np.repeat(np.arange(count), LENGTH)


def share_of_alarms(reference: Distribution, states: int, logs: list[np.ndarray]) -> float:
    alarms = 0
    for values in logs:
        places = np.searchsorted(reference.cuts, values, side="right")
        cells = np.bincount(places, minlength=len(reference.cuts) + 1)
        alarms += bool(has_drifted(shift_of(X, reference, states, cells, 0, 0.0), Limits(), 20))
    return alarms / len(logs)


@pytest.mark.parametrize("kind", ["levels", "stock", "time left"])
@pytest.mark.parametrize("count", [3, 20, 100])
def test_few_false_alarms_and_every_shift_is_found(kind: str, count: int) -> None:
    rng = np.random.default_rng(count)
    values, episode = episodes(kind, 250, rng)
    reference = distribution_of(X, values, [parts_of(episode, n) for n in (1, 2, 4)])
    same = [episodes(kind, count, rng)[0] for _ in range(LOGS)]
    assert share_of_alarms(reference, len(values), same) <= 0.01
    if count >= 20:
        shifted = [log + 1.5 * values.std() for log in same[:40]]
        assert share_of_alarms(reference, len(values), shifted) == 1.0


@pytest.mark.parametrize("kind", ["levels", "stock", "time left"])
def test_a_log_that_ends_in_the_midst_of_an_episode(kind: str) -> None:
    rng = np.random.default_rng(0)
    values, episode = episodes(kind, 250, rng)
    reference = distribution_of(X, values, [parts_of(episode, n) for n in (1, 2, 4)])
    halves = [episodes(kind, 1, rng)[0][: LENGTH * 3 // 5] for _ in range(LOGS)]
    assert share_of_alarms(reference, len(values), halves) <= 0.01


def test_independent_states_would_raise_many() -> None:
    """The very same logs, judged as if each state had been drawn alone."""
    rng = np.random.default_rng(3)
    values, _ = episodes("levels", 250, rng)
    same = [episodes("levels", 3, rng)[0] for _ in range(LOGS)]
    assert share_of_alarms(distribution_of(X, values, []), len(values), same) > 0.5
