"""The conformance checker: does an environment keep the contract that agents and views rely on?

``check_env("snake")`` applies every rule of :mod:`palaestra.envs.conformance` and returns one :class:`Finding` per
rule; ``print(table(findings))`` shows them. An error raised by a rule is a failed finding too. The rules of structure
come first: where one fails, the rest would only repeat it and are left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from palaestra.envs.conformance import RULES, STRUCTURE, Rule, Subject
from palaestra.envs.core import TensorEnv
from palaestra.envs.registry import EnvEntry, resolve


@dataclass(frozen=True)
class Finding:
    """What one rule found; ``detail`` says what is wrong and what to change, and is empty where it passed."""

    rule: str
    passed: bool
    detail: str = ""


def check_env(
    env: str | TensorEnv[Any] | type[TensorEnv[Any]],
    *,
    num_envs: int = 512,
    steps: int = 32,
    seed: int = 0,
    **kwargs: Any,
) -> list[Finding]:
    """Check an environment against every rule of the contract.

    Args:
        env: an instance, a class, or a registered name.
        num_envs: size of the batch, at least 8.
        steps: how many steps each rule plays.
        seed: at least 0.
        kwargs: arguments of the class, where ``env`` is a class or a name.

    Raises:
        UnknownEnvError: no environment of that name.
        ValueError: the name belongs to an ordinary Gymnasium environment, or num_envs is too small.
    """
    if num_envs < 8:
        raise ValueError(f"num_envs must be at least 8, got {num_envs}")
    if isinstance(env, str):
        found = resolve(env)
        if not isinstance(found, EnvEntry):
            raise ValueError(
                f"{found.id} is an ordinary Gymnasium environment: check it with gymnasium.utils.env_checker.check_env"
            )
        env = found.build(**kwargs)
    elif isinstance(env, type):
        env = env(**kwargs)
    subject = Subject(env, num_envs, steps, seed)
    findings = []
    for name, rule in {**STRUCTURE, **RULES}.items():
        findings.append(_apply(name, rule, subject))
        if name in STRUCTURE and not findings[-1].passed:
            break
    return findings


def _apply(name: str, rule: Rule, subject: Subject) -> Finding:
    try:
        problem = rule(subject)
    except Exception as error:  # a broken environment may raise anything; the checker reports it and goes on
        problem = f"{type(error).__name__}: {error}"
    return Finding(name, problem is None, problem or "")


def table(findings: list[Finding]) -> str:
    """One line per finding."""
    width = max(len(finding.rule) for finding in findings)
    return "\n".join(f"{'ok  ' if f.passed else 'FAIL'}  {f.rule:<{width}}  {f.detail}".rstrip() for f in findings)
