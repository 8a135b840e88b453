"""``palaestra robot``: the screen at any width, JSON, the picture, and files that hold no arm."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

import imageio.v3
import pytest

from palaestra.envs.arm.robots import READY, robot_data
from palaestra.train import cli
from palaestra.train.commands.robot import robot_page
from palaestra.train.config.run_config import resolve_config
from palaestra.train.runs.run_folder import RunFolder

pytestmark = pytest.mark.usefixtures("few_targets")
MOMENTS = '<inertia ixx="0.03" iyy="0.02" izz="0.015" ixy="0" ixz="0" iyz="0"/>'
BODY = f'<inertial><origin xyz="0 0 0.2"/><mass value="2"/>{MOMENTS}</inertial>'
LIMIT = '<limit lower="-1.5" upper="1.2" velocity="2.5" effort="{}"/>'


def link(name: str, body: str = BODY) -> str:
    return f'<link name="{name}">{body}</link>'


def joint(name: str, ends: str, kind: str = "revolute", limit: str = LIMIT.format(40), axis: str = "0 1 0") -> str:
    parent, child = ends.split()
    origin = '<origin xyz="0 0 0.4"/>'
    return (
        f'<joint name="{name}" type="{kind}"><parent link="{parent}"/><child link="{child}"/>{origin}'
        f'<axis xyz="{axis}"/>{limit}</joint>'
    )


def urdf(*more: str, first: str = joint("turn", "base upper", "continuous", "", "0 0 1")) -> str:
    """A base that turns, an elbow that is too weak for it, and a slide; then a flange."""
    parts = (link("base"), link("upper"), link("fore"), link("hand"), link("flange", ""))
    elbow = joint("elbow_with_a_long_name", "upper fore", limit=LIMIT.format(3))
    slide = joint("slide", "fore hand", "prismatic", LIMIT.format(500).replace('velocity="2.5"', ""), "0 0 1")
    weld = joint("weld", "hand flange", "fixed")
    return f'<robot name="r">{"".join((*parts, first, elbow, slide, weld, *more))}</robot>'


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("arm.urdf").write_text(urdf(), encoding="utf-8")
    return tmp_path


def run(monkeypatch: pytest.MonkeyPatch, command: str, columns: int = 80) -> int:
    monkeypatch.setattr(sys, "argv", ["palaestra", *shlex.split(command)])
    monkeypatch.setenv("COLUMNS", str(columns))
    with pytest.raises(SystemExit) as end:
        cli.main()
    return int(end.value.code or 0)


@pytest.mark.parametrize("columns", [40, 80])
@pytest.mark.parametrize("name", [*READY, "arm.urdf"])
def test_the_screen_fits(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, columns: int
) -> None:
    assert run(monkeypatch, f"robot {name}", columns) == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= columns
    words = " ".join(text.split())
    expected = {
        "panda": ("7 joints from base to tool", "reach 1.280 m"),
        "ur5e": ("6 joints", "BSD-3-Clause"),
        "so101": ("5 joints", "40*", "Apache-2.0"),
        "arm.urdf": ("3 joints from base to flange",),
    }
    assert [part for part in expected[name] if part not in words] == []
    assert f"palaestra train reach --set env.robot={name}" in words


def test_what_the_file_says_is_told_from_what_is_assumed(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "robot arm.urdf") == 0
    text = capsys.readouterr().out
    rows = [line.split() for line in text.splitlines() if line[:1].isdigit()]
    assert rows[0][:7] == ["1", "continuous", "rad", "-3.142*", "3.142*", "2*", "8*"]
    assert rows[0][7].endswith("*")
    assert rows[1] == ["2", "revolute", "rad", "-1.5", "1.2", "2.5", "10*", "3"]  # the name is on the next line
    assert rows[2] == ["3", "prismatic", "m", "-1.5", "1.2", "0.5*", "2*", "500"]
    words = " ".join(text.split())
    assert "velocity: 2 rad/s or 0.5 m/s" in words
    assert "base is the base, which does not move: its 2 kg are left out" in words
    assert "elbow_with_a_long_name cannot hold the arm in every pose: that takes " in words
    assert "turn cannot hold" not in words


def test_json_is_the_same_as_data(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "robot arm.urdf --json") == 0
    sheet = json.loads(capsys.readouterr().out)
    assert [(j["order"], j["name"], j["kind"], j["unit"]) for j in sheet["joints"]] == [
        (1, "turn", "continuous", "rad"),
        (2, "elbow_with_a_long_name", "revolute", "rad"),
        (3, "slide", "prismatic", "m"),
    ]
    assert sheet["joints"][0]["lower"] is None
    assert sheet["joints"][0]["assumed"] == ["position", "velocity", "acceleration", "effort"]
    assert sheet["joints"][2]["axis"] == [0.0, 0.0, 1.0]
    assert (sheet["base"], sheet["tip"], sheet["mass"]) == ("base", "flange", 6.0)
    assert run(monkeypatch, "robot arm.urdf --tip hand --base upper --json") == 0
    sheet = json.loads(capsys.readouterr().out)
    assert [joint["name"] for joint in sheet["joints"]] == ["elbow_with_a_long_name", "slide"]
    assert sheet["train_with"] == ["env.robot=arm.urdf", "env.robot.tip=hand", "env.robot.base=upper"]
    page = robot_page(sheet, 80)
    assert page.startswith("arm.urdf: 2 joints from upper to hand\n")


def test_a_robot_as_a_run_keeps_it_is_the_same(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sheets = []
    Path("kept.json").write_text(json.dumps(robot_data("arm.urdf")), encoding="utf-8")
    for name in ("arm.urdf", "kept.json"):
        assert run(monkeypatch, f"robot {name} --json") == 0
        sheets.append(json.loads(capsys.readouterr().out))
    first, second = (sheet["joints"] for sheet in sheets)
    assert first == second
    assert (sheets[0]["assumed"], sheets[0]["reach"]) == (sheets[1]["assumed"], sheets[1]["reach"])


@pytest.mark.parametrize("name", ["panda", "arm.urdf"])
def test_a_picture_is_written(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    assert run(monkeypatch, f"robot {name} --record robot.png") == 0
    assert capsys.readouterr().out.endswith("\nrecorded: robot.png\n")
    image = imageio.v3.imread("robot.png")
    assert image.shape == (720, 720, 3)
    assert (image.min(2) > 120).mean() > 0.03  # white bodies
    assert {path.name for path in here.iterdir()} == {"arm.urdf", "robot.png"}


LAUGHS = "".join(f'<!ENTITY l{i} "{f"&l{i - 1};" * 10 if i else "ha"}">' for i in range(10))
MJCF = '<mujoco><worldbody><body name="a">{}<geom size="0.1"/></body></worldbody></mujoco>'
BAD: dict[str, tuple[str | bytes, str]] = {
    "not XML": ("q1,q2\n0,1\n", "not XML: "),
    "empty": ("", "not XML: no element found"),
    "binary": (b"\x00\x01\xff\xfe" * 99, "not XML: "),
    "an image of a robot": (b"\x89PNG\r\n\x1a\n" + bytes(99), "not XML: "),
    "another root": ("<sdf/>", "the file's root is <sdf>"),
    "a mobile base": (urdf(first=joint("turn", "base upper", "planar")), "joint turn is planar; only revolute"),
    "a floating base": (urdf(first=joint("turn", "base upper", "floating")), "joint turn is floating; only revolute"),
    "a free body": (MJCF.format("<freejoint/>"), "is free; only revolute"),
    "a closed loop": (urdf(joint("back", "hand upper")), "hangs on two joints: closed loops are not held"),
    "a ring": (urdf(joint("back", "flange base")), "hangs on itself: closed loops are not held"),
    "two tips": (
        urdf(link("x"), link("y"), joint("a", "upper x"), joint("b", "x y")),
        "more than one tip, choose one: flange (3 joints), y (3 joints)",
    ),
    "no actuated joint": (
        f"<robot>{link('a')}{link('b')}{joint('j', 'a b', 'fixed')}</robot>",
        "no joint below a moves",
    ),
    "a NaN": (urdf(link("x").replace("0 0 0.2", "0 nan 0")), "link x: xyz of <origin> must be 3 numbers"),
    "an infinite mass": (urdf(link("x").replace('"2"', '"inf"')), "link x: value of <mass> must be a number"),
    "10,000 links": (
        f"<robot>{''.join(link(f'l{i}', '') for i in range(10_000))}</robot>",
        "has 10000 links, more than",
    ),
    "a billion laughs": (f"<!DOCTYPE r [{LAUGHS}]><robot name='&l9;'/>", "declares a document type"),
    "a file far away": ('<!DOCTYPE r SYSTEM "http://x/y.dtd"><robot/>', "declares a document type"),
    "MJCF that MuJoCo refuses": (MJCF.format("<joint type='screw'/>"), "MuJoCo says: "),
}


@pytest.mark.parametrize("name", BAD)
def test_a_file_without_an_arm_is_one_line_and_nothing_is_written(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    text, message = BAD[name]
    Path("bad.xml").write_bytes(text if isinstance(text, bytes) else text.encode())
    refused(here, monkeypatch, capsys, "robot bad.xml --record robot.png --json", message)


def refused(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str, message: str
) -> None:
    """Exit 2, one line on standard error with that message, and no file."""
    before = {path: path.read_bytes() for path in here.rglob("*") if path.is_file()}
    assert run(monkeypatch, command) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith("palaestra: error: ")
    assert message in err
    assert {path: path.read_bytes() for path in here.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("nowhere.urdf", "nowhere.urdf: No such file or directory"),
        ("a/b", "a/b: No such file or directory"),
        (".", "Is a directory"),
        ("pando", "no ready robot of that name; did you mean 'panda'?"),
        ("kuka", "no ready robot of that name; those are: panda, ur5e, so101"),
        ("nowhere.json", "nowhere.json: No such file or directory"),
        ("list.json", "a robot is a mapping, the file has a list"),
        ("arm.urdf --tip flanje", "no link is called 'flanje', to be the tip; did you mean flange?"),
        ("arm.urdf --base hand", "no joint below hand moves"),
        ("arm.urdf --tip base --base hand", "no joint moves base against hand"),
        ("panda --tip tool", "--tip and --base choose links of a URDF or MJCF file, and panda"),
        ("arm.urdf --record robot.gif", "--record robot.gif: a robot stands still"),
        ("arm.urdf --record no/robot.png", "there is no folder no"),
        ("arm.urdf --record folder.png", "it is a folder"),
        ("arm.urdf --rekord robot.png", "no such option: --rekord; did you mean --record?"),
        ("arm.urdf other.urdf", "unexpected argument: other.urdf"),
    ],
)
def test_bad_usage_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("arm.urdf").write_text(urdf(), encoding="utf-8")
    Path("list.json").write_text("[1, 2]", encoding="utf-8")
    if "folder.png" in command:
        Path("folder.png").mkdir()
        assert run(monkeypatch, f"robot {command}") == 2
        assert message in capsys.readouterr().err
        return
    refused(tmp_path, monkeypatch, capsys, f"robot {command}", message)


# -------------------------------------------------------------------------------------------------- robots of runs


def write_run(folder: Path, env: str = "reach", **kwargs: object) -> None:
    config = resolve_config(env, settings=[f"env.{key}={value}" for key, value in kwargs.items()])
    RunFolder(folder).path.mkdir(parents=True)
    RunFolder(folder).write_config(config)
    RunFolder(folder).model_file.touch()


@pytest.mark.parametrize("name", ["r", "r/config.yaml", "latest", "latest:reach-torque"])
def test_the_robot_of_a_run_is_told_without_its_file(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    assert run(monkeypatch, "robot arm.urdf --json") == 0
    from_file = json.loads(capsys.readouterr().out)
    folder = here / ("runs/a/b/c" if "latest" in name else "r")
    write_run(folder, "reach-torque" if ":" in name else "reach", robot="arm.urdf")
    Path("arm.urdf").unlink()
    assert run(monkeypatch, f"robot {name} --json") == 0
    sheet = json.loads(capsys.readouterr().out)
    assert (sheet["joints"], sheet["assumed"]) == (from_file["joints"], from_file["assumed"])
    assert run(monkeypatch, f"robot {name} --record robot.png") == 0
    command = capsys.readouterr().out.splitlines()[-3].removeprefix("train on it: ")
    config = Path(shlex.split(command)[-1])
    assert command.startswith("palaestra train --config ")
    assert config.resolve() == (folder / "config.yaml").resolve()


def test_a_run_on_the_panda_has_the_panda(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(here / "r", start="[0, 0, 0, -1.5, 0, 1.5, 0]")
    assert run(monkeypatch, "robot r --json") == 0
    sheet = json.loads(capsys.readouterr().out)
    assert sheet["name"] == "Franka Emika Panda"
    assert [joint["pose"] for joint in sheet["joints"]] == [0, 0, 0, -1.5, 0, 1.5, 0]


def test_a_run_without_a_robot_is_refused_in_a_line(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(here / "r", "cartpole")
    Path("wrong.yaml").write_text("{", encoding="utf-8")
    Path("lame.yaml").write_text("env: reach\nenv_kwargs: {robot: {placements: 3}}\n", encoding="utf-8")
    refused(here, monkeypatch, capsys, "robot r", "cartpole has no robot")
    refused(here, monkeypatch, capsys, "robot r --tip a", "--tip and --base choose links of a URDF or MJCF file, and r")
    refused(here, monkeypatch, capsys, "robot wrong.yaml", "wrong.yaml is not readable")
    refused(here, monkeypatch, capsys, "robot none.yaml", "cannot read none.yaml")
    refused(here, monkeypatch, capsys, "robot lame.yaml", "a robot needs the key name")
    refused(here, monkeypatch, capsys, "robot latest", "there is no run with a model below runs/ yet")


def test_a_robot_as_data_gets_the_stated_limits_and_can_be_trained(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Somebody's JSON without speeds has the limits that the same arm's URDF gets."""
    whole = robot_data("arm.urdf")
    bare = {key: value for key, value in whole.items() if key not in ("velocity", "acceleration", "by_rule", "assumed")}
    Path("bare.json").write_text(json.dumps({**bare, "torque": [None, 3, 500]}), encoding="utf-8")
    assert run(monkeypatch, "robot bare.json --json") == 0
    joints = json.loads(capsys.readouterr().out)["joints"]
    assert [joint["velocity"] for joint in joints] == [2.0, 2.0, 0.5]
    assert [joint["assumed"] for joint in joints] == [
        ["position", "velocity", "acceleration", "effort"],
        ["velocity", "acceleration"],
        ["velocity", "acceleration"],
    ]
    assert joints[0]["effort"] == pytest.approx(whole["torque"][0])
    config = resolve_config("reach", settings=["env.robot=bare.json"])
    assert config.env_kwargs["robot"]["acceleration"] == [8.0, 8.0, 2.0]
    assert any("assumed of arm.urdf" in line for line in config.resolved_env.remarks(config.env_kwargs))
