"""Steps of a batch on the CPU: the first few as they are, then two that are recorded, then replayed.

1. The batch's own step up to the ends of episodes is recorded (:mod:`~palaestra.envs.core.replay.recorded_step`). Twice,
   and it is only replayed if both recordings have the same operations and constants, and a replay gives what the step
   gave: rules that decide by looking at numbers, count in Python, or draw elsewhere, run as they are for ever.
2. Finished rows get their first states from a stock where that is small
   (:mod:`~palaestra.envs.core.replay.first_states`), else from the rules.
3. While steps are replayed the running episodes lie in memory of their own. The batch has no attributes that hold them;
   whoever asks for one gets a copy, which is taken in again before the next step.
4. What cannot be replayed (actions that are not in the space, or need a gradient; rules of which an attribute was
   changed; an error) is a step as it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from operator import is_
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Discrete
from torch import Tensor

from palaestra.envs.core.batched_env import StepResult
from palaestra.envs.core.batching.records import state_fields
from palaestra.envs.core.draws.splitmix import child_key
from palaestra.envs.core.replay.fields import Array
from palaestra.envs.core.replay.first_states import FirstStates, fits
from palaestra.envs.core.replay.outputs import Outputs
from palaestra.envs.core.replay.recorded_step import COUNTERS, RecordedStep, Running, Trace
from palaestra.envs.core.replay.recording import RecordingError, difference
from palaestra.envs.core.replay.step_info import StepInfo
from palaestra.envs.core.rng import Rng
from palaestra.envs.core.user_code import RAISED

KEPT = ("state", "final_state", *COUNTERS, "_final_place")  # attributes of a batch that steps are replayed of
_KEPT = frozenset(KEPT)
_STEPS_BEFORE = 8
_TRACES = 4  # recordings at most until two are the same
_METHODS = ("recorded_advance", "advance", "_step", "reset_finished", "successes", "_observe", "_call", "_check")


class ReplayedSteps:
    """The steps of one batch; see the module."""

    def __init__(self, batch: Any) -> None:
        self._batch = batch
        self._calls = 0
        self._trace: Trace | None = None
        self._traces = 0
        self._recorded: RecordedStep | None = None
        self.why_not: str | None = None  # steps stay as they are
        self._rules: list[list[Any]] = []
        self._stock: FirstStates | None = None
        self._wait = 0
        self._ended: tuple[Array, list[Array], Array, Array] | None = None

    def forget(self) -> None:
        """Drop what was made ahead: other episodes begin."""
        self._stock, self._wait = None, 0

    def step(self, actions: Tensor) -> StepResult | None:
        """A step of the batch, replayed or recorded; None if it is to be made as it is."""
        if self.why_not is not None:
            return None
        if self._recorded is not None:
            return self._replayed(actions)
        self._calls += 1
        if self._calls == 1:
            self._shape, self._dtype = self._batch.action_space.shape, self._batch._action_dtype
        if self._calls <= _STEPS_BEFORE or not self._fits(actions):
            return None
        return self._record(actions)

    def _fits(self, actions: Any) -> bool:
        return (
            type(actions) is Tensor
            and actions.shape == self._shape
            and actions.dtype == self._dtype
            and actions.is_cpu
            and not actions.requires_grad
        )

    # ---- recording

    def _record(self, actions: Tensor) -> StepResult | None:
        """A step as it is that is recorded, and replayed from the next one on if it can be."""
        batch = self._batch
        if not batch._accepts(actions) or any(name in vars(batch) for name in _METHODS):
            self.why_not = "its methods are replaced"
            return None
        before, rules = dict(vars(batch)), self._rules_now()
        try:
            with torch.inference_mode(False), torch.no_grad():
                if self._trace is None:
                    self._actions = torch.empty_like(actions).contiguous()
                    self._bind({name: tensor.clone() for name, tensor in self._running().items()})
                else:
                    self._put_all()
                    self._bind(self._sets[0].tensors)
                self._actions.copy_(actions)
                trace = Trace(batch, self._actions)
                self._traces += 1
                self._check_rules(rules)
                done, results = trace.found["done"], dict(trace.found)
                self._take(trace)
                return self._finished(results, done)
        except (*RAISED, RecordingError) as error:
            for name in set(vars(batch)) - before.keys():
                delattr(batch, name)
            vars(batch).update(before)
            self._recorded, self._trace = None, None
            self.why_not = str(error) or type(error).__name__
            return None

    def _take(self, trace: Trace) -> None:
        """Compare a recording with the one before; build the replay if they are the same."""
        before, self._trace = self._trace, trace
        if before is not None and self._has_form(trace) and difference(before.recording, trace.recording) is None:
            self._recorded = RecordedStep(trace, self._sets)
            self._side, self._trace = 0, None
            self._prepare()
        elif self._traces >= _TRACES:
            raise RecordingError(str(before and difference(before.recording, trace.recording)))
        elif before is None or not self._has_form(trace):
            self._sets = [Running(trace.after, trace.size) for _ in range(2)]

    def _has_form(self, trace: Trace) -> bool:
        """True if the running episodes lie after the step as they do in the sets."""
        places = self._sets[0].places
        numbers = {name: list(places).index(name) for name in places}
        order = [{m: i for i, m in enumerate(dict.fromkeys(p.memory for p in each.values()))} for each in (places, trace.after)]
        forms = [
            {name: (rank[p.memory], *p[1:]) for name, p in each.items()} for each, rank in zip((places, trace.after), order, strict=True)
        ]
        return bool(numbers) and forms[0] == forms[1]

    def _prepare(self) -> None:
        batch = self._batch
        self._actions_array = self._actions.numpy()
        space = batch.env.action_space
        self._discrete = isinstance(space, Discrete)
        if self._discrete:
            self._start, self._choices = int(space.start), np.uint64(space.n)
            shifted = np.empty_like(self._actions_array) if self._start else self._actions_array
            self._shifted, self._unsigned = shifted, shifted.view(np.uint64)  # below 0 is beyond the last one too
        self._kind, self._names = type(batch.state), list(state_fields(batch.state))
        obs = batch.env.observation_space
        nbytes = self._sets[0].fields.nbytes() + batch.num_envs * int(np.prod(obs.shape)) * obs.dtype.itemsize
        self._stocks = fits(nbytes)
        self._own, self._rules = [vars(env) for env in _chain(batch.env)], self._rules_now()

    def _finished(self, found: dict[str, Tensor], done: Tensor) -> StepResult:
        """The rest of a step as it is."""
        batch = self._batch
        info: dict[str, Any] = {"final_obs": found["obs"], "_final_obs": done, "_episode": done}
        info["episode"] = {"r": found["r"], "l": found["l"]}
        if "is_success" in found:
            info["is_success"] = found["is_success"]
        obs = batch.reset_finished(done, found["obs"])
        return obs, found["reward"], found["terminated"], found["truncated"], info

    def _running(self) -> dict[str, Tensor]:
        batch = self._batch
        fields = {f"state.{name}": tensor for name, tensor in state_fields(batch.state).items()}
        return {**fields, **{name: getattr(batch, name) for name in COUNTERS}}

    def _bind(self, tensors: dict[str, Tensor]) -> None:
        """Let the attributes of the batch hold these tensors."""
        batch = self._batch
        fields = {name[6:]: tensor for name, tensor in tensors.items() if name.startswith("state.")}
        batch.state = type(batch.state)(**fields)
        for name in COUNTERS:
            setattr(batch, name, tensors[name])

    def _put_all(self) -> None:
        """Copy the running episodes from the attributes into the first set of memory."""
        for name, tensor in self._running().items():
            self._sets[0].tensors[name].copy_(tensor)

    # ---- rules

    def _rules_now(self) -> list[list[Any]]:
        return [[*vars(env).values()] for env in _chain(self._batch.env)]

    def _has_same_rules(self) -> bool:
        return all(map(_holds, self._own, self._rules))

    def _check_rules(self, before: list[list[Any]]) -> None:
        if not _identical(before, self._rules_now()):
            raise RecordingError("a step changes an attribute of the rules")

    # ---- replaying

    def _replayed(self, actions: Tensor) -> StepResult | None:
        batch, recorded = self._batch, self._recorded
        assert recorded is not None
        attributes = vars(batch)
        if not self._fits(actions) or not self._acts(actions) or not self._has_same_rules():
            return self._leave()
        given = not _KEPT.isdisjoint(attributes)
        if given and not self._take_in(attributes):
            return self._leave()
        try:
            outputs, copy = recorded.run(self._side)
            after = recorded.sets[1 - self._side]
            done = outputs.arrays["done"]
            ended, final_obs = self._begin_again(after, outputs, np.flatnonzero(done))
        except Exception:
            return self._leave()  # the step as it is raises it, and says where
        results = outputs.copies() if copy else outputs.hand_out()
        if given:
            for name in KEPT:
                attributes.pop(name, None)
        self._ended, self._side = ended, 1 - self._side
        return _result(results, ended, final_obs)

    def _acts(self, actions: Tensor) -> bool:
        """Copy the actions to their place; False if one of them is not in the space."""
        np.copyto(self._actions_array, actions.numpy())
        if not self._discrete:
            return True
        if self._start:
            np.subtract(self._actions_array, self._start, self._shifted)
        return bool(np.maximum.reduce(self._unsigned) < self._choices)

    def _begin_again(self, after: Running, outputs: Outputs, rows: Array) -> Any:
        """Put finished rows into their next episodes; what they were, and their last observations."""
        if not rows.size:
            return None, None
        arrays, obs = after.arrays, outputs.arrays["obs"]
        episode = arrays["episode"].take(rows)
        ended = rows, after.fields.take(rows), episode, arrays["episode_length"].take(rows)
        final_obs, following = obs.take(rows, 0), episode + 1
        state, first_obs, keys = self._first(rows, following, arrays["episode"])
        after.fields.put(rows, state)
        obs[rows] = first_obs
        if self._recorded.reads_keys:
            arrays["_episode_keys"][rows] = keys
        arrays["episode"][rows] = following
        arrays["episode_length"][rows] = 0
        arrays["episode_return"][rows] = 0.0
        return ended, final_obs

    def _first(self, rows: Array, episode: Array, running: Array) -> tuple[list[Array], Array, Array]:
        """States, observations and keys of the episodes that begin in these rows."""
        batch, fields = self._batch, self._sets[0].fields
        if self._stocks:
            if self._stock is not None and not self._stock.lasts(running):
                self._wait = 0 if self._stock.served >= batch.num_envs else batch.num_envs
                self._stock = None
            if self._stock is None and self._wait <= 0:
                self._stock = FirstStates(batch.env, batch._env_keys, running, fields)
                self._stock.lasts(running)
            if self._stock is not None:
                return self._stock.take(rows, episode)
        self._wait -= len(rows)
        with torch.inference_mode(False), torch.no_grad():
            chosen, running_now = torch.from_numpy(rows), torch.from_numpy(running)
            episodes, rng = batch._reset_draws.rng(chosen, running_now, batch._reset_plan)
            place = (chosen, episodes, 0)
            state = batch._call("reset", place, rng)
            obs = batch._observe(state, place)
            batch._reset_plan = rng.requests
            found = {name: field.contiguous() for name, field in state_fields(state).items()}
            values = [
                found[names[0]].numpy() if len(names) == 1 else torch.stack([found[name] for name in names]).numpy()
                for names in fields.names
            ]
            return values, obs.numpy(), rng.episode_key.numpy()

    # ---- attributes

    def give(self, name: str) -> Any:
        """A copy of what an attribute of the batch holds; the batch keeps it until the next step."""
        batch, now = self._batch, self._sets[self._side]
        value: Any
        if name == "_episode_keys" and not self._recorded.reads_keys:
            value = child_key(batch._env_keys, now.tensors["episode"])
        elif name in COUNTERS:
            value = now.tensors[name].clone()
        elif name == "_final_place":
            episode, length = now.tensors["episode"].clone(), now.tensors["episode_length"].clone()
            if self._ended is not None:
                rows, _, episodes, lengths = self._ended
                episode[rows], length[rows] = torch.from_numpy(episodes), torch.from_numpy(lengths)
            value = (None, episode, length)
        else:
            value = self._state_now(final=name == "final_state")
        vars(batch)[name] = value
        return value

    def _state_now(self, final: bool) -> Any:
        now = self._sets[self._side]
        tensors = {name: now.tensors[f"state.{name}"].clone() for name in self._names}
        if final and self._ended is not None:
            for names, values in zip(now.fields.names, self._ended[1], strict=True):
                for name, value in zip(names, [values] if len(names) == 1 else values, strict=True):
                    tensors[name][self._ended[0]] = torch.from_numpy(value)
        return self._kind(**tensors)

    def give_all(self) -> None:
        """Let the batch have all its attributes."""
        if self._recorded is not None:
            for name in KEPT:
                if name not in vars(self._batch):
                    self.give(name)

    def _take_in(self, attributes: dict[str, Any]) -> bool:
        """Copy attributes that were given, or set since, into the kept memory; False if they have another form."""
        now = self._sets[self._side]
        new = {name: attributes[name] for name in COUNTERS if name in attributes}
        if "state" in attributes:
            if type(attributes["state"]) is not self._kind:
                return False
            new |= {f"state.{name}": tensor for name, tensor in state_fields(attributes["state"]).items()}
        for name, tensor in new.items():
            kept = now.tensors[name]
            if (tensor.shape, tensor.dtype) != (kept.shape, kept.dtype) or tensor.requires_grad:
                return False
        for name, tensor in new.items():
            now.tensors[name].copy_(tensor)
        return True

    def _leave(self) -> None:
        """Prepare for a step as it is; what it leaves is taken in before the next one."""
        self.give_all()


def _result(results: dict[str, Tensor], ended: Any, final_rows: Any) -> StepResult:
    obs, done = results["obs"], results["done"]
    info: dict[str, Any] = {"final_obs": obs, "_final_obs": done, "_episode": done}
    info["episode"] = {"r": results["r"], "l": results["l"]}
    if "is_success" in results:
        info["is_success"] = results["is_success"]
    if ended is None:
        info["ended"] = False
    else:
        rows = torch.from_numpy(ended[0])
        info = StepInfo(info, lambda: obs.index_copy(0, rows, torch.from_numpy(final_rows)))
    return obs, results["reward"], results["terminated"], results["truncated"], info


def _chain(env: Any) -> Iterator[Any]:
    """The rules, and those inside wrappers."""
    while env is not None and hasattr(env, "__dict__"):
        yield env
        env = vars(env).get("env")


def _holds(attributes: dict[str, Any], values: list[Any]) -> bool:
    """True if the attributes are these very objects."""
    return len(attributes) == len(values) and all(map(is_, attributes.values(), values))


def _identical(before: list[list[Any]], now: list[list[Any]]) -> bool:
    return len(before) == len(now) and all(len(a) == len(b) and all(map(is_, a, b)) for a, b in zip(before, now, strict=True))
