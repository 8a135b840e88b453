"""Optimal values of a two-state problem whose state is hidden, between two bounds that are proven.

1. What a decision maker knows of the past is one number, the belief b: the probability of the second state given all
   actions and outcomes (Åström 1965). After an action and its outcome Bayes' rule and the chain's next move make the
   next belief.
2. The optimal value with t decisions left is convex and piecewise linear in b (Smallwood and Sondik 1973), so that it
   lies on or below the chord between any two beliefs. The *upper* bound is computed on a grid, where each next belief
   is valued by the chord of its two neighbours: by induction at least the optimum everywhere.
3. A plan that says which plan follows each outcome earns a sum that is linear in b. The *lower* bound is the best of a
   set of such plans, one made at each belief of the grid from those with one decision less (Pineau, Gordon and Thrun
   2003): each outcome is followed by the better of the two plans made at the neighbours of the next belief. Each plan
   can be followed, and so earns no more than the optimum.
4. Of any function W of period and belief, a policy earns W at the start less the sum of what its actions lose by W, on
   average: W of the belief before, less reward and W of the belief after. With W near the optimum that sum has hardly
   any noise, which makes it a precise measure of a policy.

All arithmetic is in float64.

Source: Åström, "Optimal control of Markov processes with incomplete state information", J. Math. Anal. Appl. 1965;
Smallwood and Sondik, "The optimal control of partially observable Markov processes over a finite horizon", Operations
Research 1973; Pineau, Gordon and Thrun, "Point-based value iteration", IJCAI 2003.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from palaestra.envs.core import Array

_GRID = 1001  # beliefs


class Bounds(NamedTuple):
    """The optimal value lies from ``low``, which a policy attains, to ``high``."""

    low: float
    high: float


class HiddenChain(NamedTuple):
    """A chain of two states, of which each action shows an outcome.

    Attributes:
        outcomes: probability of each outcome, float64 [2 states, A, O].
        reward: expected reward, float64 [2 states, A].
        moves: probability of the next state, float64 [2 states, 2 states].
        start: probability of the second state before the first action.
    """

    outcomes: Array
    reward: Array
    moves: Array
    start: float

    @property
    def joint(self) -> Array:
        """Probability of an outcome and the next state, float64 [2, A, O, 2]."""
        return np.einsum("sao,st->saot", self.outcomes, self.moves)  # type: ignore[no-any-return]


class BeliefValues:
    """The solution of ``stages`` decisions in a :class:`HiddenChain`.

    Attributes:
        bounds: of the optimal value at the start.
        upper: float64 [stages + 1, G], upper bounds before each decision and at the end (0) on the grid of G beliefs
            0 … 1.
        best: int64 [stages, G], the action that the upper bounds prefer.
    """

    def __init__(self, chain: HiddenChain, stages: int, grid: int = _GRID) -> None:
        beliefs = np.linspace(0.0, 1.0, grid)
        both = np.stack((1.0 - beliefs, beliefs), 1)  # [G, 2]
        self.upper, self.best = np.zeros((stages + 1, grid)), np.zeros((stages, grid), np.int64)
        after = np.einsum("gs,saot->gaot", both, chain.joint)  # [G, A, O, 2], not normalised
        chance = after.sum(3)
        next_belief = np.divide(after[..., 1], chance, out=np.zeros_like(chance), where=chance > 0.0)
        left = np.minimum((next_belief * (grid - 1)).astype(np.int64), grid - 2)
        plans = np.zeros((grid, 2))  # what the plan made at each belief earns in either state
        for stage in range(stages - 1, -1, -1):
            later = (chance * np.interp(next_belief, beliefs, self.upper[stage + 1])).sum(2)
            ahead = both @ chain.reward + later  # [G, A]
            self.upper[stage], self.best[stage] = ahead.max(1), ahead.argmax(1)
            plans = _longer_plans(chain, both, after, left, plans)
        start = np.array([1.0 - chain.start, chain.start])
        self.bounds = Bounds(float((plans @ start).max()), float(np.interp(chain.start, beliefs, self.upper[0])))


def _longer_plans(chain: HiddenChain, both: Array, after: Array, left: Array, plans: Array) -> Array:
    """What plans with one more decision earn in either state, float64 [G, 2]: at each belief of the grid a good one.

    Args:
        both: the beliefs of the grid, [G, 2].
        after: each outcome's probability with either next state, [G, A, O, 2].
        left: the belief of the grid below the next one, int64 [G, A, O].
        plans: with one decision less, made at each belief of the grid, [G, 2].
    """
    lower, upper = plans[left], plans[left + 1]  # [G, A, O, 2]
    better = ((after * (upper - lower)).sum(3) > 0.0)[..., None]
    followed = np.where(better, upper, lower)
    earned = chain.reward.T + np.einsum("saot,gaot->gas", chain.joint, followed)  # [G, A, 2]
    action = np.einsum("gas,gs->ga", earned, both).argmax(1)
    chosen: Array = earned[np.arange(len(both)), action]
    return chosen
