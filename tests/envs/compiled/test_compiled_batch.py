"""Steps made by a C++ compiler give the bits of plain ones; where there is none, or it fails, steps are plain."""

from __future__ import annotations

import os
import pickle
import shutil
import warnings
from pathlib import Path
from typing import Any, cast

import probes
import pytest
import torch
from gymnasium.spaces import Discrete
from replay_cases import CASES, actions_of, assert_same, result_of
from torch import Tensor
from walk import Walk

from palaestra.agents.graphs.slots import tensors_of
from palaestra.envs import make
from palaestra.envs.building import vector_env
from palaestra.envs.compiled import compiler
from palaestra.envs.compiled.batch import compile_steps
from palaestra.envs.compiled.parts import CompiledProgram
from palaestra.envs.core.batching.records import same_bits
from palaestra.envs.core.replay.replayed_steps import KEPT
from palaestra.envs.interop.gymnasium_adapter import GymnasiumAdapter

needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")
N, LIMIT, STEPS = 37, 17, 200  # rows: no multiple of what a processor computes at once


@pytest.fixture(autouse=True, scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A place for compiled files that is empty at first; they are shared by the tests here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PALAESTRA_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        yield


def pair(name: str, n: int = N, **arguments: Any) -> tuple[Any, Any]:
    """A compiled batch, and one of the same episodes whose steps are as they are."""
    compiled = make(name, n, "cpu", seed=3, compile=True, max_episode_steps=LIMIT, **arguments)
    plain: Any = make(name, n, "cpu", seed=3, max_episode_steps=LIMIT, **arguments)
    plain.records_steps(False)
    for batch in (compiled, plain):
        batch.reset()
    return compiled, plain


def assert_bits(one: Any, other: Any, what: str) -> None:
    ours, theirs = tensors_of(one), tensors_of(other)
    assert all(same_bits(a, b) for a, b in zip(ours, theirs, strict=True)), what


def is_compiled(batch: Any) -> bool:
    replay = batch._steps.replay
    return batch.why_not is None and replay is not None and isinstance(replay._recorded._program, CompiledProgram)


@needs_compiler
@pytest.mark.parametrize("case", CASES)
def test_compiled_steps_are_plain_steps_in_every_bit(case: str) -> None:
    """Across many ends of episodes: results, what a checkpoint holds, and what a batch tells of itself."""
    name, arguments = CASES[case]
    compiled, plain = pair(name, **arguments)
    assert compiled.prepare().startswith("steps are compiled ("), compiled.prepare()
    for step in range(STEPS if "torque" not in case else 60):
        actions = actions_of(plain, step)
        assert_bits(result_of(compiled, actions), result_of(plain, actions), f"step {step}")
        if step % 9 == 0:
            for attribute in KEPT:
                assert_bits(getattr(compiled, attribute), getattr(plain, attribute), f"{attribute} after step {step}")
    assert is_compiled(compiled), compiled.why_not
    assert compiled._steps.replay._resets is not None
    assert int(plain.episode.min()) >= 2
    assert_bits(compiled.state_dict(), plain.state_dict(), "what a checkpoint holds")


@needs_compiler
@pytest.mark.parametrize("n", [1, 7, 300])
def test_any_number_of_environments(n: int) -> None:
    """Too few for blocks of rows, and more than are begun again at once."""
    compiled, plain = pair("cartpole", n)
    for step in range(60):
        actions = actions_of(plain, step)
        assert_bits(result_of(compiled, actions), result_of(plain, actions), f"step {step}")
    assert is_compiled(compiled)


@needs_compiler
def test_plain_and_compiled_steps_may_follow_each_other() -> None:
    """As after loading a checkpoint of the other kind; a copy goes on by itself."""
    compiled, plain = pair("cartpole")
    for step in range(6 * LIMIT):
        actions = actions_of(plain, step)
        assert_bits(result_of(compiled, actions), result_of(plain, actions), f"step {step}")
        if step % 7 == 3:
            mine, its = compiled.state_dict(), plain.state_dict()
            compiled.load_state_dict(its)
            plain.load_state_dict(mine)
        if step == 50:
            compiled = pickle.loads(pickle.dumps(compiled))
    assert is_compiled(compiled)


@needs_compiler
def test_what_a_plain_step_refuses_is_refused() -> None:
    compiled, plain = pair("cartpole")
    for step in range(30):
        compiled.step(actions_of(plain, step))
    assert is_compiled(compiled)
    before = compiled.state_dict()
    with pytest.raises(ValueError, match="actions"):
        compiled.step(torch.full((N,), 2))
    assert_bits(compiled.state_dict(), before, "the episodes")


@needs_compiler
def test_other_rules_are_stepped_as_they_are() -> None:
    """As soon as an attribute is another than those that were compiled."""
    compiled, plain = pair("cartpole")
    for step in range(40):
        if step == 25:
            assert is_compiled(compiled)
            compiled.env.gravity = plain.env.gravity = 20.0
        actions = actions_of(plain, step)
        assert_bits(result_of(compiled, actions), result_of(plain, actions), f"step {step}")


@needs_compiler
def test_one_reset_is_recorded_as_it_is() -> None:
    """Rules whose resets count are begun by the rules."""

    class Counting(probes.ConstantReward):
        resets = 0

        def reset(self, rng: Any) -> Any:
            self.resets += 1
            return super().reset(rng)

    batches = [vector_env(N, Counting(), device="cpu", seed=1, compile=compiled) for compiled in (True, False)]
    for batch in batches:
        batch.reset()
    with warnings.catch_warnings(action="ignore"):
        for step in range(40):
            actions = actions_of(batches[1], step)
            assert_same(*(result_of(batch, actions) for batch in batches))


def falls_back(batch: Any, why: str) -> None:
    """Steps are those of a plain batch, and one warning says why."""
    plain = vector_env(8, probes.ConstantReward(), device="cpu", seed=1)
    for each in (batch, plain):
        each.reset()
    actions = actions_of(plain, 0)
    with pytest.warns(UserWarning, match=why):
        outcome = batch.step(actions)
    assert_same(outcome[:4], plain.step(actions)[:4])
    with warnings.catch_warnings(action="error"):  # it comes once
        for step in range(1, 30):
            actions = actions_of(plain, step)
            assert_same(result_of(batch, actions), result_of(plain, actions))
    assert batch.prepare() == f"steps are not compiled: {batch.why_not}"


def constant() -> Any:
    return vector_env(8, probes.ConstantReward(), device="cpu", seed=1, compile=True)


def test_without_a_compiler_steps_are_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    monkeypatch.setattr(compiler, "_loaded", {})
    falls_back(constant(), r"ConstantReward: there is no C\+\+ compiler no-such-compiler \(install g\+\+, or name")


def broken_compiler(folder: Path, *lines: str) -> str:
    path = folder / "g++"
    path.write_text("\n".join(("#!/bin/sh", "case $1 in --version) echo mine; exit;; esac", *lines)))
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        (("echo 'internal compiler error' >&2", "exit 1"), "failed$"),
        (("kill -9 $$",), "failed$"),
        (("exit 0",), "wrote nothing"),
        (('while [ "$1" != -o ]; do shift; done', 'echo no object > "$2"'), "cannot be loaded"),
    ],
)
def test_a_compiler_that_fails_is_told_in_one_line(
    lines: tuple[str, ...],
    why: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """What it prints is for nobody, and nothing of it stays."""
    monkeypatch.setenv("CXX", broken_compiler(tmp_path, *lines))
    monkeypatch.setenv("PALAESTRA_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(compiler, "_loaded", {})
    falls_back(constant(), rf"ConstantReward: .*C\+\+ compiler .*g\+\+.* {why}")
    assert "internal compiler error" not in "".join(capfd.readouterr())
    assert [*(tmp_path / "cache" / "kernels").iterdir()] == []


@needs_compiler
def test_a_cache_that_cannot_be_written_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("PALAESTRA_CACHE_DIR", str(tmp_path / "file" / "cache"))
    monkeypatch.setattr(compiler, "_loaded", {})
    falls_back(constant(), "ConstantReward: .*file.*Not a directory")


@needs_compiler
def test_a_cache_that_others_can_write_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "kernels"
    folder.mkdir()
    folder.chmod(0o777)
    monkeypatch.setenv("PALAESTRA_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(compiler, "_loaded", {})
    falls_back(constant(), "ConstantReward: .*kernels: others can write")


SOURCE = 'extern "C" int answer() { return %d; }'


@needs_compiler
def test_objects_are_kept_and_broken_ones_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of another flag or processor there is another object; one whose bytes have changed goes."""
    monkeypatch.setenv("PALAESTRA_CACHE_DIR", str(tmp_path))
    folder = tmp_path / "kernels"

    def objects() -> list[Path]:
        monkeypatch.setattr(compiler, "_loaded", {})
        assert compiler.loaded(SOURCE % 42).answer() == 42
        return sorted(folder.iterdir())

    (first,) = objects()
    assert folder.stat().st_mode & 0o777 == 0o700
    written = first.stat().st_mtime_ns
    assert objects() == [first]
    assert first.stat().st_mtime_ns == written
    broken = tmp_path / "broken"
    broken.write_bytes(first.read_bytes()[:100])
    os.replace(broken, first)
    (again,) = objects()
    assert again.stat().st_size > 100
    monkeypatch.setattr(compiler, "_processor", lambda: "another")
    assert len(objects()) == 2


@needs_compiler
def test_an_interrupt_leaves_nothing_half_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(command: Any, **_: Any) -> Any:
        Path(command[command.index("-o") + 1]).write_text("half")
        raise KeyboardInterrupt

    monkeypatch.setenv("PALAESTRA_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(compiler, "_loaded", {})
    compiler._version(compiler._compiler())  # which is asked once
    with monkeypatch.context() as patch:
        patch.setattr(compiler.subprocess, "run", interrupted)
        with pytest.raises(KeyboardInterrupt):
            compiler.loaded(SOURCE % 7)
    assert [*(tmp_path / "kernels").iterdir()] == []
    assert compiler.loaded(SOURCE % 7).answer() == 7


@needs_compiler
def test_rules_that_count_are_stepped_plainly() -> None:
    batch: Any = vector_env(8, Walk(Discrete(3)), device="cpu", seed=1, compile=True)
    batch.reset()
    with pytest.warns(UserWarning, match="Walk: a step changes an attribute of the rules"):
        batch.step(torch.zeros(8, dtype=torch.int64))
    assert batch.env.steps == 1  # those of the batch that was tried do not count


def test_other_peoples_environments_are_named() -> None:
    batch = GymnasiumAdapter.__new__(GymnasiumAdapter)
    assert compile_steps(batch, "CartPole-v1") == ["steps are not compiled: CartPole-v1 is stepped outside of PyTorch"]


def test_another_device_is_told() -> None:
    batch = cast(Any, make("cartpole", 4, "meta", compile=True))
    assert batch.prepare().endswith("the CPU only has compiled steps, and this batch is on meta")


def test_tensors_of_other_forms_are_not_the_same() -> None:
    one, other = torch.tensor([0.0, torch.nan]), torch.tensor([-0.0, torch.nan])
    assert same_bits(one, one.clone())
    assert not same_bits(one, other)
    assert not same_bits(one, cast(Tensor, one.double()))
