"""Scores for people to read: one evaluation as a sentence and a table, and several as a row each."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path

from palaestra.envs.core.user_code import one_line
from palaestra.envs.registry import resolve
from palaestra.train.evaluation.episodes import Evaluation
from palaestra.train.evaluation.policies import Player
from palaestra.train.formatting import NORMALISED, SCORES, against, columns, fitted, known, terminal_width
from palaestra.train.runs.run_folder import RunFolder

_LONGEST_VALUE = 20  # letters of a setting in a table


def report(result: Evaluation) -> str:
    """An evaluation for people to read: what it means in a sentence, then a table."""
    width = terminal_width(sys.stdout)
    half = (result.ci_high - result.ci_low) / 2
    rows = [("mean return", known(result.mean, half))]
    rows += [("  95 % interval", f"{known(result.ci_low, half)} to {known(result.ci_high, half)}")]
    if result.success_rate is not None:
        rows.append(("successes", f"{100 * result.success_rate:.1f} %"))
        if (low := result.success_ci_low) is not None and (high := result.success_ci_high) is not None:
            rows.append(("  95 % interval", f"{100 * low:.1f} to {100 * high:.1f} %"))
    rows += [("middle half (IQM)", known(result.iqm, half)), ("deviation", known(result.std, half))]
    rows.append(("episode length", f"{known(result.mean_length)} steps"))
    for name, value in result.reference.items():
        if value is not None:
            rows.append((SCORES[name], known(value)))
    if result.percent_of_optimal is not None:
        rows.append((NORMALISED, f"{result.percent_of_optimal:z.1f} %"))
    rows += [named_figure(name, value) for name, value in result.more.items()]
    column = max(len(label) for label, _ in rows)
    lines = [fitted(sentence(result), width)]
    lines += [f"  {label:<{column}}  {value}" for label, value in rows]
    if result.cut is not None:
        lines.append(fitted(result.cut, width))
    return "\n".join(lines)


def named_figure(name: str, value: float) -> tuple[str, str]:
    """A number that an environment adds to an evaluation, in words, and its value with the unit that its name has."""
    label = re.sub("(?<!_5)_percent", "", name)  # revenue_at_5_percent is the mean of the lowest 5 %
    unit = " %" if label != name else {"seconds": " s", "jerk": " rad/s³"}.get(name.rpartition("_")[2], "")
    return label.replace("_", " "), known(value) + unit


def comparison(players: Sequence[Player], results: Sequence[Evaluation]) -> str:
    """Several evaluations for people to read, a row each; the environments are told where they differ."""
    width, rows = terminal_width(sys.stdout), []
    environments, alike = _environments(players)
    for environment, result in zip(environments, results, strict=True):
        half = (result.ci_high - result.ci_low) / 2
        exact, share, successes = "exact_mean" in result.more, result.percent_of_optimal, result.success_rate
        rows.append(
            (
                environment,
                known(result.score, 0.0 if exact else half),
                "exact" if exact else f"{known(result.ci_low, half)} to {known(result.ci_high, half)}",
                "–" if share is None else f"{share:z.1f} %",
                "–" if successes is None else f"{100 * successes:.1f} %",
                run_of(result),
            )
        )
    heads = ("environment", "score", "95 % interval", NORMALISED, "successes", "run")
    told = [i for i in range(len(heads)) if i in (1, 2, 5) or any(row[i] != "–" for row in rows)]
    if alike:
        told.remove(0)
    lines = columns([heads[i] for i in told], [[row[i] for i in told] for row in rows], width)
    where = f" on {env_of(results[0])}, the same for all" if alike else "; the environments differ"
    first = f"mean returns of {_episodes_of(results[0])}{where}"
    cut = {result.cut: None for result in results if result.cut is not None}
    return "\n".join([fitted(first, width), *lines, *(fitted(text, width) for text in cut)])


def _environments(players: Sequence[Player]) -> tuple[list[str], bool]:
    """Each one's environment with the settings that not all have who play in it, and whether there is one only."""
    places, missing, texts = [(resolve(player.env), player.env_kwargs) for player in players], object(), []
    for env, settings in places:
        others = [kwargs for other, kwargs in places if other == env]
        own = [(k, one_line(v)) for k, v in settings.items() if any(kw.get(k, missing) != v for kw in others)]
        texts.append(" ".join([env.short_name, *(f"{k}={v if len(v) <= _LONGEST_VALUE else '…'}" for k, v in own)]))
    return texts, all(place == places[0] for place in places)


def env_of(result: Evaluation) -> str:
    """The short name of the environment, and against whom a game was played."""
    return resolve(result.env).short_name + against(result.opponent)


def run_of(result: Evaluation) -> str:
    """The run's folder where its latest weights were measured."""
    return run_of_name(result.run)


def run_of_name(name: str) -> str:
    """The run's folder of a policy that is named by its file of latest weights; other names as they are."""
    file = Path(name)
    return str(file.parent) if file == RunFolder(file.parent).model_file else name


def _episodes_of(result: Evaluation) -> str:
    number = "1 held-out episode" if result.episodes == 1 else f"{result.episodes:,} held-out episodes"
    return f"{number}, seed {result.seed}"


def sentence(result: Evaluation) -> str:
    """What the score means, with one percentage where there is something to compare with."""
    half = 0.0 if "exact_mean" in result.more else (result.ci_high - result.ci_low) / 2
    verb = "earns" if "best_fixed_mean" in result.more else "scores"
    start = f"{run_of(result)} {verb} {known(result.score, half)} an episode on {env_of(result)}"
    end = f" ({_episodes_of(result)})"
    if fixed := result.more.get("best_fixed_mean"):
        more = 100 * (result.score / fixed - 1)
        return f"{start}, {abs(more):.1f} % {'more' if more >= 0 else 'less'} than the best fixed price{end}"
    if (share := result.percent_of_optimal) is not None:
        return f"{start}, {share:z.1f} % of the way from random play to the best known{end}"
    return start + end
