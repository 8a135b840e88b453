"""What a page says of a run: the verdict, how it stands, its worst episodes, and tables of what else is known."""

from __future__ import annotations

import re
import shlex
from typing import Any, NamedTuple

from palaestra.train.formatting import NORMALISED, against, condition_name, figure_label, four_digits, known, minus
from palaestra.train.plain_json import is_moderate_number
from palaestra.train.report.run_charts import solved_at
from palaestra.train.report.run_record import FINISHED, INTERRUPTED, RUNNING, RunRecord, spent
from palaestra.train.report.told_settings import find_env, short_name, value_text

WORST = 3
_WORDS = {  # of figures whose names say too little
    "exact_mean": "mean return, exact",
    "best_fixed_mean": "return of the best fixed price",
    "captured_percent": "captured above a fixed price",
    "revenue_at_5_percent": "mean of the lowest 5 %",
}
_VERSIONS = ("palaestra", "torch", "stable_baselines3", "gymnasium", "numpy", "python")
_MACHINE = ("machine", "device", "threads", "processes", "git_commit", "finished")


class RunVerdict(NamedTuple):
    """A word or two, "good", "open" or "none" for its colour, and the sentences behind."""

    word: str
    kind: str
    text: str


class WorstEpisode(NamedTuple):
    """An episode in a line, and the commands that show it; None where it cannot be played again."""

    text: str
    command: str | None
    film: str | None


def title_of(record: RunRecord) -> str:
    """Environment, agent and seed, as far as they are known."""
    settings = record.settings
    env = short_name(settings["env"]) if "env" in settings else record.folder.path.name
    parts = [env, str(settings.get("agent", "")), f"seed {settings['seed']}" if "seed" in settings else ""]
    return " · ".join(part for part in parts if part)


def verdict_of(record: RunRecord) -> RunVerdict:
    """How good the agent is, in words."""
    score, solved = record.score, solved_at(record)
    if score is None:
        return RunVerdict("Not evaluated.", "none", _why_not_evaluated(record))
    half = _half(record)
    rival = record.evaluation.get("opponent")
    rival = against(rival if isinstance(rival, str) else None)
    text = f"The agent scores {known(score, half)} an episode{rival}{_interval(record, half)}"
    if (share := record.number("percent_of_optimal")) is not None:
        text += f", {share:z.1f} % of the way from random play to the best known"
    text += "."
    if (successes := record.number("success_rate")) is not None:
        text += f" {100 * successes:.1f} % of the episodes are successes."
    text += _below_heuristic(record, score) + _time_to_solve(record, solved) + _better_before(record)
    if (reason := record.facts.get("stopped")) and isinstance(reason, str):
        text += f" Training ended early: {reason}."
    if record.state != FINISHED:
        text += f" {_state_text(record)}"
    if solved is None:
        return RunVerdict("Evaluated.", "none", minus(text))
    if score >= solved:
        return RunVerdict("Solved.", "good", minus(text))
    return RunVerdict("Not solved.", "open", minus(f"{text} It counts as solved at {known(solved)}."))


def _half(record: RunRecord) -> float:
    low, high = record.number("ci_low"), record.number("ci_high")
    return 0.0 if low is None or high is None or record.number("exact_mean") is not None else (high - low) / 2


def _interval(record: RunRecord, half: float) -> str:
    episodes = record.number("episodes")
    count = "" if episodes is None else f"{episodes:,.0f} held-out episodes"
    if record.number("exact_mean") is not None:
        return " (its exact mean return)"
    low, high = record.number("ci_low"), record.number("ci_high")
    if low is None or high is None or half == 0.0:
        return f" ({count})" if count else ""
    return f" (95 % interval {known(low, half)} to {known(high, half)}" + (f", {count})" if count else ")")


def _below_heuristic(record: RunRecord, score: float) -> str:
    heuristic = record.number("reference", "heuristic")
    if heuristic is None or score >= heuristic:
        return ""
    return f" A simple rule, the heuristic, scores more: {known(heuristic)}."


def _time_to_solve(record: RunRecord, solved: float | None) -> str:
    seconds = record.facts.get("solved_after_seconds")
    if solved is None or not is_moderate_number(seconds):
        return ""
    steps, scores = record.curves.points("eval/mean_reward", training_only=True)
    first = next(
        (step for step, score in zip(steps, scores, strict=True) if score is not None and score >= solved), None
    )
    when = "" if first is None else f"after {first:,} steps, "
    return f" It reached {known(solved)} while training, {when}{seconds:,.0f} s after the start."


def _better_before(record: RunRecord) -> str:
    """Says so if an evaluation while training was clearly better than the agent of the end."""
    steps, scores = record.curves.points("eval/mean_reward", training_only=True)
    best = max(((score, step) for step, score in zip(steps, scores, strict=True) if score is not None), default=None)
    low, high, score = record.number("ci_low"), record.number("ci_high"), record.score
    if best is None or low is None or high is None or score is None or best[0] <= score + 3 * (high - low):
        return ""
    return (
        f" An evaluation while training, after {best[1]:,} steps, gave more, {four_digits(best[0])}: "
        f"{record.name}:best has those weights."
    )


def _why_not_evaluated(record: RunRecord) -> str:
    if record.state == FINISHED:
        skipped = f"The final evaluation was skipped after {record.steps:,} steps"
        return f"{skipped}: {command('evaluate', record)} makes up for it."
    return _state_text(record)


def _state_text(record: RunRecord) -> str:
    total = record.settings.get("total_timesteps")
    of = f" of {total:,}" if isinstance(total, int) else ""
    if record.state == RUNNING:
        return f"The run is still training, and has taken {record.steps:,}{of} steps so far."
    if record.state == INTERRUPTED:
        resume = shlex.join(["palaestra", "train", "--resume", record.name])
        more = f" {resume} goes on." if record.folder.can_go_on() else " There is nothing to go on from."
        return f"The run was interrupted after {record.steps:,}{of} steps.{more}"
    return ""


def command(name: str, record: RunRecord, *more: str) -> str:
    """A command on the run, for a shell."""
    return shlex.join(["palaestra", name, record.name, *more])


def facts_of(record: RunRecord) -> list[tuple[str, str]]:
    """A few numbers for the top of the page."""
    found: list[tuple[str, str]] = []
    if (score := record.score) is not None:
        found.append(("score", minus(known(score, _half(record)))))
    if (share := record.number("percent_of_optimal")) is not None:
        found.append((NORMALISED, minus(f"{share:z.1f} %")))
    found.append(("steps", f"{record.steps:,}"))
    if time := spent(record):
        found.append(("wall time", time))
    if is_moderate_number(speed := record.facts.get("steps_per_second")):
        found.append(("steps per second", f"{speed:,.0f}"))
    return [*found, ("state", record.state)]


def worst_episodes(record: RunRecord) -> list[WorstEpisode]:
    """The held-out episodes with the lowest returns, each with the command that shows it again."""
    columns = record.episodes
    if not columns:
        return []
    rows = sorted(zip(columns["return"], columns["episode"], columns["length"], strict=True))
    alike = " All gave the same return." if rows[0][0] == rows[-1][0] else ""
    env = find_env(record.settings.get("env"))
    replays = env is not None and env.can_replay and record.folder.model_file.is_file()
    seed = record.number("seed") or 0
    found = []
    for value, number, length in rows[: 1 if alike else WORST]:
        steps = f"{length:,.0f} step{'s' * (length != 1)}"
        text = minus(f"Episode {number:,.0f}: return {four_digits(value)} after {steps}.{alike}")
        options = ["--env-index", f"{number:.0f}", *(["--seed", f"{seed:.0f}"] if seed else [])]
        shown = command("watch", record, *options) if replays else None
        film = command("watch", record, *options, "--record", f"episode-{number:.0f}.mp4") if replays else None
        found.append(WorstEpisode(text, shown, film))
    return found


def measured(record: RunRecord) -> list[tuple[str, str]]:
    """What else the evaluation told: numbers that the environment adds."""
    usual = {*("episodes", "seed", "mean", "std", "iqm", "ci_low", "ci_high", "percent_of_optimal", "success_rate")}
    usual |= {
        "ratio_to_optimal_percent",
        "mean_length",
        "cut_episodes",
        "cut_after",
        "success_ci_low",
        "success_ci_high",
    }
    rows = [("middle half (IQM)", "iqm"), ("deviation", "std"), ("episode length, steps", "mean_length")]
    found = [
        (name, minus(known(value, _half(record)))) for name, key in rows if (value := record.number(key)) is not None
    ]
    others = [key for key in record.evaluation if key not in usual and record.number(key) is not None]
    told = [(_label(key), minus(known(record.number(key) or 0.0)) + figure_label(key)[1]) for key in others]
    return [*found, *told]


def _label(key: str) -> str:
    """What a page calls a further figure; of a changed market there are the best known return and the share of it."""
    if market := re.fullmatch("(.+)_(optimum|ratio_percent)", key):
        told = {"optimum": "best known", "ratio_percent": "of the best known"}
        return f"{condition_name(market[1])}, {told[market[2]]}"
    return _WORDS.get(key, figure_label(key)[0])


def stress_rows(record: RunRecord) -> list[tuple[str, ...]]:
    """The stress test as a table: condition, score, interval, loss, normalised score; empty where there is none."""
    plain, stressed = record.stress.get("unchanged"), record.stress.get("stresses")
    if not isinstance(plain, dict) or not isinstance(stressed, list):
        return []
    exact = "exact_mean" in plain
    score = plain.get("exact_mean", plain.get("mean"))
    rows: list[tuple[str, ...]] = [
        ("unchanged", _number(score), _ends(plain, exact), "–", _percent(plain.get("percent_of_optimal")))
    ]
    for one in stressed:
        if isinstance(one, dict):
            loss, share = one.get("loss"), _percent(one.get("percent_of_optimal"))
            rows.append(
                (
                    condition_name(str(one.get("name"))),
                    _number(one.get("score")),
                    _ends(one, exact),
                    _number(loss),
                    share,
                )
            )
    return rows


def _number(value: Any) -> str:
    return minus(four_digits(value)) if is_moderate_number(value) else "–"


def _percent(value: Any) -> str:
    return minus(f"{value:z.1f} %") if is_moderate_number(value) else "–"


def _ends(found: dict[str, Any], exact: bool) -> str:
    low, high = found.get("ci_low"), found.get("ci_high")
    if exact or not (is_moderate_number(low) and is_moderate_number(high)):
        return "exact" if exact else "–"
    return minus(f"{four_digits(float(low or 0.0))} to {four_digits(float(high or 0.0))}")


def made_with(record: RunRecord) -> list[tuple[str, str]]:
    """Versions and machine."""
    named = [(key, record.facts.get(key)) for key in (*_VERSIONS, *_MACHINE)]
    return [(key.replace("_", " "), value_text(value)) for key, value in named if value is not None]
