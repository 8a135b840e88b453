"""The place of an exported policy, ``NAME.onnx`` and its contract ``NAME.json``: what lies there may be lost or not.

Only policies that were exported before are replaced, and only by a file of the same name. Everything else stays: files
of a run, and files of other programs that happen to have one of the two names.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from palaestra.agents.export.policy_network import ExportError
from palaestra.envs.core.atomic_write import unfinished_file
from palaestra.train.export.policy_file import FORMAT
from palaestra.train.runs.run_folder import RunFolder


def check_destination(path: Path) -> None:
    """Refuse a path at which a policy and its contract cannot be written, or would replace what is none.

    Raises:
        ExportError: with the way out.
    """
    beside = path.with_suffix(".json")
    for folder in path.resolve().parents:
        run = RunFolder(folder)
        if run.config_file.is_file() and (run.facts_file.is_file() or run.can_go_on()):
            raise ExportError(f"{path} is inside the run folder {folder}, whose files stay: choose another --out")
    there = next(folder for folder in path.absolute().parents if folder.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise ExportError(f"nothing can be written in {there}, where {path} was to be: choose another --out")
    for file in (path, beside):
        if file.exists() and not file.is_file():
            raise ExportError(f"{file} is no file, and one is to be written there: choose another --out")
    written_for = _file_of(beside)
    if beside.exists() and written_for is None:
        raise ExportError(f"{beside}, where the contract is written, is no contract of a policy: choose another --out")
    if path.exists() and written_for is None:
        raise ExportError(f"{path} is there, and no {beside.name} says that it is a policy: choose another --out")
    if written_for not in (None, path.name) and (path.exists() or beside.with_name(str(written_for)).exists()):
        raise ExportError(f"{beside} is the contract of {written_for}: choose another --out")


def _file_of(beside: Path) -> str | None:
    """The name of the file that a contract was written for; None where it is no contract of ours."""
    try:
        content = json.loads(beside.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        return None
    return str(content.get("file"))


def write_both(path: Path, content: bytes, contract: str) -> None:
    """Write a policy and its contract beside it: both files are there whole, or neither has changed.

    Raises:
        OSError: with the path and the reason in one line.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with unfinished_file(path) as (file, _), unfinished_file(path.with_suffix(".json")) as (beside, _):
            for target, part in ((file, content), (beside, contract.encode())):
                target.write(part)
                target.flush()
                os.fsync(target.fileno())  # a full disk tells here, where neither has its name yet
    except OSError as error:
        reason = error.strerror or str(error)
        raise OSError(error.errno or 0, f"cannot write the file ({reason})", str(path)) from error
