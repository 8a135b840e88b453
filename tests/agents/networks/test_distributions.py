"""Action distributions: the same numbers as Stable-Baselines3's, and samples that follow them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from stable_baselines3.common.distributions import (
    BernoulliDistribution,
    CategoricalDistribution,
    DiagGaussianDistribution,
    MultiCategoricalDistribution,
    StateDependentNoiseDistribution,
)
from torch import Tensor

from palaestra.agents.networks.distributions import (
    ActionHead,
    Bernoulli,
    Categorical,
    DiagGaussian,
    MultiCategorical,
    action_head,
)
from palaestra.envs.core.rng import Rng, env_keys

LOG_STD = torch.tensor([-0.7, 0.0, 1.1])
# our head, SB3's distribution for given parameters, and the number of parameters
Case = tuple[ActionHead, Callable[[Tensor], Any], int]
CASES: dict[str, Case] = {
    "categorical": (Categorical(), lambda p: CategoricalDistribution(5).proba_distribution(p), 5),
    "wide categorical": (Categorical(), lambda p: CategoricalDistribution(20).proba_distribution(p), 20),
    "multi": (
        MultiCategorical([2, 3, 4]),
        lambda p: MultiCategoricalDistribution([2, 3, 4]).proba_distribution(p),
        9,
    ),
    "bernoulli": (Bernoulli(4), lambda p: BernoulliDistribution(4).proba_distribution(p), 4),
    "gaussian": (DiagGaussian(LOG_STD), lambda p: DiagGaussianDistribution(3).proba_distribution(p, LOG_STD), 3),
}


def rng(rows: int, seed: int = 0, first: int = 0, step: int = 0) -> Rng:
    return Rng(env_keys(seed, torch.arange(first, first + rows), 1), step)


@pytest.mark.parametrize("name", CASES)
@given(seed=st.integers(0, 2**31), scale=st.floats(0.01, 20.0))
def test_log_prob_and_entropy_equal_sb3(name: str, seed: int, scale: float) -> None:
    head, reference, width = CASES[name]
    params = torch.randn(64, width, generator=torch.Generator().manual_seed(seed)) * scale
    theirs = reference(params)
    actions, sampled = head.sample(params, head.noise(rng(64, seed)))
    log_prob, entropy = head.log_prob_entropy(params, actions)
    torch.testing.assert_close(log_prob, theirs.log_prob(actions.float() if name == "bernoulli" else actions))
    torch.testing.assert_close(entropy, theirs.entropy(), rtol=1e-5, atol=1e-5)
    # of the Gaussian, sampling knows the noise itself; elsewhere it has to be computed back
    torch.testing.assert_close(sampled, log_prob, rtol=1e-5, atol=1e-5 * scale if name == "gaussian" else 1e-6)


@pytest.mark.parametrize("name", CASES)
def test_gradients_equal_sb3(name: str) -> None:
    """In float64: of a loss with a weight for every log-probability, and one for all entropies."""
    head, reference, width = CASES[name]
    params = torch.linspace(-2, 2, 8 * width, dtype=torch.float64).view(8, width).requires_grad_()
    weights = torch.linspace(-1, 2, 8, dtype=torch.float64)
    actions, _ = head.sample(params.detach(), head.noise(rng(8)))
    for grad_entropy in (0.3, 0.0):
        with torch.no_grad():
            head.log_prob_entropy(params, actions)
            ours = head.backward(weights, grad_entropy)
        theirs = reference(params)
        log_prob = theirs.log_prob(actions.double() if name == "bernoulli" else actions)
        (expected,) = torch.autograd.grad((weights * log_prob).sum() + grad_entropy * theirs.entropy().sum(), params)
        torch.testing.assert_close(ours, expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("kept", [False, True])
def test_the_gradient_of_the_deviation_equals_sb3(kept: bool) -> None:
    log_std = torch.nn.Parameter(LOG_STD.double())
    params, actions = torch.randn(2, 50, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).unbind()
    weights = torch.linspace(-1, 2, 50, dtype=torch.float64)
    theirs = DiagGaussianDistribution(3).proba_distribution(params, log_std)
    loss = (weights * theirs.log_prob(actions)).sum() + 0.3 * theirs.entropy().sum()
    (expected,) = torch.autograd.grad(loss, log_std)
    memory = log_std.grad = torch.full_like(log_std, 7.0) if kept else None
    head = DiagGaussian(log_std)
    with torch.no_grad():
        head.log_prob_entropy(params, actions)
        head.backward(weights, 0.3)
    torch.testing.assert_close(log_std.grad, expected)
    assert memory is None or log_std.grad is memory


@pytest.mark.parametrize("name", CASES)
@given(row=st.integers(0, 99), before=st.integers(0, 20), after=st.integers(0, 20), step=st.integers(0, 10**6))
def test_a_row_is_sampled_alike_in_any_batch(name: str, row: int, before: int, after: int, step: int) -> None:
    head, _, width = CASES[name]
    params = torch.randn(100, width, generator=torch.Generator().manual_seed(3))
    whole, _ = head.sample(params, head.noise(rng(100, step=step)))
    first, last = max(0, row - before), min(100, row + after + 1)
    part, _ = head.sample(params[first:last], head.noise(rng(last - first, first=first, step=step)))
    if name == "bernoulli":  # torch.sigmoid gives other last bits in vectorised blocks: probabilities to 1e-7 only
        assert (part != whole[first:last]).float().mean() < 0.01
    else:
        assert torch.equal(part, whole[first:last])


def drawn(head: ActionHead, params: Tensor, numbers: Rng) -> Tensor:
    return head.sample(params, head.noise(numbers))[0]


def chi_square(observed: Tensor, probabilities: Tensor) -> float:
    """In standard deviations above its mean, for observed counts [K]."""
    expected = probabilities.double() * observed.sum()
    statistic = ((observed - expected).square() / expected).sum()
    freedom = len(observed) - 1
    return float((statistic - freedom) / math.sqrt(2 * freedom))


def test_categorical_frequencies() -> None:
    n = 200_000
    logits = torch.tensor([0.3, -2.0, 1.7, 0.0, -5.0])
    actions = drawn(Categorical(), logits.expand(n, 5), rng(n))
    assert chi_square(actions.bincount(minlength=5), logits.softmax(0)) < 4
    over_steps = torch.cat([drawn(Categorical(), logits.expand(100, 5), rng(100, step=t)) for t in range(2000)])
    assert chi_square(over_steps.bincount(minlength=5), logits.softmax(0)) < 4


def test_multi_categorical_frequencies_and_independence() -> None:
    n = 200_000
    parts = torch.tensor([0.2, -0.4]), torch.tensor([1.0, 0.0, -1.0])
    actions = drawn(MultiCategorical([2, 3]), torch.cat(parts).expand(n, 5), rng(n))
    joint = torch.outer(parts[0].softmax(0), parts[1].softmax(0)).flatten()
    assert chi_square((3 * actions[:, 0] + actions[:, 1]).bincount(minlength=6), joint) < 4


def test_bernoulli_frequencies_and_independence() -> None:
    n = 200_000
    logits = torch.tensor([0.7, -1.5, 0.0])
    actions = drawn(Bernoulli(3), logits.expand(n, 3), rng(n)).long()
    p = logits.sigmoid()
    joint = torch.stack([torch.stack([1 - q, q]) for q in p])
    table = torch.einsum("a,b,c->abc", *joint).flatten()
    assert chi_square((4 * actions[:, 0] + 2 * actions[:, 1] + actions[:, 2]).bincount(minlength=8), table) < 4


def test_gaussian_moments() -> None:
    n = 200_000
    mean = torch.tensor([3.0, -1.0, 0.0])
    z = ((drawn(DiagGaussian(LOG_STD), mean.expand(n, 3), rng(n)) - mean) / LOG_STD.exp()).double()
    error = 5 / math.sqrt(n)
    assert z.mean(0).abs().max() < error
    assert (z.square().mean(0) - 1).abs().max() < error * math.sqrt(2)
    assert z.pow(3).mean(0).abs().max() < error * math.sqrt(15)
    assert (z.pow(4).mean(0) - 3).abs().max() < error * math.sqrt(96)
    correlation = torch.corrcoef(z.T) - torch.eye(3)
    assert correlation.abs().max() < error


@pytest.mark.parametrize("impossible", [[0], [4], [1, 2], [0, 1, 3, 4]])
def test_actions_of_probability_zero_are_never_chosen(impossible: list[int]) -> None:
    logits = torch.zeros(5)
    logits[impossible] = -torch.inf
    actions = drawn(Categorical(), logits.expand(300_000, 5), rng(300_000))
    assert actions.bincount(minlength=5)[impossible].sum() == 0


class _Fixed(Rng):
    """Draws the same uniform number everywhere."""

    def __init__(self, value: float) -> None:
        super().__init__(torch.zeros(1, dtype=torch.int64), 0)
        self.value = value

    def uniform(self, *args: Any, **kwargs: Any) -> Tensor:
        return torch.full((20_000,), self.value)


@pytest.mark.parametrize("width", [2, 3, 5, 21, 300])
@pytest.mark.parametrize("value", [0.0, 1 - 2.0**-24])
def test_the_ends_of_the_uniform_interval_give_possible_actions(value: float, width: int) -> None:
    """The smallest and the largest draw, where a cumulative sum that is a little off one would be seen."""
    logits = 2 * torch.randn(20_000, width, generator=torch.Generator().manual_seed(width))
    logits[:, 0 if value == 0 else -1] = -torch.inf
    actions = drawn(Categorical(), logits, _Fixed(value))
    assert logits.softmax(1).gather(1, actions.unsqueeze(1)).min() > 0


def test_heads_for_sb3_distributions() -> None:
    assert isinstance(action_head(CategoricalDistribution(3), None), Categorical)
    assert isinstance(action_head(MultiCategoricalDistribution([2, 2]), None), MultiCategorical)
    assert isinstance(action_head(BernoulliDistribution(3), None), Bernoulli)
    assert isinstance(action_head(DiagGaussianDistribution(3), LOG_STD), DiagGaussian)
    assert action_head(StateDependentNoiseDistribution(3), LOG_STD) is None

    class Own(CategoricalDistribution):
        pass

    assert action_head(Own(3), None) is None
