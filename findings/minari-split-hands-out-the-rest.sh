#!/usr/bin/env bash
# A split of a Minari data set hands out the episodes of the other one: train.iterate_episodes(range(4)), of a split into
# four and two, gives both episodes of the test split, though train[0] to train[3] are its own.
#
# One would guess that the indices count within the split, as those of train[0] and of len(train) do, or that an index
# outside of it is refused. iterate_episodes takes them for places in the file, whatever the split or filter, and no
# error tells. In a data set that was never split both are the same, so a loop that works stays as it is when the split
# comes. combine_datasets goes to the file as well: train and another data set combined hold the test episodes too, and
# a filtered data set its filtered-out ones (Minari's pull request 350, open in September 2026, reports this half).
#
# Cure: loop over the split itself, or train[k]; write a split with create_dataset_from_buffers before combining.
#
# Seen with Python 3.11.7, minari 0.5.4, gymnasium 1.3.0, Linux x86_64, on 2026-11-30. Fails if any of it changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
PATH="$folder/venv/bin:$PATH"
export PIP_DISABLE_PIP_VERSION_CHECK=1 MINARI_DATASETS_PATH="$folder/all/datasets"
pip install -q minari==0.5.4 h5py==3.16.0 gymnasium==1.3.0 pillow

cat > "$folder/splits.py" <<'PY'
import warnings

import gymnasium
import minari
import numpy as np
from minari.data_collector.episode_buffer import EpisodeBuffer

warnings.simplefilter("ignore")
spaces = {"observation_space": gymnasium.spaces.Box(0, 99, (1,)), "action_space": gymnasium.spaces.Discrete(2)}


def recorded(name, rewards):
    """A data set of episodes of two steps, which pay these rewards: by them an episode is known again."""
    episodes = [
        EpisodeBuffer(
            observations=np.zeros((3, 1), np.float32),
            actions=np.zeros(2, np.int64),
            rewards=[float(reward)] * 2,
            terminations=[False, True],
            truncations=[False, False],
        )
        for reward in rewards
    ]
    return minari.create_dataset_from_buffers(name, episodes, **spaces)


def known(episodes):
    return " ".join(f"{episode.rewards[0]:.0f}" for episode in episodes)


whole = recorded("whole-v0", range(10, 16))
train, test = minari.split_dataset(whole, [4, 2], seed=0)
print("train:", known(train), "test:", known(test))
print("train[0] to train[3]:", known(train[k] for k in range(4)))
print("train.iterate_episodes(range(4)):", known(train.iterate_episodes(range(4))))
print("train.iterate_episodes(test.episode_indices):", known(train.iterate_episodes(test.episode_indices)))
print("train combined with 50:", known(minari.combine_datasets([train, recorded("more-v0", [50])], "both-v0")))
dear = whole.filter_episodes(lambda episode: episode.rewards[0] > 13)
print("above 13:", known(dear), "combined:", known(minari.combine_datasets([dear], "dear-v0")))
PY
python -c 'import platform, minari; print("Python", platform.python_version(), "minari", minari.__version__)'
seen=$(python "$folder/splits.py")
echo "$seen"
expected="train: 13 12 15 14 test: 10 11
train[0] to train[3]: 13 12 15 14
train.iterate_episodes(range(4)): 10 11 12 13
train.iterate_episodes(test.episode_indices): 10 11
train combined with 50: 10 11 12 13 14 15 50
above 13: 14 15 combined: 10 11 12 13 14 15"
[[ $seen == "$expected" ]] || { echo "CHANGED" >&2; exit 1; }
