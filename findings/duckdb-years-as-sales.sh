#!/usr/bin/env bash
# DuckDB adds the years of a table's head to its sales: of a file "item,2023,2024" the line of names is read as an item
# called "item" of which 2,023 were sold in the first year and 2,024 in the second.
#
# One would guess that the first line is taken for the head here, since all its fields differ and other readers take it.
# read_csv asks whether the first line could be a row like the others, and a text over texts and whole numbers over
# numbers could. Tables of sales by year or by week number, as spreadsheets and pivots export them, are of this kind. The
# columns are then column0, column1 and so on; a query by position, or one that turns the table (UNPIVOT), runs on and
# counts the years as sales. One name over numbers that is none itself ("total") is enough for it to be right.
#
# Cure: read_csv(..., header=true).
#
# Seen with Python 3.11.7, duckdb 2.0.1, polars 2.1.0, Linux x86_64, on 2026-12-01. Fails if any of it changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
PATH="$folder/venv/bin:$PATH"
export PIP_DISABLE_PIP_VERSION_CHECK=1
pip install -q duckdb==2.0.1 polars==2.1.0

cat > "$folder/heads.py" <<'PY'
import sys

import duckdb
import polars

FILE = sys.argv[1]
TABLES = {
    "sales by year": "item,2023,2024\nTea,50,60\nMilk,70,80\n",
    "sales by week": "item,1,2,3\nTea,50,60,55\nMilk,70,80,75\n",
    "takings by week": "item,1,2,3\nTea,50.25,60.00,55.50\nMilk,70.00,80.50,75.25\n",
    "with a total": "item,2023,2024,total\nTea,50,60,110\nMilk,70,80,150\n",
}
for name, text in TABLES.items():
    with open(FILE, "w") as file:
        file.write(text)
    read = duckdb.sql(f"SELECT * FROM read_csv('{FILE}')")
    told = duckdb.sql(f"SELECT * FROM read_csv('{FILE}', header=true)")
    other = polars.read_csv(FILE)
    sums = [sum(row[1] for row in rows) for rows in (read.fetchall(), told.fetchall(), other.rows())]
    print(f"{name}: columns {' '.join(read.columns)}, first sum {sums[0]}, with header=true {sums[1]}, Polars {sums[2]}")
with open(FILE, "w") as file:
    file.write(TABLES["sales by year"])
print(duckdb.sql(f"UNPIVOT (FROM read_csv('{FILE}')) ON COLUMNS(* EXCLUDE column0) INTO NAME year VALUE sold").fetchall())
PY
python -c 'import platform, duckdb; print("Python", platform.python_version(), "duckdb", duckdb.__version__)'
seen=$(python "$folder/heads.py" "$folder/sales.csv")
echo "$seen"
expected="sales by year: columns column0 column1 column2, first sum 2143, with header=true 120, Polars 120
sales by week: columns column0 column1 column2 column3, first sum 121, with header=true 120, Polars 120
takings by week: columns column0 column1 column2 column3, first sum 121.25, with header=true 120.25, Polars 120.25
with a total: columns item 2023 2024 total, first sum 120, with header=true 120, Polars 120
[('item', 'column1', 2023), ('item', 'column2', 2024), ('Tea', 'column1', 50), ('Tea', 'column2', 60), ('Milk', 'column1', 70), ('Milk', 'column2', 80)]"
[[ $seen == "$expected" ]] || { echo "CHANGED" >&2; exit 1; }
