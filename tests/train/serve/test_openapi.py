"""The server against its own description: schemathesis makes requests from it, right and wrong ones."""

from __future__ import annotations

import collections
import json
import warnings
from datetime import UTC
from pathlib import Path
from typing import Any

import onnx
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from onnx import helper
from policy_files import CONTRACT, LISTED, model, written

from palaestra.train.export.policy_file import PolicyFile
from palaestra.train.monitoring.log_entries import EntryReader
from palaestra.train.serve.app import Served, application
from palaestra.train.serve.openapi import act_description

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of what it imports
    schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed (extra test)")

FULL = {**LISTED, "actions": [[0, 1, 1], [1, 1, 0]]}
NAMES = [{"name": "a", "unit": "m", "scale": 2.0, "offset": 1.0}, {"name": "b", "count": 3}]
INPUTS = {
    "alike": {"low": -5.0, "high": 5.0, "elements": NAMES},
    "each its own": {"low": [-1.0, 0.0, None, 1.0], "high": [1.0, 0.5, None, 2.0]},
    "whole numbers": {"dtype": "int64", "kind": "multi_discrete", "first": [0, -1, 0, 2], "count": [2, 3, 1, 5]},
}
ROUTES = {
    "POST /act": 25,
    "POST /outcome": 15,
    "GET /price": 15,
    "GET /contract": 1,
    "GET /health": 1,
    "GET /metrics": 1,
}


def model_of(dtype: str) -> Any:
    """The usual model, for inputs of another dtype."""
    proto = model()
    if dtype == "int64":
        proto.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.INT64
        proto.graph.node.insert(0, helper.make_node("Cast", ["observation"], ["floats"], to=onnx.TensorProto.FLOAT))
        proto.graph.node[1].input[0] = "floats"
    return proto


def send(operation: Any, mode: Any, seen: collections.Counter[str]) -> None:
    """Requests of that kind, each of whose answers passes all checks of schemathesis."""

    @given(case=operation.as_strategy(generation_mode=mode))
    @settings(
        max_examples=ROUTES[operation.label],
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=[*HealthCheck],
    )
    def sent(case: Any) -> None:
        response = case.call()
        seen[f"{mode.name} {operation.label} {response.status_code}"] += 1
        case.validate_response(response)

    sent()


@pytest.mark.parametrize("kind", INPUTS)
def test_what_the_page_says_is_what_the_server_does(tmp_path: Path, kind: str) -> None:
    """What fits the page is answered, what does not is refused, and each answer is as the page says."""
    end = {**CONTRACT["inputs"][0], **INPUTS[kind]}
    contract = {**CONTRACT, "inputs": [end], "prices": FULL}
    logged: list[Any] = []
    policy = PolicyFile(written(tmp_path, model_of(end["dtype"]), contract))
    app: Any = application(Served(policy, log=lambda entry, size: logged.append(entry)))
    seen: collections.Counter[str] = collections.Counter()
    for found in schemathesis.openapi.from_asgi("/openapi.json", app).get_all_operations():
        operation = found.ok()
        send(operation, schemathesis.GenerationMode.POSITIVE, seen)
        if operation.label in (
            "POST /act",
            "POST /outcome",
            "GET /price",
        ):  # the others take nothing that could be wrong
            send(operation, schemathesis.GenerationMode.NEGATIVE, seen)
    assert seen["POSITIVE POST /act 200"] >= 10, seen
    assert seen["POSITIVE GET /price 200"] >= 5, seen
    assert seen["NEGATIVE POST /act 422"] >= 3, seen
    assert seen["NEGATIVE POST /act 422"] + seen["NEGATIVE POST /act 400"] >= 10, seen  # others bend the name alone
    assert seen["POSITIVE POST /outcome 200"] >= 10, seen
    assert seen["NEGATIVE POST /outcome 422"] >= 5, seen
    reader = EntryReader(contract, policy.sha256, UTC)
    assert len([reader(entry) for entry in json.loads(json.dumps(logged))]) >= 20
    assert seen["NEGATIVE GET /price 422"] >= 10, seen


def test_masks_are_described_with_an_action_that_is_allowed() -> None:
    mask = {"name": "action_mask", "kind": "mask", "dtype": "bool", "shape": [3]}
    described = act_description({**CONTRACT, "inputs": [mask]}, 7)
    whole = described["requestBody"]["content"]["application/json"]["schema"]["properties"]["action_mask"]["oneOf"]
    assert whole[0] == {
        "type": "array",
        "items": {"type": "boolean"},
        "minItems": 3,
        "maxItems": 3,
        "contains": {"const": True},
    }
    assert whole[1]["maxItems"] == 7
