"""The conformance checker: tests of the contract that agents and views rely on.

``check_env("snake")`` applies every rule and returns one :class:`Finding` per rule; ``print(table(findings))`` shows
them. Tensor environments have the rules of :mod:`palaestra.envs.checker.value_rules`, ``episode_rules`` and
``optional_rules``, Gymnasium environments those of ``gymnasium_rules``. The rules of structure come first: where one
fails, the rest would only repeat it and are left out.
"""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gymnasium.envs.registration import EnvSpec

from palaestra.envs.checker import gymnasium_rules, value_rules
from palaestra.envs.checker.episode_rules import PLAY
from palaestra.envs.checker.findings import Finding, judge, table
from palaestra.envs.checker.goal_rules import GOALS, has_goals
from palaestra.envs.checker.gymnasium_rules import GymnasiumSubject
from palaestra.envs.checker.optional_rules import MEMBERS
from palaestra.envs.checker.value_rules import Subject, random_actions
from palaestra.envs.core import TensorEnv, TensorVectorEnv, user_code
from palaestra.envs.core.user_code import RAISED, UserCodeError, describe
from palaestra.envs.registry import UnknownEnvError, resolve
from palaestra.envs.specs import GymnasiumSpec, ResolvedEnv
from palaestra.envs.wrappers.two_players.by_settings import one_player_view, take_game_settings

__all__ = ["RULES", "STRUCTURE", "Finding", "Report", "check_env", "examine", "steps_per_second", "table"]

STRUCTURE = value_rules.STRUCTURE
RULES = {**value_rules.VALUES, **PLAY, **MEMBERS}
GYMNASIUM_STEPS = 500  # random steps per rule, with one environment
SPEED_SECONDS = 0.5
SPEED_ENVS = 1024

Checkable = str | TensorEnv[Any] | type[TensorEnv[Any]] | EnvSpec


@dataclass(frozen=True)
class Report:
    """The findings, and what was checked: None where it could not even be made."""

    findings: list[Finding]
    subject: Subject | GymnasiumSubject | None

    @property
    def runs(self) -> bool:
        """True if all rules of structure are kept, so that it can be stepped at all."""
        structure = {"builds", *STRUCTURE, *gymnasium_rules.STRUCTURE}
        return all(finding.passed for finding in self.findings if finding.rule in structure)


def check_env(env: Checkable, *, num_envs: int = 512, steps: int = 32, seed: int = 0, **kwargs: Any) -> list[Finding]:
    """Check an environment against every rule of the contract.

    Args:
        env: an instance, a class, a registered name, or the spec of an ordinary Gymnasium environment.
        num_envs: size of the batch, at least 8; an ordinary Gymnasium environment is played alone.
        steps: how many steps each rule plays with a batch.
        seed: at least 0.
        kwargs: arguments of the class, where ``env`` is a class, a name or a spec.

    Raises:
        UnknownEnvError, UserCodeError: no environment, module or file of that name.
        ValueError: num_envs is too small.
    """
    return examine(env, kwargs, num_envs=num_envs, steps=steps, seed=seed).findings


def examine(
    env: Checkable, kwargs: dict[str, Any] | None = None, *, num_envs: int = 512, steps: int = 32, seed: int = 0
) -> Report:
    """As :func:`check_env`, with what was checked."""
    if num_envs < 8:
        raise ValueError(f"num_envs must be at least 8, got {num_envs}")
    try:
        built = build(env, kwargs or {})
    except RAISED as error:  # that is the finding
        if isinstance(env, str) and _is_unknown(env, error):
            raise
        said = str(error) if isinstance(error, UserCodeError) else describe(error)
        return Report([Finding("builds", "fail", said)], None)
    findings = [Finding("builds", "pass")]
    if isinstance(built, TensorEnv):
        subject = Subject(built, num_envs, steps, seed)
        _apply(STRUCTURE, RULES, subject, findings)
        return Report(findings, subject)
    other = GymnasiumSubject(built, kwargs or {}, GYMNASIUM_STEPS, seed)
    with user_code.printing:
        _apply(gymnasium_rules.STRUCTURE, gymnasium_rules.RULES, other, findings)
        if Report(findings, other).runs and has_goals(other):
            _apply({}, GOALS, other, findings)
    return Report(findings, other)


def _apply(structure: dict[str, Any], rules: dict[str, Any], subject: Any, findings: list[Finding]) -> None:
    """Add a finding per rule, up to the first broken rule of structure."""
    for name, rule in {**structure, **rules}.items():
        findings.append(judge(name, rule, subject))
        if name in structure and not findings[-1].passed:
            return


def build(env: Checkable, kwargs: dict[str, Any]) -> TensorEnv[Any] | EnvSpec:
    """The rules of a tensor environment, or a spec that has proved to make an environment."""
    found = resolve(env) if isinstance(env, str) else env
    if isinstance(found, GymnasiumSpec):
        found = found.spec
    if isinstance(found, EnvSpec):
        with user_code.printing:
            GymnasiumSubject(found, kwargs, 0, 0).make().close()
        return found
    if isinstance(found, TensorEnv):
        return one_player_view(found, {})
    own = {key: value for key, value in kwargs.items() if key != "max_episode_steps"}  # which is the batch's
    if isinstance(found, ResolvedEnv):
        built = found.build(**own)
    else:
        of_game = take_game_settings(found, own)
        built = one_player_view(found(**own), of_game)
    assert built is not None  # tensor code, for what is left
    if "max_episode_steps" in kwargs:
        built.max_episode_steps = kwargs["max_episode_steps"]
    return built


def _is_unknown(name: str, error: BaseException) -> bool:
    """True if there is nothing of that name, which is no finding about an environment."""
    place = name if name.endswith(".py") else name.rpartition(":")[0]
    if not isinstance(error, UserCodeError):
        return isinstance(error, UnknownEnvError)
    if place.endswith(".py"):
        return not Path(place).expanduser().is_file()
    cause = error.__cause__
    return isinstance(cause, ModuleNotFoundError) and (cause.name or "").split(".")[0] == place.split(".")[0]


def steps_per_second(subject: Subject | GymnasiumSubject) -> float:
    """Environment steps per second on the CPU with random actions: a batch of 1,024, or one Gymnasium environment."""
    if isinstance(subject, GymnasiumSubject):
        start, count = time.perf_counter(), 0
        with user_code.printing:
            for call in gymnasium_rules.play(subject.make(), subject.seed, 10**9):
                count = call.number
                if time.perf_counter() - start > SPEED_SECONDS:
                    break
        return count / (time.perf_counter() - start)
    batch = TensorVectorEnv(copy.deepcopy(subject.env), SPEED_ENVS, device="cpu", seed=subject.seed)
    batch.reset()
    actions = [random_actions(batch, step) for step in range(8)]  # before, so that the environment alone is timed
    for warm_up in actions[:2]:
        batch.step(warm_up)
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < SPEED_SECONDS:
        batch.step(actions[count % len(actions)])
        count += 1
    return count * SPEED_ENVS / (time.perf_counter() - start)
