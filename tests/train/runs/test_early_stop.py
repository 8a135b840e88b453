"""``--stop-at``: where a run ends, whose weights it leaves, and that it goes on and is finished like any other."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from palaestra.agents import PPO
from palaestra.train.commands.train import resume_run as resume
from palaestra.train.commands.train import start_run as train
from palaestra.train.evaluation.episodes import Evaluation
from palaestra.train.interruptions import Interrupted, Shown
from palaestra.train.runs import callbacks, trainer
from palaestra.train.runs.run_folder import RunFolder

TINY = {"num_envs": 32, "total_timesteps": 2560, "settings": ["n_steps=8", "batch_size=64"]}  # ten rollouts


@pytest.fixture
def scored(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[dict[int, float]], None]:
    """Fix the scores of evaluations during training, by the steps before them; others are 10."""
    monkeypatch.chdir(tmp_path)
    scores: dict[int, float] = {}
    real = callbacks.evaluate_run

    played: list[Evaluation] = []

    def evaluate_run(policy: Any, config: Any, episodes: int, seed: int = 0) -> Evaluation:
        if not played or seed == 0:
            played.append(real(policy, config, 4, seed))
        value = scores.get(policy.model.num_timesteps, 10.0)
        changed = {"mean": value, "ci_low": value - (5.0 if episodes == 100 else 1.0)}
        return played[-1] if seed == 0 else replace(played[0], **changed)

    monkeypatch.setattr(callbacks, "evaluate_run", evaluate_run)
    monkeypatch.setattr(trainer, "evaluate_run", lambda policy, config, episodes, tell: real(policy, config, 4))
    monkeypatch.setattr(callbacks, "EVALUATIONS_WITH_RULE", 10)
    monkeypatch.setattr(trainer, "_record_episode", lambda *args: None)
    return scores.update


def weights(file: Path) -> torch.Tensor:
    return torch.cat([value.flatten() for value in PPO.load(file).policy.state_dict().values()])


def facts(folder: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(Path(folder, "run.json").read_text())
    return content


def test_a_score_ends_it_and_the_weights_are_those_that_had_it(
    scored: Callable[[dict[int, float]], None], capsys: pytest.CaptureFixture[str]
) -> None:
    scored({768: 475.5, 1280: 476.0, 1536: 499.0})  # the interval of the first begins below
    train("cartpole", "ppo", Path("a"), "disabled", stop_at="solved", **TINY)
    out = " ".join(capsys.readouterr().out.split())
    assert (
        "stopped after 1,280 of 2,560 steps: the agent scores at least 475; those that are left would have taken about"
        in out
    )
    assert "(stopped early: about" in out
    assert facts("a")["num_timesteps"] == 1280
    assert facts("a")["stopped"] == "the agent scores at least 475"
    assert torch.equal(weights(Path("a/model.zip")), weights(Path("a/best.zip")))
    assert [(e.step, e.lower_end) for e in RunFolder(Path("a")).curves.evaluations()][2:] == [
        (768, 474.5),
        (1024, None),
        (1280, 475.0),
    ]
    resume("a", "disabled")
    assert "a is finished (the agent scores at least 475)" in capsys.readouterr().out


def test_a_plateau_leaves_the_best_weights(
    scored: Callable[[dict[int, float]], None], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    scored({512: 100.0, 1280: 99.0})
    with monkeypatch.context() as quiet:
        quiet.setattr(Shown, "progress", False)
        train("cartpole", "ppo", Path("a"), "disabled", stop_at="plateau", **TINY)
    assert capsys.readouterr().out.count("\n") == 1
    assert facts("a")["num_timesteps"] == 512 + 5 * 256
    train("cartpole", "ppo", Path("b"), "disabled", stop_at="99.5", **TINY)  # never: its interval begins at 99
    assert facts("b")["num_timesteps"] == 2560
    assert facts("b")["stopped"] is None
    assert torch.equal(weights(Path("a/model.zip")), weights(Path("b/best.zip")))


def test_minutes_end_it_with_an_evaluation_of_the_last_weights(
    scored: Callable[[dict[int, float]], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(callbacks, "EVALUATIONS_WITH_RULE", 1)
    monkeypatch.setattr(callbacks.EvalAndCheckpointCallback, "_seconds_so_far", lambda self: 0.1 * self.num_timesteps)
    scored({768: 20.0})
    train("cartpole", "ppo", Path("a"), "disabled", stop_at="1.28m", **TINY)  # 76.8 s
    assert facts("a")["num_timesteps"] == 768
    assert facts("a")["stopped"] == "1.28 minutes of training are over"
    assert torch.equal(weights(Path("a/model.zip")), weights(Path("a/best.zip")))


@pytest.mark.parametrize("at", [768, 1280])
def test_a_resumed_run_keeps_its_rule(scored: Callable[[dict[int, float]], None], at: int) -> None:
    """Interrupted before the rule is met, and after it, before the final evaluation."""
    scored({1280: 476.0})
    train("cartpole", "ppo", Path("whole"), "disabled", stop_at="solved", **TINY)
    with pytest.MonkeyPatch.context() as patch:
        if at == 768:
            real = callbacks.EvalAndCheckpointCallback._on_rollout_start

            def interrupted(self: Any) -> None:
                self.stop.requested = self.num_timesteps >= at
                real(self)

            patch.setattr(callbacks.EvalAndCheckpointCallback, "_on_rollout_start", interrupted)
        else:

            def no_time(*args: Any) -> None:
                raise KeyboardInterrupt

            patch.setattr(trainer, "final_evaluation", no_time)
        with pytest.raises(Interrupted):
            train("cartpole", "ppo", Path("part"), "disabled", stop_at="solved", **TINY)
    assert facts("part")["num_timesteps"] == at
    resume("part", "disabled")
    assert facts("part")["num_timesteps"] == 1280
    assert facts("part")["stopped"] == "the agent scores at least 475"
    assert torch.equal(weights(Path("part/model.zip")), weights(Path("whole/model.zip")))
    assert RunFolder(Path("part")).curves.evaluations() == RunFolder(Path("whole")).curves.evaluations()


@pytest.mark.parametrize(
    ("rule", "scores"),
    [("solved", {768: 476.5}), ("plateau", {512: 100.0}), ("0.5m", {})],
    ids=lambda value: str(value),
)
def test_a_run_that_its_rule_has_ended_is_trained_further_without_it(
    rule: str,
    scores: dict[int, float],
    scored: Callable[[dict[int, float]], None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The rule is met already, so the run would end at once."""
    scored(scores)
    with monkeypatch.context() as patch:
        patch.setattr(callbacks.EvalAndCheckpointCallback, "_seconds_so_far", lambda self: 0.05 * self.num_timesteps)
        train("cartpole", "ppo", Path("a"), "disabled", stop_at=rule, **TINY)
        ended = facts("a")["num_timesteps"]
        assert ended < 2560
        capsys.readouterr()
        resume("a", "disabled", 2560)  # those that were planned, or more
    out = capsys.readouterr().out
    assert f"the run goes on from {ended:,} to 2,560 steps" in out
    assert f"without stop_at={rule}, which has ended it" in out
    assert (facts("a")["num_timesteps"], facts("a")["stopped"]) == (2560, None)
    config = RunFolder(Path("a")).config()
    assert config is not None
    assert config.stop_at is None
    assert RunFolder(Path("a")).is_finished(config)


def test_a_rule_that_was_not_met_is_kept_when_the_run_is_trained_further(
    scored: Callable[[dict[int, float]], None], capsys: pytest.CaptureFixture[str]
) -> None:
    scored({3072: 476.5})
    train("cartpole", "ppo", Path("a"), "disabled", stop_at="solved", **TINY)
    resume("a", "disabled", 5120)
    assert "which has ended it" not in capsys.readouterr().out
    assert (facts("a")["num_timesteps"], facts("a")["stopped"]) == (3072, "the agent scores at least 475")


def test_seconds_of_all_processes_count(tmp_path: Path) -> None:
    (tmp_path / "progress.csv").write_text(
        "global_step,time/time_elapsed\n1,5\n2,9\n3,\n4,2\n5,2\n6,30\n7,4\n", encoding="utf-8"
    )
    assert RunFolder(tmp_path).curves.seconds() == 9 + 30 + 4
