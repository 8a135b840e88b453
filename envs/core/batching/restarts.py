"""Training episodes that begin in states of earlier ones.

1. Keeping. After each step a few running episodes, drawn anew, put their states into a ring; the oldest make way.
2. Beginning. With probability ``share`` an episode begins in one of the kept states, all equally likely, instead of a
   fresh one. ``origin`` says how many steps such a state was away from its episode's start, and is 0 of a fresh one.
3. The time limit counts the steps before: a state from near the limit has no more time than it had.
4. ``info["_episode"]`` is True for episodes from fresh states alone, so that scores are those of real starts.
5. Random numbers: what is kept depends on (seed, first environment's index, number of the step) alone, where an episode
   begins on (seed, environment's index, episode) and on what is kept. Nothing synchronises.

Source: beginning in states seen before, Ecoffet et al., "First return, then explore", Nature 2021, without its archive
of cells; Salimans and Chen, "Learning Montezuma's Revenge from a single demonstration", 2018.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from palaestra.envs.core.batched_env import StepResult
from palaestra.envs.core.batching.records import select, state_fields
from palaestra.envs.core.env import StateT
from palaestra.envs.core.errors import Place
from palaestra.envs.core.rng import Rng, Stream, env_keys
from palaestra.envs.core.state_dict import check_form, fill
from palaestra.envs.core.vector import TensorVectorEnv

_ENVS_FOR_A_ROW = 512  # one state is kept in each step for so many environments


@dataclass(frozen=True)
class KeptStates:
    """A ring of M states; its tensors are written in place."""

    share: float
    key: Tensor  # int64 [1]
    order: Tensor  # int64 [K] 0 … K − 1, K being the states that are kept in each step
    steps: Tensor  # int64 [] after which states were kept
    lengths: Tensor  # int64 [M] steps since the start of the episode
    states: dict[str, Tensor]  # [M, …] fields by name

    def keep(self, state: Any, lengths: Tensor) -> None:
        """Take the states of a few running episodes; ``lengths`` int64 [N] are the steps since their starts."""
        count, capacity = len(self.order), len(self.lengths)
        rows = Rng(self.key, self.steps).integers(0, len(lengths), (count,)).view(count)
        places = (self.steps * count + self.order) % capacity
        for kept, field in zip(self.states.values(), state_fields(state).values(), strict=True):
            kept.index_copy_(0, places, field.index_select(0, rows))
        self.lengths.index_copy_(0, places, lengths.index_select(0, rows))
        self.steps.add_(1)

    def begin(self, fresh: Any, rng: Rng) -> tuple[Any, Tensor]:
        """The states in which episodes begin and how many steps they are away from a start, int64 [n].

        Args:
            fresh: the rules' own, [n, …].
            rng: of the resets.
        """
        apart, held = rng.spawn(), (self.steps * len(self.order)).clamp(max=len(self.lengths))
        again = (apart.uniform() < self.share).logical_and_(held > 0)
        places = apart.integers(0, held.clamp(min=1))
        kept = type(fresh)(**{name: field.index_select(0, places) for name, field in self.states.items()})
        return select(again, kept, fresh), self.lengths.index_select(0, places).masked_fill(~again, 0)

    def tensors(self) -> dict[str, Tensor]:
        """All that its future depends on."""
        return {"steps": self.steps, "lengths": self.lengths, **{f"state.{n}": f for n, f in self.states.items()}}


class RestartingVectorEnv(TensorVectorEnv[StateT]):
    """A batch whose episodes may begin in states of earlier ones; see the module."""

    kept: KeptStates | None = None
    origin: Tensor | None = None  # int64 [N]; None until states are kept
    _begun: Tensor | None = None

    @classmethod
    def of(cls, batch: TensorVectorEnv[StateT]) -> Self:
        """The same batch as one of these, not begun; itself where it is one."""
        if isinstance(batch, cls):
            return batch
        made = cls(
            batch.env,
            batch.num_envs,
            device=batch.device,
            max_episode_steps=batch.max_episode_steps,
            render_mode=batch.render_mode,
        )
        made.env_indices = batch.env_indices
        made._seed_with(batch.seed)
        return made

    def keep_states(self, share: float, capacity: int) -> None:
        """Begin a share of the episodes, 0 … 1, in one of the latest ``capacity`` states that were kept.

        Raises:
            ValueError: if one of them is out of range.
        """
        if not 0.0 <= share <= 1.0:
            raise ValueError(f"the share of episodes that begin in earlier states must be 0 … 1, got {share}")
        if capacity < 1:
            raise ValueError(f"at least 1 state must be kept, got {capacity}")
        form = state_fields(self.env.reset(Rng(self.env_keys[:1], 0)))
        count = min(capacity, -(-self.num_envs // _ENVS_FOR_A_ROW))
        self.kept = KeptStates(
            share=share,
            key=self._kept_key(),
            order=torch.arange(count, device=self.device),
            steps=torch.zeros((), dtype=torch.int64, device=self.device),
            lengths=torch.zeros(capacity, dtype=torch.int64, device=self.device),
            states={name: field.new_zeros((capacity, *field.shape[1:])) for name, field in form.items()},
        )
        self.origin = torch.zeros_like(self.episode)
        self.records_steps(False)  # beginnings depend on more than the running episodes

    def _kept_key(self) -> Tensor:
        return env_keys(self.seed, self.env_indices[:1], Stream.KEPT_STATES)

    def _seed_with(self, seed: int) -> None:
        super()._seed_with(seed)
        if self.kept is not None:  # states of another seed's episodes
            self.keep_states(self.kept.share, len(self.kept.lengths))

    def _call(self, method: str, place: Place, *arguments: Any) -> Any:
        """The rules' answer but for resets, some of which begin elsewhere."""
        result = super()._call(method, place, *arguments)
        if method != "reset" or self.kept is None:
            return result
        state, self._begun = self.kept.begin(result, arguments[-1])
        return state

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Tensor, dict[str, Any]]:
        outcome = super().reset(seed=seed, options=options)
        self.origin = self._take_begun()
        return outcome

    def advance(self, actions: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        obs, reward, terminated, truncated = super().advance(actions)
        if self.origin is not None and self.max_episode_steps is not None:
            truncated = (self.episode_length + self.origin >= self.max_episode_steps).gt(terminated)
        return obs, reward, terminated, truncated

    def _take_begun(self) -> Tensor | None:
        """How far from a start the latest resets began, [n]; None since it was taken."""
        begun, self._begun = self._begun, None
        return begun

    def _step(self, actions: Tensor) -> StepResult:
        self._take_begun()
        outcome = super()._step(actions)
        if self.kept is None or self.origin is None:
            return outcome
        info, begun = outcome[-1], self._take_begun()
        done = info["_final_obs"]
        info["_episode"] = done & (self.origin == 0)
        if begun is not None and len(begun) == len(done):
            self.origin = torch.where(done, begun, self.origin)
        elif begun is not None:  # of finished rows only
            self.origin = self.origin.index_copy(0, done.nonzero().squeeze(1), begun)
        self.kept.keep(self.state, self.origin + self.episode_length)
        return outcome

    def state_dict(self) -> dict[str, Any]:
        saved = super().state_dict()
        if self.kept is None or self.origin is None:
            return saved
        kept = {name: tensor.clone() for name, tensor in self.kept.tensors().items()}
        return {**saved, "kept": kept, "origin": self.origin}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Go on with those episodes; states that the file does not keep are kept anew."""
        if self.kept is not None and "kept" in saved:
            self._check_kept(self.kept, saved)
        super().load_state_dict(saved)
        if self.kept is not None:  # made anew
            self.origin = saved["origin"].to(self.device) if "origin" in saved else torch.zeros_like(self.episode)
            fill("kept states", self.kept.tensors(), saved.get("kept", self.kept.tensors()))

    def _check_kept(self, own: KeptStates, saved: dict[str, Any]) -> None:
        """Raise a ValueError unless a file's kept states are of this environment, and have their form."""
        kept = saved["kept"]
        check_form("kept states", own.tensors(), kept)
        check_form("batch", {"origin": self.episode}, {"origin": saved["origin"]})
        numbers = (kept["steps"], kept["lengths"], saved["origin"])
        if any(bool((number < 0).any()) for number in numbers):
            raise ValueError("the kept states have lengths that no episode has")
        record: Any = type(self.env.reset(Rng(self.env_keys[:1], 0)))
        held = min(len(own.lengths), int(kept["steps"]) * len(own.order))
        fields = {name: kept[f"state.{name}"][:held].to(self.device) for name in own.states}
        try:
            self.env.observe(record(**fields))
        except Exception as error:  # rules that look something up raise anything on what they never made
            raise ValueError(f"this environment is never in a kept state ({type(error).__name__}: {error})") from error
