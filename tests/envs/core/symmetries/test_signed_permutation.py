"""Permutations with signs: known answers, and the laws of their products."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from palaestra.envs.core.symmetries import SignedPermutation

X = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])


def test_known_maps() -> None:
    assert SignedPermutation((2, 0, 1))(X).tolist() == [[3.0, 1.0, 2.0], [6.0, 4.0, 5.0]]
    assert SignedPermutation.flipping(3, [1])(X).tolist() == [[1.0, -2.0, 3.0], [4.0, -5.0, 6.0]]
    assert SignedPermutation.flipping(3)(X).tolist() == (-X).tolist()
    assert SignedPermutation.exchanging(3, (0, 2))(X).tolist() == [[3.0, 2.0, 1.0], [6.0, 5.0, 4.0]]
    assert SignedPermutation((1, 0, 2), (-1, 1, 1))(X)[0].tolist() == [-2.0, 1.0, 3.0]


def test_planes_move_and_what_is_behind_them_stays() -> None:
    planes = SignedPermutation.of_planes((1, 0), 2, behind=1)
    assert planes(torch.tensor([[1.0, 2.0, 3.0, 4.0, 5.0]])).tolist() == [[2.0, 1.0, 4.0, 3.0, 5.0]]
    images = SignedPermutation.of_planes((3, 2, 1, 0), 1)(torch.tensor([[[1.0, 2.0], [3.0, 4.0]]]))
    assert images.tolist() == [[[4.0, 3.0], [2.0, 1.0]]]


def test_choices_move_as_a_one_among_zeros_does() -> None:
    turn = SignedPermutation.renumbering((1, 2, 0))  # 0 becomes 1, 1 becomes 2, 2 becomes 0
    choices = torch.tensor([0, 1, 2, 2])
    assert turn.of_choices(choices).tolist() == [1, 2, 0, 0]
    shown = torch.nn.functional.one_hot(choices, 3)
    assert turn(shown).argmax(1).tolist() == turn.of_choices(choices).tolist()


def test_side_by_side() -> None:
    both = SignedPermutation.flipping(1).behind(SignedPermutation((1, 0)))
    assert both(X).tolist() == [[2.0, 1.0, -3.0], [5.0, 4.0, -6.0]]


maps = st.permutations(range(4)).flatmap(
    lambda places: st.lists(st.sampled_from((1, -1)), min_size=4, max_size=4).map(
        lambda signs: SignedPermutation(tuple(places), tuple(signs))
    )
)


@given(maps, maps)
def test_a_product_is_one_map_after_the_other(a: SignedPermutation, b: SignedPermutation) -> None:
    x = torch.tensor([[1.0, 2.0, 4.0, 8.0]])
    assert a.after(b)(x).tolist() == a(b(x)).tolist()
    unit = SignedPermutation.identity(4)
    assert a.after(unit) == a == unit.after(a)


@pytest.mark.parametrize(
    ("places", "signs", "said"),
    [
        ((0, 0, 1), (), "a permutation needs each of 0 … 2 once, not 0"),
        ((0, 3, 1), (), "a permutation needs each of 0 … 2 once, not 3"),
        ((0, 1), (1,), "a permutation of 2 numbers needs as many signs, 1 or -1"),
        ((0, 1), (1, 2), "a permutation of 2 numbers needs as many signs, 1 or -1"),
    ],
)
def test_what_is_no_permutation_is_refused(places: tuple[int, ...], signs: tuple[int, ...], said: str) -> None:
    with pytest.raises(ValueError, match="^" + said.replace("…", ".") + "$"):
        SignedPermutation(places, signs)


def test_choices_that_two_become_are_refused() -> None:
    with pytest.raises(ValueError, match="once, not -1"):
        SignedPermutation.renumbering((1, 1, 0))
