#!/usr/bin/env bash
# Minari makes a data set's folder before it looks at the name: one name without a version breaks the list of all data sets.
#
# create_dataset_from_buffers("plain", ...), a name without a version, raises a TypeError out of int(None) and leaves
# plain/data behind. From then on list_local_datasets() raises the same TypeError, whatever good data sets there are, and
# a second attempt says that the data set exists.
#
# Cure: check names before Minari sees them (they end in -v and a number), list metadata.json files yourself.
#
# Seen with Python 3.11.7, Linux x86_64, on 2026-11-30. Fails if any of it changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
PATH="$folder/venv/bin:$PATH"
export PIP_DISABLE_PIP_VERSION_CHECK=1 MINARI_DATASETS_PATH="$folder/all/datasets"
pip install -q minari==0.5.4 h5py==3.16.0 gymnasium==1.3.0 pillow

cat > "$folder/names.py" <<'PY'
import os
import pathlib
import warnings

import gymnasium
import minari
import numpy as np
from minari.data_collector.episode_buffer import EpisodeBuffer

warnings.simplefilter("ignore")
spaces = {"observation_space": gymnasium.spaces.Box(-1, 1, (2,)), "action_space": gymnasium.spaces.Discrete(2)}
episode = EpisodeBuffer(
    observations=np.zeros((3, 2), np.float32),
    actions=np.zeros(2, np.int64),
    rewards=[1.0, 1.0],
    terminations=[False, True],
    truncations=[False, False],
)
minari.create_dataset_from_buffers("good-v0", [episode], **spaces)
print("listed:", *minari.list_local_datasets())
for name in ("plain", "plain"):
    try:
        minari.create_dataset_from_buffers(name, [episode], **spaces)
    except Exception as error:
        print(f"{name}: {type(error).__name__}: {' '.join(str(error).split()[:5])}")
try:
    print("listed:", *minari.list_local_datasets())
except TypeError as error:
    print(f"listed: {type(error).__name__}: {' '.join(str(error).split()[:5])}")
root = pathlib.Path(os.environ["MINARI_DATASETS_PATH"])
print("left behind:", *sorted(str(p.relative_to(root.parent)) for p in root.parent.rglob("data") if "good" not in str(p)))
PY
seen=$(python "$folder/names.py")
echo "$(python -c 'import platform, minari; print("Python", platform.python_version(), "Minari", minari.__version__)')"
echo "$seen"
expected="listed: good-v0
plain: TypeError: int() argument must be a
plain: ValueError: A Minari dataset with ID
listed: TypeError: int() argument must be a
left behind: datasets/plain/data"
[[ $seen == "$expected" ]] || { echo "CHANGED" >&2; exit 1; }
