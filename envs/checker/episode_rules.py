"""The rules of the conformance checker on how a tensor environment plays: draws, resets, ends, and purity."""

from __future__ import annotations

import time
from collections import defaultdict
from typing import Any

import torch
from torch import Tensor

from palaestra.envs.checker.findings import DoesNotApply
from palaestra.envs.checker.value_rules import (
    OPTIONAL,
    SHORT,
    Rule,
    Subject,
    difference,
    first_row,
    random_actions,
    same,
    trajectory,
)
from palaestra.envs.core import state_fields
from palaestra.envs.core.rng import Rng, child_key, env_keys
from palaestra.envs.core.symmetries.commuting import PATIENCE


def determinism(subject: Subject) -> str | None:
    twins = (trajectory(subject, subject.short(replayed=False)) for _ in range(2))
    for (step, a), (_, b) in zip(*twins, strict=True):
        if name := difference(a, b):
            return f"{name} at step {step} differs between two runs with the same seed: draw from rng only"
    return None


def batch_invariance(subject: Subject) -> str | None:
    n = subject.num_envs
    spans = [(0, 1), (1, 1), (n // 2 + 1, 1), (n - 1, 1), (0, n // 2), (n // 2, n - n // 2)]
    parts = [trajectory(subject, subject.short(size, replayed=False, first_env_index=first)) for first, size in spans]
    for step, whole in trajectory(subject, subject.short()):
        for (first, size), part in zip(spans, parts, strict=True):
            alone = next(part)[1]
            rows = {name: value[first : first + size] for name, value in whole.items()}
            if name := difference(rows, alone):
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
        draws.append(rng.used)
    if any(draws) != all(draws):
        return "reset draws random numbers in some episodes only: draw a new state every time, keep none"
    if not any(draws):
        first = {name: value[:1].expand_as(value) for name, value in records[0].items()}
        kept = "reset draws nothing from rng, yet its states differ: draw a new state every time, keep none"
        alike = DoesNotApply("reset draws nothing from rng: every episode starts alike, as the rules may want it")
        return kept if difference(first, records[0]) else alike
    if all(same(value[:1].expand_as(value), value) for value in records[0].values()):
        return "reset gives every environment the same state: draw one value per environment"
    if not difference(records[0], records[1]) or not difference(records[1], records[2]):
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
            where = f"env {first_row(wrong)} at step {step}"
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
        if not same(info["final_obs"], twin.env.observe(twin.state)):
            return f"final_obs at step {step} is not observe of the last state: observe must depend on the state only"
        twin.reset_finished(terminated | truncated, info["final_obs"])
        for episode in sorted(set(twin.episode.tolist())):
            if episode not in starts:
                starts[episode] = subject.short().reset(options={"episode": episode})[0]
            rows = (terminated | truncated) & (twin.episode == episode)
            if not same(obs[rows], starts[episode][rows]):
                return f"the observation after the end at step {step} is not the first of the new episode"
    return None


def row_reset(subject: Subject) -> str | None:
    rows, dense = subject.short(), subject.short()
    dense.reset_finished = dense._reset_by_selection  # type: ignore[method-assign]
    for (step, a), (_, b) in zip(trajectory(subject, rows), trajectory(subject, dense), strict=True):
        if name := difference(a, b):
            return f"{name} at step {step} differs between resetting the finished rows and resetting all and selecting"
    return None


def pure_step(subject: Subject) -> str | None:
    batch = subject.batch()
    batch.reset()
    kept: dict[str, Any] = {}
    seconds: dict[str, float] = defaultdict(float)  # that each method has taken
    for step in range(1, subject.steps + 1):
        actions = random_actions(batch, step)
        watched = {"action": actions, **{f"state.{k}": v for k, v in state_fields(batch.state).items()}}
        watched |= {f"self.{k}": v for k, v in vars(batch.env).items() if isinstance(v, Tensor)}
        before = {name: value.clone() for name, value in watched.items()}
        for name in ("observe", *(n for n in OPTIONAL if batch.env.has(n) and seconds[n] < PATIENCE)):
            started = time.perf_counter()
            getattr(batch.env, name)(batch.state)
            seconds[name] += time.perf_counter() - started
            if changed := difference(before, watched):
                return f"{name} changes {changed} in place at step {step}: make a new tensor"
        batch.step(actions)
        if changed := difference(before, watched):
            return f"step changes {changed} in place at step {step}: make a new tensor"
        if changed := next((name for name, value in kept.items() if vars(batch.env).get(name) is not value), None):
            return f"self.{changed} is another at step {step} than before: what changes belongs into the state"
        kept = kept or dict(vars(batch.env))  # after a first step, which may fill caches
    return None


PLAY: dict[str, Rule] = {
    "determinism": determinism,
    "batch invariance": batch_invariance,
    "resets differ": resets_differ,
    "terminated and truncated apart": ends_apart,
    "final_obs": final_obs,
    "row reset equals selection": row_reset,
    "step is pure": pure_step,
}
