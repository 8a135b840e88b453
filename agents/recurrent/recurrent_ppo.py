"""PPO with a memory: what an agent has seen of an episode decides its actions too.

The algorithm is :class:`~palaestra.agents.ppo.PPO` with a policy that holds a gated recurrent unit
(:mod:`.gru_policy`). What differs:

1. Each environment has a memory, ``hidden_size`` numbers on the device, which is 0 where an episode begins. Restored by
   :meth:`resume`, it goes on as it was.
2. The update learns from sequences of ``sequence_length`` steps, which divides ``n_steps`` and ``batch_size``; the
   memory before each is the one that acted, and derivatives pass through all its steps, but for the ends of episodes
   (truncated back-propagation through time). ``null`` takes whole rollouts.
3. The value of an observation before a reset, which a truncated step gets, is that of the memory then.
4. :meth:`predict` takes and gives the memories as in sb3-contrib: ``actions, state = model.predict(obs, state,
   episode_start)``. :meth:`act_remembering` is its twin for tensors.

Model files are read by palaestra alone: Stable-Baselines3 has no such policy.

Source: Hausknecht and Stone, "Deep recurrent Q-learning for partially observable MDPs", 2015 (arXiv 1507.06527), for
states kept with sequences; Ni, Eysenbach and Salakhutdinov, "Recurrent model-free RL can be a strong baseline for many
POMDPs", ICML 2022.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Unpack

import torch
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.type_aliases import Schedule
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor

from palaestra.agents.buffers.stored_observations import RolloutStorage
from palaestra.agents.graphs.slots import Attribute
from palaestra.agents.networks.actor_critic import ActorCritic
from palaestra.agents.options import (
    AtLeastOne,
    BatchSize,
    CommonOptions,
    NonNegative,
    Probability,
    ScheduledNonNegative,
    arguments_for,
    saved_arguments,
)
from palaestra.agents.ppo import PPO, ValueClipRange
from palaestra.agents.recurrent.gru_policy import (
    CnnGruPolicy,
    GruPolicy,
    MultiInputGruPolicy,
    has_memory,
    with_memory,
    without_memory,
)
from palaestra.agents.recurrent.sequence_buffer import SequenceBuffer
from palaestra.envs.core.rng import Rng
from palaestra.envs.core.state_dict import check_form
from palaestra.envs.trained_players import NO_MEMORY, rules_with_own_rival


class RememberingActorCritic(ActorCritic):
    """The computations of a :class:`GruPolicy`, and the memories [N, H] of the environments that it acts in."""

    policy: GruPolicy
    memory: Tensor

    def sample(self, obs: Any, noise: Tensor | None, mask: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """As :class:`ActorCritic`; the memories are those after ``obs`` then."""
        seen = with_memory(obs, self.memory)
        found = super().sample(seen, noise, mask)
        self.memory = self._latest
        return found

    def values(self, obs: Any) -> Tensor:
        """Values [B] of observations :func:`with_memory`, or of those of the environments as they are now."""
        seen = obs if has_memory(obs) else with_memory(obs, self.memory)
        return self._through_modules(seen)[1].squeeze(1)

    def act_remembering(
        self, obs: Any, memory: Tensor, rng: Rng | None, mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """As :meth:`act`, with the memories before and after."""
        assert self.head is not None
        params, _ = self._params_and_values(with_memory(obs, memory), mask, learns=False)
        if rng is None:
            return self.for_env(self.head.most_likely(params)), self._latest
        return self.for_env(self.head.sample(params, self.head.noise(rng))[0]), self._latest

    def _through_modules(self, obs: Any) -> tuple[Tensor, Tensor]:
        latent = self.policy.extract_features(obs)
        self._latest = latent.detach()
        latent_pi, latent_vf = self.policy.mlp_extractor(latent)
        return self.policy.action_net(latent_pi), self.policy.value_net(latent_vf)


class RecurrentPPO(PPO):
    """Recurrent PPO with Stable-Baselines3's interface, for thousands of environments on one device; see the module."""

    policy: GruPolicy
    rollout_buffer: SequenceBuffer
    _actor_critic: RememberingActorCritic
    remembers = True
    sb3_twin = None  # type: ignore[assignment]
    net_arch = None
    _parts: ClassVar[tuple[Any, Any]] = SequenceBuffer, RememberingActorCritic
    policy_aliases: ClassVar[dict[str, Any]] = {
        "MlpPolicy": GruPolicy,
        "CnnPolicy": CnnGruPolicy,
        "MultiInputPolicy": MultiInputGruPolicy,
    }

    def __init__(
        self,
        policy: str | type[ActorCriticPolicy],
        env: Any,
        learning_rate: ScheduledNonNegative = 3e-4,
        n_steps: AtLeastOne = 128,
        batch_size: BatchSize = 128,
        n_epochs: AtLeastOne = 10,
        gamma: Probability = 0.99,
        gae_lambda: Probability = 0.95,
        clip_range: ScheduledNonNegative = 0.2,
        clip_range_vf: ValueClipRange | Schedule | None = None,
        normalize_advantage: bool = True,
        ent_coef: ScheduledNonNegative = 0.0,
        vf_coef: NonNegative = 0.5,
        max_grad_norm: NonNegative = 0.5,
        *,
        hidden_size: AtLeastOne = 64,
        sequence_length: AtLeastOne | None = None,
        target_kl: NonNegative | None = None,
        normalize_observation: bool = False,
        normalize_reward: bool = False,
        scale_actions: bool = False,
        rollout_storage: RolloutStorage = "auto",
        device: torch.device | str = "auto",
        _init_setup_model: bool = True,
        **kwargs: Unpack[CommonOptions],
    ) -> None:
        self.check_settings({**locals(), **kwargs})
        self.hidden_size, self.sequence_length = hidden_size, sequence_length
        super().__init__(**arguments_for(PPO, locals()))

    _json_arguments: ClassVar[tuple[str, ...]] = saved_arguments(__init__)

    @classmethod
    def check_settings(cls, settings: Mapping[str, Any]) -> None:
        """Raise a ValueError unless sequences divide rollouts and minibatches, and episodes have their beginnings."""
        given, n_steps = settings["sequence_length"], settings["n_steps"]
        length = n_steps if given is None else given
        for name in ("n_steps", "batch_size"):
            if length < 1 or settings[name] % length:
                usual = " (that of n_steps unless given)" if given is None else ""
                what = f"{length}{usual} does not divide {name}={settings[name]}"
                raise ValueError(f"sequence_length must divide n_steps and batch_size: {what}")
        if share := settings.get("restart_states"):
            raise ValueError(
                f"restart_states={share}: an agent with a memory begins episodes at their beginning, since it has not "
                "seen what came before other states; leave it out"
            )
        own, width = settings["hidden_size"], (settings.get("policy_kwargs") or {}).get("hidden_size")
        if width not in (None, own):
            raise ValueError(f"hidden_size is an option of the agent: it is {own}, policy_kwargs say {width}")

    def _setup_model(self) -> None:
        if not (isinstance(self.policy_class, type) and issubclass(self.policy_class, GruPolicy)):
            raise ValueError(f"{self.policy_class} has no memory: the policy must be a GruPolicy")
        self.policy_kwargs = {**self.policy_kwargs, "hidden_size": self.hidden_size}
        length = self.n_steps if self.sequence_length is None else self.sequence_length
        self.rollout_buffer_kwargs = {"sequence_length": length}
        super()._setup_model()
        self._forget()

    def _attach(self, env: VecEnv) -> None:
        super()._attach(env)
        if rules_with_own_rival(getattr(self.batch, "env", None)) is not None:
            raise ValueError(NO_MEMORY)

    def _forget(self) -> None:
        """Let all episodes begin."""
        self._actor_critic.memory = self.policy.new_memory(self.n_envs)

    def _episodes_began(self) -> None:
        super()._episodes_began()
        self._forget()

    @torch.no_grad()
    def _transition(self, place: int | Tensor, step: int | Tensor) -> tuple[Tensor, Tensor, Tensor, dict[str, Any]]:
        actor_critic = self._actor_critic
        self.rollout_buffer.remember(place, actor_critic.memory)
        outcome = super()._transition(place, step)
        actor_critic.memory = actor_critic.memory.masked_fill(outcome[1].unsqueeze(1), 0.0)
        return outcome

    def _bootstrap(
        self, values: Callable[..., Tensor], rewards: Tensor, truncated: Tensor, info: dict[str, Any], mask: Any = None
    ) -> Tensor:
        if not self.batch.can_truncate:
            return rewards
        cut = self._episode_log.cut
        known = len(cut)
        info = {**info, "final_obs": with_memory(info["final_obs"], self._actor_critic.memory)}
        rewards = super()._bootstrap(values, rewards, truncated, info, mask)
        cut[known:] = [(step, rows, without_memory(seen)) for step, rows, seen in cut[known:]]
        return rewards

    def act(self, obs: Any, rng: Rng | None = None, mask: Tensor | None = None) -> Tensor:
        """Not for this agent.

        Raises:
            ValueError: always.
        """
        raise ValueError("an agent with a memory acts by act_remembering(obs, memory), or by predict(obs, state)")

    def new_memory(self, rows: int) -> Tensor:
        return self.policy.new_memory(rows)

    @torch.no_grad()
    def act_remembering(
        self, obs: Any, memory: Tensor, rng: Rng | None = None, mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        actions, memory = self._actor_critic.act_remembering(self._numbering.from_env(obs), memory, rng, mask)
        return self._numbering.to_env(actions), memory

    def _rebound(self) -> list[Attribute]:
        return [*super()._rebound(), (self._actor_critic, "memory")]

    def _extra_training_state(self) -> dict[str, Any]:
        return {**super()._extra_training_state(), "memory": self._actor_critic.memory}

    def _set_extra_training_state(self, saved: dict[str, Any]) -> None:
        super()._set_extra_training_state(saved)
        memory: Any = saved.get("memory")
        check_form("training state", {"memory": self._actor_critic.memory}, {"memory": memory})
        if not memory.isfinite().all():
            raise ValueError("the training state's memories hold NaN or infinity")
        if saved["batch"] is not None:  # else new episodes begin
            self._actor_critic.memory = memory
