#!/usr/bin/env bash
# Stable-Baselines3 on a PettingZoo environment through SuperSuit, the way of PettingZoo's tutorials, takes every time limit
# for a death: PPO learns that what comes after the limit is worth nothing.
#
# One would guess that an episode that ends by truncation is bootstrapped with the value of its last observation, as
# Stable-Baselines3 does with Gymnasium's environments. It looks for TimeLimit.truncated in a step's infos. The last step
# of concat_vec_envs_v1(..., base_class="stable_baselines3") makes one flag of terminations and truncations and sets no
# such entry; the last observation is there and is not used. Below a critic says 10 of every state, each step pays 1 and
# gamma is 0.9, so each return is 10, the value that keeps itself. Through SuperSuit the returns are 2.71, 1.9 and 1, as
# if the third step killed. PettingZoo's Pistonball and Pursuit, for two, are cut like this at max_cycles.
#
# Cure: a wrapper that sets info["TimeLimit.truncated"], from the truncations of the batch inside (last lines below).
#
# Seen with Python 3.11.7, torch 2.13.0 (CPU), supersuit 3.11.0, stable-baselines3 2.9.2, pettingzoo 1.27.0, gymnasium 1.4.0,
# Linux x86_64, on 2026-11-30. Fails if any of it changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
PATH="$folder/venv/bin:$PATH"
export PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONWARNINGS=ignore
pip install -q --no-compile torch==2.13.0
pip install -q --no-compile stable-baselines3==2.9.2 supersuit==3.11.0 pettingzoo==1.27.0 gymnasium==1.4.0 numpy==2.4.6

cat > "$folder/limits.py" <<'PY'
import gymnasium
import numpy as np
import supersuit
import torch
from pettingzoo import ParallelEnv
from stable_baselines3 import PPO

BOX = gymnasium.spaces.Box(0.0, 9.0, (1,), np.float32)
LIMIT = 3


class Alone(gymnasium.Env):
    """Each step pays 1; after three the time is up."""

    observation_space, action_space = BOX, gymnasium.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.time += 1
        return np.full(1, self.time, np.float32), 1.0, False, self.time == LIMIT, {}


class Together(ParallelEnv):
    """The same for two agents."""

    metadata, render_mode, possible_agents = {"name": "together"}, None, ["one", "two"]

    def observation_space(self, agent):
        return BOX

    def action_space(self, agent):
        return gymnasium.spaces.Discrete(2)

    def _seen(self):
        return {agent: np.full(1, self.time, np.float32) for agent in self.possible_agents}

    def reset(self, seed=None, options=None):
        self.agents, self.time = list(self.possible_agents), 0
        return self._seen(), {agent: {} for agent in self.agents}

    def step(self, actions):
        self.time += 1
        agents, over = self.agents, self.time == LIMIT
        self.agents = [] if over else agents
        each = dict.fromkeys
        return self._seen(), each(agents, 1.0), each(agents, False), each(agents, over), {agent: {} for agent in agents}


def returns(env):
    """What PPO's critic learns, of six steps by the first copy, where the critic says 10 and nothing is learned."""
    model = PPO("MlpPolicy", env, n_steps=6, batch_size=6, n_epochs=1, learning_rate=0.0, gamma=0.9, gae_lambda=1.0)
    with torch.no_grad():
        model.policy.value_net.weight.zero_()
        model.policy.value_net.bias.fill_(10.0)
    model.learn(6)
    return " ".join(f"{each:.4g}" for each in model.rollout_buffer.returns.ravel()[:6])


def batch():
    single = supersuit.pettingzoo_env_to_vec_env_v1(Together())
    return supersuit.concat_vec_envs_v1(single, 1, base_class="stable_baselines3")


class TellsLimits(type(batch())):
    def step_wait(self):
        observations, rewards, terminations, truncations, infos = self.venv.step_wait()
        for info, terminated, truncated in zip(infos, terminations, truncations, strict=True):
            info["TimeLimit.truncated"] = bool(truncated and not terminated)
        return observations, rewards, np.logical_or(terminations, truncations), infos


env = batch()
env.reset()
for _ in range(LIMIT):
    *_, dones, infos = env.step(np.zeros(2, int))
print("last step: done", bool(dones[0]), "with an info of", *infos[0])
print("returns, Gymnasium:", returns(Alone()))
print("returns, SuperSuit:", returns(batch()))
print("returns, SuperSuit put right:", returns(TellsLimits(batch().venv)))
PY
seen=$(python "$folder/limits.py" 2> /dev/null)
echo "$(python -c 'import platform, supersuit; print("Python", platform.python_version(), "supersuit", supersuit.__version__)' 2> /dev/null)"
echo "$seen"
expected="last step: done True with an info of terminal_observation
returns, Gymnasium: 10 10 10 10 10 10
returns, SuperSuit: 2.71 1.9 1 2.71 1.9 1
returns, SuperSuit put right: 10 10 10 10 10 10"
[[ $seen == "$expected" ]] || { echo "CHANGED" >&2; exit 1; }
