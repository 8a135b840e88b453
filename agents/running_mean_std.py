"""Running mean and variance, merged batch by batch.

Source: Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances", 1982.
"""

from __future__ import annotations

from torch import Tensor

from palaestra.agents.distributed.process_group import process_group

Moments = tuple[Tensor, Tensor, Tensor]  # mean, variance (both float64 […]), count (float64 [])


def merged(moments: Moments, values: Tensor) -> Moments:
    """The moments after taking in ``values`` float64 [B, …], and those of the other processes."""
    number = values.shape[0]
    for batch_mean, batch_variance in process_group().gather(values.mean(0), values.var(0, correction=0)):
        mean, variance, count = moments
        total = count + number
        change = batch_mean - mean
        spread = variance * count + batch_variance * number + change.square() * (count * number / total)
        moments = mean + change * (number / total), spread / total, total
    return moments
