#!/usr/bin/env bash
# Weights & Biases loses a program's second offline run, without a word, where the working directory changed since the
# first and wandb.init's dir is a relative path.
#
# All runs of a process share one wandb-core, which keeps the working directory in which it was started and reads a
# relative dir from there. wandb's Python half creates the run's folder, its logs and the latest-run link in the right
# place, finish() returns with exit code 0, and the run's data (the .wandb file that `wandb sync` sends) is nowhere:
# wandb-core's folder for it does not exist. Notebooks, sweeps in one process and test suites change directory.
#
# Cure: give wandb.init an absolute dir, or call wandb.teardown() between the runs.
#
# Seen with Python 3.11.7, Linux x86_64, on 2026-11-29. Fails if any of it changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
PATH="$folder/venv/bin:$PATH"
export PIP_DISABLE_PIP_VERSION_CHECK=1 WANDB_ERROR_REPORTING=false WANDB_SILENT=true
export WANDB_CONFIG_DIR="$folder" WANDB_DATA_DIR="$folder" WANDB_CACHE_DIR="$folder"
pip install -q wandb==0.31.0

cat > "$folder/two_runs.py" <<'PY'
import os
import pathlib
import sys

import wandb


def log_one_run(folder, kind):
    """One offline run from a working directory of its own; how many .wandb files hold it."""
    folder.mkdir(parents=True)
    os.chdir(folder)
    os.mkdir("run")
    run = wandb.init(dir="run" if kind == "relative" else str(folder / "run"), mode="offline")
    run.log({"score": 1.0})
    run.finish()
    assert len(list(folder.glob("run/wandb/offline-run-*/files"))) == 1  # Python's half is there


base = pathlib.Path(sys.argv[1])
for kind in ("relative", "absolute"):
    for name in ("first", "second"):
        log_one_run(base / kind / name, kind)
    wandb.teardown()  # wandb-core has written and closed everything
    counts = [len(list((base / kind / name).rglob("*.wandb"))) for name in ("first", "second")]
    print(f"{kind} dir: data files of the first run {counts[0]}, of the second {counts[1]}")
print("data files in all:", len(list(base.rglob("*.wandb"))))
PY
seen=$(python "$folder/two_runs.py" "$folder/runs")
echo "$(python -c 'import platform, wandb; print("Python", platform.python_version(), "wandb", wandb.__version__)')"
echo "$seen"
expected="relative dir: data files of the first run 1, of the second 0
absolute dir: data files of the first run 1, of the second 1
data files in all: 3"
[[ $seen == "$expected" ]] || { echo "CHANGED" >&2; exit 1; }
