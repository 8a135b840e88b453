"""Monte-Carlo tree search with a policy and values (PUCT), on many boards of a game for two at once.

1. A simulation follows from the root the moves of greatest Q(s, a) + U(s, a) up to one that leads to no position of the
   tree yet, takes that position in, and evaluates it. Q is the mean of what simulations earned after the move, 0 before
   the first; U(s, a) = C(s) P(s, a) √N(s) / (1 + N(s, a)), where C(s) = log((1 + N(s) + c_base) / c_base) + c_init, and
   N(s) counts the evaluation of s and the simulations through it.
2. What a position is worth is worth the negative to the player who led to it; what ends the game is worth its reward.
3. The move that was followed most often is played, of equals the one of greater Q.

No loop goes over boards: simulations and the levels of a path are loops, boards are rows, and on another device than
the CPU nothing waits for it. A path has at most :data:`DEEPEST` rows; beyond, its last move is evaluated again. With an
evaluation that is a function of each row by itself, so is the search, to the bit.

Sources: Silver et al., "A general reinforcement learning algorithm that masters chess, shogi, and Go through self-play",
Science 2018, supplementary materials (the formula and its constants), without their noise at the root.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from palaestra.agents.buffers.memory_limits import nbytes, require
from palaestra.agents.search.trees import Trees, bytes_of_trees
from palaestra.envs.core import TensorEnv, map_state, state_fields
from palaestra.envs.core.rng import Rng
from palaestra.envs.wrappers.two_players.opponents import legal_moves

Evaluate = Callable[[TensorEnv[Any], Any, Tensor], tuple[Tensor, Tensor]]
"""From a game, N of its states and their legal moves bool [N, A] to probabilities of these moves [N, A], and what the
rest of the game is worth to the player whose turn it is [N], both float32; anything where the game is over."""

C_BASE, C_INIT = 19652.0, 1.25
DEEPEST = 32  # rows of a path
BOARDS_AT_ONCE = 1024  # more do not fit into the caches of a CPU


@dataclass(frozen=True)
class SearchedMoves:
    """The moves of the roots.

    Attributes:
        visits: float32 [N, A], whole numbers whose sum is that of simulations.
        values: float32 [N, A], the mean of what simulations earned after each move, 0 where none was.
    """

    visits: Tensor
    values: Tensor

    def best(self) -> Tensor:
        """The move of most visits, of equals the one of greatest value, int64 [N]."""
        return (self.visits + 0.25 * self.values.clamp(-1.0, 1.0)).argmax(1)


class TreeSearch:
    """A search with so many simulations; its trees' memory is used again by the next one."""

    def __init__(self, game: TensorEnv[Any], evaluate: Evaluate, simulations: int, discount: float = 1.0) -> None:
        """Make it.

        Args:
            game: rules for two players without chance.
            evaluate: see :data:`Evaluate`.
            simulations: at least 1.
            discount: of what is earned a move later, above 0 and up to 1.

        Raises:
            ValueError: if one of these is out of its range, or the rules draw random numbers.
        """
        if simulations < 1:
            raise ValueError(f"simulations must be at least 1, got {simulations}")
        if not 0.0 < discount <= 1.0:
            raise ValueError(f"discount must be above 0 and up to 1, got {discount}")
        require_no_chance(game)
        self.game, self.evaluate, self.simulations, self.discount = game, evaluate, simulations, discount
        self._first = int(getattr(game.action_space, "start", 0))
        counts = range(1, simulations + 2)  # N(s)
        factors = [(math.log((1 + n + C_BASE) / C_BASE) + C_INIT) * math.sqrt(n) for n in counts]
        self._factors = torch.tensor(factors, device=game.device)
        self._trees: dict[int, Trees] = {}  # by the number of boards

    @torch.no_grad()
    def __call__(self, state: Any) -> SearchedMoves:
        """Search in N states of the game, moves counted from 0.

        Raises:
            MemoryError: if the trees do not fit into memory.
        """
        count = next(iter(state_fields(state).values())).shape[0]
        parts = []
        for begin in range(0, count, BOARDS_AT_ONCE):
            rows = slice(begin, min(begin + BOARDS_AT_ONCE, count))
            parts.append(self._search(map_state(lambda field, rows=rows: field[rows], state), rows.stop - rows.start))
        return SearchedMoves(torch.cat([part.visits for part in parts]), torch.cat([part.values for part in parts]))

    def _search(self, roots: Any, boards: int) -> SearchedMoves:
        legal = legal_moves(self.game, roots)
        trees = self._trees_of(boards, roots, legal)
        trees.clear()
        trees.put(0, roots, self._priors(roots, legal)[0])
        self._choose(trees, trees.numbers[0])
        for node in range(1, self.simulations + 1):
            self._simulate(trees, node)
        visits, totals = trees.visits[:boards].clone(), trees.totals[:boards]
        return SearchedMoves(visits, totals / visits.clamp(min=1.0))

    def _trees_of(self, boards: int, like: Any, legal: Tensor) -> Trees:
        if boards not in self._trees:
            if len(self._trees) > 1:  # a batch has boards in full parts, and a rest
                self._trees.clear()
            state_bytes = nbytes(field[:1] for field in state_fields(like).values())
            moves = legal.shape[1]
            size = bytes_of_trees(boards, self.simulations, moves, state_bytes)
            require(size, legal.device, f"a search of {self.simulations:,} simulations on {boards:,} boards")
            self._trees[boards] = Trees(boards, self.simulations, moves, like, legal.device)
        return self._trees[boards]

    def _priors(self, state: Any, legal: Tensor) -> tuple[Tensor, Tensor]:
        """Probabilities with −∞ for illegal moves, and values."""
        priors, values = self.evaluate(self.game, state, legal)
        return priors.masked_fill(~legal, -torch.inf), values

    def _simulate(self, trees: Trees, node: int) -> None:
        """One simulation of every board, which adds that node."""
        levels = trees.descend(min(node, DEEPEST))
        edges = trees.best.index_select(0, trees.path[:levels].flatten()).view(levels, -1)
        leaf, edge = trees.path[levels - 1], edges[-1]
        moves = edge - leaf * trees.moves + self._first
        state, reward, over = self.game.step(trees.states_at(leaf), moves, self._chance(leaf))
        priors, values = self._priors(state, legal_moves(self.game, state))
        trees.put(node, state, priors)
        trees.rewards[node * trees.boards : (node + 1) * trees.boards] = reward
        trees.link(edge, node, over)
        trees.back_up(levels, edges, reward - self.discount * values.masked_fill(over, 0.0), self.discount)
        trees.path[levels] = trees.numbers[node]
        self._choose(trees, trees.path[: levels + 1].flatten())

    def _choose(self, trees: Trees, rows: Tensor) -> None:
        """Choose the moves that are followed next from rows int64 [B]."""
        visits, totals = trees.visits.index_select(0, rows), trees.totals.index_select(0, rows)
        factors = self._factors.index_select(0, visits.sum(1).long()).unsqueeze(1)
        scores = trees.priors.index_select(0, rows).mul_(factors).div_(visits + 1.0)
        scores.add_(totals.div_(visits.clamp_(min=1.0)))
        best = scores.argmax(1).add_(rows, alpha=trees.moves)
        children = trees.children.index_select(0, best)
        trees.best.index_copy_(0, rows, best)
        trees.follow.index_copy_(0, rows, torch.where(children > 0, children, rows))

    def _chance(self, rows: Tensor) -> Rng:
        return Rng(torch.zeros_like(rows), 0)


def require_no_chance(game: TensorEnv[Any]) -> None:
    """Raise a ValueError if a move of the game draws random numbers."""
    key = torch.zeros(1, dtype=torch.int64, device=game.device)
    state, rng = game.reset(Rng(key, 0)), Rng(key, 1)
    move = legal_moves(game, state).long().argmax(1) + int(getattr(game.action_space, "start", 0))
    game.step(state, move, rng)
    if rng.used:
        raise ValueError(f"{type(game).__name__} draws random numbers in its moves: a search needs rules without chance")
