"""``palaestra robot``: the data sheet of a robot's arm from its file, and its picture."""

from __future__ import annotations

import json
import os
import shlex
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from palaestra.train.commands import UsageError
from palaestra.train.formatting import columns, fitted, wrapped

if TYPE_CHECKING:
    from palaestra.envs.arm import SerialChain

_MARK = "*"  # of what the file does not say


def robot(
    name: Annotated[
        str,
        typer.Argument(
            metavar="ROBOT",
            help="A file (URDF, MJCF, JSON), panda, ur5e, so101, or a run: folder, config.yaml, latest.",
        ),
    ],
    tip: Annotated[
        str | None,
        typer.Option(metavar="LINK", help="Link that is the arm's flange; needed where the file has several tips."),
    ] = None,
    base: Annotated[
        str | None, typer.Option(metavar="LINK", help="Link that stands still; the file's root if left out.")
    ] = None,
    record: Annotated[Path | None, typer.Option(metavar="FILE", help="Picture of the arm to write, a .png.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Tell what a robot's file says of its arm: joints and limits, what is assumed, reach and weight.

    Meshes are not opened, so that one file is all it takes. What stands with * is assumed, not said by the file.

    \b
    palaestra robot so101
    palaestra robot my_arm.urdf --record my_arm.png
    palaestra robot my_arm.urdf --tip tool0 --base torso
    palaestra robot my_arm.xml --json
    palaestra robot latest
    """
    from palaestra.envs.core.host import use_available_cores

    if record is not None:
        _check_picture(record)
    use_available_cores()
    chain, sheet = find_robot(name, tip, base)
    if record is not None:
        _write_picture(record, chain, sheet)
    if as_json:
        print(json.dumps(sheet, indent=1, allow_nan=False))
        return
    width = min(max(shutil.get_terminal_size((80, 24)).columns, 20), 100)
    print(robot_page(sheet, width))
    if record is not None:
        print(f"\nrecorded: {record}")


def find_robot(name: str, tip: str | None, base: str | None) -> tuple[SerialChain, dict[str, Any]]:
    """The arm of a ready robot or of a file, and its data sheet.

    Raises:
        RobotFileError: if the file holds no arm.
        UsageError: if there is neither such a file nor such a ready robot, or its data are none.
    """
    from palaestra.envs.arm.robot_files import read_robot
    from palaestra.envs.arm.robots import READY
    from palaestra.envs.arm.robots.data_sheet import data_sheet
    from palaestra.envs.core.suggest import closest

    path, settings = Path(name), {"robot": name, "robot.tip": tip, "robot.base": base}
    told: dict[str, Any] = {
        "train_with": [f"env.{key}={value}" for key, value in settings.items() if value is not None]
    }
    config = _config_file(name)
    if config is not None or name in READY or path.suffix.lower() == ".json":
        if tip is not None or base is not None:
            raise UsageError(f"--tip and --base choose links of a URDF or MJCF file, and {name} is a robot by itself")
        if config is None:
            return _sheet_of(name, None, told)
        return _sheet_of(*_robot_of_run(config), {"train_with": [], "config": str(config)})
    if not path.suffix and os.sep not in name and not path.exists():
        near = closest(name, READY)
        hint = f"did you mean {near!r}?" if near else f"those are: {', '.join(READY)}"
        raise UsageError(f"{name}: there is no such file, and no ready robot of that name; {hint}")
    read = read_robot(path, tip, base)
    sheet = data_sheet(read.chain, read.base, read.tip, read.assumed, read.notes)
    return read.chain, sheet | {"source": str(path), "licence": ""} | told


def _sheet_of(robot: Any, start: Any, told: Mapping[str, Any]) -> tuple[SerialChain, dict[str, Any]]:
    """The data sheet of a robot as the tasks take it, in the pose ``start`` if there is one."""
    from palaestra.envs.arm.robots import task_robot
    from palaestra.envs.arm.robots.data_sheet import data_sheet

    try:
        found = task_robot(robot)
        pose = found.start if start is None else start
        sheet = data_sheet(found.chain, "base", "tool", found.assumed, found.notes, pose)
    except ValueError as error:
        raise UsageError(str(error)) from error
    return found.chain, sheet | {"source": found.source, "licence": found.licence, **told}


def _config_file(name: str) -> Path | None:
    """The configuration of the run of that name, or such a file by itself; None for what is neither."""
    from palaestra.train.runs.finding import find_run
    from palaestra.train.runs.run_folder import RunFolder

    path = Path(name)
    if path.suffix.lower() in (".yaml", ".yml"):
        return path
    latest = name.partition(":")[0] == "latest" and not path.exists()
    if not latest and not path.is_dir():
        return None
    file = (find_run(name) if latest else RunFolder(path)).config_file
    return file if latest or file.is_file() else None


def _robot_of_run(config: Path) -> tuple[Any, Any]:
    """The robot of a run's configuration, and the start that it sets beside it."""
    from palaestra.train.config.run_config import environment, read_file

    data = read_file(config)
    found = environment(data.get("env"))
    if "robot" not in (found.kwarg_kinds() or ()):
        raise UsageError(f"{config}: {found.short_name} has no robot")
    given = data.get("env_kwargs") or {}
    return given.get("robot", "panda"), given.get("start")


def robot_page(sheet: dict[str, Any], width: int) -> str:
    """The data sheet for people to read, in lines of that width."""
    joints = sheet["joints"]
    lines = [wrapped(f"{sheet['name']}: {_count(sheet)} from {sheet['base']} to {sheet['tip']}", width)]
    lines.append(wrapped(f"mass {_number(sheet['mass'])} kg, without the base", width, "  "))
    farthest = f"the farthest that a search finds the tool from {sheet['base']}"
    lines.append(wrapped(f"reach {sheet['reach']:.3f} m, {farthest}", width, "  "))
    limits = _fitting(_LIMITS, [_limits_row(joint) for joint in joints], width)
    lines += ["", *(limits or _listed(joints, width))]
    units = "Velocities are per s and accelerations per s² in that unit; efforts in N m"
    lines.append(wrapped(units + (", in N for slides." if any(j["unit"] == "m" for j in joints) else "."), width))
    if sheet["assumed"]:
        lines += ["", wrapped(f"{_MARK} The file does not say it; assumed is", width)]
        lines += [wrapped(f"{key}: {rule}", width, "  ") for key, rule in sheet["assumed"].items()]
    about = {"source": sheet["source"], "licence": sheet["licence"]} if sheet["licence"] else {}
    notes = [*sheet["notes"], *(f"{key}: {text}" for key, text in about.items())]
    if notes:
        lines += ["", "Notes", *(wrapped(note, width, "  ") for note in notes)]
    poses = f"here in one pose, at most in {sheet['poses_weighed']:,} poses within the limits"
    lines += ["", wrapped(f"Effort that holds the arm still, without a payload: {poses}", width)]
    least = 1e-4 * max(joint["largest_weight"] for joint in joints)
    weights = [_weight_row(joint, least) for joint in joints]
    lines += _fitting(_WEIGHTS, weights, width) or _weight_lines(weights, width)
    weak = (joint for joint in joints if (joint["share_of_effort"] or 0.0) > 1.0)
    settings = [f"--set {shlex.quote(setting)}" for setting in sheet["train_with"]]
    words = ["--config", shlex.quote(sheet["config"])] if "config" in sheet else ["reach", *settings]
    train = fitted(f"train on it: palaestra train {' '.join(words)}", width)
    return "\n".join([*lines, *(wrapped(_too_weak(joint), width) for joint in weak), "", train])


_LIMITS = ("#", "kind", "unit", "lower", "upper", "velocity", "accel.", "effort", "joint")
_WEIGHTS = ("#", "pose", "unit", "here", "at most", "of limit", "joint")


def _count(sheet: dict[str, Any]) -> str:
    count = len(sheet["joints"])
    return f"{count} joint{'s' * (count != 1)}"


def _fitting(heads: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> list[str]:
    """The table, or nothing where its lines are too long without the last cell."""
    lines = columns(heads, rows, width)
    return lines if lines[0].startswith(heads[0]) else []


def _limits_row(joint: dict[str, Any]) -> tuple[str, ...]:
    cells = (f"{text} " if text[-1:] != _MARK else text for text in _limits_of(joint))
    return (str(joint["order"]), joint["kind"], joint["unit"], *cells, joint["name"])


def _limits_of(joint: dict[str, Any]) -> list[str]:
    """Lower, upper, velocity, acceleration and effort, those that are assumed with their mark."""
    low, high = joint["range"]
    values = [("position", low), ("position", high)]
    values += [(key, joint[key]) for key in ("velocity", "acceleration", "effort")]
    return [_number(value) + _MARK * (key in joint["assumed"]) for key, value in values]


def _listed(joints: Sequence[dict[str, Any]], width: int) -> list[str]:
    """The joints and their limits where there is no room for a table."""
    lines = []
    for joint in joints:
        low, high, velocity, acceleration, effort = _limits_of(joint)
        unit, force = joint["unit"], _force(joint)
        lines.append(wrapped(f"{joint['order']} {joint['name']}, {joint['kind']}", width))
        lines.append(wrapped(f"{low} to {high} {unit}", width, "  "))
        lines.append(wrapped(f"{velocity} {unit}/s, {acceleration} {unit}/s², {effort} {force}", width, "  "))
    return lines


def _weight_row(joint: dict[str, Any], least: float) -> tuple[str, ...]:
    """The cells of a joint; numbers below ``least`` are rounding."""
    share = joint["share_of_effort"]
    percent = "–" if share is None else f"{100 * share:.0f} %"
    efforts = ("0" if abs(n) < least else f"{n:.3g}" for n in (joint["weight"], joint["largest_weight"]))
    return (str(joint["order"]), f"{joint['pose']:.3f}", joint["unit"], *efforts, percent, joint["name"])


def _weight_lines(rows: Sequence[Sequence[str]], width: int) -> list[str]:
    """The same where there is no room for a table."""
    told = (f"{order} at {pose} {unit}: {here}, {most}, {share}" for order, pose, unit, here, most, share, _ in rows)
    return ["# at pose: here, at most, of limit", *(wrapped(line, width) for line in told)]


def _too_weak(joint: dict[str, Any]) -> str:
    needed, limit = _number(joint["largest_weight"]), _number(joint["effort"])
    return (
        f"{joint['name']} cannot hold the arm in every pose: that takes {needed} {_force(joint)}, its limit is {limit}."
    )


def _force(joint: dict[str, Any]) -> str:
    return "N m" if joint["unit"] == "rad" else "N"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"


def _check_picture(path: Path) -> None:
    """Raise a UsageError unless a picture can be written to ``path``."""
    if path.suffix.lower() != ".png":
        raise UsageError(f"--record {path}: a robot stands still in its picture: choose a name that ends in .png")
    if path.is_dir():
        raise UsageError(f"--record {path}: it is a folder")
    if not path.parent.is_dir():
        raise UsageError(f"--record {path}: there is no folder {path.parent}")


def _write_picture(path: Path, chain: SerialChain, sheet: dict[str, Any]) -> None:
    from palaestra.envs.arm.drawing.portrait import SIZE, draw_portrait
    from palaestra.envs.rendering.canvas import Canvas
    from palaestra.train.recording.video import write_picture

    canvas = Canvas(*SIZE)
    line = f"{_count(sheet)} from {sheet['base']} to {sheet['tip']}, reach {sheet['reach']:.3f} m"
    draw_portrait(canvas, chain, [joint["pose"] for joint in sheet["joints"]], sheet["name"], line)
    write_picture(path, canvas.image())
