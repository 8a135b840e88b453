"""The default optimizers: PyTorch's numbers, without its compiler."""

from __future__ import annotations

import copy
import subprocess
import sys
from typing import Any

import pytest
import torch
from gymnasium import spaces
from torch import nn

from palaestra.agents import DQN, PPO, PQN
from palaestra.agents.optimizers import UncompiledAdam, UncompiledRAdam, with_uncompiled_optimizer

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
