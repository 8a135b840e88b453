"""Training in stages: what stays and what begins anew, and the same bits after a resume and from recordings."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from fx_graph import FxGraph, as_on_a_gpu
from stable_baselines3.common.callbacks import BaseCallback
from training_cases import SaveAt, all_tensors

from palaestra.agents import DQN, PPO, PQN, CheckpointError
from palaestra.agents.training.stages import StagedVecEnv, begin_stage
from palaestra.envs import make

ENVS, STEPS = 16, 1600
ROLLOUT = {"n_steps": 8, "batch_size": 64, "n_epochs": 2, "normalize_reward": True}
REPLAY = {"learning_starts": 200, "batch_size": 64, "buffer_size": 600, "samples_per_insert": 2.0, "train_freq": 2}
CASES: dict[str, tuple[Any, dict[str, Any]]] = {
    "ppo": (PPO, ROLLOUT),
    "ppo restarts": (PPO, {**ROLLOUT, "restart_states": 0.5}),
    "pqn": (PQN, ROLLOUT),
    "dqn": (DQN, {**REPLAY, "n_steps": 3}),
}
BOARDS = (4, 6, 8)


def boards(prepare: Callable[[Any], None] = lambda batch: None) -> StagedVecEnv:
    """Snake on larger and larger boards in a frame of the largest."""

    def made(stage: int) -> Any:
        batch = make("snake", ENVS, "cpu", 3, size=BOARDS[stage], frame=BOARDS[-1])
        prepare(batch)
        return batch

    return StagedVecEnv(made, len(BOARDS))


class Stages(BaseCallback):
    """Begins a stage at the first iteration at or after each of these steps."""

    def __init__(self, *steps: int) -> None:
        super().__init__()
        self.steps, self.seen = steps, list[int]()

    def _on_step(self) -> bool:
        return True

    def _on_rollout_start(self) -> None:
        env: Any = self.model.env
        if env.stage < len(self.steps) and self.num_timesteps >= self.steps[env.stage]:
            begin_stage(self.model, env.stage + 1)
        self.seen.append(env.stage)


def agent(case: str, env: StagedVecEnv | None = None) -> Any:
    kind, kwargs = CASES[case]
    return kind("MlpPolicy", env or boards(), seed=1, policy_kwargs={"net_arch": [16]}, **kwargs)


def differing(ours: Any, theirs: Any) -> list[str]:
    first, second = all_tensors(ours), all_tensors(theirs)
    assert first.keys() == second.keys()
    return [name for name, value in first.items() if not torch.equal(value, second[name])]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("stop", [400, 800, 1200])
def test_a_resumed_run_ends_in_the_same_stage_with_the_same_bits(case: str, stop: int, tmp_path: Path) -> None:
    """Stopped before the second stage, as it begins, and in it."""
    whole = undisturbed(case)
    stopped = agent(case)
    stopped.learn(STEPS, [SaveAt(stop, tmp_path / "c.zip", stop=True), Stages(STEPS // 2)])
    torch.manual_seed(12345)  # the generator is part of the file
    again = CASES[case][0].resume(tmp_path / "c.zip", boards())
    assert again.env.stage == (stop > STEPS // 2)
    again.learn(STEPS - again.num_timesteps, Stages(STEPS // 2), reset_num_timesteps=False)
    assert again.env.stage == whole.env.stage == 1
    assert differing(again, whole) == []


@cache
def undisturbed(case: str) -> Any:
    """The agent of a run that was left alone."""
    whole, stages = agent(case), Stages(STEPS // 2)
    whole.learn(STEPS, stages)
    assert {*stages.seen} == {0, 1}
    return whole


@pytest.mark.parametrize("case", CASES)
def test_what_was_learned_stays_and_scores_begin_anew(case: str) -> None:
    model = agent(case)
    model.learn(1600)
    weights, updates = model.get_parameters(), model._n_updates
    assert model.ep_info_buffer
    begin_stage(model, 2)
    assert [batch.env.size for batch in (model.batch, model.env.batch)] == [8, 8]
    assert not model.ep_info_buffer
    assert not bool(model._statistics.has_ended.any())
    assert all(torch.equal(value, weights["policy"][name]) for name, value in model.get_parameters()["policy"].items())
    assert model._last_obs.shape == (ENVS, 4 * 64 + 1)
    assert bool(model._last_episode_starts.all())
    if case == "dqn":
        assert int(model.replay.steps) == 0  # boards of 16 cells are of no use for those of 64
    model.learn(800, reset_num_timesteps=False)
    assert model._n_updates > updates


@pytest.mark.parametrize("case", ["ppo", "ppo restarts", "dqn"])
def test_recordings_of_one_stage_are_not_played_in_another(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[Any] = []
    graphs: list[FxGraph] = []

    def graph() -> FxGraph:
        graphs.append(FxGraph())
        return graphs[-1]

    for recorded in (False, True):
        model = agent(case, boards(lambda batch: as_on_a_gpu(batch, monkeypatch)))
        as_on_a_gpu(model.batch, monkeypatch)  # which states to begin in may have made another
        model.record_with(graph if recorded else None)
        model._looks = False
        torch.manual_seed(0)
        trained.append(model.learn(ENVS * 48, StagesAsOnAGpu(monkeypatch, ENVS * 24)))
    assert differing(*trained) == []
    assert len(graphs) >= 4
    assert max(graph.replays for graph in graphs) > 5


class StagesAsOnAGpu(Stages):
    def __init__(self, patch: pytest.MonkeyPatch, *steps: int) -> None:
        super().__init__(*steps)
        self.patch = patch

    def _on_rollout_start(self) -> None:
        super()._on_rollout_start()
        as_on_a_gpu(self.model.batch, self.patch)  # type: ignore[attr-defined]


def test_stages_that_are_not_there() -> None:
    env = boards()
    for stage in (-1, 3, True, 1.0):
        with pytest.raises(ValueError, match="there is no stage"):
            env.go_to(stage)  # type: ignore[arg-type]
    other = StagedVecEnv(lambda stage: make("snake", 2, "cpu", size=BOARDS[stage]), 2)
    with pytest.raises(ValueError, match="the environments of stage 1 have other spaces"):
        other.go_to(1)
    assert env.stage == other.stage == 0


def test_a_file_of_a_later_stage_needs_that_stage(tmp_path: Path) -> None:
    model = agent("ppo")
    model.learn(1600, Stages(400))
    model.save_checkpoint(tmp_path / "c.zip")
    with pytest.raises(CheckpointError, match="is of stage 1 of a curriculum, and the environments have none"):
        PPO.resume(tmp_path / "c.zip", make("snake", ENVS, "cpu", 3, size=8))
    assert PPO.resume(tmp_path / "c.zip", boards()).batch.env.size == 6  # type: ignore[attr-defined]
