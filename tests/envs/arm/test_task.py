"""The base of the two reaching tasks: the contract in all variants, disturbances, reference figures and bad input."""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from arm_play import ALL_KINDS, OTHER, Play, commands
from gymnasium.utils.env_checker import check_env as gymnasium_check
from mujoco_arm import loaded
from stable_baselines3.common.env_checker import check_env as sb3_check

from palaestra.envs import Reference, SingleEnv, TensorEnv, TensorVectorEnv
from palaestra.envs.arm import PANDA, PANDA_READY, SerialChain, forward_kinematics, reach_torque
from palaestra.envs.arm.reach import Reach
from palaestra.envs.arm.reach_torque import ReachTorque
from palaestra.envs.arm.robots.panda_bound import held_out
from palaestra.envs.arm.tables import tables
from palaestra.envs.arm.task import TARGET_BOX
from palaestra.envs.checker.conformance import check_env, table
from palaestra.train.evaluation.episodes import evaluate, run_episodes
from palaestra.train.evaluation.policies import ExpertPolicy, RandomPolicy

DISTURBED: dict[str, Any] = {"sensor_noise": 0.01, "action_delay": 2}
DRAWN: dict[str, Any] = {
    "payload": (0.0, 1.0),
    "friction": (0.5, 1.5),
    "damping": (0.0, 0.2),
    "gain": (0.8, 1.2),
    "sensor_noise": (0.0, 0.01),
    "action_delay": (0, 3),
    "joint_offset": 0.02,
}
VARIANTS: dict[str, Callable[[], TensorEnv[Any]]] = {
    "reach by moves": lambda: Reach(control="cartesian", **DISTURBED),
    "reach with another chain": lambda: Reach(**OTHER, sensor_noise=0.02, action_delay=1),
    "reach with all kinds of joint": lambda: Reach(**ALL_KINDS),
    "torque with all kinds of joint": lambda: ReachTorque(**ALL_KINDS, friction=(0.5, 1.5)),
    "reach, all of it drawn": lambda: Reach(sensor_noise=(0.0, 0.02), action_delay=(0, 2), joint_offset=0.05),
    "torque, all of it drawn": lambda: ReachTorque(**DRAWN),
    "drives, all of it drawn": lambda: ReachTorque(control="pd", **DRAWN),
    "torque with another chain": lambda: ReachTorque(
        control="pd", payload=(0.0, 2.0), friction=(0.5, 1.5), **DISTURBED, **OTHER
    ),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_keeps_the_contract(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The registered ones are in checker/test_conformance.py, with all physics steps of a step, which are alike.

    A short limit, as one of the rules plays to the end.
    """
    monkeypatch.setattr(reach_torque, "SUBSTEPS", 2)
    env = VARIANTS[name]()
    env.max_episode_steps = 8
    findings = check_env(env, num_envs=16, steps=6)
    assert all(finding.passed for finding in findings), table(findings)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".*infinity.*")  # the bounds of the observation
        gymnasium_check(SingleEnv(env), skip_render_check=True)
        sb3_check(SingleEnv(env), skip_render_check=True)


# ---------------------------------------------------------------------------------------------------- disturbances


@pytest.mark.parametrize("make_env", [Reach, ReachTorque])
def test_noise_has_its_deviation_and_disturbs_the_sensors_alone(make_env: Callable[..., Any]) -> None:
    """Angles by 0.01 rad, velocities by 0.1 rad/s, afresh in each step; the tool seen is that of the angles seen."""
    quiet, noisy = (Play(make_env(sensor_noise=noise), 2000) for noise in (0.0, 0.01))
    seen = []
    for action in commands(3, 2, 2000, 7):
        before, after = (play.step(action)[0] for play in (quiet, noisy))
        for name in ("q", "dq", "tool", "target"):
            assert torch.equal(getattr(before, name), getattr(after, name))
        seen.append((noisy.env.observe(after) - quiet.env.observe(before)).double())
    limit = tables(PANDA, torch.float64, torch.device("cpu"))
    scale = torch.cat(((limit.q_max - limit.q_min) / 2 * 100, limit.velocity * 10)).T
    noise = [scale * s[:, :14] for s in seen]  # standard normal
    for value in noise:
        assert value.mean(0).abs().max() < 4.5 / math.sqrt(2000)
        assert (value.std(0) - 1).abs().max() < 4.5 / math.sqrt(4000)
    both = torch.cat(noise, 1)
    assert torch.corrcoef(both.T).triu(1).abs().max() < 5 / math.sqrt(2000)
    measured = (noisy.states[-1].q.double() + noise[1][:, :7] / 100)[:100]
    tool = forward_kinematics(PANDA, measured).position[:, -1]
    torch.testing.assert_close(noisy.env.observe(noisy.states[-1])[:100, 14:17].double(), tool, rtol=0, atol=5e-6)


@pytest.mark.parametrize("delay", [1, 3])
@pytest.mark.parametrize(("make_env", "control"), [(Reach, "velocity"), (ReachTorque, "torque"), (ReachTorque, "pd")])
def test_a_delay_only_shifts_the_commands(make_env: Callable[..., Any], control: str, delay: int) -> None:
    """The motors are idle until the first command arrives."""
    actions = commands(5, 6, 10, 7)
    late, prompt = Play(make_env(control=control, action_delay=delay), 10), Play(make_env(control=control), 10)
    for action in (*torch.zeros(delay, 10, 7), *actions):
        prompt.step(action)
    for action in (*actions, *torch.ones(delay, 10, 7)):
        late.step(action)
    for name in ("q", "dq"):
        assert torch.equal(late.path(name), prompt.path(name))
    if make_env is Reach:
        assert (late.path("q")[: delay + 1] == torch.tensor(PANDA_READY)).all()
    assert (late.path("q")[-1] != late.path("q")[0]).any()


def test_payload_and_friction_are_drawn_in_their_ranges_for_each_episode() -> None:
    batch = TensorVectorEnv(ReachTorque(payload=(0.5, 2.5), friction=(0.5, 1.5)), 4096, device="cpu")
    episodes = []
    for _ in range(2):
        batch.reset()
        assert batch.state is not None
        episodes.append(torch.stack(((batch.state.payload - 0.5) / 2, batch.state.friction - 0.5)))
    for unit in episodes:
        assert unit.min() >= 0
        assert unit.max() <= 1
        assert (unit.amax(1) - unit.amin(1) > 0.99).all()
        assert (unit.mean(1) - 0.5).abs().max() < 4.5 / math.sqrt(12 * 4096)
    assert torch.corrcoef(torch.cat(episodes)).triu(1).abs().max() < 4.5 / 64
    batch.step(torch.zeros(4096, 7))
    assert torch.equal((batch.state.payload - 0.5) / 2, episodes[1][0])  # for the whole episode
    exact = Play(ReachTorque(payload=(1.3, 1.3), friction=(0.7, 0.7)), 50).states[0]
    assert (exact.payload == 1.3).all()
    assert (exact.friction == 0.7).all()


PLACES: dict[str, Any] = {"start": PANDA_READY, "targets": TARGET_BOX}
# ---------------------------------------------------------------------------------------------- drawn in each episode

NAMES = {Reach: ("sensor_noise", "action_delay", "joint_offset"), ReachTorque: tuple(DRAWN)}


def drawn_by(make_env: Callable[..., Any], n: int = 4096) -> tuple[Any, dict[str, Any]]:
    """A batch at the start of an episode, and its numbers [N] or [N, dof] by name."""
    batch = TensorVectorEnv(make_env(**{name: DRAWN[name] for name in NAMES[make_env]}), n, device="cpu")
    batch.reset()
    numbers = {name: batch.env.numbers.of(batch.state.drawn, name) for name in batch.env.numbers.ranges}
    return batch, numbers


@pytest.mark.parametrize("make_env", [Reach, ReachTorque])
def test_sensors_delay_and_motors_are_drawn_uniformly_and_independently(make_env: Callable[..., Any]) -> None:
    batch, numbers = drawn_by(make_env)
    units = []
    for name, values in numbers.items():
        low, high = batch.env.numbers.ranges[name]
        if name == "action_delay":
            counts = torch.bincount(values.long(), minlength=4)
            assert values.long().equal(values.long().clamp(0, 3))
            assert (counts - 1024).abs().max() < 4.5 * math.sqrt(1024 * 0.75)
            units.append((values + 0.5) / 4)
            continue
        assert values.min() >= low
        assert values.max() <= high
        units += list(((values - low) / (high - low)).reshape(4096, -1).T)
    unit = torch.stack(units)
    assert len(unit) == (9 if make_env is Reach else 11)
    assert (unit.mean(1) - 0.5).abs().max() < 4.5 / math.sqrt(12 * 4096)
    assert torch.corrcoef(unit).triu(1).abs().max() < 5 / 64
    before = batch.state.drawn
    batch.step(torch.zeros(4096, 7))
    assert torch.equal(batch.state.drawn, before)  # for the whole episode
    batch.reset()
    assert (batch.state.drawn != before).float().mean() > 0.9


def test_what_is_drawn_shifts_no_other_numbers() -> None:
    """Targets, loads and noise are those of the same episodes without it."""
    plain, drawn = (
        Play(ReachTorque(payload=(0.0, 1.0), sensor_noise=0.01, **more), 64) for more in ({}, {"gain": (0.8, 1)})
    )
    for name in ("target", "payload", "friction", "noise"):
        assert torch.equal(plain.path(name)[0], drawn.path(name)[0])


def test_a_drawn_offset_is_a_constant_error_of_the_measured_angles() -> None:
    plain, off = (Play(Reach(joint_offset=size), 500) for size in (0.0, 0.05))
    for action in commands(3, 4, 500, 7):
        plain.step(action)
        off.step(action)
    limit = tables(PANDA, torch.float32, torch.device("cpu"))
    errors = []
    for before, after in zip(plain.states, off.states, strict=True):
        assert torch.equal(before.q, after.q)
        seen = (off.env.observe(after) - plain.env.observe(before)).double()
        assert seen[:, 7:14].abs().max() == 0.0  # velocities are right
        errors.append(seen[:, :7] * ((limit.q_max - limit.q_min) / 2).T)
        tool = forward_kinematics(PANDA, (after.q + off.env.numbers.of(after.drawn, "joint_offset")).double())
        torch.testing.assert_close(off.env.observe(after)[:, 14:17].double(), tool.position[:, -1], rtol=0, atol=5e-6)
    for error in errors:
        torch.testing.assert_close(error, errors[0], rtol=0, atol=1e-6)
    assert 0.045 < errors[0].abs().max() < 0.05 + 1e-6
    assert Reach(joint_offset=0.05).reference == Reach().reference


@pytest.mark.parametrize(("make_env", "control"), [(Reach, "velocity"), (ReachTorque, "torque"), (ReachTorque, "pd")])
def test_each_environment_has_the_delay_that_it_has_drawn(make_env: Callable[..., Any], control: str) -> None:
    play = Play(make_env(control=control, action_delay=(0, 3)), 60)
    delay = play.env.numbers.of(play.states[0].drawn, "action_delay").long()
    assert {*delay.tolist()} == {0, 1, 2, 3}
    actions = commands(5, 8, 60, 7)
    for action in actions:
        play.step(action)
    for number in range(4):
        alike = Play(make_env(control=control, action_delay=number), 60)
        for action in actions:
            alike.step(action)
        rows = delay == number
        assert torch.equal(play.path("q")[:, rows], alike.path("q")[:, rows])


def test_noise_has_the_size_that_is_drawn() -> None:
    batch, numbers = drawn_by(Reach)
    sums = torch.zeros(4096, dtype=torch.float64)
    for _ in range(20):
        batch.step(torch.zeros(4096, 7))
        errors = batch.state.noise.double()
        sums += (errors[:, :7] - numbers["joint_offset"]).square().mean(1) + (errors[:, 7:] / 10).square().mean(1)
    ratio = (sums / 40).sqrt() / numbers["sensor_noise"]
    assert (ratio[numbers["sensor_noise"] > 1e-4] - 1).abs().max() < 5 / math.sqrt(2 * 280)


@pytest.mark.parametrize("control", ["torque", "pd"])
def test_each_environment_has_the_motors_that_it_has_drawn(control: str) -> None:
    play = Play(ReachTorque(control=control, gain=(0.5, 1.5), damping=(0.0, 0.3)), 6)
    drawn, actions = play.states[0].drawn, commands(5, 5, 6, 7)
    for action in actions:
        play.step(action)
    for row in range(6):
        gain, damping = (float(play.env.numbers.of(drawn, name)[row]) for name in ("gain", "damping"))
        alone = Play(ReachTorque(control=control, gain=gain, damping=damping), 6)
        for action in actions:
            alone.step(action)
        torch.testing.assert_close(play.path("q")[:, row], alone.path("q")[:, row], rtol=0, atol=1e-6)


def test_damping_is_that_of_another_chain() -> None:
    """A share of the torque limit at the speed limit, whatever friction is drawn."""
    share = tuple(0.2 * torque / speed for torque, speed in zip(PANDA.torque, PANDA.velocity, strict=True))
    start = {"start": PANDA_READY, "targets": TARGET_BOX, "orientation": False}
    damped = Play(ReachTorque(damping=0.2, **start), 50)
    table = Play(ReachTorque(dataclasses.replace(PANDA, damping=share), **start), 50)
    free = Play(ReachTorque(**start), 50)
    for action in commands(3, 10, 50, 7):
        for play in (damped, table, free):
            play.step(action)
    torch.testing.assert_close(damped.path("q"), table.path("q"), rtol=0, atol=2e-6)
    assert (damped.path("q") - free.path("q")).abs().max() > 0.01


SLIPPERY = dataclasses.replace(PANDA, friction=((0.0, 0.0, 0.0),) * 7)
STIFF = dataclasses.replace(PANDA, friction=tuple((2 * a, b, c) for a, b, c in PANDA.friction))


@pytest.mark.parametrize(
    ("kwargs", "chain"),
    [
        ({"payload": (2.0, 2.0)}, loaded(PANDA, 2.0)),
        ({"friction": (0.0, 0.0)}, SLIPPERY),
        ({"friction": (2.0, 2.0)}, STIFF),
    ],
    ids=["payload", "frictionless", "twice the friction"],
)
def test_a_payload_or_a_friction_is_that_of_another_chain(kwargs: dict[str, Any], chain: SerialChain) -> None:
    """A point mass merged into the last link, or other friction in the table; and it makes a difference."""
    ours, same, plain = (Play(env, 20) for env in (ReachTorque(**kwargs), ReachTorque(chain, **PLACES), ReachTorque()))
    for action in 0.3 * commands(2, 8, 20, 7).clamp(-1, 1):
        for play in (ours, same, plain):
            play.step(action)
    torch.testing.assert_close(ours.path("q"), same.path("q"), rtol=0, atol=1e-4)
    assert ((ours.states[-1].q - plain.states[-1].q).abs().amax(1) > 1e-3).all()


# ---------------------------------------------------------------------------------------------------- evaluation


@pytest.mark.parametrize(
    ("name", "control", "success", "steps"),
    [
        ("reach", "velocity", 0.99, 10.0),
        ("reach", "cartesian", 0.98, 19.0),
        ("reach-torque", "torque", 0.99, 22.5),
        ("reach-torque", "pd", 0.99, 26.0),
    ],
)
def test_the_expert_arrives(name: str, control: str, success: float, steps: float) -> None:
    """On 1,000 held-out targets; its time is told in seconds, and where it is known as a ratio to the bound."""
    result = evaluate(name, ExpertPolicy(), env_kwargs={"control": control})
    assert result.success_rate is not None
    assert result.success_rate >= success
    assert result.mean_length < steps
    told, period = result.as_dict(), 0.05 if name == "reach" else 0.02
    assert told["mean_seconds"] == pytest.approx(period * result.mean_length)
    if name == "reach":
        assert result.mean < result.reference["optimum"]
        assert told["seconds_per_bound"] == pytest.approx(told["mean_seconds"] / np.mean(held_out()["seconds"]))
    else:
        assert result.mean == pytest.approx(result.reference["optimum"], abs=0.01)  # the expert's own return
        assert "seconds_per_bound" not in told


@pytest.mark.parametrize(
    ("env", "n"),
    [
        (Reach(), 2000),
        (Reach(control="cartesian"), 2000),
        (ReachTorque(), 100),
        (ReachTorque(control="pd"), 100),
    ],
    ids=lambda value: f"{type(value).__name__} {value.control}" if isinstance(value, TensorEnv) else None,  # type: ignore[attr-defined]
)
def test_random_return_is_the_reference(env: TensorEnv[Any], n: int) -> None:
    """Within three standard errors and the 0.05 of its rounding; most episodes last to the limit."""
    result, reference = run_episodes(TensorVectorEnv(env, n, device="cpu", seed=11), RandomPolicy()), env.reference
    assert reference.random is not None
    assert reference.solved_at is not None
    assert reference.optimum is not None
    assert abs(result.returns.mean() - reference.random) < 3 * result.returns.std() / math.sqrt(n) + 0.05
    assert reference.random < reference.solved_at < reference.optimum
    assert np.median(result.lengths) == result.lengths.max() == env.max_episode_steps
    assert env.max_episode_steps == (100 if isinstance(env, Reach) else 200)


OTHER_TASKS: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "delay": (Reach, {"action_delay": 1}),
    "torque, delay": (ReachTorque, {"action_delay": 1}),
    "torque, payload": (ReachTorque, {"payload": (0.0, 1.0)}),
    "torque, friction": (ReachTorque, {"friction": (0.9, 1.0)}),
    "torque, chain": (ReachTorque, OTHER),
    "drawn delay": (Reach, {"action_delay": (0, 1)}),
    "torque, gain": (ReachTorque, {"gain": (0.9, 1.1)}),
    "torque, damping": (ReachTorque, {"damping": 0.1}),
}


@pytest.mark.parametrize("name", OTHER_TASKS)
def test_another_task_has_no_reference(name: str) -> None:
    make_env, changed = OTHER_TASKS[name]
    assert make_env(**changed).reference == Reference()
    assert make_env(sensor_noise=0.01).reference == make_env().reference  # disturbed sensors do not move the bound
    seconds = make_env(**changed).summary(np.ones(2), np.array([10, 20]), None)
    assert seconds == {"mean_seconds": pytest.approx(0.75 if make_env is Reach else 0.3)}


# ---------------------------------------------------------------------------------------------------- bad input

BOTH: dict[str, tuple[dict[str, Any], str]] = {
    "control": ({"control": "magic"}, r'^control must be "\w+" or "\w+", got \'magic\''),
    "start outside": ({"start": (0.0,) * 7}, r"q of joint 4 must lie within -3.0718 … -0.0698 rad, got 0.0"),
    "start too short": ({"start": (0.0,) * 6}, r"q must have shape \(7,\), got \(6,\)"),
    "box inverted": ({"targets": ((0.5, 0.4), (0, 0.1), (0.2, 0.3))}, r"three pairs \(low, high\) in m"),
    "box of two": ({"targets": ((0.4, 0.5), (0, 0.1))}, r"three pairs \(low, high\) in m"),
    "box of words": ({"targets": "everywhere"}, r"three pairs \(low, high\) in m .* got everywhere"),
    "box too far": ({"targets": ((0.4, 0.5), (0, 0.1), (0.2, 1.5))}, r"cannot reach \(0.4, 0, 1.5\) m|1\.5\) m within"),
    "box not a number": ({"targets": ((0.4, math.nan), (0, 0.1), (0.2, 0.3))}, r"three pairs \(low, high\)"),
    "noise negative": ({"sensor_noise": -0.1}, r"sensor_noise must be at least 0 rad, got -0.1"),
    "noise not a number": ({"sensor_noise": math.nan}, r"sensor_noise must be at least 0 rad, got nan"),
    "noise a word": ({"sensor_noise": "some"}, r"sensor_noise must be at least 0 rad, got some"),
    "delay negative": ({"action_delay": -1}, r"action_delay must be a whole number of steps, at least 0, got -1"),
    "delay fractional": ({"action_delay": 1.5}, r"action_delay must be a whole number .* got 1.5"),
    "delay infinite": ({"action_delay": math.inf}, r"action_delay must be a whole number .* got inf"),
    "noise a wrong pair": (
        {"sensor_noise": (0.2, 0.1)},
        r"sensor_noise must be at least 0 rad, or a pair \(low, high\)",
    ),
    "noise three numbers": ({"sensor_noise": (0.1, 0.2, 0.3)}, r"or a pair \(low, high\) of such numbers, got \(0.1"),
    "delay a pair of fractions": ({"action_delay": (0, 1.5)}, r"a whole number of steps, at least 0, or a pair"),
    "offset negative": ({"joint_offset": -0.1}, "joint_offset must be at least 0 rad, got -0.1"),
    "offset a pair": ({"joint_offset": (0, 0.1)}, "joint_offset must be at least 0 rad"),
    "delay not a number": ({"action_delay": math.nan}, r"action_delay must be a whole number .* got nan"),
}


@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize("make_env", [Reach, ReachTorque])
def test_bad_input(make_env: Callable[..., Any], name: str) -> None:
    kwargs, message = BOTH[name]
    with pytest.raises(ValueError, match=message):
        make_env(**kwargs)


@pytest.mark.parametrize(
    ("make_env", "needed"), [(Reach, "acceleration"), (ReachTorque, "torque"), (Reach, "velocity")]
)
def test_a_chain_without_a_limit_that_the_task_needs_is_refused(make_env: Callable[..., Any], needed: str) -> None:
    chain = dataclasses.replace(PANDA, **{needed: (None, *getattr(PANDA, needed)[1:])})
    with pytest.raises(
        ValueError, match=rf"^Franka Emika Panda: joint 1 has no limit of {needed}, which this task needs"
    ):
        make_env(chain)


@pytest.mark.parametrize(("name", "value"), [("gain", 0.0), ("gain", (0.0, 1.0)), ("gain", True), ("damping", -0.1)])
def test_bad_motors_are_refused(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"^{name} must be (a factor above|at least) 0"):
        ReachTorque(**{name: value})


@pytest.mark.parametrize("name", ["payload", "friction"])
@pytest.mark.parametrize("values", [(2.0, 1.0), (-1.0, 1.0), (0.0, math.inf), (math.nan, 1.0), (1.0,), 1.0, "ab"])
def test_bad_ranges_are_refused(name: str, values: Any) -> None:
    with pytest.raises(ValueError, match=rf"^{name} must be a pair \(low, high\)"):
        ReachTorque(**{name: values})
