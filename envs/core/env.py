"""The environment contract: the members that an author writes.

An author subclasses :class:`TensorEnv` and writes the rules as pure functions of a state record whose fields are
tensors with the number of environments N as their first dimension. :class:`~palaestra.envs.core.vector.TensorVectorEnv`
owns everything else.

``reset`` and ``step`` get an :class:`~palaestra.envs.core.rng.Rng` keyed by (seed, env index, episode, step), so an
episode does not depend on the batch it runs in.

The separation of a typed state record from a base that owns the resets follows jumanji and gymnax.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

import gymnasium
import numpy as np
import torch
from torch import Tensor

from palaestra.envs.core.reference import Array, Quantity, Reference
from palaestra.envs.core.rng import Rng

if TYPE_CHECKING:
    from palaestra.envs.core.reference import ReportFigure
    from palaestra.envs.core.symmetries import Symmetry
    from palaestra.envs.rendering.canvas import Canvas

StateT = TypeVar("StateT")


class TensorEnv(ABC, Generic[StateT]):
    """The rules of one environment, written for N environments at once.

    Rules must be batched: no ``if`` on a tensor, no ``.item()``, no boolean-mask indexing, no Python loop over
    environments; fixed shapes; ``step`` changes nothing in place that came in. Tensors stored as attributes (tables)
    move with :meth:`to`; tensors made inside a method take ``device=self.device``.

    Attributes to define: ``observation_space`` and ``action_space`` (of one environment, with float32 or integer
    dtypes), and ``max_episode_steps`` (the time limit; None for none).
    """

    observation_space: gymnasium.Space[Any]
    action_space: gymnasium.Space[Any]
    max_episode_steps: int | None = None
    frames_per_second: ClassVar[int] = 10
    turn_based: ClassVar[bool] = False  # True if it waits for a person's next key
    alternates: bool = False  # True if a step's reward and the next one's are of two players, zero in sum
    step_seconds: ClassVar[float | None] = None  # of the world's time in a step; None where no clock runs
    played_with: ClassVar[dict[str, Any]] = {}  # arguments for a person's game, unless they are given
    decided_by: ClassVar[str] = ""  # what actions depend on, where that is to be told, as of prices
    picture_size: ClassVar[tuple[int, int]] = (640, 480)  # width and height of the canvas, in its units
    device: torch.device = torch.device("cpu")

    @abstractmethod
    def reset(self, rng: Rng) -> StateT:
        """N fresh states, N being ``rng.num_envs``."""

    @abstractmethod
    def step(self, state: StateT, action: Tensor, rng: Rng) -> tuple[StateT, Tensor, Tensor]:
        """One step of all environments.

        Args:
            state: the states before.
            action: [N, *action_space.shape], int64 for discrete spaces, float32 for boxes.
            rng: this step's random numbers.

        Returns:
            The states after, the reward float32 [N], and terminated bool [N].
        """

    @abstractmethod
    def observe(self, state: StateT) -> Tensor:
        """The observation, [N, *observation_space.shape] in the space's dtype."""

    def success(self, state: StateT) -> Tensor:
        """Optional: true if an episode that ends in this state was a success, bool [N]."""
        raise NotImplementedError

    def expert(self, state: StateT) -> Tensor:
        """Optional: the action of a strong scripted policy, shaped like ``action``."""
        raise NotImplementedError

    def action_mask(self, state: StateT) -> Tensor:
        """Optional: which discrete actions are legal, bool [N, A]."""
        raise NotImplementedError

    def player(self, state: StateT) -> Tensor:
        """Of a game for two players who take turns: whose turn it is, 0 or 1, int64 [N].

        Player 0 begins, and no first move ends the game. ``observe`` gives what the player whose turn it is sees,
        ``step`` rewards the player who moves, and the other one gets the negative. Against whom an agent plays is the
        setting ``opponent``, see :mod:`palaestra.envs.wrappers.two_players`.
        """
        raise NotImplementedError

    def game_value(self, state: StateT) -> Tensor:
        """Optional, of such a game: what perfect play earns the player whose turn it is, float32 [N].

        Of games that are over any number.
        """
        raise NotImplementedError

    def seen_as(self, observation_space: gymnasium.Space[Any]) -> TensorEnv[StateT] | None:
        """Optional, of such a game: the same rules, states and device with those observations, if it has them.

        An agent that was trained with other observations can then be an opponent here.
        """
        return None

    def reference_against(self, opponent: str, begins: str) -> Reference:
        """Optional, of such a game: returns of known policies against that opponent, either side beginning."""
        return Reference()

    def draw(self, state: StateT, canvas: Canvas) -> None:
        """Optional: draw one environment; the state's fields are NumPy arrays and Python scalars."""
        raise NotImplementedError

    def summary(self, returns: Array, lengths: Array, successes: Array | None) -> dict[str, float]:
        """Optional: further figures of evaluated episodes, name → number.

        Args:
            returns, lengths, successes: one entry per episode; successes None without a method ``success``.
        """
        return {}

    def step_figures(self, earlier: StateT, before: StateT, action: Tensor, after: StateT) -> dict[str, Tensor]:
        """Optional: figures of one step, name → float [N], whose means over all steps an evaluation tells.

        Of a name that begins with ``rms_`` it tells the root mean square. Training never calls it.

        Args:
            earlier: the states one step before ``before``; in the first step of an episode ``before`` itself.
            before, action, after: of the step.
        """
        raise NotImplementedError

    def exact(self, act: Callable[[StateT], Tensor]) -> dict[str, float]:
        """Optional: what can be computed of a deterministic policy without playing, name → number.

        ``exact_mean`` is its expected return, free of sampling noise; ``act`` maps any batch of states to actions.
        """
        raise NotImplementedError

    def report_figures(
        self, returns: Array, lengths: Array, successes: Array | None, act: Callable[[StateT], Tensor] | None
    ) -> Sequence[ReportFigure]:
        """Optional: figures for the report of a run, see :mod:`palaestra.envs.core.reference`.

        Args:
            returns, lengths, successes: one entry per held-out episode, episode k being that of environment k.
            act: maps any batch of states to the agent's actions; None where it cannot, as behind wrappers.
        """
        raise NotImplementedError

    def stresses(self) -> Mapping[str, Mapping[str, Any] | TensorEnv[StateT]]:
        """Optional: conditions in which ``palaestra evaluate --stress`` tests an agent's robustness, by name.

        Each is a mapping of settings over the environment's own (``{"force": 8.0}``), arguments of the class or of
        :mod:`palaestra.envs.wrappers`; or other rules with the same states and actions, which the agent sees as it sees
        this environment: nothing tells it of the change. In a name ``_plus_20`` and ``_minus_20`` at the end mean per
        cent.
        """
        return {}

    def symmetries(self) -> Sequence[Symmetry]:
        """Optional: maps with which the rules commute; those that are products of others may be left out.

        Agents use them on request (``symmetry=augment`` or ``equivariant``), ``palaestra check`` proves them; see
        :mod:`palaestra.envs.core.symmetries.group`.
        """
        return ()

    @property
    def remarks(self) -> tuple[str, ...]:
        """Optional: lines that a run says once as it begins, such as on what was assumed of the environment."""
        return ()

    @property
    def reference(self) -> Reference:
        """Returns of known policies; nothing is known unless the environment says so."""
        return Reference()

    def reference_within(self, max_episode_steps: int) -> Reference:
        """Optional: the same where episodes are cut after another number of steps than the environment's own limit."""
        return Reference()

    @property
    def observation_names(self) -> tuple[Quantity, ...]:
        """Optional: the meaning of each number of a flattened observation, in their order."""
        return ()

    @property
    def action_names(self) -> tuple[Quantity, ...]:
        """Optional: the meaning of each number of an action; :meth:`action_name` has that of a Discrete one."""
        return ()

    @property
    def keys_to_action(self) -> dict[str, int]:
        """Optional: keyboard key (pygame's name, e.g. "left") → discrete action, for a person to play.

        In real time a key's action goes on until another key is pressed; with an entry "" it goes on while the key is
        held, and that entry is the action without a key.
        """
        return {}

    def keys_in(self, state: StateT) -> dict[str, int]:
        """Optional: the same where a key's meaning depends on the state (one environment's, as for :meth:`draw`)."""
        return self.keys_to_action

    def action_name(self, action: int) -> str:
        """Optional: what a person reads when choosing a discrete action."""
        return f"action {action}"

    @classmethod
    def self_contained(cls, arguments: dict[str, Any]) -> dict[str, Any]:
        """Optional: the class's arguments as plain data for ``config.yaml``, with a file's content for its name.

        A run must find its environment again from any folder, and after the file has changed.
        """
        return arguments

    def has(self, name: str) -> bool:
        """True if the author wrote the optional method ``name``."""
        return getattr(type(self), name) is not getattr(TensorEnv, name)

    def to(self, device: torch.device | str) -> TensorEnv[StateT]:
        """Move every tensor attribute to ``device``, in place."""
        self.device = torch.device(device)
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                setattr(self, name, value.to(self.device))
        return self


def rules_within(env: Any) -> Iterator[Any]:
    """The rules, and those inside wrappers; none for None."""
    while env is not None:
        yield env
        env = vars(env).get("env")


def torch_dtype(space: gymnasium.Space[Any]) -> torch.dtype:
    """The tensor dtype of a space's elements."""
    return torch.from_numpy(np.empty(0, dtype=space.dtype)).dtype


def resolve_device(device: torch.device | str) -> torch.device:
    """``"auto"`` is the first GPU if there is one, else the CPU."""
    if str(device) == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(device)
