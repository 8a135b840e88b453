"""The rule of the conformance checker for Gymnasium environments with goals, which agents with hindsight go by."""

from __future__ import annotations

from typing import Any

import numpy as np

from palaestra.envs.checker.findings import DoesNotApply
from palaestra.envs.checker.gymnasium_rules import GymnasiumRule, GymnasiumSubject, play
from palaestra.envs.goals import ACHIEVED, DESIRED, RULE, rewards_of_goals, without_goals


def has_goals(subject: GymnasiumSubject) -> bool:
    """True if the rules here are for that environment."""
    return not without_goals(subject.make().observation_space)


def goals(subject: GymnasiumSubject) -> str | None:
    """The rewards of steps against those that the rule gives for all of them at once, as hindsight asks for them."""
    env: Any = subject.make()
    if not env.has_wrapper_attr(RULE):
        return DoesNotApply(f"write {RULE}({ACHIEVED}, {DESIRED}, info): agents can learn with hindsight")
    steps = [call for call in play(env, subject.seed, subject.steps) if call.number]
    achieved, desired = (np.stack([call.obs[key] for call in steps]) for key in (ACHIEVED, DESIRED))
    told = rewards_of_goals(env.get_wrapper_attr(RULE), achieved, desired)
    for call, reward in zip(steps, told.tolist(), strict=True):
        if not np.isclose(reward, call.reward, rtol=1e-5, atol=1e-6):
            return (
                f"the reward at {call.where} is {float(call.reward):g}, and {RULE} gives {reward:g} for its goals and "
                "an empty info: agents with hindsight would learn from another reward than that of the steps"
            )
    return None


GOALS: dict[str, GymnasiumRule] = {"goals": goals}
"""Rules for environments that :func:`has_goals`."""
