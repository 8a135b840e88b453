#!/usr/bin/env bash
# Robotics Toolbox for Python reckons the torques of a robot from URDF as if a fixed joint in the middle of the arm had no
# length: an arm with a bracket of 40 cm between two motors needs 13.7 Nm at its shoulder, and rne says 9.8.
#
# One would guess that two links that are bolted together weigh what one link of their masses weighs at their places:
# forward kinematics has it so (all places are right), and a fixed tool behind the last motor is right
# too. In rne, and so in gravload, inertia and accel, each motor's placement is the one in its own <joint>; the fixed
# joints between it and the motor before are left out, so all that comes behind is reckoned nearer. The bracket's own
# mass is at its right place. A comment in the code says that links in the middle are right now (since issue 636). The
# error here is 28 % of the shoulder's torque and 55 % of its inertia: a controller that cancels gravity by it sags.
# The same arm with one joint of 0.6 m for 0.4 m fixed + 0.2 m is right, as is MuJoCo with both, and the sum by hand:
# 9.81 (2 kg x 0.3 m + 1 kg x 0.8 m) = 13.734.
#
# Cure: merge fixed joints in the middle into the joint behind them. palaestra merges them as it reads a file.
#
# Seen with Python 3.11.7, roboticstoolbox-python 1.5.0, spatialmath-python 1.1.18, mujoco 3.17.0, NumPy 2.4.6, Linux
# x86_64, on 2026-12-01. Fails if any of it changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
PATH="$folder/venv/bin:$PATH"
export PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONWARNINGS=ignore
pip install -q roboticstoolbox-python==1.5.0 spatialmath-python==1.1.18 mujoco==3.17.0 numpy==2.4.6

cat > "$folder/torques.py" <<'PY'
import os
import sys

import mujoco
import numpy as np
import roboticstoolbox

FOLDER = sys.argv[1]


def link(name, mass, x):
    inertia = '<inertia ixx="0.02" iyy="0.025" izz="0.03" ixy="0" ixz="0" iyz="0"/>'
    return f'<link name="{name}"><inertial><origin xyz="{x} 0 0"/><mass value="{mass}"/>{inertia}</inertial></link>'


def joint(name, kind, parent, child, x):
    turning = '<axis xyz="0 1 0"/><limit lower="-2" upper="2" effort="99" velocity="1"/>' if kind == "revolute" else ""
    ends = f'<parent link="{parent}"/><child link="{child}"/>'
    return f'<joint name="{name}" type="{kind}">{ends}<origin xyz="{x} 0 0"/>{turning}</joint>'


FIRST = link("base", 1, 0) + link("upper", 2, 0.3) + link("lower", 1, 0.2) + joint("shoulder", "revolute", "base", "upper", 0)
ROBOTS = {
    "one joint of 0.6 m": FIRST + joint("elbow", "revolute", "upper", "lower", 0.6),
    "0.4 m fixed, 0.2 m, bracket without mass": FIRST
    + '<link name="bracket"/>'
    + joint("bolt", "fixed", "upper", "bracket", 0.4)
    + joint("elbow", "revolute", "bracket", "lower", 0.2),
    "0.4 m fixed, 0.2 m, bracket of 3 kg": FIRST
    + link("bracket", 3, 0.1)
    + joint("bolt", "fixed", "upper", "bracket", 0.4)
    + joint("elbow", "revolute", "bracket", "lower", 0.2),
    "a tool of 3 kg fixed behind": FIRST
    + joint("elbow", "revolute", "upper", "lower", 0.6)
    + link("tool", 3, 0.1)
    + joint("bolt", "fixed", "lower", "tool", 0.4),
}


def number(x):
    return f"{x + 0.0:.3f}"


for name, parts in ROBOTS.items():
    path = os.path.join(FOLDER, "arm.urdf")
    with open(path, "w") as file:
        file.write(f'<robot name="arm">{parts}</robot>')
    model = mujoco.MjModel.from_xml_path(path)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    inertia = np.zeros(2)
    mujoco.mj_mulM(model, data, inertia, np.array([1.0, 0.0]))
    robot = roboticstoolbox.Robot.URDF(path)
    flat = np.zeros(2)
    right = [*-data.qfrc_bias, inertia[0], data.body("lower").xpos[0]]
    seen = [*-robot.gravload(flat), robot.inertia(flat)[0, 0], robot.fkine(flat, end="lower").t[0]]
    shown = [
        f"{number(x)}" + ("" if abs(x - y) < 1e-6 else f" (toolbox {number(y)})") for x, y in zip(right, seen, strict=True)
    ]
    print(f"{name}: shoulder {shown[0]} Nm, elbow {shown[1]} Nm, inertia {shown[2]}, elbow at {shown[3]} m")
PY
python -c 'import platform; print("Python", platform.python_version())'
seen=$(python "$folder/torques.py" "$folder" 2> "$folder/errors" | grep shoulder) || { cat "$folder/errors" >&2; exit 1; }
echo "$seen"
expected="one joint of 0.6 m: shoulder 13.734 Nm, elbow 1.962 Nm, inertia 0.870, elbow at 0.600 m
0.4 m fixed, 0.2 m, bracket without mass: shoulder 13.734 (toolbox 9.810) Nm, elbow 1.962 Nm, inertia 0.870 (toolbox 0.390), elbow at 0.600 m
0.4 m fixed, 0.2 m, bracket of 3 kg: shoulder 28.449 (toolbox 24.525) Nm, elbow 1.962 Nm, inertia 1.645 (toolbox 1.165), elbow at 0.600 m
a tool of 3 kg fixed behind: shoulder 46.107 Nm, elbow 16.677 Nm, inertia 4.525, elbow at 0.600 m"
[[ $seen == "$expected" ]] || { echo "CHANGED" >&2; exit 1; }
