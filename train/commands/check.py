"""``palaestra check``: the conformance report of an environment, for people or as JSON."""

from __future__ import annotations

import json
import shutil
import textwrap
from collections import Counter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from palaestra.train.commands import EnvArgument, SetOption

if TYPE_CHECKING:
    from gymnasium import Space

    from palaestra.envs.checker.conformance import Report
    from palaestra.envs.checker.findings import Finding


def check(
    env: EnvArgument,
    settings: SetOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Check that an environment keeps the rules that agents rely on; each rule that it breaks says what to change.

    The exit status is 1 if a rule is broken.

    \b
    palaestra check snake
    palaestra check my_env.py:MyEnv
    palaestra check CartPole-v1 --json
    """
    from palaestra.envs.checker.conformance import examine, steps_per_second
    from palaestra.envs.checker.findings import Finding, table
    from palaestra.envs.checker.value_rules import Subject
    from palaestra.envs.core.host import use_available_cores
    from palaestra.envs.core.user_code import RAISED, describe
    from palaestra.train.config.compatibility import checked_env_kwargs
    from palaestra.train.config.run_config import environment
    from palaestra.train.config.schema import env_settings
    from palaestra.train.env_output import arm

    use_available_cores()
    kwargs = env_settings(settings or ())
    if kwargs:
        kwargs = checked_env_kwargs(environment(env), kwargs)
    arm()
    report = examine(env, kwargs)
    if kwargs and report.subject is None:
        _blame_settings(env, report)
    findings = _with_agents(report)
    speed = None
    if report.subject is not None and report.runs:
        try:
            speed = steps_per_second(report.subject)
        except RAISED as error:  # a longer play may meet an error that short ones did not
            findings.append(Finding("longer play", "fail", describe(error)))
    if as_json:
        rows = [{"rule": f.rule, "verdict": f.verdict, "detail": f.detail} for f in findings]
        print(json.dumps({"env": env, "findings": rows, "steps_per_second": speed}, indent=1))
    else:
        width = min(max(shutil.get_terminal_size((120, 24)).columns, 40), 140)
        print(table(findings, width))
        print(textwrap.fill(summary(findings, speed, isinstance(report.subject, Subject)), width))
    if not all(finding.passed for finding in findings):
        raise typer.Exit(1)


def _blame_settings(env: str, report: Report) -> None:
    """Raise a ConfigError if the environment can be made without the settings."""
    from palaestra.envs.checker.conformance import build
    from palaestra.envs.core.user_code import RAISED
    from palaestra.train.config.schema import ConfigError

    try:
        build(env, {})
    except RAISED:  # it fails by itself, as the report says
        return
    raise ConfigError(f"{env}: {report.findings[0].detail}")


def _with_agents(report: Report) -> list[Finding]:
    """The findings with one more after the spaces: which agents can learn in them."""
    from palaestra.envs.checker.value_rules import Subject

    findings = list(report.findings)
    names = [finding.rule for finding in findings if finding.passed]
    if report.subject is None or "spaces" not in names:
        return findings
    env = report.subject.env if isinstance(report.subject, Subject) else report.subject.make()
    findings.insert(names.index("spaces") + 1, _agents(env.observation_space, env.action_space))
    return findings


def _agents(obs: Space[Any], act: Space[Any]) -> Finding:
    from palaestra.envs.checker.findings import Finding
    from palaestra.train.config import AGENTS
    from palaestra.train.config.compatibility import can_act, default_policy
    from palaestra.train.config.schema import ConfigError

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
    """The change to make to actions that no agent can choose."""
    from gymnasium import spaces

    if isinstance(act, spaces.Box):
        return f"{act}: give the actions finite bounds"
    return f"{act}: use Discrete, Box, MultiDiscrete or MultiBinary actions"


def summary(findings: list[Finding], speed: float | None, batched: bool) -> str:
    """The last line of the report."""
    import torch

    from palaestra.envs.checker.conformance import SPEED_ENVS
    from palaestra.train.formatting import two_digits

    count = Counter(finding.verdict for finding in findings)
    kept, broken, idle = (count[verdict] for verdict in ("pass", "fail", "does not apply"))
    line = f"{kept} rule{'s' * (kept != 1)} kept, {broken} broken, {idle} do{'es' * (idle == 1)} not apply"
    if speed is None:
        return line
    threads = torch.get_num_threads()
    on = {1: "one thread", 2: "two threads"}.get(threads, f"{threads} threads")
    played = f"{SPEED_ENVS:,} environments on {on}" if batched else "one environment"
    return f"{line} · {two_digits(speed)} steps/s with {played}"
