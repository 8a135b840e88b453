"""The environment contract, the batch that runs it, and what both are made of; PyTorch comes in where it is used."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

from palaestra.envs.core.reference import Array as Array
from palaestra.envs.core.reference import Quantity as Quantity
from palaestra.envs.core.reference import Reference as Reference

if TYPE_CHECKING:
    from palaestra.envs.core.batched_env import BatchedEnv as BatchedEnv
    from palaestra.envs.core.batched_env import Obs as Obs
    from palaestra.envs.core.batched_env import StepResult as StepResult
    from palaestra.envs.core.batching.records import host_row as host_row
    from palaestra.envs.core.batching.records import map_state as map_state
    from palaestra.envs.core.batching.records import state_fields as state_fields
    from palaestra.envs.core.env import StateT as StateT
    from palaestra.envs.core.env import TensorEnv as TensorEnv
    from palaestra.envs.core.env import resolve_device as resolve_device
    from palaestra.envs.core.env import torch_dtype as torch_dtype
    from palaestra.envs.core.errors import EnvError as EnvError
    from palaestra.envs.core.vector import TensorVectorEnv as TensorVectorEnv


def imported_late(package: str, names: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """``__getattr__`` and ``__dir__`` of a package (PEP 562) whose names are imported when they are first used.

    Args:
        package: its ``__name__``.
        names: of each of its modules, with words between.
    """
    place = {name: module for module, those in names.items() for name in those.split()}

    def get(name: str) -> Any:
        if name not in place:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(f"{package}.{place[name]}"), name)

    return get, lambda: sorted({*vars(import_module(package)), *place})


__getattr__, __dir__ = imported_late(
    __name__,
    {
        "batched_env": "BatchedEnv Obs StepResult",
        "env": "StateT TensorEnv resolve_device torch_dtype",
        "errors": "EnvError",
        "batching.records": "host_row map_state state_fields",
        "vector": "TensorVectorEnv",
    },
)
