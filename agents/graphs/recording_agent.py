"""What an agent records: which attributes its functions bind to new tensors, and what makes recordings invalid.

Agents write the parts of an iteration that are functions of tensors alone as methods, and call them by
``self._recorded(method, *inputs)``; numbers that change are inputs. On a CPU that is a plain call. What happens once an
iteration, what looks at a value, and the optimizer's step stay outside.

Recordings are made where one process steps environments of ours, with a policy whose distribution is computed here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from stable_baselines3.common.base_class import BaseAlgorithm

from palaestra.agents.graphs.cuda_graph import CudaGraph
from palaestra.agents.graphs.recorder import Backend, Recorder
from palaestra.agents.graphs.slots import Attribute, places_of
from palaestra.envs.core import TensorVectorEnv
from palaestra.envs.core.env import rules_within

_CHANGING = ("learning_rate", "ent_coef", "exploration_rate")  # settings whose present value is an input, or unused


class RecordingAgent(BaseAlgorithm):
    """See the module."""

    _looks = False  # True where finding rows and looking at values waits for nothing
    _recorder: Recorder | None = None
    _json_arguments: ClassVar[tuple[str, ...]]
    _group: Any
    _flat_optimizer: Any
    _reward_scale: Any
    _statistics: Any
    _episode_log: Any
    batch: Any

    def record_with(self, backend: Callable[[], Backend] | None) -> None:
        """Record functions and replay them, from the next iteration on.

        None calls each operation by itself, those of environments on a CPU too, until there is another batch.
        """
        self._recorder = None if backend is None else Recorder(self.device, backend)
        self._looks = self.device.type == "cpu" and backend is None
        if backend is None and getattr(self, "batch", None) is not None:
            self.batch.records_steps(False)

    def _record_by_default(self) -> None:
        self._looks = self.device.type == "cpu"
        if self.device.type == "cuda":
            self.record_with(CudaGraph)

    def _recorded(self, function: Callable[..., Any], *inputs: Any) -> Any:
        """The outputs of a function of tensors alone."""
        return function(*inputs) if self._recorder is None else self._recorder(function, *inputs)

    def _can_record(self) -> bool:
        """True if functions of this agent, with its environments, are functions of tensors."""
        actor_critic = getattr(self, "_actor_critic", None)  # PPO's; without a head it calls the policy's own methods
        own = actor_critic is None or actor_critic.head is not None
        return own and self._group.size == 1 and isinstance(self.batch, TensorVectorEnv)

    def replays_graphs(self) -> bool:
        """True if a GPU's operations are recorded as CUDA graphs, where that succeeds."""
        return self._recorder is not None and self._can_record()

    def _begin_recording(self) -> None:
        """Call it before recorded functions are called; it moves the weights to where they stay."""
        assert self._recorder is not None
        self._episode_log.copies = True
        self._recorder.is_on = self._can_record()
        if self._recorder.is_on:
            self.batch.records_steps(False)  # they are a part of what is recorded here
            self._flat_optimizer.gather()
            self._recorder.begin(self._rebound, self._recorded_settings(), [*rules_within(self.batch.env)])

    def _rebound(self) -> list[Attribute]:
        """The attributes that recorded functions bind to new tensors."""
        own: list[Attribute] = [(self, name) for name in ("_last_obs", "_last_episode_starts", "_action_keys")]
        scale = [] if self._reward_scale is None else places_of(self._reward_scale)
        return own + places_of(self.batch, "env") + places_of(self._statistics) + scale

    def _recorded_settings(self) -> list[Any]:
        """What recordings are made for."""
        names = [name for name in self._json_arguments if name not in _CHANGING]
        weights = [tensor.data_ptr() for tensor in (*self.policy.parameters(), *self.policy.buffers())]
        rules = [id(each) for each in rules_within(getattr(self.batch, "env", None))]  # others in another stage
        return [[getattr(self, name) for name in names], weights, self.batch.max_episode_steps, rules]
