"""``palaestra monitor``: what a policy sees, does and brings in use, beside what it was made for."""

from __future__ import annotations

import json
import sys
from datetime import date, tzinfo
from pathlib import Path
from typing import Annotated

import typer

from palaestra.train.commands import UsageError


def _read_limit(text: object) -> float:
    from palaestra.envs.core.reference import is_finite_number

    try:
        number = float(str(text))
    except ValueError as error:
        raise typer.BadParameter(f"{text}: expected a number") from error
    if not is_finite_number(number) or number < 0.0:
        raise typer.BadParameter(f"{text}: must be a number of at least 0")
    return number


def _read_day(text: object) -> date:
    try:
        return date.fromisoformat(str(text))
    except ValueError as error:
        raise typer.BadParameter(f"{text}: expected a day such as 2026-11-29") from error


def _read_zone(text: object) -> tzinfo:
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    try:
        return ZoneInfo(str(text))
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise typer.BadParameter(f"{text}: expected a time zone such as Europe/Berlin") from error


def monitor(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A policy that palaestra export has written.")],
    log: Annotated[Path, typer.Argument(metavar="LOG", help="What palaestra serve --log has written; LOG.1, ... too.")],
    page: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a page with pictures there (.html).")] = None,
    sales: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the sales of a pricing policy there, for fit-demand (.csv)."),
    ] = None,
    since: Annotated[
        date | None, typer.Option(parser=_read_day, metavar="DAY", help="The first day that counts: 2026-11-01.")
    ] = None,
    until: Annotated[
        date | None, typer.Option(parser=_read_day, metavar="DAY", help="The last day that counts.")
    ] = None,
    timezone: Annotated[
        tzinfo | None,
        typer.Option(parser=_read_zone, metavar="ZONE", help="Of days, and of times without one (default: UTC)."),
    ] = None,
    psi: Annotated[
        float, typer.Option(parser=_read_limit, metavar="X", help="Largest population stability index.")
    ] = 0.25,
    ks: Annotated[
        float, typer.Option(parser=_read_limit, metavar="X", help="Largest distance of Kolmogorov and Smirnov.")
    ] = 0.2,
    out_of_range: Annotated[
        float, typer.Option(parser=_read_limit, metavar="%", help="Largest share of states out of range.")
    ] = 1.0,
    returns: Annotated[
        float, typer.Option(parser=_read_limit, metavar="X", help="Largest shift of the mean return, in deviations.")
    ] = 0.5,
    sales_off: Annotated[
        float, typer.Option(parser=_read_limit, metavar="%", help="Most that sales differ from the predicted ones.")
    ] = 10.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Compare a log of use with the held-out episodes that an exported policy has a reference of.

    Exit status 1 if something is beyond its limit and beyond chance, 0 if not. Half a standard deviation is the limit
    for distributions (PSI 0.25, KS 0.2) and for returns.

    \b
    palaestra serve policy.onnx --log use.jsonl
    palaestra monitor policy.onnx use.jsonl --page monitor.html
    palaestra monitor prices.onnx use.jsonl --since 2026-11-01 --sales sales.csv
    """
    from datetime import UTC

    from palaestra.train.export.policy_file import PolicyFile
    from palaestra.train.formatting import terminal_width
    from palaestra.train.monitoring.drift import Limits
    from palaestra.train.monitoring.drift_page import page_of
    from palaestra.train.monitoring.drift_report import as_json as plain
    from palaestra.train.monitoring.drift_report import report
    from palaestra.train.monitoring.use_comparison import compare
    from palaestra.train.report.html_page import check_page, write_page
    from palaestra.train.table_file import check_table_file, write_table

    if since is not None and until is not None and since > until:
        raise UsageError(f"--since {since} is after --until {until}")
    if page is not None:
        if page.suffix.lower() not in (".html", ".htm"):
            raise UsageError(f"--page {page}: the name of a page ends in .html")
        check_page(page)
    if sales is not None:
        check_table_file(sales)
    limits = Limits(psi, ks, out_of_range / 100.0, returns, sales_off / 100.0)
    found = compare(PolicyFile(file), log, limits, timezone or UTC, since, until)
    if sales is not None:
        if found.sales is None:
            raise UsageError(f"--sales: {file} prices no stock, as policies for pricing do")
        if not found.sales.asked_for.any():
            raise UsageError(f"--sales: no sale is told in {log}, neither by sold nor by units_left of an episode")
        heads, rows = found.sales.table()
        write_table(sales, heads, rows)
    if page is not None:
        write_page(page, page_of(found))
    print(json.dumps(plain(found), indent=2) if as_json else report(found, terminal_width(sys.stdout)))
    if not as_json:
        if page is not None:
            print(f"page: {page}")
        if sales is not None:
            print(f"sales: {sales}; next: palaestra fit-demand {sales} --gaps unknown")
    if found.alarms:
        raise typer.Exit(1)
