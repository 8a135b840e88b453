"""Another time limit than the environment's own, with what is known of returns under it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from palaestra.envs.core import Reference, TensorEnv
from palaestra.envs.wrappers.wrapper import Wrapper

if TYPE_CHECKING:
    from palaestra.envs.core.symmetries import Symmetry


class TimeLimited(Wrapper):
    """Episodes that are cut after another number of steps; the batch cuts them, and the rules do not see it.

    Figures of returns are those that the environment knows of this limit (``TensorEnv.reference_within``). Nothing is
    computed exactly, as that would be of whole episodes.
    """

    def __init__(self, env: TensorEnv[Any], max_episode_steps: int) -> None:
        """Raises ValueError if ``max_episode_steps`` is below 1."""
        if max_episode_steps < 1:
            raise ValueError(f"max_episode_steps must be at least 1, got {max_episode_steps}")
        super().__init__(env)
        self.max_episode_steps = max_episode_steps

    def __getattr__(self, name: str) -> Any:
        """Attributes of the rules, which are the same under another limit: ``batch.env.size``."""
        if name == "env" or name.startswith("__"):  # as when it is copied or unpickled
            raise AttributeError(name)
        return getattr(self.env, name)

    def symmetries(self) -> Sequence[Symmetry]:
        return self.env.symmetries()

    @property
    def reference(self) -> Reference:
        return self.env.reference_within(self.max_episode_steps or 0)

    def stresses(self) -> Mapping[str, Mapping[str, Any] | TensorEnv[Any]]:
        """Those inside; other rules are cut after as many steps."""
        return {name: limited(change, self.max_episode_steps) for name, change in self.env.stresses().items()}


def limited(env: Any, max_episode_steps: int | None) -> Any:
    """The environment with that time limit; itself where that is its own or None, and whatever is no environment."""
    if not isinstance(env, TensorEnv) or max_episode_steps in (None, env.max_episode_steps):
        return env
    return TimeLimited(env, max_episode_steps)
