#!/usr/bin/env bash
# Pinocchio reads another robot out of a MuJoCo file than MuJoCo does, without a word: a link of 1 kg weighs 24 kg or
# nothing, and a link that is turned by 90 degrees becomes fifteen times as long.
#
# One would guess that buildModelFromMJCF gives the robot of the file or refuses what it does not know (it does refuse
# shellinertia). Each file below is the same arm of two links with one line told in another valid way. What MuJoCo makes
# of them is what one reckons by hand. Pinocchio
# - does not read a geom's mass in <default>: the geom weighs as water of its volume, as if no mass were given;
# - gives a geom no mass that collides with nothing (contype and conaffinity 0), whatever its mass says;
# - does not see what lies in a <frame> inside a body;
# - does not read a geom's place in <default>;
# - makes of axisangle a matrix that stretches, where the axis is not of length 1;
# - takes eulerseq in capitals (turns about axes that stay) for small letters (turns about axes that turn along).
# A controller that is computed with the one and tried in the other is off for no reason that one sees.
#
# Cure: compare masses and places of both before use, as below. A file that MuJoCo wrote anew (mj_saveLastXML) is read
# rightly but for the geom without collisions and the <frame>: links with these need an <inertial>.
#
# Seen with Python 3.11.7, pin 4.1.0, mujoco 4.0.0, NumPy 2.4.6, Linux x86_64, on 2026-11-30. Fails if any of it
# changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
PATH="$folder/venv/bin:$PATH"
export PIP_DISABLE_PIP_VERSION_CHECK=1
pip install -q pin==4.1.0 mujoco==4.0.0 mujoco-core==4.0.0 mujoco-studio==4.0.0 numpy==2.4.6

cat > "$folder/robots.py" <<'PY'
import sys

import mujoco
import numpy as np
import pinocchio

BOX = "<geom type='box' size='.1 .1 .3' mass='1'/>"
FAR = np.sqrt(0.125)
ROBOTS = {  # head, turn of the first link, its shape; and by hand its kg, its centre of mass in m, where it ends
    "plain": ("", "", BOX, 1, 0, (0.5, 0, 1)),
    "mass in default": ("<default><geom mass='1'/></default>", "", BOX.replace("mass='1'", ""), 1, 0, (0.5, 0, 1)),
    "no collisions": ("", "", BOX.replace("mass", "contype='0' conaffinity='0' mass"), 1, 0, (0.5, 0, 1)),
    "frame": ("", "", f"<frame pos='.2 0 0'>{BOX}</frame>", 1, 0.2, (0.5, 0, 1)),
    "place in default": ("<default><geom pos='.2 0 0'/></default>", "", BOX, 1, 0.2, (0.5, 0, 1)),
    "axis 1 1 0": ("", "axisangle='1 1 0 90'", BOX, 1, 0, (0.25, 0.25, 1 - FAR)),
    "eulerseq XYZ": ("<compiler eulerseq='XYZ'/>", "euler='90 90 0'", BOX, 1, 0, (0, 0, 0.5)),
}
TIP = "<body name='tip' pos='.5 0 0'><joint axis='0 1 0'/><geom type='sphere' size='.1' mass='1' pos='.1 0 0'/></body>"


def seen_by_mujoco(path):
    model = mujoco.MjModel.from_xml_path(path)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    tip = model.body("tip").id
    return model, (model.body_mass[tip - 1], model.body_ipos[tip - 1][0], data.xpos[tip])


def seen_by_pinocchio(path):
    model = pinocchio.buildModelFromMJCF(path)
    data, link = model.createData(), model.inertias[1]
    pinocchio.framesForwardKinematics(model, data, np.zeros(2))
    return link.mass, link.lever[0], data.oMf[model.getFrameId("tip")].translation


def told(found):
    mass, centre, end = found
    long = np.linalg.norm(end - [0, 0, 1])
    place = " ".join(f"{x + 0:.2f}" for x in np.round(end, 4))
    return f"{mass:.2f} kg, centre at {centre:.2f} m, {long:.2f} m long, to {place}"


def same(a, b):
    return all(np.allclose(x, y, atol=1e-4) for x, y in zip(a, b))


for name, (head, turn, shape, *by_hand) in ROBOTS.items():
    link = f"<body pos='0 0 1' {turn}><joint axis='0 1 0'/>{shape}{TIP}</body>"
    path, again = f"{sys.argv[1]}/robot.xml", f"{sys.argv[1]}/again.xml"
    with open(path, "w") as file:
        file.write(f"<mujoco>{head}<worldbody>{link}</worldbody></mujoco>")
    model, ours = seen_by_mujoco(path)
    assert same(ours, by_hand), name
    mujoco.mj_saveLastXML(again, model)
    theirs, cured = seen_by_pinocchio(path), same(seen_by_pinocchio(again), ours)
    print(f"{name}\n  MuJoCo and by hand: {told(ours)}")
    anew = "" if same(theirs, ours) else "; saved anew right" if cured else "; saved anew not right"
    print(f"  Pinocchio: {told(theirs)}{anew}")
PY
python -c 'import platform, mujoco, pinocchio as p; print(platform.python_version(), mujoco.__version__, p.__version__)'
seen=$(python "$folder/robots.py" "$folder")
echo "$seen"
expected="plain
  MuJoCo and by hand: 1.00 kg, centre at 0.00 m, 0.50 m long, to 0.50 0.00 1.00
  Pinocchio: 1.00 kg, centre at 0.00 m, 0.50 m long, to 0.50 0.00 1.00
mass in default
  MuJoCo and by hand: 1.00 kg, centre at 0.00 m, 0.50 m long, to 0.50 0.00 1.00
  Pinocchio: 24.00 kg, centre at 0.00 m, 0.50 m long, to 0.50 0.00 1.00; saved anew right
no collisions
  MuJoCo and by hand: 1.00 kg, centre at 0.00 m, 0.50 m long, to 0.50 0.00 1.00
  Pinocchio: 0.00 kg, centre at 0.00 m, 0.50 m long, to 0.50 0.00 1.00; saved anew not right
frame
  MuJoCo and by hand: 1.00 kg, centre at 0.20 m, 0.50 m long, to 0.50 0.00 1.00
  Pinocchio: 0.00 kg, centre at 0.00 m, 0.50 m long, to 0.50 0.00 1.00; saved anew not right
place in default
  MuJoCo and by hand: 1.00 kg, centre at 0.20 m, 0.50 m long, to 0.50 0.00 1.00
  Pinocchio: 1.00 kg, centre at 0.00 m, 0.50 m long, to 0.50 0.00 1.00; saved anew right
axis 1 1 0
  MuJoCo and by hand: 1.00 kg, centre at 0.00 m, 0.50 m long, to 0.25 0.25 0.65
  Pinocchio: 1.00 kg, centre at 0.00 m, 7.35 m long, to 3.00 3.00 -5.00; saved anew right
eulerseq XYZ
  MuJoCo and by hand: 1.00 kg, centre at 0.00 m, 0.50 m long, to 0.00 0.00 0.50
  Pinocchio: 1.00 kg, centre at 0.00 m, 0.50 m long, to 0.00 0.50 1.00; saved anew right"
[[ $seen == "$expected" ]] || { echo "CHANGED" >&2; exit 1; }
