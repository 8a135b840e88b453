"""A step of every environment is a function of tensors alone: traced once, replayed, equal to the bit for 80 steps."""

from __future__ import annotations

from typing import Any

import probes
import pytest
import torch
from fx_graph import FxGraph, as_on_a_gpu, host_operations
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from palaestra.agents.graphs.recorder import Recorder
from palaestra.agents.graphs.slots import places_of, tensors_of
from palaestra.envs import TensorVectorEnv, make
from palaestra.envs.arm import reach_torque
from palaestra.envs.core.rng import Rng, sample_actions
from palaestra.envs.registry import entries

NAMES = [entry.short_name for entry in entries() if entry.id.startswith("palaestra/")]
CASES: dict[str, tuple[str, dict[str, Any]]] = {name: (name, {}) for name in NAMES}
CASES |= {
    "snake grid": ("snake-small", {"observation": "grid"}),
    "reach cartesian": ("reach", {"control": "cartesian"}),
    "reach-torque payload": ("reach-torque", {"payload": (0.0, 1.0), "action_delay": 1}),
}
STEPS = 80  # tests/stress/recorded_training.py takes 200
FEWER = {"reach-torque": 40, "reach-torque payload": 24}  # slow
PHYSICS_STEPS = 2  # of a step of reach-torque, instead of 10 of the same operations; a trace below has all of them


class Stepper:
    """Steps a batch through recordings."""

    def __init__(self, batch: TensorVectorEnv[Any]) -> None:
        self.batch, self.graphs = batch, []  # type: tuple[Any, list[FxGraph]]
        self.recorder = Recorder(batch.device, self._graph)

    def _graph(self) -> FxGraph:
        self.graphs.append(FxGraph(again=(1,)))
        return self.graphs[-1]

    def step(self, actions: Tensor) -> Any:
        self.recorder.begin(lambda: places_of(self.batch, "env"), None)
        return self.recorder(self.batch.step, actions)


def actions_of(batch: TensorVectorEnv[Any], step: int) -> Tensor:
    return sample_actions(batch.single_action_space, Rng(batch.env_indices, step), batch.action_masks())


@pytest.mark.parametrize("case", CASES)
def test_a_replayed_step_is_a_step(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Across ends of episodes: observations, rewards, ends, information and what a checkpoint would hold."""
    name, arguments = CASES[case]
    steps = FEWER.get(case, STEPS)
    monkeypatch.setattr(reach_torque, "SUBSTEPS", PHYSICS_STEPS)
    plain, replayed = (make(name, 8, "cpu", seed=3, max_episode_steps=steps // 4, **arguments) for _ in range(2))
    for batch in (plain, replayed):
        batch.reset()
        as_on_a_gpu(batch, monkeypatch)
    stepper = Stepper(replayed)
    for step in range(steps):
        actions = actions_of(plain, step)
        expected, found = plain.step(actions), stepper.step(actions)
        for one, other in zip(tensors_of(expected), tensors_of(found), strict=True):
            assert torch.equal(one, other), f"step {step}"
    for one, other in zip(tensors_of(plain.state_dict()), tensors_of(replayed.state_dict()), strict=True):
        assert torch.equal(one, other)
    assert int(plain.episode.min()) >= 3
    (graph,) = stepper.graphs
    assert graph.replays == steps - 4  # three as they are, and the recorded one
    assert graph.trace is not None
    assert host_operations(graph.trace) == set()


@pytest.mark.parametrize("name", NAMES)
def test_a_trace_works_on_new_buffers(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Recorded with the episodes of one seed, replayed with those of another, in other memory."""
    batch, other = (make(name, 8, "cpu", seed=seed, max_episode_steps=8) for seed in (1, 2))
    for each in (batch, other):
        each.reset()
        as_on_a_gpu(each, monkeypatch)
    stepper = Stepper(batch)
    for step in range(4):
        actions = actions_of(batch, step)
        stepper.step(actions)
        other.step(actions)
    (graph,) = stepper.graphs
    assert graph.trace is not None
    slots = [
        tensor.clone() for _, attribute in places_of(other, "env") for tensor in tensors_of(vars(other)[attribute])
    ]
    for step in range(4, 14 if name == "reach-torque" else 24):  # past the end of an episode
        actions = actions_of(other, step)
        expected, found = other.step(actions), graph.trace(*slots, actions)
        for one, another in zip(tensors_of(expected), found, strict=True):
            assert torch.equal(one, another), f"step {step}"


BINARY = {"add", "sub", "mul", "div", "__rshift__", "bitwise_right_shift", "bitwise_and", "bitwise_xor"}


class NoHostTensors(TorchDispatchMode):
    """Refuses tensors on the host: on a GPU they would be copied there, which a recording cannot do again.

    Of two operands one may be a tensor of no dimension, which is taken as a number is.
    """

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        binary = name in BINARY or name.removesuffix("_") in BINARY
        on_host = [
            t
            for t in tensors_of([list(args), kwargs or {}])
            if t.device.type == "cpu" and not (binary and t.dim() == 0)
        ]
        assert not on_host, f"{func} gets {on_host}"
        result = func(*args, **(kwargs or {}))
        assert all(t.device.type == "meta" for t in tensors_of([result])), f"{func} makes a tensor on the host"
        return result


@pytest.mark.parametrize("case", CASES)
def test_no_tensor_of_a_step_is_on_the_host(case: str) -> None:
    name, arguments = CASES[case]
    batch = make(name, 8, "meta", **arguments)
    batch.reset()
    for step in range(2):
        actions = actions_of(batch, step)
        if step:
            with NoHostTensors():
                batch.step(actions)
        else:
            batch.step(actions)


class Counting(probes.ConstantReward):
    """Counts its steps in Python."""

    steps = 0

    def step(self, state: Any, action: Tensor, rng: Rng) -> Any:
        self.steps += 1
        state, reward, terminated = super().step(state, action, rng)
        return state, reward + 0.5 * self.steps, terminated


class Tossing(probes.ConstantReward):
    """Makes a tensor of a number that differs every time."""

    tosses = 0

    def step(self, state: Any, action: Tensor, rng: Rng) -> Any:
        self.tosses += 1
        state, reward, terminated = super().step(state, action, rng)
        return state, reward + torch.tensor([float(self.tosses)]), terminated


@pytest.mark.parametrize(
    ("rules", "constant"),
    [
        (Counting, r"the constant 2.0 of aten.add.Tensor is 2.5"),
        (Tossing, r"the constant \[4.0\] of aten.lift_fresh_copy.default is \[5.0\]"),
    ],
)
def test_a_number_that_changes_is_named(rules: Any, constant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = TensorVectorEnv(rules(), 4, device="cpu")
    batch.reset()
    as_on_a_gpu(batch, monkeypatch)
    stepper = Stepper(batch)
    for step in range(4):
        stepper.step(actions_of(batch, step))
    with pytest.raises(AssertionError, match=f"{constant} the next time: .*environment_steps.py, line .*, in step"):
        stepper.step(actions_of(batch, 4))
