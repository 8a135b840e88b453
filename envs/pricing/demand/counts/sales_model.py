"""The demand for one product from its rows of sales: what is estimated, tested and corrected, in which order.

1. Rows that sold all their stock are censored; what is done about missing zeros is
   :mod:`~palaestra.envs.pricing.demand.counts.gaps`. Stores have an effect each, on one slope.
2. Weekday, month, trend and further columns are kept as :mod:`~palaestra.envs.pricing.demand.counts.selection` says.
3. Where a square of the price is significant at 1 % beside the price, the other curves are fitted that bend its way:
   constant elasticity, or linear and logit. The one with the largest likelihood is taken (the logit has a coefficient
   more, for which it pays 1).
4. Sales that vary more than Poisson allows (likelihood ratio, 5 %) are negative binomial.
5. With an instrument the price has a control function, on the exponential curve. A varying ``unit_cost`` is one where
   it is strong (F > 10) and the residual larger than its standard error: a test at 5 % would miss shocks that still
   bias the slope. Without one the price is diagnosed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np

from palaestra.envs.core import Array
from palaestra.envs.pricing.demand.counts.demand_curves import CONSTANT, LOG_PRICE, LOGIT_CONSTANT, PARAMETERS, PRICE
from palaestra.envs.pricing.demand.counts.gaps import Gaps, settle_gaps
from palaestra.envs.pricing.demand.counts.instruments import (
    RESIDUAL,
    STRONG,
    Controlled,
    alarming,
    control_function,
    follows_demand,
)
from palaestra.envs.pricing.demand.counts.regression import (
    Counts,
    LogMean,
    count_rows,
    negative_binomial_regression,
    poisson_regression,
)
from palaestra.envs.pricing.demand.counts.selection import Group, GroupTest, bend, select, unexplained
from palaestra.envs.pricing.demand.effects import MONTH, MONTHS, STORE, TREND, WEEKDAY, WEEKDAYS, Calendar, date_parts
from palaestra.envs.pricing.demand.estimation import Estimate, EstimationError

COMPETITOR, VISITORS, UNIT_COST = "competitor_price", "visitors", "unit_cost"
_BENT = 0.01
_MOST_STORES = 50
_SUSPECT = 1.0
_OUTCOME = 0.9999  # R² of a column on the units
_RESERVED = {CONSTANT, PRICE, LOG_PRICE, LOGIT_CONSTANT, TREND, VISITORS, RESIDUAL, "log_dispersion"}


@dataclass(frozen=True)
class SalesOptions:
    """How sales are estimated."""

    regressors: Sequence[str] = ()  # columns that may explain demand
    gaps: Gaps = "auto"
    instrument: str | None = None
    curve: str | None = None  # one of the four; None for the likeliest


@dataclass
class SalesModel:
    """What was found."""

    columns: dict[str, Array]  # of the rows that were used
    estimate: Estimate
    curve: str
    means: dict[str, float]
    flags: frozenset[str]
    sold_out: int
    truncated: bool
    verdicts: list[GroupTest]
    curves: dict[str, float]  # log-likelihood of each that was fitted
    fitted: Array  # mean units of the rows, [n]
    filled: bool  # True if days without sales were put in
    unsold: dict[str, Array]  # columns of the file's rows with 0 units, where the fit is truncated
    controlled: Controlled | None = None
    naive: Estimate | None = None  # without the control function
    follows: float | None = None  # p value of the diagnosis
    notes: list[str] = field(default_factory=list)


def model_sales(
    columns: Mapping[str, Array], stores: Sequence[str], calendar: Calendar | None, options: SalesOptions
) -> SalesModel:
    """Estimate the demand for one product.

    Args:
        columns: of its rows: ``price``, ``units``, ``date`` (any number in the order of time), ``day`` (ordinal, where
            there is a calendar), and what else there is.
        stores: names, to which the column ``store`` points.
        calendar: of the file.
        options: of the user.

    Raises:
        EstimationError: if the sales do not tell how demand answers to the price.
    """
    price = columns["price"]
    if np.ptp(price) == 0.0:
        raise EstimationError(f"its price was always {price[0]:g}, so that nothing tells how demand answers to it")
    counts = _counts(columns)
    if counts.censored is not None and counts.censored.all():
        raise EstimationError("it sold out on every date, so that nothing tells how many were wanted")
    mean = _base(columns, stores)
    base = poisson_regression(mean, counts)
    filled = settle_gaps(columns, mean, counts, base, calendar.step if calendar else None, options.gaps)
    if filled.note:
        columns, notes = filled.columns, [filled.note]
        counts, mean = _counts(columns, filled.truncated), _base(columns, stores)
        if np.ptp(columns["price"]) == 0.0:
            raise EstimationError("it has sales at one price only")
        base = poisson_regression(mean, counts)
    else:
        notes = []
    price = columns["price"]
    groups, outcomes = _groups(columns, calendar, options)
    notes += [f"{name} is not used: it follows from the price and the units" for name in outcomes]
    mean, base, verdicts = select(mean, counts, price, groups, base)
    model = SalesModel(
        columns={name: column for name, column in columns.items() if name not in outcomes},
        unsold={name: column for name, column in filled.unsold.items() if name not in outcomes},
        estimate=base,
        curve="exponential",
        means=_means(columns, mean),
        flags=_flags(columns, mean),
        sold_out=0 if counts.censored is None else int(counts.censored.sum()),
        truncated=filled.truncated,
        verdicts=verdicts,
        curves={},
        fitted=price,
        filled=bool(filled.note) and not filled.truncated and options.gaps == "auto",
        notes=notes,
    )
    if not _with_instrument(model, mean, counts, options):
        mean = _with_curve(model, mean, counts, options)
        model.estimate = negative_binomial_regression(mean, counts, model.estimate) or model.estimate
        model.fitted = np.exp(mean(model.estimate.coefficients[: len(mean.names)])[0])
        model.follows = _diagnose(model, mean, counts, calendar)
    return model


def _counts(columns: Mapping[str, Array], truncated: bool = False) -> Counts:
    units = columns["units"]
    censored = np.zeros(len(units), bool)
    if "stock" in columns:
        censored |= units == columns["stock"]
    if "sold_out" in columns:
        censored |= columns["sold_out"] > 0.0
    censored &= units > 0.0
    return Counts(units, censored if censored.any() else None, truncated)


def _base(columns: Mapping[str, Array], stores: Sequence[str]) -> LogMean:
    """Constant, price and stores."""
    offset = np.log(columns[VISITORS]) if VISITORS in columns else 0.0
    x, names = [np.ones_like(columns["price"]), columns["price"]], [CONSTANT, PRICE]
    if STORE in columns:
        own = np.unique(columns[STORE])
        if len(own) > _MOST_STORES:
            raise EstimationError(f"it has {len(own):,} stores, and at most {_MOST_STORES} can be told apart")
        for store in own[1:]:
            x.append((columns[STORE] == store).astype(np.float64))
            names.append(f"{STORE}:{stores[int(store)]}")
    return LogMean(np.column_stack(x), tuple(names), offset)


def _groups(
    columns: Mapping[str, Array], calendar: Calendar | None, options: SalesOptions
) -> tuple[list[Group], list[str]]:
    """Candidates, and columns that are none because they follow from the price and the units."""
    groups, outcomes = [], []
    if calendar is not None:
        groups += _dated(calendar, columns["day"].tobytes())
    for name in options.regressors:
        if name not in columns or name == options.instrument:
            continue
        column = columns[name]
        known = np.column_stack((np.ones_like(column), columns["price"], columns["units"]))
        known = np.column_stack((known, columns["units"] * columns["price"]))
        rest = unexplained(column, known)
        total = float(((column - column.mean()) ** 2).sum())
        if total > 0.0 and float(rest @ rest) < (1.0 - _OUTCOME) * total:
            outcomes.append(name)
        else:
            groups.append(Group(name, (regressor_name(name),), column[:, None]))
    return [group for group in groups if group.names and np.ptp(group.columns, axis=0).all()], outcomes


@lru_cache(maxsize=4)  # products of a file often have the same dates
def _dated(calendar: Calendar, days: bytes) -> list[Group]:
    """Weekday, month and trend."""
    day = np.frombuffer(days)
    weekday, month = date_parts(day.astype(np.int64))
    family = "" if calendar.repeats else "year"  # within a year the trend would be that inside of months
    groups = [
        _levels(MONTH, MONTHS, month)._replace(slow=True, family=family),
        Group(TREND, (TREND,), calendar.years(day)[:, None], True, family),
    ]
    return [_levels(WEEKDAY, WEEKDAYS, weekday), *groups] if calendar.step < 7 else groups


def regressor_name(column: str) -> str:
    """The name of a column's coefficient: its own, unless that means something else."""
    name = column.replace(":", "_")
    return f"{name}_" if name in _RESERVED else name


def _levels(kind: str, names: Sequence[str], level: Array) -> Group:
    there = np.unique(level)[1:]
    columns = (level[:, None] == there).astype(np.float64)
    return Group(kind, tuple(f"{kind}:{names[int(k)]}" for k in there), columns)


def _means(columns: Mapping[str, Array], mean: LogMean) -> dict[str, float]:
    means = {PRICE: float(columns["price"].mean())}
    if VISITORS in columns:
        means[VISITORS] = float(columns[VISITORS].mean())
    own = zip(mean.names, mean.x.mean(0).tolist(), strict=True)
    return means | {name: value for name, value in own if name not in (CONSTANT, PRICE, TREND)}


def _flags(columns: Mapping[str, Array], mean: LogMean) -> frozenset[str]:
    return frozenset(
        name
        for name, column in zip(mean.names, mean.x.T, strict=True)
        if ":" not in name and name not in (CONSTANT, PRICE, TREND) and np.isin(column, (0.0, 1.0)).all()
    )


def _with_instrument(model: SalesModel, mean: LogMean, counts: Counts, options: SalesOptions) -> bool:
    """Put a control function into the model, where there is an instrument that calls for one."""
    name = options.instrument or UNIT_COST
    if name not in model.columns:
        return False
    if np.ptp(model.columns[name]) == 0.0:
        if options.instrument:
            raise EstimationError(f"the instrument {name} never varies")
        return False
    try:
        found = control_function(mean, counts, model.columns["price"], model.columns[name])
    except EstimationError:
        if options.instrument:
            raise
        return False
    effect, error = found.estimate[RESIDUAL]
    if not options.instrument and (found.first_stage < STRONG or abs(effect) < _SUSPECT * error):
        return False
    if options.instrument and found.first_stage < STRONG:
        model.notes.append(f"{name} is a weak instrument (F {found.first_stage:.3g}, below {STRONG:g})")
    model.controlled, model.naive, model.estimate, model.fitted = found, model.estimate, found.folded, found.fitted
    return True


def _with_curve(model: SalesModel, mean: LogMean, counts: Counts, options: SalesOptions) -> LogMean:
    """Choose the curve; the model's estimate becomes its, and the mean function is returned."""
    price, base = model.columns["price"], model.estimate
    tried = [] if options.curve in (None, "exponential") else [options.curve]
    if options.curve is None and len(np.unique(price)) > 2:
        p, flattens = bend(mean, counts, base, price)
        if p < _BENT:
            tried = ["constant elasticity"] if flattens > 0.0 else ["linear", "logit"]
    if not tried:
        return mean
    rows = count_rows(mean(base.coefficients)[0], counts)
    dispersion = max(1.0, float((rows.slope**2).sum() / max(-rows.curvature.sum(), 1e-300)))
    found: dict[str, tuple[LogMean, Estimate]] = {"exponential": (mean, base)}
    for curve in tried:
        try:
            found[curve] = _fit_curve(curve, mean, counts, price, model.means[PRICE], base)
        except EstimationError:
            if options.curve:
                raise
    model.curves = {curve: estimate.log_likelihood for curve, (_, estimate) in found.items()}
    worth = {curve: value / dispersion - (curve == "logit") for curve, value in model.curves.items()}
    model.curve = options.curve or max(worth, key=lambda curve: worth[curve])
    chosen, model.estimate = found[model.curve]
    return chosen


def _fit_curve(
    curve: str, mean: LogMean, counts: Counts, price: Array, reference: float, base: Estimate
) -> tuple[LogMean, Estimate]:
    """Another curve in the place of the exponential, started near it."""
    slope = float(base.coefficients[1])
    level = base.coefficients[0] + slope * reference  # at the mean price
    rest = base.coefficients[2:]
    if curve == "constant elasticity":
        x = mean.x.copy()
        x[:, 1] = np.log(price)
        elasticity = slope * reference
        start = np.concatenate(([level - elasticity * np.log(reference), elasticity], rest))
        other = LogMean(x, (CONSTANT, LOG_PRICE, *mean.names[2:]), mean.offset)
        return other, poisson_regression(other, counts, start)
    names = (CONSTANT, *mean.names[2:], *PARAMETERS[curve])
    other = LogMean(np.delete(mean.x, 1, 1), names, mean.offset, curve, price, reference)
    if curve == "linear":
        steepest = 0.9 / max(price.max() - reference, 1e-300)
        start = np.concatenate(([level], rest, [max(slope, -steepest)]))
    else:  # half of the market buys at the mean price
        start = np.concatenate(([level + np.log(2.0)], rest, [2.0 * slope, -2.0 * slope * reference]))
    return other, poisson_regression(other, counts, start)


def _diagnose(model: SalesModel, mean: LogMean, counts: Counts, calendar: Calendar | None) -> float | None:
    """The smallest p value, over the stores, of other days' sales in the price; Bonferroni's.

    Months that were seen only once are left out: they may be the shocks that the price follows.
    """
    coefficients = model.estimate.coefficients[: len(mean.names)]
    once = [name.startswith(f"{MONTH}:") and not (calendar and calendar.repeats) for name in mean.names]
    if any(once):
        keep = ~np.array(once)
        own = mean.x[:, keep[: mean.x.shape[1]]]
        mean = replace(mean, x=own, names=tuple(np.array(mean.names)[keep].tolist()))
        coefficients = poisson_regression(mean, counts, coefficients[keep]).coefficients
    rows = count_rows(mean(coefficients)[0], counts)
    surprise = rows.slope / np.sqrt(np.maximum(-rows.curvature, 1e-12))
    del rows  # a million take 16 MB
    columns, controls = model.columns, np.delete(mean.x, slice(0, 1 if mean.price is not None else 2), 1)
    if calendar is not None and calendar.step < 7:
        weekday, _, trend = _dated(calendar, columns["day"].tobytes())
        controls = np.column_stack((controls, weekday.columns, trend.columns))
    time = columns["day"] if calendar is not None else columns["date"]
    store = columns.get(STORE, np.zeros(len(time)))
    found = []
    for own in np.unique(store):
        which = np.flatnonzero(store == own)
        which = which[np.argsort(time[which], kind="stable")]
        p = follows_demand(columns["price"][which], surprise[which], controls[which])
        found += [] if p is None else [p]
    return min(1.0, min(found) * len(found)) if found else None


def prices_follow_demand(model: SalesModel) -> bool:
    """Whether the diagnosis calls for a warning."""
    return alarming(model.follows)
