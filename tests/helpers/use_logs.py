"""Logs of use, as a server writes them: a policy file plays in its environment, or in one that has changed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from palaestra.envs.building import vector_env
from palaestra.envs.registry import resolve
from palaestra.train.export.confirm import fed
from palaestra.train.export.exported_policy import ExportedPolicy, player_of

START = datetime(2026, 11, 2, 8, tzinfo=UTC)


def entries_of_use(
    file: Path,
    episodes: int,
    seed: int = 0,
    rules: Any = None,
    start: datetime = START,
    every: timedelta = timedelta(minutes=1),
    apart: timedelta = timedelta(hours=3),
    seen: Callable[[Any], Any] = lambda obs: obs,
) -> Iterator[dict[str, Any]]:
    """The lines of so many episodes that begin one after another, with their rewards, in the order of time.

    Args:
        file: the policy.
        episodes: that are played.
        seed: of the environment.
        rules: those of a changed environment.
        start: of the first episode.
        every: the time from one step to the next.
        apart: the time from the beginning of one episode to that of the next.
        seen: what a sensor makes of the observations [N, …].
    """
    player = player_of(file, None, ())
    policy = player.policy
    assert isinstance(policy, ExportedPolicy)
    if rules is None:
        env: Any = resolve(player.env).make(episodes, "cpu", seed, **player.env_kwargs)
    else:
        env = vector_env(episodes, rules, device="cpu", seed=seed)
    obs, _ = env.reset()
    under_way, step = np.ones(episodes, bool), 0
    lines: list[tuple[datetime, dict[str, Any]]] = []
    while under_way.any():
        obs = seen(obs)
        feed, action = fed(policy.file.inputs, obs, env.action_masks()), policy(env, obs)
        obs, reward, terminated, truncated, _ = env.step(action)
        done = (terminated | truncated).numpy()
        for row in np.flatnonzero(under_way).tolist():
            when = start + row * apart + step * every
            line = {
                "time": when.timestamp(),
                "sha256": policy.file.sha256[:12],
                "episode": f"game {row}",
                "request": {name: part[row].tolist() for name, part in feed.items()},
                "answer": {"action": action[row].tolist()},
                "reward": float(reward[row]),
            }
            lines.append((when, line | ({"end": True} if done[row] else {})))
        under_way &= ~done
        step += 1
    yield from (line for _, line in sorted(lines, key=lambda pair: pair[0]))


def write_log(path: Path, entries: Iterator[dict[str, Any]] | list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries), encoding="utf-8")
    return path
