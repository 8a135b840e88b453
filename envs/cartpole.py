"""CartPole: keep a pole upright by pushing the cart below it. The rules of Gymnasium's CartPole-v1, in tensors.

Rules
    1. Each step of 0.02 s pushes the cart with ±10 N along a frictionless track; explicit Euler integration.
    2. Reward 1 per step, the last included. Terminates when the cart is more than 2.4 m from the middle or the pole
       more than 12° from upright; truncated after 500 steps.
    3. The four state variables start uniform in ±0.05.

Actions
    0 pushes left, 1 pushes right.

Observation (float32 [4])
    Cart position (m), cart velocity (m/s), pole angle (rad), pole angular velocity (rad/s). With ``velocities=False``
    position and angle alone, float32 [2]: what the agent needs to know is in two of them then.

Differs from Gymnasium only in float32 arithmetic (Gymnasium integrates in float64) and in the random start states.

Source: Barto, Sutton and Anderson, "Neuronlike adaptive elements that can solve difficult learning control problems",
1983; equations as corrected by Florian, "Correct equations for the dynamics of the cart-pole system", 2007.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from gymnasium.spaces import Box, Discrete
from torch import Tensor

from palaestra.envs.core import Quantity, Reference, TensorEnv
from palaestra.envs.core.batching.constants import kept_number, kept_table
from palaestra.envs.core.batching.records import columns, map_state
from palaestra.envs.core.rng import Rng, env_keys
from palaestra.envs.core.symmetries import SignedPermutation, Symmetry

if TYPE_CHECKING:
    from palaestra.envs.rendering.canvas import Canvas

GRAVITY = 9.8  # m/s²
CART_MASS, POLE_MASS = 1.0, 0.1  # kg
HALF_LENGTH = 0.5  # m, from the hinge to the middle of the pole
FORCE = 10.0  # N
TIME_STEP = 0.02  # s
POSITION_LIMIT = 2.4  # m
ANGLE_LIMIT = math.radians(12.0)
_TIME_STEP = kept_number(TIME_STEP)


@dataclass(frozen=True)
class CartPoleState:
    position: Tensor  # float32 [N] m
    velocity: Tensor  # float32 [N] m/s
    angle: Tensor  # float32 [N] rad, 0 upright
    angular_velocity: Tensor  # float32 [N] rad/s


class CartPole(TensorEnv[CartPoleState]):
    """Balance a pole on a cart; see the module for the rules.

    The arguments are numbers that may also be drawn for each episode, see :class:`palaestra.envs.wrappers.Randomized`.
    """

    max_episode_steps = 500
    frames_per_second = 50
    step_seconds: ClassVar[float] = TIME_STEP
    picture_size: ClassVar[tuple[int, int]] = (640, 360)

    def __init__(
        self,
        gravity: float = GRAVITY,
        pole_mass: float = POLE_MASS,
        half_length: float = HALF_LENGTH,
        force: float = FORCE,
        cart_mass: float = CART_MASS,
        velocities: bool = True,
    ) -> None:
        """Make the rules.

        Args:
            gravity: m/s².
            pole_mass: kg.
            half_length: m, from the hinge to the middle of the pole.
            force: N, of a push.
            cart_mass: kg.
            velocities: whether they are observed.

        Raises:
            ValueError: if one of the numbers is not above 0, or ``velocities`` is neither true nor false.
        """
        given = {"gravity": gravity, "pole_mass": pole_mass, "half_length": half_length, "force": force}
        given |= {"cart_mass": cart_mass}
        for name, value in given.items():
            if not value > 0.0:
                raise ValueError(f"{name} must be above 0, got {value}")
        self.gravity, self.pole_mass = float(gravity), float(pole_mass)
        self.half_length, self.force, self.cart_mass = float(half_length), float(force), float(cart_mass)
        high = np.array([2 * POSITION_LIMIT, np.inf, 2 * ANGLE_LIMIT, np.inf], dtype=np.float32)
        if not isinstance(velocities, bool):
            raise ValueError(f"velocities must be true or false, got {velocities!r}")
        self.velocities = velocities
        high = high if velocities else high[::2]
        self.observation_space = Box(-high, high)
        self.action_space = Discrete(2)

    def reset(self, rng: Rng) -> CartPoleState:
        return CartPoleState(*rng.uniform(-0.05, 0.05, (4,)).unbind(1))

    def step(self, state: CartPoleState, action: Tensor, rng: Rng) -> tuple[CartPoleState, Tensor, Tensor]:
        push, angular_acceleration, acceleration = self._accelerations(state, action)
        before = torch.stack((state.position, state.velocity, state.angle, state.angular_velocity))  # [4, N]
        rates = torch.stack((state.velocity, acceleration, state.angular_velocity, angular_acceleration))
        after = before + rates.mul_(_TIME_STEP)
        beyond = after[::2].abs() > kept_table((POSITION_LIMIT, ANGLE_LIMIT), self.device).unsqueeze(1)
        return CartPoleState(*after.unbind(0)), torch.ones_like(push), beyond[0] | beyond[1]

    def _accelerations(self, state: CartPoleState, action: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The horizontal push over the masses, and the accelerations of pole and cart, [N] each.

        An ``addcdiv`` rounds as often as its parts do, and an ``addcmul`` to zero: the same bits in fewer calls.
        """
        total, moment = self.cart_mass + self.pole_mass, self.pole_mass * self.half_length
        sin, cos, squared = state.angle.sin(), state.angle.cos(), state.angular_velocity.square()
        if _any_tensor(self.force, total, moment, self.gravity):  # drawn for each episode, [N]
            force = action * (2 * self.force) - self.force
            push = (force + moment * squared * sin) / total
            angular = (self.gravity * sin - cos * push) / (
                self.half_length * (4.0 / 3.0 - self.pole_mass * cos.square() / total)
            )
            return push, angular, push - moment * angular * cos / total
        force = kept_table((-self.force, self.force), self.device).index_select(0, action)
        mass, zero = kept_number(total, self.device), kept_number(0.0, self.device)
        push = torch.addcmul(zero, squared, sin, value=moment).add_(force).div_(mass)
        lever = torch.addcdiv(kept_number(4.0 / 3.0, self.device), cos.square(), mass, value=-self.pole_mass)
        angular = (sin * kept_number(self.gravity)).sub_(cos * push).div_(lever.mul_(kept_number(self.half_length)))
        return push, angular, torch.addcdiv(push, torch.addcmul(zero, angular, cos, value=moment), mass, value=-1.0)

    def observe(self, state: CartPoleState) -> Tensor:
        if not self.velocities:
            return columns((state.position, state.angle))
        return columns((state.position, state.velocity, state.angle, state.angular_velocity))

    def draw(self, state: CartPoleState, canvas: Canvas) -> None:
        """The cart between the two ends of its track, and the pole between the two angles at which it has fallen."""
        position, angle = float(state.position), float(state.angle)
        scale, track = 118.0, 270.0  # units per metre, and the height of the track
        middle, top = canvas.width / 2, track - 62.0  # position of the hinge
        x, length = middle + position * scale, 1.35 * 2 * self.half_length * scale  # longer than it is, to be seen
        length = min(length, top - 8.0)
        canvas.fill("#0d141c")
        canvas.rectangle(0, track + 6, canvas.width, canvas.height, "#131d27")
        canvas.line([(0, track), (canvas.width, track)], "#34475a", 6)
        for end in (-POSITION_LIMIT, POSITION_LIMIT):
            canvas.rectangle(middle + end * scale - 4, track - 34, 8, 40, "#c2504d", radius=4)
        reach = 1.12 * length
        wedge = [(x + side * reach * math.sin(ANGLE_LIMIT), top - reach * math.cos(ANGLE_LIMIT)) for side in (-1, 1)]
        canvas.polygon([(x, top), *wedge], "#ffffff0c")
        pole = "#e5484d" if canvas.over and abs(angle) > ANGLE_LIMIT else "#f2b35e"
        canvas.line([(x, top), (x + length * math.sin(angle), top - length * math.cos(angle))], pole, 15)
        canvas.rectangle(x - 52, top - 2, 104, 42, "#4fa3e3", radius=10)
        canvas.circle(x, top, 9, "#0d141c")
        canvas.circle(x, top, 5, "#dfe7ee")
        for wheel in (x - 30, x + 30):
            canvas.circle(wheel, track - 16, 14, "#22303d")
            canvas.circle(wheel, track - 16, 6, "#7d8b99")
        canvas.text(f"{position:+.2f} m", 24, 322, 36, "#7fb8e6")
        canvas.text(f"{math.degrees(angle):+.1f}°", canvas.width - 24, 322, 36, pole, "right")

    def stresses(self) -> dict[str, dict[str, Any]]:
        """Another pole, cart, motor and gravity, each by itself; actions that stick; sensors that are late or bad."""
        return {
            "pole_mass_plus_900": {"pole_mass": 10.0 * self.pole_mass},
            "cart_mass_minus_50": {"cart_mass": 0.5 * self.cart_mass},
            "cart_mass_plus_300": {"cart_mass": 4.0 * self.cart_mass},
            "length_minus_80": {"half_length": 0.2 * self.half_length},
            "length_plus_200": {"half_length": 3.0 * self.half_length},
            "force_minus_80": {"force": 0.2 * self.force},
            "force_plus_200": {"force": 3.0 * self.force},
            "gravity_plus_100": {"gravity": 2.0 * self.gravity},
            "sticky_actions_25_percent": {"sticky_actions": 0.25},
            "delay_2_steps": {"delayed_observation": 2},
            "delay_4_steps": {"delayed_observation": 4},
            "noise": {"observation_noise": [0.1, 0.3, 0.03, 0.3] if self.velocities else [0.1, 0.03]},  # m, m/s, rad
        }

    def symmetries(self) -> list[Symmetry]:
        """Left and right: all that is seen changes its sign, and the two pushes change places."""
        turned, pushes = (
            SignedPermutation.flipping(4 if self.velocities else 2),
            SignedPermutation.exchanging(2, (0, 1)),
        )
        return [Symmetry("mirror", lambda state: map_state(torch.neg, state), turned, pushes)]

    @property
    def reference(self) -> Reference:
        own = (self.gravity, self.pole_mass, self.half_length, self.force, self.cart_mass)
        if own != (GRAVITY, POLE_MASS, HALF_LENGTH, FORCE, CART_MASS):
            return Reference()  # other rules
        return Reference(optimum=500.0, random=22.2, solved_at=475.0, source="best known: the time limit")

    def reference_within(self, max_episode_steps: int) -> Reference:
        """A pole that is kept upright may stay so for ever; random pushes end before a limit of 500 steps and more."""
        own = self.reference
        if own == Reference():
            return own
        random = own.random if max_episode_steps >= 500 else random_length(max_episode_steps)
        return replace(own, optimum=float(max_episode_steps), random=random, solved_at=0.95 * max_episode_steps)

    @property
    def observation_names(self) -> tuple[Quantity, ...]:
        to_the_right = "positive to the right"
        names = (
            Quantity("cart_position", "m", meaning=f"0 in the middle, {to_the_right}"),
            Quantity("cart_velocity", "m/s", meaning=to_the_right),
            Quantity("pole_angle", "rad", meaning=f"0 upright, {to_the_right}"),
            Quantity("pole_angular_velocity", "rad/s", meaning=to_the_right),
        )
        return names if self.velocities else names[::2]

    def action_name(self, action: int) -> str:
        return ("push left", "push right")[action]

    @property
    def keys_to_action(self) -> dict[str, int]:
        return {"left": 0, "right": 1}


def _any_tensor(*values: object) -> bool:
    return any(isinstance(value, Tensor) for value in values)


@cache
def random_length(limit: int) -> float:
    """Mean number of steps of the random policy in 1,000 episodes that are cut after ``limit``."""
    env, keys = CartPole(), env_keys(0, torch.arange(1000))
    state, going, total = env.reset(Rng(keys, 0)), torch.ones(1000, dtype=torch.bool), 0
    for step in range(1, limit + 1):
        total += int(going.sum())
        rng = Rng(keys, step)
        state, _, fallen = env.step(state, rng.integers(0, 2), rng)
        going = going & ~fallen
    return total / 1000
