"""What an agent does with the symmetries that its environment names (:mod:`palaestra.envs.core.symmetries.group`).

1. ``"none"``: nothing.
2. ``"augment"``: every row of a minibatch is learned from in one of the frames; see :mod:`.frames`.
3. ``"equivariant"``: the network's weights are tied so that it commutes with all of them; see :mod:`.tied_weights`.

Before it learns, the agent proves the symmetries on the rules. Acting, evaluation and saved files are as they were.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.policies import BasePolicy
from torch import Tensor

from palaestra.agents.graphs.recording_agent import RecordingAgent
from palaestra.agents.symmetry.frames import SymmetryFrames
from palaestra.agents.symmetry.tied_weights import TiedWeights
from palaestra.envs.core import TensorEnv, TensorVectorEnv
from palaestra.envs.core.symmetries import SymmetryGroup
from palaestra.envs.core.symmetries.commuting import first_fault
from palaestra.envs.core.symmetries.group import checked_symmetries

SymmetryUse = Literal["none", "augment", "equivariant"]


class SymmetricAgent(RecordingAgent):
    """See the module."""

    symmetry: SymmetryUse
    normalize_observation: bool
    max_grad_norm: float
    _frames: SymmetryFrames | None = None
    _tied: TiedWeights | None = None
    _is_proved = False

    def _find_symmetries(self) -> None:
        """Call it when the policy and other environments are there.

        Raises:
            ValueError: if the environments, or the policy, do not allow the use.
        """
        self._frames, self._tied, self._is_proved = None, None, self.symmetry == "none"
        check_use(self.symmetry, self.normalize_observation)
        if self.symmetry == "none":
            return
        if not isinstance(self.batch, TensorVectorEnv):
            raise ValueError(f"symmetry={self.symmetry} is for environments in tensors, which name their symmetries")
        group = SymmetryGroup.of(self.batch.env)
        if self.symmetry == "augment":
            self._frames = SymmetryFrames(group, self.action_space, self.device)
        else:
            self._tied = TiedWeights(self.policy, group)

    def _tie_weights(self) -> None:
        """Make the weights equal that are to be equal."""
        if self._tied is not None:
            self._tied.tie()

    def _setup_learn(self, *args: Any, **kwargs: Any) -> tuple[int, BaseCallback]:
        if not self._is_proved:
            prove(self.batch.env)
            self._is_proved = True
        if self._tied is not None and not self._tied.are_tied():
            raise ValueError('the weights are not tied as symmetry="equivariant" has them: begin with new ones')
        return super()._setup_learn(*args, **kwargs)

    def _in_frames(self, obs: Any, actions: Tensor, mask: Tensor | None = None) -> tuple[Any, Tensor, Tensor | None]:
        """A minibatch, with rows in random order, as it is to be learned from."""
        return (obs, actions, mask) if self._frames is None else self._frames(obs, actions, mask)

    def _dealt(self, *drawn: Tensor | None) -> list[Tensor | None]:
        """Draws [B] that are in the order of the memory, dealt out to the frames in turns."""
        frames = self._frames
        return [part if frames is None or part is None else frames.dealt(part) for part in drawn]

    def _clip_gradients(self, weight: Tensor | None = None) -> Tensor:
        """Make the gradients ready for a step; the norm that they had, []. See :meth:`FlatOptimizer.clip`."""
        if self._tied is not None:
            self._tied.fold_gradients()
        norm: Tensor = self._flat_optimizer.clip(self.max_grad_norm, weight)
        return norm

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "_frames", "_tied", "_is_proved"]


def check_use(use: str, normalize_observation: bool) -> None:
    """Raise a ValueError unless the use is known, and goes with the normalisation of observations."""
    if use not in get_args(SymmetryUse):
        raise ValueError(f'symmetry must be "none", "augment" or "equivariant", got {use!r}')
    if use == "equivariant" and normalize_observation:
        raise ValueError(
            'symmetry="equivariant" does not go with normalize_observation, whose statistics are not symmetric: '
            'use symmetry="augment"'
        )


def check_symmetry(use: str, normalize_observation: bool, env: TensorEnv[Any], policy: BasePolicy) -> None:
    """Raise a ValueError unless an agent with this policy can use the environment's symmetries, and it has them."""
    check_use(use, normalize_observation)
    if use == "none":
        return
    group = SymmetryGroup.of(env)
    if use == "equivariant":
        with torch.no_grad():
            TiedWeights(policy, group)
    prove(env)


def prove(env: TensorEnv[Any]) -> None:
    """Raise a ValueError unless the rules commute with the symmetries that the environment names."""
    for symmetry in checked_symmetries(env):
        if fault := first_fault(env, symmetry):
            raise ValueError(fault)
