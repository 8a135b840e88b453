"""``palaestra bench``: speed on this machine, beside other libraries."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from palaestra.train.commands import ENV_HELP, UsageError, read_count


def bench(
    env: Annotated[str, typer.Argument(metavar="[ENV]", help=ENV_HELP)] = "cartpole",
    agent: Annotated[str, typer.Option(metavar="NAME", help="ppo, dqn or pqn.")] = "ppo",
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
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    readme: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Put it in FILE, between the lines that the error names.")
    ] = None,
) -> None:
    """Measure speed on this machine, beside Stable-Baselines3 and others on the same work, in one run.

    Environments alone, collection, update, both, and memory; what bounds each of them; and, for PPO on CartPole, the
    same beside rsl_rl, skrl, sbx and gymnax where they are installed (palaestra[bench]). Each of the three takes less
    than five minutes on two cores.

    \b
    palaestra bench
    palaestra bench snake --agent dqn
    palaestra bench --device cuda
    palaestra bench reach --scaling
    palaestra bench cartpole --solve
    palaestra bench cartpole --readme train/RESULTS.md
    """
    from palaestra.train.bench import bench_tables, throughput, time_to_solve
    from palaestra.train.bench import scaling as scales
    from palaestra.train.config.compatibility import AGENTS, check_device
    from palaestra.train.config.schema import require_choice
    from palaestra.train.markdown import with_section, write_section

    if scaling and solve:
        raise UsageError("--scaling and --solve are two benchmarks: give one of them")
    check_device(device)
    require_choice(agent, AGENTS, "agent")
    kind = "scaling" if scaling else "solve" if solve else ""
    section = bench_tables.section_name(env, agent, device, kind)
    if readme is not None:
        with_section(readme, section, "")  # find out now, not after minutes
    if scaling:
        result, table = scales.measure_scaling(env, agent, repeats, device), scales.scaling_table
    elif solve:
        result, table = time_to_solve.measure_solving(env, agent, device), time_to_solve.solving_table
    else:
        result, table = throughput.measure(env, agent, repeats, device), bench_tables.throughput_table
    if readme is not None:
        command = f"palaestra bench {env} --agent {agent} --repeats {repeats} --device {device}"
        text = bench_tables.section_text(f"{command} --{kind}" if kind else command, table(result))
        write_section(readme, section, text)
    if as_json or readme is None:
        print(json.dumps(result, indent=1) if as_json else table(result))
