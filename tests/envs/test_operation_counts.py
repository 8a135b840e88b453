"""Operations per step of every environment: ceilings that only fall, as each operation is a kernel on a GPU."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from palaestra.envs import TensorVectorEnv, registry
from palaestra.envs.core import TensorEnv, torch_dtype

MEMORY_ONLY = {"aten::empty", "aten::empty_like", "aten::new_empty", "aten::empty_strided", "aten::detach"}
CEILINGS: dict[str, tuple[dict[str, Any], int]] = {  # of a step with its resets; behind each what it was at 885ce09
    "cartpole": ({}, 54),  # 112
    "snake": ({}, 86),  # 201
    "snake-small": ({}, 86),  # 201
    "snake-large": ({}, 86),  # 201
    "reach": ({}, 117),  # 261
    "reach-torque": ({}, 1237),  # 4,278
    "reach-torque, pd": ({"control": "pd"}, 1491),
    "pricing": ({}, 45),  # 92
    "pricing-easy": ({}, 45),  # 88
    "pricing, rules": ({"max_change": 60, "hold": 3, "replenish": {20: 5}}, 83),
    "pricing-two": ({}, 57),  # 92
    "pricing-hidden": ({}, 85),
    "pricing-yogurt": ({}, 46),  # 106
    "pricing-duopoly": ({}, 39),  # 73
    "connect-four": ({}, 195),  # two moves, and the random opponent's first one
    "connect-four, lookahead": ({"opponent": "two-ply"}, 381),
}


class OperationCount(TorchDispatchMode):
    """Counts what computes: no views, and no memory that is only reserved."""

    def __init__(self) -> None:
        super().__init__()
        self.number = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        returns = func._schema.returns
        view = any(value.alias_info is not None and not value.alias_info.is_write for value in returns)
        self.number += not view and func._schema.name not in MEMORY_ONLY
        return func(*args, **(kwargs or {}))


def operations(env: TensorEnv[Any]) -> int:
    """Of one step on the meta device, after two that note what is drawn and record what is recorded once."""
    batch = TensorVectorEnv(env, 8, device="meta")
    batch.reset()
    action = torch.zeros(batch.action_space.shape, device="meta", dtype=torch_dtype(env.action_space))
    for _ in range(2):
        batch.step(action)
    with OperationCount() as count:
        batch.step(action)
    return count.number


@pytest.mark.parametrize("name", CEILINGS)
def test_operations_of_a_step_with_its_resets(name: str) -> None:
    arguments, ceiling = CEILINGS[name]
    number = operations(registry.resolve(name.split(",")[0]).build(**arguments))
    assert number <= ceiling, f"{number} operations"


def test_every_environment_has_a_ceiling() -> None:
    assert {entry.short_name for entry in registry.entries()} <= {*CEILINGS}
