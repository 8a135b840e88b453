"""``palaestra bench``: speed on this machine, beside other libraries."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from palaestra.train.commands import ENV_HELP, UsageError, read_count

OVERVIEW = "bench"  # the name of its section in a document
LEAST = 60  # s of an overview, in which little can be measured as it is


def bench(
    env: Annotated[str, typer.Argument(metavar="ENV", help=ENV_HELP, show_default=False)] = "",
    agent: Annotated[str | None, typer.Option(metavar="NAME", help="ppo by default; palaestra envs lists all.")] = None,
    repeats: Annotated[
        int, typer.Option(parser=read_count, metavar="N", help="Measurements of each, in turns; the median counts.")
    ] = 3,
    device: Annotated[str, typer.Option(metavar="NAME", help="auto, cpu or cuda.")] = "auto",
    scaling: Annotated[
        bool, typer.Option("--scaling", help="Instead: 1 to 65,536 environments, wider networks, one thread and all.")
    ] = False,
    solve: Annotated[
        bool, typer.Option("--solve", help="Instead: seconds from the start of a process until it is solved.")
    ] = False,
    seconds: Annotated[
        int | None, typer.Option(parser=read_count, metavar="N", help="Of the overview, in all (default: 220).")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    readme: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Put it in FILE, between the lines that the error names.")
    ] = None,
) -> None:
    """Measure speed on this machine, beside Stable-Baselines3 and others on the same work, in one run.

    Without an environment: an overview in under four minutes. PPO on CartPole beside rsl_rl, skrl and sbx, with the
    memory of each; environments alone, beside Gymnasium's and gymnax's batches; training with presets; runs beside a
    busy program, and two side by side.

    \b
    palaestra bench
    palaestra bench --device cuda
    palaestra bench --readme train/RESULTS.md

    With one: that environment alone, collection, update, both, memory, and what bounds each of them. Others are
    measured where they are installed (palaestra[bench]). Each of these takes less than five minutes on two cores.

    \b
    palaestra bench snake --agent dqn
    palaestra bench reach --scaling
    palaestra bench cartpole --solve
    """
    from palaestra.train.config import DEFAULT_AGENT, require_agent
    from palaestra.train.config.compatibility import check_device

    if scaling and solve:
        raise UsageError("--scaling and --solve are two benchmarks: give one of them")
    check_device(device)
    require_agent(agent or DEFAULT_AGENT)
    if env or agent or scaling or solve:
        if seconds is not None:
            raise UsageError(
                "--seconds is for the overview, palaestra bench without ENV, --agent, --scaling and --solve"
            )
        kind = "scaling" if scaling else "solve" if solve else ""
        result, table = _of_one(env or "cartpole", agent or DEFAULT_AGENT, kind, repeats, device, readme)
    else:
        if seconds is not None and seconds < LEAST:
            raise UsageError(f"--seconds {seconds}: the overview needs {LEAST} at least")
        result, table = _overview(repeats, device, seconds, readme)
    if as_json or readme is None:
        print(json.dumps(result, indent=1) if as_json else table(result))


def _overview(
    repeats: int, device: str, seconds: int | None, readme: Path | None
) -> tuple[dict[str, Any], Callable[[dict[str, Any]], str]]:
    """Everything that is measured of this machine, and what shows it."""
    from palaestra.train.bench.overview import all_figures, overview_table
    from palaestra.train.bench.overview.processor_table import read_table, write_column
    from palaestra.train.runs.machine import process_seconds

    if readme is not None:
        read_table(readme, OVERVIEW)  # find out now, not after minutes
    result = all_figures.measure_overview(repeats, device, seconds or all_figures.SECONDS, process_seconds())
    if readme is not None:
        command = f"palaestra bench --repeats {repeats} --device {device}" + (
            f" --seconds {seconds}" if seconds else ""
        )
        source = overview_table.source(result, command)
        write_column(readme, OVERVIEW, result["processor"], overview_table.cells(result), source)
    return result, overview_table.overview_table


def _of_one(
    env: str, agent: str, kind: str, repeats: int, device: str, readme: Path | None
) -> tuple[dict[str, Any], Callable[[dict[str, Any]], str]]:
    """A benchmark of one environment and agent, and what shows it."""
    from palaestra.train.bench import bench_tables, throughput, time_to_solve
    from palaestra.train.bench import scaling as scales
    from palaestra.train.markdown import with_section, write_section

    section = bench_tables.section_name(env, agent, device, kind)
    if readme is not None:
        with_section(readme, section, "")  # find out now, not after minutes
    table: Callable[[dict[str, Any]], str]
    if kind == "scaling":
        result, table = scales.measure_scaling(env, agent, repeats, device), scales.scaling_table
    elif kind == "solve":
        result, table = time_to_solve.measure_solving(env, agent, device), time_to_solve.solving_table
    else:
        result, table = throughput.measure(env, agent, repeats, device), bench_tables.throughput_table
    if readme is not None:
        command = f"palaestra bench {env} --agent {agent} --repeats {repeats} --device {device}"
        text = bench_tables.section_text(f"{command} --{kind}" if kind else command, table(result))
        write_section(readme, section, text)
    return result, table
