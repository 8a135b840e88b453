"""Operations in C++ give PyTorch's own bits, on odd numbers too."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import numpy as np
import pytest
from replay_operations import OPERATIONS

from palaestra.envs.compiled.parts import CompiledProgram
from palaestra.envs.core.batching.records import same_bits
from palaestra.envs.core.replay.program import reserved, tensor_at
from palaestra.envs.core.replay.recording import Recording

ROWS = 113


@pytest.fixture(autouse=True, scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PALAESTRA_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")
def test_operations_have_the_bits_that_they_had() -> None:
    """All kinds in one program, so that the compiler is called once; what C++ is not made of is called between."""
    recording = Recording()
    with recording:
        expected = {name: operation() for name, operation in OPERATIONS.items()}
    results = {name: recording.copied(recording.place(tensor)) for name, tensor in expected.items()}
    memory = {place.memory: reserved(16384) for place in results.values()}
    program = CompiledProgram(recording, set(), set(memory), ROWS)
    with np.errstate(all="ignore"):
        steps = program.steps(memory, run=True)
        for function, arguments in steps:
            function(*arguments)  # once more: what has been computed is not needed again
    assert sum(len(part.calls) for part in program._parts if part.assignments) > 100
    for name, place in results.items():
        assert same_bits(tensor_at(place, memory[place.memory]), expected[name]), name
