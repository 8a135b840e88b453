"""Messages for training that breaks down: where it was, what is kept, how to see it again, what to change."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from palaestra.agents import DivergedError
from palaestra.agents.distributed.process_group import process_group
from palaestra.envs.core import EnvError
from palaestra.envs.core.errors import is_out_of_memory
from palaestra.train.config.compatibility import begins_elsewhere
from palaestra.train.config.run_config import RunConfig
from palaestra.train.runs.run_folder import RunFolder


class RunFailed(RuntimeError):  # noqa: N818  a run, not a kind of error, is what failed
    """Training cannot go on; the message says why and how to proceed."""


@contextmanager
def explaining(config: RunConfig, folder: RunFolder) -> Iterator[None]:
    """Raise errors of training as a RunFailed with advice; unexpected ones as they are, whose traceback is needed."""
    try:
        yield
    except Exception as error:
        failure = explained(error, config, folder)
        if failure is None:
            raise
        raise failure from error


def explained(error: Exception, config: RunConfig, folder: RunFolder) -> RunFailed | None:
    """The error with advice, in one line; None for unexpected errors, whose traceback is needed."""
    if isinstance(error, EnvError):
        text = f"{_sentence(error)} {_printed(folder)}{_kept(folder, 'train it again from there')}"
        text += _look(error, config, folder)
    elif isinstance(error, DivergedError):
        text = f"training has diverged: {_sentence(error)} {_kept(folder, None)}{_calmer(config, folder)}"
    elif is_out_of_memory(error):
        text = f"out of memory: {_sentence(error)} Lower {_consumers(config)}. {_kept(folder, None)}"
    elif isinstance(error, OSError) and error.filename is not None:
        text = f"{error.filename}: {error.strerror}. {_kept(folder, 'go on when that is mended')}"
    else:
        return None
    return RunFailed(text.rstrip())


def _sentence(error: Exception) -> str:
    text = " ".join(str(error).split("\n\n")[0].split()) or type(error).__name__
    return text if text.endswith((".", "!", "?")) else text + "."


def _kept(folder: RunFolder, purpose: str | None) -> str:
    if not folder.path.is_dir():
        return ""
    newest = next(iter(folder.checkpoints()), None)
    if newest is None:
        return "There was no checkpoint yet (see --checkpoint-every). "
    again = f"; to {purpose}: palaestra train --resume {_quoted(folder.path)}" if purpose else ""
    return f"The checkpoint of step {int(newest.stem):,} is kept{again}. "


def _printed(folder: RunFolder) -> str:
    """Where to read what the environment printed, if it did."""
    log = folder.env_log_file(process_group().rank)
    return f"What the environment printed is in {log}. " if log.is_file() and log.stat().st_size else ""


def _look(error: EnvError, config: RunConfig, folder: RunFolder) -> str:
    """The command that shows the episode, where it is known which one it was and there is an agent to play it."""
    known = error.env_index is not None and error.episode is not None
    known = known and not begins_elsewhere(config.agent_kwargs, config.curriculum, config.env_kwargs)
    if not (known and config.resolved_env.can_replay and folder.model_file.is_file()):
        return ""
    place = f"--training --env-index {error.env_index} --episode {error.episode}"
    return f"To see that episode: palaestra watch {_quoted(folder.path)} {place}"


def _calmer(config: RunConfig, folder: RunFolder) -> str:
    advice = "a lower learning_rate or max_grad_norm, normalize_observation=true or normalize_reward=true may help"
    if not folder.model_file.is_file():
        return advice[0].upper() + advice[1:]
    command = f"palaestra train --config {_quoted(folder.config_file)} --init-from {_quoted(folder.path)}"
    rate = config.agent_kwargs.get("learning_rate", 3e-4)
    return f"To go on from its weights: {command} --set learning_rate=… (was {rate}); {advice}"


def _consumers(config: RunConfig) -> str:
    """The settings that memory grows with, with their values."""
    names = ("buffer_size", "n_steps", "batch_size")
    values = [f"{name} ({config.agent_kwargs[name]})" for name in names if name in config.agent_kwargs]
    return ", ".join([f"num_envs ({config.num_envs})", *values])


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))
