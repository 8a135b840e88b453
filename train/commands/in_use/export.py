"""``palaestra export``: a trained agent as a file that other programs run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from palaestra.train.commands import RUN_HELP, EnvOption, SetOption, UsageError
from palaestra.train.commands.evaluate import EXPORTED, SCRIPTED, find_player

if TYPE_CHECKING:
    from palaestra.train.export.write import Exported


def export(
    run: Annotated[str, typer.Argument(metavar="RUN", help=RUN_HELP)],
    form: Annotated[
        str,
        typer.Option(
            "--format",
            help="ONNX, a program of torch.export, a zip file that Stable-Baselines3 opens by itself, or a page that "
            "plays in a browser.",
            metavar="onnx|torch|sb3|web",
        ),
    ] = "onnx",
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Where; ENV-AGENT.onnx if left out.")] = None,
    best: Annotated[bool, typer.Option("--best", help="The weights of the best evaluation, as RUN:best.")] = False,
    stochastic: Annotated[
        bool,
        typer.Option("--stochastic", help="With outputs from which actions can be sampled: log-probabilities, ..."),
    ] = False,
    env: EnvOption = None,
    settings: SetOption = None,
) -> None:
    """Write an agent as one file, from raw observations to actions, for programs without palaestra.

    The file is run beside the agent on 10,000 states before it is written, and says what every number in it means; the
    same stands beside it as NAME.json.

    \b
    palaestra export latest
    palaestra export latest:pricing --best --out prices.onnx
    palaestra evaluate prices.onnx
    palaestra export latest:snake-small --format web
    """
    from palaestra.envs.registry import resolve
    from palaestra.train.config.schema import require_choice
    from palaestra.train.export.write import SUFFIXES
    from palaestra.train.export.write import export as write
    from palaestra.train.runs.run_folder import RunFolder

    require_choice(form, SUFFIXES, "--format")
    if run in SCRIPTED:
        raise UsageError(f"{run} is no trained agent: name a run")
    if run.endswith(EXPORTED) and Path(run).is_file():
        raise UsageError(f"{run} is exported already: name the run that it comes from")
    name = f"{run}:best" if best and not run.endswith(":best") else run
    player = find_player(name, env, False, settings or ())
    suffix = SUFFIXES[form]
    path = (
        out if out is not None else Path(f"{resolve(player.env).short_name.rpartition('/')[2]}-{player.label}{suffix}")
    )
    if path.suffix != suffix:
        raise UsageError(f"--out {path}: a file of --format {form} is called NAME{suffix}")
    if out is None and (taken := next((p for p in (path, path.with_suffix(".json")) if p.exists()), None)):
        raise UsageError(f"{taken} exists already: give --out FILE, which may be the same if it is a policy")
    exported = write(player, RunFolder(Path(player.policy.name).parent), path, form, stochastic)
    print(_said(exported))


def _said(exported: Exported) -> str:
    from palaestra.train.formatting import two_digits

    size = two_digits(exported.path.stat().st_size)
    ends = (", ".join(end["name"] for end in exported.contract[what]) for what in ("inputs", "outputs"))
    lines = [f"{exported.path}: {size}B, confirmed: {exported.confirmation}"]
    lines += [f"  {what:<9}{names}" for what, names in zip(("from", "to"), ends, strict=True)]
    return "\n".join([*lines, f"  contract {exported.contract_file}"])
