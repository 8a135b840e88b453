"""Settings that train each environment well, per environment id and agent; everything here can be changed with --set.

A preset is plain data, as it is written to ``config.yaml``: ``linear(a, b)`` is a schedule from a to b over the run,
and classes are given by name (see :mod:`palaestra.train.config.run_config`). Without a preset, tensor environments
get ``DEFAULT`` and other people's ``DEFAULT_GYMNASIUM``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from gymnasium.envs.registration import EnvSpec

from palaestra.envs.registry import EnvEntry


@dataclass(frozen=True)
class Preset:
    """Number of environments and steps, and the arguments of agent and environment."""

    num_envs: int
    total_timesteps: int
    agent: dict[str, Any] = field(default_factory=dict)
    env: dict[str, Any] = field(default_factory=dict)


def _shared_mlp(*hidden: int, **kwargs: int) -> dict[str, Any]:
    """One ReLU trunk for actor and critic, or of a Q-network."""
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

_FUSED = {"optimizer_kwargs": {"fused": True}}  # many small updates: Adam as one operation

_SNAKE_DQN = {
    "policy": "DuelingPolicy",
    "buffer_size": 400_000,
    "learning_starts": 20_000,
    "batch_size": 1024,
    "train_freq": 2,
    "samples_per_insert": 2.0,
    "learning_rate": "linear(7e-4, 1e-5)",
    "gamma": 0.99,
    "n_steps": 5,
    "double_q": True,
    "huber_delta": 3.0,
    "target_update_interval": 30_000,
    "exploration_fraction": 0.1,
    "exploration_final_eps": 0.005,
    "policy_kwargs": {**_shared_mlp(256, 256), **_FUSED},
}

_PRICING_DQN = {
    "policy": "DuelingPolicy",
    "buffer_size": 1_000_000,
    "learning_starts": 20_000,
    "batch_size": 4096,
    "train_freq": 2,
    "samples_per_insert": 2.0,
    "learning_rate": "linear(1e-3, 1e-5)",
    "gamma": 1.0,
    "n_steps": 5,
    "double_q": True,
    "normalize_reward": True,
    "weight_average": 0.005,
    "target_update_interval": 50_000,
    "exploration_fraction": 0.2,
    "exploration_final_eps": 0.4,
    "exploration_spread": 6.0,
    "policy_kwargs": {**_shared_mlp(128, 128, octaves=3), **_FUSED},
}

_SNAKE_PQN = {
    "n_steps": 32,
    "batch_size": 1024,
    "n_epochs": 2,
    "learning_rate": "linear(1e-3, 1e-5)",
    "gamma": 0.99,
    "gae_lambda": 0.9,
    "exploration_fraction": 0.1,
    "exploration_final_eps": 0.005,
    "policy_kwargs": {"features_extractor_kwargs": {"hidden": [256, 256]}},
}

DEFAULT = {
    "ppo": Preset(
        1024,
        2_000_000,
        {
            "n_steps": 32,
            "batch_size": 2048,
            "n_epochs": 4,
            "gamma": 0.999,
            "learning_rate": "linear(2e-3, 1e-5)",
            "ent_coef": "linear(0.02, 0)",
            "normalize_observation": True,
            "normalize_reward": True,
            "policy_kwargs": _shared_mlp(128, 128),
        },
    ),
    "dqn": Preset(
        512,
        2_000_000,
        {
            "policy": "DuelingPolicy",
            "buffer_size": 500_000,
            "learning_starts": 20_000,
            "batch_size": 1024,
            "train_freq": 2,
            "samples_per_insert": 4.0,
            "learning_rate": "linear(1e-3, 1e-5)",
            "gamma": 0.999,
            "n_steps": 3,
            "double_q": True,
            "huber_delta": 10.0,
            "normalize_observation": True,
            "normalize_reward": True,
            "weight_average": 0.005,
            "target_update_interval": 20_000,
            "exploration_fraction": 0.2,
            "exploration_final_eps": 0.05,
            "policy_kwargs": {**_shared_mlp(128, 128), **_FUSED},
        },
    ),
    "pqn": Preset(
        1024,
        2_000_000,
        {
            "n_steps": 16,
            "batch_size": 2048,
            "n_epochs": 2,
            "gae_lambda": 0.8,
            "learning_rate": "linear(1e-3, 1e-5)",
            "exploration_final_eps": 0.02,
            "normalize_observation": True,
            "normalize_reward": True,
            "weight_average": 0.01,
            "policy_kwargs": {"features_extractor_kwargs": {"hidden": [128, 128]}},
        },
    ),
}
"""For tensor environments without a preset."""

DEFAULT_GYMNASIUM = {
    "ppo": Preset(
        16,
        1_000_000,
        {
            "n_steps": 256,
            "batch_size": 256,
            "n_epochs": 6,
            "gamma": 0.995,
            "gae_lambda": 0.97,
            "learning_rate": "linear(5e-4, 1e-5)",
            "ent_coef": "linear(0.01, 0)",
            "normalize_observation": True,
            "normalize_reward": True,
        },
    ),
    "dqn": Preset(
        16,
        500_000,
        {
            "buffer_size": 100_000,
            "learning_starts": 2000,
            "batch_size": 256,
            "train_freq": 4,
            "samples_per_insert": 16.0,
            "learning_rate": "linear(1e-3, 1e-5)",
            "n_steps": 5,
            "double_q": True,
            "huber_delta": 10.0,
            "normalize_observation": True,
            "normalize_reward": True,
            "weight_average": 0.005,
            "target_update_interval": 2000,
            "exploration_fraction": 0.2,
            "exploration_final_eps": 0.04,
            "policy_kwargs": {"net_arch": [128, 128], **_FUSED},
        },
    ),
    "pqn": Preset(
        16,
        500_000,
        {
            "n_steps": 64,
            "batch_size": 256,
            "n_epochs": 2,
            "learning_rate": "linear(1e-3, 1e-5)",
            "gae_lambda": 0.9,
            "exploration_final_eps": 0.02,
            "normalize_observation": True,
            "normalize_reward": True,
            "weight_average": 0.01,
            "policy_kwargs": {"features_extractor_kwargs": {"hidden": [128, 128]}},
        },
    ),
}
"""For other people's Gymnasium environments, which step one after another on the host."""

PRESETS: dict[tuple[str, str], Preset] = {
    ("palaestra/SnakeSmall-v0", "ppo"): Preset(1024, 5_000_000, {**_SNAKE_PPO, "gamma": 0.995}),
    ("palaestra/Snake-v0", "ppo"): Preset(1024, 24_000_000, {**_SNAKE_PPO, "gamma": 0.997}),
    ("palaestra/SnakeLarge-v0", "ppo"): Preset(1024, 60_000_000, {**_SNAKE_PPO, "gamma": 0.998}),
    ("palaestra/SnakeSmall-v0", "dqn"): Preset(512, 10_000_000, {**_SNAKE_DQN, "gamma": 0.995}),
    ("palaestra/Snake-v0", "dqn"): Preset(512, 12_000_000, {**_SNAKE_DQN, "gamma": 0.997}),
    ("palaestra/SnakeLarge-v0", "dqn"): Preset(512, 20_000_000, _SNAKE_DQN),
    ("palaestra/SnakeSmall-v0", "pqn"): Preset(512, 6_000_000, {**_SNAKE_PQN, "gamma": 0.995}),
    ("palaestra/Snake-v0", "pqn"): Preset(512, 16_000_000, _SNAKE_PQN),
    ("palaestra/SnakeLarge-v0", "pqn"): Preset(512, 30_000_000, _SNAKE_PQN),
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
    ("palaestra/PandaReach-v0", "dqn"): Preset(
        1024,
        3_000_000,
        {
            "policy": "DuelingPolicy",
            "buffer_size": 500_000,
            "learning_starts": 20_000,
            "batch_size": 2048,
            "train_freq": 2,
            "samples_per_insert": 2.0,
            "learning_rate": "linear(1e-3, 1e-5)",
            "gamma": 0.97,
            "n_steps": 3,
            "double_q": True,
            "weight_average": 0.005,
            "target_update_interval": 20_000,
            "exploration_fraction": 0.2,
            "exploration_final_eps": 0.02,
            "policy_kwargs": {**_shared_mlp(128, 128), **_FUSED},
        },
        env={"control": "cartesian"},  # seven moves
    ),
    ("palaestra/PandaReach-v0", "pqn"): Preset(
        1024,
        2_000_000,
        {
            "n_steps": 16,
            "batch_size": 2048,
            "n_epochs": 2,
            "gamma": 0.97,
            "gae_lambda": 0.8,
            "learning_rate": "linear(1e-3, 1e-5)",
            "exploration_fraction": 0.2,
            "exploration_final_eps": 0.02,
            "weight_average": 0.01,
            "policy_kwargs": {"features_extractor_kwargs": {"hidden": [128, 128]}},
        },
        env={"control": "cartesian"},
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
    ("palaestra/Pricing-v0", "ppo"): Preset(1024, 8_000_000, _PRICING_PPO),
    ("palaestra/PricingTwoProducts-v0", "ppo"): Preset(1024, 5_000_000, _PRICING_PPO),
    ("palaestra/PricingYogurt-v0", "ppo"): Preset(1024, 5_000_000, _PRICING_PPO),
    ("palaestra/PricingDuopoly-v0", "ppo"): Preset(1024, 5_000_000, _PRICING_PPO),
    ("palaestra/PricingStationary-v0", "dqn"): Preset(1024, 10_000_000, {**_PRICING_DQN, "n_steps": 3}),
    ("palaestra/Pricing-v0", "dqn"): Preset(1024, 10_000_000, _PRICING_DQN),
    ("palaestra/PricingTwoProducts-v0", "dqn"): Preset(1024, 8_000_000, {**_PRICING_DQN, "n_steps": 10}),
    ("palaestra/PricingYogurt-v0", "dqn"): Preset(1024, 4_000_000, _PRICING_DQN),
    ("palaestra/PricingDuopoly-v0", "dqn"): Preset(
        1024,
        4_000_000,
        # nothing but the closing discounts here: with fewer steps, overestimated values die out slowly
        {**_PRICING_DQN, "n_steps": 10, "exploration_final_eps": 0.1, "exploration_spread": 3.0},
    ),
    ("palaestra/CartPole-v1", "ppo"): Preset(
        128,  # more would collect faster, and learn from each step less
        300_000,
        {
            "n_steps": 32,
            "batch_size": 1024,
            "n_epochs": 10,
            "gamma": 0.98,
            "gae_lambda": 0.8,
            "learning_rate": "linear(3e-3, 0)",
        },
    ),
    ("palaestra/CartPole-v1", "dqn"): Preset(
        256,
        600_000,
        {
            "buffer_size": 200_000,
            "learning_starts": 2000,
            "batch_size": 512,
            "train_freq": 4,
            "samples_per_insert": 2.0,
            "learning_rate": "linear(2e-3, 1e-4)",
            "gamma": 0.99,
            "n_steps": 10,
            "double_q": True,
            "normalize_reward": True,
            "huber_delta": 100.0,
            "target_update_interval": 2000,
            "exploration_fraction": 0.05,
            "exploration_final_eps": 0.1,
            "exploration_spread": 3.0,
            "policy_kwargs": {"net_arch": [128, 128], **_FUSED},
        },
    ),
    ("palaestra/CartPole-v1", "pqn"): Preset(
        512,
        800_000,
        {
            "n_steps": 32,
            "batch_size": 2048,
            "n_epochs": 4,
            "gamma": 0.99,
            "gae_lambda": 0.95,
            "learning_rate": "linear(2e-3, 1e-5)",
            "normalize_reward": True,
            "exploration_fraction": 0.1,
            "exploration_final_eps": 0.1,
            "exploration_spread": 3.0,
            "weight_average": 0.02,
            "policy_kwargs": {"features_extractor_kwargs": {"hidden": [128, 128]}},
        },
    ),
}


def preset(found: EnvEntry | EnvSpec, agent: str) -> Preset:
    """The preset of that pair, or the agent's default for environments of that kind."""
    default = DEFAULT if isinstance(found, EnvEntry) else DEFAULT_GYMNASIUM
    return PRESETS.get((found.id, agent), default[agent])
