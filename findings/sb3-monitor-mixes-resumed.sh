#!/usr/bin/env bash
# Stable-Baselines3's load_results shuffles the two halves of a training that went on into the same monitor file: the last
# episodes of the first half and of the second come by turns, and the learning curve is of neither.
#
# One would guess that Monitor(..., override_existing=False), which "appends to the file", leaves a file that is read in
# the order in which it was written. Its second run writes times that count from its own start below the header of the
# first run's. load_results adds the header's start to all of them and sorts by the sum, so the first episode of the
# second run comes beside the first of the first. ts2xy and plot_results, which count steps along that order, show a
# return that jumps between old and new. Below the first run's returns are 1 to 4 and the second's 101 to 104, each in
# order in the file. No warning comes.
#
# Cure: a file for each run (another folder or name; load_results reads all of a folder and has each one's start), or
# the rows of the file as they are.
#
# Seen with Python 3.11.7, stable-baselines3 2.9.2, torch 2.13.0 (CPU), gymnasium 1.4.0, pandas 3.1.1, Linux x86_64, on
# 2026-12-01. Fails if any of it changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
PATH="$folder/venv/bin:$PATH"
export PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONWARNINGS=ignore
pip install -q torch==2.13.0
pip install -q stable-baselines3==2.9.2 gymnasium==1.4.0 pandas==3.1.1

cat > "$folder/resumed.py" <<'PY'
import pathlib
import sys
import time

import gymnasium
import numpy as np
from stable_baselines3.common.monitor import Monitor, load_results

FOLDER = pathlib.Path(sys.argv[1])


class Paid(gymnasium.Env):
    """Episodes of one step, which pay one more each time."""

    observation_space = gymnasium.spaces.Box(-1, 1, (1,))
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, paid):
        self.paid = paid

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.paid += 1
        time.sleep(1)
        return np.zeros(1, np.float32), float(self.paid), True, False, {}


def played(name, paid, override):
    env = Monitor(Paid(paid), str(FOLDER / name), override_existing=override)
    time.sleep(0.25 if paid else 0)  # so that no two episodes end at the same time after the start
    for _ in range(4):
        env.reset()
        env.step(0)
    env.close()


def shown(name):
    results = load_results(str(FOLDER / name))
    steps = results["l"].cumsum()  # as ts2xy(results, "timesteps") counts them
    print(f"{name}:", " ".join(f"{k}:{r:.0f}" for k, r in zip(steps, results["r"], strict=True)))


for name in ("one-file", "two-files"):
    (FOLDER / name).mkdir()
played("one-file", 0, True)
played("one-file", 100, False)
rows = (FOLDER / "one-file" / "monitor.csv").read_text().splitlines()
print("rows of the file:", " ".join(row.split(".")[0] for row in rows[2:]))
played("two-files/0", 0, True)
played("two-files/1", 100, True)
shown("one-file")
shown("two-files")
PY
python -c 'import platform; print("Python", platform.python_version())'
seen=$(python "$folder/resumed.py" "$folder")
echo "$seen"
expected="rows of the file: 1 2 3 4 101 102 103 104
one-file: 1:1 2:101 3:2 4:102 5:3 6:103 7:4 8:104
two-files: 1:1 2:2 3:3 4:4 5:101 6:102 7:103 8:104"
[[ $seen == "$expected" ]] || { echo "CHANGED" >&2; exit 1; }
