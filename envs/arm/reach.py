"""Reach: bring the tool of a Panda, or another arm, to a point, by joint velocities.

Rules
    1. Twenty times a second the agent commands a velocity for each joint. The drives follow with constant acceleration
       over the step, as far as the limits of acceleration and velocity allow, and brake in time for the joint's end:
       no limit is ever exceeded. There is no dynamics here; ``palaestra/PandaReachTorque-v0`` has it.
    2. An episode ends (terminated) when the tool centre is within 2 cm of the target at the end of a step; the arm need
       not stop there. It is truncated after 100 steps.
    3. Every episode starts at rest in the arm's ready pose, with a target uniform in a box: x 0.35 … 0.65, y ±0.2,
       z 0.15 … 0.5 m.
    4. ``robot`` is another arm: a ready one's name, a file, or data (:mod:`palaestra.envs.arm.robots.setting`). It
       starts in a bent pose and has a box of targets within its reach, chosen by rule (``start_pose``, ``target_box``
       of that package), unless ``start`` (rad, m of prismatic joints) and ``targets`` (m) are given.

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
    limits puts the tool at the target is what no control can beat. Of the Panda's task it is stored
    (``tests/helpers/time_bound.py`` found it), of any other it is found when asked for, in seconds
    (:mod:`palaestra.envs.arm.robots.time_bound`), together with the returns of the expert and of random actions.

For checks of robustness: ``sensor_noise`` is the standard deviation of the measured angles (rad; ten times as much in
rad/s for velocities), ``action_delay`` the number of steps from a command to its effect; of each a pair (low, high) is
drawn from in each episode. ``joint_offset`` is the largest constant error of a measured angle (rad), new in each
episode.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch
from gymnasium.spaces import Box, Discrete
from torch import Tensor

from palaestra.envs.arm.chain import SerialChain
from palaestra.envs.arm.control import damped_least_squares
from palaestra.envs.arm.dynamics import link_frames, tool_frame, tool_jacobian
from palaestra.envs.arm.panda import PANDA, PANDA_READY
from palaestra.envs.arm.robots.mirror import arm_mirror
from palaestra.envs.arm.robots.panda_bound import held_out, pandas_bound
from palaestra.envs.arm.robots.scores import (
    ARRIVES,
    BOUND_KEYS,
    HELD_OUT,
    first_bounds,
    held_out_bound,
    nothing_known,
    returns_within,
    task_digest,
)
from palaestra.envs.arm.stepping.recorded_tool import tool_place_of
from palaestra.envs.arm.stepping.speed_drives import driven
from palaestra.envs.arm.stepping.step_errors import as_rows, gained, keep_errors, kept_errors, length
from palaestra.envs.arm.stepping.thread_use import with_enough_threads
from palaestra.envs.arm.tables import tables
from palaestra.envs.arm.task import NEAR, NEARLY, TARGET_BOX, TOLERANCE, ArmState, ArmTask
from palaestra.envs.core import Array, Quantity, Reference
from palaestra.envs.core.symmetries import SignedPermutation, Symmetry

if TYPE_CHECKING:
    from palaestra.envs.core.rng import Rng
    from palaestra.envs.rendering.canvas import Canvas

PERIOD = 0.05  # s per step
CARTESIAN_MOVE = 0.05  # m per step
MOVES = ((0, 0, 0), (1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0), (0, 0, 1), (0, 0, -1))
STEP_COST, PER_METRE = 0.1, 10.0
MOST_STEPS = 1000  # of a time limit under which returns are measured
AT_END = 1e-4  # rad or m
DAMPING = 0.05  # damping for the normalised Jacobian, m
ASIDE = 0.63  # rad from the way to the targets to what is right in the picture, see drawing/scene.py


class Reach(ArmTask[ArmState]):
    """Bring the tool to a point by joint velocities; see the module for the rules."""

    max_episode_steps = 100
    frames_per_second = round(1 / PERIOD)
    step_seconds = PERIOD
    limits_needed = ("velocity", "acceleration")
    played_with: ClassVar[dict[str, Any]] = {"control": "cartesian"}

    def __init__(
        self,
        robot: str | dict[str, Any] | SerialChain = "panda",
        control: Literal["velocity", "cartesian"] = "velocity",
        start: Any = None,
        targets: Any = None,
        sensor_noise: float | list[float] = 0.0,
        action_delay: int | list[int] = 0,
        joint_offset: float = 0.0,
    ) -> None:
        if control not in ("velocity", "cartesian"):
            raise ValueError(f'control must be "velocity" or "cartesian", got {control!r}')
        super().__init__(robot, start, targets, sensor_noise, action_delay, joint_offset)
        self.control = control
        self.observation_space = Box(-float("inf"), float("inf"), (2 * self.chain.dof + 9,))
        self.action_space = Box(-1.0, 1.0, (self.chain.dof,)) if control == "velocity" else Discrete(len(MOVES))
        self.moves = torch.tensor(MOVES, dtype=torch.float32) * (CARTESIAN_MOVE / PERIOD)  # [7, 3] m/s

    def reset(self, rng: Rng) -> ArmState:
        return ArmState(**self.at_rest(rng, self.from_box(rng.uniform(shape=(3,)))))

    @with_enough_threads
    def step(self, state: ArmState, action: Tensor, rng: Rng) -> tuple[ArmState, Tensor, Tensor]:
        joints = torch.stack((state.q.T, state.dq.T))  # [2, dof, N]
        command, pending = self.taking_effect(state, self._command(joints[0], action).T)
        q, dq = driven(self.chain, joints, command.T, PERIOD)
        tool = tool_place_of(self.chain, q)  # [3, N]
        error = state.target.T.unsqueeze(1) - torch.stack((tool, state.tool.T), 1)  # [3, 2, N] after and before
        distance = length(error)
        reached = distance[0] <= TOLERANCE
        reward = PER_METRE * gained(distance, TOLERANCE) - STEP_COST + reached
        noise = self.draw_noise(rng, state.drawn)
        after = ArmState(q.T, dq.T, tool.T, state.target, state.steps + 1, noise, pending, state.drawn)
        keep_errors(after, error[:, 0], distance[0])
        return after, reward, reached

    @with_enough_threads
    def observe(self, state: ArmState) -> Tensor:
        q, dq, tool, target = state.q.T, state.dq.T, state.tool.T, state.target.T
        if self.sees_badly:
            q, dq = self.measured(q, dq, state.noise.T)
            tool = tool_frame(self.chain, q).position[:, -1]
            error, distance = target - tool, length(target - tool)
        else:
            error, distance = self._errors(state)
        return as_rows((*self.joint_observation(q, dq), tool, error, error / (distance + NEAR)))

    def success(self, state: ArmState) -> Tensor:
        return self._errors(state)[1] <= TOLERANCE

    def expert(self, state: ArmState) -> Tensor:
        """Damped least squares straight to the target, as fast as the slowest joint allows.

        For all arms but the Panda, whose expert's figures are older, joints at their ends leave the motion to the
        others, and none is commanded more speed than it can lose on the way.
        """
        q, dq = state.q.T.contiguous(), state.dq.T.contiguous()
        if self.control == "cartesian":
            return self._best_move(q, dq, state.target.T)
        if self.chain != PANDA:
            return self._brisk(q, state.target.T - state.tool.T)
        limit = tables(self.chain, q.dtype, q.device).velocity
        change = self._towards(q, state.target.T - state.tool.T)
        share = (change.abs() / (limit * PERIOD)).amax(0).clamp(min=1.0)
        command = 2.0 * change / (share * PERIOD) - dq  # arrives with constant acceleration
        return (command / limit).clamp(-1.0, 1.0).T.contiguous()

    def at_motor_limits(self, before: ArmState, action: Tensor, after: ArmState) -> dict[str, Tensor]:
        limit = tables(self.chain, after.dq.dtype, after.dq.device).acceleration.flatten() * PERIOD
        return {"acceleration": (after.dq - before.dq).abs() >= limit * (1.0 - NEARLY)}

    def draw(self, state: ArmState, canvas: Canvas) -> None:
        away = np.linalg.norm(np.asarray(state.tool) - np.asarray(state.target))
        self.draw_task(state, canvas, PERIOD, bool(away <= TOLERANCE))

    def symmetries(self) -> list[Symmetry]:
        """The arm's mirror, if it has one: of the robots that come with the suite the Panda has."""
        moves = SignedPermutation.exchanging(len(MOVES), (3, 4))  # +y and −y
        return arm_mirror(self, moves if self.control == "cartesian" else None)

    @property
    def action_names(self) -> tuple[Quantity, ...]:
        if self.control == "cartesian":
            return ()
        rows = zip(self.joint_quantities(), self.chain.velocity, self.chain.turning, strict=True)
        return tuple(
            Quantity(f"velocity_{name}", "rad/s" if turns else "m/s", limit, meaning=sign)
            for (name, sign), limit, turns in rows
        )

    def action_name(self, action: int) -> str:
        words = {"right": "right", "left": "left", "w": "away", "s": "nearer", "up": "up", "down": "down"}
        key = next(key for key, move in self._keys.items() if move == action)
        axis = ("", "+x", "-x", "+y", "-y", "+z", "-z")[action]
        return f"move {words[key]} ({axis})" if key else "stay"

    @property
    def keys_to_action(self) -> dict[str, int]:
        """Cartesian moves as the picture shows them: arrows for right, left, up and down, W away and S nearer."""
        return self._keys if self.control == "cartesian" else {}

    @property
    def _keys(self) -> dict[str, int]:
        """The same for any control. The camera looks across the way to the targets, so that they change with it."""
        (west, east), (south, north), _ = self.targets
        x, y, _ = self.chain.base.position
        azimuth = math.atan2((south + north) / 2 - y, (west + east) / 2 - x)
        quarter = round((azimuth + ASIDE) / (math.pi / 2)) % 4
        around = (1, 3, 2, 4, 1, 3, 2, 4)[quarter:]  # +x, +y, −x, −y …
        return {"": 0, "right": around[0], "left": around[2], "w": around[1], "s": around[3], "up": 5, "down": 6}

    def summary(self, returns: Array, lengths: Array, successes: Array | None) -> dict[str, float]:
        """Mean duration, and its ratio to the time-optimal bound (of the held-out targets) where that is known."""
        seconds = float(lengths.mean()) * PERIOD
        bound = self._bound.get("seconds", 0.0)
        return {"mean_seconds": seconds} | ({"seconds_per_bound": seconds / bound} if bound else {})

    def bounds(self, targets: int) -> Array | None:
        """The Panda's are stored; of another arm those of the first targets are looked for."""
        if not self._bound:
            return None
        if self._is_standard:
            return np.array(held_out()["seconds_within_tolerance"][:targets])
        return first_bounds(self.chain, self.start, self.targets, TOLERANCE, targets)

    @property
    def reference(self) -> Reference:
        if not self._is_standard:
            return self._by_bound(*self._measured()["returns"][self.control]) if self._bound else Reference()
        bound = self._bound
        gain = PER_METRE * bound["approach"] + 1.0  # return of the approach and the arrival
        random, expert = (-12.4, 1.98) if self.control == "cartesian" else (-13.4, 2.84)
        return Reference(
            optimum=gain - STEP_COST * bound["steps"],
            random=random,
            heuristic=expert,
            solved_at=gain - STEP_COST * 1.4 * bound["seconds"] / PERIOD,
            source="best known: a bound, no control is faster (palaestra.envs.arm.reach); heuristic: the expert; "
            "solved at: all reached, in 1.4 times the bound on average",
        )

    @classmethod
    def self_contained(cls, arguments: dict[str, Any]) -> dict[str, Any]:
        """With the robot go the figures that its returns are measured by."""
        plain = super().self_contained(arguments)
        if "robot" not in plain:
            return plain
        task = {key: plain[key] for key in ("robot", "control", "start", "targets") if key in plain}
        env = Reach(**task)
        return plain if env._is_standard else {**plain, "robot": {**plain["robot"], "bound": env._measured()}}

    def reference_within(self, max_episode_steps: int) -> Reference:
        """The bound stays one; random actions and the expert are played anew, if that does not take long."""
        if not self._bound or max_episode_steps > MOST_STEPS:
            return Reference()
        random, expert, arrived = self._returns(max_episode_steps)
        return nothing_known(random, arrived, HELD_OUT) if arrived < ARRIVES else self._by_bound(random, expert)

    def _by_bound(self, random: float, expert: float) -> Reference:
        """The reference of another task than the Panda's own: the same figures, found here."""
        bound = self._bound
        gain = PER_METRE * bound["approach"] + 1.0
        return Reference(
            optimum=gain - STEP_COST * bound["steps"],
            random=random,
            heuristic=expert,
            solved_at=gain - STEP_COST * max(1.4 * bound["seconds"] / PERIOD, 1.2 * bound["steps"]),
            source="best known: a bound, no control is faster (palaestra.envs.arm.robots.time_bound); heuristic: the "
            "expert; solved at: all reached, in 1.4 times the bound on average",
        )

    @property
    def _bound(self) -> Mapping[str, Any]:
        """Means over the held-out targets, see :func:`held_out_bound`; empty where they are not known."""
        if self.action_delay[1]:
            return {}
        if self._is_standard:
            return pandas_bound(self.start_tool, TOLERANCE, PERIOD)
        kept = self.robot.bound
        if kept.get("task") == task_digest(self.chain, self.start, self.targets) and all(k in kept for k in BOUND_KEYS):
            return kept
        return held_out_bound(self.chain, self.start, self.targets, TOLERANCE, PERIOD)

    def _measured(self) -> dict[str, Any]:
        """The bound, and the returns of random actions and of the expert with this control, as a run keeps them."""
        bound = self._bound
        if not bound or self.control in bound.get("returns", {}):
            return dict(bound)
        found = list(self._returns(self.max_episode_steps)[:2])
        return {"task": task_digest(self.chain, self.start, self.targets), **bound, "returns": {self.control: found}}

    def _returns(self, limit: int | None) -> tuple[float, float, float]:
        """Of random actions and of the expert, and how often it arrives."""
        task = {"robot": self.chain, "control": self.control, "start": self.start, "targets": self.targets}
        return returns_within(Reach, tuple(task.items()), limit, HELD_OUT)

    @property
    def _is_standard(self) -> bool:
        """True if this is the task for which the bound was computed."""
        return (self.chain, self.start, self.targets, self.action_delay[1]) == (PANDA, PANDA_READY, TARGET_BOX, 0)

    def _towards(self, q: Tensor, motion: Tensor, free: Tensor | None = None) -> Tensor:
        """Joint motion [dof, N] for a motion of the tool [3, N], shared out by the joints' speed limits; ``free`` tells
        which joints move, all if left out."""
        scaled, limit = self._scaled_jacobian(q, free)
        return limit * damped_least_squares(scaled, motion, DAMPING)

    def _scaled_jacobian(self, q: Tensor, free: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The tool's Jacobian [3, dof, N] by shares of the joints' speed limits, and those, 0 if not ``free``."""
        limit = tables(self.chain, q.dtype, q.device).velocity
        limit = limit if free is None else limit * free
        return tool_jacobian(self.chain, link_frames(self.chain, q))[:3] * limit, limit

    def _brisk(self, q: Tensor, motion: Tensor) -> Tensor:
        """The expert's action [N, dof] for a motion of the tool [3, N], of any arm."""
        table = tables(self.chain, q.dtype, q.device)
        change = self._towards(q, motion)
        ended = ((q <= table.q_min + AT_END) & (change < 0.0)) | ((q >= table.q_max - AT_END) & (change > 0.0))
        change = self._towards(q, motion, ~ended)
        share = (change.abs() / (table.velocity * PERIOD)).amax(0).clamp(min=1.0)
        wanted = change / (share * PERIOD)
        lost = (2.0 * table.acceleration * change.abs()).sqrt()  # the speed that braking takes off on the way
        kept = ((lost + 1e-6) / (wanted.abs() + 1e-6)).amin(0).clamp(max=1.0)
        return (wanted * kept / table.velocity).clamp(-1.0, 1.0).T.contiguous()

    def _command(self, q: Tensor, action: Tensor) -> Tensor:
        """Commanded joint velocities [dof, N]."""
        if self.control == "velocity":
            return action.T.clamp(-1.0, 1.0) * tables(self.chain, q.dtype, q.device).velocity
        return self._towards(q, self.moves[action].T)

    def _best_move(self, q: Tensor, dq: Tensor, target: Tensor) -> Tensor:
        """The move after which the tool is closest, int64 [N]."""
        scaled, limit = self._scaled_jacobian(q)
        q, dq, target, scaled = (one.repeat_interleave(len(MOVES), -1) for one in (q, dq, target, scaled))
        motion = self.moves.T.repeat(1, q.shape[1] // len(MOVES))  # each environment's moves side by side
        after, _ = self._drive(q, dq, limit * damped_least_squares(scaled, motion, DAMPING))
        return length(target - tool_place_of(self.chain, after)).view(-1, len(MOVES)).argmin(1)

    def _drive(self, q: Tensor, dq: Tensor, command: Tensor) -> tuple[Tensor, Tensor]:
        """Angles and velocities [dof, N] after one step with constant acceleration towards the commanded velocity."""
        return driven(self.chain, torch.stack((q, dq)), command, PERIOD)

    def _errors(self, state: ArmState) -> tuple[Tensor, ...]:
        """The way from the tool to the target [3, N] and its length [N]."""
        if kept := kept_errors(state):
            return kept
        error = (state.target - state.tool).T
        return error, length(error)
