"""Wrappers against Gymnasium's own around the same environment, against constants, and against the contract."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import probes
import pytest
import torch
import yaml
from gymnasium.spaces import Box, Discrete
from hypothesis import given, settings
from hypothesis import strategies as st

from palaestra.envs import Reference, SingleEnv, TensorEnv, TensorVectorEnv, make
from palaestra.envs.arm.reach import Reach
from palaestra.envs.cartpole import GRAVITY, HALF_LENGTH, CartPole
from palaestra.envs.checker.conformance import check_env
from palaestra.envs.checker.value_rules import random_actions
from palaestra.envs.core import state_fields
from palaestra.envs.core.rng import Rng
from palaestra.envs.rendering.picture import picture
from palaestra.envs.snake import Snake
from palaestra.envs.wrappers import DiscretizedActions, FrameStack, Randomized, TimeAware, Wrapper, WrapperError
from palaestra.train import cli
from palaestra.train.config.run_config import resolve_config
from palaestra.train.config.schema import ConfigError

STEPS = 300


def play(env: gymnasium.Env[Any, Any], steps: int = STEPS) -> Iterator[tuple[Any, ...]]:
    """Observation, reward and ends of random steps, over the resets between episodes; the actions are seeded."""
    env.action_space.seed(1)
    yield (env.reset(seed=7)[0],)
    for _ in range(steps):
        obs, reward, terminated, truncated, _ = env.step(env.action_space.sample())
        yield obs, reward, terminated, truncated
        if terminated or truncated:
            yield (env.reset()[0],)


def assert_twins(ours: gymnasium.Env[Any, Any], theirs: gymnasium.Env[Any, Any], least_episodes: int = 3) -> None:
    """The same spaces, and the same bits in every step."""
    assert ours.observation_space == theirs.observation_space
    assert ours.action_space == theirs.action_space
    episodes = 0
    for mine, other in zip(play(ours), play(theirs), strict=True):
        assert mine[0].dtype == other[0].dtype
        np.testing.assert_array_equal(mine[0], other[0])
        assert mine[1:] == other[1:]
        episodes += len(mine) == 1
    assert episodes >= least_episodes


@pytest.mark.parametrize("count", [1, 4])
@pytest.mark.parametrize("build", [CartPole, lambda: Snake(6), lambda: DiscretizedActions(Reach(), 2)])
def test_stacked_frames_are_gymnasiums(build: Callable[[], TensorEnv[Any]], count: int) -> None:
    theirs = gymnasium.wrappers.FrameStackObservation(SingleEnv(build()), count, padding_type="reset")
    assert_twins(SingleEnv(FrameStack(build(), count)), theirs)


@pytest.mark.parametrize(("build", "limit"), [(CartPole, 17), (CartPole, 500), (Reach, 100)])
def test_the_share_of_the_time_is_gymnasiums(build: type[TensorEnv[Any]], limit: int) -> None:
    inside = gymnasium.wrappers.TimeLimit(SingleEnv(build(), max_episode_steps=limit), limit)
    theirs = gymnasium.wrappers.TimeAwareObservation(inside, normalize_time=True)
    assert_twins(SingleEnv(TimeAware(build(), limit)), theirs)


@pytest.mark.parametrize("multidiscrete", [False, True])
@pytest.mark.parametrize("bins", [2, 3])
def test_discretized_actions_are_gymnasiums(bins: int, multidiscrete: bool) -> None:
    theirs = gymnasium.wrappers.DiscretizeAction(SingleEnv(Reach()), bins, multidiscrete)
    assert_twins(SingleEnv(DiscretizedActions(Reach(), bins, multidiscrete)), theirs)


def test_all_together_are_gymnasiums_in_the_documented_order() -> None:
    chosen = {"discretized_actions": 2, "frame_stack": 3, "time_aware": True}
    ours = SingleEnv("palaestra.envs.arm.reach:Reach", max_episode_steps=40, **chosen)
    inside = gymnasium.wrappers.TimeLimit(SingleEnv(Reach(), max_episode_steps=40), 40)
    timed = gymnasium.wrappers.TimeAwareObservation(inside, normalize_time=True)
    stacked = gymnasium.wrappers.FrameStackObservation(timed, 3, padding_type="reset")
    assert_twins(ours, gymnasium.wrappers.DiscretizeAction(stacked, 2))


class Actor(probes.ContinuousTarget):
    """Bounded actions of any shape; what arrived is observed."""

    def __init__(self, low: np.ndarray[Any, Any], high: np.ndarray[Any, Any]) -> None:
        self.observation_space = Box(-np.inf, np.inf, (1,))
        self.action_space = Box(low, high)
        self.arrived = torch.zeros(0)

    def step(self, state: Any, action: torch.Tensor, rng: Rng) -> Any:
        self.arrived = action
        return state, state.signal, state.signal > 2

    def expert(self, state: Any) -> torch.Tensor:
        return self.arrived


@settings(deadline=None, max_examples=60)
@given(
    ends=st.lists(st.tuples(st.floats(-1e3, 1e3, width=32), st.floats(0.125, 1e3, width=32)), min_size=1, max_size=4),
    bins=st.integers(2, 8),
    multidiscrete=st.booleans(),
    column=st.booleans(),
)
def test_any_grid_is_gymnasiums(ends: list[tuple[float, float]], bins: int, multidiscrete: bool, column: bool) -> None:
    """All values of all dimensions; the expert inside finds its way back."""
    shape = (len(ends), 1) if column else (len(ends),)
    low = np.array([a for a, _ in ends], np.float32).reshape(shape)
    actor = Actor(low, low + np.array([width for _, width in ends], np.float32).reshape(shape))
    ours = DiscretizedActions(actor, bins, multidiscrete)
    theirs = gymnasium.wrappers.DiscretizeAction(SingleEnv(actor), bins, multidiscrete)
    assert ours.action_space == theirs.action_space
    space: Any = ours.action_space
    rng = np.random.default_rng(0)
    actions = rng.integers(0, bins, (50, len(ends))) if multidiscrete else rng.integers(0, space.n, 50)
    ours.step(probes.ProbeState(torch.zeros(50)), torch.as_tensor(actions), Rng(torch.arange(50), 1))
    for action, arrived in zip(actions, actor.arrived.numpy(), strict=True):
        np.testing.assert_array_equal(arrived, theirs.action(action))
    np.testing.assert_array_equal(ours.expert(None), actions)


def test_the_expert_of_discretized_actions_is_the_nearest() -> None:
    inside, batch = Reach(), TensorVectorEnv(Reach(), 200, device="cpu")
    batch.reset()
    ours = DiscretizedActions(inside, 3)
    theirs = gymnasium.wrappers.DiscretizeAction(SingleEnv(Reach()), 3)
    wanted = [theirs.revert_action(action) for action in inside.expert(batch.state).numpy()]
    np.testing.assert_array_equal(ours.expert(batch.state), wanted)


# ----------------------------------------------------------------------------------------------------------- randomised


def test_drawn_numbers_are_uniform_new_in_every_episode_and_the_same_again() -> None:
    batch = TensorVectorEnv(Randomized(CartPole(), gravity=(5.0, 15.0), force=(8, 8)), 20_000, device="cpu", seed=2)
    draws = []
    for episode in (0, 1, 0):
        batch.reset(options={"episode": episode})
        assert batch.state.force.eq(8.0).all()
        draws.append(batch.state.gravity)
        assert draws[-1].min() >= 5.0
        assert draws[-1].max() <= 15.0
        assert abs(draws[-1].mean() - 10.0) < 4.5 * 10 / 12**0.5 / 20_000**0.5
        assert abs(draws[-1].std() - 10 / 12**0.5) < 0.05
    assert torch.equal(draws[0], draws[2])
    assert abs(torch.corrcoef(torch.stack(draws[:2]))[0, 1]) < 4.5 / 20_000**0.5
    held = batch.state.gravity.clone()
    batch.advance(random_actions(batch, 1))
    assert torch.equal(held, batch.state.gravity)  # for the whole episode
    batch.reset_finished(torch.arange(20_000) % 2 == 0, batch.env.observe(batch.state))
    assert torch.equal(held == batch.state.gravity, torch.arange(20_000) % 2 == 1)


def test_two_randomized_wrappers_draw_apart_and_neither_disturbs_the_environment() -> None:
    plain = make("cartpole", 5000, device="cpu", seed=3)
    env = Randomized(Randomized(CartPole(), gravity=(0.5, 1.5)), force=(0.5, 1.5))
    batch = TensorVectorEnv(env, 5000, device="cpu", seed=3)
    assert torch.equal(plain.reset()[0], batch.reset()[0])
    values = torch.stack((batch.state.gravity, batch.state.force, batch.state.position))
    assert torch.corrcoef(values).triu(1).abs().max() < 4.5 / 5000**0.5


def test_gravity_changes_a_step_as_the_equations_say() -> None:
    """Δω = Δt · g sin θ / (l (4/3 − m cos² θ / M)) + what does not depend on g."""
    batch = TensorVectorEnv(Randomized(CartPole(), gravity=(1.0, 30.0)), 500, device="cpu", seed=4)
    batch.reset()
    start, drawn = batch.state, batch.state.gravity.double()
    actions = random_actions(batch, 1)
    usual, _, _ = CartPole().step(start, actions, Rng(torch.arange(500), 1))
    batch.advance(actions)
    angle = start.angle.double()
    per_gravity = 0.02 * angle.sin() / (HALF_LENGTH * (4 / 3 - 0.1 * angle.cos().square() / 1.1))
    change = (batch.state.angular_velocity - usual.angular_velocity).double()
    torch.testing.assert_close(change, (drawn - GRAVITY) * per_gravity, rtol=0, atol=1e-6)
    assert change.abs().max() > 1e-3


@pytest.mark.parametrize("around", [lambda env: env, lambda env: FrameStack(env, 2)])
def test_a_range_of_one_value_is_the_environment_with_that_constant(around: Callable[..., TensorEnv[Any]]) -> None:
    """Bit for bit, for numbers that float32 holds exactly; also where the wrapper lies outside another one."""
    values = {"gravity": 8.0, "pole_mass": 0.25, "half_length": 0.75, "force": 6.0}
    drawn = TensorVectorEnv(Randomized(around(CartPole()), **{k: (v, v) for k, v in values.items()}), 64, device="cpu")
    built = TensorVectorEnv(around(CartPole(**values)), 64, device="cpu")
    usual = TensorVectorEnv(around(CartPole()), 64, device="cpu")
    assert torch.equal(drawn.reset()[0], built.reset()[0])
    usual.reset()
    for step in range(1, 60):
        actions = random_actions(built, step)
        results = [batch.step(actions)[:4] for batch in (drawn, built, usual)]
        assert all(torch.equal(a, b) for a, b in zip(*results[:2], strict=True))
    assert not torch.equal(results[0][0], results[2][0])


def test_a_picture_shows_the_drawn_numbers() -> None:
    batch = TensorVectorEnv(Randomized(CartPole(), half_length=(0.25, 0.25)), 1, device="cpu")
    built = TensorVectorEnv(CartPole(half_length=0.25), 1, device="cpu")
    batch.reset()
    built.reset()
    frames = [picture(b.env, b.state_of(0)) for b in (batch, built)]
    np.testing.assert_array_equal(*frames)
    assert not np.array_equal(frames[0], picture(CartPole(), built.state_of(0)))


def test_other_rules_have_no_reference_and_other_views_keep_it() -> None:
    assert Randomized(CartPole(), force=(8.0, 12.0)).reference == Reference() == CartPole(force=9.0).reference
    assert FrameStack(TimeAware(CartPole()), 2).reference == CartPole().reference
    assert DiscretizedActions(Reach(), 3).reference.solved_at == Reach().reference.solved_at


# --------------------------------------------------------------------------------------------------------- the contract

NESTED: dict[str, Callable[[], TensorEnv[Any]]] = {
    "nothing": lambda: Wrapper(Snake(6)),
    "stack": lambda: FrameStack(Snake(6), 2),
    "stack of stacks": lambda: FrameStack(FrameStack(CartPole(), 2), 2),
    "time": lambda: TimeAware(CartPole()),
    "actions": lambda: DiscretizedActions(Reach(), 3, multidiscrete=True),
    "randomised": lambda: Randomized(CartPole(), half_length=(0.25, 1.0), force=(5, 15)),
    "randomised, from a fixed start": lambda: Randomized(Slope(), steep=(0.0, 1.0)),
    "randomised outside": lambda: Randomized(FrameStack(TimeAware(CartPole()), 2), gravity=(5, 15)),
    "all": lambda: DiscretizedActions(FrameStack(TimeAware(Randomized(Force(), push=(0.1, 0.5))), 2), 4),
}


class Slope(probes.ConstantReward):
    """Starts at 0 always; the reward is a number that may be drawn."""

    steep = 0.5

    def step(self, state: Any, action: torch.Tensor, rng: Rng) -> Any:
        return state, self.steep * torch.ones_like(state.signal), state.signal > 2


class Force(probes.ContinuousTarget):
    """The signal is pushed for ten steps."""

    max_episode_steps = 10
    push = 0.1

    def step(self, state: Any, action: torch.Tensor, rng: Rng) -> Any:
        after = (state.signal + self.push * action.squeeze(1)).clamp(-1.0, 1.0)
        return probes.ProbeState(after), -after.square(), after > 0.99


@pytest.mark.parametrize("name", NESTED)
def test_every_wrapper_keeps_the_contract(name: str) -> None:
    findings = check_env(NESTED[name](), num_envs=24, steps=12)
    assert not [finding for finding in findings if not finding.passed]


def test_a_wrapper_that_changes_nothing_changes_nothing() -> None:
    plain, batch = (TensorVectorEnv(env, 32, device="cpu", seed=5) for env in (Snake(6), Wrapper(Snake(6))))
    assert torch.equal(plain.reset()[0], batch.reset()[0])
    for step in range(1, 40):
        assert torch.equal(plain.env.expert(plain.state), batch.env.expert(batch.state))
        actions = random_actions(plain, step)
        for a, b in zip(plain.step(actions)[:4], batch.step(actions)[:4], strict=True):
            assert torch.equal(a, b)
    inside, outside = Snake(6), Wrapper(Snake(6))
    for name in ("turn_based", "picture_size", "frames_per_second", "max_episode_steps", "keys_to_action", "reference"):
        assert getattr(inside, name) == getattr(outside, name)
    market = Wrapper(make("pricing-easy", 1, device="cpu").env)  # type: ignore[attr-defined]
    assert market.env.has("exact")
    assert not market.has("exact")  # its states are those inside


class Choosy(probes.MatchObservation):
    """Only action 1 is legal at +1, and an episode that ends there is a success."""

    def action_mask(self, state: Any) -> torch.Tensor:
        return torch.stack((state.signal < 0, torch.ones_like(state.signal, dtype=torch.bool)), 1)

    def success(self, state: Any) -> torch.Tensor:
        return state.signal > 0


def test_masks_and_successes_are_those_of_the_environment_inside() -> None:
    plain, batch = (TensorVectorEnv(env, 32, device="cpu") for env in (Choosy(), TimeAware(FlatStack(Choosy()), 9)))
    plain.reset()
    batch.reset()
    for _ in range(3):
        assert torch.equal(plain.action_masks(), batch.action_masks())  # type: ignore[arg-type]
        infos = [b.step(torch.ones(32, dtype=torch.int64))[4] for b in (plain, batch)]
        assert torch.equal(infos[0]["is_success"], infos[1]["is_success"])
        assert torch.equal(plain.final_action_masks(), batch.final_action_masks())  # type: ignore[arg-type]
    assert not batch.action_masks().all()  # type: ignore[union-attr]


class FlatStack(FrameStack):
    """A wrapper in user code: two frames in a row."""

    def __init__(self, env: TensorEnv[Any]) -> None:
        super().__init__(env, 2)
        self.observation_space = Box(-1.0, 1.0, (2,))

    def observe(self, state: Any) -> torch.Tensor:
        return super().observe(state).flatten(1)


def test_fields_of_the_same_name_stand_beside_each_other() -> None:
    batch = TensorVectorEnv(FrameStack(FrameStack(CartPole(), 2), 3), 4, device="cpu")
    batch.reset()
    fields = state_fields(batch.state)
    assert fields["frames"].shape == (4, 2, 4)
    assert fields["frames_"].shape == (4, 3, 2, 4)


# ------------------------------------------------------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("build", "text"),
    [
        (lambda: FrameStack(Counted(), 2), "needs Box observations, got Discrete"),
        (lambda: FrameStack(CartPole(), 0), "at least 1"),
        (lambda: TimeAware(FrameStack(CartPole(), 2)), "one dimension"),
        (lambda: TimeAware(probes.ConstantReward()), "no time limit"),
        (lambda: DiscretizedActions(CartPole(), 3), "needs bounded Box actions"),
        (lambda: DiscretizedActions(Reach(), 1), "at least 2"),
        (lambda: DiscretizedActions(Reach(), 4), r"16,384 actions.*multidiscrete: true"),
        (lambda: Randomized(CartPole()), "at least one"),
        (lambda: Randomized(CartPole(), mass=(1, 2)), "no attribute 'mass'; its numbers are cart_mass, force"),
        (lambda: Randomized(CartPole(), max_episode_steps=(1, 2)), "no float but int"),
        (lambda: Randomized(CartPole(), reference=(1, 2)), "no float but property"),
        (lambda: Randomized(CartPole(), force=(2, 1)), "low 2 above high 1"),
        (lambda: Randomized(CartPole(), force=(0, float("inf"))), "needs its range"),
        (lambda: Randomized(Reach(), sensor_noise=(0.0, 0.1)), "is a range that it draws from itself: sensor_noise="),
        (lambda: Randomized(Fixed(), size=(1.0, 2.0)), r"a tensor \[N\] in the place of size"),
    ],
)
def test_a_wrapper_that_does_not_fit_says_why(build: Callable[[], Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        build()


class Fixed(probes.ConstantReward):
    """Asks for the truth of a number that may be drawn."""

    def __init__(self) -> None:
        super().__init__()
        self.size = 1.0

    def step(self, state: Any, action: Any, rng: Any) -> Any:
        return super().step(state, action, rng) if self.size > 0.5 else None


class Counted(probes.ConstantReward):
    def __init__(self) -> None:
        super().__init__()
        self.observation_space = Discrete(3)


@pytest.mark.parametrize(
    ("env", "setting", "text"),
    [
        ("cartpole", "frame_stack=0", "env.frame_stack=0: must be an integer of at least 1"),
        ("cartpole", "frame_stack=2.5", "env.frame_stack=2.5: must be an integer of at least 1"),
        ("cartpole", "time_aware=3", "env.time_aware=3: must be true or false"),
        ("reach", "discretized_actions=4", "env.discretized_actions=4: .*16,384 actions"),
        ("reach", "discretized_actions={bins: 3, bin: 2}", r"env.discretized_actions=.*or {bins, multidiscrete}"),
        ("cartpole", "randomized=gravity", "env.randomized=gravity: must say {attribute: "),
        ("CartPole-v1", "randomized={gravity: [1, 2]}", "env.randomized=.*only tensor environments"),
        ("CartPole-v1", "discretized_actions=3", "env.discretized_actions=3: needs bounded Box actions"),
        ("CartPole-v1", "frame_stack=0", "env.frame_stack=0: must be an integer of at least 1"),
        ("cartpole", "frame_stak=2", "did you mean 'frame_stack'"),
    ],
)
def test_a_wrong_setting_is_named(env: str, setting: str, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        resolve_config(env, settings=[f"env.{setting}"])


# ----------------------------------------------------------------------------------------------------- from the outside


def test_gymnasiums_environments_get_gymnasiums_wrappers_in_the_same_order() -> None:
    batch = make("Pendulum-v1", 2, device="cpu", time_aware=True, frame_stack=3, discretized_actions=5)
    assert batch.single_action_space == Discrete(5)
    obs, _ = batch.reset()
    assert obs.shape == (2, 3, 4)
    for _ in range(2):
        obs = batch.step(torch.tensor([0, 4]))[0]
    np.testing.assert_allclose(obs[:, :, 3].numpy(), [[0.0, 1 / 200, 2 / 200]] * 2, rtol=1e-6)
    with pytest.raises(WrapperError, match="only tensor environments"):
        make("Pendulum-v1", 2, device="cpu", randomized={"g": [1, 2]})


@pytest.mark.parametrize(
    ("arguments", "observed"),
    [
        (
            "cartpole --set env.frame_stack=3 --set env.time_aware=true --set env.max_episode_steps=30 "
            "--set n_steps=16 --set batch_size=32 --set env.randomized={half_length:[0.25,1.0]}",
            (3, 5),
        ),
        (
            "reach --agent dqn --set env.control=velocity --set env.discretized_actions=2 --set learning_starts=32 "
            "--set env.max_episode_steps=9",
            (23,),
        ),
    ],
)
def test_a_run_keeps_its_wrappers(
    arguments: str,
    observed: tuple[int, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("palaestra.train.runs.callbacks.EVALUATIONS", 1)
    words = arguments.replace("{half_length:[0.25,1.0]}", "{half_length: [0.25, 1.0]}")
    parts = [part for word in words.split(" --set ") for part in ("--set", word)][1:]
    train = [*parts[0].split(), *parts[1:]]
    for command in (
        ["train", *train, "--num-envs", "8", "--total-timesteps", "256", "--track", "disabled", "--run-dir", "run"],
        ["evaluate", "run", "--episodes", "16"],
        ["watch", "run", "--record", "last.png"],
    ):
        monkeypatch.setattr("sys.argv", ["palaestra", *command])
        with pytest.raises(SystemExit) as exit_:
            cli.main()
        assert exit_.value.code == 0, capsys.readouterr().err
    config = yaml.safe_load(Path("run/config.yaml").read_text())
    batch = make(config["env"], 2, "cpu", **config["env_kwargs"])
    assert batch.single_observation_space.shape == observed
    assert Path("last.png").is_file()
    if "randomized" in config["env_kwargs"]:
        assert "best known" not in capsys.readouterr().out
