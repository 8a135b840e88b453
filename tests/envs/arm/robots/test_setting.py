"""The argument ``robot``: names, files, changes of them, plain data; what it says, and what it refuses."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from arm_play import Play, commands
from mujoco_arm import model

from palaestra.envs import Reference, TensorVectorEnv
from palaestra.envs.arm import PANDA, PANDA_READY, forward_kinematics, inverse_dynamics
from palaestra.envs.arm.panda import PANDA_TARGETS
from palaestra.envs.arm.reach import Reach
from palaestra.envs.arm.reach_torque import ReachTorque
from palaestra.envs.arm.robots import chain_data, robot_data, task_robot
from palaestra.train.evaluation.episodes import run_episodes
from palaestra.train.evaluation.policies import ExpertPolicy

pytestmark = pytest.mark.usefixtures("few_targets")
BODY = (
    '<link name="{0}"><inertial><origin xyz="0 0 0.1"/><mass value="1"/>'
    '<inertia ixx="0.01" iyy="0.01" izz="0.01" ixy="0" ixz="0" iyz="0"/></inertial></link>'
)
JOINT = (
    '<joint name="{0}" type="{1}"><parent link="{2}"/><child link="{3}"/><origin xyz="{4}"/><axis xyz="{5}"/>'
    '<limit lower="-1.5" upper="1.2" velocity="{6}" effort="40"/></joint>'
)


def urdf(velocity: float = 2.0) -> str:
    """A turntable, a shoulder and an elbow with a hand, and a fork beside it."""
    names = ("base", "table", "upper", "fore", "left", "right")
    joints = (
        ("turn", "revolute", "base", "table", "0 0 0.3", "0 0 1", velocity),
        ("shoulder", "revolute", "table", "upper", "0.1 0 0.2", "0 1 0", velocity),
        ("elbow", "revolute", "upper", "fore", "0 0 0.4", "0 1 0", velocity),
        ("one", "revolute", "fore", "left", "0 0.05 0.3", "1 0 0", velocity),
        ("other", "prismatic", "fore", "right", "0 -0.05 0.3", "1 0 0", velocity),
        ("more", "revolute", "left", "tip", "0 0 0.1", "0 1 0", velocity),
    )
    bodies = "".join(BODY.format(name) for name in (*names, "tip"))
    hand = '<link name="hand"/><joint name="weld" type="fixed"><parent link="fore"/><child link="hand"/>'
    hand += '<origin xyz="0 0 0.3"/></joint>'
    return f'<robot name="fork">{bodies}{hand}{"".join(JOINT.format(*row) for row in joints)}</robot>'


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "fork.urdf"
    path.write_text(urdf())
    return str(path)


# ---------------------------------------------------------------------------------------------------- the Panda


@pytest.mark.parametrize("make_env", [Reach, ReachTorque])
@pytest.mark.parametrize(
    "robot",
    [
        "panda",
        PANDA,
        chain_data(PANDA) | {"start": PANDA_READY, "targets": PANDA_TARGETS, "pose_targets": PANDA_TARGETS},
    ],
    ids=["name", "chain", "data"],
)
def test_the_panda_by_any_name_is_the_one_that_is_left_out(make_env: Any, robot: Any) -> None:
    given, left_out = Play(make_env(robot), 20), Play(make_env(), 20)
    for action in commands(1, 4, 20, 7):
        given.step(action)
        left_out.step(action)
    for name in vars(given.states[-1]):
        assert torch.equal(given.path(name), left_out.path(name)), name
    assert given.env.reference == left_out.env.reference
    assert torch.equal(given.env.expert(given.states[-1]), left_out.env.expert(given.states[-1]))


def test_only_another_robot_is_written_into_a_configuration() -> None:
    assert Reach.self_contained({"control": "cartesian"}) == {"control": "cartesian"}
    assert task_robot(Reach.self_contained({"robot": "panda"})["robot"]).chain is PANDA


# ---------------------------------------------------------------------------------------------------- ready robots


def test_the_ur5e_weighs_and_reaches_what_its_maker_says() -> None:
    """20.6 kg with the base's 4 kg left out is less here; 850 mm from the shoulder to the wrist's centre, and the pose
    with all joints at 0, in which its manual gives the flange: x is the sum of the two links, y of the offsets."""
    chain = task_robot("ur5e").chain
    assert sum(chain.mass) == pytest.approx(17.7)
    flange = forward_kinematics(chain, torch.zeros(1, 6, dtype=torch.float64)).position[0, -1]
    # base_link is the controller's base after half a turn about z
    assert flange.tolist() == pytest.approx([0.425 + 0.3922, 0.1333 + 0.0996, 0.1625 - 0.0997], abs=1e-12)
    stretched = torch.tensor([[0.0, 0.0, 0.0, 0.0, 0.0, 0.0]], dtype=torch.float64)
    torque = inverse_dynamics(chain, stretched, 0 * stretched, 0 * stretched)[0]
    lever = 8.058 * 0.2125 + 2.846 * (0.425 + 0.2422 - 0.0) + (1.37 + 1.3 + 0.365) * 0.8172
    assert abs(float(torque[1])) == pytest.approx(9.81 * lever, rel=0.02)
    assert all(abs(t) <= limit for t, limit in zip(torque.tolist(), chain.torque, strict=True))


@pytest.mark.parametrize("name", ["ur5e", "so101"])
def test_a_ready_robot_has_a_source_a_licence_and_all_that_the_tasks_need(name: str) -> None:
    robot = task_robot(name)
    assert robot.source
    assert robot.licence in ("BSD-3-Clause", "Apache-2.0")
    assert model(robot.chain).nv == robot.chain.dof  # MuJoCo takes it
    for make_env in (Reach, ReachTorque):
        env = make_env(name)
        by_rule = make_env(robot.chain)
        assert (env.start, env.targets) == (by_rule.start, by_rule.targets)
    assert math.inf not in (*robot.chain.velocity, *robot.chain.acceleration, *robot.chain.torque, *robot.chain.q_max)


# ---------------------------------------------------------------------------------------------------- files


def test_a_file_gives_its_arm_and_the_whole_robot_travels_without_it(file: str) -> None:
    value = {"from": file, "tip": "hand", "tool": 0.25}
    env, data = Reach(value), Reach.self_contained({"robot": value})
    Path(file).unlink()
    again = Reach(**json.loads(json.dumps(data)))
    assert (again.chain, again.start, again.targets) == (env.chain, env.start, env.targets)
    assert again.chain is env.chain
    assert again.reference == env.reference
    assert again.remarks == env.remarks
    assert env.chain.joint_names == ("turn", "shoulder", "elbow")
    assert env.chain.tool.position == (0.0, 0.0, 0.25)
    assert any("joint one is not on the way" in note for note in again.robot.notes)


def test_a_path_is_relative_to_the_current_folder(file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(file).parent)
    assert task_robot({"from": "fork.urdf", "tip": "hand"}).chain.dof == 3


def test_a_robot_as_data_may_lie_in_a_file(file: str, tmp_path: Path) -> None:
    data = robot_data({"from": file, "tip": "hand"})
    (tmp_path / "mine.json").write_text(json.dumps(data))
    assert robot_data(str(tmp_path / "mine.json")) == data


def test_limits_are_changed_and_what_follows_is_assumed_anew(file: str) -> None:
    plain, faster, given = (
        task_robot({"from": file, "tip": "hand", **changes})
        for changes in ({}, {"velocity": 4}, {"velocity": [1, None, 3], "acceleration": 7.5, "torque": [9, 8, 7]})
    )
    assert plain.chain.acceleration == (8.0,) * 3  # 2 rad/s within 0.25 s
    assert (faster.chain.velocity, faster.chain.acceleration) == ((4.0,) * 3, (16.0,) * 3)
    assert given.chain.velocity == (1.0, 2.0, 3.0)  # rad/s, the second one assumed
    assert (given.chain.acceleration, given.chain.torque) == ((7.5,) * 3, (9.0, 8.0, 7.0))
    assert list(plain.assumed) == ["acceleration"]
    assert given.assumed == {"velocity": {"shoulder": 2.0}}


def test_a_run_says_once_what_was_assumed(file: str) -> None:
    env = Reach({"from": file, "tip": "hand"})
    assert env.remarks == (
        "assumed of fork.urdf, as its file does not say: acceleration of all joints: the largest velocity within "
        "0.25 s (--set env.robot.acceleration=… sets it)",
    )
    data = Reach.self_contained({"robot": {"from": file, "tip": "hand"}})["robot"]
    assert Reach(data).remarks == env.remarks
    assert Reach({**data, "acceleration": 6}).remarks == ()  # as it is no longer so
    assert Reach().remarks == Reach("ur5e").remarks == ()


def test_a_tool_is_a_length_a_point_or_a_pose() -> None:
    ready = torch.tensor([task_robot("ur5e").start], dtype=torch.float64)
    pose = forward_kinematics(task_robot("ur5e").chain, ready)
    along = pose.rotation[0, -2] @ torch.tensor([0.01, 0.02, 0.3], dtype=torch.float64)
    for tool in (0.3, [0.01, 0.02, 0.3], [0.01, 0.02, 0.3, 0.0, 0.0, math.pi / 2]):
        found = forward_kinematics(task_robot({"from": "ur5e", "tool": tool}).chain, ready)
        offset = pose.rotation[0, -2][:, 2] * 0.3 if tool == 0.3 else along
        torch.testing.assert_close(found.position[0, -1], pose.position[0, -2] + offset)
    turned = found.rotation[0, -1] @ torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)
    torch.testing.assert_close(turned, pose.rotation[0, -2][:, 1])  # a quarter turn takes x to y
    env = Reach({"from": "ur5e", "tool": 0.3})
    assert env.start == Reach("ur5e").start
    assert env.targets != Reach("ur5e").targets


# ---------------------------------------------------------------------------------------------------- orientation


def test_arms_that_cannot_turn_their_tool_have_no_orientation(file: str) -> None:
    for robot, oriented in (("ur5e", True), ("panda", True), ("so101", False), ({"from": file, "tip": "hand"}, False)):
        env = ReachTorque(robot)
        assert env.orientation is oriented
        assert env.observation_space.shape == (2 * env.chain.dof + (15 if oriented else 9),)
    assert ReachTorque("ur5e", orientation=False).observation_space.shape == (21,)
    assert ReachTorque.self_contained({"robot": "ur5e"})["robot"]["by_rule"]["orientation"][0] is True
    assert ReachTorque.self_contained({"robot": "ur5e", "orientation": False})["orientation"] is False
    with pytest.raises(ValueError, match=r"^SO-101: orientation takes at least 6 joints, and it has 5$"):
        ReachTorque("so101", orientation=True)


def test_a_run_measures_the_expert_where_there_is_no_bound() -> None:
    """Once; for a person in Python, who did not ask, it is not known. Another task has other figures."""
    plain = ReachTorque.self_contained({"robot": "so101"})
    env = ReachTorque(**plain)
    assert ReachTorque.self_contained(plain) == plain
    assert env.reference.random < env.reference.solved_at < env.reference.optimum  # type: ignore[operator]
    played = run_episodes(TensorVectorEnv(ReachTorque("so101"), 20, device="cpu", seed=2**32), ExpertPolicy())
    assert played.returns.mean() == pytest.approx(env.reference.optimum, abs=1e-5)
    for other in (
        {"payload": (0.0, 1.0)},
        {"start": (0.0, 0.1, -0.6, 1.2, 0.0)},
        {"action_delay": 1},
        {"control": "pd"},
    ):
        assert ReachTorque(**{**plain, **other}).reference == ReachTorque("so101").reference == Reference()
    assert ReachTorque(orientation=False).reference == Reference()  # the Panda's are of poses


def test_an_expert_that_does_not_arrive_is_not_the_best_known() -> None:
    weak = ReachTorque(**ReachTorque.self_contained({"robot": {"from": "so101", "torque": 0.35}}))
    assert (weak.reference.optimum, weak.reference.solved_at) == (None, None)
    assert weak.reference.random is not None
    assert "the expert arrives in" in weak.reference.source


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": 5}, "a robot's name must be a text, got 5"),
        ({"notes": [1]}, "SO-101: notes must be texts, got 1"),
        ({"notes": "one"}, "SO-101: notes must be a list, got 'one'"),
        ({"assumed": {"speed": {}}}, "SO-101: assumed must hold joints and values for kinds of limit, got speed"),
        ({"assumed": {"velocity": {"wrist": "fast"}}}, "assumed must hold joints and values"),
        ({"bound": {"seconds": "soon"}}, "SO-101: bound.seconds must be numbers, got 'soon'"),
        ({"bound": {"seconds": math.nan}}, "bound.seconds must be numbers"),
        ({"bound": {"seconds": 10**400}}, "bound.seconds must be numbers"),
        ({"bound": {"task": 7}}, "bound.task must be a text, got 7"),
        ({"bound": {"returns": {"velocity": None}}}, "bound.returns must be numbers"),
        ({"bound": {"returns": {"velocity": ["a", 1.0]}}}, "bound.returns must be numbers"),
        ({"bound": {"returns": [1.0]}}, "bound.returns must be numbers"),
    ],
)
def test_damaged_data_of_a_run_are_told_in_a_line(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Reach({**robot_data("so101"), **change})


def test_without_orientation_arriving_is_a_matter_of_the_distance() -> None:
    play = Play(ReachTorque("so101"), 200)
    for action in 0.2 * commands(3, 20, 200, 5).clamp(-1, 1):
        state, reward, arrived = play.step(action)
        distance, before = ((s.target - s.tool).double().norm(dim=1) for s in (state, play.states[-2]))
        assert torch.equal(arrived, distance.float() <= 0.02)
        gain = 10 * ((before - 0.02).clamp(min=0) - (distance - 0.02).clamp(min=0))
        torch.testing.assert_close(reward.double(), gain - 0.04 + arrived.double(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("robot", ["ur5e", "so101"])
@pytest.mark.parametrize("make_env", [Reach, ReachTorque])
def test_the_expert_arrives_with_ready_robots(make_env: Any, robot: str) -> None:
    env = make_env(robot)
    play = Play(env, 100, seed=5)
    arrived = torch.zeros(100, dtype=torch.bool)
    for _ in range(40):
        arrived |= play.step(env.expert(play.states[-1]))[2]
    assert arrived.all()


# ---------------------------------------------------------------------------------------------------- robots of runs


def kept(make_env: Any, value: Any, **arguments: Any) -> dict[str, Any]:
    """The arguments as a run's configuration holds them and gives them back."""
    plain: dict[str, Any] = yaml.safe_load(yaml.safe_dump(make_env.self_contained({"robot": value, **arguments})))
    assert yaml.safe_load(yaml.safe_dump(make_env.self_contained(plain))) == plain
    return plain


@pytest.mark.parametrize("make_env", [Reach, ReachTorque])
@pytest.mark.parametrize("change", [{"tool": 0.07}, {"q_max": [1, 1, 1, 1, 1]}, {"start": [0.1, 0.1, 0.1, 0.1, 0]}])
def test_a_run_s_robot_that_is_changed_gets_what_the_same_robot_gets_by_name(make_env: Any, change: Any) -> None:
    plain = kept(make_env, "so101")
    by_name = make_env({"from": "so101", **change})
    of_run = make_env(**{**plain, "robot": {**plain["robot"], **change}})
    assert of_run.chain == by_name.chain
    assert (of_run.start, of_run.targets) == (by_name.start, by_name.targets)
    unchanged = make_env("so101")
    assert of_run.targets != unchanged.targets
    assert (of_run.start == tuple(change.get("start", ()))) is ("start" in change)


def test_what_somebody_has_set_stays_with_another_tool() -> None:
    start, box = [0.0, 0.2, -0.6, 1.2, 0.0], [[0.25, 0.3], [-0.05, 0.05], [0.15, 0.2]]
    for chosen in ({"start": start}, {"targets": box}, {"start": start, "targets": box}):
        plain = kept(Reach, {"from": "so101", **chosen})
        env = Reach(**{**plain, "robot": {**plain["robot"], "tool": 0.01}})
        assert ("start" in chosen) is (list(env.start) == start)
        assert ("targets" in chosen) is ([list(row) for row in env.targets] == box)
    plain = kept(Reach, "so101")
    moved = Reach(**{**plain, "robot": {**plain["robot"], "targets": box, "tool": 0.01}})  # both in one command
    assert [list(row) for row in moved.targets] == box
    beside = kept(Reach, "so101", targets=box)
    assert [list(row) for row in Reach(**{**beside, "robot": "so101"}).targets] == box


def test_targets_that_a_file_names_stay_with_another_tool(tmp_path: Path) -> None:
    data = robot_data("so101")
    del data["by_rule"]
    (tmp_path / "own.json").write_text(json.dumps(data))
    other = Reach({"from": str(tmp_path / "own.json"), "tool": 0.01})
    assert [list(row) for row in other.targets] == data["targets"]


def test_another_speed_of_a_run_s_robot_changes_what_was_assumed_of_it_and_no_more(file: str) -> None:
    value = {"from": file, "tip": "hand", "velocity": None}
    plain, by_name = kept(ReachTorque, value), ReachTorque({**value, "velocity": 4})
    of_run = ReachTorque(**{**plain, "robot": {**plain["robot"], "velocity": 4}})
    assert of_run.chain == by_name.chain
    assert of_run.chain.acceleration == (16.0, 16.0, 16.0)
    assert of_run.robot.assumed == by_name.robot.assumed
    assert (of_run.start, of_run.targets) == (by_name.start, by_name.targets)
    assert list(of_run.start) == plain["robot"]["start"]


def test_a_run_gets_another_robot_with_the_orientation_that_suits_it() -> None:
    plain = kept(ReachTorque, "ur5e")
    assert "orientation" not in plain
    assert ReachTorque(**plain).orientation
    assert not ReachTorque(**{**plain, "robot": "so101"}).orientation
    assert ReachTorque(**{**kept(ReachTorque, "so101"), "robot": "ur5e"}).orientation
    asked = kept(ReachTorque, "ur5e", orientation=False)
    assert asked["orientation"] is False
    assert not ReachTorque(**asked).orientation
    with pytest.raises(ValueError, match=r"^SO-101: orientation takes at least 6 joints"):
        ReachTorque(**{**kept(ReachTorque, "ur5e", orientation=True), "robot": "so101"})


def test_what_was_found_of_a_run_s_orientation_is_not_searched_again(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = kept(ReachTorque, "ur5e")

    def search(*task: Any, **options: Any) -> float:
        raise AssertionError(task)

    monkeypatch.setattr("palaestra.envs.arm.robots.target_box.reached_share", search)
    assert ReachTorque(**plain).orientation
    with pytest.raises(AssertionError):
        ReachTorque(**{**plain, "targets": [[0.3, 0.4], [0.1, 0.2], [0.2, 0.3]]})


@pytest.mark.parametrize("robot", ["panda", "ur5e", "file"])
def test_friction_and_armature_are_set_on_any_robot(file: str, robot: str) -> None:
    value = {"from": file, "tip": "hand"} if robot == "file" else {"from": robot}
    plain = task_robot(value).chain
    rows = [0.1 * (i + 1) for i in range(plain.dof)]
    changed = task_robot({**value, "damping": 2, "coulomb": rows, "armature": 0.05}).chain
    assert (changed.damping, changed.coulomb) == ((2.0,) * plain.dof, tuple(rows))
    assert changed.armature == (0.05,) * plain.dof
    none = dict.fromkeys(("damping", "coulomb", "armature"), (0.0,) * plain.dof)
    assert dataclasses.replace(changed, **none) == dataclasses.replace(plain, **none)
    data = robot_data(value)
    of_run = task_robot({**data, "damping": 2, "coulomb": rows, "armature": 0.05})
    assert of_run.chain is changed
    assert of_run.start == task_robot(data).start


# ---------------------------------------------------------------------------------------------------- bad input

BAD: dict[str, tuple[Any, str]] = {
    "unknown name": (
        "ur55",
        r"^robot=ur55: neither a file nor a ready robot \(.*\); did you mean 'ur5e'",
    ),
    "missing file": ("nothing.urdf", "^nothing.urdf: No such file"),
    "missing data": ("nothing.json", "^nothing.json: No such file"),
    "a number": (5, r"^robot must be a name \(panda, ur5e, so101\), a file, or a robot as a mapping, got 5$"),
    "from a number": ({"from": 5}, "^robot.from must be a name .* got 5$"),
    "tip a number": ({"from": "x.urdf", "tip": 5}, "^robot.tip must be the name of a link, got 5$"),
    "tip of a ready robot": (
        {"from": "ur5e", "tip": "a"},
        "^robot=ur5e is a ready robot, whose tip and base",
    ),
    "tip of data": (robot_data("ur5e") | {"tip": "a"}, "^UR5e: tip and base are chosen as a file is read"),
    "unknown change": ({"velocty": 3}, "^panda: a robot has no key 'velocty'; did you mean 'velocity'"),
    "no limit": ({"velocity": 0}, "velocity of joint 1 must be positive, got 0.0"),
    "limits of others": ({"velocity": [1, 2]}, r"velocity must have shape \(7,\), got \(2,\)"),
    "a tool of words": ({"tool": "long"}, "^Franka Emika Panda: tool must be its distance along .* got 'long'$"),
    "a tool of two": ({"tool": [1, 2]}, "tool must be its distance"),
    "an endless tool": ({"tool": math.inf}, "tool must be its distance"),
    "a start of two": ({"from": "ur5e", "start": [0, 0]}, r"^UR5e: q must have shape \(6,\), got \(2,\)"),
    "targets too far": ({"from": "ur5e", "targets": [[2, 3], [0, 1], [0, 1]]}, "^UR5e: the tool cannot reach"),
    "damping of others": ({"damping": [1, 2]}, r"damping must have shape \(7,\), got \(2,\)"),
    "negative armature": ({"armature": -1}, "armature of joint 1 must not be negative, got -1.0"),
    "a wrong record": (
        robot_data("ur5e") | {"by_rule": {"start": 5}},
        "by_rule.start is no record of a choice: 5",
    ),
    "an unknown record": (robot_data("ur5e") | {"by_rule": {"x": "y"}}, "^UR5e: by_rule.x is no record of a choice"),
    "no orientation": (
        robot_data("ur5e") | {"by_rule": {"orientation": True}},
        "orientation is no record",
    ),
    "notes of words": (robot_data("ur5e") | {"notes": "some"}, "^UR5e: notes must be a list, got 'some'$"),
    "assumed of numbers": (
        robot_data("ur5e") | {"assumed": {"velocity": 3}},
        "^UR5e: assumed must hold joints and values",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_robot_is_refused_in_a_line(name: str) -> None:
    value, message = BAD[name]
    with pytest.raises(ValueError, match=message) as error:
        Reach(value)
    assert "\n" not in str(error.value)


def test_a_choice_that_a_file_leaves_says_how_to_make_it(file: str) -> None:
    with pytest.raises(ValueError, match=r"choose one: .* \(by env.robot.tip=LINK or env.robot.base=LINK\)$"):
        Reach(file)


@pytest.mark.parametrize("text", ["", "[1, 2]", "{", "[" * 100_000, '{"name": "a"}', b"\xff\xfe"])
def test_a_data_file_that_holds_no_robot_is_refused_in_a_line(text: str | bytes, tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match=r"r\.json|needs the key") as error:
        Reach(str(path))
    assert "\n" not in str(error.value)
