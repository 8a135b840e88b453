#!/usr/bin/env bash
# In Gymnasium's own JAX batches (make_vec of phys2d/CartPole-v1 and its like) one copy's reset takes a step away from all
# the others: they stay where they are, their actions do nothing, and they are paid for it.
#
# One would guess that copies of a batch know nothing of each other. In the step that resets one of them the batch puts
# the new start into the states from before the step, not into those after it, and hands these out as observations.
# Rewards are those of the step that was thrown away; the copy that resets is paid too, where the other batches of this
# mode (NEXT_STEP) pay 0. The more copies there are, the rarer is a step without a reset: of the steps of 16 copies that
# are pushed at random 28 % stand still. Of 64 copies 46 % did, and their episodes took 38 steps instead of 25.
#
# Cure: copies of the single environment in a SyncVectorEnv, or steps by the functional environment itself.
#
# Seen with Python 3.11.7, jax 0.10.2, Linux x86_64, on 2026-11-30. Fails if any of it changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
PATH="$folder/venv/bin:$PATH"
export PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONWARNINGS=ignore JAX_PLATFORMS=cpu
pip install -q gymnasium==1.4.0 numpy==2.4.6 jax==0.10.2 jaxlib==0.10.2 flax==0.12.8

cat > "$folder/batch.py" <<'PY'
import gymnasium
import gymnasium.envs.phys2d
import numpy as np

COPIES, STEPS = 16, 80
batches = {
    "make_vec": lambda: gymnasium.make_vec("phys2d/CartPole-v1", num_envs=COPIES),
    "SyncVectorEnv": lambda: gymnasium.make_vec("phys2d/CartPole-v1", num_envs=COPIES, vectorization_mode="sync"),
}
for name, make in batches.items():
    batch, draws = make(), np.random.default_rng(0)
    before = np.asarray(batch.reset(seed=0)[0])
    resets, still, steps, beside, paid = np.zeros(COPIES, bool), 0, 0, 0, set()
    for _ in range(STEPS):
        after, reward, terminated, truncated, _ = batch.step(draws.integers(0, 2, COPIES))
        after = np.asarray(after)
        same = (after == before).all(axis=1) & ~resets
        steps, still = steps + (~resets).sum(), still + same.sum()
        beside += 0 if resets.any() else same.sum()
        paid |= set(np.asarray(reward)[resets].tolist())
        before, resets = after, np.asarray(terminated) | np.asarray(truncated)
    share = still / steps
    told = "none" if still == 0 else "a fifth and more" if share > 0.2 else "few"
    print(f"{name}: steps that stand still: {told}; where nobody resets: {beside}; a step that resets pays {paid}")
PY
seen=$(python "$folder/batch.py")
echo "$(python -c 'import platform, gymnasium; print("Python", platform.python_version(), "gymnasium", gymnasium.__version__)')"
echo "$seen"
expected="make_vec: steps that stand still: a fifth and more; where nobody resets: 0; a step that resets pays {1.0}
SyncVectorEnv: steps that stand still: none; where nobody resets: 0; a step that resets pays {0.0}"
[[ $seen == "$expected" ]] || { echo "CHANGED" >&2; exit 1; }
