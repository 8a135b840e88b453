"""A stock of first states: the next episodes of every environment, begun in one call, taken row by row.

A reset is a function of the environment and the episode, so what it gives can be made ahead: states, observations and
keys of the next :data:`EPISODES` of every row. Episode e of row i lies at (e mod :data:`EPISODES`) · N + i.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from palaestra.envs.core.batching.records import state_fields
from palaestra.envs.core.draws.splitmix import child_key
from palaestra.envs.core.draws.stock import EPISODES, next_episodes
from palaestra.envs.core.reference import Array
from palaestra.envs.core.replay.fields import Fields
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

    def __init__(self, env: Any, env_keys: Tensor, episode: Array, fields: Fields) -> None:
        """Make them.

        Args:
            env: the rules.
            env_keys: int64 [N].
            episode: int64 [N], the running ones; those after them are begun.
            fields: the states' into which they will be put.
        """
        n = len(env_keys)
        self._num_envs, self.served = n, 0  # rows taken so far
        with _in_one_thread(), torch.inference_mode(False), torch.no_grad():
            episodes = next_episodes(torch.from_numpy(episode))
            keys = child_key(env_keys.expand_as(episodes), episodes).view(-1)
            state = env.reset(Rng(keys, 0))
            self.observations: Array = env.observe(state).contiguous().numpy()
        self.keys: Array = keys.numpy()
        self._episodes: Array = episodes.numpy()
        self._fields = Fields({name: field.contiguous() for name, field in state_fields(state).items()}, fields.names)

    def take(self, rows: Array, episode: Array) -> tuple[list[Array], Array, Array] | None:
        """States, observations and keys of the episodes [n] that begin in these rows [n]; None if one is not there."""
        place = (episode & (EPISODES - 1)) * self._num_envs + rows
        if (self._episodes.take(place) != episode).any():
            return None
        self.served += len(rows)
        return self._fields.take(place), self.observations.take(place, 0), self.keys.take(place)
