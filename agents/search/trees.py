"""Search trees of N boards in tensors that are made once: what is known of every position and of every move.

Simulation t adds node t to each of the trees, node 0 being the root. Node t of board n has row t · N + n, so that what a
simulation adds is a block of N rows, and the number of a row finds everything. Beside the statistics of the moves each
row holds which move is to be followed next, and to which row that leads: rows are found by following these numbers, and
only those of a path that was followed have to be chosen anew.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from palaestra.envs.core import map_state

_BYTES_OF_A_MOVE, _BYTES_OF_A_ROW = 3 * 4 + 8, 4 + 4 * 8  # statistics, child; reward, followed and best move, path


def bytes_of_trees(boards: int, simulations: int, moves: int, state_bytes: int) -> int:
    """The memory that the trees take, and the largest intermediate results beside them."""
    row = moves * (_BYTES_OF_A_MOVE + 4 * 4) + _BYTES_OF_A_ROW + state_bytes
    return boards * (simulations + 1) * row


class Trees:
    """The trees of ``boards`` boards with up to ``simulations`` nodes beside the root.

    Attributes:
        priors: float32 [R, A], probabilities of the moves of each row; −∞ for illegal ones.
        visits, totals: float32 [R, A], how often a move was followed, and the sum of what it then earned its player.
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
        self.priors, self.visits, self.totals = torch.zeros(3, rows, moves, device=device).unbind(0)
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

    def put(self, node: int, state: Any, priors: Tensor) -> None:
        """Write the block of a node: states, and probabilities [N, A]."""
        rows = slice(node * self.boards, (node + 1) * self.boards)
        map_state(lambda mine, given: mine[rows].copy_(given), self.states, state)
        self.priors[rows] = priors
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

    def link(self, edges: Tensor, node: int, over: Tensor) -> None:
        """Let moves, places in ``children`` [N], lead to a node, unless they lead to one already or end the game."""
        known = self.children.index_select(0, edges)
        self.children.index_copy_(0, edges, torch.where(over | (known > 0), known, self.numbers[node]))

    def back_up(self, levels: int, edges: Tensor, earned: Tensor, discount: float) -> None:
        """Add what the latest path earned to the statistics of its moves.

        Args:
            levels: K, how many rows the path has.
            edges: int64 [K, N], the moves that were followed from them.
            earned: float32 [N], what the last of these moves earned its player, the rest of the game included.
            discount: of what is earned a move later.
        """
        path = self.path[:levels]
        passed = torch.ones_like(path, dtype=torch.bool)
        torch.ne(path[1:], path[:-1], out=passed[1:])
        gains = earned.expand(levels, -1).clone()
        if levels > 1:
            inner = self.rewards.index_select(0, path[1:].flatten()).view(levels - 1, -1)
            torch.where(passed[1:], inner, earned, out=gains[:-1])
        counts = passed.float()
        gains.mul_(counts)
        for level in reversed(range(levels - 1)):  # a player gains what the next one loses
            gains[level].sub_(gains[level + 1], alpha=discount)
        self.visits.view(-1).index_add_(0, edges.flatten(), counts.flatten())
        self.totals.view(-1).index_add_(0, edges.flatten(), gains.flatten())
