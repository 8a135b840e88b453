"""Replay with hindsight: most samples are told that what the episode reached later is what was asked for.

1. Beside each transition lies the goal that it achieved, and the number of its episode in its column. A table says of
   each episode which row it has come to. A column of T rows cannot hold more than T episodes, so numbers are modulo T.
2. The first k / (k + 1) of a batch are relabelled ("future", k goals for each real one): the goal is that achieved by
   a transition of the same episode drawn uniformly from this one, itself included, to the latest there is.
3. Their rewards, all n of an n-step return, are asked of the environment for the goals that were achieved. They
   terminate where the real ones did, as in Stable-Baselines3.
4. What is left of an episode that is being overwritten is its end, in which all later goals are; Stable-Baselines3
   forgets such an episode whole. Episodes that are running are replayed too, with what they have reached so far:
   Stable-Baselines3 waits for their end, for which thousands of environments would take thousands of times as long.

Source: Andrychowicz et al., "Hindsight experience replay", NeurIPS 2017, sections 3.2 and 4.5.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from palaestra.agents.buffers.memory_limits import nbytes
from palaestra.agents.buffers.replay import Content, Replay, StepWindow, Transitions
from palaestra.envs.goals import ACHIEVED, DESIRED


class HindsightReplay(Replay):
    """A ring of T rows for each of N environments, whose contents hold the goals."""

    _numbers = (*Replay._numbers, "reached")

    def __init__(
        self,
        buffer_size: int,
        content: Content,
        *,
        hindsight: int,
        goal_rewards: Callable[[Tensor, Tensor], Tensor],
        **form: Any,
    ) -> None:
        """Allocate the memory; the arguments that are not here are :class:`Replay`'s.

        Args:
            buffer_size, content: as there.
            hindsight: k, relabelled transitions for each real one.
            goal_rewards: rewards [B] for goals achieved and desired, both [B, …].
            form: as there.
        """
        super().__init__(buffer_size, content, **form)
        self.hindsight, self._goal_rewards = hindsight, goal_rewards
        goal, size = content[ACHIEVED], self.rows * self.num_envs
        self.reached = goal.repeat(self.rows, *(1,) * (goal.dim() - 1))  # [T · N, …] by each transition
        self.episodes = torch.zeros(size, dtype=torch.int32, device=self.device)  # its number, modulo T
        self.ends = torch.zeros(size, dtype=torch.int32, device=self.device)  # latest row of episode · N + column
        self.running = torch.zeros(self.num_envs, dtype=torch.int64, device=self.device)  # episode of each column

    def _beside(self, content: Content) -> int:
        return super()._beside(content) + nbytes([content[ACHIEVED][:1]]) + 8

    def restart(self, content: Content) -> None:
        super().restart(content)
        self._begin_episodes(torch.ones_like(self.running))

    def put(
        self,
        actions: Tensor,
        rewards: Tensor,
        terminated: Tensor,
        truncated: Tensor,
        final_content: Content,
        content: Content,
    ) -> None:
        index = self._here()
        self.reached.index_copy_(0, index, final_content[ACHIEVED])
        self.episodes.index_copy_(0, index, self.running.to(self.episodes.dtype))
        self.ends.index_copy_(0, self.running * self.num_envs + self._columns, self.position.to(self.ends.dtype))
        super().put(actions, rewards, terminated, truncated, final_content, content)
        self._begin_episodes((terminated | truncated).long())

    def _begin_episodes(self, where: Tensor) -> None:
        self.running = (self.running + where) % self.rows

    def gather(self, index: Tensor, weights: Tensor | None = None) -> Transitions:
        """As :meth:`Replay.gather`; the first k / (k + 1) of the transitions are relabelled."""
        count = len(index) * self.hindsight // (self.hindsight + 1)
        window = self._window_at(index)
        rewards = self._rewards_in(window)
        goals = self._later_goals(window, count)
        places = window.places[:count]
        asked = goals.repeat_interleave(places.shape[1], 0)
        achieved = self.reached.index_select(0, places.flatten())
        rewards[:count] = self._goal_rewards(achieved, asked).view(places.shape)
        found = self._transitions(window, rewards, weights)
        for content in (found.content, found.next_content):
            content[DESIRED][:count] = goals.to(content[DESIRED].dtype)
        return found

    def _later_goals(self, window: StepWindow, count: int) -> Tensor:
        """Goals [V, …] that the episodes of the first V transitions achieved in them or later."""
        index, row, column = window.first[:count], window.row[:count], window.column[:count]
        episode = self.episodes.index_select(0, index).long()
        end = self.ends.index_select(0, episode * self.num_envs + column)
        steps = (end - row) % self.rows + 1
        drawn = torch.rand(count, dtype=torch.float64, device=self.device) * steps
        later = (row + torch.minimum(drawn.long(), steps - 1)) % self.rows  # a product may be rounded to the bound
        return self.reached.index_select(0, later * self.num_envs + column)

    def rebound(self) -> list[tuple[Any, str]]:
        return [*super().rebound(), (self, "running")]

    def _limits(self) -> dict[str, int]:
        return super()._limits() | dict.fromkeys(("episodes", "ends", "running"), self.rows)

    def _fields(self) -> dict[str, Tensor]:
        names = ("reached", "episodes", "ends", "running")
        return super()._fields() | {name: getattr(self, name) for name in names}

    @property
    def nbytes(self) -> int:
        """Bytes of all stored fields."""
        own = (self.reached, self.episodes, self.ends)
        return super().nbytes + sum(field.numel() * field.element_size() for field in own)
