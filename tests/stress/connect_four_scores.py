"""Mean returns of scripted players of Connect Four against each other, for ``ConnectFour.reference_against``.

``python tests/stress/connect_four_scores.py [GAMES] [ROWS COLUMNS]``; perfect play on 6 × 7 needs the extra ``games``,
and plays a twentieth of the games.
"""

from __future__ import annotations

import sys

import torch

from palaestra.envs.core import TensorVectorEnv
from palaestra.envs.core.rng import Rng, Stream, child_key, env_keys
from palaestra.envs.games.connect_four import ConnectFour
from palaestra.envs.wrappers.two_players.against_opponent import AgainstOpponent
from palaestra.envs.wrappers.two_players.opponents import opponents_named
from palaestra.envs.wrappers.wrapper import split

PLAYERS = ("random", "two-ply", "perfect")
OPPONENTS = ("random", "one-ply", "two-ply", "perfect")


def mean_return(player: str, opponent: str, begins: str, games: int, size: tuple[int, int]) -> tuple[float, float]:
    """The mean of so many games and its standard error."""
    env = AgainstOpponent(ConnectFour(*size), opponent, begins)  # type: ignore[arg-type]
    batch = TensorVectorEnv(env, games, device="cpu", seed=1)
    act, keys = opponents_named(env.env, player)[0], env_keys(1, batch.env_indices, Stream.RANDOM_POLICY)
    batch.reset()
    returns, running = torch.zeros(games), torch.ones(games, dtype=torch.bool)
    while running.any():
        rng = Rng(child_key(keys, batch.episode), batch.episode_length)
        _, reward, terminated, _, _ = batch.step(act(env.env, split(batch.state)[0], rng))
        returns += torch.where(running, reward, 0.0)
        running &= ~terminated
    return returns.mean().item(), returns.std().item() / games**0.5


def main() -> None:
    torch.set_num_threads(1)
    games = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    size = (int(sys.argv[2]), int(sys.argv[3])) if len(sys.argv) > 3 else (6, 7)
    for opponent in OPPONENTS:
        for player in PLAYERS:
            slow = size == (6, 7) and "perfect" in (player, opponent)
            for begins in ("agent", "opponent"):
                mean, error = mean_return(player, opponent, begins, games // 20 if slow else games, size)
                print(f"{player:8} against {opponent:8} {begins:9} begins: {mean:7.4f} ± {error:.4f}", flush=True)


if __name__ == "__main__":
    main()
