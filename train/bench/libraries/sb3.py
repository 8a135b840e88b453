"""palaestra's agents and Stable-Baselines3's, with the same arguments.

1. Both take environments of their own with the same seed from the same batch, SB3 through its own interface
   (``SB3VecEnv``). ``SB3_ALONE`` is SB3 as people use it, with a ``DummyVecEnv`` of Gymnasium's environments.
2. An iteration of PPO and PQN is a rollout and the learning from it. DQN's are ``DQN_STEPS`` steps of the batch, since
   the host hears of them that seldom; it has begun to learn before anything is measured.
3. Logs go nowhere.
"""

from __future__ import annotations

from typing import Any

import torch
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

from palaestra.agents.base import OnDeviceAlgorithm
from palaestra.agents.off_policy.stepping_agent import SteppingAgent
from palaestra.envs.core import BatchedEnv
from palaestra.envs.interop.sb3_vec_env import SB3VecEnv
from palaestra.envs.registry import make
from palaestra.train.bench.interleaved import OURS, Clock, device_clock
from palaestra.train.bench.libraries.iterations import Iterations
from palaestra.train.config import AGENTS
from palaestra.train.config.run_config import RunConfig, build_arguments

SB3, SB3_ALONE = "SB3", "SB3, DummyVecEnv"
GYMNASIUM_TWINS = {"palaestra/CartPole-v1": "CartPole-v1"}  # the same rules in Gymnasium, as a NumPy batch too
DQN_STEPS = 64


def names(config: RunConfig) -> list[str]:
    """The names of those that can do that work."""
    if AGENTS[config.agent].sb3_twin is None:
        return [OURS]
    return [OURS, SB3, *([SB3_ALONE] if config.env in GYMNASIUM_TWINS else [])]


def build(spec: dict[str, Any]) -> Iterations:
    """The workload ``spec["name"]`` on ``spec["config"]``."""
    return learning(agent(RunConfig(**spec["config"]), spec["name"]))


def agent(config: RunConfig, name: str) -> Any:
    """One of :func:`names`, new."""
    arguments = {**build_arguments(config), "seed": config.seed}

    def batch() -> BatchedEnv:
        return make(config.env, config.num_envs, config.device, config.seed, **config.env_kwargs)

    if name == OURS:
        return AGENTS[config.agent](env=batch(), **arguments)
    twin: Any = AGENTS[config.agent].sb3_twin
    if name == SB3:
        tensors = batch()
        return twin(env=SB3VecEnv(tensors), device=tensors.device, **arguments)
    alone = make_vec_env(GYMNASIUM_TWINS[config.env], config.num_envs, config.seed)
    return twin(env=alone, device=config.device, **arguments)


def learning(agent: Any, clock: Clock | None = None) -> Iterations:
    """Learns from one rollout after the other; an agent of ours, SB3's, or one with SB3's interface."""
    agent.set_logger(Logger(None, []))
    off_policy = isinstance(agent, OffPolicyAlgorithm)
    vector_steps = agent.n_steps if not off_policy else _dqn_steps(agent)
    unit = vector_steps * agent.n_envs

    def iterate() -> None:
        agent.learn(unit, reset_num_timesteps=False)

    def set_epochs(epochs: int) -> None:
        agent.n_epochs = epochs

    read = clock or device_clock(torch.device(agent.device))
    epochs = set_epochs if hasattr(agent, "n_epochs") else None
    work = Iterations(iterate, lambda: int(agent.num_timesteps), read, epochs)
    work.time_update(agent, "train")
    work.count_gradient_steps(*_gradient_step(agent))
    while off_policy and agent.num_timesteps <= agent.learning_starts:
        iterate()
    return work


def _gradient_step(agent: Any) -> tuple[Any, str]:
    """The object and its method that makes a gradient step, for counting."""
    if isinstance(agent, OnDeviceAlgorithm):
        return agent._flat_optimizer, "step"
    if hasattr(agent.policy, "optimizer"):
        return agent.policy.optimizer, "step"
    return agent, "_one_update"  # sbx


def _dqn_steps(agent: Any) -> int:
    """Steps of the batch in an iteration: a rollout of PQN, a multiple of ``train_freq``."""
    if isinstance(agent, SteppingAgent):
        frequency = agent._train_frequency
    else:
        frequency = agent.train_freq if isinstance(agent.train_freq, int) else agent.train_freq.frequency
    return frequency if hasattr(agent, "n_epochs") else -(-DQN_STEPS // frequency) * frequency
