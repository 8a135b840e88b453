#!/usr/bin/env bash
# torch.sqrt on a CPU is not correctly rounded: of uniform float32 numbers about one root in six differs from NumPy's in
# the last bit, of float64 numbers about one in eighty.
#
# One would guess that a square root has one right answer: IEEE 754 asks for the nearest number, and processors have an
# instruction that gives it, which NumPy uses. PyTorch's wheels take the roots of a vector-mathematics library (MKL)
# instead, with any of torch's own kernels (ATEN_CPU_CAPABILITY=default too), in place and by pow(0.5) too, for one
# element as for many. So the same formula in NumPy and in PyTorch, or in PyTorch and in an exported program, may end a
# bit apart although it has nothing but sums, products, quotients and roots; Adam's and every norm's roots are among
# them. Roots of perfect squares are exact.
#
# Cure: compare roots with a tolerance, or take them in NumPy where bits must be IEEE's.
#
# Seen with Python 3.11, torch 2.13.0 (CPU), NumPy 2.3.5, Linux x86_64 (AMD EPYC with AVX-512, and held to AVX2), on
# 2026-11-29. Fails if any of it changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
PATH="$folder/venv/bin:$PATH"
export PIP_DISABLE_PIP_VERSION_CHECK=1
pip install -q torch==2.13.0 numpy==2.3.5

cat > "$folder/roots.py" <<'PY'
import numpy as np
import torch

generator = torch.Generator().manual_seed(0)
for dtype in (torch.float32, torch.float64):
    x = 100 * torch.rand(100_000, generator=generator, dtype=dtype)
    nearest = torch.from_numpy(np.sqrt(x.numpy()))
    if dtype == torch.float32:  # a root in double precision, rounded once more, is the nearest
        assert torch.equal(nearest, torch.from_numpy(np.sqrt(x.double().numpy())).float())
    share = float((torch.sqrt(x) != nearest).double().mean())
    apart = float(((torch.sqrt(x) - nearest).abs() / torch.from_numpy(np.spacing(nearest.numpy()))).max())
    same = torch.equal(torch.sqrt(x), x.pow(0.5)) and torch.equal(torch.sqrt(x[7:8]), torch.sqrt(x)[7:8])
    print(dtype, "one in", round(1 / share) if share else "none", "at most", apart, "last bits; the same by pow:", same)
    lowest, highest = (4, 9) if dtype == torch.float32 else (50, 130)
    assert share and lowest <= 1 / share <= highest and apart == 1.0 and same
n = torch.arange(1.0, 4000.0)
assert torch.equal(torch.sqrt(n * n), n)
PY
python -c 'import platform, torch; print("Python", platform.python_version(), "torch", torch.__version__)'
for kernels in "" default avx2; do
    echo "ATEN_CPU_CAPABILITY=$kernels"
    env ${kernels:+ATEN_CPU_CAPABILITY=$kernels} python "$folder/roots.py" || { echo "CHANGED" >&2; exit 1; }
done
