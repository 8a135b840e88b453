"""The picture of one environment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from palaestra.envs.rendering.canvas import Canvas, Image, Table


class Drawable(Protocol):
    """The part of an environment's rules that draws."""

    @property
    def picture_size(self) -> tuple[int, int]:
        """Width and height of the canvas, in its units."""
        ...

    def draw(self, state: Any, canvas: Canvas) -> None:
        """Draw one environment; the state's fields are NumPy arrays and Python scalars."""


def picture(
    env: Drawable,
    state: Any,
    width: int | None = None,
    over: bool = False,
    past: Sequence[Any] = (),
    policy: Table | None = None,
    reveals: bool = True,
    player: str = "agent",
) -> Image:
    """One environment's state as ``env.draw`` shows it.

    Args:
        env: the rules, which draw.
        state: one environment's state on the host, see ``TensorVectorEnv.state_of``.
        width: of the picture in pixels, rounded to an even number; the height follows. None for ``env.picture_size``.
        over: True if the episode ended in this state.
        past: the episode's earlier states, oldest first, as far as they are known.
        policy: the watched policy's action in every state, int64 [stages, states], where ``env`` can tabulate it.
        reveals: whether to show what the best policy would do; False for a person who plays.
        player: who plays, for a picture that says it.

    Returns:
        uint8 [height, width, 3], both even.
    """
    size = env.picture_size
    canvas = Canvas(*size, pixels=width, over=over, past=past, policy=policy, reveals=reveals, player=player)
    env.draw(state, canvas)
    return canvas.image()
