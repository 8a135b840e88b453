"""Two runs that learn against each other: killed and resumed to the bit, their folders, logs and refusals."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kills import curves, same_weights

from palaestra.envs.pricing import DuopolyPricing
from palaestra.envs.pricing.two_learners.price_pairs import PricePairs
from palaestra.train.config.schema import ConfigError
from palaestra.train.players import evaluate_player, find_player
from palaestra.train.runs import checkpoints, finding, trainer
from palaestra.train.runs.pair import paired_runs
from palaestra.train.runs.pair.paired_runs import PairedRuns, new_pair, pair_configs, pair_of, train_pair
from palaestra.train.runs.run_folder import RunFolder

STEPS, ROUNDS = 10_240, 10
SMALL = {
    "ppo": ("n_steps=8", "batch_size=256", "n_epochs=2"),
    "dqn": ("learning_starts=1000", "batch_size=128", "buffer_size=5000", "n_steps=3"),
}
PAIR = ("dqn", "ppo")


class Killed(BaseException):
    """The end of a process."""


def begin(path: Path, agents: tuple[str, str] = PAIR, rounds: int = ROUNDS, seed: int = 0) -> PairedRuns:
    both = []
    for which, agent in enumerate(agents):
        options: Any = {"settings": SMALL[agent], "num_envs": 64, "total_timesteps": STEPS}
        both.append(pair_configs((agent, agent), rounds, seed, **options)[which])
    return new_pair(both, rounds, path)


@pytest.fixture(scope="module", autouse=True)
def _hurried() -> Iterator[None]:
    """Films of the agents and evaluations take most of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "_record_episode", lambda *arguments: None)
        patch.setattr(paired_runs, "PARTS", 3)
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[PairedRuns, list[str]]:
    """A pair that was left alone, and what it told."""
    pair, told = begin(tmp_path_factory.mktemp("pair") / "whole"), []
    assert train_pair(pair, told.append)
    return pair, told


def kill(monkeypatch: pytest.MonkeyPatch, module: Any, name: str, call: int) -> None:
    """Let a function end the process at that call of it."""
    real, calls = getattr(module, name), iter(range(call))

    def dies(*arguments: Any, **kwargs: Any) -> Any:
        if next(calls, None) is None:
            raise Killed
        return real(*arguments, **kwargs)

    monkeypatch.setattr(module, name, dies)


@pytest.mark.parametrize(
    ("module", "name", "call"),
    [
        (paired_runs, "exchange", 1),  # before the first checkpoints
        (checkpoints, "save", 3),  # between the checkpoints of the two, in a later part
        (paired_runs, "final_evaluation", 1),  # between their evaluations
        (checkpoints, "discard", 1),  # when all is done but tidying up
    ],
)
def test_killed_runs_end_with_the_same_bits(
    whole: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: Any, name: str, call: int
) -> None:
    pair = begin(tmp_path / "killed")
    with monkeypatch.context() as patch:
        kill(patch, module, name, call)
        with pytest.raises(Killed):
            train_pair(pair, lambda text: None)
    again = pair_of(pair.folders[1])
    assert again == pair
    if not again.is_finished():
        assert train_pair(again, lambda text: None)
    for ours, theirs in zip(pair.folders, whole[0].folders, strict=True):
        assert same_weights(ours.path, theirs.path)
        assert curves(ours.path) == curves(theirs.path)
    assert again.is_finished()


def test_both_are_ordinary_runs_that_meet_each_other(whole: Any) -> None:
    """The exact value of an evaluation is that of the pair of tables, read from the two model files here."""
    folders = whole[0].folders
    tables = []
    for folder in folders:
        player = find_player(str(folder.path), None, False, ())
        states = np.stack(np.divmod(np.arange(225), 15), 1).astype(np.float32) / 14
        tables.append(player.policy.model.predict(states, deterministic=True)[0])
    pair = PricePairs(DuopolyPricing(), np.stack(tables)[None])
    for firm, folder in enumerate(folders):
        assert folder.is_finished(folder.config())
        found = evaluate_player(folder.path, episodes=100)
        assert found.more["exact_mean"] == pytest.approx(pair.values[0, firm, 16], rel=1e-9)
        assert found.more["collusion_percent"] == pytest.approx(100 * pair.collusion[0])
        assert found.more["exact_mean"] <= found.reference["optimum"] * (1 + 1e-9)


def test_the_log_has_what_the_two_came_to(whole: Any) -> None:
    first, second = (finding.curves(folder.path) for folder in whole[0].folders)
    for table in (first, second):
        rows = np.isfinite(table["pair/collusion"])
        assert rows.sum() > ROUNDS // 4
        assert (table["pair/of_best_percent"][rows] <= 100 + 1e-6).all()
    shared = {*np.round(first["pair/collusion"], 12)} & {*np.round(second["pair/collusion"], 12)}
    assert shared  # it is of both profits, so the same for both
    assert (np.diff(second["time/time_elapsed"][:-1]) >= 0).all()


def test_what_is_told(whole: Any) -> None:
    _, told = whole
    assert len(told) == 1 + paired_runs.PARTS
    assert told[0].startswith("  0 %          0 steps each: prices ")
    assert told[-1].startswith("100 %     10,240 steps each: prices ")
    assert max(map(len, told)) <= 120


def test_evaluations_change_no_bit(whole: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paired_runs, "PARTS", 1)
    pair = begin(tmp_path / "once")
    assert train_pair(pair, lambda text: None)
    for ours, theirs in zip(pair.folders, whole[0].folders, strict=True):
        assert same_weights(ours.path, theirs.path)


def test_skipped_evaluations_leave_finished_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paired_runs, "final_evaluation", lambda *arguments: None)  # as Ctrl-C does
    monkeypatch.setattr(paired_runs, "PARTS", 1)
    pair = begin(tmp_path / "skipped", ("ppo", "ppo"), rounds=2)
    assert train_pair(pair, lambda text: None)
    assert pair.is_finished()
    assert all(folder.facts()["evaluation_skipped"] for folder in pair.folders)


def test_a_signal_ends_both_after_the_round_and_they_go_on(
    whole: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was trained is saved, at whatever round."""
    pair, real, rounds = begin(tmp_path / "stopped"), paired_runs.exchange, iter(range(4))

    def signalled(*agents: Any) -> None:
        if next(rounds, None) is None:
            signal.raise_signal(signal.SIGTERM)
        real(*agents)

    with monkeypatch.context() as patch:
        patch.setattr(paired_runs, "exchange", signalled)
        assert not train_pair(pair, lambda text: None)
    assert pair.saved()[0] == 5
    assert train_pair(pair_of(pair.folders[0]), lambda text: None)
    for ours, theirs in zip(pair.folders, whole[0].folders, strict=True):
        assert same_weights(ours.path, theirs.path)
        assert curves(ours.path) == curves(theirs.path)


def test_seeds_make_other_runs(whole: Any, tmp_path: Path) -> None:
    other = begin(tmp_path / "other", seed=1)
    assert [folder.config().seed for folder in other.folders] == [2, 3]  # type: ignore[union-attr]
    assert not same_weights(other.folders[0].path, whole[0].folders[0].path)


@pytest.mark.parametrize(
    ("agents", "rounds", "message"),
    [
        (("sac", "ppo"), 10, "sac needs"),
        (("ppo", "recurrent-ppo"), 10, "recurrent-ppo cannot be one of two learners, which are ppo, dqn, pqn"),
        (("ppo", "ppo"), STEPS + 1, "there are only 10,240 steps"),
        (("ppo", "what"), 10, "what"),
    ],
)
def test_what_is_refused(agents: tuple[str, str], rounds: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        pair_configs(agents, rounds, 0, total_timesteps=STEPS)


def test_folders_that_are_no_pair_are_refused(whole: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="a run is never overwritten"):
        begin(whole[0].folders[0].path)
    with pytest.raises(ConfigError, match="is no run of two that learn against each other"):
        pair_of(RunFolder(tmp_path))
    pair = begin(tmp_path / "damaged")
    pair.file.write_text('{"rounds": "many", "saved": null}')
    with pytest.raises(ConfigError, match="is damaged"):
        pair_of(pair.folders[0])
