"""Classes of networks and optimisers by their names, as the policy's arguments in a run's configuration."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from stable_baselines3.common.torch_layers import CombinedExtractor, FlattenExtractor, NatureCNN
from torch import nn

from palaestra.agents import SharedMlp
from palaestra.train.config import AGENTS
from palaestra.train.config.schema import require_choice

_CLASSES = (
    *(nn.ReLU, nn.Tanh, nn.ELU, nn.GELU, nn.SiLU, nn.LeakyReLU),
    *(torch.optim.Adam, torch.optim.AdamW, torch.optim.RAdam, torch.optim.RMSprop, torch.optim.SGD),
    *(SharedMlp, FlattenExtractor, NatureCNN, CombinedExtractor),
)
CLASSES: dict[str, type] = {cls.__name__: cls for cls in _CLASSES}
_CLASS_KEYS = ("activation_fn", "features_extractor_class", "optimizer_class")


def check_policy_kwargs(agent: str, agent_kwargs: dict[str, Any]) -> None:
    """Raise a ConfigError that names an argument which the policy of that agent does not have, or an unknown class."""
    policy = AGENTS[agent].policy_aliases[agent_kwargs.get("policy", "MlpPolicy")]
    given = ("observation_space", "action_space", "lr_schedule", "use_sde")  # by the agent itself
    names = [f"policy_kwargs.{name}" for name in inspect.signature(policy).parameters if name not in given]
    for key, value in agent_kwargs.get("policy_kwargs", {}).items():
        require_choice(f"policy_kwargs.{key}", names, "setting")
        class_or_value(key, value)


def class_or_value(key: str, value: Any) -> Any:
    """The class of that name, where the argument takes one; any other value as it is."""
    if key in _CLASS_KEYS:
        require_choice(value, CLASSES, f"policy_kwargs.{key}")
    return CLASSES[value] if key in _CLASS_KEYS else value
