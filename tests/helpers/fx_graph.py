"""Recordings without a GPU: a function traced once by PyTorch's ``make_fx``, and the trace replayed.

The trace holds what a CUDA graph would: operations on tensors and numbers, with every number that Python computed as a
constant. Where it is traced again later, the two traces must not differ: one that does names the constant that leaked.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, fx
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._python_dispatch import TorchDispatchMode

from palaestra.agents.graphs.slots import tensors_of
from palaestra.envs.core.rng import Rng

_CHOICE = Rng.choice


class FxGraph:
    """A back end of :class:`palaestra.agents.graphs.recorder.Recorder`.

    ``again`` are the replays, counted from 1, at which the function is traced anew and compared with the first trace.
    """

    def __init__(self, again: Sequence[int] = (1, 50)) -> None:
        self.again, self.replays = again, 0
        self.trace: fx.GraphModule | None = None

    def warm_up(self, function: Callable[[], Any]) -> Any:
        return function()

    def record(self, function: Callable[[], Any], tensors: Sequence[Tensor]) -> Any:
        self._function, self.tensors = function, list(tensors)
        self.trace, outputs, _ = traced(function, self.tensors)
        self.outputs = tensors_of(outputs)
        return outputs

    def replay(self) -> None:
        assert self.trace is not None
        self.replays += 1
        if self.replays in self.again:
            trace, outputs, lines = traced(self._function, self.tensors)  # which runs it
            if leak := difference(self.trace, trace, lines):
                raise AssertionError(leak)
            values = tensors_of(outputs)
        else:
            values = self.trace(*self.tensors)
        for kept, value in zip(self.outputs, values, strict=True):
            kept.copy_(value)


Lines = dict[Any, list[str]]
"""The lines of our source that called an operation, in order."""


class _Noting(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.lines: Lines = defaultdict(list)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        frame: Any = sys._getframe(1)
        while "site-packages" in frame.f_code.co_filename:
            frame = frame.f_back
        self.lines[func].append(f"{frame.f_code.co_filename}, line {frame.f_lineno}, in {frame.f_code.co_name}")
        return func(*args, **(kwargs or {}))


def traced(function: Callable[[], Any], tensors: Sequence[Tensor]) -> tuple[fx.GraphModule, Any, Lines]:
    """The trace of a function that reads these tensors, which takes others in their places, its outputs and lines."""
    kept: list[Any] = []

    def run(*_: Tensor) -> list[Tensor]:
        with _Noting() as noting:
            kept.extend((function(), noting.lines))
        return tensors_of(kept[0])

    trace = make_fx(run)(*tensors)
    return trace, kept[0], kept[1]


def difference(first: fx.GraphModule, second: fx.GraphModule, lines: Lines) -> str:
    """Of two traces of one function, the first constant that is not the same, and its line; empty if there is none."""
    for one, other in zip(first.graph.nodes, second.graph.nodes, strict=False):
        if one.op != other.op or (one.op == "call_function" and one.target != other.target):
            return f"{one.format_node()} is {other.format_node()} the next time: {_line(second, other, lines)}"
        ours, theirs = ([*_constants(trace, node)] for trace, node in ((first, one), (second, other)))
        for was, now in zip(ours, theirs, strict=True):
            if not _same(was, now):
                where = _line(second, other, lines)
                return f"the constant {_shown(was)} of {one.target} is {_shown(now)} the next time: {where}"
    lengths = [len(trace.graph.nodes) for trace in (first, second)]
    return "" if lengths[0] == lengths[1] else f"{lengths[0]} operations are {lengths[1]} the next time"


def _constants(trace: fx.GraphModule, node: fx.Node) -> Iterator[Any]:
    """Numbers and tensors among a node's arguments that no other node computes; nodes by their number."""
    found: list[Any] = []
    fx.node.map_arg((node.args, node.kwargs), lambda n: found.append(n.name) or n)  # type: ignore[func-returns-value]
    yield from found
    yield from _numbers((node.args, dict(node.kwargs)))
    if node.op == "get_attr":
        yield getattr(trace, str(node.target))


def _numbers(arguments: Any) -> Iterator[Any]:
    if isinstance(arguments, tuple | list):
        for part in arguments:
            yield from _numbers(part)
    elif isinstance(arguments, dict):
        yield from _numbers([*arguments.values()])
    elif not isinstance(arguments, fx.Node):
        yield arguments


def _same(was: Any, now: Any) -> bool:
    if isinstance(was, Tensor) and isinstance(now, Tensor):
        return was is now or (was.dtype == now.dtype and torch.equal(was, now))
    return bool(was == now) or (was != was and now != now)


def _shown(constant: Any) -> str:
    return str(constant.tolist()) if isinstance(constant, Tensor) else repr(constant)


def _line(trace: fx.GraphModule, node: fx.Node, lines: Lines) -> str:
    """The line of ours where a node was made, or a constant was used."""
    while node.op == "get_attr" or "lift_fresh" in str(node.target):
        node = next(iter(node.users))
    calls = [each for each in trace.graph.nodes if each.target == node.target]
    return lines[node.target][calls.index(node)] if node.op == "call_function" else "its inputs"


def host_operations(trace: fx.GraphModule) -> set[str]:
    """Names of the operations in a trace that would make the host wait for a GPU, or whose shapes depend on values."""
    names = {str(node.target).removeprefix("aten.").split(".")[0] for node in trace.graph.nodes}
    return names & {"_local_scalar_dense", "item", "nonzero", "equal", "is_nonzero", "masked_select", "_unique2"}


def choose_everywhere(self: Rng, mask: Tensor, where: Tensor | None = None) -> Tensor:
    """``Rng.choice`` as it is on a GPU, where rows are not sought."""
    return _CHOICE(self, mask)


def as_on_a_gpu(batch: Any, patch: pytest.MonkeyPatch) -> None:
    """Make a batch on the CPU take the ways that it takes on a GPU: no row is sought, no value looked at."""
    patch.setattr(batch, "reset_finished", batch._reset_by_selection)
    patch.setattr(batch, "_accepts", lambda actions: True)
    patch.setattr(Rng, "choice", choose_everywhere)
