"""PPO of skrl on our batch (Serrano-Muñoz et al., "skrl: modular and flexible library for RL", JMLR 2023).

1. Its sequential trainer and its loop; a call of the trainer is one rollout and the learning from it. The trainer
   resets its environments at every call, which is answered with the observations where they are.
2. In its favour: no TensorBoard, no checkpoints, no progress bar; what it tracks in between is thrown away.
3. It normalises advantages over the rollout, not per minibatch. A truncated step bootstraps from the observation that
   comes next, as is usual there.
"""

from __future__ import annotations

import logging
from typing import Any

import skrl
import torch
from skrl.agents.torch.ppo import PPO
from skrl.envs.wrappers.torch import Wrapper
from skrl.memories.torch import RandomMemory
from skrl.models.torch import CategoricalMixin, DeterministicMixin, Model
from skrl.trainers.torch import SequentialTrainer
from torch import Tensor, nn

from palaestra.envs.core import BatchedEnv
from palaestra.envs.registry import make
from palaestra.train.bench.interleaved import device_clock
from palaestra.train.bench.libraries.iterations import Iterations
from palaestra.train.config.run_config import RunConfig


class SkrlEnv(Wrapper):  # type: ignore[misc]
    """A batch as skrl's environment; ``env_steps`` counts the steps of single environments."""

    def __init__(self, batch: BatchedEnv) -> None:
        super().__init__(batch)
        self._obs, _ = batch.reset()
        self.env_steps = 0

    @property
    def observation_space(self) -> Any:
        return self._env.single_observation_space

    @property
    def action_space(self) -> Any:
        return self._env.single_action_space

    def reset(self) -> tuple[Tensor, dict[str, Any]]:
        return self._obs, {}

    def step(self, actions: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, dict[str, Any]]:
        self._obs, reward, terminated, truncated, _ = self._env.step(actions.squeeze(1))
        self.env_steps += self.num_envs
        return self._obs, reward.unsqueeze(1), terminated.unsqueeze(1), truncated.unsqueeze(1), {}

    def state(self) -> None:
        return None

    def render(self, *args: Any, **kwargs: Any) -> None:
        return None

    def close(self) -> None:
        self._env.close()


def _network(inputs: int, hidden: list[int], outputs: int) -> nn.Sequential:
    sizes = [inputs, *hidden]
    layers: list[nn.Module] = []
    for size, following in zip(sizes, hidden, strict=False):
        layers += [nn.Linear(size, following), nn.Tanh()]
    return nn.Sequential(*layers, nn.Linear(sizes[-1], outputs))


class Actor(CategoricalMixin, Model):  # type: ignore[misc]
    def __init__(self, hidden: list[int], **spaces: Any) -> None:
        Model.__init__(self, **spaces)
        CategoricalMixin.__init__(self)
        self.net = _network(self.num_observations, hidden, self.num_actions)

    def compute(self, inputs: dict[str, Any], role: str = "") -> tuple[Tensor, dict[str, Any]]:
        return self.net(inputs["observations"]), {}


class Critic(DeterministicMixin, Model):  # type: ignore[misc]
    def __init__(self, hidden: list[int], **spaces: Any) -> None:
        Model.__init__(self, **spaces)
        DeterministicMixin.__init__(self)
        self.net = _network(self.num_observations, hidden, 1)

    def compute(self, inputs: dict[str, Any], role: str = "") -> tuple[Tensor, dict[str, Any]]:
        return self.net(inputs["observations"]), {}


def build(spec: dict[str, Any]) -> Iterations:
    """skrl on ``spec["config"]``."""
    skrl.logger.setLevel(logging.WARNING)
    config = RunConfig(**spec["config"])
    agent = config.agent_kwargs
    torch.manual_seed(config.seed)
    env = SkrlEnv(make(config.env, config.num_envs, config.device, config.seed))
    spaces = {"observation_space": env.observation_space, "action_space": env.action_space, "device": env.device}
    hidden = agent["policy_kwargs"]["net_arch"]
    ppo = PPO(
        models={"policy": Actor(hidden, **spaces), "value": Critic(hidden, **spaces)},
        memory=RandomMemory(memory_size=agent["n_steps"], num_envs=env.num_envs, device=env.device),
        **spaces,
        cfg={
            "rollouts": agent["n_steps"],
            "learning_epochs": agent["n_epochs"],
            "mini_batches": config.num_envs * agent["n_steps"] // agent["batch_size"],
            "learning_rate": agent["learning_rate"],
            "discount_factor": 0.99,
            "gae_lambda": 0.95,
            "ratio_clip": 0.2,
            "value_clip": 0.0,
            "value_loss_scale": 0.5,
            "entropy_loss_scale": 0.0,
            "grad_norm_clip": 0.5,
            "time_limit_bootstrap": True,
            "experiment": {"write_interval": 0, "checkpoint_interval": 0},
        },
    )
    trainer = SequentialTrainer(
        env=env,
        agents=ppo,
        cfg={
            "timesteps": agent["n_steps"],
            "headless": True,
            "disable_progressbar": True,
            "close_environment_at_exit": False,
        },
    )

    def iterate() -> None:
        trainer.train()
        ppo.tracking_data.clear()

    def set_epochs(epochs: int) -> None:
        ppo.cfg.learning_epochs = epochs

    work = Iterations(iterate, lambda: env.env_steps, device_clock(torch.device(env.device)), set_epochs)
    work.time_update(ppo, "update")
    work.count_gradient_steps(ppo.optimizer, "step")
    return work
