"""CartPole of gymnax (Lange, "gymnax: a JAX-based reinforcement learning environment library", 2022), stepped alone.

``PASS`` steps of the whole batch are one compiled scan, with random actions drawn beforehand and its own auto-reset;
what every step returns is kept, so that nothing is optimised away. Compilation falls into the uncounted first round.
"""

from __future__ import annotations

from typing import Any

import gymnax
import jax
import jax.numpy as jnp

from palaestra.train.bench.interleaved import Workload, repeating
from palaestra.train.bench.libraries import require_jax_on
from palaestra.train.bench.libraries.env_stepping import SeveralSizes

PASS = 16  # as in our own stepping


def build(spec: dict[str, Any]) -> SeveralSizes:
    """A workload for each number of environments of ``spec["env"]``."""
    require_jax_on(spec["device"])
    env = gymnax.make(spec["env"])[0]
    return SeveralSizes(lambda num_envs: _steps(env, num_envs))


def _steps(env: Any, num_envs: int) -> Workload:
    step = jax.vmap(env.step)

    def play(key: Any, state: Any, actions: Any) -> Any:
        def one(carry: Any, action: Any) -> Any:
            key, state = carry
            key, own = jax.random.split(key)
            obs, state, reward, terminated, truncated, _ = step(jax.random.split(own, num_envs), state, action)
            return (key, state), (obs, reward, terminated, truncated)

        return jax.lax.scan(one, (key, state), actions)

    compiled = jax.jit(play)
    key = jax.random.PRNGKey(0)
    _, state = jax.vmap(env.reset)(jax.random.split(key, num_envs))
    actions = jax.random.randint(key, (PASS, num_envs), 0, 2, dtype=jnp.int32)
    carry = key, state

    def steps() -> int:
        nonlocal carry
        carry, seen = compiled(*carry, actions)
        jax.block_until_ready(seen)
        return num_envs * PASS

    return repeating(steps)
