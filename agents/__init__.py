"""Stable-Baselines3's agents with rollouts that stay on the environment's device."""

import sys

from palaestra.agents.checkpoints.model_file import CheckpointError
from palaestra.agents.dqn import DQN
from palaestra.agents.finite_check import DivergedError
from palaestra.agents.networks import DuelingPolicy, SharedMlp, observation_norm
from palaestra.agents.off_policy.sac import SAC
from palaestra.agents.off_policy.td3 import TD3
from palaestra.agents.ppo import PPO
from palaestra.agents.pqn import PQN
from palaestra.agents.recurrent.recurrent_ppo import RecurrentPPO

__all__ = [
    "DQN",
    "PPO",
    "PQN",
    "SAC",
    "TD3",
    "CheckpointError",
    "DivergedError",
    "DuelingPolicy",
    "RecurrentPPO",
    "SharedMlp",
]

sys.modules["palaestra.agents.observation_scale"] = observation_norm  # its name in model files of format 2
