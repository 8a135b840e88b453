"""``palaestra envs``: the table of environments."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from palaestra.envs.specs import TensorEnvSpec


def envs(as_json: Annotated[bool, typer.Option("--json", help="Print one JSON list.")] = False) -> None:
    """List the environments with their reference scores.

    \b
    palaestra envs
    palaestra envs --json
    """
    rows = list_envs()
    print(json.dumps(rows, indent=1) if as_json else envs_table(rows))


def list_envs() -> list[dict[str, Any]]:
    """One row per environment, as plain data; one that failed to import or to be made has its error instead."""
    from palaestra.envs.core.user_code import RAISED
    from palaestra.envs.registry import entries, plugin_errors

    rows: list[dict[str, Any]] = []
    for entry in entries():
        try:
            rows.append(_row(entry))
        except RAISED as error:  # the others are listed
            rows.append({"name": entry.short_name, "error": f"{type(error).__name__}: {error}"})
    rows += [{"name": name, "error": error} for name, error in plugin_errors().items()]
    return rows


def _row(entry: TensorEnvSpec) -> dict[str, Any]:
    from gymnasium import spaces

    env = entry.build()
    reference = env.reference
    discrete = isinstance(env.action_space, spaces.Discrete)
    return {
        "name": entry.short_name,
        "id": entry.id,
        "summary": entry.summary,
        "agents": agents_for(entry),
        "actions": f"{env.action_space.n} discrete" if discrete else str(env.action_space.shape),  # type: ignore[attr-defined]
        "solved_at": reference.solved_at,
        "random": reference.random,
        "heuristic": reference.heuristic,
        "optimum": reference.optimum,
        "expert": env.has("expert"),
    }


def agents_for(entry: TensorEnvSpec) -> list[str]:
    """The agents that can train it, with the environment's arguments from their presets."""
    from palaestra.train.config.compatibility import AGENTS, can_act, spaces_of
    from palaestra.train.config.presets import preset

    return [agent for agent in AGENTS if can_act(agent, spaces_of(entry, preset(entry, agent).env_kwargs)[1])]


def envs_table(rows: list[dict[str, Any]]) -> str:
    """The rows for people to read."""
    heads = ("name", "agents", "random", "heuristic", "optimum", "solved at", "what it is")
    lines = [heads]
    for row in rows:
        if "error" in row:
            lines.append((row["name"], "", "", "", "", "", f"failed: {' '.join(row['error'].split())}"))
            continue
        figures = (_figure(row[key]) for key in ("random", "heuristic", "optimum", "solved_at"))
        lines.append((row["name"], " ".join(row["agents"]), *figures, row["summary"]))
    widths = [max(len(line[i]) for line in lines) for i in range(len(heads))]
    text = []
    for line in lines:
        cells = [
            cell.rjust(w) if 2 <= i <= 5 else cell.ljust(w)
            for i, (cell, w) in enumerate(zip(line, widths, strict=True))
        ]
        text.append("  ".join(cells).rstrip())
    return "\n".join(text)


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"
