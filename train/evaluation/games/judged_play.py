"""How well a policy plays a game for two, against the truth: its moves in positions of mixed play beside perfect play.

The positions, and what is asked of them, are those of :mod:`palaestra.envs.wrappers.two_players.positions`; their seeds
are held out. On boards with few positions the policy's exploitability is exact
(:mod:`palaestra.envs.wrappers.two_players.best_response`).
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from palaestra.envs.core import Array, TensorVectorEnv, map_state
from palaestra.envs.core.rng import Rng
from palaestra.envs.registry import resolve
from palaestra.envs.wrappers.two_players.against_opponent import AgainstOpponent
from palaestra.envs.wrappers.two_players.best_response import (
    BestResponse,
    ChanceError,
    TooLargeError,
    best_response,
    require_small,
)
from palaestra.envs.wrappers.two_players.opponents import legal_moves, require_perfect_play
from palaestra.envs.wrappers.two_players.positions import first_positions, holds_value, judged, mixed_positions
from palaestra.train.evaluation.episodes import EVALUATION_SEEDS
from palaestra.train.evaluation.policies import AgentPolicy, Player, Policy, RandomPolicy, Tell, untold
from palaestra.train.evaluation.processes import play_in_processes, processes_for
from palaestra.train.evaluation.statistics import share_interval

AT_ONCE = 500  # positions of which progress is told
BEGUN = 200  # games from the beginning, on each side
PLAYED_ON = 2000  # of the positions; the solver takes three times as long for playing on as for the move alone
_WIDTHS = (4, 8)  # plies of a band, of short games and of long ones
_LONG = 24  # plies


class NotJudgedError(ValueError):
    """A policy cannot be judged by perfect play; the message says why."""


class PolicyPlayer:
    """A policy as a player of a game, who sees each position as its environment shows it on its turn.

    What it draws is a function of the game and the ply, as the random numbers that it gets say.
    """

    name, is_symmetric = "agent", False

    def __init__(self, policy: Policy, rules: AgainstOpponent, device: str) -> None:
        self.policy, self.device = policy, torch.device(device)
        self.rules: AgainstOpponent = copy.deepcopy(rules)
        self.rules.to(self.device)

    def __call__(self, game: Any, state: Any, rng: Rng) -> Tensor:
        own = self.rules.on_turn(map_state(lambda field: field.to(self.device), state))
        batch = TensorVectorEnv(self.rules, rng.num_envs, device=self.device)
        batch.state, batch.env_indices = own, rng.episode_key.to(self.device)
        batch.episode = torch.zeros_like(batch.env_indices)
        batch.episode_length = batch.episode + rng.step
        return self.policy(batch, self.rules.observe(own)).to(rng.device)


@dataclass(frozen=True)
class Share:
    """So many of so many; ``percent`` and its 95 % interval are None of none."""

    hits: int
    count: int

    @classmethod
    def of(cls, flags: Array) -> Share:
        return cls(int(flags.sum()), len(flags))

    @property
    def percent(self) -> float | None:
        return 100.0 * self.hits / self.count if self.count else None

    @property
    def interval(self) -> tuple[float, float] | None:
        if not self.count:
            return None
        low, high = share_interval(self.hits, self.count)
        return 100.0 * low, 100.0 * high

    def as_dict(self) -> dict[str, Any]:
        low, high = self.interval or (None, None)
        return {"count": self.count, "percent": self.percent, "ci_low": low, "ci_high": high}


@dataclass(frozen=True)
class KeptMoves:
    """Of positions of one kind: the moves that keep the value of the game, of all, and of those with a decision."""

    name: str
    all: Share
    decisions: Share

    def as_dict(self) -> dict[str, Any]:
        return {"name": self.name, "kept": self.all.as_dict(), "kept_of_decisions": self.decisions.as_dict()}


@dataclass(frozen=True)
class JudgedPlay:
    """What ``palaestra evaluate RUN --positions N`` tells.

    Attributes:
        by_ply, by_value: the positions divided by the moves before, and by the value that they have.
        won, held: won positions that the policy goes on to win against perfect play, and drawn ones that it does not
            lose, of the first ``PLAYED_ON``.
        begun: whole games against perfect play, as first and as second player, that end as perfect play would; none of
            the side on which the game is lost.
        response: to its policy, exact; None where that is not known, and ``unknown`` says why.
    """

    env: str
    run: str
    positions: int
    seed: int
    total: KeptMoves
    by_ply: list[KeptMoves]
    by_value: list[KeptMoves]
    won: Share
    held: Share
    begun: tuple[Share, Share]
    response: BestResponse | None
    unknown: str | None

    def as_dict(self) -> dict[str, Any]:
        """The object that ``palaestra evaluate --positions --json`` prints."""
        found = self.response
        return {
            "env": self.env,
            "run": self.run,
            "positions": self.positions,
            "played_on": min(self.positions, PLAYED_ON),
            "seed": self.seed,
            "all": self.total.as_dict(),
            "by_ply": [one.as_dict() for one in self.by_ply],
            "by_value": [one.as_dict() for one in self.by_value],
            "won_positions_won": self.won.as_dict(),
            "drawn_positions_held": self.held.as_dict(),
            "games_held_as_first": self.begun[0].as_dict(),
            "games_held_as_second": self.begun[1].as_dict(),
            "exploitability": None if found is None else found.exploitability,
            "best_response_as_first": None if found is None else found.first,
            "best_response_as_second": None if found is None else found.second,
        }


def judge_player(player: Player, count: int, seed: int = 0, tell: Tell = untold) -> JudgedPlay:
    """Judge a policy by so many positions; ``tell`` takes how many are done.

    Raises:
        ValueError: if ``count`` is not positive.
        NotJudgedError: if the environment is no game whose perfect play is known, or the policy has a memory.
    """
    if count < 1:
        raise ValueError(f"positions must be at least 1, got {count}")
    rules = game_rules(player)
    try:
        require_perfect_play(rules.env)
    except ValueError as error:
        raise NotJudgedError(str(error)) from error
    play = partial(_judge, player, rules, seed)
    processes = processes_for(player.policy, count, player.device, {})
    if processes > 1:
        parts = play_in_processes(play, player.policy, count, processes, tell)
    else:
        parts = play(range(count), tell)
    ply, value, kept, decision, held = (np.concatenate(column) for column in zip(*parts, strict=True))
    response, unknown = exact_response(player.policy, rules, player.device)
    return JudgedPlay(
        *(player.env, player.policy.name, count, seed, _kept("all", kept, decision)),
        by_ply=_by_ply(ply, kept, decision),
        by_value=[
            _kept(name, kept[rows], decision[rows])
            for name, rows in (("won", value > 0), ("drawn", value == 0), ("lost", value < 0))
        ],
        won=Share.of(held[:PLAYED_ON][value[:PLAYED_ON] > 0]),
        held=Share.of(held[:PLAYED_ON][value[:PLAYED_ON] == 0]),
        begun=_begun(player, rules, seed),
        response=response,
        unknown=unknown,
    )


def game_rules(player: Player) -> AgainstOpponent:
    """The game that a policy plays.

    Raises:
        NotJudgedError: if it plays none, or has a memory.
    """
    found = resolve(player.env)
    if not found.is_game():
        raise NotJudgedError(f"{found.short_name} is no game for two: positions are judged by perfect play")
    rules = found.build(**player.env_kwargs)
    if not isinstance(rules, AgainstOpponent):
        raise NotJudgedError("positions are judged in the game as it is: leave its wrappers (env.…) out")
    if isinstance(player.policy, AgentPolicy) and player.policy.model.remembers:
        raise NotJudgedError(f"{player.policy.name}: an agent with a memory needs whole games, and has no positions")
    return rules


def _judge(player: Player, rules: AgainstOpponent, seed: int, numbers: range, tell: Tell) -> list[tuple[Array, ...]]:
    """Ply, value, kept, decision and held [n] of positions of those numbers, some at a time."""
    agent, game, parts = PolicyPlayer(player.policy, rules, player.device), rules.env, []
    for first in range(numbers.start, numbers.stop, AT_ONCE):
        some = torch.arange(first, min(first + AT_ONCE, numbers.stop))
        found = mixed_positions(game, EVALUATION_SEEDS + seed, some, agent)
        judgement = judged(game, found, agent(game, found.state, Rng(found.numbers, found.ply)))
        open_ = (judgement.value >= 0) & (some < PLAYED_ON)
        held = torch.zeros_like(judgement.kept)
        if open_.any():
            held[open_] = holds_value(game, found.of(open_), judgement.value[open_], agent)
        parts.append((found.ply, judgement.value, judgement.kept, judgement.decision, held))
        tell(float(some[-1] + 1 - numbers.start))
    return [tuple(column.cpu().numpy() for column in part) for part in parts]


def _begun(player: Player, rules: AgainstOpponent, seed: int) -> tuple[Share, Share]:
    """The games that a policy holds as first and as second player."""
    agent, game = PolicyPlayer(player.policy, rules, player.device), rules.env
    shares = []
    for side in (0, 1):
        found = first_positions(game, EVALUATION_SEEDS + seed, BEGUN, side)
        value = game.game_value(found.state)
        open_ = value >= 0
        held = holds_value(game, found.of(open_), value[open_], agent) if open_.any() else value[open_]
        shares.append(Share.of(held.cpu().numpy()))
    return shares[0], shares[1]


def _kept(name: str, kept: Array, decision: Array) -> KeptMoves:
    return KeptMoves(name, Share.of(kept), Share.of(kept[decision]))


def _by_ply(ply: Array, kept: Array, decision: Array) -> list[KeptMoves]:
    last = int(ply.max())
    width = _WIDTHS[last >= _LONG]
    bands = [(first, min(first + width - 1, last)) for first in range(0, last + 1, width)]
    rows = [(ply >= first) & (ply <= end) for first, end in bands]
    named = [f"ply {first}" if first == end else f"plies {first} to {end}" for first, end in bands]
    return [_kept(name, kept[row], decision[row]) for name, row in zip(named, rows, strict=True) if row.any()]


def exact_response(
    policy: Policy, rules: AgainstOpponent, device: str, is_small: bool = False
) -> tuple[BestResponse | None, str | None]:
    """The best response to a policy, or why it is not known; ``is_small``: the game is known to have one."""
    if not policy.deterministic and not isinstance(policy, RandomPolicy):
        return None, "exploitability is of play without chance"
    agent = PolicyPlayer(policy, rules, device)

    def shares(state: Any) -> Tensor:
        legal = legal_moves(rules.env, state).double()
        if isinstance(policy, RandomPolicy):
            return legal / legal.sum(1, keepdim=True)
        none = torch.zeros(len(legal), dtype=torch.int64)
        action = agent(rules.env, state, Rng(none, 0)) - int(getattr(rules.action_space, "start", 0))
        return torch.nn.functional.one_hot(action, legal.shape[1])

    try:
        if not is_small:
            require_small(rules.env)
        return best_response(rules.env, shares), None
    except (TooLargeError, ChanceError) as error:
        return None, f"exploitability is not known: {error}"
