#!/usr/bin/env bash
# Polars divides decimals into their own scale: 3 sales of 7 visits are a rate of 0 and 4 of 7 a rate of 1, where the counts
# came as DECIMAL(38, 0), which is how warehouses such as Oracle and Snowflake hold whole numbers.
#
# One would guess that / in Polars is true division, as it is for integers (Int64 / Int64 is Float64). The quotient of two
# decimal columns, and of a decimal and an integer, keeps the larger of their scales and is rounded to it: money over
# units is rounded to cents (1.99 / 3 = 0.66), a count over a count to whole numbers. Products keep the scale too
# (0.05 * 0.07 = 0.00). Means and medians are floats, and one float in the expression makes all of it float, so the same
# line is right in one file and wrong in the next, whose Parquet types differ. DuckDB and Python's decimal give 0.4286.
#
# Cure: cast decimals to Float64 after reading. palaestra does.
#
# Seen with Python 3.11.7, polars 2.1.0, duckdb 2.0.1, Linux x86_64, on 2026-11-30. Fails if any of it changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
PATH="$folder/venv/bin:$PATH"
export PIP_DISABLE_PIP_VERSION_CHECK=1
pip install -q polars==2.1.0 duckdb==2.0.1

cat > "$folder/rates.py" <<'PY'
import sys
from decimal import Decimal

import duckdb
import polars

FILE = sys.argv[1]
rows = "(values (3, 7, 1.99, 3, 0.05, 0.07), (4, 7, 2.00, 3, 0.15, 0.25)) as t(sales, visits, money, units, share, part)"
types = {"sales": "decimal(38, 0)", "visits": "decimal(38, 0)", "money": "decimal(10, 2)", "units": "bigint"}
types |= {"share": "decimal(10, 2)", "part": "decimal(10, 2)"}
columns = ", ".join(f"{name}::{kind} as {name}" for name, kind in types.items())
duckdb.sql(f"copy (select {columns} from {rows}) to '{FILE}' (format parquet)")

frame = polars.read_parquet(FILE)
column = polars.col
for label, quotient, sql in (
    ("sales / visits", column("sales") / column("visits"), "sales / visits"),
    ("money / units", column("money") / column("units"), "money / units"),
    ("share * part", column("share") * column("part"), "share * part"),
):
    told = frame.select(quotient).to_series()
    other = [float(row[0]) for row in duckdb.sql(f"select {sql} from '{FILE}'").fetchall()]
    print(f"{label}: polars {' '.join(map(str, told))}, duckdb {' '.join(f'{each:.4f}' for each in other)}")
as_integers = frame.select(column("sales").cast(polars.Int64) / column("visits").cast(polars.Int64)).to_series()
print("sales / visits as Int64: polars", *(f"{each:.4f}" for each in as_integers))
print("sales / visits in Python:", *(f"{Decimal(sales) / Decimal(7):.4f}" for sales in (3, 4)))
PY
seen=$(python "$folder/rates.py" "$folder/sales.parquet")
echo "$(python -c 'import platform, polars; print("Python", platform.python_version(), "polars", polars.__version__)')"
echo "$seen"
expected="sales / visits: polars 0 1, duckdb 0.4286 0.5714
money / units: polars 0.66 0.67, duckdb 0.6633 0.6667
share * part: polars 0.00 0.04, duckdb 0.0035 0.0375
sales / visits as Int64: polars 0.4286 0.5714
sales / visits in Python: 0.4286 0.5714"
[[ $seen == "$expected" ]] || { echo "CHANGED" >&2; exit 1; }
