"""The step of a batch as a recording: from the running episodes and the actions to the next states and results.

Two sets of memory hold the running episodes. A step reads one and writes the other, so that a step which fails, or is
interrupted, has changed nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor

from palaestra.envs.core.batching.records import same_bits, state_fields
from palaestra.envs.core.replay.fields import Fields
from palaestra.envs.core.replay.lowering import Step
from palaestra.envs.core.replay.outputs import Outputs
from palaestra.envs.core.replay.program import Program, is_read, nbytes_of, reserved, tensor_at
from palaestra.envs.core.replay.recording import Recording, Region, ReplayError

Lowering = Callable[[Recording, set[int], set[int]], Program]
_NOTHING = nullcontext()
_HANDED_OUT = 3  # sets of results in use at once, beyond which they are copied
COUNTERS = ("episode", "episode_length", "episode_return", "_episode_keys")


class Running:
    """One set of memory of the running episodes.

    Attributes:
        tensors: by name, ``state.…`` for the fields of the state, and the counters.
        memory: the bytes that they lie in.
    """

    def __init__(self, trace: Trace) -> None:
        """``trace`` says in which form they lie."""
        self.places, self.form = trace.after, trace.form
        places = trace.after
        self.memory = {place.memory: reserved(trace.size[place.memory]) for place in places.values()}
        self.tensors = {name: tensor_at(place, self.memory[place.memory]) for name, place in places.items()}
        self.arrays = {name: tensor.numpy() for name, tensor in self.tensors.items()}
        self.fields = Fields({name[6:]: tensor for name, tensor in self.tensors.items() if name.startswith("state.")})


class Trace:
    """One recorded step of a batch."""

    def __init__(self, batch: Any, actions: Tensor) -> None:
        """Take a step, which the batch makes as it is, up to the ends of episodes; ``found`` are its results then.

        Args:
            batch: its attributes hold the running episodes, before the step and after.
            actions: [N, …], memory that stays.

        Raises:
            ReplayError: if it cannot be recorded.
        """
        self.recording = Recording()
        fields = {f"state.{name}": tensor for name, tensor in state_fields(batch.state).items()}
        given = {**fields, **{name: getattr(batch, name) for name in COUNTERS}, "actions": actions}
        self.inputs = {name: self.recording.place(tensor) for name, tensor in given.items()}
        self.recording.outside.clear()
        with self.recording:
            final_obs, reward, terminated, truncated = batch.recorded_advance(actions)
            done = terminated | truncated if batch.can_truncate else terminated
            success = batch.successes()
        results = {"obs": final_obs, "reward": reward, "terminated": terminated, "truncated": truncated, "done": done}
        results |= {"r": batch.episode_return, "l": batch.episode_length}
        if success is not None:
            results["is_success"] = success
        after = {f"state.{name}": tensor for name, tensor in state_fields(batch.state).items()}
        after |= {name: getattr(batch, name) for name in COUNTERS}
        self.found = results | after
        self._taken = {place.memory for place in self.inputs.values()}
        self.after = self._apart(after, shared=True)
        self.results = self._apart(results, shared=False)
        self.size = nbytes_of(self.recording.calls)
        self.form = _form(self.after)
        self.recording.let_go({place.memory for place in self.inputs.values()})

    def _apart(self, tensors: Mapping[str, Tensor], shared: bool) -> dict[str, Region]:
        """Places of results in memory that nothing else has, if necessary by another operation that copies them."""
        places: dict[str, Region] = {}
        mine: set[int] = set()
        for name, tensor in tensors.items():
            place = self.recording.place(tensor)
            if (
                place.memory in self._taken | self.recording.outside
                or (place.memory in mine and not shared)
                or not _is_plain(place)
            ):
                place = self.recording.copied(place)
            mine.add(place.memory)
            places[name] = place
        self._taken |= mine
        return places


def _form(places: Mapping[str, Region]) -> list[Any]:
    """How tensors lie, whatever the numbers of their memories are."""
    order = {memory: i for i, memory in enumerate(dict.fromkeys(place.memory for place in places.values()))}
    return [(name, place._replace(memory=order[place.memory])) for name, place in places.items()]


def _is_plain(place: Region) -> bool:
    """True where different indices are different memory."""
    return all(stride > 0 or size == 1 for size, stride in zip(place.size, place.stride, strict=True))


class RecordedStep:
    """Replays a step from one set of memory to the other."""

    def __init__(self, trace: Trace, sets: list[Running], lower: Lowering = Program) -> None:
        """Build it, and run it once from ``sets[0]`` to ``sets[1]``; the traced step has read ``sets[0]`` too.

        Raises:
            ReplayError: if it gives other results than the traced step.
        """
        self.sets, self._trace = sets, trace
        inputs = {place.memory for place in trace.inputs.values()}
        results = {place.memory for place in (*trace.after.values(), *trace.results.values())}
        keys, kept = trace.inputs["_episode_keys"].memory, trace.after["_episode_keys"].memory
        self.reads_keys = is_read(trace.recording, inputs, results - {kept}, keys)
        if not self.reads_keys:  # nor need they be taken from one set to the other
            results.remove(kept)
        self._program = lower(trace.recording, inputs, results)
        self._actions = {trace.inputs["actions"].memory: trace.recording.memory[trace.inputs["actions"].memory]}
        self._lists: dict[tuple[int, int], list[Step]] = {}
        self._outputs: list[Outputs] = []
        self._verify()

    def _verify(self) -> None:
        outside = {n: t.clone() for n, t in self._program.changed_outside().items()}
        outputs = self._new_outputs()
        self._lists[0, 0] = self._build(0, outputs, run=True)
        got = {**outputs.copies(), **self.sets[1].tensors}
        for number, tensor in self._program.changed_outside().items():
            if not same_bits(tensor, outside[number]):
                tensor.copy_(outside[number])
                raise ReplayError("it changes a tensor that is no part of the state")
        for name, expected in self._trace.found.items():
            if (name != "_episode_keys" or self.reads_keys) and not same_bits(expected, got[name]):
                raise ReplayError(f"{name} is not the same when it is replayed")

    @property
    def row_kind(self) -> Any:
        """Of the observations, see :func:`.fields.as_rows`."""
        return self._outputs[0].row_kind

    def targets(self) -> dict[str, Tensor]:
        """The running episodes after a step, and its results, by name: examples of how they lie."""
        results = {name: torch.from_numpy(array) for name, array in self._outputs[0].arrays.items()}
        return {**results, **self.sets[0].tensors}

    def let_go(self) -> None:
        """Keep nothing of what was computed on the way."""
        del self._trace.recording
        self._trace.found = {}

    def _new_outputs(self) -> Outputs:
        places = self._trace.results
        self._outputs.append(Outputs(places, {p.memory: reserved(self._trace.size[p.memory]) for p in places.values()}))
        return self._outputs[-1]

    def _build(self, side: int, outputs: Outputs, run: bool = False) -> list[Step]:
        before, after = self.sets[side], self.sets[1 - side]
        given = dict(self._actions)
        for name, place in self._trace.inputs.items():
            if name != "actions":
                given[place.memory] = memory_of(before, name)
        for name, place in self._trace.after.items():
            given[place.memory] = memory_of(after, name)
        given |= outputs.memory
        return self._program.steps(given, run)

    def run(self, side: int) -> tuple[Outputs, bool]:
        """Step from one set of memory to the other: the results, and True if they must be copied."""
        number = next((i for i, outputs in enumerate(self._outputs) if outputs.is_free()), len(self._outputs))
        if number == len(self._outputs):
            if number <= _HANDED_OUT:  # the last one is never handed out
                self._new_outputs()
            number = min(number, _HANDED_OUT)
        steps = self._lists.get((side, number))
        if steps is None:
            steps = self._lists[side, number] = self._build(side, self._outputs[number])
        with np.errstate(all="ignore") if self._program.warns else _NOTHING:
            for function, arguments in steps:
                function(*arguments)
        return self._outputs[number], number == _HANDED_OUT


def memory_of(running: Running, name: str) -> Tensor:
    """The bytes in which a tensor of the running episodes lies."""
    return running.memory[running.places[name].memory]
