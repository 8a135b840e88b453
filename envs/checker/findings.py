"""The conformance checker's answer: one finding per rule, and the table of them.

A rule is a function of its subject that returns None where the environment keeps it, else a text: a plain one says what
is wrong and what to change, a :class:`Remark` goes with a rule that is kept, and :class:`DoesNotApply` says what the
environment would gain. An error raised by a rule is a broken rule too.
"""

from __future__ import annotations

import re
import textwrap
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from palaestra.envs.core import EnvError
from palaestra.envs.core.user_code import RAISED, describe

SubjectT = TypeVar("SubjectT")
Verdict = Literal["pass", "fail", "does not apply"]
_SIGNS: dict[Verdict, str] = {"pass": "ok", "fail": "FAIL", "does not apply": "–"}
_NARROW = 100  # columns from which rules and details stand side by side
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


class Remark(str):
    """The rule is kept, and there is something to tell."""


class DoesNotApply(str):
    """The reason why a rule has nothing to look at, or the gain from an optional member that is missing."""


@dataclass(frozen=True)
class Finding:
    """The result of one rule; ``detail`` of a broken rule says what is wrong and what to change."""

    rule: str
    verdict: Verdict
    detail: str = ""

    @property
    def passed(self) -> bool:
        """True if the rule is kept, or does not apply."""
        return self.verdict != "fail"


def judge(name: str, rule: Callable[[SubjectT], str | None], subject: SubjectT) -> Finding:
    """The finding of one rule."""
    try:
        outcome = rule(subject)
    except EnvError as error:  # written for people
        outcome = str(error)
    except RAISED as error:  # the checker reports it and goes on
        outcome = describe(error)
    if outcome is None or isinstance(outcome, Remark):
        return Finding(name, "pass", outcome or "")
    return Finding(name, "does not apply" if isinstance(outcome, DoesNotApply) else "fail", str(outcome))


def others_verdict(checks: dict[str, Callable[[Any], None]], env: Any) -> str | None:
    """The outcome of other projects' checkers, by the project's name: the first error, else all their warnings."""
    said: list[str] = []
    for name, check in checks.items():
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                check(env)
            except RAISED as error:  # checkers raise AssertionError
                return f"{name}: {_one_line(describe(error))}"
        said += [f"{name} warns: {_one_line(str(warning.message))}" for warning in caught]
    return Remark("\n".join(dict.fromkeys(said))) if said else None


def _one_line(text: str) -> str:
    return " ".join(_COLOUR.sub("", text).replace("WARN: ", "").split())


def table(findings: list[Finding], width: int = 120) -> str:
    """A row per finding, wrapped to ``width`` columns; where they are few, details stand below their rule."""
    names = max(len(finding.rule) for finding in findings)
    lines = []
    for finding in findings:
        head = f"{_SIGNS[finding.verdict]:<4}  {finding.rule}"
        indent = 6 if width < _NARROW else 8 + names
        detail = [
            part
            for text in finding.detail.splitlines()
            for part in textwrap.wrap(text, width - indent, break_on_hyphens=False)
        ]
        if detail and width >= _NARROW:
            head = f"{head:<{indent}}{detail.pop(0)}"
        lines += [head, *(" " * indent + part for part in detail)]
    return "\n".join(lines)
