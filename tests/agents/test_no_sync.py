"""No hidden synchronisation: collection and update run on the meta device, where looking at a value raises.

The first tests try every branch of the agents, the last ones whole runs of every built-in environment, and of every
agent with every set of options and every network that a preset gives it.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import probes
import pytest
import torch
from stable_baselines3.common.logger import Logger
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from training_cases import grid, small

from palaestra.agents import DQN, PPO, PQN, SharedMlp, base
from palaestra.agents.off_policy import stepping_agent
from palaestra.agents.off_policy.continuous_agent import ContinuousAgent
from palaestra.envs import TensorVectorEnv, make
from palaestra.envs.arm import reach_torque
from palaestra.envs.core.batching.restarts import RestartingVectorEnv
from palaestra.envs.core.rng import Rng
from palaestra.train.config import AGENTS
from palaestra.train.config.run_config import resolve_config

SHARED = {"features_extractor_class": SharedMlp, "features_extractor_kwargs": {"hidden": [16]}, "net_arch": []}
HOST_OPERATIONS = ("_local_scalar_dense", "item", "nonzero", "equal", "is_nonzero", "masked_select", "unique")


class HostOperations(TorchDispatchMode):
    """Counts the operations that make the host wait for the device, and copies to the host.

    Optimizers count their steps on the host; to look at such a number is to wait for nobody.
    """

    def __init__(self, device: str = "meta") -> None:
        super().__init__()
        self.device = device
        self.counts: Counter[str] = Counter()
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        kwargs = kwargs or {}
        to_host = name in ("_to_copy", "copy_") and torch.device(kwargs.get("device") or "meta").type == "cpu"
        boolean_index = name == "index" and any(i is not None and i.dtype == torch.bool for i in args[1])
        self.total += 1
        first = args[0] if args and isinstance(args[0], Tensor) else None
        if first is not None and first.device.type != self.device:
            return func(*args, **kwargs)
        if name in HOST_OPERATIONS or to_host or boolean_index:
            self.counts[name] += 1
        return func(*args, **kwargs)


def on_meta(model: Any) -> Any:
    """With the optimizers on the meta device too, which PyTorch leaves behind when it moves modules there."""
    if isinstance(model, ContinuousAgent):
        pairs = [(network.optimizer, network) for network in (model.actor, model.critic)]
    else:
        pairs = [(model.policy.optimizer, model.policy if isinstance(model, PPO) else model.q_net)]
    for optimizer, network in pairs:
        optimizer.param_groups[0].update(params=[*network.parameters()], fused=None)
    return model


def meta_model(env: TensorVectorEnv[Any], **kwargs: Any) -> PPO:
    """A model whose first observations are in place, without SB3's set-up, which shows them to the host."""
    settings = {"n_steps": 4, "batch_size": 128, "n_epochs": 2, "seed": 0, **kwargs}
    model: PPO = on_meta(PPO("MlpPolicy", env, **settings))
    model.set_logger(Logger(None, []))
    model._last_obs, _ = env.reset(seed=0)  # type: ignore[assignment]
    model._draw_keys()
    return model


CASES: dict[str, tuple[Any, dict[str, Any]]] = {
    "snake": (lambda: make("snake-small", 64, "meta"), {"policy_kwargs": SHARED}),
    "snake-grid": (lambda: make("snake-small", 64, "meta", observation="grid"), {"clip_range_vf": 0.2}),
    "cartpole": (lambda: make("cartpole", 64, "meta"), {}),
    "frames": (lambda: make("snake-small", 64, "meta", actions="absolute"), {"symmetry": "augment"}),
    "tied": (lambda: make("cartpole", 64, "meta"), {"symmetry": "equivariant"}),
    "reach": (lambda: make("reach", 64, "meta"), {}),
    "reach-torque": (  # a step has thousands of operations
        lambda: make("reach-torque", 64, "meta", payload=(0.0, 1.0), action_delay=1),
        {"n_steps": 2},
    ),
    "pricing": (lambda: make("pricing", 64, "meta"), {"normalize_reward": True}),
    "restarts": (lambda: RestartingVectorEnv.of(make("snake-small", 64, "meta")), {"restart_states": 0.5}),  # type: ignore[arg-type]
    "continuous": (lambda: TensorVectorEnv(probes.ContinuousTarget(), 64, device="meta"), {}),
}


@pytest.mark.parametrize("name", CASES)
def test_collection_and_update_never_look_at_a_value(name: str) -> None:
    make_env, kwargs = CASES[name]
    model = meta_model(make_env(), **kwargs)
    model.policy.set_training_mode(False)
    with HostOperations() as seen:
        for _ in range(2):
            model.rollout_buffer.reset()
            for step in range(model.n_steps):
                rewards, dones, _ = model._collect_step(step)
            model._finish_rollout()
            model.train()
    assert rewards.device.type == dones.device.type == "meta"
    assert model.rollout_buffer.advantages.device.type == "meta"
    assert not seen.counts
    assert seen.total > 500


def q_model(kind: Any, env: TensorVectorEnv[Any], policy: str, **kwargs: Any) -> Any:
    """As :func:`meta_model`; the part of SB3's set-up that concerns the device is done by hand."""
    model = on_meta(kind(policy, env, batch_size=64, seed=0, **kwargs))
    model.set_logger(Logger(None, []))
    model._last_obs, _ = env.reset(seed=0)
    model._total_timesteps = 10_000
    model._episodes_began()
    model._draw_keys()
    return model


REPLAY = {"buffer_size": 2000, "learning_starts": 0, "samples_per_insert": 8.0, "train_freq": 2}
ALL = {"double_q": True, "n_steps": 3, "prioritized_replay": 0.6, "exploration_spread": 7.0, "normalize_reward": True}
ALL["weight_average"] = 0.01
Q_CASES: dict[str, Any] = {
    "snake states": (DQN, "snake-small", "MlpPolicy", REPLAY),
    "cartpole observations": (DQN, "cartpole", "MlpPolicy", {**REPLAY, "tau": 0.5}),
    "double": (DQN, "cartpole", "MlpPolicy", {**REPLAY, "double_q": True}),
    "n-step": (DQN, "snake-small", "MlpPolicy", {**REPLAY, "n_steps": 3}),
    "prioritized": (DQN, "cartpole", "MlpPolicy", {**REPLAY, "prioritized_replay": 0.6}),
    "dueling": (DQN, "cartpole", "DuelingPolicy", REPLAY),
    "all": (DQN, "snake-small", "DuelingPolicy", {**REPLAY, **ALL}),
    "pqn": (PQN, "cartpole", "MlpPolicy", {"n_steps": 4}),
    "pqn snake": (PQN, "snake-small", "MlpPolicy", {"n_steps": 4, "exploration_spread": 7.0, "normalize_reward": True}),
    "frames": (DQN, "snake-small", "MlpPolicy", {**REPLAY, "symmetry": "augment", "prioritized_replay": 0.6}),
    "tied": (DQN, "snake-small", "DuelingPolicy", {**REPLAY, "symmetry": "equivariant"}),
    "pqn frames": (PQN, "cartpole", "MlpPolicy", {"n_steps": 4, "symmetry": "augment"}),
    "pqn average": (PQN, "cartpole", "MlpPolicy", {"n_steps": 4, "weight_average": 0.01}),
}


@pytest.mark.parametrize("name", Q_CASES)
def test_q_learning_never_looks_at_a_value(name: str) -> None:
    """Collection with its bookkeeping, the update of the target network, the gradient steps."""
    kind, env_name, policy, kwargs = Q_CASES[name]
    model = (
        q_model(kind, make(env_name, 64, "meta"), policy, target_update_interval=64, **kwargs)
        if kind is DQN
        else (q_model(kind, make(env_name, 64, "meta"), policy, **kwargs))
    )
    with HostOperations() as seen:
        for _ in range(2):
            if kind is PQN:
                model.rollout_buffer.reset()
            model.policy.set_training_mode(False)
            for _ in range(4):
                rewards, dones, _ = model._collect_step()
                model._on_step()
            model.train(gradient_steps=1, batch_size=64)
    assert rewards.device.type == dones.device.type == model._finite.result().device.type == "meta"
    assert model._n_updates > 0
    if kind is DQN:
        assert set(model.replay.content) == ({""} if env_name == "cartpole" else set(vars(model.batch.state)))
    assert not seen.counts
    assert seen.total > 500


def test_acting_never_looks_at_a_value() -> None:
    """Sampling with our own distributions; the most likely action goes through SB3's, which may look."""
    env = make("snake-small", 64, "meta")
    model = meta_model(env)  # type: ignore[arg-type]
    with HostOperations() as seen:
        actions = model.act(model._last_obs, Rng(env.env_indices, 0))
    assert actions.shape == (64,)
    assert not seen.counts


@pytest.mark.parametrize(
    "synchronise", [lambda t: t.sum().item(), lambda t: t[t > 0], lambda t: bool(t.any()), Tensor.cpu]
)
def test_the_meta_device_would_notice(synchronise: Any) -> None:
    """So the tests above can fail."""
    model = meta_model(make("cartpole", 64, "meta"))  # type: ignore[arg-type]
    with pytest.raises((RuntimeError, NotImplementedError)):
        synchronise(model._last_obs)


def test_the_counter_would_notice() -> None:
    with HostOperations("cpu") as seen:
        values = torch.ones(3)
        values.sum().item()
        values[values > 0]
        values.nonzero()
    assert seen.counts["_local_scalar_dense"] == 1
    assert seen.counts["nonzero"] >= 1
    assert seen.counts["index"] == 1


@pytest.mark.parametrize("name", ["snake-small", "cartpole"])
def test_one_copy_to_the_host_per_iteration(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    copy = base.to_host
    monkeypatch.setattr(base, "to_host", lambda values: (sizes.append(values.numel()), copy(values))[1])
    model = PPO("MlpPolicy", make(name, 16, "cpu"), n_steps=8, batch_size=64, n_epochs=1, seed=0)
    model.learn(5 * 128)
    assert len(sizes) == 5 + 1  # and the last update's losses
    assert max(sizes) < 20


@pytest.mark.parametrize(("kind", "kwargs"), [(DQN, REPLAY), (PQN, {"n_steps": 32})], ids=["dqn", "pqn"])
def test_one_copy_to_the_host_per_report(kind: Any, kwargs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every 64 steps of the batch; none of the training loop's other parts looks at a number."""
    sizes = []
    copy = base.to_host
    monkeypatch.setattr(base, "to_host", lambda values: (sizes.append(values.numel()), copy(values))[1])
    model = kind("MlpPolicy", make("cartpole", 16, "cpu"), batch_size=64, seed=0, **kwargs)
    model.learn(16 * 64 * 3 + 16 * 32)
    assert len(sizes) == 3 + 1 + 1  # one at the end of the run, and the last update's losses
    assert max(sizes) < 20


# ---------------------------------------------------------------------------------------------------- everything


ENVS, STEPS = 16, 4


def test_the_grid_is_whole() -> None:
    cases = grid()
    agents = Counter(agent for _, agent in cases)
    assert agents["ppo"] == len({name for name, _ in cases}) >= 11
    assert ("reach-torque", "dqn") not in cases  # continuous
    assert {("snake", "pqn"), ("reach", "dqn"), ("pricing-two", "dqn"), ("pricing", "pqn")} <= set(cases)


def different() -> list[tuple[str, str]]:
    """Of the grid, each environment once, and each agent once with the options and the network of a preset.

    Numbers other than 0 and 1, which switch options off, are alike: operations do not depend on which they are.
    """
    seen, cases = set(), []
    for name, agent in grid():
        arguments = small(resolve_config(name, agent), n_steps=STEPS)
        network = arguments.pop("policy_kwargs", None) or {}
        options = (agent, *(f"{key}={_form(value)}" for key, value in sorted({**arguments, **network}.items())))
        if not {name, options} <= seen:
            cases.append((name, agent))
        seen |= {name, options}
    return cases


def _form(value: Any) -> Any:
    return "a number" if isinstance(value, int | float) and value not in (0, 1) else value


@pytest.mark.parametrize(("name", "agent"), different())
def test_a_whole_iteration_tells_the_host_once(name: str, agent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """``learn`` itself: step, collect, returns, replay, update. Whatever looked at a value would raise on the device.

    The one copy is answered with ones. An iteration is a rollout, or what DQN does between two reports, which come
    after 4 steps here (64 in life).
    """
    copies: list[int] = []
    monkeypatch.setattr(reach_torque, "SUBSTEPS", 1)  # of 10 of the same operations; CASES has all of them
    monkeypatch.setattr(stepping_agent, "REPORT_STEPS", STEPS)
    monkeypatch.setattr(base, "to_host", lambda values: copies.append(values.numel()) or [1.0] * values.numel())
    config = resolve_config(name, agent)
    arguments = small(config, n_steps=STEPS)
    env = make(config.env, ENVS, "meta", **config.env_kwargs)
    model = on_meta(AGENTS[agent](env=env, seed=0, **arguments))
    model.set_logger(Logger(None, []))
    model._is_proved = True  # symmetries are proved before training, with values
    model._last_obs, _ = env.reset(seed=0)  # SB3's own reset shows them to the host
    with HostOperations() as seen:
        model.learn(2 * STEPS * ENVS, reset_num_timesteps=False)
    assert model.num_timesteps == 2 * STEPS * ENVS
    assert model._n_updates > 0
    assert len(copies) == 2 + 1  # one an iteration, and the last update's losses at the end of the run
    assert max(copies) < 20
    assert not seen.counts
    assert {p.device.type for p in model.policy.parameters()} == {"meta"}
    assert {vector.grad.device.type for vector in model._flat_optimizer._vectors} == {"meta"}
