"""Observations from JSON, checked against a policy's contract: what does not belong is refused with its place.

An input is an array of the contract's shape, or of one more dimension for several observations at once. Where the
contract names its numbers an object of name → quantity may stand for it, or a list of such objects: 23 units instead of
the 0.46 that the network sees. Kinds of number that come several times are numbered: cell_0, cell_1, ….
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from palaestra.envs.core.reference import Array

MOST_ROWS = 4096  # observations in one request


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
        """
        self.inputs, self.clamp = inputs, clamp
        self._bounds = {end["name"]: _bounds(end) for end in inputs}
        self._elements = {end["name"]: elements_of(end) for end in inputs}

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
        counts = {name: len(array) for name, array in feed.items()}
        if len({*counts.values()}) > 1 or len({*rows.values()}) > 1:
            raise ObservationError([next(reversed(counts))], f"has another number of observations: {counts}")
        return feed, any(rows.values())

    def checked(self, arrays: dict[str, Array]) -> dict[str, Array]:
        """Arrays [B, *shape] by input in the inputs' dtypes.

        Raises:
            ObservationError: if a number is not finite or out of range.
        """
        feed = {}
        for end in self.inputs:
            array = arrays[end["name"]]
            if end["dtype"] == "bool":
                if array.dtype != np.bool_:
                    raise ObservationError([end["name"]], "must be true or false")
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
        place: list[str | int] = [end["name"]]
        if isinstance(value, list) and len(value) > MOST_ROWS and len(end["shape"]) == 0:
            raise ObservationError(place, f"has {len(value):,} observations, more than {MOST_ROWS:,}")
        elements = self._elements[end["name"]]
        if isinstance(value, dict):
            return self._within(end, np.array(_by_name(place, elements, value)).reshape(end["shape"]))
        if isinstance(value, list) and value and isinstance(value[0], dict):
            rows = [_by_name([*place, row], elements, one) for row, one in enumerate(value[: MOST_ROWS + 1])]
            if len(rows) > MOST_ROWS:
                raise ObservationError(place, f"has {len(value):,} observations; 1 to {MOST_ROWS:,} are taken")
            return self._within(end, np.array(rows).reshape(len(rows), *end["shape"]))
        kind = np.bool_ if end["dtype"] == "bool" else np.float64
        _check_numbers(place, value, end["dtype"] == "bool")
        try:
            array: Array = np.array(value, dtype=kind)
        except (ValueError, OverflowError):
            raise ObservationError(
                place, f"must have the shape {end['shape']}: its lists are of different lengths"
            ) from None
        if (
            list(array.shape[-len(end["shape"]) :] if end["shape"] else ()) != end["shape"]
            or array.ndim > len(end["shape"]) + 1
        ):
            shapes = f"{end['shape']}, or [N, {', '.join(map(str, end['shape']))}] for several"
            raise ObservationError(place, f"must have the shape {shapes}, and has {[*array.shape]}")
        if array.ndim > len(end["shape"]) and not 0 < len(array) <= MOST_ROWS:
            raise ObservationError(place, f"has {len(array):,} observations; 1 to {MOST_ROWS:,} are taken")
        return array if kind is np.bool_ else self._within(end, array)

    def _within(self, end: dict[str, Any], array: Array) -> Array:
        """The numbers in the input's dtype, within their bounds."""
        low, high = self._bounds[end["name"]]
        if self.clamp:
            array = np.clip(array, low, high)
        whole = np.dtype(end["dtype"]).kind in "iu"
        wrong = (array < low) | (array > high) | (whole & (array != np.round(array)))
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
                    ends = sorted(one.offset + one.scale * x for x in (least, most))
                    text += f" ({ends[0]:g} … {ends[1]:g} {one.unit}".rstrip() + ")"
            raise ObservationError(place, f"must be {text}")
        return array.astype(end["dtype"])


def _by_name(place: list[str | int], elements: list[Element], value: Any) -> list[float]:
    """The numbers that an object of quantities stands for, in the contract's order."""
    if not elements:
        raise ObservationError(place, "has no names in the contract: give a list of numbers")
    if not isinstance(value, dict):
        raise ObservationError(place, "must be an object, as the others are")
    names = {element.name for element in elements}
    if unknown := next((key for key in value if key not in names), None):
        raise ObservationError([*place, str(unknown)], "is none of the contract's names")
    numbers = []
    for element in elements:
        here = [*place, element.name]
        if element.name not in value:
            raise ObservationError(here, "is missing")
        if isinstance(given := value[element.name], list | dict):
            raise ObservationError(here, "must be a number")
        _check_numbers(here, given, truths=False)
        numbers.append((given - element.offset) / element.scale)
    return numbers


def _check_numbers(place: list[str | int], value: Any, truths: bool) -> None:
    """Raise a ObservationError unless all leaves are finite numbers, or all are true and false."""
    waiting: list[tuple[list[str | int], Any]] = [(place, value)]
    while waiting:
        here, part = waiting.pop()
        if isinstance(part, list):
            if len(here) > 8:
                raise ObservationError(here, "is nested too deeply")
            waiting += [([*here, i], inner) for i, inner in enumerate(part)]
        elif truths:
            if not isinstance(part, bool):
                raise ObservationError(here, "must be true or false")
        elif isinstance(part, bool) or not isinstance(part, int | float):
            raise ObservationError(here, "must be a number")
        elif not _is_finite(part):
            raise ObservationError(here, "must be finite")


def _is_finite(number: float) -> bool:
    try:
        return math.isfinite(number)
    except OverflowError:  # a whole number beyond all floats
        return False


def _bounds(end: dict[str, Any]) -> tuple[Array, Array]:
    """The lowest and highest numbers of an input, broadcastable to its shape; infinite where there is no bound."""
    if end.get("kind") == "image":
        return np.array(0.0), np.array(255.0)
    if end.get("kind") == "multi_binary":
        return np.array(0.0), np.array(1.0)
    if "count" in end:
        first = np.asarray(end["first"], np.float64)
        return first, first + np.asarray(end["count"]) - 1.0
    low, high = (_filled(end.get(name), sign) for name, sign in (("low", -np.inf), ("high", np.inf)))
    return low, high


def _filled(bound: Any, missing: float) -> Array:
    """A bound, or a nested list of them, with infinity for None."""
    if isinstance(bound, list):
        return np.array([_filled(inner, missing) for inner in bound])
    return np.array(missing if bound is None else float(bound))
