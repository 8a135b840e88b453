"""``palaestra envs``: the table of environments."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from palaestra.train.commands import ENV_HELP, UsageError
from palaestra.train.formatting import SCORES, fitted, two_digits, wrapped

if TYPE_CHECKING:
    from palaestra.envs.specs import TensorEnvSpec

_MOST_ACTIONS = 40  # that are listed


def envs(
    name: Annotated[str, typer.Argument(metavar="[ENV]", help=f"{ENV_HELP} Tells all about that one.")] = "",
    everything: Annotated[
        bool, typer.Option("--all", help="With ENV: its whole card, and every --set key with type, range and default.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON: a list, or one object with ENV.")] = False,
) -> None:
    """List the environments with their reference scores, or tell what one is and how to train on it.

    \b
    palaestra envs
    palaestra envs snake
    palaestra envs snake --all
    palaestra envs --json
    """
    width = max(shutil.get_terminal_size((200, 24)).columns, 20)
    if not name:
        if everything:
            raise UsageError("--all tells everything about one environment: palaestra envs ENV --all")
        rows = list_envs()
        print(json.dumps(rows, indent=1) if as_json else envs_table(rows, width))
        return
    from palaestra.train.config import check_env

    check_env(name)
    from palaestra.train.config.description import describe_env
    from palaestra.train.config.run_config import environment

    found = describe_env(environment(name))
    print(json.dumps(found, indent=1) if as_json else env_page(found, min(width, 100), everything))


def list_envs() -> list[dict[str, Any]]:
    """One row per environment, as plain data; one that failed to import or to be made has its error instead."""
    from palaestra.envs.core.user_code import RAISED
    from palaestra.envs.registry import entries, plugin_errors
    from palaestra.train.config import agent_errors

    rows: list[dict[str, Any]] = []
    for entry in entries():
        try:
            rows.append(_row(entry))
        except RAISED as error:  # the others are listed
            rows.append({"name": entry.short_name, "error": f"{type(error).__name__}: {error}"})
    rows += [{"name": name, "error": error} for name, error in (plugin_errors() | agent_errors()).items()]
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
    from palaestra.train.config import AGENTS
    from palaestra.train.config.compatibility import can_act, spaces_of
    from palaestra.train.config.presets import preset

    return [agent for agent in AGENTS if can_act(agent, spaces_of(entry, preset(entry, agent).env_kwargs)[1])]


def envs_table(rows: list[dict[str, Any]], width: int) -> str:
    """The rows for people to read, what the environments are below the figures where the lines are too short."""
    heads = ("name", "agents", *SCORES.values(), "what it is")
    lines = [heads]
    for row in rows:
        if "error" in row:
            lines.append((row["name"], "", "", "", "", "", f"failed: {' '.join(row['error'].split())}"))
            continue
        figures = (_figure(row[key]) for key in SCORES)
        lines.append((row["name"], " ".join(row["agents"]), *figures, row["summary"]))
    widths = [max(len(line[i]) for line in lines) for i in range(len(heads))]
    if width >= sum(widths) + 12:
        return "\n".join(_aligned(line, widths) for line in lines)
    if width >= sum(widths[:6]) + 10:
        pairs = ((_aligned(line[:6], widths), wrapped(line[6], width, "    ")) for line in lines[1:])
        return "\n".join([_aligned(heads[:6], widths), *(part for pair in pairs for part in pair)])
    listed: list[str] = []
    for name, agents, *scores, summary in lines[1:]:
        known = (f"{head} {figure}" for head, figure in zip(heads[2:6], scores, strict=True) if figure.strip("–"))
        listed += [name, *(wrapped(part, width, "  ") for part in (summary, agents, ", ".join(known)) if part)]
    return "\n".join(listed)


def _aligned(line: Sequence[str], widths: Sequence[int]) -> str:
    cells = (c.rjust(w) if 2 <= i <= 5 else c.ljust(w) for i, (c, w) in enumerate(zip(line, widths, strict=False)))
    return "  ".join(cells).rstrip()


def env_page(found: dict[str, Any], width: int, everything: bool = False) -> str:
    """One environment for people to read: what fits a screen of 24 lines, or everything."""
    reference = found["reference"]
    limit = "none" if found["max_episode_steps"] is None else f"{found['max_episode_steps']:,} steps"
    facts = {"observations": found["observations"], "actions": found["actions"], "time limit": limit}
    if found["decided_by"]:
        facts["decided by"] = found["decided_by"]
    known = {word: _figure(reference[name]) for name, word in SCORES.items() if reference[name] is not None}
    if known:
        facts["returns"] = ", ".join(f"{word} {figure}" for word, figure in known.items())
    if reference["source"]:
        facts["source"] = reference["source"]
    title = found["name"] if found["name"] == found["id"] else f"{found['name']} ({found['id']})"
    text = [wrapped(title, width, ""), ""]
    card = found["card"] if everything else found["card"].partition("\n\n")[0]
    for line in card.splitlines():
        indent = len(line) - len(line.lstrip())
        text += [wrapped(line.strip(), width, " " * indent)]
    text += ["", *_table(list(facts.items()), width), "", *_training(found, width)]
    return "\n".join([*text, *((*_numbers(found, width), *_all_settings(found, width)) if everything else ())])


def _training(found: dict[str, Any], width: int) -> list[str]:
    """How to train on it, and the names of its settings."""
    from palaestra.train.config import DEFAULT_AGENT

    name, lines, others = found["name"], [], []
    for agent, told in found["agents"].items():
        preset = told["preset"]
        steps = f"{two_digits(preset['total_timesteps'])} steps"
        if agent == DEFAULT_AGENT:
            lines.append((f"palaestra train {name}", f"{steps}, {preset['num_envs']:,} environments"))
        else:
            others.append(f"{agent} ({steps})")
    table = [*_table(lines, width), *([wrapped(f"--agent {', '.join(others)}", width, "    ")] if others else [])]
    keys = ", ".join(row["key"].removeprefix("env.") for row in found["env_settings"])
    settings = [wrapped(f"--set env.KEY=VALUE: {keys}", width, "")] if keys else []
    more = f"palaestra envs {name} --all"
    return [*table, "", *settings, fitted(f"the rules and every setting: {more}", width)]


def _numbers(found: dict[str, Any], width: int) -> list[str]:
    """The meaning of each number x that goes in and out, as far as the environment says it."""
    interface, text = found["interface"], []
    rate = interface.get("steps_per_second")
    for part, often in (("observations", ""), ("actions", f", {rate:g} times a second" if rate else "")):
        rows = interface.get(part)
        if rows:
            heads = ("x", f"{part.removesuffix('s')}{often}", "value", "meaning")
            text += ["", *_table([heads, *map(_number_row, rows)], width)]
    if names := interface.get("discrete_actions"):
        told = names if len(names) <= _MOST_ACTIONS else [*names[: _MOST_ACTIONS - 2], "...", names[-1]]
        listed = ", ".join(name if name == "..." else f"{names.index(name)} {name}" for name in told)
        text += ["", wrapped(f"actions: {listed}", width, "")]
    return text


def _number_row(row: dict[str, Any]) -> tuple[str, ...]:
    """Its place, name, value and meaning."""
    first, last = row["first"], row["first"] + row["count"] - 1
    scaled = "x" if row["scale"] == 1.0 else f"{row['scale']:.4g} x"
    value = f"{row['offset']:.4g} + {scaled}" if row["offset"] else scaled
    place = f"{first}" if first == last else f"{first}-{last}"
    return place, row["name"], f"{value} {row['unit']}".strip(), row["meaning"]


def _all_settings(found: dict[str, Any], width: int) -> list[str]:
    text: list[str] = []
    rows = [("--set", "type", "default"), *((r["key"], r["type"], r["default"]) for r in found["env_settings"])]
    if len(rows) > 1:
        text += ["", "environment", *_table(rows, width)]
    for name, agent in found["agents"].items():
        text += ["", wrapped(_preset_line(name, agent["preset"]), width, "")]
        heads = ("--set", "type and range", "in the preset")
        text += _table([heads, *map(_setting_row, agent["settings"])], width)
    return text


def _setting_row(setting: dict[str, str]) -> tuple[str, str, str]:
    default, preset = setting["default"], setting["preset"]
    value = f"{preset} (default {default})" if preset and default not in ("", preset) else preset or default
    return setting["key"], setting["type"], value


def _preset_line(agent: str, preset: dict[str, Any]) -> str:
    whose = "a preset of its own" if preset["of_its_own"] else "the preset for all of its kind"
    with_ = "".join(f", env.{key}={value}" for key, value in preset["env_kwargs"].items())
    return f"{agent}: {whose}, --num-envs {preset['num_envs']} --total-timesteps {preset['total_timesteps']}{with_}"


def _table(rows: Sequence[Sequence[str]], width: int) -> list[str]:
    """Rows with their last cell wrapped in its column, or each row in lines of its own where that is too narrow."""
    widths = [max(len(row[i]) for row in rows) + 2 for i in range(len(rows[0]) - 1)]
    indent = 2 + sum(widths)
    if width - indent < 20:
        return [wrapped("  ".join(cell for cell in row if cell), width, "  ") for row in rows]
    lines = []
    for row in rows:
        start = "  " + "".join(cell.ljust(w) for cell, w in zip(row, widths, strict=False))
        if indent + max(map(len, row[-1].split()), default=0) > width:  # below, since words stay whole
            lines += [start.rstrip(), wrapped(row[-1], width, " " * 6)]
        else:
            lines.append((start + wrapped(row[-1], width, " " * indent).strip()).rstrip())
    return lines


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"
