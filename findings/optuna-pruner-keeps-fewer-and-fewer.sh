#!/usr/bin/env bash
# Optuna's PercentilePruner(75.0), "to keep the specified percentile of the trials", keeps one of four and stops three;
# MedianPruner, the default of a study, stops more than nine of ten. The share grows as the study goes on.
#
# One would guess that the median pruner stops about every second trial, of trials that come in no order. Both compare a
# trial's report with those of trials that were completed, and no trial that was stopped is among them. So the bar is
# the median of those that have passed the bar: it rises with them. Below, each of 500 trials has a quality of its own,
# drawn at random, and reports it ten times. The same rule with all earlier trials in it, in NumPy, stops about 50 and
# 25 of each hundred. Where first reports are noisy, as agents' are, the default is a draw of lots, which one in fifteen
# wins; all the others are stopped at their first report. The docstring of MedianPruner says "completed", that of
# PercentilePruner says "among trials".
#
# Cure: SuccessiveHalvingPruner, which counts the stopped ones too (palaestra's sweeps use it); n_warmup_steps where
# first reports say little.
#
# Seen with Python 3.11.7, optuna 5.0.0, NumPy 2.4.6, Linux x86_64, on 2026-11-30. Fails if any of it changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
PATH="$folder/venv/bin:$PATH"
export PIP_DISABLE_PIP_VERSION_CHECK=1
pip install -q optuna==5.0.0 numpy==2.4.6

cat > "$folder/trials.py" <<'PY'
import numpy as np
import optuna

optuna.logging.set_verbosity(optuna.logging.ERROR)
QUALITIES = np.random.default_rng(0).normal(size=500)
BY = optuna.pruners


def stopped_at(pruner, reports=10):
    """The report at which each trial was stopped, 0 for those that ran to their end."""
    stops = np.zeros(len(QUALITIES), int)

    def trained(trial):
        for report in range(1, reports + 1):
            trial.report(QUALITIES[trial.number], report)
            if trial.should_prune():
                stops[trial.number] = report
                raise optuna.TrialPruned()
        return QUALITIES[trial.number]

    study = optuna.create_study(direction="maximize", pruner=pruner, sampler=optuna.samplers.RandomSampler(seed=0))
    study.optimize(trained, n_trials=len(QUALITIES))
    return stops


def by_numpy(keeps, of_all):
    """The rule written out: below the percentile of the trials before (of all, or of those that were not stopped)?"""
    stops = np.zeros(len(QUALITIES), int)
    for k in range(5, len(QUALITIES)):
        before = QUALITIES[:k] if of_all else QUALITIES[:k][stops[:k] == 0]
        stops[k] = QUALITIES[k] < np.percentile(before, 100 - keeps)
    return stops


def told(stops):
    hundreds = (stops > 0).reshape(-1, 100).sum(axis=1)
    return f"stopped of the trials of each hundred: {' '.join(map(str, hundreds))}"


assert isinstance(optuna.create_study().pruner, BY.MedianPruner)
for name, pruner, keeps in (("MedianPruner", BY.MedianPruner(), 50), ("keep 75 %", BY.PercentilePruner(75.0), 75)):
    stops = stopped_at(pruner)
    assert set(stops) == {0, 1} and (stops == by_numpy(keeps, of_all=False)).all()
    print(f"{name}, {told(stops)}; among all trials: {told(by_numpy(keeps, of_all=True)).split(': ')[1]}")
halved = stopped_at(BY.SuccessiveHalvingPruner(min_resource=1, reduction_factor=2))
print(f"SuccessiveHalvingPruner, at the first report {told(np.where(halved == 1, 1, 0))}")
PY
python -c 'import platform, optuna; print("Python", platform.python_version(), "optuna", optuna.__version__)'
seen=$(python "$folder/trials.py")
echo "$seen"
expected="MedianPruner, stopped of the trials of each hundred: 72 93 91 94 94; among all trials: 45 54 60 48 50
keep 75 %, stopped of the trials of each hundred: 53 74 75 80 72; among all trials: 28 24 36 24 25
SuccessiveHalvingPruner, at the first report stopped of the trials of each hundred: 49 54 60 48 50"
[[ $seen == "$expected" ]] || { echo "CHANGED" >&2; exit 1; }
