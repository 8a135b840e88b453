"""Tied weights: the networks of every agent commute with the group, before and after they have learned."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import stable_baselines3
import torch
from torch import nn

from palaestra.agents import DQN, PPO, PQN, SharedMlp
from palaestra.agents.symmetry.tied_weights import TiedWeights, _form, _Orbits
from palaestra.envs import make
from palaestra.envs.core.symmetries import SignedPermutation, SymmetryGroup

EQUAL = {"stock": [4, 4], "quality": [4.0, 4.0]}
ABSOLUTE = {"actions": "absolute"}
ROLLOUT = {"n_steps": 8, "batch_size": 64, "n_epochs": 2}
REPLAY = {"learning_starts": 64, "batch_size": 64, "samples_per_insert": 4.0}


def shared(**extractor: Any) -> dict[str, Any]:
    return {"features_extractor_class": SharedMlp, "features_extractor_kwargs": extractor, "net_arch": []}


# hidden layers of 30 units are three groups of eight, and six that are left over
CASES: dict[str, tuple[Any, str, dict[str, Any], dict[str, Any]]] = {
    "ppo turned": (PPO, "snake-small", {}, {**ROLLOUT, "policy_kwargs": shared(hidden=[30, 16])}),
    "ppo board": (PPO, "snake-small", ABSOLUTE, {**ROLLOUT, "policy_kwargs": {"net_arch": [30, 30]}}),
    "ppo grid": (PPO, "snake-small", {**ABSOLUTE, "observation": "grid"}, ROLLOUT),
    "ppo apart": (PPO, "cartpole", {}, {**ROLLOUT, "policy_kwargs": {"share_features_extractor": False}}),
    "ppo waves": (PPO, "pricing-two", EQUAL, {**ROLLOUT, "policy_kwargs": shared(hidden=[32], octaves=3)}),
    "ppo signed waves": (PPO, "cartpole", {}, {**ROLLOUT, "policy_kwargs": shared(hidden=[31], octaves=2)}),
    "pqn": (PQN, "snake-small", ABSOLUTE, {**ROLLOUT, "weight_average": 0.05}),
    "dqn": (DQN, "cartpole", {}, REPLAY),
    "dqn dueling": (DQN, "snake-small", ABSOLUTE, {**REPLAY, "policy": "DuelingPolicy", "double_q": True}),
}


def agent(case: str, **settings: Any) -> Any:
    kind, name, env_kwargs, arguments = CASES[case]
    given = {"policy": "MlpPolicy", **arguments, **settings}
    return kind(given.pop("policy"), make(name, 16, "cpu", seed=3, **env_kwargs), seed=1, **given)


def outputs(model: Any, obs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits, means or Q-values [B, A], and values [B]."""
    if isinstance(model, PPO):
        params, values = model._actor_critic._params_and_values(obs, None, learns=False)
        return params.clone(), values.clone()
    q_values = model.q_net(obs).detach()
    return q_values, q_values.amax(1)


def asymmetry(model: Any) -> float:
    """The largest difference between what is said of an image and the image of what is said, over its spread."""
    group, obs = SymmetryGroup.of(model.batch.env), model._last_obs
    said, values = outputs(model, obs)
    worst = 0.0
    for seen, acted in zip(group.observations, group.actions, strict=True):
        of_image, image_values = outputs(model, seen(obs))
        worst = max(worst, float((of_image - acted(said)).abs().max()), float((image_values - values).abs().max()))
    return worst / float(said.std())


@pytest.mark.parametrize("case", CASES)
def test_what_is_said_of_an_image_is_the_image_of_what_is_said(case: str) -> None:
    model = agent(case, symmetry="equivariant")
    before = copy.deepcopy(model.policy.state_dict())
    model.learn(1600)
    assert asymmetry(model) < 1e-4
    assert model._tied.are_tied()
    assert any(not torch.equal(before[name], value) for name, value in model.policy.state_dict().items())


@pytest.mark.parametrize("case", ["ppo board", "pqn", "dqn dueling"])
def test_without_ties_it_is_not(case: str) -> None:
    """So the test above can fail."""
    assert asymmetry(agent(case).learn(1600)) > 0.01


def test_means_of_a_box_change_their_signs() -> None:
    env: Any = make("reach", 8, "cpu")
    turned = SignedPermutation.flipping(23, range(0, 14, 2)), SignedPermutation.flipping(7, [0, 2, 4, 6])
    model = PPO("MlpPolicy", env, seed=0, policy_kwargs={"net_arch": [32, 17], "ortho_init": False})
    with torch.no_grad():
        for parameter in model.policy.parameters():
            parameter.normal_()
    tied = TiedWeights(model.policy, SymmetryGroup.generated([turned]))
    tied.tie()
    obs = torch.rand(16, 23)
    (means, values), (of_image, image_values) = outputs(model, obs), outputs(model, turned[0](obs))
    torch.testing.assert_close(of_image, turned[1](means), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(image_values, values, rtol=1e-4, atol=1e-4)
    bias = model.policy.action_net.bias
    assert bias[::2].tolist() == [0.0] * 4  # its own opposite
    assert bool((bias[1::2] != 0.0).all())


def test_a_known_layer() -> None:
    """Two inputs and two outputs that change places: W = [[a, b], [b, a]]; and one that changes its sign: [0]."""
    swap, unit = SignedPermutation((1, 0)), SignedPermutation.identity(2)
    orbits = _Orbits(*_form([unit, swap], [unit, swap]), torch.device("cpu"))
    assert orbits.averaged(torch.tensor([1.0, 2.0, 4.0, 8.0])).tolist() == [4.5, 3.0, 3.0, 4.5]
    assert orbits.first.tolist() == [0, 1]
    assert orbits.spread(torch.tensor([1.0, 2.0])).tolist() == [1.0, 2.0, 2.0, 1.0]
    one = SignedPermutation.identity(1)
    signed = _Orbits(*_form([one, SignedPermutation.flipping(1)], [one, one]), torch.device("cpu"))
    assert signed.averaged(torch.tensor([3.0])).tolist() == [0.0]
    assert signed.spread(torch.tensor([3.0])).tolist() == [0.0]


def test_there_are_so_many_times_fewer_free_weights() -> None:
    model = agent("ppo board", symmetry="equivariant")
    numbers = sum(p.numel() for p in model.policy.parameters())
    assert numbers / 8 < model._tied.free_weights < numbers / 5  # the units that are left over are not moved


def test_fresh_weights_scatter_as_an_ordinary_networks_do() -> None:
    (plain, tied) = (agent("ppo board", symmetry=use).policy for use in ("none", "equivariant"))
    for name, weights in plain.named_parameters():
        ours = dict(tied.named_parameters())[name]
        if weights.numel() > 500:
            assert ours.detach().std().item() == pytest.approx(weights.detach().std().item(), rel=0.15)


def test_saved_files_are_ordinary_ones(tmp_path: Path) -> None:
    """Loaded for more training, by vanilla SB3, and as the first weights of another agent of the kind."""
    model = agent("ppo turned", symmetry="equivariant").learn(400)
    model.save(tmp_path / "m.zip")
    again = PPO.load(tmp_path / "m.zip", make("snake-small", 16, "cpu", seed=4))
    assert again.symmetry == "equivariant"
    again.learn(400)
    assert asymmetry(again) < 1e-4
    obs = model._last_obs[:4]
    theirs = stable_baselines3.PPO.load(tmp_path / "m.zip", device="cpu").predict(obs.numpy(), deterministic=True)[0]
    assert theirs.tolist() == model.predict(obs.numpy(), deterministic=True)[0].tolist()
    other = agent("ppo turned", symmetry="equivariant")
    other.take_weights(tmp_path / "m.zip")
    other.learn(200)


def test_weights_that_are_not_tied_are_refused_before_anything_is_learned(tmp_path: Path) -> None:
    agent("ppo turned").save(tmp_path / "m.zip")
    other = agent("ppo turned", symmetry="equivariant")
    other.take_weights(tmp_path / "m.zip")
    with pytest.raises(ValueError, match=r'^the weights are not tied as symmetry="equivariant" has them: begin with'):
        other.learn(200)
    assert other.num_timesteps == 0


class Pictures(SharedMlp):
    """An extractor that nobody knows."""

    def __init__(self, space: Any) -> None:
        super().__init__(space, [32])
        self.layers = nn.Sequential(nn.Conv2d(5, 32, 6), nn.ReLU(), nn.Flatten())


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("snake-small", {"policy_kwargs": {"features_extractor_class": Pictures}}, "not those of Pictures: use"),
        ("cartpole", {"normalize_observation": True}, "does not go with normalize_observation"),
        ("pricing", {}, "Pricing names no symmetries"),
        ("CartPole-v1", {}, "symmetry=equivariant is for environments in tensors"),
    ],
)
def test_what_cannot_be_tied_is_told_in_one_line(name: str, arguments: dict[str, Any], said: str) -> None:
    env = make(name, 4, "cpu", **({"observation": "grid"} if name == "snake-small" else {}))
    with pytest.raises(ValueError, match=said) as caught:
        PPO("MlpPolicy", env, n_steps=8, batch_size=8, symmetry="equivariant", **arguments)
    assert "\n" not in str(caught.value)


def test_an_unknown_use_is_refused() -> None:
    with pytest.raises(ValueError, match=r"got 'both'$"):
        agent("dqn", symmetry="both")
