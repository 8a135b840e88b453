"""``palaestra check``: the conformance report of an environment, for people or as JSON."""

from __future__ import annotations

import json
import shutil
import textwrap
from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from gymnasium import Space, spaces

from palaestra.envs.checker.conformance import SPEED_ENVS, Report, build, examine, steps_per_second
from palaestra.envs.checker.findings import Finding, table
from palaestra.envs.checker.value_rules import Subject
from palaestra.envs.core.user_code import describe
from palaestra.train.config.compatibility import AGENTS, can_act, check_env_kwargs, default_policy
from palaestra.train.config.schema import ConfigError, parse
from palaestra.train.runs.trainer import use_available_cores


def check(env: str, settings: Sequence[str], as_json: bool) -> bool:
    """Check and print; whether no rule is broken.

    Raises:
        ConfigError: on a setting that is not the environment's, or that it refuses.
        UnknownEnvError, UserCodeError: there is nothing of that name.
    """
    use_available_cores()
    kwargs = env_settings(settings)
    if kwargs:
        check_env_kwargs(env, kwargs)
    report = examine(env, kwargs)
    if kwargs and report.subject is None:
        _blame_settings(env, report)
    findings = with_agents(report)
    speed = None
    if report.subject is not None and report.runs:
        try:
            speed = steps_per_second(report.subject)
        except Exception as error:  # what short plays did not meet, a longer one may
            findings.append(Finding("longer play", "fail", describe(error)))
    if as_json:
        rows = [{"rule": f.rule, "verdict": f.verdict, "detail": f.detail} for f in findings]
        print(json.dumps({"env": env, "findings": rows, "steps_per_second": speed}, indent=1))
    else:
        width = shutil.get_terminal_size((120, 24)).columns
        width = min(max(width, 40), 140)
        print(table(findings, width))
        print(textwrap.fill(summary(findings, speed, isinstance(report.subject, Subject)), width))
    return all(finding.passed for finding in findings)


def env_settings(settings: Sequence[str]) -> dict[str, Any]:
    """The environment's arguments."""
    if bad := [setting for setting in settings if not setting.startswith("env.")]:
        raise ConfigError(f"--set {bad[0]}: only environment settings (env.KEY=VALUE) apply here")
    return {key.removeprefix("env."): value for key, value in map(parse, settings)}


def _blame_settings(env: str, report: Report) -> None:
    """Raise a ConfigError if the environment can be made without the settings."""
    try:
        build(env, {})
    except Exception:  # it fails by itself, as the report says
        return
    raise ConfigError(f"{env}: {report.findings[0].detail}")


def with_agents(report: Report) -> list[Finding]:
    """The findings with one more after the spaces: which agents can learn in them."""
    findings = list(report.findings)
    names = [finding.rule for finding in findings if finding.passed]
    if report.subject is None or "spaces" not in names:
        return findings
    env = report.subject.env if isinstance(report.subject, Subject) else report.subject.make()
    findings.insert(names.index("spaces") + 1, _agents(env.observation_space, env.action_space))
    return findings


def _agents(obs: Space[Any], act: Space[Any]) -> Finding:
    able, problem = [], _advice(act)
    for agent in AGENTS:
        if not can_act(agent, act):
            continue
        try:
            default_policy(agent, obs)
        except ConfigError as error:
            problem = str(error)
        else:
            able.append(agent)
    return (
        Finding("agents", "pass", ", ".join(able))
        if able
        else Finding("agents", "fail", f"no agent can learn here: {problem}")
    )


def _advice(act: Space[Any]) -> str:
    """What to change about actions that no agent can choose."""
    if isinstance(act, spaces.Discrete):
        return f"{act}: count the actions from 0"
    if isinstance(act, spaces.Box):
        return f"{act}: give the actions finite bounds"
    return f"{act}: use Discrete, Box, MultiDiscrete or MultiBinary actions"


def summary(findings: list[Finding], speed: float | None, batched: bool) -> str:
    """The last line of the report."""
    count = Counter(finding.verdict for finding in findings)
    kept, broken, idle = (count[verdict] for verdict in ("pass", "fail", "does not apply"))
    line = f"{kept} rule{'s' * (kept != 1)} kept, {broken} broken, {idle} do{'es' * (idle == 1)} not apply"
    if speed is None:
        return line
    threads = torch.get_num_threads()
    on = {1: "one thread", 2: "two threads"}.get(threads, f"{threads} threads")
    played = f"{SPEED_ENVS:,} environments on {on}" if batched else "one environment"
    return f"{line} · {short(speed)} steps/s with {played}"


def short(number: float) -> str:
    """Two significant digits, like 1.9 M, 86 k and 740."""
    for unit, name in ((1e6, " M"), (1e3, " k")):
        if number >= 0.9995 * unit:
            return f"{number / unit:.1f}{name}" if number < 9.95 * unit else f"{number / unit:.0f}{name}"
    return f"{number:.2g}" if number < 100 else f"{number:.0f}"
