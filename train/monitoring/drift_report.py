"""A comparison as lines for a terminal, and as JSON."""

from __future__ import annotations

from typing import Any

from palaestra.train.formatting import columns, known, minus
from palaestra.train.monitoring.drift import FEWEST, Shift
from palaestra.train.monitoring.use_comparison import UseComparison
from palaestra.train.plain_json import finite

MOST_LINES = 20  # of numbers, beside those that have drifted


def report(found: UseComparison, width: int | None) -> str:
    """What was found, the worst first, in lines of that width (None: any)."""
    blocks = [[headline(found), *notes_of(found)], _numbers(found, width), _days(found, width), returns_of(found)]
    blocks += [_sales(found, width), [verdict(found)]]
    return "\n\n".join("\n".join(block) for block in blocks if block)


def headline(found: UseComparison) -> str:
    first, last = found.days[0].day, found.days[-1].day
    when = f"{first}" if first == last else f"{first} to {last}"
    reference = f"the reference, {found.reference['states']:,} of {found.reference['episodes']:,} held-out episodes"
    states = f"{found.states:,} state{'s' * (found.states != 1)}"
    return f"{found.file} on {found.environment}: {states} in {found.log}, {when}, beside {reference}"


def notes_of(found: UseComparison) -> list[str]:
    """What else is to be known of the lines, a sentence each."""
    tally, notes = found.tally, []
    if found.reference.get("cut_after"):
        notes.append(f"the reference's episodes were cut after {found.reference['cut_after']:,} steps")
    if tally.read.damaged:
        notes.append(f"damaged lines, left out: {tally.read.damaged:,}, the first is {tally.read.first_damaged}")
    if tally.unfit:
        notes.append(f"lines that do not fit the contract: {tally.unfit:,}, the first is {tally.first_unfit}")
    if tally.of_others:
        notes.append(f"lines of other policies, left out: {tally.of_others:,}")
    if tally.read.half:
        notes.append("the last line is half written, and left out")
    if tally.dropped:
        notes.append(f"requests that the server answered without a line in the log: {tally.dropped:,}")
    if found.ledger.lost:
        notes.append(f"episodes that were lost sight of: {found.ledger.lost:,}")
    if found.ledger.unbegun:
        notes.append(f"outcomes of episodes that the log does not begin: {found.ledger.unbegun:,}, left out")
    if found.sales is not None and found.sales.unlike:
        notes.append(f"moments that the market does not know: {found.sales.unlike:,}")
    if found.sales is not None and found.sales.by_stock and not found.ledger.ends:
        notes.append('sales are not judged: those that end a season are missing, as no line says "end": true')
    if found.states < FEWEST:
        notes.append("so few states tell little: no number is judged")
    return notes


def measured(shift: Shift, digits: int = 2) -> tuple[str, str, str]:
    """PSI, KS and the share out of range, as text."""
    psi, ks = ("–" if value is None else f"{value:.{digits}f}" for value in (shift.psi, shift.ks))
    return psi, ks, f"{100 * shift.out_of_range:.2g} %"


def means(found: UseComparison, i: int) -> tuple[str, str]:
    """The mean of a number in the reference and in use, in its unit."""
    shift, number = found.shifts[i], found.numbers[i]
    half = abs(shift.watched.scale) * max(number.deviation, 1e-3 * abs(number.mean)) / 10
    before = minus(known(shift.watched.quantity(number.mean), half))
    return before, "–" if shift.mean is None else minus(known(shift.watched.quantity(shift.mean), half))


def ranked(found: UseComparison) -> list[int]:
    """Places of the numbers, those that have drifted first, then by PSI."""
    return sorted(range(len(found.shifts)), key=lambda i: (not found.drifted[i], -(found.shifts[i].psi or 0.0)))


def _numbers(found: UseComparison, width: int | None) -> list[str]:
    places = ranked(found)
    shown = [i for n, i in enumerate(places) if found.drifted[i] or n < MOST_LINES]
    rows = []
    for i in shown:
        shift = found.shifts[i]
        psi, ks, outside = measured(shift)
        marks = ", ".join(found.drifted[i])
        rows.append([shift.watched.name, shift.watched.unit, *means(found, i), psi, ks, outside, marks])
    heads = ["number", "unit", "mean before", "in use", "PSI", "KS", "out of range", "drift"]
    lines = columns(heads, rows, width)
    left = len(places) - len(shown)
    return [*lines, f"{left} more numbers, of smaller PSI, are in --json and --page"] if left else lines


def _days(found: UseComparison, width: int | None) -> list[str]:
    rows = []
    for day in found.days:
        psi = "–" if day.worst is None else f"{day.worst.psi:.2f}"
        name = "" if day.worst is None else day.worst.watched.name
        ks = "–" if day.ks is None else f"{day.ks:.2f}"
        earned = [f"{day.returns.count:,}", interval_text(day.returns)]
        rows.append([str(day.day), f"{day.states:,}", psi, ks, f"{100 * day.out_of_range:.2g} %", *earned, name])
    heads = ["day", "states", "PSI", "KS", "out of range", "episodes", "mean return", "largest PSI of"]
    return columns(heads, rows[-31:], width)


def interval_text(returns: Any) -> str:
    """A mean return with its interval."""
    if not returns.count:
        return "–"
    ends = returns.interval()
    if ends is None:
        return minus(f"{returns.mean:.4g}")
    half = 0.5 * (ends[1] - ends[0])
    return minus(f"{known(returns.mean, half)} ({known(ends[0], half)} to {known(ends[1], half)})")


def returns_of(found: UseComparison) -> list[str]:
    """The returns in a sentence; none where no episode of the log has a known return."""
    reference, moved = found.reference["returns"], found.return_shift
    if not found.returns.count:
        return []
    text = f"mean return: {interval_text(found.returns)} in {found.returns.count:,} episodes"
    if reference is None:
        return [f"{text}; the reference has none"]
    half = max(0.5 * (reference["ci_high"] - reference["ci_low"]), 1e-9)
    text += f", before {minus(known(reference['mean'], half))}"
    if moved is None:
        return [text]
    half = 0.5 * (moved.high - moved.low)
    difference, low, high = (signed(known(x, half)) for x in (moved.difference, moved.low, moved.high))
    return [f"{text}: {difference} ({low} to {high}), {signed(known(moved.deviations, 0.1))} standard deviations"]


def signed(number: str) -> str:
    """A number, as text, with its sign; none where it is 0."""
    if not number.strip("-0.,"):
        return number.lstrip("-")
    return f"−{number[1:]}" if number.startswith("-") else f"+{number}"


def _sales(found: UseComparison, width: int | None) -> list[str]:
    if found.sales is None or not found.sales.asked_for.any():
        return []
    rows = [
        [
            f"{row.price:g}",
            f"{row.asked:,}",
            f"{row.sold:,}",
            f"{row.predicted:,.1f}",
            f"{row.low:,.1f} to {row.high:,.1f}",
        ]
        for row in found.sales.by_price()
    ]
    lines = columns(["price", "times", "sold", "predicted", "95 % of chance"], rows, width)
    return [*lines, *sales_text(found)]


def sales_text(found: UseComparison) -> list[str]:
    """All prices together, in a sentence."""
    verdict = found.sales_verdict
    if verdict is None:
        return []
    ratio = verdict.sold / verdict.predicted
    chance = "less than 0.1 %" if verdict.chance < 0.001 else f"{100 * verdict.chance:.2g} %"
    text = f"sales: {ratio:.3f} ({verdict.low:.3f} to {verdict.high:.3f}) times the predicted ones; by price they are "
    text += f"{100 * verdict.deviation:.1f} % off beyond chance, which has a probability of {chance}"
    return [text]


def verdict(found: UseComparison) -> str:
    """The last line."""
    if not found.alarms:
        return "within all limits"
    return "\n".join(f"DRIFT: {alarm}" for alarm in found.alarms)


def as_json(found: UseComparison) -> dict[str, Any]:
    """Everything as plain data."""
    tally = found.tally
    plain = {
        "file": str(found.file),
        "environment": found.environment,
        "log": [str(path) for path in tally.read.files],
        "first_day": str(found.days[0].day),
        "last_day": str(found.days[-1].day),
        "states": found.states,
        "lines": {
            "read": tally.read.lines,
            "compared": tally.fit,
            "damaged": tally.read.damaged,
            "unfit": tally.unfit,
            "first_unfit": tally.first_unfit,
            "of_other_policies": tally.of_others,
            "of_other_days": tally.outside_days,
            "half_a_last_line": tally.read.half,
            "dropped_by_the_server": tally.dropped,
        },
        "limits": found.limits.__dict__,
        "numbers": [_number_json(found, i) for i in range(len(found.shifts))],
        "days": [
            {
                "day": str(day.day),
                "states": day.states,
                "psi": None if day.worst is None else day.worst.psi,
                "psi_of": None if day.worst is None else day.worst.watched.name,
                "ks": day.ks,
                "out_of_range": day.out_of_range,
                "returns": _returns_json(day.returns),
            }
            for day in found.days
        ],
        "returns": {
            **_returns_json(found.returns),
            "reference": found.reference["returns"],
            "shift": None if found.return_shift is None else found.return_shift.__dict__,
        },
        "sales": _sales_json(found),
        "alarms": found.alarms,
    }
    whole: dict[str, Any] = finite(plain)
    return whole


def _number_json(found: UseComparison, i: int) -> dict[str, Any]:
    shift, number = found.shifts[i], found.numbers[i]
    watched = shift.watched
    return {
        "part": watched.part,
        "name": watched.name,
        "unit": watched.unit,
        "mean_before": watched.quantity(number.mean),
        "mean": None if shift.mean is None else watched.quantity(shift.mean),
        "psi": shift.psi,
        "psi_chance": shift.psi_chance,
        "ks": shift.ks,
        "ks_chance": shift.ks_chance,
        "out_of_range": shift.out_of_range,
        "drifted": found.drifted[i],
    }


def _returns_json(returns: Any) -> dict[str, Any]:
    ends = returns.interval()
    mean = returns.mean if returns.count else None
    return {"episodes": returns.count, "mean": mean, "ci_low": ends and ends[0], "ci_high": ends and ends[1]}


def _sales_json(found: UseComparison) -> dict[str, Any] | None:
    if found.sales is None:
        return None
    together = found.sales_verdict
    return {
        "by_price": [row._asdict() for row in found.sales.by_price()],
        "together": None if together is None else together._asdict(),
    }
