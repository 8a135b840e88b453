"""The rules of the conformance checker for tensor environments: what they play with, and what each value must be.

:mod:`palaestra.envs.checker.conformance` runs the rules, :mod:`palaestra.envs.checker.findings` says what they return.
They play a batch with random actions; most cut the episodes short (:data:`SHORT`) to see many resets. The rules of how
an environment plays are in :mod:`palaestra.envs.checker.episode_rules`, those of its optional members in
:mod:`palaestra.envs.checker.optional_rules`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete, Space
from torch import Tensor

from palaestra.envs.core import EnvError, StepResult, TensorEnv, TensorVectorEnv, state_fields, torch_dtype
from palaestra.envs.core.rng import Rng, Stream, child_key, env_keys, sample_actions
from palaestra.envs.core.user_code import RAISED, describe

SHORT = 5  # steps of a shortened episode


@dataclass(frozen=True)
class Subject:
    """The environment under test. Every batch gets a copy of it, so that one rule cannot spoil another."""

    env: TensorEnv[Any]
    num_envs: int
    steps: int
    seed: int

    def batch(self, num_envs: int | None = None, replayed: bool = True, **kwargs: Any) -> TensorVectorEnv[Any]:
        """A fresh batch; on the CPU unless told otherwise.

        Its later steps are replays of recorded ones, unless ``replayed`` says no: few steps take less time so.
        """
        settings = {"device": "cpu", "seed": self.seed, **kwargs}
        batch = TensorVectorEnv(copy.deepcopy(self.env), num_envs or self.num_envs, **settings)
        batch.records_steps(replayed)
        return batch

    def short(self, num_envs: int | None = None, **kwargs: Any) -> TensorVectorEnv[Any]:
        """A fresh batch with short episodes."""
        return self.batch(num_envs, max_episode_steps=SHORT, **kwargs)

    def play(self, batch: TensorVectorEnv[Any]) -> Iterator[tuple[int, Tensor, StepResult]]:
        """Step number, actions and result of each step, after a reset."""
        for step in range(1, self.steps + 1):
            actions = random_actions(batch, step)
            yield step, actions, batch.step(actions)


Rule = Callable[[Subject], str | None]


def random_actions(batch: TensorVectorEnv[Any], step: int, mask: Tensor | None = None) -> Tensor:
    """Uniform random actions [N, …]; row i depends on (seed, env index, step) alone, and on its ``mask``."""
    rng = Rng(env_keys(batch.seed, batch.env_indices, Stream.CHECKER), step)
    return sample_actions(batch.single_action_space, rng, mask)


def _record(batch: TensorVectorEnv[Any], obs: Tensor, result: StepResult | None = None) -> dict[str, Tensor]:
    """Everything that a step makes, by the name that messages use."""
    values = {"observation": obs, **{f"state.{name}": field for name, field in state_fields(batch.state).items()}}
    if result is not None:
        _, reward, terminated, truncated, info = result
        values |= {"reward": reward, "terminated": terminated, "truncated": truncated, "final_obs": info["final_obs"]}
    return values


def trajectory(subject: Subject, batch: TensorVectorEnv[Any]) -> Iterator[tuple[int, dict[str, Tensor]]]:
    """Step number (0 for the reset) and record of each step."""
    yield 0, _record(batch, batch.reset()[0])
    for step, _, result in subject.play(batch):
        yield step, _record(batch, result[0], result)


def same(a: Tensor, b: Tensor) -> bool:
    """Equal bit for bit, NaN included (another rule finds those)."""
    return a.shape == b.shape and a.dtype == b.dtype and torch.equal(a.nan_to_num(), b.nan_to_num())


def first_row(wrong: Tensor) -> int:
    """Index of the first environment with a True entry in bool [N, …]."""
    return int(wrong.flatten(1).any(1).int().argmax()) if wrong.dim() > 1 else int(wrong.int().argmax())


def difference(a: dict[str, Tensor], b: dict[str, Tensor]) -> str | None:
    """Name of the first entry that differs."""
    return next((name for name in a if not same(a[name], b[name])), None)


def spaces(subject: Subject) -> str | None:
    env: Any = subject.env  # Any, since what the author set is in question
    obs, act = (getattr(env, name, None) for name in ("observation_space", "action_space"))
    limit = env.max_episode_steps
    if not isinstance(obs, Space) or not isinstance(act, Space):
        return "observation_space and action_space must be gymnasium spaces, set in __init__"
    for name, space in (("observation_space", obs), ("action_space", act)):
        if not isinstance(space, Box | Discrete | MultiDiscrete | MultiBinary):
            return f"{name} must be a Box, Discrete, MultiDiscrete or MultiBinary, got {space}"
        if isinstance(space, Box) and space.dtype == np.float64:
            return f"{name} is float64: use dtype=np.float32, the precision of the tensors"
        if isinstance(space, Box) and np.any(space.low >= space.high):
            return f"{name} has a lower bound that is not below its upper bound"
    if isinstance(act, Box) and act.dtype != np.float32:
        return f"a Box action_space must be float32, got {act.dtype}"
    if limit is not None and (not isinstance(limit, int) or limit < 1):
        return f"max_episode_steps must be None or an integer of at least 1, got {limit!r}"
    return None


def fixed_state(subject: Subject) -> str | None:
    batch, n = subject.batch(), subject.num_envs
    keys = child_key(env_keys(subject.seed, batch.env_indices), 0)
    start = batch.env.reset(Rng(keys, 0))
    before = dict(state_fields(start))
    for name, field in before.items():
        if not isinstance(field, Tensor) or field.dim() == 0 or field.shape[0] != n:
            return f"state.{name} must be a tensor whose first dimension is the number of environments, {n}"
    result: Any = batch.env.step(start, random_actions(batch, 1), Rng(keys, 1))
    if not isinstance(result, tuple) or len(result) != 3:
        got = f"{len(result)} values" if isinstance(result, tuple) else type(result).__name__
        return f"step must return (state, reward, terminated), got {got}"
    after = state_fields(result[0])
    if after.keys() != before.keys():
        return f"the state has {', '.join(before)} after reset and {', '.join(after)} after step: keep its fields"
    for name, field in before.items():
        a, b = (field.dtype, field.shape), (after[name].dtype, after[name].shape)
        if a != b:
            return f"state.{name} is {a} after reset and {b} after step: keep shape and dtype fixed"
    return None


def shapes(subject: Subject) -> str | None:
    """The batch itself checks shape, dtype and device of what the author returns, at sizes 1 and N."""
    for num_envs in (1, subject.num_envs):
        try:
            for _ in trajectory(subject, subject.short(num_envs, replayed=False)):
                pass
        except EnvError as error:
            return f"with {num_envs} environment{'s' if num_envs > 1 else ''}: {error}"
    return None


def bounds(subject: Subject) -> str | None:
    space = subject.env.observation_space
    if isinstance(space, Box):
        low, high = space.low, space.high
    elif isinstance(space, Discrete):
        low, high = np.asarray(space.start), np.asarray(space.start + space.n - 1)
    elif isinstance(space, MultiDiscrete):
        low, high = space.start, space.start + space.nvec - 1
    else:
        low, high = np.zeros(space.shape or ()), np.ones(space.shape or ())
    lows, highs = (torch.as_tensor(bound, dtype=torch_dtype(space)) for bound in (low, high))
    for step, record in trajectory(subject, subject.batch(replayed=False)):
        wrong = (record["observation"] < lows) | (record["observation"] > highs)
        if wrong.any():
            row, *entry = wrong.nonzero()[0].tolist()
            value, least, most = (t[tuple(entry)].item() for t in (record["observation"][row], lows, highs))
            return (
                f"observation{entry or ''} = {value:.6g} of env {row} at step {step} is outside observation_space, "
                f"{least:.6g} … {most:.6g} there: widen the bounds or clamp"
            )
    return None


def finite(subject: Subject) -> str | None:
    for step, record in trajectory(subject, subject.batch(replayed=False)):
        for name, value in record.items():
            wrong = ~value.isfinite()
            if wrong.any():
                return f"{name} of env {first_row(wrong)} at step {step} is NaN or infinite"
    return None


OPTIONAL = ("expert", "action_mask", "success")
_SYNC_HINT = "no .item(), no if on a tensor, no boolean-mask indexing; new tensors take device=self.device"


def no_sync(subject: Subject) -> str | None:
    """The meta device has shapes and no values, so that whatever would read one raises.

    Three steps say all: after a reset, at the time limit, and after the end of the episode.
    """
    try:
        batch = subject.batch(device="meta", max_episode_steps=2)
        batch.reset()
        for step in range(1, 4):
            batch.step(random_actions(batch, step))
        for name in OPTIONAL:
            if batch.env.has(name):
                getattr(batch.env, name)(batch.state)
    except RAISED as error:  # any error at all: that is the finding
        return f'{_SYNC_HINT}; on device="meta": {describe(error)}'
    return None


STRUCTURE: dict[str, Rule] = {"spaces": spaces, "state": fixed_state, "shapes, dtypes, device": shapes}
VALUES: dict[str, Rule] = {
    "finite numbers": finite,
    "observation in bounds": bounds,
    "no host synchronisation": no_sync,
}
