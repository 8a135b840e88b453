"""Self-play: in a game for two an agent plays against itself (``opponent=self``) or earlier selves (``earlier``).

1. Against itself. The agent moves for both players (:mod:`palaestra.envs.wrappers.two_players.both_sides`): what
   comes after a move is the other player's, and counts with −γ.
2. The pool. The opponents that are earlier selves (:mod:`palaestra.envs.wrappers.two_players.opponents`) are frozen
   copies of the agent, which draw their moves as it does while training.
3. Renewal. At the beginning of training and after each of :data:`RENEWALS` equal parts of it, between two iterations,
   the oldest of them is replaced by the agent as it is.
4. The pool is a part of the training state, so that a run goes on with the same opponents.

Where the rules themselves have the agent for a rival (``meets_itself``, :mod:`palaestra.envs.trained_players`) that is
renewed before each rollout, so that nothing of it need be saved.

Source: a pool of earlier agents instead of the latest alone, Bansal et al., "Emergent complexity via multi-agent
competition", ICLR 2018, section 4.2.
"""

from __future__ import annotations

import io
from typing import Any

from stable_baselines3.common.callbacks import BaseCallback
from torch import Tensor

from palaestra.agents.checkpoints.model_file import read
from palaestra.agents.graphs.recording_agent import RecordingAgent
from palaestra.envs.core.env import rules_within
from palaestra.envs.core.state_dict import check_form
from palaestra.envs.trained_players import let_meet_itself
from palaestra.envs.wrappers.two_players.against_opponent import AgainstOpponent

RENEWALS = 40  # in a training; a pool of four spans a tenth of it


class SelfPlayAgent(RecordingAgent):
    """See the module.

    Attributes:
        selves_taken: how many copies have been taken.
        pool_part: number of the part of training, from 1, in which the latest one was; 0 before.
    """

    selves_taken = pool_part = 0
    num_timesteps: int
    gamma: float
    batch: Any
    _total_timesteps: int

    @property
    def discount(self) -> float:
        """γ, or −γ where the next state is the other player's (``TensorEnv.alternates``)."""
        return -self.gamma if self.batch.alternates else self.gamma

    def _setup_learn(self, total_timesteps: int, callback: Any = None, *args: Any, **kwargs: Any) -> Any:
        agent: Any = self
        renewal: BaseCallback | None = None
        if game_with_pool(self) is not None:
            self.record_with(None)  # a recording would keep the opponents that there were
            renewal = PoolRenewal()
        elif let_meet_itself(agent.batch, agent.act, remembers=agent.remembers):
            renewal = RivalRenewal()
        if renewal is not None:
            given = [] if callback is None else callback
            callback = [renewal, *(given if isinstance(given, list) else [_as_callback(given)])]
        return super()._setup_learn(total_timesteps, callback, *args, **kwargs)


class PoolRenewal(BaseCallback):
    """Renews the pool of an agent's opponents where it is time, before an iteration."""

    model: Any

    def _on_step(self) -> bool:
        return True

    def _on_rollout_start(self) -> None:
        model = self.model
        part = 1 + model.num_timesteps * RENEWALS // max(1, model._total_timesteps)
        if model.pool_part < part:
            game = game_with_pool(model)
            put_weights(model, game, model.selves_taken % len(game.pool), model.policy.state_dict())
            model.selves_taken, model.pool_part = model.selves_taken + 1, part


class RivalRenewal(BaseCallback):
    """Lets an agent meet itself as it is, before each rollout."""

    model: Any

    def _on_step(self) -> bool:
        return True

    def _on_rollout_start(self) -> None:
        let_meet_itself(self.model.batch, self.model.act)


def _as_callback(given: Any) -> BaseCallback:
    from stable_baselines3.common.callbacks import ConvertCallback

    return given if isinstance(given, BaseCallback) else ConvertCallback(given)


def game_with_pool(model: Any) -> Any:
    """The game that the agent plays against earlier selves; None if it does not."""
    games = (rules for rules in rules_within(getattr(model.batch, "env", None)) if isinstance(rules, AgainstOpponent))
    return next((game for game in games if game.pool), None)


def put_weights(model: Any, game: AgainstOpponent, place: int, weights: dict[str, Tensor]) -> None:
    """Put a copy of the agent with those weights into a place of the pool."""
    player = _copy_to_act(model)
    player.policy.load_state_dict(weights)
    player.policy.set_training_mode(False)
    game.put_player(game.pool[place], player)


def _copy_to_act(model: Any) -> Any:
    """A copy that cannot learn."""
    file = io.BytesIO()
    model.save(file)
    file.seek(0)
    return read(type(model), file, device=model.device, to_act=True)


def pool_state(model: Any) -> dict[str, Any]:
    """The entries of a training state; none without a pool."""
    game = game_with_pool(model)
    if game is None:
        return {}
    members = [getattr(game.opponents[number], "player", None) for number in game.pool]
    held = {str(k): dict(one.policy.state_dict()) for k, one in enumerate(members) if one is not None}
    return {"pool": held, "selves_taken": model.selves_taken, "pool_part": model.pool_part}


def restore_pool(model: Any, saved: dict[str, Any]) -> None:
    """Let the agent's opponents be those of a training state.

    Raises:
        ValueError: if they are of another form.
    """
    game = game_with_pool(model)
    if game is None:
        return
    held, taken, part = (saved.get(name) for name in ("pool", "selves_taken", "pool_part"))
    if not isinstance(held, dict) or not all(type(number) is int and number >= 0 for number in (taken, part)):
        raise ValueError("the training state has no pool of opponents, and the environments need one")
    for name, weights in held.items():
        if name not in {str(k) for k in range(len(game.pool))}:
            raise ValueError(f"the training state has an opponent {name!r}, and there are {len(game.pool)}")
        check_form("weights of an opponent", model.policy.state_dict(), weights)
        if not all(bool(value.isfinite().all()) for value in weights.values()):
            raise ValueError("the weights of an opponent hold NaN or infinity")
        put_weights(model, game, int(name), weights)
    model.selves_taken, model.pool_part = taken, part
