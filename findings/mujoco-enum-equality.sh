#!/usr/bin/env bash
# MuJoCo's enums equal NumPy integers from one side only, since 3.11 or 3.12: a membership test silently says no.
#
# A model's arrays (jnt_type, geom_type, ...) hold NumPy integers, and user code compares them with mujoco.mjtJoint and
# its like. Up to 3.10 equality holds both ways. From 3.12.0 on, 4.0.0 included, number == enum is True and
# enum == number is False. Python's "number in (enum, ...)" asks the enum first, so a hinge is in no tuple of joint
# types, and no error tells. An int() around the number makes all of them True, and so does comparing whole arrays.
#
# Who is hurt: gymnasium-robotics 1.4.2 (the newest), whose check of a joint's type is such a test: FetchReach-v4, and
# with it every environment of that family, ends with an AssertionError without a word when it is made.
# Cure there: pip install "mujoco<3.11".
#
# Seen with Python 3.11.7, NumPy 2.4.6, Linux x86_64, on 2026-11-28. Fails if any of it changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
PATH="$folder/venv/bin:$PATH"
export PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONWARNINGS=ignore

fail() { echo "CHANGED: $1" >&2; exit 1; }

cat > "$folder/compare.py" <<'PY'
import mujoco, numpy

xml = '<mujoco><worldbody><body><joint type="hinge"/><geom size="0.1"/></body></worldbody></mujoco>'
number, hinge = mujoco.MjModel.from_xml_string(xml).jnt_type[0], mujoco.mjtJoint.mjJNT_HINGE
answers = [number == hinge, hinge == number, number in (hinge,), int(number) in (hinge,)]
print("mujoco", mujoco.__version__, "NumPy", numpy.__version__, *(bool(answer) for answer in answers))
PY
cat > "$folder/make.py" <<'PY'
import gymnasium, gymnasium_robotics

gymnasium.register_envs(gymnasium_robotics)
try:
    print("made", gymnasium.make("FetchReach-v4").observation_space["observation"].shape)
except Exception as error:
    print("raises", repr(error))
PY

echo "columns: number == enum, enum == number, number in (enum,), int(number) in (enum,)"
for version in 3.10.0 3.12.0 4.0.0; do
    pip uninstall -q -y mujoco mujoco-core mujoco-studio 2> /dev/null || true
    pip install -q numpy==2.4.6 gymnasium==1.4.0 gymnasium-robotics==1.4.2 "mujoco==$version"
    compared=$(python "$folder/compare.py")
    made=$(python "$folder/make.py" 2> /dev/null | tail -1)
    echo "$compared; FetchReach-v4: $made"
    case $version in
        3.10.0) [[ $compared == *"True True True True" && $made == "made (10,)" ]] || fail "$version" ;;
        *) [[ $compared == *"True False False True" && $made == "raises AssertionError()" ]] || fail "$version" ;;
    esac
done
