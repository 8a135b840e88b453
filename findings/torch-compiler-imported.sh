#!/usr/bin/env bash
# PyTorch imports its compiler, and SymPy with it, in programs that compile nothing: when an optimizer is made, and when
# deterministic algorithms are switched off that were never on.
#
# One would guess that torch._dynamo is imported by torch.compile. Adam's constructor calls add_param_group, which is
# kept from being compiled by a decorator, and that decorator imports torch._dynamo as it is first called; so do the
# optimizer's step, state_dict, load_state_dict and zero_grad. torch.use_deterministic_algorithms imports
# torch._inductor's configuration to tell it, whatever the argument. On a slow processor each takes seconds, more than
# all of "import torch": a third of a short training was that.
#
# Cure: none by a setting. palaestra's default optimizers are subclasses whose methods are what the decorators wrap, and
# it leaves the switch alone where it is off already.
#
# Seen with Python 3.11, torch 2.13.0 (CPU), Linux x86_64, on 2026-11-29. Fails if any of it changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
PATH="$folder/venv/bin:$PATH"
export PIP_DISABLE_PIP_VERSION_CHECK=1
pip install -q torch==2.13.0 numpy==2.3.5

cat > "$folder/imports.py" <<'PY'
import sys
import time

started = time.perf_counter()
import torch

torch_seconds, what = time.perf_counter() - started, sys.argv[1]
assert not {"torch._dynamo", "sympy"} & set(sys.modules)
parameter = torch.nn.Parameter(torch.zeros(3))
started = time.perf_counter()
if what == "Adam":
    torch.optim.Adam([parameter], lr=1e-3)
elif what == "switch":
    assert not torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(False)
else:
    loss = (parameter * 2.0).sum()
    loss.backward()
seconds = time.perf_counter() - started
found = [name for name in ("torch._dynamo", "torch._inductor", "sympy") if name in sys.modules]
print(f"{what}: imports {', '.join(found) or 'nothing'}")
print(f"  {seconds:.2f} s; import torch took {torch_seconds:.2f} s", file=sys.stderr)
PY
seen=$(for what in backward Adam switch; do python "$folder/imports.py" $what; done)
python -c 'import platform, torch; print("Python", platform.python_version(), "torch", torch.__version__)'
echo "$seen"
expected="backward: imports nothing
Adam: imports torch._dynamo, torch._inductor, sympy
switch: imports torch._dynamo, torch._inductor, sympy"
[[ $seen == "$expected" ]] || { echo "CHANGED" >&2; exit 1; }
