#!/usr/bin/env bash
# Jumanji's dm_env wrapper plays one episode: after its end no new one begins, though its own documentation says so, and
# every further step is an end too, in a game that is over.
#
# One would guess that a step after an episode's last one begins the next, with its action ignored and StepType.FIRST:
# that is dm_env's rule, and the docstring of JumanjiToDMEnvWrapper.step repeats it. The wrapper hands the step on to
# the game that is over. Below a Snake may live for 6 steps: from there on each step is LAST with a reward of 0, while
# its counter runs to 12. A loop that steps and counts ends, as dm_env allows, plays one game, and takes what follows
# for games of one step. No error comes.
#
# Cure: call reset() after each LAST, as in the last line below.
#
# Seen with Python 3.11.7, jumanji 1.1.2, dm_env 1.6, jax 0.10.2, Linux x86_64, on 2026-11-30. Fails if any of it
# changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
PATH="$folder/venv/bin:$PATH"
export PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONWARNINGS=ignore JAX_PLATFORMS=cpu
pip install -q jumanji==1.1.2 dm_env==1.6 jax==0.10.2 jaxlib==0.10.2 gymnasium==1.3.0 numpy==2.4.6

cat > "$folder/steps.py" <<'PY'
import jax
import numpy as np
from jumanji.environments import Snake
from jumanji.wrappers import JumanjiToDMEnvWrapper

rule = " ".join(JumanjiToDMEnvWrapper.step.__doc__.split())
print("its docstring:", rule[rule.index("this call to") : rule.index("will be ignored") + len("will be ignored")])


def played(choose, again, steps=12):
    """The kind of each step and the game's own count of steps, of a Snake of at most 6 steps."""
    env = JumanjiToDMEnvWrapper(Snake(num_rows=6, num_cols=6, time_limit=6), key=jax.random.PRNGKey(1))
    step, told = env.reset(), []
    for _ in range(steps):
        allowed = np.asarray(step.observation.action_mask)
        step = env.reset() if again and int(step.step_type) == 2 else env.step(np.array(choose(allowed)))
        told.append(("FIRST", "MID", "LAST")[int(step.step_type)] + f" {int(step.observation.step_count)}")
    return ", ".join(told)


print("without a crash:", played(lambda allowed: allowed.argmax(), False))
print("always up:", played(lambda allowed: 0, False))
print("without a crash, with reset():", played(lambda allowed: allowed.argmax(), True))
PY
seen=$(python "$folder/steps.py")
python -c 'import platform, jumanji; print("Python", platform.python_version(), "jumanji", jumanji.__version__)'
echo "$seen"
expected="its docstring: this call to \`step\` will start a new sequence and \`action\` will be ignored
without a crash: MID 1, MID 2, MID 3, MID 4, MID 5, LAST 6, LAST 7, LAST 8, LAST 9, LAST 10, LAST 11, LAST 12
always up: LAST 1, LAST 2, LAST 3, LAST 4, LAST 5, LAST 6, LAST 7, LAST 8, LAST 9, LAST 10, LAST 11, LAST 12
without a crash, with reset(): MID 1, MID 2, MID 3, MID 4, MID 5, LAST 6, FIRST 0, MID 1, MID 2, MID 3, MID 4, MID 5"
[[ $seen == "$expected" ]] || { echo "CHANGED" >&2; exit 1; }
