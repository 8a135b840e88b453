"""Names that are checked without PyTorch: the early checks refuse nothing that the later ones accept."""

from __future__ import annotations

from pathlib import Path

import pytest

from palaestra.envs import entries
from palaestra.envs.core.suggest import closest
from palaestra.train.config import AGENTS, agent_places, check_names, option_names
from palaestra.train.config.run_config import RunConfig, resolve_config
from palaestra.train.config.schema import ConfigError, options_of
from palaestra.train.runs.finding import check_run_names


@pytest.mark.parametrize("agent", agent_places())
def test_the_settings_in_an_agents_source_are_those_of_its_class(agent: str) -> None:
    assert {*option_names(agent)} == {*options_of(AGENTS[agent])}


@pytest.mark.parametrize("agent", agent_places())
def test_no_other_setting_is_taken_for_a_mistyped_one(agent: str) -> None:
    """Arguments of our environments and of the run have messages of their own."""
    names = option_names(agent)
    of_environments = {key for entry in entries() for key in entry.kwarg_kinds()}
    for key in {*of_environments, *RunConfig.__dataclass_fields__} - {*names}:
        assert closest(key, names, 0.8) is None, key
        check_names({"env": "snake", "agent": agent, "settings": [f"{key}=1"]})


@pytest.mark.parametrize(
    ("agent", "setting"), [("ppo", "n_step=64"), ("dqn", "lerning_rate=1"), ("pqn", "policy_kwarg.net_arch=[8]")]
)
def test_both_checks_say_the_same(agent: str, setting: str) -> None:
    with pytest.raises(ConfigError) as early:
        check_names({"env": "snake", "agent": agent, "settings": [setting]})
    with pytest.raises(ConfigError) as late:
        resolve_config("snake", agent, settings=[setting])
    assert str(early.value) == str(late.value)


def test_what_is_there_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("run:best").mkdir()
    Path("latest:nowhere").mkdir()
    for name in ("random", "expert", "latest", "latest:best", "latest:snake:best", "run:best", "latest:nowhere"):
        check_run_names({"run": name})
    for name in ("", None, "snake", "palaestra/Snake-v0", "Acrobot-v1", "some.where:Env", "file.py:Env", "file.py"):
        check_names({"env": name, "agent": None, "config": None, "settings": ["no_value", "env.size=8"]})
    check_names({"env": "snake", "agent": None, "config": Path("mine.yaml"), "settings": ["n_step=1"]})
