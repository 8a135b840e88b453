"""Starts and targets that are chosen for an arm: properties that hold for any chain, and closed forms."""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from arm_play import GANTRY
from mujoco_arm import random_arm

from palaestra.envs.arm import PANDA, PANDA_READY, Placement, SerialChain, forward_kinematics, jacobian
from palaestra.envs.arm.control import inverse_kinematics
from palaestra.envs.arm.dynamics import link_frames
from palaestra.envs.arm.panda import PANDA_TARGETS
from palaestra.envs.arm.reach import Reach
from palaestra.envs.arm.robots import task_robot
from palaestra.envs.arm.robots.start_pose import candidates, start_pose, torque_to_hold, workspace
from palaestra.envs.arm.robots.target_box import reached_share, target_box, turned


def planar(links: int, axis: tuple[float, float, float] = (0.0, 1.0, 0.0)) -> SerialChain:
    """Links of 0.4 m in a row, all of whose joints turn about one axis."""
    return SerialChain(
        name=f"planar arm of {links}",
        placements=tuple(Placement((0.4 if i else 0.0, 0.0, 0.0)) for i in range(links)),
        axes=(axis,) * links,
        mass=(1.0,) * links,
        centre_of_mass=((0.2, 0.0, 0.0),) * links,
        inertia=((0.01, 0.02, 0.02, 0.0, 0.0, 0.0),) * links,
        flange=Placement((0.4, 0.0, 0.0)),
        q_min=(-2.5,) * links,
        q_max=(2.5,) * links,
        velocity=(2.0,) * links,
        acceleration=(8.0,) * links,
        torque=(50.0,) * links,
    )


def tool_at(chain: SerialChain, q: Any) -> Any:
    return forward_kinematics(chain, torch.tensor([q], dtype=torch.float64)).position[0, -1].numpy()


ARMS = {
    "Panda": PANDA,
    "UR5e": task_robot("ur5e").chain,
    "SO-101": task_robot("so101").chain,
    "gantry": GANTRY,
    "all kinds": random_arm(24, 4),
    "eight joints": random_arm(7, 8),
}


@pytest.mark.parametrize("name", ARMS)
def test_the_start_is_bent_and_away_from_limits_and_singular_poses(name: str) -> None:
    """The middle 80 % of the limits, and a tool that moves in all directions: at least a tenth of the best of 500."""
    chain = ARMS[name]
    low, high = (np.array(end) for end in chain.span)
    start = np.array(start_pose(chain))
    assert (start >= low + 0.0999 * (high - low)).all()
    assert (start <= high - 0.0999 * (high - low)).all()
    drawn = low + np.random.default_rng(0).random((500, chain.dof)) * (high - low)
    poses = torch.tensor(np.concatenate((start[None], drawn)))
    slowest = torch.linalg.svdvals(jacobian(chain, poses)[:, :3])[:, -1]
    assert slowest[0] > 0.1 * slowest.max()
    start_pose.cache_clear()
    assert start_pose(chain) == tuple(start)


@pytest.mark.parametrize("dof", [3, 6, 7, 8, 11, 12, 17, 24])
def test_the_poses_to_choose_from_have_each_joint_everywhere(dof: int) -> None:
    """Of more than six joints too, whose poses are too many: all places of every two joints, and no pose twice."""
    levels = candidates(random_arm(3, dof))[1]
    assert levels.shape == (dof, min(5**dof, 15_625))
    assert len(levels.unique(dim=1)[0]) == levels.shape[1]
    for one, other in itertools.combinations(levels, 2):
        counts = torch.bincount((5 * (one + 2) + other + 2).long(), minlength=25)
        assert counts.min() > 0.6 * levels.shape[1] / 25
        assert counts.max() < 1.4 * levels.shape[1] / 25


def test_the_start_leaves_room_to_turn_either_way() -> None:
    """Wrists of ±1.5 rad: one is bent as far as it may be, as no pose of full motion is without that, the others have
    more way to their ends than a step. (In steps alone two of them are 0.3 rad from an end.) The Panda's last joint,
    which moves no other link, is in the middle."""
    low, high = (-1.5, -2.5, -2.0, -1.5, -1.5, -1.5), (1.5, 0.0, 2.0, 1.5, 1.5, 1.5)
    start = np.array(start_pose(dataclasses.replace(ARMS["UR5e"], q_min=low, q_max=high)))
    assert ((1.5 - np.abs(start[3:])) >= 3.0 / 5).sum() == 2
    assert start_pose(PANDA)[6] == pytest.approx(sum(PANDA.q_min[6:] + PANDA.q_max[6:]) / 2)


def test_a_start_is_held_by_the_motors_where_one_can_be() -> None:
    """A weak shoulder asks for a folded arm; where no pose is held the floor still counts."""
    weak = dataclasses.replace(ARMS["UR5e"], torque=(150.0, 60.0, 60.0, 28.0, 28.0, 28.0))
    needs = [
        torque_to_hold(weak, link_frames(weak, torch.tensor([start_pose(chain)], dtype=torch.float64).T)).max()
        for chain in (ARMS["UR5e"], weak)
    ]
    assert needs[1] <= 2 / 3 < needs[0]
    none = dataclasses.replace(weak, torque=(1.0,) * 6)
    assert tool_at(none, start_pose(none))[2] >= 0.1 * workspace(none).reach


@pytest.mark.parametrize("name", ARMS)
def test_targets_are_reached_all_over_the_box(name: str) -> None:
    """Random points, by the search that has nothing to do with the box, to 0.1 mm."""
    chain = ARMS[name]
    start = start_pose(chain)
    box = np.array(target_box(chain, start))
    assert (box[:, 0] < box[:, 1]).all()
    points = box[:, 0] + np.random.default_rng(1).random((60, 3)) * (box[:, 1] - box[:, 0])
    found = inverse_kinematics(chain, torch.tensor(points), start)
    reached = forward_kinematics(chain, found).position[:, -1]
    assert (reached - torch.tensor(points)).norm(dim=1).max() < 1e-4
    assert (box[:, 0] <= tool_at(chain, start) + 1e-8).all()
    assert (tool_at(chain, start) <= box[:, 1] + 1e-8).all()


def test_targets_are_above_the_floor() -> None:
    """Of arms on it. The same arm hanging from a ceiling reaches down: its base is above its targets."""
    for name in ("UR5e", "SO-101"):
        chain = ARMS[name]
        assert target_box(chain, start_pose(chain))[2][0] >= 0.05 * workspace(chain).reach - 1e-9
        assert tool_at(chain, start_pose(chain))[2] >= 0.1 * workspace(chain).reach
    over = Placement((0.0, 0.0, 2.0), ((1.0, 0.0, 0.0), (0.0, -1.0, 0.0), (0.0, 0.0, -1.0)))
    low = dataclasses.replace(
        ARMS["UR5e"], base=over, q_min=(-6.0, -3.0, -1.0, -6.0, -6.0, -6.0), q_max=(6.0, -0.2, 1.0, 6, 6, 6)
    )
    box = target_box(low, start_pose(low))
    assert box[2][0] < 2.0


def test_the_floor_cuts_a_box_and_does_not_move_it() -> None:
    """An arm whose tool starts a little above the floor: the upper end stays, symmetric about the tool before."""
    start = (0.0, 0.0, 0.3)  # of 2 m
    box = target_box(GANTRY, start)
    tool, reach = tool_at(GANTRY, start), workspace(GANTRY).reach
    assert box[2][0] == pytest.approx(0.05 * reach)
    assert tool[2] - box[2][0] < box[2][1] - tool[2] == pytest.approx(0.18 * reach)
    assert box[0][1] - tool[0] == pytest.approx(tool[0] - box[0][0])


def test_the_reach_is_the_length_of_a_planar_arm_nearly_stretched() -> None:
    assert 1.1 < workspace(planar(3)).reach <= 1.2 + 1e-12


def test_a_planar_arm_has_a_flat_box_and_a_slanted_one_none() -> None:
    env = Reach(planar(3))
    assert env.targets[1] == (0.0, 0.0)
    assert env.targets[0][0] < env.targets[0][1]
    assert env.reference.optimum is not None
    for chain in (planar(3, (0.3, 1.0, 0.0)), planar(1)):
        with pytest.raises(ValueError, match=r"^planar arm of \d: no box around where the tool starts"):
            Reach(chain)


def test_the_shares_of_a_box_tell_what_is_out_of_reach() -> None:
    """The gantry's are exact: of three planes of nine points one lies outside. The Panda's own box has all points,
    and of its extreme poses nearly all."""
    start = (0.0, 0.0, 1.0)
    assert reached_share(GANTRY, ((-0.9, 0.9), (-0.9, 0.9), (0.1, 1.9)), start, with_turns=False) == 1.0
    assert reached_share(GANTRY, ((-0.9, 1.1), (-0.9, 0.9), (0.1, 1.9)), start, with_turns=False) == pytest.approx(
        2 / 3
    )
    assert reached_share(PANDA, PANDA_TARGETS, PANDA_READY, with_turns=False) == 1.0
    assert 0.9 <= reached_share(PANDA, PANDA_TARGETS, PANDA_READY, with_turns=True) < 1.0


def test_turns_are_about_the_axes_of_the_world_one_after_the_other() -> None:
    """Roll, then pitch, then yaw, as three matrices."""
    roll, pitch, yaw = 0.3, -0.2, 0.5
    (sr, cr), (sp, cp), (sy, cy) = ((math.sin(a), math.cos(a)) for a in (roll, pitch, yaw))
    x = np.array([[1, 0, 0], [0, cr, -sr], [0, sr, cr]])
    y = np.array([[cp, 0, sp], [0, 1, 0], [-sp, 0, cp]])
    z = np.array([[cy, -sy, 0], [sy, cy, 0], [0, 0, 1]])
    first = np.array(task_robot("so101").chain.placements[0].rotation)
    ours = turned(torch.tensor(first), torch.tensor([[roll], [pitch], [yaw]], dtype=torch.float64))[..., 0]
    np.testing.assert_allclose(ours, z @ y @ x @ first, atol=1e-12)
