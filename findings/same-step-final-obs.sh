#!/usr/bin/env bash
# Gymnasium's vector environments with same-step resets hand out the wrong final observation, without a word, where an
# environment keeps one array and changes it in place. copy=True, their default, does not cover final_obs.
#
# With AutoresetMode.SAME_STEP an episode's last observation is given as info["final_obs"], and observations hold the
# first of the next episode. The last one is kept by reference while the environment is reset, so it holds the reset's
# observation when it is read: in this chain the last cell of an episode is 3 and final_obs says 0. In processes it is
# the same, with and without shared memory, for it is sent after the reset. FrameStackObservation keeps references too:
# four frames, all the newest. A learner that bootstraps from final_obs values the wrong state at every time limit.
# Gymnasium's own passive checker warns of such environments, if it is on; simulators and games do this for speed.
#
# Cure: return a copy from reset and step, or let a wrapper make one (the last line below).
#
# Seen with Python 3.11.7, NumPy 2.4.6, Linux x86_64, on 2026-11-28. Fails if any of it changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
PATH="$folder/venv/bin:$PATH"
export PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONWARNINGS=ignore
pip install -q gymnasium==1.4.0 numpy==2.4.6

cat > "$folder/chain.py" <<'PY'
import gymnasium, numpy as np
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import FrameStackObservation, TransformObservation


class Chain(gymnasium.Env):
    """Cells 0, 1, 2, 3; cut at 3. One array, changed in place."""

    observation_space = gymnasium.spaces.Box(0.0, 9.0, (1,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self):
        self.cell = np.zeros(1, np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.cell[:] = 0.0
        return self.cell, {}

    def step(self, action):
        self.cell += 1.0
        return self.cell, 0.0, False, bool(self.cell[0] == 3.0), {}


def copied():
    env = Chain()
    return TransformObservation(env, np.copy, env.observation_space)


def final(make_batch, make_env):
    batch = make_batch([make_env, make_env])
    batch.reset(seed=0)
    for _ in range(3):
        obs, _, _, cut, info = batch.step(np.zeros(2, dtype=int))
    batch.close()
    assert cut.all() and (obs == 0.0).all()
    return float(info["final_obs"][0][0])


if __name__ == "__main__":
    mode = {"autoreset_mode": AutoresetMode.SAME_STEP}
    batches = {
        "sync": lambda envs: SyncVectorEnv(envs, copy=True, **mode),
        "async, shared memory": lambda envs: AsyncVectorEnv(envs, copy=True, **mode),
        "async, pipes": lambda envs: AsyncVectorEnv(envs, copy=True, shared_memory=False, **mode),
    }
    for name, batch in batches.items():
        print(f"{name}: last cell 3, final_obs {final(batch, Chain):.0f}, of a copying wrapper {final(batch, copied):.0f}")
    stack = FrameStackObservation(Chain(), 4)
    stack.reset()
    for _ in range(2):
        frames = stack.step(0)[0]
    print("frames 0 0 1 2 are stacked as", *frames.ravel().astype(int))
PY
seen=$(python "$folder/chain.py")
echo "$(python -c 'import platform, gymnasium; print("Python", platform.python_version(), "gymnasium", gymnasium.__version__)')"
echo "$seen"
expected="sync: last cell 3, final_obs 0, of a copying wrapper 3
async, shared memory: last cell 3, final_obs 0, of a copying wrapper 3
async, pipes: last cell 3, final_obs 0, of a copying wrapper 3
frames 0 0 1 2 are stacked as 2 2 2 2"
[[ $seen == "$expected" ]] || { echo "CHANGED" >&2; exit 1; }
