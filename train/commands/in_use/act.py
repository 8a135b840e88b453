"""``palaestra act``: a trained agent's actions for a table of observations."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def act(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A policy that palaestra export has written.")],
    observations: Annotated[Path, typer.Argument(metavar="TABLE", help="A .csv, .parquet or .npz file.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="A .csv or .xlsx file, or .npz for arrays.")],
    clamp: Annotated[bool, typer.Option("--clamp", help="Numbers out of range become the bound, not errors.")] = False,
) -> None:
    """Act on a table of observations, whose columns have the names of the policy's contract.

    \b
    palaestra act policy.onnx observations.csv --out actions.csv
    """
    from palaestra.train.export.act_on_table import act_on_table
    from palaestra.train.export.policy_file import PolicyFile

    count = act_on_table(PolicyFile(file), observations, out, clamp)
    print(f"{out}: {count:,} {'action' if count == 1 else 'actions'} of {file}")
