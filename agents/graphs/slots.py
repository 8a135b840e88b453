"""Attributes whose tensors stay in one place, so that a recording can read and write them.

Environments and agents are written as functions that bind attributes to new tensors. A recording knows addresses only.
:class:`Slots` stand between the two: each attribute gets memory of its own, what others have put there is copied into
it before a recording runs, and the last operations of a recording copy there what its function has put there.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

Attribute = tuple[Any, str]  # an object and the name of its attribute


class GraphError(RuntimeError):
    """A function cannot be recorded; the message says why."""


def map_leaves(function: Callable[..., Any], value: Any, *others: Any, kinds: Any = Tensor) -> Any:
    """A tuple, list, dictionary or record with ``function`` applied to its tensors and what is there in the others.

    ``kinds`` are the types of the parts that it is applied to, if not tensors only.
    """
    if isinstance(value, kinds):
        return function(value, *others)
    if isinstance(value, dict):
        parts = {key: (part, *(other[key] for other in others)) for key, part in value.items()}
        return {key: map_leaves(function, *part, kinds=kinds) for key, part in parts.items()}
    if isinstance(value, tuple | list):
        items = [map_leaves(function, *part, kinds=kinds) for part in zip(value, *others, strict=True)]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in dataclasses.fields(value)]
        columns = {name: [getattr(each, name) for each in (value, *others)] for name in names}
        return type(value)(**{name: map_leaves(function, *part, kinds=kinds) for name, part in columns.items()})
    return value


def tensors_of(value: Any) -> list[Tensor]:
    """The tensors of a tuple, list, dictionary or record, in order."""
    found: list[Tensor] = []
    map_leaves(found.append, value)
    return found


def places_of(owner: Any, *without: str) -> list[Attribute]:
    """The attributes of an object that hold tensors, but for those named."""
    return [(owner, name) for name, value in vars(owner).items() if name not in without and tensors_of(value)]


def numbers_of(owner: Any) -> dict[str, Any]:
    """The attributes of an object that are plain numbers: a recording keeps them as they were."""
    return {name: value for name, value in vars(owner).items() if isinstance(value, int | float)}


def pairs_of(name: str, slots: Any, values: Any) -> list[tuple[Tensor, Tensor]]:
    """The tensors of ``slots`` with those of ``values`` that they are to hold; without those that are there.

    Raises:
        GraphError: if the values have another form, saying so of ``name``.
    """
    pairs: list[tuple[Tensor, Tensor]] = []

    def pair(slot: Tensor, value: Any) -> None:
        if not isinstance(value, Tensor) or (value.shape, value.dtype) != (slot.shape, slot.dtype):
            raise ValueError("another form")
        if value is not slot:
            pairs.append((slot, value))

    try:
        map_leaves(pair, slots, values)
        if len(tensors_of(slots)) != len(tensors_of(values)):
            raise ValueError("other tensors")
    except (TypeError, LookupError, ValueError, AttributeError) as error:
        raise GraphError(f"{name} changes its form") from error
    return pairs


class Slots:
    """Memory of its own for each attribute; see the module. The attributes hold it at once."""

    def __init__(self, attributes: Sequence[Attribute]) -> None:
        self._attributes = [*attributes]
        self._slots = [map_leaves(Tensor.clone, getattr(owner, name)) for owner, name in attributes]
        self.tensors = [tensor for slot in self._slots for tensor in tensors_of(slot)]
        self._memory = {tensor.untyped_storage()._cdata for tensor in self.tensors}
        self.bind()

    def are_of(self, attributes: Sequence[Attribute]) -> bool:
        """True if these are the attributes."""
        return [(id(o), name) for o, name in self._attributes] == [(id(o), name) for o, name in attributes]

    def bind(self) -> None:
        """Let the attributes hold the slots, with what those hold."""
        # in records of their own, which may be changed in place
        self._given = [map_leaves(lambda tensor: tensor, slot) for slot in self._slots]
        for (owner, name), given in zip(self._attributes, self._given, strict=True):
            setattr(owner, name, given)

    def take_in(self) -> None:
        """Copy into the slots what the attributes hold, and let them hold the slots.

        Raises:
            GraphError: if something has another form.
        """
        pairs: list[tuple[Tensor, Tensor]] = []
        for (owner, name), slot, given in zip(self._attributes, self._slots, self._given, strict=True):
            value = getattr(owner, name)
            if value is not given or isinstance(value, dict | list):
                pairs += pairs_of(f"{type(owner).__name__}.{name}", slot, value)
        if not pairs:
            return
        # what lies in another slot is copied first, before that one is written
        values = [v.clone() if v.untyped_storage()._cdata in self._memory else v for _, v in pairs]
        for (slot, _), value in zip(pairs, values, strict=True):
            slot.copy_(value)
        self.bind()
