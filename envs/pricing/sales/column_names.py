"""Which column of a file is which: by our names, by what the user says, and what would be guessed.

A guess is never used: it is proposed, ready to paste, because a wrong one would be a wrong price list.
"""

from __future__ import annotations

import re
import shlex
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from palaestra.envs.core.suggest import closest
from palaestra.envs.pricing.sales.sales_table import KNOWN, MORE, NEEDED, ReadOptions, SalesError

# words that people use, English, German, French, Spanish, without accents; the likeliest first
_WORDS = {
    "date": "date, day, datum, tag, fecha, dia, jour, timestamp, datetime, order date, sale date, invoice date, "
    "transaction date, transaction dt, created at, created, verkaufsdatum, belegdatum, buchungsdatum, rechnungsdatum, "
    "bestelldatum, date de vente, date vente, fecha de venta, fecha venta, invoicedate, week, woche, semaine, semana, "
    "month, monat, mois, mes, period, periode, periodo, time, zeit, market ids, quarter, year",
    "product": "product, produkt, producto, produit, item, artikel, article, articulo, sku, product name, item name, "
    "lineitem name, product title, produktname, artikelbezeichnung, artikelname, bezeichnung, designation, libelle, "
    "description, descripcion, nombre, name, product id, item id, product ids, artikelnummer, artikelnr, referencia, "
    "reference, ref, stock code, stockcode, upc, ean, gtin, brand, marke, ware, wid, title, product variant",
    "price": "price, preis, prix, precio, unit price, price per unit, item price, item cost, prices, einzelpreis, "
    "stuckpreis, "
    "verkaufspreis, vk preis, vk, preis brutto, bruttopreis, prix unitaire, prix de vente, prix ttc, precio unitario, "
    "precio de venta, pvp, selling price, sale price, lineitem price, product price, avg price, sales price, "
    "unitprice, avgprice, cost, fare, pf, ic",
    "units": "units, unit, quantity, qty, menge, anzahl, stuck, stk, absatz, quantite, qte, cantidad, unidades, "
    "units sold, quantity sold, qty sold, net quantity, items sold, item quantity, lineitem quantity, unites, "
    "verkaufte menge, verkauft, vendus, ventas unidades, sales units, unit sales, sold, q, count, amount, sales, move",
    "total": "total, line total, item total, gross sales, net sales, total sales, umsatz, betrag, gesamtpreis, gesamt, "
    "summe, revenue, turnover, product gross revenue, montant, chiffre d affaires, total ttc, importe, ingresos, "
    "total price, line amount, umsatz brutto",
    "share": "share, shares, market share, marktanteil, part de marche, cuota de mercado",
    "visitors": "visitors, besucher, sessions, visits, traffic, footfall, visiteurs, visites, visitantes, visitas",
    "unit_cost": "unit cost, cost price, purchase price, einkaufspreis, ek, ek preis, wareneinsatz, cout unitaire, "
    "prix d achat, coste unitario, costo unitario, cogs, cost per item, cost, coste, costo, cout",
    "stock": "stock, inventory, on hand, stock on hand, bestand, lagerbestand, existencias, inventario, stock level",
    "sold_out": "sold out, out of stock, stockout, ausverkauft, rupture, en rupture, agotado, oos",
    "competitor_price": "competitor price, rival price, wettbewerberpreis, wettbewerbspreis, konkurrenzpreis, "
    "prix concurrent, precio competencia, precio competidor",
    "store": "store, filiale, shop, location, branch, laden, magasin, boutique, tienda, sucursal, outlet, store id, "
    "store name, shop id, city ids, standort, point de vente",
    "occasion_id": "occasion id, occasion, case, case id, idcase, chid, choice id, choiceid, choice set, situation, "
    "task, "
    "obs, observation, trip, trip id, session id, kaufanlass",
    "alternative": "alternative, alt, option, brand, marke, marque, marca, mode, product, produkt, producto, "
    "produit, item",
    "chosen": "chosen, choice, choix, eleccion, elegido, wahl, gewahlt, gekauft, choisi, selected, decision, depvar, "
    "bought, purchased, mode, purchase",
    "available": "available, avail, availability, av, verfugbar, disponible, dispo",
    "household_id": "household id, household, hid, hhid, hh, panel id, panelist, panelist id, haushalt, menage, hogar, "
    "customer id, person, person id, individual, respondent, id",
    "feature": "feature, feat, featured",
    "display": "display, disp",
}  # fmt: skip
_SYNONYMS = {name: tuple(word.strip() for word in words.split(",")) for name, words in _WORDS.items()}
AVAILABILITY = _SYNONYMS["available"]
ID_WORDS = {
    "id",
    "ids",
    "nr",
    "no",
    "number",
    "nummer",
    "numero",
    "code",
    "sku",
    "ean",
    "gtin",
    "zip",
    "plz",
    "rownames",
}
TOTAL_WORDS = {
    *(
        "total",
        "sales",
        "revenue",
        "turnover",
        "profit",
        "margin",
        "tax",
        "vat",
        "mwst",
        "gross",
        "net",
        "umsatz",
        "betrag",
    ),
    *("summe", "gesamt", "erlos", "montant", "importe", "ingresos", "tva", "iva", "tendered", "discounts", "refunded"),
}  # what a sale results in does not explain it


@dataclass(frozen=True)
class ColumnMap:
    """Where a file has what; columns are counted from 0."""

    shape: str  # "sales" or "choices"
    columns: Mapping[str, int]  # our name → its column
    wide: Mapping[str, Mapping[str, int]]  # our name → alternative → its column, of choices with a row for each buyer
    attributes: tuple[str, ...] = ()  # names in columns or wide that describe the alternatives
    possible: Mapping[str, Mapping[str, int]] = field(default_factory=dict)  # like wide: what else could describe them


def words_of(name: str) -> str:
    """A name in lower case, without accents and signs: ``UnitPrice (€)`` is "unit price"."""
    name = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    plain = unicodedata.normalize("NFKD", name.lower().replace("ß", "ss"))
    plain = "".join(c for c in plain if not unicodedata.combining(c))
    return " ".join(re.findall(r"[a-z0-9]+", plain))


def alternatives_of(header: Sequence[str], word: str) -> dict[str, int]:
    """Columns like ``price.A, price_B, price1`` or ``A_price`` of a word, or of a pattern ``p*``, by alternative."""
    if "*" in word:
        before, _, after = word.partition("*")
        patterns = [rf"{re.escape(before)}(.+){re.escape(after)}"]
    else:
        name = re.escape(word)
        patterns = [rf"{name}[._ :-](.+)", rf"{name}(\d+)", rf"(.+)[._ :-]{name}"]
    for pattern in patterns:
        found = [(re.fullmatch(pattern, name, re.IGNORECASE), k) for k, name in enumerate(header)]
        named = {match[1]: k for match, k in found if match}
        if len(named) > 1:
            return named
    return {}


def find_columns(header: Sequence[str], options: ReadOptions) -> ColumnMap:
    """The columns of a file.

    Raises:
        SalesError: if some are missing, with what would be guessed, or there twice.
    """
    lower = [name.lower() for name in header]
    for name in options.ignore:
        if name.lower() not in lower:
            raise SalesError(f"--ignore {name}: {no_such_column(name, header)}")
    ignored = {name.lower() for name in options.ignore}
    shown = ["" if name in ignored else header[k] for k, name in enumerate(lower)]
    lower = [name.lower() for name in shown]
    columns: dict[str, int] = {}
    wide: dict[str, Mapping[str, int]] = {}
    for ours, theirs in options.columns.items():
        if theirs in shown or theirs.lower() in lower:
            columns[ours] = shown.index(theirs) if theirs in shown else lower.index(theirs.lower())
            _once(theirs, shown if theirs in shown else lower)
        elif named := alternatives_of(shown, theirs):
            wide[ours] = named
        else:
            raise SalesError(f"--column {ours}={theirs}: {no_such_column(theirs, header)}")
    for ours in KNOWN:
        if ours in lower and ours not in columns and ours not in wide and lower.index(ours) not in columns.values():
            _once(ours, lower)
            columns[ours] = lower.index(ours)
    if "price" in wide or ("price" not in columns and alternatives_of(shown, "price") and "units" not in columns):
        return _wide(shown, columns, wide, options)
    lacking = {shape: [name for name in names if name not in columns] for shape, names in NEEDED.items()}
    if "price" not in columns and "total" in columns:
        lacking["sales"].remove("price")
    if "units" not in columns and "share" in columns:
        lacking["sales"].remove("units")
    shape = min(lacking, key=lambda name: len(lacking[name]))
    if lacking[shape] == ["product"] and "product" not in _guess(shown, ("product",)):
        lacking[shape] = []  # a file of one product
    if lacking[shape]:
        raise _missing(shown, columns, lacking, shape)
    return ColumnMap(
        shape, {n: k for n, k in columns.items() if n in (*NEEDED[shape], *MORE[shape]) or n not in KNOWN}, {}
    )


def _wide(
    shown: Sequence[str], columns: dict[str, int], wide: dict[str, Mapping[str, int]], options: ReadOptions
) -> ColumnMap:
    wide.setdefault("price", alternatives_of(shown, "price"))
    if "chosen" not in columns:
        if "choice" not in [name.lower() for name in shown]:
            guess = _guess(shown, ("chosen",))
            hint = f"; perhaps: --column chosen={shlex.quote(guess['chosen'])}" if guess else ""
            raise SalesError(
                f"the column chosen is missing, which names the alternative that was taken{hint}{_has(shown)}"
            )
        columns["chosen"] = [name.lower() for name in shown].index("choice")
    names = wide["price"].keys()
    for ours, words in (
        ("feature", ("feature", "feat")),
        ("display", ("display", "disp")),
        ("available", ("available", "avail")),
    ):
        if ours not in wide and ours not in columns:
            for word in words:
                if (found := alternatives_of(shown, word)).keys() == names:
                    wide[ours] = found
    for ours, by in wide.items():
        if lost := [name for name in names if name not in by and "*" not in options.columns.get("price", "")]:
            raise SalesError(
                f"{ours} has no column for the alternative {lost[0]}, price has {shown[wide['price'][lost[0]]]}"
            )
    kept = {name: k for name, k in columns.items() if name in ("chosen", "household_id", "date")}
    return ColumnMap("choices", kept, wide)


def _missing(
    shown: Sequence[str], columns: Mapping[str, int], lacking: Mapping[str, list[str]], shape: str
) -> SalesError:
    """What is missing, and the whole mapping that would be guessed."""
    names, best = lacking[shape], _proposal(shown, columns, lacking)
    if best:
        needed = dict.fromkeys((*NEEDED["sales"], *NEEDED["choices"]))
        absent = [name for name in needed if name in best and name not in columns]
        paste = " ".join(f"--column {name}={shlex.quote(column)}" for name, column in best.items())
        more = " --market-size 10000" if "share" in best else ""
        return SalesError(f"{_lack(absent or names)}; if these are they: {paste}{more}{_has(shown)}")
    if len(names) > 2:
        needs = ", or ".join(", ".join(needed) for needed in NEEDED.values())
        has = ", ".join(filter(None, shown))
        return SalesError(f"needs the columns {needs}; has {has[:300]}; --column price=COLUMN names one")
    close = closest(names[0], filter(None, shown), 0.6)
    if close:
        return SalesError(f"{_lack(names)}; is {close!r} meant? --column {names[0]}={shlex.quote(close)}")
    return SalesError(f"{_lack(names)}: --column {names[0]}=COLUMN names one{_has(shown)}")


def _proposal(
    shown: Sequence[str], columns: Mapping[str, int], lacking: Mapping[str, list[str]]
) -> dict[str, str] | None:
    """The mapping that would make a file of choices or of sales whole; None if there is none."""
    free = [name if k not in columns.values() else "" for k, name in enumerate(shown)]

    def guess(ours: Sequence[str]) -> dict[str, str]:
        return _guess(free, [name for name in ours if name not in columns])

    choices = guess((*NEEDED["choices"], "available", "household_id"))
    chosen = guess(("chosen",))
    if (prices := _wide_guess(free)) and "price" not in columns and (chosen or "chosen" in columns):
        return {"price": prices, **chosen, **_availability(free, prices)}
    if not set(lacking["choices"]) - set(choices):
        return choices
    sales = guess((*NEEDED["sales"], "total", "share", *MORE["sales"][:6]))
    if "price" in sales or "price" in columns:
        sales.pop("total", None)
    if "units" in sales or "units" in columns:
        sales.pop("share", None)
    instead = {"price": "total", "units": "share"}
    absent = [name for name in lacking["sales"] if name not in sales and instead.get(name) not in sales]
    return sales if sales and not set(absent) - {"product"} else None


def _guess(header: Sequence[str], ours: Sequence[str]) -> dict[str, str]:
    """Our names and the columns that they are likeliest to be, each column once."""
    scores = []
    for column in filter(None, header):
        words = words_of(column)
        for name in ours:
            for place, word in enumerate(_SYNONYMS.get(name, ())):
                score = (
                    200
                    if words == word
                    else 100
                    if f" {words}".endswith(f" {word}")
                    else 60
                    if f"{words} ".startswith(f"{word} ")
                    else 0
                )
                if score:
                    scores.append((score - place, name, column))
    found: dict[str, str] = {}
    for _, name, column in sorted(scores, key=lambda each: -each[0]):
        if name not in found and column not in found.values():
            found[name] = column
    return {name: found[name] for name in ours if name in found}


def _wide_guess(header: Sequence[str]) -> str:
    """The beginning of several columns of prices."""
    words = [*_SYNONYMS["price"], "CO", "oc"]
    return next((word for word in words if len(alternatives_of(header, word)) > 1), "")


def _availability(header: Sequence[str], prices: str) -> dict[str, str]:
    """The columns that tell which alternatives were there, if each has one."""
    needed = alternatives_of(header, prices).keys()
    for word in AVAILABILITY:
        found = alternatives_of(header, word)
        if found.keys() >= needed:
            column = header[next(iter(found.values()))]
            return {
                "available": next(each for each in (word.upper(), word.title(), word) if each in column or each == word)
            }
    return {}


def _lack(names: Sequence[str]) -> str:
    plural = len(names) > 1
    return f"the column{'s' * plural} {' and '.join(names)} {'are' if plural else 'is'} missing"


def _has(header: Sequence[str]) -> str:
    names = [name for name in header if name]
    return f" (it has {', '.join(names[:20])}{', ...' if len(names) > 20 else ''})"


def no_such_column(name: str, header: Sequence[str]) -> str:
    """That a column is not there, and which may be meant."""
    close = closest(name, filter(None, header), 0.6)
    return f"no such column; is {close!r} meant?" if close else f"no such column{_has(header)}"


def place_of(name: str, header: Sequence[str]) -> int:
    """Where a column is, counted from 0, by its name as it is or in other letters.

    Raises:
        SalesError: if it is nowhere, or twice.
    """
    lower = [each.lower() for each in header]
    if name.lower() not in lower:
        raise SalesError(no_such_column(name, header))
    same, names = (name, header) if name in header else (name.lower(), lower)
    _once(same, names)
    return list(names).index(same)


def _once(name: str, header: Sequence[str]) -> None:
    if list(header).count(name) > 1:
        raise SalesError(f"the column {name} is there twice; rename one of them")
