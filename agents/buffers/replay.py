"""Replay memory on the device: what N environments did, in tensors that are overwritten as they fill up.

1. Every environment has a column of T rows and its own position in it. A row holds what is known *before* an action
   (``content``: the observation, or the environment's state, from which the observation is computed again), the
   action, the reward, and the kind of what followed.
2. The successor of a row is the next row of its column: nothing is stored twice. An episode that was cut by its time
   limit gets one more row of kind ``NOTHING`` that holds the last observation only; one that terminated needs none.
3. The row at an environment's position holds where it is now, also of kind ``NOTHING``. So rows of that kind end an
   n-step window as a cut does, and need no other rule: the oldest data, the newest and the wrap-around are all covered.
4. n-step returns: R = Σ_{k<m} γ^k r_k and the discount γ^m of the row m steps later, where m ≤ n is the number of
   steps until the episode or the data ends; the discount is 0 if the episode terminated on the way.
5. Rows are drawn uniformly from the most recent T − 1 of each column; after k < T − 1 steps, from the most recent k,
   so that a column with c cuts, which has k + c by then, lacks its c oldest. A draw of kind ``NOTHING`` has weight 0:
   where all episodes are cut after L steps that is one draw in L + 1, and a batch has so many transitions fewer.
6. Or they are drawn by priority (:mod:`palaestra.agents.buffers.prioritized`), from all rows but those of kind
   ``NOTHING``.

Positions and draws are tensors: nothing here waits for the device.

Source: n-step returns and replay as in Hessel et al., "Rainbow", AAAI 2018.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from palaestra.agents.buffers.memory_limits import nbytes, require
from palaestra.agents.buffers.prioritized import Priorities
from palaestra.envs.core.state_dict import check_form, fill

NOTHING, STEP, TERMINATED = 0, 1, 2  # kinds of rows

Content = dict[str, Tensor]  # name → [N, …]


class Transitions(NamedTuple):
    """B transitions of up to n steps."""

    content: Content  # [B, …] before the first step
    actions: Tensor  # int64 [B], or float32 [B, A]
    returns: Tensor  # float32 [B] discounted sum of the rewards
    discounts: Tensor  # float32 [B] factor of the value at ``next_content``
    next_content: Content  # [B, …] after the last step
    weights: Tensor  # float32 [B] importance, 0 for rows to ignore
    indices: Tensor  # int64 [B] row · N + column


class StepWindow(NamedTuple):
    """The n rows that B transitions may go through."""

    first: Tensor  # int64 [B] row · N + column
    row: Tensor  # int64 [B] of the first
    column: Tensor  # int64 [B]
    places: Tensor  # int64 [B, n] row · N + column
    counted: Tensor  # int64 [B, n], 1 for the steps of the transition, else 0
    ended: Tensor  # int64 [B], 1 if the episode terminated in them, else 0


class Replay:
    """A ring of T rows for each of N environments."""

    _numbers: ClassVar[tuple[str, ...]] = ("rewards", "actions")  # fields that must be finite

    def __init__(
        self,
        buffer_size: int,
        content: Content,
        *,
        num_actions: int = 0,
        action_shape: tuple[int, ...] | None = None,
        gamma: float,
        n_steps: int = 1,
        priorities: Priorities | None = None,
        looks: bool | None = None,
    ) -> None:
        """Allocate the memory, with the first content of every environment.

        Args:
            buffer_size: transitions in all; every environment gets the N-th part, rounded up.
            content: [N, …] by name, as it will come with every step.
            num_actions: decides how large a stored action is, of numbered ones.
            action_shape: of actions that are float32.
            gamma: discount, for n-step returns.
            n_steps: n, at least 1.
            priorities: an empty record of ``rows × N`` priorities (see :meth:`rows_for`); None to draw uniformly.
            looks: whether rows of cut episodes are sought, as they are on a CPU if nothing is said.

        Raises:
            ValueError: if n_steps rows do not fit.
            MemoryError: if it does not fit into memory.
        """
        first = next(iter(content.values()))
        self.num_envs, self.num_actions, self.device = len(first), num_actions, first.device
        self.rows = self.rows_for(buffer_size, self.num_envs)
        if n_steps >= self.rows:
            raise ValueError(f"n_steps={n_steps} needs a buffer_size above {self.num_envs * (n_steps - 1)}")
        self.priorities = priorities
        self._looks = self.device.type == "cpu" if looks is None else looks
        size = self.rows * self.num_envs
        smallest = next(t for t in (torch.uint8, torch.int16, torch.int64) if num_actions - 1 <= torch.iinfo(t).max)
        kind, shape = (smallest, ()) if action_shape is None else (torch.float32, action_shape)
        needed = self.rows * nbytes(content.values()) + size * (
            kind.itemsize * math.prod(shape) + self._beside(content)
        )
        require(needed, self.device, f"a replay memory of {size:,} transitions (buffer_size)")
        # rows without data hold the first content too: a file of the memory shows nothing of other memory
        self.content = {name: first.repeat(self.rows, *(1,) * (first.dim() - 1)) for name, first in content.items()}
        self.actions = torch.zeros(size, *shape, dtype=kind, device=self.device)
        self.rewards = torch.zeros(size, device=self.device)
        self.kinds = torch.zeros(size, dtype=torch.uint8, device=self.device)
        self.position = torch.zeros(self.num_envs, dtype=torch.int64, device=self.device)  # row of each column
        self.steps = 0  # steps stored of each environment
        self._columns = torch.arange(self.num_envs, device=self.device)
        self._window = torch.arange(n_steps, device=self.device)
        self._powers = gamma ** torch.arange(n_steps + 1, device=self.device)  # float32
        self._write(content)

    def _beside(self, content: Content) -> int:
        """Bytes of a transition beside content and action."""
        return 5

    @staticmethod
    def rows_for(buffer_size: int, num_envs: int) -> int:
        """T: one row more than the transitions kept of each environment, for where it is now."""
        return -(-buffer_size // num_envs) + 1

    def ends_at(self, content: Content) -> bool:
        """Whether the environments are where the memory left them."""
        return all(torch.equal(store[self._here()], content[name]) for name, store in self.content.items())

    def restart(self, content: Content) -> None:
        """Store the first content after a reset from outside, which cuts the running episodes here."""
        self._advance(torch.ones_like(self.position))
        self._write(content)

    def add(self, *step: Any) -> None:
        """Store one step of all environments; see :meth:`put`."""
        self.put(*step)
        self.steps += 1

    def put(
        self,
        actions: Tensor,
        rewards: Tensor,
        terminated: Tensor,
        truncated: Tensor,
        final_content: Content,
        content: Content,
    ) -> None:
        """Store one step of all environments, each [N, …], without counting it in ``steps``.

        Args:
            actions, rewards, terminated, truncated: of the step; the content before it is here already.
            final_content: after the step, before resets.
            content: after resets.
        """
        index = self._here()
        self.actions.index_copy_(0, index, actions.to(self.actions.dtype))
        self.rewards.index_copy_(0, index, rewards)
        self.kinds.index_copy_(0, index, (STEP + (TERMINATED - STEP) * terminated).to(torch.uint8))
        if self.priorities is not None:
            self.priorities.set_max(index)
        self._advance(torch.ones_like(self.position))
        self._add_cut(truncated, final_content)
        self._write(content)

    def _add_cut(self, truncated: Tensor, final_content: Content) -> None:
        """A row for the last content of cut episodes. Elsewhere the next write has the same place."""
        if self._looks:
            rows = truncated.nonzero().squeeze(1)
            if rows.numel() == 0:
                return
            index = self._here().index_select(0, rows)
            for name, store in self.content.items():
                store.index_copy_(0, index, final_content[name].index_select(0, rows))
            self._clear(index)
        else:  # finding the rows would wait for the device
            self._write(final_content)
        self._advance(truncated.long())

    def _write(self, content: Content) -> None:
        """Store the present content of the environments."""
        index = self._here()
        for name, store in self.content.items():
            store.index_copy_(0, index, content[name])
        self._clear(index)

    def _clear(self, index: Tensor) -> None:
        self.kinds.index_fill_(0, index, NOTHING)
        if self.priorities is not None:
            self.priorities.clear(index)

    def _here(self) -> Tensor:
        return self.position * self.num_envs + self._columns

    def _advance(self, steps: Tensor) -> None:
        self.position = (self.position + steps) % self.rows

    def sample(self, batch_size: int, beta: float = 1.0) -> Transitions:
        """B transitions, with replacement; call it after the first :meth:`add`. β is that of the priorities."""
        return self.gather(*self.draw(batch_size, beta))

    def draw(self, batch_size: int, beta: float = 1.0) -> tuple[Tensor, Tensor | None]:
        """Where they begin, int64 [B], and the weights float32 [B] of draws by priority."""
        if self.priorities is not None:
            return self.priorities.sample(batch_size, beta)
        drawn = torch.randint(min(self.steps, self.rows - 1) * self.num_envs, (batch_size,), device=self.device)
        column = drawn % self.num_envs
        row = (self.position.index_select(0, column) - 1 - drawn // self.num_envs) % self.rows
        return row * self.num_envs + column, None

    def gather(self, index: Tensor, weights: Tensor | None = None) -> Transitions:
        """The transitions that begin at the given places, int64 [B]; ``weights`` float32 [B] of those that count."""
        window = self._window_at(index)
        return self._transitions(window, self._rewards_in(window), weights)

    def _window_at(self, index: Tensor) -> StepWindow:
        row, column = index // self.num_envs, index % self.num_envs
        places = ((row.unsqueeze(1) + self._window) % self.rows) * self.num_envs + column.unsqueeze(1)  # [B, n]
        kinds = self.kinds.index_select(0, places.flatten()).view(places.shape)
        goes_on = (kinds == STEP).long().cumprod(1)
        counted = (kinds != NOTHING).long()
        counted[:, 1:] *= goes_on[:, :-1]
        ended = ((kinds == TERMINATED).long() * counted).amax(1)
        return StepWindow(index, row, column, places, counted, ended)

    def _rewards_in(self, window: StepWindow) -> Tensor:
        return self.rewards.index_select(0, window.places.flatten()).view(window.places.shape)

    def _transitions(self, window: StepWindow, rewards: Tensor, weights: Tensor | None) -> Transitions:
        """The transitions with these windows and rewards [B, n]."""
        index, row, column, _, counted, ended = window
        length = counted.sum(1)
        valid = counted[:, 0].float()
        actions = self.actions.index_select(0, index)
        after = ((row + length) % self.rows) * self.num_envs + column
        return Transitions(
            content=self._content_at(index),
            actions=actions if actions.is_floating_point() else actions.long(),
            returns=(rewards * counted * self._powers[:-1]).sum(1),
            discounts=self._powers.index_select(0, length) * (1 - ended) * valid,  # no NaN from rows without data
            next_content=self._content_at(after),
            weights=valid if weights is None else valid * weights,
            indices=index,
        )

    def _content_at(self, index: Tensor) -> Content:
        return {name: store.index_select(0, index) for name, store in self.content.items()}

    def rebound(self) -> list[tuple[Any, str]]:
        """The attributes, each with its object, that are bound to new tensors: all else is written in place."""
        return [(self, "position"), *([] if self.priorities is None else [(self.priorities, "_largest")])]

    def state_dict(self) -> dict[str, Any]:
        """The stored fields, as tensors and numbers."""
        parts = {"content": self.content, "steps": self.steps, "fields": self._fields()}
        return parts | ({} if self.priorities is None else {"priorities": self.priorities.state_dict()})

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Take over what :meth:`state_dict` gave of a memory of the same form.

        Raises:
            ValueError: if it has another form, or numbers that no memory holds.
        """
        if ("priorities" in saved) != (self.priorities is not None):
            raise ValueError("replay priorities: only one of the file and the agent has them")
        check_form("replay", self._fields(), saved["fields"])
        for name, limit in self._limits().items():
            low, high = saved["fields"][name].aminmax()
            if low < 0 or high >= limit:
                raise ValueError(f"replay.{name} must be 0 … {limit - 1}, the file has {int(low)} … {int(high)}")
        if not isinstance(saved["steps"], int) or saved["steps"] < 0:
            raise ValueError(f"replay.steps must be a whole number of at least 0, the file has {saved['steps']!r}")
        for name in self._numbers:
            if not saved["fields"][name].isfinite().all():
                raise ValueError(f"replay.{name} hold NaN or infinity")
        fill("replay", self._fields(), saved["fields"])
        fill("replay content", self.content, saved["content"])
        if self.priorities is not None:
            self.priorities.load_state_dict(saved["priorities"])
        self.steps = saved["steps"]

    def _limits(self) -> dict[str, int]:
        """What whole numbers of the fields are below."""
        limits = {"kinds": TERMINATED + 1, "position": self.rows}
        return limits | ({} if self.actions.is_floating_point() else {"actions": self.num_actions})

    def _fields(self) -> dict[str, Tensor]:
        names = ("actions", "rewards", "kinds", "position")
        return {name: getattr(self, name) for name in names}

    @property
    def nbytes(self) -> int:
        """Bytes of all stored fields."""
        fields: Any = (*self.content.values(), self.actions, self.rewards, self.kinds)
        return sum(field.numel() * field.element_size() for field in fields)
