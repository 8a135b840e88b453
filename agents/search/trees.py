"""Search trees of N boards in tensors that are made once: what is known of every position and of every move.

Simulation t adds node t to each of the trees, node 0 being the root. Node t of board n has row t · N + n, so that what
a simulation adds is a block of N rows, and the number of a row finds everything. Beside the statistics of the moves
each row holds which move is to be followed next, and to which row that leads: a path is found by following these
numbers, and only in its rows they have to be chosen anew.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from palaestra.envs.core import map_state

_PER_MOVE, _PER_ROW = 5 * 4 + 8, 4 + 4 * 8  # bytes: statistics, child; reward, followed and best move, path


def bytes_of_trees(boards: int, simulations: int, moves: int, state_bytes: int) -> int:
    """The memory that the trees take."""
    return boards * (simulations + 1) * (moves * _PER_MOVE + _PER_ROW + state_bytes)


class Trees:
    """The trees of ``boards`` boards with up to ``simulations`` nodes beside the root.

    Attributes:
        priors: float32 [R, A], probabilities of the moves of each row; −∞ for illegal ones.
        visits, totals: float32 [R, A], how often a move was followed, and the sum of what it then earned its player.
        low, high: float32 [R, A], bounds of what a move can earn its player; −∞ for illegal ones.
        children: int64 [R · A], the row that a move leads to; 0 where none does.
        rewards: float32 [R], of the move that led to a row.
        best: int64 [R], the move that is followed next, as a place in ``children``.
        follow: int64 [R], the row that it leads to; the same one where none does.
        path: int64 [S + 2, N], rows that a simulation passes.
    """

    def __init__(self, boards: int, simulations: int, moves: int, like: Any, device: torch.device) -> None:
        """``like`` is a state of at least one board, whose fields tell those of nodes."""
        self.boards, self.moves = boards, moves
        nodes = simulations + 1
        rows = nodes * boards
        self.priors, self.visits, self.totals, self.low, self.high = torch.zeros(5, rows, moves, device=device).unbind(
            0
        )
        self.children = torch.zeros(rows * moves, dtype=torch.int64, device=device)
        self.rewards = torch.zeros(rows, device=device)
        self.best, self.follow = torch.zeros(2, rows, dtype=torch.int64, device=device).unbind(0)
        self.path = torch.zeros(nodes + 1, boards, dtype=torch.int64, device=device)
        self.numbers = torch.arange(rows, device=device).view(nodes, boards)
        self.states = map_state(lambda field: field.new_empty(rows, *field.shape[1:]), like)

    def clear(self) -> None:
        """Forget all trees; other statistics are written before they are read."""
        for field in (self.visits, self.totals, self.children):
            field.zero_()

    def put(self, node: int, state: Any, priors: Tensor, legal: Tensor) -> None:
        """Write the block of a node: states, probabilities [N, A], and which moves are legal, bool [N, A]."""
        rows = slice(node * self.boards, (node + 1) * self.boards)
        map_state(lambda mine, given: mine[rows].copy_(given), self.states, state)
        self.priors[rows] = priors.masked_fill(~legal, -torch.inf)
        self.low[rows] = torch.where(legal, -1.0, -torch.inf)
        self.high[rows] = torch.where(legal, 1.0, -torch.inf)
        self.follow[rows] = self.numbers[node]

    def states_at(self, rows: Tensor) -> Any:
        """The states of rows int64 [N]."""
        return map_state(lambda field: field.index_select(0, rows), self.states)

    def descend(self, deepest: int) -> int:
        """Follow the moves from the roots through up to so many nodes, and write down the rows; how many there are.

        Where a board's path ends earlier, its last row is repeated.
        """
        self.path[0] = self.numbers[0]
        looks = self.path.device.type == "cpu"  # elsewhere, looking would wait for the device
        for level in range(1, deepest):
            torch.index_select(self.follow, 0, self.path[level - 1], out=self.path[level])
            if looks and torch.equal(self.path[level - 1], self.path[level]):
                return level
        return deepest

    def link(self, edges: Tensor, node: int, reward: Tensor, over: Tensor) -> None:
        """Let moves, places in ``children`` [N], lead to a node, unless they lead to one already or end the game."""
        known = self.children.index_select(0, edges)
        self.children.index_copy_(0, edges, torch.where(over | (known > 0), known, self.numbers[node]))
        self.rewards[node * self.boards : (node + 1) * self.boards] = reward
        self._narrow(edges, reward.masked_fill(~over, -1.0), reward.masked_fill(~over, 1.0))

    def back_up(self, levels: int, edges: Tensor, earned: Tensor) -> None:
        """Add what the latest path earned to the statistics of its moves, within their bounds.

        Args:
            levels: K, how many rows the path has.
            edges: int64 [K, N], the moves that were followed from them.
            earned: float32 [N], what the last of these moves earned its player, the rest of the game included.
        """
        path, places = self.path[:levels], edges.flatten()
        low, high = (field.view(-1).index_select(0, places).view_as(edges) for field in (self.low, self.high))
        counts = torch.ones(path.shape, device=path.device)
        counts[1:] = path[1:] != path[:-1]
        gains = torch.empty_like(counts)
        torch.clamp(earned, low[-1], high[-1], out=gains[-1])
        for level in reversed(range(levels - 1)):  # a player earns the reward, and loses what the next one earns
            found = self.rewards.index_select(0, path[level + 1]).sub_(gains[level + 1])
            found = torch.where(path[level] == path[level + 1], gains[level + 1], found)
            torch.clamp(found, low[level], high[level], out=gains[level])
        self.visits.view(-1).index_add_(0, places, counts.flatten())
        self.totals.view(-1).index_add_(0, places, gains.mul_(counts).flatten())

    def bound(self, levels: int, edges: Tensor, low: Tensor, high: Tensor) -> None:
        """Narrow the bounds of the moves that led to the second and later rows of the path by those rows' own.

        Args:
            levels, edges: see :meth:`back_up`.
            low, high: float32 [K, N], the bounds of what can be earned from the rows on.
        """
        if levels == 1:
            return
        path = self.path[:levels]
        rewards = self.rewards.index_select(0, path[1:].flatten()).view(levels - 1, -1)
        same = path[1:] == path[:-1]
        least = (rewards - high[1:]).masked_fill_(same, -torch.inf)
        most = (rewards - low[1:]).masked_fill_(same, torch.inf)
        self._narrow(edges[:-1].flatten(), least.flatten(), most.flatten())

    def _narrow(self, edges: Tensor, low: Tensor, high: Tensor) -> None:
        self.low.view(-1).scatter_reduce_(0, edges, low, "amax")
        self.high.view(-1).scatter_reduce_(0, edges, high, "amin")
