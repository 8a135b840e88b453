#!/usr/bin/env bash
# torch.add(a, b, alpha=s) rounds once or twice, and which of them depends on the shape of b and on where an element
# lies: a column [3, 1] and the same column written out as [3, N] give different last bits.
#
# One would guess that broadcasting changes no bits: each element is a + s b of the same three numbers. On a CPU with
# fused multiply-add (torch's AVX2 kernels and beyond) b written out is fused everywhere, rounded once. A broadcast b is
# fused too, but for some columns after the last whole 16: of 24 columns those from 17 to 20, of 1000 those from 993 to
# 996, where product and sum are rounded one after the other. So the bits of environment number 995 of a batch depend on
# whether the batch has 1000 or 1008, which only results that must not depend on the batch size show. torch's plain
# kernels (ATEN_CPU_CAPABILITY=default) round twice everywhere.
#
# Cure: write the operand out, or write a + s * b, which is rounded twice everywhere.
#
# Seen with Python 3.11, torch 2.13.0 (CPU), Linux x86_64 with AVX2, on 2026-11-29. Fails if any of it changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
grep -q avx2 /proc/cpuinfo || { echo "needs a processor with AVX2" >&2; exit 1; }
python3 -m venv "$folder/venv"
PATH="$folder/venv/bin:$PATH"
export PIP_DISABLE_PIP_VERSION_CHECK=1
pip install -q torch==2.13.0 numpy==2.3.5

cat > "$folder/rounding.py" <<'PY'
import torch

generator = torch.Generator().manual_seed(0)
scale = float(torch.tensor(0.3))
print(torch.backends.cpu.get_cpu_capability())
for n in (16, 17, 24, 1000):
    differ, once = torch.zeros(n, dtype=torch.bool), True
    for _ in range(200):
        a, b = torch.randn(3, n, generator=generator), torch.randn(3, 1, generator=generator)
        whole = b.expand(3, n).contiguous()
        differ |= (torch.add(a, b, alpha=0.3) != torch.add(a, whole, alpha=0.3)).any(0)
        exact = (a.double() + scale * whole.double()).float()
        once = once and torch.equal(torch.add(a, whole, alpha=0.3), exact)
    columns = differ.nonzero().flatten().tolist()
    where = f"{columns[0]} to {columns[-1]}" if columns else "none"
    print(f"{n} columns: they differ in {where}; written out {'rounded once' if once else 'rounded twice'}")
PY
python -c 'import platform, torch; print("Python", platform.python_version(), "torch", torch.__version__)'
seen=$(for kernels in avx2 default; do ATEN_CPU_CAPABILITY=$kernels python "$folder/rounding.py"; done)
echo "$seen"
expected="AVX2
16 columns: they differ in none; written out rounded once
17 columns: they differ in none; written out rounded once
24 columns: they differ in 17 to 20; written out rounded once
1000 columns: they differ in 993 to 996; written out rounded once
DEFAULT
16 columns: they differ in none; written out rounded twice
17 columns: they differ in none; written out rounded twice
24 columns: they differ in none; written out rounded twice
1000 columns: they differ in none; written out rounded twice"
[[ $seen == "$expected" ]] || { echo "CHANGED" >&2; exit 1; }
