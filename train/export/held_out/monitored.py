"""The numbers of a policy's inputs and actions that are watched in use, and how each of them was distributed.

1. Every number of an input and of the action is watched by itself, up to :data:`MOST_NUMBERS` of one tensor. Of larger
   ones (images, boards) the mean and the standard deviation of each observation are, of a mask the share that it
   allows.
2. A distribution is kept as its function at up to :data:`MOST_CUTS` cuts, which lie halfway between two neighbours of
   the sample: rounding moves no observation over a cut. A number with few values has a cell for each of them, and one
   below and above all.
3. States of one episode resemble each other, so that ``n`` of them tell less than ``n`` that are drawn alone. Each
   distribution keeps by how much, with the episodes as the clusters of a sample, or their halves, or their quarters (a
   log may hold parts), whichever says the most:

   * ``scale`` and ``degrees``: Pearson's statistic of its bins is ``scale`` times chi-squared with so many degrees of
     freedom (Rao and Scott, "The analysis of categorical data from complex sample surveys", Journal of the American
     Statistical Association 1981, with the second-order correction);
   * ``inflation``: ``n / inflation`` independent states have the largest variance of its distribution function.

   None of them is taken as less than of independent states.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from palaestra.envs.core.reference import Array
from palaestra.train.export.observation_reader import bounds_of, elements_of

MOST_NUMBERS = 256  # of one tensor that are watched one by one
MOST_CUTS = 39
BINS = 10  # of the population stability index, as is usual
MOST_CHOICES = 20  # actions that have a bin each
PROBABILITIES = (0.0, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0)


@dataclass(frozen=True)
class WatchedNumber:
    """One number that is watched.

    Attributes:
        part: "observation" or "action".
        name: for people, and among all others.
        unit, scale, offset: x stands for ``offset + scale * x`` in the unit.
        low, high: the bounds of x by the contract.
        choices: what each action is called, from ``low`` on; none of other numbers.
        whole: whether each value has a bin of its own: actions out of a few.
    """

    part: str
    name: str
    unit: str = ""
    scale: float = 1.0
    offset: float = 0.0
    low: float = -math.inf
    high: float = math.inf
    choices: tuple[str, ...] = ()
    whole: bool = False

    def quantity(self, x: Any) -> Any:
        return self.offset + self.scale * x


@dataclass(frozen=True)
class Distribution:
    """How a number was distributed over states; see the module.

    Attributes:
        name: of the number.
        cuts: ascending [K], K at least 1.
        below: share of the states below each cut [K].
        quantiles: at :data:`PROBABILITIES`.
        mean, deviation: of the states.
        scale, degrees, inflation: what dependence within episodes does.
    """

    name: str
    cuts: tuple[float, ...]
    below: tuple[float, ...]
    quantiles: tuple[float, ...]
    mean: float
    deviation: float
    scale: float = 1.0
    degrees: float = 1.0
    inflation: float = 1.0

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def shares(self) -> Array:
        """Of the cells between the cuts, float64 [K + 1]."""
        return np.diff(np.array([0.0, *self.below, 1.0]))

    def bins(self, watched: WatchedNumber) -> Array:
        """The bin of each cell, int64 [K + 1]."""
        return bins_of(self.shares, watched.whole)


def watched_of(contract: dict[str, Any]) -> list[WatchedNumber]:
    """All numbers of a contract's inputs and of its action, in the order of :func:`numbers_of`."""
    inputs: list[dict[str, Any]] = contract["inputs"]
    found: list[WatchedNumber] = []
    for end in inputs:
        found += _watched(end, "observation", len(inputs) > 1)
    return found + _watched(contract["outputs"][0], "action", False)


def _watched(end: dict[str, Any], part: str, several: bool) -> list[WatchedNumber]:
    name, count = end["name"], math.prod(end["shape"])
    if end.get("kind") == "mask":
        return [WatchedNumber(part, f"{name} allowed", low=0.0, high=1.0)]
    low, high = (np.broadcast_to(bound, end["shape"]).ravel() for bound in bounds_of(end))
    if count > MOST_NUMBERS:
        least, most = float(low.min()), float(high.max())
        mean = WatchedNumber(part, f"{name} mean", low=least, high=most)
        return [mean, WatchedNumber(part, f"{name} deviation", low=0.0, high=most - least)]
    elements = elements_of(end)
    choices = tuple(end.get("choices", ()))
    names = [e.name for e in elements] or ([name] if not end["shape"] else [f"{name}_{i}" for i in range(count)])
    if several and elements:
        names = [f"{name}.{one}" for one in names]
    few = (part == "action" and np.dtype(end["dtype"]).kind in "iu") & (high - low > 0) & (high - low < MOST_CHOICES)
    found = []
    for i, one in enumerate(names):
        unit, scale, offset = (elements[i].unit, elements[i].scale, elements[i].offset) if elements else ("", 1.0, 0.0)
        whole = bool(np.broadcast_to(few, (count,))[i])
        found.append(WatchedNumber(part, one, unit, scale, offset, float(low[i]), float(high[i]), choices, whole))
    return found


def numbers_of(ends: list[dict[str, Any]], arrays: dict[str, Array]) -> Array:
    """The numbers of a batch, float64 [B, numbers], in the order of :func:`watched_of`.

    Args:
        ends: inputs, or the action.
        arrays: [B, *shape] of each, by name.
    """
    columns = []
    for end in ends:
        rows = arrays[end["name"]]
        rows = rows.reshape(len(rows), -1)
        if end.get("kind") == "mask":
            columns.append(rows.mean(1, keepdims=True, dtype=np.float64))
        elif rows.shape[1] > MOST_NUMBERS:
            columns += [rows.mean(1, keepdims=True, dtype=np.float64), rows.std(1, keepdims=True, dtype=np.float64)]
        else:
            columns.append(rows.astype(np.float64))
    found: Array = np.concatenate(columns, 1)
    return found


def distribution_of(watched: WatchedNumber, values: Array, clusters: list[Array]) -> Distribution:
    """The distribution of a number over states.

    Args:
        watched: the number.
        values: of it, float64 [S].
        clusters: that each state belongs to, by each way to divide them, int64 [S] from 0 on.
    """
    cuts = _cuts(watched, values)
    cells = np.searchsorted(cuts, values, side="right")
    shares = np.bincount(cells, minlength=len(cuts) + 1) / len(values)
    below, bins = shares.cumsum()[:-1], bins_of(shares, watched.whole)
    scale, degrees, inflation = 1.0, float(max(1, bins.max())), 1.0
    for cluster in clusters:
        counts = np.zeros((int(cluster.max()) + 1, len(cuts) + 1))
        np.add.at(counts, (cluster, cells), 1.0)
        scale, degrees = max((scale, degrees), _dependence(counts, bins))
        inflation = max(inflation, _inflation(counts))
    quantiles = np.quantile(values, PROBABILITIES).tolist()
    return Distribution(
        name=watched.name,
        cuts=tuple(cuts.tolist()),
        below=tuple(below.round(9).tolist()),
        quantiles=tuple(quantiles),
        mean=float(values.mean()),
        deviation=float(values.std()),
        scale=scale,
        degrees=degrees,
        inflation=inflation,
    )


def _cuts(watched: WatchedNumber, values: Array) -> Array:
    """Where the cells of a number meet, ascending float64 [K]."""
    if watched.whole and watched.high > watched.low:
        return np.arange(watched.low, watched.high) + 0.5
    different = np.unique(values)
    between: Array = 0.5 * (different[:-1] + different[1:])
    if len(different) < MOST_CUTS:  # what is beyond the sample is in cells of its own
        nearest = max(1e-6, 1e-4 * abs(float(different[0])))
        low, high = (between[0] - different[0], different[-1] - between[-1]) if len(between) else (nearest, nearest)
        return np.array([different[0] - low, *between, different[-1] + high])
    if len(between) > MOST_CUTS:
        places = np.searchsorted(different, np.quantile(values, np.arange(1, MOST_CUTS + 1) / (MOST_CUTS + 1)))
        between = between[np.unique(places.clip(max=len(between) - 1))]
    return between


def parts_of(episode: Array, parts: int) -> Array:
    """The part of its episode that each state is in, int64 [S]; all parts of an episode are as long.

    Args:
        episode: of each state, int64 [S] from 0 on, the states of an episode in their order.
        parts: of an episode.
    """
    order = np.argsort(episode, kind="stable")
    lengths = np.bincount(episode)
    position = np.empty(len(episode), np.int64)
    position[order] = np.arange(len(episode)) - np.repeat(lengths.cumsum() - lengths, lengths)
    found: Array = episode * parts + position * parts // lengths[episode]
    return np.unique(found, return_inverse=True)[1]


def bins_of(shares: Array, whole: bool) -> Array:
    """The bin of each cell, int64 [K + 1]: cells are joined from the lowest on until they hold a tenth of all."""
    if whole:
        return np.arange(len(shares))
    found, bin_, filled = np.zeros(len(shares), np.int64), 0, 0.0
    for cell, share in enumerate(shares):
        found[cell], filled = bin_, filled + float(share)
        if filled >= 1.0 / BINS - 1e-9 and shares[cell + 1 :].sum() > 0.5 / BINS:
            bin_, filled = bin_ + 1, 0.0
    return found


def _covariance(counts: Array) -> tuple[Array, Array]:
    """The shares [K] of cells, and the covariance [K, K] of their estimates with episodes as clusters, times S."""
    lengths, states, episodes = counts.sum(1), counts.sum(), len(counts)
    shares = counts.sum(0) / states
    apart = counts - lengths[:, None] * shares
    return shares, apart.T @ apart * episodes / max(1, episodes - 1) / states


def _dependence(counts: Array, bins: Array) -> tuple[float, float]:
    """``scale`` and ``degrees`` of the statistic of the bins."""
    joined = np.zeros((len(counts), int(bins.max()) + 1))
    np.add.at(joined.T, bins, counts.T)
    shares, covariance = _covariance(joined)
    seen = shares > 0.0
    rooted = np.sqrt(np.where(seen, shares, 1.0))
    effects = (covariance / rooted / rooted[:, None])[np.ix_(seen, seen)]
    total, squares, free = float(np.trace(effects)), float((effects**2).sum()), int(seen.sum()) - 1
    if free < 1 or total <= free or squares <= 0.0:
        return 1.0, float(max(1, free))
    return squares / total, total**2 / squares


def _inflation(counts: Array) -> float:
    """The variance of the distribution function where it is largest, over that of independent states at the median."""
    _, covariance = _covariance(counts)
    ones = np.tri(len(counts[0]))[:-1]  # cells below each cut
    variances = np.einsum("kc,cd,kd->k", ones, covariance, ones)
    return float(4.0 * variances.max(initial=0.0))
