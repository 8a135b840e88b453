"""Observations from JSON, checked against a policy's contract: what does not belong is refused with its place.

An input is an array of the contract's shape, or of one more dimension for several observations at once. Where the
contract names its numbers an object of name → quantity may stand for it, or a list of such objects: 23 units instead of
the 0.46 that the network sees. Kinds of number that come several times are numbered: cell_0, cell_1, ….
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import chain
from typing import Any, NamedTuple

import numpy as np

from palaestra.envs.core.reference import Array, is_finite_number

MOST_ROWS = 4096  # observations in one request
MOST_NUMBERS = 2**21  # in one request; fewer observations are taken where each has many
_DEEPEST = 8  # lists inside one another


class ObservationError(ValueError):
    """An observation that is not in the contract.

    Attributes:
        place: where in the request, from the outside in.
    """

    def __init__(self, place: list[str | int], text: str) -> None:
        super().__init__(text)
        self.place = place


class Element(NamedTuple):
    """One number x of an input or output, which stands for ``offset + scale * x``."""

    name: str
    unit: str
    scale: float
    offset: float

    def quantity(self, x: Any) -> Any:
        """The quantity that a number, or an array of them, stands for."""
        return self.offset + self.scale * x


def elements_of(end: dict[str, Any]) -> list[Element]:
    """The numbers of an input or output of the contract, in their order; none where they have no names."""
    found = []
    for row in end.get("elements", ()):
        count = row.get("count", 1)
        for i in range(count):
            name = row["name"] if count == 1 else f"{row['name']}_{i}"
            found.append(Element(name, row.get("unit", ""), row.get("scale", 1.0), row.get("offset", 0.0)))
    return found


class ObservationReader:
    """Reads requests for one policy."""

    def __init__(self, inputs: list[dict[str, Any]], clamp: bool = False) -> None:
        """
        Args:
            inputs: of the contract.
            clamp: whether numbers beyond their bounds become the bound.

        Attributes:
            most_rows: observations in one request.
        """
        self.inputs, self.clamp = inputs, clamp
        self._bounds = {end["name"]: bounds_of(end) for end in inputs}
        self._elements = {end["name"]: elements_of(end) for end in inputs}
        self._scales = {
            name: (np.array([e.offset for e in elements]), np.array([e.scale for e in elements]))
            for name, elements in self._elements.items()
        }
        numbers = sum(math.prod(end["shape"]) for end in inputs)
        self.most_rows: int = max(1, min(MOST_ROWS, MOST_NUMBERS // max(1, numbers)))

    def __call__(self, body: Any) -> tuple[dict[str, Array], bool]:
        """Arrays [B, *shape] by input, and whether the request had several observations.

        Raises:
            ObservationError: if something is missing, unknown, of another form, not finite or out of range.
        """
        if not isinstance(body, dict):
            raise ObservationError([], f"must be an object with {self._names()}")
        known = {end["name"] for end in self.inputs}
        if unknown := next((key for key in body if key not in known), None):
            raise ObservationError([str(unknown)], f"is none of the inputs, which are {self._names()}")
        feed, rows = {}, {}
        for end in self.inputs:
            name = end["name"]
            if name not in body:
                raise ObservationError([name], "is missing")
            array = self._array(end, body[name])
            rows[name] = array.ndim > len(end["shape"])
            feed[name] = array if rows[name] else array[None]
            _check_mask(end, feed[name], rows[name])
        counts = {name: len(array) for name, array in feed.items()}
        if len({*counts.values()}) > 1 or len({*rows.values()}) > 1:
            raise ObservationError([next(reversed(counts))], f"has another number of observations: {counts}")
        return feed, any(rows.values())

    def checked(self, arrays: dict[str, Array]) -> dict[str, Array]:
        """Arrays [B, *shape] by input in the inputs' dtypes.

        Raises:
            ObservationError: if a number is not finite or out of range, or a mask allows no action.
        """
        feed = {}
        for end in self.inputs:
            array = arrays[end["name"]]
            if end["dtype"] == "bool":
                if array.dtype != np.bool_:
                    raise ObservationError([end["name"]], "must be true or false")
                _check_mask(end, array, several=True)
                feed[end["name"]] = array
                continue
            if array.dtype.kind not in "iuf":
                raise ObservationError([end["name"]], f"must hold numbers, and is of dtype {array.dtype}")
            if not np.isfinite(array).all():
                row = int(np.argwhere(~np.isfinite(array))[0][0])
                raise ObservationError([end["name"], row], "must be finite")
            feed[end["name"]] = self._within(end, array.astype(np.float64))
        return feed

    def _names(self) -> str:
        return ", ".join(end["name"] for end in self.inputs)

    def _array(self, end: dict[str, Any], value: Any) -> Array:
        """One input's numbers, [*shape] or [N, *shape]; work and memory are bounded by the size that is allowed."""
        name, shape = end["name"], end["shape"]
        if isinstance(value, dict):
            return self._within(end, self._by_name(end, [value], one=True).reshape(shape))
        if isinstance(value, list) and value and isinstance(value[0], dict):
            self._check_count(name, len(value))
            return self._within(end, self._by_name(end, value, one=False).reshape(len(value), *shape))
        depth = _depth(value)
        if depth > _DEEPEST:
            raise ObservationError([name], "is nested too deeply")
        if depth == len(shape) + 1:
            self._check_count(name, len(value))
        elif depth != len(shape):
            found = f"is of {depth} dimensions" if depth else "is no list"
            raise ObservationError([name], f"must have the shape {_either(shape)}, and {found}")
        wanted = [len(value), *shape] if depth == len(shape) + 1 else shape
        leaves = _leaves(name, value, wanted, shape)
        if end["dtype"] == "bool":
            if not {*map(type, leaves)} <= {bool}:
                at = next(i for i, leaf in enumerate(leaves) if type(leaf) is not bool)
                raise ObservationError([name, *_place(at, wanted)], "must be true or false")
            return np.array(leaves, np.bool_).reshape(wanted)
        numbers = _numbers(leaves, lambda at: [name, *_place(at, wanted)])
        return self._within(end, numbers.reshape(wanted))

    def _check_count(self, name: str, count: int) -> None:
        if not 0 < count <= self.most_rows:
            raise ObservationError([name], f"has {count:,} observations; 1 to {self.most_rows:,} are taken")

    def _by_name(self, end: dict[str, Any], rows: list[Any], one: bool) -> Array:
        """The numbers [rows, elements] that objects of quantities stand for, in the contract's order."""
        elements = self._elements[end["name"]]
        places: list[list[str | int]] = [[end["name"]] if one else [end["name"], row] for row in range(len(rows))]
        if not elements:
            raise ObservationError(places[0][:1], "has no names in the contract: give a list of numbers")
        names = [element.name for element in elements]
        known = {*names}
        leaves: list[Any] = []
        for place, given in zip(places, rows, strict=True):
            if not isinstance(given, dict):
                raise ObservationError(place, "must be an object, as the others are")
            if given.keys() != known:
                if unknown := next((key for key in given if key not in known), None):
                    raise ObservationError([*place, str(unknown)], "is none of the contract's names")
                raise ObservationError([*place, next(n for n in names if n not in given)], "is missing")
            leaves += map(given.__getitem__, names)
        numbers = _numbers(leaves, lambda at: [*places[at // len(names)], names[at % len(names)]])
        with np.errstate(over="ignore"):  # what is beyond all floats is out of range
            offsets, scales = self._scales[end["name"]]
            found: Array = (numbers.reshape(len(rows), len(names)) - offsets) / scales
        return found

    def _within(self, end: dict[str, Any], array: Array) -> Array:
        """The numbers in the input's dtype, within their bounds."""
        low, high = self._bounds[end["name"]]
        if self.clamp:
            array = np.clip(array, low, high)
        whole = np.dtype(end["dtype"]).kind in "iu"
        with np.errstate(over="ignore"):
            kept = array if whole else array.astype(end["dtype"]).astype(np.float64)
        wrong = (kept < low) | (kept > high) | (whole & (kept != np.round(kept)))
        if wrong.any():
            at = tuple(int(i) for i in np.argwhere(wrong)[0])
            inside = at[array.ndim - len(end["shape"]) :]
            least, most = (float(np.broadcast_to(bound, end["shape"])[inside]) for bound in (low, high))
            place, text = (
                [end["name"], *at],
                f"{'a whole number of ' if whole else ''}{least:g} … {most:g}, got {array[at]:g}",
            )
            if elements := self._elements[end["name"]]:
                one = elements[int(np.ravel_multi_index(inside, end["shape"])) if inside else 0]
                place = [end["name"], *at[: array.ndim - len(end["shape"])], one.name]
                if one.unit or one.scale != 1.0 or one.offset:
                    ends = sorted(map(one.quantity, (least, most)))
                    text += f" ({ends[0]:g} … {ends[1]:g} {one.unit}".rstrip() + ")"
            raise ObservationError(place, f"must be {text}")
        return array.astype(end["dtype"])


def _check_mask(end: dict[str, Any], array: Array, several: bool) -> None:
    if end.get("kind") == "mask" and not (allowed := array.reshape(len(array), -1).any(1)).all():
        row = int(allowed.argmin())
        raise ObservationError([end["name"], row] if several else [end["name"]], "allows no action")


def _depth(value: Any) -> int:
    """How many lists are inside one another, by the first of each."""
    depth = 0
    while isinstance(value, list) and depth <= _DEEPEST:
        depth, value = depth + 1, value[0] if value else None
    return depth


def _leaves(name: str, value: Any, wanted: list[int], shape: list[int]) -> list[Any]:
    """What is inside the lists, in one list; each level is compared with its length before the next is looked at."""
    level = [value]
    for done, length in enumerate(wanted):
        for at, part in enumerate(level):
            if not isinstance(part, list) or len(part) != length:
                found = len(part) if isinstance(part, list) else "no list"
                place: list[str | int] = [name, *_place(at, wanted[:done])]
                text = f"must have the shape {_either(shape)}: its lists are of different lengths, here {found}"
                raise ObservationError(place, f"{text} and not {length}")
        level = [*chain.from_iterable(level)]
    return level


def _numbers(leaves: list[Any], place_of: Callable[[int], list[str | int]]) -> Array:
    """Finite numbers as float64; the first that is none is looked for only where there is one."""
    if {*map(type, leaves)} <= {int, float}:
        try:
            found = np.array(leaves, np.float64)
        except OverflowError:  # a whole number beyond all floats
            found = None
        if found is not None and np.isfinite(found).all():
            return found
    for at, leaf in enumerate(leaves):
        if type(leaf) not in (int, float):
            raise ObservationError(place_of(at), "must be a number")
        if not is_finite_number(leaf):
            raise ObservationError(place_of(at), "must be finite")
    raise AssertionError("one of them is no finite number")


def _place(at: int, shape: list[int]) -> list[int]:
    return [int(i) for i in np.unravel_index(at, shape)] if shape else []


def _either(shape: list[int]) -> str:
    return f"{shape}, or [N{''.join(f', {length}' for length in shape)}] for several"


def bounds_of(end: dict[str, Any]) -> tuple[Array, Array]:
    """The lowest and highest numbers of an input, broadcastable to its shape; its dtype's where there is no bound."""
    if end.get("kind") == "image":
        return np.array(0.0), np.array(255.0)
    if end.get("kind") == "multi_binary":
        return np.array(0.0), np.array(1.0)
    if "count" in end:
        first = np.asarray(end["first"], np.float64)
        return first, first + np.asarray(end["count"]) - 1.0
    dtype = np.dtype(end["dtype"])
    if dtype.kind == "b":
        return np.array(0.0), np.array(1.0)
    limits = np.iinfo(dtype) if dtype.kind in "iu" else np.finfo(dtype)
    least, most = float(limits.min), float(limits.max)
    low, high = _filled(end.get("low"), least), _filled(end.get("high"), most)
    return np.maximum(low, least), np.minimum(high, most)


def _filled(bound: Any, missing: float) -> Array:
    """A bound, or a nested list of them, with another number for None."""
    if isinstance(bound, list):
        return np.array([_filled(inner, missing) for inner in bound])
    return np.array(missing if bound is None else float(bound))
