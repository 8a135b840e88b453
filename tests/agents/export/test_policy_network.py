"""The exported network is the agent: for every kind of policy, observation and action, and traced for any batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import ActorCriticPolicy

from palaestra.agents import DQN, PPO, PQN
from palaestra.agents.export.policy_network import ExportError, PolicyNetwork
from palaestra.agents.networks.extractors import DuelingPolicy, SharedMlp
from palaestra.agents.networks.observation_norm import Normalized
from palaestra.envs.interop.gymnasium_adapter import GymnasiumAdapter
from palaestra.envs.interop.host_batch import is_channels_last
from palaestra.envs.registry import resolve


class Sampled(gymnasium.Env[Any, Any]):
    """Observations drawn from its space, whatever is done; masks where ``masked``."""

    def __init__(self, seen: spaces.Space[Any], done: spaces.Space[Any], masked: bool = False) -> None:
        self.observation_space, self.action_space, self.masked = seen, done, masked

    def _info(self) -> dict[str, Any]:
        if not self.masked:
            return {}
        mask = self.np_random.random(int(self.action_space.n)) < 0.5  # type: ignore[attr-defined]
        mask[int(self.np_random.integers(len(mask)))] = True
        return {"action_mask": mask.astype(np.int8)}

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.observation_space.seed(seed)
        return self.observation_space.sample(), self._info()

    def step(self, action: Any) -> Any:
        return self.observation_space.sample(), 0.0, False, False, self._info()


BOX = spaces.Box(-2.0, 3.0, (5,), np.float32)
IMAGE = spaces.Box(0, 255, (40, 36, 3), np.uint8)
BOTH = spaces.Dict({"place": spaces.Discrete(7, start=3), "camera": IMAGE, "speed": BOX})
SMALL = {"net_arch": [16, 16]}
SDE = {"use_sde": True, "policy_kwargs": {**SMALL, "squash_output": True}}
ROW = spaces.Box(np.float32([-1.0, 0.0, 10.0]), np.float32([1.0, 5.0, 90.0]))
OCTAVES = {"net_arch": [], "features_extractor_class": SharedMlp, "features_extractor_kwargs": {"hidden": [16, 16]}}
OCTAVES["features_extractor_kwargs"]["octaves"] = 3  # type: ignore[index]

Case = tuple[type[Any], Any, Any, Any, dict[str, Any]]
CASES: dict[str, Case] = {
    "discrete": (PPO, "MlpPolicy", BOX, spaces.Discrete(4), {"policy_kwargs": SMALL}),
    "shifted": (PPO, "MlpPolicy", spaces.Discrete(9, start=-4), spaces.Discrete(4, start=2), {"policy_kwargs": SMALL}),
    "octaves": (PPO, "MlpPolicy", BOX, spaces.Discrete(6), {"policy_kwargs": OCTAVES}),
    "normalised": (PPO, "MlpPolicy", BOX, spaces.Discrete(4), {"normalize_observation": True}),
    "several": (PPO, "MlpPolicy", BOX, spaces.MultiDiscrete([3, 4], start=[1, -2]), {"policy_kwargs": SMALL}),
    "bits": (PPO, "MlpPolicy", BOX, spaces.MultiBinary(4), {"policy_kwargs": SMALL}),
    "box": (PPO, "MlpPolicy", BOX, ROW, {"scale_actions": True, "policy_kwargs": SMALL}),
    "vanilla box": (PPO, "MlpPolicy", BOX, spaces.Box(-1.0, 1.0, (2, 2)), {"policy_kwargs": SMALL}),
    "whole numbers": (PPO, "MlpPolicy", BOX, spaces.Box(0, 9, (2,), np.int64), {"scale_actions": True}),
    "sde": (PPO, "MlpPolicy", BOX, spaces.Box(-3.0, 1.0, (2,)), SDE),
    "image": (PPO, "CnnPolicy", IMAGE, spaces.Discrete(5), {"n_steps": 8, "batch_size": 16}),
    "dictionary": (PPO, "MultiInputPolicy", BOTH, spaces.Discrete(5), {"n_steps": 8, "batch_size": 16}),
    "dqn": (DQN, "MlpPolicy", BOX, spaces.Discrete(4, start=1), {"policy_kwargs": SMALL}),
    "dueling": (DQN, DuelingPolicy, BOX, spaces.Discrete(4), {"policy_kwargs": SMALL}),
    "pqn": (PQN, "MlpPolicy", BOX, spaces.Discrete(4), {"normalize_observation": True, "weight_average": 0.01}),
}
MASKED = ("discrete", "shifted", "dqn")


def made(name: str, masked: bool = False) -> tuple[Any, GymnasiumAdapter]:
    """A model with weights that decide, statistics that normalise, and its batch."""
    agent, policy, seen, done, options = CASES[name]
    spec = gymnasium.envs.registration.EnvSpec("Sampled-v0", lambda: Sampled(seen, done, masked))
    env = GymnasiumAdapter(spec, 8, device="cpu", seed=3)
    options = {"n_steps": 8, "batch_size": 16, **options} if agent is PPO else options
    model = agent(policy, env, device="cpu", seed=1, **options)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.policy.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=generator) * (parameter.dim() > 1)
    for module in model.policy.modules():
        if isinstance(module, Normalized):
            module.learn(torch.as_tensor(np.stack([seen.sample() for _ in range(50)])))
    model.speak_to(env)
    model.policy.set_training_mode(False)
    return model, env


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


def test_an_entry_with_the_name_of_the_mask_is_refused() -> None:
    seen = spaces.Dict({"action_mask": BOX})
    spec = gymnasium.envs.registration.EnvSpec("Sampled-v0", lambda: Sampled(seen, spaces.Discrete(3)))
    env = GymnasiumAdapter(spec, 2, device="cpu")
    model = PPO("MultiInputPolicy", env, n_steps=8, batch_size=16, device="cpu")
    with pytest.raises(ExportError, match="an entry called action_mask"):
        PolicyNetwork(model, with_mask=True)


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
