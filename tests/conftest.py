"""Settings of all tests: one thread, so that small tensors do not wait for each other, and examples that never vary."""

from __future__ import annotations

import functools
import gc
import os
import signal
import stat
import sys

os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # before anything imports pygame
os.environ.setdefault("WANDB_MODE", "disabled")
if "PYTEST_XDIST_WORKER" in os.environ:  # workers share the cores, and so do the processes that their tests start
    os.environ.setdefault("OMP_NUM_THREADS", "1")

from collections.abc import Iterator
from importlib import import_module
from typing import Any

import pytest
import torch
from garbage import leave_imports_alone
from hypothesis import HealthCheck, settings

from palaestra.envs.arm import reach, reach_torque
from palaestra.envs.arm.robots import scores
from palaestra.envs.interop import gymnasium_adapter
from palaestra.train.runs import callbacks, trainer

gc.disable()  # until all tests are collected
torch.set_num_threads(1)
settings.register_profile(
    "palaestra", derandomize=True, deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("palaestra")

# a job that a script puts in the background inherits an ignored SIGINT, one under nohup an ignored SIGHUP, and so would
# the processes that tests interrupt
signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, "SIGHUP"):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(autouse=True)
def path_of_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    """User code adds its folder to the search path of modules; the next test must not find it there."""
    monkeypatch.setattr(sys, "path", [*sys.path])


@pytest.fixture(scope="session", autouse=True)
def undivided() -> Iterator[None]:
    """Gymnasium environments are divided among processes where a test says so, not where a core is idle."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gymnasium_adapter, "time_divided", lambda work, count: work)
        yield


@pytest.fixture(scope="session", autouse=True)
def short_runs() -> Iterator[None]:
    """A run of this process is evaluated twice while it trains, not 10 times, and the episode at its end is cut."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(callbacks, "EVALUATIONS", 2)
        patch.setattr(trainer, "RECORDED_STEPS", 20)
        yield


@pytest.fixture(scope="module")
def few_targets() -> Iterator[None]:
    """The figures of an arm that is not the Panda are those of 40 held-out episodes, not of 1,000 (of 20, not 200)."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (scores, reach):
            patch.setattr(module, "HELD_OUT", 40)
        patch.setattr(reach_torque, "MEASURED", 20)
        for kept in (scores.held_out_bound, scores.first_bounds):  # from before, and for those that come later
            kept.cache_clear()
        yield
        for kept in (scores.held_out_bound, scores.first_bounds):
            kept.cache_clear()


@pytest.fixture(scope="session", autouse=True)
def one_table_of_operators() -> Iterator[None]:
    """PyTorch's table of ONNX's operators, which it makes anew for each file, is made once in this process.

    That is half a second of the 0.7 that a small policy takes.
    """
    real = torch.onnx.export

    @functools.cache
    def keep_table() -> None:
        registry = import_module("torch.onnx._internal.exporter._registration").ONNXRegistry
        patch.setattr(registry, "from_torchlib", staticmethod(functools.cache(registry.from_torchlib)))

    def with_one_table(*arguments: Any, **options: Any) -> Any:
        keep_table()
        return real(*arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.onnx, "export", with_one_table)
        yield


@pytest.fixture(scope="session", autouse=True)
def unflushed() -> Iterator[None]:
    """Files of this process are not forced to the disk, for which tests would wait: none of them cuts the power."""
    real = os.fsync

    def fsync(handle: int) -> None:
        mode = os.fstat(handle).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            real(handle)  # which may refuse

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        yield


# files with tests of many seconds: they begin first, so that no worker ends long after the others
LONG = (
    "docs/test_readme",
    "train/sweep/",
    "train/scaffold/",
    "train/test_cli",
    "train/results/",
    "agents/test_no_sync",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: not item.nodeid.startswith(tuple(f"tests/{name}" for name in LONG)))


def pytest_collection_finish(session: pytest.Session) -> None:
    """What is there now, all modules and tests, stays."""
    leave_imports_alone()
    gc.enable()
