"""The commands of ``palaestra``, one a file, and the arguments and options that several of them take.

Each file has a function of the command's name, whose signature is the command line and whose docstring is its help;
:mod:`palaestra.train.cli` finds it there, or in the room of related commands that the command is listed in. The files
import nothing heavy before a command runs.

:class:`CommandLine` reads the options in the words of other programs too:

1. Names that Stable-Baselines3's zoo and CleanRL have for the same thing are taken, and a line tells ours.
2. ENV and RUN may be given as options, and the words of an option's name be joined by underscores.
3. What is no option is refused, with what comes nearest to it in meaning or in spelling.
"""

from __future__ import annotations

import difflib
import functools
import inspect
import re
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from palaestra.train.interruptions import Shown

ENV_HELP = "Short name (snake-small), id (palaestra/Snake-v0), any Gymnasium id (CartPole-v1), or module:Id-v0."
RUN_HELP = "Run folder or the start of its name, model file, latest, latest:ENV; RUN:best for its best weights."


def read_count(text: object) -> int:
    """A number of steps, episodes, ... from the command line, at least 1."""
    return _read_whole(text, 1)


def read_index(text: object) -> int:
    """A seed or a place from the command line, at least 0."""
    return _read_whole(text, 0)


def read_number(text: object) -> float:
    """Any number from the command line."""
    try:
        return float(str(text))
    except ValueError as error:
        raise typer.BadParameter(f"{text}: expected a number") from error


def _read_whole(text: object, least: int) -> int:
    from palaestra.train.config.schema import EXAMPLES, whole_number

    try:
        number = whole_number(str(text))
    except ValueError as error:
        wanted = str(error).replace("whole number", f"whole number of at least {least}")
        raise typer.BadParameter(f"{text}: {wanted if least else wanted.removesuffix(f', {EXAMPLES}')}") from error
    if number < least:
        raise typer.BadParameter(f"{text}: must be at least {least}")
    return number


EnvArgument = Annotated[str, typer.Argument(metavar="ENV", help=ENV_HELP)]
PlayerArgument = Annotated[str, typer.Argument(metavar="RUN", help=f"{RUN_HELP} Or random, or expert.")]
EnvOption = Annotated[
    str | None, typer.Option("--env", metavar="ENV", help=f"{ENV_HELP} Needed for random and expert.")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Agent setting, or env.KEY for the environment; repeatable."),
]
SeedOption = Annotated[
    int, typer.Option("--seed", parser=read_index, metavar="N", help="Seed of the episodes; held out from training.")
]
StochasticOption = Annotated[
    bool, typer.Option("--stochastic", help="Sample the agent's actions instead of taking the most likely.")
]
SearchOption = Annotated[
    int | None,
    typer.Option("--search", parser=read_count, metavar="N", help="In games for two: N simulations before each move."),
]


class UsageError(ValueError):
    """The command line does not make sense; the message says why."""


_KEYED = ("--set", "--vary")  # options whose values are KEY=VALUE


def with_screen(command: Callable[..., Any]) -> Callable[..., Any]:
    """The command with ``-q`` and ``-v``, and what environments of other people print kept off the screen."""

    @functools.wraps(command)
    def on_screen(*, quiet: bool = False, verbose: bool = False, **arguments: Any) -> Any:
        if quiet and verbose:
            raise UsageError("-q shows less and -v more: give one of them")
        from palaestra.train.config import check_names
        from palaestra.train.runs.finding import check_run_names

        check_names(arguments)
        check_run_names(arguments)
        before = Shown.progress, Shown.environments
        Shown.progress, Shown.environments = not quiet, verbose
        try:
            return command(**arguments)
        finally:
            if "palaestra.train.env_output" in sys.modules:  # it is of no use to environments of our own
                from palaestra.train.env_output import disarm

                disarm()
            Shown.progress, Shown.environments = before

    own = inspect.signature(on_screen, follow_wrapped=False).parameters
    given = inspect.signature(command, eval_str=True).parameters.values()
    added = [own[name].replace(annotation=kind) for name, kind in (("quiet", _QUIET), ("verbose", _VERBOSE))]
    parameters = [*(p.replace(kind=p.KEYWORD_ONLY) for p in given), *added]
    on_screen.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    on_screen.__annotations__ = {p.name: p.annotation for p in parameters}
    return on_screen


_QUIET = Annotated[bool, typer.Option("-q", "--quiet", help="Print results and errors only.")]
_VERBOSE = Annotated[bool, typer.Option("-v", "--verbose", help="Show what environments print, too.")]


class CommandLine(TyperCommand):
    """A command that knows what other programs call its options."""

    def get_help(self, ctx: Any) -> str:
        """The help without typer's names of types."""
        return re.sub(r" <(str|path|list\[str\])>", lambda match: " " * len(match[0]), super().get_help(ctx))

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not ctx.resilient_parsing:
            return super().parse_args(ctx, self._in_own_words(ctx, args))
        # a shell completes the value of the last option, which click reads before all arguments, and stops there
        values = [name for p in self.get_params(ctx) if not getattr(p, "is_flag", False) for name in p.opts]
        return super().parse_args(ctx, args[:-1] if args and args[-1] in values else args)

    def _in_own_words(self, ctx: Any, args: list[str]) -> list[str]:
        """The same arguments under the names that they have here.

        Raises:
            UsageError: on an option that is none, and on an argument too many.
        """
        params: Any = self.get_params(ctx)
        self._has_value = {name: not p.is_flag for p in params if p.param_type_name == "option" for name in p.opts}
        arguments = [p for p in params if p.param_type_name == "argument"]
        places = 10_000 if any(argument.nargs < 0 for argument in arguments) else len(arguments)
        read, left = [], list(args)
        while left and left[0] != "--":
            text = left.pop(0)
            if text.startswith("-") and text != "-":
                name, equals, value = text.partition("=")
                own = self._own_name(name, [argument.name for argument in arguments])
                if own is None:
                    following = value if equals else "".join(left[:1])
                    raise UsageError(f"no such option: {name}{self._meant_by(name, following)}")
                if own in _KEYED and equals:
                    text = f"{own}={_own_setting(own, value)}"
                elif own:
                    text = own + equals + value
                elif equals or left:
                    text = value if equals else left.pop(0)
                    places -= 1
                read.append(text)
                if self._has_value.get(own) and not equals and left:
                    value = left.pop(0)
                    read.append(_own_setting(own, value) if own in _KEYED else value)
            else:
                places -= 1
                if places < 0:
                    raise UsageError(f"unexpected argument: {text}{self._meant_by_argument(text, read)}")
                read.append(text)
        return read + left

    def _own_name(self, name: str, arguments: list[str]) -> str | None:
        """The option of that name here, "" if it is an argument that needs none, None if there is no such thing."""
        if name in self._has_value:
            return name
        from palaestra.train.config.other_names import OPTIONS

        own = OPTIONS.get(name, name.replace("_", "-"))
        own = OPTIONS.get(own, own)
        if own in self._has_value:
            _tell(f"{name} is {own} here")
            return own
        if own.removeprefix("--") in arguments:
            _tell(f"{own.removeprefix('--').upper()} is given without {name} here")
            return ""
        return None

    def _meant_by(self, name: str, value: str) -> str:
        """A hint at what comes nearest to an option that is none."""
        from palaestra.train.config.other_names import OPTION_HINTS

        plain = name.replace("_", "-")
        value = value if value and not value.startswith("--") else "VALUE"
        if plain in OPTION_HINTS and OPTION_HINTS[plain].partition(" ")[0] in self._has_value:
            return f"; did you mean {OPTION_HINTS[plain]}?"
        if f"-{name}" in self._has_value:
            return f"; did you mean -{name}?"
        spelt = difflib.get_close_matches(name, self._has_value, 1, 0.8)
        if spelt:
            return f"; did you mean {spelt[0]}?"
        if "--set" in self._has_value and (key := self._setting_named(name.lstrip("-"))):
            return f"; did you mean --set {key}={value}?"
        spelt = difflib.get_close_matches(name, self._has_value, 1, 0.6)
        return f"; did you mean {spelt[0]}?" if spelt else f"; palaestra {self.name} --help lists them"

    def _meant_by_argument(self, text: str, before: list[str]) -> str:
        """A hint at what an argument too many belongs to."""
        key, equals, value = text.partition("=")
        if before[-2:-1] == ["--set"] and "=" not in before[-1]:
            return f"; did you mean --set {before[-1]}={text}?"
        if equals and f"--{key.replace('_', '-')}" in self._has_value:
            return f"; did you mean --{key.replace('_', '-')} {value}?"
        if equals and "--set" in self._has_value and (found := self._setting_named(key)):
            return f"; did you mean --set {found}={value}?"
        return ""

    def _setting_named(self, name: str) -> str | None:
        """The setting that is most like that name; None if none is."""
        if name.startswith("env."):
            return name
        if "--agent" not in self._has_value:  # other commands take those of environments only
            return None
        from palaestra.train.config import AGENTS
        from palaestra.train.config.other_names import SETTINGS
        from palaestra.train.config.schema import options_of

        key = SETTINGS.get(name.replace("-", "_"), name.replace("-", "_"))
        known = sorted({option for agent in AGENTS.values() for option in options_of(agent)} | set(SETTINGS.values()))
        return next(iter(difflib.get_close_matches(key, known, 1, 0.8)), None)


def _own_setting(option: str, text: str) -> str:
    """KEY=VALUE with the key that the setting has here."""
    from palaestra.train.config.other_names import SETTINGS

    key, equals, value = text.partition("=")
    if key.strip() not in SETTINGS:
        return text
    own = SETTINGS[key.strip()]
    _tell(f"{option} {key.strip()} is {option} {own} here")
    return own + equals + value


def _tell(text: str) -> None:
    from palaestra.train.formatting import tell

    tell(f"palaestra: {text}")
