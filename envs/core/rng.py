"""Counter-based random numbers: every draw is a function of where it is made, not of what was drawn before.

1. A key is a 64-bit integer per environment, derived along seed → environment index → episode → step by one
   SplitMix64 output function per level: ``child = mix(parent + (counter + 1) · γ)``.
2. The d-th draw of a step is ``mix(step_key + d · γ)``; a draw of shape [N, k] goes one level further.
3. No state is carried between calls, so row i of a batch of 4,096 draws what the same episode draws alone, in any
   batch size, order or sharding, and a GPU draws the same bits as a CPU.

Only integer additions, multiplications, shifts and xors of int64 tensors are used (they wrap modulo 2^64 on every
device), so nothing synchronises and the meta device works.

Source: Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014 (SplitMix64; the
multipliers are Stafford's variant 13). Keys used as a tree of counters: Salmon et al., "Parallel random numbers: as
easy as 1, 2, 3", SC 2011.
"""

from __future__ import annotations

import enum
import functools
import math
from collections.abc import Sequence
from typing import Any, Protocol

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from palaestra.envs.core.batching.constants import kept_number
from palaestra.envs.core.draws.host_choice import chosen
from palaestra.envs.core.draws.splitmix import (
    GAMMA,
    MASK,
    UNTOUCHED,
    lane_offsets,
    mix,
    mix_int,
    multiple,
    signed,
    stirred,
    top,
)
from palaestra.envs.core.draws.splitmix import child_key as child_key
from palaestra.envs.core.replay.recording import host_call

_LONGEST = 2**31  # range of integers
_UNIT = {24: kept_number(2.0**-24), 53: kept_number(2.0**-53, dtype=torch.float64)}
_LEAST_WIDTH = 1e-30  # of a range, 2^-24 of which is a normal number
Request = tuple[Any, ...]  # a draw: name, shape, and its other arguments


class Ahead(Protocol):
    """Draws that were made before they are asked for."""

    def get(self, draw: int, request: Request) -> Tensor | None:
        """The result of the draw with that number, from 0, if it is such a one; else None."""


def _digits(dtype: torch.dtype) -> int:
    """Random bits of a number in [0, 1)."""
    return 53 if dtype == torch.float64 else 24


@functools.lru_cache(maxsize=1024)
def _largest_below(low: float, high: float, dtype: torch.dtype) -> float | None:
    """The largest number below ``high``, if the largest draw from [low, high) would be rounded up to it; else None."""
    if not abs(high - low) <= torch.finfo(dtype).max:
        raise ValueError(f"numbers from {low} up to {high}: the range must be finite, and fit into {dtype}")
    kind: Any = np.float64 if dtype == torch.float64 else np.float32
    bottom, end = kind(low), kind(high)
    most = kind(1.0 - 2.0 ** -_digits(dtype)) * kind(high - low) + bottom
    return None if end <= bottom or most < end else float(np.nextafter(end, bottom))


class Stream(enum.IntEnum):
    """Purposes that share a seed and must not share random numbers."""

    ENVIRONMENT = 0
    ACTION_NOISE = 1  # the agent's exploration
    RANDOM_POLICY = 2
    CHECKER = 2  # its actions are a random policy's
    KEPT_STATES = 3  # which ones training may begin in again


def env_keys(seed: int, env_indices: Tensor, stream: int = Stream.ENVIRONMENT) -> Tensor:
    """Root key of each environment, int64 [N].

    Args:
        seed: any integer ≥ 0; all its bits count.
        env_indices: int64 [N], the global index of each environment.
        stream: the purpose, see :class:`Stream`.

    Raises:
        ValueError: if the seed is negative.
    """
    if seed < 0:
        raise ValueError(f"seed must be at least 0, got {seed}")
    root = mix_int(multiple(stream + 1) & MASK)
    while True:  # absorb the seed 64 bits at a time
        root = mix_int((root + (seed & MASK) + GAMMA) & MASK)
        seed >>= 64
        if not seed:
            break
    return mix(env_indices * GAMMA + signed(root + GAMMA))


class Rng:
    """The random numbers of one call to ``reset`` or ``step``, for N environments at once.

    Each method call is one draw; its result depends on (seed, env index, episode, step, number of the draw) alone.
    Draw in a fixed order and with fixed shapes, never inside a data-dependent branch.
    """

    def __init__(self, episode_key: Tensor, step: Tensor | int, ahead: Ahead | None = None) -> None:
        """Make the generator; nothing is computed before the first draw.

        Args:
            episode_key: int64 [N].
            step: 0 for a reset, t for the t-th step (int64 [N] or an integer).
            ahead: draws of this generator that were made already; the others, and those asked for differently, are
                made when they are asked for.
        """
        self._episode_key = episode_key
        self._step = step
        self._ahead = ahead
        self._key: Tensor | None = None  # made at the first draw: a step without randomness costs nothing
        self._draw = 0
        self._spawned: tuple[Rng, ...] = ()
        self.requests: list[Request] = []  # the draws so far, to be made ahead in the next steps

    @property
    def num_envs(self) -> int:
        return self._episode_key.shape[0]

    @property
    def episode_key(self) -> Tensor:
        return self._episode_key

    @property
    def step(self) -> Tensor | int:
        return self._step

    @property
    def device(self) -> torch.device:
        return self._episode_key.device

    @property
    def used(self) -> bool:
        """True if anything was drawn, here or from a generator of :meth:`spawn`."""
        return self._draw > 0 or any(rng.used for rng in self._spawned)

    def spawn(self) -> Rng:
        """An independent generator for the same step, a new one at each call; it does not shift the draws made here.

        For a wrapper: the environment inside draws as it would alone.
        """
        # steps count up from an episode's key, these count down
        rng = Rng(child_key(self._episode_key, -2 - len(self._spawned)), self._step)
        self._spawned = (*self._spawned, rng)
        return rng

    def of_rows(self, rows: Tensor | slice) -> Rng:
        """Some environments' random numbers of the same step, from the first draw on."""
        return Rng(self._episode_key[rows], self._step[rows] if isinstance(self._step, Tensor) else self._step)

    def repeat(self, request: Request) -> Tensor:
        """The next draw, as another generator noted it."""
        name, shape, *arguments = request
        if name == "uniform":
            low, high, dtype = arguments
            return self.uniform(low, high, shape, dtype)
        if name == "integers":
            return self.integers(arguments[0], arguments[1], shape)
        return self.normal(shape, arguments[0]) if name == "normal" else self.bits(shape)

    def _made_ahead(self, request: Request) -> Tensor | None:
        """The result of this draw if it was made ahead; else None, and the draw is still to be made."""
        if len(self.requests) == self._draw:
            self.requests.append(request)
        made = None if self._ahead is None else self._ahead.get(self._draw, request)
        self._draw += made is not None
        return made

    def _unmixed(self, shape: tuple[int, ...]) -> Tensor:
        """What :func:`mix` makes the next draw's bits of, int64 [N, *shape]."""
        if self._key is None:
            self._key = child_key(self._episode_key, self._step)
        self._draw += 1
        unmixed = self._key + multiple(self._draw)
        if not shape:
            return unmixed
        lanes = lane_offsets(math.prod(shape), self.device)
        return (mix(unmixed).unsqueeze(1) + lanes).view(self.num_envs, *shape)

    def _upper(self, digits: int, shape: tuple[int, ...]) -> Tensor:
        """The upper ``digits`` bits of the next draw as a number from 0, int64 [N, *shape]."""
        bits = self._made_ahead(("bits", shape))
        if bits is None:
            unmixed = self._unmixed(shape)
            bits = stirred(unmixed) if digits <= UNTOUCHED else mix(unmixed)
        return top(bits, digits)

    def bits(self, shape: Sequence[int] = ()) -> Tensor:
        """64 random bits each, int64 [N, *shape]."""
        shape = tuple(shape)
        made = self._made_ahead(("bits", shape))
        return mix(self._unmixed(shape)) if made is None else made.contiguous()

    def uniform(
        self,
        low: float | Tensor = 0.0,
        high: float | Tensor = 1.0,
        shape: Sequence[int] = (),
        dtype: torch.dtype = torch.float32,
    ) -> Tensor:
        """Uniform in [low, high), ``dtype`` [N, *shape], with 24 random bits (float32) or 53 (float64).

        What would be rounded to ``high`` is the largest number below it.

        Raises:
            ValueError: if a range of plain numbers is not finite, or wider than ``dtype`` can hold.
        """
        shape, digits = tuple(shape), _digits(dtype)
        if isinstance(low, Tensor) or isinstance(high, Tensor):
            unit = (self._upper(digits, shape) * _UNIT[digits]).to(dtype)
            low, high = (torch.as_tensor(bound, dtype=dtype, device=self.device) for bound in (low, high))
            return torch.minimum(unit * (high - low) + low, torch.nextafter(high, low))
        made = self._made_ahead(("uniform", shape, low, high, dtype))
        if made is not None:
            return made
        if (low, high) == (0.0, 1.0):
            return (self._upper(digits, shape) * _UNIT[digits]).to(dtype)
        limit = _largest_below(float(low), float(high), dtype)
        number, width = self._upper(digits, shape), high - low
        if dtype == torch.float32 and width > _LEAST_WIDTH:  # a power of two can be multiplied in before: the same bits
            drawn = (number * kept_number(width * 2.0**-24)).add_(low)
        else:
            drawn = (number * _UNIT[digits]).to(dtype).mul_(width).add_(low)
        return drawn if limit is None else drawn.clamp_(max=limit)

    def integers(self, low: int, high: int | Tensor, shape: Sequence[int] = ()) -> Tensor:
        """Integers low, …, high − 1, int64 [N, *shape]; ``high`` may be a tensor that broadcasts.

        The range may be up to 2^31; probabilities are equal to within range / 2^32.

        Raises:
            ValueError: if a range of plain numbers is empty or longer.
        """
        shape = tuple(shape)
        if not isinstance(high, Tensor):
            if not 0 < high - low <= _LONGEST:
                raise ValueError(f"integers from {low} up to {high}, exclusive: the range must be 1 to 2^31 long")
            made = self._made_ahead(("integers", shape, low, high))
            if made is not None:
                return made
        drawn = (self._upper(32, shape) * (high - low)) >> 32
        return drawn + low if low else drawn

    def normal(self, shape: Sequence[int] = (), dtype: torch.dtype = torch.float32) -> Tensor:
        """Standard normal by Box and Muller, ``dtype`` [N, *shape]; tails reach ±6.6 standard deviations."""
        shape = tuple(shape)
        made = self._made_ahead(("normal", shape, dtype))
        if made is not None:
            return made
        bits = self.bits(shape)
        radius = (top(bits, 32).to(dtype) + 1.0).mul_(2.0**-32).log_().mul_(-2.0).sqrt_()
        angle = (bits & 0xFFFFFFFF).to(dtype) * (2.0 * math.pi * 2.0**-32)
        return radius * angle.cos_()

    def bernoulli(self, p: float | Tensor, shape: Sequence[int] = ()) -> Tensor:
        """True with probability p, bool [N, *shape]."""
        return self.uniform(shape=shape) < p

    def choice(self, mask: Tensor, where: Tensor | None = None) -> Tensor:
        """Index of a True entry of each row, all equally likely, int64 [N]; K where a row has none.

        Args:
            mask: bool [N, K] with K < 32,768.
            where: bool [N], the rows that matter; the others get any number, which saves their work on the CPU.
        """
        if where is not None and self.device.type == "cpu":  # elsewhere, finding the rows would synchronise
            draw = self._draw
            self._made_ahead(("bits", ()))
            self._draw = draw + 1
            return host_call(_choice_where, mask, where, self._episode_key, self._step, draw)
        rank = mask.cumsum(1, dtype=torch.int16)  # [N, K] how many True entries up to and including this one
        wanted = self.integers(0, rank[:, -1].long()) + 1  # [N] 1, …, number of True entries
        return torch.searchsorted(rank, wanted.to(torch.int16).unsqueeze(1)).squeeze(1)


def _choice_where(mask: Tensor, where: Tensor, episode_key: Tensor, step: Tensor | int, draw: int) -> Tensor:
    """:meth:`Rng.choice` in the rows where ``where``, by draw number ``draw``; 0 in the others."""
    rows, result = np.flatnonzero(where.numpy()), torch.zeros_like(episode_key)
    result.numpy()[rows] = chosen(mask.numpy()[rows], rows, episode_key, step, draw)
    return result


def sample_actions(space: gymnasium.Space[Any], rng: Rng, mask: Tensor | None = None) -> Tensor:
    """Uniform actions of one environment's action space for each key of ``rng``, [N, …].

    A Box side without a bound counts as −1 or 1. ``mask`` bool [N, A] names the legal actions of a Discrete space, or
    those of each choice of a MultiDiscrete one after another; where it names none, all count as legal.

    Raises:
        ValueError: for a space that no agent here can act in.
    """
    if isinstance(space, spaces.Discrete):
        if mask is not None:
            return _legal_choice(rng, mask) + int(space.start)
        return rng.integers(int(space.start), int(space.start + space.n))
    if isinstance(space, spaces.MultiBinary):
        return rng.integers(0, 2, space.shape).to(torch.int8)
    if isinstance(space, spaces.MultiDiscrete) and space.nvec.ndim == 1:
        counts, start = (torch.as_tensor(a, dtype=torch.int64, device=rng.device) for a in (space.nvec, space.start))
        if mask is not None:
            parts = torch.split(mask, space.nvec.tolist(), 1)
            return torch.stack([_legal_choice(rng, part) for part in parts], 1) + start
        return rng.integers(0, counts, space.shape) + start
    if isinstance(space, spaces.Box):
        low = np.where(np.isfinite(space.low), space.low, -1.0).astype(np.float32)
        high = np.where(np.isfinite(space.high), space.high, 1.0).astype(np.float32)
        return rng.uniform(
            torch.as_tensor(low, device=rng.device), torch.as_tensor(high, device=rng.device), space.shape
        )
    raise ValueError(f"cannot act in a space of type {type(space).__name__}")


def _legal_choice(rng: Rng, mask: Tensor) -> Tensor:
    """A True entry of each row, or any where a row has none, as PPO's masked probabilities have it."""
    return rng.choice(mask | ~mask.any(1, keepdim=True))
