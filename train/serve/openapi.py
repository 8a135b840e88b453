"""The description of ``POST /act`` for OpenAPI, from a policy's contract."""

from __future__ import annotations

from typing import Any

from palaestra.train.export.observation_reader import Element, elements_of
from palaestra.train.serve.outcomes import MOST_LETTERS

_LARGEST_LISTED = 256  # elements of a vector whose bounds are described one by one


def act_description(contract: dict[str, Any]) -> dict[str, Any]:
    """What a route says of its request and its answers."""
    properties = {end["name"]: {"oneOf": [one, _several(one)]} for end in contract["inputs"] for one in [_input(end)]}
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
    episode = {"type": "string", "minLength": 1, "maxLength": MOST_LETTERS}
    named = {"name": "episode", "in": "query", "schema": episode, "description": "Of one observation, for the log."}
    return {
        "parameters": [named],
        "requestBody": {"required": True, "content": {"application/json": {"schema": body}}},
        "responses": {
            "200": {
                "description": "The action, and what else the policy puts out.",
                "content": {"application/json": {"schema": {"type": "object", "properties": outputs}}},
            },
            **{status: {"description": text, "content": _DETAIL} for status, text in refusals.items()},
        },
    }


_DETAIL = {"application/json": {"schema": {"type": "object", "properties": {"detail": {"type": "array"}}}}}


def _input(end: dict[str, Any]) -> dict[str, Any]:
    """The schema of one observation's input."""
    number: dict[str, Any] = {"type": "number"}
    if end["dtype"] == "bool":
        number = {"type": "boolean"}
    elif end.get("kind") == "image":
        number = {"type": "integer", "minimum": 0, "maximum": 255}
    elif end.get("kind") == "discrete":
        number = {"type": "integer", "minimum": end["first"], "maximum": end["first"] + end["count"] - 1}
    elif not isinstance(end.get("low"), list) and not isinstance(end.get("high"), list):
        bounds = {"minimum": end.get("low"), "maximum": end.get("high")}
        number |= {name: bound for name, bound in bounds.items() if bound is not None}
    schema = number
    for length in reversed(end["shape"]):
        schema = {"type": "array", "items": schema, "minItems": length, "maxItems": length}
    elements = elements_of(end)
    if elements and len(elements) <= _LARGEST_LISTED:
        named = {element.name: {"type": "number", **_unit(element)} for element in elements}
        by_name = {"type": "object", "properties": named, "required": [*named], "additionalProperties": False}
        schema = {"oneOf": [schema, by_name]}
    return schema


def _unit(element: Element) -> dict[str, Any]:
    return {"description": element.unit} if element.unit else {}


def _several(one: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": one, "minItems": 1}
