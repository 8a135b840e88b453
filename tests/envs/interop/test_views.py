"""The same numbers through every interface, and the official checkers of Gymnasium and Stable-Baselines3."""

from __future__ import annotations

import subprocess
import sys
import warnings
from typing import Any

import gymnasium
import numpy as np
import probes
import pytest
import torch
from gymnasium.spaces import Discrete
from gymnasium.utils.env_checker import check_env as gymnasium_check
from gymnasium.vector import AutoresetMode
from stable_baselines3.common.env_checker import check_env as sb3_check
from stable_baselines3.common.vec_env import VecMonitor

from palaestra.envs import NumpyVectorEnv, SB3VecEnv, SingleEnv, entries, make
from palaestra.envs.checker.value_rules import random_actions
from palaestra.envs.core import TensorVectorEnv
from palaestra.envs.interop.sb3_adapter import VecEnvAdapter
from palaestra.envs.snake import Snake

IDS = [entry.id for entry in entries() if entry.id.startswith("palaestra/")]


@pytest.mark.parametrize("id", IDS)
def test_official_checkers_pass_without_a_warning(id: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # both advise pixels or symmetric, finite boxes, which CartPole's published spaces are not
        warnings.filterwarnings("ignore", message=".*(symmetric|infinity|image|too large).*")
        gymnasium_check(gymnasium.make(id).unwrapped, skip_render_check=True)
        sb3_check(gymnasium.make(id), skip_render_check=True)


@pytest.mark.parametrize("probe", [probes.EndlessReward, probes.ContinuousTarget])
def test_official_checkers_pass_for_instances(probe: Any) -> None:
    gymnasium_check(SingleEnv(probe()), skip_render_check=True)
    sb3_check(SingleEnv(probe()), skip_render_check=True)


def test_gymnasium_makes_the_environments_from_a_bare_script() -> None:
    code = """
import gymnasium
env = gymnasium.make("palaestra.envs:palaestra/Snake-v0")
obs, _ = env.reset(seed=1)
assert env.observation_space.contains(obs) and env.unwrapped.action_space.n == 3
assert gymnasium.make("palaestra/SnakeSmall-v0", observation="grid").observation_space.shape == (5, 6, 6)
batch = gymnasium.make_vec("palaestra/SnakeSmall-v0", num_envs=3, device="cpu", max_episode_steps=5)
obs, _ = batch.reset(seed=1)
for _ in range(5):
    obs, reward, terminated, truncated, info = batch.step(batch.env.expert(batch.state))
print(type(batch).__name__, type(obs).__name__, tuple(obs.shape), truncated.tolist(), tuple(info["final_obs"].shape))
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert run.stdout.split("\n")[0] == "TensorVectorEnv Tensor (3, 145) [True, True, True] (3, 145)"


def paired(num_envs: int = 32) -> tuple[TensorVectorEnv[Any], TensorVectorEnv[Any]]:
    """Two equal batches with short episodes."""
    a, b = (make("snake-small", num_envs, device="cpu", seed=9, max_episode_steps=6) for _ in range(2))
    assert isinstance(a, TensorVectorEnv)
    assert isinstance(b, TensorVectorEnv)
    return a, b


def test_numpy_vector_env_gives_the_numbers_of_the_batch() -> None:
    batch, twin = paired()
    view = NumpyVectorEnv(twin)
    assert view.metadata["autoreset_mode"] == AutoresetMode.SAME_STEP
    assert np.array_equal(view.reset(seed=9)[0], batch.reset(seed=9)[0].numpy())
    for step in range(1, 40):
        actions = random_actions(batch, step)
        theirs = view.step(actions.numpy())
        ours = batch.step(actions)
        for a, b in zip(theirs[:4], ours[:4], strict=True):
            assert isinstance(a, np.ndarray)
            assert np.array_equal(a, b.numpy())
            assert a.dtype == b.numpy().dtype
        assert np.array_equal(theirs[4]["final_obs"], ours[4]["final_obs"].numpy())
        assert np.array_equal(theirs[4]["episode"]["r"], ours[4]["episode"]["r"].numpy())


def test_sb3_view_gives_the_numbers_of_the_batch() -> None:
    batch, twin = paired()
    view = SB3VecEnv(twin)
    view.seed(9)
    assert np.array_equal(view.reset(), batch.reset(seed=9)[0].numpy())
    ended = cut = 0
    for step in range(1, 40):
        actions = random_actions(batch, step)
        obs, reward, done, infos = view.step(actions.numpy())
        expected, their_reward, terminated, truncated, info = batch.step(actions)
        assert np.array_equal(obs, expected.numpy())
        assert np.array_equal(reward, their_reward.numpy())
        assert np.array_equal(done, (terminated | truncated).numpy())
        for i, row in enumerate(infos):
            if not done[i]:
                assert row == {}
                continue
            ended, cut = ended + 1, cut + int(truncated[i])
            assert np.array_equal(row["terminal_observation"], info["final_obs"][i].numpy())
            assert row["TimeLimit.truncated"] == truncated[i].item()
            assert (row["episode"]["r"], row["episode"]["l"]) == (info["episode"]["r"][i], info["episode"]["l"][i])
            assert row["is_success"] is False
    assert ended > cut > 0


def test_sb3_seed_takes_effect_once() -> None:
    view = SB3VecEnv(paired()[0])
    view.seed(5)
    first = view.reset()
    second = view.reset()
    assert not np.array_equal(first, second)
    view.seed(5)
    assert np.array_equal(view.reset(), first)


def test_sb3_attributes() -> None:
    view = SB3VecEnv(paired(3)[0])
    assert view.get_attr("size") == [6, 6, 6]
    assert view.get_attr("size", [0, 2]) == [6, 6]
    assert view.get_attr("render_mode", 1) == [None]
    with pytest.raises(NotImplementedError, match="share their attributes"):
        view.set_attr("size", 8)
    with pytest.raises(NotImplementedError, match="no methods of their own"):
        view.env_method("step")


class Left(probes.ActionReward):
    """Action 1 is legal where the row's draw says so."""

    def reset(self, rng: Any) -> Any:
        return probes.ProbeState((rng.uniform() < 0.5).float())

    def step(self, state: Any, action: Any, rng: Any) -> Any:
        return self.reset(rng), action.float(), action > 1

    def action_mask(self, state: Any) -> Any:
        return torch.stack((state.signal > -1, state.signal > 0), 1)


def test_sb3_contribs_questions_about_action_masks() -> None:
    """``has_attr`` and ``env_method``, which wrappers pass on."""
    batch = TensorVectorEnv(Left(), 5, device="cpu", seed=2)
    view = VecMonitor(SB3VecEnv(batch))
    assert view.has_attr("action_masks")
    view.reset()
    some = []
    for _ in range(6):
        masks = view.env_method("action_masks")
        expected = batch.action_masks()
        assert expected is not None
        assert np.array_equal(np.stack(masks), expected.numpy())
        assert np.array_equal(view.env_method("action_masks", indices=[4, 1]), [masks[4], masks[1]])
        assert np.array_equal(view.get_attr("action_masks", 3)[0](), masks[3])
        some += [mask[1] for mask in masks]
        view.step(np.array([int(np.flatnonzero(mask)[-1]) for mask in masks]))
    assert 0 < sum(some) < len(some)
    assert VecEnvAdapter(view)._has_method


def test_masks_of_environments_without_any_allow_all() -> None:
    view = SB3VecEnv(make("snake-small", 2, "cpu"))
    assert view.has_attr("action_masks")
    assert np.array_equal(np.stack(view.env_method("action_masks")), np.ones((2, 3), bool))
    assert not VecEnvAdapter(VecMonitor(view))._has_method
    continuous = SB3VecEnv(TensorVectorEnv(probes.ContinuousTarget(), 2, device="cpu"))
    assert not continuous.has_attr("action_masks")
    with pytest.raises(AttributeError, match="action_masks"):
        continuous.env_method("action_masks")


def test_single_env_plays_any_row_and_episode_of_a_batch() -> None:
    batch, _ = paired()
    batch.reset()
    single = SingleEnv(Snake(size=6), max_episode_steps=6)
    for episode in (0, 2):
        obs, _ = batch.reset(options={"episode": episode})
        alone, _ = single.reset(seed=9, options={"env_index": 17, "episode": episode})
        assert np.array_equal(alone, obs[17].numpy())
        for step in range(1, 7):
            actions = random_actions(batch, step)
            final, reward, terminated, truncated = batch.advance(actions)
            got = single.step(int(actions[17]))
            assert np.array_equal(got[0], final[17].numpy())
            assert got[1:4] == (reward[17].item(), terminated[17].item(), truncated[17].item())
            assert [type(value) for value in got[1:4]] == [float, bool, bool]
            if terminated[17] or truncated[17]:
                assert got[4] == {"is_success": False}
                break


def test_single_env_seeds_and_episodes() -> None:
    env = SingleEnv("palaestra.envs.cartpole:CartPole")
    first, second = env.reset(seed=1)[0], env.reset()[0]
    assert not np.array_equal(first, second)
    assert np.array_equal(env.reset(seed=1)[0], first)
    assert np.array_equal(env.reset()[0], second)
    assert np.array_equal(env.reset(options={"episode": 0})[0], first)
    unseeded = [SingleEnv("palaestra.envs.cartpole:CartPole").reset()[0] for _ in range(2)]
    assert not np.array_equal(*unseeded)


def test_single_env_observation_is_not_overwritten_by_the_next_step() -> None:
    env = gymnasium.make("palaestra/CartPole-v1")
    obs, _ = env.reset(seed=0)
    kept = obs.copy()
    env.step(1)
    assert np.array_equal(obs, kept)


def test_single_env_refuses_a_wrong_action_and_render_mode() -> None:
    env = SingleEnv("palaestra.envs.cartpole:CartPole")
    env.reset(seed=0)
    for action in (2, -1, 0.5, np.array([0])):
        with pytest.raises(ValueError, match="is not in Discrete"):
            env.step(action)
    with pytest.raises(ValueError, match="render_mode must be one of"):
        SingleEnv("palaestra.envs.cartpole:CartPole", render_mode="ansi")
    with pytest.raises(ValueError, match="render_mode must be one of \\[\\]"):
        SingleEnv(probes.ConstantReward(), render_mode="rgb_array")


@pytest.mark.parametrize("id", IDS)
def test_pictures_through_every_view(id: str) -> None:
    """The single picture is row 0 of the batch's, and SB3's images are the batch's."""
    pytest.importorskip("palaestra.envs.rendering.canvas")
    batch = make(id, 2, device="cpu", seed=3, render_mode="rgb_array")
    batch.reset()
    frames = batch.render()
    assert frames is not None
    single = gymnasium.make(id, render_mode="rgb_array")
    single.reset(seed=3)
    assert np.array_equal(single.render(), frames[0])
    assert np.array_equal(SB3VecEnv(batch).get_images()[1], frames[1])
    assert frames[0].dtype == np.uint8
    space = batch.single_action_space  # markets all start alike: only their actions tell rows apart
    first, last = (0, space.n - 1) if isinstance(space, Discrete) else (space.low, space.high)
    batch.step(torch.as_tensor(np.stack((first, last))))
    later = batch.render()
    assert later is not None
    assert not np.array_equal(later[0], later[1])


def test_continuous_actions_pass_through_the_views() -> None:
    batch = TensorVectorEnv(probes.ContinuousTarget(), 4, device="cpu")
    view = SB3VecEnv(batch)
    target = view.reset()
    _, reward, done, _ = view.step(target + np.float32(0.5))
    assert np.allclose(reward, -0.25)
    assert done.all()
    assert torch.is_floating_point(random_actions(batch, 1))
