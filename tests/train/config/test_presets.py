"""Presets: the files, those of plug-ins, and those that a class has from the class that it is derived from."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import pytest
import yaml

from palaestra.envs import entries, register, registry, resolve
from palaestra.envs.wrappers import WRAPPER_SETTINGS
from palaestra.train.config import AGENTS
from palaestra.train.config.compatibility import check_policy
from palaestra.train.config.presets import find_preset, load_presets, preset
from palaestra.train.config.run_config import RunConfig, resolve_config
from palaestra.train.config.schema import ConfigError
from palaestra.train.results.grid import grid
from palaestra.train.runs.trainer import train_new

SNAKE = "palaestra.envs.snake:Snake"
PRESETS = Path(__file__).parents[3] / "train/config/presets"
TINY: dict[str, Any] = {
    "num_envs": 16,
    "total_timesteps": 256,
    "env_kwargs": {"observation": "grid"},
    "agent_kwargs": {"n_steps": 8, "batch_size": 64, "gamma": 0.9, "policy_kwargs": {"net_arch": [8]}},
}


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Environments that a test registers are gone after it, and so are the folders that its files add to the path."""
    before = set(registry._ENTRIES)
    monkeypatch.setattr("sys.path", list(sys.path))
    yield
    for id in set(registry._ENTRIES) - before:
        del registry._ENTRIES[id]
        del gymnasium.registry[id]


def tiny(presets: Any, **kwargs: Any) -> None:
    register("me/Tiny-v0", SNAKE, "tiny", "Snake on 4×4", presets=presets, **({"size": 4} | kwargs))


# ------------------------------------------------------------------------------------------- the files


@pytest.mark.parametrize("agent", AGENTS)
def test_an_entry_of_the_file_is_a_configuration_file(agent: str, tmp_path: Path) -> None:
    """Copied into a file of its own it gives the very run that the preset gives."""
    path = PRESETS / f"{agent}.yaml"
    for env, entry in yaml.safe_load(path.read_text(encoding="utf-8")).items():
        assert set(entry) <= {"num_envs", "total_timesteps", "env_kwargs", "agent_kwargs", "other"}
        entry.pop("other", None)
        if "/" in env:
            assert resolve_config(env, agent, file=entry) == resolve_config(env, agent)


def test_known_values_of_the_files() -> None:
    found = {agent: len(load_presets(agent)) for agent in AGENTS}
    assert found == {"ppo": 14, "dqn": 13, "pqn": 8, "sac": 6, "td3": 5, "bc": 9, "recurrent-ppo": 4}
    gammas = [preset(resolve(f"snake{size}"), "ppo").agent_kwargs["gamma"] for size in ("-small", "", "-large")]
    assert gammas == [0.995, 0.997, 0.998]
    entropy = [preset(resolve(f"snake{size}"), "ppo").agent_kwargs["ent_coef"] for size in ("-small", "", "-large")]
    assert entropy == ["linear(0.02, 0)", "linear(0.02, 0)", "linear(0.05, 0)"]
    assert preset(resolve("cartpole"), "pqn").agent_kwargs["symmetry"] == "equivariant"
    assert {preset(resolve("reach"), agent).agent_kwargs["gamma"] for agent in ("dqn", "pqn")} == {0.98}
    duopoly = preset(resolve("pricing-duopoly"), "dqn").agent_kwargs
    assert (duopoly["n_steps"], duopoly["exploration_spread"], duopoly["buffer_size"]) == (10, 3.0, 1_000_000)


@pytest.mark.parametrize("usual", [(), ("env.robot=panda",), ("env.action_delay=1",)])
def test_the_panda_trains_with_the_preset_as_it_is(usual: tuple[str, ...]) -> None:
    written = yaml.safe_load((PRESETS / "ppo.yaml").read_text(encoding="utf-8"))["palaestra/PandaReach-v0"]
    del written["other"]
    found = resolve_config("reach", settings=usual)
    assert found.agent_kwargs == resolve_config("reach", file=written).agent_kwargs
    assert set(found.agent_kwargs["policy_kwargs"]) == set(written["agent_kwargs"]["policy_kwargs"])


@pytest.mark.usefixtures("few_targets")
@pytest.mark.parametrize("other", ["env.robot=so101", "env.robot={from: panda, velocity: 1.0}", "env.robot.tool=0.3"])
def test_another_robot_has_a_change_of_its_own_in_the_preset_and_nothing_else(other: str) -> None:
    plain, found = resolve_config("reach"), resolve_config("reach", settings=[other])
    policy = {**plain.agent_kwargs["policy_kwargs"], "log_std_init": -1.5}
    assert found.agent_kwargs == {**plain.agent_kwargs, "policy_kwargs": policy}
    assert (found.num_envs, found.total_timesteps) == (plain.num_envs, plain.total_timesteps)


@pytest.mark.usefixtures("few_targets")
def test_what_is_given_beats_the_change_for_another_robot() -> None:
    """A whole ``config.yaml``, of a run with older settings, stands for itself."""
    robot = "env.robot=so101"
    given = resolve_config("reach", settings=[robot, "policy_kwargs.log_std_init=-0.5", "gamma=0.9"])
    assert (given.agent_kwargs["policy_kwargs"]["log_std_init"], given.agent_kwargs["gamma"]) == (-0.5, 0.9)
    assert given.agent_kwargs["policy_kwargs"]["net_arch"] == []
    part = {"env_kwargs": {"robot": "so101"}, "agent_kwargs": {"policy_kwargs": {"net_arch": [8]}}}
    assert resolve_config("reach", file=part).agent_kwargs["policy_kwargs"] == {"net_arch": [8]}
    older = resolve_config("reach", settings=[robot]).as_dict()
    del older["agent_kwargs"]["policy_kwargs"]["log_std_init"]
    assert "log_std_init" not in resolve_config(file=older).agent_kwargs["policy_kwargs"]


# ------------------------------------------------------------------------------------------- plug-ins


def test_a_plug_in_brings_its_preset_trains_with_it_and_is_in_the_grid(tmp_path: Path) -> None:
    tiny({"ppo": TINY})
    config = resolve_config("tiny")
    assert (config.num_envs, config.total_timesteps, config.env_kwargs) == (16, 256, {"observation": "grid"})
    assert {k: config.agent_kwargs[k] for k in ("n_steps", "gamma")} == {"n_steps": 8, "gamma": 0.9}
    assert train_new(config, tmp_path / "run").num_timesteps == 256
    runs = {(run.name, run.config.agent) for run in grid([], ["ppo"], 1, tmp_path)}
    assert ("tiny", "ppo") in runs
    (run,) = grid(["me/Tiny-v0"], ["ppo"], 1, tmp_path)
    assert (run.config, run.command) == (config, "palaestra train tiny --agent ppo --seed 0")


def test_what_a_preset_leaves_out_is_the_default() -> None:
    tiny({"ppo": {"agent_kwargs": {"gamma": 0.9}}})
    config = resolve_config("tiny")
    assert (config.num_envs, config.total_timesteps, config.agent_kwargs) == (
        *(1024, 2_000_000),
        {"policy": "MlpPolicy", "gamma": 0.9},
    )


def test_the_command_line_beats_the_preset_of_a_plug_in() -> None:
    tiny({"ppo": TINY})
    config = resolve_config("tiny", num_envs=32, settings=["gamma=0.5", "env.observation=flat"])
    assert (config.num_envs, config.agent_kwargs["gamma"]) == (32, 0.5)
    assert config.env_kwargs == {"observation": "flat"}


@pytest.mark.parametrize(
    ("presets", "message"),
    [
        ({"ppo": {"agent_kwargs": {"gama": 0.9}}}, "unknown ppo setting 'gama'; did you mean 'gamma'?"),
        ({"ppo": {"agent_kwargs": {"gamma": 2}}}, "gamma=2: must be at least 0 and at most 1"),
        ({"ppo": {"agent_kwargs": {"batch_size": 1000}}}, "batch_size=1000 does not divide num_envs × n_steps ="),
        ({"ppo": {"env_kwargs": {"sise": 4}}}, "unknown environment setting 'sise'; did you mean 'size'?"),
        ({"ppo": {"num_env": 4}}, "unknown key 'num_env'; did you mean 'num_envs'?"),
        ({"ppo": {"num_envs": 0}}, "num_envs=0: must be at least 1"),
        ({"ppo": {"agent_kwargs": [1]}}, r"agent_kwargs=\[1\]: expected a mapping"),
        ({"ppo": 7}, "7: expected a mapping with the keys num_envs, total_timesteps, env_kwargs, agent_kwargs"),
        ({"PPO": {}}, "unknown agent 'PPO'; "),
    ],
)
def test_a_bad_preset_is_refused_in_one_line_that_names_it(presets: Any, message: str) -> None:
    tiny(presets)
    with pytest.raises(ConfigError, match=f"^the preset of me/Tiny-v0 for ppo: {message}") as caught:
        resolve_config("tiny", settings=["gamma=0.5"])
    assert "\n" not in str(caught.value)
    assert resolve_config("snake").num_envs == 1024  # nothing else is harmed


def test_presets_are_given_by_agent() -> None:
    with pytest.raises(TypeError, match=r"presets of me/Tiny-v0: expected a mapping by agent, got \[1\]"):
        tiny([1])


# ------------------------------------------------------------------------------------------- classes

FILE = """
from palaestra.envs.arm.reach import Reach
from palaestra.envs.snake import Snake

class Far(Reach):
    pass

class Plain(Reach):
    def __init__(self):
        super().__init__(control="cartesian")

class Same(Snake):
    pass

class Large(Snake):
    def __init__(self, size=12, **more):
        super().__init__(size, **more)

class Odd(Large):
    def __init__(self, size=8, **more):
        super().__init__(size, **more)
"""


def from_file(folder: Path, name: str, agent: str = "ppo") -> RunConfig:
    (folder / "mine.py").write_text(FILE, encoding="utf-8")
    return resolve_config(f"{folder / 'mine.py'}:{name}", agent)


def test_a_subclass_in_a_file_has_the_preset_of_its_class(tmp_path: Path) -> None:
    for agent in AGENTS:
        config, reach = from_file(tmp_path, "Far", agent), resolve_config("reach", agent)
        assert config.as_dict() | {"env": reach.env} == reach.as_dict()
    (run,) = grid([f"{tmp_path / 'mine.py'}:Far"], ["ppo"], 1, tmp_path)
    assert run.config == from_file(tmp_path, "Far")
    assert run.folder == tmp_path / "Far/ppo/s0"


def test_arguments_that_a_subclass_does_not_take_are_left_out(tmp_path: Path) -> None:
    config = from_file(tmp_path, "Plain", "dqn")
    assert config.env_kwargs == {}
    assert config.agent_kwargs == resolve_config("reach", "dqn").agent_kwargs


@pytest.mark.parametrize(("name", "like"), [("Same", "snake"), ("Large", "snake-large"), ("Odd", "snake-small")])
def test_of_several_ids_of_a_class_the_one_with_the_same_arguments_counts(name: str, like: str, tmp_path: Path) -> None:
    """Else the first that was registered."""
    assert from_file(tmp_path, name).agent_kwargs == resolve_config(like).agent_kwargs


def test_the_nearest_class_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "package"
    folder.mkdir()
    (folder / "my_snakes.py").write_text(FILE, encoding="utf-8")
    monkeypatch.syspath_prepend(str(folder))
    register("me/Large-v0", "my_snakes:Large", "my-large", "", presets={"ppo": {"agent_kwargs": {"gamma": 0.25}}})
    assert resolve_config("my_snakes:Odd").agent_kwargs["gamma"] == 0.25
    assert resolve_config("my_snakes:Same").agent_kwargs["gamma"] == 0.997
    assert find_preset(resolve("my-large"), "dqn") == load_presets("dqn")["palaestra/SnakeLarge-v0"]
    del sys.modules["my_snakes"]


def test_other_environments_have_none_of_their_own(tmp_path: Path) -> None:
    assert find_preset(resolve("CartPole-v1"), "ppo") is None
    assert find_preset(resolve("pricing"), "pqn") is None
    assert preset(resolve("CartPole-v1"), "ppo").num_envs == 16
    with pytest.raises(ConfigError, match="has no preset for pqn"):
        grid(["pricing"], ["pqn"], 1, tmp_path)


def test_presets_end_with_a_whole_final_evaluation_and_short_runs_with_a_short_one() -> None:
    for env in [*entries(), resolve("CartPole-v1")]:
        for agent in AGENTS:
            assert env.final_episodes(preset(env, agent).total_timesteps) == env.evaluation_episodes
    assert [resolve("snake").final_episodes(steps) for steps in (1, 4096, 100_000, 300_000, 10**7)] == [
        *(100, 100, 333, 1000, 1000)
    ]
    assert [resolve("CartPole-v1").final_episodes(steps) for steps in (1, 10_000, 30_000, 10**7)] == [20, 33, 100, 100]


WITHIN = {
    "randomized": "{pole_mass: [0.05, 0.2]}",
    "sticky_actions": "0.2",
    "observation_noise": "0.1",
    "delayed_observation": "2",
    "time_aware": "true",
    "frame_stack": "2",
    "discretized_actions": None,  # of continuous ones alone
}


def test_a_preset_that_counts_on_symmetries_does_without_them_within_a_wrapper() -> None:
    assert preset(resolve("cartpole"), "pqn").agent_kwargs["symmetry"] == "equivariant"
    assert WITHIN.keys() == {*WRAPPER_SETTINGS}
    for name, value in WITHIN.items():
        if value is not None:
            config = resolve_config("cartpole", "pqn", settings=[f"env.{name}={value}"])
            check_policy(config.agent, config.resolved_env, config.env_kwargs, config.agent_kwargs)
            assert config.agent_kwargs["symmetry"] == "none"
