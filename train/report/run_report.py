"""The report of a run, or of several: reads the run folders, and makes the page.

Films are made smaller or left out where a page would have more than ``MOST_BYTES``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from palaestra.train.evaluation.games import judged_table
from palaestra.train.formatting import NORMALISED, four_digits
from palaestra.train.report import run_charts, run_words
from palaestra.train.report.charts import Curve, ScoreRow, SvgChart, interval_chart, line_chart
from palaestra.train.report.film import film_of
from palaestra.train.report.html_page import render, write_page
from palaestra.train.report.run_record import RunRecord, read_record, spent
from palaestra.train.report.told_settings import differences, repeat_command, short_name, value_text
from palaestra.train.runs.run_folder import RunFolder

TEMPLATE = Path(__file__).with_name("run_page.html")
MOST_BYTES = 3_000_000
_PLAYER = 'JSON.parse(document.getElementById("data").textContent).player'
_FILMS = 2_000_000  # bytes of all films together


def report_page(folders: Sequence[RunFolder], player: Mapping[str, Any] | None = None) -> str:
    """The page.

    Args:
        folders: of the runs.
        player: of one run, for its page to play (:func:`palaestra.train.export.write.player_of`).

    Raises:
        ConfigError: if one of the folders holds no run.
    """
    different = {folder.path.resolve(): folder for folder in folders}  # one may be named twice
    records = [read_record(folder) for folder in different.values()]
    page, films = _page(records, _FILMS, player)
    if films and (excess := len(page.encode()) - MOST_BYTES) > 0:
        page, _ = _page(records, max(0, films - excess), player)
    return page


def _page(records: Sequence[RunRecord], room: int, player: Mapping[str, Any] | None) -> tuple[str, int]:
    """The page with so many bytes for films, and how many they are."""
    several = len(records) > 1
    share = room // len(records)
    views = [_view(record, f"r{n}-" if several else "", share) for n, record in enumerate(records, start=1)]
    groups = _groups(records) if several else []
    charts = [chart for view in views for chart in _charts_of(view)] + [c for group in groups for c in group["charts"]]
    title = f"{len(records)} runs" if several else views[0]["title"]
    page = render(
        TEMPLATE,
        charts,
        {"runs": [_data(record) for record in records], **({} if player is None else {"player": player})},
        **({"plays": None} if player is None else _playing(player)),
        title=title,
        runs=views,
        groups=groups,
        overview=_overview(records, views),
        remarks=_remarks(records),
        made=f"page made {datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        heading=3 if several else 2,
    )
    films = [view["film"] for view in views if view["film"] is not None]
    return page, sum(len(film.source or "") + 2 * len(film.poster or "") for film in films)


def _playing(player: Mapping[str, Any]) -> dict[str, Any]:
    """The player's script, style and words; they are read with PyTorch, which other reports do without."""
    from palaestra.train.web.page import is_for_two, manual, script_within, style

    title = "Play against the agent" if is_for_two(player) else "The agent plays"
    of = "" if is_for_two(player) else "These are the episodes of the final evaluation. "
    note = f"{of}Nothing is loaded: rules and network run in this page. {manual(player)}"
    plays = {"title": title, "note": note}
    return {"more_script": f"\n{script_within(_PLAYER)}", "more_style": f"\n{style()}", "plays": plays}


def write_report(folders: Sequence[RunFolder], out: Path, player: Mapping[str, Any] | None = None) -> None:
    """Make the page (:func:`report_page`) and put it at ``out``, whole or not at all.

    Raises:
        ConfigError, PageError: if one of the folders holds no run, or something else is at ``out``.
        OSError: if it cannot be written.
    """
    write_page(out, report_page(folders, player))


def _view(record: RunRecord, prefix: str, room: int) -> dict[str, Any]:
    """What the template shows of a run."""
    found = differences(record.settings)
    own = run_charts.added_charts(record, prefix)
    rows = None if found is None else [(d.key, value_text(d.here), value_text(d.preset)) for d in found]
    env = short_name(record.settings.get("env", "the environment"))
    return {
        "ident": f"{prefix}run",
        "title": run_words.title_of(record),
        "folder": record.name,
        "env": env,
        "verdict": run_words.verdict_of(record),
        "facts": run_words.facts_of(record),
        "score": run_charts.score_chart(record, prefix),
        "film": film_of(record.folder.video_file, room),
        "returns": run_charts.returns_chart(record, prefix),
        "curves": run_charts.main_curves(record, prefix),
        "further": run_charts.further_curves(record, prefix),
        "own": own,
        "worst": run_words.worst_episodes(record),
        "no_replay": f"Single episodes of {env} cannot be played again here.",
        "stress": _stress(record, prefix),
        "positions": _positions(record),
        "measured": run_words.measured(record),
        "differences": rows,
        "cost": _cost(record),
        "repeat": repeat_command(record.settings, found, record.folder.config_file),
        "made_with": run_words.made_with(record),
        "troubles": [*record.troubles, *_missing(record)],
    }


def _missing(record: RunRecord) -> list[str]:
    """What a run of an earlier version has not kept."""
    if record.evaluation and not record.episodes and not record.folder.episodes_file.is_file():
        return [f"The run has kept no single episodes ({record.folder.episodes_file.name}): none are shown."]
    return []


def _stress(record: RunRecord, prefix: str) -> dict[str, Any] | None:
    rows, chart = run_words.stress_rows(record), run_charts.stress_chart(record, prefix)
    if not rows or chart is None:
        return None
    episodes = record.stress.get("episodes")
    count = f"{episodes:,} held-out episodes in each condition. " if isinstance(episodes, int) else ""
    heads = ("condition", "score", "95 % interval", "loss", NORMALISED)
    note = f"{count}{run_words.command('evaluate', record, '--stress')} measures them again."
    return {"chart": chart, "heads": heads, "rows": rows, "note": note}


def _positions(record: RunRecord) -> dict[str, Any] | None:
    """Moves in a game for two beside perfect play; None where none were judged."""
    rows, count = judged_table.kept_rows(record.positions), record.positions.get("positions")
    if not rows or not isinstance(count, int):
        return None
    told = f"{count:,} positions of mixed play. "
    told += f"{run_words.command('evaluate', record, '--positions', str(count))} measures them again."
    exploitability = judged_table.exploitability_told(record.positions)
    return {
        "heads": ("", *judged_table.HEADS[:-1]),
        "rows": [_last_first(row) for row in rows],
        "note": told,
        "on_heads": ("", *judged_table.ON_HEADS[:-1]),
        "on_rows": [_last_first(row) for row in judged_table.going_on_rows(record.positions)],
        "on_note": f"{exploitability[:1].upper()}{exploitability[1:]}." if exploitability else "",
    }


def _last_first(row: Sequence[str]) -> tuple[str, ...]:
    """A row with its name, which terminals have last, before the numbers."""
    return (row[-1], *row[:-1])


def _cost(record: RunRecord) -> dict[str, Any] | None:
    cost = record.cost
    return None if cost is None or not cost.rows() else {"rows": cost.rows(), "assumptions": cost.assumptions()}


def _charts_of(view: dict[str, Any]) -> list[SvgChart]:
    single = [view[name] for name in ("score", "returns") if view[name] is not None]
    single += [view["stress"]["chart"]] if view["stress"] else []
    return [*single, *view["curves"], *view["further"], *view["own"]]


def _data(record: RunRecord) -> dict[str, Any]:
    """The run as plain data, for the page's JSON."""
    return {
        "run": record.name,
        "state": record.state,
        "settings": record.settings,
        "facts": record.facts,
        "evaluation": record.evaluation,
        "episodes": record.episodes,
        "stress": record.stress,
        "positions": record.positions,
        "cost": None if record.cost is None else record.cost.as_dict(),
        "curves": record.curves.rows_for_data(),
    }


def _overview(records: Sequence[RunRecord], views: Sequence[dict[str, Any]]) -> dict[str, Any]:
    heads = ("run", "score", NORMALISED, "steps", "wall time", "state", "folder")
    rows = []
    for record, view in zip(records, views, strict=True):
        score, share = record.score, record.number("percent_of_optimal")
        told = "–" if score is None else four_digits(score)
        percent = "–" if share is None else f"{share:z.1f} %"
        rows.append(
            (view["title"], told, percent, f"{record.steps:,}", spent(record) or "–", record.state, record.name)
        )
    return {"heads": heads, "rows": rows}


def _groups(records: Sequence[RunRecord]) -> list[dict[str, Any]]:
    """Scores and curves of the runs of each environment, in one picture each."""
    found = []
    for number, env in enumerate(dict.fromkeys(str(record.settings.get("env")) for record in records)):
        members = [record for record in records if str(record.settings.get("env")) == env]
        if len(members) < 2:
            continue
        names = _names(members)
        curves = [
            record.curves.curve("eval/mean_reward", name, place, dots=True)
            for place, (record, name) in enumerate(zip(members, names, strict=True))
            if record.curves.has("eval/mean_reward")
        ]
        charts = _scores(members, names, f"g{number}-scores") + _together(curves, f"g{number}-evaluations")
        if charts:
            found.append({"name": f"Runs of {short_name(env)}", "charts": charts})
    return found


def _scores(members: Sequence[RunRecord], names: Sequence[str], ident: str) -> list[SvgChart]:
    rows = []
    for place, (record, name) in enumerate(zip(members, names, strict=True)):
        if record.score is not None:
            exact = record.number("exact_mean") is not None
            ends = (None, None) if exact else (record.number("ci_low"), record.number("ci_high"))
            rows.append(ScoreRow(name, record.score, *ends, place))
    return [interval_chart(ident, "Scores", rows, x_label="mean return")] if rows else []


def _together(curves: Sequence[Curve], ident: str) -> list[SvgChart]:
    if not curves:
        return []
    label = "mean return of an episode"
    return [line_chart(ident, "Evaluations while training", curves, x_label=run_charts.STEPS, y_label=label)]


def _names(members: Sequence[RunRecord]) -> list[str]:
    """Agent and seed of each, and the folder where that is not enough to tell them apart."""
    names = [f"{record.settings.get('agent', '?')}, seed {record.settings.get('seed', '?')}" for record in members]
    count = Counter(names)
    pairs = zip(names, members, strict=True)
    return [name if count[name] == 1 else f"{name} ({record.folder.path.name})" for name, record in pairs]


def _remarks(records: Sequence[RunRecord]) -> list[str]:
    environments = dict.fromkeys(short_name(record.settings.get("env", "?")) for record in records)
    if len(environments) < 2:
        return []
    return [f"The runs are of different environments ({', '.join(environments)}): their returns do not compare."]
