"""A log of use beside the reference of its policy: the whole of what ``palaestra monitor`` finds.

Numbers, returns and sales are judged over all the days that are chosen. The days by themselves are shown and not
judged: one day may hold a part of an episode, and then looks like no other. Only lines that this very file has written,
or that name no file, are compared.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, tzinfo
from pathlib import Path
from typing import Any

from palaestra.envs.core.reference import is_finite_number
from palaestra.train.export.held_out.monitored import Distribution, watched_of
from palaestra.train.export.observation_reader import elements_of
from palaestra.train.export.policy_file import PolicyFile
from palaestra.train.monitoring.drift import Limits, MeanReturn, ReturnShift, Shift, has_drifted, return_shift, shift_of
from palaestra.train.monitoring.episode_ledger import EpisodeLedger
from palaestra.train.monitoring.live_counts import DayCounts, LiveCounts
from palaestra.train.monitoring.log_entries import EntryError, EntryReader
from palaestra.train.monitoring.log_files import LinesRead, MonitorError, read_lines
from palaestra.train.monitoring.sales_check import SalesCheck, SalesVerdict
from palaestra.train.monitoring.stored_reference import read_reference


@dataclass
class LogTally:
    """What became of the lines.

    Attributes:
        read: the files and their lines.
        of_others: lines that other policies wrote.
        unfit: lines that do not fit the contract.
        first_unfit: the first of them, and the reason.
        outside_days: lines of days that were not chosen.
        fit: lines that are compared.
        dropped: lines that the server could not write, as the log says.
    """

    read: LinesRead = field(default_factory=LinesRead)
    of_others: int = 0
    unfit: int = 0
    first_unfit: str | None = None
    outside_days: int = 0
    fit: int = 0
    dropped: int = 0


@dataclass(frozen=True)
class DayView:
    """One day by itself."""

    day: date
    states: int
    worst: Shift | None  # by PSI
    ks: float | None  # the largest
    out_of_range: float
    returns: MeanReturn


@dataclass(frozen=True)
class UseComparison:
    """Everything that was found; see :mod:`palaestra.train.monitoring.drift` for the limits.

    Attributes:
        file, environment, log: the policy, where it acts, and its log.
        reference: of the contract.
        numbers: the reference's distributions, in the order of ``shifts``.
        shifts: all days together.
        drifted: for each of ``shifts`` the measures beyond limit and chance.
        ledger: the episodes.
        sales_verdict: all prices together; None where sales that end seasons may be missing.
        alarms: what is beyond its limit, a sentence each; none if all is well.
    """

    file: Path
    environment: str
    log: Path
    reference: dict[str, Any]
    limits: Limits
    tally: LogTally
    numbers: list[Distribution]
    shifts: list[Shift]
    drifted: list[list[str]]
    days: list[DayView]
    returns: MeanReturn
    return_shift: ReturnShift | None
    ledger: EpisodeLedger
    sales: SalesCheck | None
    sales_verdict: SalesVerdict | None
    alarms: list[str]

    @property
    def states(self) -> int:
        return max(shift.states for shift in self.shifts)


def compare(
    policy: PolicyFile,
    log: Path,
    limits: Limits | None = None,
    zone: tzinfo = UTC,
    since: date | None = None,
    until: date | None = None,
) -> UseComparison:
    """Read a log and compare it with the reference of its policy.

    Args:
        policy: whose contract has a reference.
        log: of requests and answers, see :mod:`palaestra.train.monitoring.log_entries`; rotated files go before it.
        zone: that days are counted in.
        since, until: the first and the last day that count.

    Raises:
        MonitorError: if there is no reference, or nothing in the log that can be compared with it.
    """
    reference, numbers = read_reference(policy)
    origin = float((reference["returns"] or {}).get("mean", 0.0))
    counts, sales = LiveCounts(policy.contract, numbers, origin), _sales_of(policy)
    ledger, tally = EpisodeLedger(counts, sales), LogTally()
    reader = EntryReader(policy.contract, policy.sha256, zone)
    for place, line in read_lines(log, tally.read):
        if is_finite_number(line.get("dropped_before")):
            tally.dropped += max(0, int(line["dropped_before"]))
        if reader.is_of_another(line):
            tally.of_others += 1
            continue
        try:
            entry = reader(line)
        except EntryError as error:
            tally.unfit += 1
            tally.first_unfit = tally.first_unfit or f"{place}: {error}"
            continue
        counted = (since is None or since <= entry.day) and (until is None or entry.day <= until)
        ledger.add(entry, counted)
        tally.outside_days += not counted
        if counted:
            tally.fit += 1
            if entry.feed is not None:
                counts.add(entry.day, entry.feed, entry.action)
    counts.flush()
    if not counts.days or not any(day.cells.any() for day in counts.days.values()):
        raise MonitorError(_nothing(policy, log, tally))
    return _judged(policy, log, limits or Limits(), reference, numbers, counts, ledger, tally, sales)


def _judged(
    policy: PolicyFile,
    log: Path,
    limits: Limits,
    reference: dict[str, Any],
    numbers: list[Distribution],
    counts: LiveCounts,
    ledger: EpisodeLedger,
    tally: LogTally,
    sales: SalesCheck | None,
) -> UseComparison:
    watched, together = watched_of(policy.contract), counts.empty()
    for day in counts.days.values():
        together.join(day)

    def shifts_of(day: DayCounts) -> list[Shift]:
        sizes = [len(number.cuts) + 1 for number in numbers]
        return [
            shift_of(one, number, reference["states"], day.cells[i, : sizes[i]], int(day.outside[i]), day.totals[i])
            for i, (one, number) in enumerate(zip(watched, numbers, strict=True))
        ]

    shifts = shifts_of(together)
    drifted = [has_drifted(shift, limits, 2 * len(shifts)) for shift in shifts]
    earned, complete = reference["returns"], sales is not None and (ledger.ends > 0 or not sales.by_stock)
    verdict = sales.verdict(limits.sales) if sales is not None and complete else None
    moved = None if earned is None else return_shift(earned, together.returns, limits.returns)
    return UseComparison(
        file=policy.path,
        environment=policy.contract["environment"]["id"],
        log=log,
        reference=reference,
        limits=limits,
        tally=tally,
        numbers=numbers,
        shifts=shifts,
        drifted=drifted,
        days=[_day_view(day, shifts_of(found), found.returns) for day, found in sorted(counts.days.items())],
        returns=together.returns,
        return_shift=moved,
        ledger=ledger,
        sales=sales,
        sales_verdict=verdict,
        alarms=_alarms(shifts, drifted, limits, moved, tally, verdict),
    )


def _day_view(day: date, shifts: list[Shift], returns: MeanReturn) -> DayView:
    seen = [shift for shift in shifts if shift.psi is not None]
    worst = max(seen, key=lambda shift: shift.psi or 0.0, default=None)
    furthest = max((shift.ks for shift in seen if shift.ks is not None), default=None)
    outside = max((shift.out_of_range for shift in seen), default=0.0)
    return DayView(day, max(shift.states for shift in shifts), worst, furthest, outside, returns)


def _alarms(
    shifts: list[Shift],
    drifted: list[list[str]],
    limits: Limits,
    returns: ReturnShift | None,
    tally: LogTally,
    sales: SalesVerdict | None,
) -> list[str]:
    most = f"{100 * limits.out_of_range:g} %"
    words: dict[str, Callable[[Shift], str]] = {
        "psi": lambda shift: f"PSI {shift.psi:.2f} > {limits.psi:g}",
        "ks": lambda shift: f"KS {shift.ks:.2f} > {limits.ks:g}",
        "out of range": lambda shift: (
            f"{100 * shift.out_of_range:.3g} % out of range > {100 * limits.out_of_range:g} %"
        ),
    }
    found = [
        f"{shift.watched.name}: {', '.join(words[measure](shift) for measure in measures)}"
        for shift, measures in zip(shifts, drifted, strict=True)
        if measures
    ]
    if returns is not None and returns.drifted:
        way = "higher" if returns.deviations > 0 else "lower"
        found.append(f"returns: {abs(returns.deviations):.2f} standard deviations {way} > {limits.returns:g}")
    share = tally.unfit / (tally.unfit + tally.fit)
    if share > limits.out_of_range:
        found.append(f"{100 * share:.3g} % of the lines do not fit the contract > {most}")
    if sales is not None and sales.refit:
        told = f"sales: {100 * sales.deviation:.0f} % from the predicted ones > {100 * limits.sales:g} %"
        found.append(f"{told}: fit demand anew")
    return found


def _sales_of(policy: PolicyFile) -> SalesCheck | None:
    """The check of sales, for policies of a season that see period and stock; None for all others."""
    names = {element.name for element in elements_of(policy.contract["inputs"][0])}
    if not {"periods_left", "units_left"} <= names:
        return None
    from palaestra.envs.registry import resolve
    from palaestra.train.export.exported_policy import player_of

    player = player_of(policy.path, None, ())
    found = resolve(player.env)
    market: Any = found.build(**player.env_kwargs)
    if not SalesCheck.fits(market, policy.contract):
        return None
    product = getattr(market, "product", None) or found.short_name
    return SalesCheck(market, policy.contract, str(product))


def _nothing(policy: PolicyFile, log: Path, tally: LogTally) -> str:
    """Why nothing of a log can be compared."""
    lines = tally.read.lines
    if not lines:
        return f"{log} is empty: there is nothing to compare" + (" but half a line" if tally.read.half else "")
    if tally.of_others == lines:
        return f"all {lines:,} lines of {log} are of other policies, none of {policy.path} ({policy.sha256[:12]})"
    if tally.read.damaged == lines:
        return f"{log} is no log: none of its {lines:,} lines is a JSON object"
    if tally.unfit and not tally.fit:
        return f"no line of {log} fits the contract of {policy.path}: {tally.first_unfit}"
    if tally.outside_days and not tally.fit:
        return f"no line of {log} is of the days that --since and --until choose"
    return f"{log} has no observation to compare"
