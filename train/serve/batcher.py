"""Requests that wait at the same time, answered by one run of the policy.

All requests that one turn of the event loop has read are joined into one batch, which waits for no clock: a request
alone is answered at once. A policy's actions do not depend on the batch that they are computed in.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import numpy as np

from palaestra.envs.core.reference import Array
from palaestra.train.export.policy_file import PolicyFile

MOST_TOGETHER = 1024  # observations in one run


class Batcher:
    """Runs one policy for many requests, in the event loop's thread."""

    def __init__(self, policy: PolicyFile, ran: Callable[[], None]) -> None:
        """
        Args:
            policy: that runs.
            ran: called after each run.
        """
        self.policy, self._ran = policy, ran
        self._waiting: list[tuple[dict[str, Array], asyncio.Future[dict[str, Array]]]] = []

    async def act(self, feed: dict[str, Array]) -> dict[str, Array]:
        """The outputs for a request's observations [B, …] by input."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[dict[str, Array]] = loop.create_future()
        if not self._waiting:
            loop.call_soon(self._flush)
        self._waiting.append((feed, answer))
        return await answer

    def _flush(self) -> None:
        """Answer all that wait; a policy that fails fails these requests, and none else."""
        waiting, self._waiting = self._waiting, []
        while waiting:
            together, rows = [waiting.pop(0)], 0
            rows = _rows(together[0][0])
            while waiting and rows + _rows(waiting[0][0]) <= MOST_TOGETHER:
                rows += _rows(waiting[0][0])
                together.append(waiting.pop(0))
            feeds = [feed for feed, _ in together]
            joined = feeds[0] if len(feeds) == 1 else {k: np.concatenate([f[k] for f in feeds]) for k in feeds[0]}
            try:
                outputs = self.policy(joined)
            except Exception as error:
                for _, answer in together:
                    if not answer.done():
                        answer.set_exception(error)
                continue
            self._ran()
            start = 0
            for feed, answer in together:
                end = start + _rows(feed)
                if not answer.done():  # its client may have gone
                    answer.set_result({name: values[start:end] for name, values in outputs.items()})
                start = end


def _rows(feed: dict[str, Array]) -> int:
    return len(next(iter(feed.values())))
