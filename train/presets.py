"""Settings that train each environment well, per environment id and agent; everything here can be changed with --set.

A preset is plain data, as it is written to ``config.yaml``: ``linear(a, b)`` is a schedule from a to b over the run,
and classes are given by name (see :mod:`palaestra.train.config`). Environments without a preset get ``DEFAULT``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Preset:
    """Number of environments and steps, and the arguments of agent and environment."""

    num_envs: int
    total_timesteps: int
    agent: dict[str, Any] = field(default_factory=dict)
    env: dict[str, Any] = field(default_factory=dict)


def _shared_mlp(*hidden: int, **kwargs: int) -> dict[str, Any]:
    """One ReLU trunk for actor and critic."""
    return {
        "features_extractor_class": "SharedMlp",
        "features_extractor_kwargs": {"hidden": list(hidden), **kwargs},
        "net_arch": [],
    }


_SNAKE_PPO = {
    "n_steps": 32,
    "batch_size": 2048,
    "n_epochs": 3,
    "gae_lambda": 0.95,
    "learning_rate": "linear(1e-3, 1e-5)",
    "ent_coef": "linear(5e-3, 0)",
    "vf_coef": 0.1,
    "policy_kwargs": _shared_mlp(256, 256),
}

_PRICING_PPO = {
    "n_steps": 32,
    "batch_size": 4096,
    "n_epochs": 4,
    "gamma": 1.0,
    "gae_lambda": 0.8,
    "learning_rate": "linear(2e-3, 1e-5)",
    "ent_coef": "linear(0.03, 0)",
    "normalize_reward": True,
    "policy_kwargs": _shared_mlp(128, 128, octaves=3),
}

DEFAULT = {
    "ppo": Preset(
        8, 1_000_000, {"n_steps": 256, "batch_size": 512, "n_epochs": 10, "learning_rate": "linear(3e-4, 0)"}
    ),
    "dqn": Preset(
        8,
        500_000,
        {
            "buffer_size": 100_000,
            "learning_starts": 1000,
            "batch_size": 256,
            "train_freq": 4,
            "samples_per_insert": 16.0,
            "learning_rate": "linear(1e-3, 1e-5)",
            "target_update_interval": 2000,
            "exploration_fraction": 0.2,
            "exploration_final_eps": 0.04,
            "double_q": True,
            "policy_kwargs": {"net_arch": [128, 128]},
        },
    ),
    "pqn": Preset(
        8,
        1_000_000,
        {"n_steps": 64, "batch_size": 256, "n_epochs": 4, "learning_rate": "linear(1e-3, 1e-5)", "gae_lambda": 0.9},
    ),
}

PRESETS: dict[tuple[str, str], Preset] = {
    ("palaestra/SnakeSmall-v0", "ppo"): Preset(1024, 5_000_000, {**_SNAKE_PPO, "gamma": 0.995}),
    ("palaestra/Snake-v0", "ppo"): Preset(1024, 24_000_000, {**_SNAKE_PPO, "gamma": 0.997}),
    ("palaestra/SnakeLarge-v0", "ppo"): Preset(1024, 60_000_000, {**_SNAKE_PPO, "gamma": 0.998}),
    ("palaestra/PandaReach-v0", "ppo"): Preset(
        1024,
        4_000_000,
        {
            "n_steps": 16,
            "batch_size": 2048,
            "n_epochs": 4,
            "gamma": 0.97,
            "gae_lambda": 0.95,
            "learning_rate": "linear(1e-3, 1e-5)",
            "policy_kwargs": _shared_mlp(128, 128),
        },
    ),
    ("palaestra/PandaReachTorque-v0", "ppo"): Preset(
        4096,  # enough for the physics to use two cores
        6_000_000,
        {
            "n_steps": 16,
            "batch_size": 8192,
            "n_epochs": 4,
            "gamma": 0.99,
            "gae_lambda": 0.95,
            "learning_rate": "linear(1e-3, 1e-5)",
            "policy_kwargs": {**_shared_mlp(256, 256), "log_std_init": -1.0},
        },
    ),
    ("palaestra/PricingStationary-v0", "ppo"): Preset(
        1024, 6_500_000, {**_PRICING_PPO, "learning_rate": "linear(3e-3, 1e-5)"}
    ),
    ("palaestra/Pricing-v0", "ppo"): Preset(1024, 5_000_000, _PRICING_PPO),
    ("palaestra/PricingTwoProducts-v0", "ppo"): Preset(1024, 5_000_000, _PRICING_PPO),
    ("palaestra/PricingYogurt-v0", "ppo"): Preset(1024, 5_000_000, _PRICING_PPO),
    ("palaestra/PricingDuopoly-v0", "ppo"): Preset(1024, 5_000_000, _PRICING_PPO),
    ("palaestra/CartPole-v1", "ppo"): Preset(
        1024,
        1_000_000,
        {
            "n_steps": 32,
            "batch_size": 4096,
            "n_epochs": 10,
            "gamma": 0.98,
            "gae_lambda": 0.8,
            "learning_rate": "linear(2e-3, 0)",
        },
    ),
}


def preset(env_id: str, agent: str) -> Preset:
    """The preset of that pair, or the agent's default for unknown environments."""
    return PRESETS.get((env_id, agent), DEFAULT[agent])
