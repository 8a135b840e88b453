"""Episodes as Minari data sets: what is written comes back, in Minari's words too, and other data sets are refused."""

from __future__ import annotations

import builtins
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import palaestra

from palaestra.envs.registry import resolve
from palaestra.envs.specs import TensorEnvSpec
from palaestra.train.config.run_config import resolve_config
from palaestra.train.config.schema import ConfigError
from palaestra.train.datasets import minari_files
from palaestra.train.datasets.played import played_episodes
from palaestra.train.evaluation.policies import ExpertPolicy, Player
from palaestra.train.runs import trainer
from palaestra.train.runs.trainer import train_new


@pytest.fixture
def minari(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    pytest.importorskip("h5py", reason="Minari's extra hdf5 is not installed")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    return pytest.importorskip("minari", reason="Minari is not installed")


def player(env: str, **env_kwargs: Any) -> Player:
    return Player(env, env_kwargs, ExpertPolicy(), "cpu", "expert")


def recorded(env: str, count: int = 5, **env_kwargs: Any) -> list[Any]:
    return [*played_episodes(player(env, **env_kwargs), count, 3, resolve(env).open)]


def origin(env: str, **env_kwargs: Any) -> minari_files.Origin:
    return minari_files.Origin(resolve(env), env_kwargs, "expert", 3)


# ------------------------------------------------------------------------------------------------------------ recording


def test_recorded_episodes_are_those_that_play_alone() -> None:
    env = resolve("reach").open(1, "cpu", 3, first_env_index=2)
    obs, _ = env.reset()
    seen, acted, rewards = [obs], [], []
    for _ in range(1000):
        action = env.env.expert(env.state)  # type: ignore[attr-defined]
        obs, reward, terminated, truncated, info = env.step(action)
        acted.append(action)
        rewards.append(reward)
        seen.append(info["final_obs"])
        if terminated | truncated:
            break
    found = recorded("reach")[2]
    np.testing.assert_allclose(found.observations, np.stack([s[0].numpy() for s in seen]), atol=1e-6)
    np.testing.assert_allclose(found.actions, np.stack([a[0].numpy() for a in acted]), atol=1e-6)
    np.testing.assert_allclose(found.rewards, [float(r) for r in rewards], atol=1e-6)
    assert found.terminated == bool(terminated)


def test_what_is_written_comes_back_in_minaris_words(minari: Any) -> None:
    episodes = recorded("snake-small")
    folder = minari_files.write("snake/expert-v0", episodes, origin("snake-small"))
    assert (folder / "data").is_dir()
    found = minari.load_dataset("snake/expert-v0")
    assert (found.total_episodes, found.total_steps) == (5, sum(len(e.rewards) for e in episodes))
    for ours, theirs in zip(episodes, found.iterate_episodes(), strict=True):
        assert np.array_equal(ours.observations, theirs.observations)
        assert np.array_equal(ours.actions, theirs.actions)
        assert np.array_equal(ours.rewards, theirs.rewards)
        assert theirs.terminations.tolist() == [False] * (len(ours.rewards) - 1) + [ours.terminated]
        assert theirs.truncations[-1] == (not ours.terminated)
    env = found.recover_environment()
    assert env.observation_space == resolve("snake-small").spaces({})[0]
    read = minari_files.read("snake/expert-v0", resolve("snake-small"), {})
    assert read.steps == found.total_steps
    assert read.returns.tolist() == [float(e.rewards.sum()) for e in episodes]


def test_a_run_clones_a_data_set(
    minari: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("validation_episodes", "evaluation_episodes"):
        monkeypatch.setattr(TensorEnvSpec, name, 32)
    monkeypatch.setattr(trainer, "_record_episode", lambda *args: None)
    assert (
        palaestra(
            monkeypatch, *["record", "expert", "--env", "pricing", "--minari", "pricing/e-v0", "--episodes", "40"]
        )
        == 0
    )
    assert "pricing/e-v0: 40 episodes, " in capsys.readouterr().out
    settings = ("n_steps=8", "batch_size=64")
    options: dict[str, Any] = {"num_envs": 32, "total_timesteps": 32 * 8 * 300, "threads": 1}
    config = resolve_config("pricing", "bc", settings=settings, dataset="pricing/e-v0", **options)
    result = train_new(config, tmp_path / "run")
    said = " ".join(capsys.readouterr().out.split())
    assert re.search(r"cloning the 40 episodes of pricing/e-v0, whose mean return is 1,[34]\d\d", said)
    assert "% of the expert's" in said
    assert result.evaluation is not None
    assert result.evaluation.more["exact_mean"] > 0.97 * result.evaluation.reference["optimum"]


# ------------------------------------------------------------------------------------------------------ what is refused


def test_data_sets_of_others_are_refused(minari: Any) -> None:
    minari_files.write("arm/reach-v0", recorded("reach", 2), origin("reach"))
    minari_files.write("arm/short-v0", recorded("pricing", 2, periods=30), origin("pricing", periods=30))
    for name, env, kwargs, told in [
        (
            "arm/reach-v0",
            "pricing",
            {},
            r"arm/reach-v0 was recorded on palaestra/PandaReach-v0, and the run is on pricing",
        ),
        (
            "arm/reach-v0",
            "reach",
            {"control": "cartesian"},
            r"arm/reach-v0 was recorded with actions Box.*has Discrete",
        ),
        ("arm/short-v0", "pricing", {}, "was recorded with env.periods=30, and the run has its default"),
        (
            "arm/no-v0",
            "pricing",
            {},
            r"no Minari data set arm/no-v0 in .*minari.*: there are arm/reach-v0, arm/short-v0",
        ),
        (
            "an arm-v0",
            "pricing",
            {},
            "'an arm-v0' is no name of a Minari data set: they are like snake/expert-v0, with a version",
        ),
        ("arm/reach", "pricing", {}, "is no name of a Minari data set"),
    ]:
        with pytest.raises(ConfigError, match=told):
            minari_files.read(name, resolve(env), kwargs)


def test_a_data_set_is_never_overwritten_and_a_failed_one_leaves_nothing(
    minari: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = minari_files.write("one-v0", recorded("reach", 1), origin("reach"))
    with pytest.raises(ConfigError, match="exists already; a data set is never overwritten"):
        minari_files.write("one-v0", recorded("reach", 1), origin("reach"))

    def full(*args: Any, **kwargs: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("minari.dataset._storages.hdf5_storage.HDF5Storage.update_episodes", full)
    with pytest.raises(OSError, match="No space left"):
        minari_files.write("two-v0", recorded("reach", 1), origin("reach"))
    assert folder.is_dir()
    assert not (folder.parent / "two-v0").exists()


def test_without_minari_a_line_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.partition(".")[0] in ("minari", "h5py"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(builtins, "__import__", without)
    for command in ("record expert --env reach --minari a-v0", "train reach --agent bc --dataset a-v0"):
        assert palaestra(monkeypatch, *command.split()) == 2
        assert capsys.readouterr().err == "palaestra: error: data sets need Minari: pip install 'palaestra[datasets]'\n"
    assert not [*tmp_path.iterdir()]
