"""An agent that searches: what its networks say, which agents and environments can, and that it plays better."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from palaestra.agents import DQN, PPO
from palaestra.agents.recurrent.recurrent_ppo import RecurrentPPO
from palaestra.agents.search.evaluations import TEMPERATURE, AgentEvaluation
from palaestra.agents.search.searching_player import SearchingPlayer, game_alone, state_of_game
from palaestra.envs import make
from palaestra.envs.cartpole import CartPole
from palaestra.envs.core.rng import Rng, env_keys
from palaestra.envs.games.connect_four import ConnectFour
from palaestra.envs.wrappers import FrameStack
from palaestra.envs.wrappers.time_limit import TimeLimited
from palaestra.envs.wrappers.two_players.against_opponent import AgainstOpponent
from palaestra.envs.wrappers.two_players.opponents import legal_moves, opponents_named
from palaestra.train.config import run_config  # noqa: F401, which says how model files are read


def environment(num_envs: int = 16, **kwargs: Any) -> Any:
    return make("connect-four", num_envs, device="cpu", seed=3, **{"rows": 4, "columns": 4, **kwargs})


def agent(**kwargs: Any) -> Any:
    model: Any = PPO("MlpPolicy", environment(), n_steps=8, batch_size=64, seed=1, **kwargs)
    model.policy.set_training_mode(False)
    return model


def test_an_evaluation_is_the_policys_at_a_temperature_and_the_values_of_plain_rewards() -> None:
    model, game = agent(normalize_reward=True), ConnectFour(4, 4)
    model._reward_scale.set_state([0.1, 0.25, 100.0])
    batch = environment()
    batch.reset()
    state = state_of_game(batch.env, batch.state)
    legal = legal_moves(game, state)
    legal[0, 1] = False
    priors, values = AgentEvaluation(model)(game, state, legal)
    seen = game.observe(state)
    assert torch.allclose(values, (0.5 * model.policy.predict_values(seen).flatten()).clamp(-1, 1), atol=1e-6)
    probabilities = model.policy.get_distribution(seen).distribution.probs * legal
    wanted = probabilities.pow(1 / TEMPERATURE) / probabilities.pow(1 / TEMPERATURE).sum(1, keepdim=True)
    assert torch.allclose(priors, wanted, atol=1e-6)
    assert float(priors[0, 1]) == 0.0


def test_moves_are_legal_and_those_of_a_seed() -> None:
    model, batch = agent(), environment(64)
    batch.reset()
    player, state = SearchingPlayer(model, 16), state_of_game(batch.env, batch.state)
    game, rng = game_alone(batch.env), Rng(env_keys(1, torch.arange(64)), 0)
    best, drawn = player.move(game, state), player.move(game, state, rng)
    for moves in (best, drawn):
        assert legal_moves(game, state).gather(1, moves.unsqueeze(1)).all()
    assert torch.equal(player.move(game, state), best)
    assert torch.equal(player.move(game, state, Rng(env_keys(1, torch.arange(64)), 0)), drawn)
    alone = SearchingPlayer(model, 16).move(game, type(state)(*(field[9:10] for field in vars(state).values())))
    assert int(alone) == int(best[9])


def test_who_cannot_search_is_refused() -> None:
    q_agent = DQN("MlpPolicy", environment(), buffer_size=100)
    with pytest.raises(ValueError, match="DQN has no policy with values, which a search needs: ppo has"):
        SearchingPlayer(q_agent, 4)
    remembering = RecurrentPPO("MlpPolicy", environment(), n_steps=8, batch_size=64, sequence_length=8)
    with pytest.raises(ValueError, match="RecurrentPPO has a memory of the episode, with which it cannot search"):
        SearchingPlayer(remembering, 4)
    with pytest.raises(ValueError, match="simulations must be 1 to 10,000, got 10,001"):
        SearchingPlayer(agent(), 10_001)


def test_the_game_is_found_where_it_is_seen_as_it_is() -> None:
    game = ConnectFour(4, 4)
    assert game_alone(TimeLimited(AgainstOpponent(game), 5)) is game
    with pytest.raises(ValueError, match="leave env settings out that change what is seen or done"):
        game_alone(FrameStack(AgainstOpponent(game), 2))
    with pytest.raises(ValueError, match="a search is for games for two, such as connect-four: CartPole is none"):
        game_alone(CartPole())


def test_an_opponent_searches(tmp_path: Path) -> None:
    """An untrained agent finds wins by its search, which it does not without."""
    file = tmp_path / "four.zip"
    agent().save(file)
    game = ConnectFour(4, 4)
    plain, searching = opponents_named(game, f"{file}+{file}@60")
    rng = Rng(env_keys(0, torch.arange(500)), 1)
    state = game.reset(Rng(env_keys(0, torch.arange(500)), 0))
    for move in (0, 1, 0, 1, 0, 1):
        state, _, _ = game.step(state, torch.full((500,), move), rng)
    assert [plain.name, searching.name] == ["four.zip", "four.zip@60"]
    assert (searching(game, state, rng) == 0).all()
    assert not (plain(game, state, rng) == 0).all()
    with pytest.raises(ValueError, match=r"four.zip@N searches with N simulations, such as @64; got @0"):
        opponents_named(game, f"{file}@0")
