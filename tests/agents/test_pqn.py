"""PQN: λ-returns against slow loops, known answers on probe environments, SB3's life cycle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import probes
import pytest
import stable_baselines3
import torch
from stable_baselines3.common.callbacks import BaseCallback, CheckpointCallback, EvalCallback
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.utils import LinearSchedule
from torch import Tensor, nn
from walk import Walk, bootstrap_densely, logged, walk, weights

from palaestra.agents import DQN, PQN, CheckpointError, DuelingPolicy, SharedMlp
from palaestra.agents import q_learning as base
from palaestra.envs import EnvError, TensorEnv, TensorVectorEnv

SMALL: dict[str, Any] = {
    "n_steps": 16,
    "batch_size": 32,
    "n_epochs": 2,
    "seed": 3,
    "policy_kwargs": {"features_extractor_kwargs": {"hidden": [16]}},
}


def small(env: Any = None, **kwargs: Any) -> PQN:
    return PQN("MlpPolicy", walk() if env is None else env, **{**SMALL, **kwargs})


def collected(model: PQN, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Let the model take one rollout; what each step of the environments was given and gave."""
    steps: list[Any] = []
    step = model.batch.step

    def record(actions: Tensor) -> Any:
        result = step(actions)
        steps.append((actions, *result))
        return result

    monkeypatch.setattr(model.batch, "step", record)
    _, callback = model._setup_learn(10**6, None)
    model.collect_rollouts(model.env, callback, model.train_freq, None)
    return steps


# ------------------------------------------------------------------------------------------- λ-returns


def slow_returns(model: PQN, first: Tensor, steps: list[Any], i: int) -> list[float]:
    """G_t of one environment, forwards: the weighted mean of the k-step returns, each summed from its beginning.

    G_t = (1 − λ) Σ_{k≥1} λ^{k−1} G_t^{(k)}, where the last k-step return (at the end of the episode or of the
    rollout) has all the weight that is left, and G^{(k)} ends with γ^k max Q unless the episode terminated.
    """
    gamma, lam, horizon = model.gamma, model.gae_lambda, len(steps)

    def best(obs: Tensor) -> float:
        with torch.no_grad():
            return float(model.q_net(obs[i : i + 1]).amax())

    returns = []
    for t in range(horizon):
        total, discounted = 0.0, 0.0
        for k in range(1, horizon - t + 1):
            _, obs, reward, terminated, truncated, info = steps[t + k - 1]
            discounted += gamma ** (k - 1) * float(reward[i])
            ends = bool(terminated[i] or truncated[i])
            after = 0.0 if terminated[i] else gamma**k * best(info["final_obs"] if truncated[i] else obs)
            last = ends or t + k == horizon
            total += (lam ** (k - 1) if last else (1 - lam) * lam ** (k - 1)) * (discounted + after)
            if last:
                break
        returns.append(total)
    return returns


@pytest.mark.parametrize(("gamma", "gae_lambda"), [(0.9, 0.65), (0.99, 0.0), (0.8, 1.0)])
@pytest.mark.parametrize("dense", [False, True], ids=["cpu", "other devices"])
def test_returns_equal_slow_sums(gamma: float, gae_lambda: float, dense: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    model = small(gamma=gamma, gae_lambda=gae_lambda)
    if dense:
        bootstrap_densely(model)
    steps = collected(model, monkeypatch)
    expected = [slow_returns(model, walk().reset(seed=3)[0], steps, i) for i in range(8)]
    model.learning_rate, model.n_epochs = 0.0, 1
    model.train()
    torch.testing.assert_close(model.rollout_buffer.returns.T, torch.tensor(expected), rtol=1e-4, atol=1e-5)
    ends = torch.stack([torch.stack((s[3].sum(), s[4].sum())) for s in steps]).sum(0)
    assert (ends > 5).all()


def test_returns_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """γ = λ = ½, max Q = 4 everywhere, reward 1, episodes cut after two steps; three steps of a rollout.

    Last step: 1 + ½ · 4 = 3. Second, cut: 1 + ½ · 4 = 3. First: 1 + ½ (½ · 4 + ½ · 3) = 2.75.
    """
    env = TensorVectorEnv(probes.EndlessReward(), 2, device="cpu", max_episode_steps=2)
    model = small(env, n_steps=3, gamma=0.5, gae_lambda=0.5, n_epochs=1, batch_size=6, learning_rate=0.0)
    monkeypatch.setattr(model._online, "infer", lambda obs: torch.tensor([[4.0, 1.0]]).expand(len(obs), 2))
    monkeypatch.setattr(model, "_update", lambda *batch: torch.zeros(3))
    collected(model, monkeypatch)
    model.train()
    assert model.rollout_buffer.returns.T.tolist() == [[2.75, 3.0, 3.0]] * 2


# ------------------------------------------------------------------------------------------- the update


def test_each_epoch_sees_every_row_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """128 rows in minibatches of 48, 48 and 32, in two orders; each observation with its own action and return."""
    model = small(batch_size=48)
    steps = collected(model, monkeypatch)
    seen: list[Any] = []
    monkeypatch.setattr(model, "_update", lambda *batch: (seen.append(batch), torch.zeros(3))[1])
    model.train()
    assert [len(actions) for _, actions, _ in seen] == [48, 48, 32] * 2
    assert model._n_updates == 6
    buffer = model.rollout_buffer
    where = {tuple(o): r for r, o in enumerate(buffer.observations.flatten(0, 1).tolist())}  # type: ignore[union-attr]
    orders = []
    for epoch in (seen[:3], seen[3:]):
        obs, actions, returns = (torch.cat([batch[k] for batch in epoch]) for k in range(3))
        order = torch.tensor([where[tuple(o)] for o in obs.tolist()])
        assert sorted(order.tolist()) == list(range(128))
        assert torch.equal(actions, torch.cat([s[0] for s in steps])[order])
        assert torch.equal(returns, buffer.returns.flatten()[order])
        orders.append(order)
    assert not torch.equal(*orders)


@pytest.mark.parametrize("max_grad_norm", [10.0, 0.01])
def test_an_update_by_other_means(max_grad_norm: float) -> None:
    """Half the squared error of the chosen actions, gradient norm clipped, one RAdam step."""
    model, other = small(max_grad_norm=max_grad_norm), small()
    assert torch.equal(weights(model), weights(other))
    generator = torch.Generator().manual_seed(0)
    obs, returns = torch.randn(20, 3, generator=generator), torch.randn(20, generator=generator)
    actions = torch.arange(20) % 3
    model._begin_update()
    loss, mean, _ = model._update(obs, actions, returns)
    parameters = list(other.q_net.parameters())
    chosen = other.q_net(obs)[torch.arange(20), actions]
    expected = nn.MSELoss()(chosen, returns) / 2
    expected.backward()
    norm = torch.sqrt(sum((p.grad.square().sum() for p in parameters), torch.zeros(())))  # type: ignore[union-attr]
    for p in parameters:
        assert p.grad is not None
        p.grad *= min(1.0, max_grad_norm / float(norm))
    torch.optim.RAdam(parameters, lr=model.learning_rate).step()  # type: ignore[arg-type]
    torch.testing.assert_close(weights(model), weights(other), rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(torch.stack((loss, mean)), torch.stack((expected, chosen.mean())).detach())
    assert isinstance(model.policy.optimizer, torch.optim.RAdam)


def test_the_network_has_layer_norm_unless_another_is_asked_for() -> None:
    kinds = [type(layer) for layer in small().q_net.modules() if not list(layer.children())]
    assert kinds == [nn.Flatten, nn.Linear, nn.LayerNorm, nn.ReLU, nn.Linear]
    plain = small(policy_kwargs={"features_extractor_kwargs": {"hidden": [16], "layer_norm": False}})
    assert nn.LayerNorm not in {type(layer) for layer in plain.q_net.modules()}
    dueling = PQN(DuelingPolicy, walk(), policy_kwargs={"features_extractor_class": SharedMlp, "net_arch": []})
    assert dueling.q_net(torch.zeros(2, 3)).shape == (2, 3)


def test_epsilon_over_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rollouts of 4 steps of 8: from 1 to 0.2 over the first half of 160, from the very first step."""
    used: list[float] = []
    choose = base.epsilon_greedy
    monkeypatch.setattr(base, "epsilon_greedy", lambda q, e, *rest: (used.append(e), choose(q, e, *rest))[1])
    small(n_steps=4, exploration_fraction=0.5, exploration_final_eps=0.2).learn(160)
    assert used == pytest.approx([1 - 0.8 * t / 80 for t in range(0, 80, 8)] + [0.2] * 10)


def test_learning_rate_follows_its_schedule() -> None:
    rates: list[float] = []

    class Note(BaseCallback):
        def _on_rollout_start(self) -> None:
            rates.append(self.model.policy.optimizer.param_groups[0]["lr"])

        def _on_step(self) -> bool:
            return True

    small(learning_rate=LinearSchedule(1.0, 0.0, 1.0)).learn(4 * 128, Note())
    assert rates == pytest.approx([1.0, 0.75, 0.5, 0.25])


# ------------------------------------------------------------------------------------------- probe environments


def trained(env: TensorEnv[Any], iterations: int = 25, **kwargs: Any) -> PQN:
    settings: dict[str, Any] = {"n_steps": 8, "batch_size": 128, "n_epochs": 2, "gamma": 0.9, "seed": 1}
    settings |= {"learning_rate": LinearSchedule(2e-2, 1e-4, 1.0), "exploration_final_eps": 0.2}
    settings |= {"policy_kwargs": {"features_extractor_kwargs": {"hidden": [32]}}, **kwargs}
    return PQN("MlpPolicy", TensorVectorEnv(env, 64, device="cpu"), **settings).learn(64 * 8 * iterations)


def value(model: PQN, *signals: float) -> list[float]:
    with torch.no_grad():
        values: list[float] = model.q_net(torch.tensor(signals).unsqueeze(1)).amax(1).tolist()
    return values


def test_probe_constant_reward() -> None:
    assert value(trained(probes.ConstantReward()), 0.0) == pytest.approx([1.0], abs=0.01)


def test_probe_observed_reward() -> None:
    assert value(trained(probes.ObservedReward()), -1.0, 1.0) == pytest.approx([-1.0, 1.0], abs=0.02)


@pytest.mark.parametrize("gae_lambda", [0.0, 0.65, 1.0])
def test_probe_delayed_reward_is_discounted(gae_lambda: float) -> None:
    model = trained(probes.DelayedReward(), gae_lambda=gae_lambda)
    assert value(model, 0.0, 1.0) == pytest.approx([0.9, 1.0], abs=0.02)


def test_probe_action_reward() -> None:
    model = trained(probes.ActionReward())
    assert model.act(torch.zeros(1, 1)).tolist() == [1]
    assert model.q_net(torch.zeros(1, 1)).flatten().tolist() == pytest.approx([-1.0, 1.0], abs=0.05)


@pytest.mark.parametrize("spread", [0.0, 4.0])
def test_probe_match_observation(spread: float) -> None:
    model = trained(probes.MatchObservation(), exploration_spread=spread)
    assert model.act(torch.tensor([[-1.0], [1.0]])).tolist() == [0, 1]
    assert value(model, -1.0, 1.0) == pytest.approx([1.0, 1.0], abs=0.05)


@pytest.mark.parametrize("normalize_reward", [False, True])
def test_truncation_bootstraps(normalize_reward: bool) -> None:
    """The time limit is no end: 1 / (1 − γ) = 10, in units of the return's deviation where rewards are normalised."""
    model = trained(probes.EndlessReward(), 50, normalize_reward=normalize_reward)
    scale = 1.0 if model._reward_scale is None else float(model._reward_scale._moments[1].sqrt())
    assert value(model, 0.0)[0] * scale == pytest.approx(10.0, rel=0.05)


def test_without_bootstrapping_the_value_would_be_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """So the test above can fail: 3.6 to 4.7 when the time limit counts as an end."""
    monkeypatch.setattr(PQN, "_bootstrap", lambda self, values, rewards, *rest: rewards)
    assert 3.5 < value(trained(probes.EndlessReward(), 40), 0.0)[0] < 4.8


# ------------------------------------------------------------------------------------------- SB3's interface


def test_an_sb3_script(tmp_path: Path) -> None:
    model = PQN("MlpPolicy", "CartPole-v1", n_steps=32, batch_size=16, seed=1, device="cpu")
    evaluation = EvalCallback(
        Monitor(gymnasium.make("CartPole-v1")), eval_freq=64, n_eval_episodes=2, log_path=str(tmp_path), verbose=0
    )
    rows = logged(model, 192, callback=[CheckpointCallback(64, str(tmp_path / "c")), evaluation], log_interval=1)
    model.learn(64, reset_num_timesteps=False)
    assert model.num_timesteps == 256
    assert sorted(p.name for p in tmp_path.rglob("*.zip")) == [f"rl_model_{n}_steps.zip" for n in (128, 192, 64)]
    expected = {"rollout/exploration_rate", "rollout/ep_rew_mean", "rollout/ep_len_mean", "time/fps", "time/episodes"}
    expected |= {"time/total_timesteps", "time/time_elapsed", "train/n_updates", "train/loss", "train/learning_rate"}
    assert expected <= {key for row in rows for key in row}
    mean, _ = evaluate_policy(model, Monitor(gymnasium.make("CartPole-v1")), n_eval_episodes=2)
    assert 8 <= mean <= 500  # type: ignore[operator]


def test_vanilla_dqn_opens_the_file(tmp_path: Path) -> None:
    model = small().learn(256)
    model.save(tmp_path / "model.zip")
    obs = np.random.default_rng(0).normal(size=(200, 3)).astype(np.float32)
    expected = model.predict(obs, deterministic=True)[0]
    assert len(set(expected.tolist())) > 1
    theirs = stable_baselines3.DQN.load(tmp_path / "model.zip", device="cpu", buffer_size=100)
    np.testing.assert_array_equal(theirs.predict(obs, deterministic=True)[0], expected)
    np.testing.assert_array_equal(model.act(torch.from_numpy(obs)).numpy(), expected)


def test_a_saved_model_comes_back(tmp_path: Path) -> None:
    model = small(normalize_reward=True, exploration_spread=2.0, learning_rate=LinearSchedule(1e-3, 1e-5, 1.0))
    model.learn(256)
    model.save(tmp_path / "model")
    loaded = PQN.load(tmp_path / "model", env=walk())
    assert torch.equal(weights(loaded), weights(model))
    for name in ("num_timesteps", "_n_updates", "exploration_rate", *PQN._json_arguments):
        if name != "learning_rate":
            assert getattr(loaded, name) == getattr(model, name), name
    assert loaded._reward_scale.state() == model._reward_scale.state()  # type: ignore[union-attr]
    finals = []
    for agent in (model, loaded):
        _, callback = agent._setup_learn(256, None, reset_num_timesteps=False)
        agent._last_obs, _ = agent.batch.reset(seed=1)
        agent._reward_scale.forget_episodes()  # type: ignore[union-attr]
        agent.collect_rollouts(agent.env, callback, agent.train_freq, None)
        torch.manual_seed(5)
        agent.train()
        finals.append(weights(agent))
    assert torch.equal(*finals)
    with pytest.raises(CheckpointError, match="holds a PQN agent, not DQN"):
        DQN.load(tmp_path / "model")


def test_a_callback_stops_and_learning_goes_on() -> None:
    class Stop(BaseCallback):
        def _on_step(self) -> bool:
            return self.n_calls < 5

    model = small()
    before = weights(model)
    model.learn(10_000, Stop())
    assert model.num_timesteps == 40
    assert torch.equal(weights(model), before)
    assert model.learn(128, reset_num_timesteps=False).num_timesteps == 168
    assert not torch.equal(weights(model), before)
    model.set_env(walk(seed=99))
    assert model.learn(128).num_timesteps == 128


def test_same_seed_same_weights_bit_for_bit() -> None:
    def final(seed: int) -> Tensor:
        return weights(small(walk(seed=seed + 1), seed=seed).learn(512))

    assert torch.equal(final(4), final(4))
    assert not torch.equal(final(4), final(5))


@pytest.mark.parametrize(("field", "step"), [("observation", 7), ("observation", 19), ("reward", 3), ("reward", 31)])
def test_nan_from_an_environment_is_named(field: str, step: int) -> None:
    env = TensorVectorEnv(Walk(walk().single_action_space, (field, 6, step)), 8, device="cpu", first_env_index=100)
    seen_at = step + 1 if field == "observation" else step
    name = "last observation" if step == 19 else field  # that episode is cut there, after five steps
    with pytest.raises(EnvError, match=f"^{name} is not finite in environment 106 at step {seen_at} of the run"):
        small(env).learn(32 * 8)


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 1, got 0"):
        small(n_steps=0)
    with pytest.raises(ValueError, match="did you mean 'snake-small'"):
        PQN("MlpPolicy", "snake-smal")
