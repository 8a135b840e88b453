"""The memory that a number of environments needs, planned before anything is allocated.

Everything is made in full size on the meta device, where tensors have shapes and no store, and its bytes are added:

1. environments: the states before and after the reset of finished rows, their observations and the batch's counters;
2. memory: a rollout of ``n_steps`` (PPO, PQN), or the replay memory (DQN), whose size does not grow with the number of
   environments but for whole rows.

An epoch of PPO or PQN learns from a shuffled copy of the rollout: count it twice, but for states, which are gathered
minibatch by minibatch. Intermediate results of a step and of
a minibatch come on top; they are as large as states, and as a minibatch times the width of the network.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gymnasium import spaces
from torch import Tensor

from palaestra.agents import PPO
from palaestra.agents.buffers.memory_limits import nbytes
from palaestra.agents.buffers.replay import Replay
from palaestra.agents.buffers.rollout import TensorRolloutBuffer
from palaestra.agents.buffers.stored_observations import rollout_store, store_for
from palaestra.envs.core import TensorVectorEnv, state_fields
from palaestra.envs.core.rng import Rng, sample_actions
from palaestra.envs.registry import make
from palaestra.train.config import AGENTS
from palaestra.train.config.run_config import RunConfig


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes.

    Attributes:
        environments: of all of them.
        rollout: of ``n_steps`` steps of all of them; 0 for DQN.
        replay: of DQN's memory; 0 for the others.
        transitions: how many steps of single environments the rollout or the replay memory holds.
        stored: what these hold of a moment, "observations" or "states".
    """

    environments: int
    rollout: int
    replay: int
    transitions: int
    stored: str

    @property
    def total(self) -> int:
        return self.environments + self.rollout + self.replay


def plan(config: RunConfig, num_envs: int) -> MemoryPlan:
    """Bytes of that many tensor environments and of the agent's memory, with that configuration."""
    batch = make(config.env, num_envs, "meta", config.seed, **config.env_kwargs)
    assert isinstance(batch, TensorVectorEnv), "only the memory of tensor environments can be planned"
    obs, _ = batch.reset()
    actions = sample_actions(batch.single_action_space, Rng(batch.env_indices, 0))
    new_obs, rewards, terminated, _, info = batch.step(actions)
    environments = held_by(batch) + nbytes([new_obs, info["final_obs"]])
    if AGENTS[config.agent].keeps_replay:
        replay = _replay(config, batch, obs)
        stored = "observations" if "" in replay.content else "states"
        return MemoryPlan(environments, 0, replay.nbytes, replay.rows * num_envs, stored)
    n_steps: int = config.agent_kwargs["n_steps"]
    buffer = TensorRolloutBuffer(
        n_steps, batch.single_observation_space, batch.single_action_space, "meta", n_envs=num_envs
    )
    is_ppo = issubclass(AGENTS[config.agent], PPO)
    masks = batch.action_masks() if is_ppo else None
    normalized = is_ppo and bool(config.agent_kwargs.get("normalize_observation"))
    buffer.store = rollout_store(batch, config.agent_kwargs.get("rollout_storage", "auto"), normalized)
    buffer.add(obs, actions, rewards, terminated, rewards, rewards, masks, buffer.moment())
    stored = "observations" if buffer.store is None else "states"
    return MemoryPlan(environments, held_by(buffer), 0, n_steps * num_envs, stored)


def _replay(config: RunConfig, batch: TensorVectorEnv[Any], obs: Tensor) -> Replay:
    n_steps, space = config.agent_kwargs.get("n_steps", 1), batch.single_action_space
    assert isinstance(space, spaces.Box | spaces.Discrete)
    return Replay(
        max(config.agent_kwargs["buffer_size"], n_steps * batch.num_envs),  # as many steps of each must fit
        store_for(batch, obs).current(obs),
        **({"action_shape": space.shape} if isinstance(space, spaces.Box) else {"num_actions": int(space.n)}),
        gamma=0.99,
        n_steps=n_steps,
    )


def held_by(owner: TensorVectorEnv[Any] | TensorRolloutBuffer) -> int:
    """Bytes of all tensors that are attributes, and of those of the state records among them."""
    tensors: dict[int, Tensor] = {}
    for value in vars(owner).values():
        fields = [value] if isinstance(value, Tensor) else []
        if value is vars(owner).get("moments") and isinstance(value, dict):
            fields = list(value.values())
        if isinstance(owner, TensorVectorEnv) and any(value is record for record in (owner.state, owner.final_state)):
            fields = list(state_fields(value).values())
        tensors |= {id(tensor): tensor for tensor in fields}
    return nbytes(tensors.values())


def gib(size: int) -> str:
    """Bytes for people."""
    return f"{size / 2**30:.2f} GiB" if size >= 2**30 else f"{size / 2**20:.0f} MiB"
