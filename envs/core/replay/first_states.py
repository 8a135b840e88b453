"""A stock of first states: the next episodes of every environment, begun in one call, taken row by row.

A reset is a function of the environment and the episode, so what it gives can be made ahead: states, observations and
keys of the next :data:`EPISODES` of every row. The k-th of row i lies at k · N + i.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from palaestra.envs.core.batching.records import state_fields
from palaestra.envs.core.draws.splitmix import child_key
from palaestra.envs.core.draws.stock import EPISODES
from palaestra.envs.core.reference import Array
from palaestra.envs.core.replay.fields import Fields, as_rows
from palaestra.envs.core.rng import Rng

_MOST = 1 << 24  # bytes in stock


def fits(nbytes: int) -> bool:
    """True if a stock of states and observations of all environments, of so many bytes, is small enough."""
    return nbytes * EPISODES <= _MOST


@contextmanager
def _in_one_thread() -> Iterator[None]:
    """A block that PyTorch computes with one thread: beside other work, waking another costs more than it gives."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class FirstStates:
    """The first states of every environment's next episodes."""

    def __init__(self, env: Any, env_keys: Tensor, episode: Array, fields: Fields, row_kind: Any) -> None:
        """Make them.

        Args:
            env: the rules.
            env_keys: int64 [N].
            episode: int64 [N], the running ones; those after them are begun.
            fields: the states' into which they will be put.
            row_kind: of the observations, see :func:`.fields.as_rows`.
        """
        n = len(env_keys)
        self._num_envs, self.served = n, 0  # rows taken so far
        self._next = np.arange(n)  # place of each row's next episode
        with _in_one_thread(), torch.inference_mode(False), torch.no_grad():
            episodes = torch.from_numpy(episode) + torch.arange(1, EPISODES + 1).unsqueeze(1)
            keys = child_key(env_keys.expand_as(episodes), episodes).view(-1)
            state = env.reset(Rng(keys, 0))
            self.observations = as_rows(env.observe(state).contiguous().numpy(), row_kind)
        self.keys: Array = keys.numpy()
        self._episodes: Array = np.append(episodes.numpy(), np.full(n, -1))  # none where a row's are used up
        self._fields = Fields({name: field.contiguous() for name, field in state_fields(state).items()}, fields.names)

    def take(self, rows: Array, episode: Array) -> tuple[list[Array], Array, Array] | None:
        """States, observations and keys of the episodes [n] that begin in these rows [n]; None if one is not there."""
        place = self._next.take(rows)
        if self._episodes.take(place).tobytes() != episode.tobytes():  # a comparison of arrays takes four times as long
            return None
        self._next[rows] = place + self._num_envs
        self.served += len(rows)
        return self._fields.take(place), self.observations.take(place, 0), self.keys.take(place)
