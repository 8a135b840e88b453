"""Stable-Baselines3's agents with rollouts that stay on the environment's device."""

from palaestra.agents.checkpoint import CheckpointError
from palaestra.agents.dqn import DQN
from palaestra.agents.networks import DuelingPolicy, SharedMlp
from palaestra.agents.ppo import PPO
from palaestra.agents.pqn import PQN

__all__ = ["DQN", "PPO", "PQN", "CheckpointError", "DuelingPolicy", "SharedMlp"]
