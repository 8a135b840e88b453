"""Numbers in checkpoints that no training has: refused, before an index or an update would stumble over them."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fuzz_checkpoints as fuzz
import pytest
import torch
from hostile_files import changed, load, refused, resume

from palaestra.agents import DQN, PPO
from palaestra.envs import make


def resumed(name: str, num_envs: int) -> Callable[[bytes], Any]:
    """Goes on with DQN in that environment."""
    return lambda content: DQN.resume(io.BytesIO(content), make(name, num_envs, "cpu"))


def prioritised() -> bytes:
    """A checkpoint of DQN whose replay memory has priorities, of 201 places in 7 families."""
    model = DQN("MlpPolicy", make("cartpole", 3, "cpu"), prioritized_replay=0.5, buffer_size=198, learning_starts=20)
    buffer = io.BytesIO()
    model.learn(100).save_checkpoint(buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: p["0"].__setitem__(5, -1.0), "priorities.0 must be finite and at least 0"),
        (lambda p: p["0"].__setitem__(5, torch.nan), "priorities.0 must be finite and at least 0"),
        (lambda p: p["largest"].fill_(torch.inf), "priorities.largest must be finite"),
        (lambda p: (p["0"].__setitem__(223, 1.0), p["1"].__setitem__(6, 1.0)), "priorities beyond the 201 places"),
        (lambda p: p["1"].__setitem__(6, 9.0), "priorities.1 are not the sums of those below"),
        (lambda p: p["1"].__setitem__(31, 1.0), "priorities.1 are not the sums of those below"),
    ],
)
def test_priorities_from_which_nothing_could_be_drawn_are_refused(change: Callable[[Any], Any], message: str) -> None:
    members = fuzz.unpacked(prioritised())
    state = fuzz.state_of(fuzz.packed(members), "training")
    priorities = state["replay"]["priorities"]
    assert [len(priorities[level]) for level in ("0", "1")] == [224, 32]
    resumed("cartpole", 3)(fuzz.packed(members))
    change(priorities)
    content = fuzz.with_state(fuzz.packed(members), "training", state)
    refused(content, message, resumed("cartpole", 3))


@pytest.mark.parametrize(
    ("where", "message"),
    [
        (lambda s: s["batch"]["state"]["fruit"], "never in such a state .*index"),
        (lambda s: s["replay"]["content"]["fruit"], "index"),
    ],
)
@pytest.mark.parametrize("value", [37, 2**40])
def test_states_that_point_beyond_the_board_are_refused(
    where: Callable[[Any], torch.Tensor], message: str, value: int, tmp_path: Path
) -> None:
    """Of the running episodes, and in a replay memory that stores states: 36 cells, and 36 for no fruit."""
    env = make("snake-small", 4, "cpu")
    model = DQN("MlpPolicy", env, buffer_size=100, learning_starts=50).learn(80)
    model.save_checkpoint(tmp_path / "c.zip")
    members = fuzz.unpacked((tmp_path / "c.zip").read_bytes())
    state = fuzz.state_of(fuzz.packed(members), "training")
    where(state)[2] = value
    content = fuzz.with_state(fuzz.packed(members), "training", state)
    refused(content, message, resumed("snake-small", 4))


def test_counters_have_their_kinds_and_ranges() -> None:
    members = fuzz.unpacked(fuzz.original("dqn"))
    settings = json.loads(members["palaestra.json"])
    for name, value in settings["counters"].items():
        for bad in (
            True,
            None,
            "1",
            -(2**63),
            2**63,
            1e300,
            float("nan"),
            *([-1, 0.5] if isinstance(value, int) else []),
        ):
            changed = {**settings, "counters": {**settings["counters"], name: bad}}
            content = fuzz.packed({**members, "palaestra.json": json.dumps(changed).encode()})
            refused(content, f"bad counter {name}=", resume)


def test_a_file_does_not_say_where_to_log(tmp_path: Path) -> None:
    model = PPO(
        "MlpPolicy", make("cartpole", 4, "cpu"), n_steps=8, batch_size=16, tensorboard_log=str(tmp_path / "mine")
    )
    model.save(tmp_path / "m.zip")
    members = fuzz.unpacked((tmp_path / "m.zip").read_bytes())
    assert b"mine" not in members["palaestra.json"]
    settings = json.loads(members["palaestra.json"])
    own = PPO.load(tmp_path / "m.zip", make("cartpole", 4, "cpu"), tensorboard_log=str(tmp_path / "own"))
    assert own.tensorboard_log == str(tmp_path / "own")
    for name, value in (("tensorboard_log", str(tmp_path / "theirs")), ("rollout_buffer_kwargs", {})):
        wrong = {**settings, "arguments": {**settings["arguments"], name: value}}
        content = fuzz.packed({**members, "palaestra.json": json.dumps(wrong).encode()})
        refused(content, f"the settings hold '{name}', which no saved PPO has")
    assert [path.name for path in tmp_path.iterdir()] == ["m.zip"]


@pytest.mark.parametrize(
    "change",
    [
        lambda group: group["params"].__setitem__(0, 1),
        lambda group: group.update(fused=not group["fused"]),
        lambda group: group.update(maximize=True),
        lambda group: group.update(eps=1e300),
    ],
)
def test_an_optimizer_that_would_fail_later_is_refused(change: Callable[[Any], Any]) -> None:
    content = changed("ppo", "optimizer", lambda state: change(state["param_groups"][0]))
    refused(content, "the optimizer's settings in the file are not those")


@pytest.mark.parametrize("agent", ["ppo", "dqn"])
@pytest.mark.parametrize(
    "change", [lambda state: state.pop("exp_avg"), lambda state: state.update(x=state["exp_avg"]), lambda s: s.clear()]
)
def test_an_optimizer_state_with_other_parts_is_refused(change: Callable[[Any], Any], agent: str) -> None:
    content = changed(agent, "optimizer", lambda state: change(state["state"][1]))
    message = "state of weight 1 does not hold exp_avg, exp_avg_sq, step"
    refused(content, message, load if agent == "ppo" else resume)


@pytest.mark.parametrize("name", ["Adam", "AdamW", "RAdam", "RMSprop", "SGD"])
@pytest.mark.parametrize("momentum", [False, True])
def test_every_optimizer_comes_back(name: str, momentum: bool, tmp_path: Path) -> None:
    takes = {"RMSprop": {"momentum": 0.5, "centered": True}, "SGD": {"momentum": 0.5}, "Adam": {"amsgrad": True}}
    kwargs = {
        "net_arch": [8],
        "optimizer_class": getattr(torch.optim, name),
        "optimizer_kwargs": takes.get(name, {}) if momentum else {},
    }
    model = PPO("MlpPolicy", make("cartpole", 4, "cpu"), n_steps=8, batch_size=16, policy_kwargs=kwargs, seed=0).learn(
        64
    )
    model.save(tmp_path / "m.zip")
    again = PPO.load(tmp_path / "m.zip", make("cartpole", 4, "cpu"))
    ours, theirs = again.policy.optimizer.state_dict(), model.policy.optimizer.state_dict()
    assert str(ours) == str(theirs)


def test_a_memory_that_is_not_full_holds_nothing_of_other_memory() -> None:
    """Rows without data are the first observation; a file with them is the same every time."""
    files = set()
    for _ in range(2):
        torch.full((2000, 4), 7.25)  # freed at once: the next tensor may get its bytes
        model = DQN("MlpPolicy", make("cartpole", 4, "cpu"), buffer_size=8000, learning_starts=20, seed=0).learn(40)
        assert model.replay is not None
        stored = model.replay.content[""].view(-1, 4, 4)
        assert torch.equal(stored[100:], stored[:1].expand(len(stored) - 100, 4, 4))
        buffer = io.BytesIO()
        torch.save(model.replay.state_dict(), buffer)
        files.add(buffer.getvalue())
    assert len(files) == 1
