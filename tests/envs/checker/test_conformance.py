"""The checker itself: every rule fails on an environment that breaks it, and everything of ours keeps them all."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import probes
import pytest
import torch
from gymnasium.spaces import Box, Dict, Discrete, MultiDiscrete
from torch import Tensor

from palaestra.envs import Quantity, Reference, TensorEnv, UnknownEnvError, entries
from palaestra.envs.checker import figure_rules
from palaestra.envs.checker.conformance import RULES, STRUCTURE, check_env, table
from palaestra.envs.checker.value_rules import random_actions
from palaestra.envs.core import TensorVectorEnv
from palaestra.envs.core.reference import counts_of_whole
from palaestra.envs.core.rng import Rng
from palaestra.envs.core.symmetries import SignedPermutation, Symmetry
from palaestra.envs.games import solver


@dataclass(frozen=True)
class WalkState:
    place: Tensor  # float32 [N] in −1 … 1
    age: Tensor  # int64 [N] steps


class Walk(TensorEnv[WalkState]):
    """A healthy environment: a noisy walk between two walls, where touching one terminates."""

    max_episode_steps: int | None = 12

    def __init__(self) -> None:
        self.observation_space = Box(-1.0, 1.0, (2,))
        self.action_space = Discrete(2)
        self.speed = torch.tensor([-0.1, 0.1])

    def reset(self, rng: Rng) -> WalkState:
        place = rng.uniform(-0.7, 0.7)
        return WalkState(place, torch.zeros_like(place, dtype=torch.int64))

    def step(self, state: WalkState, action: Tensor, rng: Rng) -> tuple[WalkState, Tensor, Tensor]:
        place = (state.place + self.speed[action] * rng.uniform()).clamp(-1.0, 1.0)
        return WalkState(place, state.age + 1), place.abs(), place.abs() > 0.9

    def observe(self, state: WalkState) -> Tensor:
        return torch.stack((state.place, state.age / 50), 1)

    def expert(self, state: WalkState) -> Tensor:
        return (state.place > 0).long()

    def action_mask(self, state: WalkState) -> Tensor:
        return torch.ones(len(state.place), 2, dtype=torch.bool, device=self.device)

    def success(self, state: WalkState) -> Tensor:
        return state.place > 0.9

    def stresses(self) -> Any:
        return {"sticky": {"sticky_actions": 0.5}, "other rules": Walk()}

    def symmetries(self) -> Any:
        seen, moves = SignedPermutation.flipping(2, [0]), SignedPermutation.exchanging(2, (0, 1))
        return [Symmetry("mirror", lambda s: replace(s, place=-s.place), seen, moves)]

    def step_figures(
        self, earlier: WalkState, before: WalkState, action: Tensor, after: WalkState
    ) -> dict[str, Tensor]:
        return {"speed": (after.place - before.place).abs()}

    def report_figures(self, returns: Any, lengths: Any, successes: Any, act: Any) -> Any:
        return [counts_of_whole(lengths, "Lengths", "steps", "episodes")]

    @property
    def keys_to_action(self) -> dict[str, int]:
        return {"left": 0, "right": 1}


class SameTurn(Walk):
    def player(self, state: WalkState) -> Tensor:
        return torch.zeros_like(state.age)


class Float64Space(Walk):
    def __init__(self) -> None:
        super().__init__()
        self.observation_space = Box(-1.0, 1.0, (2,), dtype=np.float64)  # type: ignore[type-var]


class DictSpace(Walk):
    def __init__(self) -> None:
        super().__init__()
        self.observation_space = Dict({"place": Box(-1.0, 1.0)})


class EmptyBounds(Walk):
    def __init__(self) -> None:
        super().__init__()
        self.observation_space = Box(np.array([-1, 3], dtype=np.float32), np.array([1, 3], dtype=np.float32))


class NoLimit(Walk):
    max_episode_steps = 0


class ObservationShape(Walk):
    def observe(self, state: WalkState) -> Tensor:
        return super().observe(state)[:, :1]


class SqueezedAtOne(Walk):
    def observe(self, state: WalkState) -> Tensor:
        return super().observe(state).squeeze(0)


class RewardDtype(Walk):
    def step(self, state: WalkState, action: Tensor, rng: Rng) -> tuple[WalkState, Tensor, Tensor]:
        after, reward, terminated = super().step(state, action, rng)
        return after, reward.double(), terminated


class TerminatedDtype(Walk):
    def step(self, state: WalkState, action: Tensor, rng: Rng) -> tuple[WalkState, Tensor, Tensor]:
        after, reward, terminated = super().step(state, action, rng)
        return after, reward, terminated.float()


class StateBatch(Walk):
    def reset(self, rng: Rng) -> WalkState:
        return replace(super().reset(rng), age=torch.zeros(3, dtype=torch.int64, device=self.device))


class StateDtype(Walk):
    def step(self, state: WalkState, action: Tensor, rng: Rng) -> tuple[WalkState, Tensor, Tensor]:
        after, reward, terminated = super().step(state, action, rng)
        return replace(after, age=after.age.int()), reward, terminated


class StateShape(Walk):
    def step(self, state: WalkState, action: Tensor, rng: Rng) -> tuple[WalkState, Tensor, Tensor]:
        after, reward, terminated = super().step(state, action, rng)
        return replace(after, age=after.age.unsqueeze(1)), reward, terminated

    def observe(self, state: WalkState) -> Tensor:
        return super().observe(replace(state, age=state.age.flatten()))


class FewValues(Walk):
    def step(self, state: WalkState, action: Tensor, rng: Rng) -> Any:
        return super().step(state, action, rng)[:2]


class OutOfBounds(Walk):
    def observe(self, state: WalkState) -> Tensor:
        return torch.stack((state.place, state.age * 0.3), 1)


class NanAtStepSeven(Walk):
    def step(self, state: WalkState, action: Tensor, rng: Rng) -> tuple[WalkState, Tensor, Tensor]:
        after, reward, terminated = super().step(state, action, rng)
        late = (after.age == 7) & (after.place > 0)
        return after, torch.where(late, torch.nan, reward), terminated


class InfiniteState(Walk):
    def reset(self, rng: Rng) -> WalkState:
        state = super().reset(rng)
        return replace(state, age=torch.full_like(state.place, torch.inf))

    def step(self, state: WalkState, action: Tensor, rng: Rng) -> tuple[WalkState, Tensor, Tensor]:
        after, reward, terminated = super().step(state, action, rng)
        return after, reward, terminated

    def observe(self, state: WalkState) -> Tensor:
        return torch.stack((state.place, state.place), 1)


class GlobalRandomness(Walk):
    def step(self, state: WalkState, action: Tensor, rng: Rng) -> tuple[WalkState, Tensor, Tensor]:
        after, reward, terminated = super().step(state, action, rng)
        return after, reward + torch.rand(len(reward), device=self.device), terminated


class PositionInBatch(Walk):
    def step(self, state: WalkState, action: Tensor, rng: Rng) -> tuple[WalkState, Tensor, Tensor]:
        after, reward, terminated = super().step(state, action, rng)
        return after, reward + torch.arange(len(reward), device=self.device), terminated


class BatchStatistics(Walk):
    def step(self, state: WalkState, action: Tensor, rng: Rng) -> tuple[WalkState, Tensor, Tensor]:
        after, reward, terminated = super().step(state, action, rng)
        return after, reward - reward.mean(), terminated


class SameForAll(Walk):
    def reset(self, rng: Rng) -> WalkState:
        state = super().reset(rng)
        return replace(state, place=state.place[:1].expand_as(state.place) * 0.0 + rng.uniform() * 0.0)


class CachedReset(Walk):
    """Restores the states of its first reset ever, as some device-resident libraries do to save time."""

    first: Tensor | None = None

    def reset(self, rng: Rng) -> WalkState:
        if self.first is None or self.first.device != rng.device or len(self.first) < rng.num_envs:
            self.first = super().reset(rng).place
        place = self.first[: rng.num_envs].clone()
        return WalkState(place, torch.zeros_like(place, dtype=torch.int64))


class MergedDone(Walk):
    def step(self, state: WalkState, action: Tensor, rng: Rng) -> tuple[WalkState, Tensor, Tensor]:
        after, reward, terminated = super().step(state, action, rng)
        return after, reward, terminated | (after.age >= 12)


class ObservationMemory(Walk):
    """Observes how often it was asked, not only the state."""

    calls = 0

    def observe(self, state: WalkState) -> Tensor:
        self.calls += 1
        obs = super().observe(state)
        return torch.stack((obs[:, 0], obs[:, 1] * 0 + self.calls / 1000), 1)


class PositionInReset(Walk):
    def reset(self, rng: Rng) -> WalkState:
        state = super().reset(rng)
        return replace(state, place=state.place + torch.arange(rng.num_envs, device=self.device) * 1e-4)


class InPlace(Walk):
    def step(self, state: WalkState, action: Tensor, rng: Rng) -> tuple[WalkState, Tensor, Tensor]:
        after, reward, terminated = super().step(state, action, rng)
        return replace(after, age=state.age.add_(1)), reward, terminated


class StepsInSelf(Walk):
    """Its reward depends on how often step was called, which no state holds."""

    calls = 0

    def step(self, state: WalkState, action: Tensor, rng: Rng) -> tuple[WalkState, Tensor, Tensor]:
        self.calls += 1
        after, reward, terminated = super().step(state, action, rng)
        return after, reward * self.calls, terminated


class InPlaceExpert(Walk):
    def expert(self, state: WalkState) -> Tensor:
        return state.place.neg_().lt(0).long()


class ChangingTable(Walk):
    def step(self, state: WalkState, action: Tensor, rng: Rng) -> tuple[WalkState, Tensor, Tensor]:
        after, reward, terminated = super().step(state, action, rng)
        self.speed.clamp_(max=0.05)
        return after, reward, terminated


class HostSync(Walk):
    def step(self, state: WalkState, action: Tensor, rng: Rng) -> tuple[WalkState, Tensor, Tensor]:
        after, reward, terminated = super().step(state, action, rng)
        return after, reward * bool(reward.sum().item() > -1), terminated


class TensorCondition(Walk):
    def step(self, state: WalkState, action: Tensor, rng: Rng) -> tuple[WalkState, Tensor, Tensor]:
        after, reward, terminated = super().step(state, action, rng)
        if terminated.any():
            reward = reward + 0.0
        return after, reward, terminated


class MaskIndexing(Walk):
    def step(self, state: WalkState, action: Tensor, rng: Rng) -> tuple[WalkState, Tensor, Tensor]:
        after, reward, terminated = super().step(state, action, rng)
        reward = reward.clone()
        reward[terminated] = reward[terminated] * 1.0
        return after, reward, terminated


class OnTheCpu(Walk):
    def observe(self, state: WalkState) -> Tensor:
        return super().observe(state) * torch.ones(2)


class ExpertShape(Walk):
    def expert(self, state: WalkState) -> Tensor:
        return super().expert(state).unsqueeze(1)


class ExpertRange(Walk):
    def expert(self, state: WalkState) -> Tensor:
        return super().expert(state) + 2


class MaskShape(Walk):
    def action_mask(self, state: WalkState) -> Tensor:
        return super().action_mask(state)[:, :1]


class MaskAllowsNothing(Walk):
    def action_mask(self, state: WalkState) -> Tensor:
        return super().action_mask(state) & (state.place > 0).unsqueeze(1)


class SuccessDtype(Walk):
    def success(self, state: WalkState) -> Tensor:
        return state.place


class Lopsided(Walk):
    """A mirror that leaves the actions as they are."""

    def symmetries(self) -> Any:
        seen = SignedPermutation.flipping(2, [0])
        return [Symmetry("mirror", lambda s: replace(s, place=-s.place), seen, SignedPermutation.identity(2))]


class NarrowMap(Walk):
    def symmetries(self) -> Any:
        return [Symmetry("mirror", abs, SignedPermutation.flipping(1), SignedPermutation.identity(2))]


class WrongKeys(Walk):
    @property
    def keys_to_action(self) -> dict[str, int]:
        return {"left": 0, "right": 2}


class TooFewNames(Walk):
    observation_names = (Quantity("place"),)


class WrongRandomReturn(Walk):
    reference = Reference(random=100.0)


class BeatenOptimum(Walk):
    reference = Reference(optimum=0.1)


class OptimumBelowRandom(Walk):
    reference = Reference(optimum=-1.0, random=1.0)


class UnknownKind(Walk):
    reference = {"random": 1.0}  # type: ignore[assignment]  # noqa: RUF012


class MistypedStress(Walk):
    def stresses(self) -> Any:
        return {"sticky": {"sticky_actions": 0.5}, "slow": {"stiky_actions": 0.5}}


class RefusedStress(Walk):
    def stresses(self) -> Any:
        return {"sticky": {"sticky_actions": 2}}


class OtherGame(Walk):
    def stresses(self) -> Any:
        return {"corner": probes.ContinuousTarget()}


class FiguresOfAll(Walk):
    def step_figures(self, earlier: Any, before: Any, action: Tensor, after: Any) -> dict[str, Tensor]:
        return {"age": after.age.float().mean()}


class FigureOfNone(Walk):
    def report_figures(self, returns: Any, lengths: Any, successes: Any, act: Any) -> Any:
        return None


class BrokenPicture(Walk):
    def draw(self, state: WalkState, canvas: Any) -> None:
        raise ZeroDivisionError("no paint")


SPACES, STATE, SHAPES = STRUCTURE
CASES: list[tuple[type[TensorEnv[Any]], set[str], str]] = [
    (Float64Space, {SPACES}, "observation_space is float64"),
    (DictSpace, {SPACES}, "observation_space must be a Box"),
    (EmptyBounds, {SPACES}, "observation_space has a lower bound"),
    (NoLimit, {SPACES}, "max_episode_steps must be None or an integer of at least 1, got 0"),
    (ObservationShape, {SHAPES}, "observation must have shape (1, 2), got (1, 1)"),
    (SqueezedAtOne, {SHAPES}, "with 1 environment: SqueezedAtOne: observation must have shape (1, 2), got (2,)"),
    (RewardDtype, {SHAPES}, "reward must be torch.float32, got torch.float64"),
    (TerminatedDtype, {SHAPES}, "terminated must be torch.bool, got torch.float32"),
    (StateBatch, {STATE}, "state.age must be a tensor whose first dimension is"),
    (StateDtype, {STATE}, "state.age is (torch.int64, torch.Size([64])) after reset and (torch.int32"),
    (
        StateShape,
        {STATE},
        "state.age is (torch.int64, torch.Size([64])) after reset and (torch.int64, torch.Size([64, 1]))",
    ),
    (OutOfBounds, {"observation in bounds"}, "at step 4 is outside observation_space"),
    (NanAtStepSeven, {"finite numbers"}, "reward of env 0 at step 7 is NaN"),
    (InfiniteState, {"finite numbers", "symmetries"}, "state.age of env 0 at step 0 is NaN or infinite"),
    (
        GlobalRandomness,
        {"determinism", "batch invariance", "row reset equals selection", "views"},
        "reward at step 1 differs",
    ),
    (PositionInBatch, {"batch invariance"}, "reward at step 1 of envs 1 … 1 differs between the batch of 64"),
    (BatchStatistics, {"batch invariance"}, "reward at step 1 of envs 0 … 0 differs"),
    (SameForAll, {"resets differ"}, "reset gives every environment the same state"),
    (MergedDone, {"terminated and truncated apart"}, "every episode terminates at step 12, which is max_episode_steps"),
    (InPlace, {"step is pure"}, "step changes state.age in place at step 1"),
    (StepsInSelf, {"step is pure", "views", "symmetries"}, "self.calls is another at step 2"),
    (InPlaceExpert, {"step is pure"}, "expert changes state.place in place at step 1"),
    (HostSync, {"no host synchronisation"}, "no .item()"),
    (TensorCondition, {"no host synchronisation"}, 'on device="meta"'),
    (MaskIndexing, {"no host synchronisation"}, 'on device="meta"'),
    (OnTheCpu, {"no host synchronisation"}, 'on device="meta"'),
    (ExpertShape, {"expert", "terminated and truncated apart", "symmetries"}, "expert must return (64,) actions"),
    (
        ExpertRange,
        {"expert", "terminated and truncated apart", "symmetries"},
        "expert must return torch.int64 actions within",
    ),
    (MaskShape, {"action mask", "symmetries"}, "action_mask must return a bool tensor of shape (64, 2)"),
    (MaskAllowsNothing, {"action mask", "symmetries"}, "allows no action"),
    (SuccessDtype, {"success"}, "success must return a bool tensor of shape (64,), got torch.float32"),
    (Lopsided, {"symmetries"}, "symmetry 'mirror' does not commute with the rules: the mean of place after a step is"),
    (NarrowMap, {"symmetries"}, "symmetry 'mirror': its map of observations must be of 2 numbers, got 1"),
    (SameTurn, {"two players"}, "player of env 0 is 0 at move 2, not 1: player 0 begins, turns alternate"),
    (WrongKeys, {"keys"}, "'right' → 2"),
    (
        MistypedStress,
        {"stresses"},
        "stresses['slow'] sets 'stiky_actions', which is no argument; did you mean 'sticky_",
    ),
    (RefusedStress, {"stresses"}, "sticky_actions=2: must be a probability"),
    (OtherGame, {"stresses"}, "stresses['corner'] has the actions Box(-1.0, 1.0, (1,), float32), not Discrete(2)"),
    (
        FiguresOfAll,
        {"step figures"},
        "step_figures['age'] must be a floating-point tensor of shape (64,), got torch.float",
    ),
    (FigureOfNone, {"report figures"}, "with a policy: it must return a list of figures, got NoneType"),
    (TooFewNames, {"names"}, "observation_names tells of 1 numbers, and Box"),
    (BrokenPicture, {"pictures"}, "ZeroDivisionError: no paint (test_conformance.py:"),
    (WrongRandomReturn, {"reference"}, ", but reference.random is 100: correct it"),
    (BeatenOptimum, {"reference"}, "above reference.optimum, 0.1: nothing can be better"),
    (OptimumBelowRandom, {"reference"}, "reference.optimum, -1, is below reference.random, 1"),
    (UnknownKind, {"reference"}, "reference must be a Reference, got dict"),
    (FewValues, {STATE}, "step must return (state, reward, terminated), got 2 values"),
]


@pytest.mark.parametrize(("broken", "rules", "detail"), CASES, ids=[case[0].__name__ for case in CASES])
def test_a_fault_is_found_by_its_rule_alone(broken: type[TensorEnv[Any]], rules: set[str], detail: str) -> None:
    failed = {
        finding.rule: finding.detail for finding in check_env(broken, num_envs=64, steps=16) if not finding.passed
    }
    assert set(failed) == rules, failed
    assert any(detail in text for text in failed.values()), failed


@pytest.mark.parametrize(
    ("broken", "rule", "detail"),
    [
        (CachedReset, "resets differ", "keep none"),
        (ObservationMemory, "final_obs", "observe must depend on the state only"),
        (PositionInReset, "row reset equals selection", "differs between resetting the finished rows"),
        (ChangingTable, "step is pure", "step changes self.speed in place"),
    ],
)
def test_a_fault_with_many_consequences_is_found(broken: type[TensorEnv[Any]], rule: str, detail: str) -> None:
    findings = {finding.rule: finding for finding in check_env(broken, num_envs=64, steps=16)}
    assert not findings[rule].passed
    assert detail in findings[rule].detail


def test_every_rule_has_an_environment_that_breaks_it() -> None:
    covered = set().union(*(rules for _, rules, _ in CASES)) | {"final_obs"}
    assert covered == {*STRUCTURE, *RULES}


PROBES = [
    probes.ConstantReward,
    probes.ObservedReward,
    probes.DelayedReward,
    probes.ActionReward,
    probes.MatchObservation,
    probes.EndlessReward,
    probes.ContinuousTarget,
]


@pytest.mark.parametrize("env", [entry.id for entry in entries() if entry.id.startswith("palaestra/")])
def test_every_registered_environment_passes(env: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(solver, "is_installed", lambda: False)  # with which a perfect player takes minutes
    monkeypatch.setattr(figure_rules, "STEPS", 50)
    less = {"num_envs": 64, "steps": 8} if "Torque" in env else {"num_envs": 128}  # its steps are long
    findings = check_env(env, **less)
    assert all(finding.passed for finding in findings), table(findings)
    assert [finding.rule for finding in findings] == ["builds", *STRUCTURE, *RULES]


@pytest.mark.parametrize("env", [Walk, *PROBES])
def test_probes_and_the_healthy_environment_pass(env: type[TensorEnv[Any]]) -> None:
    findings = check_env(env(), num_envs=64, steps=16)
    assert all(finding.passed for finding in findings), table(findings)


def optimal_return(env: TensorEnv[Any]) -> float:
    """Mean return of first episodes under the expert, or under action 0 where there is none."""
    batch = TensorVectorEnv(env, 2000, device="cpu")
    batch.reset()
    for _ in range(8):
        expert = env.expert(batch.state) if env.has("expert") else torch.zeros(2000, dtype=torch.int64)
        *_, terminated, truncated, info = batch.step(expert)
        if (terminated | truncated).all():
            return float(info["episode"]["r"].mean())
    raise AssertionError("a probe did not end")


@pytest.mark.parametrize("probe", PROBES)
def test_probes_give_the_returns_they_state(probe: type[TensorEnv[Any]]) -> None:
    optimum = probe().reference.optimum
    assert optimum is not None
    error = 0.1 if probe is probes.ObservedReward else 1e-6  # ±1 at random: 4.5 standard errors
    assert abs(optimal_return(probe()) - optimum) < error


def test_probes_give_the_random_returns_they_state() -> None:
    for probe in (probes.ActionReward, probes.MatchObservation, probes.ContinuousTarget):
        batch = TensorVectorEnv(probe(), 20_000, device="cpu")
        batch.reset()
        reward = batch.step(random_actions(batch, 1))[1]
        figure = probe().reference.random
        assert figure is not None
        assert abs(reward.mean().item() - figure) < 4.5 * reward.std().item() / 20_000**0.5


class Dials(Walk):
    """Any discrete and continuous action space gets actions of the right shape, dtype and range."""

    def __init__(self, action_space: Any) -> None:
        super().__init__()
        self.action_space = action_space


@pytest.mark.parametrize(
    "space",
    [
        Discrete(3, start=-1),
        MultiDiscrete([2, 5]),
        MultiDiscrete([2, 5], start=[1, -3]),
        Box(-2.0, 3.0, (2, 2)),
        Box(-np.inf, np.inf, (3,)),
    ],
)
def test_random_actions_lie_in_the_space_and_reach_its_ends(space: Any) -> None:
    actions = random_actions(TensorVectorEnv(Dials(space), 500, device="cpu"), 1)
    assert all(space.contains(row) for row in actions.to(torch.from_numpy(np.empty(0, space.dtype)).dtype).numpy())
    assert len(actions.flatten(1).unique(dim=0) if actions.dim() > 1 else actions.unique()) >= 3


def test_names_that_cannot_be_checked_are_refused() -> None:
    with pytest.raises(UnknownEnvError, match="did you mean 'snake'"):
        check_env("snaky")
    with pytest.raises(ValueError, match="num_envs must be at least 8, got 2"):
        check_env("snake", num_envs=2)


def test_keyword_arguments_reach_the_environment() -> None:
    (finding,) = check_env("snake-small", size=5)
    assert finding.rule == "builds"
    assert not finding.passed
    assert finding.detail == "ValueError: size must be an even number from 4 to 180, got 5"


def test_table_has_a_line_for_each_rule() -> None:
    lines = table(check_env(NanAtStepSeven, num_envs=64, steps=16)).splitlines()
    heads = [line.split()[0] for line in lines if not line.startswith(" ")]
    assert len(heads) == 1 + len(STRUCTURE) + len(RULES)
    assert heads.count("FAIL") == 1
    assert next(line for line in lines if line.startswith("FAIL")).split()[1:3] == ["finite", "numbers"]
