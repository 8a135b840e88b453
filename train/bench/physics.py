"""Physics steps per second of our arms, beside MuJoCo's batch of the same chain.

1. A physics step integrates one arm over the environment's time step; one step of the environment makes several.
2. Ours are whole steps of the environment, as the stepping section measures them, counted as physics steps: friction,
   limits, reward, observation, random actions and resets are included. They are in float32.
3. MuJoCo's are those of ``mujoco.rollout``: as many arms from random states within the limits, random torques, and as
   many threads as PyTorch has, each with an ``MjData``. It integrates the same chain by the same scheme and does less:
   no friction, limits, contacts, constraints, reward or observation. Its arrays are made once, its checks are off, and
   calls are long enough that starting its threads costs nothing to speak of. It computes in float64 only.
4. MuJoCo is optional; without it only our own rows appear, and how to install it. Since 4.0 it is three packages, and
   ``pip install -U`` from an earlier one leaves it without its library: then the rows say how to mend it.
"""

from __future__ import annotations

import math
import time
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

import numpy as np
import torch

from palaestra.envs.core import Array
from palaestra.envs.specs import ResolvedEnv
from palaestra.train.bench.interleaved import OURS, Clock, Sample, Workload, repeating

if TYPE_CHECKING:
    from palaestra.envs.arm import SerialChain

MUJOCO = "mujoco.rollout"
INSTALL = f"  {MUJOCO} beside it: pip install 'palaestra[bench]' (mujoco ≥ 3.2.7)"
REPAIR = f"""\
  {MUJOCO} beside it: mujoco cannot be imported, as after pip -U; do this:
    pip uninstall -y mujoco mujoco-core mujoco-studio; pip install mujoco"""
CALL = 100_000  # physics steps in one call of MuJoCo, at least


@runtime_checkable
class Arm(Protocol):
    """Rules that integrate the dynamics of a chain, by the attributes that they must have."""

    chain: SerialChain
    time_step: ClassVar[float]  # s
    physics_steps: ClassVar[int]  # in one step of the environment


def arm_of(env: ResolvedEnv) -> Arm | None:
    """The environment's rules, if they are an arm's."""
    rules = env.build()
    return rules if isinstance(rules, Arm) else None


def mujoco_version() -> str | None:
    """The version of MuJoCo; None without one that has a batch with threads (3.2.7)."""
    try:
        from mujoco.rollout import Rollout  # noqa: F401
    except ImportError:
        return None
    return version("mujoco")


def mujoco_advice() -> str:
    """Lines for a table without MuJoCo's rows: how to install it, or to mend an installation that cannot be imported.

    Not the command that MuJoCo 4.0.0 itself advises, ``pip install --force-reinstall --no-deps mujoco mujoco-core
    mujoco-studio``: it may take parts of different versions, which do not work together.
    """
    try:
        version("mujoco")
        import mujoco  # noqa: F401
    except PackageNotFoundError:
        return INSTALL
    except ImportError:
        return REPAIR
    return INSTALL  # one from before 3.2.7


class Rollouts:
    """A workload: ``mujoco.rollout`` from the same states under the same torques, again and again.

    Attributes:
        data: one ``MjData`` per thread.
        state: float64 [N, T, 1 + 2 dof], time (s), angles and velocities of each arm after each step.
    """

    def __init__(
        self, arm: Arm, q: Array, dq: Array, torque: Array, threads: int, clock: Clock = time.perf_counter
    ) -> None:
        """Compile the model and make all arrays.

        Args:
            arm: for its chain and time step.
            q, dq: [N, dof] rad and rad/s, where every rollout starts.
            torque: [N, T, dof] N m, in each step.
            threads: at least 1.
            clock: s.
        """
        import mujoco

        from palaestra.envs.arm import mjcf

        self.clock, self.threads = clock, threads
        model = mujoco.MjModel.from_xml_string(mjcf(arm.chain, arm.time_step))
        self.data = [mujoco.MjData(model) for _ in range(threads)]
        self.models = [model] * len(q)
        self.start = np.concatenate((np.zeros((len(q), 1)), q, dq), 1)  # MuJoCo's order: time, angles, velocities
        self.torque = np.ascontiguousarray(torque, np.float64)
        self.state = np.empty((*torque.shape[:2], self.start.shape[1]))
        self.sensors = np.empty((*torque.shape[:2], 0))

    def __call__(self, seconds: float) -> Sample:
        from mujoco.rollout import Rollout

        arms, steps_each = self.torque.shape[:2]
        arrays = {"state": self.state, "sensordata": self.sensors}
        with Rollout(nthread=self.threads) as pool:

            def roll() -> int:
                pool.rollout(
                    self.models, self.data, self.start, self.torque, nstep=steps_each, skip_checks=True, **arrays
                )
                return int(arms * steps_each)

            return repeating(roll, self.clock)(seconds)


def mujoco_workloads(arm: Arm, num_arms: int) -> dict[str, Workload]:
    """MuJoCo's batch, if it is installed."""
    if mujoco_version() is None:
        return {}
    rng, chain = np.random.default_rng(0), arm.chain
    q = rng.uniform(*chain.span, (num_arms, chain.dof))
    dq = rng.uniform(-1.0, 1.0, q.shape) * chain.velocity
    steps = max(arm.physics_steps, math.ceil(CALL / num_arms))
    torque = rng.uniform(-1.0, 1.0, (num_arms, steps, chain.dof)) * chain.torque
    return {MUJOCO: Rollouts(arm, q, dq, torque, torch.get_num_threads())}


def physics_section(arm: Arm, stepping: dict[str, dict[str, list[dict[str, Any]]]]) -> dict[str, Any]:
    """The section for JSON, from samples of our environment steps and, where it ran, of MuJoCo's physics steps.

    MuJoCo's samples leave ``stepping``, as they are no environment's.
    """
    sizes = {}
    for num_arms, samples in stepping.items():
        ours = [{**sample, "steps": sample["steps"] * arm.physics_steps} for sample in samples[OURS]]
        theirs = {MUJOCO: samples.pop(MUJOCO)} if MUJOCO in samples else {}
        sizes[num_arms] = {OURS: ours, **theirs}
    return {
        "time_step": arm.time_step,
        "steps_per_env_step": arm.physics_steps,
        "mujoco": mujoco_version(),
        "advice": None if mujoco_version() else mujoco_advice(),
        "threads": torch.get_num_threads(),
        "samples": sizes,
    }


def physics_notes(section: dict[str, Any]) -> str:
    """A few sentences on the meaning of the figures."""
    text = (
        f"A physics step integrates one arm over {section['time_step'] * 1000:g} ms; a step of the environment makes "
        f"{section['steps_per_env_step']}, palaestra's with friction, limits, reward, observation and resets, in "
        "float32."
    )
    if section["mujoco"] is None:
        return text
    threads = f"{section['threads']} thread{'s' if section['threads'] != 1 else ''}"
    return (
        f"{text} mujoco.rollout (mujoco {section['mujoco']}, {threads}, float64) integrates the same chain without any "
        "of these, contacts or constraints."
    )
