"""Errors of environments: values of the wrong form, and the search for the environment that the rules fail on.

A batch is one call, so an exception in it says nothing of the environment. But the rules are functions of rows: called
again on half of them, and half of that half, they fail alike as long as the failing row is there. The search takes
about 2 log₂ N calls, made only after a failure.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import torch
from gymnasium.spaces import Discrete, Space
from torch import Tensor

from palaestra.envs.core.user_code import RAISED, describe

# int64 [B] each: rows of the batch (None for all), their episodes, the steps of those (or the same of all)
Place = tuple[Tensor | None, Tensor, Tensor | int]
_BROKEN_DEVICE: tuple[type[Exception], ...] = (
    (torch.AcceleratorError,) if hasattr(torch, "AcceleratorError") else ()  # torch 2.8
)
# texts of errors without a type of their own: of torch's allocators, of the operating system
_MEMORY_TEXTS = ("can't allocate memory", "not enough memory", "out of memory", "Cannot allocate memory")


class EnvError(ValueError):
    """An environment broke the contract or raised something; the message says where.

    Attributes, None where unknown:
        env_index: the global index of the environment.
        episode: which of its episodes, 0 for the first.
        step: which step of that episode, 1 for the first; 0 for its reset.
    """

    def __init__(
        self, message: object, *, env_index: int | None = None, episode: int | None = None, step: int | None = None
    ) -> None:
        super().__init__(str(message))
        self.env_index, self.episode, self.step = env_index, episode, step
        if isinstance(message, EnvError):  # Gymnasium hands on what a process raised as ``EnvError(error)``
            vars(self).update(vars(message))


def check_state(env: Any, fields: Mapping[str, Any], num_envs: int) -> None:
    """Raise an EnvError unless every field of a state has one row per environment."""
    for name, field in fields.items():
        if not isinstance(field, Tensor) or field.dim() == 0 or field.shape[0] != num_envs:
            got = tuple(field.shape) if isinstance(field, Tensor) else type(field).__name__
            raise _error(env, f"state.{name}", f"must be a tensor whose first dimension is {num_envs}, got {got}")


def are_actions(actions: Any, space: Space[Any], num_envs: int, device: torch.device) -> bool:
    """True for actions [N, …] of the space of one environment; values are looked at on the CPU only."""
    fits = isinstance(actions, Tensor) and actions.shape == (num_envs, *(space.shape or ()))
    if not fits or actions.device.type != device.type:
        return False
    if device.type == "cpu" and isinstance(space, Discrete):
        low, high = actions.aminmax()
        return bool(space.start <= low.item() and high.item() < space.start + space.n)
    return True


def refuse_actions(actions: Any, space: Space[Any], num_envs: int, device: torch.device) -> NoReturn:
    """Raise a ValueError: the actions [N, …] are not in the space of one environment."""
    shape = (num_envs, *(space.shape or ()))
    if not isinstance(actions, Tensor) or tuple(actions.shape) != shape:
        got = tuple(actions.shape) if hasattr(actions, "shape") else type(actions).__name__
        raise ValueError(f"actions must be a tensor of shape {shape}, got {got}")
    if actions.device.type != device.type:
        raise ValueError(f"actions are on {actions.device}, the environment is on {device}")
    assert isinstance(space, Discrete)
    first, last = int(space.start), int(space.start + space.n - 1)
    low, high = (value.item() for value in actions.aminmax())
    raise ValueError(f"actions must be {first} … {last}, got {low} … {high}")


def check_returned(env: Any, name: str, value: Any, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    """Raise an EnvError unless ``value``, which the rules ``env`` returned, has that form and lies on their device."""
    if not isinstance(value, Tensor):
        raise _error(env, name, f"must be a tensor, got {type(value).__name__}")
    if value.shape != shape:
        raise _error(env, name, f"must have shape {shape}, got {tuple(value.shape)}")
    if value.dtype != dtype:
        raise _error(env, name, f"must be {dtype}, got {value.dtype}")
    if value.device.type != env.device.type:
        raise _error(env, name, f"must be on {env.device}, got {value.device}")


def _error(env: Any, name: str, problem: str) -> EnvError:
    return EnvError(f"{type(env).__name__}: {name} {problem}")


def is_out_of_memory(error: BaseException) -> bool:
    """True if the memory of the host or of a device ran out."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError | OSError) and any(text in str(error) for text in _MEMORY_TEXTS)


def is_machine_failure(error: BaseException) -> bool:
    """True if memory ran out or a device broke down, for which the rules are not to blame."""
    return is_out_of_memory(error) or isinstance(error, _BROKEN_DEVICE)


def located(
    method: str, error: BaseException, again: Callable[[slice], object], env_indices: Tensor, place: Place
) -> EnvError:
    """The error to raise instead of ``error``, which ``method`` raised for the rows at ``place``.

    ``again`` calls the method on some of these rows; ``env_indices`` are those of the batch.
    """
    rows, episodes, steps = place
    row, what = failing_row(again, len(episodes), error), f"{method} raises {describe(error)}"
    if row is None:
        return EnvError(f"{what} for the batch of {len(episodes)} as a whole, for no environment alone")
    env_index = int((env_indices if rows is None else env_indices[rows])[row])
    episode, step = int(episodes[row]), int(steps[row] if isinstance(steps, Tensor) else steps)
    where = f"in environment {env_index}, episode {episode}, step {step}"
    return EnvError(f"{what} {where}", env_index=env_index, episode=episode, step=step)


def failing_row(call: Callable[[slice], object], count: int, error: BaseException) -> int | None:
    """The first row on which alone ``call`` fails as it did on all of them.

    Args:
        call: the method again, on some of the rows.
        count: how many rows there are, at least 1.
        error: what it raised on all of them.

    Returns:
        None where no row fails alone: the rules may look across rows, or keep things of the batch's size inside.
    """
    first, end = 0, count
    while end - first > 1:
        middle = (first + end) // 2
        if _fails_alike(call, slice(first, middle), error):
            end = middle
        elif _fails_alike(call, slice(middle, end), error):
            first = middle
        else:
            return None
    return first


def _fails_alike(call: Callable[[slice], object], rows: slice, error: BaseException) -> bool:
    """True if it raises the same kind of exception in the same line; the message may well name other numbers."""
    try:
        call(rows)
    except RAISED as other:  # of any kind: rules that keep things of the batch's size fail in another way
        return type(other) is type(error) and _line(other) == _line(error)
    return False


def _line(error: BaseException) -> tuple[str, int | None]:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return frame.filename, frame.lineno
