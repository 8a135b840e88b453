#!/usr/bin/env bash
# Stable-Baselines3's PPO climbs its loss in the last update, if the learning rate is the schedule of its own documentation
# (progress_remaining * initial_value) and whole rollouts take more steps than were asked for.
#
# One would guess that progress_remaining falls from 1 to 0, as its documentation says, and that the last update is at
# a rate near 0. It is 1 - steps / total, and the last rollout goes beyond the total unless n_steps * n_envs divides it:
# the rate of the last update is negative. Adam refuses such a rate where it is made, not where it is set later. Of
# 3,000 steps with the default rollouts of 2,048 the last update is at minus a third of the first rate; below it raises
# the loss of the values on its own rollout, which the update before lowered. Stable-Baselines3's LinearSchedule stays at its end.
#
# Cure: max(progress_remaining, 0.0), or LinearSchedule. palaestra's agents do the former for every schedule.
#
# Seen with Python 3.11.7, torch 2.13.0 (CPU), stable-baselines3 2.9.2, gymnasium 1.4.0, Linux x86_64, on 2026-11-30.
# Fails if any of it changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
PATH="$folder/venv/bin:$PATH"
export PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONWARNINGS=ignore
pip install -q --no-compile torch==2.13.0
pip install -q --no-compile stable-baselines3==2.9.2 gymnasium==1.4.0 numpy==2.4.6

cat > "$folder/rates.py" <<'PY'
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.utils import LinearSchedule


class Told(PPO):
    """Tells the rate of each update, and whether the values' loss on the rollout is lower after it."""

    def _loss(self):
        buffer = self.rollout_buffer
        seen = torch.as_tensor(buffer.observations).reshape(-1, 4)
        with torch.no_grad():
            values = self.policy.predict_values(seen).flatten()
        return float((values - torch.as_tensor(buffer.returns).flatten()).square().mean())

    def train(self):
        before = self._loss()
        super().train()
        rate = self.policy.optimizer.param_groups[0]["lr"]
        told.append(f"{rate:+.6f} {'lower' if self._loss() < before else 'higher'}")


def documented(initial):
    return lambda progress_remaining: progress_remaining * initial


for name, schedule in (("documented", documented(1e-3)), ("LinearSchedule", LinearSchedule(1e-3, 0.0, 1.0))):
    told = []
    model = Told("MlpPolicy", "CartPole-v1", learning_rate=schedule, seed=0, device="cpu").learn(3_000)
    print(f"{name}, {model.num_timesteps} steps:", *told, sep=" | ")
PY
seen=$(python "$folder/rates.py")
echo "$(python -c 'import platform, stable_baselines3 as sb3; print("Python", platform.python_version(), "stable-baselines3", sb3.__version__)')"
echo "$seen"
rates=$(sed -n 's/^documented, 4096 steps: | +0.000317 lower | -0.000365 higher$/ok/p; s/^LinearSchedule, 4096 steps: | +0.000317 lower | +0.000000 .*$/ok/p' <<< "$seen")
[[ $rates == $'ok\nok' ]] || { echo "CHANGED" >&2; exit 1; }
