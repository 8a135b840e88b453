"""A comparison as one page of HTML: without scripts, fonts or pictures from elsewhere, for phones and for the dark."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from itertools import pairwise
from typing import Any

import numpy as np

from palaestra.train.formatting import known, minus
from palaestra.train.monitoring.drift_report import (
    headline,
    interval_text,
    means,
    measured,
    notes_of,
    ranked,
    returns_of,
    sales_text,
)
from palaestra.train.monitoring.page_charts import days_line, days_means, intervals_and_dots, pairs_of_bars
from palaestra.train.monitoring.use_comparison import UseComparison
from palaestra.train.report.html_page import generator

MOST_PICTURES = 60  # of numbers, the worst first; the table has all

_STYLE = """
:root { color-scheme: light dark; --back: #ffffff; --card: #f6f7f9; --text: #1b1f24; --soft: #5b6470; --rule: #d9dde3;
  --before: #a3adba; --now: #1f6feb; --bad: #c62828; --well: #1a7f37; }
@media (prefers-color-scheme: dark) { :root { --back: #101317; --card: #191d23; --text: #e6e8eb; --soft: #a0a8b3;
  --rule: #323943; --before: #66707d; --now: #58a6ff; --bad: #ff7b72; --well: #3fb950; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1180px; padding: 16px; background: var(--back); color: var(--text);
  font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 22px; margin: 8px 0; overflow-wrap: anywhere; }
h2 { font-size: 18px; margin: 28px 0 8px; }
h3 { font-size: 15px; margin: 0 0 4px; overflow-wrap: anywhere; }
p { margin: 6px 0; overflow-wrap: anywhere; }
.soft, figcaption { color: var(--soft); font-size: 14px; }
.verdict { border-left: 5px solid var(--well); background: var(--card); padding: 8px 14px; margin: 12px 0; }
.verdict.bad { border-color: var(--bad); }
.verdict ul { margin: 4px 0; padding-left: 20px; overflow-wrap: anywhere; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 330px), 1fr)); gap: 12px; }
figure { margin: 0; padding: 10px 12px; background: var(--card); border-radius: 6px;
  border-top: 3px solid transparent; }
figure.bad { border-color: var(--bad); }
svg { display: block; width: 100%; height: auto; }
svg text { fill: var(--soft); font-size: 12px; }
svg rect.before, svg circle.before { fill: var(--before); } svg rect.now, svg circle.now { fill: var(--now); }
svg circle.bad { fill: var(--bad); } svg rect.band { fill: var(--before); opacity: 0.35; }
svg line { stroke-width: 1; } svg line.grid { stroke: var(--rule); } svg line.before { stroke: var(--before); }
svg line.now { stroke: var(--now); stroke-width: 2; } svg line.wide { stroke-width: 9; }
svg line.limit { stroke: var(--bad); stroke-dasharray: 5 4; }
svg polyline { fill: none; stroke: var(--now); stroke-width: 2; }
.table { overflow-x: auto; margin-top: 14px; }
table { border-collapse: collapse; font-size: 14px; font-variant-numeric: tabular-nums; }
th, td { padding: 4px 10px; text-align: right; border-bottom: 1px solid var(--rule); white-space: nowrap; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
td.bad { color: var(--bad); font-weight: 600; }
.key span { display: inline-block; width: 11px; height: 11px; margin: 0 5px 0 12px; }
.key span:first-child { margin-left: 0; }
"""


def page_of(found: UseComparison) -> str:
    """The page, as text."""
    title = f"{found.environment}: {'drift' if found.alarms else 'within all limits'}"
    parts = [f"<h1>{escape(found.file.name)} in use</h1>", f"<p>{escape(headline(found))}</p>", _verdict(found)]
    parts += [f'<p class="soft">{escape(note)}</p>' for note in notes_of(found)]
    parts += [*_over_time(found), *_sales_part(found), *_numbers_part(found)]
    limits = found.limits
    told = (
        f"Limits: PSI {limits.psi:g}, KS {limits.ks:g}, {100 * limits.out_of_range:g} % out of range, returns by "
        f"{limits.returns:g} standard deviations, sales by {100 * limits.sales:g} %. Beyond a limit counts only where "
        "chance does so in one of a thousand logs, with the dependence of states within an episode taken into account."
    )
    parts.append(f'<p class="soft">{escape(told)}</p>')
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
    head += f'<meta name="generator" content="{generator()}">'
    head += f"<title>{escape(title)}</title><style>{_STYLE}</style>"
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{"".join(parts)}</body></html>\n'


def _verdict(found: UseComparison) -> str:
    if not found.alarms:
        return '<div class="verdict">Within all limits.</div>'
    items = "".join(f"<li>{escape(alarm)}</li>" for alarm in found.alarms)
    return f'<div class="verdict bad">Beyond limits and beyond chance:<ul>{items}</ul></div>'


def _figure(title: str, picture: str, caption: str, bad: bool = False) -> str:
    kind = ' class="bad"' if bad else ""
    return f"<figure{kind}><h3>{escape(title)}</h3>{picture}<figcaption>{escape(caption)}</figcaption></figure>"


def _over_time(found: UseComparison) -> list[str]:
    days = [str(day.day)[5:] for day in found.days]
    worst = [None if day.worst is None else day.worst.psi for day in found.days]
    figures = []
    if any(value is not None for value in worst):
        picture = days_line(days, worst, found.limits.psi, "largest PSI of each day")
        caption = "of each day by itself; a day that holds parts of episodes looks like no other, and is not judged"
        figures.append(_figure("Largest population stability index", picture, caption))
    if found.returns.count:
        reference, bad = found.reference["returns"], bool(found.return_shift and found.return_shift.drifted)
        band = None if reference is None else (reference["mean"], reference["ci_low"], reference["ci_high"])
        picture = days_means(days, [_ends(day.returns) for day in found.days], band, "mean return of each day")
        figures.append(_figure("Mean return", picture, " ".join(returns_of(found)), bad))
    heads = ["day", "states", "largest PSI", "of", "largest KS", "out of range", "episodes", "mean return"]
    rows = []
    for day in reversed(found.days):
        psi, of = ("–", "") if day.worst is None else (f"{day.worst.psi:.2f}", day.worst.watched.name)
        ks = "–" if day.ks is None else f"{day.ks:.2f}"
        earned = [f"{day.returns.count:,}", interval_text(day.returns)]
        rows.append([str(day.day), f"{day.states:,}", psi, of, ks, f"{100 * day.out_of_range:.2g} %", *earned])
    return ["<h2>By day</h2>", f'<div class="cards">{"".join(figures)}</div>', _table(heads, rows)]


def _ends(returns: Any) -> tuple[float, float, float] | None:
    if not returns.count:
        return None
    low, high = returns.interval() or (returns.mean, returns.mean)
    return returns.mean, low, high


def _sales_part(found: UseComparison) -> list[str]:
    if found.sales is None or not found.sales.asked_for.any():
        return []
    rows = found.sales.by_price()
    picture = intervals_and_dots(
        [f"{row.price:g}" for row in rows], [row.sold for row in rows], [row[4:] for row in rows], "sales by price"
    )
    bad = bool(found.sales_verdict and found.sales_verdict.refit)
    caption = f"dots: sold; bars: 95 % of chance where demand is as predicted. {' '.join(sales_text(found))}"
    cells = [
        [f"{r.price:g}", f"{r.asked:,}", f"{r.sold:,}", f"{r.predicted:,.1f}", f"{r.low:,.1f} to {r.high:,.1f}"]
        for r in rows
    ]
    table = _table(["price", "times", "sold", "predicted", "95 % of chance"], cells)
    figure = f'<div class="cards">{_figure("Sold units by price", picture, caption, bad)}</div>'
    return ["<h2>Sales</h2>", figure, table]


def _numbers_part(found: UseComparison) -> list[str]:
    key = '<p class="key soft"><span style="background: var(--before)"></span>held-out episodes, before'
    key += '<span style="background: var(--now)"></span>in use</p>'
    figures, rows = [], []
    for place, i in enumerate(ranked(found)):
        shift = found.shifts[i]
        name = shift.watched.name + (f" [{shift.watched.unit}]" if shift.watched.unit else "")
        psi, ks, outside = measured(shift)
        before, now = means(found, i)
        rows.append([name, shift.watched.part, before, now, psi, ks, outside, ", ".join(found.drifted[i])])
        if place < MOST_PICTURES:
            picture = pairs_of_bars(_labels(found, i), shift.reference_shares.tolist(), shift.shares.tolist(), name)
            caption = f"PSI {psi}, KS {ks}, mean {before} before, {now} in use"
            figures.append(_figure(name, picture, caption, bool(found.drifted[i])))
    heads = ["number", "part", "mean before", "in use", "PSI", "KS", "out of range", "drift"]
    return [
        "<h2>Observations and actions</h2>",
        key,
        f'<div class="cards">{"".join(figures)}</div>',
        _table(heads, rows),
    ]


def _labels(found: UseComparison, i: int) -> list[str]:
    """What each bin holds: a choice, or a range in the number's unit."""
    watched, number = found.shifts[i].watched, found.numbers[i]
    if watched.whole:
        values = range(round(watched.low), round(watched.high) + 1)
        return [watched.choices[k] if k < len(watched.choices) else str(value) for k, value in enumerate(values)]
    bins = number.bins(watched)
    last = np.flatnonzero(np.diff(bins))  # the last cell of each bin but the highest one
    edges = [watched.quantity(number.cuts[k]) for k in last]
    half = abs(watched.scale) * max(number.deviation, 1e-3 * abs(number.mean), 1e-9) / 10
    texts = [minus(known(edge, half)) for edge in edges]
    if not texts:
        return ["all"]
    return [f"< {texts[0]}", *(f"{a} – {b}" for a, b in pairwise(texts)), f"> {texts[-1]}"]


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(text)}</th>" for text in heads)
    marks = len(heads) - 1 if heads[-1] == "drift" else -1
    body = "".join(
        "<tr>"
        + "".join(
            f'<td class="bad">{escape(cell)}</td>' if i == marks else f"<td>{escape(cell)}</td>"
            for i, cell in enumerate(row)
        )
        + "</tr>"
        for row in rows
    )
    return f'<div class="table"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
