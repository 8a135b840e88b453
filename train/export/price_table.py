"""The prices that an exported seller asks, by the moments of its market, as its contract lists them.

``contract["prices"]`` has

* ``asks``: what a moment is told by, in order. Each has ``name`` and ``unit``, and either ``least``, ``step`` and
  ``count`` (of whole numbers, which are counted in steps) or ``values`` (of numbers; None where nothing is told, as the
  last price before the first one);
* ``answers``: names of the prices; ``menu``: a row of them for each action;
* ``actions``: nested lists by what is asked, of actions; None where there is no such moment. None as a whole where
  there are more than :data:`MOST_MOMENTS`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from palaestra.envs.core.reference import Array, is_finite_number

MOST_MOMENTS = 2**18
MOST_ASKED, _MOST_SHOWN = 8, 12
_WHOLE, _NUMBER = re.compile(r"[+-]?[0-9]{1,15}"), re.compile(r"[+-]?([0-9]{1,15}(\.[0-9]{0,15})?|\.[0-9]{1,15})")
_NEAR = 1e-3  # of the smallest distance of two values


class PriceTableError(ValueError):
    """A list of prices that has not its form."""


class QuestionError(ValueError):
    """A question that the list does not answer.

    Attributes:
        name: of the parameter.
    """

    def __init__(self, name: str, text: str) -> None:
        super().__init__(text)
        self.name = name


class PriceTable:
    """Answers questions from a contract's list of prices."""

    def __init__(self, listed: Any) -> None:
        """
        Args:
            listed: ``contract["prices"]``.

        Raises:
            PriceTableError: if it has another form.
        """
        _require(isinstance(listed, dict), "must be an object")
        asks, menu = listed.get("asks"), listed.get("menu")
        self.answers: Any = listed.get("answers")
        _require(_is_list(asks) and len(asks) <= MOST_ASKED, f"asks: must list 1 to {MOST_ASKED} parameters")
        self.asks = [_axis_of(ask) for ask in asks]
        names = [ask.name for ask in self.asks]
        _require(len({*names}) == len(names), "asks: has two parameters of one name")
        _require(_is_list(self.answers) and all(map(_is_word, self.answers)), "answers: must list names")
        _require(_is_list(menu), "menu: must list prices")
        for row in menu:
            well = isinstance(row, list) and len(row) == len(self.answers) and all(map(is_finite_number, row))
            _require(well, f"menu: each row must have {len(self.answers)} numbers")
        self.menu: list[list[float]] = menu
        self.actions = None
        if listed.get("actions") is not None:
            self.actions = _numbered([listed["actions"]], [ask.count for ask in self.asks], len(menu))
            self._known = [self.actions >= 0]  # of each parameter: whether there is such a moment
            for _ in self.asks[1:]:
                self._known.insert(0, np.asarray(self._known[0].any(-1)))

    def parameters(self) -> list[dict[str, Any]]:
        """What is asked, as OpenAPI describes parameters of a query."""
        return [
            {"name": ask.name, "in": "query", "required": ask.needed, "description": ask.unit, "schema": ask.schema}
            for ask in self.asks
        ]

    def ask(self, given: Sequence[tuple[str, str]]) -> dict[str, Any]:
        """The prices of a moment, and the moment as the list counts it.

        Args:
            given: names and texts of parameters.

        Raises:
            QuestionError: if one is missing, unknown, given twice, or no such moment exists.
        """
        assert self.actions is not None
        texts = dict(given)
        for name, _ in given:
            if name not in {ask.name for ask in self.asks}:
                raise QuestionError(
                    name, f"is none of the parameters, which are {', '.join(a.name for a in self.asks)}"
                )
            if len(texts) < len(given) and [one for one, _ in given].count(name) > 1:
                raise QuestionError(name, "is given twice")
        place: tuple[int, ...] = ()
        for ask, known in zip(self.asks, self._known, strict=True):
            place = (*place, ask.find(texts.get(ask.name), np.flatnonzero(known[place])))
        action = int(self.actions[place])
        moment = {ask.name: ask.value(at) for ask, at in zip(self.asks, place, strict=True)}
        return {**dict(zip(self.answers, self.menu[action], strict=True)), "moment": moment}


class _Counted:
    """A parameter of whole numbers, which are counted in steps."""

    def __init__(self, name: str, unit: str, least: int, step: int, count: int) -> None:
        self.name, self.unit, self.least, self.step, self.count = name, unit, least, step, count
        self.needed, self.schema = True, {"type": "integer", "minimum": least, "maximum": self.value(count - 1)}

    def value(self, at: int) -> int:
        return (self.least + at) * self.step

    def find(self, text: str | None, there: Array) -> int:
        low, high = self.least if there[0] == 0 else self.value(int(there[0])), self.value(int(there[-1]))
        wanted = f"a whole number, {low} to {high}" + (f" ({self.unit}s)" if self.unit else "")
        if text is None:
            raise QuestionError(self.name, f"is missing: give {wanted}")
        if not _WHOLE.fullmatch(text) or not low <= int(text) <= high:
            raise QuestionError(self.name, f"must be {wanted}, got {text[:30]}")
        lots = max(round(int(text) / self.step), self.least, min(int(text), 1))
        return lots - self.least


class _Listed:
    """A parameter with a list of values."""

    def __init__(self, name: str, unit: str, values: list[float | None]) -> None:
        self.name, self.unit, self.values, self.count = name, unit, values, len(values)
        self._numbers = np.array([np.nan if value is None else value for value in values])
        steps = np.diff(np.unique(self._numbers[~np.isnan(self._numbers)]))
        self.needed = None not in values
        self.schema = {"type": "number", "enum": [value for value in values if value is not None]}
        self._near = _NEAR * float(steps.min()) if len(steps) else 1e-6

    def value(self, at: int) -> float | None:
        return self.values[at]

    def find(self, text: str | None, there: Array) -> int:
        untold = [int(at) for at in there if self.values[at] is None]
        told = [int(at) for at in there if self.values[at] is not None]
        shown = [f"{self.values[at]:.6g}" for at in told]
        if len(shown) > _MOST_SHOWN:
            shown = [*shown[: _MOST_SHOWN // 2], "…", *shown[-3:]]
        if text is None:
            if not untold:
                raise QuestionError(self.name, f"is missing: give one of {', '.join(shown)}")
            return untold[0]
        if not told:
            raise QuestionError(self.name, "must be left out: there is none at this moment")
        if _NUMBER.fullmatch(text):
            at = min(told, key=lambda at: abs(self._numbers[at] - float(text)))
            if abs(self._numbers[at] - float(text)) <= self._near:
                return at
        raise QuestionError(self.name, f"must be one of {', '.join(shown)}, got {text[:30]}")


def _axis_of(ask: Any) -> _Counted | _Listed:
    _require(isinstance(ask, dict) and _is_word(ask.get("name")), "asks: each must have a name")
    name, unit = ask["name"], ask.get("unit", "")
    _require(isinstance(unit, str), f"asks: {name}.unit must be a text")
    if "values" in ask:
        values = ask["values"]
        well = _is_list(values) and all(value is None or is_finite_number(value) for value in values)
        _require(well and len(values) <= MOST_MOMENTS, f"asks: {name}.values must list numbers")
        return _Listed(name, unit, values)
    for key, low, high in (("least", 0, 10**9), ("step", 1, 10**9), ("count", 1, MOST_MOMENTS)):
        well = type(ask.get(key)) is int and low <= ask[key] <= high
        _require(well, f"asks: {name}.{key} must be a whole number, {low} to {high}")
    return _Counted(name, unit, ask["least"], ask["step"], ask["count"])


def _numbered(level: list[Any], shape: list[int], menu: int) -> Array:
    """The actions as int64 of that shape, −1 where there is none; each level is looked at once."""
    for length in shape:
        _require(len(level) * length <= MOST_MOMENTS, f"actions: must be at most {MOST_MOMENTS:,}")
        well = all(isinstance(part, list) and len(part) == length for part in level)
        _require(well, f"actions: must be lists of the lengths {shape}")
        level = [one for part in level for one in part]
    well = all(one is None or (type(one) is int and 0 <= one < menu) for one in level)
    _require(well, f"actions: must be numbers of the menu's {menu} rows, or null")
    found = np.array([-1 if one is None else one for one in level], np.int64).reshape(shape)
    _require(bool((found >= 0).any()), "actions: has no moment")
    return found


def _is_list(value: Any) -> bool:
    return isinstance(value, list) and len(value) > 0


def _is_word(value: Any) -> bool:
    return isinstance(value, str) and value.isidentifier()


def _require(well: bool, text: str) -> None:
    if not well:
        raise PriceTableError(text)
