"""The rules of the conformance checker (:mod:`palaestra.envs.check` runs them).

Each rule is a function that returns None where the environment keeps it, else a sentence that says what is wrong and
what to change. They play a batch with random actions; most cut the episodes short (:data:`SHORT`) to see many resets.
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

from palaestra.envs.core import EnvError, Reference, StepResult, TensorEnv, TensorVectorEnv, state_fields, torch_dtype
from palaestra.envs.rng import Rng, child_key, env_keys
from palaestra.envs.sampling import sample_actions

SHORT = 5  # steps of a shortened episode
ACTION_STREAM = 2  # the checker's actions are keyed like the environment's draws, in a stream of their own


@dataclass(frozen=True)
class Subject:
    """The environment under test. Every batch gets a copy of it, so that one rule cannot spoil another."""

    env: TensorEnv[Any]
    num_envs: int
    steps: int
    seed: int

    def batch(self, num_envs: int | None = None, **kwargs: Any) -> TensorVectorEnv[Any]:
        """A fresh batch; on the CPU unless told otherwise."""
        settings = {"device": "cpu", "seed": self.seed, **kwargs}
        return TensorVectorEnv(copy.deepcopy(self.env), num_envs or self.num_envs, **settings)

    def short(self, num_envs: int | None = None, **kwargs: Any) -> TensorVectorEnv[Any]:
        """A fresh batch with short episodes."""
        return self.batch(num_envs, max_episode_steps=SHORT, **kwargs)

    def play(self, batch: TensorVectorEnv[Any]) -> Iterator[tuple[int, Tensor, StepResult]]:
        """Step number, actions and result of each step, after a reset."""
        for step in range(1, self.steps + 1):
            actions = random_actions(batch, step)
            yield step, actions, batch.step(actions)


Rule = Callable[[Subject], str | None]


def random_actions(batch: TensorVectorEnv[Any], step: int) -> Tensor:
    """Uniform random actions [N, …]; row i depends on (seed, env index, step) alone."""
    rng = Rng(env_keys(batch.seed, batch.env_indices, ACTION_STREAM), step)
    return sample_actions(batch.single_action_space, rng)


def _record(batch: TensorVectorEnv[Any], obs: Tensor, result: StepResult | None = None) -> dict[str, Tensor]:
    """Everything that a step makes, by the name that messages use."""
    values = {"observation": obs, **{f"state.{name}": field for name, field in state_fields(batch.state).items()}}
    if result is not None:
        _, reward, terminated, truncated, info = result
        values |= {"reward": reward, "terminated": terminated, "truncated": truncated, "final_obs": info["final_obs"]}
    return values


def _trajectory(subject: Subject, batch: TensorVectorEnv[Any]) -> Iterator[tuple[int, dict[str, Tensor]]]:
    """Step number (0 for the reset) and record of each step."""
    yield 0, _record(batch, batch.reset()[0])
    for step, _, result in subject.play(batch):
        yield step, _record(batch, result[0], result)


def _same(a: Tensor, b: Tensor) -> bool:
    """Equal bit for bit, NaN included (another rule finds those)."""
    return a.shape == b.shape and a.dtype == b.dtype and torch.equal(a.nan_to_num(), b.nan_to_num())


def _first_row(wrong: Tensor) -> int:
    """Index of the first environment with a True entry in bool [N, …]."""
    return int(wrong.flatten(1).any(1).int().argmax()) if wrong.dim() > 1 else int(wrong.int().argmax())


def _difference(a: dict[str, Tensor], b: dict[str, Tensor]) -> str | None:
    """Name of the first entry that differs."""
    return next((name for name in a if not _same(a[name], b[name])), None)


def spaces(subject: Subject) -> str | None:
    env: Any = subject.env  # Any, since what the author set is in question
    obs, act, limit = env.observation_space, env.action_space, env.max_episode_steps
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
    before = state_fields(start)
    for name, field in before.items():
        if not isinstance(field, Tensor) or field.dim() == 0 or field.shape[0] != n:
            return f"state.{name} must be a tensor whose first dimension is the number of environments, {n}"
    after = state_fields(batch.env.step(start, random_actions(batch, 1), Rng(keys, 1))[0])
    for name, field in before.items():
        a, b = (field.dtype, field.shape), (after[name].dtype, after[name].shape)
        if a != b:
            return f"state.{name} is {a} after reset and {b} after step: keep shape and dtype fixed"
    return None


def shapes(subject: Subject) -> str | None:
    """The batch itself checks shape, dtype and device of what the author returns, at sizes 1 and N."""
    for num_envs in (1, subject.num_envs):
        try:
            for _ in _trajectory(subject, subject.short(num_envs)):
                pass
        except EnvError as error:
            return f"with {num_envs} environments: {error}"
    return None


def bounds(subject: Subject) -> str | None:
    space = subject.env.observation_space
    if isinstance(space, Box):
        low, high = space.low, space.high
    elif isinstance(space, Discrete):
        low, high = np.asarray(space.start), np.asarray(space.start + space.n - 1)
    else:
        low = np.zeros(space.shape or ())
        high = space.nvec - 1 if isinstance(space, MultiDiscrete) else np.ones(space.shape or ())
    lows, highs = (torch.as_tensor(bound, dtype=torch_dtype(space)) for bound in (low, high))
    for step, record in _trajectory(subject, subject.batch()):
        wrong = (record["observation"] < lows) | (record["observation"] > highs)
        if wrong.any():
            row = _first_row(wrong)
            return (
                f"observation {record['observation'][row].tolist()} of env {row} at step {step} is outside "
                "observation_space: widen the bounds or clamp"
            )
    return None


def finite(subject: Subject) -> str | None:
    for step, record in _trajectory(subject, subject.batch()):
        for name, value in record.items():
            wrong = ~value.isfinite()
            if wrong.any():
                return f"{name} of env {_first_row(wrong)} at step {step} is NaN or infinite"
    return None


def determinism(subject: Subject) -> str | None:
    twins = (_trajectory(subject, subject.short()) for _ in range(2))
    for (step, a), (_, b) in zip(*twins, strict=True):
        if name := _difference(a, b):
            return f"{name} at step {step} differs between two runs with the same seed: draw from rng only"
    return None


def batch_invariance(subject: Subject) -> str | None:
    n = subject.num_envs
    spans = [(0, 1), (1, 1), (n // 2 + 1, 1), (n - 1, 1), (0, n // 2), (n // 2, n - n // 2)]
    parts = [_trajectory(subject, subject.short(size, first_env_index=first)) for first, size in spans]
    for step, whole in _trajectory(subject, subject.short()):
        for (first, size), part in zip(spans, parts, strict=True):
            alone = next(part)[1]
            rows = {name: value[first : first + size] for name, value in whole.items()}
            if name := _difference(rows, alone):
                span = f"envs {first} … {first + size - 1}"
                return (
                    f"{name} at step {step} of {span} differs between the batch of {n} and a batch of their own "
                    f"({size}): a row must not depend on the other rows or on its position"
                )
    return None


def resets_differ(subject: Subject) -> str | None:
    batch, records, draws = subject.batch(), [], []
    for episode in range(3):
        batch.reset(options={"episode": episode})
        rng = Rng(child_key(env_keys(subject.seed, batch.env_indices), batch.episode), 0)
        records.append(state_fields(batch.env.reset(rng)))
        draws.append(rng._draw > 0)
    if any(draws) != all(draws):
        return "reset draws random numbers in some episodes only: draw a new state every time, keep none"
    if not any(draws):
        first = {name: value[:1].expand_as(value) for name, value in records[0].items()}
        kept = "reset draws nothing from rng, yet its states differ: draw a new state every time, keep none"
        return kept if _difference(first, records[0]) else None  # a start fixed by the rules is fine
    if all(_same(value[:1].expand_as(value), value) for value in records[0].values()):
        return "reset gives every environment the same state: draw one value per environment"
    if not _difference(records[0], records[1]) or not _difference(records[1], records[2]):
        return "reset gives the same states in every episode: draw them from rng each time"
    return None


def ends_apart(subject: Subject) -> str | None:
    """Both flags under a short limit; then, beyond the author's own limit, that ``terminated`` does not hold it too."""
    batch = subject.short()
    batch.reset()
    length = torch.zeros(subject.num_envs, dtype=torch.int64)
    for step, _, (_, _, terminated, truncated, _) in subject.play(batch):
        length += 1
        wrong = truncated != ((length == SHORT) & ~terminated)
        if wrong.any():
            where = f"env {_first_row(wrong)} at step {step}"
            return f"{where}: truncated must be True at the time limit only, never with terminated"
        length[terminated | truncated] = 0
    limit = subject.env.max_episode_steps
    if limit is None or limit > 1000:
        return None
    batch = subject.batch(64, max_episode_steps=limit + 1)
    batch.reset()
    alive = torch.ones(64, dtype=torch.bool)
    for step in range(1, limit + 1):
        expert = batch.env.has("expert")
        _, _, terminated, _ = batch.advance(batch.env.expert(batch.state) if expert else random_actions(batch, step))
        if step == limit and (alive & terminated).sum() == alive.sum() > 0:
            return (
                f"every episode terminates at step {limit}, which is max_episode_steps: leave the time limit to the "
                "base, or set max_episode_steps = None if the deadline belongs to the rules"
            )
        alive &= ~terminated
    return None


def final_obs(subject: Subject) -> str | None:
    batch, twin = subject.short(), subject.short()
    batch.reset()
    twin.reset()
    starts: dict[int, Tensor] = {}  # first observations of every environment, by episode
    for step, actions, (obs, _, terminated, truncated, info) in subject.play(batch):
        twin.advance(actions)
        if not _same(info["final_obs"], twin.env.observe(twin.state)):
            return f"final_obs at step {step} is not observe of the last state: observe must depend on the state only"
        twin.reset_finished(terminated | truncated, info["final_obs"])
        for episode in sorted(set(twin.episode.tolist())):
            if episode not in starts:
                starts[episode] = subject.short().reset(options={"episode": episode})[0]
            rows = (terminated | truncated) & (twin.episode == episode)
            if not _same(obs[rows], starts[episode][rows]):
                return f"the observation after the end at step {step} is not the first of the new episode"
    return None


def row_reset(subject: Subject) -> str | None:
    rows, dense = subject.short(), subject.short()
    dense.reset_finished = dense._reset_by_selection  # type: ignore[method-assign]
    for (step, a), (_, b) in zip(_trajectory(subject, rows), _trajectory(subject, dense), strict=True):
        if name := _difference(a, b):
            return f"{name} at step {step} differs between resetting the finished rows and resetting all and selecting"
    return None


def pure_step(subject: Subject) -> str | None:
    batch = subject.batch()
    batch.reset()
    for step in range(1, subject.steps + 1):
        actions = random_actions(batch, step)
        watched = {"action": actions, **{f"state.{k}": v for k, v in state_fields(batch.state).items()}}
        watched |= {f"self.{k}": v for k, v in vars(batch.env).items() if isinstance(v, Tensor)}
        before = {name: value.clone() for name, value in watched.items()}
        for name in ("observe", *(n for n in _OPTIONAL if batch.env.has(n))):
            getattr(batch.env, name)(batch.state)
            if changed := _difference(before, watched):
                return f"{name} changes {changed} in place at step {step}: make a new tensor"
        batch.step(actions)
        if changed := _difference(before, watched):
            return f"step changes {changed} in place at step {step}: make a new tensor"
    return None


_OPTIONAL = ("expert", "action_mask", "success")
_SYNC_HINT = "no .item(), no if on a tensor, no boolean-mask indexing; new tensors take device=self.device"


def no_sync(subject: Subject) -> str | None:
    """The meta device has shapes and no values, so that whatever would read one raises."""
    try:
        batch = subject.short(device="meta")
        batch.reset()
        for step in range(1, SHORT + 2):
            batch.step(random_actions(batch, step))
        for name in _OPTIONAL:
            if batch.env.has(name):
                getattr(batch.env, name)(batch.state)
    except Exception as error:  # any error at all: that is the finding
        return f'on device="meta": {type(error).__name__}: {str(error).splitlines()[0]}; {_SYNC_HINT}'
    return None


def optional_members(subject: Subject) -> str | None:
    batch = subject.batch()
    batch.reset()
    n, space = subject.num_envs, subject.env.action_space
    rules, state = batch.env, batch.state
    if rules.has("expert"):
        actions = rules.expert(state)
        if not isinstance(actions, Tensor) or actions.shape != (n, *(space.shape or ())):
            return f"expert must return {(n, *(space.shape or ()))} actions, got {getattr(actions, 'shape', actions)}"
        dtype = torch_dtype(space)
        if actions.dtype != dtype or not all(space.contains(a) for a in actions[:64].numpy()):
            return f"expert must return {dtype} actions within {space}, got {actions.dtype} in {actions.aminmax()}"
    for name, shape in (("success", (n,)), ("action_mask", (n, int(getattr(space, "n", 0))))):
        if rules.has(name):
            value = getattr(rules, name)(state)
            if not isinstance(value, Tensor) or value.shape != shape or value.dtype != torch.bool:
                return f"{name} must return a bool tensor of shape {shape}, got {value.dtype} {tuple(value.shape)}"
            if name == "action_mask" and not value.any(1).all():
                return f"action_mask of env {_first_row(~value.any(1))} allows no action"
    for key, action in rules.keys_to_action.items():
        if not isinstance(key, str) or not isinstance(space, Discrete) or not space.contains(action):
            return f"keys_to_action: {key!r} → {action!r} must map a key's name to an action of {space}"
    reference: Any = rules.reference
    if not isinstance(reference, Reference):
        return f"reference must be a Reference, got {type(reference).__name__}"
    return None


def pictures(subject: Subject) -> str | None:
    if not subject.env.has("draw"):
        return None
    from palaestra.envs.canvas import picture

    batch = subject.short(4)
    batch.reset()
    frames = [picture(batch.env, batch.state_of(0))]
    for step in range(1, SHORT + 2):
        batch.step(random_actions(batch, step))
        frames.append(picture(batch.env, batch.state_of(0)))
    if any(frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 for frame in frames):
        return "a picture must be uint8 [height, width, 3]"
    if len({frame.shape for frame in frames}) > 1:
        return "the size of the picture changes from step to step: keep it fixed, a video needs that"
    return None


STRUCTURE: dict[str, Rule] = {"spaces": spaces, "state": fixed_state, "shapes, dtypes, device": shapes}
RULES: dict[str, Rule] = {
    "observation in bounds": bounds,
    "finite numbers": finite,
    "determinism": determinism,
    "batch invariance": batch_invariance,
    "resets differ": resets_differ,
    "terminated and truncated apart": ends_apart,
    "final_obs": final_obs,
    "row reset equals selection": row_reset,
    "step is pure": pure_step,
    "no host synchronisation": no_sync,
    "optional members": optional_members,
    "pictures": pictures,
}
