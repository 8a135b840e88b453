#!/usr/bin/env bash
# MJX takes models whole and leaves parts of them out: motors of a group that is disabled go on pulling, delays and
# springs' polynomials are not there, and to switch springs off switches dampers off too.
#
# One would guess that what MJX cannot do it refuses: mjx.put_model does so by name with other integrators, solvers and
# flags. The lines below are each one word of a model that MuJoCo's own reference describes; MJX makes no remark and
# steps on. What it steps is another machine: here one hinge, 50 steps of 2 ms, by the joint's angle. The first line, and
# damping, springs, limits and gravity compensation as they are mostly written, agree to the last digit.
#
# Cure: compare mjx.step with mujoco.mj_step over some steps for each new model, as below.
#
# Seen with Python 3.11.7, mujoco 3.17.0, mujoco-mjx 3.17.0 (in JAX), jax 0.10.2, NumPy 2.4.6, Linux x86_64, on
# 2026-12-01. Fails if any of it changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
PATH="$folder/venv/bin:$PATH"
export PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONWARNINGS=ignore JAX_PLATFORMS=cpu JAX_ENABLE_X64=1
pip install -q mujoco==3.17.0 mujoco-mjx==3.17.0 jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6

cat > "$folder/words.py" <<'PY'
import jax
import mujoco
import numpy as np
from mujoco import mjx

MOTOR = '<motor joint="hinge" gear="2"/>'


def model_of(option="", flag="", joint="", motor=MOTOR):
    return mujoco.MjModel.from_xml_string(f"""
<mujoco>
  <option {option}><flag {flag}/></option>
  <worldbody>
    <body>
      <joint name="hinge" axis="0 1 0" {joint}/>
      <geom type="capsule" fromto="0 0 0 .3 0 0" size=".03" mass="1" contype="0" conaffinity="0"/>
    </body>
  </worldbody>
  <actuator>{motor}</actuator>
</mujoco>
""")


MODELS = {
    "spring and damper": {"joint": 'stiffness="3" damping="0.5"'},
    "motor's group disabled": {"option": 'actuatorgroupdisable="1"', "motor": MOTOR.replace("/>", ' group="1"/>')},
    "motor's delay of 20 ms": {"motor": MOTOR.replace("/>", ' delay="0.02" nsample="10"/>')},
    "spring disabled": {"flag": 'spring="disable"', "joint": 'stiffness="3" damping="0.5"'},
    "damper disabled": {"flag": 'damper="disable"', "joint": 'stiffness="3" damping="0.5"'},
    "spring's polynomial": {"joint": 'stiffness="3 9"'},
    "damper's polynomial": {"joint": 'damping="0.5 0.4"'},
    "filter with actearly": {"motor": '<general joint="hinge" dyntype="filterexact" dynprm="0.05" gainprm="3" actearly="true"/>'},
}
for name, parts in MODELS.items():
    model = model_of(**parts)
    data = mujoco.MjData(model)
    data.qpos[:], data.qvel[:], data.ctrl[:] = 0.3, 0.8, 0.7
    other_model, other, step = mjx.put_model(model), mjx.put_data(model, data), jax.jit(mjx.step)
    for _ in range(50):
        mujoco.mj_step(model, data)
        other = step(other_model, other)
    right, seen = data.qpos[0], float(other.qpos[0])
    print(f"{name}: {right:.4f}" + ("" if abs(right - seen) < 1e-9 else f", in MJX {seen:.4f}"))
PY
python -c 'import platform; print("Python", platform.python_version())'
seen=$(python "$folder/words.py" 2> "$folder/errors" | grep -v warp) || { cat "$folder/errors" >&2; exit 1; }
echo "$seen"
expected="spring and damper: 0.5075
motor's group disabled: 0.5961, in MJX 0.8126
motor's delay of 20 ms: 0.7362, in MJX 0.8126
spring disabled: 0.6131, in MJX 0.7999
damper disabled: 0.6394, in MJX 0.7999
spring's polynomial: 0.4784, in MJX 0.6394
damper's polynomial: 0.4864, in MJX 0.6131
filter with actearly: 0.7418, in MJX 0.7345"
[[ $seen == "$expected" ]] || { echo "CHANGED" >&2; exit 1; }
