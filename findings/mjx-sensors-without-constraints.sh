#!/usr/bin/env bash
# MJX's accelerometers, force sensors and actuator-force sensors read 0 in a robot without joint limits, friction or contacts:
# the motor turns the arm, and the sensor of its force says 0 for ever.
#
# One would guess that a sensor reads the same in MJX as in MuJoCo wherever mjx.put_model takes the model, for it refuses
# what it cannot do (two sensors of energy, for example, by name). All sensors of the acceleration stage are left out of a
# step whose model has no constraint at all, and keep the zeros that they began with; positions and velocities are right.
# An arm whose joints turn without end, a pendulum, a drone or a satellite is such a model. A limit that is never reached,
# on any joint, makes all of them right, as the second half shows: the same arm, the same numbers but for the zeros.
# A policy that is trained on such observations learns to do without them, and meets them first on the robot.
#
# Cure: one limit, however wide (range="-1000 1000" on a hinge).
#
# Seen with Python 3.11.7, mujoco 3.17.0, mujoco-mjx 3.17.0, jax 0.10.2, NumPy 2.4.6, Linux x86_64, on 2026-12-01. Fails if
# any of it changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
PATH="$folder/venv/bin:$PATH"
export PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONWARNINGS=ignore JAX_PLATFORMS=cpu JAX_ENABLE_X64=1
pip install -q mujoco==3.17.0 mujoco-mjx==3.17.0 jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6

cat > "$folder/sensors.py" <<'PY'
import jax
import mujoco
import numpy as np
from mujoco import mjx

ARM = """
<mujoco>
  <worldbody>
    <body>
      <joint name="shoulder" axis="0 1 0" {limit}/>
      <geom type="capsule" fromto="0 0 0 .3 0 0" size=".03" mass="1" contype="0" conaffinity="0"/>
      <site name="tool" pos=".3 0 0"/>
    </body>
  </worldbody>
  <actuator><motor name="motor" joint="shoulder" gear="2"/></actuator>
  <sensor>
    <jointvel joint="shoulder"/>
    <gyro site="tool"/>
    <actuatorfrc actuator="motor"/>
    <jointactuatorfrc joint="shoulder"/>
    <accelerometer site="tool"/>
    <force site="tool"/>
    <torque site="tool"/>
    <framelinacc objtype="site" objname="tool"/>
  </sensor>
</mujoco>
"""

for title, limit in (("joint without a limit", ""), ("joint with a limit", 'range="-1000 1000"')):
    model = mujoco.MjModel.from_xml_string(ARM.format(limit=limit))
    data = mujoco.MjData(model)
    data.ctrl[:] = 0.7
    other_model, other, step = mjx.put_model(model), mjx.put_data(model, data), jax.jit(mjx.step)
    for _ in range(20):
        mujoco.mj_step(model, data)
        other = step(other_model, other)
    print(f"{title}, after 20 steps: angle {data.qpos[0]:.4f} in MuJoCo, {float(other.qpos[0]):.4f} in MJX")
    for k in range(model.nsensor):
        at = slice(model.sensor_adr[k], model.sensor_adr[k] + model.sensor_dim[k])
        kind = mujoco.mjtSensor(int(model.sensor_type[k])).name.removeprefix("mjSENS_").lower()
        shown = [" ".join(f"{x + 0.0:.2f}" for x in np.round(values[at], 2)) for values in (data.sensordata, np.asarray(other.sensordata))]
        print(f"  {kind}: " + (shown[0] if shown[0] == shown[1] else f"{shown[0]}, in MJX {shown[1]}"))
PY
python -c 'import platform; print("Python", platform.python_version())'
seen=$(python "$folder/sensors.py" 2> "$folder/errors" | grep -v warp) || { cat "$folder/errors" >&2; exit 1; }
echo "$seen"
expected="joint without a limit, after 20 steps: angle 0.0744 in MuJoCo, 0.0744 in MJX
  jointvel: 3.37
  gyro: 0.00 3.37 0.00
  actuatorfrc: 0.70, in MJX 0.00
  jointactfrc: 1.40, in MJX 0.00
  accelerometer: -4.06 0.00 -16.77, in MJX 0.00 0.00 0.00
  force: -2.36 0.00 -3.49, in MJX 0.00 0.00 0.00
  torque: 0.00 0.35 0.00, in MJX 0.00 0.00 0.00
  framelinacc: -5.18 0.00 -16.46, in MJX 0.00 0.00 0.00
joint with a limit, after 20 steps: angle 0.0744 in MuJoCo, 0.0744 in MJX
  jointvel: 3.37
  gyro: 0.00 3.37 0.00
  actuatorfrc: 0.70
  jointactfrc: 1.40
  accelerometer: -4.06 0.00 -16.77
  force: -2.36 0.00 -3.49
  torque: 0.00 0.35 0.00
  framelinacc: -5.18 0.00 -16.46"
[[ $seen == "$expected" ]] || { echo "CHANGED" >&2; exit 1; }
