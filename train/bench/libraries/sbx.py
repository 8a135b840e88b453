"""PPO of sbx, Stable-Baselines3's algorithms in JAX, on our batch through Stable-Baselines3's interface.

JAX compiles the forward pass and a gradient step; the loop and the buffer are SB3's. Compilation falls into the
uncounted first round. It clips the gradients of actor and critic apart.
"""

from __future__ import annotations

from typing import Any

import sbx
from flax import linen

from palaestra.envs.interop.sb3_vec_env import SB3VecEnv
from palaestra.envs.registry import make
from palaestra.train.bench.libraries import require_jax_on
from palaestra.train.bench.libraries.iterations import Iterations
from palaestra.train.bench.libraries.sb3 import learning
from palaestra.train.config.run_config import RunConfig


def build(spec: dict[str, Any]) -> Iterations:
    """sbx on ``spec["config"]``."""
    config = RunConfig(**spec["config"])
    require_jax_on(config.device)
    names = ("n_steps", "batch_size", "n_epochs", "learning_rate")
    env = SB3VecEnv(make(config.env, config.num_envs, config.device, config.seed))
    network = {"net_arch": config.agent_kwargs["policy_kwargs"]["net_arch"], "activation_fn": linen.tanh}
    arguments = {name: config.agent_kwargs[name] for name in names}
    return learning(sbx.PPO("MlpPolicy", env, policy_kwargs=network, seed=config.seed, **arguments))
