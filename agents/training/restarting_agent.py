"""``restart_states``: a share of an agent's training episodes begins in states of its earlier ones.

The batch does it (:mod:`palaestra.envs.core.batching.restarts`); here is decided how many states it keeps: as many as
take :data:`MEMORY_SHARE` of what the agent keeps to learn from, a rollout or the replay memory, and at most
:data:`_MOST` for each environment, so that none is very old.
"""

from __future__ import annotations

import math
from typing import Any

from stable_baselines3.common.vec_env import VecEnv

from palaestra.agents.buffers.memory_limits import nbytes
from palaestra.agents.training.self_play import SelfPlayAgent
from palaestra.envs.core import TensorVectorEnv, state_fields
from palaestra.envs.core.rng import Rng, env_keys
from palaestra.envs.interop.sb3_vec_env import SB3VecEnv

MEMORY_SHARE = 0.05
_MOST = 4  # states for each environment
_NUMBERS = 6  # bytes, at least, of a transition beside what is seen
_LENGTH = 8  # bytes of the steps before a state


class RestartingAgent(SelfPlayAgent):
    """See the module."""

    restart_states: float
    weight_decay: float
    remarks: tuple[str, ...]
    buffer_size: Any  # of an agent with a replay memory

    def __init__(self, *args: Any, restart_states: float = 0.0, weight_decay: float = 0.0, **kwargs: Any) -> None:
        if not 0.0 <= restart_states <= 1.0:
            raise ValueError(f"restart_states must be 0 … 1, the share of episodes, got {restart_states}")
        if not 0.0 <= weight_decay < math.inf:
            raise ValueError(f"weight_decay must be at least 0, got {weight_decay}")
        self.restart_states, self.weight_decay = restart_states, weight_decay
        super().__init__(*args, **kwargs)
        self.remarks += self._restart_remarks()

    def _let_restart(self, env: VecEnv) -> None:
        """Have a share of the environments' episodes begin in earlier states.

        Raises:
            ValueError: unless they have states.
        """
        if not self.restart_states:
            return
        if not isinstance(env, SB3VecEnv) or not isinstance(env.batch, TensorVectorEnv):
            raise ValueError(f"restart_states={self.restart_states}: only environments in tensors have states to keep")
        from palaestra.envs.core.batching.restarts import RestartingVectorEnv  # not needed by most runs

        batch = RestartingVectorEnv.of(env.batch)
        env.batch = batch
        batch.keep_states(self.restart_states, self._states_to_keep(batch))

    def _states_to_keep(self, batch: TensorVectorEnv[Any]) -> int:
        rules: Any = batch.env
        state = rules.reset(Rng(env_keys(batch.seed, batch.env_indices[:1]), 0))
        size = nbytes(state_fields(state).values())
        transition = min(size, nbytes([rules.observe(state)])) + _NUMBERS
        room = int(MEMORY_SHARE * self._transitions_kept() * transition) - _LENGTH * batch.num_envs
        return max(1, min(room // (size + _LENGTH), _MOST * batch.num_envs))

    def _transitions_kept(self) -> int:
        """Number of transitions that this process keeps to learn from."""
        rollout = getattr(self, "rollout_buffer", None)
        kept: int = self.buffer_size // self._group.size if rollout is None else rollout.buffer_size * rollout.n_envs
        return kept

    def _restart_remarks(self) -> tuple[str, ...]:
        if not self.restart_states:
            return ()
        share = f"{100 * self.restart_states:g} % of the training episodes begin in states of earlier ones"
        return (f"{share}; scores of training are those of the others",)
