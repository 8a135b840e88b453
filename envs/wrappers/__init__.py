"""Environments around environments, on tensors: what one adds to the rules without writing into them.

1. :class:`Randomized`         numbers of the rules are drawn for each episode.
2. :class:`StickyActions`      now and then the action before is taken again.
3. :class:`ObservationNoise`   the observation has errors.
4. :class:`DelayedObservation` the observation is that of some steps ago.
5. :class:`TimeAware`          the observation tells how much of the time limit is used up.
6. :class:`FrameStack`         the observation holds the latest observations.
7. :class:`DiscretizedActions` bounded continuous actions become a finite set.

:class:`TimeLimited` cuts episodes after another number of steps than the environment's own limit, innermost of all.

They nest, and pass on what they do not change. What a wrapper has to remember is in its state: a record with the fields
of the state inside and the wrapper's own behind them, so that an episode replays alone from a state of either.

:func:`wrapped` applies :data:`WRAPPER_SETTINGS` (``--set env.frame_stack=4``) from the inside out in the order above;
:func:`gymnasium_wrappers` says the same for Gymnasium environments; Gymnasium's own wrappers equal numbers 5 to 7.
"""

from palaestra.envs.wrappers.by_name import (
    WRAPPER_SETTINGS,
    gymnasium_wrappers,
    named_wrappers,
    take_settings,
    wrapped,
)
from palaestra.envs.wrappers.discretized_actions import DiscretizedActions
from palaestra.envs.wrappers.imperfections import DelayedObservation, ObservationNoise, StickyActions, common_stresses
from palaestra.envs.wrappers.observations import FrameStack, TimeAware
from palaestra.envs.wrappers.randomized import Randomized
from palaestra.envs.wrappers.time_limit import TimeLimited
from palaestra.envs.wrappers.wrapper import UnseenRules, Wrapper, WrapperError

__all__ = [
    "WRAPPER_SETTINGS",
    "DelayedObservation",
    "DiscretizedActions",
    "FrameStack",
    "ObservationNoise",
    "Randomized",
    "StickyActions",
    "TimeAware",
    "TimeLimited",
    "UnseenRules",
    "Wrapper",
    "WrapperError",
    "common_stresses",
    "gymnasium_wrappers",
    "named_wrappers",
    "take_settings",
    "wrapped",
]
