"""All random bits of a step and of the resets behind it, mixed in one call: a pipeline over the tree of keys.

A draw lies three or four mixings deep (environment → episode → step → draw → number), each of which needs the one
before. On a GPU a call costs the same for few numbers as for many, so the levels are taken in turn for different
episodes: while the draws of episode e + 1 lie ready, the keys for those of e + 2 are one level behind, those of e + 3
two, and one call of :func:`mix` on all of them takes each a level further where an episode ended. The draws of
coming steps follow in the same way in every step; where an episode ended they are replaced by those of the next
episode's first step, which lie ready too.

Registers, int64 [N] each:

1. ``row(path, k)``, of episode e + k, is the key reached from the episode's key by the offsets ``path``, in γ: (1,) is
   the key of the reset, (1, 2) its second draw, (1, 2, 3) the third number of that. Its successor, of episode
   e + k + 1, is the mixed ``row(path[:-1], k + 1)``; that of ``row((), k)`` is the mixed counter.
2. A running row is the same of the running episode, at an offset that grows by γ in each step.
3. The counter is the environment's key + (e + 2) γ.

All of it is a function of (environment, episode, step), so nothing is saved with a run.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from palaestra.envs.core.draws.splitmix import GAMMA, child_key, mix, multiple
from palaestra.envs.core.rng import Request, Rng

_MOST = 256  # numbers of a step and a reset
Path = tuple[int, ...]  # multiples of γ


def fits(reset_plan: Sequence[Request], step_plan: Sequence[Request]) -> bool:
    """True if so many draws are better mixed together."""
    numbers: int = sum(math.prod(request[1]) for request in (*reset_plan, *step_plan))
    return numbers <= _MOST


@dataclass(frozen=True)
class _Layout:
    """Which register comes from which; indices are those of the registers, of which the counter is the first."""

    source: Tensor  # int64 [rows] the register that each comes from
    offset: Tensor  # int64 [rows, 1] what is added before mixing
    growing: int  # of the first rows grow by γ in each step
    running: int  # of the first rows are the running episode's; as many after them are the next episode's first
    key: int  # the running episode's key
    next_key: int  # the next episode's
    reset_places: list[int]  # first register of each draw of a reset
    step_places: list[int]
    meaning: list[tuple[Path, int]]  # of each register but the counter, in their order


@dataclass(frozen=True)
class Pipeline:
    """The registers before a step of N environments."""

    reset_plan: list[Request]
    step_plan: list[Request]
    layout: _Layout
    registers: Tensor  # int64 [1 + rows, N]

    @property
    def episode_keys(self) -> Tensor:
        """Keys of the running episodes, int64 [N]."""
        return self.registers[self.layout.key]

    def step_rng(self, length: Tensor) -> Rng:
        """The random numbers of the coming step, the ``length``-th of each episode [N]."""
        return Rng(self.episode_keys, length, _Ready(self.step_plan, self.layout.step_places, self.registers))

    def reset_rng(self) -> Rng:
        """Those of the resets into the next episodes."""
        ready = _Ready(self.reset_plan, self.layout.reset_places, self.registers)
        return Rng(self.registers[self.layout.next_key], 0, ready)

    def makes(self, reset_plan: Sequence[Request], step_plan: Sequence[Request]) -> bool:
        """True if these are the draws that it makes ahead."""
        return self.reset_plan == reset_plan and self.step_plan == step_plan

    def after(self, done: Tensor, length: Tensor) -> Pipeline:
        """The registers after a step.

        Args:
            done: bool [N], where an episode ended.
            length: int64 [N], steps of each episode, the latest included.
        """
        old, layout = self.registers, self.layout
        mixed = old.index_select(0, layout.source).add_(layout.offset)
        if layout.growing:
            mixed[: layout.growing].add_(length, alpha=GAMMA)
        mixed = mix(mixed)
        new, n = torch.empty_like(old), layout.running
        torch.add(old[0], done, alpha=GAMMA, out=new[0])
        torch.where(done, mixed[n:], old[1 + n :], out=new[1 + n :])
        if n:
            torch.where(done, old[1 + n : 1 + 2 * n], mixed[:n], out=new[1 : 1 + n])
        return replace(self, registers=new)


class _Ready:
    """Draws that lie ready in registers."""

    def __init__(self, plan: list[Request], places: list[int], registers: Tensor) -> None:
        self._plan, self._places, self._registers = plan, places, registers

    def get(self, draw: int, request: Request) -> Tensor | None:
        if request[0] != "bits" or draw >= len(self._plan) or self._plan[draw][1] != request[1]:
            return None
        shape, place = request[1], self._places[draw]
        if not shape:
            return self._registers[place]
        numbers = self._registers[place : place + math.prod(shape)]
        return numbers.view(*shape, -1).movedim(-1, 0)


class _Rows:
    """Gives each register its place, and notes where its successor comes from."""

    def __init__(self) -> None:
        self.places: dict[tuple[Path, int], int] = {}
        self.source: dict[int, int] = {}
        self.offset: dict[int, int] = {}
        self.free = 1

    def row(self, path: Path, ahead: int, place: int | None = None) -> int:
        """The place of a register, which is made if there is none."""
        if (path, ahead) not in self.places:
            source = self.row(path[:-1], ahead + 1) if path else 0
            if place is None:  # after its source, so that the numbers of a draw lie side by side
                place, self.free = self.free, self.free + 1
            self.places[path, ahead], self.source[place] = place, source
            self.offset[place] = path[-1] if path else ahead
        return self.places[path, ahead]


def _paths(plan: Sequence[Request]) -> list[list[Path]]:
    """Below the key of its step, the paths of each draw's numbers."""
    return [
        [(draw, lane) for lane in range(1, math.prod(request[1]) + 1)] if request[1] else [(draw,)]
        for draw, request in enumerate(plan, 1)
    ]


def _layout(reset_plan: Sequence[Request], step_plan: Sequence[Request], device: torch.device) -> _Layout:
    rows, draws = _Rows(), _paths(step_plan)
    depths = {len(path) for paths in draws for path in paths}
    # registers of the running episode, by the path below its step and by how many steps they are ahead of the draws
    keys = [((), depth) for depth in sorted(depths)]
    middle = sorted({(path[:1], 1) for paths in draws for path in paths if len(path) == 2})
    running: list[tuple[Path, int]] = [*keys, *middle, *((path, 0) for paths in draws for path in paths)]
    n = len(running)
    place = {entry: 1 + i for i, entry in enumerate(running)}
    rows.free = 1 + 2 * n
    for path, ahead in running:  # the next episode's, as they are before its first step: key of step s at (s + 1) γ
        rows.row((2 + ahead, *path), 1, 1 + n + place[path, ahead] - 1)
    key, next_key = rows.row((), 0), rows.row((), 1)
    for path, ahead in running:
        here = place[path, ahead]
        if path:
            rows.source[here], rows.offset[here] = place[path[:-1], ahead + 1], path[-1]
        else:
            rows.source[here], rows.offset[here] = key, 2 + ahead  # and γ times the steps so far
    reset_places = [min(rows.row((1, *path), 1) for path in paths) for paths in _paths(reset_plan)]
    step_places = [place[paths[0], 0] for paths in draws]
    order = range(1, rows.free)
    return _Layout(
        source=torch.tensor([rows.source[i] for i in order], device=device),
        offset=torch.tensor([[multiple(rows.offset[i])] for i in order], device=device),
        growing=len(keys),
        running=n,
        key=key,
        next_key=next_key,
        reset_places=reset_places,
        step_places=step_places,
        meaning=[*running, *sorted(rows.places, key=rows.places.__getitem__)],
    )


def start(
    reset_plan: Sequence[Request], step_plan: Sequence[Request], env_keys: Tensor, episode: Tensor, length: Tensor
) -> Pipeline:
    """The registers before the next step of any episodes.

    Args:
        reset_plan, step_plan: the draws of a reset and of a step, in their order.
        env_keys: int64 [N].
        episode: int64 [N], the running ones.
        length: int64 [N], steps of each so far.
    """
    layout = _layout(reset_plan, step_plan, env_keys.device)
    registers = [env_keys + (episode + 2) * GAMMA]
    for place, (path, ahead) in enumerate(layout.meaning):
        if place < layout.running:
            key = child_key(child_key(env_keys, episode), length + 1 + ahead)
        else:
            key = child_key(env_keys, episode + ahead)
        for number in path:
            key = mix(key + multiple(number))
        registers.append(key)
    return Pipeline(list(reset_plan), list(step_plan), layout, torch.stack(registers))
