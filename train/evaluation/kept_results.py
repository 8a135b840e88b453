"""What a run keeps of its final evaluation beside the summary: each episode, and the environment's figures."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable

from palaestra.envs.core.user_code import RAISED, describe
from palaestra.train.evaluation.episodes import Evaluation
from palaestra.train.evaluation.policies import Policy, on_states

HEADS = ("episode", "return", "length", "success", "cut")


def episodes_table(result: Evaluation) -> str:
    """A CSV table, one row per episode, which is that of the environment of its number; success is 0, 1 or empty."""
    played, text = result.played, io.StringIO()
    assert played is not None  # an evaluation that was just made
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEADS)
    successes = played.successes
    for number, (value, length, cut) in enumerate(zip(played.returns, played.lengths, played.cut, strict=True)):
        success = "" if successes is None else int(successes[number])
        writer.writerow((number, float(value), int(length), success, int(cut)))
    return text.getvalue()


def added_figures(result: Evaluation, policy: Policy, tell: Callable[[str], None]) -> str:
    """The environment's figures as a list in JSON, empty where it adds none. What goes wrong with them is told."""
    played, rules = result.played, result.rules
    if played is None or rules is None or not rules.has("report_figures"):
        return "[]"
    try:
        act = on_states(policy, rules) if policy.deterministic else None
        figures = rules.report_figures(played.returns, played.lengths, played.successes, act)
        return json.dumps([figure.as_dict() for figure in figures], allow_nan=False)
    except RAISED as error:
        tell(f"report_figures of {result.env}: {describe(error)}; the report has none")
        return "[]"
