"""The default optimizers: PyTorch's numbers, without its compiler."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from gymnasium import spaces
from torch import nn

from palaestra.agents import DQN, PPO, PQN
from palaestra.agents.optimizers import UncompiledAdam, UncompiledRAdam, with_uncompiled_optimizer
from palaestra.envs import make

IMAGES = spaces.Box(0, 255, (3, 40, 40), "uint8")
NUMBERS = spaces.Box(-1.0, 1.0, (3,))
SPACES = {"CnnPolicy": IMAGES, "MultiInputPolicy": spaces.Dict({"x": NUMBERS})}


@pytest.mark.parametrize("kwargs", [{}, {"optimizer_kwargs": {"weight_decay": 0.1}}, {"optimizer_kwargs": None}])
@pytest.mark.parametrize("agent", [PPO, DQN, PQN])
def test_policies_have_the_settings_that_they_have_in_sb3(agent: Any, kwargs: dict[str, Any]) -> None:
    for name, policy_class in agent.policy_aliases.items():
        given = (SPACES.get(name, NUMBERS), spaces.Discrete(2), lambda _: 1e-3)
        theirs = policy_class(*given, **kwargs).optimizer
        ours = policy_class(*given, **with_uncompiled_optimizer(policy_class, kwargs)).optimizer
        assert isinstance(ours, type(theirs))
        assert type(ours) in (UncompiledAdam, UncompiledRAdam)
        assert ours.defaults == theirs.defaults
        assert ours.state_dict() == theirs.state_dict()


def test_an_optimizer_that_is_named_is_that() -> None:
    named = {"optimizer_class": torch.optim.Adam}
    assert with_uncompiled_optimizer(PPO.policy_aliases["MlpPolicy"], named) == named
    assert with_uncompiled_optimizer(lambda **kwargs: None, {}) == {}


@pytest.mark.parametrize("settings", [{}, {"weight_decay": 0.1}])
@pytest.mark.parametrize(("ours", "theirs"), [(UncompiledAdam, torch.optim.Adam), (UncompiledRAdam, torch.optim.RAdam)])
def test_steps_and_states_are_pytorchs(ours: Any, theirs: Any, settings: dict[str, Any]) -> None:
    nets = [nn.Linear(5, 3)]
    nets.append(copy.deepcopy(nets[0]))
    optimizers = [kind(net.parameters(), lr=0.01, **settings) for kind, net in zip((theirs, ours), nets, strict=True)]
    for step in range(10):
        batch = torch.randn(4, 5, generator=torch.Generator().manual_seed(step))
        for net, optimizer in zip(nets, optimizers, strict=True):
            optimizer.zero_grad()
            net(batch).square().sum().backward()
            optimizer.step()
        if step == 4:  # the states fit each other
            states = [copy.deepcopy(optimizer.state_dict()) for optimizer in optimizers]
            for optimizer, state in zip(optimizers, reversed(states), strict=True):
                optimizer.load_state_dict(state)
    for first, second in zip(nets[0].parameters(), nets[1].parameters(), strict=True):
        assert torch.equal(first, second)
    assert str(optimizers[0].state_dict()) == str(optimizers[1].state_dict())


TRAINING = """
import sys
import palaestra.envs
from palaestra.agents import DQN, PPO, PQN
env = palaestra.envs.make("cartpole", num_envs=8, device="cpu", seed=0)
settings = {PPO: {"batch_size": 16}, DQN: {"learning_starts": 8, "batch_size": 16}, PQN: {}}
for agent, more in settings.items():
    model = agent("MlpPolicy", env, **({} if agent is DQN else {"n_steps": 4}), **more)
    model.learn(64).save("model")
    agent.load("model", env=env).learn(64)
assert not {"torch._dynamo", "sympy"} & {*sys.modules}
"""


def test_training_does_without_the_compiler(tmp_path: Any) -> None:
    subprocess.run([sys.executable, "-c", TRAINING], cwd=tmp_path, check=True)


ROLLOUT = {"n_steps": 8, "batch_size": 64, "n_epochs": 2, "learning_rate": 0.01}
REPLAY = {"learning_starts": 64, "batch_size": 64, "buffer_size": 500, "train_freq": 4, "learning_rate": 0.01}


def _trained(agent: Any, policy_kwargs: dict[str, Any], **settings: Any) -> Any:
    kwargs = REPLAY if agent is DQN else ROLLOUT
    model = agent("MlpPolicy", make("cartpole", 16, "cpu"), seed=0, policy_kwargs=policy_kwargs, **kwargs, **settings)
    return model.learn(512)


@pytest.mark.parametrize("agent", [PPO, DQN])
def test_weight_decay_is_that_of_adamw(agent: Any) -> None:
    eps = {"eps": 1e-5} if agent is PPO else {}
    adamw = {"optimizer_class": torch.optim.AdamW, "optimizer_kwargs": {"weight_decay": 0.3, **eps}}
    ours, theirs, none = _trained(agent, {}, weight_decay=0.3), _trained(agent, adamw), _trained(agent, {})
    weights = [model.policy.state_dict() for model in (ours, theirs, none)]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
    sizes = [sum(float(weight.square().sum()) for weight in found.values()) for found in weights]
    assert sizes[0] < sizes[2]


def test_weight_decay_of_pqn_is_decoupled_and_survives_a_file(tmp_path: Path) -> None:
    model = _trained(PQN, {}, weight_decay=0.3)
    model.save(tmp_path / "m.zip")
    for each in (model, PQN.load(tmp_path / "m.zip")):
        (group,) = each.policy.optimizer.param_groups
        assert (each.weight_decay, group["weight_decay"], group["decoupled_weight_decay"]) == (0.3, 0.3, True)
        assert "optimizer_kwargs" not in (each.policy_kwargs or {})


def test_weight_decay_that_cannot_be() -> None:
    env = make("cartpole", 4, "cpu")
    with pytest.raises(ValueError, match=r"weight_decay=0\.1: optimizer_kwargs say 0\.2; leave one of them out"):
        PPO("MlpPolicy", env, weight_decay=0.1, policy_kwargs={"optimizer_kwargs": {"weight_decay": 0.2}})
    with pytest.raises(ValueError, match=r"weight_decay=0\.1: the policy's optimizer has none"):
        PPO("MlpPolicy", env, weight_decay=0.1, policy_kwargs={"optimizer_class": torch.optim.Rprop})
    with pytest.raises(ValueError, match="weight_decay must be at least 0, got -1"):
        PPO("MlpPolicy", env, weight_decay=-1)
