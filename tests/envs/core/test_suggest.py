"""The closest match of a misspelt name."""

from __future__ import annotations

from palaestra.envs.core.suggest import closest


def test_the_closest_name_and_none_that_is_far() -> None:
    assert closest("snaek", ["cartpole", "snake-small", "snake"]) == "snake"
    assert closest("xyz", ["cartpole", "snake"]) is None
    assert closest("snaek", iter(["snake"]), cutoff=0.9) is None
