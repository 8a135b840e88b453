"""Every environment with every agent, recorded and replayed: 200 steps train to the same bits as without; minutes.

Usage: python tests/stress/recorded_training.py
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "tests/helpers"), str(ROOT / "tests/agents/graphs")]

from test_replayed_training import STEPS, compare_recorded  # noqa: E402
from training_cases import grid  # noqa: E402

if __name__ == "__main__":
    for name, agent in grid():
        with pytest.MonkeyPatch.context() as patch:
            compare_recorded(name, agent, patch, STEPS)
        print(f"{name} {agent}: {STEPS} steps, the same bits", flush=True)
