"""SAC and TD3 beside Stable-Baselines3's: the same weights after updates on the same transitions and the same noise."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import stable_baselines3
import torch
from gymnasium import spaces
from stable_baselines3.common.distributions import SquashedDiagGaussianDistribution
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from torch import Tensor

from palaestra.agents import SAC, TD3
from palaestra.agents.buffers.replay import Transitions
from palaestra.agents.off_policy.continuous_networks import Critics, SquashedGaussian, squashed
from palaestra.envs import make

BATCH, ACTIONS, UPDATES = 64, 7, 6
TOLERANCE = 1e-5
KINDS: dict[str, Any] = {"SAC": (SAC, stable_baselines3.SAC), "TD3": (TD3, stable_baselines3.TD3)}


def transitions(seed: int, obs_size: int) -> Transitions:
    """Random ones, some of which end an episode, and some with shorter discounts."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    return Transitions(
        {"": normal(BATCH, obs_size)},
        normal(BATCH, ACTIONS).tanh(),
        normal(BATCH),
        0.99 ** torch.randint(1, 4, (BATCH,), generator=generator) * (normal(BATCH) > -1.0),
        {"": normal(BATCH, obs_size)},
        torch.ones(BATCH),
        torch.arange(BATCH),
    )


def pair(name: str, **kwargs: Any) -> tuple[Any, Any]:
    """Ours and SB3's with the same weights and arguments."""
    ours_kind, sb3_kind = KINDS[name]
    ours = ours_kind("MlpPolicy", make("reach", 4, "cpu"), seed=0, policy_kwargs={"net_arch": [32, 32]}, **kwargs)
    theirs = sb3_kind(
        "MlpPolicy", ours.env, seed=0, policy_kwargs={"net_arch": [32, 32]}, buffer_size=1, device="cpu", **kwargs
    )
    theirs.policy.load_state_dict(ours.policy.state_dict())
    for model in (ours, theirs):
        model.set_logger(stable_baselines3.common.logger.Logger(None, []))
    return ours, theirs


def learn_both(name: str, ours: Any, theirs: Any, monkeypatch: pytest.MonkeyPatch, updates: int = UPDATES) -> None:
    """Make updates on the same transitions with the same noise."""
    obs_size = ours.observation_space.shape[0]
    for step in range(updates):
        batch = transitions(step, obs_size)
        noise = torch.randn(2, BATCH, ACTIONS, generator=torch.Generator().manual_seed(100 + step))
        ours.replay = SimpleNamespace(draw=lambda size: (torch.arange(size), None), gather=lambda i, b=batch: b)
        ours._stored = SimpleNamespace(observe=lambda content: content[""])
        ours._noise = lambda size, parts, n=noise: n[:parts]
        ours.train(1, BATCH)
        ends = (batch.discounts == 0).float().unsqueeze(1)
        discounts = batch.discounts.unsqueeze(1)
        seen = ReplayBufferSamples(
            batch.content[""], batch.actions, batch.next_content[""], ends, batch.returns.unsqueeze(1), discounts
        )
        theirs.replay_buffer = SimpleNamespace(sample=lambda size, env=None, s=seen: s)
        drawn = iter(noise)
        with monkeypatch.context() as patch:
            draw = lambda self, shape=None, d=drawn: self.loc + self.scale * next(d)  # noqa: E731
            patch.setattr(torch.distributions.Normal, "rsample", draw)
            patch.setattr(Tensor, "normal_", lambda self, mean, std, d=drawn: self.copy_(mean + std * next(d)))
            theirs.train(1, BATCH)


@pytest.mark.parametrize(
    ("name", "kwargs"),
    [
        ("SAC", {}),
        ("SAC", {"ent_coef": 0.2}),
        ("SAC", {"ent_coef": "auto_0.1", "target_entropy": -3.0, "tau": 0.1}),
        ("TD3", {}),
        ("TD3", {"policy_delay": 3, "target_policy_noise": 0.5, "target_noise_clip": 0.3, "tau": 0.1}),
    ],
)
def test_weights_after_updates_equal_sb3s(name: str, kwargs: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps of plain gradient descent, so that the weights differ by what the gradients do."""
    ours, theirs = pair(name, learning_rate=1e-2, **kwargs)
    for model in (ours, theirs):
        for part in ("actor", "critic"):
            network = getattr(model, part)
            network.optimizer = torch.optim.SGD(network.parameters(), lr=1e-2)
    learn_both(name, ours, theirs, monkeypatch)
    moved = 0.0
    fresh = pair(name, **kwargs)[0].policy.state_dict()
    for key, value in theirs.policy.state_dict().items():
        torch.testing.assert_close(ours.policy.state_dict()[key], value, rtol=TOLERANCE, atol=TOLERANCE / 10)
        moved = max(moved, float((value - fresh[key]).abs().max()))
    assert moved > 100 * TOLERANCE
    if kwargs.get("ent_coef", "auto") != 0.2 and name == "SAC":
        torch.testing.assert_close(ours.log_ent_coef, theirs.log_ent_coef, rtol=TOLERANCE, atol=TOLERANCE)


@pytest.mark.parametrize("name", KINDS)
def test_gradients_equal_sb3s(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = pair(name, **({"policy_delay": 1} if name == "TD3" else {}))
    learn_both(name, ours, theirs, monkeypatch, updates=1)
    for part in ("actor", "critic"):
        pairs = zip(getattr(ours, part).parameters(), getattr(theirs, part).parameters(), strict=True)
        for own, other in pairs:
            assert other.grad.abs().max() > 0 or part == "critic"
            if part == "actor":  # SB3's critic has the actor's loss in its gradients afterwards
                torch.testing.assert_close(own.grad, other.grad, rtol=TOLERANCE, atol=TOLERANCE / 10)


@pytest.mark.parametrize("name", KINDS)
def test_adams_steps_equal_sb3s(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = pair(name)
    learn_both(name, ours, theirs, monkeypatch)
    for key, value in theirs.policy.state_dict().items():
        torch.testing.assert_close(ours.policy.state_dict()[key], value, rtol=1e-3, atol=1e-4)


def test_networks_by_hand_equal_their_modules() -> None:
    model = SAC("MlpPolicy", make("reach", 4, "cpu"), seed=0)
    obs, noise = torch.randn(16, model.observation_space.shape[0]), torch.randn(16, ACTIONS)
    by_hand, by_modules = (
        (SquashedGaussian(model.actor), Critics(model.critic)),
        (
            SquashedGaussian(model.actor),
            Critics(model.critic),
        ),
    )
    assert by_hand[0].is_dense
    for part in by_modules:
        part._manual = None  # type: ignore[attr-defined]
    for own, other in zip(by_hand[0].sample(obs, noise), by_modules[0].sample(obs, noise), strict=True):
        torch.testing.assert_close(own, other, rtol=1e-5, atol=1e-5)
    actions = torch.rand(16, ACTIONS) * 2 - 1
    for only_first in (False, True):
        found = [c.by_actions(obs, actions, lambda v: v.cos(), only_first) for c in (by_hand[1], by_modules[1])]
        for own, other in zip(*found, strict=True):
            torch.testing.assert_close(own, other, rtol=1e-5, atol=1e-6)
    assert all(parameter.requires_grad for parameter in model.critic.parameters())


def test_the_squashed_gaussian_equals_sb3s_where_it_is_saturated() -> None:
    mean, log_std, noise = (
        torch.linspace(-8, 8, 32, dtype=torch.float64).view(8, 4),  # in float32 SB3's loses the noise in u − μ
        torch.linspace(-20, 2, 32, dtype=torch.float64).view(8, 4),
        torch.randn(8, 4, dtype=torch.float64),
    )
    actions, log_prob = squashed(mean, log_std, noise)
    theirs = SquashedDiagGaussianDistribution(4).proba_distribution(mean, log_std)
    torch.testing.assert_close(theirs.log_prob(actions, mean + log_std.exp() * noise), log_prob, rtol=1e-6, atol=1e-5)
    assert actions.abs().max() <= 1.0


@pytest.mark.parametrize("name", KINDS)
def test_networks_that_have_no_twin_learn_the_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """ELU is computed by modules and autograd."""
    ours_kind, sb3_kind = KINDS[name]
    kwargs = {"net_arch": [16], "activation_fn": torch.nn.ELU}
    ours = ours_kind("MlpPolicy", make("reach", 4, "cpu"), seed=0, policy_kwargs=kwargs)
    theirs = sb3_kind("MlpPolicy", ours.env, seed=0, policy_kwargs=kwargs, buffer_size=1, device="cpu")
    theirs.policy.load_state_dict(ours.policy.state_dict())
    for model in (ours, theirs):
        model.set_logger(stable_baselines3.common.logger.Logger(None, []))
    assert not ours._acts_densely()
    learn_both(name, ours, theirs, monkeypatch)
    for key, value in theirs.policy.state_dict().items():
        torch.testing.assert_close(ours.policy.state_dict()[key], value, rtol=1e-3, atol=1e-4)


def test_actions_in_the_box_are_those_of_sb3() -> None:
    model = SAC("MlpPolicy", make("reach", 2, "cpu"), seed=0)
    model._low, model._half = torch.tensor([-2.0, 0.0]), torch.tensor([1.0, 5.0])
    space = spaces.Box(np.float32([-2.0, 0.0]), np.float32([0.0, 10.0]))
    model.policy.action_space = space
    actions = torch.tensor([[-1.0, 1.0], [0.5, -0.25]])
    np.testing.assert_allclose(model._to_box(actions), model.policy.unscale_action(actions.numpy()), rtol=1e-6)
