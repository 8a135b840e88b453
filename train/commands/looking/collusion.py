"""``palaestra collusion``: two pricing algorithms against each other, and what their prices come to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from palaestra.train.commands import UsageError, read_count, read_index, read_number

if TYPE_CHECKING:
    from palaestra.envs.pricing import DuopolyPricing
    from palaestra.envs.pricing.two_learners.price_pairs import Deviation, PricePairs

_TABULAR = ("sessions", "alpha", "beta", "stable", "seed", "discount")  # options of the Q-learners
_PATH = (0, 1, 2, 3, 4, 5, 7, 10, 15)  # periods of an undercut's table


def collusion(
    first: Annotated[
        str | None,
        typer.Argument(metavar="[AGENT]", help="A run of pricing-duopoly, or a rule as undercut; else Q-learners."),
    ] = None,
    second: Annotated[
        str | None, typer.Argument(metavar="[RIVAL]", help="Another one; without it AGENT meets itself.")
    ] = None,
    sessions: Annotated[
        int | None, typer.Option(parser=read_count, metavar="N", help="Pairs of Q-learners, each by itself [250].")
    ] = None,
    alpha: Annotated[
        float | None, typer.Option(parser=read_number, metavar="X", help="Their learning rate [0.15].")
    ] = None,
    beta: Annotated[
        float | None,
        typer.Option(parser=read_number, metavar="X", help="Exploration is exp(-beta t) in period t [4e-6]."),
    ] = None,
    stable: Annotated[
        int | None,
        typer.Option(parser=read_count, metavar="N", help="Periods without a change that end a session [100,000]."),
    ] = None,
    discount: Annotated[
        float | None, typer.Option(parser=read_number, metavar="X", help="What a period's profit counts later [0.95].")
    ] = None,
    seed: Annotated[int | None, typer.Option(parser=read_index, metavar="N", help="Of the learners [0].")] = None,
    agents: Annotated[
        str | None,
        typer.Option(metavar="A,B", help="Instead of Q-learners train two agents against each other, as dqn,ppo."),
    ] = None,
    total_timesteps: Annotated[
        int | None, typer.Option(parser=read_count, metavar="N", help="Steps of each of them [1M].")
    ] = None,
    num_envs: Annotated[
        int | None, typer.Option(parser=read_count, metavar="N", help="Markets that each learns from (its preset's).")
    ] = None,
    rounds: Annotated[
        int | None,
        typer.Option(parser=read_count, metavar="N", help="How often each sees the other anew [100]."),
    ] = None,
    run_dir: Annotated[
        Path | None, typer.Option(metavar="PATH", help="Folder to make for both runs (default: two below runs/).")
    ] = None,
    resume: Annotated[str | None, typer.Option(metavar="RUN", help="Go on with two such runs; name one.")] = None,
    record: Annotated[Path | None, typer.Option(metavar="FILE.png", help="Write a picture.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Let two pricing algorithms meet, and tell prices, profits, and what an undercut leads to.

    Without AGENT two Q-learners learn against each other in many sessions, as in Calvano et al. (2020): 250 sessions
    take some minutes, and a larger --beta less. The index of collusion is 0 at Nash prices and 1 at a cartel's. With
    --agents two networks learn instead, each from its own profits: two runs, that meet at the end.

    \b
    palaestra collusion --record learners.png
    palaestra collusion --sessions 1000 --json
    palaestra collusion latest
    palaestra collusion latest undercut --record pair.png
    palaestra collusion --agents dqn,ppo --total-timesteps 500k
    """
    if record is not None:
        if record.suffix.lower() != ".png":
            raise UsageError(f"--record {record}: choose a name that ends in .png")
        from palaestra.train.recording.video import check_target

        check_target(record)
    given = {
        n: v for n, v in zip(_TABULAR, (sessions, alpha, beta, stable, seed, discount), strict=True) if v is not None
    }
    training = {"total_timesteps": total_timesteps, "num_envs": num_envs, "rounds": rounds, "run_dir": run_dir}
    training = {name: value for name, value in training.items() if value is not None}
    if agents is not None or resume is not None:
        if first is not None:
            raise UsageError(f"{first}: --agents and --resume train two agents: name none that is trained")
        from palaestra.train.commands.looking.deep_learners import learned_pair

        pairs, facts = _pair(*learned_pair(agents, resume, given, training))
    elif training:
        raise UsageError(f"--{next(iter(training)).replace('_', '-')} is of agents that learn: --agents A,B names two")
    elif first is None:
        pairs, facts = _learners(given)
    elif given:
        raise UsageError(f"--{next(iter(given))} is of Q-learners, which learn where no AGENT is named")
    else:
        pairs, facts = _pair(first, first if second is None else second)
    found, change = figures(pairs, facts), pairs.deviation()
    if as_json:
        print(json.dumps(found | as_json_of(change), indent=1))
    else:
        print(table(pairs, found, change))
    if record is not None:
        _draw(record, pairs, change)


def _learners(given: dict[str, Any]) -> tuple[PricePairs, dict[str, Any]]:
    """The sessions of the Q-learners that have settled."""
    from palaestra.envs.core.host import use_available_cores
    from palaestra.envs.pricing import DuopolyPricing
    from palaestra.envs.pricing.two_learners.price_pairs import PricePairs
    from palaestra.envs.pricing.two_learners.q_learners import SessionSettings, learn_prices

    discount = given.pop("discount", 0.95)
    try:
        market, settings = DuopolyPricing(discount=discount), SessionSettings(**given)
    except ValueError as error:
        raise UsageError(f"--{error}") from error
    use_available_cores()
    done = learn_prices(market, settings, tell=_told_while_learning(settings.sessions))
    settled = done.settled
    if not bool(settled.any()):
        raise UsageError(f"no session has settled in {settings.longest:,} periods: lower --stable or --alpha")
    pairs = PricePairs(market, done.tables[settled].numpy(), done.last[settled].numpy())
    title = (
        f"two Q-learners: alpha {settings.alpha:g}, beta {settings.beta:g}, discount {discount:g}, seed {settings.seed}"
    )
    facts = {
        "agent": "q-learners",
        "rival": "q-learners",
        "title": f"{title}; {settings.sessions:,} session{'s' * (settings.sessions > 1)}",
        "sessions": settings.sessions,
        "settled": int(settled.sum()),
        "mean_periods": float(done.periods[settled].double().mean()),
    }
    return pairs, facts


def _told_while_learning(count: int) -> Any:
    """Tells the periods gone, on standard error and every twenty seconds: a short run tells nothing."""
    import time

    from palaestra.train.formatting import tell

    told = time.monotonic()

    def tell_periods(periods: int, settled: int) -> None:
        nonlocal told
        if time.monotonic() - told >= 20.0:
            told = time.monotonic()
            tell(f"{periods:,} periods, {settled:,} of {count:,} sessions settled")

    return tell_periods


def _pair(agent: str, rival: str) -> tuple[PricePairs, dict[str, Any]]:
    """The pair that two agents or rules are."""
    import numpy as np

    from palaestra.envs.pricing.two_learners.price_pairs import PricePairs

    (market, first), (other, second) = (_table(name) for name in (agent, rival))
    apart = {one.discount for one in (market, other) if one is not None}
    if len(apart) > 1:
        raise UsageError(f"{agent} and {rival} were trained with different discounts: {sorted(apart)}")
    market = market or other or _default_market()
    title = f"{agent} against {'itself' if rival == agent else rival}"
    return PricePairs(market, np.stack((first, second))[None]), {"agent": agent, "rival": rival, "title": title}


def _default_market() -> DuopolyPricing:
    from palaestra.envs.pricing import DuopolyPricing

    return DuopolyPricing()


def _table(name: str) -> tuple[DuopolyPricing | None, Any]:
    """The market that an agent was trained in, None for a rule; and its prices, int64 [225]."""
    from palaestra.envs import resolve
    from palaestra.envs.pricing.duopoly import DuopolyPricing, rule_table
    from palaestra.train.evaluation.policies import on_states
    from palaestra.train.players import SCRIPTED, find_player

    try:
        return None, rule_table(name)
    except KeyError as error:
        if name in SCRIPTED:
            known = ", ".join(error.args[0])
            raise UsageError(f"{name} is no pricing algorithm: name a run, or one of the rules {known}") from error
    player = find_player(name, "pricing-duopoly", False, ())
    market = resolve(player.env).build(**player.env_kwargs)
    if not isinstance(market, DuopolyPricing):
        raise UsageError(f"{name} does not see the last prices as they are, and cannot be compared by them")
    if not player.policy.deterministic:
        raise UsageError(f"{name} acts with a memory of its own, and not by the last prices alone")
    market.to(player.device)
    return market, market.tabulate(on_states(player.policy, market))[0]


def figures(pairs: PricePairs, facts: dict[str, Any]) -> dict[str, Any]:
    """What the pairs have come to, as plain numbers."""
    from palaestra.train.evaluation.statistics import mean_interval

    market, index, lengths = pairs.market, pairs.collusion, pairs.lengths
    found: dict[str, Any] = {name: value for name, value in facts.items() if name != "title"}
    found["title"], found["collusion"] = facts["title"], float(index.mean())
    if len(index) > 1:
        low, high = mean_interval(index, None)
        found |= {"collusion_low": low, "collusion_high": high, "collusion_std": float(index.std(ddof=1))}
    return found | {
        "price": pairs.mean_prices.mean(0).tolist(),
        "profit": pairs.mean_profits.mean(0).tolist(),
        "nash_price": market.nash_price,
        "monopoly_price": market.monopoly_price,
        "nash_profit": market.nash_profit,
        "monopoly_profit": market.monopoly_profit,
        "cycle_percent": [100.0 * float(share.mean()) for share in (lengths == 1, lengths == 2, lengths > 2)],
        "longest_cycle": int(lengths.max()),
        "equilibrium_percent": 100.0 * float(pairs.is_equilibrium.mean()),
        "of_best_percent": 100.0 * float(pairs.of_best.mean()),
    }


def as_json_of(change: Deviation) -> dict[str, Any]:
    """The deviation as plain numbers."""
    return {
        "undercut_at_once_percent": 100.0 * change.at_once,
        "undercut_in_all_percent": 100.0 * change.in_all,
        "undercut_possible_percent": 100.0 * change.possible,
        "undercut_pays_percent": 100.0 * change.pays,
        "undercut_prices": change.prices.tolist(),
    }


def table(pairs: PricePairs, found: dict[str, Any], change: Deviation) -> str:
    """The same for people to read, in at most 80 columns."""
    many, low = len(pairs.tables) > 1, found.get("collusion_low")
    price, profit = (" and ".join(dict.fromkeys(f"{v:.4g}" for v in found[n])) for n in ("price", "profit"))
    if many:
        price, profit = (f"{sum(found[name]) / 2:.4g}" for name in ("price", "profit"))
    spread = "" if low is None else f", 95 % interval {low:.3f} to {found['collusion_high']:.3f}"
    rows = [
        ("collusion (0 Nash, 1 cartel)", f"{found['collusion']:.3f}{spread}"),
        ("price", f"{price} (Nash {found['nash_price']:.4g}, monopoly {found['monopoly_price']:.4g})"),
        ("profit in a period", f"{profit} (Nash {found['nash_profit']:.4g}, monopoly {found['monopoly_profit']:.4g})"),
    ]
    if many:
        rows.insert(1, ("deviation of sessions", f"{found['collusion_std']:.3f}"))
        shares = ", ".join(f"{share:.0f} %" for share in found["cycle_percent"])
        rows.append(("prices come back after", f"1, 2, more periods: {shares}"))
        rows.append(("no other price pays", f"{found['equilibrium_percent']:.0f} % of sessions"))
    else:
        rows.append(("prices come back after", _count(found["longest_cycle"], "period")))
        rows.append(("no other price pays", "true" if found["equilibrium_percent"] else "false"))
    rows.append(("of the best answer's profit", f"{found['of_best_percent']:.1f} %"))
    if "settled" in found:
        rows.append(("settled", f"{found['settled']:,}, after {found['mean_periods']:,.0f} periods on average"))
    width = max(len(label) for label, _ in rows)
    return "\n".join([found["title"], *(f"  {label:<{width}}  {text}" for label, text in rows), *_undercut(change)])


def _undercut(change: Deviation) -> list[str]:
    """Lines on what follows where one firm deviates."""
    head = "one firm posts its best answer for one period, then both go on as before"
    if change.possible == 0.0:
        return [f"{head}: it does that anyway"]
    worth = f"its profit {100 * change.at_once:+.1f} % at once, {100 * change.in_all:+.1f} % with what follows"
    pays = f"discounted; it pays in {100 * change.pays:.0f} % of cases"
    rows = [("period", [str(period) for period in _PATH])]
    for name, firm in (("undercuts", 0), ("rival", 1)):
        rows.append((name, [f"{change.prices[period, firm]:.3f}" for period in _PATH]))
    lines = [f"  {name:<9}  " + " ".join(f"{cell:>5}" for cell in cells) for name, cells in rows]
    return [f"{head}:", f"  {worth},", f"  {pays}", *lines]


def _count(count: int, word: str) -> str:
    return f"{count:,} {word}{'' if count == 1 else 's'}"


def _draw(path: Path, pairs: PricePairs, change: Deviation) -> None:
    from palaestra.envs.pricing.dashboard.collusion_page import PICTURE_SIZE, draw_collusion
    from palaestra.envs.rendering.canvas import Canvas
    from palaestra.train.formatting import tell
    from palaestra.train.recording.video import write_picture

    canvas = Canvas(*PICTURE_SIZE)
    draw_collusion(canvas, pairs, change)
    write_picture(path, canvas.image())
    tell(f"palaestra: {path}")
