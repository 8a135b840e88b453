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
    ``flat``: [3 · size² + 5] — for each cell the remaining lifetime of the body (steps until the tail leaves it, over
    size²); the head, one-hot; the fruit, one-hot; the heading, one-hot (up, right, down, left); hunger (steps since the
    last fruit over the limit). ``grid``: [8, size, size] — the same eight as planes. Lifetimes carry the order of the
    body and hunger the time limit, so the observation is Markov.

Experts
    Following a Hamiltonian cycle fills every board; cutting corners of it while the order head–tail along the cycle is
    kept fills it sooner (the ``expert``).

The state holds one integer per cell, the remaining lifetime (head = length, minus one per step, tail = 1): there is no
queue of segments, so a step is a handful of tensor operations.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from gymnasium.spaces import Box, Discrete
from torch import Tensor

from palaestra.envs.core import Reference, TensorEnv

if TYPE_CHECKING:
    from palaestra.envs.rng import Rng

UP, RIGHT, DOWN, LEFT = range(4)
WALL = -1

# Mean fruits eaten over 1,000 episodes by size: uniform random actions, and the greedy rule (the legal move that
# brings the head nearest to the fruit).
_RANDOM = {4: 0.207, 6: 0.135, 8: 0.157, 10: 0.098, 12: 0.085}
_GREEDY = {4: 10.47, 6: 14.96, 8: 18.54, 10: 21.93, 12: 25.07}


@dataclass(frozen=True)
class SnakeState:
    """N boards of K = size² cells, numbered row by row from the top left."""

    lifetime: Tensor  # int16 [N, K] steps until the body leaves the cell: 0 free, 1 tail, length at the head
    head: Tensor  # int64 [N] cell
    heading: Tensor  # int64 [N] UP, RIGHT, DOWN or LEFT
    fruit: Tensor  # int64 [N] cell; K on a full board
    length: Tensor  # int64 [N] cells covered
    hunger: Tensor  # int64 [N] steps since the last fruit


class Snake(TensorEnv[SnakeState]):
    """Snake on an even square board; see the module for the rules."""

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
        self.cells = size * size
        self.hunger_limit = 4 * self.cells
        self.observation_space = Box(0.0, 1.0, (3 * self.cells + 5,) if observation == "flat" else (8, size, size))
        self.action_space = Discrete(3 if actions == "relative" else 4)
        self.neighbour = _neighbours(size)  # int64 [K · 4] cell on each side, or WALL
        self.cycle = _hamiltonian_cycle(size)  # int64 [K] position of each cell along the cycle

    def reset(self, rng: Rng) -> SnakeState:
        head = rng.integers(0, self.cells)
        heading = rng.integers(0, 4)
        fruit = rng.integers(0, self.cells - 1)
        one = torch.ones_like(head)
        lifetime = torch.zeros(len(head), self.cells, dtype=torch.int16, device=self.device)
        return SnakeState(
            lifetime=lifetime.scatter_(1, head.unsqueeze(1), 1),
            head=head,
            heading=heading,
            fruit=fruit + (fruit >= head),  # uniform over the other cells
            length=one,
            hunger=torch.zeros_like(head),
        )

    def step(self, state: SnakeState, action: Tensor, rng: Rng) -> tuple[SnakeState, Tensor, Tensor]:
        heading = (state.heading + action - 1) & 3 if self.actions == "relative" else action
        target = self.neighbour[state.head * 4 + heading]
        wall = target == WALL
        ahead = state.lifetime.gather(1, target.clamp(min=0).unsqueeze(1)).squeeze(1)
        died = wall | (ahead > 1)  # a lifetime of 1 is the tail, which moves away
        eats = target == state.fruit
        head = torch.where(died, state.head, target)  # a dead snake stays as it was, for the last observation
        length = state.length + eats
        ages = (~(died | eats)).to(torch.int16)
        lifetime = (state.lifetime - ages.unsqueeze(1)).clamp_(min=0)
        lifetime.scatter_(1, head.unsqueeze(1), length.to(torch.int16).unsqueeze(1))
        hunger = torch.where(eats, 0, state.hunger + 1)
        after = SnakeState(
            lifetime=lifetime,
            head=head,
            heading=heading,
            fruit=torch.where(eats, rng.choice(lifetime == 0), state.fruit),
            length=length,
            hunger=hunger,
        )
        return after, eats.float(), died | (length == self.cells) | (hunger >= self.hunger_limit)

    def observe(self, state: SnakeState) -> Tensor:
        n, k = state.lifetime.shape
        hunger = state.hunger.float() / self.hunger_limit
        fruit = torch.where(state.fruit < k, state.fruit, state.head - k)  # a full board marks the head plane, already 1
        if self.observation == "flat":
            obs = torch.zeros(n, 3 * k + 5, device=self.device)
            obs[:, -1] = hunger
            marks = torch.stack((state.head + k, fruit + 2 * k, state.heading + 3 * k), 1)
        else:
            obs = torch.zeros(n, 8 * k, device=self.device)
            obs[:, 7 * k :] = hunger.unsqueeze(1)
            obs[:, 3 * k : 7 * k].view(n, 4, k).scatter_(1, state.heading.view(n, 1, 1).expand(n, 1, k), 1.0)
            marks = torch.stack((state.head + k, fruit + 2 * k), 1)
        torch.div(state.lifetime, k, out=obs[:, :k])
        obs.scatter_(1, marks, 1.0)
        return obs if self.observation == "flat" else obs.view(n, 8, self.size, self.size)

    def success(self, state: SnakeState) -> Tensor:
        return state.length == self.cells

    def expert(self, state: SnakeState) -> Tensor:
        """The Hamiltonian cycle with shortcuts: the move furthest along it that passes neither fruit nor tail.

        The body then always lies in cycle order between tail and head, so the next cell of the cycle stays free.
        """
        ahead = self._along_cycle(state)
        position = self.cycle[state.head]
        tail = self.cycle[(state.lifetime == 1).to(torch.uint8).argmax(1)]
        to_tail = (tail - position - 1) % self.cells + 1  # 1 … K: a snake of length 1 has all the board before it
        to_fruit = (self.cycle[state.fruit.clamp(max=self.cells - 1)] - position) % self.cells
        safe = ahead <= torch.minimum(to_tail, to_fruit).unsqueeze(1)
        return self._best_move(state, torch.where(safe, ahead, -ahead))

    @property
    def reference(self) -> Reference:
        return Reference(
            optimum=float(self.cells - 1),
            random=_RANDOM.get(self.size),
            heuristic=_GREEDY.get(self.size),
            solved_at=float(self.cells - 1) * 0.97,
            source="optimum: the full board, which the expert always reaches; heuristic: greedy towards the fruit",
        )

    @property
    def keys_to_action(self) -> dict[str, int]:
        """Arrow keys; with relative actions left and right turn, and no key goes straight on."""
        if self.actions == "relative":
            return {"left": 0, "up": 1, "right": 2}
        return {"up": UP, "right": RIGHT, "down": DOWN, "left": LEFT}

    def cycle_action(self, state: SnakeState) -> Tensor:
        """The next cell of the Hamiltonian cycle: fills the board in about (K − 1)(K + 2) / 4 steps."""
        return self._best_move(state, -self._along_cycle(state))

    def _along_cycle(self, state: SnakeState) -> Tensor:
        """How far along the cycle each neighbour lies, int64 [N, 4] from 1 to K − 1; K for a wall."""
        cells = self.neighbour.view(-1, 4)[state.head]
        ahead = (self.cycle[cells.clamp(min=0)] - self.cycle[state.head].unsqueeze(1)) % self.cells
        return torch.where(cells == WALL, self.cells, ahead)

    def _best_move(self, state: SnakeState, score: Tensor) -> Tensor:
        """The action of the direction with the highest score [N, 4]; relative actions cannot turn back."""
        if self.actions == "absolute":
            return score.argmax(1)
        back = (state.heading + 2) & 3
        direction = score.scatter(1, back.unsqueeze(1), torch.iinfo(torch.int64).min).argmax(1)
        return (direction - state.heading + 1) & 3


def _neighbours(size: int) -> Tensor:
    """The cell up, right, down and left of each cell, int64 [size² · 4]; WALL outside the board."""
    board = torch.full((size + 2, size + 2), WALL)
    board[1:-1, 1:-1] = torch.arange(size * size).view(size, size)
    sides = (board[:-2, 1:-1], board[1:-1, 2:], board[2:, 1:-1], board[1:-1, :-2])
    return torch.stack([side.flatten() for side in sides], 1).flatten()


def _hamiltonian_cycle(size: int) -> Tensor:
    """Position of each cell along a closed tour of the board: back and forth over the rows, home by the first column."""
    tour = []
    for row in range(size):
        columns = range(1, size)
        tour += [row * size + column for column in (reversed(columns) if row % 2 else columns)]
    tour += [row * size for row in reversed(range(size))]
    position = torch.empty(size * size, dtype=torch.int64)
    position[torch.tensor(tour)] = torch.arange(size * size)
    return position
