"""Rollouts of agents with a memory: minibatches of sequences, with the memory before each.

A rollout of T steps is cut into T / L sequences of L steps; derivatives pass through the steps of a sequence, and stop
at its beginning, where the memory is the one that acted. Minibatches are sequences in random order, all rows of a step
one behind the other: [L · B, …].
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from palaestra.agents.buffers.rollout import Minibatch, TensorRolloutBuffer
from palaestra.agents.recurrent.gru_policy import with_memory


class SequenceBuffer(TensorRolloutBuffer):
    """T steps of N environments, learned from in sequences of :attr:`sequence_length`, which divides T."""

    memories: Tensor  # [T / L, N, H] before each sequence

    def __init__(self, *args: Any, sequence_length: int, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.sequence_length = sequence_length

    def remember(self, place: int | Tensor, memory: Tensor) -> None:
        """Store the memories [N, H] before the step at that place, if a sequence begins with it."""
        length = self.sequence_length
        if not hasattr(self, "memories"):
            self.memories = memory.new_zeros(self.buffer_size // length, *memory.shape)
        if isinstance(place, Tensor):  # of a recording, which writes at every step
            at = (place // length).view(1)
            begins = (place % length == 0).view(1, 1, 1)
            kept = torch.where(begins, memory.unsqueeze(0), self.memories.index_select(0, at))
            self.memories.index_copy_(0, at, kept)
        elif place % length == 0:
            self.memories[place // length].copy_(memory)

    def get(self, batch_size: int | None = None) -> Iterator[Minibatch]:
        """One epoch of shuffled minibatches; observations are those of :func:`with_memory`."""
        rows = self.buffer_size * self.n_envs if batch_size is None else batch_size
        sequences = rows // self.sequence_length
        for number, minibatch in enumerate(super().get(rows)):
            chosen = self._drawn[number * sequences : (number + 1) * sequences]
            memory = self.memories.flatten(0, 1).index_select(0, chosen)
            places = self._places(chosen)
            ended = self.dones.flatten().index_select(0, places[:-1].flatten()).view(-1, len(chosen))
            starts = torch.cat((torch.zeros_like(places[:1], dtype=torch.bool), ended))  # memories begin anew already
            yield minibatch._replace(observations=with_memory(minibatch.observations, memory, starts))

    def _order(self, step: int) -> Tensor:
        self._drawn = torch.randperm(self.buffer_size // self.sequence_length * self.n_envs, device=self.device)
        return torch.cat(
            [self._places(part).flatten() for part in torch.split(self._drawn, step // self.sequence_length)]
        )

    def _places(self, sequences: Tensor) -> Tensor:
        """Rows of the flattened rollout, int64 [L, B], of sequences that are counted along the environments first."""
        block = sequences // self.n_envs
        first = block * (self.sequence_length * self.n_envs) + (sequences - block * self.n_envs)
        steps = torch.arange(self.sequence_length, device=self.device)
        return first + steps.unsqueeze(1) * self.n_envs
