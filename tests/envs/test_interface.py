"""The meaning of every number of an observation or action: told of all environments, and true."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box
from hypothesis import example, given
from hypothesis import strategies as st

from palaestra.envs import Quantity, TensorEnv, entries, make, resolve
from palaestra.envs.arm import PANDA, Placement, SerialChain
from palaestra.envs.arm.reach import Reach
from palaestra.envs.arm.reach_torque import ReachTorque
from palaestra.envs.checker.conformance import check_env
from palaestra.envs.interface import interface_of, names_problem
from palaestra.envs.pricing import Pricing
from palaestra.envs.snake import Snake
from palaestra.envs.wrappers import DiscretizedActions

OURS = [entry.short_name for entry in entries()]


def quantities(name: str, steps: int = 3, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
    """The batch after some random steps, and its observations in their units: name → [N] or [N, count]."""
    batch = make(name, num_envs=64, device="cpu", seed=3, **kwargs)
    batch.reset()
    for _ in range(steps):
        batch.step(torch.as_tensor(np.array([batch.single_action_space.sample() for _ in range(64)])))
    seen, first, found = batch.env.observe(batch.state).flatten(1).double(), 0, {}
    for one in batch.env.observation_names:
        values = one.offset + one.scale * seen[:, first : first + one.count]
        found[one.name] = values.squeeze(1) if one.count == 1 else values
        first += one.count
    assert first == seen.shape[1]
    return batch, found


def close(values: Any, expected: Any) -> None:
    np.testing.assert_allclose(np.asarray(values), np.asarray(expected.double()), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", OURS)
def test_every_environment_of_ours_tells_what_its_numbers_mean(name: str) -> None:
    env = resolve(name).build()
    assert names_problem(env.observation_names, env.observation_space) is None
    found = interface_of(env)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    if "discrete_actions" in found:
        assert len({*found["discrete_actions"]}) == env.action_space.n
    else:
        assert names_problem(env.action_names, env.action_space) is None
        assert [row["first"] for row in found["actions"]] == list(range(env.action_space.shape[0]))
    assert found["steps_per_second"] == {"cartpole": 50.0, "reach": 20.0, "reach-torque": 50.0}.get(name)


def test_cartpole_and_snake_in_their_units() -> None:
    batch, found = quantities("cartpole")
    close(found["cart_position"], batch.state.position)
    close(found["pole_angular_velocity"], batch.state.angular_velocity)
    batch, found = quantities("snake-small", actions="absolute")
    close(found["lifetime"], batch.state.lifetime)
    close(found["hunger"], batch.state.hunger)
    assert (found["head"].argmax(1) == batch.state.head).all()
    batch, found = quantities("snake-small", actions="absolute", observation="grid")
    close(found["hunger"][:, 7], batch.state.hunger)
    assert (found["fruit"].argmax(1) == batch.state.fruit).all()


@pytest.mark.parametrize("name", ["reach", "reach-torque"])
def test_arms_in_their_units(name: str) -> None:
    batch, found = quantities(name)
    state = batch.state
    for i, joint in enumerate(PANDA.joint_names):
        close(found[f"position_{joint}"], state.q[:, i])
        close(found[f"velocity_{joint}"], state.dq[:, i])
    for i, axis in enumerate("xyz"):
        way = state.target - state.tool
        close(found[f"tool_{axis}"], state.tool[:, i])
        close(found[f"to_target_{axis}"], way[:, i])
        close(found[f"direction_{axis}"], way[:, i] / (way.norm(dim=1) + 0.05))


def test_actions_of_arms_in_their_units() -> None:
    one = torch.ones(1, 7)
    command = Reach()._command(torch.zeros(7, 1), one)[:, 0]
    assert [q.scale for q in Reach().action_names] == pytest.approx(command.tolist())
    assert {q.unit for q in Reach().action_names} == {"rad/s"}
    torque = ReachTorque().action_names
    assert [(q.scale, q.unit) for q in torque] == [(limit, "N m") for limit in PANDA.torque]
    pd = ReachTorque(control="pd").action_names
    assert (pd[0].name, round(pd[0].scale, 6), pd[0].unit) == ("target_less_position_joint1", 0.2, "rad")
    assert Reach(control="cartesian").action_names == ()
    assert interface_of(Reach(control="cartesian"))["discrete_actions"][5] == "move up (+z)"


def test_the_sign_of_a_joint_is_told_by_its_axis() -> None:
    """A joint that turns about −y of a base that stands turned by 90°, and a slide along a slanted axis; odd names."""
    turned = Placement(rotation=((0.0, -1.0, 0.0), (1.0, 0.0, 0.0), (0.0, 0.0, 1.0)))
    chain = SerialChain(
        name="two",
        placements=(Placement(), Placement((0.3, 0.0, 0.0))),
        axes=((0.0, -1.0, 0.0), (3.0, 0.0, 4.0)),
        kinds=("revolute", "prismatic"),
        q_min=(-1.0, 0.0),
        q_max=(1.0, 0.5),
        velocity=(1.0, 0.25),
        acceleration=(1.0, 1.0),
        mass=(1.0, 1.0),
        centre_of_mass=((0.0,) * 3,) * 2,
        inertia=((1.0, 1.0, 1.0, 0.0, 0.0, 0.0),) * 2,
        base=turned,
        joint_names=("a-b", "a.b"),
    )
    task = Reach.__new__(Reach)  # its names need no more than the chain
    task.chain = chain
    assert task.joint_quantities() == [
        ("a_b", "right-hand rule about (1, 0, 0), all joints at 0"),
        ("a_b_2", "positive along (0, 0.6, 0.8), all joints at 0"),
    ]
    low, slide = task.observation_names[:2]
    assert (low.scale, low.unit, slide.scale, slide.offset, slide.unit) == (1.0, "rad", 0.25, 0.25, "m")
    assert task.observation_names[3] == Quantity("velocity_a_b_2", "m/s", 0.25, meaning=slide.meaning)


@given(st.lists(st.text("ab. _-²é3", min_size=1, max_size=4), min_size=7, max_size=7, unique=True))
@example(["a_b_3", "a.b", "a_b", "c", "d", "e", "f"])  # the number of the third joint is in the name of the first
def test_joints_of_like_names_have_names_of_their_own(names: list[str]) -> None:
    task = Reach.__new__(Reach)
    task.chain, task.control = dataclasses.replace(PANDA, joint_names=tuple(names)), "velocity"
    words = [word for word, _ in task.joint_quantities()]
    assert len({*words}) == 7
    assert all(f"velocity_{word}".isidentifier() for word in words)
    assert names_problem(task.action_names, Box(-1.0, 1.0, (7,))) is None


def test_markets_in_their_units() -> None:
    batch, found = quantities("pricing")
    close(found["periods_left"], 100 - batch.state.period)
    close(found["units_left"], batch.state.stock)
    batch, found = quantities("pricing-two")
    close(found["units_left_second"], batch.state.stock[:, 1])
    batch, found = quantities("pricing-duopoly")
    prices = torch.from_numpy(batch.env.prices)
    close(found["own_last_price"], prices[batch.state.price])
    close(found["rival_last_price"], prices[batch.state.rival])


def test_a_market_under_all_rules_in_its_units() -> None:
    costs = np.linspace(5.0, 9.0, 30).tolist()
    rules = {"hold": 3, "max_change": 100.0, "replenish": {20: 7}, "unit_cost": costs, "periods": 30, "stock": 20}
    batch, found = quantities("pricing", **rules)
    state = batch.state
    assert list(found) == [
        *("periods_left", "units_left", "demand_now", "demand_next", "unit_cost_now", "unit_cost_next"),
        *("last_price", "hold_left", "units_to_come"),
    ]
    close(found["units_left"], state.stock)
    close(found["unit_cost_now"], torch.tensor(costs)[state.period])
    close(found["last_price"], state.price)
    close(found["hold_left"], state.stays)
    close(found["units_to_come"], torch.full((64,), 7.0))


def test_wrappers_tell_what_they_add() -> None:
    batch, found = quantities("cartpole", time_aware=True)
    close(found["time_used"], torch.full((64,), 3.0))
    batch, found = quantities("cartpole", frame_stack=3)
    assert list(found)[::4] == ["cart_position_2_ago", "cart_position_1_ago", "cart_position"]
    close(found["pole_angle"], batch.env.env.observe(batch.env.within(batch.state)[1])[:, 2])
    batch, found = quantities("reach", discretized_actions=2)
    assert batch.env.action_names == ()
    names = interface_of(batch.env)["discrete_actions"]
    assert len({*names}) == 2**7
    assert names[1].startswith("velocity_joint1 -1.09 rad/s, ")  # half of 2.175
    assert names[1].endswith("velocity_joint6 -1.3 rad/s, velocity_joint7 1.3 rad/s")


@pytest.mark.parametrize("bins", [2, 3, 7])
def test_choices_of_a_dimension_are_told_by_offset_and_scale(bins: int) -> None:
    """As the values that the environment inside gets are, in its unit."""
    inside = ReachTorque(control="pd")
    env = DiscretizedActions(inside, bins, multidiscrete=True)
    assert names_problem(env.action_names, env.action_space) is None
    rows = interface_of(env)["actions"]
    assert [(row["low"], row["high"], row["count"]) for row in rows] == [(0, bins - 1, 1)] * 7
    choices = torch.arange(bins).unsqueeze(1).expand(-1, 7)
    wanted = env._values(choices).double()  # [bins, 7]
    for i, (row, one) in enumerate(zip(rows, inside.action_names, strict=True)):
        assert (row["name"], row["unit"], row["meaning"]) == (one.name, one.unit, one.meaning)
        close(torch.tensor([row["offset"] + row["scale"] * k for k in range(bins)]), one.scale * wanted[:, i])
    flat = DiscretizedActions(inside, 2)
    parts = dict(part.split(" ", 1) for part in flat.action_name(0b1000001).split(", "))
    assert parts["target_less_position_joint1"] == parts["target_less_position_joint7"] == "0.1 rad"
    assert parts["target_less_position_joint2"] == "-0.1 rad"


class Twins(TensorEnv[Any]):
    """Two kinds of numbers in an action, three of the first, with bounds of their own."""

    def __init__(self, names: tuple[Quantity, ...]) -> None:
        self.observation_space = Box(-1.0, 1.0, (1,))
        self.action_space = Box(np.float32([0, 0, 0, 10]), np.float32([1, 2, 3, 20]))
        self.names = names

    def reset(self, rng: Any) -> Any:
        raise NotImplementedError

    step = observe = reset  # type: ignore[assignment]

    @property
    def action_names(self) -> tuple[Quantity, ...]:
        return self.names


def test_numbers_of_one_kind_have_their_own_choices() -> None:
    env = DiscretizedActions(Twins((Quantity("push", "N", 2.0, count=3), Quantity("price", "$"))), 2, True)
    told = [(one.name, one.unit, one.offset, one.scale) for one in env.action_names]
    assert told == [
        ("push_1", "N", 0.5, 1.0),
        ("push_2", "N", 1.0, 2.0),
        ("push_3", "N", 1.5, 3.0),
        ("price", "$", 12.5, 5.0),
    ]
    assert names_problem(env.action_names, env.action_space) is None
    unnamed = DiscretizedActions(Twins(()), 2, True)
    assert unnamed.action_names == ()
    assert DiscretizedActions(Twins(()), 2).action_name(1) == "0.25, 0.5, 0.75, 17.5"


def test_a_policy_s_description_tells_the_choices() -> None:
    from palaestra.train.export.contract import action_of

    env = make("reach", 2, "cpu", discretized_actions={"bins": 3, "multidiscrete": True})
    action = action_of(env)
    assert action["kind"] == "multi_discrete"
    assert action["elements"][0]["name"] == "velocity_joint1"
    assert action["elements"][0]["scale"] == pytest.approx(2.175 * 2 / 3)


@pytest.mark.parametrize(
    ("names", "problem"),
    [
        (["x"], "must be a tuple of Quantity"),
        ((Quantity("x"), Quantity("y")), "tells of 2 numbers, and Box"),
        ((Quantity("x", count=2), Quantity("x"), Quantity("z")), "has two of the name 'x'"),
        ((Quantity("x y", count=4),), "has the name 'x y'"),
        ((Quantity("x", count=0), Quantity("y", count=4)), "x: count must be at least 1"),
        ((Quantity("x", scale=0.0, count=4),), "scale and offset must be numbers"),
        ((Quantity("x", offset=float("nan"), count=4),), "scale and offset must be numbers"),
        ((), "does not apply"),
    ],
)
def test_the_checker_says_what_is_wrong(names: Any, problem: str) -> None:
    from palaestra.envs.cartpole import CartPole

    class Named(CartPole):
        @property
        def observation_names(self) -> Any:
            return names

    (finding,) = [finding for finding in check_env(Named(), num_envs=8, steps=2) if finding.rule == "names"]
    assert problem in (finding.verdict, finding.detail[: len(problem)]) or problem in finding.detail
    assert finding.verdict == ("does not apply" if names == () else "fail")


def test_an_environment_that_says_nothing_is_left_alone() -> None:
    class Silent(Snake):
        observation_names = TensorEnv.observation_names

    (finding,) = [finding for finding in check_env(Silent(4), num_envs=8, steps=2) if finding.rule == "names"]
    assert (finding.verdict, finding.detail.split()[:2]) == ("does not apply", ["write", "observation_names:"])
    assert interface_of(Silent(4))["observations"] == []
    ruled = dataclasses.replace(Quantity("x"), count=2)
    assert names_problem((ruled, Quantity("y")), Pricing().observation_space) is not None
