"""The precision of a GPU's products: what it touches, where it is refused, and that a run tells and keeps it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from palaestra.envs import core
from palaestra.train.config import compatibility
from palaestra.train.config.run_config import RunConfig, resolve_config
from palaestra.train.config.schema import ConfigError
from palaestra.train.loggers.headline import computing
from palaestra.train.report.told_settings import differences, repeat_command
from palaestra.train.runs import machine, trainer
from palaestra.train.runs.run_folder import RunFolder


@pytest.fixture
def a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Devices are GPUs; nothing is computed on them."""
    for module in (core, compatibility):
        monkeypatch.setattr(module, "resolve_device", lambda name: torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)


def flags() -> tuple[str, bool, bool]:
    backends = torch.backends
    return torch.get_float32_matmul_precision(), backends.cuda.matmul.allow_tf32, backends.cudnn.allow_tf32


@pytest.mark.usefixtures("a_gpu")
@pytest.mark.parametrize(
    ("precision", "wanted"), [("float32", ("highest", False, False)), ("tf32", ("high", True, True))]
)
def test_one_word_decides_for_dense_layers_and_convolutions(precision: str, wanted: tuple[str, bool, bool]) -> None:
    before = flags()
    assert before == ("highest", False, True)  # PyTorch's own
    with contextlib.suppress(KeyError), machine.products_in(precision, "auto"):
        assert flags() == wanted
        raise KeyError  # a run may fail
    assert flags() == before


def test_nothing_changes_on_a_cpu() -> None:
    before = flags()
    with machine.products_in("tf32", "cpu"):
        assert flags() == before


def test_a_run_that_would_not_have_it_is_refused() -> None:
    with pytest.raises(ConfigError, match="precision=tf32: a GPU has it, and this run computes on the CPU"):
        resolve_config("cartpole", "ppo", device="cpu", precision="tf32")
    with pytest.raises(ConfigError, match="unknown precision 'bf16'; known: float32, tf32"):
        resolve_config("cartpole", "ppo", device="cpu", precision="bf16")
    with pytest.raises(ConfigError, match="use --precision tf32"):
        resolve_config("cartpole", "ppo", settings=["precision=tf32"])


@pytest.mark.usefixtures("a_gpu")
def test_a_run_keeps_it_and_is_repeated_with_it() -> None:
    config = resolve_config("cartpole", "ppo", precision="tf32")
    assert RunConfig.from_dict(config.as_dict()) == config  # on any machine, for evaluations
    found = differences(config.as_dict())
    assert "--precision tf32" in repeat_command(config.as_dict(), found, Path("config.yaml"))
    old = {key: value for key, value in config.as_dict().items() if key != "precision"}
    assert RunConfig.from_dict(old).precision == "float32"


def test_a_run_computes_in_it_and_one_that_goes_on_elsewhere_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A GPU's run that goes on on a CPU: the configuration says tf32, which the CPU does not have."""
    seen: list[tuple[str, str]] = []

    @contextlib.contextmanager
    def spy(precision: str, device: str) -> Iterator[None]:
        seen.append((precision, device))
        yield

    monkeypatch.setattr(trainer, "products_in", spy)
    small: dict[str, Any] = {"num_envs": 8, "total_timesteps": 128, "device": "cpu"}
    config = resolve_config("cartpole", "ppo", settings=["n_steps=16", "batch_size=16"], **small)
    trainer.train(replace(config, precision="tf32"), RunFolder.new(config, tmp_path / "run"), "disabled")
    assert seen == [("tf32", "cpu")]
    assert "computes in float32 (tf32 is a GPU's); rollouts keep observations" in capsys.readouterr().out


class Model:
    """What :func:`computing` asks of an agent."""

    keeps_replay = False

    def __init__(self, replays: bool, store: object) -> None:
        self.batch, self.rollout_buffer = type("Batch", (), {"device": torch.device("cuda")}), self
        self.store, self._replays = store, replays

    def replays_graphs(self) -> bool:
        return self._replays

    def stores_states(self) -> bool:
        return self.store is not None


@pytest.mark.usefixtures("a_gpu")
@pytest.mark.parametrize(
    ("options", "replays", "store", "told"),
    [
        ({}, True, None, "computes in float32; CUDA graphs; rollouts keep observations"),
        (
            {"precision": "tf32"},
            True,
            1,
            "computes in TF32 products, all else float32; CUDA graphs; rollouts keep s",
        ),
        ({"graph": False}, False, None, "computes in float32; operations one by one (--no-graph); rollouts keep"),
        ({}, False, None, "computes in float32; operations one by one: these cannot be recorded; rollouts keep"),
    ],
)
def test_a_run_says_how_it_computes(options: dict[str, Any], replays: bool, store: object, told: str) -> None:
    config = resolve_config("cartpole", "ppo", **options)
    assert computing(config, Model(replays, store)).startswith(told)  # type: ignore[arg-type]


def test_products_are_part_of_the_arithmetic_that_a_run_began_with(monkeypatch: pytest.MonkeyPatch) -> None:
    assert machine.arithmetic()["products"] == "float32"
    began = machine.arithmetic() | {"products": "tf32"}
    told = "training began with products tf32 and goes on with products float32: the result is not the same"
    assert (machine.other_arithmetic(began) or "").startswith(told)
    del began["products"]
    assert machine.other_arithmetic(began) is None  # an older run's
