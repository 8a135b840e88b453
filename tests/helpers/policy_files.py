"""Small ONNX policies with a contract, made without PyTorch."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from palaestra.train.export.policy_file import BLANK_SHA256, CONTRACT_KEY, SHA256_KEY, sha256_without

CONTRACT: dict[str, Any] = {
    "environment": {"id": "CartPole-v1"},
    "inputs": [{"name": "observation", "dtype": "float32", "shape": [4]}],
    "outputs": [{"name": "action", "dtype": "int64", "shape": []}],
}

LISTED: dict[str, Any] = {  # prices at a few moments
    "asks": [
        {"name": "period", "unit": "day", "least": 1, "step": 1, "count": 2},
        {"name": "stock", "unit": "unit", "least": 1, "step": 1, "count": 3},
    ],
    "answers": ["price"],
    "menu": [[4.5], [6]],
    "actions": [[0, 1, None], [1, 1, 0]],
}


def model(operator: str = "ArgMax", domain: str = "", width: int = 4) -> onnx.ModelProto:
    """The action is the place of the largest of observation @ weights."""
    weights = numpy_helper.from_array(np.arange(8, dtype=np.float32).reshape(4, 2)[::-1].copy(), "weights")
    nodes = [
        helper.make_node("MatMul", ["observation", "weights"], ["scores"]),
        helper.make_node(
            operator, ["scores"], ["action"], domain=domain, **({} if domain else {"axis": 1, "keepdims": 0})
        ),
    ]
    graph = helper.make_graph(
        nodes,
        "policy",
        [helper.make_tensor_value_info("observation", TensorProto.FLOAT, ["batch", width])],
        [helper.make_tensor_value_info("action", TensorProto.INT64, ["batch"])],
        [weights],
    )
    imports = [helper.make_opsetid("", 18), *([helper.make_opsetid(domain, 1)] if domain else [])]
    return helper.make_model(graph, opset_imports=imports, ir_version=8)


def written(folder: Path, proto: onnx.ModelProto, contract: Any = CONTRACT, sealed: bool = True) -> Path:
    """The file, with its contract inside and a checksum."""
    text = contract if isinstance(contract, str) else json.dumps(contract)
    proto = copy.deepcopy(proto)
    helper.set_model_props(proto, {CONTRACT_KEY: text, **({SHA256_KEY: BLANK_SHA256} if sealed else {})})
    content = proto.SerializeToString()
    if sealed:
        content = content.replace(BLANK_SHA256.encode(), sha256_without(content, BLANK_SHA256).encode())
    (path := folder / "policy.onnx").write_bytes(content)
    return path


def listed(folder: Path, prices: Any = LISTED) -> Path:
    """A file with prices."""
    return written(folder, model(), {**CONTRACT, **({} if prices is None else {"prices": prices})})
