"""A policy as a file of Stable-Baselines3 alone, which opens where palaestra is not installed.

The networks that both have are copied weight by weight: SB3's own extractors, and one trunk of ReLU layers for actor
and critic (:class:`~palaestra.agents.networks.extractors.SharedMlp`), which becomes a trunk for each. Networks that SB3
lacks (Fourier features, LayerNorm, dueling heads, normalised observations) are refused, and so are choices that do not
count from 0. PQN's file is one of SB3's DQN, which acts alike.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import stable_baselines3
from gymnasium import spaces
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.vec_env import DummyVecEnv
from stable_baselines3.dqn.policies import DQNPolicy, QNetwork
from torch import Tensor, nn

from palaestra.agents.base import OnDeviceAlgorithm
from palaestra.agents.export.policy_network import ExportError
from palaestra.agents.networks.extractors import SharedMlp
from palaestra.agents.off_policy.continuous_agent import ContinuousAgent
from palaestra.agents.off_policy.sac import SAC
from palaestra.agents.ppo import PPO
from palaestra.agents.q_learning import QLearning

_ELSEWHERE = "; --format onnx exports it"


class _Spaces(gymnasium.Env[Any, Any]):
    """An environment that only has spaces: SB3 makes a model from one."""

    def __init__(self, observation_space: spaces.Space[Any], action_space: spaces.Space[Any]) -> None:
        self.observation_space, self.action_space = observation_space, action_space


def sb3_model(model: OnDeviceAlgorithm) -> Any:
    """A model of SB3's that acts like this one, to be saved.

    Raises:
        ExportError: if SB3 has no such network.
    """
    if model._numbering.renames_observations or model._numbering.renames_actions:
        raise ExportError(f"its choices do not count from 0, as those of Stable-Baselines3 do{_ELSEWHERE}")
    if isinstance(model, PPO):
        made = _ppo(model)
    elif isinstance(model, QLearning):
        made = _dqn(model)
    elif isinstance(model, ContinuousAgent):
        made = _continuous(model)
    else:
        raise ExportError(f"Stable-Baselines3 has no {type(model).__name__}{_ELSEWHERE}")
    made.num_timesteps = model.num_timesteps
    return made


def _ppo(model: PPO) -> Any:
    policy = model.policy
    if type(policy) is not ActorCriticPolicy and type(policy).__module__.partition(".")[0] != "stable_baselines3":
        raise ExportError(f"{type(policy).__name__} is no policy of Stable-Baselines3{_ELSEWHERE}")
    kwargs = {**model.policy_kwargs}
    kwargs, trunk = _vanilla(kwargs, policy.features_extractor)
    if trunk is not None:
        arch = kwargs.get("net_arch", [])
        if arch not in ([], {}):
            raise ExportError(f"SharedMlp with net_arch={arch} is no network of Stable-Baselines3{_ELSEWHERE}")
        widths = [layer.out_features for layer in trunk if isinstance(layer, nn.Linear)]
        kwargs |= {"net_arch": {"pi": widths, "vf": widths}, "activation_fn": nn.ReLU}
    env = DummyVecEnv([lambda: _Spaces(model.observation_space, model.action_space)])
    made = stable_baselines3.PPO(
        type(policy), env, policy_kwargs=kwargs, use_sde=model.use_sde, device="cpu", n_steps=2, batch_size=2
    )
    with model._as_sb3_has_it():
        weights = {name: value.detach().cpu().clone() for name, value in policy.state_dict().items()}
    if trunk is not None:
        weights = _twice(weights, ("mlp_extractor.policy_net", "mlp_extractor.value_net"))
    made.policy.load_state_dict(weights)
    return made


def _dqn(model: QLearning) -> Any:
    network = model._average or model.q_net
    if type(network) is not QNetwork:
        raise ExportError(f"{type(network).__name__} is no network of Stable-Baselines3{_ELSEWHERE}")
    kwargs, trunk = _vanilla({**model.policy_kwargs}, network.features_extractor)
    layers = [layer for layer in (*(trunk or ()), *network.q_net) if isinstance(layer, nn.Linear)]
    if trunk is not None:
        kwargs |= {"net_arch": [layer.out_features for layer in layers[:-1]], "activation_fn": nn.ReLU}
    of_images = isinstance(model.observation_space, spaces.Dict) or trunk is None
    kind = (
        type(model.policy) if of_images and type(model.policy).__module__.startswith("stable_baselines3") else DQNPolicy
    )
    env = DummyVecEnv([lambda: _Spaces(model.observation_space, model.action_space)])
    made = stable_baselines3.DQN(kind, env, policy_kwargs=kwargs, device="cpu", buffer_size=1)
    weights = {name: value.detach().cpu().clone() for name, value in network.state_dict().items()}
    if trunk is not None:
        parts = [(layer.weight, layer.bias) for layer in layers]
        weights = {
            f"q_net.{2 * i}.{name}": part.detach().cpu().clone()
            for i, pair in enumerate(parts)
            for name, part in zip(("weight", "bias"), pair, strict=True)
        }
    made.q_net.load_state_dict(weights)
    made.q_net_target.load_state_dict(weights)
    return made


def _continuous(model: ContinuousAgent) -> Any:
    name = type(model.policy).__module__.partition(".")[0]
    if name != "stable_baselines3":
        raise ExportError(f"{type(model.policy).__name__} is no policy of Stable-Baselines3{_ELSEWHERE}")
    kwargs, _ = _vanilla({**model.policy_kwargs}, model.actor.features_extractor)
    kind: Any = stable_baselines3.SAC if isinstance(model, SAC) else stable_baselines3.TD3
    env = DummyVecEnv([lambda: _Spaces(model.observation_space, model.action_space)])
    made = kind(type(model.policy), env, policy_kwargs=kwargs, device="cpu", buffer_size=1)
    made.policy.load_state_dict({name: value.cpu() for name, value in model.policy.state_dict().items()})
    return made


def _vanilla(kwargs: dict[str, Any], extractor: nn.Module) -> tuple[dict[str, Any], list[nn.Module] | None]:
    """The policy's arguments without this suite's classes, and the layers of a shared trunk."""
    for name in ("optimizer_class", "optimizer_kwargs"):
        kwargs.pop(name, None)  # nothing is learned with the file
    if type(extractor).__module__.partition(".")[0] == "stable_baselines3":
        return kwargs, None
    if isinstance(extractor, SharedMlp):
        layers = list(extractor.layers)[1:]
        if all(isinstance(layer, nn.Linear | nn.ReLU) for layer in layers):
            for name in ("features_extractor_class", "features_extractor_kwargs"):
                kwargs.pop(name, None)
            return kwargs, layers
        strange = next(layer for layer in layers if not isinstance(layer, nn.Linear | nn.ReLU))
        raise ExportError(f"Stable-Baselines3 has no {type(strange).__name__}{_ELSEWHERE}")
    raise ExportError(f"Stable-Baselines3 has no {type(extractor).__name__}{_ELSEWHERE}")


def _twice(weights: dict[str, Tensor], homes: tuple[str, ...]) -> dict[str, Tensor]:
    """The weights of a shared trunk, in a trunk for each of the heads."""
    moved: dict[str, Tensor] = {}
    for name, value in weights.items():
        prefix, found, rest = name.partition("features_extractor.layers.")
        if not found:
            moved[name] = value
        elif not prefix:  # pi_ and vf_features_extractor are the same one
            place, _, part = rest.partition(".")
            moved |= {f"{home}.{int(place) - 1}.{part}": value for home in homes}
    return moved
