"""When training may end before its steps are taken: ``stop_at`` in a run's configuration.

1. ``solved``: the score from which the environment counts as solved is reached; a number: that score is. An evaluation
   that comes so far is repeated with as many episodes as a long run ends with, and the lower end of its 95 % interval
   counts.
   A small game for two is solved by an agent without exploitability, which is exact, so one evaluation is enough.
2. ``plateau``: the last ``PATIENCE`` evaluations are no better than the best before them. A score that has never
   changed is none: learning has not begun.
3. ``10m``: so many minutes of training are over, those before a resumption included.

1 and 2 depend on nothing but the scores, which the curves hold, so a resumed run ends where the unbroken one does.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from palaestra.envs.specs import ResolvedEnv
from palaestra.envs.wrappers.two_players.best_response import small_game
from palaestra.train.config.schema import ConfigError, number

PATIENCE = 5  # evaluations
_NOTHING = 1e-9  # of exploitability: what adding up leaves
_EXPECTED = "expected solved, plateau, a score (475) or minutes (10m)"
_MINUTES = re.compile(r"(\d+(?:\.\d*)?|\.\d+)m")


@dataclass(frozen=True)
class StopRule:
    """One of the rules; ``score`` and ``seconds`` are infinite where they do not count."""

    score: float = math.inf
    seconds: float = math.inf
    plateau: bool = False
    unexploitable: bool = False

    def reason(
        self,
        scores: Sequence[float],
        lower_ends: Sequence[float],
        seconds: float,
        exploitabilities: Sequence[float] = (),
    ) -> str | None:
        """Says in a few words why training may end now; None if it goes on.

        Args:
            scores: of the evaluations during training so far.
            lower_ends: of the intervals of those that were repeated.
            seconds: of training so far.
            exploitabilities: in a small game for two, of the same evaluations.
        """
        if self.unexploitable and exploitabilities and min(exploitabilities) <= _NOTHING:
            return "no opponent earns more against the agent than the game is worth"
        if lower_ends and max(lower_ends) >= self.score:
            return f"the agent scores at least {self.score:g}"
        if seconds >= self.seconds:
            return f"{_minutes(self.seconds)} of training are over"
        before, last = scores[:-PATIENCE], scores[-PATIENCE:]
        if self.plateau and before and len(set(scores)) > 1 and max(last) <= max(before):
            return f"the last {PATIENCE} evaluations are no better than the best before them"
        return None

    def plan(self) -> str:
        """When training will end early, in a line."""
        if self.unexploitable:
            return "training ends early when no opponent can earn more against the agent than the game is worth"
        if self.score < math.inf:
            return f"training ends early when the agent scores at least {self.score:g}"
        if self.plateau:
            return f"training ends early when {PATIENCE} evaluations are no better than the best before them"
        return f"training ends after {_minutes(self.seconds)} at the latest"


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:g} minute{'' if seconds == 60.0 else 's'}"


def stop_rule(value: Any, env: ResolvedEnv, env_kwargs: dict[str, Any]) -> StopRule | None:
    """The rule of a ``stop_at``; None for None.

    Args:
        value: "solved", "plateau", a score or "10m".
        env: the environment, which may say from which score it counts as solved.
        env_kwargs: its arguments.

    Raises:
        ConfigError: if it is no rule, or the environment has no such score.
    """
    if value is None:
        return None
    found, minutes = number(value), _MINUTES.fullmatch(str(value).strip())
    if minutes and float(minutes[1]) > 0:
        return StopRule(seconds=60.0 * float(minutes[1]))
    if isinstance(found, int | float) and not isinstance(found, bool) and math.isfinite(found):
        return StopRule(score=float(found))
    if value == "plateau":
        return StopRule(plateau=True)
    if value != "solved":
        raise ConfigError(f"stop_at={value}: {_EXPECTED}")
    if (solved_at := env.reference(env_kwargs).solved_at) is not None:
        return StopRule(score=solved_at)
    unknown = "does not say from which score it is solved"
    if env.is_game():
        if small_game(env.build(**env.evaluation_kwargs(env_kwargs))) is not None:
            return StopRule(unexploitable=True)
        unknown = "has chance, or too many positions to know whether it is solved"
    raise ConfigError(f"stop_at=solved: {env.short_name} {unknown}; give a score (475), plateau or minutes (10m)")
