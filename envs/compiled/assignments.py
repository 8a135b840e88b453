"""Assignments: a target, and an expression of operands, for every index of a size.

An operand is a tensor (stretched to the size), a number, or elements of a tensor that other operands choose. Every
assignment is independent of the order of its indices, but for a scatter, whose later elements count.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from palaestra.envs.compiled.expressions import TYPES, converted
from palaestra.envs.core.replay.recording import Region


@dataclass(frozen=True)
class Chooser:
    """A number that chooses along one dimension of a tensor: the tensor of it, and what it may be."""

    place: Region
    step: int  # elements from one to the next
    count: int
    wraps: bool  # below zero it counts from the end


@dataclass(frozen=True)
class Chosen:
    """Elements of a tensor that numbers choose; ``place`` is where the first lies, for every index."""

    place: Region
    by: tuple[Chooser, ...]


Operand = Region | Chosen | str


@dataclass(frozen=True)
class Assignment:
    """``target[i] = text(operands[i]…)`` for every i."""

    target: Region | Chosen
    operands: tuple[Operand, ...]
    text: Callable[..., str]

    @property
    def size(self) -> tuple[int, ...]:
        return self.written.size

    @property
    def written(self) -> Region:
        return self.target.place if isinstance(self.target, Chosen) else self.target

    def read(self) -> list[Region]:
        """The tensors that it reads, but for those that elements are chosen of."""
        found = [operand for operand in self.operands if isinstance(operand, Region)]
        chosen = [operand for operand in (*self.operands, self.target) if isinstance(operand, Chosen)]
        return found + [chooser.place for each in chosen for chooser in each.by]

    def chosen_of(self) -> list[Region]:
        """The tensors that elements are read of by choice."""
        return [operand.place for operand in self.operands if isinstance(operand, Chosen)]


def stretched(place: Region, size: Sequence[int]) -> Region:
    """A tensor broadcast to a size."""
    added = len(size) - len(place.size)
    strides = [0] * added + [0 if n == 1 else s for n, s in zip(place.size, place.stride, strict=True)]
    return place._replace(size=tuple(size), stride=tuple(strides))


def copy_of(place: Operand, target: Region) -> Assignment | None:
    """A tensor, or chosen elements, in another place of any type; None where the type has a choice."""
    source = place.place if isinstance(place, Chosen) else place
    assert isinstance(source, Region)
    if source.dtype not in TYPES or converted("", source.dtype, target.dtype) is None:
        return None
    operand = place if isinstance(place, Chosen) else stretched(source, target.size)
    return Assignment(target, (operand,), lambda a: converted(a, source.dtype, target.dtype) or "")
