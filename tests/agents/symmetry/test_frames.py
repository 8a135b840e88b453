"""Minibatches in frames: each row is the image by its share's element, and learning from images is learning."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from gymnasium.spaces import Box, Discrete

from palaestra.agents import DQN, PPO, PQN
from palaestra.agents.symmetry.frames import SymmetryFrames
from palaestra.envs import make
from palaestra.envs.core.symmetries import SignedPermutation, SymmetryGroup

CPU = torch.device("cpu")
TURN, MIRROR = SignedPermutation((1, 2, 3, 0)), SignedPermutation((3, 2, 1, 0))
SQUARE = SymmetryGroup.generated([(TURN, TURN), (MIRROR, MIRROR)])
MIRRORED = SymmetryGroup.generated([(SignedPermutation.flipping(2, [1]), SignedPermutation.flipping(3, [0, 2]))])


def test_each_share_of_the_rows_is_mapped_by_its_element() -> None:
    obs, actions = torch.rand(19, 2, 2), torch.arange(19) % 4
    mask = torch.rand(19, 4) < 0.5
    seen, acted, legal = SymmetryFrames(SQUARE, Discrete(4), CPU)(obs, actions, mask)
    assert legal is not None
    shares = [0, 2, 4, 7, 9, 11, 14, 16, 19]
    for k, (start, end) in enumerate(itertools.pairwise(shares)):
        rows = slice(start, end)
        assert torch.equal(seen[rows], SQUARE.observations[k](obs[rows]))
        assert torch.equal(acted[rows], SQUARE.actions[k].of_choices(actions[rows]))
        assert torch.equal(legal[rows], SQUARE.actions[k](mask[rows].long()) == 1)


def test_a_legal_action_stays_legal() -> None:
    actions = torch.arange(64) % 4
    mask = torch.nn.functional.one_hot(actions, 4) == 1
    _, acted, legal = SymmetryFrames(SQUARE, Discrete(4), CPU)(torch.rand(64, 4), actions, mask)
    assert legal is not None
    assert bool(legal.gather(1, acted.unsqueeze(1)).all())


def test_actions_of_a_box_change_their_signs() -> None:
    obs, actions = torch.tensor([[1.0, 2.0]] * 4), torch.tensor([[1.0, 2.0, 3.0]] * 4)
    seen, acted, legal = SymmetryFrames(MIRRORED, Box(-9.0, 9.0, (3,)), CPU)(obs, actions, None)
    assert seen.tolist() == [[1.0, 2.0]] * 2 + [[1.0, -2.0]] * 2
    assert acted.tolist() == [[1.0, 2.0, 3.0]] * 2 + [[-1.0, 2.0, -3.0]] * 2
    assert legal is None
    assert obs.tolist() == [[1.0, 2.0]] * 4  # which others have too


def test_ordered_rows_are_dealt_out_in_turns() -> None:
    dealt = SymmetryFrames(SQUARE, Discrete(4), CPU).dealt(torch.arange(17))
    assert sorted(dealt.tolist()) == list(range(17))
    assert dealt[:3].tolist() == [0, 8, 16]
    assert {row % 8 for row in dealt[3:5].tolist()} == {1}


def gradients(kind: Any, name: str, use: str, **arguments: Any) -> torch.Tensor:
    """Of one update with a batch of everything that was collected."""
    env: Any = make(name, 16, "cpu", seed=3)
    model = kind("MlpPolicy", env, seed=0, symmetry=use, max_grad_norm=1e9, learning_rate=1e-9, **arguments)
    model.learn(16 * 16)
    network = model.policy if kind is PPO else model.q_net
    return torch.cat([p.grad.flatten() for p in network.parameters()])


ROLLOUT = {"n_steps": 16, "batch_size": 256, "n_epochs": 1}
REPLAY = {"learning_starts": 0, "batch_size": 256, "train_freq": 16}


@pytest.mark.parametrize("kind", [PPO, DQN, PQN])
@pytest.mark.parametrize("name", ["cartpole", "snake-small"])
def test_an_equivariant_network_learns_the_same_from_every_frame(
    kind: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its gradients of a batch in frames, averaged over the orbits, are those of the batch as it was played."""
    arguments = REPLAY if kind is DQN else ROLLOUT
    plain = gradients(kind, name, "equivariant", **arguments)
    find = kind._find_symmetries

    def with_frames(model: Any) -> None:
        find(model)
        model._frames = SymmetryFrames(SymmetryGroup.of(model.batch.env), model.action_space, model.device)

    monkeypatch.setattr(kind, "_find_symmetries", with_frames)
    framed = gradients(kind, name, "equivariant", **arguments)
    assert plain.abs().max() > 1e-4
    torch.testing.assert_close(framed, plain, rtol=1e-3, atol=1e-5 * float(plain.abs().max() + 1.0))


@pytest.mark.parametrize("kind", [PPO, DQN, PQN])
def test_frames_change_what_an_ordinary_network_learns(kind: Any) -> None:
    arguments = REPLAY if kind is DQN else ROLLOUT
    plain, framed = (gradients(kind, "cartpole", use, **arguments) for use in ("none", "augment"))
    assert (plain - framed).abs().max() > 1e-3 * plain.abs().max()
