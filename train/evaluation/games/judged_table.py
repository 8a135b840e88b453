"""The tables of :mod:`palaestra.train.evaluation.games.judged_play` for people, of a test or what a run has kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from palaestra.train.formatting import columns, fitted, known
from palaestra.train.plain_json import is_moderate_number

if TYPE_CHECKING:
    from palaestra.train.evaluation.games.judged_play import JudgedPlay

NOTHING = "–"
HEADS = ("positions", "value kept", "95 % interval", "with a decision", "value kept", "95 % interval", "in")
ON_HEADS = ("positions", "share", "95 % interval", "played on against perfect play")
_GOES_ON = {
    "won_positions_won": "won ones that are won",
    "drawn_positions_held": "drawn ones that are not lost",
    "games_held_as_first": "whole games as first player that keep their value",
    "games_held_as_second": "whole games as second player that keep their value",
}


def judged_tables(found: JudgedPlay, title: str, width: int | None) -> str:
    """Both tables below a title; None as a width is any."""
    content = found.as_dict()
    first = f"{title}: moves in {found.positions:,} positions of mixed play, seed {found.seed}, beside perfect play"
    lines = [fitted(first, width), *columns(HEADS, kept_rows(content), width)]
    lines += ["", *columns(ON_HEADS, going_on_rows(content), width)]
    if (count := content["played_on"]) < found.positions:
        lines.append(fitted(f"the first {count:,} positions are played on", width))
    said = exploitability_told(content) or found.unknown
    return "\n".join([*lines, *([fitted(said, width)] if said else [])])


def kept_rows(content: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """A row for all positions, for each band of plies, and for each value; rows that are damaged are left out."""
    named = [("all positions", content.get("all"))]
    for key, after in (("by_ply", ""), ("by_value", " positions")):
        several = content.get(key)
        rows = [one for one in several if isinstance(one, dict)] if isinstance(several, list) else []
        named += [(f"{one.get('name')}{after}", one) for one in rows]
    return [(*_cells(one.get("kept")), *_cells(one.get("kept_of_decisions")), name) for name, one in named if one]


def going_on_rows(content: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """A row for won positions, one for drawn ones, and one for whole games on each side, if told."""
    return [(*_cells(content.get(key)), name) for key, name in _GOES_ON.items() if key in content]


def exploitability_told(content: Mapping[str, Any]) -> str:
    """The exploitability in a line; empty where it is not known."""
    names = ("exploitability", "best_response_as_first", "best_response_as_second")
    mean, first, second = (content.get(name) for name in names)
    if not (is_moderate_number(mean) and is_moderate_number(first) and is_moderate_number(second)):
        return ""
    told = f"exploitability {_exact(mean)}: the best response, exact, earns"
    return f"{told} {_exact(first)} as first and {_exact(second)} as second player"


def _exact(value: Any) -> str:
    return known(float(value)) if value else "0"


def _cells(share: Any) -> tuple[str, str, str]:
    """Count, share and interval; of none a dash."""
    share = share if isinstance(share, dict) else {}
    count, percent, low, high = (share.get(name) for name in ("count", "percent", "ci_low", "ci_high"))
    told = f"{count:,}" if isinstance(count, int) else NOTHING
    if not all(map(is_moderate_number, (percent, low, high))):
        return told, NOTHING, NOTHING
    return told, f"{percent:.1f} %", f"{low:.1f} to {high:.1f} %"
