#!/usr/bin/env bash
# Gymnasium's NormalizeReward pays for the same play fifteen times as much in one reset mode of a batch as in the other,
# and in the default mode the pay of a goal grows as training goes on.
#
# One would guess that the mode (AutoresetMode) says only when a reset's observation comes, not what a reward is worth.
# The wrapper divides rewards by the standard deviation of a discounted sum of rewards so far. With SAME_STEP the sum
# is 0 again behind an episode. With NEXT_STEP, the default, and around a single environment it is not, and is dropped
# before an episode's last reward instead: what an episode pays at its end fades through all of the next one. Where
# rewards come only at a goal the sum is then nearly constant, its deviation nearly 0 and the quotient large. Below,
# every episode pays 0 0 0 1. The deviation of these is 0.433, the quotient 2.31, and SAME_STEP gives that from first to
# last. The others give it for the first goal alone. Episodes of 100 steps and gamma 0.99 err to the other side: sums
# that fade from 1 to 0.37 have the deviation 0.18, and should have 0.0995. Learning rates and clipping that suit one
# mode do not suit the other.
#
# Cure: SAME_STEP, or a factor of one's own. palaestra's normalize_reward sets its sums to 0 behind each episode.
#
# Seen with Python 3.11.7, gymnasium 1.4.0, NumPy 2.4.6, Linux x86_64, on 2026-11-30. Fails if any of it changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
PATH="$folder/venv/bin:$PATH"
export PIP_DISABLE_PIP_VERSION_CHECK=1
pip install -q gymnasium==1.4.0 numpy==2.4.6

cat > "$folder/goals.py" <<'PY'
import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import NormalizeReward
from gymnasium.wrappers.vector import NormalizeReward as NormalizeRewards


class Goal(gymnasium.Env):
    """Four steps to the goal, which pays 1."""

    observation_space = gymnasium.spaces.Box(0, 4, (1,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.steps += 1
        there = self.steps == 4
        return np.full(1, self.steps, np.float32), float(there), there, False, {}


def pay_in_batch(mode, episodes=1000):
    batch, pays = NormalizeRewards(SyncVectorEnv([Goal] * 4, autoreset_mode=mode), gamma=0.99), []
    batch.reset(seed=0)
    while len(pays) < episodes:
        _, rewards, terminated, _, _ = batch.step(np.zeros(4, int))
        pays += [float(rewards[0])] if terminated[0] else []
    return pays


def pay_alone(episodes=1000):
    env, pays = NormalizeReward(Goal(), gamma=0.99), []
    for _ in range(episodes):
        env.reset(seed=0)
        pays.append([float(env.step(0)[1]) for _ in range(4)][-1])
    return pays


print(f"by hand: {1 / np.std([0, 0, 0, 1]):.2f}")
for name, pays in (
    ("SAME_STEP", pay_in_batch(AutoresetMode.SAME_STEP)),
    ("NEXT_STEP", pay_in_batch(AutoresetMode.NEXT_STEP)),
    ("alone", pay_alone()),
):
    print(f"{name}: goals 1, 10, 100 and 1000 pay", *(f"{pays[k - 1]:.2f}" for k in (1, 10, 100, 1000)))
PY
seen=$(python "$folder/goals.py")
echo "$(python -c 'import platform, gymnasium; print("Python", platform.python_version(), "gymnasium", gymnasium.__version__)')"
echo "$seen"
expected="by hand: 2.31
SAME_STEP: goals 1, 10, 100 and 1000 pay 2.31 2.31 2.31 2.31
NEXT_STEP: goals 1, 10, 100 and 1000 pay 2.31 3.85 11.67 34.30
alone: goals 1, 10, 100 and 1000 pay 2.31 3.85 11.67 34.30"
[[ $seen == "$expected" ]] || { echo "CHANGED" >&2; exit 1; }
