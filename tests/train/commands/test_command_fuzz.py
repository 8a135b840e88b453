"""A short run of fuzz_commands.py, and what its long runs have found."""

from __future__ import annotations

from pathlib import Path
from unittest import mock

import fuzz_commands as fuzz
import pytest
import torch

from palaestra.train.config.run_config import resolve_config
from palaestra.train.config.schema import ConfigError
from palaestra.train.runs.run_folder import RunFolder


def test_files_and_command_lines_are_accepted_or_refused_in_one_line() -> None:
    counts = fuzz.fuzz(100, 0)
    assert {*counts} == {"configuration files", "command lines"}
    for found in counts.values():
        assert found["exit 0"] > 3  # of 100, most of them are wrong in some way
        assert found["exit 2"] > 20
        assert found.total() == found["exit 0"] + found["exit 2"]


def test_the_harness_notices_what_is_not_in_order() -> None:
    """A traceback, two lines, and a file left behind."""

    def leave(*args: object, **kwargs: object) -> None:
        Path("left").mkdir()
        raise ConfigError("no")

    with fuzz.workplace():
        assert fuzz.outcome(["train", "cartpole", "--num-envs", "0"]) == "exit 2"
        with mock.patch.object(fuzz.trainer, "train", side_effect=ZeroDivisionError), pytest.raises(ZeroDivisionError):
            fuzz.outcome(["train", "cartpole"])
        with mock.patch.object(fuzz.trainer, "train", leave), pytest.raises(AssertionError, match="left"):
            fuzz.outcome(["train", "cartpole"])


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("policy_kwargs.net_arch=abc", "net_arch=abc"),
        ("policy_kwargs.net_arch=[-1]", r"net_arch=\[-1\]"),
        ("policy_kwargs.net_arch=[1000000000,1000000000]", "such networks do not fit into memory"),
        ("policy_kwargs.optimizer_kwargs={bets: 1}", "unexpected keyword argument 'bets'"),
        ("policy_kwargs.features_extractor_kwargs={hidden: [8]}", "unexpected keyword argument 'hidden'"),
    ],
)
def test_arguments_of_networks_are_tried(setting: str, message: str, tmp_path: Path) -> None:
    config = resolve_config("cartpole", "ppo", settings=[setting])
    with pytest.raises(ConfigError, match=rf"^policy_kwargs \(.*{message}"):
        RunFolder.new(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_what_a_directory_is_given_for_is_bad_usage() -> None:
    with fuzz.workplace():
        assert fuzz.outcome(["results", "--readme", "."]) == "exit 2"
        assert fuzz.outcome(["fit-demand", "."]) == "exit 2"


def test_trying_them_takes_no_random_numbers(tmp_path: Path) -> None:
    before = torch.get_rng_state()
    RunFolder.new(resolve_config("reach", "ppo"), tmp_path / "run")
    assert torch.equal(torch.get_rng_state(), before)
