#!/usr/bin/env bash
# SuperSuit's sticky actions follow the seed for one episode: from the second on, two runs with the same seed are different
# runs.
#
# One would guess that reset(seed=0) and then reset() without a seed, as every loop and every batch does, give the same
# run each time: that is Gymnasium's rule, and the environment inside keeps it. sticky_actions_v0 makes a new generator
# in each reset from that reset's argument, and none means one from the operating system. So the actions that are
# repeated are the same in the first episode and others in each later one, while the environment's own numbers agree
# in all. A training's seed says nothing then, and a difference between two runs looks like one of the learner.
#
# Cure: seed every reset, or gymnasium.wrappers.StickyAction, which agrees in all episodes (last lines below).
#
# Seen with Python 3.11.7, supersuit 3.11.0, gymnasium 1.4.0, Linux x86_64, on 2026-11-30. Fails if any of it changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
PATH="$folder/venv/bin:$PATH"
export PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONWARNINGS=ignore
pip install -q supersuit==3.11.0 pettingzoo==1.27.0 gymnasium==1.4.0 numpy==2.4.6

cat > "$folder/sticky.py" <<'PY'
import gymnasium
import numpy as np
import supersuit

STEPS = 200


class Told(gymnasium.Env):
    """Episodes of 200 steps; the reward is the action that arrived, the observation a random number of its own."""

    observation_space = gymnasium.spaces.Box(0.0, 1.0, (1,), np.float64)
    action_space = gymnasium.spaces.Discrete(STEPS)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time = 0
        return self.np_random.random(1), {}

    def step(self, action):
        self.time += 1
        return self.np_random.random(1), float(action), self.time == STEPS, False, {}


def played(wrapped):
    """What arrived and what was seen, of three episodes: the first is seeded with 0, the others are not."""
    env, episodes = wrapped(Told()), []
    for seed in (0, None, None):
        seen, arrived = [env.reset(seed=seed)[0].item()], []
        for action in range(STEPS):
            observation, reward, *_ = env.step(action)
            seen.append(observation.item())
            arrived.append(reward)
        episodes.append((seen, arrived))
    return episodes


for name, wrapped in (
    ("supersuit", lambda env: supersuit.sticky_actions_v0(env, 0.25)),
    ("gymnasium", lambda env: gymnasium.wrappers.StickyAction(env, 0.25)),
):
    one, other = played(wrapped), played(wrapped)
    sticks = [np.mean(np.array(arrived) != np.arange(STEPS)) for _, arrived in one]
    assert all(0.12 < share < 0.38 for share in sticks), sticks
    for what, k in (("observations", 0), ("actions", 1)):
        print(f"{name}: {what} of two runs agree in episodes 1 2 3:", *(a[k] == b[k] for a, b in zip(one, other)))
PY
seen=$(python "$folder/sticky.py")
echo "$(python -c 'import platform, supersuit; print("Python", platform.python_version(), "supersuit", supersuit.__version__)')"
echo "$seen"
expected="supersuit: observations of two runs agree in episodes 1 2 3: True True True
supersuit: actions of two runs agree in episodes 1 2 3: True False False
gymnasium: observations of two runs agree in episodes 1 2 3: True True True
gymnasium: actions of two runs agree in episodes 1 2 3: True True True"
[[ $seen == "$expected" ]] || { echo "CHANGED" >&2; exit 1; }
