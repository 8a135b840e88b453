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
from torch.fx.experimental import proxy_tensor
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._python_dispatch import TorchDispatchMode

from palaestra.agents.graphs.recording_agent import RecordingAgent
from palaestra.agents.graphs.slots import tensors_of
from palaestra.envs import TensorVectorEnv
from palaestra.envs.core.replay.replayed_steps import ReplayedSteps
from palaestra.envs.core.rng import Rng
from palaestra.envs.snake import Snake

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
            with torch.no_grad():
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

    with pytest.MonkeyPatch.context() as patch:  # a trace that is replayed needs no false tensor beside each of its own
        patch.setattr(proxy_tensor, "set_meta", lambda proxy, value: proxy)
        patch.setattr(proxy_tensor, "extract_val", lambda value, **_: None)
        trace = make_fx(run)(*tensors)
    return trace, kept[0], kept[1]


def difference(first: fx.GraphModule, second: fx.GraphModule, lines: Lines) -> str:
    """Of two traces of one function, the first constant that is not the same, and its line; empty if there is none."""
    ours, theirs = operations(first), operations(second)
    for (one, was), (other, now) in zip(ours, theirs, strict=False):
        where = f"the next time: {_line(second, other, lines)}"
        if one.target != other.target or len(was) != len(now):
            return f"{one.format_node()} is {other.format_node()} {where}"
        for constant, another in zip(was, now, strict=True):
            if not _same(constant, another):
                return f"the constant {_shown(constant)} of {one.target} is {_shown(another)} {where}"
    return "" if len(ours) == len(theirs) else f"{len(ours)} operations are {len(theirs)} the next time"


def operations(trace: fx.GraphModule) -> list[tuple[fx.Node, list[Any]]]:
    """The nodes of a trace, but for constants and views of them, and what each gets.

    That is the numbers of nodes, and constants; not the memory that it only writes its result to.
    """
    found: list[tuple[fx.Node, list[Any]]] = []
    known: dict[fx.Node, Any] = {}
    for node in trace.graph.nodes:
        if node.op == "get_attr":
            known[node] = getattr(trace, str(node.target))
        elif str(node.target) in _VIEWS and isinstance(known.get(node.args[0]), Tensor):
            known[node] = node.target(*(known[a] if isinstance(a, fx.Node) else a for a in node.args))
        else:
            places = {a.name for a in node.target._schema.arguments if a.is_out} if _is_operation(node) else set()
            given = [*node.args, *(value for name, value in node.kwargs.items() if name not in places)]
            found.append((node, [known.get(a, a) if isinstance(a, fx.Node) else a for a in _flat(given)]))
            known[node] = f"operation {len(found)}"
    return found


_VIEWS = ("aten.slice.Tensor", "aten.view.default", "aten.select.int", "aten.t.default", "aten.transpose.int")


def _is_operation(node: fx.Node) -> bool:
    return isinstance(node.target, torch._ops.OpOverload)


def _flat(arguments: Any) -> Iterator[Any]:
    if isinstance(arguments, tuple | list):
        for part in arguments:
            yield from _flat(part)
    else:
        yield arguments


def _same(was: Any, now: Any) -> bool:
    if isinstance(was, Tensor) and isinstance(now, Tensor):
        there = was.data_ptr() == now.data_ptr() and was.stride() == now.stride()
        return was.dtype == now.dtype and was.shape == now.shape and (there or torch.equal(was, now))
    if isinstance(was, Tensor) or isinstance(now, Tensor):
        return False
    return bool(was == now) or (was != was and now != now)


def _shown(constant: Any) -> str:
    if isinstance(constant, Tensor):
        return str(constant.tolist()) if constant.numel() < 8 else f"a tensor {[*constant.shape]}"
    return repr(constant)


def _line(trace: fx.GraphModule, node: fx.Node, lines: Lines) -> str:
    """The line of ours where a node was made."""
    while "lift_fresh" in str(node.target):
        node = next(iter(node.users))
    calls = [each for each in trace.graph.nodes if each.target == node.target]
    return lines[node.target][calls.index(node)] if _is_operation(node) else "its outputs"


def host_operations(trace: fx.GraphModule) -> set[str]:
    """Names of the operations in a trace that would make the host wait for a GPU, or whose shapes depend on values."""
    names = {str(node.target).removeprefix("aten.").split(".")[0] for node in trace.graph.nodes}
    return names & {"_local_scalar_dense", "item", "nonzero", "equal", "is_nonzero", "masked_select", "_unique2"}


def train_as_on_a_gpu(patch: pytest.MonkeyPatch, graphs: Callable[[], FxGraph] | None) -> None:
    """Let all agents made from here on take the ways of a GPU on the CPU, with recordings or, for None, without."""

    def choose(agent: RecordingAgent) -> None:
        agent.record_with(graphs)
        agent._looks = False

    patch.setattr(RecordingAgent, "_record_by_default", choose)
    as_on_a_gpu(TensorVectorEnv, patch)


def record_always() -> None:
    """Record in this process, as on a GPU; a recording is compared with a second one only at its first replay."""
    train_as_on_a_gpu(pytest.MonkeyPatch(), lambda: FxGraph(again=(1,)))


def record_never() -> None:
    """Take the same ways in this process without recordings."""
    train_as_on_a_gpu(pytest.MonkeyPatch(), None)


def choose_everywhere(self: Rng, mask: Tensor, where: Tensor | None = None) -> Tensor:
    """``Rng.choice`` as it is on a GPU, where rows are not sought."""
    return _CHOICE(self, mask)


def as_on_a_gpu(batch: Any, patch: pytest.MonkeyPatch) -> None:
    """Make a batch on the CPU, or all for its class, take the ways of a GPU: no row is sought, no value looked at."""
    patch.setattr(batch, "reset_finished", batch._reset_by_selection)
    patch.setattr(batch, "accepts", lambda *actions: True)
    patch.setattr(ReplayedSteps, "step", lambda *_: None)
    patch.setattr(Rng, "choice", choose_everywhere)
    patch.setattr(Snake, "on_host", False)
