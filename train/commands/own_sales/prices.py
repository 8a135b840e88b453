"""``palaestra prices``: the policy of a pricing agent as a list of prices, and the price of one moment."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from palaestra.train.commands import ENV_HELP, RUN_HELP, SetOption, UsageError, read_number

if TYPE_CHECKING:
    from palaestra.envs.pricing.price_list import PriceList

OPTIMAL = "optimal"
_COST = "unit cost"
_MOST_PERIODS, _MOST_STOCKS, _WIDTH = 12, 6, 80  # of the list that is printed

RunOrOptimal = Annotated[
    str, typer.Argument(metavar="RUN", help=f"{RUN_HELP} Or {OPTIMAL}: the exact optimum, without an agent.")
]


def _read_place(text: object) -> int:
    try:
        return int(str(text))
    except ValueError as error:
        raise typer.BadParameter(f"{text}: expected a whole number") from error


def prices(
    run: RunOrOptimal,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The file to write, .csv or .xlsx; it must not be there yet.")
    ] = None,
    stock: Annotated[int | None, typer.Option(parser=_read_place, metavar="N", help="Units left now.")] = None,
    day: Annotated[
        int | None, typer.Option(parser=_read_place, metavar="N", help="The period that begins now; 1 is the first.")
    ] = None,
    last_price: Annotated[
        float | None,
        typer.Option(
            parser=read_number, metavar="P", help="The price asked until now, if a rule of the shop needs it."
        ),
    ] = None,
    env: Annotated[str | None, typer.Option(metavar="ENV", help=f"{ENV_HELP} Needed for {OPTIMAL}.")] = None,
    settings: SetOption = None,
) -> None:
    """Print or write the prices that a trained seller asks, beside the optimum's.

    The list has a row for each period and number of units left: the price, what is expected from there on, and the
    shadow price of a unit. --stock and --day ask for one of them.

    \b
    palaestra prices latest
    palaestra prices latest --out prices.csv
    palaestra prices latest --stock 23 --day 4
    palaestra prices optimal --env pricing --set env.demand=demand.json
    """
    from palaestra.train.table_file import check_table_file, write_table

    if (stock is None) != (day is None):
        given, missing = ("--day", "--stock") if stock is None else ("--stock", "--day")
        raise UsageError(f"{given} needs {missing}: the price depends on both")
    if last_price is not None and stock is None:
        raise UsageError("--last-price needs --stock and --day: it is a part of one moment")
    if out is not None:
        if stock is not None:
            raise UsageError("--out writes the prices of all days and stocks: leave --stock and --day out")
        check_table_file(out)
    found = find_prices(run, env, settings or ())
    if stock is not None and day is not None:
        _print(answer(found, day, stock, last_price))
    elif out is None:
        print(summary(found))
    else:
        count = write_table(out, found.heads(), found.rows())
        stocks = found.capacity // found.lot + 1 - found.fewest
        size = f"{_count(found.periods, found.time_unit)} x {_count(stocks, 'stock')}"
        size += " x last prices" if found.memory else ""
        lines = [f"written: {out}, {_count(count, 'row')} ({size})", verdict(found), audit(found)]
        if found.memory and found.memory.hold > 1:
            stays = _count(found.memory.hold, found.time_unit)
            lines.append(f"There are no rows for a new price until it has stayed for {stays}.")
        _print("\n".join(lines))


def _print(text: str) -> None:
    """Each line in lines of the terminal's width."""
    from palaestra.train.formatting import say

    for line in text.splitlines():
        say(line)


def find_prices(run: str, env: str | None, settings: Any) -> PriceList:
    """The list of a run's agent, or of the optimum.

    Raises:
        ConfigError: if there is no such run, or a setting is wrong.
        UsageError: if it is no market with one price and a stock.
    """
    from palaestra.envs.pricing.price_list import PriceList
    from palaestra.train.config.run_config import resolve_config
    from palaestra.train.config.schema import env_settings
    from palaestra.train.evaluation.policies import on_states
    from palaestra.train.players import SCRIPTED, find_player

    if run in SCRIPTED:
        raise UsageError(f"{run} is no agent with prices: name a run, or {OPTIMAL} with --env ENV")
    if run == OPTIMAL:
        if env is None:
            raise UsageError(f"{OPTIMAL} needs --env ENV, such as --env pricing")
        env_settings(settings)
        config = resolve_config(env, settings=settings)
        return PriceList(_season(env, config.env_kwargs))
    player = find_player(run, env, False, settings)
    market = _season(player.env, player.env_kwargs)
    market.to(player.device)
    if not player.policy.deterministic:
        raise UsageError(f"{run} acts with a memory of the season: it has no price for each day and stock")
    return PriceList(market, market.tabulate(on_states(player.policy, market)))


def _season(name: str, kwargs: dict[str, Any]) -> Any:
    """The rules of a market that a list of prices can describe."""
    from palaestra.envs import resolve
    from palaestra.envs.pricing import DuopolyPricing, Season, TwoProducts
    from palaestra.envs.wrappers import Wrapper

    found, inside = resolve(name), dict(kwargs)
    limit = inside.pop("max_episode_steps", None)
    rules, name = found.build(**inside), found.short_name
    if isinstance(rules, Wrapper):
        raise UsageError(f"{name} within wrappers is not supported: its prices depend on more than day and stock")
    if isinstance(rules, TwoProducts):
        raise UsageError(f"{name} has two prices in a period, which is not supported: prices lists one")
    if isinstance(rules, DuopolyPricing):
        raise UsageError(f"{name} has a rival's price and no stock, which is not supported: prices lists a season")
    if not isinstance(rules, Season):
        raise UsageError(f"{name} is no market with prices and a stock, as pricing is")
    if limit is not None and limit < rules.stages:
        raise UsageError("a season that env.max_episode_steps cuts is not supported: set env.periods instead")
    return rules


def answer(found: PriceList, day: int, stock: int, last_price: float | None = None) -> str:
    """The price of one moment, and what it means.

    Raises:
        UsageError: if there is no such moment.
    """
    if not 1 <= day <= found.periods:
        raise UsageError(f"--day {day}: must be 1 to {found.periods}, the {found.time_unit}s of the season")
    fewest, most = found.fewest, int(found.most[day - 1])
    if not fewest <= stock <= most:
        so_far = "of the season" if most == found.capacity else "that there can be then"
        raise UsageError(f"--stock {stock}: must be {fewest} to {most}, the units {so_far}")
    memory = _find_memory(found, day, last_price)
    lots = max(round(stock / found.lot), fewest, min(stock, 1))
    place = day - 1, lots - fewest, memory
    when = f"{found.time_unit} {day} of {found.periods}" + (f", {found.dates[day - 1]}" if found.dates else "")
    lines = [f"{when}, {stock:,} of {_count(most, 'unit')} left"]
    if lots * found.lot != stock:
        lines.append(f"The list counts in lots of {found.lot:,} units: this is the price for {lots * found.lot:,}.")
    rows = [("price now", _price(found, found.price[place]))]
    rows.append((f"expected {found.earnings} from now on", _money(found, found.expected[place])))
    if not found.is_optimal:
        rows.insert(1, ("the optimum's price", _price(found, found.optimal_price[place])))
        rows.append((f"the optimum's expected {found.earnings}", _money(found, found.optimal[place])))
    if found.unit_cost is not None:
        rows.append(("unit cost now", _price(found, found.unit_cost[day - 1])))
    if found.memory:
        rows.insert(0, ("allowed now", _allowed(found, memory)))
    if lots > 0:
        rows.append(("shadow price of a unit", _money(found, found.shadow[place])))
    width = max(len(label) for label, _ in rows)
    lines += [f"  {label:<{width}}  {text}" for label, text in rows]
    fewer, each = "none" if lots <= 1 else f"{(lots - 1) * found.lot:,}", ", per unit" if found.lot > 1 else ""
    if lots > 0:
        lines.append(f"The shadow price is what the optimum would earn less with {fewer} left{each}.")
    return "\n".join([*lines, audit(found)])


def _find_memory(found: PriceList, day: int, last_price: float | None) -> int:
    """What the last price leaves open, as a place in the list.

    Raises:
        UsageError: if there is no such price.
    """
    if found.memory is None:
        if last_price is not None:
            raise UsageError("--last-price: no rule of this season looks at the last price: leave it out")
        return 0
    if day == 1:
        if last_price is not None:
            raise UsageError(
                f"--last-price: {found.time_unit} 1 has none; --set env.current_price is the one before it"
            )
        return 0
    if last_price is None:
        raise UsageError(f"--last-price is needed from {found.time_unit} 2 on: the price depends on it by the rules")
    action = int(abs(found.menu - last_price).argmin())
    if abs(found.menu[action] - last_price) > 1e-6:
        menu = [_price(found, price) for price in found.menu]
        some = ", ".join(menu if len(menu) <= 12 else [*menu[:6], "...", *menu[-3:]])
        raise UsageError(f"--last-price {last_price:g}: must be one of the menu, {some}")
    stays = found.memory.place[action]  # the memories of that price, by the periods for which it must stay
    reached = [place for place in stays.tolist() if found.reachable[day - 1, place]]
    return reached[0] if reached else int(stays[0])


def _allowed(found: PriceList, memory: int) -> str:
    """The prices that may follow, in words."""
    assert found.memory is not None
    prices = found.menu[found.memory.allowed[memory]]
    if len(prices) == 1:
        stays = int(found.memory.stays[memory])
        return _price(found, prices[0]) + (f", which stays for {_count(stays, found.time_unit)}" if stays else "")
    return f"{_price(found, prices[0])} to {_price(found, prices[-1])}, {len(prices)} prices"


def audit(found: PriceList) -> str:
    """What the prices depend on, and what not."""
    words = {"period": found.time_unit, "stock": "units left", "last_price": "last price"}
    names = [words[name] for name in found.depends_on]
    names += ["how long it has stood"] if found.memory and found.memory.hold > 1 else []
    return f"The price depends on {', '.join(names[:-1])} and {names[-1]}, and on no personal data."


def summary(found: PriceList) -> str:
    """Prices of some periods and stocks, in at most 80 columns."""
    from rich.console import Console
    from rich.table import Table

    from palaestra.train.formatting import wrapped

    console = Console(force_terminal=None if sys.stdout.isatty() else False)  # FORCE_COLOR makes no terminal of a file
    console.width = min(_WIDTH, console.width)
    title = f"{'Optimal price' if found.is_optimal else 'Price'} by {found.time_unit} and units left"
    title += f", in lots of {found.lot:,}" if found.lot > 1 else ""
    cell = max(len(_price(found, price)) for price in (found.price.min(), found.price.max()))
    cell = max(cell, len(f"{found.capacity:,}"))
    costs = [] if found.unit_cost is None else [_price(found, cost) for cost in found.unit_cost]
    stubs = len(f"{found.periods}") + 12 * bool(found.dates) + len(found.time_unit)
    stubs += 2 + max(len(_COST), *map(len, costs)) if costs else 0
    fitting = max(1, min(_MOST_STOCKS, (console.width - stubs - 4) // (cell + 3)))
    times, stocks = _some(found.periods, _MOST_PERIODS), _some(found.price.shape[1], fitting)
    table = Table(box=None)
    for head in (found.time_unit, *(["date"] if found.dates else []), *([_COST] if costs else [])):
        table.add_column(head, justify="right", no_wrap=True)
    for stock in stocks:
        table.add_column(f"{(stock + found.fewest) * found.lot:,}", justify="right", no_wrap=True)
    for t in times:
        dated = [str(found.dates[t])] if found.dates else []
        table.add_row(f"{t + 1:,}", *dated, *costs[t : t + 1], *(_cell(found, t, n) for n in stocks))
    with console.capture() as text:
        console.print(table)
    lines = [line.rstrip() for line in text.get().splitlines()]
    said = [verdict(found), audit(found)]
    if found.memory:
        said.insert(
            0, "after the likeliest last price (-: hardly reached); --last-price asks for another, --out lists all"
        )
    return "\n".join([title, *lines, *(wrapped(text, console.width) for text in said)])


def _cell(found: PriceList, period: int, row: int) -> str:
    """A price of the table that is printed."""
    if found.likeliest is None:
        known = (row + found.fewest) * found.lot <= found.most[period]
        return _price(found, found.price[period, row, 0]) if known else "-"
    memory = int(found.likeliest[period, row])
    return "-" if memory < 0 else _price(found, found.price[period, row, memory])


def _some(count: int, most: int) -> list[int]:
    """At most so many places among ``count``, evenly, with the first and the last."""
    if most == 1:
        return [count - 1]
    return [round(i * (count - 1) / (min(count, most) - 1)) for i in range(min(count, most))] if count > 1 else [0]


def verdict(found: PriceList) -> str:
    """What the prices earn from the start, and what that is worth."""
    earns = f"from {_count(found.stock, 'unit')} in {_count(found.periods, found.time_unit)}"
    if found.is_optimal:
        percent = f"{100.0 * (found.best / found.fixed - 1.0):.2f} %" if found.fixed > 0.0 else ""
        more = percent or _money(found, found.best - found.fixed)
        fixed = _price(found, found.fixed_price)
        return (
            f"expected {found.earnings} {earns}: {_money(found, found.best)}, "
            f"{more} more than with the best fixed price ({fixed})"
        )
    return (
        f"expected {found.earnings} {earns}: {_money(found, found.value)}, "
        f"{found.lost_percent:.2f} % less than the optimum ({_money(found, found.best)})"
    )


def _price(found: PriceList, price: float) -> str:
    return f"{found.currency}{price:,.{found.decimals}f}"


def _money(found: PriceList, amount: float) -> str:
    from palaestra.envs.pricing.price_list import money_decimals

    return f"{found.currency}{amount:,.{money_decimals(amount)}f}"


def _count(count: int, word: str) -> str:
    return f"{count:,} {word}{'' if count == 1 else 's'}"
