"""The charts of one run: its score beside known policies, its curves, its episodes, and what the environment adds."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Any, NamedTuple

from palaestra.train.formatting import NORMALISED, SCORES, condition_name, four_digits, minus
from palaestra.train.loggers.metric_names import DECIDED, EVALUATION, TRAINING, moves_for_both
from palaestra.train.plain_json import is_moderate_number
from palaestra.train.report.charts import (
    Curve,
    ScoreRow,
    SvgChart,
    histogram_chart,
    interval_chart,
    line_chart,
    map_chart,
)
from palaestra.train.report.run_record import RunRecord
from palaestra.train.report.scales import finite

STEPS = "environment steps"
MOST_WHOLE = 60  # bars of a histogram of whole numbers
BARS = 30
MOST_CURVES = 40  # of columns that other people's callbacks have added
_OF_BOTH = "The agent moves for both players while it trains, so this is no score; the other games are drawn."
_PLAIN = -1  # colour of what is only there to compare with


class Column(NamedTuple):
    """A chart of columns of the curves: (column, name) of each, and what the axis says."""

    title: str
    columns: tuple[tuple[str, str], ...]
    label: str
    logarithmic: bool = False
    factor: float = 1.0
    note: str = ""


FIRST = (
    Column("Loss of the values", (("train/value_loss", "value loss"),), "squared error", logarithmic=True),
    Column("Loss of the policy", (("train/policy_gradient_loss", "policy loss"),), "loss"),
    Column("Loss", (("train/loss", "loss"),), "loss", logarithmic=True),
    Column(
        "Entropy",
        (("train/entropy_loss", "entropy"),),
        "nats",
        factor=-1.0,
        note="Of the policy's distribution over actions: it falls as the agent becomes sure. −train/entropy_loss.",
    ),
    Column("Exploration", (("rollout/exploration_rate", "share of random actions"),), "share of random actions"),
    Column("Speed", (("time/fps", "steps per second"),), "steps per second", note="On average since it began."),
)
FURTHER = (
    Column("Length of episodes", (("rollout/ep_len_mean", TRAINING), ("eval/mean_ep_length", EVALUATION)), "steps"),
    Column("Successes", (("rollout/success_rate", TRAINING), ("eval/success_rate", EVALUATION)), "share"),
    Column("Change of the policy", (("train/approx_kl", "approximate KL divergence"),), "nats"),
    Column("Clipped", (("train/clip_fraction", "share of clipped ratios"),), "share"),
    Column("Explained variance", (("train/explained_variance", "of returns by values"),), "share"),
    Column("Length of the gradient", (("train/grad_norm", "before clipping"),), "norm", logarithmic=True),
    Column("Learning rate", (("train/learning_rate", "learning rate"),), "learning rate"),
)
_SHOWN_ABOVE = ("rollout/ep_rew_mean", "eval/mean_reward", "eval/percent_of_optimal", "eval/lower_end")
_NO_CURVES = ("time/iterations", "time/time_elapsed", "time/total_timesteps", "train/n_updates")


def score_chart(record: RunRecord, prefix: str) -> SvgChart | None:
    """The score with its interval beside random play, the heuristic and the best known; None without a score."""
    score = record.score
    if score is None:
        return None
    exact = record.number("exact_mean") is not None
    low, high = (None, None) if exact else (record.number("ci_low"), record.number("ci_high"))
    rows = [ScoreRow("this agent", score, low, high, 0, "exact" if exact else "")]
    known = [(SCORES[key], record.number("reference", key)) for key in ("random", "heuristic", "optimum")]
    rows += [ScoreRow(name, value, colour=_PLAIN) for name, value in known if value is not None]
    rows.sort(key=lambda row: row.value)
    solved = solved_at(record)
    levels = [] if solved is None else [(SCORES["solved_at"], solved)]
    note = "" if low is None or low == high else "The line across a bar is the 95 % interval of the mean."
    return interval_chart(f"{prefix}score", "Score", rows, x_label="mean return", levels=levels, note=note)


def solved_at(record: RunRecord) -> float | None:
    """The mean return from which the environment counts as solved; None if it is not known."""
    value = record.facts.get("solved_at")
    return float(value) if value is not None and is_moderate_number(value) else None


def main_curves(record: RunRecord, prefix: str) -> list[SvgChart]:
    """Return, normalised score, losses, entropy and speed, as far as they were measured."""
    return [*_returns(record, prefix), *_normalised(record, prefix), *_charts(record, _first(record), prefix)]


def _first(record: RunRecord) -> list[Column]:
    parts = record.curves.has("train/value_loss") or record.curves.has("train/policy_gradient_loss")
    return [column for column in FIRST if not (parts and column.title == "Loss")]


def further_curves(record: RunRecord, prefix: str) -> list[SvgChart]:
    """All other columns, those of other people's callbacks too."""
    first = {name for column in FIRST for name, _ in column.columns}
    known = {*first, *_SHOWN_ABOVE, *_NO_CURVES, *(name for column in FURTHER for name, _ in column.columns)}
    total = [c for c in FIRST if c.title == "Loss" and c not in _first(record)]
    changing = [name for name in record.curves.columns if name not in known and _changes(record, name)]
    others = [Column(name, ((name, name),), name) for name in changing[:MOST_CURVES]]
    return _charts(record, [*total, *FURTHER, *others], prefix)


def _changes(record: RunRecord, name: str) -> bool:
    """True if there is something to see: a clip range that stays is a setting."""
    return len({*finite(record.curves.columns[name])}) > 1


def _returns(record: RunRecord, prefix: str) -> list[SvgChart]:
    trained = "rollout/ep_rew_mean"
    if not moves_for_both(record.settings.get("env_kwargs")):
        return _scores(record, prefix, trained)
    won = Column(DECIDED.capitalize(), ((trained, TRAINING),), "share", note=_OF_BOTH)
    return [*_scores(record, prefix, ""), *_charts(record, [won], prefix)]


def _scores(record: RunRecord, prefix: str, trained: str) -> list[SvgChart]:
    curves = _both(record, trained, "eval/mean_reward")
    if not curves:
        return []
    names = {"random": _PLAIN, "optimum": _PLAIN}
    levels = [(SCORES[key], value) for key in names if (value := record.number("reference", key)) is not None]
    ident, label = f"{prefix}return", "mean return of an episode"
    return [line_chart(ident, "Return", curves, x_label=STEPS, y_label=label, levels=levels)]


def _both(record: RunRecord, training: str, evaluation: str, factor: float = 1.0) -> list[Curve]:
    found = []
    if record.curves.has(training):
        found.append(record.curves.curve(training, TRAINING, 0, factor=factor))
    if record.curves.has(evaluation):
        found.append(record.curves.curve(evaluation, EVALUATION, 1, dots=True, factor=factor))
    return found


def _normalised(record: RunRecord, prefix: str) -> list[SvgChart]:
    if not record.curves.has("eval/percent_of_optimal"):
        return []
    curve = record.curves.curve("eval/percent_of_optimal", EVALUATION, 1, dots=True)
    note = "0 % is random play, 100 % the best known."
    title, label = NORMALISED.capitalize(), f"{NORMALISED}, %"
    levels = [("best known", 100.0)]
    ident = f"{prefix}normalised"
    return [line_chart(ident, title, [curve], x_label=STEPS, y_label=label, levels=levels, from_zero=True, note=note)]


def _charts(record: RunRecord, columns: Sequence[Column], prefix: str) -> list[SvgChart]:
    found = []
    for column in columns:
        there = [(name, title) for name, title in column.columns if record.curves.has(name)]
        if not there:
            continue
        curves = [
            record.curves.curve(
                name, title, 1 if name.startswith("eval/") else 0, name.startswith("eval/"), column.factor
            )
            for name, title in there
        ]
        numbers = finite([y for curve in curves for y in curve.y])
        wide = column.logarithmic and min(numbers, default=0.0) > 0.0 and max(numbers) > 30 * min(numbers)
        ident = prefix + there[0][0].replace("/", "-").replace("_", "-")
        ident = "".join(sign if sign.isalnum() or sign == "-" else "-" for sign in ident)
        chart = line_chart(
            ident, column.title, curves, x_label=STEPS, y_label=column.label, logarithmic=wide, note=column.note
        )
        found.append(chart)
    return found


def stress_chart(record: RunRecord, prefix: str) -> SvgChart | None:
    """The scores in changed conditions; None where they were not measured."""
    plain, stressed = record.stress.get("unchanged"), record.stress.get("stresses")
    if not isinstance(plain, dict) or not isinstance(stressed, list):
        return None
    named = [("unchanged", {**plain, "score": plain.get("exact_mean", plain.get("mean"))}, 0)]
    named += [(condition_name(str(one.get("name"))), one, 1) for one in stressed if isinstance(one, dict)]
    exact, rows = "exact_mean" in plain, []
    for name, one, colour in named:
        score, low, high = (one.get(key) for key in ("score", "ci_low", "ci_high"))
        ends = (None, None) if exact or not (is_moderate_number(low) and is_moderate_number(high)) else (low, high)
        if is_moderate_number(score):
            rows.append(ScoreRow(name, float(score or 0.0), *ends, colour))
    return interval_chart(f"{prefix}stress", "Scores", rows, x_label="mean return") if rows else None


def returns_chart(record: RunRecord, prefix: str) -> SvgChart | None:
    """How the returns of the held-out episodes are distributed; None without them."""
    returns = record.episodes.get("return")
    if not returns:
        return None
    low, high = min(returns), max(returns)
    names: list[str] = []
    if all(value.is_integer() for value in returns) and high - low < MOST_WHOLE:
        around = 2 if high == low else 0  # bars beside the only one
        edges = [low - around - 0.5 + n for n in range(int(high - low) + 2 * around + 2)]
        names = [f"{edge + 0.5:g}" for edge in edges[:-1]]
    elif high > low:
        edges = [low + (high - low) / BARS * n for n in range(BARS + 1)]
    else:
        width = abs(low) / 20
        edges = [low + width * (n - 2.5) for n in range(6)]
    counts = [0] * (len(edges) - 1)
    for value in returns:
        counts[min(len(counts) - 1, int((value - edges[0]) / (edges[1] - edges[0])))] += 1
    levels = [("mean", fmean(returns))] if high > low else []
    note = minus(f"{len(returns):,} held-out episodes, from {four_digits(low)} to {four_digits(high)}.")
    if low == high:
        note = minus(f"All {len(returns):,} held-out episodes gave {four_digits(low)}.")
    return histogram_chart(
        f"{prefix}returns",
        "Returns of single episodes",
        edges,
        counts,
        x_label="return",
        y_label="episodes",
        levels=levels,
        names=names,
        note=note,
    )


def added_charts(record: RunRecord, prefix: str) -> list[SvgChart]:
    """The environment's own figures; a damaged one is told among the record's troubles."""
    found = []
    for number, figure in enumerate(record.figures):
        try:
            found += _added(figure, f"{prefix}own-{number}")
        except (KeyError, TypeError, ValueError, IndexError, ArithmeticError) as error:
            record.troubles.append(f"A figure of {record.folder.figures_file.name} is damaged ({error!r}).")
    return found


def _added(figure: dict[str, Any], ident: str) -> list[SvgChart]:
    return _DRAWN[figure["kind"]](figure, ident)


def _bars(figure: dict[str, Any], ident: str) -> list[SvgChart]:
    more: dict[str, Any] = {"marked": figure["marked"], "names": [str(name) for name in figure["names"]]}
    title, edges, counts = str(figure["title"]), figure["edges"], figure["counts"]
    return [histogram_chart(ident, title, edges, counts, **_labels(figure), **_levels(figure), **more)]


def _lines(figure: dict[str, Any], ident: str) -> list[SvgChart]:
    curves = []
    for number, (name, y) in enumerate(figure["curves"].items()):
        low, high = figure["bands"].get(name, ((), ()))
        curves.append(Curve(str(name), figure["x"], y, low, high, colour=number))
    more = {"from_zero": bool(figure["from_zero"]), **_levels(figure)}
    return [line_chart(ident, str(figure["title"]), curves, **_labels(figure), **more)]


def _rows(figure: dict[str, Any], ident: str) -> list[SvgChart]:
    rows = [
        ScoreRow(str(name), float(value), colour=_PLAIN if name in figure["compared"] else 0)
        for name, value in figure["values"].items()
    ]
    return [interval_chart(ident, str(figure["title"]), rows, x_label=str(figure["x_label"]), **_levels(figure))]


def _labels(figure: dict[str, Any]) -> dict[str, Any]:
    return {"x_label": str(figure["x_label"]), "y_label": str(figure["y_label"])}


def _levels(figure: dict[str, Any]) -> dict[str, Any]:
    return {"levels": [(str(name), float(value)) for name, value in figure["levels"]], "note": str(figure["note"])}


def _maps(figure: dict[str, Any], ident: str) -> list[SvgChart]:
    known = finite([value for rows in figure["maps"].values() for row in rows for value in row])
    ends = min(known), max(known)
    first, steps, label = tuple(figure["first"]), tuple(figure["steps"]), str(figure["value_label"])
    charts, last = [], len(figure["maps"]) - 1
    for number, (name, values) in enumerate(figure["maps"].items()):
        place: dict[str, Any] = {"ends": ends, "first": first, "steps": steps, "value_label": label}
        title = f"{figure['title']}: {name}" if name else str(figure["title"])
        note = str(figure["note"]) if number == last else ""
        charts.append(map_chart(f"{ident}-{number}", title, values, **_labels(figure), **place, note=note))
    return charts


_DRAWN = {"bars": _bars, "maps": _maps, "lines": _lines, "rows": _rows}
