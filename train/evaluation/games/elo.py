"""The Elo rating of an agent that trains by self-play, at its evaluations: how far it has come from random play.

1. Scale: a player rated R scores 1 / (1 + 10^((S − R) / 400)) against one rated S; a win is a point, a draw half.
2. Random play has 0. One-ply lookahead is rated by games against it, two-ply lookahead by games against both, once, on
   the run's own board.
3. The agent's rating is the most likely one after its greedy, held-out games against the three. To the games against
   each of them a draw is added, so that it stays finite; where all games are won it ends some 800 above
   two-ply lookahead.
4. Its standard error is that of the agent's games, from their Fisher information; the others' ratings count as known.

Source: Elo, "The rating of chessplayers, past and present", 1978, with the logistic curve, whose likelihood is that of
Bradley and Terry, "Rank analysis of incomplete block designs", 1952.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from palaestra.envs.core import BatchedEnv, TensorVectorEnv
from palaestra.envs.specs import ResolvedEnv
from palaestra.envs.wrappers.two_players.opponents import LOOKAHEAD, opponents_named
from palaestra.train.evaluation.episodes import VALIDATION_SEED, Evaluation, evaluate
from palaestra.train.evaluation.policies import AgentPolicy, Policy, action_rng

SCRIPTED_GAMES = 500  # of two scripted players
_SCALE = 400.0 / math.log(10.0)
_FURTHEST = 10_000.0  # no rating is further from 0


def expected_score(difference: float) -> float:
    """Points a game of a player who is rated so much higher."""
    return 1.0 / (1.0 + math.exp(-difference / _SCALE))


def most_likely_rating(points: Sequence[float], games: Sequence[int], rivals: Sequence[float]) -> tuple[float, float]:
    """A rating and its standard error, from points in games against rivals of those ratings; see choice 3."""
    low, high = -_FURTHEST, _FURTHEST
    scored, played = sum(points) + len(points) / 2, [count + 1 for count in games]
    while high - low > 1e-6:
        middle = (low + high) / 2
        expected = sum(n * expected_score(middle - rival) for n, rival in zip(played, rivals, strict=True))
        low, high = (middle, high) if expected < scored else (low, middle)
    shares = [expected_score(low - rival) for rival in rivals]
    information = sum(n * share * (1.0 - share) for n, share in zip(played, shares, strict=True))
    return low, _SCALE / math.sqrt(information)


class _ScriptedPolicy:
    """A scripted opponent as a policy."""

    deterministic = False

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, env: BatchedEnv, obs: Any) -> Any:
        assert isinstance(env, TensorVectorEnv)
        rules: Any = env.env
        game, state = rules.within(env.state)
        return opponents_named(game, self.name)[0](game, state, action_rng(env))


class EloLog:
    """Ratings in a run's game, of scripted players at the first evaluation; nothing where it is no self-play."""

    def __init__(self, env: ResolvedEnv, env_kwargs: dict[str, Any]) -> None:
        """``env_kwargs`` are those of training."""
        self._env, self._kwargs = env, env.evaluation_kwargs(env_kwargs)
        self._rates = env.is_game() and self._kwargs != env_kwargs
        self._scripted: dict[str, float] = {}

    def metrics(self, policy: AgentPolicy, found: Evaluation) -> dict[str, float]:
        """``eval/elo`` and its standard error; empty in other runs.

        Args:
            found: the evaluation against one of the rivals, which is not played again.
        """
        if not self._rates:
            return {}
        scripted = self.scripted_ratings()
        points, games = [], []
        for rival in scripted:
            result = found if rival == found.opponent else self._play(policy, rival, found.episodes)
            points.append(points_of(result))
            games.append(result.episodes)
        rating, error = most_likely_rating(points, games, [*scripted.values()])
        return {"eval/elo": rating, "eval/elo_error": error}

    def scripted_ratings(self) -> dict[str, float]:
        """The ratings of random play and of lookahead."""
        if not self._scripted:
            rated = {"random": 0.0}
            for name in LOOKAHEAD:
                results = [self._play(_ScriptedPolicy(name), rival, SCRIPTED_GAMES) for rival in rated]
                points, games = [points_of(result) for result in results], [SCRIPTED_GAMES] * len(rated)
                rated[name] = most_likely_rating(points, games, [*rated.values()])[0]
            self._scripted = rated
        return self._scripted

    def _play(self, policy: Policy, rival: str, episodes: int) -> Evaluation:
        kwargs = {**self._kwargs, "opponent": rival, "begins": "either"}
        device = str(policy.model.device) if isinstance(policy, AgentPolicy) else "cpu"
        return evaluate(
            self._env.absolute_name, policy, episodes=episodes, seed=VALIDATION_SEED, device=device, env_kwargs=kwargs
        )


def points_of(result: Evaluation) -> float:
    """A point for each game won, and half of one for each drawn."""
    assert result.played is not None  # an evaluation that was just made
    return float((1.0 + np.sign(result.played.returns)).sum() / 2)
