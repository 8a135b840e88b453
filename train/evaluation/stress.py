"""Stress tests: an agent's score in an environment that is not quite the one it was trained in.

1. The environment names its conditions (``TensorEnv.stresses``). One that names none, and a Gymnasium environment, has
   those that any can have: actions that stick, late and noisy observations.
2. Episodes are the same held-out ones in every condition, as :mod:`palaestra.train.evaluation.episodes` plays them:
   episode k has the same random numbers everywhere. Where the environment computes a mean return exactly, so is the
   one under stress, and the best known return is that of the changed environment.
3. Loss is the score in the unchanged environment less the score under stress. The normalised score is on the changed
   environment's own scale where that is known, else on the unchanged one's.
4. Worst is the condition with the lowest normalised score, or with the largest loss where there is no scale.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from gymnasium import Space
from gymnasium.spaces import Box

from palaestra.envs.core import EnvError, Reference, TensorEnv
from palaestra.envs.core.user_code import RAISED, describe, one_line
from palaestra.envs.registry import resolve
from palaestra.envs.specs import ResolvedEnv
from palaestra.envs.wrappers import UnseenRules, common_stresses, take_settings
from palaestra.train.evaluation.episodes import Evaluation, evaluate
from palaestra.train.evaluation.policies import AgentPolicy, ExpertPolicy, Player, Policy

IN_TENSORS, ON_THE_HOST = 200, 50  # episodes in each condition, unless a number is given
TellCondition = Callable[[float, str], None]  # takes the share of the work that is done, and the condition that comes
Change = Mapping[str, Any] | TensorEnv[Any]
_SEEN = frozenset(("sensor_noise", "observation_noise", "delayed_observation"))  # settings of observations alone


class NoStressError(ValueError):
    """An agent cannot be tested in any condition of its environment; the message says why."""


@dataclass(frozen=True)
class Stressed:
    """One condition and the score in it.

    Attributes:
        settings: over the environment's own; None where other rules were played.
        loss: the unchanged environment's score less this one; None where observations have another form, as on a
            larger board, and returns another scale.
        normalised: %, see choice 3 of the module; None where no scale is known.
        optimum: the best return known of the changed environment, where it is another than that of the unchanged one.
    """

    name: str
    settings: dict[str, Any] | None
    evaluation: Evaluation
    loss: float | None
    normalised: float | None
    optimum: float | None

    def as_dict(self) -> dict[str, Any]:
        found = self.evaluation
        return {
            "name": self.name,
            "settings": self.settings,
            "score": found.score,
            "mean": found.mean,
            "ci_low": found.ci_low,
            "ci_high": found.ci_high,
            "loss": self.loss,
            "percent_of_optimal": self.normalised,
            "optimum": self.optimum,
            "success_rate": found.success_rate,
            "cut_episodes": found.cut_episodes,
        }


@dataclass(frozen=True)
class StressTest:
    """All conditions; ``left_out`` gives the reasons why others could not be had, by name."""

    unchanged: Evaluation
    stressed: list[Stressed]
    left_out: dict[str, str]

    @property
    def worst(self) -> Stressed:
        if all(one.normalised is not None for one in self.stressed):
            return min(self.stressed, key=lambda one: one.normalised or 0.0)
        return max(self.stressed, key=lambda one: float("-inf") if one.loss is None else one.loss)

    @property
    def mean(self) -> dict[str, float | None]:
        """Means over the conditions; None where one of them has no such number, or another scale of returns."""
        alike = all(one.loss is not None for one in self.stressed)
        columns = {
            "score": [one.evaluation.score if alike else None for one in self.stressed],
            "loss": [one.loss for one in self.stressed],
            "percent_of_optimal": [one.normalised for one in self.stressed],
            "success_rate": [one.evaluation.success_rate for one in self.stressed],
        }
        return {name: _mean(values) for name, values in columns.items()}

    def as_dict(self) -> dict[str, Any]:
        """The object that ``palaestra evaluate --stress --json`` prints."""
        plain = self.unchanged
        return {
            "env": plain.env,
            "run": plain.run,
            "episodes": plain.episodes,
            "seed": plain.seed,
            "unchanged": plain.as_dict(),
            "stresses": [one.as_dict() for one in self.stressed],
            "worst": self.worst.as_dict(),
            "mean": self.mean,
            "left_out": self.left_out,
        }


def stress_player(player: Player, episodes: int | None, seed: int, tell: TellCondition) -> StressTest:
    """Test a policy in the environment that it plays in.

    Args:
        episodes: number in each condition; None for as many as an evaluation has, at most ``IN_TENSORS``, or
            ``ON_THE_HOST`` in Gymnasium environments.
        tell: see :func:`stress_test`.
    """
    if episodes is None:
        most = IN_TENSORS if resolve(player.env).in_tensors else ON_THE_HOST
        episodes = min(player.episodes, most)
    place: dict[str, Any] = {"device": player.device, "env_kwargs": player.env_kwargs}
    return stress_test(player.env, player.policy, episodes=episodes, seed=seed, tell=tell, **place)


def stress_test(
    env_name: str,
    policy: Policy,
    *,
    episodes: int,
    seed: int = 0,
    device: str = "cpu",
    env_kwargs: dict[str, Any] | None = None,
    tell: TellCondition = lambda share, name: None,
) -> StressTest:
    """Play held-out episodes in the unchanged environment and in each condition.

    Raises:
        ValueError: if ``episodes`` is not positive.
        NoStressError: if there is no condition.
        EnvError: if a condition is none, naming it.
    """
    found, kwargs = resolve(env_name), dict(env_kwargs or {})
    rules = found.build(**kwargs)
    changes, left_out = _conditions(found, kwargs, rules, policy)
    if not changes:
        why = "; ".join(f"{name}: {reason}" for name, reason in left_out.items())
        raise NoStressError(f"{found.short_name} has no stress for this agent" + (f" ({why})" if why else ""))

    common: dict[str, Any] = {"episodes": episodes, "seed": seed, "device": device}
    tell(0.0, "unchanged")
    unchanged, stressed = evaluate(env_name, policy, env_kwargs=kwargs, **common), []
    common["floor"] = unchanged.reference["random"]
    for number, (name, change) in enumerate(changes.items(), start=1):
        tell(number / (len(changes) + 1), name)
        if isinstance(change, TensorEnv):
            unseen = UnseenRules(change, _bare(found, kwargs))
            result = evaluate(env_name, policy, env_kwargs=kwargs, changed=unseen, **common)
            stressed.append(_compared(name, None, unchanged, result, True))
        else:
            result = evaluate(env_name, policy, env_kwargs={**kwargs, **change}, **common)
            alike = form(found.spaces({**kwargs, **change})[0]) == form(found.spaces(kwargs)[0])
            stressed.append(_compared(name, dict(change), unchanged, result, alike))
    return StressTest(unchanged, stressed, left_out)


def form(space: Space[Any]) -> object:
    """What a network has to fit: bounds do not count."""
    return space.shape if isinstance(space, Box) else space


def _conditions(
    found: ResolvedEnv, kwargs: dict[str, Any], rules: TensorEnv[Any] | None, policy: Policy
) -> tuple[dict[str, Change], dict[str, str]]:
    """The conditions that the policy can be tested in, and why it cannot in the others."""
    changes: dict[str, Change] = {}
    left_out: dict[str, str] = {}
    inside = dict(kwargs)
    take_settings(inside)
    own = rules is not None and rules.has("stresses")
    named = rules.stresses() if rules is not None and own else common_stresses(found.spaces(inside)[0])
    for name, change in named.items():
        if isinstance(change, TensorEnv):
            changes[name] = change
            continue
        if all(key in kwargs and kwargs[key] == value for key, value in change.items()):
            continue  # it is so already
        try:
            spaces = found.spaces({**kwargs, **change})
        except RAISED as error:  # of the environment's own constructor
            raise EnvError(f"the stress {name} of {found.short_name}: {describe(error)}") from error
        differs = [
            f"{one_line(a)}, not {one_line(b)}"
            for a, b in zip(found.spaces(kwargs), spaces, strict=True)
            if form(a) != form(b)
        ]
        if isinstance(policy, ExpertPolicy) and change.keys() <= _SEEN:
            left_out[name] = "the expert reads the state, not the observation"
        elif differs and isinstance(policy, AgentPolicy):
            left_out[name] = f"the agent's network is for {differs[0]}"
        else:
            changes[name] = change
    return changes, left_out


def _bare(found: ResolvedEnv, kwargs: dict[str, Any]) -> TensorEnv[Any]:
    """The environment's own rules, without wrappers."""
    inside = dict(kwargs)
    take_settings(inside)
    rules = found.build(**inside)
    assert rules is not None  # it has named rules in tensors
    return rules


def _compared(
    name: str, settings: dict[str, Any] | None, unchanged: Evaluation, result: Evaluation, alike: bool
) -> Stressed:
    scale = Reference(optimum=unchanged.reference["optimum"], random=unchanged.reference["random"])
    normalised, best = result.percent_of_optimal, result.reference["optimum"]
    if normalised is None and alike:
        normalised = scale.percent_of_optimal(result.score)
    loss = unchanged.score - result.score if alike else None
    return Stressed(name, settings, result, loss, normalised, best if best != scale.optimum else None)


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if len(known) == len(values) else None
