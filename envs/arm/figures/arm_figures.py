"""The figures of an arm in the report of a run: from its held-out episodes, and from some that are played again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from torch import Tensor

from palaestra.envs.arm.figures.replayed import AT_END, EPISODES, Replayed, replayed
from palaestra.envs.arm.figures.targets import reached_maps, time_over
from palaestra.envs.arm.robots.scores import held_out_targets
from palaestra.envs.core import Array
from palaestra.envs.core.reference import LineFigure, ReportFigure, RowFigure

_SEEN = 0.05  # per cent of steps at a limit, below which there is nothing to show


def arm_figures(env: Any, lengths: Array, successes: Array, act: Callable[[Any], Tensor] | None) -> list[ReportFigure]:
    """The figures.

    Args:
        env: an ``ArmTask``, whose module imports this one.
        lengths, successes: steps and arrivals of the held-out episodes in their order.
        act: maps a batch of states to the agent's actions; without it there is nothing of single steps.
    """
    arrived, count = successes.astype(bool), min(EPISODES, len(lengths))
    bound = env.bounds(len(lengths))
    if act is None and bound is not None:
        return [*_over_bound(env, lengths, arrived, bound), *_missed(env, arrived, None)]
    expert = replayed(env, env.expert, count)
    times = _beside(lengths, arrived, expert) if bound is None else _over_bound(env, lengths, arrived, bound)
    if act is None:
        return [*times, *_missed(env, arrived, None)]
    agent = replayed(env, act, count)
    missed = _missed(env, arrived, agent)
    return [*times, *_ways(env, agent, expert), *missed, *_at_ends(env, agent), *_limits(env, agent, expert)]


def _beside(lengths: Array, arrived: Array, expert: Replayed) -> list[ReportFigure]:
    """Times over the expert's."""
    count = len(expert.lengths)
    both = arrived[:count] & expert.arrived
    note = f"Of {int(both.sum()):,} of the first {count:,} held-out targets, which both have reached."
    return time_over((lengths[:count] / expert.lengths)[both], "Time beside the expert's", "expert's time", note)


def _over_bound(env: Any, lengths: Array, arrived: Array, bound: Array) -> list[ReportFigure]:
    """Times over the bound of each target."""
    period, count = env.step_seconds, len(bound)
    ratio = (lengths[:count] * period / bound)[arrived[:count]]
    whole = float(np.mean(np.ceil(bound / period) * period / bound))
    note = (
        f"{len(ratio):,} of {count:,} targets were reached. At 1 an arm would be as fast as no control can beat; steps "
        f"of {period:g} s alone take the bound to {whole:.2f}."
    )
    return time_over(ratio, "Time over the bound", "time-optimal bound", note)


def _ways(env: Any, agent: Replayed, expert: Replayed) -> list[ReportFigure]:
    """Distance and angle to the target over time."""
    kinds = (("Distance to the target", "distance, cm", 100.0), ("Angle to the target", "angle, °", 180.0 / np.pi))
    longest = max(len(played.errors[0]) for played in (agent, expert))
    seconds = [float(f"{step * env.step_seconds:.6g}") for step in range(longest)]
    note = (
        f"Median of {len(agent.lengths):,} held-out episodes, in a band from the 10th to the 90th percentile. An "
        "episode that has ended counts on with its last value."
    )
    found: list[ReportFigure] = []
    for number, (tolerance, (title, label, scale)) in enumerate(zip(env.tolerances, kinds, strict=False)):
        curves, bands = {}, {}
        for name, played in (("agent", agent), ("expert", expert)):
            way = scale * played.errors[number]
            way = np.concatenate((way, way[-1:].repeat(longest - len(way), 0)))
            low, middle, high = (
                [_digits(value) for value in part] for part in np.percentile(way, (10, 50, 90), axis=1)
            )
            curves[name], bands[name] = middle, (low, high)
        levels = [("tolerance", scale * tolerance)]
        found.append(LineFigure(title, "time, s", label, seconds, curves, bands, levels, True, note))
    return found


def _missed(env: Any, arrived: Array, agent: Replayed | None) -> list[ReportFigure]:
    targets = held_out_targets(env.targets).numpy()[: len(arrived)]
    missed = int((~arrived).sum())
    note = f"{missed:,} of {len(arrived):,} targets were missed."
    if agent is not None and not agent.arrived.all() and not agent.ended[~agent.arrived].any():
        note += " No joint was at an end of its range when time was up."
    return reached_maps(targets, arrived[: len(targets)], note)


def _at_ends(env: Any, agent: Replayed) -> list[ReportFigure]:
    """The joints that were at an end of their range where a target was missed."""
    ended = agent.ended[~agent.arrived]
    if not ended.any():
        return []
    shares = dict(zip(env.chain.joint_names, (100.0 * ended.mean(0)).round(1).tolist(), strict=True))
    note = (
        f"When time was up in {len(ended):,} missed episodes of {len(agent.arrived):,}: within {100 * AT_END:g} % of "
        "the joint's range of an end."
    )
    return [RowFigure("Joints at an end of their range", "% of the missed episodes", shares, note=note)]


def _limits(env: Any, agent: Replayed, expert: Replayed) -> list[ReportFigure]:
    """How smooth the motion is, and how often each joint is at a limit."""
    unit = "rad/s³" if any(env.chain.turning) else "m/s³"
    jerk = {"this agent": _digits(agent.rms_jerk), "expert": _digits(expert.rms_jerk)}
    note = f"Over all steps of {len(agent.lengths):,} held-out episodes, at the rate of decisions; less is smoother."
    found: list[ReportFigure] = [RowFigure("Jerk", f"root mean square, {unit}", jerk, ["expert"], note=note)]
    for name, share in agent.shares.items():
        if share.max() >= _SEEN:
            values = dict(zip(env.chain.joint_names, share.round(1).tolist(), strict=True))
            note = f"Of all steps of {len(agent.lengths):,} held-out episodes."
            found.append(RowFigure(f"Joints at their {name} limit", "% of steps", values, note=note))
    return found


def _digits(value: float) -> float:
    return float(f"{value:.4g}")
