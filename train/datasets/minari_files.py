"""Data sets of Minari, the format of the Farama Foundation for offline reinforcement learning.

1. They lie below ``~/.minari/datasets`` or ``MINARI_DATASETS_PATH``, one folder each, under names like
   ``snake/expert-v0``. One that exists is never written to.
2. The environment goes with them as Gymnasium's specification where it has one (``recover_environment`` makes it again
   once ``palaestra.envs`` is imported), and what palaestra knows of it as JSON under ``palaestra`` in their metadata.
3. Images are stored as they are. Minari's own default is JPEG, which changes them.
4. Names are checked first: Minari makes a folder before it looks at the name.
5. One that is read must be of the run's environment, with its spaces, and with its settings where they were noted.

Minari is imported here alone, and only when a command asks for a data set.
"""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from palaestra.agents.imitation.demonstrations import Demonstrations, RecordedEpisode
from palaestra.envs.core.user_code import RAISED, describe, one_line
from palaestra.envs.specs import ResolvedEnv
from palaestra.train.config.compatibility import space_forms, spaces_of
from palaestra.train.config.schema import ConfigError

_OURS = "palaestra"  # key of the metadata
_TOLD = 3  # names of data sets in a message


@dataclass(frozen=True)
class Origin:
    """Where a data set comes from."""

    env: ResolvedEnv
    env_kwargs: Mapping[str, Any]
    policy: str
    seed: int

    def as_dict(self) -> dict[str, Any]:
        return {"env": self.env.id, "env_kwargs": dict(self.env_kwargs), "policy": self.policy, "seed": self.seed}


def _minari() -> Any:
    try:
        import h5py  # noqa: F401  Minari imports without it, and fails later
        import minari
    except ImportError:
        raise ConfigError("data sets need Minari: pip install 'palaestra[datasets]'") from None
    return minari


def check_new(name: str) -> Path:
    """The folder that a new data set of that name will have.

    Raises:
        ConfigError: if Minari is not there, the name is none, or there is such a data set.
    """
    _minari()
    folder = _folder(name)
    if folder.exists():
        raise ConfigError(f"{folder} exists already; a data set is never overwritten: choose another name or version")
    return folder


def _folder(name: str) -> Path:
    from minari.dataset.minari_dataset import parse_dataset_id
    from minari.storage import get_dataset_path

    try:
        parse_dataset_id(name)
    except (ValueError, TypeError):  # the latter where there is no version
        hint = "they are like snake/expert-v0, with a version and two letters or more before each stroke"
        raise ConfigError(f"{name!r} is no name of a Minari data set: {hint}") from None
    return Path(get_dataset_path(name))


def write(name: str, episodes: Sequence[RecordedEpisode], origin: Origin) -> Path:
    """Make a data set, whole or not at all unless the process is killed; the folder.

    Raises:
        ConfigError: see :func:`check_new`.
        OSError: if it cannot be written.
    """
    folder = check_new(name)
    minari = _minari()
    from minari.data_collector.episode_buffer import EpisodeBuffer

    buffers = [EpisodeBuffer(**_buffer(episode)) for episode in episodes]
    observations, actions = spaces_of(origin.env, dict(origin.env_kwargs))
    about = f"{len(episodes):,} episodes of {origin.policy} on {origin.env.short_name}, recorded by palaestra"
    try:
        with _quietly():
            made = minari.create_dataset_from_buffers(
                name,
                buffers,
                env=_specification(origin),
                algorithm_name=origin.policy,
                description=about,
                observation_space=observations,
                action_space=actions,
                jpeg_encoding=False,
            )
            made.storage.update_metadata({_OURS: json.dumps(origin.as_dict())})
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return folder


def _buffer(episode: RecordedEpisode) -> dict[str, Any]:
    steps = len(episode.rewards)
    ends = np.zeros((2, steps), dtype=bool)
    ends[int(not episode.terminated), -1] = True
    fields = {"observations": episode.observations, "actions": episode.actions, "rewards": episode.rewards}
    return {**fields, "terminations": ends[0], "truncations": ends[1]}


def _specification(origin: Origin) -> Any:
    """The environment's specification with its settings; None where Gymnasium cannot make it from that."""
    with suppress(*RAISED):
        found = gymnasium.spec(origin.env.id)
        found.kwargs = {**found.kwargs, **origin.env_kwargs}
        gymnasium.make(found).close()
        return found
    return None


@contextmanager
def _quietly() -> Iterator[None]:
    """Minari warns of every author and link that a data set lacks."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        yield


def read(name: str, env: ResolvedEnv, env_kwargs: Mapping[str, Any]) -> Demonstrations:
    """The episodes of a data set, on the host.

    Raises:
        ConfigError: if there is none of that name, it cannot be read, or it is of another environment.
    """
    minari = _minari()
    folder = _folder(name)
    if not folder.is_dir():
        root = folder.parents[name.count("/")]
        raise ConfigError(f"no Minari data set {name} in {root}{_there_are(root)}")
    try:
        with _quietly():
            found = minari.load_dataset(name)
            _check(name, found, env, env_kwargs)
            episodes = [_episode(each) for each in found.iterate_episodes()]
    except ConfigError:
        raise
    except RAISED as error:
        raise ConfigError(f"{folder} cannot be read as a Minari data set: {describe(error)}") from error
    return Demonstrations([episode for episode in episodes if len(episode.rewards)])


def _there_are(root: Path) -> str:
    """The data sets that there are, in words. Minari's own list fails for all where one folder has a bad name."""
    names = sorted(str(file.parent.parent.relative_to(root)) for file in root.rglob("data/metadata.json"))
    more = f", and {len(names) - _TOLD} more" if len(names) > _TOLD else ""
    made = "palaestra record expert --env ENV --minari NAME makes one"
    return f": there are {', '.join(names[:_TOLD])}{more}" if names else f": {made}"


def _check(name: str, found: Any, env: ResolvedEnv, env_kwargs: Mapping[str, Any]) -> None:
    """Raise a ConfigError unless a data set is of that environment."""
    noted = json.loads(found.storage.metadata.get(_OURS, "{}"))
    recorded = noted.get("env") or (None if found.env_spec is None else found.env_spec.id)
    if recorded is not None and recorded.rpartition("/")[2] != env.id.rpartition("/")[2]:
        raise ConfigError(f"{name} was recorded on {recorded}, and the run is on {env.short_name}")
    observations, actions = spaces_of(env, dict(env_kwargs))
    ours, theirs = space_forms(observations, actions), space_forms(found.observation_space, found.action_space)
    if found.action_space != actions:  # bounds and first numbers too
        ours["actions"], theirs["actions"] = one_line(actions), one_line(found.action_space)
    for what in ours:
        if ours[what] != theirs[what]:
            raise ConfigError(f"{name} was recorded with {what} {theirs[what]}, and {env.short_name} has {ours[what]}")
    settings = noted.get("env_kwargs", dict(env_kwargs))
    for key in sorted({*settings, *env_kwargs}):
        if json.dumps(settings.get(key)) != json.dumps(env_kwargs.get(key)):
            said = settings.get(key, "its default")
            raise ConfigError(
                f"{name} was recorded with env.{key}={said}, and the run has {env_kwargs.get(key, 'its default')}"
            )


def _episode(found: Any) -> RecordedEpisode:
    terminated = bool(len(found.terminations) and found.terminations[-1])
    return RecordedEpisode(found.observations, found.actions, np.asarray(found.rewards), terminated)
