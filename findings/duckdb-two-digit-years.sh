#!/usr/bin/env bash
# DuckDB reads a month of days written 01/03/24 to 31/03/24 as 31 years: 24 March 2001 to 24 March 2031. Without the
# leading zero, 1/3/24, the same days are right.
#
# One would guess that a date with a year of two digits is taken for day/month/year or month/day/year, as those with four
# are (by the numbers above 12), or left a text. read_csv tries year-month-day with two digits too, for dashes, slashes
# and dots alike, and keeps it wherever all rows are possible: a month of dd/mm/yy always is, for every day is a year of
# this century. Sales by day become sales by year, in the right order, and nothing warns. American dates of March 2024 are
# read rightly if the file goes beyond the 12th, and as 24 January 2003 to 24 December 2003 if it ends there.
#
# Cure: read_csv(..., dateformat='%d/%m/%y'), or years of four digits.
#
# Seen with Python 3.11.7, duckdb 2.0.1, Linux x86_64, on 2026-11-30. Fails if any of it changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
PATH="$folder/venv/bin:$PATH"
export PIP_DISABLE_PIP_VERSION_CHECK=1
pip install -q duckdb==2.0.1

cat > "$folder/days.py" <<'PY'
import sys
from datetime import date

import duckdb

FILE = sys.argv[1]


def told(written, days=31, options=""):
    march = [date(2024, 3, day) for day in range(1, days + 1)]
    with open(FILE, "w") as file:
        print("day,units", *(f"{written(day)},{day.day}" for day in march), sep="\n", file=file)
    read = [row[0] for row in duckdb.sql(f"select day from read_csv('{FILE}'{options})").fetchall()]
    return f"{read[0]} to {read[-1]} ({'right' if read == march else 'wrong'})"


for sign in "/-.":
    print(f"01{sign}03{sign}24 to 31{sign}03{sign}24:", told(lambda day: day.strftime(f"%d{sign}%m{sign}%y")))
print("01/03/2024 to 31/03/2024:", told(lambda day: day.strftime("%d/%m/%Y")))
print("1/3/24 to 31/3/24:", told(lambda day: f"{day.day}/{day.month}/24"))
print("03/01/24 to 03/31/24:", told(lambda day: day.strftime("%m/%d/%y")))
print("03/01/24 to 03/12/24:", told(lambda day: day.strftime("%m/%d/%y"), 12))
print("with dateformat:", told(lambda day: day.strftime("%d/%m/%y"), options=", dateformat='%d/%m/%y'"))
PY
seen=$(python "$folder/days.py" "$folder/sales.csv")
echo "$(python -c 'import platform, duckdb; print("Python", platform.python_version(), "duckdb", duckdb.__version__)')"
echo "$seen"
expected="01/03/24 to 31/03/24: 2001-03-24 to 2031-03-24 (wrong)
01-03-24 to 31-03-24: 2001-03-24 to 2031-03-24 (wrong)
01.03.24 to 31.03.24: 2001-03-24 to 2031-03-24 (wrong)
01/03/2024 to 31/03/2024: 2024-03-01 to 2024-03-31 (right)
1/3/24 to 31/3/24: 2024-03-01 to 2024-03-31 (right)
03/01/24 to 03/31/24: 2024-03-01 to 2024-03-31 (right)
03/01/24 to 03/12/24: 2003-01-24 to 2003-12-24 (wrong)
with dateformat: 2024-03-01 to 2024-03-31 (right)"
[[ $seen == "$expected" ]] || { echo "CHANGED" >&2; exit 1; }
