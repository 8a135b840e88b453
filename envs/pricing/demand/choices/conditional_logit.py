"""The conditional logit: which alternative a buyer took, explained by what the alternatives had.

Source: McFadden, "Conditional logit analysis of qualitative choice behavior", 1974.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from palaestra.envs.core import Array
from palaestra.envs.pricing.demand.estimation import Estimate, Likelihood, estimate


def conditional_logit(
    features: Any, occasion: Any, chosen: Any, names: Sequence[str] = (), *, outside: bool = False
) -> Estimate:
    """P(i) = exp(x_i · β) / Σ_j exp(x_j · β) over the alternatives j of an occasion.

    Args:
        features: x, float [rows, K], a row for each alternative of each occasion, in any order.
        occasion: which occasion a row belongs to, [rows], anything that can be sorted.
        chosen: True if the alternative was taken, bool [rows]: once per occasion, or with ``outside`` at most once.
        names: of the features.
        outside: True if a buyer could also take nothing, with the utility 0.

    Raises:
        ValueError: if an occasion has no choice or several.
        EstimationError: if the features are collinear or predict choices perfectly.
    """
    likelihood, occasions = logit_likelihood(features, occasion, chosen, outside=outside)
    return estimate(likelihood, np.zeros(np.shape(features)[1]), names, occasions)


def logit_likelihood(features: Any, occasion: Any, chosen: Any, *, outside: bool = False) -> tuple[Likelihood, int]:
    """The log-likelihood of :func:`conditional_logit`, and the number of occasions."""
    _, group = np.unique(occasion, return_inverse=True)
    order = np.argsort(group, kind="stable")
    x, group, taken = np.asarray(features, np.float64)[order], group[order], np.asarray(chosen, bool)[order]
    starts = np.flatnonzero(np.diff(group, prepend=-1))
    choices = np.add.reduceat(taken.astype(np.int64), starts)
    if choices.max() > 1 or (choices.min() < 1 and not outside):
        raise ValueError(f"each occasion needs one choice, got {choices.min()} … {choices.max()}")

    def likelihood(beta: Array) -> tuple[float, Array, Array]:
        utility = x @ beta
        largest = np.maximum.reduceat(utility, starts)
        if outside:
            largest = np.maximum(largest, 0.0)
        weight = np.exp(utility - largest[group])
        total = np.add.reduceat(weight, starts) + (np.exp(-largest) if outside else 0.0)
        share = weight / total[group]
        mean = np.add.reduceat(share[:, None] * x, starts)  # [occasions, K]
        value = float(utility[taken].sum() - (largest + np.log(total)).sum())
        return value, x.T @ (taken - share), mean.T @ mean - x.T @ (share[:, None] * x)

    return likelihood, len(starts)
