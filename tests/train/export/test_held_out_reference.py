"""The reference that an export keeps: whole episodes where they fit, and the scores that are known."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from palaestra.train.export.held_out import held_out_reference
from palaestra.train.export.held_out.held_out_reference import _batch_for, _returns
from palaestra.train.export.held_out.monitored import watched_of


def test_a_contract_has_the_reference_of_its_policy(runs: Path) -> None:
    contract = json.loads((runs / "snake-small.json").read_text())
    reference = contract["reference"]
    assert [number["name"] for number in reference["numbers"]] == [one.name for one in watched_of(contract)]
    assert reference["cut_after"] is None
    assert reference["mean_length"] == pytest.approx(reference["states"] / reference["episodes"])
    scores = contract["scores"]
    assert reference["returns"] == {key: scores[key] for key in ("mean", "std", "ci_low", "ci_high", "episodes")}
    for number in reference["numbers"]:
        assert np.diff(number["cuts"]).min(initial=1.0) > 0.0
        assert np.diff(number["below"]).min(initial=0.0) >= 0.0
    assert len(json.dumps(reference)) < 200_000


def test_a_mask_is_watched_by_what_it_allows(runs: Path) -> None:
    contract = json.loads((runs / "market.json").read_text())
    (allowed,) = [n for n in contract["reference"]["numbers"] if n["name"] == "action_mask allowed"]
    assert 0.0 < allowed["quantiles"][0] < allowed["quantiles"][-1] == 1.0


@pytest.mark.parametrize(
    ("length", "limit", "most", "batch"),
    [
        (500.0, None, 250, 100),
        (None, 500, 250, 100),
        (20.0, 100, 250, 250),
        (9000.0, None, 250, 30),
        (9000.0, None, 20, 20),
    ],
)
def test_so_many_episodes_that_states_suffice(length: float | None, limit: int | None, most: int, batch: int) -> None:
    contract = {"environment": {"max_episode_steps": limit}, "scores": length and {"mean_length": length}}
    assert _batch_for(contract, most) == batch
    assert _batch_for({"environment": {"max_episode_steps": None}}, most) == most


def test_returns_are_those_of_the_final_evaluation_or_of_the_episodes() -> None:
    scores = {"mean": 3.0, "std": 1.0, "ci_low": 2.9, "ci_high": 3.1, "episodes": 1000}
    assert _returns({**scores, "iqm": 3.2}, np.array([1.0, 2.0])) == scores
    found = _returns(None, np.array([1.0, 2.0, 6.0]))
    assert found is not None
    assert (found["mean"], found["episodes"]) == (3.0, 3)
    assert found["std"] == pytest.approx(7.0**0.5)
    assert found["ci_low"] < 3.0 < found["ci_high"]
    assert _returns({"mean": 3.0}, np.array([1.0])) is None


def test_episodes_without_an_end_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    from types import SimpleNamespace
    from typing import Any

    import torch
    from policy_files import CONTRACT

    class Endless:
        num_envs = 20
        steps = 0

        def reset(self) -> Any:
            return torch.zeros(20, 4), {}

        def action_masks(self) -> None:
            return None

        def step(self, action: Any) -> Any:
            self.steps += 1
            over = torch.arange(20) == self.steps  # one after another, but for the first, which has no end
            nothing = torch.zeros(20, dtype=torch.bool)
            info = {"episode": {"r": torch.full((20,), float(self.steps))}}
            return torch.full((20, 4), float(self.steps)), torch.zeros(20), over, nothing, info

        def close(self) -> None:
            self.steps = -1

    monkeypatch.setattr(held_out_reference, "_STEPS", 30)
    env: Any = Endless()
    policy: Any = lambda env, obs: torch.zeros(len(obs), dtype=torch.int64)  # noqa: E731
    contract = {**CONTRACT, "environment": {"id": "endless", "max_episode_steps": None}}
    found = SimpleNamespace(**held_out_reference.reference_of(policy, lambda size: env, 20, contract))
    assert (found.states, found.cut_after) == (600, 600 - sum(range(1, 20)))
    assert found.returns["mean"] == 10.0
    assert env.steps == -1
