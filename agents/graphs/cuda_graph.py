"""A recording that is a CUDA graph: the kernels of a function, launched all at once.

What PyTorch asks for ("CUDA semantics: CUDA graphs" in its documentation), and where it is kept:

1. Before it is recorded a function has run on a stream of its own (:meth:`CudaGraph.warm_up`).
2. While it is recorded nothing runs: :meth:`CudaGraph.record` replays it once, so that it has run.
3. What it allocates comes from memory of its own that is never given back, and so do its outputs; each graph has its
   own, so that they may be replayed in any order.
4. What it reads and writes beside that must stay where it is. Inputs and attributes have places of their own
   (:mod:`palaestra.agents.graphs.slots`). Every other tensor that an operation gets and none has made (weights,
   rollouts, tables, scratch memory of layers, which makes way for larger one) is kept as long as the graph.
5. Nothing looks at a value; random numbers come from keys and counters, or are inputs, so that no generator is part of
   it. The optimizer's step, which counts on the host, is taken outside.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from palaestra.agents.graphs.slots import GraphError, tensors_of


class CudaGraph:
    """A back end of :class:`~palaestra.agents.graphs.recorder.Recorder`; see the module."""

    def __init__(self) -> None:
        self._stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        self._graph = torch.cuda.CUDAGraph()
        self._kept: list[Any] = []

    def warm_up(self, function: Callable[[], Any]) -> Any:
        """Run a function that will be recorded later."""
        usual = torch.cuda.current_stream()
        self._stream.wait_stream(usual)
        with torch.cuda.stream(self._stream):
            outputs = function()
        usual.wait_stream(self._stream)
        return outputs

    def record(self, function: Callable[[], Any], tensors: Sequence[Tensor]) -> Any:
        """Record a function that reads ``tensors``, run it once, and return its outputs.

        Raises:
            GraphError: saying what stood in the way; nothing has run then.
        """
        first: list[Exception] = []  # the end of a recording that failed raises once more
        outside = OutsideStorages()
        try:
            with torch.cuda.graph(self._graph):
                try:
                    with outside:
                        outputs = function()
                except Exception as error:
                    first.append(error)
                    raise
        except Exception as error:
            raise GraphError(str(next(iter(first), error))) from error
        self._kept = outside.storages
        self._graph.replay()
        return outputs

    def replay(self) -> None:
        """Run it again: the outputs get new values in place."""
        self._graph.replay()


class OutsideStorages(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Keeps the memory of tensors that operations inside the block get and none of them has made."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.storages: list[Any] = []
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for storage in (tensor.untyped_storage() for tensor in tensors_of([list(args), kwargs or {}])):
            if storage._cdata not in self._known:
                self._known.add(storage._cdata)
                self.storages.append(storage)
        result = func(*args, **(kwargs or {}))
        self._known.update(tensor.untyped_storage()._cdata for tensor in tensors_of([result]))
        return result
