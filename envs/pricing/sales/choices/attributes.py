"""Columns that describe an alternative of a choice, such as its travel time: those that the user names, and others.

1. ``--attribute TT`` is a column of a file with a row for each alternative; of one with a row for each buyer it is
   ``TRAIN_TT, CAR_TT`` (or ``TT.TRAIN``, ``TT*`` and so on), found as the columns of prices are.
2. A name of ``--column time=TT`` will do as well, and is the way out where a column has a name that is taken.
3. Other columns of a file with a row for each buyer that are there for each alternative could be attributes, too.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace

from palaestra.envs.pricing.sales.column_names import AVAILABILITY, ColumnMap, alternatives_of, place_of
from palaestra.envs.pricing.sales.sales_table import KNOWN, ReadOptions, SalesError

_SEPARATORS = "._ :-"


def find_attributes(header: Sequence[str], found: ColumnMap, options: ReadOptions) -> ColumnMap:
    """The columns of a file with those of the attributes.

    Args:
        header: of the file.
        found: which column is which, beside the attributes.
        options: of the reading.

    Raises:
        SalesError: if an attribute is no column, or one that has its use already.
    """
    ignored = {name.lower() for name in options.ignore}
    shown = ["" if name.lower() in ignored else name for name in header]
    columns, wide, names = dict(found.columns), dict(found.wide), []
    for asked in options.attributes:
        where = f"--attribute {asked}: "
        if found.shape == "sales":
            raise SalesError(f"{where}it is for choices; of sales per period all further columns are tried")
        name, places = _places(asked, shown, found, options, where)
        used = {k: ours for ours, k in columns.items()} | {k: ours for ours, by in wide.items() for k in by.values()}
        uses = [(header[k], used[k]) for k in places.values() if k in used]
        if name in names:
            raise SalesError(f"{where}it is given twice")
        if (name in KNOWN and name in (*columns, *wide)) or any(ours != name for _, ours in uses):
            column, ours = uses[0] if uses else (name, name)
            raise SalesError(f"{where}{column} is used as {'an attribute' if ours in names else ours} already")
        if name.lower() in KNOWN or ":" in name:
            theirs = shlex.quote(options.columns.get(asked, asked))
            raise SalesError(f"{where}this name means something else here: --column NAME={theirs} --attribute NAME")
        if found.wide:
            wide[name] = places
        else:
            columns[name] = places[name]
        names.append(name)
    taken = {*columns.values(), *(k for by in wide.values() for k in by.values())}
    free = ["" if k in taken else name for k, name in enumerate(shown)]
    possible = _possible(free, list(wide["price"])) if wide else {}
    return replace(found, columns=columns, wide=wide, attributes=tuple(names), possible=possible)


def _places(
    asked: str, shown: Sequence[str], found: ColumnMap, options: ReadOptions, where: str
) -> tuple[str, dict[str, int]]:
    """The name of an attribute and its columns: by alternative of choices in wide form, else the one by its name."""
    asked = next((ours for ours, by in options.columns.items() if by == asked and ours not in KNOWN), asked)
    theirs = options.columns.get(asked, asked)
    alternatives = found.wide.get("price", {})
    named = alternatives_of(shown, theirs) if found.wide else {}
    if own := {of: named[of] for of in alternatives if of in named}:
        if lost := [of for of in alternatives if of not in own and "*" not in options.columns.get("price", "")]:
            column = shown[alternatives[lost[0]]]
            raise SalesError(f"{where}there is no such column for the alternative {lost[0]}, which has {column}")
        return asked, own
    try:
        k = place_of(theirs, shown)
    except SalesError as error:
        raise SalesError(f"{where}{error}") from None
    if found.wide:
        used = {*found.columns.values(), *(k for by in found.wide.values() for k in by.values())}
        possible = _possible(["" if k in used else name for k, name in enumerate(shown)], list(alternatives))
        those = f"; there are {', '.join(possible)}" if possible else ""
        raise SalesError(f"{where}an attribute has a column for each alternative, not one for all{those}")
    name = asked if asked in options.columns else shown[k]
    return name, {name: k}


def _possible(free: Sequence[str], alternatives: Sequence[str]) -> dict[str, Mapping[str, int]]:
    """Words with a column for each alternative, as ``--attribute`` takes them; columns in use are "" in ``free``."""
    groups: dict[str, dict[str, int]] = {}
    for k, name in ((k, name) for k, name in enumerate(free) if name):
        for of in alternatives:
            if name.lower().endswith(of.lower()):
                groups.setdefault(f"{name[: -len(of)]}*", {})[of] = k
            if name.lower().startswith(of.lower()):
                groups.setdefault(f"*{name[len(of) :]}", {})[of] = k
    words: dict[str, Mapping[str, int]] = {}
    for pattern, by in groups.items():
        if by.keys() != {*alternatives}:
            continue
        plain = pattern.strip("*").strip(_SEPARATORS)
        ways = [word for word in (plain, pattern) if word and alternatives_of(free, word).items() >= by.items()]
        if ways and ways[0].lower() not in (*KNOWN, *AVAILABILITY):
            words[ways[0]] = by
    return words
