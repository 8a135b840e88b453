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
    observation is Markov. With ``frame`` a board is shown in the middle of one of frame × frame cells, those around it
    as cells where a move would collide; lifetimes are over frame² then. So boards of several sizes look alike.

Experts
    Following a Hamiltonian cycle fills every board; cutting corners of it while the order head–tail along the cycle is
    kept fills it sooner (the ``expert``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch
from gymnasium.spaces import Box, Discrete
from torch import Tensor

from palaestra.envs.core import Array, Quantity, Reference, TensorEnv
from palaestra.envs.core.draws.host_choice import chosen
from palaestra.envs.core.reference import ReportFigure, counts_between, counts_of_whole
from palaestra.envs.core.replay.recording import host_call
from palaestra.envs.core.symmetries import SignedPermutation, Symmetry

if TYPE_CHECKING:
    from palaestra.envs.core.rng import Rng
    from palaestra.envs.rendering.canvas import Canvas

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
        frame: int | None = None,
    ) -> None:
        if size < 4 or size % 2 or size > 180:
            raise ValueError(f"size must be an even number from 4 to 180, got {size}")
        if observation not in ("flat", "grid"):
            raise ValueError(f'observation must be "flat" or "grid", got {observation!r}')
        if actions not in ("relative", "absolute"):
            raise ValueError(f'actions must be "relative" or "absolute", got {actions!r}')
        seen = size if frame is None else frame
        if not size <= seen <= 180 or seen % 2:
            raise ValueError(f"frame must be an even number from the size, {size}, to 180, got {frame}")
        self.size, self.observation, self.actions, self.frame = size, observation, actions, frame
        self.cells, self.hunger_limit, self.seen_cells = size * size, 4 * size * size, seen * seen
        self.observation_shape = (4 * self.seen_cells + 1,) if observation == "flat" else (5, seen, seen)
        self.observation_space = Box(0.0, 1.0, self.observation_shape)
        self.action_space = Discrete(3 if actions == "relative" else 4)
        self.neighbour = _neighbours(size)  # int64 [K · 4] cell on each side, or WALL
        self.cycle = _hamiltonian_cycle(size)  # int64 [K] position of each cell along the cycle
        self.moves = _moves(self.neighbour, actions)  # int64 [K, 4, A, 3]
        self.turned = _turned(size)  # int64 [4, K] the board's cell at each place, turned so that each heading faces up
        self.shown = self.turned if seen == size else _framed(self.turned, size, seen)  # int64 [4, V], V = frame²
        # int64 [4, K + 1] where each cell of the board is shown when turned; V for K (no cell)
        place = self.shown.argsort(1)[:, : self.cells]
        self.place = torch.nn.functional.pad(place, (0, 1), value=self.seen_cells)
        self.plane = torch.tensor([0, self.seen_cells])  # where head's and fruit's begin
        self.start = torch.tensor([1, 0])  # length and hunger
        self.ends = torch.tensor([[self.cells], [self.hunger_limit]])  # of a length, and of a hunger

    def reset(self, rng: Rng) -> SnakeState:
        head, heading, fruit = rng.integers(0, self.cells), rng.integers(0, 4), rng.integers(0, self.cells - 1)
        fruit = fruit + (fruit >= head)  # uniform over the other cells
        lifetime = torch.empty(len(head), self.cells, dtype=torch.int16, device=self.device)
        torch.eq(self.turned[UP], head.unsqueeze(1), out=lifetime)
        # side by side in one memory, where rows of all are selected together
        return SnakeState(lifetime, *torch.stack((head, heading, fruit, *self.start.expand(len(head), 2).unbind(1))))

    def step(self, state: SnakeState, action: Tensor, rng: Rng) -> tuple[SnakeState, Tensor, Tensor]:
        target, heading, allowed = self.moves[state.head, state.heading, action].unbind(1)
        died = state.lifetime.gather(1, target.unsqueeze(1)).squeeze(1) > allowed
        eats = target == state.fruit
        head = torch.where(died, state.head, target)  # a dead snake stays as it was, for the last observation
        length = state.length + eats
        ages = died == eats  # neither: a snake that eats does not die
        lifetime = state.lifetime.add(ages.unsqueeze(1), alpha=-1).clamp_(min=0)
        lifetime.scatter_(1, head.unsqueeze(1), length.to(torch.int16).unsqueeze(1))
        hunger = (state.hunger + 1).masked_fill_(eats, 0)
        fruit = self._next_fruit(lifetime, eats, state.fruit, rng)
        numbers = torch.stack((head, heading, fruit, length, hunger))
        terminated = (numbers[3:] >= self.ends).any(0).logical_or_(died)
        return SnakeState(lifetime, *numbers), eats.float(), terminated

    @property
    def on_host(self) -> bool:
        """True where calls cost less than numbers, and finding rows waits for nothing."""
        return self.device.type == "cpu"

    def _next_fruit(self, lifetime: Tensor, eats: Tensor, fruit: Tensor, rng: Rng) -> Tensor:
        """The fruits' cells after a step that ate some of them, int64 [N]."""
        if not self.on_host:  # finding the rows would synchronise
            return torch.where(eats, rng.choice(lifetime == 0), fruit)
        return host_call(_new_fruit, lifetime, eats, fruit, rng.episode_key, rng.step)

    def observe(self, state: SnakeState) -> Tensor:
        n, k = len(state.lifetime), self.seen_cells
        lifetime, cells = state.lifetime, self.shown[:1]
        if k > self.cells:  # the cells around it lie behind the board's, where no fruit is
            lifetime = torch.nn.functional.pad(lifetime, (0, 2))
        if self.actions == "relative":
            cells = self.shown.index_select(0, state.heading)
        if self.actions == "relative" or k > self.cells:
            lifetime = lifetime.gather(1, cells.expand(n, k))  # several times as fast as indexing
        planes = torch.empty((n, math.prod(self.observation_shape)), device=self.device)  # [N, 4 K + 1] or [N, 5 K]
        torch.div(lifetime, k, out=planes[:, :k])
        torch.gt(planes[:, :k], 1.5 / k, out=planes[:, k : 2 * k])  # a lifetime above 1
        if k > self.cells:
            planes[:, k : 2 * k].masked_fill_(cells > self.cells, 1.0)
        self._mark(planes[:, 2 * k :], cells, state)
        hunger = planes[:, 4 * k :]
        torch.div(state.hunger.unsqueeze(1).expand_as(hunger), self.hunger_limit, out=hunger)
        return planes.view(n, *self.observation_shape)

    def _mark(self, planes: Tensor, cells: Tensor, state: SnakeState) -> None:
        """Fill in the planes of head and fruit, the first 2 V columns; ``cells`` [N or 1, V] is the board's at each."""
        k, marked = self.seen_cells, (state.head, state.fruit)
        if not self.on_host:  # two calls
            for i, cell in enumerate(marked):
                torch.eq(cells, cell.unsqueeze(1), out=planes[:, i * k : (i + 1) * k])
            return
        places = torch.stack(marked, 1)
        if self.actions == "relative":
            places = self.place[state.heading.unsqueeze(1), places]
        elif k > self.cells:
            places = self.place[0, places]
        planes[:, : 2 * k].zero_()
        planes.scatter_(1, places + self.plane, 1.0)  # no fruit marks the column behind, which is hunger's

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
        from palaestra.envs.rendering.snake_board import draw_board

        draw_board(canvas, state, self.size, 1.0 - int(state.hunger) / self.hunger_limit)

    def stresses(self) -> dict[str, dict[str, Any]]:
        """Other boards, for agents that can read them, actions that stick, and sight that is late or wrong."""
        most, near = self.frame or 180, (self.size - 2, self.size + 2)
        sizes = {f"size_{size}": {"size": size} for size in near if 4 <= size <= most}
        sticky = {f"sticky_actions_{share}_percent": {"sticky_actions": share / 100} for share in (5, 25)}
        late, wrong = {"delayed_observation": 1}, {"observation_noise": 0.02}
        return {**sizes, **sticky, "delay_1_step": late, "noise_2_percent": wrong}

    def symmetries(self) -> list[Symmetry]:
        """A mirror; where the board is not turned with the snake also a quarter turn, which makes eight in all."""
        board = torch.arange(self.cells).view(self.size, self.size)
        mirror = self._moved("mirror", board.flip(1), (UP, LEFT, DOWN, RIGHT))
        if self.actions == "relative":
            return [mirror]
        return [self._moved("quarter turn", board.rot90(), (LEFT, UP, RIGHT, DOWN)), mirror]

    def _moved(self, name: str, board: Tensor, sides: tuple[int, ...]) -> Symmetry:
        """A symmetry: the cells of ``board`` tell whose contents they get, the sides which ones they become."""
        source, side = board.flatten(), torch.tensor(sides)
        image = torch.nn.functional.pad(source.argsort(), (0, 1), value=self.cells)  # no cell stays none

        def state(before: SnakeState) -> SnakeState:
            device = before.head.device
            lifetime = before.lifetime.index_select(1, source.to(device))
            head, fruit = (image.to(device)[cell] for cell in (before.head, before.fruit))
            return replace(before, lifetime=lifetime, head=head, fruit=fruit, heading=side.to(device)[before.heading])

        flat = self.observation == "flat"
        seen = SignedPermutation.of_planes(source.tolist(), 4 if flat else 5, behind=1 if flat else 0)
        turns = (2, 1, 0) if self.actions == "relative" else sides
        return Symmetry(name, state, seen, SignedPermutation.renumbering(turns))

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
        seen = self.seen_cells
        planes = (Quantity(name, count=seen) for name in ("collision", "head", "fruit"))
        hunger = Quantity("hunger", "step", float(self.hunger_limit), count=1 if self.observation == "flat" else seen)
        return (Quantity("lifetime", "step", float(seen), count=seen), *planes, hunger)

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


def _new_fruit(lifetime: Tensor, eats: Tensor, fruit: Tensor, episode_key: Tensor, step: Tensor | int) -> Tensor:
    """The fruits' cells, int64 [N]: a free cell where one was eaten."""
    rows, result = np.flatnonzero(eats.numpy()), fruit.clone()
    result.numpy()[rows] = chosen(lifetime.numpy().take(rows, 0) == 0, rows, episode_key, step, 0)
    return result


def _neighbours(size: int) -> Tensor:
    """The cell up, right, down and left of each cell, int64 [size² · 4]; WALL outside the board."""
    board = torch.full((size + 2, size + 2), WALL)
    board[1:-1, 1:-1] = torch.arange(size * size).view(size, size)
    sides = (board[:-2, 1:-1], board[1:-1, 2:], board[2:, 1:-1], board[1:-1, :-2])
    return torch.stack([side.flatten() for side in sides], 1).flatten()


def _moves(neighbour: Tensor, actions: str) -> Tensor:
    """What a move leads to by cell, heading and action, int64 [K, 4, A, 3]: the cell, the new heading, and up to which
    lifetime of the cell it is no collision. A wall is a cell of its own where every lifetime is one: the snake's."""
    heading, action = torch.arange(4).unsqueeze(1), torch.arange(3 if actions == "relative" else 4)
    after = (heading + action - 1) & 3 if actions == "relative" else action.expand(4, 4)
    cells = neighbour.view(-1, 4)[:, after]  # [K, 4, A]
    here = torch.arange(len(cells)).view(-1, 1, 1)
    wall = cells == WALL
    return torch.stack((torch.where(wall, here, cells), after.expand_as(cells), (~wall).long()), 3)


def _turned(size: int) -> Tensor:
    """The board's cell at each place of a board turned so that each heading points up, int64 [4, K]."""
    board = torch.arange(size * size).view(size, size)
    return torch.stack([torch.rot90(board, heading).flatten() for heading in range(4)])


def _framed(turned: Tensor, size: int, frame: int) -> Tensor:
    """The same in the middle of a larger board, int64 [4, frame²]; K + 1 around it."""
    around = (frame - size) // 2
    boards = torch.nn.functional.pad(turned.view(4, size, size), (around,) * 4, value=size * size + 1)
    return boards.flatten(1)


def _hamiltonian_cycle(size: int) -> Tensor:
    """Position of each cell along a closed tour: back and forth over the rows, returning by the first column."""
    tour = []
    for row in range(size):
        tour += [row * size + column for column in range(1, size)[:: -1 if row % 2 else 1]]
    tour += [row * size for row in reversed(range(size))]
    return torch.tensor(tour).argsort()
