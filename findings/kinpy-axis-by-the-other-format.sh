#!/usr/bin/env bash
# kinpy turns a URDF joint without <axis> about z, where URDF says x: the tool is 0.8 m from where it should be. And of
# a MuJoCo file it keeps only turns that are told as quaternions: euler and axisangle are dropped without a word.
#
# One would guess that a joint's axis, where a file does not say it, is the file format's own: x in URDF, z in MJCF.
# kinpy reads both, and has z for both. A joint about x is the one that needs no <axis>, so files leave it out for no
# other. Prismatic joints slide along z likewise. In MJCF files the place of a body and its quat are read; euler and
# axisangle, which people write by hand, count as no turn, and an axis in <default> counts as not said. Nothing is
# refused. Placements here are of one link behind two joints at 0.3 and 0.4 rad; MuJoCo reads both formats.
#
# Cure: write each axis out; let MuJoCo write an MJCF file anew first (mj_saveLastXML), which tells turns by quat. URDF
# loaders that were tried on the same file and agree with MuJoCo: yourdfpy, urchin, ikpy, scikit-robot, palaestra.
#
# Seen with Python 3.11.7, kinpy 0.6.1, mujoco 3.17.0, NumPy 2.4.6, Linux x86_64, on 2026-12-01. Fails if any of it
# changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
PATH="$folder/venv/bin:$PATH"
export PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONWARNINGS=ignore
pip install -q kinpy==0.6.1 mujoco==3.17.0 numpy==2.4.6

cat > "$folder/places.py" <<'PY'
import kinpy
import mujoco
import numpy as np

WEIGHT = '<inertial><mass value="1"/><inertia ixx="1" iyy="1" izz="1" ixy="0" ixz="0" iyz="0"/></inertial>'
URDF = f"""
<robot name="arm">
  <link name="base"/>
  <link name="a">{WEIGHT}</link>
  <link name="b">{WEIGHT}</link>
  <link name="c">{WEIGHT}</link>
  <joint name="j" type="KIND">
    <parent link="base"/><child link="a"/>FIRST<limit lower="-2" upper="2" effort="1" velocity="1"/>
  </joint>
  <joint name="k" type="revolute">
    <parent link="a"/><child link="b"/><origin xyz="0 1 0"/><axis xyz="1 0 0"/>
    <limit lower="-2" upper="2" effort="1" velocity="1"/>
  </joint>
  <joint name="tool" type="fixed"><parent link="b"/><child link="c"/><origin xyz="0 1 0"/></joint>
</robot>
"""
MJCF = """
<mujoco>
  <compiler angle="radian"/>
  DEFAULT
  <worldbody>
    <body name="a">
      <joint name="j" type="hinge" AXIS/><geom type="sphere" size=".1"/>
      <body name="b" pos="1 0 0" TURN>
        <joint name="k" type="hinge" AXIS/><geom type="sphere" size=".1"/>
        <body name="c" pos="1 0 0"><geom type="sphere" size=".1"/></body>
      </body>
    </body>
  </worldbody>
</mujoco>
"""


def filled(text, **parts):
    for name, part in parts.items():
        text = text.replace(name, part)
    return text


def compare(name, text):
    """Where the link c is, in MuJoCo and in kinpy."""
    whole = text.replace("<link name=\"base\"/>", "<mujoco><compiler fusestatic=\"false\"/></mujoco><link name=\"base\"/>")
    model = mujoco.MjModel.from_xml_string(whole)
    data = mujoco.MjData(model)
    data.qpos[:] = 0.3, 0.4
    mujoco.mj_kinematics(model, data)
    build = kinpy.build_chain_from_urdf if "<robot" in text else kinpy.build_chain_from_mjcf
    place = build(text).forward_kinematics({"j": 0.3, "k": 0.4})["c"].pos
    shown = [" ".join(f"{x + 0.0:.3f}" for x in np.round(where, 3)) for where in (data.body("c").xpos, place)]
    print(f"{name}: " + (shown[0] if shown[0] == shown[1] else f"{shown[0]}, in kinpy {shown[1]}"))


compare("URDF, revolute, axis x", filled(URDF, KIND="revolute", FIRST='<axis xyz="1 0 0"/>'))
compare("URDF, revolute, no axis", filled(URDF, KIND="revolute", FIRST=""))
compare("URDF, prismatic, no axis", filled(URDF, KIND="prismatic", FIRST=""))
y, quarter = 'axis="0 1 0"', 0.5**0.5
compare("MJCF, quat", filled(MJCF, DEFAULT="", AXIS=y, TURN=f'quat="{quarter} 0 0 {quarter}"'))
compare("MJCF, euler", filled(MJCF, DEFAULT="", AXIS=y, TURN=f'euler="0 0 {np.pi / 2}"'))
compare("MJCF, axisangle", filled(MJCF, DEFAULT="", AXIS=y, TURN=f'axisangle="0 0 1 {np.pi / 2}"'))
compare("MJCF, axis in <default>", filled(MJCF, DEFAULT=f"<default><joint {y}/></default>", AXIS="", TURN=""))
PY
python -c 'import platform; print("Python", platform.python_version())'
seen=$(python "$folder/places.py")
echo "$seen"
expected="URDF, revolute, axis x: 0.000 1.720 0.940
URDF, revolute, no axis: 0.000 1.720 0.940, in kinpy -0.568 1.835 0.389
URDF, prismatic, no axis: 0.300 1.921 0.389, in kinpy 0.000 1.921 0.689
MJCF, quat: 0.840 0.921 -0.668
MJCF, euler: 0.840 0.921 -0.668, in kinpy 1.720 0.000 -0.940
MJCF, axisangle: 0.840 0.921 -0.668, in kinpy 1.720 0.000 -0.940
MJCF, axis in <default>: 1.720 0.000 -0.940, in kinpy 1.720 0.940 0.000"
[[ $seen == "$expected" ]] || { echo "CHANGED" >&2; exit 1; }
