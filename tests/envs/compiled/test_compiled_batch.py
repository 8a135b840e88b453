"""Steps that a C++ compiler has made give the bits of plain ones; where there is none, or it fails, steps are plain."""

from __future__ import annotations

import pickle
import shutil
import warnings
from pathlib import Path
from typing import Any, cast

import probes
import pytest
import torch
from gymnasium.spaces import Discrete
from torch import Tensor
from walk import Walk

from palaestra.envs import make
from palaestra.envs.building import vector_env
from palaestra.envs.compiled import compile_steps, exact_inductor
from palaestra.envs.compiled.batch import CompiledVectorEnv, same_bits
from palaestra.envs.compiled.lanes import lane_rng
from palaestra.envs.core.batching.constants import kept_number
from palaestra.envs.core.rng import Rng, env_keys, sample_actions
from palaestra.envs.interop.gymnasium_adapter import GymnasiumAdapter

needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")
LIMIT = 20


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A place for compiled files that is empty at first."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path_factory.mktemp("inductor")))
        yield


@pytest.fixture(scope="module")
def cartpole(cache: Any) -> CompiledVectorEnv[Any]:
    """37 rows: no multiple of what a processor computes at once."""
    batch: Any = make("cartpole", 37, "cpu", seed=3, compile=True, max_episode_steps=LIMIT)
    assert batch.prepare().startswith("steps are compiled ("), batch.prepare()
    return batch  # type: ignore[no-any-return]


def actions_of(batch: Any, step: int) -> Tensor:
    return sample_actions(batch.single_action_space, Rng(env_keys(9, batch.env_indices), step))


def told(outcome: Any) -> list[Tensor]:
    obs, reward, terminated, truncated, info = outcome
    return [obs, reward, terminated, truncated, info["final_obs"], info["_final_obs"], *info["episode"].values()]


@needs_compiler
def test_compiled_steps_are_plain_steps_in_every_bit(cartpole: Any) -> None:
    """Across many ends of episodes, and for rows of it in a smaller batch."""
    plain = make("cartpole", 37, "cpu", seed=3, max_episode_steps=LIMIT)
    few = make("cartpole", 5, "cpu", seed=3, max_episode_steps=LIMIT, first_env_index=30)
    for batch in (cartpole, plain, few):
        batch.reset(seed=3)
    for step in range(6 * LIMIT):
        actions = actions_of(plain, step)
        found, expected, part = cartpole.step(actions), plain.step(actions), few.step(actions[30:35])
        for one, other, some in zip(told(found), told(expected), told(part), strict=True):
            assert same_bits(one, other), f"step {step}"
            assert same_bits(one[30:35], some), f"step {step}"
    assert cartpole.why_not is None
    assert int(plain.episode.min()) >= 5
    ours, theirs = (cast(Any, batch).state_dict() for batch in (cartpole, plain))
    assert all(same_bits(ours["state"][name], field) for name, field in theirs["state"].items())
    assert all(same_bits(ours[name], theirs[name]) for name in ("episode", "episode_length", "episode_return"))


@needs_compiler
def test_plain_and_compiled_steps_may_follow_each_other(cartpole: Any) -> None:
    """As after loading a checkpoint of the other kind."""
    plain = make("cartpole", 37, "cpu", seed=3, max_episode_steps=LIMIT)
    for batch in (cartpole, plain):
        batch.reset(seed=4)
    for step in range(4 * LIMIT):
        actions = actions_of(plain, step)
        for one, other in zip(told(cartpole.step(actions)), told(plain.step(actions)), strict=True):
            assert same_bits(one, other), f"step {step}"
        if step % 7 == 3:
            mine, its = cartpole.state_dict(), plain.state_dict()
            cartpole.load_state_dict(its)
            plain.load_state_dict(mine)


@needs_compiler
def test_what_a_plain_step_refuses_is_refused(cartpole: Any) -> None:
    plain = make("cartpole", 37, "cpu", seed=3, max_episode_steps=LIMIT)
    for batch in (cartpole, plain):
        batch.reset(seed=5)
    before = cartpole.state
    messages = []
    for batch in (cartpole, plain):
        with pytest.raises(ValueError, match="actions") as error:
            batch.step(torch.full((37,), 2))
        messages.append(str(error.value))
    assert messages[0] == messages[1]
    assert cartpole.state is before


@needs_compiler
def test_other_rules_are_stepped_plainly(cartpole: Any, cache: Any) -> None:
    """As soon as an attribute is another than those that were compiled."""
    batch: Any = pickle.loads(pickle.dumps(cartpole))
    batch.prepare()  # from the compiled files
    plain: Any = make("cartpole", 37, "cpu", seed=3, max_episode_steps=LIMIT)
    for each in (batch, plain):
        each.reset(seed=6)
        each.env.gravity = 20.0
    for step in range(3):
        actions = actions_of(plain, step)
        for one, other in zip(told(batch.step(actions)), told(plain.step(actions)), strict=True):
            assert same_bits(one, other)
    assert batch.why_not == "CartPole: an attribute of the rules has changed"


SPECIAL = [0.0, -0.0, 1.0, -1.0, 0.1, 3e38, -3e38, 1e-40, torch.inf, -torch.inf, torch.nan, 0.5, 1.5, 2.5, -2.5]


def many_operations(x: Tensor, y: Tensor, k: Tensor) -> list[Tensor]:
    """Those that are fused, those that are not, and those that are taken apart."""
    total = torch.stack((x, y, x * y), 1)
    fused = [x + 0.0, x * 1.0, x * 0.1 + y, x - y * x, x / y, x.clamp(-1.0, 1.0), torch.where(x < y, x, -y)]
    fused += [torch.minimum(x, y), torch.maximum(x, y), x.abs().sqrt(), x.floor(), x.ceil(), x.square() * y + x]
    called = [x.sin(), (y + x).exp(), x.tanh(), total.sum(1), x.cumsum(0), torch.add(x, y, alpha=0.3)]
    called += [torch.addcmul(x, y, y, value=0.3), torch.addcmul(y, x, x), total[:, 2] + 1.0]
    apart = [torch.addcdiv(x, y, y + 0.7, value=-0.1), torch.addcmul(kept_number(0.0), x, y, value=0.3)]
    whole = [(k >> 3) ^ k, k * 0x5DEECE66D, k & 255, (k * 3).to(torch.float32) * 0.1]
    return [*fused, *called, *apart, *whole]


@needs_compiler
def test_operations_keep_their_bits(cache: Any) -> None:
    """On zeros of either sign, infinities, what is no number, denormal numbers and rows beyond whole vectors."""
    generator = torch.Generator().manual_seed(0)
    special = torch.tensor(SPECIAL)
    pairs = torch.cartesian_prod(special, special)
    x, y = (torch.cat((pairs[:, i], torch.randn(100, generator=generator))) for i in range(2))
    k = torch.randint(-(2**62), 2**62, x.shape, generator=generator)
    function = exact_inductor.compiled(many_operations, [x, y, k])
    found, expected = function([x, y, k]), many_operations(x, y, k)
    for number, (one, other) in enumerate(zip(found, expected, strict=True)):
        nan = other.isnan() if other.is_floating_point() else torch.zeros_like(other, dtype=torch.bool)
        assert same_bits(one.masked_fill(nan, 0), other.masked_fill(nan, 0)), f"output {number}"
        assert not nan.any() or bool(one[nan].isnan().all()), f"output {number}"


REQUESTS = [
    ("uniform", (4,), -0.05, 0.05, torch.float32),
    ("integers", (3,), 0, 7),
    ("normal", (2, 2), torch.float32),
    ("bits", (3,)),
    ("uniform", (2,), 0.0, 1.0, torch.float64),
    ("uniform", (), 0.0, 1.0, torch.float32),
    ("integers", (40,), -3, 7),
]


def test_draws_in_lanes_are_the_draws() -> None:
    keys = env_keys(3, torch.arange(50))
    ours, theirs = lane_rng(keys, 5), Rng(keys, 5)
    for request in REQUESTS:
        one, other = ours.repeat(request), theirs.repeat(request)
        assert one.shape == other.shape
        assert same_bits(one, other), request


def falls_back(batch: Any, why: str) -> None:
    """Steps are those of a plain batch, and one warning says why."""
    plain = vector_env(8, probes.ConstantReward(), device="cpu", seed=1)
    for each in (batch, plain):
        each.reset()
    actions = actions_of(plain, 0)
    with pytest.warns(UserWarning, match=why):
        outcome = batch.step(actions)
    for step in range(1, 4):
        for one, other in zip(told(outcome), told(plain.step(actions)), strict=True):
            assert same_bits(one, other)
        actions = actions_of(plain, step)
        with warnings.catch_warnings(action="error"):  # it comes once
            outcome = batch.step(actions)
    assert batch.prepare() == f"steps are not compiled: {batch.why_not}"


def constant() -> Any:
    return vector_env(8, probes.ConstantReward(), device="cpu", seed=1, compile=True)


def compiler_is(place: str) -> Any:
    from torch._inductor import config

    return config.patch({"cpp.cxx": (None, place)})


def test_without_a_compiler_steps_are_plain() -> None:
    with compiler_is("no-such-compiler"):
        falls_back(constant(), r"ConstantReward: there is no C\+\+ compiler no-such-compiler \(install g\+\+, or name")


def test_a_compiler_that_fails_is_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """What it prints is for nobody."""
    compiler = tmp_path / "g++"
    script = ("#!/bin/sh", "case $1 in *version*) exec g++ $1;; esac", "echo 'internal compiler error' >&2", "exit 1")
    compiler.write_text("\n".join(script))
    compiler.chmod(0o755)
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    with compiler_is(str(compiler)):
        falls_back(constant(), r"ConstantReward: the C\+\+ compiler .*g\+\+ failed$")
    assert "internal compiler error" not in "".join(capfd.readouterr())


@needs_compiler
def test_a_cache_that_cannot_be_written_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "file" / "cache"))
    falls_back(constant(), "ConstantReward: .*file.*")


@needs_compiler
def test_rules_that_count_are_stepped_plainly() -> None:
    batch: Any = vector_env(8, Walk(Discrete(3)), device="cpu", seed=1, compile=True)
    batch.reset()
    with pytest.warns(UserWarning, match="Walk: .*attribute steps of the rules"):
        batch.step(torch.zeros(8, dtype=torch.int64))
    assert batch.env.steps == 1  # those beside a plain batch do not count


@needs_compiler
def test_rules_that_look_for_rows_are_stepped_plainly() -> None:
    batch: Any = make("snake-small", 8, "cpu", compile=True)
    assert batch.prepare().startswith("steps are not compiled: Snake: ")
    batch.reset()
    with warnings.catch_warnings(action="error"):
        batch.step(torch.zeros(8, dtype=torch.int64))


def test_other_peoples_environments_are_named() -> None:
    batch = GymnasiumAdapter.__new__(GymnasiumAdapter)
    assert compile_steps(batch, "CartPole-v1") == ["steps are not compiled: CartPole-v1 is stepped outside of PyTorch"]


def test_another_device_is_told() -> None:
    batch: Any = make("cartpole", 4, "meta", compile=True)
    assert batch.prepare().endswith("the CPU only has compiled steps, and this batch is on meta")
