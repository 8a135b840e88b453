"""The table of a stress test for people to read: a row for each condition, the worst one and the mean last."""

from __future__ import annotations

import time
from collections.abc import Callable

from palaestra.train.evaluation.episodes import Evaluation
from palaestra.train.evaluation.stress import Stressed, StressTest
from palaestra.train.formatting import NORMALISED, columns, condition_name, fitted, known, tell

NOTHING = "–"
LINE_INTERVAL = 5.0  # s
HEADS = ("score", "95 % interval", "loss", NORMALISED, "best known", "successes", "condition")
INTERVAL = 1
SPARED = (INTERVAL, 4, 5, 3)  # columns that a narrow terminal does without, the first ones first


def told_while_running(
    clock: Callable[[], float] = time.monotonic, before: str = " next: "
) -> Callable[[float, str], None]:
    """Tells how far a test is, on standard error and at most every ``LINE_INTERVAL``: a short one tells nothing.

    ``before`` stands between the share and the name that it is told with.
    """
    told = clock()

    def tell_condition(share: float, name: str) -> None:
        nonlocal told
        if clock() - told >= LINE_INTERVAL:
            told = clock()
            tell(f"{100 * share:3.0f} % {before}{condition_name(name)}")

    return tell_condition


def stress_table(test: StressTest, title: str, width: int | None) -> str:
    """The table below a title; None as a width is any, and a narrow one leaves out the columns in ``SPARED``."""
    plain, conditions = test.unchanged, [one.evaluation for one in test.stressed]
    exact = all("exact_mean" in found.more for found in (plain, *conditions))
    best = plain.reference["optimum"] if any(one.optimum is not None for one in test.stressed) else None
    rows = [_row(plain, "unchanged", None, plain.percent_of_optimal, best)]
    rows += [_of(one, condition_name(one.name)) for one in test.stressed]
    rows += [_of(test.worst, "worst case"), _mean_row(test, exact)]
    told = [i for i in range(len(HEADS)) if i in (0, len(HEADS) - 1) or any(row[i] != NOTHING for row in rows)]
    if exact:
        told.remove(INTERVAL)
    for spared in SPARED:
        if width is not None and spared in told and _needed(rows, told) > width:
            told.remove(spared)
    lines = columns([HEADS[i] for i in told], [[row[i] for i in told] for row in rows], width)
    title += ": exact mean returns" if exact else f": mean returns of {plain.episodes:,} held-out episodes each"
    scaled = all(one.normalised is not None for one in test.stressed)
    notes = [f"worst: {condition_name(test.worst.name)}, by {NORMALISED if scaled else 'loss'}"]
    notes += [f"left out: {condition_name(name)}, since {reason}" for name, reason in test.left_out.items()]
    notes += {found.cut: None for found in (plain, *conditions) if found.cut is not None}
    return "\n".join([fitted(f"{title}, seed {plain.seed}", width), *lines, *(fitted(note, width) for note in notes)])


def _needed(rows: list[tuple[str, ...]], told: list[int]) -> int:
    """Characters of a line with these columns."""
    return sum(max(len(line[i]) for line in (HEADS, *rows)) + 2 for i in told) - 2


def _of(one: Stressed, name: str) -> tuple[str, ...]:
    return _row(one.evaluation, name, one.loss, one.normalised, one.optimum)


def _row(
    found: Evaluation, name: str, loss: float | None, normalised: float | None, optimum: float | None
) -> tuple[str, ...]:
    exact = "exact_mean" in found.more
    half = (found.ci_high - found.ci_low) / 2
    return (
        known(found.score, 0.0 if exact else half),
        "exact" if exact else f"{known(found.ci_low, half)} to {known(found.ci_high, half)}",
        NOTHING if loss is None else _difference(loss, 0.0 if exact else half),
        NOTHING if normalised is None else f"{normalised:z.1f} %",
        NOTHING if optimum is None else known(optimum),
        NOTHING if found.success_rate is None else f"{100 * found.success_rate:.1f} %",
        name,
    )


def _mean_row(test: StressTest, exact: bool) -> tuple[str, ...]:
    mean, half = test.mean, 0.0 if exact else (test.unchanged.ci_high - test.unchanged.ci_low) / 2
    score, loss, normalised, successes = (
        mean[name] for name in ("score", "loss", "percent_of_optimal", "success_rate")
    )
    return (
        NOTHING if score is None else known(score, half),
        NOTHING,
        NOTHING if loss is None else _difference(loss, half),
        NOTHING if normalised is None else f"{normalised:z.1f} %",
        NOTHING,
        NOTHING if successes is None else f"{100 * successes:.1f} %",
        "mean",
    )


def _difference(loss: float, half: float) -> str:
    """A loss in the digits that are known; a gain has a minus, nothing has none."""
    text = known(loss, half)
    return text.removeprefix("-") if not text.strip("-0.,") else text
