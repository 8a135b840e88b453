"""The processes that train one agent, and the collective operations between them.

1. Each of K processes has the whole agent and N / K of the N environments. ``batch_size``, ``buffer_size`` and all
   numbers of steps are those of the whole; a process does its :meth:`ProcessGroup.share` of them.
2. Every gradient step makes one all-reduce of one flat buffer (:meth:`ProcessGroup.average`). Then all processes
   clip the same gradient and take the same step, so that their weights never differ by a bit.
3. Environments and the noise of actions are keyed by indices among all. Minibatches and replayed transitions are drawn
   by each process from what it has collected.
4. Means and deviations that learning depends on (advantages of a minibatch, running statistics of observations and
   rewards, what the host hears) are those of all processes.
5. Where a process ends or a connection breaks, the others raise :class:`LostContactError` instead of waiting.
6. The :class:`ProcessGroup` of a process alone returns what it is given: it imports, copies and changes nothing.

Tensors on the CPU go through memory that the processes of one machine share
(:mod:`palaestra.agents.distributed.shared_memory`), between machines by gloo; those on GPUs by NCCL.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, nn

from palaestra.agents.distributed.shared_memory import SharedMemoryGroup

_LAUNCHED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
_START_TIME = timedelta(minutes=5)  # within which all must be there
_PATIENCE = timedelta(hours=2)  # the others wait while process 0 evaluates; a death is noticed at once

SaveOrStop = Callable[[], tuple[bool, bool]]


class LostContactError(RuntimeError):
    """Another process of this training has ended, or cannot be reached any more."""


class ProcessGroup:
    """One process alone. ``rank`` is the number of this process, ``size`` how many there are."""

    rank, size = 0, 1

    def share(self, total: int, name: str) -> int:
        """This process's part of a number that all share equally."""
        return total

    def average(self, gradient: Tensor, weight: Tensor | None = None) -> None:
        """Put the mean over all processes in the place of a gradient, a vector; one all-reduce.

        ``weight`` [] says how many samples the gradient of this process is the mean of, where numbers differ.
        """

    def broadcast(self, module: nn.Module) -> None:
        """Give every process the parameters and buffers of process 0."""

    def broadcast_int(self, number: int) -> int:
        """The number of process 0."""
        return number

    def sum(self, values: Tensor) -> Tensor:
        """The sum over the processes, elementwise; this and all that follows has the same bits in each of them."""
        return values

    def lowest(self, values: Tensor) -> Tensor:
        """The minimum over the processes, elementwise."""
        return values

    def gather(self, *values: Tensor) -> list[tuple[Tensor, ...]]:
        """The tensors, all of one shape and type, of each process."""
        return [values]

    def mean_and_std(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and deviation over all elements of all processes, with Bessel's correction; equally many in each."""
        return values.mean(), values.std()

    def variance(self, values: Tensor) -> Tensor:
        """The square of the deviation that :meth:`mean_and_std` gives."""
        return values.var()

    def request_save_or_stop(self, request: SaveOrStop) -> tuple[bool, bool]:
        """Two flags, the same in all processes: save, and stop, before the next iteration.

        Args:
            request: returns the two flags for this process. Each process is asked whenever its host hears of the
                device; a flag that any of them returned then is set here in all of them.
        """
        return request()

    def save_or_stop_flags(self, device: torch.device) -> tuple[Tensor, ...]:
        """The flags of this process [2], to be summed over the processes; nothing where there is one process."""
        return ()

    def decide_save_or_stop(self, sums: list[float]) -> None:
        """Take over the sums of the :meth:`save_or_stop_flags`."""

    def all_gather_text(self, text: str) -> list[str]:
        """The text of each process."""
        return [text]

    def barrier(self) -> None:
        """Wait until all processes are here."""

    def first_to_fail(self) -> bool:
        """True if no other process has called this before: one of them tells the user what went wrong."""
        return True


class DistributedGroup(ProcessGroup):
    """Several processes, connected by ``torch.distributed``."""

    def __init__(self, distributed: Any, store: Any, rank: int, size: int, meeting: str) -> None:
        self._distributed, self._store = distributed, store
        self.rank, self.size = rank, size
        self._shared_memory: SharedMemoryGroup | None = None
        self._shared_memory = SharedMemoryGroup.shared(f"palaestra-{meeting}", rank, size, self._all_say)
        self._request: SaveOrStop = lambda: (False, False)
        self._decided = (False, False)

    def _all_say(self, yes: bool) -> bool:
        return bool(self.lowest(torch.tensor([int(yes)])))

    def close(self) -> None:
        """Leave the others."""
        if self._shared_memory is not None:
            self._shared_memory.close()

    def _call(self, operation: Any, *arguments: Any, **options: Any) -> Any:
        """The result of a collective operation.

        Raises:
            LostContactError: if another process cannot take part.
        """
        try:
            return operation(*arguments, **options)
        except RuntimeError as error:
            raise LostContactError(
                f"process {self.rank} of {self.size} has lost contact with the others: one is gone or out of reach"
            ) from error.with_traceback(None)  # whose frames would keep the group, and gloo's threads

    def share(self, total: int, name: str) -> int:
        if total % self.size:
            raise ValueError(f"{name}={total} cannot be shared equally by {self.size} processes")
        return total // self.size

    @torch.no_grad()
    def average(self, gradient: Tensor, weight: Tensor | None = None) -> None:
        if weight is None:
            torch.div(self.sum(gradient), self.size, out=gradient)
            return
        both = self.sum(torch.cat((gradient * weight, weight.view(1).to(gradient.dtype))))
        torch.div(both[:-1], both[-1].clamp(min=1.0), out=gradient)

    @torch.no_grad()
    def broadcast(self, module: nn.Module) -> None:
        for tensor in (*module.parameters(), *module.buffers()):
            whole = tensor.detach().contiguous()
            self._call(self._distributed.broadcast, whole, 0)
            tensor.copy_(whole)

    def broadcast_int(self, number: int) -> int:
        value = torch.tensor([number])
        self._call(self._distributed.broadcast, value, 0)
        return int(value)

    def sum(self, values: Tensor) -> Tensor:
        if self._shared_memory is not None and values.device.type == "cpu":
            shown: Tensor = self._call(self._shared_memory.all_reduce, values)
            return shown
        total = values.detach().clone()
        self._call(self._distributed.all_reduce, total)
        return total

    def lowest(self, values: Tensor) -> Tensor:
        if self._shared_memory is not None and self._shared_memory.fits(values):
            shown: Tensor = self._call(self._shared_memory.all_gather, values)
            return shown.amin(0).view_as(values)
        least = values.detach().clone()
        self._call(self._distributed.all_reduce, least, self._distributed.ReduceOp.MIN)
        return least

    def gather(self, *values: Tensor) -> list[tuple[Tensor, ...]]:
        own = torch.stack(values)
        if self._shared_memory is not None and self._shared_memory.fits(own):
            shown: Tensor = self._call(self._shared_memory.all_gather, own)
            return [tuple(part.view_as(own).unbind(0)) for part in shown.clone()]
        found = [torch.empty_like(own) for _ in range(self.size)]
        self._call(self._distributed.all_gather, found, own)
        return [tuple(part.unbind(0)) for part in found]

    def mean_and_std(self, values: Tensor) -> tuple[Tensor, Tensor]:
        parts = self.gather(values.mean(), values.var(correction=0))
        means, variances = (torch.stack(column) for column in zip(*parts, strict=True))
        mean, number = means.mean(), self.size * values.numel()
        variance = (variances + (means - mean).square()).mean() * (number / (number - 1))
        return mean, variance.sqrt()

    def variance(self, values: Tensor) -> Tensor:
        return self.mean_and_std(values)[1].square()

    def request_save_or_stop(self, request: SaveOrStop) -> tuple[bool, bool]:
        self._request = request
        decided, self._decided = self._decided, (False, False)
        return decided

    def save_or_stop_flags(self, device: torch.device) -> tuple[Tensor, ...]:
        return (torch.tensor(self._request(), dtype=torch.float32, device=device),)

    def decide_save_or_stop(self, sums: list[float]) -> None:
        save, stop = sums
        self._decided = save > 0.0, stop > 0.0

    def all_gather_text(self, text: str) -> list[str]:
        own = torch.frombuffer(bytearray(text.encode() + b"\0"), dtype=torch.uint8)
        longest = -int(self.lowest(torch.tensor([-len(own)])))
        padded = nn.functional.pad(own, (0, longest - len(own)))
        return [bytes(part.tolist()).rstrip(b"\0").decode() for (part,) in self.gather(padded)]

    def barrier(self) -> None:
        self.sum(torch.zeros(1))

    def first_to_fail(self) -> bool:
        if self._shared_memory is not None:
            return self._shared_memory.first_to_fail()
        try:
            return bool(self._store.add("failed", 1) == 1)
        except RuntimeError:  # the process that kept the count has ended too
            return True


_current = ProcessGroup()


def process_group() -> ProcessGroup:
    """The processes that train one agent: this one alone, or those that are :func:`joined`."""
    return _current


def is_launched(environ: Mapping[str, str] = os.environ) -> bool:
    """True if torchrun, or something like it, has started this process as one of several."""
    return all(name in environ for name in _LAUNCHED) and int(environ["WORLD_SIZE"]) > 1


def _meeting(store: Any, rank: int, size: int) -> str:
    """A name for this meeting of the processes, different at every start.

    torchrun's store outlives the processes and holds the addresses of those that have died. So process 0 makes up a
    name and sends it to each of the others as the answer to a question under a random name.
    """
    own = secrets.token_hex(8)
    if rank > 0:
        store.set(f"asks {rank}", own)
        name: str = store.get(f"answer to {own}").decode()
        store.set(f"{name} {rank}", "heard")
        return name
    missing, deadline = set(range(1, size)), time.monotonic() + _START_TIME.total_seconds()
    while missing:
        for other in [other for other in missing if store.check([f"asks {other}"])]:  # or one that has died did
            store.set(f"answer to {store.get(f'asks {other}').decode()}", own)
        missing -= {other for other in missing if store.check([f"{own} {other}"])}
        if time.monotonic() > deadline:
            raise RuntimeError(f"no word from process {min(missing)}")
        time.sleep(0.01)
    return own


@contextmanager
def joined() -> Iterator[ProcessGroup]:
    """Be one of the processes that were started together, inside this block.

    Raises:
        LostContactError: if they cannot find each other.
    """
    global _current
    if not is_launched():
        yield _current
        return
    import torch.distributed
    import torch.distributed.nn  # now: later its default arguments would keep the group, and gloo's threads, for ever

    distributed: Any = torch.distributed
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() and distributed.is_nccl_available() else "gloo"
    try:
        store, rank, size = next(distributed.rendezvous("env://", timeout=_START_TIME))
        meeting = _meeting(store, rank, size)
        store = distributed.PrefixStore(meeting, store)
        distributed.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=_PATIENCE)
    except (RuntimeError, ValueError) as error:
        raise LostContactError(f"the processes do not find each other: {str(error).splitlines()[0]}") from error
    _current = group = DistributedGroup(distributed, distributed.PrefixStore("palaestra", store), rank, size, meeting)
    try:
        yield _current
    finally:
        group.close()
        _current = ProcessGroup()
        distributed.destroy_process_group()


@contextmanager
def one_thread(wanted: bool) -> Iterator[None]:
    """A block that this process computes with one thread, if ``wanted``.

    One thread computes the actions of few environments as fast as several, which keep cores busy for a while after each
    product; processes in which such environments step need the cores.
    """
    threads = torch.get_num_threads()
    if wanted:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        if wanted:
            torch.set_num_threads(threads)
