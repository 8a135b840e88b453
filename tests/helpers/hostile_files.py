"""Model files with a wrong part, and the check that they are refused."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import fuzz_checkpoints as fuzz
import pytest

from palaestra.agents import DQN, PPO, CheckpointError


def load(content: bytes) -> Any:
    return PPO.load(io.BytesIO(content), env=fuzz.environment())


def resume(content: bytes) -> Any:
    return DQN.resume(io.BytesIO(content), fuzz.environment())  # type: ignore[arg-type]


def refused(content: bytes, message: str, read: Callable[[bytes], Any] = load) -> None:
    """Fails unless reading the file is a CheckpointError with that message, and runs nothing."""
    with pytest.raises(CheckpointError, match=message), fuzz.nothing_runs():
        read(content)


def with_member(name: str, content: bytes, agent: str = "ppo", format_2: bool = False) -> bytes:
    """The file with another member, and right checksums."""
    original = fuzz.in_format_2(fuzz.original(agent)) if format_2 else fuzz.original(agent)
    return fuzz.packed({**fuzz.unpacked(original), name: content})


def changed(agent: str, name: str, change: Callable[[Any], Any]) -> bytes:
    """The file with its "weights", "optimizer" or "training" state changed and saved properly again."""
    state = fuzz.state_of(fuzz.original(agent), name)
    change(state)
    return fuzz.with_state(fuzz.original(agent), name, state)
