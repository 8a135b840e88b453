"""Self-play: the pool holds earlier selves, an agent resumes with it to the bit, and learns to play well."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from training_cases import resumed_to_the_bit

from palaestra.agents import DQN, PPO, PQN, CheckpointError
from palaestra.agents.training.self_play import RENEWALS, game_with_pool
from palaestra.envs import make
from palaestra.envs.wrappers.two_players.opponents import POOL, EarlierSelf

ROLLOUT = {"n_steps": 8, "batch_size": 64, "n_epochs": 2}
REPLAY = {"learning_starts": 200, "batch_size": 64, "buffer_size": 1000, "train_freq": 2}
CASES: dict[str, tuple[Any, dict[str, Any]]] = {"ppo": (PPO, ROLLOUT), "pqn": (PQN, ROLLOUT), "dqn": (DQN, REPLAY)}
STEPS, NUM_ENVS = 2560, 16


def environment(opponent: str = "earlier+random", num_envs: int = NUM_ENVS, **kwargs: Any) -> Any:
    return make("connect-four", num_envs, device="cpu", seed=3, rows=4, columns=4, opponent=opponent, **kwargs)


def agent(case: str, env: Any = None) -> Any:
    kind, kwargs = CASES[case]
    return kind("MlpPolicy", env or environment(), seed=1, **kwargs)


def players(model: Any) -> list[Any]:
    game = game_with_pool(model)
    return [game.opponents[number].player for number in game.pool]


@pytest.mark.parametrize("case", CASES)
def test_a_resumed_run_ends_with_the_same_bits(case: str, tmp_path: Path) -> None:
    resume = CASES[case][0].resume
    whole, again = resumed_to_the_bit(
        lambda: agent(case), lambda path: resume(path, environment()), STEPS, tmp_path / "c.zip"
    )
    assert again.selves_taken == whole.selves_taken
    for own, other in zip(players(again), players(whole), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(own.policy.parameters(), other.policy.parameters(), strict=True))


@pytest.mark.parametrize("case", CASES)
def test_a_resumed_run_of_both_sides_ends_with_the_same_bits(case: str, tmp_path: Path) -> None:
    resume = CASES[case][0].resume
    _, again = resumed_to_the_bit(
        lambda: agent(case, environment("self")),
        lambda path: resume(path, environment("self")),
        STEPS,
        tmp_path / "c.zip",
    )
    assert again.discount == -again.gamma


def test_the_pool_holds_the_agent_as_it_was() -> None:
    """Weights noted before each iteration; with 20 iterations every other part of training passes unseen."""
    noted: list[torch.Tensor] = []

    class Noted(PPO):
        def collect_rollouts(self, *args: Any, **kwargs: Any) -> Any:
            noted.append(torch.cat([p.detach().flatten() for p in self.policy.parameters()]))
            return super().collect_rollouts(*args, **kwargs)

    model: Any = Noted("MlpPolicy", environment(), seed=1, **ROLLOUT)
    assert players(model) == [None] * POOL
    model.learn(STEPS)
    assert len(noted) == model.selves_taken == STEPS // (8 * NUM_ENVS) == 20 < RENEWALS
    held = [torch.cat([p.detach().flatten() for p in player.policy.parameters()]) for player in players(model)]
    assert all(torch.equal(a, b) for a, b in zip(held, noted[-POOL:], strict=True))
    assert len({tuple(weights[:50].tolist()) for weights in held}) == POOL


def test_training_draws_what_it_would_draw_without_copies() -> None:
    """The agent's own random numbers do not begin anew whenever the pool is renewed."""
    model = agent("ppo")
    model.learn(1)
    state = torch.get_rng_state()
    game = game_with_pool(model)
    for number in game.pool:
        game.put_player(number, None)
    model.pool_part = 0
    model.learn(1, reset_num_timesteps=False)
    assert not torch.equal(state, torch.get_rng_state())
    assert all(isinstance(one, EarlierSelf) for one in game.opponents[:POOL])


def test_an_agent_learns_by_self_play_alone() -> None:
    """Against random play, which it has hardly met."""
    settings = {"n_steps": 16, "batch_size": 512, "n_epochs": 4, "learning_rate": 3e-3, "gamma": 1.0}
    model: Any = PPO("MlpPolicy", environment("earlier", 256), seed=0, **settings)
    before = score_against_random_play(model)
    model.learn(256 * 16 * 20)
    assert score_against_random_play(model) > before + 0.15


def score_against_random_play(model: Any) -> float:
    """The mean return of 1,024 games."""
    env = environment("random", 1024)
    obs, _ = env.reset()
    score, running = torch.zeros(1024), torch.ones(1024, dtype=torch.bool)
    while running.any():
        obs, reward, over, _, _ = env.step(model.act(obs, None, env.action_masks()))
        score = torch.where(running & over, reward, score)
        running &= ~over
    return score.mean().item()


def test_a_training_state_without_a_pool_is_refused(tmp_path: Path) -> None:
    model = agent("ppo", environment("random"))
    model.learn(256)
    model.save_checkpoint(tmp_path / "c.zip")
    with pytest.raises(CheckpointError, match="the training state has no pool of opponents"):
        PPO.resume(tmp_path / "c.zip", environment())
