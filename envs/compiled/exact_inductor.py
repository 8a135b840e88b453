"""PyTorch's compiler, inductor, held to the bits that the operations give one by one.

A function of tensors is traced by ``make_fx`` and compiled for the CPU. Left alone, inductor computes sines, roots and
the like by other code than PyTorch's own operations, sums in another order, and divides before it multiplies. Here

1. only operations that are exact, or rounded once as IEEE 754 wants it, are fused (:data:`_EXACT`); every other one is
   called as it is, on what comes before it;
2. ``addcdiv``, and an ``addcmul`` to zero, are taken apart in the order in which PyTorch computes them; what it may
   round once instead of twice, as an addition with a factor, is called as it is;
3. the compiler may neither contract multiplications and additions, nor forget the sign of zero;
4. no pattern is replaced by a faster one, and one thread computes, whatever their number elsewhere.

Numbers and tables that the function takes from outside are part of what is compiled, so they may not change.

The compiler's files lie where PyTorch keeps them: ``$TORCHINDUCTOR_CACHE_DIR``, else ``torchinductor_USER`` in the
folder for temporary files. Their names are digests of the code, the options and the versions, and they are locked while
they are written, so that several processes may compile at once.
"""

from __future__ import annotations

import operator
import os
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

Compiled = Callable[[list[Tensor]], Sequence[Tensor]]

_EXACT = frozenset(
    (
        *("abs", "neg", "sign", "sgn", "floor", "ceil", "square", "minimum", "maximum"),
        *("add", "sub", "mul", "div", "pow", "clamp", "clamp_min", "clamp_max"),
        *("eq", "ne", "lt", "le", "gt", "ge", "where", "masked_fill", "any", "all"),
        *("bitwise_and", "bitwise_or", "bitwise_xor", "bitwise_not", "logical_and", "logical_or", "logical_not"),
        *("__rshift__", "__lshift__", "bitwise_right_shift", "bitwise_left_shift"),
        *("clone", "copy", "_to_copy", "convert_element_type", "alias", "detach", "lift_fresh_copy", "fill"),
        *("index_select", "gather", "index", "stack", "cat", "unbind", "select", "slice", "view", "_unsafe_view"),
        *("reshape", "permute", "transpose", "t", "unsqueeze", "squeeze", "expand", "select_scatter", "slice_scatter"),
        *("full", "full_like", "ones", "ones_like", "zeros", "zeros_like", "empty", "empty_like", "empty_permuted"),
        *("new_empty", "new_full", "new_zeros", "new_ones", "scalar_tensor", "arange"),
    )
)
_TAG = "palaestra-1"  # part of the names of compiled files, beside the code; to be changed with the options


class CompileError(RuntimeError):
    """A function cannot be compiled; the message is one line that says why."""


def compiled(function: Callable[..., Sequence[Tensor]], inputs: Sequence[Tensor]) -> Compiled:
    """A function of a list of tensors on the CPU, of these forms, which it empties; the outputs are new tensors.

    Args:
        function: gives tensors for tensors, and changes none of them. It is called twice: what it keeps for later calls
            must not be made while it is traced, since it would keep the tracer's tensors.
        inputs: examples.

    Raises:
        CompileError: if there is no compiler, or it fails, or the function is none of tensors alone.
    """
    if sys.platform != "linux":
        raise CompileError(f"it has been tried on Linux only, and this is {sys.platform}")
    compiler = _compiler()
    # warnings are of PyTorch about itself; minibatches are drawn from the generator of all, which must stay as it is
    with warnings.catch_warnings(action="ignore"), torch.random.fork_rng(devices=[]), _imported_distutils():
        return _compiled(function, inputs, compiler)


@contextmanager
def _imported_distutils() -> Iterator[None]:
    """A block in which setuptools, which inductor imports, leaves distutils as it is where it was imported before.

    Otherwise setuptools puts its own in its place, and fails an assertion where something holds on to the other.
    """
    if "distutils" not in sys.modules or "setuptools" in sys.modules or "SETUPTOOLS_USE_DISTUTILS" in os.environ:
        yield
        return
    os.environ["SETUPTOOLS_USE_DISTUTILS"] = "stdlib"
    try:
        yield
    finally:
        del os.environ["SETUPTOOLS_USE_DISTUTILS"]


def _compiled(function: Callable[..., Sequence[Tensor]], inputs: Sequence[Tensor], compiler: str) -> Compiled:
    try:
        from torch._inductor.compile_fx import compile_fx_inner

        trace = _traced(function, inputs)
        tagged: Any = torch.compiler.config
        with torch._inductor.config.patch(_options()), tagged.patch(cache_key_tag=_TAG):
            examples = [node.meta["val"] for node in trace.graph.nodes if node.op == "placeholder"]
            made: Any = compile_fx_inner(trace, examples, is_inference=True)
    except CompileError:
        raise
    except Exception as error:  # inductor raises anything, as the function and the compiler do
        raise CompileError(_reason(error, compiler)) from error
    return made  # type: ignore[no-any-return]


def _compiler() -> str:
    """The C++ compiler that inductor calls."""
    from torch._inductor import config

    named = config.cpp.cxx[1] if isinstance(config.cpp.cxx, tuple | list) else config.cpp.cxx
    if shutil.which(str(named)) is None:
        raise CompileError(f"there is no C++ compiler {named} (install g++, or name one in CXX)")
    return str(named)


def _options() -> dict[str, Any]:
    return {
        "pattern_matcher": False,
        "fallback_random": True,
        "size_asserts": False,
        "compile_threads": 1,  # no processes that outlive this one
        "max_fusion_size": 2000,
        "realize_opcount_threshold": 20,  # what is longer is computed once; left alone, Python expands it many times
        "cpp.threads": 1,
        "cpp.enable_floating_point_contract_flag": "off",
        "cpp.enable_unsafe_math_opt_flag": False,
        "cpp.march": "native -fsigned-zeros",  # options that come after those of inductor
    }


def _traced(function: Callable[..., Sequence[Tensor]], inputs: Sequence[Tensor]) -> Any:
    """The function's operations, of which inductor will fuse those that are exact."""
    from torch._inductor.decomposition import select_decomp_table
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.fx.experimental.proxy_tensor import make_fx
    from torch.fx.passes.fake_tensor_prop import FakeTensorProp

    taken_apart = {
        operation: parts
        for operation, parts in select_decomp_table().items()
        if isinstance(operation, torch._ops.OpOverload) and operation.overloadpacket.__name__ in _EXACT
    }
    taken_apart[torch.ops.aten.addcdiv.default] = _addcdiv
    function(*inputs)
    pure = torch.func.functionalize(function, remove="mutations")
    trace = make_fx(pure, decomposition_table=taken_apart)(*inputs)
    trace.graph.eliminate_dead_code()
    _join_parts(trace)
    _take_products_apart(trace)
    trace.recompile()
    for node in trace.graph.nodes:
        node.meta.pop("val", None)
    FakeTensorProp(trace, FakeTensorMode(allow_non_fake_inputs=True)).propagate(*inputs)
    _leave_alone(trace)
    return trace


def _addcdiv(start: Tensor, first: Tensor, second: Tensor, *, value: Any = 1) -> Tensor:
    return start + (first / second if value == 1 else first * value / second)


def _leave_alone(trace: Any) -> None:
    """Mark the operations that are to be called as they are."""
    from torch._inductor import lowering

    for node in trace.graph.nodes:
        operation = node.target
        if node.op != "call_function" or operation is operator.getitem or _is_exact(node):
            continue
        if operation not in lowering.lowerings:
            register: Any = lowering.make_fallback
            register(operation, warn=False, override_decomp=True)
        node.meta["should_fallback"] = True


def _is_exact(node: Any) -> bool:
    """True if the operation gives the same bits however it is computed."""
    name, kind = node.target.overloadpacket.__name__, node.target._overloadname
    whole = not node.meta["val"].is_floating_point() if isinstance(node.meta.get("val"), Tensor) else True
    if name in ("add", "sub"):
        return whole or node.kwargs.get("alpha", 1) == 1
    if name == "div":
        return bool(kind == "Tensor")
    if name == "pow":
        return bool(kind == "Tensor_Scalar" and node.args[1] == 2)
    return name in _EXACT


def _take_products_apart(trace: Any) -> None:
    """Write an ``addcmul`` to zero as the products that it is."""
    aten = torch.ops.aten
    for node in [*trace.graph.nodes]:
        if node.target is not aten.addcmul.default or not _is_zero(trace, node.args[0]):
            continue
        start, first, second = node.args
        with trace.graph.inserting_before(node):
            scaled = trace.graph.call_function(aten.mul.Tensor, (first, node.kwargs.get("value", 1)))
            product = trace.graph.call_function(aten.mul.Tensor, (scaled, second))
            node.replace_all_uses_with(trace.graph.call_function(aten.add.Tensor, (product, start)))
        trace.graph.erase_node(node)


def _is_zero(trace: Any, node: Any) -> bool:
    """True for a number zero that comes from outside."""
    while node.op == "call_function" and node.target in (
        torch.ops.aten.lift_fresh_copy.default,
        torch.ops.aten.alias.default,
    ):
        node = node.args[0]
    value = getattr(trace, node.target) if node.op == "get_attr" else None
    return isinstance(value, Tensor) and value.dim() == 0 and not bool(value)


def _join_parts(trace: Any) -> None:
    """Take parts of what was stacked from the parts, so that operations on them are of one form, and are fused."""
    aten = torch.ops.aten
    for node in [*trace.graph.nodes]:
        if node.op != "call_function" or not (parts := _parts(node)):
            continue
        for user in [*node.users]:
            if user.target is aten.select.int and user.args[1] == parts[0] and user.args[2] >= 0:
                user.replace_all_uses_with(parts[1][user.args[2]])
            elif user.target is aten.unbind.int and (user.args[1:] or (0,))[0] == parts[0]:
                for item in [*user.users]:
                    item.replace_all_uses_with(parts[1][item.args[1]])
    trace.graph.eliminate_dead_code()


def _parts(node: Any) -> tuple[int, list[Any]] | None:
    """The dimension and the parts of a stack, whether it is one or made as concatenation; None of anything else."""
    aten = torch.ops.aten
    if node.target is aten.stack.default:
        return (node.args[1] if len(node.args) > 1 else 0), [*node.args[0]]
    if node.target is not aten.cat.default:
        return None
    dimension = node.args[1] if len(node.args) > 1 else 0
    if all(part.target is aten.unsqueeze.default and part.args[1] == dimension for part in node.args[0]):
        return dimension, [part.args[0] for part in node.args[0]]
    return None


def _reason(error: BaseException, compiler: str) -> str:
    """One line on what went wrong; what a compiler prints is not for users."""
    kinds = [type(each).__name__ for each in (error, error.__cause__, error.__context__) if each is not None]
    if any("CppCompile" in kind for kind in kinds):
        return f"the C++ compiler {compiler} failed"
    if "mutating a non-functional tensor" in str(error):
        return "it writes into memory that it keeps"
    if "data-dependent" in str(error) or "dynamic shape" in str(error) or "nonzero" in str(error):
        return "it looks for rows, so that forms depend on values"
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return lines[0][:200]
