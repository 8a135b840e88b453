"""Files as spreadsheets, tills and shops export them: each read to known numbers, or refused with the way out."""

from __future__ import annotations

import csv
import datetime
import gzip
import io
import os
import shlex
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palaestra.envs.pricing.sales.calendar_dates import read_days
from palaestra.envs.pricing.sales.number_cells import NumberColumn, read_number
from palaestra.envs.pricing.sales.sales_file import read_sales
from palaestra.envs.pricing.sales.sales_table import ReadOptions, SalesError, SalesTable
from palaestra.envs.pricing.sales.text_cells import factorise
from palaestra.envs.pricing.sales.text_rows import Block
from palaestra.train import cli

DAYS = [datetime.date(2024, 3, d) for d in range(4, 10)]
PRICES, UNITS = [3.5, 4.0, 3.5, 4.25, 5.0, 3.5], [7, 5, 6, 5, 4, 8]
GERMAN = {"date": "Datum", "product": "Artikel", "price": "Preis", "units": "Menge"}


def read(path: Path, content: str | bytes, **options: Any) -> SalesTable:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_sales(path, ReadOptions(**options))


def refusal(path: Path, content: str | bytes, **options: Any) -> str:
    with pytest.raises(SalesError) as error:
        read(path, content, **options)
    assert "\n" not in str(error.value)
    return str(error.value).removeprefix(f"{path}: ")


def texts(table: SalesTable, name: str) -> list[str]:
    return [table.labels[name][int(code)] for code in table.columns[name]]


def is_the_week(table: SalesTable) -> None:
    assert table.columns["price"].tolist() == PRICES
    assert table.columns["units"].tolist() == UNITS
    assert texts(table, "date") == [day.isoformat() for day in DAYS]
    assert table.days is not None
    assert table.days.tolist() == [day.toordinal() for day in DAYS]
    assert set(texts(table, "product")) == {"Tee"}


def lines(header: str, row: str, end: str = "\n") -> str:
    rows = [
        row.format(d=day, p=price, c=f"{price:.2f}".replace(".", ","), u=units)
        for day, price, units in zip(DAYS, PRICES, UNITS, strict=True)
    ]
    return end.join([header, *rows]) + end


# ------------------------------------------------------------------------------------------------ forms of files

SEMICOLONS = lines("Datum;Artikel;Preis;Menge", "{d:%d.%m.%Y};Tee;{c} €;{u}")
FORMS: dict[str, tuple[str | bytes, dict[str, Any]]] = {
    "commas": (lines("date,product,price,units", "{d},Tee,{p},{u}"), {}),
    "semicolons, decimal commas, euros": (SEMICOLONS, {"columns": GERMAN}),
    "a line sep=;": ("sep=;\r\n" + SEMICOLONS.replace("\n", "\r\n"), {"columns": GERMAN}),
    "UTF-8 with its mark": (b"\xef\xbb\xbf" + SEMICOLONS.encode(), {"columns": GERMAN}),
    "UTF-16 with its mark": (SEMICOLONS.encode("utf-16"), {"columns": GERMAN}),
    "UTF-16 big-endian": (b"\xfe\xff" + SEMICOLONS.encode("utf-16-be"), {"columns": GERMAN}),
    "cp1252": (SEMICOLONS.encode("cp1252"), {"columns": GERMAN, "encoding": "cp1252"}),
    "tabs": (lines("date\tproduct\tprice\tunits", "{d:%m/%d/%Y}\tTee\t${p}\t{u}"), {"dates": "mdy"}),
    "bars": (lines("date|product|price|units", "{d:%Y%m%d}|Tee|{p}|{u}"), {}),
    "quotes": (lines('"date","product","price","units"', '"{d:%d %B %Y}","Tee","{c}","{u}"'), {}),
    "quotes from row 4 on": (lines("date,product,price,units", "{d},Tee,{p},{u}").replace("06,Tee", '06,"Tee"'), {}),
    "carriage returns": (lines("date,product,price,units", "{d},Tee,{p},{u}", "\r"), {}),
    "no newline at the end": (lines("date,product,price,units", "{d},Tee,{p},{u}").rstrip("\n"), {}),
    "blank rows": (lines("date;product;price;units", "{d};Tee;{p};{u}", "\n\n") + ";;;\n;;;\n", {}),
    "spaces": (lines("date , Product,PRICE, units", "{d}, Tee , {p} , {u}"), {}),
    "a title above": ("Sales of March\n\n" + lines("date;product;price;units", "{d};Tee;{p};{u}"), {"header_row": 3}),
    "delimiters at the ends": (lines("date;product;price;units", "{d};Tee;{p};{u};"), {}),
    "midnights": (lines("date,product,price,units", "{d} 00:00:00,Tee,{p},{u}"), {}),
    "currency codes": (lines("date;product;price;units", "{d};Tee;EUR {c};{u}"), {}),
    "gzip": (gzip.compress(lines("date,product,price,units", "{d},Tee,{p},{u}").encode()), {}),
}


@pytest.mark.parametrize("form", FORMS)
def test_one_week_in_many_forms(form: str, tmp_path: Path) -> None:
    content, options = FORMS[form]
    is_the_week(read(tmp_path / "sales.csv", content, **options))


def test_an_archive_of_one_file(tmp_path: Path) -> None:
    for names, works in ((["a.csv"], True), (["a.csv", "b.csv"], False)):
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            for name in names:
                archive.writestr(name, lines("date,product,price,units", "{d},Tee,{p},{u}"))
        if works:
            is_the_week(read(tmp_path / "sales.zip", packed.getvalue()))
        else:
            assert "2 files, not one" in refusal(tmp_path / "sales.zip", packed.getvalue())


def test_spreadsheets_and_parquet(tmp_path: Path) -> None:
    polars = pytest.importorskip("polars")
    pytest.importorskip("fastexcel")
    frame = polars.DataFrame({"date": DAYS, "product": ["Tee"] * 6, "price": PRICES, "units": UNITS})
    frame.write_parquet(tmp_path / "sales.parquet")
    is_the_week(read_sales(tmp_path / "sales.parquet"))
    frame.with_columns(polars.lit([1, 2]).alias("tags"), polars.struct("units").alias("more")).write_parquet(
        tmp_path / "nested.parquet"
    )
    is_the_week(nested := read_sales(tmp_path / "nested.parquet"))
    assert nested.ignored == ["tags", "more"]
    xlsxwriter = pytest.importorskip("xlsxwriter")
    with xlsxwriter.Workbook(tmp_path / "sales.xlsx") as book:
        day = book.add_format({"num_format": "yyyy-mm-dd"})
        for name, top in (("March", 0), ("Below a title", 3)):
            sheet = book.add_worksheet(name)
            sheet.write_row(top, 0, ["date", "product", "price", "units", "code"])
            for row, (date, price, units) in enumerate(zip(DAYS, PRICES, UNITS, strict=True), top + 1):
                sheet.write_datetime(row, 0, datetime.datetime.combine(date, datetime.time()), day)
                sheet.write_row(row, 1, ["Tee", price, units])
                sheet.write_string(row, 4, "007")
    assert "--sheet 'March' says which" in refusal_of(tmp_path / "sales.xlsx")
    assert "is 'March' meant?" in refusal_of(tmp_path / "sales.xlsx", sheet="Marsh")
    is_the_week(read_sales(tmp_path / "sales.xlsx", ReadOptions(sheet="March")))
    is_the_week(read_sales(tmp_path / "sales.xlsx", ReadOptions(sheet="Below a title", header_row=4)))
    table = read_sales(tmp_path / "sales.xlsx", ReadOptions(sheet="March", columns={"product": "code"}))
    assert table.labels["product"][0] == "007"
    (tmp_path / "broken.xlsx").write_bytes(b"PK\3\4 not a workbook")
    assert "it cannot be read as .xlsx" in refusal_of(tmp_path / "broken.xlsx")


def test_cells_of_other_kinds_in_a_column_of_a_spreadsheet(tmp_path: Path) -> None:
    """A number stays what it is beside a text, and hours beside a text hide no other column."""
    pytest.importorskip("fastexcel")
    xlsxwriter = pytest.importorskip("xlsxwriter")
    prices = [1.125, "1,35", 1.875, 2.0, "1.250,5", 1.255]
    hours = [0.4, 0.5, "closed", 1.25, 0.5, 0.25]  # of a day
    with xlsxwriter.Workbook(tmp_path / "sales.xlsx") as book:
        sheet, clock = book.add_worksheet(), book.add_format({"num_format": "[h]:mm"})
        sheet.write_row(0, 0, ["date", "product", "price", "units", "open", "break"])
        for row, (day, price, units, open_) in enumerate(zip(DAYS, prices, UNITS, hours, strict=True), 1):
            sheet.write_row(row, 0, [day.isoformat(), "Tee", price, units])
            sheet.write(row, 4, open_, clock)
            sheet.write_number(row, 5, row / 24.0, clock)
    table = read_sales(tmp_path / "sales.xlsx")
    assert table.columns["price"].tolist() == [1.125, 1.35, 1.875, 2.0, 1250.5, 1.255]
    assert table.columns["units"].tolist() == UNITS
    assert table.ignored == ["open"]
    costs = read_sales(tmp_path / "sales.xlsx", ReadOptions(columns={"unit_cost": "break"})).columns["unit_cost"]
    assert costs.tolist() == pytest.approx([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])  # hours


def refusal_of(path: Path, **options: Any) -> str:
    with pytest.raises(SalesError) as error:
        read_sales(path, ReadOptions(**options))
    assert "\n" not in str(error.value)
    return str(error.value)


def test_without_the_extra_the_message_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fastexcel", None)
    (tmp_path / "sales.xlsx").write_bytes(b"PK\3\4")
    assert "pip install 'palaestra[data]'" in refusal_of(tmp_path / "sales.xlsx")


# ------------------------------------------------------------------------------------------------ numbers


@pytest.mark.parametrize(
    ("text", "value", "sign", "ambiguous"),
    [
        ("12", 12.0, "", False),
        ("-3.5", -3.5, ".", False),
        ("3,5", 3.5, ",", False),
        ("1.234", 1.234, ".", True),
        ("1,234", 1.234, ",", True),
        ("0.123", 0.123, ".", False),
        ("1234.567", 1234.567, ".", False),
        ("1.234,50", 1234.5, ",", False),
        ("1,234,567", 1234567.0, ".", False),
        ("1.234.567", 1234567.0, ",", False),
        ("12,34,567.8", 1234567.8, ".", False),
        ("1 234,5", 1234.5, ",", False),
        ("1\u00a0234", 1234.0, "", False),
        ("1'234.50", 1234.5, ".", False),
        ("€ 3,50", 3.5, ",", False),
        ("3.50 EUR", 3.5, ".", False),
        ("$-2.00", -2.0, ".", False),
        ("(4.20)", -4.2, ".", False),
        ("4,20-", -4.2, ",", False),
        ("1e3", 1000.0, "", False),
        (".5", 0.5, ".", False),
    ],
)
def test_numbers_as_people_write_them(text: str, value: float, sign: str, ambiguous: bool) -> None:
    assert read_number(text) == (value, sign, ambiguous)


@pytest.mark.parametrize(
    "text", ["", "ten", "1.2.3", "1,23,4", "1 2", "12:30", "--3", "(3", "nan", "inf", "3.5.", "0x1"]
)
def test_what_is_no_number(text: str) -> None:
    assert read_number(text) is None


@settings(deadline=None)
@given(st.lists(st.floats(-1e6, 1e6, width=32).map(lambda x: round(x, 4)) | st.integers(-(10**9), 10**9), min_size=1))
def test_cells_are_read_as_float_reads_them(values: list[float]) -> None:
    cells = [f"{value}" for value in values]
    column = NumberColumn("price", ".")
    bad = column.read(Block(np.arange(len(cells)), {0: np.array([cell.encode() for cell in cells], "S")}), 0)
    assert not bad.any()
    assert column.finish(set()).tolist() == [float(cell) for cell in cells]
    column = NumberColumn("price", ",")
    commas = np.array([cell.replace(".", ",").encode() for cell in cells], "S")
    column.read(Block(np.arange(len(cells)), {0: commas}), 0)
    if not any("e" in cell for cell in cells):
        assert column.finish(set()).tolist() == [float(cell) for cell in cells]


SALES = "date;product;price;units\n"


def test_a_thousand_or_a_fraction_is_asked_unless_the_file_decides(tmp_path: Path) -> None:
    path = tmp_path / "sales.csv"
    doubt = SALES + "a;Tee;1.234;5\nb;Tee;1.300;6\n"
    assert refusal(path, doubt) == ("row 2: price '1.234' can be 1.234 or 1234: --decimal . or --decimal , says which")
    assert read(path, doubt, decimal=".").columns["price"].tolist() == [1.234, 1.3]
    assert read(path, doubt, decimal=",").columns["price"].tolist() == [1234.0, 1300.0]
    decided = doubt + "c;Tee;3.5;4\n"
    assert read(path, decided).columns["price"].tolist() == [1.234, 1.3, 3.5]
    decided = doubt + "c;Tee;2,50;4\n"
    assert read(path, decided).columns["price"].tolist() == [1234.0, 1300.0, 2.5]
    by_another_column = "date;product;price;units\na;Tee;3,50;1.200\nb;Tee;4,00;900\n"
    assert read(path, by_another_column).columns["units"].tolist() == [1200.0, 900.0]
    assert "row 3: price has a decimal comma, '2,50', and in row 2 a decimal point, '3.50'" in refusal(
        path, SALES + "a;Tee;3.50;1\nb;Tee;2,50;1\n"
    )


# ------------------------------------------------------------------------------------------------ dates


@pytest.mark.parametrize(
    ("given", "order", "day"),
    [
        (["2024-03-04", "2024-03-05"], None, 4),
        (["2024/3/4"], None, 4),
        (["20240304"], None, 4),
        (["04.03.2024"], None, 4),
        (["4.3.24"], None, 4),
        (["04/03/2024", "13/03/2024"], None, 4),
        (["03/04/2024", "03/13/2024"], None, 4),
        (["03/04/2024"], "mdy", 4),
        (["04/03/2024"], "dmy", 4),
        (["24-03-04"], "ymd", 4),
        (["4 March 2024"], None, 4),
        (["Mon, 4 Mar 2024"], None, 4),
        (["March 4th, 2024"], None, 4),
        (["4. März 2024"], None, 4),
        (["4 de marzo de 2024"], None, 4),
        (["4 mars 2024"], None, 4),
        (["04-Mar-24"], None, 4),
        (["2024-W10"], None, 4),
        (["1709553600"], None, 4),
    ],
)
def test_dates_as_people_write_them(given: list[str], order: str | None, day: int) -> None:
    days = read_days(given, np.arange(2, 2 + len(given)), order, skip=False)
    assert days is not None
    assert days[0] == datetime.date(2024, 3, day).toordinal()


@pytest.mark.parametrize("given", [["day 1", "day 12"], ["1", "2"], ["first"], ["2024"], ["week 3"], ["99999999"]])
def test_what_is_no_date_stays_a_label(given: list[str]) -> None:
    assert read_days(given, np.arange(len(given)), None, skip=False) is None


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["03/04/2024", "05/06/2024"], "row 2: date '03/04/2024' can be read in several orders, as every date here: "
         "--dates dmy or --dates mdy says which"),
        (["13/04/2024", "04/13/2024"], "row 2: date '13/04/2024' begins with a day and "
         "'04/13/2024' in row 3 with a month"),
        (["2024-03-04", "05.03.2024"], "row 3: date '05.03.2024' has another form than '2024-03-04' in row 2"),
        (["2024-03-04", "total"], "row 3: date 'total' is no date, '2024-03-04' in row 2 is"),
        (["2024-02-30"], "row 2: '2024-02-30' is not in the calendar"),
    ],
)  # fmt: skip
def test_dates_that_need_a_word_of_the_user(given: list[str], message: str) -> None:
    with pytest.raises(SalesError) as error:
        read_days(given, np.arange(2, 2 + len(given)), None, skip=False)
    assert message in str(error.value)


@settings(deadline=None)
@given(st.lists(st.binary(max_size=20).filter(lambda text: b"\0" not in text), min_size=1, max_size=50))
def test_texts_are_numbered_in_the_order_of_their_first_appearance(values: list[bytes]) -> None:
    found, places, codes = factorise(np.array(values, "S"))
    known = {value: k for k, value in enumerate(dict.fromkeys(values))}
    assert found.tolist() == list(known)
    assert places.tolist() == [values.index(value) for value in known]
    assert codes.tolist() == [known[value] for value in values]


# ------------------------------------------------------------------------------------------------ names of columns


@pytest.mark.parametrize(
    ("header", "proposal"),
    [
        ("Datum,Artikel,Preis,Menge", "date=Datum product=Artikel price=Preis units=Menge"),
        ("Belegdatum,Bezeichnung,Einzelpreis,Anzahl,Filiale",
         "date=Belegdatum product=Bezeichnung price=Einzelpreis units=Anzahl store=Filiale"),
        ("Date de vente,Article,Prix unitaire,Quantité",
         "date='Date de vente' product=Article price='Prix unitaire' units=Quantité"),
        ("Fecha,Producto,Precio,Cantidad", "date=Fecha product=Producto price=Precio units=Cantidad"),
        ("InvoiceDate,StockCode,UnitPrice,Quantity,Country",
         "date=InvoiceDate product=StockCode price=UnitPrice units=Quantity"),
        ("Date,Time,Item,Qty,Gross Sales", "product=Item units=Qty total='Gross Sales'"),
        ("Day,Product title,Net quantity,Net sales",
         "date=Day product='Product title' units='Net quantity' total='Net sales'"),
        ("Order Date,Item Name,Quantity,Item Cost",
         "date='Order Date' product='Item Name' price='Item Cost' units=Quantity"),
        ("case,alt,choice,cost", "occasion_id=case alternative=alt chosen=choice price=cost"),
        ("mode,cost.car,cost.bus,cost.rail", "price=cost chosen=mode"),
        ("market_ids,product_ids,shares,prices", "date=market_ids product=product_ids price=prices share=shares"),
    ],
)  # fmt: skip
def test_the_whole_mapping_is_proposed_and_works(header: str, proposal: str, tmp_path: Path) -> None:
    """Names that shops and people use; what is proposed is read when it is pasted."""
    message = refusal(tmp_path / "sales.csv", header + "\n" + ",".join("1" for _ in header.split(",")) + "\n")
    for each in shlex.split(proposal):
        name, column = each.split("=")
        quoted = shlex.quote(column)
        assert f"--column {name}={quoted}" in message, message


def test_columns_that_cannot_be(tmp_path: Path) -> None:
    path = tmp_path / "sales.csv"
    good = "date,product,price,units\n1,Tee,3,4\n"
    for content, options, message in (
        (
            "date,product,prize,units\n1,Tee,3,4\n",
            {},
            "the column price is missing; is 'prize' meant? --column price=prize",
        ),
        ("a,b,c\n1,2,3\n", {}, "needs the columns date, product, price, units, or occasion_id"),
        ("date,product,price,units,price\n1,2,3,4,5\n", {}, "the column price is there twice"),
        (good, {"columns": {"price": "prise"}}, "--column price=prise: no such column; is 'price' meant?"),
        (good, {"ignore": ["unit"]}, "--ignore unit: no such column; is 'units' meant?"),
    ):
        assert message in refusal(path, content, **options)


def test_further_columns_are_kept_and_results_of_a_sale_are_not(tmp_path: Path) -> None:
    header = "date,product,price,units,promotion,Temperature,order id,net sales,note,always"
    rows = [f"2024-03-0{d},Tee,{d},{9 - d},{d % 2},{10.5 - d},{d * 7},{d * (9 - d)},hot,1" for d in range(1, 7)]
    table = read(tmp_path / "sales.csv", "\n".join([header, *rows]))
    assert table.further == ["promotion", "Temperature"]
    assert table.columns["Temperature"].tolist() == [10.5 - d for d in range(1, 7)]
    assert table.ignored == ["order id", "net sales", "note", "always"]


# ------------------------------------------------------------------------------------------------ receipts

RECEIPTS = """date,product,price,units
2024-03-04 09:12,Tee,4,1
2024-03-04 11:40,Tee,3,3
2024-03-04 11:40,Mate,2,1
2024-03-05 10:00,Tee,4,2
2024-03-05 17:30,Tee,4,-1
"""


def test_receipts_are_added_up_and_the_price_is_that_of_a_unit(tmp_path: Path) -> None:
    table = read(tmp_path / "sales.csv", RECEIPTS)
    assert texts(table, "date") == ["2024-03-04", "2024-03-04", "2024-03-05"]
    assert texts(table, "product") == ["Tee", "Mate", "Tee"]
    assert table.columns["units"].tolist() == [4.0, 1.0, 1.0]
    assert table.columns["price"].tolist() == [3.25, 2.0, 4.0]
    assert any("times of day" in note for note in table.notes)
    assert any("1 row with negative units" in note for note in table.notes)
    dropped = read(tmp_path / "sales.csv", RECEIPTS, returns="drop")
    assert dropped.columns["units"].tolist() == [4.0, 1.0, 2.0]


def test_a_day_with_more_returns_than_sales_is_refused(tmp_path: Path) -> None:
    message = refusal(tmp_path / "sales.csv", RECEIPTS.replace(",-1\n", ",-3\n"))
    assert message.startswith("row 5: the units of Tee on 2024-03-05 add up to -1, more were returned than sold")
    assert "--returns drop" in message


def test_weeks_begin_on_monday_and_parts_are_left_out(tmp_path: Path) -> None:
    first = datetime.date(2024, 3, 1)  # a Friday
    rows = [f"{first + datetime.timedelta(d)},Tee,{4 + d % 2},{d}" for d in range(20)]
    table = read(tmp_path / "sales.csv", "\n".join(["date,product,price,units", *rows]), per="week")
    assert texts(table, "date") == ["2024-03-04", "2024-03-11"]
    assert table.columns["units"].tolist() == [sum(range(3, 10)), sum(range(10, 17))]
    mean = sum(d * (4 + d % 2) for d in range(3, 10)) / sum(range(3, 10))
    assert table.columns["price"][0] == pytest.approx(mean, rel=1e-12)
    assert any("2 weeks at the ends" in note for note in table.notes)
    assert "--per week needs calendar dates" in refusal(
        tmp_path / "sales.csv", "date,product,price,units\nday 1,Tee,3,4\n", per="week"
    )


def test_stores_are_kept_apart_and_stock_is_the_most(tmp_path: Path) -> None:
    rows = "1,a,Tee,3,2,9,0\n1,b,Tee,4,1,5,0\n1,a,Tee,5,2,7,1\n"
    table = read(tmp_path / "sales.csv", "date,store,product,price,units,stock,sold_out\n" + rows)
    assert texts(table, "store") == ["a", "b"]
    assert table.columns["units"].tolist() == [4.0, 1.0]
    assert table.columns["price"].tolist() == [4.0, 4.0]
    assert table.columns["stock"].tolist() == [9.0, 5.0]
    assert table.columns["sold_out"].tolist() == [1.0, 0.0]


def till(total: bool) -> str:
    rng = np.random.default_rng(0)
    rows = []
    for i in range(400):
        price, units = (3.0, 3.5, 4.0)[int(rng.integers(3))], int(rng.integers(1, 4))
        rows.append(f"2024-03-{1 + i // 20:02d} 10:{i % 60:02d},Tee,{price * units if total else price},{units}")
    return "\n".join(["date,product,price,units", *rows])


def test_the_total_of_a_line_is_not_taken_for_a_price(tmp_path: Path) -> None:
    path = tmp_path / "till.csv"
    unit = read(path, till(total=False))
    message = refusal(path, till(total=True))
    assert "it seems to be the total of the line: --column total='price'" in message
    table = read(path, till(total=True), columns={"total": "price"})
    assert table.columns["price"] == pytest.approx(unit.columns["price"], rel=1e-12)
    assert table.columns["units"].tolist() == unit.columns["units"].tolist()
    assert "it seems to be the price of a unit" in refusal(path, till(total=False), columns={"total": "price"})
    assert read(path, till(total=True), price_per_unit=True).rows == unit.rows


def test_a_file_put_together_twice_is_noticed(tmp_path: Path) -> None:
    rows = "".join(f"2024-03-{d:02d},Tee,{3 + d % 3},{d}\n" for d in range(1, 29))
    message = refusal(tmp_path / "sales.csv", "date,product,price,units\n" + rows + rows)
    assert message.startswith("row 30 is the same as row 2, and every row is there 2 times")
    assert read(tmp_path / "sales.csv", "date,product,price,units\n" + rows + rows, per="day").rows == 28


def test_a_file_of_one_product_needs_no_name(tmp_path: Path) -> None:
    table = read(tmp_path / "tea.csv", "date,price,units\n1,3,4\n2,4,2\n")
    assert texts(table, "product") == ["tea", "tea"]
    message = refusal(tmp_path / "tea.csv", "date,price,units,kind\n1,3,4,a\n2,4,2,b\n")
    assert "no column product; --column product='kind' names it, or --ignore 'kind'" in message


# ------------------------------------------------------------------------------------------------ choices


def test_wide_choices_become_long(tmp_path: Path) -> None:
    content = "id,feat.A,feat.B,price.A,price.B,choice\n1,0,1,3,4,A\n1,0,0,3.5,0,B\n2,1,0,3,4,none\n"
    message = refusal(tmp_path / "c.csv", content)
    assert message.startswith("row 4: the choice 'none' is none of the alternatives A, B; --outside none if it means")
    table = read(tmp_path / "c.csv", content, outside="none")
    assert table.shape == "choices"
    assert texts(table, "alternative") == ["A", "B"] * 3
    assert table.columns["chosen"].tolist() == [1, 0, 0, 1, 0, 0]
    assert table.columns["price"].tolist() == [3, 4, 3.5, 0, 3, 4]
    assert table.columns["feature"].tolist() == [0, 1, 0, 0, 1, 0]
    assert table.columns["occasion_id"].tolist() == [0, 0, 1, 1, 2, 2]
    assert [table.row(i) for i in range(6)] == [2, 2, 3, 3, 4, 4]


@pytest.mark.parametrize(
    ("content", "options"),
    [
        ("price1,price2,choice\n3,4,choice1\n3,5,choice2\n", {}),
        ("price_1;price_2;choice\n3,0;4,0;1\n3,0;5,0;2\n", {}),
        ("CAR_CO,BUS_CO,WAY\n3,4,1\n3,5,2\n",
         {"columns": {"price": "CO", "chosen": "WAY"}, "alternatives": ("CAR", "BUS")}),
        ("pa,pb,price,way\n3,4,9,a\n3,5,9,b\n", {"columns": {"price": "p*", "chosen": "way"}}),
        ("price.a,price.b,avail.a,avail.b,choice\n3,4,1,1,a\n3,5,1,1,b\n3,,1,0,a\n", {}),
    ],
)  # fmt: skip
def test_forms_of_wide_choices(content: str, options: dict[str, Any], tmp_path: Path) -> None:
    table = read(tmp_path / "c.csv", content, **options)
    assert table.columns["price"][:4].tolist() == [3, 4, 3, 5]
    assert table.columns["chosen"][:4].tolist() == [1, 0, 0, 1]


def test_numbers_of_alternatives_are_not_guessed(tmp_path: Path) -> None:
    content = "price.CAR,price.BUS,choice\n3,4,1\n3,5,2\n"
    assert "--alternatives CAR,BUS says which are 1, 2, ..." in refusal(tmp_path / "c.csv", content)


def test_prices_of_what_was_not_available_are_not_looked_at(tmp_path: Path) -> None:
    header = "occasion_id,alternative,chosen,price,available\n"
    table = read(tmp_path / "c.csv", header + "1,A,1,3,1\n1,B,0,,0\n2,A,1,0,1\n2,B,0,-9,0\n")
    assert table.columns["price"][[0, 2]].tolist() == [3.0, 0.0]
    assert "row 3: price is empty" in refusal(tmp_path / "c.csv", header + "1,A,1,3,1\n1,B,0,,1\n")


def test_households_whose_occasions_are_numbered_anew(tmp_path: Path) -> None:
    rows = "1,1,A,1,3\n1,1,B,0,4\n2,1,A,0,3\n2,1,B,1,4\n"
    header = "household_id,occasion_id,alternative,chosen,price\n"
    table = read(tmp_path / "c.csv", header + rows)
    assert table.columns["occasion_id"].tolist() == [0, 0, 1, 1]
    assert list(table.labels["occasion_id"]) == ["1 / 1", "2 / 1"]


def test_the_availability_of_wide_choices_is_proposed(tmp_path: Path) -> None:
    content = "CAR_CO,BUS_CO,CAR_AV,BUS_AV,CHOICE\n3,4,1,1,1\n3,5,1,0,1\n"
    columns = {"price": "CO", "chosen": "CHOICE", "available": "AV"}
    assert " ".join(f"--column {ours}={theirs}" for ours, theirs in columns.items()) in refusal(
        tmp_path / "c.csv", content
    )
    table = read(tmp_path / "c.csv", content, columns=columns, alternatives=("CAR", "BUS"))
    assert table.columns["available"].tolist() == [1, 1, 1, 0]


# ------------------------------------------------------------------------------------------------ some of the rows


def test_rows_of_other_values_are_not_looked_at(tmp_path: Path) -> None:
    """Not even where they are wrong; rows keep their numbers."""
    content = "date,product,price,units,shop\n1,tea,x,4,Bern\n1,tea,3,4, Chur\n2,tea,4,2,Chur\n2,tea,y,2,007\n"
    for where in (["shop=Chur"], ["SHOP!=Bern", "shop!=007"]):
        table = read(tmp_path / "tea.csv", content, where=where)
        assert table.columns["price"].tolist() == [3, 4]
        assert table.row(0) == 3
        assert f"rows where {' and '.join(where)}: 2 of 4" in table.notes
        assert "shop" not in table.ignored
    message = refusal(tmp_path / "tea.csv", content, where=["shop=7"])
    assert message == "--where shop=7: there is no such row; the column has 007, Bern, Chur"
    assert refusal(tmp_path / "tea.csv", content, where=["shopp=7"]).startswith(
        "--where shopp=7: no such column; is 'shop'"
    )
    for wrong in ("shop", "=3", ""):
        assert refusal(tmp_path / "tea.csv", content, where=[wrong]).endswith("expected COLUMN=VALUE or COLUMN!=VALUE")
    assert "row 2: price must be a number, got 'x'" in refusal(tmp_path / "tea.csv", content, where=["shop=Bern"])


# ------------------------------------------------------------------------------------------------ bad input

BAD: dict[str, tuple[str | bytes, str]] = {
    "nothing": (b"", "the file is empty"),
    "blank lines": (b"\n\n\n", "the file is empty"),
    "a header only": (b"date,product,price,units\n", "a header but no rows"),
    "an endless line": (b"date,product,price,units\n" + b"x" * 3_000_000, "row 2 is longer than a megabyte"),
    "an endless header": (b"x" * 3_000_000, "row 1 is longer than a megabyte"),
    "NUL bytes": (b"date,product,price,units\n1,Tee,3\0,4\n", "row 2 has NUL bytes"),
    "UTF-16 without a mark": ("date,product,price,units\n".encode("utf-16-le"), "--encoding utf-16-le"),
    "cp1252": ("date,product,price,units\n1,Café,3,4\n".encode("cp1252"), "row 2 is not UTF-8 text: --encoding cp1252"),
    "no end of a quote": (b'date,product,price,units\n1,"Tee,3,4\n' + b"1,Tee,3,4\n" * 9, "is not a CSV file"),
    "a short row": (b"date,product,price,units\n1,Tee,3,4\n1,Tee\n", "row 3 has 2 cells, the header 4"),
    "a long row": (b"date,product,price,units\n1,Tee,3,5,4\n1,Tee,3,50,4\n", "row 2 has 5 cells, the header 4"),
    "an endless price": (b"date,product,price,units\n1,Tee,1e300,4\n", "row 2: price must be at most 1,000,000,000"),
    "beyond floats": (b"date,product,price,units\n1,Tee,1e999,4\n", "row 2: price must be a number, got '1e999'"),
    "very many units": (b"date,product,price,units\n1,Tee,1,1e12\n", "row 2: units must be at most 1,000,000"),
    "a negative price": (b"date,product,price,units\n1,Tee,-1,4\n", "row 2: price must be above 0, got -1"),
    "a free product": (b"date,product,price,units\n1,Tee,0,4\n", "row 2: price must be above 0, got 0; --skip"),
    "part of a unit": (b"date,product,price,units\n1,Tee,1,1.5\n", "row 2: units must be a whole number, got 1.5"),
    "an empty cell": (b"date,product,price,units\n1,Tee,3,4\n2,Tee,,4\n", "row 3: price is empty; --skip-bad-rows"),
    "NA": (b"date,product,price,units\n1,Tee,3,NA\n", "row 2: units is empty, 'NA'; --skip-bad-rows"),
    "no product": (b"date,product,price,units\n1, ,3,4\n", "row 2: product is empty"),
    "a text": (b"date,product,price,units\n1,Tee,3,4\n\n1,Tee,3,ten\n", "row 4: units must be a number, got 'ten'"),
    "a long name": (b"date,product,price,units\n1," + b"T" * 2000 + b",3,4\n", "row 2: product has 2,000 bytes"),
    "oversold": (b"date,product,price,units,stock\n1,Tee,3,4,2\n", "row 2: more units were sold than were in stock"),
    "ghosts": (b"date,product,price,units,visitors\n1,Tee,3,4,0\n", "row 2: 4 units were sold without visitors"),
    "returns only": (b"date,product,price,units\n1,Tee,3,-1\n", "all units are negative"),
    "a PDF": (b"%PDF-1.7 ...", "this is a PDF file"),
    "half a gzip": (gzip.compress(b"date,product,price,units\n" * 99)[:40], "it is damaged"),
    "shares": (b"date,product,price,share\n1,Tee,3,0.2\n", "--market-size"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_files_are_refused_in_one_line(case: str, tmp_path: Path) -> None:
    content, message = BAD[case]
    assert message in refusal(tmp_path / "sales.csv", content)


def test_bad_rows_can_be_left_out(tmp_path: Path) -> None:
    rows = "1,Tee,3,4\n2,Tee,,4\n3,Tee,0,1\n4,Tee\n5,,3,3\n6,Tee,4,x\n7,Tee,5,2\nTotal,,,99\n"
    table = read(tmp_path / "sales.csv", "date,product,price,units\n" + rows, skip_bad_rows=True)
    assert table.columns["units"].tolist() == [4.0, 2.0]
    assert texts(table, "date") == ["1", "7"]
    assert [table.row(i) for i in range(2)] == [2, 8]
    assert "no row is left" in refusal(tmp_path / "s.csv", "date,product,price,units\n1,Tee,0,4\n", skip_bad_rows=True)


@settings(deadline=None, max_examples=60)
@given(st.binary(max_size=300))
def test_no_bytes_end_in_another_error(content: bytes) -> None:
    path = Path(tempfile.gettempdir()) / f"sales-{os.getpid()}.csv"
    try:
        for start in (b"", b"date,product,price,units\n"):
            path.write_bytes(start + content)
            for options in (ReadOptions(), ReadOptions(skip_bad_rows=True, encoding="cp1252")):
                try:
                    read_sales(path, options)
                except SalesError as error:
                    message = str(error)
                    assert "\n" not in message
    finally:
        path.unlink()


def test_quoted_and_plain_rows_are_read_alike(tmp_path: Path) -> None:
    """Against the csv module, over blocks of both kinds of reading."""
    rng = np.random.default_rng(1)
    rows = [
        [f"d{i}", f"tea {rng.integers(50)}", f"{rng.integers(1, 999) / 100}", str(rng.integers(9))]
        for i in range(70_000)
    ]
    rows[69_000][1] = 'a "green", one'
    with (tmp_path / "sales.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["date", "product", "price", "units"], *rows])
    table = read_sales(tmp_path / "sales.csv")
    assert texts(table, "product") == [row[1] for row in rows]
    assert texts(table, "date") == [row[0] for row in rows]
    assert table.columns["price"].tolist() == [float(row[2]) for row in rows]
    assert table.columns["units"].tolist() == [float(row[3]) for row in rows]


def test_the_command_line_fills_the_options(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(2)
    price = rng.choice([3.0, 4.5, 6.0], 144)
    units = rng.poisson(30.0 * np.exp(-price / 4.0))
    rows = [
        f"{1 + i % 12}/{1 + i // 12}/24;{p:.3f};{u};x".replace(".", ",")
        for i, (p, u) in enumerate(zip(price, units, strict=True))
    ]
    (tmp_path / "tee.csv").write_bytes("\n".join(["Tag;Preis;Stück;Notiz", *rows]).encode("cp1252"))
    good = ["--column", "date=Tag", "--column", "price=Preis", "--column", "units=Stück", "--encoding", "cp1252"]
    more = [
        "--decimal",
        ",",
        "--dates",
        "mdy",
        "--ignore",
        "Notiz",
        "--per",
        "day",
        "--returns",
        "drop",
        "--skip-bad-rows",
    ]
    for arguments, message in (
        ([], "--encoding cp1252 would read it as"),
        (["--column", "price"], "--column price: expected NAME=COLUMN"),
        (["--decimal", "x"], "--decimal x: must be . or ,"),
        (["--market-size", "0.5"], "--market-size 0.5: must be between 1 and 1,000,000"),
        (
            [*good, "--ignore", "Notiz", "--dates", "mdy"],
            "000: --decimal , or --decimal . says which",
        ),
        ([*good, "--ignore", "Notiz", "--decimal", ","], "--dates dmy or --dates mdy"),
        ([*good, *more], None),
    ):
        monkeypatch.setattr(sys, "argv", ["palaestra", "fit-demand", "tee.csv", *arguments])
        with pytest.raises(SystemExit) as exit_:
            cli.main()
        captured = capsys.readouterr()
        assert exit_.value.code == (2 if message else None) or (not message and not exit_.value.code), captured.err
        assert captured.err.count("\n") == bool(message), captured.err
        assert (message or "") in captured.err
        assert (tmp_path / "demand.json").exists() == (message is None)
