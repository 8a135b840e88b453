#!/usr/bin/env bash
# SuperSuit's frame_stack_v2 (and v1) with stack_dim=0 remembers nothing of flat pictures: of a stack of four all but the
# last frame are the newest, and the last is zeros for ever.
#
# One would guess that stack_dim=0 puts the frames before the rows and columns, where PyTorch's convolutions want them,
# and is otherwise stack_dim=-1. For observations of two dimensions (height, width), as grey pictures are, the newest frame
# is written over every place but the last instead of into the last. Shape, dtype and space are as promised, nothing
# warns, and an agent sees no speed: the stack in which frame 7 came last is 7 7 7 0, and not 4 5 6 7. Observations of
# one dimension and of three are stacked well.
#
# Cure: stack_dim=-1 and move the axis, or pictures with a channel of their own (1, height, width) and stack_dim=0.
#
# Seen with Python 3.11.7, supersuit 3.11.0, gymnasium 1.4.0, Linux x86_64, on 2026-11-30. Fails if any of it changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
PATH="$folder/venv/bin:$PATH"
export PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONWARNINGS=ignore
pip install -q supersuit==3.11.0 pettingzoo==1.27.0 gymnasium==1.4.0 numpy==2.4.6

cat > "$folder/stacks.py" <<'PY'
import gymnasium
import numpy as np
import supersuit


class Clock(gymnasium.Env):
    """All numbers of an observation are the number of the frame, from 1 on."""

    action_space = gymnasium.spaces.Discrete(1)

    def __init__(self, shape):
        self.observation_space = gymnasium.spaces.Box(0, 255, shape, np.uint8)

    def _frame(self):
        return np.full(self.observation_space.shape, self.time, np.uint8)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time = 1
        return self._frame(), {}

    def step(self, action):
        self.time += 1
        return self._frame(), 0.0, False, False, {}


for shape, axis in (((2,), 0), ((2, 2), -1), ((2, 2), 0), ((1, 2, 2), 0)):
    env = supersuit.frame_stack_v2(Clock(shape), 4, stack_dim=axis)
    env.reset()
    for _ in range(6):
        stack = env.step(0)[0]
    frames = np.moveaxis(stack, axis, 0).reshape(4, -1)
    assert stack in env.observation_space and (frames == frames[:, :1]).all()
    print(f"{shape} stack_dim={axis} gives {stack.shape}: frames", *frames[:, 0])
PY
seen=$(python "$folder/stacks.py")
echo "$(python -c 'import platform, supersuit; print("Python", platform.python_version(), "supersuit", supersuit.__version__)')"
echo "$seen"
expected="(2,) stack_dim=0 gives (8,): frames 4 5 6 7
(2, 2) stack_dim=-1 gives (2, 2, 4): frames 4 5 6 7
(2, 2) stack_dim=0 gives (4, 2, 2): frames 7 7 7 0
(1, 2, 2) stack_dim=0 gives (4, 2, 2): frames 4 5 6 7"
[[ $seen == "$expected" ]] || { echo "CHANGED" >&2; exit 1; }
