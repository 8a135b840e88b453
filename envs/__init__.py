"""Environments as batched tensor code, and everything that runs them.

``make("snake", num_envs=1024)`` gives a batch on the device, and
``gymnasium.make("palaestra.envs:palaestra/Snake-v0")`` the same rules as an ordinary single environment.
"""

from palaestra.envs.core import BatchedEnv, EnvError, Reference, TensorEnv, TensorVectorEnv
from palaestra.envs.registry import UnknownEnvError, entries, make, register, resolve
from palaestra.envs.rng import Rng
from palaestra.envs.views import NumpyVectorEnv, SingleEnv, TensorVecEnv

__all__ = [
    "BatchedEnv",
    "EnvError",
    "NumpyVectorEnv",
    "Reference",
    "Rng",
    "SingleEnv",
    "TensorEnv",
    "TensorVecEnv",
    "TensorVectorEnv",
    "UnknownEnvError",
    "entries",
    "make",
    "register",
    "resolve",
]

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
