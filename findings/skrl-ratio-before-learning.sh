#!/usr/bin/env bash
# skrl's PPO with its RunningStandardScaler does not begin with a ratio of 1: with a learning rate of 0, 22 % of the
# first rollout's samples are clipped, and kl_threshold=0.01 ends 12 of 16 minibatches though no weight has moved.
#
# One would guess that before its first gradient step PPO's new policy is the old one: ratio 1, KL divergence 0, nothing
# clipped. skrl takes the rollout's log-probabilities with the scaler as it was, and lets the scaler learn from each
# minibatch of the first epoch, so that the same weights see the same observations on another scale. What it then takes
# for a change of the policy is the scaler's: clipping, kl_threshold and KLAdaptiveLR act on it. It is most in the first
# rollout, where the scaler goes from mean 0 and variance 1 to those of the environment, and fades as the count grows.
#
# Cure: let the scaler see some observations before training (scaler(observations, train=True)).
#
# Seen with Python 3.11.7, torch 2.13.0 (CPU), gymnasium 1.4.0, Linux x86_64, on 2026-11-30. Fails if any of it changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
PATH="$folder/venv/bin:$PATH"
export PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONWARNINGS=ignore
pip install -q --no-compile torch==2.13.0 skrl==2.1.1 gymnasium==1.4.0 numpy==2.4.6

cat > "$folder/ratio.py" <<'PY'
import logging

import gymnasium
import skrl
import torch
from skrl.agents.torch.ppo import PPO
from skrl.envs.wrappers.torch import wrap_env
from skrl.memories.torch import RandomMemory
from skrl.models.torch import DeterministicMixin, GaussianMixin, Model
from skrl.resources.preprocessors.torch import RunningStandardScaler
from skrl.trainers.torch import SequentialTrainer
from torch import nn

skrl.logger.setLevel(logging.ERROR)
COPIES, STEPS, EPOCHS, PARTS = 8, 64, 4, 4


def network(inputs, outputs):
    return nn.Sequential(nn.Linear(inputs, 64), nn.Tanh(), nn.Linear(64, outputs))


class Actor(GaussianMixin, Model):
    def __init__(self, **spaces):
        Model.__init__(self, **spaces)
        GaussianMixin.__init__(self)
        self.net, self.log_std = network(self.num_observations, 1), nn.Parameter(torch.full((1,), -0.5))
        self.new = []

    def compute(self, inputs, role=""):
        return self.net(inputs["observations"]), {"log_std": self.log_std}

    def act(self, inputs, *, role=""):
        actions, outputs = super().act(inputs, role=role)
        if "taken_actions" in inputs:
            self.new.append(outputs["log_prob"].detach())
        return actions, outputs


class Critic(DeterministicMixin, Model):
    def __init__(self, **spaces):
        Model.__init__(self, **spaces)
        DeterministicMixin.__init__(self)
        self.net = network(self.num_observations, 1)

    def compute(self, inputs, role=""):
        return self.net(inputs["observations"]), {}


class Memory(RandomMemory):
    old = ()

    def sample(self, *args, **kwargs):
        parts = super().sample(*args, **kwargs)
        self.old = (*self.old, *(part[3] for part in parts))  # log-probabilities of the rollout
        return parts


def update(kl_threshold, scaled, warmed=False):
    """The ratios of one update with a learning rate of 0, by minibatches that were not left out."""
    torch.manual_seed(0)
    env = wrap_env(gymnasium.make_vec("Pendulum-v1", num_envs=COPIES, vectorization_mode="sync"))
    spaces = {"observation_space": env.observation_space, "action_space": env.action_space, "device": "cpu"}
    cfg = {"rollouts": STEPS, "learning_epochs": EPOCHS, "mini_batches": PARTS, "learning_rate": 0.0,
           "kl_threshold": kl_threshold, "experiment": {"write_interval": 0, "checkpoint_interval": 0}}  # fmt: skip
    if scaled:
        cfg |= {"observation_preprocessor": RunningStandardScaler,
                "observation_preprocessor_kwargs": {"size": env.observation_space}}  # fmt: skip
    actor, memory = Actor(**spaces), Memory(memory_size=STEPS, num_envs=COPIES, device="cpu")
    agent = PPO(models={"policy": actor, "value": Critic(**spaces)}, memory=memory, cfg=cfg, **spaces)
    weights = [each.clone() for each in actor.parameters()]
    if warmed:
        env.reset()
        for _ in range(1000):
            agent._observation_preprocessor(env.step(torch.zeros(COPIES, 1))[0], train=True)
    trainer = {"timesteps": STEPS, "headless": True, "disable_progressbar": True}
    SequentialTrainer(env=env, agents=agent, cfg=trainer).train()
    assert all(map(torch.equal, weights, actor.parameters()))
    return actor.new, memory.old


for words, scaled, warmed in (("no scaler", False, False), ("scaler", True, False), ("warm scaler", True, True)):
    ratio = torch.cat([torch.exp(new - old) for new, old in zip(*update(0.0, scaled, warmed))])
    clipped = float(((ratio - 1).abs() > 0.2).float().mean())
    used = len(update(0.01, scaled, warmed)[0])
    share = "none" if clipped == 0.0 else "a tenth and more" if clipped > 0.1 else f"{clipped:.1%}"
    kept = "all" if used == EPOCHS * PARTS else "fewer than half" if used < EPOCHS * PARTS / 2 else used
    print(f"{words}: clipped {share}; minibatches that kl_threshold=0.01 lets through: {kept}")
PY
seen=$(python "$folder/ratio.py" 2> /dev/null)
echo "$(python -c 'import platform, skrl; print("Python", platform.python_version(), "skrl", skrl.__version__)' 2> /dev/null)"
echo "$seen"
expected="no scaler: clipped none; minibatches that kl_threshold=0.01 lets through: all
scaler: clipped a tenth and more; minibatches that kl_threshold=0.01 lets through: fewer than half
warm scaler: clipped none; minibatches that kl_threshold=0.01 lets through: all"
[[ $seen == "$expected" ]] || { echo "CHANGED" >&2; exit 1; }
