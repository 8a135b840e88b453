"""The bound of each stage: its work per second beside the most of it that this machine can do.

1. Work is counted while the stage runs as it is, one iteration long: floating-point operations of matrix products, by
   the formulas of ``torch.utils.flop_counter``, forward and backward; values of tanh, exp and their like; bytes that
   PyTorch's operations read and write; and how many operations there are. Compiled parts run eagerly while they are
   counted.
2. Ceilings are measured in the same process, with the same threads and device, each the best of a few sizes: matrix
   products in float32, the network's own widest layer among them; tanh; copies, for operations on as many bytes, within
   and beyond the caches; and the time that one operation on a single number takes.
3. A share is the time that the work would take at the ceiling, over the time that the stage took. The largest share
   bounds the stage. What is left of 100 % goes elsewhere: to Python between operations, to allocation, to code that is
   not PyTorch's.

Source: Williams, Waterman and Patterson, "Roofline: an insightful visual performance model", CACM 2009.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, astuple, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from palaestra.agents.networks import onednn
from palaestra.envs.core import BatchedEnv
from palaestra.train.bench.interleaved import COLLECTION, UPDATE, Clock, Workload, device_clock

SQUARES = (512, 1024, 2048)  # sides of the matrices
COPIES = (2**16, 2**20, 2**24)  # float32 numbers: 256 KiB to 64 MiB
FUNCTIONS = frozenset(  # but sigmoid, which PyTorch computes nearly as fast as it copies
    {"tanh", "exp", "log", "log1p", "expm1", "sin", "cos", "sqrt", "rsqrt", "pow", "erf", "atan2"}
    | {"_softmax", "_log_softmax", "logsumexp", "gelu", "silu", "elu", "softplus"}
)
CEILING_SECONDS = 0.05  # per measurement; the best of five counts


@dataclass(frozen=True)
class Work:
    """Work done."""

    flops: float = 0.0
    functions: float = 0.0
    bytes: float = 0.0  # read and written by operations that are no matrix products
    copying: float = 0.0  # s that these bytes would take at the ceiling
    operations: float = 0.0

    def plus(self, other: Work, times: float = 1.0) -> Work:
        """This and so many times that."""
        return Work(*(a + times * b for a, b in zip(astuple(self), astuple(other), strict=True)))


class Meter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the work of PyTorch's operations while it is entered."""

    def __init__(self, copies: dict[int, float]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.done, self._copies = Work(), copies

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func not in _COMPOSITE:  # operations made of others, which arrive here whole in inference mode
            _COMPOSITE[func] = torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), "CompositeImplicitAutograd")
        if _COMPOSITE[func]:
            with self:
                return func.decompose(*args, **kwargs)
        result = func(*args, **kwargs)
        given = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
        storages = {_memory(t) for t in given}
        made = [t for t in tree_leaves(result) if isinstance(t, Tensor)]
        new = [t for t in made if _memory(t) not in storages]
        if new or func._schema.is_mutable:  # else it only looks at memory in another way
            packet = func.overloadpacket
            flops = _flops(packet, args, kwargs, result)
            name = packet.__name__
            values = made[0].numel() if name.removesuffix("_") in FUNCTIONS else 0
            touched = 0 if flops else _touched(name, func._schema.is_mutable, given, new)
            size = min(self._copies, key=lambda known: abs(math.log(known / max(touched, 1))))
            self.done = self.done.plus(Work(flops, values, touched, touched / self._copies[size], 1))
        return result


_COMPOSITE: dict[Any, bool] = {}


def _flops(packet: Any, args: Any, kwargs: Any, result: Any) -> int:
    """Of a matrix product; 0 for all else."""
    name: str = packet.__name__
    if name == "_linear_pointwise":
        return int(2 * result.numel() * args[0].shape[-1])
    if name == "mkldnn_linear_backward_weights":
        return int(2 * result[0].numel() * args[0].shape[0])
    return flop_registry[packet](*args, **kwargs, out_val=result) if packet in flop_registry else 0


def _touched(name: str, mutable: bool, given: list[Tensor], new: list[Tensor]) -> int:
    """Bytes that an operation reads and writes."""
    if name in ("index_copy_", "copy_", "index_fill_"):  # only these rows, which are not read before
        return 2 * sum(_held(t) for t in given[1:])
    if name in ("index_select", "gather", "index"):  # as much as they give, not all that they are given
        return 2 * sum(_held(t) for t in new) + sum(_held(t) for t in given[1:])
    return sum(_held(t) for t in (*given, *new, *(given[:1] if mutable else [])))


def _memory(tensor: Tensor) -> Any:
    """The identity of a tensor's memory; oneDNN's tensors keep theirs to themselves."""
    return id(tensor) if tensor.is_mkldnn else tensor.untyped_storage()._cdata


def _held(tensor: Tensor) -> int:
    """Bytes behind a tensor: rows that were expanded are there once."""
    if tensor.is_mkldnn:
        return tensor.numel() * tensor.element_size()
    return min(tensor.numel() * tensor.element_size(), tensor.untyped_storage().nbytes())


@contextmanager
def metered(ceilings: Ceilings) -> Iterator[Callable[[], Work]]:
    """Gives a function that returns the work done since the block began."""
    stance = getattr(torch.compiler, "set_stance", None)  # since PyTorch 2.6
    meter = Meter(ceilings.copies)
    with stance("force_eager") if stance else nullcontext(), meter:
        yield lambda: meter.done


def count_stepping(batch: BatchedEnv, actions: list[Tensor], ceilings: Ceilings) -> Work:
    """Of one step of one environment; resets as they fall due."""
    batch.reset()
    batch.step(actions[0])
    with metered(ceilings) as done:
        for action in actions:
            batch.step(action)
    return Work().plus(done(), 1.0 / (batch.num_envs * len(actions)))


def count_learning(agent: Any, learn: Workload, ceilings: Ceilings) -> dict[str, Work]:
    """Collection and update, of one step of one environment; ``learn`` lets the agent collect and learn."""
    learn(0.0)
    update, train, first = Work(), agent.train, agent.num_timesteps
    with metered(ceilings) as done:

        def counted(*args: Any, **kwargs: Any) -> None:
            nonlocal update
            before = done()
            train(*args, **kwargs)
            update = update.plus(done()).plus(before, -1.0)

        agent.train = counted
        try:
            learn(0.0)
        finally:
            agent.train = train
        whole = done()
    share = 1.0 / (agent.num_timesteps - first)
    return {COLLECTION: Work().plus(whole.plus(update, -1.0), share), UPDATE: Work().plus(update, share)}


@dataclass(frozen=True)
class Ceilings:
    """The most that was measured here."""

    flops: float  # per second, matrix products in float32
    flops_of_layer: float  # the same of the network's widest layer, forward
    layer: list[int]  # rows, inputs, outputs
    functions: float  # values of tanh per second
    copies: dict[int, float]  # bytes read and written by a copy → bytes per second
    operation: float  # s


def measure_ceilings(device: torch.device, layer: tuple[int, int, int]) -> Ceilings:
    """About two seconds."""
    clock = device_clock(device)

    def product(rows: int, inner: int, columns: int) -> float:
        a, b = torch.randn(rows, inner, device=device), torch.randn(inner, columns, device=device)
        out = torch.empty(rows, columns, device=device)
        best = _per_second(lambda: torch.mm(a, b, out=out), clock)
        if onednn.multiplies(a, columns):
            best = max(best, _per_second(lambda: onednn.linear(a, b.t()), clock))
        return 2.0 * rows * inner * columns * best

    def copy(numbers: int) -> float:
        source, target = torch.zeros(numbers, device=device), torch.zeros(numbers, device=device)
        return 8.0 * numbers * _per_second(lambda: target.copy_(source), clock)

    def tanh(numbers: int) -> float:
        values = torch.linspace(-3.0, 3.0, numbers, device=device)
        return numbers * _per_second(lambda: torch.tanh(values, out=out[:numbers]), clock)

    out = torch.empty(max(COPIES), device=device)
    one = torch.ones(1, device=device)
    of_layer = product(*layer)
    return Ceilings(
        flops=max(of_layer, *(product(side, side, side) for side in SQUARES)),
        flops_of_layer=of_layer,
        layer=list(layer),
        functions=max(tanh(numbers) for numbers in COPIES),
        copies={8 * numbers: copy(numbers) for numbers in COPIES},
        operation=1.0 / _per_second(lambda: one + one, clock),
    )


def _per_second(call: Callable[[], object], clock: Clock) -> float:
    """Calls per second, the best of five measurements."""
    call()
    best, calls = 0.0, 1
    for _ in range(5):
        while True:
            start = clock()
            for _ in range(calls):
                call()
            seconds = clock() - start
            if seconds >= CEILING_SECONDS:
                break
            calls *= 2
        best = max(best, calls / seconds)
    return best


def widest_layer(policy: nn.Module, rows: int) -> tuple[int, int, int]:
    """Rows, inputs and outputs of the largest matrix product in the network."""
    layers = [m for m in policy.modules() if isinstance(m, nn.Linear)]
    largest = max(layers, key=lambda m: m.weight.numel())
    return rows, largest.in_features, largest.out_features


def stage(work: Work, steps_per_second: list[float], ceilings: Ceilings) -> dict[str, Any]:
    """One stage for JSON: its work, what it achieves, shares of the ceilings, and what bounds it."""
    speed = statistics.median(steps_per_second)
    shares = {
        "products": work.flops * speed / ceilings.flops,
        "functions": work.functions * speed / ceilings.functions,
        "memory": work.copying * speed,
        "operations": work.operations * speed * ceilings.operation,
    }
    return {
        "per_step": asdict(work),
        "per_second": {name: value * speed for name, value in asdict(work).items()},
        "shares": shares,
        "bound": max({**shares, "elsewhere": 1.0 - sum(shares.values())}.items(), key=lambda item: item[1])[0],
    }


def plain(ceilings: Ceilings) -> dict[str, Any]:
    """For JSON, whose keys are text."""
    return {**asdict(ceilings), "copies": {str(size): rate for size, rate in ceilings.copies.items()}}


def rows(section: dict[str, Any]) -> list[str]:
    """The section for people to read, at most 80 columns wide."""
    top = section["ceilings"]
    memory = f"{min(top['copies'].values()) / 1e9:,.0f}–{max(top['copies'].values()) / 1e9:,.0f} GB/s"
    lines = [
        f"{'what bounds it':<20}{'products':>14}{'functions':>10}{'memory':>14}{'operations':>11}",
        f"{'  at most':<20}{top['flops'] / 1e9:>6,.0f} GFLOP/s{top['functions'] / 1e9:>6,.2f} G/s"
        f"{memory:>14}{top['operation'] * 1e6:>8.1f} µs",
    ]
    for name, found in section["stages"].items():
        speed, share = (
            found["per_second"],
            {key: f"{min(100 * value, 999):.0f} %" for key, value in found["shares"].items()},
        )
        products = f"{speed['flops'] / 1e9:,.1f} {share['products']:>6}"
        memory = f"{speed['bytes'] / 1e9:,.1f} {share['memory']:>6}"
        figures = f"{products:>14}{share['functions']:>10}{memory:>14}{share['operations']:>11}"
        lines.append(f"  {name:<18}{figures} {found['bound']}")
    return lines
