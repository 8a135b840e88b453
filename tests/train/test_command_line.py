"""Options under the names that other programs have for them, and what a mistyped one comes near to."""

from __future__ import annotations

from typing import Any

import pytest
import typer

from palaestra.train import cli
from palaestra.train.commands import CommandLine, UsageError
from palaestra.train.commands.evaluate import evaluate
from palaestra.train.commands.train import train


def read(command: Any, text: str) -> dict[str, Any]:
    """The parameters that a command line gives."""
    one = typer.Typer(add_completion=False, rich_markup_mode=None)
    one.command("train", cls=CommandLine)(command)
    params: dict[str, Any] = typer.main.get_command(one).make_context("train", text.split()).params
    return params


@pytest.mark.parametrize(
    ("theirs", "ours", "notes"),
    [
        ("--algo dqn --env snake -n 1e5", "snake --agent dqn --total-timesteps 100000", 3),
        ("snake --n-timesteps=1e5 --n_envs 2k", "snake --total-timesteps 100_000 --num-envs 2000", 2),
        ("--env-id=snake --total_timesteps 5M", "--total-timesteps 5000000 snake", 2),
        (
            "snake --set lr=1e-3 --set=net_arch=[64]",
            "snake --set learning_rate=1e-3 --set policy_kwargs.net_arch=[64]",
            2,
        ),
        (
            "snake --set env.lr=1 --run-dir --algo",
            "snake --set env.lr=1 --run-dir --algo",
            0,
        ),  # values stay as they are
        ("-- --algo", "-- --algo", 0),
    ],
)
def test_names_of_other_programs(capsys: pytest.CaptureFixture[str], theirs: str, ours: str, notes: int) -> None:
    assert read(train, theirs) == read(train, ours)
    told = capsys.readouterr().err.splitlines()
    assert len(told) == notes
    assert all(line.startswith("palaestra: ") and line.endswith(" here") for line in told)


def test_run_may_be_an_option() -> None:
    assert read(evaluate, "--run latest --n-eval-episodes 5k") == read(evaluate, "latest --episodes 5000")


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("snake --env.size 8", "--set env.size=8"),
        ("snake --env.size=8", "--set env.size=8"),
        ("snake --set env.size 8", "--set env.size=8"),
        ("snake env.size=8", "--set env.size=8"),
        ("snake learning_rate=1e-3", "--set learning_rate=1e-3"),
        ("snake seed=3", "--seed 3"),
        ("snake --learning-rate 1e-3", "--set learning_rate=1e-3"),
        ("snake --learning_rat=1e-3", "--set learning_rate=1e-3"),
        ("snake --lr --seed 3", "--set learning_rate=VALUE"),
        ("snake --sed=3", "--seed"),
        ("snake -seed 3", "--seed"),
        ("snake --cuda", "--device cuda"),
        ("snake --hyperparams n_steps:16", "--set KEY=VALUE"),
    ],
)
def test_guesses_by_meaning(text: str, meant: str) -> None:
    with pytest.raises(UsageError) as error:
        read(train, text)
    assert str(error.value).endswith(f"; did you mean {meant}?")


@pytest.mark.parametrize(
    ("command", "text", "message"),
    [
        (train, "snake --foo", "no such option: --foo; palaestra train --help lists them"),
        (train, "snake again", "unexpected argument: again"),
        (evaluate, "latest --learning-rate 1", "no such option: --learning-rate; palaestra train --help lists them"),
        (train, "snake --total-timesteps 5X", "5X: expected a whole number of at least 1, such as 300k, 5M or 1e5"),
        (train, "snake --total-timesteps 1.5", "1.5: expected a whole number of at least 1, such as 300k, 5M or 1e5"),
        (train, "snake --total-timesteps -3M", "-3M: must be at least 1"),
        (train, "snake --num-envs 0", "0: must be at least 1"),
        (evaluate, "latest --episodes 1e30", "1e30: it is too large"),
        (train, "snake --seed x", "x: expected a whole number of at least 0"),
        (train, "snake --seed 0.5", "0.5: expected a whole number of at least 0"),
        (train, "snake --seed=", ": expected a whole number of at least 0"),
        (evaluate, "latest --seed -1", "-1: must be at least 0"),
    ],
)
def test_what_means_nothing_here(command: Any, text: str, message: str) -> None:
    with pytest.raises((UsageError, typer.BadParameter)) as error:
        read(command, text)
    assert str(error.value) == message


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_numbers_are_refused_in_our_words(name: str) -> None:
    command = typer.main.get_command(cli.app).get_command(None, name)  # type: ignore[attr-defined]
    with_value = [p.opts[-1] for p in command.params if p.param_type_name == "option" and not p.is_flag]
    needed = [text for p in command.params if p.required and p.opts[-1] in with_value for text in (p.opts[-1], "1")]
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    places = ["here"] * max(bool(arguments), sum(p.required for p in arguments))
    refused = {}
    for option in with_value:
        try:
            command.make_context(name, [*places, *needed, option, "x"])
        except typer.BadParameter as error:
            refused[option] = str(error)
    assert all(text.startswith("x: expected a ") for text in refused.values()), refused
    assert {"--seed", "--jobs", "--episodes", "--repeats", "--buyers"} & {*with_value} <= {*refused}
