"""The check for NaN that waits on the device until the host looks."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from palaestra.agents.episode_stats import EpisodeLog
from palaestra.agents.finite_check import Field, FiniteCheck, one_step, raise_non_finite
from palaestra.envs import EnvError

ENVIRONMENTS = torch.tensor([10, 11, 12])
GOOD = torch.zeros(3)


def check(*steps: tuple[Any, Any]) -> FiniteCheck:
    """After steps 5, 6, … with the given observations and rewards."""
    found = FiniteCheck(3, torch.device("cpu"))
    for step, (obs, rewards) in enumerate(steps, 5):
        found.add("observation", step, obs)
        found.add("reward", step, rewards)
    return found


def is_finite(found: FiniteCheck) -> bool:
    assert found.result().shape == (1,)
    assert found.result().dtype == torch.float32
    return bool(found.result().isfinite())


def spoiled(shape: tuple[int, ...], place: tuple[int, ...], value: float) -> torch.Tensor:
    values = torch.zeros(shape)
    values[place] = value
    return values


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("shape", [(3,), (3, 4), (3, 2, 2)])
def test_it_names_field_environment_and_step(bad: float, shape: tuple[int, ...]) -> None:
    good, spoilt = torch.ones(shape), spoiled(shape, (1,) * len(shape), bad)
    found = check((good, GOOD), (spoilt, GOOD), (good, GOOD))
    assert not is_finite(found)
    place = f" at {[1] * (len(shape) - 1)}" if len(shape) > 1 else ""
    with pytest.raises(EnvError) as caught:
        found.raise_error(ENVIRONMENTS, EpisodeLog())
    assert str(caught.value) == f"observation is not finite in environment 11 at step 6 of the run: {bad}{place}"
    found = check((good, GOOD), (good, GOOD), (good, spoiled((3,), (2,), bad)))
    assert not is_finite(found)
    with pytest.raises(EnvError) as caught:
        found.raise_error(ENVIRONMENTS, EpisodeLog())
    assert str(caught.value) == f"reward is not finite in environment 12 at step 7 of the run: {bad}"


def test_the_first_place_counts() -> None:
    """Reward of environment 2 at step 5; later, and again, others and the same."""
    bad = float("nan")
    steps = [(torch.ones(3, 2), spoiled((3,), (2,), bad)), (spoiled((3, 2), (0, 0), bad), spoiled((3,), (2,), bad))]
    with pytest.raises(EnvError, match="reward is not finite in environment 12 at step 5"):
        check(*steps).raise_error(ENVIRONMENTS, EpisodeLog())


def test_infinities_of_both_signs_do_not_cancel() -> None:
    assert not is_finite(check((torch.tensor([[1.0, 1.0], [torch.inf, -torch.inf], [0.0, 0.0]]), GOOD)))


def test_large_numbers_and_negative_zeros_pass() -> None:
    """Their sum would be infinite."""
    huge = torch.full((3, 1000), torch.finfo(torch.float32).max)
    assert is_finite(check((huge, huge[:, 0]), (-huge, -huge[:, 0]), (-0.0 * huge, -GOOD)))
    assert is_finite(check((huge.double() * 1e200, GOOD), (torch.full((3, 2), 65504.0).half(), GOOD)))


def test_integers_pass() -> None:
    assert is_finite(check((torch.full((3, 4), 255, dtype=torch.uint8), GOOD), (torch.arange(3), GOOD)))


@pytest.mark.parametrize("key", ["picture", "vector"])
def test_every_part_of_a_dictionary_is_looked_at(key: str) -> None:
    parts = {"picture": torch.zeros(3, 2, 2), "vector": torch.zeros(3, 1), "bytes": torch.zeros(3, 2).byte()}
    assert is_finite(check((parts, GOOD)))
    parts[key].view(3, -1)[1, -1] = torch.nan
    found = check((parts, GOOD))
    assert not is_finite(found)
    label = rf"^observation\['{key}'\] is not finite in environment 11 at step 5 of the run: nan"
    with pytest.raises(EnvError, match=label):
        found.raise_error(ENVIRONMENTS, EpisodeLog())


def test_only_the_given_rows_are_looked_at() -> None:
    found, values = FiniteCheck(3, torch.device("cpu")), spoiled((3, 2), (1, 1), float("nan"))
    found.add("observation", 5, values, torch.tensor([True, False, True]))
    assert is_finite(found)
    found.add("observation", 6, values, torch.tensor([False, True, False]))
    found.add("observation", 7, values, torch.tensor([False, True, False]))
    assert not is_finite(found)
    with pytest.raises(EnvError, match="observation is not finite in environment 11 at step 6"):
        found.raise_error(ENVIRONMENTS, EpisodeLog())


# ------------------------------------------------------------------------------------------- a whole rollout


def complaint(*fields: Field) -> str | None:
    try:
        raise_non_finite(fields, ENVIRONMENTS, EpisodeLog())
    except EnvError as error:
        return str(error)
    return None


def test_the_earliest_number_of_a_rollout_is_named() -> None:
    """Rewards of step t come after the observations of step t and before those of step t + 1."""
    nan, inf = float("nan"), float("inf")
    good: Field = ("observation", 20, torch.zeros(4, 3, 2), None)
    assert complaint(good, ("reward", 20, torch.zeros(4, 3), None)) is None
    rewards: Field = ("reward", 20, spoiled((4, 3), (1, 2), -inf), None)
    late: Field = ("observation", 20, spoiled((4, 3, 2), (2, 0, 1), nan), None)
    assert complaint(late, rewards) == "reward is not finite in environment 12 at step 21 of the run: -inf"
    soon: Field = ("observation", 20, spoiled((4, 3, 2), (1, 0, 1), nan), None)
    assert complaint(soon, rewards) == "observation is not finite in environment 10 at step 21 of the run: nan at [1]"
    assert complaint(late, one_step("last observation", 22, spoiled((1, 2), (0, 0), inf), torch.tensor([2]))) == (
        "observation is not finite in environment 10 at step 22 of the run: nan at [1]"
    )
    cut = one_step(
        "last observation", 22, {"a": torch.zeros(2, 1), "b": spoiled((2, 9), (1, 7), inf)}, torch.tensor([0, 2])
    )
    text = "last observation['b'] is not finite in environment 12 at step 22 of the run: inf at [7]"
    assert complaint(good, cut) == text
