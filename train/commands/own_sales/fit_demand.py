"""``palaestra fit-demand``: a model of demand from a file of sales."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from palaestra.train.commands import UsageError, read_count

if TYPE_CHECKING:
    from palaestra.envs.pricing.demand.counts.gaps import Gaps

_GAPS = ("auto", "zero", "unknown")
_DATES, _PER, _RETURNS = ("dmy", "mdy", "ymd"), ("day", "week"), ("net", "drop")
_CURVES = ("auto", "exponential", "linear", "logit", "elasticity")


def _read_number(text: object) -> float:
    try:
        return float(str(text))
    except ValueError as error:
        raise typer.BadParameter(f"{text}: expected a number above 0") from error


def fit_demand(
    sales: Annotated[
        Path, typer.Argument(metavar="SALES", help="Sales, receipts or choices of buyers: CSV, Excel or Parquet.")
    ],
    out: Annotated[Path, typer.Option(metavar="FILE", help="The file to write; it must not be there yet.")] = Path(
        "demand.json"
    ),
    buyers: Annotated[
        float | None,
        typer.Option(
            parser=_read_number, metavar="X", help="Buyers per period, for choices (default: occasions per date)."
        ),
    ] = None,
    product: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Fit only this product; repeatable.")
    ] = None,
    gaps: Annotated[
        str,
        typer.Option(
            metavar="|".join(_GAPS), help="Missing dates are days without sales (zero), or say nothing (unknown)."
        ),
    ] = "auto",
    instrument: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="A column that moves the price, but not demand.")
    ] = None,
    curve: Annotated[
        str, typer.Option(metavar="|".join(_CURVES), help="How demand answers to the price (auto: the likeliest).")
    ] = "auto",
    every: Annotated[bool, typer.Option("--all", help="List all products, not the 20 best-selling.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
    column: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=COLUMN", help="A column's name here and in the file, such as price=Preis; repeatable."
        ),
    ] = None,
    ignore: Annotated[
        list[str] | None, typer.Option(metavar="COLUMN", help="A column to leave out; repeatable.")
    ] = None,
    attribute: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN", help="Of choices: what describes an alternative, such as its time; repeatable."),
    ] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN=VALUE", help="Read only rows with (or, by !=, without) that value; repeatable."),
    ] = None,
    decimal: Annotated[
        str | None, typer.Option(metavar="SIGN", help="The decimal sign of numbers: . or , (default: found out).")
    ] = None,
    dates: Annotated[
        str | None,
        typer.Option(metavar="|".join(_DATES), help="The order of day, month and year in dates like 03/04/2024."),
    ] = None,
    per: Annotated[
        str | None, typer.Option(metavar="|".join(_PER), help="Add receipts up to days or weeks (default: days).")
    ] = None,
    returns: Annotated[
        str,
        typer.Option(
            metavar="|".join(_RETURNS), help="Negative units: net them with the sales of their period, or drop them."
        ),
    ] = "net",
    skip_bad_rows: Annotated[
        bool, typer.Option("--skip-bad-rows", help="Leave out rows with an empty or impossible cell, and count them.")
    ] = False,
    round_units: Annotated[
        bool, typer.Option("--round-units", help="Round units that are not whole, such as kilograms.")
    ] = False,
    price_per_unit: Annotated[
        bool, typer.Option("--price-per-unit", help="Prices are those of a unit, though they rise with the units.")
    ] = False,
    market_size: Annotated[
        float | None, typer.Option(metavar="X", parser=_read_number, help="Buyers of a period, for a column share.")
    ] = None,
    outside: Annotated[
        str | None, typer.Option(metavar="VALUE", help="The choice that means that nothing was bought.")
    ] = None,
    alternatives: Annotated[
        str | None, typer.Option(metavar="NAMES", help="What the choices 1, 2, ... mean: A,B,...")
    ] = None,
    encoding: Annotated[
        str | None, typer.Option(metavar="NAME", help="Of a text file that is not UTF-8, such as cp1252.")
    ] = None,
    sheet: Annotated[str | None, typer.Option(metavar="NAME", help="The sheet of an Excel file.")] = None,
    header_row: Annotated[
        int, typer.Option(metavar="N", parser=read_count, help="The row that has the names of the columns.")
    ] = 1,
) -> None:
    """Estimate how demand answers to prices from your own sales, to train a seller on it.

    The file has the columns date, product, price, units [, visitors, unit_cost, stock, sold_out, competitor_price,
    store, and what else may explain demand], or occasion_id, alternative, chosen, price [, feature, display,
    available, household_id, date, unit_cost, and what --attribute names], or for each buyer price.A, price.B, ...,
    choice; --column maps other names. Excel and Parquet need pip install 'palaestra[data]'.

    \b
    palaestra fit-demand sales.csv --out demand.json
    palaestra fit-demand export.csv --column price=Preis --column units=Menge
    palaestra train pricing --set env.demand=demand.json
    """
    from palaestra.envs.pricing.demand import fit_report
    from palaestra.envs.pricing.demand.fit import FitOptions
    from palaestra.envs.pricing.sales.sales_table import ReadOptions
    from palaestra.train.formatting import terminal_width

    if buyers is not None and not 0.0 < buyers < 1e6:
        raise UsageError(f"--buyers {buyers}: must be above 0")
    if market_size is not None and not 1.0 <= market_size <= 1e6:
        raise UsageError(f"--market-size {market_size:g}: must be between 1 and 1,000,000")
    if decimal not in (None, ".", ","):
        raise UsageError(f"--decimal {decimal}: must be . or ,")
    chosen_words = (("--gaps", gaps, _GAPS), ("--curve", curve, _CURVES), ("--returns", returns, _RETURNS))
    for option, value, words in (*chosen_words, ("--dates", dates, _DATES), ("--per", per, _PER)):
        if value is not None and value not in words:
            raise UsageError(f"{option} {value}: expected one of {', '.join(words)}")
    reading = ReadOptions(
        columns=_columns(column or []),
        ignore=tuple(ignore or ()),
        attributes=tuple(attribute or ()),
        where=tuple(where or ()),
        decimal=decimal,  # type: ignore[arg-type]
        dates=dates,  # type: ignore[arg-type]
        encoding=encoding,
        sheet=sheet,
        header_row=header_row,
        per=per,  # type: ignore[arg-type]
        returns=returns,  # type: ignore[arg-type]
        skip_bad_rows=skip_bad_rows,
        round_units=round_units,
        price_per_unit=price_per_unit,
        market_size=market_size,
        outside=outside,
        alternatives=tuple(name.strip() for name in alternatives.split(",")) if alternatives else (),
    )
    chosen = None if curve == "auto" else curve.replace("elasticity", "constant elasticity")
    options = FitOptions(buyers, tuple(product or ()), cast("Gaps", gaps), instrument, chosen)
    width = terminal_width(sys.stdout)
    fit_report.fit_demand(sales, out, options, reading, every=every, as_json=as_json, width=width)


def _columns(texts: list[str]) -> dict[str, str]:
    columns: dict[str, str] = {}
    for text in texts:
        name, equals, theirs = text.partition("=")
        name = name.strip()
        if not (name and equals and theirs):
            raise UsageError(f"--column {text}: expected NAME=COLUMN, such as price=Preis")
        if name in columns:
            raise UsageError(f"--column {text}: {name} is {columns[name]} already")
        columns[name] = theirs
    return columns
