"""Whole episodes of a policy, step by step, to be kept.

Episode k is that of environment k under the given seed, as in an evaluation, but of a training's seeds: a policy that
is cloned from them is evaluated on others. Of each environment the first episode is kept: no length is preferred.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from palaestra.agents.buffers.rollout import map_obs
from palaestra.agents.imitation.demonstrations import RecordedEpisode
from palaestra.envs.core import Array, BatchedEnv
from palaestra.train.evaluation.episodes import most_steps
from palaestra.train.evaluation.policies import Player

_AT_ONCE = 256  # environments: all their steps are in memory until the longest episode ends


def played_episodes(
    player: Player, count: int, seed: int, open_batch: Callable[..., BatchedEnv]
) -> Iterator[RecordedEpisode]:
    """So many episodes of a player; ``open_batch`` makes environments as ``ResolvedEnv.open`` does."""
    for first in range(0, count, _AT_ONCE):
        rows = min(_AT_ONCE, count - first)
        env = open_batch(rows, player.device, seed, **player.env_kwargs, first_env_index=first)
        try:
            yield from _first_episodes(env, player)
        finally:
            env.close()


@torch.no_grad()
def _first_episodes(env: BatchedEnv, player: Player) -> Iterator[RecordedEpisode]:
    """The first episode of each row."""
    obs, _ = env.reset()
    seen, played, rewards = [map_obs(_on_host, obs)], [], []
    lengths, terminated = np.zeros(env.num_envs, dtype=np.int64), np.zeros(env.num_envs, dtype=bool)
    for step in range(1, most_steps(env) + 1):
        actions = player.policy(env, obs)
        obs, reward, ended, cut, info = env.step(actions)
        played.append(_on_host(actions))
        rewards.append(_on_host(reward))
        done = ended | cut
        seen.append(map_obs(lambda new, last, done=done: _on_host(_where(done, last, new)), obs, info["final_obs"]))
        first = _on_host(done) & (lengths == 0)
        lengths[first], terminated[first] = step, _on_host(ended)[first]
        if lengths.all():
            break
    lengths[lengths == 0] = len(rewards)  # had no end, and are cut here
    actions_of, rewards_of = np.stack(played, 1), np.stack(rewards, 1)
    observations = map_obs(lambda *steps: np.stack(steps, 1), *seen)
    for row, length in enumerate(lengths):
        part = map_obs(lambda o, row=row, length=length: o[row, : length + 1], observations)
        yield RecordedEpisode(part, actions_of[row, :length], rewards_of[row, :length], bool(terminated[row]))


def _on_host(values: Tensor) -> Array:
    found: Array = values.cpu().numpy().copy()
    return found


def _where(rows: Tensor, first: Tensor, second: Tensor) -> Tensor:
    return torch.where(rows.view(-1, *[1] * (first.dim() - 1)), first, second)
