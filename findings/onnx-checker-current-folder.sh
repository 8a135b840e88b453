#!/usr/bin/env bash
# onnx.checker.check_model, given a model as bytes, looks for other files in the current folder: the same bytes are
# valid in one folder and invalid in another.
#
# One would guess that checking bytes reads nothing but the bytes; the check of a path is documented to look beside that
# path for tensors that are stored outside. For bytes and for a ModelProto the checker takes the current folder, so what
# it says depends on where the program was started.
#
# Cure: look through the tensors for external data first. palaestra refuses such a file before the checker sees it.
#
# Seen with Python 3.11, onnx 1.23.2, Linux x86_64, on 2026-11-29. Fails if any of it changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
PATH="$folder/venv/bin:$PATH"
export PIP_DISABLE_PIP_VERSION_CHECK=1
pip install -q onnx==1.23.2 numpy==2.3.5

cat > "$folder/check.py" <<'PY'
import os
import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

weights = numpy_helper.from_array(np.ones(2, np.float32), "weights")
weights.ClearField("raw_data")
weights.data_location = TensorProto.EXTERNAL
weights.external_data.add(key="location", value="weights.bin")
result = helper.make_tensor_value_info("y", TensorProto.FLOAT, [2])
graph = helper.make_graph([helper.make_node("Identity", ["weights"], ["y"])], "graph", [], [result], [weights])
content = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]).SerializeToString()
for name in ("with the file", "without it"):
    os.makedirs(os.path.join(sys.argv[1], name))
with open(os.path.join(sys.argv[1], "with the file", "weights.bin"), "wb") as file:
    file.write(np.ones(2, np.float32).tobytes())
for name in ("with the file", "without it"):
    os.chdir(os.path.join(sys.argv[1], name))
    for kind, given in (("bytes", content), ("ModelProto", onnx.load_model_from_string(content))):
        try:
            onnx.checker.check_model(given)
            print(f"in a folder {name}, {kind}: valid")
        except onnx.checker.ValidationError:
            print(f"in a folder {name}, {kind}: ValidationError")
PY
python -c 'import platform, onnx; print("Python", platform.python_version(), "onnx", onnx.__version__)'
seen=$(python "$folder/check.py" "$folder")
echo "$seen"
expected="in a folder with the file, bytes: valid
in a folder with the file, ModelProto: valid
in a folder without it, bytes: ValidationError
in a folder without it, ModelProto: ValidationError"
[[ $seen == "$expected" ]] || { echo "CHANGED" >&2; exit 1; }
