"""``palaestra card``: the model card of a run, and sending it to a model hub."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from palaestra.train.commands import UsageError, read_number
from palaestra.train.commands.evaluate import SCRIPTED, find_player

if TYPE_CHECKING:
    from palaestra.train.runs.run_folder import RunFolder


def card(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Run folder, latest, or latest:ENV.")],
    out: Annotated[
        Path | None, typer.Option(metavar="FILE.md", help="Where; README.md in the run folder if left out.")
    ] = None,
    stress: Annotated[
        bool, typer.Option("--stress", help="Test it in changed conditions first, and keep that as RUN/stress.json.")
    ] = False,
    watts_per_core: Annotated[float, typer.Option(parser=read_number, metavar="W", help="Of a core at work.")] = 12.0,
    gpu_watts: Annotated[
        float | None, typer.Option(parser=read_number, metavar="W", help="Of a GPU at work, which is else left out.")
    ] = None,
    grams_per_kwh: Annotated[
        float, typer.Option(parser=read_number, metavar="G", help="CO₂ equivalents of your electricity.")
    ] = 473.0,
    push: Annotated[
        str | None,
        typer.Option(metavar="REPO", help="Send card, model, config.yaml and the run's numbers to that repository."),
    ] = None,
) -> None:
    """Write a model card: task, scores, cost and limits of an agent, in Markdown as Hugging Face reads it.

    Everything in it is taken from the run folder. Only --push sends anything: to a repository of huggingface.co (or
    HF_ENDPOINT), a private one if it is not there yet, with the token in HF_TOKEN.

    \b
    palaestra card latest
    palaestra card latest --stress --out card.md
    palaestra card latest --grams-per-kwh 56
    """
    from palaestra.envs.core.atomic_write import write_whole
    from palaestra.train.results.cost import EnergyFactors
    from palaestra.train.results.hub import ModelHub
    from palaestra.train.results.model_card import model_card

    folder, factors = _folder(run), EnergyFactors(watts_per_core, grams_per_kwh, gpu_watts)
    path = folder.card_file if out is None else out
    as_it_is = push is not None and out is None and not stress and path.is_file()
    if not as_it_is:
        _check_place(path, out is not None)
    hub = None if push is None else ModelHub(push)
    if stress:
        _test_in_changed_conditions(folder)
    if as_it_is:
        text = path.read_text(encoding="utf-8")
        print(f"{path} is there already, and is sent as it is")
    else:
        write_whole(path, text := model_card(folder, factors))
        print(f"{path}: the card of {folder.path}")
    if hub is not None:
        address, files = hub.send(folder, text)
        print(f"{address}: {', '.join(files)}")


def _folder(run: str) -> RunFolder:
    """The run's folder: a card is of the newest weights, which the final evaluation has measured."""
    from palaestra.train.runs.finding import find_run

    if run in SCRIPTED:
        raise UsageError(f"{run} is no trained agent: name a run")
    if run.endswith(":best"):
        raise UsageError(f"{run}: a card is of a run's final weights, which its final evaluation has measured")
    folder = find_run(run)
    if not folder.path.is_dir():
        raise UsageError(f"no run folder {run!r}: name one, latest or latest:ENV, whose final weights a card is of")
    return folder


def _check_place(path: Path, chosen: bool) -> None:
    """Refuse to replace what may be somebody's own work: only a card that --out names is replaced."""
    from palaestra.train.results.model_card import is_card

    if path.suffix != ".md":
        raise UsageError(f"--out {path}: a card is called NAME.md")
    if path.is_dir() or (path.exists() and not (chosen and is_card(path))):
        way_out = f"give --out {path} to replace it, or another" if is_card(path) else "give another --out FILE.md"
        raise UsageError(f"{path} exists already: {way_out}")


def _test_in_changed_conditions(folder: RunFolder) -> None:
    from palaestra.train.evaluation.stress import stress_player
    from palaestra.train.evaluation.stress_table import told_while_running
    from palaestra.train.results.stored_scores import store_stress

    player = find_player(str(folder.path), None, False, ())
    store_stress(folder, stress_player(player, None, 0, told_while_running()))
