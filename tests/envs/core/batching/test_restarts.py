"""Episodes that begin in states of earlier ones: which states, how many, what counts, and every bit after a resume."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from gymnasium.spaces import Box, Discrete
from torch import Tensor

from palaestra.envs import TensorEnv, TensorVectorEnv, make
from palaestra.envs.checker.value_rules import random_actions
from palaestra.envs.core import state_fields
from palaestra.envs.core.batching.restarts import RestartingVectorEnv
from palaestra.envs.core.rng import Rng

LIMIT = 12


@dataclass(frozen=True)
class Walked:
    taken: Tensor  # int64 [N] steps since the start of the episode, whichever that is
    mark: Tensor  # int64 [N] drawn at the start, for as long as the walk goes on


class Walking(TensorEnv[Walked]):
    """Action 1 ends the episode; the state itself says how many steps its episode has taken."""

    max_episode_steps = LIMIT

    def __init__(self) -> None:
        self.observation_space, self.action_space = Box(0.0, 1e9, (2,)), Discrete(2)

    def reset(self, rng: Rng) -> Walked:
        return Walked(torch.zeros(rng.num_envs, dtype=torch.int64, device=self.device), rng.integers(0, 2**20))

    def step(self, state: Walked, action: Tensor, rng: Rng) -> tuple[Walked, Tensor, Tensor]:
        return Walked(state.taken + 1, state.mark), torch.ones_like(action, dtype=torch.float32), action == 1

    def observe(self, state: Walked) -> Tensor:
        return torch.stack((state.taken, state.mark), 1).float()


def walking(num_envs: int = 16, share: float = 0.5, capacity: int = 24, **kwargs: Any) -> RestartingVectorEnv[Any]:
    batch = RestartingVectorEnv.of(TensorVectorEnv(Walking(), num_envs, device="cpu", **kwargs))
    batch.keep_states(share, capacity)
    batch.reset()
    return batch


def actions(batch: TensorVectorEnv[Any], step: int, ends: float = 0.2) -> Tensor:
    return Rng(batch.env_indices, step + 1000).bernoulli(ends).long()


def test_a_state_knows_how_long_its_episode_has_run() -> None:
    """The state says the same as the counters, on every row, of kept states too; no episode outlives the limit."""
    batch, began = walking(), 0
    for step in range(300):
        _, _, terminated, truncated, info = batch.step(actions(batch, step))
        done = terminated | truncated
        final, state = batch.final_state, batch.state
        assert torch.equal(truncated, (final.taken >= LIMIT) & ~terminated)  # type: ignore[union-attr]
        assert batch.origin is not None
        assert batch.kept is not None
        assert torch.equal(state.taken, batch.origin + batch.episode_length)  # type: ignore[union-attr]
        assert not bool((batch.kept.states["taken"] != batch.kept.lengths).any())
        assert bool((info["_final_obs"] == done).all())
        began += int((done & (batch.origin > 0)).sum())
    assert began > 100


def test_episodes_begin_in_kept_states_and_fresh_ones_in_the_given_shares() -> None:
    batch, ended, again = walking(64, share=0.3), 0, 0
    for step in range(400):
        kept = (
            set()
            if batch.kept is None
            else {(int(t), int(m)) for t, m in zip(*batch.kept.states.values(), strict=False)}
        )
        _, _, terminated, truncated, _ = batch.step(actions(batch, step))
        rows = (terminated | truncated).nonzero().squeeze(1)
        assert batch.origin is not None
        for row in rows[batch.origin[rows] > 0].tolist():
            assert (int(batch.state.taken[row]), int(batch.state.mark[row])) in kept  # type: ignore[union-attr]
            again += 1
        ended += len(rows)
    # of the kept states a fifth are fresh starts of episodes that had just begun, which count as what they are
    fresh = float((batch.kept.lengths == 0).float().mean())  # type: ignore[union-attr]
    assert again / ended == pytest.approx(0.3 * (1.0 - fresh), abs=0.04)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_none_and_all(share: float) -> None:
    batch, starts = walking(share=share), []
    plain = TensorVectorEnv(Walking(), 16, device="cpu")
    plain.reset()
    for step in range(100):
        chosen = actions(batch, step)
        _, _, terminated, truncated, _ = batch.step(chosen)
        assert batch.kept is not None
        assert batch.origin is not None
        starts.append(batch.origin[terminated | truncated])
        if share == 0.0:
            plain.step(chosen)
            assert torch.equal(plain.state.mark, batch.state.mark)  # type: ignore[union-attr]
    held = torch.cat(starts)
    assert bool((held == 0).all()) if share == 0.0 else float((held[20:] > 0).float().mean()) > 0.5


def test_only_episodes_from_real_starts_count() -> None:
    """Every step is worth 1, so the return of an episode that counts is the step its state says."""
    batch, counted, all_ended = walking(), 0, 0
    for step in range(200):
        _, _, _, _, info = batch.step(actions(batch, step))
        rows = info["_episode"]
        final = batch.final_state.taken[rows]  # type: ignore[union-attr]
        assert torch.equal(info["episode"]["r"][rows], final.float())
        assert torch.equal(info["episode"]["l"][rows], final)
        counted, all_ended = counted + int(rows.sum()), all_ended + int(info["_final_obs"].sum())
    assert 0.5 < counted / all_ended < 0.75


@pytest.mark.parametrize("name", ["snake-small", "cartpole", "pricing-easy"])
def test_resetting_by_selection_and_another_size_of_batch_give_the_same_bits(name: str) -> None:
    made: list[Any] = []
    for _ in range(2):
        batch = RestartingVectorEnv.of(make(name, 40, "cpu", seed=5, max_episode_steps=9))  # type: ignore[arg-type]
        batch.keep_states(0.6, 30)
        made.append(batch)
    made[1].reset_finished = made[1]._reset_by_selection
    for batch in made:
        batch.reset()
    for step in range(60):
        chosen = random_actions(made[0], step)
        first, second = (batch.step(chosen) for batch in made)
        for ours, theirs in zip(first[:4], second[:4], strict=True):
            assert torch.equal(ours, theirs)
        assert torch.equal(first[4]["_episode"], second[4]["_episode"])
    assert torch.equal(made[0].origin, made[1].origin)
    assert int((made[0].origin > 0).sum()) > 0


def test_a_batch_that_goes_on_from_its_state_goes_on_alike() -> None:
    whole, again = walking(seed=4), walking(seed=9)
    for step in range(50):
        whole.step(actions(whole, step))
    again.load_state_dict(whole.state_dict())
    for step in range(50, 120):
        ours, theirs = whole.step(actions(whole, step)), again.step(actions(again, step))
        assert all(torch.equal(a, b) for a, b in zip(ours[:4], theirs[:4], strict=True))
    saved, expected = again.state_dict(), whole.state_dict()
    assert all(torch.equal(value, expected["kept"][name]) for name, value in saved["kept"].items())


def test_a_file_from_before_kept_states_is_taken() -> None:
    plain, batch = TensorVectorEnv(Walking(), 16, device="cpu"), walking()
    plain.reset()
    batch.load_state_dict(plain.state_dict())
    assert batch.kept is not None
    assert int(batch.kept.steps) == 0
    batch.step(actions(batch, 0))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda s: s["kept"].pop("lengths"), "kept states.lengths is missing in the file"),
        (lambda s: s["kept"].update(lengths=s["kept"]["lengths"] - 100), "lengths that no episode has"),
        (lambda s: s.update(origin=s["origin"][1:]), "batch.origin is"),
        (lambda s: s["kept"].update(steps=s["kept"]["steps"] - 1000), "lengths that no episode has"),
    ],
)
def test_a_damaged_file_changes_nothing(damage: Any, message: str) -> None:
    batch = walking()
    for step in range(30):
        batch.step(actions(batch, step))
    saved, before = batch.state_dict(), state_fields(batch.state)
    damage(saved)
    with pytest.raises(ValueError, match=message):
        batch.load_state_dict(saved)
    assert all(torch.equal(value, before[name]) for name, value in state_fields(batch.state).items())


def test_states_that_no_board_has_are_refused() -> None:
    batch = RestartingVectorEnv.of(make("snake-small", 4, "cpu"))  # type: ignore[arg-type]
    batch.keep_states(0.5, 8)
    batch.reset()
    for step in range(5):
        batch.step(random_actions(batch, step))
    saved = batch.state_dict()
    saved["kept"]["state.heading"] = saved["kept"]["state.heading"] + 77
    with pytest.raises(ValueError, match="never in a kept state"):
        batch.load_state_dict(saved)


def test_values_out_of_range() -> None:
    batch = walking()
    with pytest.raises(ValueError, match=r"must be 0 … 1, got 1\.5"):
        batch.keep_states(1.5, 10)
    with pytest.raises(ValueError, match="at least 1 state must be kept"):
        batch.keep_states(0.5, 0)


def test_it_is_itself_where_it_is_one_and_plays_as_the_batch_that_it_is_made_of() -> None:
    plain = make("cartpole", 6, "cpu", seed=8)
    batch = RestartingVectorEnv.of(plain)  # type: ignore[arg-type]
    assert RestartingVectorEnv.of(batch) is batch
    assert torch.equal(batch.reset()[0], plain.reset()[0])
