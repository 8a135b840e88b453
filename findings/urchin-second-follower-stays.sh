#!/usr/bin/env bash
# urchin keeps the last knuckle of a finger straight: a joint of a URDF file whose <mimic> names a joint that follows
# another one itself stays at its offset, and nothing is said.
#
# One would guess that a follower of a follower follows: URDF lets <mimic> name any joint, and a finger with one motor is
# written so, each knuckle by the one before. urchin looks the named joint up among those that were given an angle, does
# not find it there, and takes 0 for it, so that the joint stands at its offset. Written by the first joint, with the
# factors multiplied, the same finger is right. yourdfpy has the same zero, and says so when it reads the file ("will
# assume"). MuJoCo makes two equalities of it, scikit-robot 0.4.7 is right (both seen once, not tested here).
#
# Cure: name the driven joint in each <mimic>: multiplier and offset of the chain, worked out.
#
# Seen with Python 3.11.7, urchin 0.0.30, yourdfpy 0.0.60, NumPy 2.4.6, Linux x86_64, on 2026-12-01. Fails if any of it
# changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
PATH="$folder/venv/bin:$PATH"
export PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONWARNINGS=ignore
pip install -q urchin==0.0.30 yourdfpy==0.0.60 numpy==2.4.6

cat > "$folder/finger.py" <<'PY'
import logging
import math
import sys

import urchin
import yourdfpy

FOLDER = sys.argv[1]
logging.disable(logging.INFO)


def joint(name, parent, child, follows=""):
    limit = '<limit lower="-2" upper="2" effort="1" velocity="1"/>'
    ends = f'<parent link="{parent}"/><child link="{child}"/>'
    return f'<joint name="{name}" type="revolute">{ends}<origin xyz="0 1 0"/><axis xyz="1 0 0"/>{limit}{follows}</joint>'


def bend(pose):
    """The angle of a link about x, in degrees."""
    return round(math.degrees(math.atan2(pose[2, 1], pose[1, 1])), 3) + 0.0


LINKS = "".join(f'<link name="{name}"/>' for name in ("palm", "first", "second", "third"))
FINGERS = {"each by the one before": ("middle", 0.5), "both by the first": ("knuckle", 0.25)}
for title, (leader, factor) in FINGERS.items():
    text = (
        f'<robot name="finger">{LINKS}'
        + joint("knuckle", "palm", "first")
        + joint("middle", "first", "second", '<mimic joint="knuckle" multiplier="0.5"/>')
        + joint("last", "second", "third", f'<mimic joint="{leader}" multiplier="{factor}"/>')
        + "</robot>"
    )
    path = f"{FOLDER}/finger.urdf"
    with open(path, "w") as file:
        file.write(text)
    angle = math.radians(40)
    poses = urchin.URDF.load(path).link_fk(cfg={"knuckle": angle}, use_names=True)
    other = yourdfpy.URDF.load(path)
    other.update_cfg({"knuckle": angle})
    for library, pose in (("urchin", poses.__getitem__), ("yourdfpy", other.get_transform)):
        at = [bend(pose(name)) for name in ("first", "second", "third")]
        print(f"{title}, {library}: joints at {at[0]:.0f}, {at[1] - at[0]:.0f} and {at[2] - at[1]:.0f} degrees")
PY
python -c 'import platform; print("Python", platform.python_version())'
seen=$(python "$folder/finger.py" "$folder" 2> "$folder/errors") || { cat "$folder/errors" >&2; exit 1; }
seen+=$'\n'"said: $(grep -ho "supposed to mimic 'middle'" "$folder/errors" | sort -u)"
echo "$seen"
expected="each by the one before, urchin: joints at 40, 20 and 0 degrees
each by the one before, yourdfpy: joints at 40, 20 and 0 degrees
both by the first, urchin: joints at 40, 20 and 10 degrees
both by the first, yourdfpy: joints at 40, 20 and 10 degrees
said: supposed to mimic 'middle'"
[[ $seen == "$expected" ]] || { echo "CHANGED" >&2; exit 1; }
