"""Functions of an agent that run a few times as they are, are recorded then, and replayed from there on.

A step of a thousand small environments is hundreds of operations that a GPU finishes faster than Python can name them.
A recording names them once.

1. A recorded function is a function of tensors alone: of its inputs, of attributes named beforehand
   (:class:`~palaestra.agents.graphs.slots.Slots`), and of memory that is only ever written in place (weights, rollouts,
   replay). Numbers that change from call to call are inputs: they come as tensors [] then, int64 or float64.
2. Inputs are copied to a place of their own before a replay. Outputs stay in their place: they are those of the latest
   call, until the next.
3. The first calls run as they are, so that memory is reserved, libraries are loaded and every attribute has its form.
4. Any other number is part of the recording. Those of the objects whose attributes are named may not change while a
   function is recorded; where the agent's settings, or the places of its weights, are others than then
   (:meth:`Recorder.begin`), all is recorded anew.
5. Where recording fails, everything goes on as it would without, and a warning says why, once.

Who records is a :class:`Backend`: :class:`~palaestra.agents.graphs.cuda_graph.CudaGraph`; in tests, without a GPU, a
trace of PyTorch's ``make_fx``.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from palaestra.agents.graphs.slots import Attribute, GraphError, Slots, map_leaves, numbers_of, tensors_of

_CALLS_BEFORE = 3  # of a function, until it is recorded
_INPUTS = (Tensor, int, float)


class Backend(Protocol):
    """Records one function, and replays it."""

    def warm_up(self, function: Callable[[], Any]) -> Any:
        """Run a function that will be recorded later."""

    def record(self, function: Callable[[], Any], tensors: Sequence[Tensor]) -> Any:
        """Record a function that reads ``tensors``, run it once, and return its outputs.

        If it raises, what the function binds and computes is lost; memory that it writes in place may have changed only
        so that running it as it is makes up for it.
        """

    def replay(self) -> None:
        """Run it again: the tensors among the outputs get new values in place."""


class Recorder:
    """Calls the functions of one agent; see the module.

    Attributes:
        is_on: False calls them as they are.
    """

    def __init__(self, device: torch.device, backend: Callable[[], Backend]) -> None:
        self.device, self._backend, self.is_on = device, backend, True
        self._recordings: dict[str, _Recording] = {}
        self._slots: Slots | None = None  # made with the first recording
        self._attributes: Callable[[], Sequence[Attribute]] = tuple
        self._settings: Any = None
        self._failed = False

    def begin(self, attributes: Callable[[], Sequence[Attribute]], settings: Any) -> None:
        """Call it before each iteration.

        Args:
            attributes: gives those that recorded functions read and bind to new tensors.
            settings: numbers that are part of the recordings, and whatever else makes them invalid.
        """
        self._attributes = attributes
        others = self._slots is not None and not self._slots.are_of(attributes())
        if others or settings != self._settings:
            self._recordings.clear()
            self._slots, self._settings = None, settings

    def __call__(self, function: Callable[..., Any], *inputs: Any) -> Any:
        """The outputs of ``function``, a method that the agent has once, for tensors, numbers and records of them."""
        if not self.is_on or self._failed:
            return function(*inputs)
        name = function.__name__
        recording = self._recordings.get(name)
        if recording is None:
            recording = self._recordings[name] = _Recording(function, self._backend())
        if not recording.fits(inputs):  # as the last minibatch where the sizes do not divide
            return function(*inputs)
        if recording.calls < _CALLS_BEFORE:
            return recording.warm_up(inputs)
        self._slots = self._slots or Slots(self._attributes())
        self._slots.take_in()
        if recording.is_made:
            return recording.replay(inputs)
        try:
            return recording.record(inputs, self._slots, self._attributes)
        except Exception as error:  # whatever it is: if it has nothing to do with recording, it comes again
            self._give_up(name, error)
        return function(*inputs)

    def _give_up(self, name: str, error: Exception) -> None:
        self._failed = True
        self._recordings.clear()
        why = str(error).strip().splitlines() or [type(error).__name__]
        warnings.warn(f"no graphs are used, operations are called one by one: {name}: {why[0]}", stacklevel=4)


class _Recording:
    """One function; see the module."""

    def __init__(self, function: Callable[..., Any], backend: Backend) -> None:
        self._function, self._backend = function, backend
        self.calls = 0
        self.is_made = False
        self._inputs: Any = None  # where they are read
        self._form: Any = None
        self._numbers: dict[int, float] = {}  # what the inputs that are numbers hold
        self._outputs: Any = None

    def fits(self, inputs: tuple[Any, ...]) -> bool:
        """True for inputs of the form that it is recorded with, and for any before."""
        return not self.is_made or _form(inputs) == self._form

    def warm_up(self, inputs: tuple[Any, ...]) -> Any:
        self.calls += 1
        return self._backend.warm_up(lambda: self._function(*inputs))

    def replay(self, inputs: tuple[Any, ...]) -> Any:
        map_leaves(self._put, inputs, self._inputs, kinds=_INPUTS)
        self._backend.replay()
        return self._outputs

    def record(self, inputs: tuple[Any, ...], slots: Slots, attributes: Callable[[], Sequence[Attribute]]) -> Any:
        """Run it once and keep the recording.

        Raises:
            GraphError: if it changes what it is no function of; nothing has changed then.
        """
        device = slots.tensors[0].device
        self._inputs = map_leaves(lambda value: _room_for(value, device), inputs, kinds=_INPUTS)
        self._form = _form(inputs)
        map_leaves(self._put, inputs, self._inputs, kinds=_INPUTS)
        owners = {id(owner): owner for owner, _ in attributes()}.values()
        before: list[tuple[Any, dict[str, Any]]] = []

        def body() -> Any:
            before[:] = [(owner, numbers_of(owner)) for owner in owners]
            outputs = self._function(*self._inputs)
            if not slots.are_of(attributes()):
                raise GraphError("an attribute gets its first tensor, or loses it")
            for owner, numbers in before:
                for name, now in numbers_of(owner).items():
                    if numbers.get(name) != now:
                        told = f"{type(owner).__name__}.{name} is {numbers.get(name)} before and {now} after"
                        raise GraphError(f"a number changes that is no tensor: {told}")
            slots.take_in()
            return outputs

        try:
            self._outputs = self._backend.record(body, [*slots.tensors, *tensors_of(self._inputs)])
        except BaseException:
            for owner, numbers in before:
                vars(owner).update(numbers)
            raise
        finally:
            slots.bind()
        self.is_made = True
        return self._outputs

    def _put(self, value: Tensor | float, room: Tensor) -> None:
        if isinstance(value, Tensor):
            room.copy_(value)
        elif self._numbers.get(id(room)) != value:
            room.fill_(value)
            self._numbers[id(room)] = value


def _form(inputs: tuple[Any, ...]) -> list[Any]:
    forms: list[Any] = []
    map_leaves(lambda x: forms.append((x.shape, x.dtype) if isinstance(x, Tensor) else type(x)), inputs, kinds=_INPUTS)
    return forms


def _room_for(value: Tensor | float, device: torch.device) -> Tensor:
    if isinstance(value, Tensor):
        return torch.empty_like(value)
    return torch.zeros((), dtype=torch.int64 if isinstance(value, int) else torch.float64, device=device)
