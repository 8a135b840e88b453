"""Steps that are replayed: actions in, results out, finished rows put into their next episodes."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Discrete
from torch import Tensor

from palaestra.envs.core.batched_env import StepResult
from palaestra.envs.core.batching.records import state_fields
from palaestra.envs.core.draws.splitmix import child_key
from palaestra.envs.core.draws.stock import ResetDraws
from palaestra.envs.core.env import rules_within
from palaestra.envs.core.reference import Array
from palaestra.envs.core.replay.fields import as_rows
from palaestra.envs.core.replay.first_states import FirstStates, fits
from palaestra.envs.core.replay.outputs import Outputs
from palaestra.envs.core.replay.recorded_step import COUNTERS, Running
from palaestra.envs.core.replay.step_info import StepInfo, information
from palaestra.envs.core.replay.step_recorder import StepRecorder, holds
from palaestra.envs.core.user_code import RAISED

KEPT = ("state", "final_state", *COUNTERS, "_final_place")  # attributes of a batch that steps are replayed of
_KEPT = frozenset(KEPT)


class RunningReplay:
    """The steps of one batch, from the one after the recorded step on."""

    def __init__(self, batch: Any, recorder: StepRecorder) -> None:
        assert recorder.recorded is not None
        assert recorder.actions is not None
        self._batch, self._recorded, self._actions = batch, recorder.recorded, recorder.actions.numpy()
        self._side = 0  # the set of memory that holds the running episodes
        self._dtype = recorder.actions.dtype
        space, obs = batch.env.action_space, batch.env.observation_space
        self._discrete = isinstance(space, Discrete)
        if self._discrete:
            self._start, self._choices = int(space.start), np.uint64(space.n)
            self._shifted = np.empty_like(self._actions) if self._start else self._actions
            self._unsigned = self._shifted.view(np.uint64)  # below 0 is beyond the last one too
        self._kind, self._names = type(batch.state), list(state_fields(batch.state))
        nbytes = self._recorded.sets[0].fields.nbytes() + batch.num_envs * int(np.prod(obs.shape)) * obs.dtype.itemsize
        self._stocks = fits(nbytes)
        self._stock: FirstStates | None = None
        self._resets = None if recorder.resets is None else recorder.resets(batch, recorder.recorded)
        self._wait = 0  # rows to reset without a stock, after one that was used up by few rows
        self._own = [vars(env) for env in rules_within(batch.env)]
        self._rules = [[*attributes.values()] for attributes in self._own]
        # rows that the latest step ended, and their states, episodes and lengths before they were reset
        self._ended: tuple[Array, list[Array], Array, Array] | None = None

    def forget(self) -> None:
        """Drop what was made ahead: other episodes begin."""
        self._stock, self._wait = None, 0

    def step(self, actions: Tensor) -> StepResult | None:
        """A step; None, and nothing has changed, if it is to be made as it is."""
        attributes = vars(self._batch)
        if not self._fits(actions) or not all(map(holds, self._own, self._rules)):
            return None
        given = not _KEPT.isdisjoint(attributes)
        if given and not self._take_in(attributes):
            return None
        try:
            outputs, copy = self._recorded.run(self._side)
            after = self._recorded.sets[1 - self._side]
            ended, final_obs = self._begin_again(after, outputs, outputs.arrays["done"].nonzero()[0])
        except Exception:  # the step as it is raises it again, and says where
            return None
        results = outputs.copies() if copy else outputs.hand_out()
        if given:
            for name in KEPT:
                attributes.pop(name, None)
        self._ended, self._side = ended, 1 - self._side
        return _result(results, ended, final_obs)

    def _fits(self, actions: Any) -> bool:
        """Copy the actions to their place; False if they are not of the space, or need a gradient."""
        if type(actions) is not Tensor or actions.dtype != self._dtype or not actions.is_cpu or actions.requires_grad:
            return False
        given = actions.numpy()
        if given.shape != self._actions.shape:  # a tensor's takes twice as long to ask for
            return False
        np.copyto(self._actions, given)
        if not self._discrete:
            return True
        if self._start:
            np.subtract(self._actions, self._start, self._shifted)
        return bool(np.maximum.reduce(self._unsigned, None) < self._choices)

    def _begin_again(self, after: Running, outputs: Outputs, rows: Array) -> Any:
        """Put finished rows into their next episodes; what they were, and their last observations."""
        if not rows.size:
            return None, None
        arrays, obs = after.arrays, outputs.arrays["obs"]
        episode = arrays["episode"].take(rows)
        ended = rows, after.fields.take(rows), episode, arrays["episode_length"].take(rows)
        final_obs, following = obs.take(rows, 0), episode + 1
        if self._resets is not None:
            self._resets.begin(rows, after, outputs)
            self._batch._reset_draws = ResetDraws(self._batch.env_keys)  # draws of resets that were not told are over
            return ended, final_obs
        state, first_obs, keys = self._first(rows, following, arrays["episode"])
        after.fields.put(rows, state)
        outputs.obs_rows[rows] = first_obs
        if self._recorded.reads_keys:
            arrays["_episode_keys"][rows] = keys
        arrays["episode"][rows] = following
        arrays["episode_length"][rows] = 0
        arrays["episode_return"][rows] = 0.0
        return ended, final_obs

    def _first(self, rows: Array, episode: Array, running: Array) -> tuple[list[Array], Array, Array]:
        """States, observations and keys of the episodes that begin in these rows."""
        num_envs = self._batch.num_envs
        found = None if self._stock is None else self._stock.take(rows, episode)
        if found is None and self._stock is not None:  # one environment has used up its share
            self._wait = 0 if self._stock.served >= num_envs else num_envs
            self._stock = None
        if found is None and self._stocks and self._wait <= 0:
            self._stock = self._new_stock(running)
            found = None if self._stock is None else self._stock.take(rows, episode)
        if found is None:
            return self._by_rules(rows, running)
        self._batch._reset_draws = ResetDraws(self._batch.env_keys)  # draws of resets that it was not told of are over
        return found

    def _new_stock(self, running: Array) -> FirstStates | None:
        try:
            fields = self._recorded.sets[0].fields
            return FirstStates(self._batch.env, self._batch.env_keys, running, fields, self._recorded.row_kind)
        except RAISED:  # perhaps it is of an episode that does not begin yet
            self._stocks = False
            return None

    def _by_rules(self, rows: Array, running: Array) -> tuple[list[Array], Array, Array]:
        """:meth:`_first` without a stock."""
        batch, fields = self._batch, self._recorded.sets[0].fields
        self._wait -= len(rows)
        with torch.inference_mode(False), torch.no_grad():
            chosen, running_now = torch.from_numpy(rows), torch.from_numpy(running.copy())  # which is kept
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
            return values, as_rows(obs.contiguous().numpy(), self._recorded.row_kind), rng.episode_key.numpy()

    def give(self, name: str) -> Any:
        """A copy of what an attribute of the batch holds; the batch keeps it until the next step."""
        batch, now = self._batch, self._recorded.sets[self._side]
        value: Any
        if name == "_episode_keys" and not self._recorded.reads_keys:
            value = child_key(batch.env_keys, now.tensors["episode"])
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
        now = self._recorded.sets[self._side]
        tensors = {name: now.tensors[f"state.{name}"].clone() for name in self._names}
        if final and self._ended is not None:
            for names, values in zip(now.fields.names, self._ended[1], strict=True):
                for name, value in zip(names, [values] if len(names) == 1 else values, strict=True):
                    tensors[name][self._ended[0]] = torch.from_numpy(value)
        return self._kind(**tensors)

    def _take_in(self, attributes: dict[str, Any]) -> bool:
        """Copy attributes that were given, or set since, into the kept memory; False if they have another form."""
        now = self._recorded.sets[self._side]
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


def _result(results: dict[str, Tensor], ended: Any, final_rows: Any) -> StepResult:
    obs, done = results["obs"], results["done"]
    info = information(obs, done, results["r"], results["l"], results.get("is_success"))
    if ended is None:
        info["ended"] = False
    else:
        info = StepInfo(info, lambda: obs.index_copy(0, torch.from_numpy(ended[0]), torch.from_numpy(final_rows)))
    return obs, results["reward"], results["terminated"], results["truncated"], info
