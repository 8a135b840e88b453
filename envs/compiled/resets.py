"""First states of the rows whose episodes ended, made by a recorded and compiled reset, and put into their rows.

A reset is a function of the environment's key and the episode. It is recorded for a fixed number of rows, as a step is:
two recordings must have the same operations and constants. Ended rows are begun again so many at a time.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from palaestra.envs.compiled.expressions import TYPES
from palaestra.envs.compiled.parts import CompiledProgram
from palaestra.envs.core.batching.records import same_bits, state_fields
from palaestra.envs.core.draws.splitmix import child_key
from palaestra.envs.core.env import rules_within
from palaestra.envs.core.reference import Array
from palaestra.envs.core.replay.outputs import Outputs
from palaestra.envs.core.replay.program import nbytes_of, reserved, tensor_at
from palaestra.envs.core.replay.recorded_step import RecordedStep, Running
from palaestra.envs.core.replay.recording import Recording, ReplayError, difference
from palaestra.envs.core.replay.step_recorder import holds
from palaestra.envs.core.rng import Rng

_AT_ONCE = 128  # rows
_COUNTERS = {"episode": "{at} += 1", "episode_length": "{at} = 0", "episode_return": "{at} = 0"}


class _Trace:
    """One recorded reset of some rows."""

    def __init__(self, env: Any, keys: Tensor, episode: Tensor) -> None:
        self.recording = Recording()
        self.inputs = [self.recording.place(tensor) for tensor in (keys, episode)]
        self.recording.outside.clear()
        with self.recording:
            episode_keys = child_key(keys, episode)
            state = env.reset(Rng(episode_keys, 0))
            obs = env.observe(state)
        self.found = {f"state.{name}": field for name, field in state_fields(state).items()}
        self.found |= {"obs": obs, "_episode_keys": episode_keys}
        places = {name: self.recording.place(tensor) for name, tensor in self.found.items()}
        self.results = {name: self.recording.copied(place) for name, place in places.items()}


class CompiledResets:
    """Begins episodes in some rows of a batch."""

    def __init__(self, batch: Any, recorded: RecordedStep) -> None:
        """Record and compile the reset; ``recorded`` is the step, into whose memory first states are put.

        Raises:
            ReplayError: if it cannot be recorded, or gives other bits when it is replayed.
            CompileError: if it cannot be compiled.
        """
        self._batch, self._count = batch, min(batch.num_envs, _AT_ONCE)
        attributes = [(env, [*vars(env).values()]) for env in rules_within(batch.env)]
        keys = batch.env_keys[: self._count].clone()
        episode = batch.episode[: self._count].clone()
        traces = []
        with torch.inference_mode(False), torch.no_grad():
            for _ in range(2):
                episode += 1
                traces.append(_Trace(batch.env, keys, episode))
            if not all(holds(vars(env), values) for env, values in attributes):
                raise ReplayError("a reset changes an attribute of the rules")
            change = difference(traces[0].recording, traces[1].recording)
            if change is not None:
                raise ReplayError(f"resets: {change}")
            self._keys, self._episode = keys.numpy(), episode.numpy()
            self._build(traces[1], recorded.targets())
        self._tables: dict[tuple[int, int], tuple[Any, ...]] = {}

    def _build(self, trace: _Trace, targets: Mapping[str, Tensor]) -> None:
        recording, size = trace.recording, nbytes_of(trace.recording.calls)
        inputs, results = {p.memory for p in trace.inputs}, {p.memory for p in trace.results.values()}
        forms = {
            name: torch.empty_strided(place.size, place.stride, dtype=place.dtype, device="meta")
            for name, place in trace.results.items()
        }
        for name, form in forms.items():
            if (form.dtype, form.shape[1:]) != (targets[name].dtype, targets[name].shape[1:]):
                raise ReplayError(f"{name} of a reset has another form than that of a step")
        program = CompiledProgram(recording, inputs, results, self._count, "\n".join(_source(forms, targets)))
        if program.changed_outside():
            raise ReplayError("a reset changes a tensor that is no part of the state")
        given = {place.memory: recording.memory[place.memory] for place in trace.inputs}
        given |= {place.memory: reserved(size[place.memory]) for place in trace.results.values()}
        self._steps = program.steps(given, run=True)
        self._results = {name: tensor_at(place, given[place.memory]) for name, place in trace.results.items()}
        for name, tensor in trace.found.items():
            if not same_bits(tensor, self._results[name]):
                raise ReplayError(f"{name} of a reset is not the same when it is replayed")
        self._take, self._put = program.library.take, program.library.put
        self._take.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64]
        self._put.argtypes, self._put.restype = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64], None

    def begin(self, rows: Array, after: Running, outputs: Outputs) -> None:
        """Let the next episodes begin in these rows, whose counters still tell the last one."""
        address, *_ = self._tables.get((id(after), id(outputs))) or self._table(after, outputs)
        rows = np.ascontiguousarray(rows)
        place, env_keys = rows.ctypes.data, self._batch.env_keys
        for first in range(0, len(rows), self._count):
            count, some = min(len(rows) - first, self._count), place + first * rows.itemsize
            self._take(address, env_keys.data_ptr(), some, count)
            for function, arguments in self._steps:
                function(*arguments)
            self._put(address, some, count)

    def _table(self, after: Running, outputs: Outputs) -> tuple[Any, ...]:
        """The pointers that ``take`` and ``put`` get, where they lie, and what they point to."""
        targets = [
            after.arrays[name] if name in after.arrays else outputs.arrays[name] for name in _names(self._results)
        ]
        sources = [self._keys, self._episode, *(tensor.numpy() for tensor in self._results.values())]
        places = [array.ctypes.data for array in (*sources, *targets)]
        table = (ctypes.c_void_p * len(places))(*places)
        kept = self._tables[id(after), id(outputs)] = ctypes.addressof(table), table, after, outputs
        return kept


def _names(sources: Mapping[str, Tensor]) -> list[str]:
    """What is put into rows."""
    return [*sources, *_COUNTERS]


def _source(sources: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> Iterator[str]:
    """C++ of ``take``, which gives the reset keys and episodes of rows, and of ``put``, what it made to the rows."""
    names = _names(sources)
    pointers = [f"  auto* k{i} = static_cast<int64_t*>(memory[{i}]);" for i in range(2)]
    for i, name in enumerate(sources):
        pointers.append(f"  auto* s{i} = static_cast<{TYPES[sources[name].dtype]}*>(memory[{2 + i}]);")
    for i, name in enumerate(names):
        kind = TYPES[targets[name].dtype]
        pointers.append(f"  auto* t{i} = static_cast<{kind}*>(memory[{2 + len(sources) + i}]);")
    at = f"t{names.index('episode')}[rows[i] * {targets['episode'].stride(0)}]"
    yield 'extern "C" void take(void** memory, const int64_t* keys, const int64_t* rows, int64_t count) {'
    yield from pointers
    yield f"  for (int64_t i = 0; i < count; ++i) {{ k0[i] = keys[rows[i]]; k1[i] = {at} + 1; }}\n}}"
    yield 'extern "C" void put(void** memory, const int64_t* rows, int64_t count) {'
    yield from pointers
    yield "  for (int64_t i = 0; i < count; ++i) {\n    const int64_t row = rows[i];"
    for i, name in enumerate(names):
        if name in _COUNTERS:
            yield f"    {_COUNTERS[name].format(at=f't{i}[row * {targets[name].stride(0)}]')};"
        elif 0 not in sources[name].shape:
            yield f"    {_copy(i, sources[name], targets[name])}"
    yield "  }\n}"


def _copy(i: int, source: Tensor, target: Tensor) -> str:
    rest = range(1, source.dim())
    loops = " ".join(f"for (int64_t j{d} = 0; j{d} < {source.shape[d]}; ++j{d})" for d in rest)
    there, here = (
        " + ".join([f"{row} * {tensor.stride(0)}", *(f"j{d} * {tensor.stride(d)}" for d in rest)])
        for row, tensor in (("row", target), ("i", source))
    )
    return f"{loops} t{i}[{there}] = s{i}[{here}];"
