"""The check of a contract that a file brings: every part that is used later has its form, or the first other is told.

A contract is somebody's text: :mod:`palaestra.train.export.contract` says what its parts mean.
"""

from __future__ import annotations

import math
from typing import Any

from palaestra.envs.core.reference import is_finite_number
from palaestra.train.export.observation_reader import bounds_of, elements_of
from palaestra.train.export.price_table import PriceTable, PriceTableError

DTYPES = frozenset(
    ["bool", "float16", "float32", "float64", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))]
)
LARGEST_END = 2**26  # numbers of an input or output
KINDS = frozenset(("box", "image", "discrete", "multi_discrete", "multi_binary", "mask"))


class ContractError(ValueError):
    """A part of a contract that has not its form; the message names the part."""


def check_contract(contract: Any) -> None:
    """Raise a ContractError unless the contract describes an environment, inputs and outputs, ``action`` first."""
    _require(isinstance(contract, dict), "it", "must be an object")
    environment = _part(contract, "environment", dict, "an object")
    _require(isinstance(environment.get("id"), str) and environment["id"], "environment.id", "must be a name")
    _require(isinstance(environment.get("settings", {}), dict), "environment.settings", "must be an object")
    agent = contract.get("agent", {})
    _require(isinstance(agent, dict), "agent", "must be an object")
    _require(isinstance(agent.get("algorithm"), str | None), "agent.algorithm", "must be a name")
    scores = contract.get("scores")
    _require(isinstance(scores, dict | None), "scores", "must be an object or null")
    if scores and scores.get("episodes") is not None:
        _require(_is_whole(scores["episodes"], 1), "scores.episodes", "must be a whole number of at least 1")
    names = []
    for what in ("inputs", "outputs"):
        for i, end in enumerate(_part(contract, what, list, "a list")):
            _check_end(f"{what}[{i}]", end)
            names.append(end["name"])
    _require(contract["outputs"] and contract["outputs"][0]["name"] == "action", "outputs[0].name", "must be action")
    if contract.get("prices") is not None:
        try:
            PriceTable(contract["prices"])
        except PriceTableError as error:
            raise ContractError(f"prices: {error}") from None
    twice = next((name for name in names if names.count(name) > 1), None)
    _require(twice is None, "it", f"has two inputs or outputs of the name {twice!r}")


def _check_end(place: str, end: Any) -> None:
    """One input or output."""
    _require(isinstance(end, dict), place, "must be an object")
    _require(isinstance(end.get("name"), str) and end["name"], f"{place}.name", "must be a name")
    dtype, shape = end.get("dtype"), end.get("shape")
    _require(isinstance(dtype, str) and dtype in DTYPES, f"{place}.dtype", "must be the name of a dtype")
    whole = isinstance(shape, list) and all(_is_whole(length, 1) for length in shape)
    _require(whole, f"{place}.shape", "must be a list of whole numbers of at least 1")
    _require(math.prod(shape) <= LARGEST_END, f"{place}.shape", f"must be of at most {LARGEST_END:,} numbers")
    kind = end.get("kind")
    known = kind is None or (isinstance(kind, str) and kind in KINDS)
    _require(known, f"{place}.kind", f"must be one of {', '.join(sorted(KINDS))}")
    _require(kind != "mask" or dtype == "bool", f"{place}.dtype", "must be bool for a mask")
    for bound in ("low", "high"):
        alone = end.get(bound) is None or is_finite_number(end[bound])
        well = alone or _has_form(end[bound], shape, lambda leaf: leaf is None or is_finite_number(leaf))
        _require(well, f"{place}.{bound}", f"must be null, a number, or a list of the shape {shape} of them")
    if kind in ("discrete", "multi_discrete") or "count" in end:
        for key, least in (("first", -(2**63)), ("count", 1)):
            well = _has_form(end.get(key), shape, lambda leaf, least=least: _is_whole(leaf, least))
            _require(well, f"{place}.{key}", "must be a whole number for each choice")
    low, high = bounds_of(end)
    _require((low <= high).all(), f"{place}.low", "must be at most high")
    _check_choices(place, end)
    _check_elements(place, end)


def _check_choices(place: str, end: dict[str, Any]) -> None:
    choices = end.get("choices", [])
    well = isinstance(choices, list) and all(isinstance(name, str) for name in choices)
    _require(well, f"{place}.choices", "must be a list of names")
    if choices:
        _require(not end["shape"] and _is_whole(end.get("first", 0), -(2**63)), place, "has choices, but is no choice")
        count = end.get("count", len(choices))
        _require(len(choices) == count, f"{place}.choices", f"must be {count} names, and has {len(choices)}")


def _check_elements(place: str, end: dict[str, Any]) -> None:
    rows, place = end.get("elements", []), f"{place}.elements"
    _require(isinstance(rows, list), place, "must be a list")
    for i, row in enumerate(rows):
        here = f"{place}[{i}]"
        _require(isinstance(row, dict), here, "must be an object")
        _require(isinstance(row.get("name"), str) and row["name"], f"{here}.name", "must be a name")
        _require(isinstance(row.get("unit", ""), str), f"{here}.unit", "must be text")
        _require(_is_whole(row.get("count", 1), 1), f"{here}.count", "must be a whole number of at least 1")
        scale = row.get("scale", 1.0)
        _require(is_finite_number(scale) and scale != 0, f"{here}.scale", "must be a number, not 0")
        _require(is_finite_number(row.get("offset", 0.0)), f"{here}.offset", "must be a number")
    if rows:
        told, wanted = sum(row.get("count", 1) for row in rows), math.prod(end["shape"])
        _require(told == wanted, place, f"must be of {wanted} numbers, and are of {told}")
        names = [element.name for element in elements_of(end)]
        _require(len({*names}) == len(names), place, "must have different names")


def _part(contract: dict[str, Any], name: str, kind: type, text: str) -> Any:
    _require(isinstance(contract.get(name), kind), name, f"must be {text}")
    return contract[name]


def _has_form(value: Any, shape: list[int], well: Any) -> bool:
    """True for nested lists of that shape whose leaves are well."""
    if not shape:
        return bool(well(value))
    return isinstance(value, list) and len(value) == shape[0] and all(_has_form(v, shape[1:], well) for v in value)


def _is_whole(value: Any, least: int) -> bool:
    return type(value) is int and least <= value < 2**63


def _require(well: Any, place: str, text: str) -> None:
    if not well:
        raise ContractError(f"{place} {text}")
