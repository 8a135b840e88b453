"""``env.robot`` on the command line: parts of it, the whole robot in config.yaml, and a run that outlives the file."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
import yaml

from palaestra.envs.arm.robots import robot_data
from palaestra.train.cli import main
from palaestra.train.config.run_config import RunConfig, resolve_config, with_settings
from palaestra.train.config.schema import ConfigError
from palaestra.train.evaluation.episodes import evaluate
from palaestra.train.evaluation.policies import ExpertPolicy

pytestmark = pytest.mark.usefixtures("few_targets")
UR5E = ["env.robot=ur5e", "env.robot.velocity=2"]


def command(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    """A command in this process, which succeeds."""
    monkeypatch.setattr(sys, "argv", ["palaestra", *arguments])
    with pytest.raises(SystemExit) as exit_:
        main()
    assert not exit_.value.code


def test_parts_go_into_the_robot_in_any_order() -> None:
    one, other = (resolve_config("reach", settings=settings) for settings in (UR5E, UR5E[::-1]))
    assert one == other
    robot = one.env_kwargs["robot"]
    assert (robot["velocity"], robot["acceleration"]) == ([2.0] * 6, robot_data("ur5e")["acceleration"])
    tool = ["env.robot.tool.position=[0, 0, 0.1]", "env.robot.tool={rotation: [[0, -1, 0], [1, 0, 0], [0, 0, 1]]}"]
    first, second = (resolve_config("reach", settings=[UR5E[0], *parts]).env_kwargs for parts in (tool, tool[::-1]))
    assert first == second
    assert first["robot"]["tool"]["position"] == [0.0, 0.0, 0.1]
    whole = resolve_config("reach", settings=["env.robot={from: ur5e, velocity: 2}"])
    assert whole == one
    panda = resolve_config("reach", settings=["env.robot.velocity=[1, 1, 1, 1, 1, 1, 1]"]).env_kwargs["robot"]
    assert (panda["name"], panda["velocity"]) == ("Franka Emika Panda", [1.0] * 7)


def test_the_configuration_holds_the_robot_and_comes_back_to_the_bit() -> None:
    config = resolve_config("reach-torque", settings=["env.robot=so101", "env.control=pd"])
    text = config.as_yaml()
    again = RunConfig.from_dict(yaml.safe_load(text))
    assert again == config
    assert repr(again.env_kwargs) == repr(config.env_kwargs)
    assert config.env_kwargs["robot"]["by_rule"]["orientation"][0] is False
    assert "    velocity: [10.0, 10.0, 10.0, 10.0, 10.0]\n" in text  # a row of numbers on a line
    assert with_settings(again, []) == again


def test_a_run_s_robot_is_changed_like_any_other() -> None:
    config = resolve_config("reach", settings=["env.robot=ur5e"])
    slow = with_settings(config, ["env.robot.velocity=1", "env.robot.acceleration=2"]).env_kwargs["robot"]
    assert (slow["velocity"], slow["acceleration"]) == ([1.0] * 6, [2.0] * 6)
    other = with_settings(config, ["env.robot=so101"]).env_kwargs["robot"]
    assert other["name"] == "SO-101"
    assert config.env_kwargs["robot"]["velocity"] != slow["velocity"]  # the run's own is as it was


@pytest.mark.parametrize(
    ("env", "settings", "message"),
    [
        ("reach", ["env.robot=ur55"], r"robot=ur55: neither a file nor a ready robot .* did you mean 'ur5e'\?$"),
        ("reach", ["env.robot=none.urdf"], "none.urdf: No such file"),
        ("reach", ["env.robot.velocty=1"], "no key 'velocty'; did you mean 'velocity'"),
        ("reach", ["env.robot.tool.length=1"], "tool must be a mapping with position and rotation"),
        ("reach", ["env.start.x=1"], r"^unknown environment setting 'start.x'"),
        ("reach", ["env.robto=ur5e"], r"^unknown environment setting 'robto'; did you mean 'robot'\?$"),
        ("snake", ["env.size.x=1"], r"^unknown environment setting 'size.x'"),
        ("reach-torque", ["env.robot=so101", "env.orientation=true"], "orientation takes at least 6 joints"),
    ],
)
def test_a_wrong_robot_is_refused_in_a_line(env: str, settings: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        resolve_config(env, settings=settings)
    assert "\n" not in str(error.value)


def test_a_message_does_not_print_the_whole_robot() -> None:
    file = {"env_kwargs": {"control": "velocity", "robot": robot_data("ur5e")}}
    with pytest.raises(ConfigError, match=r"Reach-v0 with control=velocity, robot=… has Box.*: use --agent ppo$"):
        resolve_config("reach", "dqn", file=file)


def test_a_run_plays_on_without_the_file_from_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Trained on a file named relative to its folder; then the run is moved and the file is gone."""
    home, away = tmp_path / "home", tmp_path / "away"
    home.mkdir()
    away.mkdir()
    (home / "arm.urdf").write_text(ARM)
    monkeypatch.chdir(home)
    short = ["--total-timesteps", "2048", "--num-envs", "128", "--track", "disabled", "--run-dir", "run"]
    command(monkeypatch, "train", "reach", "--set", "env.robot=arm.urdf", *short)
    assert capsys.readouterr().out.count("assumed of arm.urdf") == 1
    expected = evaluate("reach", ExpertPolicy(), episodes=8, env_kwargs={"robot": "arm.urdf"})
    (home / "arm.urdf").unlink()
    shutil.move(home / "run", away / "run")
    monkeypatch.chdir(away)
    config = RunConfig.from_dict(yaml.safe_load((away / "run" / "config.yaml").read_text()))
    again = evaluate("reach", ExpertPolicy(), episodes=8, env_kwargs=config.env_kwargs)
    assert again == expected
    command(monkeypatch, "evaluate", "run", "--episodes", "8")
    assert "seconds per bound" in capsys.readouterr().out


LINK = (
    '<link name="{0}"><inertial><origin xyz="0 0 0.1"/><mass value="1"/>'
    '<inertia ixx="0.01" iyy="0.01" izz="0.01" ixy="0" ixz="0" iyz="0"/></inertial></link>'
)
JOINT = (
    '<joint name="{0}" type="{1}"><parent link="{2}"/><child link="{3}"/><origin xyz="{4}"/><axis xyz="{5}"/>'
    '<limit lower="-1.5" upper="1.5" velocity="2" effort="40"/></joint>'
)
ARM = (
    '<robot name="arm">'
    + "".join(LINK.format(name) for name in ("base", "table", "upper", "fore"))
    + '<link name="hand"/>'
    + JOINT.format("turn", "revolute", "base", "table", "0 0 0.3", "0 0 1")
    + JOINT.format("shoulder", "revolute", "table", "upper", "0.1 0 0.2", "0 1 0")
    + JOINT.format("elbow", "revolute", "upper", "fore", "0 0 0.4", "0 1 0")
    + JOINT.format("weld", "fixed", "fore", "hand", "0 0 0.3", "0 1 0")
    + "</robot>"
)


def test_a_run_may_stop_at_the_score_that_it_has_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("palaestra.envs.arm.reach_torque.MEASURED", 5)
    config = resolve_config("reach-torque", settings=["env.robot=so101"], stop_at="solved")
    assert config.stop_at == "solved"
    assert config.resolved_env.reference(config.env_kwargs).solved_at is not None
