"""``palaestra compare``: runs beside runs."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from palaestra.train.commands import UsageError


def compare(
    run: Annotated[
        list[str],
        typer.Argument(metavar="RUN...|FOLDER", help="Run folders or the starts of their names, or folders with runs."),
    ],
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE.html", help="Write a page with charts.")] = None,
    table: Annotated[Path | None, typer.Option("--csv", metavar="FILE.csv", help="Write a row for each run.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Compare runs: those that differ by the seed alone are one method, and methods stand beside each other.

    It shows final scores with intervals, sample efficiency, time until solved, the probability of improvement, and
    whether there are seeds enough to tell.

    \b
    palaestra compare runs/snake-small
    palaestra compare runs/snake-small --out compare.html --csv compare.csv
    palaestra compare 20261129-1218 20261129-1304 --json
    """
    from palaestra.envs.core.atomic_write import write_whole
    from palaestra.train.comparison.comparison import compare_runs
    from palaestra.train.comparison.comparison_table import as_csv, as_dict, check_table, comparison_table
    from palaestra.train.formatting import tell, terminal_width

    for path, kind in ((out, ".html"), (table, ".csv")):
        if path is not None and path.suffix.lower() != kind:
            raise UsageError(f"{path}: expected a name that ends in {kind}")
    if out is not None:
        from palaestra.train.report.html_page import check_page

        check_page(out)
    if table is not None:
        check_table(table)
    found = compare_runs(run)
    if out is not None:
        from palaestra.train.comparison.comparison_page import comparison_page
        from palaestra.train.report.html_page import write_page

        write_page(out, comparison_page(found))
    if table is not None:
        write_whole(table, as_csv(found).encode(errors="replace"))  # bytes of file names that are no text
    print(json.dumps(as_dict(found), indent=1) if as_json else comparison_table(found, terminal_width(sys.stdout)))
    for path in (out, table):
        if path is not None:
            tell(f"palaestra: {path}")
