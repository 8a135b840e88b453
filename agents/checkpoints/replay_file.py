"""A replay memory in a file of its own, for ``save_replay_buffer`` and ``load_replay_buffer``.

A zip file as a model's is (:mod:`palaestra.agents.checkpoints.model_file`), with the observation space and the memory's
fields; nothing in it is executed. A name without a suffix gets ``.pkl``, as in SB3.
"""

from __future__ import annotations

import io
import json
import pathlib
import zipfile
from collections.abc import Callable
from typing import Any

from palaestra.agents.checkpoints.json_values import decode_space, encode_space
from palaestra.agents.checkpoints.model_file import opened, with_suffix, write_to
from palaestra.agents.checkpoints.tensor_members import map_tensors, read_tree, write_tree
from palaestra.agents.checkpoints.zip_archive import SUMS, CheckpointError, read_json, seal

_MEMBER, _REPLAY = "replay.json", "memory"
_MEMBERS = (_MEMBER, f"{_REPLAY}.json", f"{_REPLAY}.safetensors", SUMS)
_FORMAT = 1


def write_replay(path: Any, state: dict[str, Any], model: Any) -> None:
    """Write what ``Replay.state_dict`` gave; ``path`` is a path or a writable binary file."""
    about = {
        "format": _FORMAT,
        "observation_space": encode_space(model.observation_space),
        "n_envs": model.n_envs,
        "buffer_size": model.buffer_size,
    }
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr(_MEMBER, json.dumps(about))
        write_tree(archive, _REPLAY, state)
    seal(content)
    write_to(_named(path), content)


def _named(path: Any) -> Any:
    return with_suffix(pathlib.Path(path), ".pkl") if isinstance(path, str | pathlib.Path) else path


def read_replay(path: Any, model: Any, use: Callable[[dict[str, Any]], None]) -> None:
    """Pass the memory in a file, on the model's device, to ``use``, which may raise any error if it is wrong.

    Raises:
        FileNotFoundError: if there is no such file.
        CheckpointError: if it is damaged, not ours, or of another form than the model's.
    """
    path = _named(path)
    if isinstance(path, pathlib.Path):
        if not path.is_file():
            raise FileNotFoundError(f"no replay memory at {path}")
        if not zipfile.is_zipfile(path):
            raise CheckpointError(
                f"{path} is no replay memory that palaestra saved: it is damaged, or a pickle, as Stable-Baselines3's "
                "are, which may execute anything and is never opened"
            )
    with opened(path, _MEMBERS, "a replay memory") as members:
        members.verify()
        about = read_json(members, _MEMBER)
        if about.get("format") != _FORMAT:
            raise CheckpointError(f"it has format {about.get('format')!r}, this version reads format {_FORMAT}")
        here = f"{model.n_envs} environments and buffer_size={model.buffer_size}"
        there = f"{about.get('n_envs')} environments and buffer_size={about.get('buffer_size')}"
        if there != here:
            raise CheckpointError(f"it is of {there}, this agent has {here}")
        space = decode_space(about["observation_space"])
        if space != model.observation_space:
            raise CheckpointError(f"it holds observations of {space}, this agent's are of {model.observation_space}")
        use(map_tensors(lambda tensor: tensor.to(model.device), read_tree(members, _REPLAY)))
