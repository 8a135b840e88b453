"""Minibatches in which every row is seen in one of the frames of a symmetry group (``symmetry="augment"``).

Rows of a minibatch are in random order already, so nothing is drawn: of B rows the first B/G stay as they were, the
next B/G are mapped by the second element, and so on. (Draws by priority are in the order of the memory: they are dealt
out to the frames in turns.) Each row gets each frame equally often, a run resumes to the bit, and the cost is a gather
of the observations.

What belongs to a row stays: rewards, returns, advantages, and the probability with which its action was taken. A
transition's image is a transition of the same environment, and the image of the policy that acted would have taken the
image of the action with that very probability. So PPO's ratio π(g a | g s) / π_old(a | s) is the importance weight that
belongs to the image, without bias, and Q-learning's target is the image's. The ratio does not begin at 1 where the
policy is not symmetric yet: clipping then holds it near the average of the policies in all frames, instead of near one.

To collect in frames instead was no option: with a frame for each episode nothing changes where starts are symmetric (an
image of an episode is an episode like any other), and with a frame for each step agents would have to act like the
average of their mirror images already while they learn.
"""

from __future__ import annotations

import itertools
from typing import Any

import torch
from gymnasium.spaces import Discrete, Space
from torch import Tensor

from palaestra.envs.core.symmetries import SignedPermutation, SymmetryGroup


class SymmetryFrames:
    """Maps the rows of minibatches."""

    def __init__(self, group: SymmetryGroup, action_space: Space[Any], device: torch.device) -> None:
        self._observations = [_Map(part, device) for part in group.observations]
        self._actions = [_Map(part, device) for part in group.actions]
        self._chooses = isinstance(action_space, Discrete)

    def __call__(self, obs: Tensor, actions: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
        """Observations [B, …], actions [B, …] and legal actions bool [B, A], each row in its frame."""
        acted = self._choices(actions) if self._chooses else self._mapped(self._actions, actions)
        return self._mapped(self._observations, obs), acted, None if mask is None else self._mapped(self._actions, mask)

    def dealt(self, rows: Tensor) -> Tensor:
        """Rows [B] in an order in which neighbours are in different frames."""
        return torch.cat([rows[k :: len(self._actions)] for k in range(len(self._actions))])

    def _mapped(self, maps: list[_Map], x: Tensor) -> Tensor:
        rows, result = x.flatten(1), torch.empty_like(x, memory_format=torch.contiguous_format)
        for (start, end), one in zip(_shares(len(rows), len(maps)), maps, strict=True):
            one.write(rows[start:end], result.flatten(1)[start:end])
        return result

    def _choices(self, actions: Tensor) -> Tensor:
        parts = [
            one.images.index_select(0, actions[start:end])
            for (start, end), one in zip(_shares(len(actions), len(self._actions)), self._actions, strict=True)
        ]
        return torch.cat(parts)


class _Map:
    """One map, in tensors."""

    def __init__(self, part: SignedPermutation, device: torch.device) -> None:
        self._is_identity = part == SignedPermutation.identity(len(part))
        self._places = torch.tensor(part.places, device=device)
        self._signs = torch.tensor(part.signs, device=device, dtype=torch.float32) if part.has_signs else None
        self.images = torch.tensor(part.images, device=device)  # of choices

    def write(self, x: Tensor, into: Tensor) -> None:
        """The images of rows [b, K]."""
        if self._is_identity:
            into.copy_(x)
            return
        torch.index_select(x, 1, self._places, out=into)
        if self._signs is not None:
            into.mul_(self._signs)


def _shares(rows: int, parts: int) -> list[tuple[int, int]]:
    """Where each part of so many rows begins and ends."""
    ends = [rows * k // parts for k in range(parts + 1)]
    return list(itertools.pairwise(ends))
