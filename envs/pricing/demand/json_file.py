"""``demand.json``: an estimated market as plain data, written by ``palaestra fit-demand`` and checked when it is read.

The file holds ``version`` (2), ``kind`` (``counts`` or ``logit``), ``file`` and ``rows`` (where the estimates come
from), ``periods`` (different dates; null if unknown), and ``products`` by name: ``price_range``, ``charged`` ([price,
share] pairs), ``means`` of the columns, ``unit_cost``, ``units_sold``, ``sold_out``, perhaps a ``lot`` of units that
a season counts as one. An ``estimate`` (``coefficients`` by name, their ``covariance`` in that order,
``log_likelihood``, ``observations``) belongs to each product, or for the kind ``logit`` to the file, which also has
``buyers`` (per period) and ``outside`` (true if they may take nothing); beside price, feature and display it may have
coefficients of attributes, of which each product has a mean. For ``counts`` the file has a ``calendar``
(``first`` and ``last`` date and the ``step`` in days; null without calendar dates), and each product its ``curve`` and
``flags``, the regressors that are 0 or 1, and with a calendar perhaps ``history``: ``prices`` and, where they changed,
``unit_costs``, from the ``days`` on that are counted from ``first``.

Version 1 had none of these, and called ``counts`` ``exponential``; it is still read.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from palaestra.envs.pricing.demand.counts.demand_curves import CONSTANT, PARAMETERS, PRICE
from palaestra.envs.pricing.demand.effects import MONTH, MONTHS, STORE, TREND, WEEKDAY, WEEKDAYS, Calendar
from palaestra.envs.pricing.demand.estimation import LOG_DISPERSION, Estimate
from palaestra.envs.pricing.demand.history import History
from palaestra.envs.pricing.demand.model import DISPLAY, FEATURE, VISITORS, Demand, DemandError, Product

VERSION = 2
_FILE = {"version", "kind", "file", "rows", "periods", "products"}
_PRODUCT = {"price_range", "charged", "means", "unit_cost", "units_sold", "sold_out"}
_ESTIMATE = {"coefficients", "covariance", "log_likelihood", "observations"}


def demand_data(demand: Demand) -> dict[str, Any]:
    """The contents of ``demand.json``."""
    products = {name: _product_data(product) for name, product in demand.products.items()}
    data: dict[str, Any] = {"version": VERSION, "kind": demand.kind}
    data |= {"file": demand.file, "rows": demand.rows, "periods": demand.periods}
    estimates = {name: _estimate_data(product.estimate) for name, product in demand.products.items()}
    if demand.kind == "logit":
        data |= {"buyers": demand.buyers, "outside": demand.outside, "estimate": next(iter(estimates.values()))}
    else:
        data["calendar"] = None if demand.calendar is None else _calendar_data(demand.calendar)
        products = {name: {**product, "estimate": estimates[name]} for name, product in products.items()}
        for name, product in demand.products.items():
            products[name] |= {"curve": product.curve, "flags": sorted(product.flags)}
            if product.history is not None and demand.calendar is not None:
                products[name]["history"] = _history_data(product.history, demand.calendar.first)
    return {**data, "products": products}


def _calendar_data(calendar: Calendar) -> dict[str, Any]:
    return {"first": str(calendar.first), "last": str(calendar.last), "step": calendar.step}


def _product_data(product: Product) -> dict[str, Any]:
    charged = zip(product.prices.tolist(), product.shares.tolist(), strict=True)
    return {
        "price_range": list(product.price_range),
        "charged": [list(pair) for pair in charged],
        "means": dict(product.means),
        "unit_cost": product.unit_cost,
        "units_sold": product.units_sold,
        "sold_out": product.sold_out,
        **({"lot": product.lot} if product.lot > 1 else {}),
    }


def _history_data(history: History, first: date) -> dict[str, list[Any]]:
    data = {"days": (history.days - first.toordinal()).tolist(), "prices": history.prices.tolist()}
    return {**data, "unit_costs": history.costs.tolist()} if np.ptp(history.costs) > 0.0 else data


def demand_text(data: Any, depth: int = 1) -> Iterator[str]:
    """JSON in pieces: an entry of a mapping on a line of its own, lists on one."""
    if not isinstance(data, dict) or not data:
        yield json.dumps(data)
        return
    for k, (name, value) in enumerate(data.items()):
        yield f"{',' if k else '{'}\n{' ' * depth}{json.dumps(name)}: "
        yield from demand_text(value, depth + 1)
    yield f"\n{' ' * (depth - 1)}}}"


def _estimate_data(estimate: Estimate) -> dict[str, Any]:
    return {
        "coefficients": dict(zip(estimate.names, estimate.coefficients.tolist(), strict=True)),
        "covariance": estimate.covariance.tolist(),
        "log_likelihood": estimate.log_likelihood,
        "observations": estimate.n,
    }


def demand_content(source: Any) -> Any:
    """The plain data of a demand that is given by the name of its file or as it is, or is such data already.

    Raises:
        DemandError: if there is no such file, or it is not JSON.
    """
    if isinstance(source, Demand):
        return demand_data(source)
    if not isinstance(source, str | Path):
        return source
    try:
        return json.loads(Path(source).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DemandError(f"no such file: {source}; palaestra fit-demand makes one from sales") from None
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise DemandError(f"{source} is not JSON: {error}") from None


def load_demand(source: Any) -> Demand:
    """A demand from its file, from its plain data or as it is.

    Raises:
        DemandError: naming the first entry that is missing or makes no sense.
    """
    if isinstance(source, Demand):
        return source
    data = demand_content(source)
    try:
        return _demand(data)
    except DemandError as error:
        place = f"{source}: " if isinstance(source, str | Path) else "demand: "
        raise DemandError(f"{place}{error}") from None


def _demand(data: Any) -> Demand:
    data = _newest(data)
    kind = data["kind"]
    logit = kind == "logit"
    top = _entries(data, "the file", _FILE | ({"buyers", "outside", "estimate"} if logit else {"calendar"}))
    if not isinstance(top["products"], Mapping) or not top["products"]:
        raise DemandError("products must be a mapping of names to products")
    if not isinstance(top["file"], str):
        raise DemandError(f"file must be a name, got {top['file']!r}")
    names = [str(name) for name in top["products"]]
    allowed = {PRICE, FEATURE, DISPLAY, *(f"{CONSTANT}:{name}" for name in names)} | _attributes(top["products"])
    shared = _estimate(top["estimate"], "estimate", {PRICE}, allowed) if logit else None
    if shared is not None and sum(name.startswith(f"{CONSTANT}:") for name in shared.names) < len(names) - 1:
        raise DemandError("estimate.coefficients must have a constant:NAME of all products but at most one")
    if logit and not isinstance(top["outside"], bool):
        raise DemandError(f"outside must be true or false, got {top['outside']!r}")
    calendar = None if logit or top["calendar"] is None else _calendar(top["calendar"])
    demand = Demand(
        kind=kind,
        products={
            str(name): _product(entry, f"products.{name}", shared, calendar) for name, entry in top["products"].items()
        },
        periods=None if top["periods"] is None else _count(top["periods"], "periods", 1),
        buyers=_number(top["buyers"], "buyers", above=0.0) if logit else None,
        outside=logit and top["outside"],
        file=top["file"],
        rows=_count(top["rows"], "rows", 1),
        calendar=calendar,
    )
    for name, product in demand.products.items():
        dated = [n for n in product.estimate.names if n == TREND or n.startswith((f"{WEEKDAY}:", f"{MONTH}:"))]
        if dated and demand.calendar is None and not logit:
            raise DemandError(f"products.{name}: {dated[0]} needs a calendar")
    demand.check_means()
    return demand


def _attributes(products: Mapping[Any, Any]) -> set[str]:
    """The columns of which each product has a mean."""
    means = [entry.get("means") if isinstance(entry, Mapping) else None for entry in products.values()]
    return set.intersection(*({str(name) for name in each} if isinstance(each, Mapping) else set() for each in means))


def _newest(data: Any) -> dict[str, Any]:
    """The data as the newest version has them."""
    kind, version = (data.get("kind"), data.get("version")) if isinstance(data, Mapping) else (None, None)
    if kind not in ("counts", "exponential", "logit"):
        raise DemandError(f'kind must be "counts" or "logit", got {kind!r}')
    if version == VERSION and kind != "exponential":
        return dict(data)
    if version != 1 or kind == "counts":
        raise DemandError(f"version {version!r} of the kind {kind!r} cannot be read, only up to {VERSION}")
    if kind == "logit":
        return {**data}
    products = data.get("products")
    if isinstance(products, Mapping):
        more = {"curve": "exponential", "flags": []}
        products = {name: {**p, **more} if isinstance(p, Mapping) else p for name, p in products.items()}
        data = {**data, "products": products}
    return {**data, "kind": "counts", "calendar": None}


def _calendar(entry: Any) -> Calendar:
    entry = _entries(entry, "calendar", {"first", "last", "step"})
    try:
        first, last = (date.fromisoformat(entry[end]) for end in ("first", "last"))
    except (TypeError, ValueError):
        raise DemandError(f"calendar must have dates, got {entry['first']!r} and {entry['last']!r}") from None
    if first > last:
        raise DemandError("calendar: first must not be behind last")
    return Calendar(first, last, _count(entry["step"], "calendar.step", 1))


def _product(entry: Any, where: str, shared: Estimate | None, calendar: Calendar | None) -> Product:
    own = set() if shared else {"estimate", "curve", "flags"}
    further = ("lot", "history") if calendar is not None else ("lot",)
    more = {name for name in further if isinstance(entry, Mapping) and name in entry}
    entry = _entries(entry, where, _PRODUCT | own | more)
    ends = _numbers(entry["price_range"], f"{where}.price_range")
    free = shared is not None and ends[0] == 0.0  # what buyers choose may cost nothing
    if ends.shape != (2,) or not (0.0 < ends[0] < ends[1] or (free and ends[1] > 0.0)):
        raise DemandError(f"{where}.price_range must be two positive prices, the lower first, got {ends.tolist()}")
    charged = _numbers(entry["charged"], f"{where}.charged")
    if charged.ndim != 2 or charged.shape[1] != 2:
        raise DemandError(f"{where}.charged must be a list of [price, share] pairs")
    prices, shares = charged.T
    if prices.min() < ends[0] * (1 - 1e-9) or prices.max() > ends[1] * (1 + 1e-9) or (np.diff(prices) <= 0.0).any():
        raise DemandError(f"{where}.charged must have ascending prices inside price_range")
    if shares.min() < 0.0 or abs(shares.sum() - 1.0) > 1e-6:
        raise DemandError(f"{where}.charged must have shares that sum to 1, got {shares.sum():g}")
    means = _means(entry["means"], f"{where}.means", ends)
    curve: dict[str, Any] = {"estimate": shared} if shared else _curve(entry, where, means)
    product = Product(
        price_range=(float(ends[0]), float(ends[1])),
        prices=prices,
        shares=shares,
        means=means,
        unit_cost=_number(entry["unit_cost"], f"{where}.unit_cost"),
        units_sold=_count(entry["units_sold"], f"{where}.units_sold", 0),
        sold_out=_count(entry["sold_out"], f"{where}.sold_out", 0),
        lot=_count(entry["lot"], f"{where}.lot", 1) if "lot" in more else 1,
        **curve,
    )
    if "history" in more and calendar is not None:
        product = replace(product, history=_history(entry["history"], f"{where}.history", calendar, product))
    if not shared and not all(product.slope(price)[0] < 0.0 for price in product.price_range):
        raise DemandError(f"{where}.estimate.coefficients: the demand must fall, and not reach 0, within price_range")
    return product


def _history(entry: Any, where: str, calendar: Calendar, product: Product) -> History:
    costly = {"unit_costs"} if isinstance(entry, Mapping) and "unit_costs" in entry else set()
    entry = _entries(entry, where, {"days", "prices"} | costly)
    days, prices = (_numbers(entry[name], f"{where}.{name}") for name in ("days", "prices"))
    costs = _numbers(entry["unit_costs"], f"{where}.unit_costs") if costly else np.full(days.shape, product.unit_cost)
    if days.ndim != 1 or not days.shape == prices.shape == costs.shape:
        raise DemandError(f"{where} must have lists of one length")
    last, (lowest, highest) = (calendar.last - calendar.first).days, product.price_range
    if (days != days.round()).any() or days[0] < 0 or days[-1] > last or (np.diff(days) <= 0.0).any():
        raise DemandError(f"{where}.days must be ascending whole numbers, 0 to {last}")
    if prices.min() < lowest * (1 - 1e-9) or prices.max() > highest * (1 + 1e-9) or costs.min() < 0.0:
        raise DemandError(f"{where} must have prices inside price_range, and costs that are not negative")
    return History(days.astype(np.int64) + calendar.first.toordinal(), prices, costs)


def _curve(entry: Mapping[str, Any], where: str, means: Mapping[str, float]) -> dict[str, Any]:
    """Curve, flags and estimate of a product's own demand."""
    curve, flags = entry["curve"], entry["flags"]
    if curve not in PARAMETERS:
        raise DemandError(f"{where}.curve must be one of {', '.join(PARAMETERS)}, got {curve!r}")
    if not isinstance(flags, list) or not all(isinstance(flag, str) and flag in means for flag in flags):
        raise DemandError(f"{where}.flags must be a list of names in means, got {flags!r}")
    own = {CONSTANT, *PARAMETERS[curve]}
    effects = {name for name in means if name not in (PRICE, VISITORS)} | {TREND}
    estimate = _estimate(entry["estimate"], f"{where}.estimate", own, own | {LOG_DISPERSION} | effects)
    return {"curve": curve, "flags": frozenset(flags), "estimate": estimate}


def _means(entry: Any, where: str, ends: Any) -> dict[str, float]:
    if not isinstance(entry, Mapping) or PRICE not in entry:
        raise DemandError(f"{where} must have price")
    known = {WEEKDAY: WEEKDAYS, MONTH: MONTHS}
    for name in map(str, entry):
        kind, colon, which = name.partition(":")
        if colon and kind != STORE and which not in known.get(kind, ()):
            raise DemandError(f"{where} has an unknown entry: {name}")
    free = {str(name) for name in entry} - {PRICE, VISITORS}
    means = {str(name): _number(v, f"{where}.{name}", -math.inf if name in free else 0.0) for name, v in entry.items()}
    if not ends[0] * (1 - 1e-9) <= means[PRICE] <= ends[1] * (1 + 1e-9) or means.get(VISITORS, 1.0) == 0.0:
        raise DemandError(f"{where}: price must lie in price_range, and visitors be above 0")
    return means


def _estimate(entry: Any, where: str, needed: set[str], allowed: set[str]) -> Estimate:
    entry = _entries(entry, where, _ESTIMATE)
    coefficients = entry["coefficients"]
    if not isinstance(coefficients, Mapping) or not needed <= set(coefficients) <= allowed:
        few = ", ".join(sorted(allowed)[:10])
        raise DemandError(f"{where}.coefficients must have {' and '.join(sorted(needed))}, and nothing but {few}")
    values = [_number(value, f"{where}.coefficients.{name}", -math.inf) for name, value in coefficients.items()]
    covariance = _numbers(entry["covariance"], f"{where}.covariance")
    if covariance.shape != (len(values), len(values)) or not np.allclose(covariance, covariance.T, rtol=1e-6):
        raise DemandError(f"{where}.covariance must be a symmetric table of {len(values)} × {len(values)}")
    curvature = np.linalg.eigvalsh(covariance)
    if curvature[0] < -1e-9 * abs(curvature[-1]):
        raise DemandError(f"{where}.covariance is none: it has a negative variance")
    if coefficients.get(PRICE, -1.0) >= 0.0:
        raise DemandError(f"{where}.coefficients.price must be negative, got {coefficients[PRICE]}")
    return Estimate(
        names=tuple(coefficients),
        coefficients=np.array(values),
        covariance=covariance,
        log_likelihood=_number(entry["log_likelihood"], f"{where}.log_likelihood", -math.inf),
        n=_count(entry["observations"], f"{where}.observations", 1),
    )


def _entries(data: Any, where: str, names: set[str]) -> Mapping[str, Any]:
    """A mapping with exactly these entries."""
    if not isinstance(data, Mapping):
        raise DemandError(f"{where} must be a mapping, got {type(data).__name__}")
    wrong = sorted(names - set(data)), sorted(str(name) for name in set(data) - names)
    for entries, what in zip(wrong, ("lacks", "has an unknown entry"), strict=True):
        if entries:
            raise DemandError(f"{where} {what}: {', '.join(entries)}")
    return data


def _number(value: Any, where: str, least: float = 0.0, above: float = -math.inf) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise DemandError(f"{where} must be a finite number, got {value!r}")
    if value < least or value <= above:
        raise DemandError(f"{where} must {'be above 0' if above == 0.0 else 'not be negative'}, got {value!r}")
    return float(value)


def _count(value: Any, where: str, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise DemandError(f"{where} must be a whole number of at least {least}, got {value!r}")
    return value


def _numbers(value: Any, where: str) -> Any:
    """A list, or list of lists, of finite numbers as float64."""
    try:
        array = np.array(value, np.float64) if isinstance(value, list) and value else None
    except (TypeError, ValueError):
        array = None
    if array is None or array.ndim > 2 or not array.size or not np.isfinite(array).all():
        raise DemandError(f"{where} must be a list of finite numbers")
    return array
