"""Hindsight: goals of the same episode from here on and no others, their rewards, their share, and SB3's numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from goal_worlds import Point
from gymnasium.wrappers import TimeLimit
from hypothesis import given, settings
from hypothesis import strategies as st
from stable_baselines3.common.vec_env import DummyVecEnv
from stable_baselines3.her.her_replay_buffer import HerReplayBuffer
from torch import Tensor

from palaestra.agents.buffers.hindsight import HindsightReplay
from palaestra.envs.interop.sb3_adapter import VecEnvAdapter

GOES_ON, TERMINATES, IS_CUT = "-", "T", "C"
ASKED = -1.0  # the desired goal of every moment: nothing achieves it


def moment(*numbers: int) -> dict[str, Tensor]:
    """What the environments see: the achieved goal [N, 1] is the moment's number."""
    number = torch.tensor(numbers, dtype=torch.float32).unsqueeze(1)
    return {"observation": 10 * number, "achieved_goal": number, "desired_goal": torch.full_like(number, ASKED)}


def distance(achieved: Tensor, desired: Tensor) -> Tensor:
    return -(achieved - desired).abs().squeeze(1)


def memory(buffer_size: int, *first: int, **kwargs: Any) -> HindsightReplay:
    form: dict[str, Any] = {"num_actions": 2, "gamma": 0.5, "hindsight": 4, "goal_rewards": distance}
    return HindsightReplay(buffer_size, moment(*first), **(form | kwargs))


class Played:
    """Episodes in a memory of N columns, and their moments' numbers beside it."""

    def __init__(self, num_envs: int, rows: int, **kwargs: Any) -> None:
        self.num_envs, self.count = num_envs, num_envs
        self.replay = memory(num_envs * (rows - 1), *range(num_envs), **kwargs)
        self.columns = [[[i]] for i in range(num_envs)]  # of episodes, of moments

    def _numbers(self) -> list[int]:
        self.count += self.num_envs
        return list(range(self.count - self.num_envs, self.count))

    def step(self, ends: str) -> None:
        final, fresh = self._numbers(), self._numbers()
        now = [f if e == GOES_ON else n for e, f, n in zip(ends, final, fresh, strict=True)]
        terminated, truncated = (torch.tensor([e == letter for e in ends]) for letter in (TERMINATES, IS_CUT))
        zeros = torch.zeros(self.num_envs)
        self.replay.add(zeros.long(), zeros + 7.0, terminated, truncated, moment(*final), moment(*now))
        for episodes, end, last, first in zip(self.columns, ends, final, now, strict=True):
            episodes[-1].append(last)
            if end != GOES_ON:
                episodes.append([first])

    def restart(self) -> None:
        fresh = self._numbers()
        self.replay.restart(moment(*fresh))
        for episodes, first in zip(self.columns, fresh, strict=True):
            episodes.append([first])

    def later(self, number: int) -> list[int]:
        """The moments after that one in its episode."""
        (found,) = (e[e.index(number) + 1 :] for episodes in self.columns for e in episodes if number in e)
        return found

    def check(self) -> None:
        """All goals that may be drawn for each stored transition are the later ones, in equal parts of the draws."""
        replay = self.replay
        places = torch.arange(replay.rows * self.num_envs)
        (valid,) = (replay.gather(places).weights > 0).nonzero(as_tuple=True)
        for place in places[valid].tolist():
            number = int(replay.content["achieved_goal"][place])
            expected = self.later(number)
            drawn = [(k + 0.5) / len(expected) for k in range(len(expected))] + [0.0, 1.0 - 2**-53]
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(torch, "rand", lambda *_, d=drawn, **__: torch.tensor(d, dtype=torch.float64))
                window = replay._window_at(torch.full((len(drawn),), place))
                goals = replay._later_goals(window, len(drawn))
            assert goals.squeeze(1).tolist() == [*expected, expected[0], expected[-1]]


def test_an_episode_worked_by_hand() -> None:
    """Moments 0, 1, 3, 5 and the end: from 1 on, 3 and 5 are later goals, and the step to 3 is worth −|3 − goal|."""
    played = Played(1, 8)
    for end in "--T--":
        played.step(end)
    assert played.columns == [[[0, 1, 3, 5], [6, 7, 9]]]
    torch.manual_seed(0)
    found = played.replay.gather(torch.ones(500, dtype=torch.int64))
    goals = found.content["desired_goal"].squeeze(1)
    assert {*goals[:400].tolist()} == {3.0, 5.0}
    assert int((goals[:400] == 3.0).sum()) == pytest.approx(200, abs=50)
    assert torch.equal(found.returns[:400], -(3.0 - goals[:400]).abs())
    assert torch.equal(found.next_content["desired_goal"], found.content["desired_goal"])
    assert found.content["achieved_goal"].unique().tolist() == [1.0]
    assert found.next_content["achieved_goal"].unique().tolist() == [3.0]
    assert goals[400:].tolist() == [ASKED] * 100
    assert found.returns[400:].tolist() == [7.0] * 100
    assert found.discounts.unique().tolist() == [0.5]


def test_a_termination_stays_one_and_goes_to_its_own_goal() -> None:
    played = Played(1, 8)
    for end in "--T--":
        played.step(end)
    found = played.replay.gather(torch.full((5,), 2))
    assert found.discounts.tolist() == [0.0] * 5
    assert found.content["desired_goal"].squeeze(1).tolist() == [5.0] * 4 + [ASKED]
    assert found.returns.tolist() == [0.0] * 4 + [7.0]


def test_n_steps_are_all_worth_what_the_new_goal_makes_them() -> None:
    """n = 3, γ = ½, goal 5: −|1 − 5| − ½ |3 − 5| − ¼ |5 − 5| = −5; goal 3: −2 − 0 − ½; goal 1: 0 − 1 − 1."""
    played = Played(1, 8, n_steps=3)
    for end in "--T--":
        played.step(end)
    found = played.replay.gather(torch.zeros(50, dtype=torch.int64))
    told = {*zip(found.content["desired_goal"].squeeze(1).tolist(), found.returns.tolist(), strict=True)}
    assert told == {(5.0, -5.0), (3.0, -2.5), (1.0, -2.0), (ASKED, 7.0 * 1.75)}
    assert not found.discounts.any()


@pytest.mark.parametrize(("hindsight", "batch", "relabelled"), [(4, 256, 204), (4, 5, 4), (1, 7, 3), (9, 100, 90)])
def test_k_of_k_plus_one_are_relabelled_as_in_sb3(hindsight: int, batch: int, relabelled: int) -> None:
    played = Played(1, 8, hindsight=hindsight)
    played.step(GOES_ON)
    found = played.replay.gather(torch.zeros(batch, dtype=torch.int64))
    assert int((found.content["desired_goal"] != ASKED).sum()) == relabelled == int((1 - 1 / (hindsight + 1)) * batch)


@given(st.data())
@settings(max_examples=60)
def test_goals_are_the_later_ones_of_the_same_episode(data: st.DataObject) -> None:
    """After terminations, cuts, resets from outside and any number of rounds of the ring; running episodes too."""
    num_envs, rows = data.draw(st.integers(1, 3)), data.draw(st.integers(2, 9))
    played = Played(num_envs, rows)
    steps = st.lists(st.sampled_from("----TC"), min_size=num_envs, max_size=num_envs).map("".join)
    for event in data.draw(st.lists(st.one_of(*[steps] * 12, st.just("restart")), min_size=1, max_size=4 * rows)):
        if event == "restart":
            played.restart()
        else:
            played.step(event)
        played.check()


@pytest.mark.parametrize("letter", [TERMINATES, IS_CUT])
def test_a_column_of_the_shortest_episodes_has_a_number_for_each(letter: str) -> None:
    played = Played(2, 5)
    for t in range(25):
        played.step(letter + (GOES_ON if t % 3 else letter))
        played.check()


# ---------------------------------------------------------------------------------------------------------- beside SB3


def beside_sb3(steps: int) -> tuple[HindsightReplay, HerReplayBuffer, VecEnvAdapter]:
    """The same steps of two environments in both, whose last episodes have just been cut."""
    venv = DummyVecEnv([lambda near=near: TimeLimit(Point(near, ends=True), 7) for near in (0.3, 0.3)])
    venv.seed(3)
    theirs = HerReplayBuffer(400, venv.observation_space, venv.action_space, venv, device="cpu", n_envs=2)
    seen: Any = venv.reset()
    adapter = VecEnvAdapter(venv, "cpu")

    def content(obs: dict[str, Any]) -> dict[str, Tensor]:
        return {key: torch.tensor(part, dtype=torch.float32) for key, part in obs.items()}

    ours = HindsightReplay(
        400, content(seen), action_shape=(2,), gamma=0.9, hindsight=4, goal_rewards=adapter.goal_rewards
    )
    generator = np.random.default_rng(0)
    for _ in range(steps):
        actions = generator.uniform(-1.0, 1.0, (2, 2)).astype(np.float32)
        after, rewards, dones, infos = venv.step(actions)
        last = {key: part.copy() for key, part in after.items()}
        for i in np.flatnonzero(dones):
            for key, part in infos[i]["terminal_observation"].items():
                last[key][i] = part
        cut = np.array([info["TimeLimit.truncated"] for info in infos]) & dones
        theirs.add(seen, last, actions, rewards, dones, infos)
        ends = torch.tensor(dones & ~cut), torch.tensor(cut)
        ours.add(torch.tensor(actions), torch.tensor(rewards), *ends, content(last), content(after))
        seen = after
    return ours, theirs, adapter


@pytest.mark.parametrize("part", [0.0, 0.3, 0.7, 0.999])
def test_transitions_equal_sb3s(part: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of finished episodes, each with the goal at the same part of what was left of it."""
    ours, theirs, _ = beside_sb3(80)
    times, columns = np.nonzero(theirs.ep_length)
    assert len(times) > 120
    monkeypatch.setattr(torch, "rand", lambda count, **kwargs: torch.full((count,), part, **kwargs))
    monkeypatch.setattr(np.random, "randint", lambda low, high: low + (part * (high - low)).astype(int))
    sb3 = theirs._get_virtual_samples(times, columns)
    places = []  # of the same transitions here, where cut episodes take a row more
    for column in range(2):
        (steps,) = (ours.kinds.view(-1, 2)[:, column] > 0).nonzero(as_tuple=True)
        places.append((steps * 2 + column)[: theirs.pos])
    index = torch.stack([places[column][time] for time, column in zip(times, columns, strict=True)])
    found = ours.gather(torch.cat((index, index[: -(-len(index) // 4)])))  # the first four fifths are relabelled
    count = len(index)
    for key in ("observation", "achieved_goal", "desired_goal"):
        torch.testing.assert_close(found.content[key][:count], sb3.observations[key].float(), rtol=0, atol=0)
    ends = sb3.dones.squeeze(1)
    assert torch.equal(found.discounts[:count], 0.9 * (1.0 - ends))
    goes_on = ends == 0
    for key in ("observation", "achieved_goal", "desired_goal"):
        theirs_next = sb3.next_observations[key].float()[goes_on]
        torch.testing.assert_close(found.next_content[key][:count][goes_on], theirs_next, rtol=0, atol=0)
    assert torch.equal(found.actions[:count], sb3.actions)
    assert torch.equal(found.returns[:count], sb3.rewards.squeeze(1))
    assert {*sb3.rewards.unique().tolist()} == ({0.0} if part == 0.0 else {-1.0, 0.0})
    assert 0 < int(ends.sum()) < count


def test_real_rewards_are_what_the_rule_says_of_the_real_goal() -> None:
    ours, _, adapter = beside_sb3(40)
    index = (ours.kinds > 0).nonzero().squeeze(1)
    told = adapter.goal_rewards(ours.reached[index], ours.content["desired_goal"][index])
    assert torch.equal(told, ours.rewards[index])


# ---------------------------------------------------------------------------------------------------------------- files


def test_a_memory_comes_back_and_numbers_that_none_holds_are_refused() -> None:
    played, again = Played(2, 6), memory(10, 0, 1)
    for end in ("--", "-T", "C-", "--", "--", "T-"):
        played.step(end)
    saved = played.replay.state_dict()
    again.load_state_dict(saved)
    torch.testing.assert_close(again.state_dict(), saved, rtol=0, atol=0)
    played.replay = again
    played.step("--")
    played.restart()
    played.step("-T")
    played.check()
    for name in ("episodes", "ends", "running"):
        wrong = {**saved, "fields": {**saved["fields"], name: saved["fields"][name] + 6}}
        with pytest.raises(ValueError, match=rf"replay\.{name} must be 0 … 5, the file has"):
            again.load_state_dict(wrong)
    wrong = {**saved, "fields": {**saved["fields"], "reached": saved["fields"]["reached"] / 0.0}}
    with pytest.raises(ValueError, match=r"replay\.reached hold NaN or infinity"):
        again.load_state_dict(wrong)


def test_memory_is_counted_before_it_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Per row and environment: 3 numbers of what is seen, 5 + 1 as any replay, a goal reached and two row numbers."""
    asked: list[int] = []
    monkeypatch.setattr("palaestra.agents.buffers.replay.require", lambda size, *_: asked.append(size))
    replay = memory(20, 0, 1)
    assert asked == [11 * 2 * (3 * 4 + 6 + 4 + 2 * 4)] == [replay.nbytes]
