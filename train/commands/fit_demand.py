"""``palaestra fit-demand``: a model of demand from a file of sales."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from palaestra.train.commands import UsageError


def _read_number(text: object) -> float:
    try:
        return float(str(text))
    except ValueError as error:
        raise typer.BadParameter(f"{text}: expected a number above 0") from error


def fit_demand(
    sales: Annotated[Path, typer.Argument(metavar="SALES.csv", help="Sales per period, or choices of buyers.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="The file to write; it must not be there yet.")] = Path(
        "demand.json"
    ),
    buyers: Annotated[
        float | None,
        typer.Option(
            parser=_read_number, metavar="X", help="Buyers per period, for choices (default: occasions per date)."
        ),
    ] = None,
) -> None:
    """Estimate how demand answers to prices from your own sales, to train a seller on it.

    The CSV has the columns date, product, price, units [, visitors, unit_cost, stock, competitor_price],
    or occasion_id, alternative, chosen, price [, feature, display, available, household_id, date, unit_cost].

    \b
    palaestra fit-demand sales.csv --out demand.json
    palaestra train pricing --set env.demand=demand.json
    """
    from palaestra.envs.pricing.demand import fit as fitting

    if buyers is not None and not 0.0 < buyers < 1e6:
        raise UsageError(f"--buyers {buyers}: must be above 0")
    fitting.fit_demand(sales, out, buyers)
