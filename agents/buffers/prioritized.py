"""Drawing from replay in proportion to priorities, without a loop on the host.

1. The priority of a transition is (|TD error| + ε)^α; a new one gets the largest seen so far, so that it is drawn soon.
2. Priorities lie in the leaves of a tree whose nodes hold the sum of their 32 children. A draw walks from the root to a
   leaf: at each node a cumulative sum over the children tells which child a number below the node's sum falls into.
3. B draws are stratified: the b-th number is uniform in the b-th of B equal parts of the total.
4. Importance weights are P(i)^−β with P(i) the probability of the draw, divided by the largest of the
   batch, in all processes.
5. Changing B leaves recomputes their B ancestors on each level from their children; equal ancestors are written twice
   with the same number.

Source: Schaul et al., "Prioritized experience replay", ICLR 2016 (proportional variant).
"""

from __future__ import annotations

import torch
from torch import Tensor

from palaestra.agents.distributed.process_group import process_group
from palaestra.envs.core.state_dict import check_form, fill

_CHILDREN = 32
_EPSILON = 1e-6


class Priorities:
    """Priorities of K places; a place of priority 0 is never drawn."""

    def __init__(self, size: int, alpha: float, device: torch.device | str = "cpu") -> None:
        """Set all priorities to 0.

        Args:
            size: K.
            alpha: 0 draws uniformly (from the places that were put), 1 in proportion to the TD error.

        Raises:
            ValueError: if alpha is negative.
        """
        if alpha < 0.0:
            raise ValueError(f"alpha must be at least 0, got {alpha}")
        self.size, self.alpha = size, alpha
        self._levels: list[Tensor] = []  # float32, leaves first; each padded to whole families
        while size > 1 or not self._levels:
            families = -(-size // _CHILDREN)
            self._levels.append(torch.zeros(families * _CHILDREN, device=device))
            size = families
        self._largest = torch.ones((), device=device)  # priority before the power α
        # ranks of children: those whose cumulative sum lies beyond a number, the first of them best, before the others
        self._beyond = torch.arange(2 * _CHILDREN, _CHILDREN, -1, dtype=torch.uint8, device=device)
        self._short = torch.arange(1, _CHILDREN + 1, dtype=torch.uint8, device=device)

    def state_dict(self) -> dict[str, Tensor]:
        """The tree's levels, and the largest priority so far."""
        return {**{str(depth): level for depth, level in enumerate(self._levels)}, "largest": self._largest}

    def load_state_dict(self, saved: dict[str, Tensor]) -> None:
        """Take over what :meth:`state_dict` gave of as many places.

        Raises:
            ValueError: if a draw from it could fall on a place that does not exist or may not be drawn.
        """
        own = self.state_dict()
        check_form("replay priorities", own, saved)
        for name, value in saved.items():
            if not value.isfinite().all() or bool((value < 0.0).any()):
                raise ValueError(f"replay priorities.{name} must be finite and at least 0")
        below = saved["0"]
        if bool((below[self.size :] > 0.0).any()):
            raise ValueError(f"replay priorities.0 has priorities beyond the {self.size} places")
        for depth in range(1, len(self._levels)):
            sums = torch.zeros_like(saved[str(depth)])
            sums[: len(below) // _CHILDREN] = below.view(-1, _CHILDREN).sum(1)
            if not torch.allclose(saved[str(depth)], sums, rtol=1e-4):
                raise ValueError(f"replay priorities.{depth} are not the sums of those below")
            below = saved[str(depth)]
        fill("replay priorities", own, saved)

    def set_max(self, index: Tensor) -> None:
        """Give places, int64 [B], the largest priority so far."""
        self._set(index, self._largest.pow(self.alpha).expand(len(index)))

    def update(self, index: Tensor, td_errors: Tensor) -> None:
        """Set the priorities of places, int64 [B], from their TD errors, float [B]."""
        priorities = td_errors.detach().abs() + _EPSILON
        self._largest = torch.maximum(self._largest, priorities.amax())
        self._set(index, priorities.pow(self.alpha))

    def clear(self, index: Tensor) -> None:
        """Never draw these places, int64 [B]."""
        self._set(index, torch.zeros(len(index), device=index.device))

    def _set(self, index: Tensor, values: Tensor) -> None:
        self._levels[0].index_copy_(0, index, values)
        for below, level in zip(self._levels, self._levels[1:], strict=False):
            index = index // _CHILDREN
            level.index_copy_(0, index, below.view(-1, _CHILDREN).index_select(0, index).sum(1))

    def sample(self, batch_size: int, beta: float = 1.0) -> tuple[Tensor, Tensor]:
        """Places int64 [B], and the importance weights float32 [B] that undo the preference wholly (β = 1) or less."""
        top = self._levels[-1]
        total = top.sum()
        parts = torch.arange(batch_size, device=top.device) + torch.rand(batch_size, device=top.device)
        index = torch.zeros(batch_size, dtype=torch.int64, device=top.device)
        rest = parts * (total / batch_size)
        for level in reversed(self._levels):
            children = level.view(-1, _CHILDREN).index_select(0, index)  # [B, 32]
            upto = children.cumsum(1)
            # rounding may leave `rest` below 0 or beyond the sum, and a GPU's sums need not rise from child to child:
            # so the first child beyond `rest`, else the last, of those with a priority
            rank = torch.where(upto > rest.unsqueeze(1), self._beyond, self._short)
            chosen = (rank * (children > 0)).argmax(1, keepdim=True)
            before = upto.gather(1, chosen) - children.gather(1, chosen)
            rest = rest - before.squeeze(1)
            index = index * _CHILDREN + chosen.squeeze(1)
        probability = self._levels[0].index_select(0, index)  # times the total
        if process_group().size > 1:  # with as many draws from each process's tree, whatever its total
            probability = probability / total
        return index, (probability / process_group().lowest(probability.amin())).pow(-beta)

    @property
    def values(self) -> Tensor:
        """Priorities of all places after the power α, float32 [K]."""
        return self._levels[0][: self.size]
