"""The rules of the conformance checker for ordinary Gymnasium environments.

They play one environment with random actions, a few hundred steps or a few seconds. What an environment of ours
promises beyond Gymnasium's interface (batch invariance, no host synchronisation) is not asked of it.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec
from gymnasium.error import DependencyNotInstalled
from gymnasium.spaces import Box, Dict, Space
from gymnasium.utils.env_checker import check_env as gymnasium_check

from palaestra.envs.checker.findings import DoesNotApply, Remark, others_verdict
from palaestra.envs.core import EnvError, user_code
from palaestra.envs.core.user_code import RAISED, describe

SECONDS = 2.0  # longest play of one rule
RESETS = 16  # resets that are compared
EPISODES = 8  # episodes whose ends are looked at
LONGEST = 10_000  # steps; a longer time limit is out of reach here


@dataclass(frozen=True)
class GymnasiumSubject:
    """The environment under test. Every rule makes its own."""

    spec: EnvSpec
    kwargs: dict[str, Any]
    steps: int
    seed: int

    def make(self, **kwargs: Any) -> Any:
        with user_code.printing:
            return gymnasium.make(self.spec, disable_env_checker=True, **{**self.kwargs, **kwargs})


@dataclass(frozen=True)
class Played:
    """One call of reset (number 0) or step, and what it gave."""

    number: int
    obs: Any
    reward: Any = 0.0
    terminated: Any = False
    truncated: Any = False

    @property
    def where(self) -> str:
        return f"step {self.number}" if self.number else "reset"


GymnasiumRule = Callable[[GymnasiumSubject], str | None]


def _call(where: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call a method of the environment; its errors become EnvErrors that name the place."""
    try:
        return function(*args, **kwargs)
    except RAISED as error:
        raise EnvError(f"{where} raises {describe(error)}") from error


def play(env: Any, seed: int, steps: int) -> Iterator[Played]:
    """Steps with random actions, in new episodes where one ends; fewer where they take longer than a rule may."""
    start = time.perf_counter()
    actions = copy.deepcopy(env.action_space)  # that of a class gives its random numbers to all environments in turn
    actions.seed(seed)
    obs, _ = _call("reset", env.reset, seed=seed)
    # a copy, since the environment may write its next observation into the same memory
    yield Played(0, copy.deepcopy(obs))
    for number in range(1, steps + 1):
        if time.perf_counter() - start > SECONDS:
            return
        where = f"step {number}"
        obs, reward, terminated, truncated, _ = _call(where, env.step, actions.sample())
        yield Played(number, copy.deepcopy(obs), reward, terminated, truncated)
        if terminated or truncated:
            obs, _ = _call(f"reset after {where}", env.reset)


def leaves(obs: Any, name: str = "observation") -> Iterator[tuple[str, np.ndarray[Any, Any]]]:
    """The arrays of an observation, by the name that messages use."""
    if isinstance(obs, dict | tuple):
        for key, part in obs.items() if isinstance(obs, dict) else enumerate(obs):
            yield from leaves(part, f"{name}[{key!r}]")
    else:
        yield name, np.asarray(obs)


def same(a: Any, b: Any) -> str | None:
    """Name of the first part of two observations that differs, NaN being equal to itself; None where none does."""
    for (name, one), (other_name, other) in zip(leaves(a), leaves(b), strict=False):
        numbers = one.dtype.kind in "fc" and other.dtype.kind in "fc"
        if name != other_name or not np.array_equal(one, other, equal_nan=numbers):
            return name
    return None


def misfit(space: Space[Any], obs: Any, name: str = "observation") -> str | None:
    """The reason why an observation is not in its space, None if it is; NaN is another rule's."""
    if isinstance(space, Dict):
        if not isinstance(obs, dict) or obs.keys() != space.spaces.keys():
            return f"{name} must be a dict of {', '.join(space.spaces)}, got {_shown(obs)}"
        return next((text for k, s in space.spaces.items() if (text := misfit(s, obs[k], f"{name}[{k!r}]"))), None)
    if not isinstance(space, Box):
        return None if space.contains(obs) else f"{name} {_shown(obs)} is not in {space}"
    if not isinstance(obs, np.ndarray):
        return f"{name} must be a NumPy array, got {type(obs).__name__}"
    if obs.shape != space.shape:
        return f"{name} must have shape {space.shape}, got {obs.shape}"
    if not np.can_cast(obs.dtype, space.dtype):
        return f"{name} must be {space.dtype}, got {obs.dtype}"
    for entry in np.argwhere((obs < space.low) | (obs > space.high)):
        at = tuple(entry)
        where = f"{name}{list(map(int, at)) or ''}"
        low, high = space.low[at], space.high[at]
        return f"{where} = {obs[at]:.6g} is outside {low:.6g} … {high:.6g}: widen the bounds or clip"
    return None


def _shown(value: Any) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 80 else text[:79] + "…"


def spaces(subject: GymnasiumSubject) -> str | None:
    env = subject.make().unwrapped
    for name in ("observation_space", "action_space"):
        space = getattr(env, name, None)
        if not isinstance(space, Space):
            return f"{name} must be a gymnasium space, set in __init__, got {_shown(space)}"
        if isinstance(space, Box) and np.any(space.low > space.high):
            return f"{name} has a lower bound above its upper bound"
    return None


def reset_and_step(subject: GymnasiumSubject) -> str | None:
    """Form of the returned values without Gymnasium's wrappers; then their types over many steps."""
    env = subject.make().unwrapped
    got = _call("reset", env.reset, seed=subject.seed)
    if not isinstance(got, tuple) or len(got) != 2 or not isinstance(got[1], dict):
        return f"reset must return (observation, info), info a dict, got {_shown(got)}"
    env.action_space.seed(subject.seed)
    got = _call("step 1", env.step, env.action_space.sample())
    if not isinstance(got, tuple) or len(got) != 5 or not isinstance(got[4], dict):
        return f"step must return (observation, reward, terminated, truncated, info), info a dict, got {_shown(got)}"
    for name, flag in (("terminated", got[2]), ("truncated", got[3])):  # before a wrapper overwrites one
        if not isinstance(flag, bool | np.bool_):
            return f"{name} must be a bool, got {type(flag).__name__} {_shown(flag)} at step 1"
    for call in play(subject.make(), subject.seed, subject.steps):
        if isinstance(call.reward, bool | np.bool_) or not isinstance(call.reward, int | float | np.number):
            return f"reward must be a number, got {type(call.reward).__name__} {_shown(call.reward)} at {call.where}"
        for name, flag in (("terminated", call.terminated), ("truncated", call.truncated)):
            if not isinstance(flag, bool | np.bool_):
                return f"{name} must be a bool, got {type(flag).__name__} {_shown(flag)} at {call.where}"
    return None


def finite(subject: GymnasiumSubject) -> str | None:
    for call in play(subject.make(), subject.seed, subject.steps):
        for name, array in leaves(call.obs):
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                return f"{name} is NaN or infinite at {call.where}"
        if not math.isfinite(call.reward):
            return f"reward is {call.reward} at {call.where}"
    return None


def observation_in_space(subject: GymnasiumSubject) -> str | None:
    env = subject.make()
    for call in play(env, subject.seed, subject.steps):
        if problem := misfit(env.observation_space, call.obs):
            return f"at {call.where}: {problem}"
    return None


def determinism(subject: GymnasiumSubject) -> str | None:
    """A fresh environment against one that has played already."""
    fresh, used = subject.make(), subject.make()
    for _ in play(used, subject.seed + 1, subject.steps // 4):
        pass
    for a, b in zip(*(play(env, subject.seed, subject.steps) for env in (fresh, used)), strict=False):
        name = same(a.obs, b.obs)
        for key in ("reward", "terminated", "truncated"):
            one, other = getattr(a, key), getattr(b, key)
            name = name or (key if one != other and not (one != one and other != other) else None)
        if name:
            return (
                f"{name} at {a.where} differs between two runs with the same seed and actions: draw from "
                "self.np_random only, call super().reset(seed=seed), and let reset set everything anew"
            )
    return None


def resets_differ(subject: GymnasiumSubject) -> str | None:
    def alike(starts: list[Any]) -> bool:
        return all(same(starts[0], start) is None for start in starts[1:])

    env = subject.make()
    seeded = [copy.deepcopy(env.reset(seed=subject.seed + i)[0]) for i in range(RESETS)]
    in_turn = [copy.deepcopy(env.reset()[0]) for _ in range(RESETS)]
    if alike(seeded + in_turn):
        return DoesNotApply("every episode starts alike, whatever the seed, as the rules may want it")
    if alike(in_turn):
        return "reset without a seed starts every episode alike: go on drawing from self.np_random, do not seed it"
    if alike(seeded):
        return "different seeds start alike: draw from self.np_random after super().reset(seed=seed)"
    return None


def ends_apart(subject: GymnasiumSubject) -> str | None:
    """The ends of episodes when the time limit is one step longer than the author set it."""
    limit = subject.kwargs.get("max_episode_steps", subject.spec.max_episode_steps)
    env = subject.make(**({} if limit is None or limit > LONGEST else {"max_episode_steps": limit + 1}))
    ends, length = [], 0
    for call in play(env, subject.seed, LONGEST * EPISODES):
        length += call.number > 0
        if call.terminated or call.truncated:
            ends.append((length, bool(call.terminated), bool(call.truncated)))
            length = 0
        if len(ends) == EPISODES:
            break
    if not ends:
        return DoesNotApply(f"no episode of random play ends within {SECONDS:g} s")
    lengths = {length for length, _, _ in ends}
    cut = [terminated for _, terminated, truncated in ends if truncated]
    advice = "agents then take the time limit for an end by the rules: set truncated alone"
    if len(cut) >= 2 and all(cut):
        return f"terminated is set whenever truncated is (step {min(lengths)}): {advice}"
    if len(ends) < 2 or len(lengths) > 1 or cut:
        return None
    (last,) = lengths
    if last == limit:
        return f"every episode terminates at step {last}, which is max_episode_steps: {advice}"
    if last > 1:
        return Remark(f"every episode terminates at step {last}: if that is a time limit, set truncated instead")
    return None


def pictures(subject: GymnasiumSubject) -> str | None:
    if "rgb_array" not in subject.make().unwrapped.metadata.get("render_modes", ()):
        return DoesNotApply('add "rgb_array" to metadata["render_modes"]: it can be watched and recorded')
    try:
        env = subject.make(render_mode="rgb_array")
        frames = [_call(f"render after {call.where}", env.render) for call in play(env, subject.seed, 3)]
        env.close()
    except (DependencyNotInstalled, EnvError) as error:
        cause = error.__cause__ if isinstance(error, EnvError) else error
        if isinstance(cause, DependencyNotInstalled):
            return DoesNotApply(str(cause))
        raise
    for frame in frames:
        if not isinstance(frame, np.ndarray) or frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
            got = f"{frame.dtype} {frame.shape}" if isinstance(frame, np.ndarray) else type(frame).__name__
            return f"render must give uint8 [height, width, 3], got {got}"
    if len({frame.shape for frame in frames}) > 1:
        return "the size of the picture changes from step to step: keep it fixed, a video needs that"
    return None


def gymnasiums_check(subject: GymnasiumSubject) -> str | None:
    """Gymnasium's own checker; :func:`pictures` looks at what the environment draws."""
    env = subject.make().unwrapped
    env.action_space.seed(subject.seed)
    return others_verdict({"gymnasium": lambda e: gymnasium_check(e, skip_render_check=True)}, env)


STRUCTURE: dict[str, GymnasiumRule] = {"spaces": spaces, "reset and step": reset_and_step}
RULES: dict[str, GymnasiumRule] = {
    "finite numbers": finite,
    "observation in space": observation_in_space,
    "determinism": determinism,
    "resets differ": resets_differ,
    "terminated and truncated apart": ends_apart,
    "pictures": pictures,
    "gymnasium's check": gymnasiums_check,
}
