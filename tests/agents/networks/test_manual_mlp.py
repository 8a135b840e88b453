"""Networks forward and backward by hand, beside autograd through the policy's own modules."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from gymnasium.spaces import Box, Discrete
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, CombinedExtractor
from torch import Tensor, nn

from palaestra.agents import DQN, PPO, PQN, DuelingPolicy, SharedMlp
from palaestra.agents.networks import onednn
from palaestra.agents.networks.manual_mlp import Tanh, TanhBySigmoid
from palaestra.agents.networks.manual_network import manual_network
from palaestra.envs import make

MODEL: Any = SimpleNamespace(observation_space=Box(-1, 1, (4,)), normalize_images=True)


class Own(BaseFeaturesExtractor):
    """A user's own features extractor."""

    def __init__(self, space: Any) -> None:
        super().__init__(space, 4)
        self.layer = nn.Linear(4, 4)

    def forward(self, observations: Tensor) -> Tensor:
        return self.layer(observations)  # type: ignore[no-any-return]


TRUNK = {"features_extractor_class": SharedMlp, "net_arch": []}
POLICIES: dict[str, dict[str, Any]] = {
    "tanh": {"net_arch": [16, 8]},
    "relu": {"net_arch": {"pi": [16, 16], "vf": [8]}, "activation_fn": nn.ReLU},
    "linear": {"net_arch": []},
    "shared trunk": {**TRUNK, "features_extractor_kwargs": {"hidden": [32, 16]}},
    "octaves and layer norm": {
        **TRUNK,
        "features_extractor_kwargs": {"hidden": [16], "octaves": 3, "layer_norm": True},
    },
    "trunk and branches": {**TRUNK, "net_arch": [8], "features_extractor_kwargs": {"hidden": [16]}},
    "two trunks": {**TRUNK, "share_features_extractor": False, "features_extractor_kwargs": {"hidden": [16]}},
}


def ppo(policy_kwargs: dict[str, Any], env: str = "cartpole", **kwargs: Any) -> PPO:
    settings = {"n_steps": 8, "batch_size": 64, "seed": 0, "policy_kwargs": policy_kwargs, **kwargs}
    return PPO("MlpPolicy", make(env, 16, "cpu"), **settings)


def gradients(module: nn.Module) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}


def compare(network: Any, reference: Any, policy: nn.Module, obs: Tensor) -> None:
    """Outputs, and the gradients of a loss that all of them are part of, in float64; twice, for memory is reused."""
    policy.double()
    for rows in (len(obs), len(obs) // 3, len(obs)):
        expected = reference(obs[:rows])
        weights = [torch.randn_like(output) for output in expected]
        policy.zero_grad()
        sum((w * o.sin()).sum() for w, o in zip(weights, expected, strict=True)).backward()  # type: ignore[union-attr]
        theirs = gradients(policy)
        policy.zero_grad()
        outputs = network.forward(obs[:rows])
        again = network.infer(obs[:rows])  # between forward and backward: it must not disturb
        network.backward([w * o.cos() for w, o in zip(weights, outputs, strict=True)])
        for ours, other, same in zip(outputs, expected, again, strict=True):
            torch.testing.assert_close(ours, other, rtol=1e-6, atol=1e-7)
            assert torch.equal(ours, same)
        assert gradients(policy).keys() == theirs.keys() == {name for name, _ in policy.named_parameters()}
        torch.testing.assert_close(gradients(policy), theirs, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("normal", [False, True])
@pytest.mark.parametrize("name", POLICIES)
def test_an_actor_critic_equals_autograd(name: str, normal: bool) -> None:
    model = ppo(POLICIES[name], normalize_observation=normal)
    assert model._actor_critic._manual is not None
    for module in model.policy.modules():
        if normal and hasattr(module, "learn"):
            module.learn(3 + 2 * torch.randn(100, 4))
    obs = torch.randn(50, 4, dtype=torch.float64)
    torch.manual_seed(0)
    # preprocessing makes float32 of them; here they stay as they are
    model._actor_critic._manual.prepare = lambda x: x
    model.policy.extract_features = lambda x: _features(model.policy, x)  # type: ignore[method-assign]
    compare(model._actor_critic._manual, model._actor_critic._through_modules, model.policy, obs)


def _features(policy: Any, obs: Tensor) -> Any:
    if policy.share_features_extractor:
        return policy.features_extractor(obs)
    return policy.pi_features_extractor(obs), policy.vf_features_extractor(obs)


@pytest.mark.parametrize(
    ("kind", "policy"), [(DQN, "MlpPolicy"), (DQN, DuelingPolicy), (PQN, "MlpPolicy"), (PQN, "DuelingPolicy")]
)
def test_q_values_equal_autograd(kind: Any, policy: Any) -> None:
    model = kind(policy, make("cartpole", 16, "cpu"), batch_size=64, seed=0, policy_kwargs={"net_arch": [16, 8]})
    function, network = model._online, model.q_net.double()
    assert function._manual is not None
    function._manual.prepare = lambda x: x
    whole = type(
        "Whole", (), {"forward": lambda _, x: [function.forward(x)], "infer": lambda _, x: [function.infer(x)]}
    )()
    whole.backward = lambda grads: function.backward(*grads)
    network.extract_features = lambda x, extractor: extractor(x)
    compare(whole, lambda x: [network(x)], network, torch.randn(50, 4, dtype=torch.float64))


@pytest.mark.parametrize("env", ["snake-small", "reach", "pricing-two", "reach-torque"])
def test_the_same_numbers_on_real_observations(env: str) -> None:
    model = ppo(POLICIES["tanh"], env)
    obs = torch.as_tensor(model.batch.reset()[0])
    params, values = model._actor_critic._params_and_values(obs, None, learns=False)
    theirs = model._actor_critic._through_modules(obs)
    torch.testing.assert_close((params, values), (theirs[0], theirs[1].squeeze(1)), rtol=1e-5, atol=1e-6)


def test_tanh_to_within_the_stated_error() -> None:
    x = torch.cat((torch.linspace(-12, 12, 1_000_001), torch.logspace(-30, 38, 1000), torch.tensor([torch.inf])))
    x = torch.cat((x, -x))
    exact = x.double().tanh()
    assert float((TanhBySigmoid().apply(2 * x).double() - exact).abs().max()) <= 2.5e-7
    assert TanhBySigmoid().apply(torch.tensor([0.0, torch.nan])).isnan().tolist() == [False, True]
    assert TanhBySigmoid().apply(torch.zeros(3)).tolist() == [0.0] * 3


@pytest.mark.parametrize("fast", [True, False])
def test_the_processor_chooses_how_tanh_is_computed(fast: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Either way the outputs and gradients are autograd's."""
    monkeypatch.setattr(onednn, "has_fast_tanh", lambda: fast)
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))
    network = manual_network(MODEL, [], [layers])
    assert network is not None
    kinds = [type(layer._activation) for layer in network._branches[0].layers]  # type: ignore[attr-defined]
    assert kinds[0] is (Tanh if fast else TanhBySigmoid)
    x = torch.randn(32, 4)
    expected = layers(x)
    gradients = torch.autograd.grad(expected.square().sum(), list(layers.parameters()))
    (output,) = network.forward(x)
    torch.testing.assert_close(output, expected.detach(), rtol=0, atol=2e-6)
    network.backward([2 * output])
    for parameter, gradient in zip(layers.parameters(), gradients, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-4, atol=1e-4)


def test_layers_that_do_not_learn_keep_their_weights() -> None:
    model = ppo(POLICIES["tanh"], n_epochs=1)
    frozen = model.policy.mlp_extractor.policy_net[0]
    frozen.requires_grad_(False)
    before, other = frozen.weight.clone(), model.policy.action_net.weight.clone()  # type: ignore[operator, union-attr]
    model.learn(256)
    assert torch.equal(frozen.weight, before)  # type: ignore[arg-type]
    assert not torch.equal(model.policy.action_net.weight, other)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "kwargs",
    [
        {"activation_fn": nn.ELU},
        {"features_extractor_class": Own},
        {"features_extractor_class": Own, "share_features_extractor": False},
    ],
)
def test_other_networks_are_left_to_autograd(kwargs: dict[str, Any]) -> None:
    model = ppo(kwargs, n_epochs=1)
    assert model._actor_critic._manual is None
    before = [p.clone() for p in model.policy.parameters()]
    model.learn(128)
    assert all(not torch.equal(p, q) for p, q in zip(model.policy.parameters(), before, strict=True))


@pytest.mark.parametrize(
    "layers",
    [
        [nn.Conv1d(1, 1, 1)],
        [nn.Tanh(), nn.Linear(4, 4)],
        [nn.Linear(4, 4), nn.LayerNorm(4), nn.Tanh(), nn.Linear(4, 4)],
        [nn.Linear(4, 4, bias=False)],
        [nn.Linear(4, 4), nn.Tanh()],
        [nn.Linear(4, 4), nn.Dropout(), nn.Linear(4, 2)],
        [],
    ],
)
def test_chains_without_a_twin(layers: list[nn.Module]) -> None:
    assert manual_network(MODEL, [], [layers]) is None


def test_a_hooked_module_is_called() -> None:
    layer, calls = nn.Linear(4, 2), []
    assert manual_network(MODEL, [], [[layer]]) is not None
    layer.register_forward_hook(lambda *_: calls.append(1))
    assert manual_network(MODEL, [], [[layer]]) is None


def test_dictionaries_are_left_to_autograd() -> None:
    from gymnasium.spaces import Dict
    from stable_baselines3.common.policies import MultiInputActorCriticPolicy

    from palaestra.agents.networks.actor_critic import ActorCritic

    space = Dict({"a": Box(-1, 1, (3,)), "b": Box(-1, 1, (2,))})
    policy = MultiInputActorCriticPolicy(space, Discrete(2), lambda _: 1e-3)
    assert isinstance(policy.features_extractor, CombinedExtractor)
    assert ActorCritic(policy)._manual is None
