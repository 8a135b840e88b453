#!/usr/bin/env bash
# skrl learns from the resets of a Gymnasium batch: each episode has a step more than was played, from its last
# observation to the first of the next, with an action that nobody took and a reward of 0.
#
# One would guess that gymnasium.make_vec(...) in skrl's wrap_env trains as copies of the environment do. Batches of
# Gymnasium 1 reset in the step after the end (AutoresetMode.NEXT_STEP, the default), and that step is no transition.
# skrl puts it into its memory like any other, so the critic learns that an episode's last state is worth gamma times
# the start of another (2.439 for a state behind the end in the chain below, whose returns are 2.71, 1.9 and 1), and the
# actor learns from its action's advantage. With time_limit_bootstrap that value is what is added at a time limit. The
# lengths that it reports are one too long from the second episode on.
#
# Cure: autoreset_mode=AutoresetMode.SAME_STEP in the batch, as below; a time limit is then bootstrapped from the first
# observation of the next episode.
#
# Seen with Python 3.11.7, torch 2.13.0 (CPU), gymnasium 1.4.0, Linux x86_64, on 2026-11-30. Fails if any of it changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
PATH="$folder/venv/bin:$PATH"
export PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONWARNINGS=ignore
pip install -q --no-compile torch==2.13.0 skrl==2.1.1 gymnasium==1.4.0 numpy==2.4.6

cat > "$folder/chain.py" <<'PY'
import logging
import sys

import gymnasium
import numpy as np
import skrl
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from skrl.agents.torch.ppo import PPO
from skrl.envs.wrappers.torch import wrap_env
from skrl.memories.torch import RandomMemory
from skrl.models.torch import CategoricalMixin, DeterministicMixin, Model
from skrl.trainers.torch import SequentialTrainer
from torch import nn

skrl.logger.setLevel(logging.ERROR)


class Chain(gymnasium.Env):
    """Cells 0, 1, 2, 3; each step pays 1, and 3 is the end."""

    observation_space = gymnasium.spaces.Box(0.0, 9.0, (1,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.cell = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.cell += 1
        return np.full(1, self.cell, np.float32), 1.0, self.cell == 3, False, {}


class Actor(CategoricalMixin, Model):
    def __init__(self, **spaces):
        Model.__init__(self, **spaces)
        CategoricalMixin.__init__(self)
        self.net = nn.Linear(1, 2)

    def compute(self, inputs, role=""):
        return self.net(inputs["observations"]), {}


class Critic(DeterministicMixin, Model):
    def __init__(self, **spaces):
        Model.__init__(self, **spaces)
        DeterministicMixin.__init__(self)
        self.net = nn.Linear(1, 1)

    def compute(self, inputs, role=""):
        return 0.0 * self.net(inputs["observations"]), {}  # values of 0: returns are those of the rewards alone


STEPS = 13
for mode in (AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP):
    env = wrap_env(SyncVectorEnv([Chain], autoreset_mode=mode))
    spaces = {"observation_space": env.observation_space, "action_space": env.action_space, "device": "cpu"}
    memory = RandomMemory(memory_size=STEPS, num_envs=1, device="cpu")
    agent = PPO(
        models={"policy": Actor(**spaces), "value": Critic(**spaces)},
        memory=memory,
        **spaces,
        cfg={"rollouts": STEPS, "learning_epochs": 1, "mini_batches": 1, "learning_rate": 0.0, "discount_factor": 0.9,
             "gae_lambda": 1.0, "experiment": {"directory": sys.argv[1], "write_interval": 100, "checkpoint_interval": 0}},
    )  # fmt: skip
    trainer = {"timesteps": STEPS, "headless": True, "disable_progressbar": True}
    SequentialTrainer(env=env, agents=agent, cfg=trainer).train()
    cells, returns = (memory.get_tensor_by_name(name).ravel().tolist()[:8] for name in ("observations", "returns"))
    print(mode.value, "cells learned from:", *(f"{cell:.0f}" for cell in cells))
    print(mode.value, "their returns:", *(f"{each:.4g}" for each in returns))
    print(mode.value, "lengths reported:", *(length for (length,) in list(agent._track_timesteps)[:3]))
PY
seen=$(python "$folder/chain.py" "$folder/runs" 2> /dev/null)
echo "$(python -c 'import platform, skrl; print("Python", platform.python_version(), "skrl", skrl.__version__)' 2> /dev/null)"
echo "$seen"
expected="NextStep cells learned from: 0 1 2 3 0 1 2 3
NextStep their returns: 2.71 1.9 1 2.439 2.71 1.9 1 2.439
NextStep lengths reported: 3 4 4
SameStep cells learned from: 0 1 2 0 1 2 0 1
SameStep their returns: 2.71 1.9 1 2.71 1.9 1 2.71 1.9
SameStep lengths reported: 3 3 3"
[[ $seen == "$expected" ]] || { echo "CHANGED" >&2; exit 1; }
