"""The group of an environment's symmetries: how many there are, its table, and what does not fit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from gymnasium.spaces import Box, MultiDiscrete

from palaestra.envs import make
from palaestra.envs.cartpole import CartPole
from palaestra.envs.core.symmetries import SignedPermutation, Symmetry, SymmetryGroup
from palaestra.envs.core.symmetries.group import checked_symmetries

EXCHANGE, FLIP = SignedPermutation.exchanging(2, (0, 1)), SignedPermutation.flipping(4)
EQUAL = {"stock": [4, 4], "quality": [4.0, 4.0]}


@pytest.mark.parametrize(
    ("name", "arguments", "size"),
    [
        ("snake-small", {}, 2),
        ("snake-small", {"observation": "grid"}, 2),
        ("snake-small", {"actions": "absolute"}, 8),
        ("snake-small", {"actions": "absolute", "observation": "grid"}, 8),
        ("snake-small", {"max_episode_steps": 50}, 2),
        ("snake-small", {"frame": 8}, 2),
        ("snake-small", {"frame": 10, "actions": "absolute", "observation": "grid"}, 8),
        ("cartpole", {}, 2),
        ("pricing-two", EQUAL, 2),
        ("reach", {}, 2),
        ("reach", {"control": "cartesian", "sensor_noise": 0.01, "action_delay": [0, 2]}, 2),
    ],
)
def test_the_size_of_each_group(name: str, arguments: dict[str, Any], size: int) -> None:
    batch: Any = make(name, 1, "cpu", **arguments)
    assert len(SymmetryGroup.of(batch.env)) == size


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        *(("pricing-two", {}), ("pricing-two", EQUAL | {"stock": [4, 5]}), ("pricing", {}), ("pricing-duopoly", {})),
        *(("reach-torque", {}), ("reach", {"robot": "ur5e"}), ("reach", {"joint_offset": 0.1})),
        ("snake-small", {"sticky_actions": 0.1}),
    ],
)
def test_where_there_are_none(name: str, arguments: dict[str, Any]) -> None:
    batch: Any = make(name, 1, "cpu", **arguments)
    assert not checked_symmetries(batch.env)
    with pytest.raises(ValueError, match=r"names no symmetries \(with these .*\), as symmetry=none allows$"):
        SymmetryGroup.of(batch.env)


def test_the_table_is_that_of_a_square() -> None:
    batch: Any = make("snake-small", 1, "cpu", actions="absolute")
    group = SymmetryGroup.of(batch.env)
    table, everything = group.products, set(range(8))
    assert table[0] == tuple(range(8))  # the first is the identity
    assert all({*row} == everything for row in table)
    assert all(table[table[a][b]][c] == table[a][table[b][c]] for a in range(8) for b in range(8) for c in range(8))
    orders = [next(n for n in range(1, 9) if _power(table, g, n) == 0) for g in range(8)]
    assert sorted(orders) == [1, 2, 2, 2, 2, 2, 4, 4]  # quarter turns, a half turn, four mirrors
    for g in range(8):
        for h in range(8):
            assert group.observations[table[g][h]] == group.observations[g].after(group.observations[h])
            assert group.actions[table[g][h]] == group.actions[g].after(group.actions[h])


def _power(table: Any, element: int, exponent: int) -> int:
    power = 0
    for _ in range(exponent):
        power = table[element][power]
    return power


class Named(CartPole):
    """CartPole with symmetries of a test."""

    def __init__(self, *named: Any, change: Callable[[Any], None] = lambda env: None) -> None:
        super().__init__()
        self.named = list(named)
        change(self)

    def symmetries(self) -> Any:
        return self.named


def cube(env: Any) -> None:
    env.observation_space = Box(-1.0, 1.0, (5,))


def uneven(env: Any) -> None:
    env.action_space = Box(-1.0, 2.0, (2,))


def several(env: Any) -> None:
    env.action_space = MultiDiscrete([2, 2])


@pytest.mark.parametrize(
    ("env", "said"),
    [
        (Named("mirror"), r"symmetries\(\) must return a sequence of Symmetry, got \['mirror'\]"),
        (
            Named(Symmetry("s", abs, SignedPermutation.flipping(3), EXCHANGE)),
            "symmetry 's': its map of observations must be of 4 numbers, got 3",
        ),
        (
            Named(Symmetry("s", abs, FLIP, SignedPermutation.identity(3))),
            "symmetry 's': its map of actions must be of 2 numbers without signs, got 3",
        ),
        (
            Named(Symmetry("s", abs, FLIP, SignedPermutation.flipping(2))),
            "symmetry 's': its map of actions must be of 2 numbers without signs, got 2",
        ),
        (
            Named(Symmetry("s", abs, SignedPermutation.exchanging(4, (0, 2)), EXCHANGE)),
            "symmetry 's': its map of observations leaves the bounds of observation 0, -4.8 … 4.8",
        ),
        (
            Named(Symmetry("s", abs, FLIP, SignedPermutation.flipping(2)), change=uneven),
            "symmetry 's': its map of actions leaves the bounds of action 0, -1 … 2",
        ),
        (
            Named(Symmetry("s", abs, FLIP, EXCHANGE), change=several),
            r"symmetry 's': its map of actions needs a Box or Discrete space, the environment has MultiDiscrete.*",
        ),
        (
            Named(Symmetry("s", abs, (0, 1, 2, 3), EXCHANGE)),  # type: ignore[arg-type]
            r"symmetry 's': its map of observations must be a SignedPermutation, got \(0, 1, 2, 3\)",
        ),
        (
            Named(
                *(
                    Symmetry(f"s{k}", abs, SignedPermutation.exchanging(5, (k, k + 1)), SignedPermutation.identity(2))
                    for k in range(4)
                ),
                change=cube,
            ),
            "the symmetries generate more than 48 maps: name fewer",
        ),
    ],
)
def test_what_does_not_fit_is_told_in_one_line(env: Named, said: str) -> None:
    with pytest.raises(ValueError, match=f"^{said}$"):
        SymmetryGroup.of(env)
