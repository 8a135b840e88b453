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
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

_BITS = 64
_LONGEST = 2**31  # range of integers
_MASK = (1 << _BITS) - 1


def _signed(value: int) -> int:
    """The int64 with the same 64 bits as the unsigned ``value``."""
    value &= _MASK
    return value - (1 << _BITS) if value >> (_BITS - 1) else value


_GAMMA = 0x9E3779B97F4A7C15
_M1 = 0xBF58476D1CE4E5B9
_M2 = 0x94D049BB133111EB
_GAMMA_S, _M1_S, _M2_S = _signed(_GAMMA), _signed(_M1), _signed(_M2)
_LOW_33, _LOW_34, _LOW_37 = (1 << 33) - 1, (1 << 34) - 1, (1 << 37) - 1  # what a logical shift leaves of 64 bits


def _mix_int(z: int) -> int:
    """SplitMix64's output function on a Python integer (unsigned, 64 bits)."""
    z = ((z ^ (z >> 30)) * _M1) & _MASK
    z = ((z ^ (z >> 27)) * _M2) & _MASK
    return z ^ (z >> 31)


def _shift(z: Tensor, bits: int) -> Tensor:
    """Logical right shift: int64's own shift drags the sign in, so the top bits are cleared."""
    return (z >> bits).bitwise_and_((1 << (_BITS - bits)) - 1)


def _mix(z: Tensor) -> Tensor:
    """SplitMix64's output function, elementwise on int64; equals :func:`_mix_int` bit for bit."""
    # written out: this runs a dozen times a step, on few numbers, where every call counts
    z = (z >> 30).bitwise_and_(_LOW_34).bitwise_xor_(z).mul_(_M1_S)
    z = (z >> 27).bitwise_and_(_LOW_37).bitwise_xor_(z).mul_(_M2_S)
    return (z >> 31).bitwise_and_(_LOW_33).bitwise_xor_(z)


def child_key(key: Tensor, counter: Tensor | int) -> Tensor:
    """Key of the ``counter``-th child (0, 1, …) of each key. Both int64, [N]."""
    step = _signed((counter + 1) * _GAMMA) if isinstance(counter, int) else (counter + 1) * _GAMMA_S
    return _mix(key + step)


def _digits(dtype: torch.dtype) -> int:
    """Random bits of a number in [0, 1)."""
    return 53 if dtype == torch.float64 else 24


@functools.lru_cache(maxsize=1024)
def _largest_below(low: float, high: float, dtype: torch.dtype) -> float | None:
    """The largest number below ``high``, if the largest draw from [low, high) would be rounded up to it; else None."""
    if not abs(high - low) <= torch.finfo(dtype).max:
        raise ValueError(f"numbers from {low} up to {high}: the range must be finite, and fit into {dtype}")
    kind: Any = np.float64 if dtype == torch.float64 else np.float32
    bottom, top = kind(low), kind(high)
    most = kind(1.0 - 2.0 ** -_digits(dtype)) * kind(high - low) + bottom
    return None if top <= bottom or most < top else float(np.nextafter(top, bottom))


class Stream(enum.IntEnum):
    """Purposes that share a seed and must not share random numbers."""

    ENVIRONMENT = 0
    ACTION_NOISE = 1  # the agent's exploration
    RANDOM_POLICY = 2
    CHECKER = 2  # its actions are a random policy's


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
    root = _mix_int((stream + 1) * _GAMMA & _MASK)
    while True:  # absorb the seed 64 bits at a time
        root = _mix_int((root + (seed & _MASK) + _GAMMA) & _MASK)
        seed >>= _BITS
        if not seed:
            break
    return _mix(env_indices * _GAMMA_S + _signed(root + _GAMMA))


class Rng:
    """The random numbers of one call to ``reset`` or ``step``, for N environments at once.

    Each method call is one draw; its result depends on (seed, env index, episode, step, number of the draw) alone.
    Draw in a fixed order and with fixed shapes, never inside a data-dependent branch.
    """

    def __init__(self, episode_key: Tensor, step: Tensor | int) -> None:
        """``episode_key`` int64 [N]; ``step`` 0 for a reset, t for the t-th step (int64 [N] or an integer)."""
        self._episode_key = episode_key
        self._step = step
        self._key: Tensor | None = None  # made at the first draw: a step without randomness costs nothing
        self._draw = 0
        self._spawned: tuple[Rng, ...] = ()

    @property
    def num_envs(self) -> int:
        return self._episode_key.shape[0]

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

    def bits(self, shape: Sequence[int] = ()) -> Tensor:
        """64 random bits each, int64 [N, *shape]."""
        if self._key is None:
            self._key = child_key(self._episode_key, self._step)
        self._draw += 1
        bits = _mix(self._key + _signed(self._draw * _GAMMA))
        if not shape:
            return bits
        lanes = torch.arange(1, math.prod(shape) + 1, device=self.device) * _GAMMA_S
        return _mix(bits.unsqueeze(1) + lanes).view(self.num_envs, *shape)

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
        digits = _digits(dtype)
        unit = _shift(self.bits(shape), _BITS - digits).to(dtype) * 2.0**-digits
        if isinstance(low, Tensor) or isinstance(high, Tensor):
            low, high = (torch.as_tensor(bound, dtype=dtype, device=self.device) for bound in (low, high))
            return torch.minimum(unit * (high - low) + low, torch.nextafter(high, low))
        if (low, high) == (0.0, 1.0):
            return unit
        limit = _largest_below(float(low), float(high), dtype)
        drawn = unit.mul_(high - low).add_(low)
        return drawn if limit is None else drawn.clamp_(max=limit)

    def integers(self, low: int, high: int | Tensor, shape: Sequence[int] = ()) -> Tensor:
        """Integers low, …, high − 1, int64 [N, *shape]; ``high`` may be a tensor that broadcasts.

        The range may be up to 2^31; probabilities are equal to within range / 2^32.

        Raises:
            ValueError: if a range of plain numbers is empty or longer.
        """
        if not isinstance(high, Tensor) and not 0 < high - low <= _LONGEST:
            raise ValueError(f"integers from {low} up to {high}, exclusive: the range must be 1 to 2^31 long")
        return ((_shift(self.bits(shape), 32) * (high - low)) >> 32) + low

    def normal(self, shape: Sequence[int] = (), dtype: torch.dtype = torch.float32) -> Tensor:
        """Standard normal by Box and Muller, ``dtype`` [N, *shape]; tails reach ±6.6 standard deviations."""
        bits = self.bits(shape)
        radius = (_shift(bits, 32).to(dtype) + 1.0).mul_(2.0**-32).log_().mul_(-2.0).sqrt_()
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
            rows = where.nonzero().squeeze(1)
            part = self.of_rows(rows)
            part._draw = self._draw
            self._draw += 1
            return torch.zeros_like(self._episode_key).index_copy_(0, rows, part.choice(mask[rows]))
        rank = mask.cumsum(1, dtype=torch.int16)  # [N, K] how many True entries up to and including this one
        wanted = self.integers(0, rank[:, -1].long()) + 1  # [N] 1, …, number of True entries
        return torch.searchsorted(rank, wanted.to(torch.int16).unsqueeze(1)).squeeze(1)


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
