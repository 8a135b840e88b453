"""An environment that a name has led to: of our own, in tensors, or an ordinary Gymnasium one.

Both kinds answer the same questions, so that nothing above this package asks which of the two it has. What takes
``kwargs`` answers for the environment with these arguments, as :func:`palaestra.envs.make` takes them.
"""

from __future__ import annotations

import functools
import inspect
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from gymnasium import Space
from gymnasium.envs.registration import EnvSpec, load_env_creator

from palaestra.envs.core import Reference
from palaestra.envs.core.user_code import RAISED, describe, import_module, source_digest

if TYPE_CHECKING:
    import torch

    from palaestra.envs.core import BatchedEnv, TensorEnv

STEPS_FOR_AN_EPISODE = 300  # our shortest presets train for a thousand times as many
_WRAPPER_KINDS = ("dict", "float", "float | list", "int", "bool", "int", "int | dict")  # of ``WRAPPER_SETTINGS``


@dataclass(frozen=True)
class ResolvedEnv(ABC):
    """One environment, whichever kind.

    Attributes:
        id: the id that it is registered under, here or with Gymnasium; a class of ours in a file has none, and gives
            its absolute name.
        short_name: for folders and tables.
        absolute_name: a name for ``resolve`` that means the same in another process and another folder.
        summary: one line; empty where there is none.
        in_tensors: True if one call steps all copies on the device, False if they step one after another on the host.
        can_replay: True if any episode can be played again by its index.
        default_batch: number of copies for evaluations.
        validation_episodes: number of episodes of an evaluation during training.
        evaluation_episodes: number of episodes of the final evaluation, unless training was short.
        presets: settings for training by agent, as ``register`` took them; empty where there are none.
    """

    id: str
    short_name: str
    absolute_name: str = field(compare=False)
    summary: str
    presets: Mapping[str, Any] = field(default_factory=dict, kw_only=True)

    in_tensors: ClassVar[bool]
    can_replay: ClassVar[bool]
    default_batch: ClassVar[int]
    validation_episodes: ClassVar[int]
    evaluation_episodes: ClassVar[int]

    @property
    def shortest_name(self) -> str:
        """The shortest name that ``resolve`` knows it by."""
        return self.absolute_name

    @property
    def public_name(self) -> str:
        """Its name as a file tells it to others: of one in a Python file without the folder."""
        place, colon, name = self.absolute_name.rpartition(":")
        return f"{Path(place).name}:{name}" if colon and place.endswith(".py") else self.absolute_name

    def final_episodes(self, total_timesteps: int) -> int:
        """Number of episodes of the final evaluation after so many steps of training.

        One for every ``STEPS_FOR_AN_EPISODE``, so that it takes no longer than a short training; at least as many as
        the evaluations during training have.
        """
        few = max(self.validation_episodes, total_timesteps // STEPS_FOR_AN_EPISODE)
        return min(self.evaluation_episodes, few)

    @abstractmethod
    def make(self, num_envs: int, device: torch.device | str = "auto", seed: int = 0, **kwargs: Any) -> BatchedEnv:
        """A batch; see :func:`palaestra.envs.make`."""

    def open(
        self, num_envs: int, device: torch.device | str = "auto", seed: int = 0, *, compile: bool = False, **kwargs: Any
    ) -> BatchedEnv:
        """The same where it has been made before, with the same arguments.

        ``compile`` compiles its steps where they are tensor code (:mod:`palaestra.envs.compiled.batch`).

        Raises:
            EnvError: what it raises this time.
        """
        compiled = {"compile": True} if compile and self.in_tensors else {}
        try:
            return self.make(num_envs, device, seed, **kwargs, **compiled)
        except RAISED as error:
            from palaestra.envs.core.errors import EnvError, is_machine_failure

            if isinstance(error, EnvError) or is_machine_failure(error):
                raise
            count = "another one" if num_envs == 1 else f"{num_envs} at once"
            raise EnvError(f"{self.short_name} was made before, but not {count}: {describe(error)}") from error

    @abstractmethod
    def spaces(self, kwargs: Mapping[str, Any]) -> tuple[Space[Any], Space[Any]]:
        """Observation and action space of one environment; errors are those of making it."""

    def is_game(self) -> bool:
        """True for a game for two players, which has the setting ``opponent``."""
        return False

    def kwarg_kinds(self) -> dict[str, str] | None:
        """Names that ``kwargs`` may have, with their declared types; None where only making the environment tells."""
        return None

    def self_contained(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        """The same arguments without a reference to anything outside them; see ``TensorEnv.self_contained``."""
        return kwargs

    def evaluation_kwargs(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        """The arguments with which agents are evaluated and shown that train with these.

        The same, but that in a game for two a fixed opponent stands for earlier selves.
        """
        return kwargs

    @abstractmethod
    def source(self) -> str:
        """A digest of the source code, see :func:`palaestra.envs.core.user_code.source_digest`."""

    def build(self, **kwargs: Any) -> TensorEnv[Any] | None:
        """The rules within their wrappers; None where they are not tensor code.

        Of the batch's arguments only ``max_episode_steps`` may be among ``kwargs``.
        """
        return None

    @abstractmethod
    def reference(self, kwargs: Mapping[str, Any]) -> Reference:
        """Known returns, as far as they are known."""

    def remarks(self, kwargs: Mapping[str, Any]) -> tuple[str, ...]:
        """Lines that a run says once as it begins, see ``TensorEnv.remarks``."""
        rules = self.build(**kwargs)
        return () if rules is None else rules.remarks

    def has(self, member: str, kwargs: Mapping[str, Any]) -> bool:
        """True if the environment has that optional member of :class:`TensorEnv`, such as ``"draw"``."""
        rules = self.build(**kwargs)
        return rules is not None and rules.has(member)


@dataclass(frozen=True)
class TensorEnvSpec(ResolvedEnv):
    """A tensor environment: ``entry_point`` ("module:Class" of a TensorEnv) called with ``kwargs``."""

    entry_point: str
    kwargs: Mapping[str, Any] = field(default_factory=dict)

    in_tensors = can_replay = True
    default_batch, validation_episodes, evaluation_episodes = 1024, 100, 1000

    @property
    def shortest_name(self) -> str:
        return self.id if ":" in self.id else self.short_name  # a class in a file has no registered short name

    def load(self) -> type[TensorEnv[Any]]:
        """The class.

        Raises:
            UserCodeError: if its module cannot be imported.
            TypeError: if it is no TensorEnv.
        """
        from palaestra.envs.core import TensorEnv

        module, _, name = self.entry_point.partition(":")
        found = getattr(import_module(module), name)
        if not (isinstance(found, type) and issubclass(found, TensorEnv)):
            raise TypeError(f"{self.entry_point} is not a TensorEnv")
        return found

    def source(self) -> str:
        return source_digest(self.load())

    def is_game(self) -> bool:
        from palaestra.envs.wrappers.two_players.game_view import is_game

        return is_game(self.load())

    def build(self, **kwargs: Any) -> TensorEnv[Any]:
        from palaestra.envs.building import load_tensor_env
        from palaestra.envs.wrappers import take_settings, wrapped

        arguments = {**self.kwargs, **kwargs}
        limit, settings = arguments.pop("max_episode_steps", None), take_settings(arguments)
        return wrapped(load_tensor_env(self.entry_point, **arguments), settings, limit)

    def make(self, num_envs: int, device: torch.device | str = "auto", seed: int = 0, **kwargs: Any) -> BatchedEnv:
        from palaestra.envs.building import vector_env

        return vector_env(num_envs, self.entry_point, device=device, seed=seed, **{**self.kwargs, **kwargs})

    def spaces(self, kwargs: Mapping[str, Any]) -> tuple[Space[Any], Space[Any]]:
        rules = self.build(**kwargs)
        return rules.observation_space, rules.action_space

    def kwarg_kinds(self) -> dict[str, str]:
        """The class's arguments, and those that a configuration may give every environment of ours."""
        from palaestra.envs.wrappers import WRAPPER_SETTINGS
        from palaestra.envs.wrappers.two_players.by_settings import GAME_SETTINGS

        accepted = inspect.signature(self.load().__init__).parameters.items()
        kinds = {name: inspect.formatannotation(p.annotation).strip("'") for name, p in accepted if name != "self"}
        kinds = {name: "" if kind.startswith("inspect.") else kind for name, kind in kinds.items()}
        if self.is_game():
            kinds |= GAME_SETTINGS
        of_batch = {"max_episode_steps": "int | None", **dict(zip(WRAPPER_SETTINGS, _WRAPPER_KINDS, strict=True))}
        return kinds | of_batch

    def self_contained(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        from palaestra.envs.wrappers.two_players.opponents import lasting_names

        if "opponent" in kwargs and self.is_game():
            kwargs = {**kwargs, "opponent": lasting_names(kwargs["opponent"])}
        return self.load().self_contained(kwargs)

    def evaluation_kwargs(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        from palaestra.envs.wrappers.two_players.opponents import fixed_opponent

        opponent = {**self.kwargs, **kwargs}.get("opponent")
        if opponent is None or not self.is_game():
            return kwargs
        return {**kwargs, "opponent": fixed_opponent(self.load(), opponent)}

    def reference(self, kwargs: Mapping[str, Any]) -> Reference:
        return self.build(**kwargs).reference


@dataclass(frozen=True, eq=False)
class GymnasiumSpec(ResolvedEnv):
    """An ordinary Gymnasium environment; two names of one id are equal."""

    spec: EnvSpec

    in_tensors = can_replay = False
    default_batch, validation_episodes, evaluation_episodes = 32, 20, 100  # copies step one after another

    def __eq__(self, other: object) -> bool:
        return isinstance(other, GymnasiumSpec) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    def make(self, num_envs: int, device: torch.device | str = "auto", seed: int = 0, **kwargs: Any) -> BatchedEnv:
        from palaestra.envs.interop.gymnasium_adapter import GymnasiumAdapter

        return GymnasiumAdapter(self.spec, num_envs, device=device, seed=seed, **kwargs)

    def spaces(self, kwargs: Mapping[str, Any]) -> tuple[Space[Any], Space[Any]]:
        return _gymnasium_spaces(self, json.dumps(kwargs, sort_keys=True))

    def load(self) -> Callable[..., Any]:
        """The class or function that makes it, which imports its module."""
        made = self.spec.entry_point
        assert made is not None
        return load_env_creator(made) if isinstance(made, str) else made

    def source(self) -> str:
        return "" if self.spec.entry_point is None else source_digest(self.load())

    def reference(self, kwargs: Mapping[str, Any]) -> Reference:
        return Reference(solved_at=self.spec.reward_threshold)


@functools.lru_cache(64)
def _gymnasium_spaces(env: GymnasiumSpec, kwargs: str) -> tuple[Space[Any], Space[Any]]:
    """The spaces with these arguments, given as JSON: making the environment may be slow, so they are remembered."""
    batch = env.make(1, "cpu", **json.loads(kwargs))
    batch.close()
    return batch.single_observation_space, batch.single_action_space
