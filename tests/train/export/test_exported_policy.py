"""Files of others play here, and nothing is imported because they say so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from policy_files import CONTRACT, model, written

from palaestra.train.config.schema import ConfigError
from palaestra.train.export.exported_policy import player_of

CODE = """
import pathlib
import gymnasium
from gymnasium.envs.classic_control import CartPoleEnv
pathlib.Path(__file__).with_name("ran").touch()
class Same(gymnasium.Wrapper):
    pass
class Cart(CartPoleEnv):
    pass
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder, the working one, with Python files that note that they have run."""
    for name in ("beside.py", "beside_module.py"):
        (tmp_path / name).write_text(CODE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def file_of(folder: Path, id: str, **settings: Any) -> Path:
    return written(folder, model(), {**CONTRACT, "environment": {"id": id, "settings": settings}})


@pytest.mark.parametrize(
    ("id", "settings", "named", "way_out"),
    [
        ("beside.py:Cart", {}, "beside.py:Cart", "--env beside.py:Cart"),
        ("{folder}/beside.py:Cart", {}, "beside.py:Cart", "--env /"),
        ("beside.py", {}, "beside.py", "--env beside.py"),
        ("beside_module:CartPole-v1", {}, "beside_module:CartPole-v1", "--env beside_module:CartPole-v1"),
        ("CartPole-v1", {"wrappers": ["beside.py:Same"]}, "beside.py:Same", "--set 'env.wrappers="),
        ("CartPole-v1", {"wrappers": [{"beside.py:Same": {}}]}, "beside.py:Same", "--set 'env.wrappers="),
        ("CartPole-v1", {"wrappers": ["beside_module:Same"]}, "beside_module:Same", "--set 'env.wrappers="),
        ("CartPole-v1", {"wrappers": "anything"}, "anything", "--set env.wrappers=anything"),
        ("GymV21Environment-v0", {"env_id": "beside_module:Cart-v0"}, "beside_module:Cart-v0", "--set env.env_id="),
        ("CartPole-v1", {"deep": {"er": [1, {"x": "beside_module:Same"}]}}, "beside_module:Same", "--set 'env.deep="),
    ],
)
def test_a_contract_imports_nothing(folder: Path, id: str, settings: Any, named: str, way_out: str) -> None:
    path = file_of(folder, id.format(folder=folder), **settings)
    with pytest.raises(ConfigError) as refusal:
        player_of(path, None, ())
    assert f"{path} would import" in str(refusal.value)
    assert named in str(refusal.value)
    assert way_out in str(refusal.value)
    assert not (folder / "ran").exists()


def test_a_user_who_names_the_code_runs_it(folder: Path) -> None:
    path = file_of(folder, "CartPole-v1", wrappers=["beside.py:Same"], max_episode_steps=7)
    for env in (None, "CartPole-v1"):
        with pytest.raises(ConfigError, match=r"would import beside\.py:Same"):
            player_of(path, env, ())
        player = player_of(path, env, ["env.wrappers=['beside.py:Same']"])
        assert player.env_kwargs == {"wrappers": ["beside.py:Same"], "max_episode_steps": 7}
    assert (folder / "ran").exists()


@pytest.mark.parametrize("id", ["beside.py:Cart", "{folder}/beside.py:Cart"])
def test_the_settings_go_with_an_environment_that_the_user_names(folder: Path, id: str) -> None:
    path = file_of(folder, id.format(folder=folder), max_episode_steps=7)
    assert player_of(path, "beside.py:Cart", ()).env_kwargs == {"max_episode_steps": 7}
    assert player_of(path, "CartPole-v1", ()).env_kwargs == {}
