"""Positions of mixed play, moves in them beside perfect play, and games that go on from them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from palaestra.envs.core import state_fields
from palaestra.envs.core.rng import Rng
from palaestra.envs.games.connect_four import ConnectFour
from palaestra.envs.wrappers.two_players import positions as module
from palaestra.envs.wrappers.two_players.opponents import (
    LookaheadOpponent,
    RandomOpponent,
    keeps_value,
    legal_moves,
    move_values,
)
from palaestra.envs.wrappers.two_players.positions import (
    Positions,
    first_positions,
    holds_value,
    judged,
    mixed_positions,
)

SMALL = ConnectFour(4, 4)
PERFECT, RANDOM = LookaheadOpponent("perfect", None), RandomOpponent()


@pytest.fixture(scope="module")
def found() -> Positions:
    return mixed_positions(SMALL, 5, torch.arange(2000))


def moves(player: Any, found: Positions) -> Tensor:
    return player(SMALL, found.state, Rng(found.numbers, found.ply))


def test_a_position_is_that_of_its_number_whatever_others_are_drawn(found: Positions) -> None:
    alone = mixed_positions(SMALL, 5, torch.tensor([1234, 7]))
    for name, field in state_fields(alone.state).items():
        assert torch.equal(field, getattr(found.state, name)[torch.tensor([1234, 7])]), name
    other = mixed_positions(SMALL, 6, torch.arange(2000))
    assert (other.state.own != found.state.own).float().mean() > 0.5


def test_games_go_on_in_all_positions(found: Positions) -> None:
    assert torch.equal(found.ply, found.state.moves)
    assert legal_moves(SMALL, found.state).any(1).all()
    assert len({*zip(found.state.own.tolist(), found.state.other.tolist(), strict=True)}) > 1000, "they are various"
    assert int(found.ply.min()) == 0
    assert int(found.ply.max()) == 15


class Filling(ConnectFour):
    """A game of 16 plies: nobody wins."""

    def step(self, state: Any, action: Tensor, rng: Rng) -> Any:
        after, _, _ = super().step(state, action, rng)
        return after, torch.zeros(len(action)), after.moves == 16


def test_all_plies_of_a_game_are_equally_likely() -> None:
    ply = mixed_positions(Filling(4, 4), 0, torch.arange(8000)).ply
    counts = torch.bincount(ply, minlength=16).double()
    assert len(counts) == 16
    assert float(((counts - 500) ** 2 / 500).sum()) < 37.7, "chi-square with 15 degrees of freedom, 99.9 %"


class Watched:
    """A player whose turns are noted."""

    name, is_symmetric = "watched", False

    def __init__(self) -> None:
        self.rows: list[tuple[int, int]] = []

    def __call__(self, game: Any, state: Any, rng: Rng) -> Tensor:
        self.rows += [(int(key), int(moves) & 1) for key, moves in zip(rng.episode_key, state.moves, strict=True)]
        return RANDOM(game, state, rng)


def test_the_agent_plays_each_side_in_a_quarter_of_the_games() -> None:
    agent = Watched()
    mixed_positions(SMALL, 0, torch.arange(2000), agent)
    for side in (0, 1):
        games = {key for key, player in agent.rows if player == side}
        assert len(games) == pytest.approx(500, abs=4 * (2000 * 0.25 * 0.75) ** 0.5)


def test_judgements_are_those_of_every_single_move(found: Positions) -> None:
    action = moves(RANDOM, found)
    told = judged(SMALL, found, action)
    assert torch.equal(told.value, SMALL.game_value(found.state))
    assert torch.equal(told.kept, keeps_value(SMALL, found.state, action))
    legal = legal_moves(SMALL, found.state)
    each = torch.stack([keeps_value(SMALL, found.state, torch.full_like(action, column)) for column in range(4)], 1)
    assert torch.equal(told.decision, ~(each | ~legal).all(1))
    assert 0.2 < float(told.decision.float().mean()) < 0.8
    assert told.kept[~told.decision].all()
    assert not told.decision[told.value < 0].any(), "in a lost position there is nothing to lose"


def test_perfect_play_keeps_all_and_holds_all(found: Positions) -> None:
    told = judged(SMALL, found, moves(PERFECT, found))
    assert told.kept.all()
    assert holds_value(SMALL, found, told.value, PERFECT).all()


def test_what_is_held_is_what_a_game_against_that_player_gives(found: Positions) -> None:
    """Played with whole games, to their end, by a player who blunders: the same share within chance."""

    class Blunders:
        name, is_symmetric = "blunders", True

        def __call__(self, game: Any, state: Any, rng: Rng) -> Tensor:
            good, bad = PERFECT(game, state, rng.spawn()), RANDOM(game, state, rng.spawn())
            return torch.where(rng.uniform() < 0.25, bad, good)

    value = SMALL.game_value(found.state)
    open_ = value >= 0
    held = holds_value(SMALL, found.of(open_), value[open_], Blunders())
    share = held.float().mean().item()
    results = [_played_out(found, row, Blunders()) for row in open_.nonzero().flatten()[:400].tolist()]
    wanted = [float(value[row]) for row in open_.nonzero().flatten()[:400].tolist()]
    kept = sum(a >= b for a, b in zip(results, wanted, strict=True)) / 400
    assert 0.3 < share < 0.95
    assert kept == pytest.approx(share, abs=4 * (share * (1 - share) / 400) ** 0.5)


def _played_out(found: Positions, row: int, agent: Any) -> float:
    """The return of the player to move in one position, played to the end of the game, one move after the other."""
    state, sign = found.of(torch.tensor([row])).state, 1.0
    for step in range(16):
        rng = Rng(found.numbers[[row]] + 10_000, step)
        value = SMALL.game_value(state)
        move = agent(SMALL, state, rng) if sign > 0 else module._resisting(SMALL, state, value, rng)
        state, earned, over = SMALL.step(state, move, rng)
        if over.item():
            return sign * earned.item()
        sign = -sign
    raise AssertionError("a game has 16 plies at most")


def test_perfect_play_resists_where_it_is_lost(found: Positions) -> None:
    value = SMALL.game_value(found.state)
    rng = Rng(found.numbers, 3)
    action = module._resisting(SMALL, found.state, value, rng)
    assert keeps_value(SMALL, found.state, action).all()
    ahead = move_values(SMALL, found.state, 2, rng)
    lost = value < 0
    taken = ahead.gather(1, action.unsqueeze(1)).squeeze(1)
    assert torch.equal(taken[lost], ahead[lost].amax(1)), "it does not let itself be beaten at once where it can last"
    assert (ahead[lost].amax(1) > -1).any()


def test_games_begin_with_either_player_after_moves_of_perfect_play() -> None:
    begun = first_positions(SMALL, 5, 300, 0)
    assert (int(begun.ply.max()), int(begun.state.moves.max())) == (0, 0)
    answered = first_positions(SMALL, 5, 300, 1)
    assert (answered.ply == 1).all()
    assert (answered.state.moves == 1).all()
    assert len(answered.state.other.unique()) == 4, "all four first moves keep the draw"
    assert torch.equal(SMALL.game_value(answered.state), torch.zeros(300))
    perfect = holds_value(SMALL, answered, torch.zeros(300), PERFECT)
    random = holds_value(SMALL, answered, torch.zeros(300), RANDOM)
    assert perfect.all()
    assert 0 < int(random.sum()) < 200
