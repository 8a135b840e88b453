"""Replay memories in files of their own: exact, and refused where they are not this agent's."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import pytest
import stable_baselines3
import torch
from walk import weights

from palaestra.agents import DQN, PQN, CheckpointError
from palaestra.agents.checkpoints.tensor_members import read_tree, write_tree
from palaestra.agents.checkpoints.zip_archive import Members, seal
from palaestra.envs import make


def small(name: str = "snake-small", count: int = 4, size: int = 200, **kwargs: Any) -> DQN:
    settings: dict[str, Any] = {"learning_starts": 20, "batch_size": 16, "train_freq": 1, "target_update_interval": 40}
    env = make(name, count, "cpu", seed=3)
    return DQN("MlpPolicy", env, buffer_size=size, seed=0, device="cpu", **(settings | kwargs))


def saved(tmp_path: Path, **kwargs: Any) -> tuple[DQN, Path]:
    model = small(**kwargs)
    model.learn(240)
    model.save_replay_buffer(tmp_path / "memory")
    return model, tmp_path / "memory.pkl"


@pytest.mark.parametrize("kwargs", [{}, {"prioritized_replay": 0.6, "n_steps": 3}, {"name": "CartPole-v1"}], ids=str)
def test_a_memory_comes_back_to_the_last_bit(kwargs: dict[str, Any], tmp_path: Path) -> None:
    """An agent that goes on from the two files ends with the weights of one that kept its memory."""
    model, path = saved(tmp_path, **kwargs)
    model.save(tmp_path / "model")
    assert model.replay is not None
    ends = []
    for source in (path, str(tmp_path / "memory"), io.BytesIO(path.read_bytes())):
        again = DQN.load(tmp_path / "model", make(kwargs.get("name", "snake-small"), 4, "cpu", seed=3))
        again.load_replay_buffer(source)
        assert again.replay is not None
        torch.testing.assert_close(again.replay.state_dict(), model.replay.state_dict(), rtol=0, atol=0)
        torch.manual_seed(1)
        again.learn(80, reset_num_timesteps=False)
        ends.append(weights(again))
    kept = DQN.load(tmp_path / "model", make(kwargs.get("name", "snake-small"), 4, "cpu", seed=3))
    kept.replay = model.replay
    torch.manual_seed(1)
    kept.learn(80, reset_num_timesteps=False)
    for end in ends:
        torch.testing.assert_close(end, weights(kept), rtol=0, atol=0)


def test_running_episodes_go_on_or_are_cut(tmp_path: Path) -> None:
    model, path = saved(tmp_path)
    assert model.replay is not None
    position = model.replay.position.clone()
    model.load_replay_buffer(path, truncate_last_traj=False)
    assert torch.equal(model.replay.position, position)
    model.load_replay_buffer(path)
    assert torch.equal(model.replay.position, (position + 1) % model.replay.rows)
    model.learn(8, reset_num_timesteps=False)
    model.load_replay_buffer(path, truncate_last_traj=False)  # the environments are elsewhere now
    assert torch.equal(model.replay.position, (position + 1) % model.replay.rows)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (
            {"count": 8},
            "it is of 4 environments and buffer_size=200, this agent has 8 environments and",
        ),
        ({"size": 100}, "buffer_size=200, this agent has 4 environments and buffer_size=100"),
        ({"name": "cartpole"}, "it holds observations of Box.*, this agent's are of Box"),
        ({"prioritized_replay": 0.6}, "priorities: only one of the file and the agent has them"),
    ],
)
def test_memories_of_others_are_refused(other: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = saved(tmp_path)[1]
    model = small(**other)
    with pytest.raises(CheckpointError, match=message) as caught:
        model.load_replay_buffer(path)
    assert "\n" not in str(caught.value)
    assert model.replay is None


def test_files_that_are_no_memory_are_refused(tmp_path: Path) -> None:
    vanilla = stable_baselines3.DQN("MlpPolicy", "CartPole-v1", buffer_size=10, device="cpu")
    vanilla.save_replay_buffer(tmp_path / "pickle.pkl")
    with pytest.raises(CheckpointError, match="a pickle, as Stable-Baselines3's are"):
        small().load_replay_buffer(tmp_path / "pickle.pkl")
    small().save(tmp_path / "model.zip")
    with pytest.raises(CheckpointError, match="does not belong into a replay memory"):
        small().load_replay_buffer(tmp_path / "model.zip")
    with pytest.raises(FileNotFoundError, match=r"no replay memory at .*nowhere\.pkl"):
        small().load_replay_buffer(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="no replay memory before learn"):
        small().save_replay_buffer(tmp_path / "empty")
    assert not (tmp_path / "empty.pkl").exists()
    for call in (PQN.save_replay_buffer, PQN.load_replay_buffer):
        with pytest.raises(ValueError, match="PQN has no replay memory"):
            call(PQN("MlpPolicy", make("cartpole", 2, "cpu", seed=0)), tmp_path / "none")


def test_damage_is_noticed(tmp_path: Path) -> None:
    content = bytearray(saved(tmp_path)[1].read_bytes())
    content[len(content) // 2] ^= 1
    with pytest.raises(CheckpointError, match="is damaged"):
        small().load_replay_buffer(io.BytesIO(content))


def changed(path: Path, change: Any) -> io.BytesIO:
    """The file with another memory, and right checksums."""
    with path.open("rb") as file:
        members = Members(file, "the file")
        state, about = read_tree(members, "memory"), members.read("replay.json")
    change(state)
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("replay.json", about)
        write_tree(archive, "memory", state)
    seal(content)
    return content


def test_hostile_numbers_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path)[1]
    for change, message in (
        (lambda s: s["fields"]["actions"].fill_(77), "replay.actions must be"),
        (lambda s: s["content"].update(body=torch.zeros(0, 1 << 40)), "in the file, 204 moments here"),
        (lambda s: s.update(steps=-1), "replay.steps must be"),
        (lambda s: s["fields"]["rewards"].fill_(torch.nan), "replay.rewards hold NaN"),
    ):
        with pytest.raises(CheckpointError, match=message):
            small().load_replay_buffer(changed(path, change))


def test_contents_are_compared_before_learning_goes_on(tmp_path: Path) -> None:
    """The environments' moments are known when they have begun; no memory is dropped without a word."""
    path = saved(tmp_path)[1]
    model = small()
    other = changed(path, lambda s: s["content"].update(extra=torch.zeros(204, 1)))
    model.load_replay_buffer(other)
    with pytest.raises(ValueError, match="other contents than these environments have"):
        model.learn(8)
