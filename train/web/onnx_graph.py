"""The graph of an ONNX file as plain data for a web page, with weights as coarse as the actions allow.

A matrix of weights is stored as float32, as float16, or as int8 with a scale for each of its rows; everything else as
float32. :func:`rounded_weights` gives the ONNX file with just these rounded weights, so that what the page computes can
be compared with the agent before a page is written.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from palaestra.agents.export.policy_network import MASK, ExportError
from palaestra.envs.core.reference import Array
from palaestra.train.web.worlds import text_of

PRECISIONS = ("int8", "float16", "float32")  # from the smallest page to the exact one
_SMALL = 256  # entries of what is not worth rounding
_NAMES = """
Add ArgMax Cast Clip Concat Conv Cos Div Exp Expand Flatten Gemm Identity LayerNormalization LogSoftmax MatMul Max Min
Mul Not ReduceMean ReduceSum Relu Reshape Shape Sigmoid Sin Squeeze Sub Tanh Where
"""
OPERATORS = frozenset(_NAMES.split())  # of player/network.js
_AXES_AS_INPUT = ("ReduceMean", "ReduceSum", "Squeeze")


def page_network(content: bytes, precision: str) -> dict[str, Any]:
    """``nodes``, ``tensors``, ``input``, ``mask`` and ``outputs`` of a policy, as JSON holds them.

    Args:
        content: of an ONNX file with one observation and perhaps the mask of legal actions, whose name is ``mask``.
        precision: of the weights, one of ``PRECISIONS``.

    Raises:
        ExportError: if the page does not know one of its operators, or it has more than one observation.
    """
    import onnx
    from onnx import numpy_helper

    graph = onnx.load_from_string(content).graph
    observations = [end for end in graph.input if end.name != MASK]
    if len(observations) != 1:
        names = ", ".join(end.name for end in observations)
        raise ExportError(f"a page feeds a policy one observation, and this one has the inputs {names}")
    if unknown := sorted({node.op_type for node in graph.node} - OPERATORS - {"Constant"}):
        raise ExportError(f"a page cannot compute this network: it does not know {', '.join(unknown)}")
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant":
            arrays[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
    nodes = [_node(node, arrays) for node in graph.node if node.op_type != "Constant"]
    used = {name for node in nodes for name in node["inputs"]}
    dims = observations[0].type.tensor_type.shape.dim
    return {
        "nodes": nodes,
        "tensors": {name: _tensor(array, precision) for name, array in arrays.items() if name in used},
        "input": {"name": observations[0].name, "shape": [dim.dim_value for dim in dims[1:]]},
        "mask": MASK if len(graph.input) > 1 else None,
        "outputs": [end.name for end in graph.output],
    }


def _node(node: Any, arrays: dict[str, Array]) -> dict[str, Any]:
    from onnx import helper

    attributes = {one.name: helper.get_attribute_value(one) for one in node.attribute}
    inputs = list(node.input)
    if node.op_type in _AXES_AS_INPUT and len(inputs) > 1:
        attributes["axes"] = arrays[inputs.pop()].tolist()
    told = {name: value for name, value in attributes.items() if isinstance(value, int | float | list)}
    return {"op": node.op_type, "inputs": inputs, "output": node.output[0], "attributes": told}


def _tensor(array: Array, precision: str) -> dict[str, Any]:
    shape = list(array.shape)
    if array.dtype.kind in "iub":
        return {"shape": shape, "dtype": "numbers", "data": array.ravel().tolist()}
    if not _is_rounded(array, precision):
        return {"shape": shape, "dtype": "float32", "data": text_of(array, np.float32)}
    if precision == "float16":
        return {"shape": shape, "dtype": "float16", "data": text_of(array, np.float16)}
    whole, scale = _int8(array)
    return {"shape": shape, "dtype": "int8", "data": text_of(whole, np.int8), "scale": text_of(scale, np.float32)}


def _is_rounded(array: Array, precision: str) -> bool:
    return precision != "float32" and array.dtype == np.float32 and array.ndim > 1 and array.size > _SMALL


def _int8(array: Array) -> tuple[Array, Array]:
    """Whole numbers from −127 to 127 of the array's shape, and a scale for each entry of its first axis."""
    largest = np.abs(array.reshape(len(array), -1)).max(1)
    scale = np.where(largest > 0, largest / 127, 1).astype(np.float32)
    return np.rint(array / scale.reshape(-1, *[1] * (array.ndim - 1))).astype(np.int8), scale


def rounded_weights(content: bytes, precision: str) -> bytes:
    """An ONNX file whose weights are those that a page of that precision computes with."""
    import onnx
    from onnx import numpy_helper

    model = onnx.load_from_string(content)
    for tensor in model.graph.initializer:
        array = numpy_helper.to_array(tensor)
        if not _is_rounded(array, precision):
            continue
        if precision == "float16":
            rounded = array.astype(np.float16).astype(np.float32)
        else:
            whole, scale = _int8(array)
            rounded = whole * scale.reshape(-1, *[1] * (array.ndim - 1))
        tensor.CopyFrom(numpy_helper.from_array(rounded.astype(np.float32), tensor.name))
    done: bytes = model.SerializeToString()
    return done
