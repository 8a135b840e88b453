#!/usr/bin/env bash
# Upgrading MuJoCo from 3 to 4 with pip leaves a MuJoCo that cannot be imported, and its own advice can fail too.
#
# Up to 3.17 "mujoco" is one package. Since 4.0 it is three (mujoco, mujoco-core, mujoco-studio) that install into the
# same folder mujoco/. "pip install -U mujoco" installs the two new packages first and removes the old one afterwards,
# and with it the files that mujoco-core has just written at the same places. "pip check" finds nothing wrong.
#
# The ImportError of 4.0.0 advises: pip install --force-reinstall --no-deps mujoco mujoco-core mujoco-studio. Without
# versions and dependencies pip takes the newest of each, which are mujoco 4.0.0 and mujoco-core 4.0.1, though mujoco
# 4.0.0 requires mujoco-core==4.0.0: the import fails again, now for a mismatch of versions.
#
# Cure: pip uninstall -y mujoco mujoco-core mujoco-studio, then pip install mujoco. Naming the same version for all
# three in the advised command works too.
#
# Seen with Python 3.11.7, Linux x86_64, on 2026-11-28. Fails if any of it changes.
set -e
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
PATH="$folder/venv/bin:$PATH"
export PIP_DISABLE_PIP_VERSION_CHECK=1

fail() { echo "CHANGED: $1" >&2; exit 1; }
imported() { python -c 'import mujoco; from mujoco.rollout import Rollout; print("works", mujoco.__version__)' 2>&1 || true; }
expect() { # name, text that must be in the output, output
    echo "$1: $(grep -m1 -e '^works' -e '^ImportError' <<<"$3" | cut -c1-150)"
    grep -q -- "$2" <<<"$3" || fail "$1"
}
installed() { pip list --format=freeze | grep -i '^mujoco' | tr '\n' ' '; }

echo "Python $(python -c 'import platform; print(platform.python_version(), platform.system(), platform.machine())'), $(pip --version | cut -d' ' -f1,2)"

pip install -q mujoco==3.17.0
expect "mujoco 3.17.0" "^works 3.17.0" "$(imported)"

pip install -q -U mujoco==4.0.0
echo "after pip install -U mujoco==4.0.0: $(installed)"
expect "upgraded to 4.0.0" "core bindings ('mujoco-core') are missing or corrupted" "$(imported)"
pip check

pip install -q --force-reinstall --no-deps mujoco==4.0.0 mujoco-core==4.0.1 mujoco-studio==4.0.0 # the newest of each
echo "after the advised command: $(installed)"
expect "reinstalled as advised" "Version mismatch between 'mujoco' (4.0.0) and 'mujoco-core' (4.0.1)" "$(imported)"

pip uninstall -q -y mujoco mujoco-core mujoco-studio
pip install -q mujoco==4.0.0
expect "uninstalled and installed" "^works 4.0.0" "$(imported)"
