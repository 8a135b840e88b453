#!/usr/bin/env bash
# Gymnasium's JAX CartPole is another machine than its NumPy CartPole: pole mass and half length are added where they
# should be multiplied, 0.6 instead of 0.05 kg m, and a push makes the cart 1.7 times as fast.
#
# One would guess that phys2d/CartPole-v1 has the rules of CartPole-v1: same name, version, limits, rewards and solved-at
# score. In the class of its parameters a sum stands in the place of a product (polemass_length), so the cart's
# acceleration is wrong from the first push on, while the pole's first acceleration is right. An agent of one is not an
# agent of the other: the gains below balance CartPole-v1 through its 500 steps and fail within 12 in the JAX one.
#
# Cure: params with polemass_length=0.05, or CartPole-v1. palaestra's own cartpole is CartPole-v1's.
#
# Seen with Python 3.11.7, jax 0.10.2, Linux x86_64, on 2026-11-30. Fails if any of it changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
PATH="$folder/venv/bin:$PATH"
export PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONWARNINGS=ignore JAX_PLATFORMS=cpu
pip install -q gymnasium==1.4.0 numpy==2.4.6 jax==0.10.2 jaxlib==0.10.2 flax==0.12.8

cat > "$folder/carts.py" <<'PY'
import gymnasium
import gymnasium.envs.phys2d
import numpy as np
from gymnasium.envs.phys2d.cartpole import CartPoleFunctional, CartPoleParams

plain = gymnasium.make("CartPole-v1").unwrapped
print(f"pole mass × half length: CartPole-v1 {plain.polemass_length:g}, phys2d/CartPole-v1 {CartPoleParams.polemass_length:g}")
start = np.array([0.0, 0.0, 0.02, 0.0], np.float32)
plain.reset(seed=0)
plain.state = start.astype(np.float64)
rules = CartPoleFunctional()
first = [plain.step(1)[0], rules.transition(start, 1), rules.transition(start, 1, params=CartPoleParams(polemass_length=0.05))]
print("cart's velocity after a push:", *(f"{float(state[1]):.4f}" for state in first), "m/s (NumPy, JAX, JAX put right)")
print("pole's velocity after it:", *(f"{float(state[3]):.4f}" for state in first), "rad/s")
for name in ("CartPole-v1", "phys2d/CartPole-v1"):
    env, lengths = gymnasium.make(name), []
    for seed in range(5):
        seen, ended, steps = env.reset(seed=seed)[0], False, 0
        while not ended:
            push = int(np.asarray(seen) @ np.array([0.5, 1.0, 3.0, 1.0]) > 0.0)
            seen, _, terminated, truncated, _ = env.step(push)
            ended, steps = bool(terminated or truncated), steps + 1
        lengths.append(steps)
    print(f"{name}: from {min(lengths)} to {max(lengths)} steps" if max(lengths) > 12 else f"{name}: at most 12 steps")
PY
seen=$(python "$folder/carts.py")
echo "$(python -c 'import platform, gymnasium; print("Python", platform.python_version(), "gymnasium", gymnasium.__version__)')"
echo "$seen"
expected="pole mass × half length: CartPole-v1 0.05, phys2d/CartPole-v1 0.6
cart's velocity after a push: 0.1948 0.3380 0.1948 m/s (NumPy, JAX, JAX put right)
pole's velocity after it: -0.2863 -0.2863 -0.2863 rad/s
CartPole-v1: from 500 to 500 steps
phys2d/CartPole-v1: at most 12 steps"
[[ $seen == "$expected" ]] || { echo "CHANGED" >&2; exit 1; }
