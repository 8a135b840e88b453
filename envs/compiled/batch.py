"""A batch whose replayed steps are C++, on the CPU; the same bits as the steps of any other batch.

1. Steps are recorded as those of any batch are (:mod:`palaestra.envs.core.replay.replayed_steps`), and so are resets of
   the rows whose episodes end. :mod:`palaestra.envs.compiled.parts` makes C++ of the operations that have one result
   whoever computes them; the others stay PyTorch's calls.
2. :meth:`CompiledVectorEnv.prepare` (or the first step) tries that on another batch of the same rules, so that what
   the compiler takes is spent, and said, before the first step.
3. Where it cannot be had (no compiler, rules that look at numbers or count in Python, a GPU) steps are as without, and
   :attr:`CompiledVectorEnv.why_not` says why.
"""

from __future__ import annotations

import time
import warnings
from typing import Any

import torch
from torch import Tensor

from palaestra.envs.compiled.compiler import CompileError
from palaestra.envs.compiled.parts import CompiledProgram
from palaestra.envs.compiled.resets import CompiledResets
from palaestra.envs.core import BatchedEnv, StateT, StepResult, TensorEnv, TensorVectorEnv
from palaestra.envs.core.env import rules_within
from palaestra.envs.core.replay.program import Program
from palaestra.envs.core.replay.recorded_step import RecordedStep
from palaestra.envs.core.replay.recording import Recording, ReplayError
from palaestra.envs.core.rng import Rng, Stream, env_keys, sample_actions
from palaestra.envs.core.user_code import RAISED

_TRIED = 16  # steps of another batch


class CompiledVectorEnv(TensorVectorEnv[StateT]):
    """See the module.

    Attributes:
        why_not: why steps are not compiled; None where they are, or will be.
        compile_seconds: what recording and compiling took; None before.
    """

    def __init__(self, env: TensorEnv[StateT], num_envs: int = 1, **settings: Any) -> None:
        super().__init__(env, num_envs, **settings)
        self.why_not: str | None = None
        self.compile_seconds: float | None = None

    def prepare(self) -> str:
        """Compile the step, if that has not been tried; one line on what came of it."""
        if self.compile_seconds is None and self.why_not is None:
            began = time.perf_counter()
            try:
                _try_out(self)
                self.compile_seconds = time.perf_counter() - began
                self._compile_when_recorded()
            except CompileError as error:
                self._refuse(str(error))
        if self.why_not is not None:
            return f"steps are not compiled: {self.why_not}"
        return f"steps are compiled ({self.compile_seconds:.1f} s)"

    def _compile_when_recorded(self) -> None:
        recorder = self._steps.recorder
        recorder.lowerings, recorder.resets = (self._compiled_program, Program), self._compiled_resets

    def _compiled_program(self, recording: Recording, inputs: set[int], results: set[int]) -> Program:
        try:
            return CompiledProgram(recording, inputs, results, self.num_envs)
        except CompileError as error:
            raise ReplayError(str(error)) from error

    def _compiled_resets(self, batch: Any, recorded: RecordedStep) -> CompiledResets | None:
        if self._steps.recorder.not_lowered is not None:
            return None
        try:
            return CompiledResets(batch, recorded)
        except (*RAISED, ReplayError):  # they are made by the rules then, as without a compiler
            return None

    def _refuse(self, why: str) -> None:
        *_, rules = rules_within(self.env)  # the innermost
        self.why_not = f"{type(rules).__name__}: {why}"

    def _prepare_or_warn(self) -> None:
        told = self.prepare()
        if self.why_not is not None:
            warnings.warn(told, stacklevel=3)

    def step(self, actions: Tensor) -> StepResult:
        if self.why_not is None:
            if self.compile_seconds is None:
                if self.state is not None:  # else the step says that a reset is missing
                    self._prepare_or_warn()
            elif self._steps.recorder.not_lowered is not None:  # another recording than the one that was tried
                self._refuse(self._steps.recorder.not_lowered)
                warnings.warn(f"steps are not compiled: {self.why_not}", stacklevel=2)
        return super().step(actions)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if self.compile_seconds is not None and self.why_not is None:
            self._compile_when_recorded()


def compile_steps(batch: BatchedEnv, name: str) -> list[str]:
    """Compile the steps of a batch, if it can; a line for the user on what came of it."""
    if isinstance(batch, CompiledVectorEnv):
        return [batch.prepare()]
    return [f"steps are not compiled: {name} is stepped outside of PyTorch"]


def _try_out(batch: CompiledVectorEnv[Any]) -> None:
    """Take compiled steps of another batch like this one.

    Raises:
        CompileError: saying why there are none.
    """
    if batch.device.type != "cpu":
        raise CompileError(f"the CPU only has compiled steps, and this batch is on {batch.device}")
    settings: dict[str, Any] = {"device": "cpu", "seed": batch.seed, "max_episode_steps": batch.max_episode_steps}
    rules = [vars(env) for env in rules_within(batch.env)]
    before = [dict(attributes) for attributes in rules]
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            other: Any = CompiledVectorEnv(batch.env, batch.num_envs, **settings)
            other._compile_when_recorded()
            other.compile_seconds = 0.0
            other.reset()
            for step in range(_TRIED):
                keys = env_keys(0, other.env_indices, Stream.CHECKER)
                actions = sample_actions(other.single_action_space, Rng(keys, step), other.action_masks())
                TensorVectorEnv.step(other, actions.to(other.action_dtype))
                if other._steps.replay is not None or other._steps.why_not is not None:
                    break
    except RAISED as error:  # whatever the rules raise: a step of the batch itself says it
        raise CompileError(str(error).strip().partition("\n")[0] or type(error).__name__) from error
    finally:
        for attributes, old in zip(rules, before, strict=True):
            attributes.clear()
            attributes.update(old)
    why_not = other._steps.why_not or other._steps.recorder.not_lowered
    if why_not is not None:
        raise CompileError(why_not)
