"""The loop of agents/README.md on a robot: it arrives as in the environment, also with MuJoCo as the robot, whose
messages name the joints in another order, and it stops on every fault."""

from __future__ import annotations

import ast
import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from pages import blocks, read

from palaestra.envs import make
from palaestra.envs.arm.control import rotation_error, tool_rotation
from palaestra.envs.arm.dynamics import link_frames
from palaestra.envs.arm.friction import friction
from palaestra.envs.arm.reach_torque import PERIOD, ReachTorque, ReachTorqueState
from palaestra.envs.arm.task import NEAR
from palaestra.envs.core.vector import TensorVectorEnv
from palaestra.train.export.contract import action_of, inputs_of
from palaestra.train.export.exported_policy import ExportedPolicy
from palaestra.train.export.observation_reader import ObservationError, elements_of
from palaestra.train.export.policy_file import PolicyFile

NEAR_ANGLE = 0.25


@pytest.fixture(scope="module")
def page() -> SimpleNamespace:
    """What the program on the page defines, without its last lines, which run it."""
    (program,) = (text for kind, text in blocks(read("agents/README.md")) if kind == "python" and "def drive(" in text)
    parts = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef)
    tree = ast.Module([node for node in ast.parse(program).body if isinstance(node, parts)], [])
    names: dict[str, Any] = {}
    exec(compile(tree, "agents/README.md", "exec"), names)
    return SimpleNamespace(**names)


class ExpertByContract:
    """The torque task's expert as a policy with a contract: it sees the observation alone."""

    def __init__(self, robot: str) -> None:
        batch = make("reach-torque", num_envs=1, device="cpu", robot=robot)
        assert isinstance(batch, TensorVectorEnv)
        batch.reset()
        assert isinstance(batch.env, ReachTorque)
        self.env = batch.env
        place = {"id": "reach-torque", "settings": {"robot": robot}, "steps_per_second": 1 / PERIOD}
        self.contract = {"environment": place, "inputs": inputs_of(batch), "outputs": [action_of(batch)]}

    def __call__(self, feed: dict[str, Any], outputs: list[str]) -> dict[str, Any]:
        assert outputs == ["action"]
        quantities = zip(elements_of(self.contract["inputs"][0]), feed["observation"][0].tolist(), strict=True)
        said = {number.name: number.quantity(x) for number, x in quantities}

        def numbers(start: str) -> torch.Tensor:
            return torch.tensor([[value for name, value in said.items() if name.startswith(start)]])

        q, tool = numbers("position_"), numbers("tool_")
        rotation = tool_rotation(link_frames(self.env.chain, q.T.contiguous())).permute(2, 0, 1)
        turn = numbers("to_turn_") if self.env.orientation else torch.zeros(1, 3)
        state = ReachTorqueState(
            q=q,
            dq=numbers("velocity_"),
            tool=tool,
            target=tool + numbers("to_target_"),
            steps=torch.zeros(1, dtype=torch.int64),
            noise=torch.zeros(1, 0),
            pending=torch.zeros(1, 0, self.env.chain.dof),
            drawn=torch.zeros(1, 0),
            tool_rotation=rotation,
            target_rotation=turned_by(turn[0].numpy()).to(rotation.dtype) @ rotation,
            payload=torch.zeros(1),
            friction=torch.ones(1),
        )
        return {"action": self.env.expert(state).numpy()}


def turned_by(vector: Any) -> torch.Tensor:
    """The rotation matrix of angle times axis, by Rodrigues' formula."""
    angle = float(np.linalg.norm(vector))
    x, y, z = vector / max(angle, 1e-12)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return torch.tensor(np.eye(3) + math.sin(angle) * cross + (1 - math.cos(angle)) * cross @ cross)


class MujocoArm:
    """MuJoCo's simulation of the arm in the robot's place, with steps of 1 ms; it tells of a hand's joints too."""

    def __init__(self, env: ReachTorque, target: Any, target_rotation: Any) -> None:
        import mujoco
        from mujoco_arm import model

        self.mujoco, self.chain, self.env = mujoco, env.chain, env
        self.model = model(env.chain, 0.001)
        self.data = mujoco.MjData(self.model)
        self.data.qpos[:] = env.start_q.numpy()
        self.target, self.target_rotation = np.array(target), torch.as_tensor(target_rotation)
        self.fastest, self.heard = np.array(env.chain.velocity), list[str]()
        mujoco.mj_forward(self.model, self.data)

    def now(self) -> float:
        return float(self.data.time)

    def newest(self) -> tuple[float, dict[str, float]]:
        self.mujoco.mj_forward(self.model, self.data)
        site = self.data.site("tool")
        way = self.target - site.xpos
        rotation = torch.tensor(site.xmat.reshape(3, 3, 1))
        turn = rotation_error(rotation, self.target_rotation.double().unsqueeze(-1))[:, 0].numpy()
        state = {"position_left_finger": 0.04, "velocity_left_finger": 0.0}
        for i, name in reversed(list(enumerate(self.chain.joint_names))):
            state |= {f"velocity_{name}": float(self.data.qvel[i]), f"position_{name}": float(self.data.qpos[i])}
        vectors = {"to_target": way, "direction": way / (np.linalg.norm(way) + NEAR), "tool": site.xpos}
        if self.env.orientation:
            vectors |= {"to_turn": turn, "turn": turn / (np.linalg.norm(turn) + NEAR_ANGLE)}
        for name, vector in vectors.items():
            state |= {f"{name}_{axis}": float(part) for axis, part in zip("xyz", vector, strict=True)}
        return self.now(), state

    def send(self, commands: dict[str, float]) -> None:
        self.heard.append("send")
        self.data.ctrl[:] = [commands[f"torque_{name}"] for name in self.chain.joint_names]

    def wait_until(self, time: float) -> None:
        while self.data.time < time - 1e-9:
            drag = friction(self.chain, torch.tensor(self.data.qvel).unsqueeze(1))[:, 0].numpy()
            self.data.qfrc_applied[:] = -drag + np.array(self.chain.damping) * self.data.qvel  # MuJoCo has the damping
            self.mujoco.mj_step(self.model, self.data)
            np.clip(self.data.qvel, -self.fastest, self.fastest, out=self.data.qvel)  # drives go no faster

    def stop(self) -> None:
        self.heard.append("stop")


@pytest.mark.parametrize("robot", ["panda", "ur5e", "so101"])
def test_mujoco_and_the_environment_arrive_alike(robot: str, page: SimpleNamespace) -> None:
    """All episodes: the expert, driven by its contract, arrives in both, and in about the same time."""
    pytest.importorskip("mujoco")
    policy = ExpertByContract(robot)
    for seed in range(4):
        plant = page.Simulation(policy.contract, seed)
        start = plant.env.state
        physical = MujocoArm(policy.env, start.target[0].numpy(), start.target_rotation[0])
        arrived = [page.drive(one, policy, 4.0, page.at_target) for one in (plant, physical)]
        assert arrived == [True, True]
        assert physical.heard.count("send") > 3
        assert physical.heard[-1] == "stop"
        assert physical.now() == pytest.approx(plant.now(), abs=0.1)


def test_an_exported_policy_drives_as_it_plays(page: SimpleNamespace, made_runs: Path) -> None:
    """Velocities this time: the same episode as ``palaestra evaluate FILE``, to the last step."""
    policy = PolicyFile(made_runs / "reach.onnx")
    for seed in range(3):
        robot = page.Simulation(policy.contract, seed)
        arrived = page.drive(robot, policy, 2.0, page.at_target)
        env = make(policy.contract["environment"]["id"], num_envs=1, device="cpu", seed=seed)
        plays, (obs, _), steps, reached = ExportedPolicy(policy), env.reset(), 0, False
        rate = policy.contract["environment"]["steps_per_second"]
        while not reached and steps < round(2.0 * rate):
            _, _, terminated, _, info = env.step(plays(env, obs))
            obs, reached, steps = info["final_obs"], bool(terminated), steps + 1
        assert (arrived, round(robot.now() * rate)) == (reached, steps)
        assert robot.newest()[1] == pytest.approx(
            dict(
                zip(
                    [n.name for n in robot.seen],
                    [n.quantity(x) for n, x in zip(robot.seen, obs[0].tolist(), strict=True)],
                    strict=True,
                )
            )
        )


class Faulty:
    """A robot at rest that measures ``change`` after some good messages."""

    def __init__(
        self, policy: ExpertByContract, page: SimpleNamespace, good: int, change: Callable[[Any], Any]
    ) -> None:
        self.inner, self.good, self.change = page.Simulation(policy.contract), good, change
        self.heard: list[str] = []
        self.think = 0.0  # seconds that a decision takes

    def now(self) -> float:
        return float(self.inner.now())

    def newest(self) -> tuple[float, dict[str, float]]:
        self.good -= 1
        found: tuple[float, dict[str, float]] = self.inner.newest()
        return found if self.good >= 0 else self.change(found)

    def send(self, commands: dict[str, float]) -> None:
        self.heard.append("send")
        self.inner.send(commands)
        self.inner.time += self.think

    def wait_until(self, time: float) -> None:
        self.inner.wait_until(time)

    def stop(self) -> None:
        self.heard.append("stop")
        self.inner.stop()


FAULTS: dict[str, tuple[Callable[[Any], Any], type[Exception], str]] = {
    "late": (lambda said: (said[0] - 0.03, said[1]), TimeoutError, "measured at"),
    "none": (lambda said: (-math.inf, {}), TimeoutError, "measured at"),
    "of the future": (lambda said: (said[0] + 1.0, said[1]), TimeoutError, "measured at"),
    "no time": (lambda said: (math.nan, said[1]), TimeoutError, "measured at"),
    "without a joint": (
        lambda said: (said[0], {k: v for k, v in said[1].items() if k != "velocity_joint3"}),
        LookupError,
        "lacks velocity_joint3",
    ),
    "NaN": (lambda said: (said[0], {**said[1], "position_joint2": math.nan}), ObservationError, "finite"),
    "text": (lambda said: (said[0], {**said[1], "tool_x": "0.3"}), ObservationError, "number"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_message_that_is_not_right_stops_the_arm(fault: str, page: SimpleNamespace) -> None:
    change, error, text = FAULTS[fault]
    policy = ExpertByContract("panda")
    robot = Faulty(policy, page, 3, change)
    with pytest.raises(error, match=text):
        page.drive(robot, policy, 4.0, page.at_target)
    assert robot.heard == ["send"] * 3 + ["stop"]


def test_a_decision_that_takes_too_long_stops_the_arm(page: SimpleNamespace) -> None:
    policy = ExpertByContract("panda")
    robot = Faulty(policy, page, 10**6, lambda said: said)
    robot.think = 0.021
    with pytest.raises(TimeoutError, match="too late"):
        page.drive(robot, policy, 4.0, page.at_target)
    assert robot.heard == ["send", "stop"]


def test_a_target_out_of_time_is_not_reached(page: SimpleNamespace) -> None:
    policy = ExpertByContract("panda")
    robot = Faulty(policy, page, 10**6, lambda said: said)
    assert page.drive(robot, policy, 0.1, page.at_target) is False
    assert robot.heard == ["send"] * 5 + ["stop"]
