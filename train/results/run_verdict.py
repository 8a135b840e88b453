"""The end of a training run in a line: its score, and the time that it took."""

from __future__ import annotations

from palaestra.train.formatting import against, minutes
from palaestra.train.runs.trainer import RunResult


def verdict(run: RunResult) -> str:
    """One line on a finished run: the score, and the time that it took."""
    assert run.evaluation is not None
    score, time = run.evaluation.score, spent(run)
    rival = against(run.evaluation.opponent)
    share = run.evaluation.more.get("share_of_teacher_percent")
    time += "" if share is None else f"; {share:.1f} % of the teacher's score"
    if run.solved_at is None:
        return f"trained: mean return {score:.2f}{rival} after {time}"
    word = "solved" if score >= run.solved_at else "not solved"
    reached = run.solved_after_seconds
    when = "" if reached is None else f"; reached {run.solved_at:g} {reached:.1f} s after the start of the command"
    return f"{word}: mean return {score:.2f}{rival} (solved at {run.solved_at:g}) after {time}{when}"


def spent(run: RunResult) -> str:
    """Steps and minutes of training."""
    steps = f"{run.num_timesteps:,} steps in {minutes(run.training_seconds)}"
    return steps if run.stopped is None else f"{steps} (stopped early: about {minutes(run.saved_seconds)} saved)"
