"""The average of the weights: worked out again step by step, who uses it and who does not, files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import stable_baselines3
import torch
from stable_baselines3.common.callbacks import BaseCallback
from torch import Tensor, nn
from walk import walk, weights

from palaestra.agents import DQN, PQN
from palaestra.agents.buffers.replay import Transitions
from palaestra.envs.core.rng import Rng

KINDS: dict[str, Any] = {
    "dqn": (DQN, {"buffer_size": 4096, "learning_starts": 0, "train_freq": 1, "policy_kwargs": {"net_arch": [16]}}),
    "dueling": (DQN, {"policy": "DuelingPolicy", "buffer_size": 4096, "learning_starts": 0, "train_freq": 1}),
    "pqn": (PQN, {"n_steps": 8, "policy_kwargs": {"features_extractor_kwargs": {"hidden": [16]}}}),
}


def agent(name: str, **kwargs: Any) -> Any:
    kind, settings = KINDS[name]
    settings = {"policy": "MlpPolicy", "learning_rate": 0.01, "batch_size": 32, "seed": 3, **settings, **kwargs}
    return kind(env=walk(), **settings)


def flat(net: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in net.parameters()]).double()


def every_step(model: Any) -> list[Tensor]:
    """A list that gets the online weights after each gradient step to come."""
    history: list[Tensor] = []
    step = model.policy.optimizer.step
    model.policy.optimizer.step = lambda: (step(), history.append(flat(model.q_net)))
    return history


def averaged(history: list[Tensor], tau: float) -> Tensor:
    """The mean of the first 1/τ, then θ̄ ← (1 − τ) θ̄ + τ θ."""
    first = round(1 / tau)
    average = torch.stack(history[:first]).mean(0)
    for online in history[first:]:
        average = (1 - tau) * average + tau * online
    return average


def states(n: int = 200) -> Tensor:
    return walk(n=n).reset(seed=9)[0]


class Look(BaseCallback):
    """Asks the model for actions at every step."""

    def _on_step(self) -> bool:
        self.model.predict(states(5).numpy(), deterministic=True)
        self.model.act(states(5))  # type: ignore[attr-defined]
        return True


# ------------------------------------------------------------------------------------------- the average


@pytest.mark.parametrize("name", KINDS)
def test_the_plain_mean_and_then_the_exponential_one(name: str) -> None:
    """τ = 1/8: looked at after 5 updates or so, and again after many more, in a second run too."""
    model = agent(name, weight_average=0.125)
    history = every_step(model)
    for steps in (64, 64, 512):
        model.learn(steps, reset_num_timesteps=False)
        assert model._n_averaged == len(history) == model._n_updates
        torch.testing.assert_close(flat(model._average), averaged(history, 0.125), rtol=1e-5, atol=1e-6)
    assert len(history) > 60
    assert (flat(model._average) - history[-1]).abs().max() > 1e-3


def test_the_mean_over_the_first_steps() -> None:
    """With τ = 1/1000 all of them count the same; a mean that began at θ_0 would hardly have moved."""
    model = agent("dqn", weight_average=0.001)
    history = every_step(model)
    model.learn(320)
    assert len(history) == 40
    torch.testing.assert_close(flat(model._average), torch.stack(history).mean(0), rtol=1e-5, atol=1e-6)


def test_a_share_of_one_is_no_average() -> None:
    model = agent("dqn", weight_average=1.0).learn(80)
    assert torch.equal(flat(model._average), flat(model.q_net))


@pytest.mark.parametrize("name", KINDS)
def test_learning_is_the_same_with_and_without(name: str) -> None:
    """Exploration, targets and gradients know nothing of it: bit for bit, whoever asks for actions on the way."""
    double = {"double_q": True, "target_update_interval": 64} if name != "pqn" else {}
    plain, with_average = (agent(name, weight_average=tau, **double).learn(512, Look()) for tau in (0.0, 0.05))
    assert torch.equal(weights(plain), weights(with_average))
    assert torch.equal(plain._last_obs, with_average._last_obs)
    assert torch.equal(plain._losses, with_average._losses)
    assert plain._average is None
    assert not torch.equal(flat(with_average._average), flat(with_average.q_net))


# ------------------------------------------------------------------------------------------- who uses it


def prefer(net: nn.Module, action: int) -> None:
    """Q-values of 9 for one action and 0 for the others, everywhere."""
    *_, weight, bias = net.parameters()
    weight.data.zero_()
    bias.data.copy_(9.0 * (torch.arange(3) == action))


@pytest.mark.parametrize("name", ["dqn", "pqn"])
def test_the_greedy_policy_is_that_of_the_average(name: str, tmp_path: Path) -> None:
    """The average prefers action 0 and the online weights prefer 2: collection takes 2, all others take 0."""
    model = agent(name, weight_average=0.1, exploration_initial_eps=0.0, exploration_final_eps=0.0).learn(64)
    prefer(model._average, 0)
    prefer(model.q_net, 2)
    obs = states()
    assert (model.act(obs) == 0).all()
    model.exploration_rate = 1e-9
    assert (model.act(obs, Rng(torch.arange(200), 0)) == 0).all()
    assert (model.predict(obs.numpy(), deterministic=True)[0] == 0).all()
    assert (model.predict(obs.numpy())[0] == 0).all()
    taken: list[Tensor] = []
    step = model.batch.step
    model.batch.step = lambda actions: (taken.append(actions), step(actions))[1]
    model.learning_rate, model.lr_schedule = 0.0, lambda progress: 0.0
    model.exploration_schedule = lambda progress: 0.0
    model.learn(64, reset_num_timesteps=False)
    assert all((actions == 2).all() for actions in taken)
    prefer(model._average, 0)
    model.save(tmp_path / "model.zip")
    assert model.policy.q_net is model.q_net
    assert flat(model.policy.q_net).equal(flat(model.q_net))
    assert (type(model).load(tmp_path / "model.zip").act(obs) == 0).all()


def test_the_online_weights_are_back_after_a_fault() -> None:
    model = agent("dqn", weight_average=0.1).learn(64)
    with pytest.raises((ValueError, RuntimeError)):
        model.predict(np.zeros((2, 7), dtype=np.float32), deterministic=True)
    assert model.policy.q_net is model.q_net
    assert model._average is not model.q_net


def test_targets_are_those_of_the_online_and_the_target_network() -> None:
    """Double Q: the online network chooses 2, which the target network takes for 9; r = 1, γ = ½: 5.5."""
    model = agent("dqn", weight_average=0.1, double_q=True).learn(64)
    prefer(model._average, 0)
    prefer(model.q_net, 2)
    prefer(model.q_net_target, 2)
    some, ones, zeros = {"": torch.zeros(2, 3)}, torch.ones(2), torch.zeros(2, dtype=torch.int64)
    batch = Transitions(some, zeros, ones, 0.5 * ones, some, ones, zeros)
    assert model._targets(batch).tolist() == [5.5, 5.5]


# ------------------------------------------------------------------------------------------- files


@pytest.mark.parametrize("name", KINDS)
def test_a_file_holds_the_average(name: str, tmp_path: Path) -> None:
    model = agent(name, weight_average=0.05).learn(400)
    model.save(tmp_path / "model.zip")
    loaded = type(model).load(tmp_path / "model.zip", env=walk())
    assert torch.equal(flat(loaded.q_net), flat(model._average))
    assert torch.equal(flat(loaded.q_net_target), flat(model.q_net_target))
    assert (loaded._n_averaged, loaded.weight_average) == (model._n_averaged, 0.05)
    assert loaded._n_averaged > 20
    obs = states()
    assert torch.equal(loaded.act(obs), model.act(obs))
    with torch.no_grad():
        assert (model.q_net(obs).argmax(1) != model.act(obs)).any()  # the online weights would act otherwise
    first, second = (m.policy.optimizer.state_dict()["state"] for m in (model, loaded))
    assert str(first) == str(second)


@pytest.mark.parametrize("name", KINDS)
def test_learning_goes_on_from_a_file(name: str, tmp_path: Path) -> None:
    """The average goes on too, with the share that it had: its first value is what the file held."""
    model = agent(name, weight_average=0.05).learn(448)
    model.save(tmp_path / "model.zip")
    loaded = type(model).load(tmp_path / "model.zip", env=walk())
    average, before, history = flat(loaded.q_net), loaded._n_averaged, every_step(loaded)
    loaded.learn(64, reset_num_timesteps=False)
    assert loaded._n_averaged == before + len(history)
    assert loaded.num_timesteps == 512
    for online in history:
        average = 0.95 * average + 0.05 * online
    torch.testing.assert_close(flat(loaded._average), average, rtol=1e-5, atol=1e-6)


def test_vanilla_sb3_acts_as_we_do(tmp_path: Path) -> None:
    model = agent("dqn", weight_average=0.05).learn(400)
    model.save(tmp_path / "model.zip")
    theirs = stable_baselines3.DQN.load(tmp_path / "model.zip", device="cpu")
    obs = states().numpy()
    np.testing.assert_array_equal(*(m.predict(obs, deterministic=True)[0] for m in (model, theirs)))


def test_weights_that_are_put_in_count_at_once() -> None:
    """SB3's set_parameters: no average of weights that are gone."""
    model, other = agent("dqn", weight_average=0.01).learn(400), agent("dqn", seed=8).learn(80)
    model.set_parameters(other.get_parameters())
    assert torch.equal(model.act(states()), other.act(states()))
    history = every_step(model)
    start = flat(model.q_net)
    model.learn(16, reset_num_timesteps=False)
    share = 1 / (50 + 1), 1 / (50 + 2)
    for s, online in zip(share, history, strict=True):
        start = start + s * (online - start)
    torch.testing.assert_close(flat(model._average), start, rtol=1e-5, atol=1e-6)
