"""The batch that runs the rules of :mod:`palaestra.envs.core.env`: N copies on one device.

1. The end of an episode. ``terminated`` is the rules' own end; ``truncated`` is the time limit and is False where the
   episode terminated. The two are never merged.
2. Auto-reset in the same step (Gymnasium's SAME_STEP): the observation returned for a finished row is the first of its
   next episode, and ``info["final_obs"]`` holds the last one of the old, dense for all rows.
3. Resetting rows. On the CPU only the finished rows are reset; elsewhere all rows are and the finished ones selected,
   because finding the rows would synchronise. Both give the same bits, since draws are keyed per row.
4. Statistics. ``info["episode"]`` holds return and length of each running episode, read where ``info["_episode"]``.
5. Errors in the rules become an :class:`EnvError` that says where; the batch is then where it was before that step.
6. On a CPU steps are recorded and replayed (:mod:`palaestra.envs.core.replay.replayed_steps`): the same bits for less.
"""

from __future__ import annotations

from typing import Any, Generic

import numpy as np
import torch
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from torch import Tensor

from palaestra.envs.core import errors
from palaestra.envs.core.batched_env import BatchedEnv, StepResult
from palaestra.envs.core.batching import saved_batch
from palaestra.envs.core.batching.constants import ONE
from palaestra.envs.core.batching.records import host_row, map_state, select, some_rows, state_fields
from palaestra.envs.core.draws import pipeline
from palaestra.envs.core.draws.pipeline import Pipeline
from palaestra.envs.core.draws.splitmix import child_key
from palaestra.envs.core.draws.stock import ResetDraws
from palaestra.envs.core.env import StateT, TensorEnv, resolve_device, torch_dtype
from palaestra.envs.core.errors import EnvError, Place, is_machine_failure, located
from palaestra.envs.core.host import keep_freed_memory
from palaestra.envs.core.replay.replayed_steps import ReplayedSteps
from palaestra.envs.core.replay.running_replay import KEPT
from palaestra.envs.core.replay.step_info import information
from palaestra.envs.core.rng import Request, Rng, env_keys
from palaestra.envs.core.user_code import RAISED


class TensorVectorEnv(BatchedEnv, Generic[StateT]):
    """N copies of a :class:`TensorEnv` on one device."""

    _steps: ReplayedSteps

    def __init__(
        self,
        env: TensorEnv[StateT],
        num_envs: int = 1,
        *,
        device: torch.device | str = "auto",
        seed: int = 0,
        first_env_index: int = 0,
        max_episode_steps: int | None = None,
        render_mode: str | None = None,
    ) -> None:
        """Make the batch; call :meth:`reset` before the first step.

        Args:
            env: the rules; it is moved to ``device``.
            num_envs: N, at least 1.
            device: ``"auto"``, ``"cpu"``, ``"cuda"`` … of every tensor in and out.
            seed: at least 0. Row i of the batch plays the episodes of (seed, first_env_index + i).
            first_env_index: global index of row 0, when a larger batch is split over processes.
            max_episode_steps: overrides the environment's own time limit.
            render_mode: None or ``"rgb_array"`` (:meth:`render` gives one picture per environment).

        Raises:
            ValueError: on a number of environments, a seed or a limit that is out of range.
        """
        if num_envs < 1:
            raise ValueError(f"num_envs must be at least 1, got {num_envs}")
        if max_episode_steps is not None and max_episode_steps < 1:
            raise ValueError(f"max_episode_steps must be at least 1, got {max_episode_steps}")
        if render_mode not in (None, "rgb_array"):
            raise ValueError(f'render_mode must be None or "rgb_array", got {render_mode!r}')
        keep_freed_memory()
        self.device = resolve_device(device)
        self.env, self.alternates = env.to(self.device), env.alternates
        self.num_envs = num_envs
        self.max_episode_steps = env.max_episode_steps if max_episode_steps is None else max_episode_steps
        self.can_truncate = self.max_episode_steps is not None
        self.render_mode = render_mode
        self.metadata = {"autoreset_mode": AutoresetMode.SAME_STEP, "render_fps": env.frames_per_second}
        self.metadata["render_modes"] = ["rgb_array"] if env.has("draw") else []
        self.single_observation_space, self.single_action_space = env.observation_space, env.action_space
        self.observation_space = batch_space(env.observation_space, num_envs)
        self.action_space = batch_space(env.action_space, num_envs)
        self._obs_dtype, self.action_dtype = torch_dtype(env.observation_space), torch_dtype(env.action_space)
        self._optional = {name for name in ("success", "action_mask") if env.has(name)}
        self.env_indices = torch.arange(first_env_index, first_env_index + num_envs, device=self.device)
        self.state: StateT | None = None
        self.final_state: StateT | None = None  # after the latest step, before finished rows were reset
        self._earlier_state: StateT | None = None  # before it
        self._reset_plan, self._step_plan = list[Request](), list[Request]()  # draws of the latest reset, and step
        self._steps, self._replays = ReplayedSteps(self), self.device.type == "cpu"
        self._seed_with(seed)
        self._final_place: Place = (None, self.episode, 0)  # where ``final_state`` is

    def _seed_with(self, seed: int) -> None:
        self.seed = seed
        self.env_keys = env_keys(seed, self.env_indices)
        self._forget()
        self.episode = torch.full((self.num_envs,), -1, device=self.device)  # [N] index of the running episode

    def _forget(self) -> None:
        """Drop what was drawn ahead: other episodes begin."""
        self._reset_draws = ResetDraws(self.env_keys)
        self._pipeline: Pipeline | None = None  # before a step
        self._used_pipeline: Pipeline | None = None  # between a step and its resets
        self._steps.forget()

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Tensor, dict[str, Any]]:
        """Start a new episode everywhere.

        Args:
            seed: start again from episode 0 of this seed; None goes on to each environment's next episode.
            options: ``{"episode": e}`` starts at episode e (0, 1, …) of every environment, to replay it.

        Returns the observations [N, …] and an empty info.
        """
        if seed is not None:
            self._seed_with(seed)
        chosen = (options or {}).get("episode")
        episode = self.episode + 1 if chosen is None else torch.full_like(self.episode, int(chosen))
        keys, place = child_key(self.env_keys, episode), (None, episode, 0)
        rng = Rng(keys, 0)
        state = self._call("reset", place, rng)
        errors.check_state(self.env, state_fields(state), self.num_envs)
        state = map_state(torch.Tensor.contiguous, state)  # rules may have expanded a constant
        self._reset_plan = rng.requests
        self._forget()
        obs = self._observe(state, place)
        self.state, self.episode, self._episode_keys = state, episode, keys
        self.episode_length = torch.zeros_like(episode)  # [N] steps
        self.episode_return = torch.zeros(self.num_envs, device=self.device)  # [N]
        return obs, {}

    def step(self, actions: Tensor) -> StepResult:
        """One step of every environment; finished ones are already in their next episode when it returns.

        Args:
            actions: tensor on the env's device, [N, *single_action_space.shape], int64 or float32.

        Returns:
            observations [N, …], rewards float32 [N], terminated bool [N], truncated bool [N], and info with
            ``final_obs`` [N, …] (``_final_obs`` [N] says where the episode ended), ``episode`` = {"r", "l"} [N]
            (valid where ``_episode``) and, if the environment defines success, ``is_success`` [N]. Where no
            episode ended ``final_obs`` may be the observation tensor itself: treat both as read-only.

        Raises:
            EnvError: if the environment raises anything, or returns a wrong shape, dtype or device.
            ValueError: if the actions do not fit the action space (values are checked on the CPU only).
        """
        if self._replays and (replayed := self._steps.step(actions)) is not None:
            return replayed
        before = dict(vars(self))
        try:
            return self._step(actions)
        except BaseException:
            vars(self).update(before)  # nothing is changed in place
            raise

    def _step(self, actions: Tensor) -> StepResult:
        final_obs, reward, terminated, truncated = self.advance(actions)
        done = terminated | truncated if self.can_truncate else terminated
        info = information(final_obs, done, self.episode_return, self.episode_length, self.successes())
        obs = self.reset_finished(done, final_obs)
        return obs, reward, terminated, truncated, info

    def advance(self, actions: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """A step without the auto-reset: (observation, reward, terminated, truncated), all [N, …]."""
        if self.state is None:
            raise RuntimeError("call reset() before step()")
        if not self.accepts(actions):
            errors.refuse_actions(actions, self.env.action_space, self.num_envs, self.device)
        return self.recorded_advance(actions.to(self.action_dtype))

    def recorded_advance(self, actions: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """:meth:`advance` by actions that are known to be of the space, of its dtype: a function of tensors alone."""
        length = self.episode_length + ONE
        place, ready = (None, self.episode, length), self._pipeline
        rng = Rng(self._episode_keys, length) if ready is None else ready.step_rng(length)
        state, reward, terminated = self._call("step", place, self.state, actions, rng)
        self._check("reward", reward, (self.num_envs,), torch.float32)
        self._check("terminated", terminated, (self.num_envs,), torch.bool)
        obs = self._observe(state, place)
        self._earlier_state, self.state, self.final_state = self.state, state, state
        self._final_place, self._step_plan = place, rng.requests
        self._pipeline, self._used_pipeline = None, ready
        so_far = self.episode_return  # of two players in turns it is what the one who moved last has earned in all
        self.episode_length = length
        self.episode_return = reward - so_far if self.env.alternates else so_far + reward
        limit = self.max_episode_steps
        truncated = torch.zeros_like(terminated) if limit is None else (length >= limit).gt(terminated)
        return obs, reward, terminated, truncated

    def records_steps(self, on: bool) -> None:
        """Say whether steps on a CPU may be recorded and replayed, as they are unless this is called."""
        self._steps.give_all()
        self._replays = on and self.device.type == "cpu"

    def __getattr__(self, name: str) -> Any:
        """What lies in the memory of replayed steps."""
        if name in KEPT and "_steps" in vars(self):
            return self._steps.give(name)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __getstate__(self) -> dict[str, Any]:
        self._steps.give_all()
        return {name: value for name, value in vars(self).items() if name != "_steps"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _steps=ReplayedSteps(self))

    def reset_finished(self, done: Tensor, final_obs: Tensor) -> Tensor:
        """The other half of a step: put finished rows into their next episode; the observations [N, …] after that."""
        if self.device.type != "cpu":
            return self._reset_by_selection(done, final_obs)
        rows = done.nonzero().squeeze(1)
        if rows.numel() == 0:
            return final_obs
        episode, rng = self._reset_draws.rng(rows, self.episode, self._reset_plan)
        place = (rows, episode, 0)
        fresh = self._call("reset", place, rng)
        obs = self._observe(fresh, place)
        self._reset_plan = rng.requests
        self.episode = self.episode.index_copy(0, rows, episode)
        self._episode_keys = self._episode_keys.index_copy(0, rows, rng.episode_key)
        self.episode_length = self.episode_length.index_fill(0, rows, 0)
        self.episode_return = self.episode_return.index_fill(0, rows, 0.0)
        self.state = map_state(lambda old, new: old.index_copy(0, rows, new), self.state, fresh)
        return final_obs.index_copy(0, rows, obs)

    def _reset_by_selection(self, done: Tensor, final_obs: Tensor) -> Tensor:
        """:meth:`reset_finished` with fixed shapes and no synchronisation."""
        used, length, episode = self._used_pipeline, self.episode_length, self.episode + done
        rng = Rng(child_key(self.env_keys, episode), 0) if used is None else used.reset_rng()
        try:
            fresh = self._call("reset", (None, episode, 0), rng)
        except EnvError:
            if used is None:
                raise
            self._used_pipeline = None  # perhaps it is of an episode that does not begin yet
            return self._reset_by_selection(done, final_obs)
        state, new_length = select(done, fresh, self.state, self._earlier_state), length.masked_fill(done, 0)
        obs = self._observe(state, (None, episode, new_length))
        self.state, self.episode, self.episode_length = state, episode, new_length
        self.episode_return = self.episode_return.masked_fill(done, 0.0)
        if used is not None and used.makes(rng.requests, self._step_plan):
            self._pipeline = used.after(done, length)
        elif pipeline.fits(rng.requests, self._step_plan):
            self._pipeline = pipeline.start(rng.requests, self._step_plan, self.env_keys, episode, new_length)
        else:
            self._episode_keys = torch.where(done, child_key(self.env_keys, episode), self._episode_keys)
            return obs
        self._episode_keys = self._pipeline.episode_keys
        return obs

    def successes(self) -> Tensor | None:
        """Successes of episodes that ended with the latest :meth:`advance`, bool [N]; None if undefined."""
        return self._call_optional("success", self._final_place, self.final_state)

    def action_masks(self) -> Tensor | None:
        if "action_mask" not in self._optional:  # asked for before the first reset too
            return None
        return self._call_optional("action_mask", (None, self.episode, self.episode_length), self.state)

    def final_action_masks(self) -> Tensor | None:
        return self._call_optional("action_mask", self._final_place, self.final_state)

    def shift_indices(self, first_env_index: int) -> None:
        """Make row 0 the environment of that global index; call :meth:`reset` next."""
        self.env_indices = self.env_indices - self.env_indices[0] + first_env_index
        self._seed_with(self.seed)

    def state_dict(self) -> dict[str, Any]:
        """The running episodes: states, which episodes they are, and their statistics so far."""
        if self.state is None:
            raise RuntimeError("call reset() first")
        return saved_batch.saved(self)

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Go on with those episodes.

        Raises:
            ValueError: if they are of another environment or another number of them; nothing is changed then.
        """
        state, counters = saved_batch.checked(self, saved)
        self._seed_with(int(saved["seed"]))
        self.shift_indices(int(saved["first_env_index"]))
        vars(self).update(counters)
        self._episode_keys = child_key(self.env_keys, self.episode)
        self.state = state
        self._forget()

    def state_of(self, row: int) -> StateT:
        """The state of one environment, see :func:`host_row`."""
        if self.state is None:
            raise RuntimeError("call reset() first")
        return host_row(self.state, row)

    def render(self) -> tuple[np.ndarray[Any, np.dtype[np.uint8]], ...] | None:
        """One picture per environment, uint8 [height, width, 3]; None without a render mode."""
        if self.render_mode is None:
            return None
        from palaestra.envs.rendering.picture import picture

        return tuple(picture(self.env, self.state_of(row)) for row in range(self.num_envs))

    def _observe(self, state: StateT, place: Place) -> Tensor:
        obs: Tensor = self._call("observe", place, state)
        shape = (len(place[1]), *self.env.observation_space.shape)  # type: ignore[misc]
        self._check("observation", obs, shape, self._obs_dtype)
        return obs

    def accepts(self, actions: Any) -> bool:
        """True for actions of the space, see :func:`errors.are_actions`."""
        return errors.are_actions(actions, self.env.action_space, self.num_envs, self.device)

    def _check(self, name: str, value: Any, shape: tuple[int, ...], dtype: torch.dtype) -> None:
        """Raise an EnvError unless ``value``, which the rules returned, has that form."""
        errors.check_returned(self.env, name, value, shape, dtype)

    def _call_optional(self, method: str, place: Place, state: StateT | None) -> Tensor | None:
        result: Tensor | None = self._call(method, place, state) if method in self._optional else None
        return result

    def _call(self, method: str, place: Place, *arguments: Any) -> Any:
        """A method of the rules on rows that are at ``place``.

        Raises:
            EnvError: saying what it raises, and in which environment.
        """
        try:
            return getattr(self.env, method)(*arguments)
        except RAISED as error:
            # rows of the meta device hold no numbers
            if isinstance(error, EnvError) or self.device.type == "meta" or is_machine_failure(error):
                raise

            def again(rows: slice) -> object:
                return getattr(self.env, method)(*(some_rows(argument, rows) for argument in arguments))

            raise located(f"{type(self.env).__name__}: {method}", error, again, self.env_indices, place) from error
