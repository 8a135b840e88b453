"""The process of one library that learns CartPole until it solves it: ``python -m
palaestra.train.bench.libraries.solving``.

1. Settings are those that its community publishes: Stable-Baselines3 and sbx have RL Baselines3 Zoo's for CartPole-v1,
   rsl_rl its usual ones (24 steps, 5 epochs, 4 minibatches, a learning rate that follows the KL divergence).
2. A tenth of the run apart the greedy policy plays 100 held-out episodes, those of palaestra's own evaluations while
   training. The time that this takes is not counted for them; palaestra's own is.
3. It stops at the first evaluation that reaches the score and prints one JSON object: seconds since the process began,
   imports included, or null.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from stable_baselines3.common.callbacks import BaseCallback
from torch import Tensor

from palaestra.envs.core import BatchedEnv, TensorVectorEnv
from palaestra.envs.registry import make
from palaestra.envs.specs import TensorEnvSpec
from palaestra.train.bench.libraries.worker import prepare
from palaestra.train.evaluation.episodes import evaluate
from palaestra.train.runs.callbacks import EVALUATIONS, VALIDATION_SEED
from palaestra.train.runs.machine import process_seconds

ENV, TWIN = "cartpole", "CartPole-v1"
ZOO_STEPS = 100_000
ZOO = {"n_steps": 32, "batch_size": 256, "gae_lambda": 0.8, "gamma": 0.98, "n_epochs": 20, "ent_coef": 0.0}
ZOO_ENVS, ZOO_LEARNING_RATE, ZOO_CLIP_RANGE = 8, 1e-3, 0.2  # the last two fall to 0
RSL_ENVS, RSL_STEPS = 1024, 1_000_000


class Greedy:
    """A function of observations as a policy for evaluations."""

    name, deterministic = "peer", True

    def __init__(self, act: Callable[[Tensor], Tensor]) -> None:
        self._act = act

    def __call__(self, env: BatchedEnv, obs: Any) -> Tensor:
        return self._act(obs)


class Examiner:
    """Plays held-out episodes at even distances; ``solved_after`` is set when the score is reached."""

    def __init__(self, act: Callable[[Tensor], Tensor], score: float, total: int) -> None:
        self._policy, self._score, self._interval = Greedy(act), score, total // EVALUATIONS
        self._next, self._spent = self._interval, 0.0
        self.solved_after: float | None = None

    def solved(self, steps: int) -> bool:
        """Look, if it is time."""
        if self.solved_after is None and steps >= self._next:
            self._next += self._interval
            started, before = time.perf_counter(), process_seconds() - self._spent
            result = evaluate(ENV, self._policy, episodes=TensorEnvSpec.validation_episodes, seed=VALIDATION_SEED)
            self._spent += time.perf_counter() - started
            if result.score >= self._score:
                self.solved_after = before
        return self.solved_after is not None


class Stop(BaseCallback):
    def __init__(self, examiner: Examiner) -> None:
        super().__init__()
        self._examiner = examiner

    def _on_step(self) -> bool:
        return self._examiner.solved_after is None

    def _on_rollout_start(self) -> None:
        self._examiner.solved(self.num_timesteps)


def sb3(kind: Any, score: float, seed: int, **kwargs: Any) -> float | None:
    """Stable-Baselines3's PPO, or sbx's."""
    from stable_baselines3.common.env_util import make_vec_env

    model = kind(
        "MlpPolicy",
        make_vec_env(TWIN, ZOO_ENVS, seed),
        learning_rate=lambda left: left * ZOO_LEARNING_RATE,
        clip_range=lambda left: left * ZOO_CLIP_RANGE,
        seed=seed,
        **ZOO,
        **kwargs,
    )

    def act(obs: Tensor) -> Tensor:
        return torch.as_tensor(model.predict(obs.numpy(), deterministic=True)[0]).long()

    examiner = Examiner(act, score, ZOO_STEPS)
    model.learn(ZOO_STEPS, Stop(examiner))
    examiner.solved(model.num_timesteps)
    return examiner.solved_after


def rsl_rl(score: float, seed: int) -> float | None:
    """Its runner with its usual settings, and the network of the others."""
    from tensordict import TensorDict

    from palaestra.train.bench.libraries.rsl_rl import RslEnv, runner_of

    torch.manual_seed(seed)
    batch = make(ENV, RSL_ENVS, "cpu", seed)
    assert isinstance(batch, TensorVectorEnv)
    env = RslEnv(batch)
    algorithm = {"num_learning_epochs": 5, "num_mini_batches": 4, "learning_rate": 1e-3, "schedule": "adaptive"}
    algorithm |= {"desired_kl": 0.01, "gamma": 0.99, "lam": 0.95, "entropy_coef": 0.005}
    runner = runner_of(env, {"num_steps_per_env": 24}, {"hidden_dims": [64, 64], "activation": "tanh"}, **algorithm)

    @torch.no_grad()
    def act(obs: Tensor) -> Tensor:
        action: Tensor = runner.alg.actor(TensorDict({"policy": obs}, batch_size=[len(obs)]))
        return action.squeeze(1)

    examiner = Examiner(act, score, RSL_STEPS)
    while env.env_steps < RSL_STEPS and not examiner.solved(env.env_steps):
        runner.learn(1)
    return examiner.solved_after


def solve(name: str, score: float, seed: int) -> float | None:
    """Seconds, or None if it did not get there."""
    if name == "SB3":
        import stable_baselines3

        return sb3(stable_baselines3.PPO, score, seed, device="cpu")
    if name == "sbx":
        import sbx

        return sb3(sbx.PPO, score, seed)
    return rsl_rl(score, seed)


if __name__ == "__main__":
    name, score, seed, threads = sys.argv[1:]
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # libraries print
    prepare(int(threads), "cpu")
    print(json.dumps(solve(name, float(score), int(seed))), file=answers, flush=True)
