"""Policies in ONNX files, opened with ONNX Runtime and without PyTorch.

Nothing of a file is run before it is known that

1. it is one ONNX model whose tensors are all inside: none is read from a path that the file names;
2. its operators are those of ONNX (``ai.onnx``, ``ai.onnx.ml``) or written out in the file;
3. it has a contract (in its metadata, or as ``NAME.json`` beside it), which names the environment and every input and
   output, and its inputs and outputs are those of the contract;
4. if it carries a checksum, its bytes are those that were written. ``palaestra.sha256`` in the metadata is the SHA-256
   of the file's bytes with 64 zeros in the place of these digits.

Then it acts on batches of two and of three observations, and its outputs must be as the contract says.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from palaestra.envs.core.reference import Array
from palaestra.train.export.contract_check import ContractError, check_contract
from palaestra.train.export.observation_reader import bounds_of

CONTRACT_KEY, SHA256_KEY = "palaestra.contract", "palaestra.sha256"
FORMAT = "palaestra policy"
BLANK_SHA256 = "0" * 64
LARGEST = 2**30  # bytes of a file
_DOMAINS = frozenset(("", "ai.onnx", "ai.onnx.ml"))
NEEDED = "needs ONNX: pip install 'palaestra[export]'"


class PolicyFileError(ValueError):
    """A file that is no policy, or not the one that was written; the message names it."""


class PolicyFile:
    """A policy that was exported: observations in, actions out, for batches of any size.

    Attributes:
        path: the file.
        contract: what the file says of itself, see :mod:`palaestra.train.export.contract`.
        sha256: of the whole file.
        signature: of the file before it was read, see :func:`signature_of`.
    """

    def __init__(self, path: Path, threads: int = 1, content: bytes | None = None) -> None:
        """Open and check a file.

        Args:
            path: the ONNX file.
            threads: of one call; for networks of the usual size one is the fastest.
            content: of the file, where it is known already.

        Raises:
            PolicyFileError: if the file is missing, too large, or not what the module says.
        """
        try:
            import onnxruntime
        except ImportError:
            raise PolicyFileError(f"{path}: reading it {NEEDED}") from None
        self.signature = signature_of(path)
        self.path, content = path, _content(path) if content is None else content
        self.sha256 = hashlib.sha256(content).hexdigest()
        metadata = _checked_metadata(path, content)
        self.contract = _contract(path, metadata.get(CONTRACT_KEY))
        _check_sum(path, content, metadata.get(SHA256_KEY))
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads, settings.inter_op_num_threads = threads, 1
        settings.log_severity_level = 4  # what is wrong is raised
        try:
            self._session = onnxruntime.InferenceSession(content, settings, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's errors have no common class of their own
            raise PolicyFileError(f"{path}: ONNX Runtime cannot open it: {_first_line(error)}") from None
        self._check_ends()
        for rows in (2, 3):
            self._check_batch(rows)

    @property
    def inputs(self) -> list[dict[str, Any]]:
        """The contract's inputs: ``name``, ``dtype``, ``shape`` of one observation, and more."""
        inputs: list[dict[str, Any]] = self.contract["inputs"]
        return inputs

    def __call__(self, feed: Mapping[str, Array], outputs: list[str] | None = None) -> dict[str, Array]:
        """The outputs by name for a batch.

        Args:
            feed: an array [B, *shape] of its dtype for each input.
            outputs: names of those wanted; None for all.

        Raises:
            PolicyFileError: if an input is missing, or has another shape or dtype.
        """
        names = outputs or [output["name"] for output in self.contract["outputs"]]
        try:
            return dict(zip(names, self._session.run(names, dict(feed)), strict=True))
        except Exception as error:  # as above
            raise PolicyFileError(f"{self.path}: {_first_line(error)}") from None

    def _check_ends(self) -> None:
        """Raise a PolicyFileError unless inputs and outputs are as the contract says."""
        for what, found in (("inputs", self._session.get_inputs()), ("outputs", self._session.get_outputs())):
            said = {end["name"]: (_of_onnx(str(end["dtype"])), [*end["shape"]]) for end in self.contract[what]}
            here = {end.name: (end.type, end.shape[1:]) for end in found}
            unsized = what == "outputs"  # whose sizes ONNX Runtime need not know
            alike = {n: d for n, (d, _) in said.items()} == {n: d for n, (d, _) in here.items()}
            if not alike or not (unsized or said == here):
                raise PolicyFileError(
                    f"{self.path}: its {what} are {_listed(here)}, and its contract says {_listed(said)}"
                )

    def _check_batch(self, rows: int) -> None:
        """Raise a PolicyFileError unless so many observations have outputs of the contract's shapes and dtypes."""
        said = {end["name"]: (end["dtype"], [rows, *end["shape"]]) for end in self.contract["outputs"]}
        found = self(_first_feed(self.inputs, rows))
        here = {name: (str(values.dtype), [*values.shape]) for name, values in found.items()}
        if here != said:
            raise PolicyFileError(
                f"{self.path}: for {rows} observations its outputs are {_listed(here)}, wanted are {_listed(said)}"
            )


def _first_feed(inputs: list[dict[str, Any]], rows: int) -> dict[str, Array]:
    """Observations within their bounds, with every action allowed."""
    feed = {}
    for end in inputs:
        low, high = bounds_of(end)
        value = np.maximum(np.minimum(1.0 if end["dtype"] == "bool" else 0.0, high), low)
        feed[end["name"]] = np.broadcast_to(value, (rows, *end["shape"])).astype(end["dtype"])
    return feed


def signature_of(path: Path) -> tuple[int, int, int] | None:
    """What changes when a file is written or replaced: time, size and place; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _content(path: Path) -> bytes:
    if not path.is_file():
        raise PolicyFileError(f"there is no file {path}")
    if (size := path.stat().st_size) > LARGEST:
        raise PolicyFileError(f"{path} has {size:,} bytes, more than {LARGEST:,}")
    return path.read_bytes()


def _checked_metadata(path: Path, content: bytes) -> dict[str, str]:
    """The metadata of a model whose parts are all inside it."""
    try:
        import onnx
    except ImportError:
        raise PolicyFileError(f"{path}: reading it {NEEDED}") from None
    try:
        model = onnx.load_model_from_string(content)
    except Exception as error:  # protobuf's, of the implementation that is installed
        raise PolicyFileError(f"{path} is no ONNX model: {_first_line(error)}") from None
    own = {(function.domain, function.name) for function in model.functions}
    for part in _parts(model):
        if isinstance(part, onnx.NodeProto):
            if part.domain not in _DOMAINS and (part.domain, part.op_type) not in own:
                raise PolicyFileError(f"{path}: its operator {part.domain}.{part.op_type} is none of ONNX's")
        elif part.external_data or part.data_location == onnx.TensorProto.EXTERNAL:
            raise PolicyFileError(f"{path}: its tensor {part.name!r} is in another file, which is not read")
    try:
        onnx.checker.check_model(content)  # which would look for other files
    except Exception as error:  # the checker's, or protobuf's
        raise PolicyFileError(f"{path} is no ONNX model: {_first_line(error)}") from None
    return {entry.key: entry.value for entry in model.metadata_props}


def _parts(model: Any) -> Iterator[Any]:
    """All nodes and tensors of a model, of its functions and of the graphs in their attributes."""
    import onnx

    waiting: list[Any] = [model.graph, *model.functions]
    while waiting:
        part = waiting.pop()
        if isinstance(part, onnx.TensorProto):
            yield part
            continue
        if isinstance(part, onnx.SparseTensorProto):
            waiting += [part.values, part.indices]
            continue
        if isinstance(part, onnx.GraphProto):
            waiting += [*part.initializer, *part.sparse_initializer]
        for node in part.node:
            yield node
            for attribute in node.attribute:
                waiting += [*attribute.graphs, *attribute.tensors, *attribute.sparse_tensors]
                for name in ("g", "t", "sparse_tensor"):
                    if attribute.HasField(name):
                        waiting.append(getattr(attribute, name))


def _contract(path: Path, text: str | None) -> dict[str, Any]:
    """The contract as the file has it, or the file beside it."""
    source = f"the contract in {path}"
    beside = path.with_suffix(".json")
    if text is None:
        if not beside.is_file():
            raise PolicyFileError(f"{path} has no contract: neither inside nor as {beside.name} beside it")
        source, text = str(beside), beside.read_text(encoding="utf-8", errors="replace")
    try:
        contract = json.loads(text)
        check_contract(contract)
    except (ValueError, RecursionError) as error:
        kind = "" if isinstance(error, ContractError) else f"{type(error).__name__}: "
        raise PolicyFileError(f"{source} is damaged: {kind}{_first_line(error)}") from None
    return dict(contract)


def _check_sum(path: Path, content: bytes, noted: str | None) -> None:
    if noted is not None and sha256_without(content, noted) != noted:
        raise PolicyFileError(f"{path} is damaged: its bytes are not those that were written (SHA-256)")


def sha256_without(content: bytes, digest: str) -> str:
    """SHA-256 of a file's bytes with zeros in the place of that digest, of 64 digits."""
    return hashlib.sha256(content.replace(digest.encode(), BLANK_SHA256.encode())).hexdigest()


def choice_of(choices: list[str], place: int) -> str:
    """The name of an action by its place.

    Raises:
        PolicyFileError: if the contract has none there.
    """
    if not 0 <= place < len(choices):
        raise PolicyFileError(f"its action is number {place} of the contract's {len(choices)} choices, counted from 0")
    return choices[place]


def _of_onnx(dtype: str) -> str:
    """ONNX Runtime's name of a NumPy dtype."""
    short = {"float32": "float", "float64": "double", "float16": "float16"}
    return f"tensor({short.get(dtype, dtype)})"


def _listed(ends: Mapping[str, tuple[str, Any]]) -> str:
    return ", ".join(f"{name} {dtype}{[*shape]}" for name, (dtype, shape) in ends.items()) or "none"


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
