"""The best few trials and the preset, trained again on fresh seeds, to tell whether a sweep found something better.

1. A trial's own score flatters it, for it was chosen by that. So nothing here counts but new runs: the same seeds for
   each candidate, and none of them a trial's.
2. The candidates are the preset and the best finished trials, one for every four, at most ``BEST``.
3. The best of them is the one with the greatest mean score of these runs, on the validation seed. What it is worth is
   told by the final evaluation of the same runs, on held-out episodes, which chose nothing.
4. It beats the preset outside noise if a one-sided Welch t-test of these numbers, corrected for the number of
   candidates (Bonferroni), has p ≤ ``LEVEL``. Few seeds show large differences only; that is said, not hidden.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean, stdev, variance

from optuna.trial import FrozenTrial, TrialState
from scipy.stats import ttest_ind

from palaestra.train.config.run_config import RunConfig
from palaestra.train.formatting import tell
from palaestra.train.runs.run_folder import RunFolder
from palaestra.train.sweep.search_space import Space, Value
from palaestra.train.sweep.study import POLL, SEEDS, folder_name, number_of
from palaestra.train.sweep.trial import LaunchTrial, TrialProcess, evaluations, score

BEST, RUNS, LEVEL = 3, 3, 0.05
PRESET = "preset"
_FIRST_SEED = 2**31  # above those of the trials


@dataclass
class Candidate:
    """A setting and its runs on fresh seeds.

    Attributes:
        name: of the trial, or ``PRESET``.
        point: where it lies in the space; None for the preset.
        validation, held_out: mean returns, one per run that went well.
        errors: of those that did not.
    """

    name: str
    point: dict[str, Value] | None
    config: RunConfig
    folder: Path
    validation: list[float] = field(default_factory=list)
    held_out: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def runs(self) -> list[tuple[RunConfig, Path]]:
        seeds = [(self.config.seed + _FIRST_SEED + i) % SEEDS for i in range(RUNS)]
        return [(replace(self.config, seed=seed), self.folder / f"{self.name}-s{seed}") for seed in seeds]


def choose(space: Space, trials: Sequence[FrozenTrial], folder: Path) -> list[Candidate]:
    """The preset and the best trials that differ from it and from each other."""
    found = [Candidate(PRESET, None, space.base, folder)]
    finished = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    best = min(BEST, math.ceil(len(trials) / 4))
    for trial in sorted(finished, key=lambda trial: -float(trial.value or 0.0)):
        if len(found) <= best and trial.params not in [space.start, *(other.point for other in found)]:
            config = space.config(trial.params)
            found.append(Candidate(folder_name(number_of(trial)), trial.params, config, folder))
    return found


def train_again(candidates: Sequence[Candidate], launch: LaunchTrial, jobs: int, stopped: Callable[[], bool]) -> bool:
    """Make the runs that are not there yet, and read them all; False if ``stopped`` said so."""
    if len(candidates) == 1:
        return not stopped()
    waiting = [
        (c, *run)
        for run_of_each in zip(*(((c, r) for r in c.runs()) for c in candidates), strict=True)
        for c, run in run_of_each
    ]
    waiting = [(c, config, path) for c, config, path in waiting if not RunFolder(path).is_evaluated()]
    if waiting:
        names = ", ".join(candidate.name for candidate in candidates)
        tell(f"again on fresh seeds: {names}; {len(waiting)} run{'s' if len(waiting) != 1 else ''} to make")
    running: list[tuple[Candidate, Path, TrialProcess]] = []
    try:
        while waiting or running:
            if stopped():
                return False
            while waiting and len(running) < jobs:
                candidate, config, path = waiting.pop(0)
                running.append((candidate, path, launch(config, path)))
            time.sleep(POLL)
            for job in [job for job in running if job[2].ended()]:
                candidate, path, process = job
                process.wait()
                running.remove(job)
                if (error := process.error()) is not None:
                    candidate.errors.append(error)
                tell(f"again: {path.name} {'is done' if error is None else f'failed: {error}'}")
    finally:
        for _, _, process in running:
            process.stop()
        for _, _, process in running:
            process.wait()
    _read(candidates)
    return True


def _read(candidates: Sequence[Candidate]) -> None:
    for candidate in candidates:
        for config, path in candidate.runs():
            value = score(evaluations(path, config.total_timesteps))
            if RunFolder(path).is_evaluated() and value is not None:
                final = RunFolder(path).evaluation()
                candidate.validation.append(value)
                candidate.held_out.append(final.get("exact_mean", final["mean"]))


def best_of(candidates: Sequence[Candidate]) -> Candidate:
    """The greatest mean score; the preset where nothing is better."""
    return max(candidates, key=lambda c: fmean(c.validation) if c.validation else -math.inf)


def chance(better: Sequence[float], than: Sequence[float]) -> float | None:
    """p of a one-sided Welch t-test that the first mean is greater; None with fewer than two numbers in each."""
    if min(len(better), len(than)) < 2:
        return None
    if variance(better) == variance(than) == 0:  # the test divides by zero
        return 0.0 if fmean(better) > fmean(than) else 1.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # equal numbers on one side only are no trouble
        return float(ttest_ind(better, than, equal_var=False, alternative="greater").pvalue)


def verdict(candidates: Sequence[Candidate]) -> str:
    """A few sentences on whether the preset is beaten."""
    preset, best = candidates[0], best_of(candidates)
    others = len(candidates) - 1
    if not others:
        return "No trial other than the preset was finished, so there is nothing to compare."
    if best is preset:
        return f"The preset is not beaten: none of the best {others} trained again has a greater mean score."
    if len(preset.held_out) < 2 or len(best.held_out) < 2:
        return f"{best.name} is ahead, but too few of the runs on fresh seeds went well to say whether it is better."
    p = min(1.0, others * (chance(best.held_out, preset.held_out) or 0.0))
    told = (
        f"held-out mean return {spread(best.held_out)} against the preset's {spread(preset.held_out)} "
        f"(p = {p:.2g}, Welch's t-test over {len(best.held_out)} and {len(preset.held_out)} seeds"
        f"{f', corrected for {others} contenders' if others > 1 else ''})"
    )
    if p <= LEVEL:
        return f"{best.name} beats the preset outside noise: {told}."
    return (
        f"{best.name} has the best score, but its lead over the preset is within noise: {told}. More seeds would tell."
    )


def spread(numbers: Sequence[float]) -> str:
    """Mean and sample deviation."""
    if not numbers:
        return "–"
    return f"{fmean(numbers):,.4g}" + (f" ± {stdev(numbers):,.3g}" if len(numbers) > 1 else "")
