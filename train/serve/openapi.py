"""The descriptions of ``POST /act`` and ``GET /price`` for OpenAPI, from a policy's contract."""

from __future__ import annotations

from typing import Any

import numpy as np

from palaestra.train.export.observation_reader import Element, bounds_of, elements_of
from palaestra.train.export.price_table import PriceTable

_LARGEST_LISTED = 256  # elements of a vector whose bounds are described one by one


def act_description(contract: dict[str, Any], most: int) -> dict[str, Any]:
    """What the route says of its request, of at most so many observations, and of its answers."""
    properties = {}
    for end in contract["inputs"]:
        forms = _forms(end)
        several = [{"type": "array", "items": form, "minItems": 1, "maxItems": most} for form in forms]
        properties[end["name"]] = {"oneOf": [*forms, *several]}
    body = {"type": "object", "properties": properties, "required": [*properties], "additionalProperties": False}
    outputs: dict[str, Any] = {end["name"]: {} for end in contract["outputs"]}
    refusals = {
        "400": "The request is no JSON.",
        "401": "The token is missing or wrong.",
        "408": "The request came too slowly.",
        "413": "The request is too large.",
        "422": "The observation is not in the contract; loc is its place.",
        "500": "The policy itself failed.",
        "503": "Too many requests are coming in.",
    }
    return {
        "requestBody": {"required": True, "content": {"application/json": {"schema": body}}},
        "responses": {
            "200": {
                "description": "The action, and what else the policy puts out.",
                "content": {"application/json": {"schema": {"type": "object", "properties": outputs}}},
            },
            **{status: {"description": text, "content": _DETAIL} for status, text in refusals.items()},
        },
    }


def price_description(prices: PriceTable | None) -> dict[str, Any]:
    """What the route says of its parameters and its answers; nothing where there is no list of prices."""
    if prices is None or prices.actions is None:
        return {}
    refusals = {
        "401": "The token is missing or wrong.",
        "422": "There is no such moment; loc names the parameter.",
        "503": "Too many requests are coming in.",
    }
    refused: dict[str, Any] = {status: {"description": text, "content": _DETAIL} for status, text in refusals.items()}
    properties: dict[str, Any] = {name: {"type": "number"} for name in prices.answers}
    schema = {"type": "object", "properties": {**properties, "moment": {"type": "object"}}, "required": prices.answers}
    answer = {
        "description": "The price, and the moment that it is for.",
        "content": {"application/json": {"schema": schema}},
    }
    return {"parameters": prices.parameters(), "responses": {"200": answer, **refused}}


_DETAIL = {"application/json": {"schema": {"type": "object", "properties": {"detail": {"type": "array"}}}}}


def _forms(end: dict[str, Any]) -> list[dict[str, Any]]:
    """The schemas of one observation's input: an array, and numbers by name where they have names."""
    shape, elements = end["shape"], elements_of(end)
    low, high = (np.broadcast_to(bound, shape).ravel().tolist() for bound in bounds_of(end))
    alike = len({*low}) == len({*high}) == 1
    schema: dict[str, Any] = _number(end, low[0], high[0]) if alike else {"type": "number"}
    for length in reversed(shape):
        schema = {"type": "array", "items": schema, "minItems": length, "maxItems": length}
    if end.get("kind") == "mask" and len(shape) == 1:
        schema["contains"] = {"const": True}
    if len(low) > _LARGEST_LISTED:
        return [schema]
    if not alike and len(shape) == 1:
        schema["prefixItems"] = [_number(end, *ends) for ends in zip(low, high, strict=True)]
    if not elements:
        return [schema]
    rows = zip(elements, low, high, strict=True)
    named = {e.name: _number(end, *sorted(map(e.quantity, ends))) | _unit(e) for e, *ends in rows}
    return [schema, {"type": "object", "properties": named, "required": [*named], "additionalProperties": False}]


def _number(end: dict[str, Any], low: float, high: float) -> dict[str, Any]:
    if end["dtype"] == "bool":
        return {"type": "boolean"}
    whole = np.dtype(end["dtype"]).kind in "iu" and not elements_of(end)
    return {"type": "integer" if whole else "number", "minimum": low, "maximum": high}


def _unit(element: Element) -> dict[str, Any]:
    return {"description": element.unit} if element.unit else {}
