"""Stress tests: known answers, the exact values of markets, and the same numbers as single evaluations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from gymnasium.spaces import Box, Discrete
from probes import ProbeState
from torch import Tensor

from palaestra.agents import PPO
from palaestra.envs import Reference, Rng, TensorEnv, make
from palaestra.envs.arm import inverse_dynamics, jacobian
from palaestra.envs.arm.control import mass_held
from palaestra.envs.arm.reach_torque import ReachTorque
from palaestra.envs.core import EnvError
from palaestra.envs.pricing import Pricing
from palaestra.train import cli
from palaestra.train.evaluation.episodes import evaluate
from palaestra.train.evaluation.policies import AgentPolicy, ExpertPolicy, Player, RandomPolicy
from palaestra.train.evaluation.stress import NoStressError, stress_player, stress_test
from palaestra.train.evaluation.stress_table import condition_name, stress_table, told_while_running

HERE = f"{Path(__file__).resolve()}"


class Wage(TensorEnv[ProbeState]):
    """One step that pays: known scores, of which random play has 0 and the best is 4."""

    def __init__(self, pay: float = 3.0, long: int = 1) -> None:
        if pay < 0:
            raise ValueError(f"pay must not be below 0, got {pay}")
        self.pay, self.observation_space, self.action_space = float(pay), Box(-1.0, 1.0, (long,)), Discrete(2)

    def reset(self, rng: Rng) -> ProbeState:
        return ProbeState(torch.zeros(rng.num_envs, device=self.device))

    def observe(self, state: ProbeState) -> Tensor:
        return state.signal.unsqueeze(1).expand(-1, *(self.observation_space.shape or ())).clone()

    def step(self, state: ProbeState, action: Tensor, rng: Rng) -> tuple[ProbeState, Tensor, Tensor]:
        return state, torch.zeros_like(state.signal) + self.pay, torch.ones_like(state.signal, dtype=torch.bool)

    def success(self, state: ProbeState) -> Tensor:
        return state.signal + self.pay > 1

    def stresses(self) -> Any:
        return {
            "pay_minus_50": {"pay": 1.5},
            "pay_nothing": {"pay": 0},
            "twice": type(self)(6.0),
            "longer": {"long": 2},
        }

    @property
    def reference(self) -> Reference:
        return Reference(optimum=4.0, random=0.0)


class Scaleless(Wage):
    @property
    def reference(self) -> Reference:
        return Reference()


class RefusedStress(Wage):
    def stresses(self) -> Any:
        return {"debt": {"pay": -1.0}}


class Calm(Wage):
    """Names no condition of its own."""

    def stresses(self) -> Any:
        return {}


def test_losses_shares_worst_and_mean_by_hand() -> None:
    test = stress_test(f"{HERE}:Wage", RandomPolicy(), episodes=4)
    assert test.unchanged.score == 3.0
    found = {
        one.name: (one.evaluation.score, one.loss, one.normalised, one.evaluation.success_rate) for one in test.stressed
    }
    assert found == {
        "pay_minus_50": (1.5, 1.5, 37.5, 1.0),
        "pay_nothing": (0.0, 3.0, 0.0, 0.0),
        "twice": (6.0, -3.0, 150.0, 1.0),
        "longer": (3.0, None, 75.0, 1.0),  # another form of observations: another task
    }
    assert [one.optimum for one in test.stressed] == [None] * 4
    assert test.worst.name == "pay_nothing"
    assert test.mean == {"score": None, "loss": None, "percent_of_optimal": 65.625, "success_rate": 0.75}
    assert [one.settings for one in test.stressed] == [{"pay": 1.5}, {"pay": 0}, None, {"long": 2}]


def test_without_a_scale_the_worst_has_the_largest_loss() -> None:
    test = stress_test(f"{HERE}:Scaleless", RandomPolicy(), episodes=2, env_kwargs={"pay": 2.0})
    assert {one.normalised for one in test.stressed} == {None}
    assert test.worst.name == "pay_nothing"
    assert test.unchanged.score == 2.0


def test_a_condition_that_is_so_already_is_left_out() -> None:
    test = stress_test(f"{HERE}:Wage", RandomPolicy(), episodes=2, env_kwargs={"pay": 1.5})
    assert [one.name for one in test.stressed] == ["pay_nothing", "twice", "longer"]
    drawn = stress_test(f"{HERE}:Wage", RandomPolicy(), episodes=2, env_kwargs={"randomized": {"pay": [1.0, 2.0]}})
    assert [one.name for one in drawn.stressed] == ["twice", "longer"]  # settings that are drawn cannot be set


def test_mistakes_are_named() -> None:
    with pytest.raises(EnvError, match="the stress debt of RefusedStress: ValueError: pay must not be below 0, got -1"):
        stress_test(f"{HERE}:RefusedStress", RandomPolicy(), episodes=2)
    with pytest.raises(NoStressError, match="Calm has no stress for this agent"):
        stress_test(f"{HERE}:Calm", RandomPolicy(), episodes=2)


# ---------------------------------------------------------------------------------------------------- our environments


@pytest.mark.parametrize(
    ("name", "settings", "condition"),
    [
        ("cartpole", {"force": 2.0}, "force_minus_80"),
        ("snake-small", {"sticky_actions": 0.25}, "sticky_actions_25_percent"),
        ("snake-small", {"size": 8}, "size_8"),
        ("reach", {"action_delay": 1}, "delay_1_step"),
    ],
)
def test_a_condition_is_the_environment_with_these_settings(
    name: str, settings: dict[str, Any], condition: str
) -> None:
    limit = {"max_episode_steps": 20}
    test = stress_test(name, RandomPolicy(), episodes=8, seed=3, env_kwargs=limit)
    one = next(one for one in test.stressed if one.name == condition)
    assert one.settings == settings
    alone = {"env_kwargs": {**limit, **settings}, "floor": test.unchanged.reference["random"]}
    assert one.evaluation == evaluate(name, RandomPolicy(), episodes=8, seed=3, **alone)
    assert test.unchanged == evaluate(name, RandomPolicy(), episodes=8, seed=3, env_kwargs=limit)


def test_the_arm_can_carry_lose_power_and_rub() -> None:
    kwargs = {"max_episode_steps": 2, "friction": [0.5, 1.0], "gain": 0.5, "action_delay": 1}
    test = stress_test("reach-torque", RandomPolicy(), episodes=2, env_kwargs=kwargs)
    settings = {one.name: one.settings for one in test.stressed}
    assert settings["friction_plus_100"] == {"friction": [1.0, 2.0]}
    assert settings["gain_plus_20"] == {"gain": 0.6}
    assert settings["payload_2_kg"] == {"payload": [2.0, 2.0]}
    assert settings["delay_2_steps"] == {"action_delay": 3}
    assert settings["noise_10_mrad"] == {"sensor_noise": 0.01}


@pytest.mark.parametrize("name", ["reach-torque", "snake-small"])
def test_an_expert_is_not_tested_in_what_it_does_not_see(name: str) -> None:
    limit = {"max_episode_steps": 2}
    expert, random = (stress_test(name, p(), episodes=2, env_kwargs=limit) for p in (ExpertPolicy, RandomPolicy))
    seen = {one.name for one in random.stressed} - {one.name for one in expert.stressed}
    assert seen == {*expert.left_out} - {*random.left_out}
    assert any("noise" in one for one in seen)
    assert {*expert.left_out.values()} == {"the expert reads the state, not the observation"}


def test_loads_are_of_what_an_arm_holds_and_friction_of_what_it_has() -> None:
    """At SO-101's start, by inverse dynamics of the load's weight; its file has no friction."""
    env = ReachTorque("so101")
    stresses = env.stresses()
    loads = {name: change["payload"][0] for name, change in stresses.items() if name.startswith("payload")}
    assert {name: f"payload_{1000 * kg:g}_g" for name, kg in loads.items()} == {name: name for name in loads}
    assert len(loads) == 2
    assert not any(name.startswith("friction") for name in stresses)
    limits = torch.tensor(env.chain.torque, dtype=torch.float64)
    q = torch.tensor([env.start], dtype=torch.float64)
    zero = torch.zeros_like(q)
    alone = inverse_dynamics(env.chain, q, zero, zero)[0]
    lift = 9.81 * jacobian(env.chain, q)[0, 2]
    held = mass_held(env.chain, env.start)
    assert ((alone.abs() + held * lift.abs()) <= limits + 1e-9).all()
    assert ((alone.abs() + 1.001 * held * lift.abs()) > limits).any()
    assert max(loads.values()) <= 0.55 * held


def test_an_agent_is_not_put_before_boards_that_its_network_cannot_read() -> None:
    agent = AgentPolicy(PPO("MlpPolicy", make("snake-small", 8, "cpu"), n_steps=8, batch_size=64, seed=0))
    test = stress_test("snake-small", agent, episodes=2, env_kwargs={"max_episode_steps": 4})
    assert {"size_4", "size_8"} == set(test.left_out)
    assert test.left_out["size_8"].startswith("the agent's network is for Box(0.0, 1.0, (145,), float32), not Box(0.0,")
    assert "sticky_actions_25_percent" in {one.name for one in test.stressed}


@pytest.mark.parametrize("name", ["pricing-easy", "pricing", "pricing-two", "pricing-yogurt", "pricing-duopoly"])
def test_markets_are_exact_and_tell_what_an_evaluation_tells(name: str) -> None:
    """The expert is that of the unchanged market: the price table stays, and the customers change."""
    test = stress_test(name, ExpertPolicy(), episodes=2)
    market: Any = make(name, 1, "cpu").env  # type: ignore[attr-defined]
    table = market.optimal_policy()
    for one in test.stressed:
        other = market.stresses()[one.name]
        assert one.evaluation.score == pytest.approx(other.policy_value(table), rel=1e-12)
        assert one.optimum == other.optimal_value() == test.unchanged.more[f"{one.name}_optimum"]
        share = 100 * one.evaluation.score / other.optimal_value()
        assert test.unchanged.more[f"{one.name}_ratio_percent"] == pytest.approx(share)
        assert one.loss == test.unchanged.score - one.evaluation.score
        assert one.normalised is not None
        assert one.normalised <= 100 + 1e-9
    assert len(test.stressed) == len(market.stresses()) >= 3


def test_a_seller_does_not_see_the_change() -> None:
    """A flat willingness to pay has two numbers in its own observation, the seller goes on to see four."""
    seen = []

    class Watcher(RandomPolicy):
        def __call__(self, env: Any, obs: Any) -> Tensor:
            seen.append(obs[0])
            return super().__call__(env, obs)

    market = Pricing(periods=5, stock=50, prices=[10, 90])
    kwargs = {"periods": 5, "stock": 50, "prices": [10, 90]}
    assert market.stresses()["willingness_flat"].observation_space.shape == (2,)
    test = stress_test("pricing", Watcher(), episodes=2000, env_kwargs=kwargs)
    assert {obs.shape for obs in seen} == {(4,)}
    for one in test.stressed:  # sampled, since it acts at random
        assert "exact_mean" not in one.evaluation.more
        error = one.evaluation.std / 2000**0.5
        assert abs(one.evaluation.score - market.stresses()[one.name].random_value()) < 5 * error


def test_markets_within_wrappers_are_played() -> None:
    test = stress_test("pricing-easy", RandomPolicy(), episodes=4, env_kwargs={"frame_stack": 2})
    assert len(test.stressed) == 5
    assert all(one.optimum is not None and one.loss is not None for one in test.stressed)


def test_gymnasiums_environments_have_what_any_can_have() -> None:
    test = stress_test("CartPole-v1", RandomPolicy(), episodes=3)
    assert [one.name for one in test.stressed] == ["sticky_actions_25_percent", "delay_1_step", "delay_2_steps"]
    late = test.stressed[1].evaluation
    assert (late.mean, late.mean_length) == (test.unchanged.mean, test.unchanged.mean_length)  # random play is blind


# ------------------------------------------------------------------------------------------------------- for people


def test_names_of_conditions_in_words() -> None:
    assert condition_name("demand_plus_20") == "demand +20 %"
    assert condition_name("force_minus_50") == "force −50 %"
    assert condition_name("sticky_actions_25_percent") == "sticky actions 25 %"
    assert condition_name("payload_2_kg") == "payload 2 kg"


def test_the_table_by_hand() -> None:
    table = stress_table(stress_test(f"{HERE}:Wage", RandomPolicy(), episodes=4), "random on Wage", None)
    assert table.splitlines() == [
        "random on Wage: mean returns of 4 held-out episodes each, seed 0",
        "score  95 % interval   loss  normalised score  successes  condition",
        " 3.00   1.53 to 3.00      –            75.0 %    100.0 %  unchanged",
        " 1.50   0.77 to 1.50   1.50            37.5 %    100.0 %  pay −50 %",
        "    0         0 to 0  3.000             0.0 %      0.0 %  pay nothing",
        "  6.0     3.1 to 6.0   -3.0           150.0 %    100.0 %  twice",
        " 3.00   1.53 to 3.00      –            75.0 %    100.0 %  longer",
        "    0         0 to 0  3.000             0.0 %      0.0 %  worst case",
        "    –              –      –            65.6 %     75.0 %  mean",
        "worst: pay nothing, by normalised score",
    ]
    narrow = stress_table(stress_test(f"{HERE}:Wage", RandomPolicy(), episodes=4), "random on Wage", 40)
    assert narrow.splitlines()[2:4] == ["score   loss  condition", " 3.00      –  unchanged"]


@pytest.mark.parametrize("width", [40, 80])
@pytest.mark.parametrize("name", ["pricing", "cartpole", "snake-small"])
def test_it_fits_the_terminal(name: str, width: int) -> None:
    kwargs = {"periods": 20} if name == "pricing" else {"max_episode_steps": 9}
    policy = ExpertPolicy() if name == "pricing" else RandomPolicy()
    table = stress_table(stress_test(name, policy, episodes=4, env_kwargs=kwargs), f"latest on {name}", width)
    assert max(map(len, table.splitlines())) <= width
    assert sum(line.endswith(("unchanged", "worst case", "mean")) for line in table.splitlines()) == 3  # a row each


def test_a_long_test_says_how_far_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    clock = iter([0.0, 1.0, 6.0, 6.0, 8.0, 11.5, 11.5])
    tell = told_while_running(lambda: next(clock))
    for share, name in ((0.0, "unchanged"), (0.25, "demand_plus_20"), (0.5, "delay_1_step"), (0.75, "size_8")):
        tell(share, name)
    assert capsys.readouterr().err == " 25 %  next: demand +20 %\n 75 %  next: size 8\n"


def test_episodes_are_few_unless_a_number_is_given() -> None:
    def played(env: str, episodes: int | None = None, usual: int = 1000) -> int:
        player = Player(env, {"max_episode_steps": 1}, RandomPolicy(), "cpu", "random", usual)
        return stress_player(player, episodes, 0, lambda share, name: None).unchanged.episodes

    assert [played("cartpole"), played("cartpole", usual=90), played("cartpole", 300)] == [200, 90, 300]
    assert played("CartPole-v1") == 50


def run_cli(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr("sys.argv", ["palaestra", "evaluate", *words])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return int(end.value.code or 0)


def test_the_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["random", "--env", "cartpole", "--stress", "--episodes", "6", "--seed", "2"]
    assert run_cli(monkeypatch, *words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "random on cartpole: mean returns of 6 held-out episodes each, seed 2"
    assert lines[-1].startswith("worst: ")
    assert run_cli(monkeypatch, *words, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert {"env", "run", "episodes", "seed", "unchanged", "stresses", "worst", "mean", "left_out"} == set(found)
    scores = [one["score"] for one in found["stresses"]]
    assert found["mean"]["score"] == pytest.approx(sum(scores) / len(scores))
    assert found["worst"]["percent_of_optimal"] == min(one["percent_of_optimal"] for one in found["stresses"])
    assert all(one["loss"] == found["unchanged"]["mean"] - one["score"] for one in found["stresses"])


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["random", "expert", "--env", "cartpole", "--stress"], "--stress tests one RUN, got 2"),
        (["--stress"], "which run? Name one"),
        (["random", "--env", f"{HERE}:Calm", "--stress"], "Calm has no stress for this agent"),
    ],
)
def test_what_cannot_be_tested_is_said(
    words: list[str], text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_cli(monkeypatch, *words) == 2
    said = capsys.readouterr()
    assert f"palaestra: error: {text}" in said.err
    assert said.out == ""
