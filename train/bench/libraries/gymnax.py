"""CartPole of gymnax (Lange, "gymnax: a JAX-based reinforcement learning environment library", 2022), stepped alone.

``PASS`` steps of the whole batch are one compiled scan, with random actions drawn beforehand and its own auto-reset;
what every step returns is kept, so that nothing is optimised away. Compilation falls into the uncounted first round.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import gymnax
import jax
import jax.numpy as jnp

from palaestra.train.bench.interleaved import WHOLE, Sample

PASS = 16  # as in our own stepping


def build(spec: dict[str, Any]) -> Callable[[float], Sample]:
    """A workload with ``spec["num_envs"]`` environments."""
    num_envs = spec["num_envs"]
    env = gymnax.make(spec["env"])[0]
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

    def work(seconds: float) -> Sample:
        nonlocal carry
        start = now = time.perf_counter()
        steps = 0
        while not steps or now - start < seconds:
            carry, seen = compiled(*carry, actions)
            jax.block_until_ready(seen)
            steps += num_envs * PASS
            now = time.perf_counter()
        return Sample(steps, {WHOLE: now - start})

    return work
