"""PPO of rsl_rl on our batch (Rudin et al., "Learning to walk in minutes using massively parallel deep RL", 2022).

1. Its runner and its loop, with a batch as its ``VecEnv``. It has Gaussian and Beta actions only;
   :class:`RslCategorical` adds those of a Discrete space.
2. In its favour: no logger, no check for NaN (it would wait at every step; ours looks once per rollout). By its design
   a truncated step bootstraps from the value before it, which is at hand, where ours evaluates the last observation.
3. Its learning rate is fixed here, and its advantages are normalised per minibatch, as in the other workloads. It
   clips the gradients of actor and critic apart.
4. "compiled" is its option ``torch_compile_mode="default"``.
"""

from __future__ import annotations

from typing import Any

import torch
from rsl_rl.modules.distribution import Distribution
from rsl_rl.runners import OnPolicyRunner
from tensordict import TensorDict
from torch import Tensor

from palaestra.envs.core import TensorVectorEnv
from palaestra.envs.registry import make
from palaestra.train.bench.interleaved import device_clock
from palaestra.train.bench.libraries.iterations import Iterations
from palaestra.train.config.run_config import RunConfig


class RslCategorical(Distribution):  # type: ignore[misc]
    """One action out of ``choices``, [N, 1]."""

    def __init__(self, output_dim: int, choices: int) -> None:
        super().__init__(output_dim)
        self.choices = choices
        self.log_p = torch.empty(0)

    @property
    def input_dim(self) -> int:
        return self.choices

    def init_mlp_weights(self, mlp: Any) -> None:
        """PyTorch's own initialisation is kept, as for its Gaussians with one standard deviation."""

    def update(self, mlp_output: Tensor) -> None:
        self.log_p = mlp_output.log_softmax(-1)

    def sample(self) -> Tensor:
        cdf = self.log_p.detach().exp().cumsum(-1)
        drawn = torch.rand(len(cdf), 1, device=cdf.device) * cdf[:, -1:]
        return (cdf[:, :-1] <= drawn).sum(-1, keepdim=True)

    def deterministic_output(self, mlp_output: Tensor) -> Tensor:
        return mlp_output.argmax(-1, keepdim=True)

    @property
    def std(self) -> Tensor:
        """The runner wants to log one."""
        return self.log_p

    @property
    def entropy(self) -> Tensor:
        return -(self.log_p.exp() * self.log_p).sum(-1)

    @property
    def params(self) -> tuple[Tensor, ...]:
        return (self.log_p,)

    def log_prob(self, outputs: Tensor) -> Tensor:
        return self.log_p.gather(-1, outputs.long()).squeeze(-1)

    def kl_divergence(self, old_params: tuple[Tensor, ...], new_params: tuple[Tensor, ...]) -> Tensor:
        (old,), (new,) = old_params, new_params
        return (old.exp() * (old - new)).sum(-1)


class RslEnv:
    """A batch as rsl_rl's ``VecEnv``; ``env_steps`` counts the steps of single environments."""

    num_actions = 1

    def __init__(self, batch: TensorVectorEnv[Any]) -> None:
        self.batch, self.num_envs, self.device = batch, batch.num_envs, batch.device
        self.max_episode_length, self.env_steps = batch.max_episode_steps, 0
        self.cfg: dict[str, Any] = {}
        self._obs = self._grouped(batch.reset()[0])

    @property
    def episode_length_buf(self) -> Tensor:
        return self.batch.episode_length

    def _grouped(self, obs: Tensor) -> TensorDict:
        return TensorDict({"policy": obs}, batch_size=[self.num_envs])

    def get_observations(self) -> TensorDict:
        return self._obs

    def step(self, actions: Tensor) -> tuple[TensorDict, Tensor, Tensor, dict[str, Tensor]]:
        obs, reward, terminated, truncated, _ = self.batch.step(actions.squeeze(-1))
        self._obs = self._grouped(obs)
        self.env_steps += self.num_envs
        return self._obs, reward, terminated | truncated, {"time_outs": truncated}


def runner_of(env: RslEnv, settings: dict[str, Any], network: dict[str, Any], **algorithm: Any) -> OnPolicyRunner:
    """A runner without logs; ``settings``, ``network`` and ``algorithm`` are entries of its configuration."""
    choices = int(env.batch.single_action_space.n)  # type: ignore[attr-defined]
    network = {"class_name": "MLPModel", **network}
    config = {
        "obs_groups": {"actor": ["policy"], "critic": ["policy"]},
        "check_for_nan": False,
        "actor": {**network, "distribution_cfg": {"class_name": RslCategorical, "choices": choices}},
        "critic": network,
        "algorithm": {"class_name": "PPO", **algorithm},
        **settings,
    }
    return OnPolicyRunner(env, config, log_dir=None, device=str(env.device))


def build(spec: dict[str, Any]) -> Iterations:
    """The workload ``spec["name"]`` on ``spec["config"]``."""
    config, compiled = RunConfig(**spec["config"]), spec["name"].endswith("compiled")
    agent, batch = config.agent_kwargs, make(config.env, config.num_envs, config.device, config.seed)
    assert isinstance(batch, TensorVectorEnv)
    torch.manual_seed(config.seed)
    env = RslEnv(batch)
    runner = runner_of(
        env,
        {"num_steps_per_env": agent["n_steps"], "torch_compile_mode": "default" if compiled else None},
        {"hidden_dims": agent["policy_kwargs"]["net_arch"], "activation": "tanh"},
        num_learning_epochs=agent["n_epochs"],
        num_mini_batches=config.num_envs * agent["n_steps"] // agent["batch_size"],
        learning_rate=agent["learning_rate"],
        schedule="fixed",
        desired_kl=None,
        gamma=0.99,
        lam=0.95,
        clip_param=0.2,
        value_loss_coef=0.5,
        use_clipped_value_loss=False,
        entropy_coef=0.0,
        max_grad_norm=0.5,
        normalize_advantage_per_mini_batch=True,
    )

    def set_epochs(epochs: int) -> None:
        runner.alg.num_learning_epochs = epochs

    work = Iterations(lambda: runner.learn(1), lambda: env.env_steps, device_clock(batch.device), set_epochs)
    work.time_update(runner.alg, "update")
    work.count_gradient_steps(runner.alg.optimizer, "step")
    return work
