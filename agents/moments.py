"""Running mean and variance, merged batch by batch.

Source: Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances", 1982.
"""

from __future__ import annotations

from torch import Tensor

Moments = tuple[Tensor, Tensor, Tensor]  # mean, variance (both float64 […]), count (float64 [])


def merged(moments: Moments, values: Tensor) -> Moments:
    """The moments after taking in ``values`` float64 [B, …]."""
    mean, variance, count = moments
    number = values.shape[0]
    total = count + number
    change = values.mean(0) - mean
    spread = variance * count + values.var(0, correction=0) * number + change.square() * (count * number / total)
    return mean + change * (number / total), spread / total, total
