"""The ``palaestra`` command. Heavy imports wait inside the commands, so that ``--help`` answers at once.

Exit status: 0 done, 1 an environment or a disk failed, 2 bad usage or bad input (each with one line on
standard error), 130 interrupted.
"""

from __future__ import annotations

import codecs
import difflib
import errno
import io
import json
import os
import re
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from palaestra.train.runs import process_time  # noqa: F401  early, for its clock starts here

# typer carries its own copy of click in some versions and not in others; its public exception leads to the right one
_ClickError: Any = next(base for base in typer.BadParameter.__mro__ if base.__name__ == "ClickException")


_BREAKDOWNS = ("EnvError", "RunFailed", "LostContactError", "ContenderError")  # these, and full disks, are no bad usage
_WRONG_PATHS = (errno.ENOENT, errno.EISDIR, errno.ENOTDIR)  # these are


class UsageError(ValueError):
    """The command line does not make sense; the message says why."""


class _Group(TyperGroup):
    """Names the closest command when one is mistyped."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and not args[0].startswith("-") and args[0] not in self.commands:
            close = difflib.get_close_matches(args[0], self.commands, 1, 0.5)
            hint = f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(self.commands)}"
            raise UsageError(f"unknown command {args[0]!r}{hint}")
        return super().resolve_command(ctx, args)


app = typer.Typer(
    cls=_Group,
    help="Train reinforcement-learning agents on thousands of parallel environments, and see how good they are.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_ENV_HELP = "Short name (snake-small), id (palaestra/Snake-v0), any Gymnasium id (CartPole-v1), or module:Id-v0."
_RUN_HELP = "Run folder, model file, or latest."
EnvOption = Annotated[str | None, typer.Option("--env", help=f"{_ENV_HELP} Needed for random and expert.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Agent setting, or env.KEY for the environment; repeatable."),
]
SeedOption = Annotated[int, typer.Option("--seed", help="Seed of the episodes; held out from training.", min=0)]
StochasticOption = Annotated[
    bool, typer.Option("--stochastic", help="Sample the agent's actions instead of taking the most likely.")
]


@app.callback(invoke_without_command=True)
def _main(show_version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if show_version:
        print(f"palaestra {version('palaestra')}")
        raise typer.Exit


@app.command()
def envs(as_json: Annotated[bool, typer.Option("--json", help="Print one JSON list.")] = False) -> None:
    """List the environments with their reference scores.

    \b
    palaestra envs
    palaestra envs --json
    """
    from palaestra.train.commands.envs import list_envs, table

    rows = list_envs()
    print(json.dumps(rows, indent=1) if as_json else table(rows))


@app.command()
def train(
    env: Annotated[str, typer.Argument(metavar="ENV", help=_ENV_HELP, show_default=False)] = "",
    agent: Annotated[str | None, typer.Option(help="ppo (the default), dqn or pqn.")] = None,
    total_timesteps: Annotated[int | None, typer.Option(help="Environment steps, over all environments.")] = None,
    num_envs: Annotated[int | None, typer.Option(help="Parallel environments.")] = None,
    device: Annotated[str | None, typer.Option(help="auto (the default), cpu or cuda.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of everything random (default: 0).", min=0)] = None,
    run_dir: Annotated[
        Path | None, typer.Option(help="Run folder to make (default: runs/ENV/AGENT/TIME-sSEED).")
    ] = None,
    track: Annotated[str, typer.Option(help="Weights & Biases: auto, online, offline or disabled.")] = "auto",
    settings: SetOption = None,
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Settings, as in a run's config.yaml; options beat them.")
    ] = None,
    init_from: Annotated[str | None, typer.Option(metavar="RUN", help="Begin with the weights of that run.")] = None,
    checkpoint_every: Annotated[
        str | None,
        typer.Option(metavar="N|Mm", help="Steps (100000) or minutes (1m, the default) between checkpoints."),
    ] = None,
    deterministic: Annotated[
        bool | None, typer.Option("--deterministic", help="The same bits every time on a GPU too, somewhat slower.")
    ] = None,
    resume: Annotated[str | None, typer.Option(metavar="RUN", help="Go on with an interrupted run.")] = None,
) -> None:
    """Train an agent with the preset of that environment, then evaluate it on held-out episodes.

    ppo takes any environment; dqn and pqn learn a value for each of a few actions, so theirs must be discrete
    (palaestra envs tells).

    \b
    palaestra train snake-small
    palaestra train snake-small --agent dqn
    palaestra train snake --total-timesteps 5000000 --seed 1
    palaestra train snake-small --set learning_rate=3e-4 --set env.size=8
    palaestra train CartPole-v1 --num-envs 16
    palaestra train --config runs/snake/ppo/20261101-120000-s0/config.yaml --seed 1
    palaestra train snake --init-from latest
    palaestra train --resume latest

    Several processes train one agent, each with its share of the environments:

    \b
    torchrun --nproc-per-node=2 -m palaestra.train train snake --num-envs 4096
    """
    from palaestra.train.commands import commands

    options = {"seed": seed, "num_envs": num_envs, "total_timesteps": total_timesteps, "device": device}
    options |= {"init_from": init_from, "checkpoint_every": checkpoint_every, "deterministic": deterministic}
    if resume is None:
        if not env and config is None:
            raise UsageError("give an environment to train on, --config FILE or --resume RUN")
        commands.train(env or None, agent, run_dir, track, config, settings=settings or (), **options)
    elif env or any(v is not None for v in (agent, run_dir, config, *options.values())) or settings:
        raise UsageError("--resume goes on with the run's own settings: of the other options only --track may be given")
    else:
        commands.resume(resume, track)


@app.command()
def evaluate(
    run: Annotated[str, typer.Argument(metavar="RUN", help=f"{_RUN_HELP} Or random, or expert.")],
    env: EnvOption = None,
    episodes: Annotated[int, typer.Option(help="How many.", min=1)] = 1000,
    seed: SeedOption = 0,
    stochastic: StochasticOption = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    settings: SetOption = None,
) -> None:
    """Measure a trained agent, the random policy or the environment's expert on held-out episodes.

    \b
    palaestra evaluate latest
    palaestra evaluate expert --env snake-small
    palaestra evaluate random --env snake --episodes 10000 --json
    """
    from palaestra.train.commands import commands

    commands.evaluate(run, env, episodes, seed, stochastic, as_json, settings or ())


@app.command()
def watch(
    run: Annotated[str, typer.Argument(metavar="RUN", help=f"{_RUN_HELP} Or random, or expert.")],
    env: EnvOption = None,
    record: Annotated[Path | None, typer.Option(metavar="FILE", help="Write an .mp4, .gif or .png instead.")] = None,
    grid: Annotated[str, typer.Option(metavar="RxC", help="Rows and columns of environments.")] = "1x1",
    episodes: Annotated[int | None, typer.Option(help="How many episodes.", min=1)] = None,
    seed: SeedOption = 0,
    env_index: Annotated[int | None, typer.Option(help="Show that environment of the seed.", min=0)] = None,
    episode: Annotated[int | None, typer.Option(help="Show that episode of the environment.", min=0)] = None,
    training: Annotated[
        bool, typer.Option("--training", help="Episodes of training, with the run's own seed, not held-out ones.")
    ] = False,
    stochastic: StochasticOption = False,
    settings: SetOption = None,
) -> None:
    """Show episodes in a window, or record them to a file.

    \b
    palaestra watch latest
    palaestra watch latest --record snake.mp4
    palaestra watch expert --env snake --grid 4x4 --record grid.png
    palaestra watch latest --training --env-index 17 --episode 3
    """
    from palaestra.train.commands import commands

    size = re.fullmatch(r"([1-9]\d?)x([1-9]\d?)", grid)
    if not size:
        raise UsageError(f"--grid {grid}: expected rows x columns, like 4x4")
    shape = int(size[1]), int(size[2])
    commands.watch(run, env, record, shape, episodes, seed, env_index, episode, training, stochastic, settings or ())


@app.command()
def play(
    env: Annotated[str, typer.Argument(metavar="ENV", help=_ENV_HELP)],
    versus: Annotated[
        str | None, typer.Option(metavar="RUN", help="Who plays the same episodes beside you: a run, latest or expert.")
    ] = None,
    seed: SeedOption = 0,
    settings: SetOption = None,
) -> None:
    """Play with the keyboard, alone or beside an agent, and see what the best score is.

    \b
    palaestra play snake-small
    palaestra play cartpole --seed 1
    palaestra play snake-small --versus latest
    palaestra play pricing --versus expert
    """
    from palaestra.train.play import game as playing

    playing.command(env, versus, seed, settings or ())


@app.command()
def check(
    env: Annotated[str, typer.Argument(metavar="ENV", help=_ENV_HELP)],
    settings: SetOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Check that an environment keeps the rules that agents rely on; each rule that it breaks says what to change.

    The exit status is 1 if a rule is broken.

    \b
    palaestra check snake
    palaestra check my_env.py:MyEnv
    palaestra check CartPole-v1 --json
    """
    from palaestra.train.commands import check as checking

    if not checking.check(env, settings or (), as_json):
        raise typer.Exit(1)


@app.command()
def bench(
    env: Annotated[str, typer.Argument(metavar="[ENV]", help=_ENV_HELP)] = "cartpole",
    agent: Annotated[str, typer.Option(help="ppo, dqn or pqn.")] = "ppo",
    repeats: Annotated[int, typer.Option(help="Measurements of each, in turns; the median counts.", min=1)] = 3,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    scaling: Annotated[
        bool, typer.Option("--scaling", help="Instead: 1 to 65,536 environments, wider networks, one thread and all.")
    ] = False,
    solve: Annotated[
        bool, typer.Option("--solve", help="Instead: seconds from the start of a process until it is solved.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
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
    """
    from palaestra.train.commands import commands

    if scaling and solve:
        raise UsageError("--scaling and --solve are two benchmarks: give one of them")
    what = "scaling" if scaling else "solving" if solve else "throughput"
    commands.bench(env, agent, repeats, device, what, as_json)


@app.command()
def results(
    envs: Annotated[list[str] | None, typer.Argument(metavar="ENV...", help=f"{_ENV_HELP} All by default.")] = None,
    agents: Annotated[str, typer.Option(metavar="A,B,…", help="Which agents, with commas.")] = "ppo,dqn,pqn",
    seeds: Annotated[int, typer.Option(help="How many: 0, 1, …", min=1)] = 3,
    runs: Annotated[Path, typer.Option(metavar="DIR", help="Holds the runs: DIR/ENV/AGENT/sSEED.")] = Path(
        "runs/results"
    ),
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON list with all numbers.")] = False,
    readme: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Put the table between the results:begin and results:end markers of FILE."),
    ] = None,
    jobs: Annotated[int, typer.Option(help="Runs at a time, which share the cores.", min=1)] = 1,
    fresh: Annotated[bool, typer.Option("--fresh", help="Run everything again.")] = False,
) -> None:
    """Train every environment with every agent that has a preset for it, and print the table of results.

    Every run is a process of its own, one after another unless --jobs says otherwise; the whole grid takes hours.
    Finished runs with the same settings are kept, so an interrupted grid goes on where it was. The exit status is 1 if
    a run failed.

    \b
    palaestra results cartpole
    palaestra results snake-small pricing --agents ppo,dqn --seeds 1
    palaestra results --jobs 2 --readme README.md
    """
    from palaestra.train.commands import commands

    if not commands.results(envs or (), agents.split(","), seeds, runs, jobs, as_json, readme, fresh):
        raise typer.Exit(1)


@app.command()
def sweep(
    env: Annotated[str, typer.Argument(metavar="ENV", help=_ENV_HELP)],
    trials: Annotated[int, typer.Option(help="How many in all, those of other workers and earlier calls too.", min=1)],
    agent: Annotated[str | None, typer.Option(help="ppo (the default), dqn or pqn.")] = None,
    total_timesteps: Annotated[int | None, typer.Option(help="Environment steps of each trial.")] = None,
    num_envs: Annotated[int | None, typer.Option(help="Parallel environments.")] = None,
    jobs: Annotated[int, typer.Option(help="Trials at a time, which share the cores.", min=1)] = 1,
    seed: Annotated[int, typer.Option(help="Of everything random; each trial trains with its own.", min=0)] = 0,
    folder: Annotated[
        Path | None, typer.Option("--dir", metavar="DIR", help="Of the sweep (default: runs/ENV/sweeps/AGENT).")
    ] = None,
    storage: Annotated[
        str | None, typer.Option(metavar="URL", help="Database that workers share (default: SQLite in the folder).")
    ] = None,
    settings: SetOption = None,
    vary: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=…", help="Vary only these: KEY=LOW..HIGH or KEY=A,B,C; repeatable."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object with all numbers.")] = False,
) -> None:
    """Search for better settings than the preset's, and find out whether they are better (needs palaestra[sweep]).

    The same command goes on with a sweep, and helps with it: start it in several terminals, or on several machines with
    one --storage. The exit status is 1 if no trial was any good.

    \b
    palaestra sweep cartpole --trials 40 --total-timesteps 300000
    palaestra sweep snake-small --trials 20 --vary learning_rate=1e-4..1e-2 --vary n_steps=16,32,64
    palaestra sweep pricing --trials 100 --jobs 4 --storage postgresql://user@host/sweeps
    """
    from palaestra.train.sweep import search as sweeping

    options = {"total_timesteps": total_timesteps, "num_envs": num_envs, "seed": seed}
    space = sweeping.plan(env, agent, settings or (), vary or (), **options)
    if not sweeping.sweep(space, trials, jobs, folder, storage, as_json):
        raise typer.Exit(1)


@app.command()
def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of the package and the environment.")],
    template: Annotated[str, typer.Option(help="What to start from: minimal, grid or continuous.")] = "minimal",
    parent: Annotated[Path, typer.Option("--dir", metavar="PARENT", help="The folder to write it in.")] = Path("."),
) -> None:
    """Write an installable package with a new environment, to be changed into your own.

    minimal is the shortest one; grid has walls, an action mask and an exact optimum; continuous has forces to choose.

    \b
    palaestra new my_env
    palaestra new my_env --template grid
    palaestra new ad-bidding --dir ~/projects
    """
    from palaestra.train.scaffold.scaffold import new_package, next_commands

    folder = new_package(name, template, parent.expanduser())
    print(f"wrote {folder}: the environment is in {folder / folder.name / 'env.py'}. Next:\n")
    print("\n".join(f"  {command}" for command in next_commands(folder.name, template, str(folder))))


@app.command("fit-demand")
def fit_demand(
    sales: Annotated[Path, typer.Argument(metavar="SALES.csv", help="Sales per period, or choices of buyers.")],
    out: Annotated[Path, typer.Option(help="The file to write; it must not be there yet.")] = Path("demand.json"),
    buyers: Annotated[
        float | None, typer.Option(help="Buyers per period, for choices (default: occasions per date).")
    ] = None,
) -> None:
    """Estimate how demand answers to prices from your own sales, to train a seller on it.

    The CSV has the columns date, product, price, units [, visitors, unit_cost, stock, competitor_price],
    or occasion_id, alternative, chosen, price [, feature, display, available, household_id, date, unit_cost].

    \b
    palaestra fit-demand sales.csv --out demand.json
    palaestra train pricing --set env.demand=demand.json
    """
    from palaestra.envs.pricing.demand import fit as fitting

    if buyers is not None and not 0.0 < buyers < 1e6:
        raise UsageError(f"--buyers {buyers}: must be above 0")
    fitting.fit_demand(sales, out, buyers)


def main() -> None:
    """Entry point of the console script."""
    codecs.register_error("palaestra", _in_this_locale)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="palaestra")
    sys.path.append(os.getcwd())  # so that module:Id-v0 finds a module in the current folder
    command = typer.main.get_command(app)
    try:
        status = command.main(prog_name="palaestra", standalone_mode=False)
    except _ClickError as error:
        status = _fail(_usage_text(error))
    except (typer.Abort, KeyboardInterrupt):
        status = 130
    except BrokenPipeError:  # the reader (head, less) has gone
        sys.stderr.close()
        status = 1
    except Exception as error:
        if not _is_for_users(error):
            raise
        of_disk = isinstance(error, OSError) and error.errno not in _WRONG_PATHS
        failed = type(error).__name__ in _BREAKDOWNS or of_disk
        status = _fail(" ".join(str(error).split()), 1 if failed else 2)
    sys.exit(status if isinstance(status, int) else 0)


def _in_this_locale(error: UnicodeError) -> tuple[bytes, int]:
    """What stands for signs that the locale lacks; bytes of paths that it cannot read are given back as they were."""
    assert isinstance(error, UnicodeEncodeError)
    codes = [ord(sign) for sign in error.object[error.start : error.end]]
    return bytes(code - 0xDC00 if 0xDC80 <= code <= 0xDCFF else ord("?") for code in codes), error.end


def _usage_text(error: Any) -> str:
    """Click's message on one line, with the closest option where one was mistyped."""
    if getattr(error, "possibilities", None):
        return f"no such option: {error.option_name}; did you mean {error.possibilities[0]}?"
    return " ".join(error.format_message().split()).removesuffix(".")


def _fail(text: str, status: int = 2) -> int:
    print(f"palaestra: error: {text}", file=sys.stderr)
    return status


def _is_for_users(error: Exception) -> bool:
    """Errors whose text is written for the user; anything else is a fault of ours and keeps its traceback."""
    return type(error).__module__.startswith(("palaestra.", "gymnasium.error")) or isinstance(error, OSError)


if __name__ == "__main__":
    main()
