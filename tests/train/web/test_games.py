"""Games for two in a page: the rules in JavaScript against the tensor code, the page's moves against the agent's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nim import Nim
from player_node import run_player
from torch import Tensor

from palaestra.agents.export.policy_network import ExportError, PolicyNetwork
from palaestra.envs.core.reference import Array
from palaestra.envs.core.rng import Rng, env_keys
from palaestra.envs.core.vector import TensorVectorEnv
from palaestra.envs.games.bitboards import line_cells
from palaestra.envs.games.connect_four import ConnectFour
from palaestra.envs.registry import resolve
from palaestra.envs.wrappers import wrapped
from palaestra.envs.wrappers.two_players.by_settings import one_player_view
from palaestra.train.evaluation.policies import AgentPolicy
from palaestra.train.players import find_player
from palaestra.train.web.onnx_graph import page_network
from palaestra.train.web.worlds import world_of

AGENTS = ("four", "wide-four")


def _games(env: ConnectFour, count: int, anywhere: float) -> tuple[list[dict[str, Any]], Array]:
    """Moves of so many random games, and of each: observation, legal moves, reward, over, success and winning line.

    With the probability ``anywhere`` a move may be one into a full column.
    """
    batch = TensorVectorEnv(env, count, device="cpu", seed=1)
    obs, _ = batch.reset()
    running, rows, moves = np.ones(count, bool), [[] for _ in range(count)], [[] for _ in range(count)]
    chance = torch.Generator().manual_seed(2)
    while running.any():
        legal = batch.action_masks()
        assert legal is not None
        free = torch.rand(count, 1, generator=chance) < anywhere
        action = torch.multinomial((legal | free).float(), 1, generator=chance).squeeze(1)
        after, reward, over = env.step(batch.state, action, Rng(env_keys(1, batch.env_indices), 0))
        lines = [line_cells(int(own), env.shape) for own in after.other]
        seen = (torch.tensor(lines).unsqueeze(1) & env.seen) != 0
        zero = torch.zeros(count, 1)
        parts = (obs.flatten(1), legal, reward.unsqueeze(1), over.unsqueeze(1), zero, seen)
        row = torch.cat([part.float() for part in parts], 1).numpy()
        for i in np.flatnonzero(running):
            rows[i].append(row[i])
            moves[i].append(int(action[i]))
        obs, *_ = batch.step(action)
        running &= ~over.numpy()
    cases = [{"seed": 1, "index": i, "episode": 0, "actions": moves[i]} for i in range(count)]
    return cases, np.concatenate([np.concatenate(row) for row in rows])


@pytest.mark.parametrize(
    ("rows", "columns", "observation", "threats"),
    [(6, 7, "flat", True), (4, 5, "grid", False), (9, 4, "flat", False), (4, 12, "flat", True)],
)
def test_games_are_the_same_to_the_bit(
    rows: int, columns: int, observation: Any, threats: bool, tmp_path: Path
) -> None:
    """Stones, threats, legal columns, wins, draws, lines and stones for full columns of 300 random games."""
    env = ConnectFour(rows, columns, observation, threats)
    cases, expected = _games(env, 300, 0.02)
    found = run_player(tmp_path, world=world_of(env), episodes=cases)
    assert len(found) == len(expected)
    assert (found == expected).all()
    seen = env.shape.cells * (5 if threats else 2)
    table = expected.reshape(-1, seen + columns + 3 + env.shape.cells)
    rewards = table[table[:, seen + columns + 1] == 1, seen + columns]
    assert {-1.0, 1.0} <= set(rewards.tolist())


def _positions(game: ConnectFour, count: int) -> tuple[Tensor, Tensor]:
    """Observations and legal moves in positions of random games."""
    batch = TensorVectorEnv(game, 100, device="cpu", seed=3)
    obs, _ = batch.reset()
    chance, seen, legal = torch.Generator().manual_seed(4), [], []
    for _ in range(count // 100):
        mask = batch.action_masks()
        assert mask is not None
        seen.append(obs.clone())
        legal.append(mask.clone())
        obs, *_ = batch.step(torch.multinomial(mask.float(), 1, generator=chance).squeeze(1))
    return torch.cat(seen), torch.cat(legal)


@pytest.mark.parametrize("name", AGENTS)
def test_the_page_computes_the_agents_scores_and_moves(name: str, pages: Path, tmp_path: Path) -> None:
    """With exact weights in 1,200 positions of random games: scores to 1e-4, and moves but where rounding decides."""
    player = find_player(str(pages / name), None, False, ())
    obs, legal = _positions(resolve(player.env).make(1, device="cpu", **player.env_kwargs).env.env, 1200)
    policy = player.policy
    assert isinstance(policy, AgentPolicy)
    network = page_network((pages / f"{name}.onnx").read_bytes(), "float32")
    found = run_player(tmp_path, network=network, observations=obs.tolist(), masks=legal.tolist()).reshape(1200, -1)
    with torch.no_grad():
        _, scores, *value = PolicyNetwork(policy.model, with_mask=True, distribution=True)(obs, legal)
        moves = policy.model.act(obs, None, legal).numpy()
    mask, theirs = legal.numpy(), found[:, 1 : 1 + legal.shape[1]]
    apart = float(np.abs(theirs[mask] - scores.numpy()[mask]).max())
    assert apart <= 1e-4
    if value:
        assert np.abs(found[:, -1] - value[0].numpy()).max() <= 1e-4
    best, second = scores.masked_fill(~legal, -1e9).topk(2, 1).values.unbind(1)
    clear = (best - second > 2 * apart).numpy()
    assert clear.mean() > 0.98
    assert (found[clear, 0] == moves[clear]).all()
    assert mask[np.arange(1200), found[:, 0].astype(int)].all()


@pytest.mark.parametrize("view", [{"opponent": "self"}, {"opponent": "two-ply", "begins": "agent"}, {}])
def test_whoever_the_opponent_was_a_page_has_the_game_itself(view: dict[str, Any]) -> None:
    world = world_of(one_player_view(ConnectFour(5, 6), view))
    assert world == {"kind": "connect-four", "rows": 5, "columns": 6, "threats": False}


@pytest.mark.parametrize(
    ("env", "says"),
    [
        (one_player_view(Nim(), {}), "cannot play Nim: it knows"),
        (wrapped(one_player_view(ConnectFour(), {}), {"frame_stack": 2}), "cannot play"),
    ],
    ids=["another game", "stacked"],
)
def test_games_that_a_page_does_not_know_are_refused(env: Any, says: str) -> None:
    with pytest.raises(ExportError, match=says):
        world_of(env)
