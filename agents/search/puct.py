"""Monte-Carlo tree search with a policy and values (PUCT), on many boards of a game for two at once.

1. A simulation follows from the root the moves of greatest Q(s, a) + U(s, a) up to one that leads to no position of the
   tree yet, takes that position in, and evaluates it. Q is the mean of what simulations earned after the move, 0 before
   the first; U(s, a) = C(s) P(s, a) √N(s) / (1 + N(s, a)), where C(s) = log((1 + N(s) + c_base) / c_base) + c_init, and
   N(s) counts the evaluation of s and the simulations through it.
2. What a position is worth is worth the negative to the player who led to it; what ends the game is worth its reward.
3. Every move has bounds of what it earns, −1 and 1 at first, and its reward if it ends the game. The bounds of a
   position are the largest of those of its moves; they go up by one level with each simulation that passes, after it
   has chosen what the next one follows. Q, and what a simulation earns, is kept within them. Moves that are proven to
   be no better than another are followed no more.
4. Of the moves that are not proven to be worse the one that was followed most often is played.

No loop goes over boards: simulations and the levels of a path are loops, boards are rows, and on another device than
the CPU nothing waits for it. A path has at most :data:`DEEPEST` rows; beyond, its last move is evaluated again. Where
an evaluation is a function of each row by itself, so is the search, to the bit.

Sources: Silver et al., "A general reinforcement learning algorithm that masters chess, shogi, and Go through
self-play", Science 2018, supplementary materials (choices 1 and 2, without noise at the root); Cazenave and Saffidine,
"Score bounded Monte-Carlo tree search", Computers and Games 2010 (choice 3).
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
from palaestra.envs.wrappers.two_players.opponents import legal_moves, random_games

Evaluate = Callable[[TensorEnv[Any], Any, Tensor], tuple[Tensor, Tensor]]
"""From a game, N of its states and their legal moves bool [N, A] to probabilities of these moves [N, A], and what the
rest of the game is worth to the player whose turn it is [N], both float32; anything where the game is over."""

C_BASE, C_INIT = 19652.0, 1.25
MOST_SIMULATIONS = 10_000
DEEPEST = 32  # rows of a path
LOOKED_AT = 64  # random games by which rules are looked at
BOARDS_AT_ONCE = 1024  # more do not fit into the caches of a CPU


@dataclass(frozen=True)
class SearchedMoves:
    """The moves of the roots.

    Attributes:
        visits: float32 [N, A], whole numbers whose sum is that of simulations.
        values: float32 [N, A], the mean of what simulations earned after each move, 0 where none was; −∞ for illegal
            moves, as are their bounds.
        low, high: float32 [N, A], what each move is proven to earn at least, and at most.
    """

    visits: Tensor
    values: Tensor
    low: Tensor
    high: Tensor

    def candidates(self) -> Tensor:
        """The moves that may be played, bool [N, A]: none that another one is proven to be as good as, or better."""
        sure = self.low.amax(1, keepdim=True)
        return ((self.low >= sure) | (self.high > sure)) & (self.values >= sure)

    def best(self) -> Tensor:
        """Of the candidates that of most visits, of equals that of greatest value, int64 [N]."""
        ranks = self.visits + 0.25 * self.values.clamp(-1.0, 1.0)
        return ranks.masked_fill(~self.candidates(), -torch.inf).argmax(1)

    def sampled(self, rng: Rng) -> Tensor:
        """One of the candidates, drawn in proportion to the fourth power of its visits, int64 [N]."""
        weights = (self.visits / self.visits.amax(1, keepdim=True)).pow(4).clamp(min=1e-6) * self.candidates()
        sums = weights.cumsum(1)
        return (sums[:, :-1] <= rng.uniform().unsqueeze(1) * sums[:, -1:]).sum(1)


class TreeSearch:
    """A search with so many simulations; its trees' memory is used again by the next one."""

    def __init__(self, game: TensorEnv[Any], evaluate: Evaluate, simulations: int) -> None:
        """Make it.

        Args:
            game: rules for two players without chance.
            evaluate: see :data:`Evaluate`.
            simulations: 1 to :data:`MOST_SIMULATIONS`.

        Raises:
            ValueError: if there are none or too many simulations, the rules draw random numbers, or a game is worth
                more than 1 to a player.
        """
        require_count(simulations)
        require_no_chance(game)
        require_bounds(game)
        self.game, self.evaluate, self.simulations = game, evaluate, simulations
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
        return map_state(lambda *fields: torch.cat(fields), *parts)

    def _search(self, roots: Any, boards: int) -> SearchedMoves:
        legal = legal_moves(self.game, roots)
        trees = self._trees_of(boards, roots, legal)
        trees.clear()
        trees.put(0, roots, self.evaluate(self.game, roots, legal)[0], legal)
        self._choose(trees, trees.numbers[0])
        for node in range(1, self.simulations + 1):
            self._simulate(trees, node)
        visits, low, high = (field[:boards].clone() for field in (trees.visits, trees.low, trees.high))
        values = (trees.totals[:boards] / visits.clamp(min=1.0)).clamp(low, high)
        return SearchedMoves(visits, values, low, high)

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

    def _simulate(self, trees: Trees, node: int) -> None:
        """One simulation of every board, which adds that node."""
        levels = trees.descend(min(node, DEEPEST))
        edges = trees.best.index_select(0, trees.path[:levels].flatten()).view(levels, -1)
        leaf, edge = trees.path[levels - 1], edges[-1]
        rng = Rng(torch.zeros_like(leaf), 0)  # nothing is drawn
        state, reward, over = self.game.step(trees.states_at(leaf), edge - leaf * trees.moves + self._first, rng)
        legal = legal_moves(self.game, state)
        priors, values = self.evaluate(self.game, state, legal)
        trees.put(node, state, priors, legal)
        trees.link(edge, node, reward, over)
        trees.back_up(levels, edges, reward - values.masked_fill(over, 0.0))
        trees.path[levels] = trees.numbers[node]
        low, high = self._choose(trees, trees.path[: levels + 1].flatten())
        trees.bound(levels, edges, *(field.view(levels + 1, -1)[:-1] for field in (low, high)))

    def _choose(self, trees: Trees, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Choose the moves that are followed next from rows int64 [B]; the bounds of what these rows are worth, [B]."""
        priors, visits, totals, low, high = (
            field.index_select(0, rows) for field in (trees.priors, trees.visits, trees.totals, trees.low, trees.high)
        )
        factors = self._factors.index_select(0, visits.sum(1).long()).unsqueeze(1)
        scores = priors.mul_(factors).div_(visits + 1.0)
        scores.add_(torch.clamp(totals.div_(visits.clamp_(min=1.0)), low, high))
        best = scores.masked_fill_(~_is_open(low, high), -torch.inf).argmax(1).add_(rows, alpha=trees.moves)
        children = trees.children.index_select(0, best)
        trees.best.index_copy_(0, rows, best)
        trees.follow.index_copy_(0, rows, torch.where(children > 0, children, rows))
        return low.amax(1), high.amax(1)


def _is_open(low: Tensor, high: Tensor) -> Tensor:
    """The moves that can still be the best by their bounds [B, A]: one of those that must be, or better than those."""
    return (high > low.amax(1, keepdim=True)) | (low >= high.amax(1, keepdim=True))


def require_count(simulations: int) -> None:
    """Raise a ValueError unless a search can have so many simulations."""
    if not 1 <= simulations <= MOST_SIMULATIONS:
        raise ValueError(f"simulations must be 1 to {MOST_SIMULATIONS:,}, got {simulations:,}")


def require_no_chance(game: TensorEnv[Any]) -> None:
    """Raise a ValueError if a move of the game draws random numbers."""
    key = torch.zeros(1, dtype=torch.int64, device=game.device)
    state, rng = game.reset(Rng(key, 0)), Rng(key, 1)
    move = legal_moves(game, state).long().argmax(1) + int(getattr(game.action_space, "start", 0))
    game.step(state, move, rng)
    if rng.used:
        name = type(game).__name__
        raise ValueError(f"{name} draws random numbers in its moves: a search needs rules without chance")


def require_bounds(game: TensorEnv[Any]) -> None:
    """Raise a ValueError if from some position of random games on a player earns less than −1, or more than 1."""
    if game.device.type == "meta":  # which holds no numbers
        return
    rewards = [reward for _, _, reward, _ in random_games(game, LOOKED_AT)]
    most = earned = torch.zeros_like(rewards[0])
    for reward in reversed(rewards):  # a player earns the reward, and loses what the next one earns
        earned = reward - earned
        most = most.maximum(earned.abs())
    if (found := float(most.amax())) > 1.0:
        name = type(game).__name__
        raise ValueError(f"{name} is worth up to {found:g} to a player, and a search needs −1 to 1: divide its rewards")
