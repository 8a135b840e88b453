"""Connect Four: drop stones into columns in turn, and get four of them into a line.

Rules
    1. The board has ``rows`` × ``columns`` cells, 6 × 7 as it is sold. Two players take turns; player 0 begins.
    2. A move drops a stone into a column, where it falls onto the stones that lie there.
    3. Who gets four stones of their own into a line, upright, level or diagonal, wins. A full board without one is a
       draw.
    4. A stone for a full column is a loss at once; ``action_mask`` names the columns that are not full.

Actions
    The column, counted from the left.

Observations (float32, 0 or 1)
    Two planes of rows × columns cells, from the upper left: the stones of the player whose turn it is, and those of the
    other. ``flat``: [2 · rows · columns], for MLPs. ``grid``: [2, rows, columns], for CNNs. With ``threats`` three more
    planes follow: the empty cells where a stone would complete a line of the player whose turn it is, those of the
    other, and the cells where the next stones come to lie. All of it can be seen on the board; an MLP would have to
    learn it for each of the lines.

Reward
    1 for the move that wins, −1 for one into a full column, 0 for every other; the other player gets its negative.

Known
    With perfect play on 6 × 7 the player who begins wins with the 41st stone, by the middle column; there are
    4,531,985,219,092 positions. Source: James D. Allen, 1988, and Victor Allis, "A knowledge-based approach of
    Connect-Four", 1988; John Tromp, https://tromp.github.io/c4/c4.html.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

import torch
from gymnasium.spaces import Box, Discrete, Space
from torch import Tensor

from palaestra.envs.core import Quantity, Reference, TensorEnv
from palaestra.envs.core.replay.recording import host_call
from palaestra.envs.core.symmetries import SignedPermutation, Symmetry
from palaestra.envs.games import exact_values, solver
from palaestra.envs.games.bitboards import BoardShape, completing_cells, has_line, line_cells, mirrored

if TYPE_CHECKING:
    from palaestra.envs.core.rng import Rng
    from palaestra.envs.rendering.canvas import Canvas


Observation = Literal["flat", "grid"]

# Mean returns against an opponent, by who begins, of random play and of two-ply lookahead. Random play against itself:
# 200,000 games on a board of lists, standard error 0.0022; lookahead against it: 10,000 games each, 0.005; the others:
# 50,000 games each, at most 0.0042 (tests/stress/connect_four_scores.py).
_AGAINST = {
    "random": {"agent": (0.1175, 0.923), "opponent": (-0.1175, 0.860), "either": (0.0, 0.8915)},
    "one-ply": {"agent": (-0.404, 0.853), "opponent": (-0.636, 0.744), "either": (-0.520, 0.7985)},
    "two-ply": {"agent": (-0.856, 0.040), "opponent": (-0.916, -0.044), "either": (-0.886, 0.0)},
}
_PERFECT = {"agent": 1.0, "opponent": -1.0, "either": 0.0}  # of perfect play against itself


@dataclass(frozen=True)
class ConnectFourState:
    """N boards, see :mod:`palaestra.envs.games.bitboards`."""

    own: Tensor  # int64 [N] stones of the player whose turn it is
    other: Tensor  # int64 [N] stones of the player who moved last
    moves: Tensor  # int64 [N] made so far


class ConnectFour(TensorEnv[ConnectFourState]):
    """Connect Four for two players; see the module for the rules."""

    turn_based: ClassVar[bool] = True
    frames_per_second: ClassVar[int] = 2
    played_with: ClassVar[dict[str, Any]] = {"opponent": "two-ply"}
    picture_size: ClassVar[tuple[int, int]] = (640, 680)

    def __init__(
        self,
        rows: int = 6,
        columns: int = 7,
        observation: Observation = "flat",
        threats: bool = False,
    ) -> None:
        if observation not in get_args(Observation):
            raise ValueError(f'observation must be "flat" or "grid", got {observation!r}')
        if type(threats) is not bool:
            raise ValueError(f"threats must be true or false, got {threats!r}")
        self.shape = BoardShape(rows, columns)
        self.rows, self.columns, self.observation, self.threats = rows, columns, observation, threats
        self.planes = planes = 5 if threats else 2
        self.observation_shape = (planes * self.shape.cells,) if observation == "flat" else (planes, rows, columns)
        self.observation_space = Box(0.0, 1.0, self.observation_shape)
        self.action_space = Discrete(columns)
        # of each column the lowest cell, and all cells; int64 [columns]
        self.bottoms = torch.tensor([self.shape.bottom(column) for column in range(columns)])
        self.column_cells = torch.tensor([self.shape.column(column) for column in range(columns)])
        self.tops = self.bottoms << (rows - 1)
        self.lowest, self.board = int(self.bottoms.sum()), int(self.column_cells.sum())
        self.seen = torch.tensor(self.shape.as_seen())  # int64 [cells]
        self.shifts = torch.tensor(self.shape.shifts).unsqueeze(1)

    def reset(self, rng: Rng) -> ConnectFourState:
        none = torch.zeros(rng.num_envs, dtype=torch.int64, device=self.device)
        return ConnectFourState(none, none, none)

    def step(self, state: ConnectFourState, action: Tensor, rng: Rng) -> tuple[ConnectFourState, Tensor, Tensor]:
        occupied = state.own | state.other
        bottom, cells = self.bottoms.index_select(0, action), self.column_cells.index_select(0, action)
        stone = (occupied + bottom) & cells  # none where the column is full
        own, moves = state.own | stone, state.moves + 1
        wins, illegal = has_line(own, self.shifts), stone == 0
        reward = wins.float() - illegal.float()
        return ConnectFourState(state.other, own, moves), reward, wins | illegal | (moves == self.shape.cells)

    def observe(self, state: ConnectFourState) -> Tensor:
        boards = [state.own, state.other]
        if self.threats:
            occupied = state.own | state.other
            empty = self.board & ~occupied
            boards += [completing_cells(stones, self.shifts) & empty for stones in (state.own, state.other)]
            boards.append((occupied + self.lowest) & self.board)
        cells = torch.stack(boards, 1).unsqueeze(2) & self.seen  # [N, planes, cells]
        planes = cells.bool().view(torch.uint8)  # bytes become floats in a seventh of bools' time
        return planes.float().view(-1, *self.observation_shape)

    def seen_as(self, observation_space: Space[Any]) -> ConnectFour | None:
        views = (
            ConnectFour(self.rows, self.columns, observation, threats)
            for observation in get_args(Observation)
            for threats in (False, True)
        )
        found = next((view for view in views if view.observation_space == observation_space), None)
        return None if found is None else found.to(self.device)  # type: ignore[return-value]

    def player(self, state: ConnectFourState) -> Tensor:
        return state.moves & 1

    def action_mask(self, state: ConnectFourState) -> Tensor:
        return ((state.own | state.other).unsqueeze(1) & self.tops) == 0

    def game_value(self, state: ConnectFourState) -> Tensor:
        """1, 0 or −1; from a table of small boards, from a solver on 6 × 7.

        Raises:
            ValueError: if there is no solver for this board, or it is not installed.
        """
        if self.shape.cells <= exact_values.MOST_CELLS:
            return exact_values.value_table(self.shape, str(self.device)).of(state.own, state.other)
        if self.shape != solver.SOLVED:
            most = exact_values.MOST_CELLS
            raise ValueError(f"perfect play is known on 6 × 7 and on boards of up to {most} cells, not on this one")
        if self.device.type == "meta":  # there are no positions to solve
            return torch.zeros_like(state.own, dtype=torch.float32)
        over = has_line(state.other, self.shifts) | (state.moves == self.shape.cells)
        own, other = (stones.masked_fill(over, 0).cpu() for stones in (state.own, state.other))
        return host_call(solver.solved_values, own, other).to(self.device)

    def has(self, name: str) -> bool:
        known = self.shape.cells <= exact_values.MOST_CELLS or (self.shape == solver.SOLVED and solver.is_installed())
        return super().has(name) and (known or name != "game_value")

    def draw(self, state: ConnectFourState, canvas: Canvas) -> None:
        """The board, whose turn it is or who has won, the newest stones and the line that won."""
        from palaestra.envs.rendering.connect_four_board import draw_game

        lines = line_cells(int(state.own), self.shape) | line_cells(int(state.other), self.shape)
        draw_game(canvas, state, self.shape, lines)

    def symmetries(self) -> list[Symmetry]:
        """A mirror."""
        cells = torch.arange(self.shape.cells).view(self.rows, self.columns).flip(1).flatten().tolist()

        def state(before: ConnectFourState) -> ConnectFourState:
            own, other = (mirrored(stones, self.shape) for stones in (before.own, before.other))
            return replace(before, own=own, other=other)

        columns = SignedPermutation.renumbering(range(self.columns)[::-1])
        return [Symmetry("mirror", state, SignedPermutation.of_planes(cells, self.planes), columns)]

    def reference_against(self, opponent: str, begins: str) -> Reference:
        """Against random play, lookahead and perfect play, on 6 × 7."""
        if self.shape != solver.SOLVED:
            return Reference()
        if opponent == "perfect":
            return Reference(
                optimum=_PERFECT[begins], source="best known: perfect play, in which the first player wins"
            )
        if opponent not in _AGAINST:
            return Reference()
        random, lookahead = _AGAINST[opponent][begins]
        said = "best known: a bound, to win every game; heuristic: two-ply lookahead"
        return Reference(optimum=1.0, random=random, heuristic=lookahead, source=said)

    @property
    def observation_names(self) -> tuple[Quantity, ...]:
        cells = "cells row by row from the upper left, 1 with a stone"
        count = self.shape.cells
        mover, opponent = "of the player whose turn it is", "of the other player"
        stones = (
            Quantity("own_stones", meaning=f"{mover}; {cells}", count=count),
            Quantity("other_stones", meaning=f"{opponent}; {cells}", count=count),
        )
        if not self.threats:
            return stones
        return (
            *stones,
            Quantity("own_threats", meaning=f"empty cells that complete a line {mover}, in that order", count=count),
            Quantity("other_threats", meaning=f"those that complete one {opponent}", count=count),
            Quantity("next_cells", meaning="where the next stones come to lie", count=count),
        )

    @property
    def keys_to_action(self) -> dict[str, int]:
        return {str(column + 1): column for column in range(min(9, self.columns))}

    def action_name(self, action: int) -> str:
        return f"column {action + 1}"
