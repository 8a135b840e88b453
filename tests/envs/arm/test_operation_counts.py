"""Operations per step of the arm's environments: ceilings that only fall, as each operation is a kernel on a GPU."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from palaestra.envs import TensorVectorEnv
from palaestra.envs.arm.reach import Reach
from palaestra.envs.arm.reach_torque import ReachTorque

MEMORY_ONLY = {"aten::empty", "aten::empty_like", "aten::new_empty", "aten::empty_strided", "aten::detach"}
CEILINGS = {  # at 885ce09: 4,278 of reach-torque and 261 of reach
    "reach-torque": (ReachTorque(), 1972),
    "reach-torque, pd": (ReachTorque(control="pd"), 2347),
    "reach": (Reach(), 236),
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


@pytest.mark.parametrize("name", CEILINGS)
def test_operations_of_a_step_with_its_resets(name: str) -> None:
    """On the meta device, after a first step that records what is recorded once."""
    env, ceiling = CEILINGS[name]
    batch = TensorVectorEnv(env, 8, device="meta")
    batch.reset()
    action = torch.zeros(batch.action_space.shape, device="meta")
    batch.step(action)
    with OperationCount() as count:
        batch.step(action)
    assert count.number <= ceiling, f"{count.number} operations"
