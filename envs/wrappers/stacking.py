"""Where the latest observations are put together, for the wrappers of tensor and of Gymnasium environments.

Vectors get a new first dimension, [count, D], which networks flatten. Images stay images, as networks read them:
[H, W, C] and [C, H, W] become [count · C, H, W], oldest first, and [H, W] becomes [count, H, W].
"""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import Space
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete
from gymnasium.vector.utils import batch_space
from stable_baselines3.common.preprocessing import is_image_space_channels_first

from palaestra.envs.core.user_code import one_line

SMALLEST_IMAGE = 36  # pixels; a CNN's three layers leave nothing of a smaller one, so agents flatten that


def stacking_axis(space: Box, count: int) -> int | None:
    """The axis, from the end, of the channels of an image of which ``count`` are stacked; None for other observations.

    Raises:
        ValueError: if so many channels could not be told from pixels.
    """
    if len(space.shape) != 3:
        return None
    axis = -3 if is_image_space_channels_first(space) else -1
    channels, pixels = count * space.shape[axis], min(space.shape[1:] if axis == -3 else space.shape[:2])
    if channels < pixels:
        return axis
    if pixels < SMALLEST_IMAGE:
        return None
    raise ValueError(f"{channels} channels cannot be told from {pixels} pixels: take fewer")


def stacked_space(space: Space[Any], count: int) -> Space[Any]:
    """The space of ``count`` observations put together.

    Raises:
        ValueError: if such observations cannot be, in one line.
    """
    if isinstance(space, Dict):
        return Dict({key: stacked_space(part, count) for key, part in space.spaces.items()})
    if isinstance(space, Discrete | MultiDiscrete | MultiBinary) and len(space.shape or ()) < 2:
        return batch_space(space, count) if isinstance(space, Discrete) else _in_a_row(space, count)
    if not isinstance(space, Box):
        raise ValueError(f"needs observations in Box, Discrete, MultiDiscrete or MultiBinary, got {one_line(space)}")
    axis = stacking_axis(space, count)
    if axis is None:
        return batch_space(space, count)
    low, high = (np.concatenate([np.moveaxis(bound, axis, 0)] * count) for bound in (space.low, space.high))
    return Box(low, high, dtype=space.dtype)


def _in_a_row(space: MultiDiscrete | MultiBinary, count: int) -> Space[Any]:
    if isinstance(space, MultiBinary):
        return MultiBinary(count * int(np.prod(space.shape)))
    return MultiDiscrete(np.tile(space.nvec, count), start=np.tile(space.start, count))


def stacked(space: Space[Any], observations: list[Any]) -> Any:
    """Observations of one Gymnasium environment, oldest first, put together."""
    if isinstance(space, Dict):
        return {key: stacked(part, [obs[key] for obs in observations]) for key, part in space.spaces.items()}
    if not isinstance(space, Box):
        return np.concatenate([np.ravel(obs) for obs in observations])
    axis = stacking_axis(space, len(observations))
    return np.stack(observations) if axis is None else np.concatenate([np.moveaxis(o, axis, 0) for o in observations])
