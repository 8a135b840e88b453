#!/usr/bin/env bash
# An offline run of W&B is not whole in its folder: the bytes of an artifact lie elsewhere.
#
# dir= of wandb.init (or WANDB_DIR) says where a run is written, and an offline run is a folder that `wandb sync FOLDER`
# sends later, from another machine too. Images are copied into that folder. A file that is added to an artifact is not:
# it is copied to the staging folder of the user's data (WANDB_DATA_DIR, here below XDG_DATA_HOME), and the run's file
# refers to it there by an absolute path. A run's folder alone, moved or copied to where there is a network, has the
# curves and the pictures, and no artifact's file; nothing says so when the run is written.
#
# Cure: sync on the machine, and as the user, that made the run; or set WANDB_DATA_DIR to a folder that goes along to
# the same path.
#
# Seen with Python 3.11.7, Linux x86_64, on 2026-11-29. Fails if any of it changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
PATH="$folder/venv/bin:$PATH"
export PIP_DISABLE_PIP_VERSION_CHECK=1
pip install -q wandb==0.31.0 numpy==2.2.6 pillow==12.0.0

unset WANDB_API_KEY WANDB_DATA_DIR WANDB_ARTIFACT_DIR WANDB_CACHE_DIR WANDB_DIR
export HOME="$folder/home" XDG_DATA_HOME="$folder/home/data" WANDB_MODE=offline WANDB_SILENT=true
mkdir -p "$HOME" "$folder/here"
cd "$folder/here"
head -c 50000 /dev/urandom | base64 > weights.txt
cat > write.py <<'PY'
import numpy as np
import wandb

run = wandb.init(project="p", dir="runs", mode="offline", settings=wandb.Settings(console="off"))
run.log({"picture": wandb.Image(np.zeros((8, 8, 3), np.uint8))}, step=1)
artifact = wandb.Artifact("weights", type="model")
artifact.add_file("weights.txt")
run.log_artifact(artifact)
run.finish()
PY
python write.py

line=$(sed -n 5p weights.txt) # of the artifact's file, and of no other
holding() { grep -rlaF "$@" || true; }
pictures=$(find runs -name '*.png' | wc -l)
inside=$(holding "$line" runs | wc -l)
outside=$(holding "$line" "$XDG_DATA_HOME/wandb/artifacts/staging" | wc -l)
named=$(holding "$XDG_DATA_HOME/wandb/artifacts/staging" runs --include='*.wandb' | wc -l)
echo "in the run's folder: pictures $pictures, files with the artifact's bytes $inside; in the user's data: $outside"
echo "run files that name a path there: $named"
[ "$pictures" = 1 ] && [ "$inside" = 0 ] && [ "$outside" = 1 ] && [ "$named" = 1 ]
