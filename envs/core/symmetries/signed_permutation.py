"""Numbers that change places, and some of them their sign: maps that cost one lookup and round nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor


@dataclass(frozen=True)
class SignedPermutation:
    """x → y with y[j] = signs[j] · x[places[j]], for K numbers.

    An observation is its numbers in a row, as ``flatten`` has them; so is the action of a Box. The number of a Discrete
    action moves as a 1 among zeros would: :meth:`renumbering` says where to.

    Raises:
        ValueError: unless every place occurs once and every sign is 1 or −1.
    """

    places: tuple[int, ...]
    signs: tuple[int, ...] = ()  # all 1 if it is left out

    def __post_init__(self) -> None:
        places = tuple(int(place) for place in self.places)
        signs = tuple(int(sign) for sign in self.signs) or (1,) * len(places)
        if sorted(places) != list(range(len(places))):
            wrong = next(p for p, n in Counter(places).items() if n > 1 or not 0 <= p < len(places))
            raise ValueError(f"a permutation needs each of 0 … {len(places) - 1} once, not {wrong}")
        if len(signs) != len(places) or not {*signs} <= {1, -1}:
            raise ValueError(f"a permutation of {len(places)} numbers needs as many signs, 1 or -1")
        object.__setattr__(self, "places", places)
        object.__setattr__(self, "signs", signs)

    def __len__(self) -> int:
        return len(self.places)

    @classmethod
    def identity(cls, count: int) -> Self:
        """Every number stays."""
        return cls(tuple(range(count)))

    @classmethod
    def flipping(cls, count: int, features: Iterable[int] | None = None) -> Self:
        """These numbers change their sign, all if none are named."""
        turned = {*(range(count) if features is None else features)}
        return cls(tuple(range(count)), tuple(-1 if k in turned else 1 for k in range(count)))

    @classmethod
    def exchanging(cls, count: int, *pairs: tuple[int, int]) -> Self:
        """The numbers of each pair change places."""
        places = list(range(count))
        for a, b in pairs:
            places[a], places[b] = places[b], places[a]
        return cls(tuple(places))

    @classmethod
    def renumbering(cls, images: Sequence[int]) -> Self:
        """Choice a becomes choice ``images[a]``."""
        places = [-1] * len(images)
        for choice, image in enumerate(images):
            if 0 <= image < len(places):
                places[image] = choice
        return cls(tuple(places))

    @classmethod
    def of_planes(cls, cells: Sequence[int], planes: int, behind: int = 0) -> Self:
        """Each of some planes of K cells gets in cell j what was in ``cells[j]``; ``behind`` further numbers stay."""
        count = len(cells)
        moved = [plane * count + cell for plane in range(planes) for cell in cells]
        return cls((*moved, *range(planes * count, planes * count + behind)))

    def after(self, first: SignedPermutation) -> SignedPermutation:
        """``first`` and then this one."""
        signs = tuple(sign * first.signs[place] for sign, place in zip(self.signs, self.places, strict=True))
        return SignedPermutation(tuple(first.places[place] for place in self.places), signs)

    def behind(self, other: SignedPermutation) -> SignedPermutation:
        """Both side by side: of the numbers of ``other`` and, behind them, those of this one."""
        return SignedPermutation((*other.places, *(len(other) + p for p in self.places)), (*other.signs, *self.signs))

    @property
    def images(self) -> tuple[int, ...]:
        """Where each number goes."""
        found = [0] * len(self)
        for image, place in enumerate(self.places):
            found[place] = image
        return tuple(found)

    @property
    def has_signs(self) -> bool:
        return -1 in self.signs

    def __call__(self, x: Tensor) -> Tensor:
        """[N, …] of K numbers each → the same shape."""
        moved = x.flatten(1).index_select(1, torch.tensor(self.places, device=x.device))
        if self.has_signs:
            moved = moved * torch.tensor(self.signs, device=x.device, dtype=x.dtype)
        return moved.view(x.shape)

    def of_choices(self, choices: Tensor) -> Tensor:
        """Numbers of choices int64 [N] → those of their images."""
        return torch.tensor(self.images, device=choices.device).index_select(0, choices)
