"""Snake: eat fruit, grow, and do not run into the wall or into yourself.

Rules
    1. The board has size × size cells, size even and at least 4. The snake starts with length 1 on a random cell,
       facing a random side; the fruit lies on a random free cell.
    2. A step moves the head one cell. Eating the fruit gives reward +1 and one more segment; a new fruit appears on a
       random free cell. The best possible return is therefore size² − 1.
    3. The tail moves away as the head moves in, so the head may enter the tail's cell.
    4. Episodes terminate on a collision (wall or body), when the board is full (a win: no fruit is placed), and after
       4 · size² steps without eating. There is no other time limit.

Actions
    ``relative`` (default): 0 left, 1 straight, 2 right, as the snake sees it. ``absolute``: 0 up, 1 right, 2 down,
    3 left; turning back into one's own body is a collision like any other.

Observations (float32, all in [0, 1])
    Four planes of size × size cells: the remaining lifetime of the body (steps until the tail leaves the cell, over
    size²); where a move would collide with the body (lifetime above 1); the head; the fruit; and hunger (steps since
    the last fruit over the limit). With relative actions the board is turned so that the snake always faces up, which
    spares an agent learning everything four times. ``flat``: [4 · size² + 1], for MLPs. ``grid``: [5, size, size],
    hunger being a constant plane, for CNNs. Lifetimes carry the order of the body and hunger the time limit, so the
    observation is Markov.

Experts
    Following a Hamiltonian cycle fills every board; cutting corners of it while the order head–tail along the cycle is
    kept fills it sooner (the ``expert``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

import numpy as np
import torch
from gymnasium.spaces import Box, Discrete
from torch import Tensor

from palaestra.envs.core import Array, Quantity, Reference, TensorEnv
from palaestra.envs.core.reference import ReportFigure, counts_between, counts_of_whole

if TYPE_CHECKING:
    from palaestra.envs.core.rng import Rng
    from palaestra.envs.rendering.canvas import Canvas, Colour, Point

UP, RIGHT, DOWN, LEFT = range(4)
WALL, _SIDES = -1, ("up", "right", "down", "left")

# Mean fruits eaten by size. Uniform random actions: 200,000 episodes, standard errors 0.0007 to 0.0011. The greedy rule
# (the legal move that brings the head nearest to the fruit; ties: up, right, down, left): 20,000, errors 0.02 to 0.06.
_RANDOM = {
    "relative": {4: 0.1917, 6: 0.1465, 8: 0.1210, 10: 0.1073, 12: 0.0956},
    "absolute": {4: 0.1909, 6: 0.1498, 8: 0.1255, 10: 0.1119, 12: 0.1016},
}
_GREEDY = {4: 10.46, 6: 14.98, 8: 18.75, 10: 22.20, 12: 25.09}


@dataclass(frozen=True)
class SnakeState:
    """N boards of K = size² cells, numbered row by row from the top left."""

    lifetime: Tensor  # int16 [N, K] steps until the body leaves the cell: 0 free, 1 tail, length at the head; no queue
    head: Tensor  # int64 [N] cell
    heading: Tensor  # int64 [N] UP, RIGHT, DOWN or LEFT
    fruit: Tensor  # int64 [N] cell; K on a full board
    length: Tensor  # int64 [N] cells covered
    hunger: Tensor  # int64 [N] steps since the last fruit


class Snake(TensorEnv[SnakeState]):
    """Snake on an even square board; see the module for the rules."""

    picture_size: ClassVar[tuple[int, int]] = (640, 736)

    def __init__(
        self,
        size: int = 10,
        observation: Literal["flat", "grid"] = "flat",
        actions: Literal["relative", "absolute"] = "relative",
    ) -> None:
        if size < 4 or size % 2 or size > 180:
            raise ValueError(f"size must be an even number from 4 to 180, got {size}")
        if observation not in ("flat", "grid"):
            raise ValueError(f'observation must be "flat" or "grid", got {observation!r}')
        if actions not in ("relative", "absolute"):
            raise ValueError(f'actions must be "relative" or "absolute", got {actions!r}')
        self.size, self.observation, self.actions = size, observation, actions
        self.cells, self.hunger_limit = size * size, 4 * size * size
        self.observation_shape = (4 * self.cells + 1,) if observation == "flat" else (5, size, size)
        self.observation_space = Box(0.0, 1.0, self.observation_shape)
        self.action_space = Discrete(3 if actions == "relative" else 4)
        self.neighbour = _neighbours(size)  # int64 [K · 4] cell on each side, or WALL
        self.cycle = _hamiltonian_cycle(size)  # int64 [K] position of each cell along the cycle
        self.turned, self.turned_cell = _turns(size)

    def reset(self, rng: Rng) -> SnakeState:
        head, heading, fruit = rng.integers(0, self.cells), rng.integers(0, 4), rng.integers(0, self.cells - 1)
        lifetime = torch.zeros(len(head), self.cells, dtype=torch.int16, device=self.device)
        return SnakeState(
            lifetime=lifetime.scatter_(1, head.unsqueeze(1), 1),
            head=head,
            heading=heading,
            fruit=fruit + (fruit >= head),  # uniform over the other cells
            length=torch.ones_like(head),
            hunger=torch.zeros_like(head),
        )

    def step(self, state: SnakeState, action: Tensor, rng: Rng) -> tuple[SnakeState, Tensor, Tensor]:
        heading = (state.heading + action - 1) & 3 if self.actions == "relative" else action
        target = self.neighbour[state.head * 4 + heading]
        ahead = state.lifetime.gather(1, target.clamp(min=0).unsqueeze(1)).squeeze(1)
        died = (target == WALL) | (ahead > 1)  # a lifetime of 1 is the tail, which moves away
        eats = target == state.fruit
        head = torch.where(died, state.head, target)  # a dead snake stays as it was, for the last observation
        length = state.length + eats
        ages = (~(died | eats)).to(torch.int16)
        lifetime = (state.lifetime - ages.unsqueeze(1)).clamp_(min=0)
        lifetime.scatter_(1, head.unsqueeze(1), length.to(torch.int16).unsqueeze(1))
        hunger = torch.where(eats, 0, state.hunger + 1)
        fruit = torch.where(eats, rng.choice(~lifetime.bool(), eats), state.fruit)
        after = SnakeState(lifetime, head, heading, fruit, length, hunger)
        return after, eats.float(), died | (length == self.cells) | (hunger >= self.hunger_limit)

    def observe(self, state: SnakeState) -> Tensor:
        n, k = state.lifetime.shape
        lifetime, head, fruit = state.lifetime, state.head, state.fruit
        if self.actions == "relative":
            lifetime = lifetime.gather(1, self.turned.index_select(0, state.heading))  # 3 × as fast as indexing
            head, fruit = (self.turned_cell[state.heading, cell] for cell in (head, fruit))
        fruit = torch.where(fruit < k, fruit, head - k)  # a full board marks the head's plane again
        planes = torch.zeros((n, math.prod(self.observation_shape)), device=self.device)  # [N, 4 K + 1] or [N, 5 K]
        torch.div(lifetime, k, out=planes[:, :k])
        torch.gt(lifetime, 1, out=planes[:, k : 2 * k])
        planes.scatter_(1, torch.stack((head + 2 * k, fruit + 3 * k), 1), 1.0)
        planes[:, 4 * k :] = (state.hunger / self.hunger_limit).unsqueeze(1)
        return planes.view(n, *self.observation_shape)

    def success(self, state: SnakeState) -> Tensor:
        return state.length == self.cells

    def expert(self, state: SnakeState) -> Tensor:
        """The Hamiltonian cycle with shortcuts: the move furthest along it that passes neither fruit nor tail.

        The body then always lies in cycle order between tail and head, so the next cell of the cycle stays free. From
        half the board on it follows the cycle without shortcuts: they leave gaps in the body, and a fruit in a gap is
        out of reach until the tail has passed, which costs a long snake more than shortcuts save.
        """
        ahead, position = self._along_cycle(state), self.cycle[state.head]
        tail = self.cycle[(state.lifetime == 1).to(torch.uint8).argmax(1)]
        to_tail = (tail - position - 1) % self.cells + 1  # 1 … K: a snake of length 1 has all the board before it
        to_fruit = (self.cycle[state.fruit.clamp(max=self.cells - 1)] - position) % self.cells
        furthest = torch.where(2 * state.length < self.cells, torch.minimum(to_tail, to_fruit), 0)
        return self._best_move(state, torch.where(ahead <= furthest.unsqueeze(1), ahead, -ahead))

    def draw(self, state: SnakeState, canvas: Canvas) -> None:
        """The board under a header: fruits eaten, share of the board filled (wide bar), patience left (thin bar)."""
        look = _FULL if int(state.length) == self.cells else _DEAD if canvas.over else _ALIVE
        canvas.fill("#0d141c")
        _draw_header(canvas, look, int(state.length) - 1, self.cells - 1, 1.0 - int(state.hunger) / self.hunger_limit)
        left, top, side, cell = 16.0, 112.0, 608.0, 608.0 / self.size
        canvas.rectangle(left - 6, top - 6, side + 12, side + 12, look.frame, radius=18)
        canvas.rectangle(left, top, side, side, "#17222d", radius=13)
        for row in range(self.size):
            for column in range(1 - row % 2, self.size, 2):
                canvas.rectangle(left + column * cell, top + row * cell, cell, cell, "#1b2835", radius=min(8, cell / 5))

        def centre(index: int) -> Point:
            row, column = divmod(index, self.size)
            return left + (column + 0.5) * cell, top + (row + 0.5) * cell

        if int(state.fruit) < self.cells:
            _draw_apple(canvas, *centre(int(state.fruit)), cell)
        body = np.argsort(np.asarray(state.lifetime))[self.cells - int(state.length) :]  # tail to head: 1, 2, …
        _draw_body(canvas, look, _rounded([centre(int(index)) for index in body]), cell)
        _draw_head(canvas, look, centre(int(state.head)), _STEPS[int(state.heading)], cell)

    def stresses(self) -> dict[str, dict[str, Any]]:
        """Other boards, for agents that can read them, actions that stick, and sight that is late or wrong."""
        sizes = {f"size_{size}": {"size": size} for size in (self.size - 2, self.size + 2) if 4 <= size <= 180}
        sticky = {f"sticky_actions_{share}_percent": {"sticky_actions": share / 100} for share in (5, 25)}
        late, wrong = {"delayed_observation": 1}, {"observation_noise": 0.02}
        return {**sizes, **sticky, "delay_1_step": late, "noise_2_percent": wrong}

    def report_figures(self, returns: Array, lengths: Array, successes: Array | None, act: Any) -> list[ReportFigure]:
        """How long the snakes were in the end, the steps for a fruit, and how many steps the full boards took."""
        ends = counts_of_whole(returns + 1, "Length at the end", "cells covered", "episodes", [self.cells])
        pace, filled = (lengths / returns.clip(1))[returns >= 1], lengths[returns == self.cells - 1]
        named = {("Pace", "steps for each fruit"): pace, ("Full boards", "steps to fill it"): filled}
        return [ends, *(counts_between(values, *words, "episodes") for words, values in named.items() if len(values))]

    @property
    def reference(self) -> Reference:
        return Reference(
            optimum=float(self.cells - 1),
            random=_RANDOM[self.actions].get(self.size),
            heuristic=_GREEDY.get(self.size),
            solved_at=float(self.cells - 1) * 0.97,
            source="best known: the full board, which the expert always reaches; heuristic: greedy towards the fruit",
        )

    @property
    def observation_names(self) -> tuple[Quantity, ...]:
        planes = (Quantity(name, count=self.cells) for name in ("collision", "head", "fruit"))
        last = 1 if self.observation == "flat" else self.cells
        hunger = Quantity("hunger", "step", float(self.hunger_limit), count=last)
        return (Quantity("lifetime", "step", float(self.cells), count=self.cells), *planes, hunger)

    def action_name(self, action: int) -> str:
        return (("left", "straight", "right") if self.actions == "relative" else _SIDES)[action]

    @property
    def keys_to_action(self) -> dict[str, int]:
        """Arrow keys are directions on the board; for relative actions see :meth:`keys_in`."""
        return {side: number for number, side in enumerate(_SIDES)} if self.actions == "absolute" else {}

    def keys_in(self, state: SnakeState) -> dict[str, int]:
        """The same arrow keys where actions are relative; the one that points back is without meaning."""
        if self.actions == "absolute":
            return self.keys_to_action
        turns = {key: (side - int(state.heading) + 1) & 3 for side, key in enumerate(_SIDES)}
        return {key: turn for key, turn in turns.items() if turn < 3}

    def _along_cycle(self, state: SnakeState) -> Tensor:
        """Distance of each neighbour along the cycle, int64 [N, 4] from 1 to K − 1; 4 K for a wall."""
        cells = self.neighbour.view(-1, 4)[state.head]
        ahead = (self.cycle[cells.clamp(min=0)] - self.cycle[state.head].unsqueeze(1)) % self.cells
        return torch.where(cells == WALL, 4 * self.cells, ahead)

    def _best_move(self, state: SnakeState, score: Tensor) -> Tensor:
        """The action of the direction with the highest score [N, 4]; relative actions cannot turn back.

        A snake that starts with its back to where it should go turns round before it eats: a longer one could not.
        """
        wanted = score.argmax(1, keepdim=True)
        if self.actions == "absolute":
            return wanted.squeeze(1)
        back = ((state.heading + 2) & 3).unsqueeze(1)
        eats = self.neighbour.view(-1, 4)[state.head] == state.fruit.unsqueeze(1)
        score = torch.where(eats & (wanted == back), score - 2 * self.cells, score)
        direction = score.scatter(1, back, torch.iinfo(torch.int64).min).argmax(1)
        return (direction - state.heading + 1) & 3


def _neighbours(size: int) -> Tensor:
    """The cell up, right, down and left of each cell, int64 [size² · 4]; WALL outside the board."""
    board = torch.full((size + 2, size + 2), WALL)
    board[1:-1, 1:-1] = torch.arange(size * size).view(size, size)
    sides = (board[:-2, 1:-1], board[1:-1, 2:], board[2:, 1:-1], board[1:-1, :-2])
    return torch.stack([side.flatten() for side in sides], 1).flatten()


def _turns(size: int) -> tuple[Tensor, Tensor]:
    """Tables for boards turned so that each heading points up: int64 [4, K], the board's cell at each turned cell; and
    int64 [4, K + 1], the turned place of each cell of the board, where K (no cell) stays K."""
    board = torch.arange(size * size).view(size, size)
    turned = torch.stack([torch.rot90(board, heading).flatten() for heading in range(4)])
    return turned, torch.cat((turned.argsort(1), torch.full((4, 1), size * size)), 1)


def _hamiltonian_cycle(size: int) -> Tensor:
    """Position of each cell along a closed tour: back and forth over the rows, returning by the first column."""
    tour = []
    for row in range(size):
        tour += [row * size + column for column in range(1, size)[:: -1 if row % 2 else 1]]
    tour += [row * size for row in reversed(range(size))]
    return torch.tensor(tour).argsort()


# Drawing, in canvas units
_STEPS = ((0, -1), (1, 0), (0, 1), (-1, 0))  # (x, y) of UP, RIGHT, DOWN, LEFT


class _Look(NamedTuple):
    """Colours that tell a living snake from a dead one and from a full board."""

    head: Colour
    tail: Colour
    edge: Colour
    frame: Colour
    dead: bool


_ALIVE = _Look("#8cf29a", "#1c7f93", "#0c2a30", "#263644", dead=False)
_DEAD = _Look("#8fb0a0", "#2f5866", "#0b1016", "#c2504d", dead=True)
_FULL = _Look("#ffe48a", "#ee8b3a", "#6b3d14", "#e9b949", dead=False)


def _draw_header(canvas: Canvas, look: _Look, fruits: int, most: int, patience: float) -> None:
    _draw_apple(canvas, 42, 42, 56)
    width = canvas.text(str(fruits), 80, 42, 58, "#f4f7fa")
    canvas.text(f"/ {most}", 92 + width, 45, 40, "#7d8b99")
    canvas.text(f"{100 * fruits / most:.0f} %", 624, 42, 50, look.head, "right")
    for y, height, share, colour in ((74, 12, fruits / most, look.head), (90, 4, patience, "#e8a33d")):
        canvas.rectangle(16, y, 608, height, "#22303d", radius=height / 2)
        if share > 0:
            canvas.rectangle(16, y, max(height, 608 * share), height, colour, radius=height / 2)


def _draw_apple(canvas: Canvas, x: float, y: float, cell: float) -> None:
    """An apple with stem, leaf and shine in a cell about (x, y)."""
    r = 0.3 * cell
    canvas.circle(x, y + 0.34 * r, 1.18 * r, "#00000040")
    for dx, dy in ((-0.3, 0.1), (0.3, 0.1), (0.0, 0.3)):
        canvas.circle(x + dx * r, y + dy * r, 0.86 * r, "#e5484d")
    canvas.line([(x, y - 0.5 * r), (x + 0.12 * r, y - 1.15 * r)], "#7a4b2a", 0.2 * r)
    leaf = [(0.1, -0.75), (0.35, -1.15), (0.75, -1.25), (1.0, -1.1), (0.8, -0.75), (0.45, -0.62)]
    canvas.polygon([(x + dx * r, y + dy * r) for dx, dy in leaf], "#5fc96a")
    canvas.circle(x - 0.5 * r, y - 0.2 * r, 0.2 * r, "#ffffffb0")


def _rounded(centres: list[Point]) -> list[Point]:
    """Eight points per cell along the body, from the tail's centre to the head's, a quarter circle in each bend."""
    if len(centres) == 1:
        return centres
    points = [centres[0]]
    for before, here, after in zip(centres, centres[1:], centres[2:], strict=False):
        enter = (before[0] + here[0]) / 2, (before[1] + here[1]) / 2
        leave = (after[0] + here[0]) / 2, (after[1] + here[1]) / 2
        hub = enter[0] + leave[0] - here[0], enter[1] + leave[1] - here[1]  # centre of the bend
        for i in range(8):
            a, b = (1 - i / 8, i / 8) if hub == here else (math.cos(i * math.pi / 16), math.sin(i * math.pi / 16))
            c = 1.0 - a - b
            points.append((c * hub[0] + a * enter[0] + b * leave[0], c * hub[1] + a * enter[1] + b * leave[1]))
    return [*points, centres[-1]]


def _draw_body(canvas: Canvas, look: _Look, points: list[Point], cell: float) -> None:
    """A band from tail to head over a slightly wider dark one, with the tail tapering over 2.5 cells."""
    walked = [0.0] + [(i + 3) / 8 for i in range(1, len(points))]  # cells from the tail's centre
    widths = [cell * (0.72 - 0.36 * max(0.0, 1 - distance / 2.5)) for distance in walked]
    canvas.ribbon(points, [width + 0.07 * cell for width in widths], look.edge, look.edge)
    canvas.circle(*points[-1], 0.445 * cell, look.edge)
    canvas.ribbon(points, widths, look.tail, look.head)


def _draw_head(canvas: Canvas, look: _Look, centre: Point, step: Point, cell: float) -> None:
    """The head with two eyes that look where it goes; crosses for the eyes of a dead snake."""
    (x, y), (ahead, down) = centre, step
    canvas.circle(x, y, 0.41 * cell, look.head)
    for side in (-1, 1):
        eye_x = x + (0.12 * ahead - 0.19 * down * side) * cell
        eye_y = y + (0.12 * down + 0.19 * ahead * side) * cell
        if look.dead:
            r = 0.08 * cell
            for slope in (-1, 1):
                canvas.line([(eye_x - r, eye_y - slope * r), (eye_x + r, eye_y + slope * r)], "#1b222a", 0.05 * cell)
            continue
        canvas.circle(eye_x, eye_y, 0.125 * cell, "#ffffff")
        canvas.circle(eye_x + 0.045 * ahead * cell, eye_y + 0.045 * down * cell, 0.07 * cell, "#10202a")
