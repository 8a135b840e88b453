"""The list of agents: one line each, and agents of other packages, which bring all that is asked of one."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import command

from palaestra.agents.base import OnDeviceAlgorithm
from palaestra.envs.core.user_code import UserCodeError
from palaestra.envs.registry import resolve
from palaestra.train import config as config_package
from palaestra.train.config import AGENTS, OWN_AGENTS, agent_errors, agent_places, option_names
from palaestra.train.config.presets import load_presets, preset
from palaestra.train.config.run_config import resolve_config
from palaestra.train.config.schema import ConfigError
from palaestra.train.runs import trainer

ROOT = Path(__file__).parents[3]

MINE = '''
from palaestra.agents import PPO


class Fixed(PPO):
    """PPO that never explores a Box."""

    acts_in = "a Discrete action space"
    searched = {"gamma": 2.0}
    presets = {"palaestra/CartPole-v1": {"num_envs": 16, "agent_kwargs": {"n_steps": 8, "batch_size": 32}}}

    @classmethod
    def can_act(cls, space):
        return type(space).__name__ == "Discrete"
'''


@pytest.fixture(autouse=True)
def _plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A package on the path with four entry points: one good, one that fails, one that is no agent, one named ppo."""
    (tmp_path / "mine_plugin.py").write_text(MINE, encoding="utf-8")
    (tmp_path / "bad_plugin.py").write_text("raise RuntimeError('no licence')", encoding="utf-8")
    info = tmp_path / "mine-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n", encoding="utf-8")
    points = "fixed = mine_plugin:Fixed\nbad = bad_plugin:Agent\nodd = mine_plugin:PPO.load\nppo = mine_plugin:Fixed\n"
    (info / "entry_points.txt").write_text(f"[palaestra.agents]\n{points}", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    caches = (config_package.agent_places, config_package._agent_class, load_presets)
    for cached in caches:
        cached.cache_clear()
    yield
    for cached in caches:
        cached.cache_clear()
    sys.modules.pop("mine_plugin", None)


def test_the_list_is_ours_and_then_that_of_plugins() -> None:
    assert [*agent_places()] == [*OWN_AGENTS, "fixed", "bad", "odd"]
    assert [*AGENTS] == [*OWN_AGENTS, "fixed"] == list(AGENTS)
    assert len(AGENTS) == len(OWN_AGENTS) + 1
    assert AGENTS["fixed"].__name__ == "Fixed"
    assert AGENTS["ppo"].__module__ == "palaestra.agents.ppo"
    assert all(issubclass(kind, OnDeviceAlgorithm) for kind in AGENTS.values())


def test_names_and_completions_need_no_class() -> None:
    code = (
        "import sys\nfrom palaestra.train.config import agent_places, check_names\n"
        "check_names({'env': 'snake', 'agent': 'fixed'})\nassert 'fixed' in agent_places()\n"
        "print([m for m in ('torch', 'mine_plugin', 'bad_plugin') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_a_plugin_that_fails_stops_nothing_else_and_says_what_is_wrong() -> None:
    assert agent_errors() == {
        "bad": "the plug-in agent bad cannot be imported: RuntimeError: no licence (bad_plugin.py:1)",
        "odd": "the plug-in agent odd cannot be imported: "
        "AttributeError: module 'mine_plugin' has no attribute 'PPO.load'",
    }
    with pytest.raises(UserCodeError, match="agent bad cannot be imported: RuntimeError: no licence"):
        resolve_config("cartpole", "bad")
    with pytest.raises(ConfigError, match="unknown agent 'fixd'; did you mean 'fixed'"):
        resolve_config("cartpole", "fixd")


def test_its_class_says_where_it_can_act_what_to_search_and_how_to_train() -> None:
    with pytest.raises(ConfigError, match="fixed needs a Discrete action space, palaestra/PandaReach-v0 has Box"):
        resolve_config("reach", "fixed")
    cartpole = resolve_config("cartpole", "fixed")
    assert (cartpole.num_envs, cartpole.agent_kwargs["n_steps"]) == (16, 8)
    assert preset(resolve("snake"), "fixed").num_envs == 64
    assert {"gae_lambda", "n_steps"} <= {*option_names("fixed")}


def test_a_preset_of_a_plugin_that_is_none_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AGENTS["fixed"], "presets", {"palaestra/CartPole-v1": {"num_env": 3}})
    with pytest.raises(ConfigError, match="the preset of palaestra/CartPole-v1 for fixed: unknown key 'num_env'"):
        resolve_config("cartpole", "fixed")


def test_the_commands_take_a_plugins_agent_as_they_take_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(trainer, "_record_episode", lambda *args: None)
    short = "--total-timesteps 256 --track disabled --no-report --device cpu"
    for line, found in [
        (f"train cartpole --agent fixed --run-dir run {short}", "fixed on"),
        ("evaluate run --episodes 4", "mean return"),
        ("envs cartpole", "fixed (1.0 M steps)"),
        ("envs", "no licence"),
        ("train cartpole --agent bad", "palaestra: error: the plug-in agent bad cannot be imported"),
    ]:
        assert command(monkeypatch, line) == (2 if "bad" in line else 0)
        assert found in "".join(capsys.readouterr())
