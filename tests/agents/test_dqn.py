"""DQN: Stable-Baselines3's numbers on the same data, known answers on probe environments, SB3's life cycle."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import probes
import pytest
import stable_baselines3
import torch
from gymnasium.spaces import Box, Discrete
from hypothesis import given, settings
from hypothesis import strategies as st
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.callbacks import BaseCallback, StopTrainingOnMaxEpisodes
from stable_baselines3.common.envs import FakeImageEnv, SimpleMultiObsEnv
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from stable_baselines3.common.utils import LinearSchedule
from torch import Tensor
from walk import Rows, logged, walk, weights

from palaestra.agents import DQN, PPO, PQN, CheckpointError
from palaestra.agents import q_learning as base
from palaestra.agents.buffers.replay import Transitions
from palaestra.envs import EnvError, SB3VecEnv, TensorEnv, TensorVectorEnv, make
from palaestra.envs.core.rng import Rng, env_keys

SMALL: dict[str, Any] = {
    "buffer_size": 4096,
    "learning_starts": 0,
    "train_freq": 1,
    "seed": 3,
    "device": "cpu",
    "policy_kwargs": {"net_arch": [16]},
}


def small(env: Any = None, **kwargs: Any) -> DQN:
    return DQN("MlpPolicy", walk() if env is None else env, **{**SMALL, **kwargs})


class Watch(BaseCallback):
    """Calls a function after every step."""

    def __init__(self, look: Any) -> None:
        super().__init__()
        self.look = look

    def _on_step(self) -> bool:
        return self.look(self.model) is not False


# ------------------------------------------------------------------------------------------- the same numbers as SB3


def batches(count: int, size: int, gamma: float, n_steps: int) -> list[tuple[Transitions, ReplayBufferSamples]]:
    """The same random transitions for both: a third terminated, the rest with the discounts of 1 to n steps."""
    generator = torch.Generator().manual_seed(7)
    found = []
    for _ in range(count):
        obs, after = torch.randn(2, size, 3, generator=generator)
        actions = torch.randint(3, (size,), generator=generator)
        rewards = 3 * torch.randn(size, generator=generator)  # on both sides of Huber's kink
        discounts = gamma ** torch.randint(1, n_steps + 1, (size,), generator=generator)
        ended = (torch.rand(size, generator=generator) < 1 / 3).float()
        ours = Transitions(
            {"": obs}, actions, rewards, discounts * (1 - ended), {"": after}, torch.ones(size), torch.arange(size)
        )
        column = (t.unsqueeze(1) for t in (actions, ended, rewards, discounts))
        action, done, reward, discount = column
        theirs = ReplayBufferSamples(obs, action, after, done, reward, discount if n_steps > 1 else None)
        found.append((ours, theirs))
    return found


@pytest.mark.parametrize("n_steps", [1, 3])
@pytest.mark.parametrize("max_grad_norm", [10.0, 0.1])
def test_updates_equal_sb3(n_steps: int, max_grad_norm: float) -> None:
    """Losses and weights after each of 6 gradient steps in two calls, at two points of the learning-rate schedule."""
    settings = {**SMALL, "learning_rate": LinearSchedule(1e-2, 1e-3, 1.0), "max_grad_norm": max_grad_norm}
    settings |= {"gamma": 0.9, "n_steps": n_steps}
    ours = DQN("MlpPolicy", walk(), **settings)
    theirs = stable_baselines3.DQN("MlpPolicy", SB3VecEnv(walk()), **settings)
    torch.nn.init.normal_(ours.q_net_target.q_net[0].weight)  # so that the two networks differ
    theirs.policy.load_state_dict(ours.policy.state_dict())
    for model in (ours, theirs):
        model._setup_learn(1000, None)
    data = batches(6, 32, 0.9, n_steps)
    our_data, their_data = iter(d[0] for d in data), iter(d[1] for d in data)
    ours.replay.draw = lambda size, beta: (torch.arange(size), None)  # type: ignore[method-assign, union-attr]
    ours.replay.gather = lambda index, weights: next(our_data)  # type: ignore[method-assign, union-attr]
    theirs.replay_buffer.sample = lambda size, env: next(their_data)  # type: ignore[method-assign, union-attr]
    before = weights(ours)
    for progress in (0.8, 0.3):
        for model in (ours, theirs):
            model._current_progress_remaining = progress
            model.train(3, 32)
        assert float(ours._losses[0]) == pytest.approx(theirs.logger.name_to_value["train/loss"], rel=1e-6)
        torch.testing.assert_close(weights(ours), weights(theirs), rtol=1e-6, atol=1e-6)
    assert (weights(ours) - before).abs().max() > 1e-2
    assert ours._n_updates == theirs._n_updates == 6


def test_n_steps_without_any_equal_one_step() -> None:
    """n = 3 where all windows have one step: the two paths of the test above agree."""
    one, three = small(gamma=0.9), small(gamma=0.9, n_steps=3)
    batch = batches(1, 16, 0.9, 1)[0][0]
    for model in (one, three):
        model._setup_learn(100, None)
    torch.testing.assert_close(one._targets(batch), three._targets(batch))


def test_targets_by_hand() -> None:
    """Q(s') = (1, 3, 2) online and (10, 20, 30) by the target network; r = 1, γ = 1/2.

    DQN: 1 + ½ · 30 = 16. Double: 1 + ½ · 20 = 11. Terminated: 1. Two steps: R = 1, 1 + ¼ · 30 = 8.5.
    """
    model = small()
    model._setup_learn(100, None)
    model._online.infer = lambda obs: torch.tensor([[1.0, 3.0, 2.0]]).expand(len(obs), 3)  # type: ignore[method-assign]
    model._target.infer = lambda obs: torch.tensor([[10.0, 20.0, 30.0]]).expand(len(obs), 3)  # type: ignore[method-assign]
    some = {"": torch.zeros(3, 3)}
    ones, zeros = torch.ones(3), torch.zeros(3, dtype=torch.int64)
    batch = Transitions(some, zeros, ones, torch.tensor([0.5, 0.0, 0.25]), some, ones, zeros)
    assert model._targets(batch).tolist() == [16.0, 1.0, 8.5]
    model.double_q = True
    assert model._targets(batch).tolist() == [11.0, 1.0, 6.0]


def test_weights_of_transitions_enter_the_loss() -> None:
    """Weight 0 leaves a row out of the mean; the others scale their own losses."""
    model = small(learning_rate=0.0)
    model._setup_learn(100, None)
    model._begin_update()
    batch = batches(1, 4, 0.9, 1)[0][0]
    single = [
        float(model._update(Transitions(*(part(f, i) for f in batch)))[0])  # type: ignore[arg-type]
        for i in range(4)
        for part in [lambda f, i: {k: v[i : i + 1] for k, v in f.items()} if isinstance(f, dict) else f[i : i + 1]]
    ]
    weighted = batch._replace(weights=torch.tensor([1.0, 0.0, 0.5, 0.25]))
    expected = (single[0] + 0.5 * single[2] + 0.25 * single[3]) / 3
    assert float(model._update(weighted)[0]) == pytest.approx(expected, rel=1e-5)
    nothing = batch._replace(weights=torch.zeros(4))
    assert float(model._update(nothing)[0]) == 0.0


@pytest.mark.parametrize(
    ("delta", "losses"),
    [(0.5, [0.03125, 0.875, 0.125, 4.875]), (1.0, [0.03125, 1.5, 0.125, 9.5]), (4.0, [0.03125, 2.0, 0.125, 32.0])],
)
def test_the_huber_loss_by_hand(delta: float, losses: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    """e²/2 up to δ, then δ (|e| − δ/2), for e = ¼, −2, ½, 10; 1 is SB3's. The gradient of the mean is at most δ / B."""
    model = small(huber_delta=delta, learning_rate=0.0)
    model._setup_learn(100, None)
    model._begin_update()
    batch = batches(1, 4, 0.9, 1)[0][0]
    q_values = model.q_net(batch.content[""]).gather(1, batch.actions.unsqueeze(1)).squeeze(1)
    errors = torch.tensor([0.25, -2.0, 0.5, 10.0])
    expected = torch.autograd.grad(q_values, list(model.q_net.parameters()), errors.clamp(-delta, delta) / 4)
    targets = q_values.detach() - errors
    monkeypatch.setattr(model, "_targets", lambda batch: targets)
    model.max_grad_norm = float("inf")
    loss = float(model._update(batch)[0])
    assert loss == pytest.approx(sum(losses) / 4, rel=1e-5)
    if delta == small().huber_delta:
        assert loss == pytest.approx(float(torch.nn.functional.smooth_l1_loss(targets + errors, targets)), rel=1e-6)
    for parameter, gradient in zip(model.q_net.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)


def test_the_memory_holds_what_happened() -> None:
    """Every transition of 24 steps against the same actions in the same environments, ends and cuts included."""
    model = small(gamma=0.5, train_freq=24, gradient_steps=0, exploration_initial_eps=1.0, exploration_final_eps=1.0)
    starts = []
    step = model.batch.step
    model.batch.step = lambda actions: (starts.append(actions), step(actions))[1]  # type: ignore[method-assign, func-returns-value]
    model.learn(8 * 24)
    again, seen = walk(), {}
    obs, _ = again.reset(seed=3)
    for actions in starts:
        new_obs, reward, terminated, _, info = again.step(actions)
        for i in range(8):
            key = tuple(obs[i].tolist())
            seen[key] = (int(actions[i]), float(reward[i]), 0.0 if terminated[i] else 0.5, info["final_obs"][i])
        obs = new_obs
    assert model.replay is not None
    stored = model.replay.gather(torch.arange(model.replay.rows * 8))
    found = 0
    for i in (stored.weights > 0).nonzero().flatten().tolist():
        action, reward_, discount, after = seen[tuple(stored.content[""][i].tolist())]
        assert (int(stored.actions[i]), float(stored.returns[i]), float(stored.discounts[i])) == (
            action,
            reward_,
            discount,
        )
        assert discount == 0.0 or torch.equal(stored.next_content[""][i], after)
        found += 1
    assert found == len(seen) == 8 * 24


@pytest.mark.parametrize(
    ("n", "tau", "train_freq", "gradient_steps", "starts"),
    [(1, 1.0, 4, 1, 50), (1, 0.5, 1, -1, 100), (8, 1.0, 1, -1, 120), (8, 0.5, (3, "step"), 2, 96), (8, 0.5, 1, 1, 0)],
)
def test_schedules_and_counts_equal_sb3(n: int, tau: float, train_freq: Any, gradient_steps: int, starts: int) -> None:
    """ε, learning rate and number of updates at each step, the moments of the target network's updates, their mix."""
    settings = {**SMALL, "tau": tau, "train_freq": train_freq, "gradient_steps": gradient_steps}
    settings |= {"learning_starts": starts, "target_update_interval": 32, "exploration_fraction": 0.5, "batch_size": 8}
    settings |= {"learning_rate": LinearSchedule(1e-2, 1e-4, 1.0)}
    histories = []
    for kind, env in ((DQN, walk(n=n)), (stable_baselines3.DQN, SB3VecEnv(walk(n=n)))):
        history: list[Any] = []
        nets: list[tuple[Tensor, Tensor]] = []

        def look(model: Any, history: Any = history, nets: Any = nets) -> None:
            rates = (model.exploration_rate, model.policy.optimizer.param_groups[0]["lr"])
            history.append((model.num_timesteps, model._n_updates, *(rates if len(history) else ())))
            both = (torch.nn.utils.parameters_to_vector(m.parameters()) for m in (model.q_net, model.q_net_target))
            nets.append(tuple(vector.detach().clone() for vector in both))  # type: ignore[arg-type]

        kind("MlpPolicy", env, **settings).learn(240, Watch(look))
        moments = [i for i in range(1, len(nets)) if not torch.equal(nets[i][1], nets[i - 1][1])]
        for i in moments:
            torch.testing.assert_close(nets[i][1], tau * nets[i - 1][0] + (1 - tau) * nets[i - 1][1])
        histories.append((history, moments))
    assert histories[0] == histories[1]
    assert len(histories[0][1]) > 2


# ------------------------------------------------------------------------------------------- ε-greedy


def keys(n: int, first: int = 0, seed: int = 0) -> Tensor:
    return env_keys(seed, torch.arange(first, first + n), 1)


def test_frequencies_of_actions() -> None:
    """ε = 0.3 with 4 actions: the best one 0.7 + 0.3 / 4 of the time, each of the others 0.3 / 4."""
    n = 40_000
    actions = base.epsilon_greedy(torch.tensor([[0.0, 2.0, 1.0, -1.0]]).expand(n, 4), 0.3, Rng(keys(n), 5))
    shares = actions.bincount(minlength=4) / n
    for share, p in zip(shares.tolist(), [0.075, 0.775, 0.075, 0.075], strict=True):
        assert abs(share - p) < 5 * (p * (1 - p) / n) ** 0.5


def test_extreme_epsilons() -> None:
    q_values = torch.randn(500, 3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(base.epsilon_greedy(q_values, 0.0, Rng(keys(500), 1)), q_values.argmax(1))
    at_random = base.epsilon_greedy(q_values, 1.0, Rng(keys(500), 1))
    assert torch.equal(at_random, base.epsilon_greedy(-q_values, 1.0, Rng(keys(500), 1)))
    each = base.epsilon_greedy(q_values, torch.arange(500) % 2.0, Rng(keys(500), 1))
    assert torch.equal(each, torch.where(torch.arange(500) % 2 == 0, q_values.argmax(1), at_random))


@given(first=st.integers(0, 90), n=st.integers(1, 10), step=st.integers(0, 10**6), masked=st.booleans())
def test_an_action_depends_on_the_environment_and_the_step_alone(first: int, n: int, step: int, masked: bool) -> None:
    generator = torch.Generator().manual_seed(1)
    q_values, mask = torch.randn(100, 5, generator=generator), torch.rand(100, 5, generator=generator) < 0.6
    mask[:, 2] = True
    part = slice(first, first + n)
    every = base.epsilon_greedy(q_values, 0.5, Rng(keys(100), step), mask if masked else None)
    some = base.epsilon_greedy(q_values[part], 0.5, Rng(keys(n, first), step), mask[part] if masked else None)
    assert torch.equal(every[part], some)


def epsilons(monkeypatch: pytest.MonkeyPatch, model: Any, steps: int) -> list[Any]:
    """The ε that each step of a run used."""
    used: list[Any] = []
    choose = base.epsilon_greedy
    monkeypatch.setattr(base, "epsilon_greedy", lambda q, e, *rest: (used.append(e), choose(q, e, *rest))[1])
    model.learn(steps)
    return used


def test_epsilon_over_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """160 steps of 8 at a time, the first 40 at random; then ε falls from 1 to 0.2 over the first 80."""
    model = small(learning_starts=40, exploration_fraction=0.5, exploration_final_eps=0.2)
    used = epsilons(monkeypatch, model, 160)
    assert used == pytest.approx([1.0] * 5 + [1 - 0.8 * t / 80 for t in range(40, 80, 8)] + [0.2] * 10)


def test_the_first_step_of_a_run_explores(monkeypatch: pytest.MonkeyPatch) -> None:
    """SB3 takes it with ε = 0, or with that of the run before."""
    model = small(exploration_fraction=1.0, exploration_final_eps=0.5)
    assert epsilons(monkeypatch, model, 40) == pytest.approx([1.0, 0.9, 0.8, 0.7, 0.6])
    assert epsilons(monkeypatch, model, 40)[:2] == pytest.approx([1.0, 0.9])


def test_a_spread_of_epsilons(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ape-X: ε^(1 + α i / (N − 1)); with α = 7 and N = 8, ε to the powers 1 … 8."""
    model = small(exploration_spread=7.0, exploration_initial_eps=0.4, exploration_final_eps=0.4)
    used = epsilons(monkeypatch, model, 16)[-1]
    torch.testing.assert_close(used, torch.tensor([0.4**p for p in range(1, 9)]))
    assert epsilons(monkeypatch, small(walk(n=1), exploration_spread=7.0, exploration_initial_eps=0.4), 1) == [0.4]


# ------------------------------------------------------------------------------------------- updates per data


@settings(max_examples=10)
@given(
    n=st.integers(1, 300),
    train_freq=st.integers(1, 9),
    samples=st.floats(0.01, 20.0),
    batch_size=st.sampled_from([32, 50, 256]),
    rounds=st.integers(1, 30),
)
def test_samples_per_insert(n: int, train_freq: int, samples: float, batch_size: int, rounds: int) -> None:
    """Gradient steps = samples_per_insert · collected / batch_size, within one, for any number of environments."""
    model = small(walk(n=n), samples_per_insert=samples, train_freq=train_freq, batch_size=batch_size)
    model._setup_learn(10**6, None)
    drawn: list[int] = []
    taken: list[Tensor] = []
    model.replay.draw = lambda size, beta: (drawn.append(size), torch.zeros(0), None)[1:]  # type: ignore[method-assign, union-attr, func-returns-value]
    model.replay.gather = lambda index, weights: None  # type: ignore[method-assign, union-attr, assignment, return-value]
    model._gradients = lambda batch: torch.zeros(3)  # type: ignore[method-assign]
    model._descend = lambda summary: (taken.append(summary), summary)[1]  # type: ignore[method-assign, func-returns-value]
    for _ in range(rounds):
        model.train(1, batch_size)
    assert abs(len(taken) - samples * train_freq * n * rounds / batch_size) < 1 + 1e-6
    assert model._n_updates == len(taken)
    assert drawn == [batch_size] * len(taken)


@pytest.mark.parametrize(("n", "train_freq"), [(1, 4), (8, 1), (64, 2)])
def test_samples_per_insert_of_a_whole_run(n: int, train_freq: int) -> None:
    """Data collected before ``learning_starts`` is not caught up on."""
    model = small(walk(n=n), samples_per_insert=2.0, train_freq=train_freq, batch_size=16, learning_starts=255)
    model.learn(767)
    assert model.num_timesteps == 768
    assert abs(model._n_updates - 2.0 * (768 - 256 + train_freq * n) / 16) <= 1


def test_a_warning_when_most_transitions_would_never_be_seen() -> None:
    settings = {**SMALL, "train_freq": 4, "learning_starts": 100}
    with pytest.warns(UserWarning, match=r"replayed 0\.00781 times on average with 1024"):
        DQN("MlpPolicy", walk(n=1024), **settings)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        DQN("MlpPolicy", walk(n=1), **settings)
        DQN("MlpPolicy", walk(n=1024), **settings, samples_per_insert=1.0)
        DQN("MlpPolicy", walk(n=1024), **settings, gradient_steps=-1)


# ------------------------------------------------------------------------------------------- probe environments

OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "double": {"double_q": True},
    "steps": {"n_steps": 3},
    "prioritized": {"prioritized_replay": 0.6},
    "dueling": {"policy": "DuelingPolicy"},
    "soft": {"tau": 0.2, "target_update_interval": 16},
}
OPTIONS["all"] = {k: v for options in OPTIONS.values() for k, v in options.items()} | {"exploration_spread": 4.0}


def trained(env: TensorEnv[Any], steps: int = 150, **kwargs: Any) -> DQN:
    batch = TensorVectorEnv(env, 16, device="cpu")
    settings: dict[str, Any] = {"policy": "MlpPolicy", "buffer_size": 2000, "learning_starts": 16, "batch_size": 64}
    settings |= {"train_freq": 1, "gradient_steps": 1, "target_update_interval": 32, "gamma": 0.9, "seed": 1}
    settings |= {"learning_rate": LinearSchedule(1e-2, 1e-4, 1.0), "policy_kwargs": {"net_arch": [32]}}
    settings |= {"exploration_fraction": 0.5, "exploration_final_eps": 0.2, **kwargs}
    return DQN(env=batch, **settings).learn(16 * steps)


def value(model: DQN, *signals: float) -> list[float]:
    with torch.no_grad():
        values: list[float] = model.q_net(torch.tensor(signals).unsqueeze(1)).amax(1).tolist()
    return values


def test_probe_constant_reward() -> None:
    assert value(trained(probes.ConstantReward(), 80), 0.0) == pytest.approx([1.0], abs=0.02)


@pytest.mark.parametrize("options", OPTIONS)
def test_probe_delayed_reward_is_discounted(options: str) -> None:
    model = trained(probes.DelayedReward(), **OPTIONS[options])
    assert value(model, 0.0, 1.0) == pytest.approx([0.9, 1.0], abs=0.02)


@pytest.mark.parametrize("options", OPTIONS)
def test_probe_match_observation(options: str) -> None:
    model = trained(probes.MatchObservation(), **OPTIONS[options])
    assert model.act(torch.tensor([[-1.0], [1.0]])).tolist() == [0, 1]
    assert value(model, -1.0, 1.0) == pytest.approx([1.0, 1.0], abs=0.05)


@pytest.mark.parametrize("options", ["plain", "all"])
def test_probes_of_observation_and_action(options: str) -> None:
    model = trained(probes.ObservedReward(), **OPTIONS[options])
    assert value(model, -1.0, 1.0) == pytest.approx([-1.0, 1.0], abs=0.03)
    model = trained(probes.ActionReward(), 100, **OPTIONS[options])
    assert model.act(torch.zeros(1, 1)).tolist() == [1]
    assert model.q_net(torch.zeros(1, 1)).flatten().tolist() == pytest.approx([-1.0, 1.0], abs=0.05)


@pytest.mark.parametrize("options", OPTIONS)
def test_truncation_bootstraps(options: str) -> None:
    """The time limit is no end: 1 / (1 − γ) = 10. Taken for an end, it would give less than 5."""
    model = trained(probes.EndlessReward(), 250, **OPTIONS[options])
    assert value(model, 0.0) == pytest.approx([10.0], abs=0.4)


class Thousands(probes.ActionReward):
    """Rewards of ±1,000."""

    def step(self, state: Any, action: Tensor, rng: Rng) -> Any:
        state, reward, ended = super().step(state, action, rng)
        return state, 1000.0 * reward, ended


def test_rewards_are_normalized() -> None:
    """Q-values are of order one, and times the deviation of the return they are the returns."""
    model = trained(Thousands(), normalize_reward=True)
    assert model._reward_scale is not None
    q_values = model.q_net(torch.zeros(1, 1)).flatten()
    assert q_values.abs().max() < 3
    returns = q_values * model._reward_scale._moments[1].sqrt()
    assert returns.tolist() == pytest.approx([-1000.0, 1000.0], rel=0.05)


# ------------------------------------------------------------------------------------------- SB3's interface

SCRIPT = """
import gymnasium as gym
from stable_baselines3 import DQN
from stable_baselines3.common.callbacks import CallbackList, CheckpointCallback, EvalCallback
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor

model = DQN("MlpPolicy", "CartPole-v1", buffer_size=1000, learning_starts=32, seed=1, verbose=0, device="cpu")
model.set_logger(logger)
callbacks = [
    CheckpointCallback(64, folder + "/checkpoints", save_replay_buffer=False),
    EvalCallback(Monitor(gym.make("CartPole-v1")), eval_freq=64, n_eval_episodes=2, log_path=folder, verbose=0),
]
model.learn(total_timesteps=256, callback=CallbackList(callbacks), log_interval=1)
model.learn(total_timesteps=64, log_interval=1, reset_num_timesteps=False)
total, updates = model.num_timesteps, model._n_updates
model.save(folder + "/final")
del model
model = DQN.load(folder + "/final")
obs, _ = gym.make("CartPole-v1").reset(seed=0)
single, states = model.predict(obs, deterministic=True)
batch, _ = model.predict(obs[None].repeat(7, 0), deterministic=False)
mean, std = evaluate_policy(model, Monitor(gym.make("CartPole-v1")), n_eval_episodes=3)
"""


def test_an_sb3_script_runs_with_only_the_import_changed(tmp_path: Path) -> None:
    results = []
    for package in ("stable_baselines3", "palaestra.agents"):
        rows, folder = Rows(), tmp_path / package
        scope: dict[str, Any] = {"logger": Logger(None, [rows]), "folder": str(folder)}
        exec(SCRIPT.replace("from stable_baselines3 import DQN", f"from {package} import DQN"), scope)
        keys = {key for row in rows.rows for key in row} - {
            "train/q_mean",
            "train/grad_norm",
            "train/samples_per_insert",
        }
        files = sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))
        shape = scope["single"].shape, scope["single"].dtype, scope["batch"].shape, scope["states"]
        results.append((keys, files, scope["total"], scope["updates"], shape))
        assert 8 <= scope["mean"] <= 500
    assert results[0] == results[1]
    assert {"rollout/exploration_rate", "train/loss", "time/episodes"} < results[0][0]


def test_logs_start_again_with_a_new_run() -> None:
    """SB3 counts episodes anew; the run after a long one must not wait until it has as many."""
    env = TensorVectorEnv(probes.EndlessReward(), 8, device="cpu")
    model = small(env, gradient_steps=0)
    first, second = logged(model, 8 * 256), logged(model, 8 * 128)
    assert [row["time/total_timesteps"] for row in first] == [512, 1024, 1536, 2048]
    assert [row["time/total_timesteps"] for row in second] == [512, 1024]
    assert [row["time/episodes"] for row in second] == [64, 128]
    assert all(row["rollout/ep_rew_mean"] == row["rollout/ep_len_mean"] == 8 for row in first + second)


def test_a_run_ends_with_a_report() -> None:
    rows = logged(small(TensorVectorEnv(probes.EndlessReward(), 8, device="cpu"), gradient_steps=0), 8 * 72)
    assert [row["time/total_timesteps"] for row in rows] == [512, 576]


@pytest.mark.parametrize("field", ["observation", "reward"])
@pytest.mark.parametrize("step", [0, 4, 63, 64, 79])
def test_nan_from_an_environment_is_named(field: str, step: int) -> None:
    """Also after the last full 64 steps, and where reports meet."""
    env = TensorVectorEnv(type(walk().env)(Discrete(3), (field, 6, step)), 8, device="cpu", first_env_index=100)
    seen_at = step + 1 if field == "observation" else step
    with pytest.raises(EnvError, match=f"^{field} is not finite in environment 106 at step {seen_at} of the run"):
        small(env, gradient_steps=0).learn(8 * 80)


def test_nan_in_the_last_observation_of_a_cut_episode_is_named() -> None:
    """Nobody else sees it: targets bootstrap from it, and the next episode begins well."""

    class Broken(probes.EndlessReward):
        count = 0

        def step(self, state: probes.ProbeState, action: Tensor, rng: Rng) -> Any:
            self.count += 1
            state, reward, ended = super().step(state, action, rng)
            spoilt = torch.where((torch.arange(3) == 1) & (self.count == 8), torch.nan, state.signal)
            return probes.ProbeState(spoilt), reward, ended

    with pytest.raises(EnvError, match="observation is not finite in environment 1 at step 8 "):
        small(TensorVectorEnv(Broken(), 3, device="cpu")).learn(60)


def test_nan_in_the_first_observation_is_named() -> None:
    class Broken(probes.ConstantReward):
        def reset(self, rng: Rng) -> probes.ProbeState:
            return probes.ProbeState(torch.tensor([0.0, torch.nan, 0.0])[: rng.num_envs])

        def step(self, state: probes.ProbeState, action: Tensor, rng: Rng) -> Any:
            return probes.ProbeState(torch.zeros(len(action))), torch.zeros(len(action)), action < 0

    with pytest.raises(EnvError, match="observation is not finite in environment 1 at step 0 "):
        small(TensorVectorEnv(Broken(), 3, device="cpu")).learn(30)


def test_a_callback_stops_and_learning_goes_on() -> None:
    model = small(train_freq=4)
    calls = iter(range(100))
    model.learn(10_000, Watch(lambda model: next(calls) < 5))
    assert model.num_timesteps == 6 * 8
    assert model.learn(64, reset_num_timesteps=False).num_timesteps == 6 * 8 + 64
    callback = StopTrainingOnMaxEpisodes(10)
    model.learn(10_000, callback)
    assert callback.n_episodes >= 80
    assert model.num_timesteps < 1000


def test_learning_again_does_not_join_episodes() -> None:
    """Each environment is reset for the second run: 3-step returns end there."""
    env = TensorVectorEnv(probes.EndlessReward(), 1, device="cpu", max_episode_steps=1000)
    model = small(env, n_steps=3, gradient_steps=0, gamma=0.5)
    model.learn(4)
    model.learn(4)
    assert model.replay is not None
    stored = model.replay.gather(torch.arange(10))
    assert stored.returns.tolist() == [1.75, 1.75, 1.5, 1.0, 0.0, 1.75, 1.75, 1.5, 1.0, 0.0]
    assert stored.weights.tolist() == [1, 1, 1, 1, 0, 1, 1, 1, 1, 0]


def test_other_environments_take_over() -> None:
    """The memory is kept where it fits, and begun anew where another kind of environment stores something else."""
    model = small(make("cartpole", 4, "cpu"), batch_size=8)
    model.learn(80)
    kept = model.replay
    model.set_env(make("cartpole", 4, "cpu"))
    model.learn(80, reset_num_timesteps=False)
    assert model.replay is kept
    assert kept is not None
    assert kept.steps == 40
    snake = DQN("MlpPolicy", make("snake-small", 2, "cpu"), **{**SMALL, "batch_size": 8}).learn(80)
    assert set(snake.replay.content) != {""}  # type: ignore[union-attr]
    snake.set_env(SB3VecEnv(Plain(make("snake-small", 2, "cpu"))))  # type: ignore[arg-type]
    snake.learn(80, reset_num_timesteps=False)
    assert set(snake.replay.content) == {""}  # type: ignore[union-attr]


class Plain(TensorVectorEnv):  # type: ignore[type-arg]
    """A batch that hides its states, as an adapter does."""

    def __new__(cls, batch: Any) -> Any:
        from palaestra.envs.core import BatchedEnv

        class Hidden(BatchedEnv):
            def __getattr__(self, name: str) -> Any:
                return getattr(batch, name)

            reset, step = staticmethod(batch.reset), staticmethod(batch.step)

        return Hidden()


@pytest.mark.parametrize("options", ["plain", "all"])
def test_same_seed_same_weights_bit_for_bit(options: str) -> None:
    def final(seed: int) -> Tensor:
        kwargs = {"policy": "MlpPolicy", **SMALL, **OPTIONS[options], "seed": seed, "batch_size": 16}
        return weights(DQN(env=walk(seed=seed + 1), **kwargs).learn(400))

    assert torch.equal(final(4), final(4))
    assert not torch.equal(final(4), final(5))


@pytest.mark.parametrize("kind", [DQN, PQN])
def test_dictionaries_and_images(kind: Any) -> None:
    """Also with n-step returns, which SB3 refuses for dictionaries; pictures are stored as bytes."""
    steps = {"n_steps": 3, "batch_size": 16, "train_freq": 8} if kind is DQN else {"n_steps": 8, "batch_size": 32}
    settings = {**SMALL, "buffer_size": 100} if kind is DQN else {"seed": 3, "device": "cpu"}
    policies = stable_baselines3.DQN.policy_aliases
    image = FakeImageEnv(screen_height=36, screen_width=36, n_channels=1, discrete=True)
    for name, env in (("MultiInputPolicy", SimpleMultiObsEnv()), ("CnnPolicy", image)):
        model = kind(policies[name], env, **{**settings, **steps, "policy_kwargs": {}}).learn(64)
        obs: Any = model.get_env().reset()
        if kind is DQN and name == "CnnPolicy":
            assert model.replay.content[""].dtype == torch.uint8
        expected, _ = model.predict(obs, deterministic=True)
        assert expected.shape == (1,)
        buffer = io.BytesIO()
        model.save(buffer)
        assert kind.load(buffer).predict(obs, deterministic=True)[0] == expected


def test_predict_and_act_agree() -> None:
    model = small().learn(200)
    obs, _ = walk(n=64).reset()
    np.testing.assert_array_equal(model.predict(obs.numpy(), deterministic=True)[0], model.act(obs).numpy())
    model.exploration_rate = 1.0
    sampled = model.act(obs, Rng(torch.arange(64), 0))
    assert 10 < sampled.bincount(minlength=3).min() <= sampled.bincount(minlength=3).max() < 35


# ------------------------------------------------------------------------------------------- files


@pytest.mark.parametrize("options", ["plain", "all"])
def test_a_saved_model_comes_back(options: str, tmp_path: Path) -> None:
    """Weights of both networks, Adam's moments, counters, arguments; and it goes on learning."""
    kwargs = {"policy": "MlpPolicy", **SMALL, **OPTIONS[options], "samples_per_insert": 2.3, "normalize_reward": True}
    model = DQN(env=walk(), **kwargs).learn(400)
    model.save(tmp_path / "model")
    loaded = DQN.load(tmp_path / "model", env=walk())
    assert torch.equal(weights(loaded), weights(model))
    obs = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    np.testing.assert_array_equal(*(m.predict(obs, deterministic=True)[0] for m in (model, loaded)))
    for name in ("num_timesteps", "_n_updates", "_n_calls", "_owed", "exploration_rate", *DQN._json_arguments):
        if name != "train_freq":
            assert getattr(loaded, name) == getattr(model, name), name
    assert loaded._train_frequency == model._train_frequency
    assert loaded._reward_scale.state() == model._reward_scale.state()  # type: ignore[union-attr]
    first, second = (m.policy.optimizer.state_dict()["state"] for m in (model, loaded))
    assert str(first) == str(second)
    loaded.learn(80, reset_num_timesteps=False)
    assert loaded.num_timesteps == 480
    assert not torch.equal(weights(loaded), weights(model))


def test_vanilla_sb3_opens_the_file(tmp_path: Path) -> None:
    model = small(n_steps=3, double_q=True, samples_per_insert=1.0).learn(400)
    model.save(tmp_path / "model.zip")
    theirs = stable_baselines3.DQN.load(tmp_path / "model.zip", env=SB3VecEnv(walk()), device="cpu")
    assert type(theirs) is stable_baselines3.DQN
    obs = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    np.testing.assert_array_equal(*(m.predict(obs, deterministic=True)[0] for m in (model, theirs)))
    assert theirs.num_timesteps == 400
    theirs.learn(80, reset_num_timesteps=False)


def test_wrong_files_are_refused(tmp_path: Path) -> None:
    small().save(tmp_path / "dqn.zip")
    for other in (PPO, PQN):
        with pytest.raises(CheckpointError, match=f"holds a DQN agent, not {other.__name__}"):
            other.load(tmp_path / "dqn.zip")  # type: ignore[attr-defined]
    vanilla = stable_baselines3.DQN("MlpPolicy", "CartPole-v1", buffer_size=10, device="cpu")
    vanilla.save(tmp_path / "vanilla.zip")
    with pytest.raises(CheckpointError, match="was not saved by palaestra"):
        DQN.load(tmp_path / "vanilla.zip")


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"train_freq": (1, "episode")}, "train_freq must count steps"),
        ({"train_freq": 0}, "at least 1, got 0"),
        ({"train_freq": 2.5}, "must be an integer"),
        ({"replay_buffer_class": ReplayBuffer}, "replay_buffer_class must be None"),
        ({"replay_buffer_kwargs": {"handle_timeout_termination": True}}, "replay_buffer_class must be None"),
        ({"n_steps": 0}, "n_steps must be at least 1, got 0"),
        ({"samples_per_insert": -1.0}, "samples_per_insert must be at least 0"),
        ({"samples_per_insert": 1.0, "gradient_steps": 0}, "gradient_steps=0 learns nothing"),
        ({"device": "meta"}, "the agent is on meta, its environments are on cpu"),
    ],
)
def test_wrong_arguments_are_refused(kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small(**kwargs)


def test_continuous_actions_are_refused_as_by_sb3() -> None:
    for kind in (DQN, PQN):
        with pytest.raises(AssertionError, match=r"only supports .*Discrete"):
            kind("MlpPolicy", walk(Box(-1.0, 1.0, (2,))))  # type: ignore[operator]


def test_too_small_a_memory_is_refused() -> None:
    with pytest.raises(ValueError, match="n_steps=5 needs a buffer_size above 32"):
        small(n_steps=5, buffer_size=32).learn(8)
