"""The proof that rules commute: of whole families of maps it lets through those that are symmetries, and no other."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest
import torch
from gymnasium.spaces import Discrete

from palaestra.envs import TensorEnv
from palaestra.envs.arm.reach import Reach
from palaestra.envs.arm.robots.mirror import mirrored_joints
from palaestra.envs.cartpole import CartPole, CartPoleState
from palaestra.envs.core.symmetries import SignedPermutation, Symmetry
from palaestra.envs.core.symmetries.commuting import first_fault
from palaestra.envs.pricing.two_products import TwoProducts
from palaestra.envs.snake import Snake, SnakeState

NUMBERS = ("position", "velocity", "angle", "angular_velocity")
SIGNS = [*itertools.product((1, -1), repeat=4)]


def flipped(signs: tuple[int, ...]) -> Any:
    def state(before: CartPoleState) -> CartPoleState:
        return CartPoleState(**{name: getattr(before, name) * s for name, s in zip(NUMBERS, signs, strict=True)})

    return state


@pytest.mark.parametrize("signs", SIGNS)
@pytest.mark.parametrize("swaps", [False, True])
def test_cartpole_has_one_mirror(signs: tuple[int, ...], swaps: bool) -> None:
    """All changes of signs, with the pushes as they are and exchanged."""
    action = SignedPermutation((1, 0) if swaps else (0, 1))
    fault = first_fault(CartPole(), Symmetry("s", flipped(signs), SignedPermutation((0, 1, 2, 3), signs), action))
    assert (fault is None) == ((signs, swaps) in (((1, 1, 1, 1), False), ((-1, -1, -1, -1), True)))
    assert fault is None or fault.startswith("symmetry 's' does not commute with the rules: ")


@pytest.mark.parametrize("signs", SIGNS[:-1])
def test_what_is_seen_must_be_mapped_as_the_state_is(signs: tuple[int, ...]) -> None:
    seen, pushes = SignedPermutation((0, 1, 2, 3), signs), SignedPermutation((1, 0))
    fault = first_fault(CartPole(), Symmetry("s", flipped((-1, -1, -1, -1)), seen, pushes))
    assert fault is not None
    assert "its observation[" in fault


BOARDS = [(turns, mirrored) for turns in range(4) for mirrored in (False, True)]


def moved(env: Snake, turns: int, mirrored: bool, actions: tuple[int, ...]) -> Symmetry:
    """A board that is mirrored and then turned to the left, seen as that; actions of a test."""
    board = torch.arange(env.cells).view(env.size, env.size)
    source = torch.rot90(board.flip(1) if mirrored else board, turns).flatten()
    images = torch.cat((source.argsort(), torch.tensor([env.cells])))
    side = torch.tensor([((-k if mirrored else k) - turns) % 4 for k in range(4)])

    def state(before: SnakeState) -> SnakeState:
        head, fruit, heading = images[before.head], images[before.fruit], side[before.heading]
        return replace(before, lifetime=before.lifetime[:, source], head=head, fruit=fruit, heading=heading)

    planes = SignedPermutation.of_planes(source.tolist(), 4, behind=1)
    return Symmetry("s", state, planes, SignedPermutation.renumbering(actions))


@pytest.mark.parametrize(("turns", "mirrored"), BOARDS)
def test_a_board_has_eight_symmetries_each_with_one_map_of_the_moves(turns: int, mirrored: bool) -> None:
    env = Snake(4, actions="absolute")
    right = tuple(((-k if mirrored else k) - turns) % 4 for k in range(4))
    found = [
        moves
        for moves in itertools.permutations(range(4))
        if first_fault(env, moved(env, turns, mirrored, moves)) is None
    ]
    assert found == [right]


def test_a_board_that_is_turned_with_the_snake_has_one_mirror() -> None:
    env = Snake(4)
    (mirror,) = env.symmetries()
    identity = SignedPermutation.identity(65)
    found = [
        (seen == mirror.observation, moves)
        for seen in (identity, mirror.observation)
        for moves in itertools.permutations(range(3))
        if first_fault(env, replace(mirror, observation=seen, action=SignedPermutation(moves))) is None
    ]
    assert found == [(True, (2, 1, 0))]


def test_other_planes_in_other_places_are_found() -> None:
    env = Snake(4)
    (mirror,) = env.symmetries()
    exchanged = SignedPermutation.exchanging(65, *((k, 16 + k) for k in range(16))).after(mirror.observation)
    assert first_fault(env, replace(mirror, observation=exchanged)) is not None


def market(second: float = 4.0, stock: int = 5) -> TwoProducts:
    return TwoProducts(periods=20, stock=(5, stock), quality=(4.0, second))


def test_equal_products_may_change_places() -> None:
    (exchange,) = market().symmetries()
    assert first_fault(market(), exchange) is None


@pytest.mark.parametrize(("env", "place"), [(market(second=3.0), "the mean of "), (market(stock=6), "observation")])
def test_products_that_differ_may_not(env: TwoProducts, place: str) -> None:
    """Sales are random: what is bought more often shows in means only."""
    (exchange,) = market().symmetries()
    assert not env.symmetries()
    fault = first_fault(env, exchange)
    assert fault is not None
    assert place in fault


def test_the_other_price_moves_with_its_product() -> None:
    (exchange,) = market().symmetries()
    fault = first_fault(market(), replace(exchange, action=SignedPermutation.identity(121)))
    assert fault is not None


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("env", [market(), Snake(4), Snake(6, "grid", "absolute")], ids=["pricing", "turned", "grid"])
def test_symmetries_pass_whatever_is_drawn(env: TensorEnv[Any], seed: int) -> None:
    assert [first_fault(env, one, seed=seed) for one in env.symmetries()] == [None] * len(env.symmetries())


def test_the_map_of_states_keeps_their_form() -> None:
    (mirror,) = Snake(4).symmetries()
    longer = replace(mirror, state=lambda s: replace(s, head=s.head.float()))
    fault = first_fault(Snake(4), longer)
    assert fault is not None
    assert "its map of states makes torch.float32 (64,) of head, torch.int64 (64,)" in fault
    other = first_fault(Snake(4), replace(mirror, state=lambda s: (s.head,)))
    assert other is not None
    assert "its map of states gives tuple, not SnakeState" in other


PANDA = Reach()


@pytest.mark.parametrize("joint", range(7))
def test_the_panda_has_one_mirror_by_which_four_joints_turn(joint: int) -> None:
    """A joint less, or one more: in the map of states, of what is seen, or of the actions."""
    (mirror,) = PANDA.symmetries()
    assert mirror.action.signs == (-1, 1, -1, 1, -1, 1, -1)
    other = SignedPermutation.flipping(7, [joint])
    assert first_fault(PANDA, replace(mirror, action=other.after(mirror.action))) is not None
    seen = SignedPermutation.flipping(23, [joint]).after(mirror.observation)
    assert first_fault(PANDA, replace(mirror, observation=seen)) is not None


def test_arms_with_links_beside_one_another_have_none() -> None:
    assert mirrored_joints(PANDA.chain) == (-1, 1, -1, 1, -1, 1, -1)
    assert [mirrored_joints(Reach(robot=name).chain) for name in ("ur5e", "so101")] == [(), ()]


class Numbered(CartPole):
    """CartPole whose pushes have the numbers 5 and 6."""

    def __init__(self) -> None:
        super().__init__()
        self.action_space = Discrete(2, start=5)

    def step(self, state: Any, action: torch.Tensor, rng: Any) -> Any:
        return super().step(state, action - 5, rng)


def test_choices_may_begin_anywhere() -> None:
    (mirror,) = Numbered().symmetries()
    assert first_fault(Numbered(), mirror) is None
    assert first_fault(Numbered(), replace(mirror, action=SignedPermutation.identity(2))) is not None
