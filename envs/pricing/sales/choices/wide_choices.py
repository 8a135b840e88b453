"""Choices with a row for each buyer and columns for each alternative (``price.A, price.B, ..., choice``), made long."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from palaestra.envs.core import Array
from palaestra.envs.pricing.sales.sales_table import SKIP, Labels, ReadOptions, SalesError


def alternatives(
    choices: Sequence[str], first_rows: Array, names: Sequence[str], options: ReadOptions
) -> list[str | None]:
    """The alternative that each text of the column ``chosen`` means; None is the outside option, "" a bad row.

    A choice is the name of an alternative, or with a common beginning (``choice1`` of 1), or a number where the user
    says what the numbers mean.

    Raises:
        SalesError: naming a choice that is none of them.
    """
    known = {name.lower(): name for name in names}
    numbered = {str(k): name for k, name in enumerate(options.alternatives, 1)}
    for name in options.alternatives:
        if name not in names:
            raise SalesError(f"--alternatives {name}: no column of prices has that name; they are {', '.join(names)}")
    beginning = _common_beginning(choices)
    meant: list[str | None] = []
    for text, row in zip(choices, first_rows, strict=True):
        name = text.strip().lower()
        if options.outside is not None and name == options.outside.lower():
            meant.append(None)
        elif found := numbered.get(name) or known.get(name) or known.get(name.removeprefix(beginning)):
            meant.append(found)
        elif options.skip_bad_rows:
            meant.append("")
        else:
            listed = ",".join(names)
            number = name.isdigit() and not any(each.isdigit() for each in names)
            way = f"--alternatives {listed} says which are 1, 2, ..., and " if number else ""
            raise SalesError(
                f"row {row}: the choice {text!r} is none of the alternatives {', '.join(names)}; {way}"
                f"--outside {text or chr(39) * 2} if it means that nothing was bought; {SKIP}"
            )
    return meant


def _common_beginning(texts: Sequence[str]) -> str:
    """What all texts begin with before their numbers: "choice" of choice1 and choice2."""
    beginnings = {text.strip().lower().rstrip("0123456789") for text in texts}
    return beginnings.pop() if len(beginnings) == 1 else ""


def long_columns(
    values: Mapping[str, Sequence[Array]], chosen: Array, file_rows: Array, names: Sequence[str]
) -> tuple[dict[str, Array], dict[str, Sequence[str]], Array]:
    """Columns, labels and rows of the file, of a row for each alternative of each buyer.

    Args:
        values: attributes, each float [buyers] for each alternative.
        chosen: index of the alternative, −1 of none, int64 [buyers].
        file_rows: int64 [buyers].
    """
    buyers, count = len(chosen), len(names)
    columns = {name: np.column_stack(list(parts)).ravel() for name, parts in values.items()}
    columns["chosen"] = (chosen[:, None] == np.arange(count)).astype(np.float64).ravel()
    columns["alternative"] = np.tile(np.arange(count), buyers)
    columns["occasion_id"] = np.repeat(np.arange(buyers), count)
    labels: dict[str, Sequence[str]] = {
        "alternative": list(names),
        "occasion_id": Labels(np.char.add(b"row ", file_rows.astype("S"))),
    }
    return columns, labels, np.repeat(file_rows, count)
