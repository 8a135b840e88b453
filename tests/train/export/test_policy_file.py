"""Files that are opened: only whole ones with a contract, of ONNX's own operators, that name no other file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from policy_files import CONTRACT, model, written

from palaestra.train.export.policy_file import PolicyFile, PolicyFileError


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
    with pytest.raises(PolicyFileError, match=r"theirs.json is damaged: KeyError: 'id'"):
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
        (model(), {**CONTRACT, "outputs": [{"name": "price", "dtype": "int64", "shape": []}]}, "not those of a policy"),
        (model(), {**CONTRACT, "environment": "CartPole-v1"}, "is damaged: TypeError"),
        (model(), "[" * 100_000, "is damaged: RecursionError"),
        (model(), "{", "is damaged: JSONDecodeError"),
    ],
)
def test_refusals(tmp_path: Path, proto: onnx.ModelProto, contract: Any, message: str) -> None:
    (tmp_path / "weights.bin").write_bytes(np.arange(8, dtype=np.float32).tobytes())
    with pytest.raises(PolicyFileError, match=message) as refusal:
        PolicyFile(written(tmp_path, proto, contract))
    assert "\n" not in str(refusal.value)


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
