"""Batches of environments of other libraries in JAX, stepped alone: CartPole of gymnax, Connect Four of pgx.

``PASS`` steps of the whole batch are one compiled scan, with random actions drawn beforehand and the library's own
auto-reset; what every step returns is kept, so that nothing is optimised away. Compilation falls into the uncounted
first round. A step of Connect Four is one move, as in our own batch with ``opponent=self``.

Sources: Lange, "gymnax: a JAX-based reinforcement learning environment library", 2022; Koyamada et al., "Pgx:
hardware-accelerated parallel game simulators for reinforcement learning", NeurIPS 2023.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from palaestra.train.bench.interleaved import Workload, repeating
from palaestra.train.bench.libraries import require_jax_on
from palaestra.train.bench.libraries.env_stepping import SeveralSizes

PASS = 16  # as in our own stepping
BatchStep = Callable[[Any, Any, Any], tuple[Any, Any]]
"""From keys, states and actions of all environments to the next states and what a learner would see."""


def build(spec: dict[str, Any]) -> SeveralSizes:
    """A workload for each number of environments of ``spec["env"]``, in the library ``spec["name"]``."""
    require_jax_on(spec["device"])
    reset, step, actions = {"gymnax": _gymnax, "pgx": _pgx}[spec["name"]](spec["env"])
    return SeveralSizes(lambda num_envs: _steps(reset, step, actions, num_envs))


def _gymnax(name: str) -> tuple[Callable[[Any], Any], BatchStep, int]:
    import gymnax

    env = gymnax.make(name)[0]

    def step(keys: Any, state: Any, actions: Any) -> tuple[Any, Any]:
        obs, state, reward, terminated, truncated, _ = jax.vmap(env.step)(keys, state, actions)
        return state, (obs, reward, terminated, truncated)

    return lambda keys: jax.vmap(env.reset)(keys)[1], step, env.num_actions


def _pgx(name: str) -> tuple[Callable[[Any], Any], BatchStep, int]:
    import pgx
    from pgx.experimental import auto_reset

    game = pgx.make(name)

    def step(keys: Any, state: Any, actions: Any) -> tuple[Any, Any]:
        state = jax.vmap(auto_reset(game.step, game.init))(state, actions, keys)
        return state, (state.observation, state.rewards, state.terminated)

    return jax.vmap(game.init), step, game.num_actions


def _steps(reset: Callable[[Any], Any], step: BatchStep, actions: int, num_envs: int) -> Workload:
    def play(key: Any, state: Any, chosen: Any) -> Any:
        def one(carry: Any, action: Any) -> Any:
            key, state = carry
            key, own = jax.random.split(key)
            state, seen = step(jax.random.split(own, num_envs), state, action)
            return (key, state), seen

        return jax.lax.scan(one, (key, state), chosen)

    compiled = jax.jit(play)
    key = jax.random.PRNGKey(0)
    carry = key, reset(jax.random.split(key, num_envs))
    chosen = jax.random.randint(key, (PASS, num_envs), 0, actions)

    def steps() -> int:
        nonlocal carry
        carry, seen = compiled(*carry, chosen)
        jax.block_until_ready(seen)
        return num_envs * PASS

    return repeating(steps)
