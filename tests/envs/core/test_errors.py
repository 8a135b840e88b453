"""Environments that fail in the middle of training: which one, in which of its episodes, at which step."""

from __future__ import annotations

import copy
import multiprocessing
import os
import pickle
import signal
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict, Discrete
from stable_baselines3.common.vec_env import DummyVecEnv
from torch import Tensor

from palaestra.agents import DQN, PPO, PQN, CheckpointError
from palaestra.envs import EnvError, Rng, TensorEnv, TensorVectorEnv, make
from palaestra.envs.core import state_fields
from palaestra.envs.core.errors import is_machine_failure, is_out_of_memory
from palaestra.envs.interop.gymnasium_adapter import GymnasiumAdapter
from palaestra.envs.interop.sb3_adapter import VecEnvAdapter

METHODS = ("reset", "step", "observe", "success", "action_mask")


@dataclass(frozen=True)
class CountState:
    key: Tensor  # int64 [N] drawn at the reset
    count: Tensor  # int64 [N] steps of the episode


class Counter(TensorEnv[CountState]):
    """Episodes of ``length`` steps; ``method`` raises where a row has the key and the count of ``at``."""

    max_episode_steps = None
    error: type[BaseException] = ZeroDivisionError

    def __init__(self, length: int = 4, method: str = "", at: tuple[int, int] = (0, 0)) -> None:
        self.length, self.method, self.at = length, method, at
        self.observation_space, self.action_space = Box(-1e9, 1e9, (1,), np.float32), Discrete(2)

    def reset(self, rng: Rng) -> CountState:
        key = rng.integers(0, 2**30)
        self.look("reset", key, torch.zeros_like(key))
        return CountState(key, torch.zeros_like(key))

    def step(self, state: CountState, action: Tensor, rng: Rng) -> tuple[CountState, Tensor, Tensor]:
        count = state.count + 1
        self.look("step", state.key, count)
        return CountState(state.key, count), torch.ones(len(count)), count >= self.length

    def observe(self, state: CountState) -> Tensor:
        self.look("observe", state.key, state.count)
        return state.count.float().unsqueeze(-1)

    def success(self, state: CountState) -> Tensor:
        self.look("success", state.key, state.count)
        return state.count > 0

    def action_mask(self, state: CountState) -> Tensor:
        self.look("action_mask", state.key, state.count)
        return torch.ones(len(state.key), 2, dtype=torch.bool)

    def look(self, method: str, key: Tensor, count: Tensor) -> None:
        if method == self.method and bool(((key == self.at[0]) & (count == self.at[1])).any()):
            raise self.error(f"the wheel came off at {count.tolist()}")


def key_of(env_index: int, episode: int, seed: int = 0) -> int:
    """The number drawn by the reset of that episode."""
    batch = TensorVectorEnv(Counter(), 1, device="cpu", seed=seed, first_env_index=env_index)
    batch.reset(options={"episode": episode})
    assert batch.state is not None
    return int(batch.state.key)


def snapshot(batch: TensorVectorEnv[Any]) -> dict[str, Any]:
    return copy.deepcopy(batch.state_dict()) | {"final": copy.deepcopy(batch.final_state)}


def same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    def flat(part: dict[str, Any]) -> list[Tensor]:
        final = {} if part["final"] is None else state_fields(part["final"])
        counters = [part[name] for name in ("episode", "episode_length", "episode_return")]
        return [*part["state"].values(), *final.values(), *counters]

    return len(flat(a)) == len(flat(b)) and all(torch.equal(x, y) for x, y in zip(flat(a), flat(b), strict=True))


# ---------------------------------------------------------------------------------------------------- the exception


def test_the_place_survives_pickling_and_gymnasiums_way_of_handing_errors_on() -> None:
    error = EnvError("broken", env_index=3, episode=4, step=5)
    for other in (
        pickle.loads(pickle.dumps(error)),
        type(error)(error),
        type(error)(pickle.loads(pickle.dumps(error))),
    ):
        assert (str(other), other.env_index, other.episode, other.step) == ("broken", 3, 4, 5)
    plain = EnvError("broken")
    assert (plain.env_index, plain.episode, plain.step) == (None, None, None)


# ---------------------------------------------------------------------------------------------------- our own


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("num_envs", "row"), [(1, 0), (5, 0), (5, 3), (5, 4), (64, 41)])
def test_a_failing_rule_is_named_with_environment_episode_and_step(method: str, num_envs: int, row: int) -> None:
    """In episode 2, at its step 3 (a reset has none); the batch is then as before, and a mended one goes on."""
    env_index, step = 100 + row, 0 if method == "reset" else 3
    batch = TensorVectorEnv(
        Counter(4, method, (key_of(env_index, 2), step)), num_envs, device="cpu", first_env_index=100
    )
    healthy = TensorVectorEnv(Counter(4), num_envs, device="cpu", first_env_index=100)
    actions = torch.zeros(num_envs, dtype=torch.int64)

    def play(env: TensorVectorEnv[Any]) -> Any:
        env.action_masks()
        result = env.step(actions)
        env.final_action_masks()
        return result

    batch.reset(), healthy.reset()
    steps = 7 if method == "reset" else 10  # that go well: episodes 0 and 1 take 8
    for _ in range(steps):
        play(batch), play(healthy)
    if method == "action_mask":  # the one after the step is the first to see count 3
        batch.step(actions), healthy.step(actions)
    before = snapshot(batch)
    with pytest.raises(EnvError) as caught:
        play(batch)
    error = caught.value
    assert (error.env_index, error.episode, error.step) == (env_index, 2, step)
    assert f"Counter: {method} raises ZeroDivisionError: the wheel came off" in str(error)
    assert "(test_errors.py:" in str(error)
    assert str(error).endswith(f"in environment {env_index}, episode 2, step {step}")
    assert isinstance(error.__cause__, ZeroDivisionError)
    assert same(before, snapshot(batch))
    batch.env.method = ""  # type: ignore[attr-defined]
    for _ in range(6):
        for ours, theirs in zip(play(batch)[:4], play(healthy)[:4], strict=True):
            assert torch.equal(ours, theirs)


def test_the_first_reset_is_covered() -> None:
    batch = TensorVectorEnv(Counter(4, "reset", (key_of(3, 0), 0)), 5, device="cpu")
    with pytest.raises(EnvError, match=r"reset raises .* in environment 3, episode 0, step 0$") as caught:
        batch.reset()
    assert caught.value.episode == 0
    batch.env.method = ""  # type: ignore[attr-defined]
    batch.reset()
    assert batch.episode.tolist() == [0] * 5


def test_masks_of_ended_episodes_belong_to_those() -> None:
    batch = TensorVectorEnv(Counter(2, "action_mask", (key_of(1, 0), 2)), 3, device="cpu")
    batch.reset()
    for _ in range(2):
        batch.step(torch.zeros(3, dtype=torch.int64))
    batch.action_masks()
    with pytest.raises(EnvError, match=r"in environment 1, episode 0, step 2$"):
        batch.final_action_masks()


def test_the_way_of_a_gpu_names_the_same_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """All rows are reset there, and the finished ones selected."""
    batch = TensorVectorEnv(Counter(4, "reset", (key_of(3, 1), 0)), 5, device="cpu")
    monkeypatch.setattr(batch, "reset_finished", batch._reset_by_selection)
    batch.reset()
    for _ in range(3):
        batch.step(torch.zeros(5, dtype=torch.int64))
    with pytest.raises(EnvError, match=r"in environment 3, episode 1, step 0$"):
        batch.step(torch.zeros(5, dtype=torch.int64))


class Blended(Counter):
    """Keeps noise of the batch's size; fails in environment 2, or where the whole batch has a mean above 2."""

    def __init__(self, whole: bool) -> None:
        super().__init__(100)
        self.noise, self.whole = torch.zeros(5), whole

    def step(self, state: CountState, action: Tensor, rng: Rng) -> Any:
        state, reward, ended = super().step(state, action, rng)
        reward = reward + (0.0 if self.whole else self.noise)
        if int(state.count.amax()) == 3 and (not self.whole or len(action) == 5):
            raise ZeroDivisionError("the belt is torn")
        return state, reward, ended


@pytest.mark.parametrize("whole", [False, True])
def test_where_no_environment_fails_alone_the_batch_is_named(whole: bool) -> None:
    """Rules that look across rows; and those that keep things of the batch's size, where halves fail in another way."""
    batch = TensorVectorEnv(Blended(whole), 5, device="cpu")
    batch.reset()
    batch.step(torch.zeros(5, dtype=torch.int64))
    batch.step(torch.zeros(5, dtype=torch.int64))
    with pytest.raises(EnvError, match=r"the belt is torn .* for the batch of 5 as a whole") as caught:
        batch.step(torch.zeros(5, dtype=torch.int64))
    assert (caught.value.env_index, caught.value.episode, caught.value.step) == (None, None, None)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("no more"),
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory"),
        OSError(12, "Cannot allocate memory"),
        KeyboardInterrupt(),
        EnvError("already precise", env_index=9),
    ],
)
def test_what_is_no_fault_of_the_rules_passes_unchanged(error: BaseException) -> None:
    class Failing(Counter):
        calls = 0

        def step(self, state: CountState, action: Tensor, rng: Rng) -> Any:
            self.calls += 1
            raise error

    batch = TensorVectorEnv(Failing(), 8, device="cpu")
    batch.reset()
    with pytest.raises(type(error)) as caught:
        batch.step(torch.zeros(8, dtype=torch.int64))
    assert caught.value is error
    assert batch.env.calls == 1  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("error", "memory", "machine"),
    [
        (MemoryError(), True, True),
        (torch.OutOfMemoryError("CUDA"), True, True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), True, True),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried"), True, True),
        (RuntimeError("CUDA error: out of memory"), True, True),
        (OSError(12, "Cannot allocate memory"), True, True),
        (ValueError("out of memory"), False, False),
        (RuntimeError("shapes do not match"), False, False),
        *([(torch.AcceleratorError("gone"), False, True)] if hasattr(torch, "AcceleratorError") else []),
    ],
)
def test_memory_that_ran_out_is_recognised_in_one_place(error: Exception, memory: bool, machine: bool) -> None:
    assert (is_out_of_memory(error), is_machine_failure(error)) == (memory, machine)


def test_rules_that_exit_are_named_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Counter, "error", SystemExit)
    env = TensorVectorEnv(Counter(4, "step", (key_of(2, 1, seed=5), 3)), 4, device="cpu", seed=5)
    with pytest.raises(EnvError, match=r"step raises SystemExit: .* in environment 2, episode 1, step 3$"):
        small(PPO, env, seed=5).learn(4 * 40)


def test_ctrl_c_stays_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Counter, "error", KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        TensorVectorEnv(Counter(4, "reset", (key_of(0, 0), 0)), 4, device="cpu").reset()


@pytest.mark.parametrize("agent", [PPO, DQN, PQN])
def test_training_stops_with_the_place(agent: Any) -> None:
    env = TensorVectorEnv(Counter(4, "step", (key_of(2, 1, seed=5), 3)), 4, device="cpu", seed=5)
    with pytest.raises(EnvError, match=r"in environment 2, episode 1, step 3$"):
        small(agent, env, seed=5).learn(4 * 40)


# -------------------------------------------------------------------------------------------- Gymnasium environments


class Motor(gymnasium.Env[Any, Any]):
    """Number ``faulty`` of the copies fails at its third step (or reset) in the way of ``how``."""

    made = 0

    def __init__(self, how: str, faulty: int = 1) -> None:
        self.observation_space, self.action_space = Box(-1.0, 1.0, (2,), np.float32), Discrete(2)
        self.how, self.faulty = how, faulty
        name = multiprocessing.current_process().name
        self.number = int(name.rpartition("-")[2]) if name.startswith("environments-") else Motor.made
        Motor.made += 1
        self.steps = self.resets = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.resets += 1
        if self.how == "reset" and self.number == self.faulty and self.resets == 2:
            raise OSError("no contact with the motor, 100%d sure")
        return np.zeros(2, np.float32), {}

    def step(self, action: Any) -> Any:
        self.steps += 1
        if self.number == self.faulty and self.steps == 3:
            self.fail()
        return np.zeros(2, np.float32), 1.0, self.steps == 3, False, {}

    def fail(self) -> None:
        if self.how == "step":
            raise RuntimeError("the motor is on fire, 100%d sure")
        if self.how == "unpicklable":
            raise Unpicklable(lambda: None)
        if self.how == "exit":
            os._exit(7)
        if self.how == "sys.exit":
            raise SystemExit(9)
        if self.how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)


class Unpicklable(Exception):  # noqa: N818
    def __init__(self, thing: Any) -> None:
        super().__init__("a thing", thing)


@pytest.fixture
def _motor() -> Iterator[None]:
    gymnasium.register("Motor-v0", entry_point=Motor)
    Motor.made = 0
    yield
    del gymnasium.registry["Motor-v0"]


def broken_step(how: str, mode: str, num_envs: int = 3) -> tuple[EnvError, float]:
    """The third step's error, and how long it and closing took, s."""
    batch = make("Motor-v0", num_envs, "cpu", how=how, vectorization_mode=mode)
    batch.reset()
    actions = torch.zeros(num_envs, dtype=torch.int64)
    batch.step(actions)
    batch.step(actions)
    started = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(EnvError) as caught:
            batch.step(actions)
    batch.close()
    return caught.value, time.perf_counter() - started


@pytest.mark.usefixtures("_motor")
@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize(
    ("how", "text"),
    [
        ("step", "step raises RuntimeError: the motor is on fire, 100%d sure"),
        ("reset", "reset raises OSError: no contact with the motor, 100%d sure"),
        ("unpicklable", "step raises Unpicklable: "),
        ("sys.exit", "step raises SystemExit: 9"),
    ],
)
def test_errors_in_gymnasium_environments_name_them(mode: str, how: str, text: str) -> None:
    error, seconds = broken_step(how, mode)
    assert str(error).startswith(f"Motor: {text}")
    place = (1, 1, 0) if how == "reset" else (1, 0, 3)
    assert str(error).endswith(" in environment {}, episode {}, step {}".format(*place))
    assert "(test_errors.py:" in str(error)
    assert (error.env_index, error.episode, error.step) == place
    if mode == "sync":
        assert error.__cause__ is not None
    else:  # the chain ends at the border of the process
        assert "Traceback" in error.__notes__[0]
    assert seconds < 3.0
    assert not multiprocessing.active_children()


@pytest.mark.usefixtures("_motor")
@pytest.mark.parametrize(
    ("how", "text"),
    [
        ("exit", "ended with exit code 7"),
        ("kill", "was killed by SIGKILL"),
    ],
)
def test_the_death_of_a_process_is_told_at_once(how: str, text: str) -> None:
    error, seconds = broken_step(how, "async")
    assert str(error) == f"the process of environment 1 {text} in step 3"
    assert (error.env_index, error.step) == (1, 3)
    assert seconds < 3.0
    assert not multiprocessing.active_children()


@pytest.mark.usefixtures("_motor")
@pytest.mark.parametrize("asked", ["step", "reset"])
def test_a_process_that_died_between_two_calls(asked: str) -> None:
    batch = make("Motor-v0", 3, "cpu", how="", vectorization_mode="async")
    assert isinstance(batch, GymnasiumAdapter)
    batch.reset()
    victim = batch.loop.processes[2]
    os.kill(victim.pid, signal.SIGKILL)
    victim.join()
    with pytest.raises(EnvError, match="the process of environment 2 was killed by SIGKILL"):
        batch.reset() if asked == "reset" else batch.step(torch.zeros(3, dtype=torch.int64))
    batch.close()
    assert not multiprocessing.active_children()


@pytest.mark.usefixtures("_motor")
def test_a_handler_of_the_parent_does_not_keep_processes_alive() -> None:
    """Training catches SIGTERM; a process that inherited that would not end when it is told to."""
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        _, seconds = broken_step("kill", "async")
    finally:
        signal.signal(signal.SIGTERM, before)
    assert seconds < 3.0


@pytest.mark.usefixtures("_motor")
def test_training_on_gymnasium_environments_stops_with_the_place() -> None:
    env = make("Motor-v0", 3, "cpu", how="step", vectorization_mode="sync")
    with pytest.raises(EnvError, match=r"in environment 1, episode 0, step 3$"):
        small(PPO, env).learn(300)


def test_an_environment_of_a_vec_env_that_exits() -> None:
    """Which one it is only its traceback tells."""
    env = VecEnvAdapter(DummyVecEnv([lambda: Motor("sys.exit", Motor.made)]), "cpu")
    with pytest.raises(EnvError, match=r"^DummyVecEnv: step raises SystemExit: 9 \(test_errors.py:\d+\): "):
        small(PPO, env).learn(300)


# ---------------------------------------------------------------------------------------------------- not finite


class Spoiled(Counter):
    """Spoils ``field`` in that episode at that step of it; ``time_limit`` ends episodes by truncation instead."""

    def __init__(self, field: str, at: tuple[int, int], value: float, time_limit: bool = False) -> None:
        super().__init__(1000 if time_limit else 4)
        self.field, self.value = field, value
        self.where = at
        self.max_episode_steps = 4 if time_limit else None

    def spoil(self, field: str, clean: Tensor, state: CountState) -> Tensor:
        here = (state.key == self.where[0]) & (state.count == self.where[1])
        return torch.where(here, self.value, clean) if field == self.field else clean

    def step(self, state: CountState, action: Tensor, rng: Rng) -> Any:
        after, reward, ended = super().step(state, action, rng)
        return after, self.spoil("reward", reward, after), ended

    def observe(self, state: CountState) -> Tensor:
        return self.spoil("observation", state.count.float(), state).unsqueeze(-1)

    def has(self, name: str) -> bool:
        return super().has(name) and name not in ("action_mask", "success")


def small(agent: Any, env: Any, **kwargs: Any) -> Any:
    options: dict[Any, dict[str, Any]] = {
        PPO: {"n_steps": 8, "batch_size": 8, "n_epochs": 1},
        DQN: {"buffer_size": 400, "learning_starts": 8, "batch_size": 8, "train_freq": 2},
        PQN: {"n_steps": 8, "batch_size": 8, "n_epochs": 1},
    }
    space = getattr(env, "single_observation_space", None) or env.observation_space
    policy = "MultiInputPolicy" if isinstance(space, Dict) else "MlpPolicy"
    arguments = {**options[agent], "policy_kwargs": {"net_arch": [4]}, "seed": 0, **kwargs}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a transition is rarely replayed
        return agent(policy, env, **arguments)


@pytest.mark.parametrize("agent", [PPO, DQN, PQN])
@pytest.mark.parametrize(
    ("field", "episode", "within", "value"),
    [
        *(("reward", 0, 1, float("nan")), ("reward", 17, 2, float("inf")), ("reward", 1, 4, -float("inf"))),
        *(("observation", 0, 0, float("nan")), ("observation", 2, 3, float("inf"))),
        *(("observation", 17, 0, -float("inf")), ("observation", 2, 0, float("nan"))),
    ],
)
def test_numbers_that_are_not_finite_are_placed(
    agent: Any, field: str, episode: int, within: int, value: float
) -> None:
    """Episodes have 4 steps, so step w of episode e is number 4 e + w of the run; a reward's is counted from 0."""
    rules = Spoiled(field, (key_of(102, episode, seed=3), within), value)
    env = TensorVectorEnv(rules, 4, device="cpu", seed=3, first_env_index=100)
    with pytest.raises(EnvError) as caught:
        small(agent, env, seed=3).learn(4 * 80)
    error, step = caught.value, 4 * episode + within - (field == "reward")
    start = (
        f"{field} is not finite in environment 102 at step {step} of the run (step {within} of its episode {episode})"
    )
    assert str(error) == f"{start}: {value}"
    assert (error.env_index, error.episode, error.step) == (102, episode, within)


@pytest.mark.parametrize("agent", [PPO, DQN, PQN])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_the_last_observation_of_a_cut_episode_belongs_to_it(agent: Any, value: float) -> None:
    """Its value becomes part of the reward, which is not to blame."""
    rules = Spoiled("observation", (key_of(1, 2), 4), value, time_limit=True)
    with pytest.raises(EnvError) as caught:
        small(agent, TensorVectorEnv(rules, 3, device="cpu")).learn(3 * 80)
    text = "last observation is not finite in environment 1 at step 12 of the run (step 4 of its episode 2)"
    assert str(caught.value) == f"{text}: {value}"


@pytest.mark.parametrize("agent", [PPO, DQN, PQN])
@pytest.mark.parametrize("value", [float("inf"), -float("inf")])
def test_an_infinite_reward_is_told_as_it_was_given(agent: Any, value: float) -> None:
    """Scaled rewards are NaN where one is infinite, and returns add the values of cut episodes to them."""
    rules = Spoiled("reward", (key_of(1, 2), 4), value, time_limit=True)
    env = TensorVectorEnv(rules, 3, device="cpu")
    kwargs = {"normalize_reward": True} if agent is not DQN else {}
    with pytest.raises(EnvError, match=rf"^reward is not finite in environment 1 at step 11 of the run .*: {value}$"):
        small(agent, env, **kwargs).learn(3 * 80)


class Choosy(Spoiled):
    """Raises where an action is not finite."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.action_space = Box(-1.0, 1.0, (1,))

    def step(self, state: CountState, action: Tensor, rng: Rng) -> Any:
        if not action.isfinite().all():
            raise ValueError("no such action")
        return super().step(state, action.squeeze(1), rng)


def test_what_an_environment_was_given_is_named_where_it_raises_because_of_that() -> None:
    """An observation that is not finite makes an action that is not, at which the rules break down."""
    rules = Choosy("observation", (key_of(1, 2), 2), float("nan"))
    with pytest.raises(EnvError, match=r"^observation is not finite in environment 1 at step 10 of the run .*: nan$"):
        small(PPO, TensorVectorEnv(rules, 3, device="cpu")).learn(3 * 80)


def test_actions_that_are_not_finite_are_named() -> None:
    model = small(PPO, TensorVectorEnv(Choosy("nothing", (0, 0), 0.0), 3, device="cpu"))
    for weight in model.policy.action_net.parameters():
        torch.nn.init.constant_(weight, torch.inf)
    with pytest.raises(EnvError, match=r"^action is not finite in environment 0 at step 0 of the run .*: nan$"):
        model.learn(3 * 8)


@pytest.mark.parametrize("agent", [PPO, DQN, PQN])
def test_long_runs_and_later_calls_count_on(agent: Any) -> None:
    """learn() again, which resets the environments: episodes go on to be counted, and steps of the run."""
    rules = Spoiled("reward", (key_of(1, 3), 2), float("nan"))
    model = small(agent, TensorVectorEnv(rules, 3, device="cpu"))
    model.learn(3 * 8)  # episodes 0 and 1; number 2 has begun when it is reset
    with pytest.raises(EnvError, match=r"at step 9 of the run \(step 2 of its episode 3\)"):
        model.learn(3 * 80, reset_num_timesteps=True)


@pytest.mark.parametrize("agent", [PPO, DQN])
def test_after_a_resumption_too(agent: Any, tmp_path: Path) -> None:
    def env() -> TensorVectorEnv[Any]:
        return TensorVectorEnv(Spoiled("reward", (key_of(1, 10), 2), float("nan")), 3, device="cpu")

    model = small(agent, env())
    model.learn(3 * 16)
    model.save_checkpoint(tmp_path / "checkpoint.zip")
    resumed = agent.resume(tmp_path / "checkpoint.zip", env())
    with pytest.raises(EnvError, match=r"at step 41 of the run \(step 2 of its episode 10\)"):
        resumed.learn(3 * 80, reset_num_timesteps=False)


class Parts(gymnasium.Env[Any, Any]):
    """Dictionaries; the part "b" is infinite at the tenth step."""

    observation_space = Dict({"a": Box(-1.0, 1.0, (2,), np.float32), "b": Box(-1.0, 1.0, (1,), np.float32)})
    action_space = Discrete(2)
    steps = 0

    def obs(self) -> Any:
        b = np.inf if self.steps == 10 else 0.0
        return {"a": np.zeros(2, np.float32), "b": np.full(1, b, np.float32)}

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return self.obs(), {}

    def step(self, action: Any) -> Any:
        self.steps += 1
        return self.obs(), 1.0, False, False, {}


@pytest.mark.parametrize("agent", [PPO, DQN])
def test_dictionaries_of_sb3_batches(agent: Any) -> None:
    """Their episodes are unknown, so the message counts the steps of the run."""
    with pytest.raises(
        EnvError, match=r"^observation\['b'\] is not finite in environment 0 at step 10 of the run: inf$"
    ) as caught:
        small(agent, DummyVecEnv([Parts])).learn(100)
    assert (caught.value.env_index, caught.value.episode, caught.value.step) == (0, None, None)


# ---------------------------------------------------------------------------------------------------- checkpoints


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("actions", 2, "replay.actions must be 0 … 1, the file has 0 … 2"),
        ("kinds", 3, "replay.kinds must be 0 … 2, the file has 0 … 3"),
        ("position", 9999, "replay.position must be 0 … 13[0-9], the file has .* … 9999"),
        ("position", -1, "replay.position must be 0 … 13[0-9], the file has -1 … "),
        ("steps", -1, "replay.steps must be a whole number of at least 0, the file has -1"),
        ("steps", 1.5, "replay.steps must be a whole number of at least 0, the file has 1.5"),
    ],
)
def test_a_replay_memory_with_impossible_numbers_is_refused(
    name: str, value: Any, message: str, tmp_path: Path
) -> None:
    model = small(DQN, make("cartpole", 3, "cpu"))
    model.learn(60)
    assert model.replay is not None
    if name == "steps":
        model.replay.steps = value
    else:
        getattr(model.replay, name)[1] = value
    model.save_checkpoint(tmp_path / "checkpoint.zip")
    with pytest.raises(CheckpointError, match=message):
        DQN.resume(tmp_path / "checkpoint.zip", make("cartpole", 3, "cpu"))
