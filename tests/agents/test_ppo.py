"""PPO: the same numbers as Stable-Baselines3's on the same data, and known answers on probe environments."""

from __future__ import annotations

import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium
import numpy as np
import probes
import pytest
import stable_baselines3
import torch
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete, Space
from stable_baselines3.common.callbacks import BaseCallback, StopTrainingOnMaxEpisodes
from stable_baselines3.common.envs import IdentityEnv, SimpleMultiObsEnv
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import DummyVecEnv
from torch import Tensor
from walk import Rows, Walk, bootstrap_densely, logged, walk, weights

from palaestra.agents import PPO, DivergedError
from palaestra.agents import ppo as ppo_module
from palaestra.envs import EnvError, SB3VecEnv, TensorEnv, TensorVectorEnv, make
from palaestra.envs.core.rng import Rng

# ------------------------------------------------------------------------------------------- the same numbers as SB3


def collect(model: stable_baselines3.PPO) -> None:
    _, callback = model._setup_learn(10**6, None)
    assert model.env is not None
    model.collect_rollouts(model.env, callback, model.rollout_buffer, model.n_steps)


def twins(policy: str, our_env: Any, their_env: Any, **kwargs: Any) -> tuple[PPO, stable_baselines3.PPO]:
    """Our model and SB3's with the same weights, whose rollouts hold the same actions in the same environments."""
    settings = {"n_steps": 16, "batch_size": 32, "n_epochs": 3, "seed": 3, "device": "cpu", **kwargs}
    ours, theirs = PPO(policy, our_env, **settings), stable_baselines3.PPO(policy, their_env, **settings)
    theirs.policy.load_state_dict(ours.policy.state_dict())
    collect(ours)
    recorded = iter(ours.rollout_buffer.actions)

    def replay(obs: Any) -> tuple[Tensor, Tensor, Tensor]:
        actions = next(recorded)
        flat = actions.float() if actions.dtype == torch.int8 else actions
        values, log_prob, _ = theirs.policy.evaluate_actions(obs, flat)
        return flat.view(-1, *theirs.action_space.shape), values, log_prob  # type: ignore[misc]

    theirs.policy.forward = replay  # type: ignore[method-assign, assignment]
    collect(theirs)
    return ours, theirs


def same_shuffles(ours: PPO, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both shuffle by the same permutations; SB3 numbers the rows environment by environment, we step by step."""
    steps, envs = ours.n_steps, ours.n_envs

    def order(seed: int) -> Tensor:
        return torch.randperm(steps * envs, generator=torch.Generator().manual_seed(seed))

    ours_next, theirs_next = iter(range(1000)), iter(range(1000))
    permutation = torch.randperm
    monkeypatch.setattr(
        torch, "randperm", lambda *a, **k: permutation(*a, **k) if "generator" in k else order(next(ours_next))
    )
    monkeypatch.setattr(
        np.random, "permutation", lambda size: ((o := order(next(theirs_next))) % envs * steps + o // envs).numpy()
    )


def assert_same_training(ours: PPO, theirs: stable_baselines3.PPO, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = ours.rollout_buffer, theirs.rollout_buffer
    for name in ("rewards", "values", "log_probs", "advantages", "returns"):
        np.testing.assert_allclose(getattr(a, name).numpy(), getattr(b, name), rtol=1e-4, atol=1e-5, err_msg=name)
    before = weights(ours)
    same_shuffles(ours, monkeypatch)
    ours.train()
    theirs.train()
    torch.testing.assert_close(weights(ours), weights(theirs), rtol=1e-5, atol=2e-6)
    assert (weights(ours) - before).abs().max() > 1e-4
    assert ours._n_updates == theirs._n_updates


SPACES = {
    "discrete": Discrete(3),
    "multidiscrete": MultiDiscrete([2, 3]),
    "multibinary": MultiBinary(4),
    "box": Box(-0.5, 0.5, (2,)),
    "matrix": Box(-0.5, 0.5, (2, 2)),
}


@pytest.mark.parametrize("clip_range_vf", [None, 0.05])
@pytest.mark.parametrize("space", SPACES)
def test_rollout_and_update_equal_sb3(space: str, clip_range_vf: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"ent_coef": 0.01, "learning_rate": 1e-3, "clip_range_vf": clip_range_vf}
    ours, theirs = twins("MlpPolicy", walk(SPACES[space]), SB3VecEnv(walk(SPACES[space])), **settings)
    assert_same_training(ours, theirs, monkeypatch)


@pytest.mark.parametrize(
    "settings",
    [
        {"use_sde": True},
        {"use_sde": True, "sde_sample_freq": 4, "policy_kwargs": {"squash_output": True}},
        {"normalize_advantage": False, "max_grad_norm": 0.05, "vf_coef": 0.1},
        {"policy_kwargs": {"share_features_extractor": False, "net_arch": [8]}},
        {"batch_size": 48, "n_epochs": 1},
    ],
    ids=["sde", "squashed", "clipped", "apart", "remainder"],
)
def test_other_settings_equal_sb3(settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    space = SPACES["box"]
    ours, theirs = twins("MlpPolicy", walk(space), SB3VecEnv(walk(space)), **settings)
    assert_same_training(ours, theirs, monkeypatch)


def test_dictionary_observations_of_a_gymnasium_env_equal_sb3(monkeypatch: pytest.MonkeyPatch) -> None:
    def envs() -> DummyVecEnv:
        np.random.seed(0)  # SB3's environment draws its observations from the global generator
        return DummyVecEnv([lambda: SimpleMultiObsEnv(random_start=False) for _ in range(2)])

    ours, theirs = twins("MultiInputPolicy", envs(), envs(), batch_size=8)
    assert_same_training(ours, theirs, monkeypatch)


def test_target_kl_stops_at_the_same_minibatch_as_sb3(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"target_kl": 0.01, "learning_rate": 3e-3, "n_epochs": 20}
    ours, theirs = twins("MlpPolicy", walk(), SB3VecEnv(walk()), **settings)
    assert_same_training(ours, theirs, monkeypatch)
    assert 1 <= ours._n_updates < 20


def test_reported_losses_equal_sb3(monkeypatch: pytest.MonkeyPatch) -> None:
    """With one minibatch per epoch and one epoch, where mean and last coincide."""
    ours, theirs = twins("MlpPolicy", walk(SPACES["box"]), SB3VecEnv(walk(SPACES["box"])), batch_size=128, n_epochs=1)
    assert_same_training(ours, theirs, monkeypatch)
    ours._record_losses(ours._losses.tolist())
    expected = theirs.logger.name_to_value
    for key in [k for k in expected if k.startswith("train/")]:
        assert ours.logger.name_to_value[key] == pytest.approx(expected[key], rel=1e-4, abs=1e-6), key


def test_policy_loss_by_hand() -> None:
    """Three rows, ratios 2, 1/2 and 1, advantages 1, −1, 3, clip range 1/4.

    Surrogates min(2, 1.25) = 1.25, min(−0.5, −0.75) = −0.75, 3; loss −3.5/3. Two of three are clipped.
    """
    model = PPO("MlpPolicy", walk(), normalize_advantage=False, vf_coef=0.25, ent_coef=0.5, device="cpu")
    log_prob = torch.tensor([2.0, 0.5, 1.0]).log()
    values, entropy = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([0.1, 0.2, 0.6])
    zeros = torch.zeros(3)
    batch = ppo_module.Minibatch(zeros, zeros, zeros, zeros, torch.tensor([1.0, -1, 3]), torch.tensor([1.0, 4, 0]))
    (policy_loss, value_loss), terms = model._losses_of(batch, 0.25, None, model.ent_coef)
    policy_loss(log_prob, entropy)
    value_loss(values)
    buffer = SimpleNamespace(returns=torch.arange(3.0), values=torch.zeros(3))
    model.rollout_buffer = buffer  # type: ignore[assignment]
    names = dict(zip(PPO._summaries[:6], model._summary(terms.mean(1), torch.zeros(1)).tolist(), strict=False))
    assert names["policy_gradient_loss"] == pytest.approx(-3.5 / 3)
    assert names["value_loss"] == pytest.approx((0 + 4 + 9) / 3)
    assert names["entropy_loss"] == pytest.approx(-0.3)
    assert names["clip_fraction"] == pytest.approx(2 / 3)
    kl = sum(r - 1 - np.log(r) for r in (2, 0.5, 1)) / 3
    assert names["approx_kl"] == pytest.approx(kl)
    assert names["loss"] == pytest.approx(-3.5 / 3 + 0.25 * 13 / 3 - 0.5 * 0.3)


@pytest.mark.parametrize("with_entropy", [True, False])
@pytest.mark.parametrize("clip_range_vf", [None, 0.3])
@pytest.mark.parametrize("normalize", [True, False])
def test_the_derivatives_of_the_loss_are_autograds(
    normalize: bool, clip_range_vf: float | None, with_entropy: bool
) -> None:
    """Of SB3's formula, in float64, with ratios inside and outside the clip range, on both signs of the advantage."""
    model = PPO("MlpPolicy", walk(), normalize_advantage=normalize, vf_coef=0.7, ent_coef=0.2, device="cpu")
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(6, 500, dtype=torch.float64, generator=generator)
    old_log_prob, log_prob, values, entropy = drawn[0], drawn[0] + 0.3 * drawn[1], drawn[2], drawn[3].abs()
    batch = ppo_module.Minibatch(drawn[0], drawn[0], values + 0.3 * drawn[5], old_log_prob, drawn[4], drawn[5])
    leaves = [values, log_prob, *([entropy] if with_entropy else [])]
    (of_policy, of_values), terms = model._losses_of(batch, 0.2, clip_range_vf, model.ent_coef)
    grad_log_prob, grad_entropy = of_policy(log_prob, entropy if with_entropy else None)
    entropies = [torch.full_like(entropy, grad_entropy)] if with_entropy else []
    found = [of_values(values), grad_log_prob, *entropies]

    advantages = batch.advantages
    if normalize:
        advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
    own = [x.clone().requires_grad_() for x in leaves]
    ratio = torch.exp(own[1] - old_log_prob)
    policy_loss = -torch.min(advantages * ratio, advantages * torch.clamp(ratio, 0.8, 1.2)).mean()
    predicted = own[0]
    if clip_range_vf is not None:
        predicted = batch.old_values + torch.clamp(own[0] - batch.old_values, -clip_range_vf, clip_range_vf)
    entropy_loss = -own[2].mean() if with_entropy else own[1].mean()  # SB3 estimates it where there is no formula
    loss = policy_loss + 0.2 * entropy_loss + 0.7 * torch.nn.functional.mse_loss(batch.returns, predicted)
    loss.backward()  # type: ignore[no-untyped-call]
    means = terms.mean(1)
    assert float(means[0] + 0.2 * means[2] + 0.7 * means[1]) == pytest.approx(float(loss.detach()))
    for ours, theirs in zip(found, own, strict=True):
        torch.testing.assert_close(ours, theirs.grad, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("space", SPACES)
def test_the_first_minibatch_has_ratio_one(space: str) -> None:
    model = PPO("MlpPolicy", walk(SPACES[space], 32), n_steps=8, batch_size=256, n_epochs=1, seed=0)
    model.learn(256)
    names = dict(zip(PPO._summaries, model._losses.tolist(), strict=True))
    assert abs(names["approx_kl"]) < 1e-6
    assert names["clip_fraction"] == 0


# ------------------------------------------------------------------------------------------- probe environments


def trained(env: TensorEnv[Any], iterations: int = 40, **kwargs: Any) -> PPO:
    batch = TensorVectorEnv(env, 64, device="cpu")
    settings = {"n_steps": 8, "batch_size": 256, "n_epochs": 4, "learning_rate": LinearSchedule(2e-2, 1e-4, 1.0)}
    settings |= {"policy_kwargs": {"net_arch": [32]}, "gamma": 0.9, "seed": 1}
    return PPO("MlpPolicy", batch, **{**settings, **kwargs}).learn(64 * 8 * iterations)  # type: ignore[arg-type]


def value(model: PPO, *signals: float) -> list[float]:
    with torch.no_grad():
        values: list[float] = model.policy.predict_values(torch.tensor(signals).unsqueeze(1)).flatten().tolist()
    return values


def chosen(model: PPO, *signals: float) -> list[Any]:
    return model.act(torch.tensor(signals).unsqueeze(1)).tolist()  # type: ignore[no-any-return]


def test_probe_constant_reward() -> None:
    assert value(trained(probes.ConstantReward()), 0.0) == pytest.approx([1.0], abs=0.01)


def test_probe_observed_reward() -> None:
    assert value(trained(probes.ObservedReward()), -1.0, 1.0) == pytest.approx([-1.0, 1.0], abs=0.02)


def test_probe_delayed_reward_is_discounted() -> None:
    assert value(trained(probes.DelayedReward(), 60), 0.0, 1.0) == pytest.approx([0.9, 1.0], abs=0.02)


def test_probe_action_reward() -> None:
    model = trained(probes.ActionReward())
    assert chosen(model, 0.0) == [1]
    assert value(model, 0.0) == pytest.approx([1.0], abs=0.05)


def test_probe_match_observation() -> None:
    model = trained(probes.MatchObservation())
    assert chosen(model, -1.0, 1.0) == [0, 1]
    assert value(model, -1.0, 1.0) == pytest.approx([1.0, 1.0], abs=0.05)


def test_probe_continuous_target() -> None:
    model = trained(probes.ContinuousTarget(), 80, policy_kwargs={"net_arch": [32], "log_std_init": -1.0})
    targets = [-0.8, -0.4, 0.0, 0.4, 0.8]
    assert [a[0] for a in chosen(model, *targets)] == pytest.approx(targets, abs=0.1)


def test_truncation_bootstraps() -> None:
    """The time limit is no end: 1 / (1 − γ) = 10."""
    assert value(trained(probes.EndlessReward(), 80), 0.0) == pytest.approx([10.0], abs=0.3)


def test_without_bootstrapping_the_value_would_be_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """So the test above can fail: 3.6 to 4.7 when the time limit counts as an end."""
    monkeypatch.setattr(PPO, "_bootstrap", lambda self, values, rewards, *rest: rewards)
    assert 3.5 < value(trained(probes.EndlessReward(), 80), 0.0)[0] < 4.8


@pytest.mark.parametrize("dense", [False, True], ids=["cpu", "other devices"])
def test_only_truncated_rows_get_the_value_of_the_final_observation(dense: bool) -> None:
    model = PPO("MlpPolicy", walk(), n_steps=24, batch_size=192, seed=5, gamma=0.7)
    _, callback = model._setup_learn(10**6, None)
    if dense:
        bootstrap_densely(model)
    assert model.env is not None
    model.collect_rollouts(model.env, callback, model.rollout_buffer, 24)  # type: ignore[arg-type]
    again = walk()
    again.reset(seed=5)
    counts = torch.zeros(2)
    for t in range(24):
        _, reward, terminated, truncated, info = again.step(model.rollout_buffer.actions[t])
        with torch.no_grad():
            bonus = 0.7 * model.policy.predict_values(info["final_obs"]).flatten()
        torch.testing.assert_close(model.rollout_buffer.rewards[t], torch.where(truncated, reward + bonus, reward))
        assert torch.equal(model.rollout_buffer.dones[t], terminated | truncated)
        counts += torch.stack((terminated.sum(), truncated.sum()))
    assert (counts > 5).all()


# ------------------------------------------------------------------------------------------- SB3's interface

SCRIPT = """
import gymnasium as gym
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import CallbackList, CheckpointCallback, EvalCallback
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor

model = PPO("MlpPolicy", "CartPole-v1", n_steps=64, batch_size=32, n_epochs=2, seed=1, verbose=0, device="cpu")
model.set_logger(logger)
callbacks = [
    CheckpointCallback(64, folder + "/checkpoints"),
    EvalCallback(Monitor(gym.make("CartPole-v1")), eval_freq=64, n_eval_episodes=2, log_path=folder, verbose=0),
]
model.learn(total_timesteps=128, callback=CallbackList(callbacks), log_interval=1)
model.learn(total_timesteps=64, reset_num_timesteps=False)
total = model.num_timesteps
model.save(folder + "/final")
del model
model = PPO.load(folder + "/final")
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
        exec(SCRIPT.replace("from stable_baselines3 import PPO", f"from {package} import PPO"), scope)
        keys = {key for row in rows.rows for key in row} - {"train/ent_coef", "train/grad_norm"}
        files = sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))
        shape = scope["single"].shape, scope["single"].dtype, scope["batch"].shape, scope["states"]
        results.append((keys, files, scope["total"], shape))
        assert 8 <= scope["mean"] <= 500
    assert results[0] == results[1]
    assert "train/std" not in results[0][0]
    assert results[0][2] == 192


def test_logger_keys_of_a_gaussian_policy_with_all_options() -> None:
    settings = {"n_steps": 16, "batch_size": 64, "clip_range_vf": 0.2, "seed": 0, "device": "cpu"}
    ours = logged(PPO("MlpPolicy", walk(SPACES["box"]), **settings), 3 * 128)
    theirs = logged(stable_baselines3.PPO("MlpPolicy", SB3VecEnv(walk(SPACES["box"])), **settings), 3 * 128)
    assert [{*row} for row in ours] == [
        {*row} | ({"train/ent_coef", "train/grad_norm"} if i else set()) for i, row in enumerate(theirs)
    ]
    assert all(isinstance(v, int | float) for row in ours for v in row.values())


@pytest.mark.parametrize(
    "space", [Discrete(3), MultiDiscrete([2, 3]), MultiBinary(4), Box(-0.5, 0.5, (2,)), Box(-0.5, 0.5, (2, 2))]
)
def test_predict_and_act_give_valid_equal_actions(space: Space[Any]) -> None:
    env = walk(space, 16)
    model = PPO("MlpPolicy", env, n_steps=16, batch_size=128, seed=0).learn(512)
    obs, _ = env.reset()
    batch, _ = model.predict(obs.numpy(), deterministic=True)
    tensor = model.act(obs)
    np.testing.assert_allclose(batch, tensor.numpy())
    assert tensor.shape == (16, *space.shape)  # type: ignore[misc]
    for row in range(16):
        assert space.contains(np.asarray(batch[row], dtype=space.dtype))
    single, _ = model.predict(obs[0].numpy(), deterministic=True)
    np.testing.assert_allclose(single, batch[0], rtol=1e-4, atol=1e-6)  # other sums in a batch of one
    sampled = model.act(obs, Rng(torch.arange(16), 0))
    assert sampled.shape == tensor.shape
    env.step(sampled)


def test_dictionary_observations_train_and_predict() -> None:
    model = PPO("MultiInputPolicy", SimpleMultiObsEnv(), n_steps=64, batch_size=32, seed=0, device="cpu").learn(128)
    obs = model.get_env().reset()  # type: ignore[union-attr]
    assert model.predict(obs)[0].shape == (1,)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="MultiInputPolicy"):
        PPO("MlpPolicy", SimpleMultiObsEnv())


def test_discrete_observations_and_integer_boxes_train() -> None:
    PPO("MlpPolicy", IdentityEnv(4), n_steps=64, batch_size=32, seed=0).learn(128)
    assert PPO("MlpPolicy", "FrozenLake-v1", n_steps=64, batch_size=32, seed=0).learn(128).num_timesteps == 128


@pytest.mark.parametrize("squash", [False, True])
def test_gsde_keeps_actions_inside_the_box(squash: bool) -> None:
    env = walk(Box(np.float32([-1, 2]), np.float32([0, 3])))
    seen: list[Tensor] = []
    step = env.step
    env.step = lambda actions: (seen.append(actions), step(actions))[1]  # type: ignore[method-assign, func-returns-value]
    kwargs = {"policy_kwargs": {"squash_output": squash}, "sde_sample_freq": 4}
    PPO("MlpPolicy", env, use_sde=True, n_steps=16, batch_size=64, seed=0, **kwargs).learn(256)  # type: ignore[arg-type]
    actions = torch.cat(seen)
    assert actions.dtype == torch.float32
    assert ((actions >= torch.tensor([-1.0, 2.0])) & (actions <= torch.tensor([0.0, 3.0]))).all()
    assert actions.std(0).min() > 0.05


def test_sb3_evaluates_on_the_training_environment() -> None:
    model = PPO("MlpPolicy", walk(), n_steps=16, seed=0, device="cpu")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # evaluate_policy warns of environments without a Monitor
        returns, lengths = evaluate_policy(model, model.get_env(), 20, return_episode_rewards=True)  # type: ignore[arg-type]
    assert len(returns) == 20  # type: ignore[arg-type]
    assert max(lengths) <= 5  # type: ignore[type-var, arg-type]
    model.learn(128)


class Stop(BaseCallback):
    def _on_step(self) -> bool:
        return self.n_calls < 5


def test_a_callback_stops_training() -> None:
    model = PPO("MlpPolicy", walk(), n_steps=16, batch_size=128, seed=0)
    before = weights(model)
    model.learn(10_000, Stop())
    assert model.num_timesteps == 40
    assert torch.equal(weights(model), before)
    assert model.learn(128, reset_num_timesteps=False).num_timesteps == 40 + 128


def test_sb3_callback_that_counts_episodes() -> None:
    """It reads ``dones`` from the locals of the collection."""
    callback = StopTrainingOnMaxEpisodes(10)
    model = PPO("MlpPolicy", walk(), n_steps=16, batch_size=128, seed=0)
    model.learn(10_000, callback)
    assert callback.n_episodes >= 80
    assert model.num_timesteps < 1000


# ------------------------------------------------------------------------------------------- seeds, statistics, errors


def test_same_seed_same_weights_bit_for_bit() -> None:
    def final(seed: int, env_seed: int = 0) -> Tensor:
        return weights(PPO("MlpPolicy", walk(seed=env_seed), n_steps=16, batch_size=32, seed=seed).learn(512))

    assert torch.equal(final(4), final(4))
    assert torch.equal(final(4), final(4, env_seed=9))  # the agent's seed is the environments' too, as in SB3
    assert not torch.equal(final(4), final(5))
    assert not torch.equal(final(2**31), final(2**31 + 1))


def test_no_seed_draws_one() -> None:
    torch.manual_seed(0)
    a = PPO("MlpPolicy", walk(), n_steps=16, batch_size=32)
    b = PPO("MlpPolicy", walk(), n_steps=16, batch_size=32)
    assert a._noise_seed != b._noise_seed


def test_actions_do_not_depend_on_the_number_of_environments() -> None:
    models = [PPO("MlpPolicy", walk(n=n), n_steps=16, batch_size=16, seed=2) for n in (4, 12)]
    for model in models:
        collect(model)
    few, many = (m.rollout_buffer.actions for m in models)
    assert torch.equal(few, many[:, :4])


def test_continuing_does_not_repeat_the_noise() -> None:
    model = PPO("MlpPolicy", walk(n=64), n_steps=4, batch_size=64, seed=2, learning_rate=0.0)
    model.learn(256)
    first = model.rollout_buffer.actions.clone()
    model.learn(256, reset_num_timesteps=False)
    second = model.rollout_buffer.actions.clone()
    assert (first != second).float().mean() > 0.3


class Counted(probes.EndlessReward):
    """Episodes of 8 steps with reward 1 each; the last state is a success in every environment."""

    def success(self, state: probes.ProbeState) -> Tensor:
        return state.signal == 0


def test_episode_statistics_are_exact() -> None:
    env = TensorVectorEnv(Counted(), 16, device="cpu")
    rows = logged(PPO("MlpPolicy", env, n_steps=12, batch_size=192, seed=0), 3 * 192)
    for row in rows:
        assert row["rollout/ep_rew_mean"] == 8
        assert row["rollout/ep_len_mean"] == 8
        assert row["rollout/success_rate"] == 1
    assert [row["time/total_timesteps"] for row in rows] == [192, 384, 576]
    assert [row["time/iterations"] for row in rows] == [1, 2, 3]


class Staircase(TensorEnv[probes.ProbeState]):
    """Episodes of one step whose reward is the number of steps of the run so far: 0, 1, 2, …"""

    def __init__(self) -> None:
        self.observation_space, self.action_space, self.count = Box(-1.0, 1.0, (1,)), Discrete(2), 0

    def reset(self, rng: Rng) -> probes.ProbeState:
        return probes.ProbeState(torch.zeros(rng.num_envs))

    def observe(self, state: probes.ProbeState) -> Tensor:
        return state.signal.unsqueeze(1)

    def step(self, state: probes.ProbeState, action: Tensor, rng: Rng) -> tuple[probes.ProbeState, Tensor, Tensor]:
        self.count += 1
        return state, torch.full_like(state.signal, self.count - 1), torch.ones_like(action, dtype=torch.bool)


@pytest.mark.parametrize(("window", "means"), [(8, [0.5, 2.5, 4.5]), (9, [0.5, 1.5, 3.5]), (100, [0.5, 1.5, 2.5])])
def test_the_statistics_window(window: int, means: list[float]) -> None:
    """Rollouts of 2 steps in 4 environments: 8 episodes each; the latest that hold at least ``window`` count."""
    env = TensorVectorEnv(Staircase(), 4, device="cpu")
    rows = logged(PPO("MlpPolicy", env, n_steps=2, batch_size=8, stats_window_size=window, seed=0), 24)
    assert [row["rollout/ep_rew_mean"] for row in rows] == means


def test_learning_again_starts_with_fresh_statistics() -> None:
    """Also behind the adapter, whose own running sums SB3's reset does not pass through."""

    class Eight(gymnasium.Env[Any, Any]):
        observation_space, action_space = Box(-1.0, 1.0, (1,)), Discrete(2)

        def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
            self.left = 8
            return np.zeros(1, dtype=np.float32), {}

        def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
            self.left -= 1
            return np.zeros(1, dtype=np.float32), 1.0, self.left == 0, False, {}

    for env in (DummyVecEnv([Eight]), TensorVectorEnv(Counted(), 2, device="cpu")):
        model = PPO("MlpPolicy", env, n_steps=10, batch_size=10, seed=0, device="cpu")
        model.learn(10)
        rows = logged(model, 10)
        assert rows[-1]["rollout/ep_rew_mean"] == 8
        assert rows[-1]["rollout/ep_len_mean"] == 8


@pytest.mark.parametrize("field", ["observation", "reward"])
@pytest.mark.parametrize("step", [0, 2, 3, 4, 7])
def test_nan_from_an_environment_is_named_before_any_weight_changes(field: str, step: int) -> None:
    """Rollouts have 4 steps, so steps 3 and 4 are the last of one and the first of the next."""
    snapshots: list[Tensor] = []

    class Snapshot(BaseCallback):
        def _on_rollout_start(self) -> None:
            snapshots.append(weights(self.model))  # type: ignore[arg-type]

        def _on_step(self) -> bool:
            return True

    env = TensorVectorEnv(Walk(Discrete(3), (field, 6, step)), 8, device="cpu", first_env_index=100)
    model = PPO("MlpPolicy", env, n_steps=4, batch_size=32, seed=0)
    seen_at, name = (step + 1, "last observation" if step == 4 else field) if field == "observation" else (step, field)
    with pytest.raises(EnvError, match=f"^{name} is not finite in environment 106 at step {seen_at} .*: nan"):
        model.learn(32 * 5, Snapshot())
    assert torch.equal(weights(model), snapshots[-1])
    assert len(snapshots) == step // 4 + 1


def test_nan_with_continuous_actions() -> None:
    env = TensorVectorEnv(Walk(SPACES["box"], ("observation", 6, 2)), 8, device="cpu")
    with pytest.raises(EnvError, match="observation is not finite in environment 6 at step 3 "):
        PPO("MlpPolicy", env, n_steps=4, batch_size=32, seed=0).learn(64)


def test_entropy_coefficient_follows_its_schedule() -> None:
    seen = []
    model = PPO("MlpPolicy", walk(), n_steps=16, batch_size=128, seed=0, ent_coef=LinearSchedule(0.1, 0.0, 1.0))
    train = model.train
    model.train = lambda: (train(), seen.append(model.ent_coef))[0]  # type: ignore[method-assign, func-returns-value]
    rows = logged(model, 128 * 4)
    assert seen == pytest.approx([0.075, 0.05, 0.025, 0.0])
    assert [row["train/ent_coef"] for row in rows[1:]] == pytest.approx(seen[:-1])


def test_entropy_coefficient_enters_the_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    """A schedule that stands still trains like the number, and unlike none at all."""

    def final(ent_coef: Any) -> Tensor:
        return weights(PPO("MlpPolicy", walk(), n_steps=16, batch_size=128, seed=0, ent_coef=ent_coef).learn(512))

    assert torch.equal(final(LinearSchedule(0.1, 0.1, 1.0)), final(0.1))
    assert not torch.equal(final(0.1), final(0.0))


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="did you mean 'snake-small'"):
        PPO("MlpPolicy", "snake-smal")
    with pytest.raises(ValueError, match=r"palaestra\.envs\.make"):
        PPO("MlpPolicy", gymnasium.make_vec("CartPole-v1", 2))
    with pytest.raises(ValueError, match="rollout_buffer_class"):
        PPO("MlpPolicy", walk(), rollout_buffer_class=stable_baselines3.common.buffers.RolloutBuffer)
    with pytest.raises(ValueError, match="the agent is on meta, its environments are on cpu"):
        PPO("MlpPolicy", walk(), device="meta")


def test_names_of_our_environments_work_as_in_sb3() -> None:
    model = PPO("MlpPolicy", "snake-small", n_steps=8, batch_size=8, seed=0, device="cpu").learn(8)
    assert model.n_envs == 1
    assert isinstance(model.batch, TensorVectorEnv)
    assert PPO("MlpPolicy", make("CartPole-v1", 3, "cpu"), n_steps=8, batch_size=24).learn(24).num_timesteps == 24


class _SteepEntropy(ActorCriticPolicy):
    """A policy of a user's own, whose entropy has an infinite derivative."""

    def evaluate_actions(self, obs: Any, actions: Any) -> Any:
        values, log_prob, entropy = super().evaluate_actions(obs, actions)
        assert entropy is not None
        return values, log_prob, (entropy - entropy.detach()).sqrt()


def test_an_entropy_that_does_not_count_has_no_gradient() -> None:
    model = PPO(_SteepEntropy, walk(), n_steps=16, batch_size=128, n_epochs=1, seed=0, ent_coef=0.0)
    assert model._actor_critic.head is None
    model.learn(128)
    assert all(p.isfinite().all() for p in model.policy.parameters())
    model = PPO(_SteepEntropy, walk(), n_steps=16, batch_size=128, n_epochs=1, seed=0, ent_coef=0.1)
    with pytest.raises(DivergedError):
        model.learn(128)
