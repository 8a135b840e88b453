"""Files that are opened: only whole ones with a contract, of ONNX's own operators, that name no other file."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from policy_files import CONTRACT, model, written

from palaestra.train.export.contract_check import ContractError, check_contract
from palaestra.train.export.observation_reader import ObservationReader
from palaestra.train.export.policy_file import PolicyFile, PolicyFileError
from palaestra.train.serve.openapi import act_description


def test_a_policy_acts_on_batches_of_any_size(tmp_path: Path) -> None:
    file = PolicyFile(written(tmp_path, model()))
    assert file.contract == CONTRACT
    for n in (1, 7):
        observations = np.random.default_rng(n).normal(size=(n, 4)).astype(np.float32)
        expected = (observations @ np.arange(8, dtype=np.float32).reshape(4, 2)[::-1]).argmax(1)
        assert file({"observation": observations})["action"].tolist() == expected.tolist()


def test_somebody_elses_file_takes_its_contract_from_beside(tmp_path: Path) -> None:
    path = tmp_path / "theirs.onnx"
    path.write_bytes(model().SerializeToString())
    with pytest.raises(
        PolicyFileError, match=r"theirs.onnx has no contract: neither inside nor as theirs.json beside it"
    ):
        PolicyFile(path)
    (tmp_path / "theirs.json").write_text(json.dumps(CONTRACT))
    assert PolicyFile(path).contract == CONTRACT
    (tmp_path / "theirs.json").write_text('{"environment": {}}')
    with pytest.raises(PolicyFileError, match=r"theirs.json is damaged: environment.id must be a name"):
        PolicyFile(path)


@pytest.mark.parametrize("place", [0.1, 0.3, 0.5, 0.7, 0.9])
def test_a_changed_byte_is_seen(tmp_path: Path, place: float) -> None:
    path = written(tmp_path, model())
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= 1
    path.write_bytes(content)
    with pytest.raises(PolicyFileError):
        PolicyFile(path)


def test_changed_weights_are_seen(tmp_path: Path) -> None:
    path = written(tmp_path, model())
    content = path.read_bytes()
    path.write_bytes(content.replace(np.float32(5).tobytes(), np.float32(6).tobytes(), 1))
    with pytest.raises(PolicyFileError, match="its bytes are not those that were written"):
        PolicyFile(path)


def test_every_cut_is_refused(tmp_path: Path) -> None:
    content = written(tmp_path, model()).read_bytes()
    cut = tmp_path / "cut.onnx"
    for end in range(0, len(content) - 1, 7):
        cut.write_bytes(content[:end])
        with pytest.raises(PolicyFileError, match=r"cut\.onnx"):
            PolicyFile(cut)


def external() -> onnx.ModelProto:
    """Weights in a file beside: it is there, and must not be read."""
    proto = model()
    tensor = proto.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="weights.bin")
    return proto


def hidden() -> onnx.ModelProto:
    """The same in a graph of an attribute."""
    inner = external().graph
    proto = model()
    inside = helper.make_graph(list(inner.node), "inside", [], list(inner.output), list(inner.initializer))
    always = helper.make_node("Constant", [], ["always"], value=numpy_helper.from_array(np.array(True)))
    choice = helper.make_node("If", ["always"], ["action"], then_branch=inside, else_branch=inside)
    del proto.graph.node[:]
    proto.graph.node.extend([always, choice])
    return proto


@pytest.mark.parametrize(
    ("proto", "contract", "message"),
    [
        (model("Gelu", "com.microsoft"), CONTRACT, r"its operator com\.microsoft\.Gelu is none of ONNX's"),
        (external(), CONTRACT, "its tensor 'weights' is in another file, which is not read"),
        (hidden(), CONTRACT, "its tensor 'weights' is in another file, which is not read"),
        (model(width=5), CONTRACT, "MatMul|its inputs are"),
        (
            model(),
            {**CONTRACT, "inputs": []},
            r"its inputs are observation tensor\(float\)\[4\], and its contract says none",
        ),
        (model(), {**CONTRACT, "inputs": [{**CONTRACT["inputs"][0], "shape": [5]}]}, r"its contract says observation"),
        (model(), {**CONTRACT, "inputs": [{**CONTRACT["inputs"][0], "dtype": "uint8"}]}, r"tensor\(uint8\)"),
        (
            model(),
            {**CONTRACT, "outputs": [{"name": "price", "dtype": "int64", "shape": []}]},
            r"outputs\[0\].name must be action",
        ),
        (model(), {**CONTRACT, "environment": "CartPole-v1"}, "is damaged: environment must be an object"),
        (model(), "[" * 100_000, "is damaged: RecursionError"),
        (model(), "{", "is damaged: JSONDecodeError"),
    ],
)
def test_refusals(tmp_path: Path, proto: onnx.ModelProto, contract: Any, message: str) -> None:
    (tmp_path / "weights.bin").write_bytes(np.arange(8, dtype=np.float32).tobytes())
    with pytest.raises(PolicyFileError, match=message) as refusal:
        PolicyFile(written(tmp_path, proto, contract))
    assert "\n" not in str(refusal.value)


OBSERVATION, ACTION = CONTRACT["inputs"][0], CONTRACT["outputs"][0]
LEVERS = {**ACTION, "kind": "discrete", "first": 0, "count": 2}


def elements(*rows: Any) -> dict[str, Any]:
    return {"inputs": [{**OBSERVATION, "elements": [*rows]}]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"environment": {}}, "environment.id must be a name"),
        ({"environment": {"id": "x", "settings": []}}, "environment.settings must be an object"),
        ({"agent": None}, "agent must be an object"),
        ({"agent": "ppo"}, "agent must be an object"),
        ({"agent": {"algorithm": 3}}, "agent.algorithm must be a name"),
        ({"scores": [1]}, "scores must be an object or null"),
        ({"scores": {"episodes": "many"}}, "scores.episodes must be a whole number of at least 1"),
        ({"scores": {"episodes": -1}}, "scores.episodes must be"),
        ({"scores": {"episodes": 1.5}}, "scores.episodes must be"),
        ({"inputs": {}}, "inputs must be a list"),
        ({"inputs": ["observation"]}, r"inputs\[0\] must be an object"),
        ({"inputs": [OBSERVATION, OBSERVATION]}, "two inputs or outputs of the name 'observation'"),
        ({"inputs": [{**OBSERVATION, "dtype": "float33"}]}, "dtype must be the name of a dtype"),
        ({"inputs": [{**OBSERVATION, "dtype": ["float32"]}]}, "dtype must be the name of a dtype"),
        ({"inputs": [{**OBSERVATION, "shape": 4}]}, "shape must be a list"),
        ({"inputs": [{**OBSERVATION, "shape": [True]}]}, "shape must be a list"),
        ({"inputs": [{**OBSERVATION, "shape": [-4]}]}, "shape must be a list"),
        ({"inputs": [{**OBSERVATION, "shape": [2**20, 2**20]}]}, "shape must be of at most 67,108,864 numbers"),
        ({"inputs": [{**OBSERVATION, "kind": "sound"}]}, "kind must be one of box"),
        ({"inputs": [{**OBSERVATION, "kind": "mask"}]}, "dtype must be bool for a mask"),
        ({"inputs": [{**OBSERVATION, "low": "none"}]}, "low must be null, a number"),
        ({"inputs": [{**OBSERVATION, "low": math.nan}]}, "low must be null, a number"),
        ({"inputs": [{**OBSERVATION, "low": int("9" * 400)}]}, "low must be null, a number"),
        ({"inputs": [{**OBSERVATION, "high": [1, 2, 3]}]}, "high must be null, a number, or a list of the shape"),
        ({"inputs": [{**OBSERVATION, "high": [1, 2, 3, [4]]}]}, "high must be null, a number, or a list of the shape"),
        ({"inputs": [{**OBSERVATION, "low": 1, "high": [2, 2, 2, 0]}]}, "low must be at most high"),
        ({"outputs": [{**LEVERS, "count": 0}]}, "count must be a whole number"),
        ({"outputs": [{**LEVERS, "first": None}]}, "first must be a whole number"),
        ({"outputs": [{**LEVERS, "count": [2]}]}, "count must be a whole number"),
        ({"outputs": [{**LEVERS, "choices": ["left"]}]}, "choices must be 2 names, and has 1"),
        ({"outputs": [{**LEVERS, "choices": [1, 2]}]}, "choices must be a list of names"),
        ({"outputs": [{**LEVERS, "choices": None}]}, "choices must be a list of names"),
        ({"inputs": [{**OBSERVATION, "elements": None}]}, "elements must be a list"),
        (elements(*"abcd"), r"elements\[0\] must be an object"),
        (elements({"unit": "m", "count": 4}), r"elements\[0\].name must be a name"),
        (elements({"name": "a", "count": 3}), "elements must be of 4 numbers, and are of 3"),
        (elements({"name": "a", "count": 2.0}, {"name": "b", "count": 2}), "count must be a whole number"),
        (elements({"name": "a", "count": 2}, {"name": "a", "count": 2}), "elements must have different names"),
        (elements({"name": "a", "count": 3}, {"name": "a_1"}), "elements must have different names"),
        (elements({"name": "a", "count": 4, "scale": 0}), "scale must be a number, not 0"),
        (elements({"name": "a", "count": 4, "scale": "2"}), "scale must be a number, not 0"),
        (elements({"name": "a", "count": 4, "offset": None}), "offset must be a number"),
        (elements({"name": "a", "count": 4, "unit": 1}), "unit must be text"),
    ],
)
def test_damaged_contracts_are_told_with_their_place(tmp_path: Path, change: Any, message: str) -> None:
    with pytest.raises(PolicyFileError, match=rf"the contract in .*policy\.onnx is damaged: .*{message}") as refusal:
        PolicyFile(written(tmp_path, model(), {**CONTRACT, **change}))
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("contract", ["null", "[]", "3", '"text"'])
def test_other_json_is_no_contract(tmp_path: Path, contract: str) -> None:
    with pytest.raises(PolicyFileError, match="is damaged: it must be an object"):
        PolicyFile(written(tmp_path, model(), contract))


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_part_may_be_any_json(data: st.DataObject) -> None:
    """A part of a whole contract becomes something else: it is taken or refused, and what is taken can be read."""
    named = {**OBSERVATION, "kind": "box", "low": -1.0, "high": [1.0] * 4, "elements": [{"name": "a", "count": 4}]}
    whole = {
        **CONTRACT,
        "agent": {"algorithm": "ppo"},
        "scores": {"episodes": 3},
        "inputs": [named],
        "outputs": [{**LEVERS, "choices": ["left", "right"]}],
    }
    contract: Any = copy.deepcopy(whole)
    part = contract
    while True:
        key = data.draw(st.sampled_from([*part] if isinstance(part, dict) else [*range(len(part))]))
        if not isinstance(part[key], dict | list) or not part[key] or data.draw(st.booleans()):
            break
        part = part[key]
    part[key] = data.draw(st.none() | st.booleans() | st.integers(-3, 5) | st.floats() | st.text(max_size=2) | NESTED)
    try:
        check_contract(contract)
    except ContractError:
        return
    ObservationReader(contract["inputs"])
    act_description(contract, 256)


NESTED: Any = st.recursive(
    st.integers(0, 4) | st.text(max_size=1) | st.none(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["name", "count", "id"]), inner),
    max_leaves=5,
)


def frozen(batch: int) -> onnx.ModelProto:
    """A batch of one size alone."""
    proto = model()
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = batch
    return proto


def first_alone() -> onnx.ModelProto:
    """One action, however many observations."""
    proto = model()
    proto.graph.node[1].attribute[0].CopyFrom(helper.make_attribute("axis", 0))
    return proto


@pytest.mark.parametrize(
    ("proto", "message"),
    [
        (frozen(1), "policy.onnx: .*invalid dimensions"),
        (frozen(2), "policy.onnx: .*invalid dimensions"),
        (first_alone(), r"for 3 observations its outputs are action int64\[2\], wanted are action int64\[3\]"),
    ],
)
def test_a_policy_takes_batches_of_any_size(tmp_path: Path, proto: onnx.ModelProto, message: str) -> None:
    with pytest.raises(PolicyFileError, match=message):
        PolicyFile(written(tmp_path, proto))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x00" * 100, b"not a model", bytes(range(256))])
def test_other_files_are_no_models(tmp_path: Path, content: bytes) -> None:
    (path := tmp_path / "other.onnx").write_bytes(content)
    with pytest.raises(PolicyFileError, match=r"other\.onnx is no ONNX model"):
        PolicyFile(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(PolicyFileError, match=r"there is no file .*none\.onnx"):
        PolicyFile(tmp_path / "none.onnx")


@pytest.mark.parametrize(
    "feed",
    [
        {},
        {"observation": np.zeros((2, 5), np.float32)},
        {"observation": np.zeros((2, 4), np.float64)},
        {"observation": np.zeros((2, 4), np.float32), "more": np.zeros(2)},
    ],
)
def test_wrong_inputs_are_refused_in_a_line(tmp_path: Path, feed: dict[str, Any]) -> None:
    file = PolicyFile(written(tmp_path, model()))
    with pytest.raises(PolicyFileError, match=r"policy\.onnx") as refusal:
        file(feed)
    assert "\n" not in str(refusal.value)
