"""Model files with a member exchanged, and how they are read."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import fuzz_checkpoints as fuzz
import pytest
import torch

from palaestra.agents import DQN, PPO, CheckpointError


def load(content: bytes) -> Any:
    return PPO.load(io.BytesIO(content), env=fuzz.environment())


def resume(content: bytes) -> Any:
    return DQN.resume(io.BytesIO(content), fuzz.environment())  # type: ignore[arg-type]


def refused(content: bytes, message: str, read: Callable[[bytes], Any] = load) -> None:
    with pytest.raises(CheckpointError, match=message), fuzz.nothing_runs():
        read(content)


def with_member(name: str, content: bytes, agent: str = "ppo") -> bytes:
    return fuzz.packed({**fuzz.unpacked(fuzz.original(agent)), name: content})


def saved(value: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def changed(agent: str, member: str, change: Callable[[Any], Any]) -> bytes:
    """The file with a member changed and saved properly again."""
    state = torch.load(io.BytesIO(fuzz.unpacked(fuzz.original(agent))[member]), weights_only=True)
    change(state)
    return with_member(member, saved(state), agent)
