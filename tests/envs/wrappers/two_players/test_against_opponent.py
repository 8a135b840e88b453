"""A game as one player's environment: against games played by hand, and opponents with known answers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from nim import Nim, PileState
from torch import Tensor

from palaestra.envs.checker.conformance import check_env
from palaestra.envs.core import TensorEnv, TensorVectorEnv, map_state
from palaestra.envs.core.rng import Rng, env_keys
from palaestra.envs.games.connect_four import ConnectFour, ConnectFourState
from palaestra.envs.wrappers import WrapperError
from palaestra.envs.wrappers.two_players.against_opponent import AgainstOpponent
from palaestra.envs.wrappers.two_players.opponents import keeps_value, lasting_names, move_values, opponents_named
from palaestra.envs.wrappers.wrapper import split


def play(env: TensorEnv[Any], games: int, choose: Any, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return and length of the first games."""
    batch = TensorVectorEnv(env, games, device="cpu", seed=seed)
    obs, _ = batch.reset()
    returns, lengths, running = torch.zeros(games), torch.zeros(games), torch.ones(games, dtype=torch.bool)
    while running.any():
        obs, reward, terminated, _, _ = batch.step(choose(batch, obs))
        returns += torch.where(running, reward, 0.0)
        lengths += running
        running &= ~terminated
    return returns, lengths


def expert(batch: TensorVectorEnv[Any], obs: Tensor) -> Tensor:
    actions: Tensor = batch.env.expert(batch.state)
    return actions


def first_legal(batch: TensorVectorEnv[Any], obs: Tensor) -> Tensor:
    masks = batch.action_masks()
    assert masks is not None
    return masks.long().argmax(1)


def test_a_step_is_both_players_moves_and_rewards_are_the_agents() -> None:
    """Every transition against the game itself, moved forward by hand with what the opponent did."""
    game = ConnectFour(4, 4)
    batch = TensorVectorEnv(AgainstOpponent(game), 256, device="cpu", seed=3)
    batch.reset()
    for step in range(30):
        before, side, _, _ = split(batch.state)
        assert torch.equal(game.player(before), side), "it is always the agent's turn"
        action = first_legal(batch, torch.zeros(0)) if step % 2 else torch.full((256,), step % 4)
        _, reward, terminated, _, _ = batch.step(action)
        moved, earned, over = game.step(before, action, Rng(batch.env_keys, 0))
        after, _, _, outcome = split(batch.final_state)
        newest = (after.own | after.other) & ~(moved.own | moved.other)
        expected, ended = earned.clone(), over.clone()
        for row in (~over).nonzero().squeeze(1).tolist():
            column = int(newest[row]).bit_length() // 5 if newest[row] else None
            assert column is not None, "the opponent has moved"
            one = map_state(lambda field, row=row: field[row : row + 1], moved)
            last, theirs, ends = game.step(one, torch.tensor([column]), Rng(batch.env_keys[:1], 0))
            assert (last.own.item(), last.other.item()) == (after.own[row].item(), after.other[row].item())
            expected[row], ended[row] = -theirs.item(), ends.item()
        assert torch.equal(reward, expected)
        assert torch.equal(terminated, ended)
        assert torch.equal(batch.env.success(batch.final_state)[terminated], reward[terminated] > 0)
        assert torch.equal(outcome[terminated], reward[terminated])


@pytest.mark.parametrize(("begins", "sides"), [("agent", {0}), ("opponent", {1}), ("either", {0, 1})])
def test_who_begins(begins: Any, sides: set[int]) -> None:
    env = AgainstOpponent(ConnectFour(), begins=begins)
    state = env.reset(Rng(env_keys(0, torch.arange(512)), 0))
    inner, side, _, _ = split(state)
    assert {*side.tolist()} == sides
    assert torch.equal(inner.moves, side)
    if begins == "either":
        assert 200 < int(side.sum()) < 312


def test_perfect_play_wins_what_can_be_won_and_nothing_else() -> None:
    """Nim with 9 stones is won by who begins, with 8 by the other one."""
    for stones, begins, score in ((9, "agent", 1.0), (8, "agent", -1.0), (8, "opponent", 1.0), (9, "opponent", -1.0)):
        env = AgainstOpponent(Nim(stones), opponent="perfect", begins=begins)  # type: ignore[arg-type]
        assert play(env, 64, expert)[0].tolist() == [score] * 64


def test_the_perfect_players_of_small_boards_draw() -> None:
    returns, lengths = play(AgainstOpponent(ConnectFour(4, 4), opponent="perfect"), 512, expert)
    assert returns.tolist() == [0.0] * 512
    assert lengths.unique().tolist() == [8.0]
    assert play(AgainstOpponent(ConnectFour(4, 4), opponent="perfect"), 512, first_legal)[0].max() <= 0.0


def test_perfect_play_never_loses_to_chance() -> None:
    returns, _ = play(AgainstOpponent(ConnectFour(5, 4)), 1024, expert)
    assert returns.min() >= 0.0
    assert returns.mean() > 0.5


def board(rows: str, game: ConnectFour) -> ConnectFourState:
    """A position from a picture, x of who moves and o of the other, rows from above with / between."""
    bits = {"x": 0, "o": 0}
    lines = rows.split("/")
    for height, line in enumerate(reversed(lines)):
        for column, stone in enumerate(line):
            if stone in bits:
                bits[stone] |= game.shape.bottom(column) << height
    count = sum(rows.count(stone) for stone in bits)
    return ConnectFourState(*(torch.tensor([number]) for number in (bits["x"], bits["o"], count)))


@pytest.mark.parametrize(
    ("rows", "plies", "best"),
    [
        ("....../xxx...", 1, {3}),  # wins at once
        ("....../.ooo..", 1, {0, 1, 2, 3, 4, 5}),  # one ply sees no threat
        ("....../xooo..", 2, {4}),  # two do
        ("xxx.../ooo...", 2, {3}),  # the stone below blocks
        ("....../xxx.oo", 2, {3}),
    ],
)
def test_lookahead_finds_wins_and_threats(rows: str, plies: int, best: set[int]) -> None:
    game = ConnectFour(6, 6)
    values = move_values(game, board(rows, game), plies, Rng(torch.tensor([0]), 0))[0]
    assert {*(values == values.max()).nonzero().squeeze(1).tolist()} == best


def test_lookahead_to_the_end_is_perfect_play() -> None:
    """Fifteen plies from a position of the 4 × 4 board with four free cells, by the table."""
    game = ConnectFour(4, 4)
    keys = env_keys(1, torch.arange(2000))
    state, alive = game.reset(Rng(keys, 0)), torch.ones(2000, dtype=torch.bool)
    for ply in range(1, 12):
        mask = game.action_mask(state)
        state, _, over = game.step(state, Rng(keys, ply).choice(mask | ~mask.any(1, keepdim=True)), Rng(keys, ply))
        alive &= ~over
    state = map_state(lambda field: field[alive.nonzero().squeeze(1)[:100]], state)
    rng = Rng(torch.zeros(len(state.own), dtype=torch.int64), 0)
    exact = move_values(game, state, None, rng)
    assert torch.equal(exact, move_values(game, state, 5, rng))
    assert torch.equal(exact.amax(1), game.game_value(state))
    kept = torch.stack([keeps_value(game, state, torch.full((len(state.own),), column)) for column in range(4)], 1)
    assert torch.equal(kept & game.action_mask(state), exact == exact.amax(1, keepdim=True))


def test_figures_of_an_evaluation() -> None:
    env = AgainstOpponent(ConnectFour(4, 4), judged=True)
    assert env.summary(np.array([1.0, 0.0, -1.0, -1.0]), np.full(4, 5), None) == {
        "drawn_percent": 25.0,
        "lost_percent": 50.0,
    }
    batch = TensorVectorEnv(env, 256, device="cpu")
    batch.reset()
    for _ in range(6):
        before, best = batch.state, env.expert(batch.state)
        worst = move_values(env.env, split(before)[0], None, Rng(batch.env_keys, 0)).nan_to_num(neginf=2.0).argmin(1)
        value = env.env.game_value(split(before)[0])
        loses = move_values(env.env, split(before)[0], None, Rng(batch.env_keys, 0)).gather(1, worst.unsqueeze(1))
        assert env.step_figures(before, before, best, before)["value_kept_percent"].unique().tolist() == [100.0]
        kept = env.step_figures(before, before, worst, before)["value_kept_percent"]
        assert torch.equal(kept, 100.0 * (loses.squeeze(1) >= value).float())
        batch.step(worst)


def test_an_opponent_of_a_mixture_stays_for_the_episode() -> None:
    env = AgainstOpponent(ConnectFour(), opponent="random+two-ply")
    batch = TensorVectorEnv(env, 2000, device="cpu")
    batch.reset()
    rival = split(batch.state)[2]
    assert 900 < int(rival.sum()) < 1100
    batch.step(torch.full((2000,), 3))
    assert torch.equal(split(batch.final_state)[2], rival)
    alone = [play(AgainstOpponent(ConnectFour(), name), 500, first_legal)[0].mean() for name in ("random", "two-ply")]
    assert alone[0] - alone[1] > 0.5


@pytest.mark.parametrize("opponent", ["random", "two-ply", "random+one-ply", "perfect"])
def test_games_keep_all_rules_of_the_contract(opponent: str) -> None:
    for env in (AgainstOpponent(ConnectFour(4, 4), opponent, judged=True), AgainstOpponent(Nim(), opponent)):
        assert [finding for finding in check_env(env, num_envs=64, steps=12) if not finding.passed] == []


class Impatient(Nim):
    def player(self, state: PileState) -> Tensor:
        return (state.moves >> 1) & 1


class SecondBegins(Nim):
    def player(self, state: PileState) -> Tensor:
        return (state.moves + 1) & 1


class NothingLegal(Nim):
    def action_mask(self, state: PileState) -> Tensor:
        return super().action_mask(state) & (state.moves.unsqueeze(1) < 1)


class OtherPlayersValue(Nim):
    def game_value(self, state: PileState) -> Tensor:
        return -super().game_value(state)


class OtherPlayersReward(Nim):
    def step(self, state: PileState, action: Tensor, rng: Rng) -> tuple[PileState, Tensor, Tensor]:
        after, reward, over = super().step(state, action, rng)
        return after, -reward, over


class ValueDtype(Nim):
    def game_value(self, state: PileState) -> Tensor:
        return super().game_value(state).double()


class MaskOfFloats(Nim):
    def action_mask(self, state: PileState) -> Tensor:
        return super().action_mask(state).float()


@pytest.mark.parametrize(
    ("game", "said"),
    [
        (OtherPlayersValue, "game_value of env 0 is -1 at move 1, but the best of its moves earns 1: its reward"),
        (OtherPlayersReward, "but the best of its moves earns"),
        (ValueDtype, "ValueDtype: game_value must be torch.float32, got torch.float64"),
        (Impatient, "player of env 0 is 0 at move 2, not 1: player 0 begins, turns alternate"),
        (SecondBegins, "player of env 0 is 1 at move 1, not 0"),
        (NothingLegal, "action_mask of env 0 allows no move at move 2"),
    ],
)
def test_the_checker_finds_broken_games(game: type[Nim], said: str) -> None:
    findings = {finding.rule: finding for finding in check_env(game, num_envs=16, steps=4)}
    assert not findings["two players"].passed
    assert said in findings["two players"].detail


def test_a_mask_of_another_form_is_named() -> None:
    findings = check_env(MaskOfFloats, num_envs=16, steps=4)
    assert [finding.detail for finding in findings if not finding.passed] == [
        "MaskOfFloats: action_mask must be torch.bool, got torch.float32"
    ]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"opponent": "."}, "opponent=.: no opponent is called '.'; it is a folder: name the model file in it"),
        ({"opponent": "randm"}, "opponent=randm: no opponent is called 'randm'; did you mean 'random'?"),
        ({"opponent": "random+"}, "no opponent is called ''; there are random, one-ply, two-ply, perfect, and model"),
        ({"opponent": 3}, "name an opponent: random, one-ply, two-ply, perfect or a model file; got 3"),
        ({"opponent": "gone.zip"}, "there is no file gone.zip"),
        ({"begins": "me"}, "begins=me: must be one of either, agent, opponent"),
        ({"judged": "yes"}, "judged=yes: must be true or false"),
        ({"opponent": "perfect", "rows": 5}, "known on 6 × 7 and on boards of up to 20 cells, not on this one"),
        ({"judged": True, "rows": 5}, "judged=True: perfect play is known on 6 × 7"),
    ],
)
def test_opponents_that_there_are_not_are_refused(settings: dict[str, Any], said: str) -> None:
    game = ConnectFour(settings.pop("rows", 6))
    with pytest.raises(WrapperError, match=said.replace("?", r"\?").replace("+", r"\+")):
        AgainstOpponent(game, **settings)


def test_perfect_play_of_a_game_that_knows_none_is_refused() -> None:
    class Unsolved(Nim):
        game_value = TensorEnv.game_value  # type: ignore[assignment]

    with pytest.raises(ValueError, match="perfect play of Unsolved is not known: it has no game_value"):
        opponents_named(Unsolved(), "perfect")


def test_names_of_files_last(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.zip").touch()
    monkeypatch.chdir(tmp_path)
    assert lasting_names("random+a.zip") == f"random+{tmp_path}/a.zip"
    assert lasting_names("two-ply") == "two-ply"


def test_perfect_play_does_not_throw_a_lost_game_away() -> None:
    """In lost positions every move keeps the value; where some do not lose at once perfect play makes one of those."""
    game = ConnectFour(4, 4)
    keys = env_keys(2, torch.arange(4000))
    state, alive = game.reset(Rng(keys, 0)), torch.ones(4000, dtype=torch.bool)
    for ply in range(1, 10):
        mask = game.action_mask(state)
        state, _, over = game.step(state, Rng(keys, ply).choice(mask | ~mask.any(1, keepdim=True)), Rng(keys, ply))
        alive &= ~over
    state = map_state(lambda field: field[alive], state)
    rng = Rng(torch.arange(len(state.own)), 0)
    ahead = move_values(game, state, 2, rng)
    lost = (game.game_value(state) == -1.0) & (ahead.amax(1) == 0.0) & (ahead == -1.0).any(1)
    assert lost.sum() > 20
    (perfect,) = opponents_named(game, "perfect")
    chosen = ahead.gather(1, perfect(game, state, rng).unsqueeze(1)).squeeze(1)
    assert chosen[lost].unique().tolist() == [0.0]
    assert keeps_value(game, state, perfect(game, state, rng)).all()
