"""An agent that moves for both players: games by hand, openings counted, and agents that learn the whole of Nim."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from gymnasium.spaces import Box
from nim import Nim, PileState
from torch import Tensor

from palaestra.agents import DQN, PPO, PQN
from palaestra.agents.buffers.replay import Replay
from palaestra.agents.buffers.rollout import TensorRolloutBuffer
from palaestra.agents.episode_stats import EpisodeStatistics
from palaestra.envs import make
from palaestra.envs.building import vector_env
from palaestra.envs.checker.conformance import check_env
from palaestra.envs.core import TensorVectorEnv
from palaestra.envs.core.errors import EnvError
from palaestra.envs.core.rng import Rng
from palaestra.envs.games.connect_four import ConnectFour
from palaestra.envs.wrappers import WrapperError
from palaestra.envs.wrappers.two_players.both_sides import OPENINGS, BothSides, random_openings


def test_a_step_is_one_move_and_its_reward_the_movers() -> None:
    """9 stones: 1, 2 and 3 taken in turn, and the last 3 by the second player, who wins."""
    batch = TensorVectorEnv(BothSides(Nim(9)), 400, device="cpu", seed=0)
    batch.reset()
    whole = batch.state.left == 9
    assert 90 < int(whole.sum()) < 170, "the first position has the largest weight among five or so"
    rewards, players = [], []
    for stones in (1, 2, 3, 3):
        players.append(batch.env.env.player(batch.state)[whole].unique().item())
        taken = torch.where(whole, stones - 1, 0)
        _, reward, over, _, info = batch.step(taken)
        rewards.append(reward[whole].unique().item())
    assert players == [0, 1, 0, 1]
    assert rewards == [0.0, 0.0, 0.0, 1.0]
    assert over[whole].all()
    assert "is_success" not in info, "nobody has won who could have lost"


class Scored(Nim):
    """A move earns as many points as it takes stones: the winner is who has more of them."""

    def step(self, state: PileState, action: Tensor, rng: Rng) -> tuple[PileState, Tensor, Tensor]:
        after, _, over = super().step(state, action, rng)
        return after, action.float() + 1.0, over


class Misere(Nim):
    """Who takes the last stone loses."""

    def step(self, state: PileState, action: Tensor, rng: Rng) -> tuple[PileState, Tensor, Tensor]:
        after, reward, over = super().step(state, action, rng)
        return after, -reward, over


@pytest.mark.parametrize(("game", "returns"), [(Nim, [1.0, 1.0]), (Misere, [-1.0, -1.0]), (Scored, [2.0, 0.0])])
def test_a_return_is_that_of_the_last_mover_and_statistics_count_games_that_one_side_wins(
    game: type[Nim], returns: list[float]
) -> None:
    """A pile of 4: one side takes 1 stone or 2, the other the rest. By points the second game is a draw, 2 and 2."""
    batch = TensorVectorEnv(BothSides(game(4)), 2, device="cpu")
    batch.reset()
    batch.state = PileState(torch.tensor([4, 4]), torch.tensor([0, 0]))
    statistics = EpisodeStatistics(torch.device("cpu"), batch)
    for taken in ([1, 2], [3, 2]):
        info = batch.step(torch.tensor(taken) - 1)[4]
        statistics.add(info)
    assert info["episode"]["r"].tolist() == returns
    assert statistics.sums.tolist() == [2.0, sum(earned != 0.0 for earned in returns), 4.0, 0.0]


def test_openings_are_moments_of_random_games_the_earlier_the_likelier() -> None:
    """Nim with 2 stones: games of one move and of two, the latter with weights of ¼ and ⅕: 7 in 9 begin at first."""

    class Two(Nim):
        def action_mask(self, state: PileState) -> Tensor:
            return torch.arange(3) < state.left.clamp(max=2).unsqueeze(1)

    found = random_openings(Two(2), OPENINGS)
    assert found.left.unique().tolist() == [1, 2]
    assert (found.left == 2).float().mean().item() == pytest.approx(7 / 9, abs=0.008)
    assert torch.equal(found.moves, 2 - found.left)
    assert torch.equal(random_openings(Two(2), OPENINGS).left, found.left)


def test_a_game_whose_turns_do_not_alternate_is_not_learned() -> None:
    class Impatient(Nim):
        def player(self, state: PileState) -> torch.Tensor:
            return (state.moves >> 1) & 1

    with pytest.raises(EnvError, match=r"Impatient: at move 2 it is not the turn of player 1: .* to pass is an action"):
        TensorVectorEnv(BothSides(Impatient()), 2, device="cpu")


def test_openings_of_connect_four_go_on() -> None:
    game = ConnectFour()
    found = random_openings(game, OPENINGS)
    assert game.action_mask(found).any(1).all()
    assert found.moves.max() > 35
    counts = torch.bincount(found.moves)[:7].float()  # every game has these moments
    torch.testing.assert_close(counts / counts[0], 4 / torch.arange(4.0, 11.0), rtol=0.05, atol=0.0)


def test_what_follows_counts_with_its_sign() -> None:
    """γ = ½ and λ = 1: the winner has 1, the loser a move before −½, the winner two moves before ¼."""
    rollout = TensorRolloutBuffer(3, Box(0.0, 1.0, (1,)), make_space(), "cpu", 1.0, 0.5, 1)
    for t, reward in enumerate((0.0, 0.0, 1.0)):
        none = torch.zeros(1)
        rollout.add(none.unsqueeze(1), none.long(), none + reward, torch.tensor([t == 2]), none + 0.3, none)
    rollout.compute_returns_and_advantage(torch.tensor([9.0]), -0.5)
    torch.testing.assert_close(rollout.returns.squeeze(1), torch.tensor([0.25, -0.5, 1.0]))
    content = {"observation": torch.zeros(1, 1)}
    replay = Replay(8, content, num_actions=2, gamma=-0.5, n_steps=2)
    for reward in (1.0, 4.0, 0.0):
        end = torch.zeros(1, dtype=torch.bool)
        replay.put(torch.zeros(1, dtype=torch.long), torch.tensor([reward]), end, end, content, content)
    found = replay.gather(torch.tensor([0]))
    assert found.returns.tolist() == [1.0 - 2.0]
    assert found.discounts.tolist() == [0.25], "two moves later it is the same player's turn"


def make_space() -> Any:
    return Nim().action_space


AGENTS: dict[str, tuple[Any, dict[str, Any]]] = {
    "ppo": (PPO, {"n_steps": 16, "batch_size": 512, "n_epochs": 4, "learning_rate": 5e-3, "ent_coef": 0.01}),
    "pqn": (PQN, {"n_steps": 8, "batch_size": 512, "learning_rate": 3e-3}),
    "dqn": (
        DQN,
        {
            "n_steps": 3,
            "batch_size": 256,
            "samples_per_insert": 4.0,
            "learning_rate": 3e-3,
            "target_update_interval": 512,
        },
    ),
}


class SeenWhole(Nim):
    """Nim with an observation that tells each pile from the others at once."""

    def __init__(self) -> None:
        super().__init__(12)
        self.observation_space = Box(0.0, 1.0, (13,))

    def observe(self, state: PileState) -> Tensor:
        return (torch.arange(13) == state.left.unsqueeze(1)).float()


@pytest.mark.parametrize("case", AGENTS)
def test_agents_learn_to_win_every_pile_that_can_be_won(case: str) -> None:
    """With +γ, as for one player, they would help each other to the last stone."""
    kind, settings = AGENTS[case]
    env = vector_env(128, SeenWhole(), device="cpu", seed=0, opponent="self")
    model = kind("MlpPolicy", env, gamma=0.9, seed=0, **settings)
    assert model.discount == -0.9
    model.learn(128 * 240)
    piles = torch.tensor([n for n in range(1, 13) if n % 4])
    game = SeenWhole()
    state = PileState(piles, torch.zeros_like(piles))
    taken = model.act(game.observe(state), None, game.action_mask(state)) + 1
    assert taken.tolist() == [n % 4 for n in piles.tolist()]


def test_the_sign_follows_the_environment() -> None:
    against = vector_env(16, Nim(), device="cpu", seed=0, opponent="random")
    model = PPO("MlpPolicy", against, n_steps=8, batch_size=64)
    assert model.discount == 0.99
    model.set_env(vector_env(16, Nim(), device="cpu", seed=0, opponent="self"))
    assert model.discount == -0.99
    assert model.gamma == 0.99, "which a saved model holds"
    wrapped = make("connect-four", 2, device="cpu", seed=0, opponent="self", observation_noise=0.1)
    assert wrapped.env.alternates  # type: ignore[attr-defined]


def test_it_keeps_all_rules_of_the_contract() -> None:
    for env in (BothSides(ConnectFour(4, 4), judged=True), BothSides(Nim())):
        assert [str(rule) for rule in check_env(env) if not rule.passed] == []
    assert OPENINGS > 1000


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"opponent": "self", "begins": "agent"}, "begins=agent: opponent=self moves for both players"),
        ({"opponent": "self+random"}, "self stands alone"),
        ({"opponent": "self-"}, "did you mean 'self'"),
        ({"opponent": "self", "judged": "yes"}, "judged=yes: must be true or false"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(WrapperError, match=said):
        make("connect-four", 2, device="cpu", seed=0, **settings)
