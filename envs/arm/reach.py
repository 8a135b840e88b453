"""Reach: bring the tool of a Panda to a point, by joint velocities.

Rules
    1. Twenty times a second the agent commands a velocity for each joint. The drives follow with constant acceleration
       over the step, as far as the limits of acceleration and velocity allow, and brake in time for the joint's end:
       no limit is ever exceeded. There is no dynamics here; ``palaestra/PandaReachTorque-v0`` has it.
    2. An episode ends (terminated) when the tool centre is within 2 cm of the target at the end of a step; the arm need
       not stop there. It is truncated after 100 steps.
    3. Every episode starts at rest in the arm's ready pose, with a target uniform in a box: x 0.35 … 0.65, y ±0.2,
       z 0.15 … 0.5 m.

Actions
    ``control="velocity"``: float32 [dof] in ±1, times each joint's velocity limit.
    ``control="cartesian"``: 7 moves, for agents with discrete actions. 0 stays; 1 … 6 command the velocity that would
    move the tool by +x, −x, +y, −y, +z, −z of 5 cm in one step (damped least squares). The same limits hold, so that
    the first such command from rest moves the tool by about 1 cm.

Observation (float32 [2 dof + 9])
    Joint angles (±1 between the limits), velocities (±1 at the limits), tool centre (m), target − tool (m), and
    target − tool again as a direction whose length is 1 far away and falls to 0 within about 5 cm.

Reward
    10 per metre by which the tool comes closer (up to the tolerance), − 0.1 per step, + 1 on arrival.

Reference
    The optimum is a bound. From rest joint i turns by at most D_i(T) = a_i T² / 2 while T ≤ v_i / a_i, and by
    v_i T − v_i² / (2 a_i) after that; the shortest T for which some configuration within these turns and the joints'
    limits puts the tool at the target is what no control can beat (``tests/helpers/time_bound.py`` finds it).

For checks of robustness: ``sensor_noise`` is the standard deviation of the measured angles (rad; ten times as much in
rad/s for velocities), ``action_delay`` the number of steps from a command to its effect.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch
from gymnasium.spaces import Box, Discrete
from torch import Tensor

from palaestra.envs.arm.chain import SerialChain
from palaestra.envs.arm.control import damped_least_squares
from palaestra.envs.arm.dynamics import link_frames, tool_frame, tool_jacobian
from palaestra.envs.arm.panda import PANDA, PANDA_READY
from palaestra.envs.arm.stepping.recorded_tool import tool_frame_of
from palaestra.envs.arm.stepping.thread_use import with_enough_threads
from palaestra.envs.arm.tables import tables
from palaestra.envs.arm.task import TARGET_BOX, TOLERANCE, ArmState, ArmTask, delayed, error_observation, gained, length
from palaestra.envs.core import Array, Reference

if TYPE_CHECKING:
    from palaestra.envs.core.rng import Rng
    from palaestra.envs.rendering.canvas import Canvas

PERIOD = 0.05  # s per step
CARTESIAN_MOVE = 0.05  # m per step
MOVES = ((0, 0, 0), (1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0), (0, 0, 1), (0, 0, -1))
STEP_COST, PER_METRE = 0.1, 10.0
BOUNDS = Path(__file__).with_name("reach_bound.json")  # of the held-out targets
NEAR = 0.05  # m
DAMPING = 0.05  # damping for the normalised Jacobian, m


class Reach(ArmTask[ArmState]):
    """Bring the tool to a point by joint velocities; see the module for the rules."""

    max_episode_steps = 100
    frames_per_second = round(1 / PERIOD)
    limits_needed = ("velocity", "acceleration")
    played_with: ClassVar[dict[str, Any]] = {"control": "cartesian"}

    def __init__(
        self,
        chain: SerialChain = PANDA,
        control: Literal["velocity", "cartesian"] = "velocity",
        start: Any = PANDA_READY,
        targets: Any = TARGET_BOX,
        sensor_noise: float = 0.0,
        action_delay: int = 0,
    ) -> None:
        if control not in ("velocity", "cartesian"):
            raise ValueError(f'control must be "velocity" or "cartesian", got {control!r}')
        super().__init__(chain, start, targets, sensor_noise, action_delay)
        self.control = control
        self.observation_space = Box(-float("inf"), float("inf"), (2 * chain.dof + 9,))
        self.action_space = Box(-1.0, 1.0, (chain.dof,)) if control == "velocity" else Discrete(len(MOVES))
        self.moves = torch.tensor(MOVES, dtype=torch.float32) * (CARTESIAN_MOVE / PERIOD)  # [7, 3] m/s

    def reset(self, rng: Rng) -> ArmState:
        return ArmState(**self.at_rest(rng, rng.uniform(self.target_low, self.target_high, (3,))))

    @with_enough_threads
    def step(self, state: ArmState, action: Tensor, rng: Rng) -> tuple[ArmState, Tensor, Tensor]:
        q, dq = state.q.T.contiguous(), state.dq.T.contiguous()  # [dof, N]
        command, pending = delayed(state.pending, self._command(q, action).T)
        q, dq = self._drive(q, dq, command.T)
        tool = tool_frame_of(self.chain, q).position[:, -1]  # [3, N]
        before = length((state.target - state.tool).T)
        distance = length(state.target.T - tool)
        reached = distance <= TOLERANCE
        after = ArmState(
            q.T.contiguous(),
            dq.T.contiguous(),
            tool.T.contiguous(),
            state.target,
            state.steps + 1,
            self.draw_noise(rng),
            pending,
        )
        return after, PER_METRE * gained(before, distance, TOLERANCE) - STEP_COST + reached, reached

    @with_enough_threads
    def observe(self, state: ArmState) -> Tensor:
        q, dq, tool = state.q.T, state.dq.T, state.tool.T
        if self.sensor_noise:
            q, dq = self.measured(q, dq, state.noise.T)
            tool = tool_frame(self.chain, q).position[:, -1]
        error = error_observation(state.target.T - tool, NEAR)
        return torch.cat((self.joint_observation(q, dq), tool, error)).T.contiguous()

    def success(self, state: ArmState) -> Tensor:
        return length((state.target - state.tool).T) <= TOLERANCE

    def expert(self, state: ArmState) -> Tensor:
        """Damped least squares straight to the target, as fast as the slowest joint allows."""
        q, dq = state.q.T.contiguous(), state.dq.T.contiguous()
        if self.control == "cartesian":
            return self._best_move(q, dq, state.target.T)
        limit = tables(self.chain, q.dtype, q.device).velocity
        change = self._towards(q, state.target.T - state.tool.T)
        share = (change.abs() / (limit * PERIOD)).amax(0).clamp(min=1.0)
        command = 2.0 * change / (share * PERIOD) - dq  # arrives with constant acceleration
        return (command / limit).clamp(-1.0, 1.0).T.contiguous()

    def draw(self, state: ArmState, canvas: Canvas) -> None:
        away = np.linalg.norm(np.asarray(state.tool) - np.asarray(state.target))
        self.draw_task(state, canvas, PERIOD, bool(away <= TOLERANCE))

    def action_name(self, action: int) -> str:
        return ("stay", "move right", "move left", "move away", "move nearer", "move up", "move down")[action]

    @property
    def keys_to_action(self) -> dict[str, int]:
        """Cartesian moves as the picture shows them: arrows for right, left, up and down, W away and S nearer."""
        keys = ("", "right", "left", "w", "s", "up", "down")  # in the order of MOVES
        return {key: move for move, key in enumerate(keys)} if self.control == "cartesian" else {}

    def summary(self, returns: Array, lengths: Array, successes: Array | None) -> dict[str, float]:
        """Mean duration, and its ratio to the time-optimal bound (of the held-out targets) where that is known."""
        seconds = float(lengths.mean()) * PERIOD
        if not self._is_standard:
            return {"mean_seconds": seconds}
        return {"mean_seconds": seconds, "seconds_per_bound": seconds / float(np.mean(held_out()["seconds"]))}

    @property
    def reference(self) -> Reference:
        if not self._is_standard:
            return Reference()
        bound = held_out()
        distance = np.linalg.norm(np.array(bound["target"]) - self.start_tool.cpu().numpy(), axis=1)
        gain = float(PER_METRE * (distance - TOLERANCE).mean()) + 1.0  # return of the approach and the arrival
        steps = float(np.ceil(np.array(bound["seconds_within_tolerance"]) / PERIOD).mean())
        random, expert = (-12.4, 1.98) if self.control == "cartesian" else (-13.4, 2.84)
        return Reference(
            optimum=gain - STEP_COST * steps,
            random=random,
            heuristic=expert,
            solved_at=gain - STEP_COST * 1.4 * float(np.mean(bound["seconds"])) / PERIOD,
            source="best known: a bound, no control is faster (palaestra.envs.arm.reach); heuristic: the expert; "
            "solved at: all reached, in 1.4 times the bound on average",
        )

    @property
    def _is_standard(self) -> bool:
        """True if this is the task for which the bound was computed."""
        return (self.chain, self.start, self.targets, self.action_delay) == (PANDA, PANDA_READY, TARGET_BOX, 0)

    def _towards(self, q: Tensor, motion: Tensor) -> Tensor:
        """Joint motion [dof, N] for a motion of the tool [3, N], shared out by the joints' speed limits."""
        limit = tables(self.chain, q.dtype, q.device).velocity
        scaled = tool_jacobian(self.chain, link_frames(self.chain, q))[:3] * limit
        return limit * damped_least_squares(scaled, motion, DAMPING)

    def _command(self, q: Tensor, action: Tensor) -> Tensor:
        """Commanded joint velocities [dof, N]."""
        if self.control == "velocity":
            return action.T.clamp(-1.0, 1.0) * tables(self.chain, q.dtype, q.device).velocity
        return self._towards(q, self.moves[action].T)

    def _best_move(self, q: Tensor, dq: Tensor, target: Tensor) -> Tensor:
        """The move after which the tool is closest, int64 [N]."""
        distances = []
        for move in range(len(MOVES)):
            command = self._command(q, torch.full_like(q[0], move, dtype=torch.int64))
            after, _ = self._drive(q, dq, command)
            distances.append(length(target - tool_frame_of(self.chain, after).position[:, -1]))
        return torch.stack(distances).argmin(0)

    def _drive(self, q: Tensor, dq: Tensor, command: Tensor) -> tuple[Tensor, Tensor]:
        """Angles and velocities [dof, N] after one step with constant acceleration towards the commanded velocity."""
        table = tables(self.chain, q.dtype, q.device)
        change = table.acceleration * PERIOD
        upper = torch.minimum(table.velocity, _stoppable(table.q_max - q, dq, table.acceleration))
        lower = torch.minimum(table.velocity, _stoppable(q - table.q_min, -dq, table.acceleration))
        velocity = torch.minimum(torch.maximum(command, -lower), upper)
        velocity = torch.minimum(torch.maximum(velocity, dq - change), dq + change)
        angle = q + (dq + velocity) * (0.5 * PERIOD)
        return torch.minimum(torch.maximum(angle, table.q_min), table.q_max), velocity  # rounding, if anything


@cache
def held_out() -> dict[str, Any]:
    """The stored bounds: ``target`` [1000][3] m, ``seconds`` [1000] and ``seconds_within_tolerance`` [1000]."""
    content: dict[str, Any] = json.loads(BOUNDS.read_text())
    return content


def _stoppable(room: Tensor, velocity: Tensor, acceleration: Tensor) -> Tensor:
    """The largest velocity after this step from which the joint still stops within ``room`` [dof, N] rad.

    Braking at full deceleration from v takes at most v²/(2a) + v · PERIOD / 2, the second term because the last step of
    it is not a whole one. The room shrinks by (velocity + v) / 2 · PERIOD during this step.
    """
    left = (room - velocity * (0.5 * PERIOD)).clamp(min=0.0)
    return acceleration * ((PERIOD**2 + 2.0 * left / acceleration).sqrt() - PERIOD)
