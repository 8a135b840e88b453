"""Steps of a batch on the CPU: the first few as they are, some that are recorded too, the others replayed.

1. The batch's own step up to the ends of episodes is recorded (:mod:`~palaestra.envs.core.replay.recorded_step`), and
   it is replayed only if two recordings have the same operations and constants, and a replay gives what the step gave:
   rules that decide by looking at numbers, count in Python, or draw elsewhere, run as they are for ever.
2. Finished rows get their first states from a stock where that is small
   (:mod:`~palaestra.envs.core.replay.first_states`), else from the rules.
3. While steps are replayed the running episodes lie in memory of their own. The batch has no attributes that hold them;
   whoever asks for one gets a copy, which is taken in again before the next step.
4. What cannot be replayed (actions that are not in the space, or need a gradient; rules of which an attribute was
   changed; an error) is a step as it is.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from palaestra.envs.core.batched_env import StepResult
from palaestra.envs.core.replay.running_replay import KEPT, RunningReplay
from palaestra.envs.core.replay.step_recorder import StepRecorder

_STEPS_BEFORE = 8


class ReplayedSteps:
    """The steps of one batch; see the module.

    Attributes:
        why_not: why steps are made as they are; None if they are replayed, or may yet be.
        recorder: what records them.
    """

    def __init__(self, batch: Any) -> None:
        self._batch = batch
        self._calls = 0
        self.recorder = StepRecorder(batch)
        self.replay: RunningReplay | None = None

    @property
    def why_not(self) -> str | None:
        return self.recorder.why_not

    def forget(self) -> None:
        """Drop what was made ahead: other episodes begin."""
        if self.replay is not None:
            self.replay.forget()

    def step(self, actions: Tensor) -> StepResult | None:
        """A step of the batch, replayed or recorded; None if it is to be made as it is."""
        if torch._C._len_torch_dispatch_stack():  # somebody looks at the operations
            self.give_all()
            return None
        replay = self.replay
        if replay is not None:
            result = replay.step(actions)
            if result is None:
                self.give_all()  # which is taken in before the next step
            return result
        if self.recorder.why_not is not None:
            return None
        self._calls += 1
        if self._calls <= _STEPS_BEFORE or not self._can_be_recorded(actions):
            return None
        result = self.recorder.step(actions)
        if self.recorder.recorded is not None:
            self.replay = RunningReplay(self._batch, self.recorder)
        return result

    def _can_be_recorded(self, actions: Any) -> bool:
        fits = type(actions) is Tensor and not actions.requires_grad and actions.dtype == self._batch.action_dtype
        return fits and self._batch.accepts(actions)

    def give(self, name: str) -> Any:
        """What an attribute of the batch holds that steps are replayed of."""
        if self.replay is None:
            raise AttributeError(name)
        return self.replay.give(name)

    def give_all(self) -> None:
        """Let the batch have all its attributes."""
        if self.replay is not None:
            self.replay.forget()  # resets of steps as they are, which are not told here
            for name in KEPT:
                if name not in vars(self._batch):
                    self.replay.give(name)
