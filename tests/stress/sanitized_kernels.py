"""The tests of compiled steps with kernels that look after their memory: AddressSanitizer and UBSan of g++.

``python tests/stress/sanitized_kernels.py [pytest's arguments]``. A read or write outside a tensor, a shift by too many
bits or a signed overflow ends the run with the kernel's line. An environment takes about 20 seconds. The first run is
of a kernel that reads one number too many, which has to be found.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

FLAGS = ("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined")
TESTS = Path(__file__).parents[1] / "envs/compiled"
BROKEN = """
import ctypes, torch
from palaestra.envs.compiled.compiler import loaded
held = torch.zeros(64)
read = loaded('extern "C" void read(float* from, long n) { float s = 0; for (long i = 0; i <= n; ++i) s += from[i]; '
              'from[0] = s; }').read
read(ctypes.c_void_p(held.data_ptr()), ctypes.c_long(held.numel()))
"""


def sanitized(folder: Path) -> dict[str, str]:
    """The environment of a process whose kernels are made by such a compiler."""
    compiler = folder / "g++-sanitized"
    compiler.write_text(f'#!/bin/sh\nexec g++ "$@" {" ".join(FLAGS)}\n')
    compiler.chmod(0o755)
    libraries = [
        subprocess.run(["g++", f"-print-file-name={name}"], capture_output=True, text=True, check=True).stdout.strip()
        for name in ("libasan.so", "libubsan.so")
    ]
    more = {
        "CXX": str(compiler),
        "LD_PRELOAD": ":".join(libraries),
        "ASAN_OPTIONS": "detect_leaks=0",  # Python's own
        "UBSAN_OPTIONS": "print_stacktrace=1",
        "PALAESTRA_CACHE_DIR": str(folder / "cache"),
    }
    return dict(os.environ) | more


def main(arguments: list[str]) -> int:
    with tempfile.TemporaryDirectory() as folder:
        environ = sanitized(Path(folder))
        broken = subprocess.run([sys.executable, "-c", BROKEN], env=environ, capture_output=True, text=True)
        if broken.returncode == 0 or "heap-buffer-overflow" not in broken.stderr:
            raise SystemExit(f"a kernel that reads one number too many was not found: {broken.stderr[-500:]}")
        command = [sys.executable, "-m", "pytest", "-p", "no:xdist", str(TESTS), *arguments]
        return subprocess.run(command, env=environ).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
