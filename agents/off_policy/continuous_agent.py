"""The base of SAC and TD3: an actor and critics with an optimizer each, actions in −1 … 1 scaled to the Box.

1. What is stored are actions in −1 … 1, as in SB3; random ones, uniform over the Box, until ``learning_starts``.
2. A step that was cut by the time limit bootstraps from the observation before the reset; a termination does not.
   ``n_steps`` > 1 goes through truncations and the end of the data exactly, see replay.
3. Random numbers of collection are counter-based, keyed by (seed, env index, step); those of learning come from
   PyTorch's generator, whose state is a part of the training state.
4. An update's numbers (``train/…``) are means over all gradient steps of the iteration.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from gymnasium import Space, spaces
from torch import Tensor

from palaestra.agents.buffers.replay import Replay, Transitions
from palaestra.agents.flat_optimizer import FlatOptimizer
from palaestra.agents.networks.manual_mlp import without_gradients
from palaestra.agents.off_policy.continuous_networks import Critics, Deterministic, SquashedGaussian, in_box
from palaestra.agents.off_policy.replaying_agent import ReplayingAgent
from palaestra.agents.symmetry.symmetric_agent import SymmetryUse
from palaestra.envs.core import StepResult
from palaestra.envs.core.rng import Rng


class ContinuousAgent(ReplayingAgent):
    """See the module. Subclasses say how the actor acts and learns, and what a transition is worth."""

    acts_in = "bounded continuous actions"
    net_arch = (256, 256)
    searched: ClassVar[dict[str, float]] = {"learning_rate": 5.0, "samples_per_insert": 2.0, "tau": 4.0}
    normalize_observation = False
    symmetry: SymmetryUse = "none"
    learning_starts: int
    tau: float
    actor: Any
    critic: Any
    critic_target: Any
    use_sde: bool
    action_noise: Any
    _actor: SquashedGaussian | Deterministic
    _always_finite = ("critic_loss", "actor_loss")
    _unsaved: ClassVar[tuple[str, ...]] = (
        *ReplayingAgent._unsaved,
        *("_actor", "_critics", "_target", "_flat_actor", "_low", "_half", "_others"),
        *("batch_norm_stats", "batch_norm_stats_target"),
    )

    @classmethod
    def can_act(cls, space: Space[Any]) -> bool:
        return isinstance(space, spaces.Box) and space.is_bounded()

    @property
    def main_optimizer(self) -> Any:
        return self.critic.optimizer

    def _check_continuous_arguments(self) -> None:
        self._check_replay_arguments()
        if self.action_noise is not None:
            raise ValueError("action_noise must be None: noise is drawn on the device")
        if self.use_sde:
            raise ValueError("use_sde must be False: noise that depends on the state is not drawn here")
        self.policy_kwargs.pop("use_sde", None)  # SB3 writes it into the caller's dictionary, which others may share

    def _setup_networks(self) -> None:
        """Call it when SB3's networks are there."""
        self._critics, self._target = Critics(self.critic), Critics(self.critic_target)
        self._set_up_device()
        self._setup_replay()
        self._flat_actor = FlatOptimizer(self.actor.optimizer)
        space: Any = self.action_space
        low, high = (torch.as_tensor(b, dtype=torch.float32, device=self.device) for b in (space.low, space.high))
        self._low, self._half = low, 0.5 * (high - low)

    def _memory_form(self) -> dict[str, Any]:
        return {"action_shape": (self._low.numel(),)}

    def _store(self, place: int | Tensor, beside: Tensor, actions: Tensor, outcome: StepResult) -> None:
        self._keep(beside, outcome)

    def _to_box(self, actions: Tensor) -> Tensor:
        """Actions [N, A] in −1 … 1 in the units of the Box, [N, …], as SB3's ``unscale_action`` has them."""
        return in_box(actions, self._low, self._half)

    @torch.no_grad()
    def act(self, obs: Any, rng: Rng | None = None, mask: Tensor | None = None) -> Tensor:
        """Actions [N, …] for observations [N, …] on the device, within the Box.

        The actor's best, or with ``rng`` (one key per row) one as it is taken while training. There are no masks.
        """
        seen = self._numbering.from_env(obs)
        actions = self._actor.best(seen) if rng is None else self._explore(seen, rng)
        own: Tensor = self._numbering.to_env(self._to_box(actions))
        return own

    def _explore(self, obs: Any, rng: Rng) -> Tensor:
        """Actions [N, A] in −1 … 1, with chance."""
        raise NotImplementedError

    def _acts_densely(self) -> bool:
        return self._actor.is_dense

    def _exploration(self) -> Tensor | float:
        """1 while actions are random, else 0."""
        return 1.0 if self.num_timesteps < self.learning_starts else 0.0

    def _choose(self, exploration: Tensor | float, rng: Rng) -> tuple[Tensor, Tensor]:
        """Actions [N, …] in the Box, and in −1 … 1, [N, A]."""
        if isinstance(exploration, float):  # on a CPU only one of both is computed
            actions = self._uniform(rng) if exploration else self._explore(self._last_obs, rng)
        else:
            again = Rng(rng.episode_key, rng.step)  # so that each of both is its first draw, as on a CPU
            actions = torch.where(exploration > 0.0, self._uniform(rng), self._explore(self._last_obs, again))
        return self._to_box(actions), actions

    def _uniform(self, rng: Rng) -> Tensor:
        return 2.0 * rng.uniform(shape=(self._low.numel(),)) - 1.0

    def _begin_recording(self) -> None:
        self._flat_actor.gather()
        super()._begin_recording()

    def _flats(self) -> list[FlatOptimizer]:
        """All optimizers, the critic's first."""
        if self._flat_actor.optimizer is not self.actor.optimizer:
            self._flat_actor = FlatOptimizer(self.actor.optimizer)
        return [self._flat_optimizer, self._flat_actor]

    @torch.no_grad()
    def train(self, gradient_steps: int, batch_size: int = 100) -> None:
        """Learn from replayed transitions. No synchronisation."""
        gradient_steps = self._due_steps(gradient_steps, batch_size)
        flats = self._flats()
        self._update_learning_rate([flat.optimizer for flat in flats])
        if gradient_steps == 0:
            return
        assert self.replay is not None
        self.policy.set_training_mode(True)
        for flat in flats[1:]:
            flat.gather()
        self._begin_update()
        total = torch.zeros(len(self._summaries), device=self.device)
        for _ in range(gradient_steps):
            self._n_updates += 1
            total += self._learn_from_replay(self.replay, self._group.share(batch_size, "batch_size"))
        self._losses = total / gradient_steps

    def _learn_from_replay(self, replay: Replay, batch_size: int) -> Tensor:
        """One gradient step; the numbers named in ``_summaries``."""
        raise NotImplementedError

    def _noise(self, batch_size: int, parts: int) -> Tensor:
        """Standard normal numbers [parts, B, A] for an update."""
        return torch.randn(parts, batch_size, self._low.numel(), device=self.device)

    def _descend(self, flat: FlatOptimizer, count: Tensor) -> None:
        """Take a step; the gradients are means over ``count`` [] samples."""
        if self._group.size > 1:
            flat.average(count)
        flat.step()

    def _critic_gradients(
        self, batch: Transitions, obs: Any, next_values: Tensor, factor: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Set the critic's gradients.

        Args:
            batch: B transitions, whose observations are ``obs``.
            next_values: [B] after them.
            factor: of the squared error in the loss.

        Returns:
            The loss [], the share of each transition in the means [B], how many count [].
        """
        count = (batch.weights > 0).sum()
        shares = batch.weights / count.clamp(min=1)
        scale = self._reward_scale
        returns = batch.returns if scale is None else scale.scale(batch.returns)
        values = self._critics.forward(obs, batch.actions)
        error = values - (returns + batch.discounts * next_values)
        self._flat_optimizer.zero_grad(check=False)
        self._critics.backward(2.0 * factor * error * shares)
        return factor * (error.square() * shares).sum(), shares, count

    @without_gradients
    def _follow(self, targets: list[Tensor], sources: list[Tensor], share: float) -> None:
        """θ' ← θ' + τ (θ − θ'), and running statistics, if a network has any, as they are."""
        if targets:
            torch._foreach_lerp_(targets, sources, share)
