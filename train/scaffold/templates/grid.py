"""MyEnv: take the shortest way to the goal, through a house of four rooms.

Rules
    1. A step moves one cell up, right, down or left on ``MAP``, where # is a wall. A move into a wall changes nothing.
    2. Every step costs 0.02. Reaching the goal gives +1 and terminates the episode; it is truncated after 100 steps.
    3. You and the goal start on two different free cells, drawn at random. The walls are always the same.

Actions
    0 up, 1 right, 2 down, 3 left. ``action_mask`` rules out moves into walls, and agents keep to it.

Observation (float32 [2, 9, 9])
    Two planes of the map with a single 1 each: where you are, and where the goal is.

Reference
    Optimum: 1 less the mean cost of the shortest way, over all starts. Random: the return of random moves that the
    mask allows, all equally likely, iterated backwards from the time limit. Both are exact, for they are computed.

Source: four rooms after Sutton, Precup and Singh, "Between MDPs and semi-MDPs", Artificial Intelligence, 1999.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from gymnasium.spaces import Box, Discrete
from torch import Tensor

from palaestra.envs import Quantity, Reference, TensorEnv
from palaestra.envs.core.reference import BarFigure, counts_of_whole

if TYPE_CHECKING:
    from palaestra.envs import Rng
    from palaestra.envs.core import Array
    from palaestra.envs.rendering.canvas import Canvas

MAP = (
    "#########",
    "#...#...#",
    "#.......#",
    "#...#...#",
    "##.###.##",
    "#...#...#",
    "#.......#",
    "#...#...#",
    "#########",
)
SIZE = len(MAP)
CELLS = SIZE * SIZE
MOVES = (-SIZE, 1, SIZE, -1)  # up, right, down, left, in numbers of cells
STEP_COST = 0.02


@dataclass(frozen=True)
class MyEnvState:
    """N games; cells are numbered row by row from the top left."""

    you: Tensor  # int64 [N] cell
    goal: Tensor  # int64 [N] cell


class MyEnv(TensorEnv[MyEnvState]):
    """Take the shortest way to the goal; see the module for the rules."""

    max_episode_steps = 100
    turn_based: ClassVar[bool] = True  # it waits for a person's next key
    frames_per_second: ClassVar[int] = 6
    picture_size: ClassVar[tuple[int, int]] = (540, 540)

    def __init__(self) -> None:
        self.observation_space = Box(0.0, 1.0, (2, SIZE, SIZE))
        self.action_space = Discrete(len(MOVES))
        wall = torch.tensor([mark == "#" for mark in "".join(MAP)])
        cell = torch.arange(CELLS)
        target = (cell.unsqueeze(1) + torch.tensor(MOVES)).clamp(0, CELLS - 1)
        self.free = cell[~wall]  # int64 [F] cells to be in
        self.neighbour = torch.where(wall[target], cell.unsqueeze(1), target)  # int64 [K, 4] where each move leads
        self.distance = torch.where(torch.eye(CELLS) == 1, 0, CELLS)  # int64 [K, K] steps from a cell to another
        for _ in range(CELLS):
            self.distance = torch.minimum(self.distance, self.distance[self.neighbour].amin(1) + 1)

    def reset(self, rng: Rng) -> MyEnvState:
        you, goal = rng.integers(0, len(self.free)), rng.integers(0, len(self.free) - 1)
        return MyEnvState(self.free[you], self.free[goal + (goal >= you)])  # the goal is any other cell

    def step(self, state: MyEnvState, action: Tensor, rng: Rng) -> tuple[MyEnvState, Tensor, Tensor]:
        after = MyEnvState(self.neighbour[state.you, action], state.goal)
        arrived = self.success(after)
        return after, arrived.float() - STEP_COST, arrived

    def observe(self, state: MyEnvState) -> Tensor:
        cells = torch.stack((state.you, state.goal), 1).unsqueeze(2)  # [N, 2, 1]
        planes = torch.zeros(len(cells), 2, CELLS, device=self.device)
        return planes.scatter(2, cells, 1.0).view(-1, 2, SIZE, SIZE)

    def success(self, state: MyEnvState) -> Tensor:
        return state.you == state.goal

    def action_mask(self, state: MyEnvState) -> Tensor:
        return self.neighbour[state.you] != state.you.unsqueeze(1)

    def expert(self, state: MyEnvState) -> Tensor:
        """The move that leads nearest to the goal."""
        return self.distance[self.neighbour[state.you], state.goal.unsqueeze(1)].argmin(1)

    def draw(self, state: MyEnvState, canvas: Canvas) -> None:
        side = canvas.width / SIZE

        def centre(cell: int) -> tuple[float, float]:
            return (cell % SIZE + 0.5) * side, (cell // SIZE + 0.5) * side

        canvas.fill("#16202b")
        for cell, mark in enumerate("".join(MAP)):
            x, y = centre(cell)
            if mark == "#":
                canvas.rectangle(x - side / 2, y - side / 2, side, side, "#3a4d60")
            else:
                canvas.circle(x, y, 0.05 * side, "#2b3b4a")
        goal, you = centre(int(state.goal)), centre(int(state.you))
        canvas.line([*(centre(int(past.you)) for past in canvas.past), you], "#4fa3e380", 0.12 * side)
        canvas.circle(*goal, 0.40 * side, "#5fc96a40")
        canvas.circle(*goal, 0.30 * side, "#5fc96a", line=0.08 * side)
        canvas.circle(*you, 0.26 * side, "#f2b35e")

    def report_figures(self, returns: Array, lengths: Array, successes: Array | None, act: Any) -> list[BarFigure]:
        """A chart for the report of a run: the steps of its held-out episodes."""
        return [counts_of_whole(lengths, "Length of the way", "steps", "episodes")]

    @property
    def observation_names(self) -> tuple[Quantity, ...]:
        return Quantity("you", count=CELLS), Quantity("goal", count=CELLS)

    @property
    def reference(self) -> Reference:
        pairs = torch.zeros(CELLS, CELLS, dtype=torch.float64)  # 1 where a game can start, cell by goal
        pairs[self.free.unsqueeze(1), self.free] = 1.0
        pairs.fill_diagonal_(0.0)
        neighbour = self.neighbour.cpu()
        allowed = (neighbour != torch.arange(CELLS).unsqueeze(1)).double()
        chance = allowed / allowed.sum(1, keepdim=True).clamp_min(1.0)  # of each action, float64 [CELLS, 4]
        value = torch.zeros_like(pairs)  # of the random policy with so many steps to go
        for _ in range(self.max_episode_steps):
            value = (value.fill_diagonal_(1.0)[neighbour] * chance.unsqueeze(2)).sum(1) - STEP_COST
        ways = self.distance.cpu() * pairs
        optimum = 1.0 - STEP_COST * float(ways.sum() / pairs.sum())
        random = float((value * pairs).sum() / pairs.sum())
        return Reference(optimum=optimum, random=random, solved_at=optimum - 0.02, source="computed; see the module")

    @property
    def keys_to_action(self) -> dict[str, int]:
        return {"up": 0, "right": 1, "down": 2, "left": 3}
