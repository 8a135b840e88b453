"""Logs of use, as a server writes them: a policy file plays in its environment, or in one that has changed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from policy_files import CONTRACT, model, written

from palaestra.envs.building import vector_env
from palaestra.envs.pricing import Pricing
from palaestra.envs.registry import resolve
from palaestra.train.export.confirm import fed
from palaestra.train.export.exported_policy import ExportedPolicy, player_of
from palaestra.train.export.held_out.monitored import distribution_of, watched_of
from palaestra.train.export.policy_file import PolicyFile

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


NAMED = {**CONTRACT["inputs"][0], "low": -5.0, "high": 5.0, "elements": [{"name": name} for name in "abcd"]}
CHOICES = {**CONTRACT["outputs"][0], "kind": "discrete", "first": 0, "count": 2, "choices": ["left", "right"]}
RETURNS = {"mean": 10.0, "std": 2.0, "ci_low": 9.6, "ci_high": 10.4, "episodes": 100}


def policy_with_reference(folder: Path, returns: Any = RETURNS) -> PolicyFile:
    """A small policy that was made for 5,000 independent normal observations."""
    contract: dict[str, Any] = {**CONTRACT, "inputs": [NAMED], "outputs": [CHOICES]}
    observations = normal(5000, 0)
    actions = PolicyFile(written(folder, model(), contract))({"observation": observations})["action"]
    values = np.concatenate((observations.astype(float), actions[:, None]), 1)
    numbers = [distribution_of(one, values[:, i], []).as_dict() for i, one in enumerate(watched_of(contract))]
    reference = {"states": 5000, "episodes": 100, "mean_length": 50.0, "cut_after": None, "returns": returns}
    return PolicyFile(written(folder, model(), {**contract, "reference": {**reference, "numbers": numbers}}))


def normal(count: int, seed: int, mean: float = 0.0) -> np.ndarray[Any, Any]:
    """Observations [count, 4] within the bounds."""
    return np.random.default_rng(seed).normal(mean, 1.0, (count, 4)).clip(-5, 5).astype(np.float32)


def lines_of(policy: PolicyFile, observations: np.ndarray[Any, Any], start: float = START.timestamp()) -> list[Any]:
    """Lines of a log, a second from one to the next."""
    actions = policy({"observation": observations})["action"].tolist()
    pairs = enumerate(zip(observations.tolist(), actions, strict=True))
    return [{"time": start + i, "request": {"observation": o}, "answer": {"action": a}} for i, (o, a) in pairs]


def shop_lines(demand: float, seasons: int = 30) -> Iterator[dict[str, Any]]:
    """Lines of a shop that asks ``pricing-easy``'s prices at random, where so many times as many customers come."""
    market, rng = resolve("pricing-easy").build(), np.random.default_rng(0)
    assert isinstance(market, Pricing)
    when = START.timestamp()
    for season in range(seasons):
        stock = market.stock
        for period in range(market.stages):
            action = int(rng.integers(len(market.prices)))
            sold = int(rng.random() < demand * market.wanted[period, action, 1])
            stock, when = stock - sold, when + 60.0
            end = stock == 0 or period == market.stages - 1
            request = {"observation": {"periods_left": market.stages - period, "units_left": stock + sold}}
            asked = {"time": when, "episode": f"season {season}", "request": request, "answer": {"action": action}}
            yield asked | {"sold": sold, "reward": sold * float(market.prices[action]), "end": end}
            if end:
                break
