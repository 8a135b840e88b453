"""The ``palaestra`` command: collects the commands and turns errors into exit statuses.

Exit status: 0 done, 1 an environment or a disk failed, 2 bad usage or bad input (each with one line on
standard error), 130 interrupted.
"""

from __future__ import annotations

import codecs
import difflib
import errno
import inspect
import io
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Annotated, Any, NoReturn, TextIO, cast

import typer
from typer.core import TyperGroup

from palaestra.train.commands import CommandLine, UsageError, with_screen
from palaestra.train.interruptions import Interrupted, LastingOutput, StopSignal, go_on_without

_FOLDERS = {  # of related commands
    "looking": ("runs", "compare", "report", "rm", "results", "collusion"),
    "own_sales": ("fit-demand", "prices"),
    "in_use": ("export", "record", "serve", "act", "card", "monitor"),
}
_OF_ALL = ("envs", "train", "evaluate", "watch", "play", "check", "bench", "sweep", "new", "robot")
COMMANDS = (*_OF_ALL, *(name for names in _FOLDERS.values() for name in names))
_WITHOUT_ENV = ("new", "robot", "fit-demand", "serve", "act", "monitor", "runs", "compare", "rm")  # no environment

# typer carries its own copy of click in some versions and not in others; its public exception leads to the right one
_ClickError: Any = next(base for base in typer.BadParameter.__mro__ if base.__name__ == "ClickException")

_BREAKDOWNS = (  # these, and full disks, are no bad usage
    *("EnvError", "RunFailed", "LostContactError", "ProcessDiedError", "WorkloadError"),
)
_COMPLETE = "_PALAESTRA_COMPLETE"  # is set where a shell asks how a line goes on
_OF_COMPLETION = (["--install-completion"], ["--show-completion"])
_WRONG_PATHS = (errno.ENOENT, errno.EISDIR, errno.ENOTDIR)  # these are


class _Commands(TyperGroup):
    """Imports the file of a command when the command is asked for, and names the closest one of a mistyped name."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in COMMANDS:  # while a shell completes it
            return None
        function = _function(cmd_name)
        one = typer.Typer(add_completion=False, rich_markup_mode=None)
        function = function if cmd_name in _WITHOUT_ENV else with_screen(function)
        if _COMPLETE in os.environ:
            from palaestra.train.completion import with_values

            function = with_values(function)
        one.command(cmd_name, cls=CommandLine)(function)
        return typer.main.get_command(one)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        with formatter.section("Commands"):  # the first sentence of each, whole
            helps = ((name, inspect.getdoc(_function(name)) or "") for name in COMMANDS)
            formatter.write_dl([(name, " ".join(text.partition("\n\n")[0].split())) for name, text in helps])

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and not args[0].startswith("-") and args[0] not in COMMANDS and not ctx.resilient_parsing:
            from palaestra.train.config.other_names import COMMANDS as OF_OTHERS

            own = OF_OTHERS.get(args[0])
            close = [own] if own else difflib.get_close_matches(args[0], COMMANDS, 1, 0.5)
            hint = f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(COMMANDS)}"
            raise UsageError(f"unknown command {args[0]!r}{hint}")
        return super().resolve_command(ctx, args)


def _function(command: str) -> Callable[..., Any]:
    name, folder = command.replace("-", "_"), next((f"{f}." for f, names in _FOLDERS.items() if command in names), "")
    function: Callable[..., Any] = getattr(import_module(f"palaestra.train.commands.{folder}{name}"), name)
    return function


app = typer.Typer(
    cls=_Commands,
    help="Train reinforcement-learning agents on thousands of parallel environments, and see how good they are.",
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(invoke_without_command=True)
def _main(
    context: typer.Context,
    show_version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if show_version:
        from importlib.metadata import version  # late: its import is a tenth of --help

        print(f"palaestra {version('palaestra')}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        print(context.get_help())


def main() -> None:
    """Entry point of the console script."""
    codecs.register_error("palaestra", _in_this_locale)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="palaestra")
    training = sys.argv[1:2] == ["train"]  # whose result is a folder, and what it prints only a display
    sys.stderr = cast(TextIO, LastingOutput(sys.stderr))
    sys.stdout = cast(TextIO, output := LastingOutput(sys.stdout, go_on_without if training else None))
    sys.path.append(os.getcwd())  # so that module:Id-v0 finds a module in the current folder
    if _COMPLETE in os.environ:
        from palaestra.train.completion import join_words

        join_words(os.environ)
    command = typer.main.get_command(app)
    try:
        with StopSignal(print, requested=True), _exits_raised():
            status = command.main(prog_name="palaestra", standalone_mode=False)
    except _ClickError as error:
        status = _fail(_usage_text(error))
    except Interrupted:
        status = 130
    except (typer.Abort, KeyboardInterrupt):
        status = _fail("interrupted", 130)
    except SystemExit as error:
        completes = _COMPLETE in os.environ or sys.argv[1:2] in _OF_COMPLETION
        if type(error) is not SystemExit or completes:  # one of ours, or typer's: all is told
            raise
        status = _fail(f"user code or a library wants to end the process (SystemExit: {error})", 1)
    except Exception as error:
        if not _is_for_users(error):
            raise
        of_disk = isinstance(error, OSError) and error.errno not in _WRONG_PATHS
        failed = type(error).__name__ in _BREAKDOWNS or of_disk
        status = _fail(" ".join(str(error).split()), 1 if failed else 2)
    status = status if isinstance(status, int) else 0
    output.flush()
    if output.lost is not None and not training and status == 0:
        # a reader that has gone (head, less) has seen enough
        broken = output.lost.errno == errno.EPIPE
        status = 1 if broken else _fail(f"standard output: {output.lost.strerror}", 1)
    sys.exit(status)


@contextmanager
def _exits_raised() -> Iterator[None]:
    """``os._exit``, which ends the process without a word, raises a SystemExit; not in processes that are forked."""
    real, process = os._exit, os.getpid()

    def exit_(status: int) -> NoReturn:
        if os.getpid() == process:
            raise SystemExit(status)
        real(status)

    os._exit = exit_
    try:
        yield
    finally:
        os._exit = real


def _in_this_locale(error: UnicodeError) -> tuple[bytes, int]:
    """Substitutes for signs that the locale lacks; bytes of paths that it cannot read come back as they were."""
    assert isinstance(error, UnicodeEncodeError)
    codes = [ord(sign) for sign in error.object[error.start : error.end]]
    return bytes(code - 0xDC00 if 0xDC80 <= code <= 0xDCFF else ord("?") for code in codes), error.end


def _usage_text(error: Any) -> str:
    """Click's message on one line, with the closest option where one was mistyped."""
    if getattr(error, "possibilities", None):
        return f"no such option: {error.option_name}; did you mean {error.possibilities[0]}?"
    text = " ".join(error.format_message().split()).removesuffix(".")
    return re.sub(r"^Invalid value for '(--[\w-]+)': ", r"\1 ", text)


def _fail(text: str, status: int = 2) -> int:
    from palaestra.train.formatting import tell

    tell(f"palaestra: error: {text}", error=True)
    return status


def _is_for_users(error: Exception) -> bool:
    """Errors whose text is written for the user; anything else is a fault of ours and keeps its traceback."""
    return type(error).__module__.startswith(("palaestra.", "gymnasium.error")) or isinstance(error, OSError)


if __name__ == "__main__":
    main()
