"""Pages that play: what they compute, what they weigh, and what is refused."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from exported_runs import SMALL, TRAIN, command
from onnx import numpy_helper
from player_node import data_of, run_player

from palaestra.train.plain_json import in_script
from palaestra.train.web.onnx_graph import PRECISIONS, page_network, rounded_weights


@pytest.mark.parametrize("name", ["snake", "cartpole", "pricing", "reach", "grid"])
def test_the_player_computes_what_the_exported_file_does(name: str, pages: Path, tmp_path: Path) -> None:
    """Every output of the network, for 200 observations, against ONNX Runtime."""
    content = (pages / f"{name}.onnx").read_bytes()
    network = page_network(content, "float32")
    observations = np.random.default_rng(1).random((200, *network["input"]["shape"]), np.float32)
    found = run_player(tmp_path, network=network, observations=observations.reshape(200, -1).tolist()).reshape(200, -1)
    outputs = onnxruntime.InferenceSession(content).run(None, {"observation": observations})
    expected = np.concatenate([part.reshape(200, -1) for part in outputs], 1).astype(np.float32)
    size = np.maximum(1.0, np.abs(expected).max(0))
    assert np.abs((found - expected) / size).max() <= 2e-5


@pytest.mark.parametrize("name", ["snake", "cartpole", "pricing", "reach"])
def test_a_page_is_small_loads_nothing_and_was_compared(name: str, pages: Path) -> None:
    file = pages / f"{name}-page.html"
    assert file.stat().st_size < 400_000
    assert not re.search(r"https?://|src=|@import|fetch\(|XMLHttpRequest", file.read_text())
    told = json.loads(file.with_suffix(".json").read_text())
    assert told["confirmed"]["states"] >= 10_000
    assert told["file"] == file.name
    assert data_of(file)["contract"]["confirmed"] == told["confirmed"]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_rounded_weights_are_what_the_page_unpacks(precision: str, pages: Path, tmp_path: Path) -> None:
    """The page's weights in JavaScript, seen through the network, are those that were compared with the agent."""
    content = (pages / "snake.onnx").read_bytes()
    observations = np.random.default_rng(1).random((50, 145), np.float32)
    found = run_player(tmp_path, network=page_network(content, precision), observations=observations.tolist())
    session = onnxruntime.InferenceSession(rounded_weights(content, precision))
    _, scores, value = session.run(None, {"observation": observations})
    expected = np.concatenate((scores, value.reshape(-1, 1)), 1)
    assert np.abs(found.reshape(50, -1)[:, 1:] - expected).max() <= 1e-5
    exact = onnxruntime.InferenceSession(content).run(None, {"observation": observations})[1]
    assert (np.abs(exact - scores).max() == 0.0) == (precision == "float32")


def test_coarse_weights_are_not_taken_where_an_action_changes(
    pages: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With int8 and float16 made useless, the page keeps float32."""
    from palaestra.train.web import page

    def useless(content: bytes, precision: str) -> bytes:
        return rounded_weights(content, precision) if precision == "float32" else _negated(content)

    monkeypatch.setattr(page, "rounded_weights", useless)
    assert (
        command(monkeypatch, "export", str(pages / "snake"), "--format", "web", "--out", str(tmp_path / "p.html")) == 0
    )
    kinds = {tensor["dtype"] for tensor in data_of(tmp_path / "p.html")["network"]["tensors"].values()}
    assert kinds <= {"float32", "numbers"}


def _negated(content: bytes) -> bytes:
    model = onnx.load_from_string(content)
    for tensor in model.graph.initializer:
        array = numpy_helper.to_array(tensor)
        if array.dtype == np.float32:
            tensor.CopyFrom(numpy_helper.from_array(-array, tensor.name))
    done: bytes = model.SerializeToString()
    return done


def test_texts_cannot_end_the_script() -> None:
    evil = {"name": "</script><script>alert(1)</script><!--"}
    assert "<" not in in_script(evil)
    assert json.loads(in_script(evil)) == evil


@pytest.mark.parametrize(
    ("env", "settings", "says"),
    [
        ("snake-small", ["--set", "env.sticky_actions=0.1"], "a page cannot play"),
        ("CartPole-v1", [], "not tensor code"),
    ],
)
def test_what_a_page_cannot_play_is_told_in_a_line(
    env: str,
    settings: list[str],
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert command(monkeypatch, "train", env, *TRAIN, *SMALL, "--run-dir", str(tmp_path / "run"), *settings) == 0
    capsys.readouterr()
    assert (
        command(monkeypatch, "export", str(tmp_path / "run"), "--format", "web", "--out", str(tmp_path / "p.html")) == 2
    )
    assert says in capsys.readouterr().err
    assert not (tmp_path / "p.html").exists()
