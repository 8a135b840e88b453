#!/usr/bin/env bash
# An exported program is no snapshot of the weights: a training step taken after torch.export.export or
# torch.onnx.export, and before the result is saved, is in the file that is saved.
#
# One would guess that exporting a model takes its weights as they are, as saving a state_dict to a file does: a program
# "as of step 1000" would stay that. Both results hold the model's own parameters instead. Whatever changes them in
# place afterwards (an optimizer's step, loading a state_dict, folding a layer) changes ExportedProgram.module(),
# what torch.export.save writes, and what ONNXProgram.save writes; the two have no warning of it. A program that keeps
# several exports and saves them at the end saves the last weights several times.
#
# Cure: save at once, or export a deep copy of the model. palaestra saves before anything is trained again.
#
# Seen with Python 3.11, torch 2.13.0 (CPU), onnx 1.23.2, onnxscript 0.7.2, Linux x86_64, on 2026-11-29. Fails if any of
# it changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
PATH="$folder/venv/bin:$PATH"
export PIP_DISABLE_PIP_VERSION_CHECK=1
pip install -q torch==2.13.0 numpy==2.3.5 onnx==1.23.2 onnxscript==0.7.2

cat > "$folder/snapshot.py" <<'PY'
import copy
import logging
import sys
import warnings

import numpy as np
import onnx
import torch

logging.disable(logging.WARNING)
warnings.simplefilter("ignore")
model, x = torch.nn.Linear(2, 1, bias=False).eval(), torch.ones(3, 2)
with torch.no_grad():
    model.weight.fill_(1.0)
program = torch.export.export(model, (x,))
onnx_program = torch.onnx.export(model, (x,), dynamo=True, verbose=False)
of_a_copy = torch.export.export(copy.deepcopy(model), (x,))
with torch.no_grad():
    model.weight.fill_(5.0)  # training goes on

torch.export.save(program, sys.argv[1] + "/a.pt2")
onnx_program.save(sys.argv[1] + "/a.onnx")
weights = onnx.numpy_helper.to_array(onnx.load(sys.argv[1] + "/a.onnx").graph.initializer[0])
print("output at export: 2.0")
print("exported program after a change of the weights:", program.module()(x)[0].item())
print("saved and loaded:", torch.export.load(sys.argv[1] + "/a.pt2").module()(x)[0].item())
print("weights in the ONNX file:", np.unique(weights).tolist())
print("exported from a deep copy:", of_a_copy.module()(x)[0].item())
PY
python -c 'import platform, torch, onnx; print("Python", platform.python_version(), "torch", torch.__version__, "onnx", onnx.__version__)'
seen=$(python "$folder/snapshot.py" "$folder" 2> /dev/null)
echo "$seen"
expected="output at export: 2.0
exported program after a change of the weights: 10.0
saved and loaded: 10.0
weights in the ONNX file: [5.0]
exported from a deep copy: 2.0"
[[ $seen == "$expected" ]] || { echo "CHANGED" >&2; exit 1; }
