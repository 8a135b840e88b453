"""Actor-critic policies with a memory: features → gated recurrent unit → actor and critic.

What these policies see is an observation together with a memory (:func:`with_memory`), or many observations in
sequences. Of an observation alone they act as at the first step of an episode.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Space
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import (
    BaseFeaturesExtractor,
    CombinedExtractor,
    FlattenExtractor,
    MlpExtractor,
    NatureCNN,
)
from stable_baselines3.common.type_aliases import Schedule
from torch import Tensor, nn

from palaestra.agents.networks.extractors import channels_last
from palaestra.agents.recurrent.episode_gru import EpisodeGru

_SEEN, _MEMORY, _STARTS = "seen by the agent", "memory of the agent", "starts of episodes"


def with_memory(obs: Any, memory: Tensor, starts: Tensor | None = None) -> dict[str, Tensor]:
    """Observations with the memories before them, as one dictionary of tensors.

    Args:
        obs: [B, …], or a dictionary of such; of sequences [L · B, …], all rows of a step one behind the other.
        memory: [B, H]; of sequences before their first step.
        starts: of sequences only, true where an episode begins with a step, bool [L, B].
    """
    seen = dict(obs) if isinstance(obs, dict) else {_SEEN: obs}
    return {**seen, _MEMORY: memory} | ({} if starts is None else {_STARTS: starts})


def has_memory(obs: Any) -> bool:
    """True for what :func:`with_memory` gave."""
    return isinstance(obs, dict) and _MEMORY in obs


def without_memory(seen: dict[str, Tensor]) -> Any:
    """The observations that :func:`with_memory` got."""
    obs = {key: part for key, part in seen.items() if key not in (_MEMORY, _STARTS)}
    return obs.get(_SEEN, obs)


class GruPolicy(ActorCriticPolicy):
    """SB3's actor-critic policy with an :class:`EpisodeGru` between its features and its two networks.

    ``net_arch`` is that of the networks behind the unit, a layer of 64 each unless given.
    """

    def __init__(
        self,
        observation_space: Space[Any],
        action_space: Space[Any],
        lr_schedule: Schedule,
        net_arch: list[int] | dict[str, list[int]] | None = None,
        activation_fn: type[nn.Module] = nn.Tanh,
        ortho_init: bool = True,
        log_std_init: float = 0.0,
        features_extractor_class: type[BaseFeaturesExtractor] = FlattenExtractor,
        features_extractor_kwargs: dict[str, Any] | None = None,
        normalize_images: bool = True,
        optimizer_class: type[torch.optim.Optimizer] = torch.optim.Adam,
        optimizer_kwargs: dict[str, Any] | None = None,
        hidden_size: int = 64,
        use_sde: bool = False,
    ) -> None:
        """``hidden_size`` is H, the numbers of the memory.

        Raises:
            ValueError: with ``use_sde``, whose noise depends on features.
        """
        if use_sde:
            raise ValueError("use_sde is not for policies with a memory")
        self.hidden_size = hidden_size
        net_arch = {"pi": [64], "vf": [64]} if net_arch is None else net_arch
        given = {"features_extractor_class": features_extractor_class, "normalize_images": normalize_images}
        super().__init__(
            observation_space,
            action_space,
            lr_schedule,
            net_arch,
            activation_fn,
            ortho_init,
            log_std_init=log_std_init,
            features_extractor_kwargs=features_extractor_kwargs,
            optimizer_class=optimizer_class,
            optimizer_kwargs=optimizer_kwargs,
            **given,  # type: ignore[arg-type]
        )

    def _build_mlp_extractor(self) -> None:
        self.gru = EpisodeGru(self.features_dim, self.hidden_size).to(self.device)
        if self.ortho_init:
            self.gru.make_orthogonal()
        self.mlp_extractor = MlpExtractor(self.hidden_size, self.net_arch, self.activation_fn, self.device)

    def new_memory(self, rows: int) -> Tensor:
        """Memories at the beginning of episodes, zeros [rows, H]."""
        return torch.zeros(rows, self.hidden_size, device=self.device)

    def remember(self, obs: Any, memory: Tensor) -> Tensor:
        """The memories [B, H] after observations [B, …], from those before."""
        features: Any = ActorCriticPolicy.extract_features(self, channels_last(obs))
        return self.gru.step(features, memory)

    def extract_features(self, obs: Any, features_extractor: BaseFeaturesExtractor | None = None) -> Tensor:
        """The memories after each observation, [B, H] or [L · B, H]; see the module."""
        if not has_memory(obs):
            rows = len(next(iter(obs.values())) if isinstance(obs, dict) else obs)
            return self.remember(obs, self.new_memory(rows))
        seen, memory, starts = without_memory(obs), obs[_MEMORY], obs.get(_STARTS)
        if starts is None:
            return self.remember(seen, memory)
        features: Any = ActorCriticPolicy.extract_features(self, channels_last(seen))
        return self.gru.sequences(features.view(*starts.shape, -1), memory, starts).flatten(0, 1)

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = False
    ) -> tuple[Any, Any]:
        """Actions and memories for NumPy observations, as policies of sb3-contrib give them.

        Args:
            observation: of one environment, or [N, …].
            state: the memories that the call before gave, float32 [N, H]; None before the first.
            episode_start: true where an episode begins, bool [N]; those environments' memories are forgotten.
            deterministic: the most likely action instead of a random one.
        """
        self.set_training_mode(False)
        tensors, _ = self.obs_to_tensor(observation)
        rows = len(next(iter(tensors.values())) if isinstance(tensors, dict) else tensors)
        memory = self.new_memory(rows) if state is None else torch.as_tensor(state, device=self.device)
        if tuple(memory.shape) != (rows, self.hidden_size):
            raise ValueError(f"state has shape {tuple(memory.shape)}, expected {(rows, self.hidden_size)}")
        if episode_start is not None:
            starts = np.broadcast_to(np.asarray(episode_start, dtype=bool), (rows,))
            memory = memory.masked_fill(torch.tensor(starts, device=self.device).unsqueeze(1), 0.0)
        self._before = memory
        actions, _ = super().predict(observation, None, None, deterministic)
        return actions, self._after.cpu().numpy()

    def _predict(self, observation: Any, deterministic: bool = False) -> Tensor:
        """Actions after the memories that :meth:`predict` was given; of an episode's first step elsewhere."""
        with torch.no_grad():
            before: Tensor | None = vars(self).pop("_before", None)
            rows = len(next(iter(observation.values())) if isinstance(observation, dict) else observation)
            self._after = self.remember(observation, self.new_memory(rows) if before is None else before)
            latent = self.mlp_extractor.forward_actor(self._after)
            return self._get_action_dist_from_latent(latent).get_actions(deterministic=deterministic)


class CnnGruPolicy(GruPolicy):
    """The same for images, through SB3's ``NatureCNN``."""

    def __init__(
        self,
        *args: Any,
        features_extractor_class: type[BaseFeaturesExtractor] = NatureCNN,
        optimizer_class: type[torch.optim.Optimizer] = torch.optim.Adam,
        **kwargs: Any,
    ) -> None:
        kwargs |= {"features_extractor_class": features_extractor_class, "optimizer_class": optimizer_class}
        super().__init__(*args, **kwargs)


class MultiInputGruPolicy(GruPolicy):
    """The same for dictionaries, through SB3's ``CombinedExtractor``."""

    def __init__(
        self,
        *args: Any,
        features_extractor_class: type[BaseFeaturesExtractor] = CombinedExtractor,
        optimizer_class: type[torch.optim.Optimizer] = torch.optim.Adam,
        **kwargs: Any,
    ) -> None:
        kwargs |= {"features_extractor_class": features_extractor_class, "optimizer_class": optimizer_class}
        super().__init__(*args, **kwargs)
