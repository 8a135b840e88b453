"""The proof that rules commute with a symmetry, on states of real episodes.

1. A batch plays, half of it as the expert where there is one. At some moments every state s and a random action a are
   looked at, with their images.
2. What is seen of the image must be the image of what is seen, and its legal actions the images of the legal ones.
3. A step from the image is compared with the image of the step: every number of the state after, the reward, the end.
   Each is taken K times with random numbers of its own, since the images of the draws are not known. Numbers that were
   the same in all K must be the same on both sides (that random ones are not happens with a probability of at most
   4^-K), and of the others the means are compared.
4. Means are compared by the sum over all states of D · D', the differences of the means in the first half of the draws
   and in the second. Without a difference each product is as likely positive as negative, so the sum over the root of
   its squares is above x with a probability of at most exp(−x²/2) (Hoeffding), whatever is drawn; x is such that this
   is 1e-9 for all numbers together. With K = 64 draws in 640 states it finds differences from about a fifth of what
   the numbers scatter in one step.
"""

from __future__ import annotations

import copy
import math
import time
from dataclasses import dataclass
from typing import Any

import torch
from gymnasium.spaces import Discrete
from torch import Tensor

from palaestra.envs.core.batching.records import map_state, state_fields
from palaestra.envs.core.env import TensorEnv
from palaestra.envs.core.rng import Rng, Stream, child_key, env_keys, sample_actions
from palaestra.envs.core.symmetries.group import Symmetry
from palaestra.envs.core.vector import TensorVectorEnv

NUM_ENVS = 64  # M
CALLS, TIMES = 8, 32  # their product is K; the first even
FIRST_CALLS = 2  # whose steps show whether anything is drawn
_MOST_NUMBERS = 1 << 22
MOMENTS = (0, 1, 3, 8, 20, 50)  # steps of the batch before states are looked at
ABSOLUTE, RELATIVE = 1e-5, 1e-4  # differences that rounding may make, beside the largest number of the kind
FALSE_ALARM = 1e-9
PATIENCE = 2.0  # s of calls after which a slow method is asked no more, here and by the checker


@dataclass
class _Outcomes:
    """What K steps from each of M states led to, F numbers each."""

    lowest: Tensor  # float64 [M, F]
    highest: Tensor
    halves: tuple[Tensor, Tensor]  # means of the first half of the steps, and of the second

    @property
    def is_fixed(self) -> Tensor:
        """True for numbers that were the same in all steps, bool [M, F]."""
        return self.lowest == self.highest


def first_fault(env: TensorEnv[Any], symmetry: Symmetry, *, seed: int = 0) -> str | None:
    """Where the rules do not commute with a symmetry whose form fits, in one line; None if they do."""
    batch: TensorVectorEnv[Any] = TensorVectorEnv(copy.deepcopy(env), NUM_ENVS, device="cpu", seed=seed)
    batch.reset()
    tests: list[tuple[Tensor, Tensor]] = []  # D and D' of each moment
    names: list[str] = []
    seconds = 0.0
    said = f"symmetry {symmetry.name!r} does not commute with the rules: "
    for step in range(MOMENTS[-1] + 1):
        if step in MOMENTS:
            try:
                names = _compare(batch, symmetry, step, tests)
            except _DifferenceError as difference:
                return f"{said}{difference}"
        started = time.perf_counter()
        batch.step(_action(batch, step, seconds < PATIENCE))
        seconds += time.perf_counter() - started
    place = _different_mean(tests)
    return None if place is None else f"{said}the mean of {names[place]} after a step is another for mapped states"


class _DifferenceError(Exception):
    """What differs."""


def _action(batch: TensorVectorEnv[Any], step: int, asks_expert: bool) -> Tensor:
    """A random legal action, of the second half of the batch the expert's."""
    drawn = _drawn_action(batch, step)
    if asks_expert and batch.env.has("expert"):
        half = NUM_ENVS // 2
        drawn[half:] = batch.env.expert(batch.state)[half:]
    return drawn


def _drawn_action(batch: TensorVectorEnv[Any], step: int) -> Tensor:
    rng = Rng(env_keys(batch.seed, batch.env_indices, Stream.CHECKER), step)
    return sample_actions(batch.single_action_space, rng, batch.action_masks())


def _compare(
    batch: TensorVectorEnv[Any], symmetry: Symmetry, moment: int, tests: list[tuple[Tensor, Tensor]]
) -> list[str]:
    """The names of the numbers of a step's outcome; adds the differences of their means."""
    env, state = batch.env, batch.state
    image = symmetry.state(state)
    _require_form(state, image)
    _require_alike("its observation", symmetry.observation(env.observe(state)), env.observe(image))
    if env.has("action_mask"):
        _require_alike("action_mask", symmetry.action(env.action_mask(state).long()), env.action_mask(image))
    action = _drawn_action(batch, moment)
    first = env.action_space.start if isinstance(env.action_space, Discrete) else None
    chosen = symmetry.action(action) if first is None else symmetry.action.of_choices(action - int(first)) + int(first)
    own, mapped = _Stepped(batch, moment, state, action), _Stepped(batch, moment + 1000, image, chosen)
    ours, theirs = own.drawn(FIRST_CALLS, symmetry), mapped.drawn(FIRST_CALLS)
    if bool((ours.is_fixed & theirs.is_fixed & _alike(ours.lowest, theirs.lowest)).all()):
        return own.names
    ours, theirs = own.drawn(CALLS, symmetry), mapped.drawn(CALLS)
    _require_same(own.names, ours.lowest, theirs.lowest, ours.is_fixed & theirs.is_fixed, " after a step")
    differences = [torch.where(_alike(a, b), 0.0, a - b) for a, b in zip(ours.halves, theirs.halves, strict=True)]
    tests.append((differences[0], differences[1]))
    return own.names


class _Stepped:
    """Steps from M states with their actions, drawn again and again."""

    def __init__(self, batch: TensorVectorEnv[Any], key: int, state: Any, action: Tensor) -> None:
        self._env = batch.env
        rows = sum(field[:1].numel() for field in state_fields(state).values()) * NUM_ENVS
        self._times = max(2, min(TIMES, _MOST_NUMBERS // rows))

        def repeated(field: Tensor) -> Tensor:
            return field.repeat_interleave(self._times, 0)

        self._state, self._action = map_state(repeated, state), repeated(action)
        places = torch.arange(NUM_ENVS * self._times)
        self._keys = child_key(env_keys(batch.seed, places, Stream.CHECKER), key)
        self.names: list[str] = []  # of the numbers of an outcome

    def drawn(self, calls: int, symmetry: Symmetry | None = None) -> _Outcomes:
        """The outcomes of some calls of ``step``, of which each steps every state several times; or their images."""
        lowest, highest, halves = torch.tensor(torch.inf), torch.tensor(-torch.inf), [torch.zeros(()), torch.zeros(())]
        for call in range(calls):
            numbers = self._outcome(call, symmetry)
            lowest, highest = torch.minimum(lowest, numbers.amin(1)), torch.maximum(highest, numbers.amax(1))
            half = 2 * call >= calls
            halves[half] = halves[half] + numbers.mean(1) * (2.0 / calls)
        return _Outcomes(lowest, highest, (halves[0], halves[1]))

    def _outcome(self, call: int, symmetry: Symmetry | None) -> Tensor:
        """The numbers of one call, float64 [M, times, F]."""
        after, reward, terminated = self._env.step(self._state, self._action, Rng(self._keys, call))
        fields = state_fields(after if symmetry is None else symmetry.state(after))
        parts = {**fields, "reward": reward, "terminated": terminated}
        flat = {name: part.double().view(NUM_ENVS, self._times, -1) for name, part in parts.items()}
        self.names = [name for name, part in flat.items() for _ in range(part.shape[2])]
        return torch.cat([*flat.values()], 2).nan_to_num()


def _different_mean(tests: list[tuple[Tensor, Tensor]]) -> int | None:
    """The place of a number whose means differ."""
    if not tests:
        return None
    products = torch.cat([a * b for a, b in tests])  # [M, F]
    score = products.sum(0) / products.square().sum(0).sqrt().clamp(min=torch.finfo(torch.float64).tiny)
    most, place = score.max(0)
    return int(place) if float(most) > math.sqrt(2.0 * math.log(products.shape[1] / FALSE_ALARM)) else None


def _alike(a: Tensor, b: Tensor) -> Tensor:
    """True where numbers [N, F] are the same but for rounding."""
    largest = torch.maximum(a.abs(), b.abs()).amax(0).clamp(min=1.0)
    return (a - b).abs() <= ABSOLUTE * largest + RELATIVE * torch.maximum(a.abs(), b.abs())


def _require_form(state: Any, image: Any) -> None:
    if type(image) is not type(state):
        raise _DifferenceError(f"its map of states gives {type(image).__name__}, not {type(state).__name__}")
    for name, field in state_fields(state).items():
        mapped: Any = getattr(image, name)
        if not isinstance(mapped, Tensor) or (mapped.shape, mapped.dtype) != (field.shape, field.dtype):
            got = f"{mapped.dtype} {tuple(mapped.shape)}" if isinstance(mapped, Tensor) else type(mapped).__name__
            raise _DifferenceError(f"its map of states makes {got} of {name}, {field.dtype} {tuple(field.shape)}")


def _require_alike(what: str, expected: Tensor, found: Tensor) -> None:
    expected, found = (part.double().flatten(1) for part in (expected, found))
    _require_same([what] * expected.shape[1], expected, found, torch.ones_like(expected, dtype=torch.bool))


def _require_same(names: list[str], expected: Tensor, found: Tensor, where: Tensor, when: str = "") -> None:
    wrong = where & ~_alike(expected, found)
    if not wrong.any():
        return
    row, place = (int(k) for k in wrong.nonzero()[0])
    part = place - names.index(names[place])
    which = f"{names[place]}[{part}]" if names.count(names[place]) > 1 else names[place]
    numbers = f"is {found[row, place]:g} for a mapped state, not {expected[row, place]:g}"
    raise _DifferenceError(f"{which}{when} {numbers}")
