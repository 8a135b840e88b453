"""Steps of a batch that a C++ compiler has made one function of: the same bits for less."""

from __future__ import annotations

from palaestra.envs.core.batched_env import BatchedEnv


def compile_steps(batch: BatchedEnv, name: str) -> list[str]:
    """Compile the steps of a batch, if it can; a line for the user on what came of it."""
    from palaestra.envs.compiled.batch import CompiledVectorEnv

    if isinstance(batch, CompiledVectorEnv):
        return [batch.prepare()]
    return [f"steps are not compiled: {name} is stepped outside of PyTorch"]
