"""Environments as batched tensor code, and everything that runs them.

``make("snake", num_envs=1024)`` gives a batch on the device, and
``gymnasium.make("palaestra.envs:palaestra/Snake-v0")`` the same rules as an ordinary single environment. PyTorch is
imported when an environment is made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from palaestra.envs.core import imported_late
from palaestra.envs.registry import UnknownEnvError, entries, make, register, resolve
from palaestra.envs.specs import GymnasiumSpec, ResolvedEnv, TensorEnvSpec

if TYPE_CHECKING:
    from palaestra.envs.core import BatchedEnv, EnvError, Quantity, Reference, TensorEnv, TensorVectorEnv
    from palaestra.envs.core.rng import Rng
    from palaestra.envs.interop.gymnasium_env import NumpyVectorEnv, SingleEnv
    from palaestra.envs.interop.sb3_vec_env import SB3VecEnv

__all__ = [
    "BatchedEnv",
    "EnvError",
    "GymnasiumSpec",
    "NumpyVectorEnv",
    "Quantity",
    "Reference",
    "ResolvedEnv",
    "Rng",
    "SB3VecEnv",
    "SingleEnv",
    "TensorEnv",
    "TensorEnvSpec",
    "TensorVectorEnv",
    "UnknownEnvError",
    "entries",
    "make",
    "register",
    "resolve",
]

__getattr__, __dir__ = imported_late(
    __name__,
    {
        "core": "BatchedEnv EnvError Quantity Reference TensorEnv TensorVectorEnv",
        "core.rng": "Rng",
        "interop.gymnasium_env": "NumpyVectorEnv SingleEnv",
        "interop.sb3_vec_env": "SB3VecEnv",
    },
)

_SNAKE = "palaestra.envs.snake:Snake"
register("palaestra/SnakeSmall-v0", _SNAKE, "snake-small", "Snake on a 6×6 board: the quick start", size=6)
register("palaestra/Snake-v0", _SNAKE, "snake", "Snake on a 10×10 board", size=10)
register("palaestra/SnakeLarge-v0", _SNAKE, "snake-large", "Snake on a 12×12 board", size=12)
register(
    "palaestra/CartPole-v1",
    "palaestra.envs.cartpole:CartPole",
    "cartpole",
    "Balance a pole on a cart (Gymnasium's CartPole-v1 in tensors)",
)
register(
    "palaestra/PandaReach-v0",
    "palaestra.envs.arm.reach:Reach",
    "reach",
    "A robot arm brings its tool to a point, by joint velocities",
)
register(
    "palaestra/PandaReachTorque-v0",
    "palaestra.envs.arm.reach_torque:ReachTorque",
    "reach-torque",
    "A robot arm brings its tool to a pose, by joint torques and rigid-body dynamics",
)
register(
    "palaestra/PricingStationary-v0",
    "palaestra.envs.pricing.pricing:Pricing",
    "pricing-easy",
    "Sell 10 units in 100 periods to customers who do not change",
    stock=10,
    arrival_rate=0.5,
    willingness=50.0,
    prices=tuple(range(50, 201, 10)),
)
register(
    "palaestra/Pricing-v0",
    "palaestra.envs.pricing.pricing:Pricing",
    "pricing",
    "Sell 15 units before a deadline to customers who pay ever more",
)
register(
    "palaestra/PricingTwoProducts-v0",
    "palaestra.envs.pricing.two_products:TwoProducts",
    "pricing-two",
    "Price two products that share their customers",
)
register(
    "palaestra/PricingYogurt-v0",
    "palaestra.envs.pricing.yogurt:Yogurt",
    "pricing-yogurt",
    "Price yoghurt for a season, with demand estimated from real purchases",
)
register(
    "palaestra/PricingDuopoly-v0",
    "palaestra.envs.pricing.duopoly:DuopolyPricing",
    "pricing-duopoly",
    "Price against a scripted rival in a logit market",
)
register(
    "palaestra/PricingHidden-v0",
    "palaestra.envs.pricing.hidden.hidden_demand:HiddenDemand",
    "pricing-hidden",
    "Price for customers whose regime is hidden: it takes a memory",
)
register(
    "palaestra/ConnectFour-v0",
    "palaestra.envs.games.connect_four:ConnectFour",
    "connect-four",
    "Connect Four against an opponent, 6×7: four in a line win",
)
