"""Stable-Baselines3's agents with rollouts that stay on the environment's device."""

from palaestra.agents.checkpoint import CheckpointError
from palaestra.agents.networks import SharedMlp
from palaestra.agents.ppo import PPO

__all__ = ["PPO", "CheckpointError", "SharedMlp"]
