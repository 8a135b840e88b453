"""The exported network is the agent: for every kind of policy, observation and action, and traced for any batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium
import pytest
import torch
from gymnasium import spaces
from policies_to_export import BOX, CASES, MASKED, Sampled, made
from stable_baselines3.common.policies import ActorCriticPolicy

from palaestra.agents import PPO
from palaestra.agents.export.policy_network import ExportError, PolicyNetwork
from palaestra.envs.interop.gymnasium_adapter import GymnasiumAdapter
from palaestra.envs.interop.host_batch import is_channels_last
from palaestra.envs.registry import resolve


def raw(env: GymnasiumAdapter, obs: Any) -> list[torch.Tensor]:
    """Observations as the environment gives them."""
    given = env.given_observation_space
    parts = (
        [(part, obs[key]) for key, part in given.spaces.items()] if isinstance(given, spaces.Dict) else [(given, obs)]
    )
    return [seen.movedim(1, -1) if is_channels_last(part) else seen for part, seen in parts]


def turned(env: GymnasiumAdapter) -> set[str]:
    given = env.given_observation_space
    parts = given.spaces if isinstance(given, spaces.Dict) else {"observation": given}
    return {name for name, part in parts.items() if is_channels_last(part)}


def compare(
    model: Any, env: GymnasiumAdapter, network: Callable[..., tuple[torch.Tensor, ...]], exact: bool = True
) -> int:
    """How many different actions were compared."""
    obs, _ = env.reset()
    seen = []
    for _ in range(20):
        mask = env.action_masks()
        with torch.no_grad():
            action = model.act(obs, mask=mask)
            found = network(*raw(env, obs), *([] if mask is None else [mask]))[0]
        assert found.shape == action.shape
        if found.is_floating_point():
            torch.testing.assert_close(found, action, rtol=1e-5, atol=1e-5 * (0 if exact else 1) + 1e-6)
        else:
            assert str(found.dtype) == f"torch.{env.single_action_space.dtype}"
            assert torch.equal(found, action.to(found.dtype))
        seen.append(action)
        obs, *_ = env.step(action)
    return len(torch.cat(seen).unique(dim=0))


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_the_network_acts_as_the_agent(name: str, masked: bool) -> None:
    if masked and name not in MASKED:
        pytest.skip("no mask for this kind of action")
    model, env = made(name, masked)
    network = PolicyNetwork(model, masked, channels_last=turned(env))
    assert compare(model, env, network) > 1
    env.close()


@pytest.mark.parametrize(
    "name", [name for name in CASES if name not in ("octaves", "normalised", "vanilla box", "dueling")]
)
def test_a_traced_network_takes_batches_of_any_size(name: str) -> None:
    model, env = made(name)
    network = PolicyNetwork(model, channels_last=turned(env))
    inputs = tuple(x[:3] for x in raw(env, env.reset()[0]))
    batch = torch.export.Dim("batch")
    program = torch.export.export(network, inputs, dynamic_shapes=(tuple({0: batch} for _ in inputs),))
    module = program.module()
    assert compare(model, env, module, exact=False) > 1  # 8 at once, and it was traced with 3
    one = tuple(x[:1] for x in inputs)
    torch.testing.assert_close(module(*one)[0], network(*one)[0], rtol=1e-5, atol=1e-5)
    env.close()


@pytest.mark.parametrize("name", ["discrete", "several", "bits", "box", "dqn"])
def test_the_distribution_is_that_of_stable_baselines(name: str) -> None:
    model, env = made(name)
    network = PolicyNetwork(model, distribution=True)
    obs = env.reset()[0]
    with torch.no_grad():
        found = dict(zip(network.outputs, network(obs), strict=True))
        if name == "dqn":
            torch.testing.assert_close(found["q_values"], model.q_net(obs))
            return
        with model._as_sb3_has_it():
            theirs = model.policy.get_distribution(obs).distribution
            torch.testing.assert_close(found["value"], model.policy.predict_values(obs).flatten(), rtol=1e-5, atol=1e-5)
    if name == "discrete":
        torch.testing.assert_close(found["log_probabilities"], theirs.logits)
    elif name == "several":
        torch.testing.assert_close(found["log_probabilities"], torch.cat([part.logits for part in theirs], 1))
    elif name == "bits":
        torch.testing.assert_close(found["probabilities"], theirs.probs)
    else:
        torch.testing.assert_close(found["mean"], theirs.mean)
        torch.testing.assert_close(found["deviation"], theirs.stddev)


def test_forbidden_actions_have_no_probability() -> None:
    model, env = made("discrete", masked=True)
    network = PolicyNetwork(model, with_mask=True, distribution=True)
    obs, mask = env.reset()[0], env.action_masks()
    assert mask is not None
    with torch.no_grad():
        p = network(obs, mask)[network.outputs.index("log_probabilities")].exp()
    assert (p[~mask] == 0.0).all()
    torch.testing.assert_close(p.sum(1), torch.ones(8))


class OwnForward(ActorCriticPolicy):
    def forward(self, obs: Any, deterministic: bool = False) -> Any:
        return super().forward(obs, deterministic)


@pytest.mark.parametrize(
    ("change", "arguments", "message"),
    [
        ({"policy": OwnForward}, {}, "OwnForward has a forward pass of its own"),
        ({"use_sde": True, "done": spaces.Box(-1.0, 1.0, (2,))}, {"distribution": True}, "use_sde"),
    ],
)
def test_what_cannot_be_written_down_is_refused(
    change: dict[str, Any], arguments: dict[str, Any], message: str
) -> None:
    done = change.pop("done", spaces.Discrete(3))
    spec = gymnasium.envs.registration.EnvSpec("Sampled-v0", lambda: Sampled(BOX, done))
    env = GymnasiumAdapter(spec, 2, device="cpu")
    model = PPO(change.pop("policy", "MlpPolicy"), env, n_steps=8, batch_size=16, device="cpu", **change)
    with pytest.raises(ExportError, match=message):
        PolicyNetwork(model, **arguments)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("action_mask", {"with_mask": True}),
        ("action", {}),
        ("value", {"distribution": True}),
        ("log_probabilities", {"distribution": True}),
    ],
)
def test_an_entry_with_the_name_of_another_end_is_refused(name: str, arguments: dict[str, Any]) -> None:
    seen = spaces.Dict({name: BOX})
    spec = gymnasium.envs.registration.EnvSpec("Sampled-v0", lambda: Sampled(seen, spaces.Discrete(3)))
    env = GymnasiumAdapter(spec, 2, device="cpu")
    model = PPO("MultiInputPolicy", env, n_steps=8, batch_size=16, device="cpu")
    with pytest.raises(ExportError, match=f"an entry called {name}, "):
        PolicyNetwork(model, **arguments)
    if name != "action":
        PolicyNetwork(model)  # the name is free where there is no such end


@pytest.mark.parametrize("name", ["snake-small", "pricing", "reach"])
def test_our_environments(name: str) -> None:
    env: Any = resolve(name).make(8, device="cpu", seed=0)
    model = PPO("MlpPolicy", env, n_steps=8, batch_size=16, device="cpu")
    network = PolicyNetwork(model)
    obs, _ = env.reset()
    with torch.no_grad():
        for _ in range(5):
            action = model.act(obs)
            torch.testing.assert_close(network(obs)[0], action, rtol=1e-5, atol=1e-6)
            obs, *_ = env.step(action)
