"""Training from recordings equals training without, to the bit: every kind of environment and agent."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from fx_graph import FxGraph, as_on_a_gpu, host_operations
from gymnasium.spaces import Discrete
from stable_baselines3.common.callbacks import BaseCallback
from torch import Tensor
from training_cases import all_tensors, small
from walk import Walk

from palaestra.agents import DQN, PPO, PQN
from palaestra.agents.graphs import recorder
from palaestra.agents.graphs.cuda_graph import OutsideStorages
from palaestra.envs import EnvError, TensorVectorEnv, make
from palaestra.train.config import AGENTS
from palaestra.train.config.run_config import resolve_config

ENVS, STEPS = 16, 200
FEW = 60  # steps, six iterations or fifteen: what happens once in each is called three times, recorded, and replayed


class Graphs:
    """Makes recordings, and keeps them."""

    def __init__(self) -> None:
        self.made: list[FxGraph] = []

    def __call__(self) -> FxGraph:
        self.made.append(FxGraph(again=(1,)))  # later a number that has leaked shows in what is learned
        return self.made[-1]

    @property
    def replays(self) -> list[int]:
        return [graph.replays for graph in self.made]


def on_a_gpu(model: Any, patch: pytest.MonkeyPatch, graphs: Any = None) -> Any:
    """A model on the CPU that takes the ways of a GPU, with recordings or without."""
    as_on_a_gpu(model.batch, patch)
    model.record_with(graphs)
    model._looks = False
    return model


def preset(name: str, agent: str, **settings: Any) -> Any:
    config = resolve_config(name, agent)
    arguments = small(config, n_steps=10, batch_size=40)
    return AGENTS[agent](env=make(config.env, ENVS, "cpu", seed=3, **config.env_kwargs), seed=0, **arguments | settings)


def differing(ours: Any, theirs: Any) -> list[str]:
    first, second = all_tensors(ours), all_tensors(theirs)
    assert first.keys() == second.keys()
    return [name for name, value in first.items() if not torch.equal(value, second[name])]


def learned(model: Any, steps: int = STEPS, callback: Any = None) -> Any:
    torch.manual_seed(0)  # minibatches are drawn from the generator of all
    return model.learn(steps * ENVS, callback)


def takes_choices(agent: str) -> bool:
    return AGENTS[agent].can_act(Discrete(2))


RECORDED = [agent for agent in AGENTS if agent != "bc"]  # whose teacher may be anything
SOME = [
    *((name, agent) for name in ("cartpole", "snake-small", "pricing") for agent in RECORDED if takes_choices(agent)),
    *(("reach", agent) for agent in RECORDED if not takes_choices(agent)),
    *((name, "ppo") for name in ("pricing-two", "pricing-duopoly", "reach")),
]  # each kind of observation, stored as it is or as a state, of action, of mask and of wrapper


def compare_recorded(name: str, agent: str, patch: pytest.MonkeyPatch, total: int) -> None:
    """Weights, optimizer, running episodes, statistics, replay memory after so many steps."""
    plain = learned(on_a_gpu(preset(name, agent), patch), total)
    graphs = Graphs()
    recorded = learned(on_a_gpu(preset(name, agent), patch, graphs), total)
    assert differing(recorded, plain) == []
    steps, *_, updates = graphs.replays
    assert steps == total - 4
    assert updates >= total // (4 if agent == "td3" else 2)  # whose actor learns in every second update
    assert set().union(*(host_operations(graph.trace) for graph in graphs.made if graph.trace)) == set()


@pytest.mark.parametrize(("name", "agent"), SOME)
def test_recordings_train_to_the_same_bits(name: str, agent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """``python tests/stress/recorded_training.py`` takes every environment with every agent, and 200 steps.

    That whole runs do so too, killed and resumed, is tested in tests/train/runs/test_killed_runs.py.
    """
    compare_recorded(name, agent, monkeypatch, FEW)


OTHERS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "entropy, clipped values": ("cartpole", "ppo", {"ent_coef": 0.01, "clip_range_vf": 0.2, "target_kl": 0.02}),
    "constant": ("cartpole", "ppo", {"ent_coef": 0.0, "learning_rate": 1e-3, "normalize_advantage": False}),
    "gaussian": ("reach", "ppo", {"ent_coef": 0.01, "scale_actions": True}),
    "uneven minibatches": ("cartpole", "ppo", {"batch_size": 48}),
    "autograd": ("cartpole", "ppo", {"policy_kwargs": {"activation_fn": torch.nn.ELU}}),
    "prioritised": ("cartpole", "dqn", {"prioritized_replay": 0.6, "n_steps": 3, "double_q": True}),
    "average": ("pricing-easy", "dqn", {"weight_average": 0.01, "exploration_spread": 3.0}),
    "ppo frames": ("snake-small", "ppo", {"symmetry": "augment"}),
    "ppo tied": ("cartpole", "ppo", {"symmetry": "equivariant"}),
    "dqn frames": ("cartpole", "dqn", {"symmetry": "augment", "prioritized_replay": 0.6}),
    "dqn tied": ("snake-small", "dqn", {"symmetry": "equivariant"}),
    "pqn frames": ("cartpole", "pqn", {"symmetry": "augment"}),
    "pqn tied": ("snake-small", "pqn", {"symmetry": "equivariant"}),
    "restarts": ("snake-small", "ppo", {"restart_states": 0.5}),
    "restarts, replay": ("cartpole", "dqn", {"restart_states": 0.5}),
    "spread": (
        *("cartpole", "pqn"),
        {"weight_average": 0.01, "exploration_spread": 3.0, "normalize_observation": True, "symmetry": "none"},
    ),
}


@pytest.mark.parametrize("case", OTHERS)
def test_so_do_options_that_no_preset_has(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name, agent, settings = OTHERS[case]
    plain = learned(on_a_gpu(preset(name, agent, **settings), monkeypatch), FEW)
    graphs = Graphs()
    recorded = learned(on_a_gpu(preset(name, agent, **settings), monkeypatch, graphs), FEW)
    assert differing(recorded, plain) == []
    assert min(graphs.replays) > 0


class CountingPPO(PPO):
    """Counts in Python what it should count in a tensor."""

    noise_scale = 1.0

    def _noise_now(self, place: Any, step: Any) -> Any:
        CountingPPO.noise_scale *= 0.5
        return super()._noise_now(place, step) * self.noise_scale


class CarelessPPO(PPO):
    def _noise_now(self, place: Any, step: Any) -> Any:
        self.num_calls = getattr(self, "num_calls", 0) + 1
        return super()._noise_now(place, step)


class LookingPPO(PPO):
    def _noise_now(self, place: Any, step: Any) -> Any:
        noise = super()._noise_now(place, step)
        return noise if float(noise.sum()) > -1e9 else None


def cartpole(kind: Any, patch: pytest.MonkeyPatch, graphs: Any = None) -> Any:
    env = make("cartpole", ENVS, "cpu", seed=3)
    return on_a_gpu(kind("MlpPolicy", env, n_steps=10, batch_size=40, n_epochs=2, seed=0), patch, graphs)


def test_a_number_that_leaks_into_a_recording_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    model = cartpole(CountingPPO, monkeypatch, Graphs())
    with pytest.raises(
        AssertionError, match=r"constant 0.0625 of aten.mul.Tensor is 0.03125 the next .* in _noise_now"
    ):
        learned(model, 10)


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        (CarelessPPO, "_transition: a number changes that is no tensor: CarelessPPO.num_calls is 3 before and 4 after"),
        (LookingPPO, "_transition: .*get value out of a tracing tensor"),
    ],
)
def test_what_cannot_be_recorded_is_called_as_it_is(kind: Any, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """To the same bits, and the warning comes once."""
    plain = learned(cartpole(kind, monkeypatch), 60)
    graphs = Graphs()
    with pytest.warns(UserWarning, match=f"no graphs are used, operations are called one by one: {why}") as told:
        model = learned(cartpole(kind, monkeypatch, graphs), 60)
    assert len([w for w in told if "graphs" in str(w.message)]) == 1
    assert graphs.replays == [0]
    assert differing(model, plain) == []
    assert getattr(model, "num_calls", None) == getattr(plain, "num_calls", None)


def test_an_environment_that_counts_in_python_is_not_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    env = TensorVectorEnv(Walk(Discrete(3)), 8, device="cpu", seed=5)
    model = on_a_gpu(PPO("MlpPolicy", env, n_steps=8, batch_size=16, seed=0), monkeypatch, Graphs())
    with pytest.warns(UserWarning, match="a number changes that is no tensor: Walk.steps is 3 before and 4 after"):
        model.learn(64)


class Change(BaseCallback):
    """Changes what recordings were made with, in the third iteration."""

    iterations = 0

    def _on_step(self) -> bool:
        return True

    def _on_rollout_start(self) -> None:
        self.iterations += 1
        model: Any = self.model
        if self.iterations == 3:
            model.gamma = 0.5
            model._reward_scale.gamma = 0.5
            model.vf_coef = 2.0
        if self.iterations == 4:  # as loading weights does: in other memory
            model.policy.optimizer.load_state_dict(model.policy.optimizer.state_dict())
            model.batch.load_state_dict(model.batch.state_dict())


def test_other_settings_and_weights_are_recorded_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    models = [on_a_gpu(preset("pricing", "ppo"), monkeypatch, graphs) for graphs in (None, Graphs())]
    for model in models:
        learned(model, 80, Change())
    assert differing(*models) == []


def test_larger_batches_beside_training_do_no_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Layers give up scratch memory for larger one; recordings keep theirs."""

    class Act(BaseCallback):
        def _on_step(self) -> bool:
            obs = self.model._last_obs.repeat(self.n_calls % 7 + 1, 1)  # type: ignore[union-attr, attr-defined]
            self.model._actor_critic.values(obs)  # type: ignore[attr-defined]
            return True

    models = [learned(cartpole(PPO, monkeypatch, graphs), 60, Act()) for graphs in (None, Graphs())]
    assert differing(*models) == []


@pytest.mark.parametrize("kind", [PPO, DQN, PQN])
@pytest.mark.parametrize("field", ["observation", "reward"])
def test_what_is_not_finite_is_named(kind: Any, field: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the environment, its episode and its step, as without recordings."""

    class Overflowing(Walk):
        """Environment 3 blows up as its time in an episode is 4."""

        def step(self, state: Any, action: Tensor, rng: Any) -> Any:
            state, reward, terminated = super().step(state, action, rng)
            self.steps = 0  # a number that changes cannot be recorded
            hit = (state.time == 4) & (state.x[:, 2] > 0.5)
            if field == "reward":
                return state, torch.where(hit, torch.inf, reward), terminated
            return type(state)(torch.where(hit.unsqueeze(1), torch.nan, state.x), state.time), reward, terminated

    settings = {"n_steps": 8} if kind is not DQN else {"learning_starts": 10, "train_freq": 4}
    errors = []
    for graphs in (None, Graphs()):
        env = TensorVectorEnv(Overflowing(Discrete(3)), 8, device="cpu", seed=5)
        model = kind("MlpPolicy", env, batch_size=16, seed=0, **settings)
        on_a_gpu(model, monkeypatch, graphs)
        torch.manual_seed(0)
        with warnings.catch_warnings(action="ignore"), pytest.raises(EnvError, match=f"^{field} is not finite") as told:
            model.learn(8 * 400)
        errors.append(str(told.value))
    assert errors[0] == errors[1]


def test_memory_from_outside_is_kept() -> None:
    """Of what a recording did not make it keeps the memory; what it makes may go."""
    weight, scratch, made = torch.ones(3), torch.zeros(8), []
    with OutsideStorages() as outside:
        made.append(weight * 2.0)
        torch.add(made[0], 1.0, out=scratch[:3])
        scratch[4:].zero_()
    kept = {storage.data_ptr() for storage in outside.storages}
    assert kept == {weight.data_ptr(), scratch.data_ptr()}


def test_functions_run_three_times_before() -> None:
    assert recorder._CALLS_BEFORE == 3
