"""A workload that learns: whole iterations of an algorithm, their parts timed and their work counted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from palaestra.train.bench.interleaved import COLLECTION, UPDATE, WHOLE, Clock, Sample


class Iterations:
    """Calls ``iterate`` for as long as it is told to.

    Args:
        iterate: collects and learns once.
        env_steps: how many steps of single environments were made so far.
        clock: s, after all work so far is done.
        set_epochs: changes the number of passes over a rollout; None where the algorithm has no such number.
    """

    def __init__(
        self,
        iterate: Callable[[], object],
        env_steps: Callable[[], int],
        clock: Clock,
        set_epochs: Callable[[int], None] | None = None,
    ) -> None:
        self._iterate, self._env_steps, self._clock, self.set_epochs = iterate, env_steps, clock, set_epochs
        self._update_seconds = 0.0
        self._gradient_steps = 0  # since count_gradient_steps was called

    def time_update(self, owner: Any, name: str) -> None:
        """Time a method of one object as the update; collection is all else."""
        method = getattr(owner, name)

        def timed(*args: Any, **kwargs: Any) -> Any:
            start = self._clock()
            result = method(*args, **kwargs)
            self._update_seconds += self._clock() - start
            return result

        setattr(owner, name, timed)

    def count_gradient_steps(self, owner: Any, name: str = "step") -> None:
        """Every call of that method (an optimizer's) is a gradient step."""
        method = getattr(owner, name)

        def counted(*args: Any, **kwargs: Any) -> Any:
            self._gradient_steps += 1
            return method(*args, **kwargs)

        setattr(owner, name, counted)

    def __call__(self, seconds: float) -> Sample:
        self._update_seconds = 0.0
        steps, updates = self._env_steps(), self._gradient_steps
        start = now = self._clock()
        while self._env_steps() == steps or now - start < seconds:
            self._iterate()
            now = self._clock()
        parts = {WHOLE: now - start, COLLECTION: now - start - self._update_seconds, UPDATE: self._update_seconds}
        return Sample(self._env_steps() - steps, parts, self._gradient_steps - updates)
