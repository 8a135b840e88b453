"""How often an agent's moves keep the value of a game, without a search and with one, and how long a search takes.

``python tests/stress/search_strength.py RUN [POSITIONS]``, of a run on a board whose perfect play is known. Positions
are those of ``palaestra evaluate --positions`` with the agent alone, so that all searches see the same ones; shares are
of those with a decision. It is how ``TEMPERATURE`` of :mod:`palaestra.agents.search.evaluations` was chosen.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import torch
from torch import Tensor

from palaestra.agents.search import evaluations
from palaestra.agents.search.puct import TreeSearch
from palaestra.envs.core import map_state
from palaestra.envs.core.host import keep_freed_memory
from palaestra.envs.core.rng import Rng
from palaestra.envs.wrappers.two_players.opponents import keeps_value, legal_moves, move_values
from palaestra.envs.wrappers.two_players.positions import mixed_positions
from palaestra.train.evaluation.episodes import EVALUATION_SEEDS
from palaestra.train.evaluation.games.judged_play import PolicyPlayer, game_rules
from palaestra.train.players import find_player


def decisions(game: Any, agent: PolicyPlayer, count: int) -> Any:
    """Positions in which some move keeps the value and another does not."""
    state = mixed_positions(game, EVALUATION_SEEDS, torch.arange(count), agent).state
    values = move_values(game, state, None, Rng(torch.zeros(count, dtype=torch.int64), 0))
    differ = (legal_moves(game, state) & (values < values.amax(1, keepdim=True))).any(1)
    return map_state(lambda field: field[differ], state)


def main(run: str, count: int = 2000) -> None:
    keep_freed_memory()
    player = find_player(run, None, False, ())
    rules: Any = game_rules(player)
    game, model = rules.env, player.policy.model  # type: ignore[attr-defined]
    state = decisions(game, PolicyPlayer(player.policy, rules, "cpu"), count)
    known = evaluations.AgentEvaluation(model)

    def report(name: str, moves: Tensor, seconds: float) -> None:
        kept = 100.0 * float(keeps_value(game, state, moves).float().mean())
        print(f"{name:28} {kept:5.1f} % of {len(moves):,} decisions  {seconds:6.2f} s", flush=True)

    report("agent alone", model.act(game.observe(state), None, legal_moves(game, state)), 0.0)
    for temperature in (1.0, 2.0, 4.0, 8.0):
        evaluations.TEMPERATURE = temperature
        for simulations in (16, 64):
            begun = time.process_time()
            moves = TreeSearch(game, known, simulations)(state).best()
            report(f"T {temperature:g}, {simulations} simulations", moves, time.process_time() - begun)
    for simulations in (16, 64):
        moves = TreeSearch(game, evaluations.uniform, simulations)(state).best()
        report(f"no agent, {simulations} simulations", moves, 0.0)


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:3]))
