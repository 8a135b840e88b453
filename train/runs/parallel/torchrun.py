"""Training by several processes that torchrun or ``--processes`` starts: one plan, one message when it fails, and
going on after a death.

1. Process 0 reads the command line, makes the run folder and hands the plan to the others. It alone writes what people
   read; the others only their shares of checkpoints.
2. The process that fails first tells why; the others, which then lose contact with it, end without a word.
3. torchrun starts all processes anew when one of them dies. They go on in the run folder, which must have been named
   therefore: from the newest whole checkpoint, or from the start if there was none yet. It starts them anew after a
   refusal too, which it cannot tell from a death; what was refused is refused again then.

See :mod:`palaestra.agents.distributed.process_group` for what they exchange.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

from palaestra.agents.distributed.process_group import LostContactError, ProcessGroup, joined, process_group
from palaestra.train.config import AGENTS
from palaestra.train.config.run_config import RunConfig
from palaestra.train.config.schema import ConfigError, fitting
from palaestra.train.runs.parallel.launcher import LOST, note_folder, started_by_command
from palaestra.train.runs.run_folder import RunFolder

_RESTARTS, _MAX_RESTARTS = "TORCHELASTIC_RESTART_COUNT", "TORCHELASTIC_MAX_RESTARTS"
_REFUSED = "palaestra/refused"  # in torchrun's store


@dataclass(frozen=True)
class Plan:
    """The plan that all processes follow: ``resume`` is the file they go on from, None for a new run."""

    config: RunConfig
    folder: RunFolder
    resume: Path | None = None


class _ToldElsewhere(SystemExit):
    """This process ends because another one has failed; the status says if somebody has to tell that yet."""


@contextmanager
def joined_processes() -> Iterator[ProcessGroup]:
    """This process alone, or with the others that torchrun has started, who wait for each other at the end."""
    with joined() as group:
        try:
            yield group
            group.barrier()
        except Exception as error:
            if not group.first_to_fail():  # another one has told why
                raise _ToldElsewhere(1) from None
            if isinstance(error, LostContactError) and started_by_command():  # which knows what has become of the other
                raise _ToldElsewhere(LOST) from None
            raise
        except BaseException:
            group.first_to_fail()
            raise


def broadcast_plan(make: Callable[[bool], Plan | None]) -> Plan | None:
    """The plan that process 0 makes; all others get it. None if there is nothing to do.

    Args:
        make: is told whether torchrun has started the processes anew because one of them had died.
    """
    group, restarts = process_group(), int(os.environ.get(_RESTARTS, 0))
    restarts = -int(group.lowest(torch.tensor(-restarts)))  # each machine counts those that began there
    plan = _planned(make, restarts > 0) if group.rank == 0 else None
    if plan is not None:
        note_folder(plan.folder)
    if group.size == 1:
        return plan
    text = (
        "" if plan is None else yaml.safe_dump([plan.config.as_dict(), str(plan.folder.path), str(plan.resume or "")])
    )
    text = group.all_gather_text(text)[0]
    if not text:
        return None
    config, run_dir, resume = yaml.safe_load(text)
    if not Path(run_dir).is_dir():
        raise ConfigError(f"process {group.rank} does not see the run folder {run_dir}: machines must share it")
    return Plan(RunConfig.from_dict(config), RunFolder(Path(run_dir)), Path(resume) if resume else None)


def _planned(make: Callable[[bool], Plan | None], restarted: bool) -> Plan | None:
    """The plan of this process.

    Raises:
        ConfigError: what was refused before torchrun started the processes anew.
    """
    store = _store_of_torchrun()
    if store is not None and restarted and store.check([_REFUSED]):
        raise ConfigError(store.get(_REFUSED).decode())
    try:
        return make(restarted)
    except Exception as error:
        if store is not None:
            store.set(_REFUSED, str(error))
        raise


def _store_of_torchrun() -> Any:
    """torchrun's own store, which outlives the processes that it starts; None where it would start none anew."""
    if int(os.environ.get(_MAX_RESTARTS, 0)) == 0 or os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return None
    import torch.distributed

    distributed: Any = torch.distributed
    return distributed.TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False)


def check_shares(config: RunConfig) -> None:
    """Raise a ConfigError unless the processes can share the environments and the minibatches equally."""
    size, defaults = process_group().size, inspect.signature(AGENTS[config.agent]).parameters
    batch_size, steps = (config.agent_kwargs.get(key, defaults[key].default) for key in ("batch_size", "n_steps"))

    def fits(num_envs: int, batch_size: int) -> bool:
        shared = num_envs % size == 0 and batch_size % size == 0
        return shared and ("n_epochs" not in defaults or num_envs * steps % batch_size == 0)

    if config.num_envs % size:
        near = fitting(num_envs=(config.num_envs, lambda one: fits(one, batch_size)))
        raise ConfigError(f"num_envs={config.num_envs}: {size} processes cannot share them equally{near}")
    if batch_size % size:
        near = fitting(batch_size=(batch_size, lambda one: fits(config.num_envs, one)))
        raise ConfigError(f"batch_size={batch_size}: {size} processes cannot share it equally{near}")


def device_of(name: str) -> str:
    """The device of this process: of "auto" and "cuda" a GPU for each process of a machine."""
    if process_group().size == 1 or name not in ("auto", "cuda") or not torch.cuda.is_available():
        return name
    own, there = int(os.environ.get("LOCAL_RANK", process_group().rank)), torch.cuda.device_count()
    if own >= there:
        raise ConfigError(
            f"process {own} of this machine has no GPU of its own, there are {there}: --device cpu, or fewer"
        )
    torch.cuda.set_device(own)
    return f"cuda:{own}"


def check_restarts(run_dir: Path | None) -> None:
    """Raise a ConfigError where a restart could not find the run again."""
    if run_dir is None and int(os.environ.get(_MAX_RESTARTS, 0)) > 0:
        raise ConfigError("--max-restarts needs --run-dir DIR: processes that are started anew must find their run")


def interrupted_plan(config: RunConfig, folder: RunFolder) -> Plan:
    """The plan to go on in the folder that a killed process has left, or to begin anew in it.

    Raises:
        ConfigError: if it is another run's, or was none.
    """
    if not config.trains_as(found := folder.config()) and not (found is None and folder.is_untouched()):
        what = "without" if found is None else "with another"
        raise ConfigError(f"run folder {folder.path} exists already, {what} configuration; a run is never overwritten")
    if found is not None and folder.can_go_on():
        return Plan(found, folder, folder.path)
    folder.clear()
    return Plan(config, folder)
