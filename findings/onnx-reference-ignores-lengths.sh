#!/usr/bin/env bash
# ONNX's own reference evaluator runs RNN, GRU and LSTM over the padding: it takes sequence_lens and never looks at it.
# So it does with clip, activations and input_forget. A right file looks wrong beside it, and a wrong one right.
#
# One would guess that onnx.reference, by which one checks an export against the standard, computes what an operator
# says or refuses it, as onnxruntime refuses layout=1. For a batch of sequences of several lengths the standard wants
# each sequence's last state at its own end. The evaluator goes on through the padding, to the last step of the longest;
# what lengths it is given changes nothing. onnxruntime agrees with the formulas, which are written out below. A remark
# in the evaluator's code says that the attributes are to be done; of the lengths it says nothing. onnx.checker is
# content with all of them.
#
# Cure: compare exports with onnxruntime, or give the evaluator one sequence at a time, without padding.
#
# Seen with Python 3.11.7, onnx 1.23.2, onnxruntime 1.32.0, NumPy 2.4.6, Linux x86_64, on 2026-11-30. Fails if any of it
# changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
PATH="$folder/venv/bin:$PATH"
export PIP_DISABLE_PIP_VERSION_CHECK=1
pip install -q onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6

cat > "$folder/lengths.py" <<'PY'
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

STEPS, SEEN, KEPT = 4, 3, 5
GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def last_state(op, x, w, r, b):
    """The standard's formulas for one sequence x [steps, SEEN]; the state behind its last step."""
    h, c, n = np.zeros(KEPT), np.zeros(KEPT), KEPT
    for seen in x:
        into, back = seen @ w.T + b[: len(w)], h @ r.T + b[len(w) :]
        both = into + back
        if op == "RNN":
            h = np.tanh(both)
        elif op == "GRU":
            z, reset = sigmoid(both[:n]), sigmoid(both[n : 2 * n])
            h = (1 - z) * np.tanh(into[2 * n :] + (reset * h) @ r[2 * n :].T + b[len(w) + 2 * n :]) + z * h
        else:
            c = sigmoid(both[2 * n : 3 * n]) * c + sigmoid(both[:n]) * np.tanh(both[3 * n :])
            h = sigmoid(both[n : 2 * n]) * np.tanh(c)
    return h


def outputs(op, feed, **attributes):
    """Last states [sequences, KEPT] by onnxruntime and by the reference evaluator."""
    node = helper.make_node(op, list(feed), ["", "last"], hidden_size=KEPT, **attributes)
    kind = helper.np_dtype_to_tensor_dtype
    given = [helper.make_tensor_value_info(name, kind(of.dtype), of.shape) for name, of in feed.items()]
    taken = [helper.make_tensor_value_info("last", TensorProto.FLOAT, (1, 2, KEPT))]
    opsets = [helper.make_opsetid("", 22)]
    model = helper.make_model(helper.make_graph([node], op, given, taken), opset_imports=opsets, ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, feed)[0][0], ReferenceEvaluator(model).run(None, feed)[0][0]


def near(a, b):
    return "right" if np.abs(a - b).max() < 1e-5 else "wrong" if np.abs(a - b).max() > 0.1 else "near"


for op, gates in GATES.items():
    draws, rows = np.random.default_rng(0), gates * KEPT
    shapes = {"x": (STEPS, 2, SEEN), "w": (1, rows, SEEN), "r": (1, rows, KEPT), "b": (1, 2 * rows)}
    feed = {name: draws.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    x, weights = feed["x"].astype(float), [feed[name][0].astype(float) for name in "wrb"]
    right = np.stack([last_state(op, x[:2, 0], *weights), last_state(op, x[:, 1], *weights)])
    on = np.stack([last_state(op, x[:, k], *weights) for k in (0, 1)])
    runtime, reference = outputs(op, feed | {"lengths": np.array([2, 4], np.int32)})
    told = f"reference {near(reference, right)}, without lengths it would be {near(reference, on)}"
    print(f"{op}, sequences of 2 and 4 steps: onnxruntime {near(runtime, right)}; {told}")
    if op != "RNN":
        plain = outputs(op, feed)
        kinds = {"clip": {"clip": 0.3}, "activations": {"activations": ["HardSigmoid", "Tanh", "Tanh"][: gates - 1]}}
        kinds |= {"input_forget": {"input_forget": 1}} if op == "LSTM" else {}
        for kind, attributes in kinds.items():
            changed = [not np.allclose(a, b, atol=1e-5) for a, b in zip(outputs(op, feed, **attributes), plain)]
            print(f"{op}, {kind} changes onnxruntime's output: {changed[0]}, the reference's: {changed[1]}")
PY
seen=$(python "$folder/lengths.py")
python -c 'import platform, onnx, onnxruntime as o; print(platform.python_version(), onnx.__version__, o.__version__)'
echo "$seen"
expected="RNN, sequences of 2 and 4 steps: onnxruntime right; reference wrong, without lengths it would be right
GRU, sequences of 2 and 4 steps: onnxruntime right; reference wrong, without lengths it would be right
GRU, clip changes onnxruntime's output: True, the reference's: False
GRU, activations changes onnxruntime's output: True, the reference's: False
LSTM, sequences of 2 and 4 steps: onnxruntime right; reference wrong, without lengths it would be right
LSTM, clip changes onnxruntime's output: True, the reference's: False
LSTM, activations changes onnxruntime's output: True, the reference's: False
LSTM, input_forget changes onnxruntime's output: True, the reference's: False"
[[ $seen == "$expected" ]] || { echo "CHANGED" >&2; exit 1; }
