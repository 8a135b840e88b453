"""Stable-Baselines3's agents with rollouts that stay on the environment's device."""

from palaestra.agents.checkpoint import CheckpointError
from palaestra.agents.dqn import DQN
from palaestra.agents.networks import DuelingPolicy, SharedMlp
from palaestra.agents.ppo import PPO
from palaestra.agents.pqn import PQN
from palaestra.agents.rollout import DivergedError

__all__ = ["DQN", "PPO", "PQN", "CheckpointError", "DivergedError", "DuelingPolicy", "SharedMlp"]
