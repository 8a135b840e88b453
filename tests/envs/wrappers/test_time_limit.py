"""Another time limit than an environment's own: nothing is compared with figures of the environment's own limit."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest
import torch

from palaestra.envs import Reference, make, resolve
from palaestra.envs.arm.reach import Reach
from palaestra.envs.arm.reach_torque import ReachTorque
from palaestra.envs.cartpole import CartPole
from palaestra.envs.pricing import DuopolyPricing
from palaestra.envs.wrappers import TimeLimited, wrapped
from palaestra.train.cli import main
from palaestra.train.evaluation.episodes import evaluate
from palaestra.train.evaluation.policies import ExpertPolicy, RandomPolicy


def test_the_own_limit_changes_nothing_and_another_one_no_bit() -> None:
    env = CartPole()
    assert wrapped(env, {}, 500) is env
    assert wrapped(env, {}) is env
    cut, whole = (make("reach", 8, "cpu", 3, **limit) for limit in ({"max_episode_steps": 7}, {}))
    assert isinstance(cut.env, TimeLimited)
    assert torch.equal(cut.reset()[0], whole.reset()[0])
    for step in range(1, 8):
        actions = torch.full((8, 7), 0.1 * step)
        (seen, reward, _, truncated, info), other = cut.step(actions), whole.step(actions)
        assert torch.equal(info["final_obs"], other[4]["final_obs"])
        assert torch.equal(reward, other[1])
        assert bool(truncated.all()) == (step == 7)
    assert not torch.equal(seen, other[0])
    with pytest.raises(ValueError, match="max_episode_steps must be at least 1, got 0"):
        make("cartpole", 2, "cpu", max_episode_steps=0)


@pytest.mark.parametrize("name", ["snake-small", "pricing-easy"])
def test_nothing_is_known_of_a_limit_that_an_environment_does_not_tell_of(name: str) -> None:
    assert resolve(name).reference({}).optimum is not None
    assert resolve(name).reference({"max_episode_steps": 20}) == Reference()
    result = evaluate(name, RandomPolicy(), episodes=8, env_kwargs={"max_episode_steps": 20})
    assert result.percent_of_optimal is None
    assert "exact_mean" not in result.more  # which would be of whole seasons


def test_other_rules_of_a_stress_are_cut_as_well() -> None:
    plain, cut = DuopolyPricing(), TimeLimited(DuopolyPricing(), 5)
    changed = {name for name, change in plain.stresses().items() if not isinstance(change, dict)}
    assert changed
    assert {name for name, change in cut.stresses().items() if isinstance(change, TimeLimited)} == changed


@pytest.mark.parametrize("limit", [1, 10, 20, 60, 1000])
def test_random_pushes_are_measured_within_the_limit_of_cartpole(limit: int) -> None:
    reference = resolve("cartpole").reference({"max_episode_steps": limit})
    assert reference.optimum == limit
    assert reference.solved_at == pytest.approx(0.95 * limit)
    kwargs = {"max_episode_steps": limit}
    result = evaluate("cartpole", RandomPolicy(), episodes=4000, env_kwargs=kwargs)
    assert result.mean == pytest.approx(reference.random, abs=4 * result.std / 30 + 1e-9)
    assert resolve("cartpole").reference({"max_episode_steps": limit, "force": 5.0}) == Reference()


ARMS: dict[str, tuple[str, dict[str, Any]]] = {
    "reach": ("reach", {"max_episode_steps": 40}),
    "reach by moves": ("reach", {"max_episode_steps": 80, "control": "cartesian"}),
    "reach, so101": ("reach", {"max_episode_steps": 20, "robot": "so101"}),
    "torque, so101": ("reach-torque", {"max_episode_steps": 20, "robot": "so101"}),
    "torque": ("reach-torque", {"max_episode_steps": 50}),
}


@pytest.mark.parametrize("name", ARMS)
def test_arms_are_measured_within_the_limit(name: str) -> None:
    """The random policy is 0 %, and the expert no better than the best known."""
    task, kwargs = ARMS[name]
    reference, usual = resolve(task).reference(kwargs), resolve(task).reference({**kwargs, "max_episode_steps": None})
    assert reference.random is not None
    assert usual.random is None or reference.random > usual.random + 1.0  # fewer steps are paid for
    random = evaluate(task, RandomPolicy(), episodes=200, env_kwargs=kwargs)
    expert = evaluate(task, ExpertPolicy(), episodes=200, env_kwargs=kwargs)
    assert random.percent_of_optimal == pytest.approx(0.0, abs=12.0)
    assert expert.percent_of_optimal is not None
    assert 90.0 < expert.percent_of_optimal < 100.1


def test_where_the_expert_comes_too_late_nothing_is_known_of_the_best() -> None:
    for env in (Reach(), ReachTorque()):
        reference = env.reference_within(10)
        assert reference.optimum is None
        assert reference.solved_at is None
        assert reference.random is not None
        assert reference.source.startswith("nothing is known of the best: the expert arrives in ")
        assert env.reference_within(100_000) == Reference()  # which would take long
    assert Reach(action_delay=1).reference_within(50) == Reference()
    assert ReachTorque(payload=(0.0, 1.0)).reference_within(50) == Reference()


def test_the_command_compares_with_figures_of_the_limit(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = "--set env.robot=so101 --set env.max_episode_steps=20 --episodes 200 --json"
    monkeypatch.setattr(sys, "argv", ["palaestra", "evaluate", "random", "--env", "reach-torque", *settings.split()])
    with pytest.raises(SystemExit) as exit_:
        main()
    assert not exit_.value.code
    told = json.loads(capsys.readouterr().out)
    assert abs(told["percent_of_optimal"]) < 12.0  # 58 % by the figures of 200 steps
