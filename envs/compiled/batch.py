"""A batch whose steps are one compiled function, on the CPU; the same bits as the steps of any other batch.

1. :meth:`CompiledVectorEnv.prepare` (or the first step) traces a step as a function of tensors: the running episodes
   and the actions come in, the episodes after it and what the step returns come out. All rows are reset and the
   finished ones selected, as on a GPU.
2. It is compiled so that it gives the bits of the operations (:mod:`palaestra.envs.compiled.exact_inductor`), and tried
   out beside a plain batch, with episodes that end; one that gives another bit is not used.
3. Where it cannot be had (no compiler, rules that look at numbers or count in Python, a GPU) steps are as without, and
   :attr:`CompiledVectorEnv.why_not` says why.
4. What a compiled step cannot take (actions that are not in the space, an error in the rules) is a plain step, which
   says so. Where an attribute of the rules is another than it was compiled with, steps are plain ones from there on.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from palaestra.envs.compiled.exact_inductor import Compiled, CompileError, compiled
from palaestra.envs.compiled.lanes import lane_rng
from palaestra.envs.core import BatchedEnv, StateT, StepResult, TensorEnv, TensorVectorEnv, map_state, state_fields
from palaestra.envs.core.batching.records import memory_unseen, spread
from palaestra.envs.core.draws.splitmix import child_key
from palaestra.envs.core.env import rules_within
from palaestra.envs.core.replay.recorded_step import COUNTERS
from palaestra.envs.core.replay.step_info import information
from palaestra.envs.core.rng import Rng, Stream, env_keys, sample_actions

_TRIED = 6  # steps beside a plain batch


class CompiledVectorEnv(TensorVectorEnv[StateT]):
    """See the module.

    Attributes:
        why_not: why steps are not compiled; None where they are, or will be.
        compile_seconds: what making the function took; None before.
    """

    def __init__(self, env: TensorEnv[StateT], num_envs: int = 1, **settings: Any) -> None:
        super().__init__(env, num_envs, **settings)
        self.why_not: str | None = None
        self.compile_seconds: float | None = None
        self._program: _Program | None = None

    def prepare(self) -> str:
        """Compile the step, if that has not been tried; one line on what came of it."""
        if self._program is None and self.why_not is None:
            began = time.perf_counter()
            try:
                self._program = _program(self)
                self.compile_seconds = time.perf_counter() - began
                self._replayed_before = self._replays
                self.records_steps(False)  # they are a part of what is compiled
            except CompileError as error:
                self._refuse(str(error))
        if self.why_not is not None:
            return f"steps are not compiled: {self.why_not}"
        return f"steps are compiled ({self.compile_seconds:.1f} s)"

    def _refuse(self, why: str) -> None:
        *_, rules = rules_within(self.env)  # the innermost
        if self._program is not None:
            self.records_steps(self._replayed_before)
        self._program, self.why_not = None, f"{type(rules).__name__}: {why}"

    def _prepare_or_warn(self) -> None:
        told = self.prepare()
        if self._program is None:
            warnings.warn(told, stacklevel=3)

    def step(self, actions: Tensor) -> StepResult:
        if self._program is None and self.why_not is None and self.state is not None:
            self._prepare_or_warn()
        program = self._program
        if program is not None and self.state is not None and self.accepts(actions) and not actions.requires_grad:
            if program.is_of_the_rules():
                try:
                    return program.step(self, actions)
                except RuntimeError:  # from the rules; the plain step says more
                    self._forget()
            else:
                self._refuse("an attribute of the rules has changed")
                self._forget()
        return super().step(actions)

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_program": None}  # made again where it is needed


def compile_steps(batch: BatchedEnv, name: str) -> list[str]:
    """Compile the steps of a batch, if it can; a line for the user on what came of it."""
    if isinstance(batch, CompiledVectorEnv):
        return [batch.prepare()]
    return [f"steps are not compiled: {name} is stepped outside of PyTorch"]


class _Program:
    """A compiled step."""

    def __init__(self, batch: TensorVectorEnv[Any], function: Compiled, form: _Step) -> None:
        self._function, self._form = function, form
        self._rules = rule_attributes(batch.env)
        self._now = [*_values(batch.env)]

    def is_of_the_rules(self) -> bool:
        """True if the rules' attributes are those that it was compiled with."""
        now = [value for attributes in self._rules for value in attributes.values()]
        return len(now) == len(self._now) and all(map(_same, now, self._now))

    def step(self, batch: Any, actions: Tensor) -> StepResult:
        episode = batch.episode
        result = self._form.take(batch, self._function(self._form.inputs(batch, actions)))
        batch._pipeline = batch._used_pipeline = batch._earlier_state = None
        batch._final_place = (None, episode, result[4]["episode"]["l"])
        return result


class _Step:
    """A step of a batch as a function of a list of tensors."""

    def __init__(self, batch: TensorVectorEnv[Any]) -> None:
        state: Any = batch.state
        self._names, self._kind = [*state_fields(state)], type(state)
        self._has_success = "success" in batch._optional

    def inputs(self, batch: Any, actions: Tensor) -> list[Tensor]:
        state = batch.state
        fields = [getattr(state, name) for name in self._names]
        running = [*fields, *(getattr(batch, name) for name in COUNTERS), batch.env_keys]
        return [tensor.contiguous() for tensor in (*running, actions.to(batch.action_dtype))]

    def outputs(self, batch: Any, result: StepResult) -> list[Tensor]:
        obs, reward, terminated, truncated, info = result
        success = [info["is_success"]] if self._has_success else []
        told = [obs, reward, terminated, truncated, info["final_obs"], info["_episode"], *info["episode"].values()]
        states = [*state_fields(batch.state).values(), *state_fields(batch.final_state).values()]
        return [*told, *success, *states, *(getattr(batch, name) for name in COUNTERS)]

    def take(self, batch: Any, outputs: Any) -> StepResult:
        """What a step returns; the batch gets the episodes after it."""
        obs, reward, terminated, truncated, final_obs, done, returned, length, *rest = outputs
        info = information(final_obs, done, returned, length, rest.pop(0) if self._has_success else None)
        count = len(self._names)
        batch.state, batch.final_state = self._kind(*rest[:count]), self._kind(*rest[count : 2 * count])
        batch.episode, batch.episode_length, batch.episode_return, batch._episode_keys = rest[2 * count :]
        return obs, reward, terminated, truncated, info


class _TracedBatch(TensorVectorEnv[StateT]):
    """A batch whose steps are functions of tensors alone, written for a compiler."""

    def accepts(self, actions: Any) -> bool:
        return True

    def function(self, form: _Step) -> Any:
        """The step as a function of tensors."""

        def step(*inputs: Tensor) -> list[Tensor]:
            *fields, episode, length, returned, keys, env_keys_, actions = inputs
            self.state = form._kind(*fields)
            self.episode, self.episode_length, self.episode_return = episode, length, returned
            self._episode_keys, self.env_keys = keys, env_keys_
            return form.outputs(self, self._step(actions))

        return step

    def reset_finished(self, done: Tensor, final_obs: Tensor) -> Tensor:
        episode = self.episode + done
        keys = child_key(self.env_keys, episode)
        fresh: Any = self.env.reset(lane_rng(keys, 0))
        state: Any = map_state(lambda new, old: torch.where(spread(done, old), new, old), fresh, self.state)
        self.state = state
        self.episode, self.episode_length = episode, self.episode_length.masked_fill(done, 0)
        self.episode_return = self.episode_return.masked_fill(done, 0.0)
        self._episode_keys = torch.where(done, keys, self._episode_keys)
        return self._observe(state, (None, episode, self.episode_length))


def rule_attributes(rules: Any) -> list[dict[str, Any]]:
    """The attributes of rules, and of those inside wrappers."""
    return [vars(each) for each in rules_within(rules)]


def _values(rules: Any) -> Iterator[Any]:
    for attributes in rule_attributes(rules):
        yield from attributes.values()


def _program(batch: CompiledVectorEnv[Any]) -> _Program:
    """The compiled step of batches like this one, tried out.

    Raises:
        CompileError: saying why there is none.
    """
    if batch.device.type != "cpu":
        raise CompileError(f"the CPU only has compiled steps, and this batch is on {batch.device}")
    settings: dict[str, Any] = {"device": "cpu", "seed": batch.seed, "max_episode_steps": batch.max_episode_steps}
    rules = rule_attributes(batch.env)
    before = [dict(attributes) for attributes in rules]
    with torch.no_grad(), torch.inference_mode(False):
        try:
            traced: _TracedBatch[Any] = _TracedBatch(batch.env, batch.num_envs, **settings)
            plain: Any = TensorVectorEnv(batch.env, batch.num_envs, **settings)
            for each in (traced, plain):
                each.records_steps(False)
                each.reset()
            form = _Step(traced)
            actions = _actions(plain, 0)
            with memory_unseen():
                function = compiled(traced.function(form), [t.clone() for t in form.inputs(traced, actions)])
            program = _Program(batch, function, form)
            _try_out(program, plain, batch)
        except CompileError:
            raise
        except Exception as error:  # whatever the rules raise: a plain step says it
            raise CompileError(str(error).strip().partition("\n")[0] or type(error).__name__) from error
        finally:
            changed = _changed(rules, before)
            for attributes, old in zip(rules, before, strict=True):
                attributes.clear()
                attributes.update(old)
    if changed:
        raise CompileError(f"a step changes the attribute {changed} of the rules")
    return program


def _changed(rules: list[dict[str, Any]], before: list[dict[str, Any]]) -> str:
    """The name of an attribute that is not what it was; empty if there is none."""
    for now, old in zip(rules, before, strict=True):
        for name in sorted(now.keys() | old.keys()):
            if (name in now) != (name in old) or not _same(now.get(name), old.get(name)):
                return name
    return ""


def _same(one: Any, other: Any) -> bool:
    """True for one object, or two numbers, words or devices that are equal."""
    return one is other or (isinstance(one, int | float | str | torch.device) and one == other)


def _actions(batch: Any, step: int) -> Tensor:
    keys = env_keys(0, batch.env_indices, Stream.CHECKER)
    return sample_actions(batch.single_action_space, Rng(keys, step), batch.action_masks())


def _try_out(program: _Program, plain: Any, batch: Any) -> None:
    """Take steps beside a plain batch.

    Raises:
        CompileError: if a bit is another.
    """
    settings = {"device": "cpu", "seed": batch.seed, "max_episode_steps": batch.max_episode_steps}
    fast: Any = TensorVectorEnv(batch.env, batch.num_envs, **settings)
    fast.records_steps(False)
    fast.reset()
    for step in range(_TRIED):
        actions = _actions(plain, step)
        if step == 2 and plain.max_episode_steps is not None:  # some episodes end by time
            for each in (plain, fast):
                each.episode_length = torch.where(
                    each.env_indices % 3 == 0, plain.max_episode_steps - 1, each.episode_length
                )
        expected, found = plain.step(actions), program.step(fast, actions)
        told = program._form.outputs(plain, expected), program._form.outputs(fast, found)
        for one, other in zip(*told, strict=True):
            if not same_bits(one, other):
                raise CompileError("the compiled step gives other bits than a plain one")


def same_bits(one: Tensor, other: Tensor) -> bool:
    """True for tensors of one form with the same bits: zeros have a sign, and what is not a number may be the same."""
    if (one.shape, one.dtype) != (other.shape, other.dtype):
        return False
    if one.is_floating_point():
        whole = {2: torch.int16, 4: torch.int32, 8: torch.int64}[one.element_size()]
        one, other = one.contiguous().view(whole), other.contiguous().view(whole)
    return torch.equal(one, other)
