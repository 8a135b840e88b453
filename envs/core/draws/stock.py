"""A stock of what the next resets draw: made for all environments and several episodes at once, taken row by row.

Where only finished rows are reset, each reset draws for few rows, and calls cost more than numbers. What a reset draws
is a function of the environment's key and the episode, so the next :data:`EPISODES` of every row are made together.
Episode e of row i lies at (e mod :data:`EPISODES`) · N + i.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from palaestra.envs.core.batching.constants import ONE
from palaestra.envs.core.draws.splitmix import child_key
from palaestra.envs.core.rng import Request, Rng

EPISODES = 8  # a power of two
_MOST = 1 << 21  # numbers in stock


def fits(plan: Sequence[Request], num_envs: int) -> bool:
    """True if a stock of these draws is small enough to be kept."""
    numbers = sum(math.prod(request[1]) for request in plan)
    return 0 < numbers * EPISODES * num_envs <= _MOST


def _next_episodes(running: Tensor) -> Tensor:
    """The :data:`EPISODES` after those that run [N], each at its place, int64 [EPISODES, N]."""
    place, after = torch.arange(EPISODES, device=running.device).unsqueeze(1), running + 1
    return after + ((place - after) & (EPISODES - 1))


class ResetStock:
    """The draws of every environment's next episodes."""

    def __init__(self, env_keys: Tensor, episode: Tensor, plan: Sequence[Request]) -> None:
        """Make the stock.

        Args:
            env_keys: int64 [N].
            episode: int64 [N], the running ones; those after them are made.
            plan: the draws of a reset, in their order.
        """
        self.plan, self.served = list(plan), 0  # rows taken so far
        self._num_envs, self._start = len(env_keys), episode
        self._sure = EPISODES - 1  # resets after this one until a row may have used up its share
        with torch.inference_mode(False), torch.no_grad():  # as the first caller's mode must not stay in the numbers
            episodes = _next_episodes(episode)
            self._keys = child_key(env_keys.expand_as(episodes), episodes).view(-1)
            rng = Rng(self._keys, 0)
            self._drawn = [rng.repeat(request) for request in self.plan]  # [EPISODES · N, *shape] each

    def lasts(self, episode: Tensor) -> bool:
        """True if the next reset of any row is in stock; ``episode`` int64 [N] are the running ones."""
        if not self._sure:
            self._sure = EPISODES - int((episode - self._start).max())
        if not self._sure:
            return False
        self._sure -= 1
        return True

    def take(self, rows: Tensor, episode: Tensor) -> Rng:
        """The random numbers of these rows' resets; ``episode`` int64 [n] are those that begin."""
        self.served += len(rows)
        place = torch.add(rows, episode & (EPISODES - 1), alpha=self._num_envs)
        return Rng(self._keys.index_select(0, place), 0, _Taken(self.plan, self._drawn, place))


class _Taken:
    """Some rows of the stock."""

    def __init__(self, plan: list[Request], drawn: list[Tensor], place: Tensor) -> None:
        self._plan, self._drawn, self._place = plan, drawn, place

    def get(self, draw: int, request: Request) -> Tensor | None:
        if draw >= len(self._plan) or self._plan[draw] != request:
            return None
        return self._drawn[draw].index_select(0, self._place)


class ResetDraws:
    """The random numbers of resets of some rows: from a stock where that pays, else as they are asked for."""

    def __init__(self, env_keys: Tensor) -> None:
        self._env_keys = env_keys
        self._stock: ResetStock | None = None
        self._wait = 0  # rows to reset without a stock, after one that was used up by few rows

    def rng(self, rows: Tensor, running: Tensor, plan: Sequence[Request]) -> tuple[Tensor, Rng]:
        """The episodes [n] that begin in these rows [n], and their random numbers.

        Args:
            rows: int64 [n].
            running: int64 [N], the episode of every row that runs or ends now.
            plan: the draws of the latest reset.
        """
        episode = running.index_select(0, rows).add_(ONE)
        stock = self._stock
        if stock is not None and (stock.plan != plan or not stock.lasts(running)):
            self._wait = 0 if stock.served >= len(running) else len(running)
            stock = None
        if stock is None and self._wait <= 0 and fits(plan, len(running)):
            stock = ResetStock(self._env_keys, running, plan)
        self._stock = stock
        if stock is not None:
            return episode, stock.take(rows, episode)
        self._wait -= len(rows)
        return episode, Rng(child_key(self._env_keys.index_select(0, rows), episode), 0)
