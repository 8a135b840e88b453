"""Stable-Baselines3's agents with rollouts that stay on the environment's device."""

from palaestra.agents.checkpoints.model_file import CheckpointError
from palaestra.agents.dqn import DQN
from palaestra.agents.finite_check import DivergedError
from palaestra.agents.networks.extractors import DuelingPolicy, SharedMlp
from palaestra.agents.ppo import PPO
from palaestra.agents.pqn import PQN

__all__ = ["DQN", "PPO", "PQN", "CheckpointError", "DivergedError", "DuelingPolicy", "SharedMlp"]
