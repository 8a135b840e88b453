"""The steps of a batch that are recorded, until two recordings are the same."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from operator import is_
from typing import Any, Protocol

import torch
from torch import Tensor

from palaestra.envs.core.batched_env import StepResult
from palaestra.envs.core.batching.records import map_state, state_fields
from palaestra.envs.core.env import rules_within
from palaestra.envs.core.reference import Array
from palaestra.envs.core.replay.outputs import Outputs
from palaestra.envs.core.replay.program import Program
from palaestra.envs.core.replay.recorded_step import COUNTERS, Lowering, RecordedStep, Running, Trace
from palaestra.envs.core.replay.recording import ReplayError, difference
from palaestra.envs.core.replay.step_info import information
from palaestra.envs.core.user_code import RAISED

_TRACES = 4  # at most
_METHODS = ("recorded_advance", "advance", "_step", "reset_finished", "successes", "_observe", "_call", "_check")


class Resets(Protocol):
    """What begins the next episodes of ended rows."""

    def begin(self, rows: Array, after: Running, outputs: Outputs) -> None:
        """Put states, observations and counters of their next episodes into these rows."""


class StepRecorder:
    """Records steps of one batch, which it makes as they are.

    Attributes:
        recorded: the replay, once there is one; the memory that it reads first is its ``sets[0]``.
        why_not: why there will be none.
        lowerings: ways to make a program of a recording; the first one that gives the step's bits is taken.
        not_lowered: why the first one was not.
        resets: makes what begins episodes in ended rows of the batch in one go; None where nothing does.
    """

    def __init__(self, batch: Any) -> None:
        self._batch = batch
        self.actions: Tensor | None = None  # where the recorded step reads them
        self.recorded: RecordedStep | None = None
        self.why_not: str | None = None
        self.lowerings: Sequence[Lowering] = (Program,)
        self.not_lowered: str | None = None
        self.resets: Callable[[Any, RecordedStep], Resets | None] | None = None
        self._traces: list[Trace] = []
        self._sets: list[Running] = []

    def step(self, actions: Tensor) -> StepResult | None:
        """A step as it is, which is recorded; None if it could not be, and nothing has changed."""
        batch = self._batch
        if _has_other_methods(batch):
            self.why_not = "its methods are replaced"
            return None
        before, rules = dict(vars(batch)), [(env, dict(vars(env))) for env in rules_within(batch.env)]
        sizes = _sizes(rules)
        try:
            with torch.inference_mode(False), torch.no_grad():
                found = self._traced_step(actions)
        except (*RAISED, ReplayError) as error:
            for owner, attributes in ((batch, before), *rules):
                for name in vars(owner).keys() - attributes.keys():
                    delattr(owner, name)
                vars(owner).update(attributes)
            self._give_up(error)
            return None
        try:
            with torch.inference_mode(False), torch.no_grad():
                same = all(holds(vars(env), [*attributes.values()]) for env, attributes in rules)
                if not same or sizes != _sizes(rules):
                    raise ReplayError("a step changes an attribute of the rules")
                self._compare()
        except (*RAISED, ReplayError) as error:
            self._give_up(error)
        return _finished(batch, found)

    def _give_up(self, error: BaseException) -> None:
        self.recorded, self._traces, self._sets = None, [], []
        self.why_not = str(error) or type(error).__name__

    def _traced_step(self, actions: Tensor) -> dict[str, Tensor]:
        """The results of a recorded step up to the ends of episodes."""
        batch, running = self._batch, self._running()
        if self.actions is None:
            self.actions = torch.empty_like(actions, memory_format=torch.contiguous_format)
        if self._sets:
            for name, tensor in running.items():
                self._sets[0].tensors[name].copy_(tensor)
            self._bind(self._sets[0].tensors)
        else:
            self._bind({name: tensor.clone() for name, tensor in running.items()})
        self.actions.copy_(actions)
        given = {tensor.untyped_storage()._cdata for tensor in (self.actions, *self._running().values())}
        self._traces.append(Trace(batch, self.actions))

        def apart(tensor: Tensor) -> Tensor:  # rules may return what they were given, which is written to again
            return tensor.clone() if tensor.untyped_storage()._cdata in given else tensor

        batch.final_state = map_state(apart, batch.final_state)
        self._bind({name: apart(tensor) for name, tensor in self._running().items()})
        return {name: apart(tensor) for name, tensor in self._traces[-1].found.items()}

    def _compare(self) -> None:
        """Build the replay if the latest recording is as the one before; else choose memory for the next one."""
        trace = self._traces[-1]
        before = self._traces[-2] if len(self._traces) > 1 else None
        change = difference(before.recording, trace.recording) if before is not None else "there is one recording"
        if not self._sets or trace.form != self._sets[0].form:
            change = "the state changes its form"
            self._sets = [Running(trace) for _ in range(2)]
        if change is None:
            self.recorded, self._traces = self._built(trace), []
        elif len(self._traces) == _TRACES:
            raise ReplayError(change)

    def _built(self, trace: Trace) -> RecordedStep:
        """The replay, by the first way to lower it that gives the bits of the step."""
        for lower in self.lowerings:
            try:
                recorded = RecordedStep(trace, self._sets, lower)
                break
            except ReplayError as error:
                if lower is self.lowerings[-1]:
                    raise
                self.not_lowered = str(error)
        recorded.let_go()
        return recorded

    def _running(self) -> dict[str, Tensor]:
        fields = {f"state.{name}": tensor for name, tensor in state_fields(self._batch.state).items()}
        return {**fields, **{name: getattr(self._batch, name) for name in COUNTERS}}

    def _bind(self, tensors: dict[str, Tensor]) -> None:
        """Let the attributes of the batch hold these tensors."""
        fields = {name[6:]: tensor for name, tensor in tensors.items() if name.startswith("state.")}
        self._batch.state = type(self._batch.state)(**fields)
        for name in COUNTERS:
            setattr(self._batch, name, tensors[name])


def _has_other_methods(batch: Any) -> bool:
    """True if the object, or a class derived from the batch's, has methods in the place of those that are replayed."""
    kinds = type(batch).__mro__
    base = next(i for i, kind in enumerate(kinds) if kind.__module__ == "palaestra.envs.core.vector")
    return any(name in vars(owner) for owner in (batch, *kinds[:base]) for name in _METHODS)


def _sizes(rules: list[tuple[Any, dict[str, Any]]]) -> list[int]:
    """The number of entries of each list, dictionary or set that rules hold."""
    values = [value for _, attributes in rules for value in attributes.values()]
    return [len(value) for value in values if isinstance(value, list | dict | set | deque)]


def _finished(batch: Any, found: dict[str, Tensor]) -> StepResult:
    """The rest of a step as it is."""
    done = found["done"]
    info = information(found["obs"], done, found["r"], found["l"], found.get("is_success"))
    obs = batch.reset_finished(done, found["obs"])
    return obs, found["reward"], found["terminated"], found["truncated"], info


def holds(attributes: dict[str, Any], values: list[Any]) -> bool:
    """True if the attributes are these very objects."""
    return len(attributes) == len(values) and all(map(is_, attributes.values(), values))
