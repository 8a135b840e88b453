"""The sellers' dashboards: paths against simulation, and pixels where prices, tables and endings say they must be."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pygame
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from palaestra.agents import PPO
from palaestra.envs import TensorVectorEnv, make
from palaestra.envs.core.rng import Rng, child_key, env_keys
from palaestra.envs.pricing import DuopolyPricing, Market, Pricing, Season, TwoProducts, Yogurt
from palaestra.envs.pricing.dashboard import panels
from palaestra.envs.pricing.dashboard.chart import Chart, HeatMap, PriceScale, format_amount, round_ticks
from palaestra.envs.pricing.dashboard.duopoly_page import DuopolyLayout, DuopolyView, duopoly_layout
from palaestra.envs.pricing.dashboard.season_page import SALE, SeasonLayout, SeasonView, season_layout
from palaestra.envs.pricing.duopoly import DuopolyState
from palaestra.envs.pricing.inventory import InventoryMarket, SeasonState
from palaestra.envs.pricing.metrics import expected_path
from palaestra.envs.rendering.canvas import Canvas, Image
from palaestra.envs.rendering.picture import picture
from palaestra.train.evaluation.policies import AgentPolicy, ExpertPolicy, RandomPolicy
from palaestra.train.recording.playback import TensorPlayback

SMALL = Pricing(periods=20, stock=6, prices=(40, 60, 80, 100, 120))
PAIR = TwoProducts(periods=12, stock=(2, 4), prices=(60, 120, 180))
FOUR = {"pricing-easy": Pricing(stock=10, arrival_rate=0.5, willingness=50.0, prices=range(50, 201, 10)),
        "pricing": Pricing(), "pricing-two": TwoProducts(), "pricing-yogurt": Yogurt()}  # fmt: skip


def season(period: int, stock: int, price: int = -1, sold: int = 0, revenue: float = 0.0) -> Any:
    """A state on the host."""
    return SeasonState(period, stock, price, sold, revenue)  # type: ignore[arg-type]


def pair(period: int, stock: Sequence[int], price: int = -1, sold: Sequence[int] = (0, 0), revenue: float = 0.0) -> Any:
    return SeasonState(period, np.array(stock), price, np.array(sold), revenue)  # type: ignore[arg-type]


def firms(period: int, own: int, rival: int, profit: float = 0.0) -> Any:
    return DuopolyState(period, own, rival, profit)  # type: ignore[arg-type]


def layout_of(market: InventoryMarket, policies: int, posted: Any, revenue: float) -> SeasonLayout:
    """Layout of a dashboard with one or two policies that has to show these prices, and this much revenue."""
    first: Any = market.states(0)
    start = type(first)(**{name: value.numpy()[-1] for name, value in vars(first).items()})
    view = SeasonView(market, [start], market.optimal_policy() if policies == 2 else None)
    view.posted = view.optimal = np.asarray(posted, np.float64)
    view.revenue = np.array([revenue])
    return season_layout(view)


def layout_of_firms(market: DuopolyPricing, policies: int, state: Any = None) -> DuopolyLayout:
    table = market.optimal_policy() if policies == 2 else None
    return duopoly_layout(DuopolyView(market, [state or firms(0, 1, 1)], table))


def rgb(colour: Any) -> tuple[int, int, int]:
    return tuple(pygame.Color(colour))[:3]


def distance(image: Image, point: tuple[float, float], colour: Any, reach: int = 1) -> int:
    """Distance between a colour and the nearest one about a point of the canvas; the picture is 960 wide."""
    x, y = int(point[0]), int(point[1])
    area = image[max(0, y - reach) : y + reach + 1, max(0, x - reach) : x + reach + 1].astype(int)
    return int(np.abs(area - rgb(colour)).max(2).min())


# ------------------------------------------------------------------------------------------------------------- paths


@pytest.mark.parametrize("name", FOUR)
def test_expected_path_is_the_mean_of_simulated_seasons(name: str) -> None:
    market, n = FOUR[name], 4000
    path = expected_path(market, market.prices, market.units)
    keys = child_key(env_keys(11, torch.arange(n)), torch.zeros(n, dtype=torch.int64))
    state: Any = market.reset(Rng(keys, 0))
    for period in range(market.stages + 1):
        for expected, seen in ((path.stock[period], state.stock.view(n, -1)), (path.revenue[period], state.revenue)):
            values = seen.double()
            error = values.std(0) / math.sqrt(n)
            assert (np.abs(values.mean(0).numpy() - expected) <= 4 * error.numpy() + 1e-4).all()
        if period < market.stages:  # a season that is sold out goes on here, and sells nothing
            state, _, _ = market.step(state, market.expert(state), Rng(keys, period + 1))
    assert path.revenue[-1] == pytest.approx(market.optimal_value(), abs=1e-9)
    assert path.revenue[0] == 0.0


def test_expected_path_by_hand() -> None:
    """Two periods, one unit, one certain customer who pays 10 with probability 1/2 and 4 always."""
    market = Season([4.0, 10.0], np.array([[[0.0, 1.0], [0.5, 0.5]]] * 2), 1)
    path = expected_path(market, market.prices, market.units)
    # 10 both times: 5 now, and else 5 again with probability 1/2
    np.testing.assert_allclose(path.stock[:, 0], (1.0, 0.5, 0.25))
    np.testing.assert_allclose(path.revenue, (0.0, 5.0, 7.5))
    assert path.prices == (10.0, 10.0)


@pytest.mark.parametrize("rival", ["tit-for-tat", "undercut", "best-response", "nash"])
def test_optimal_profits_add_up_to_the_optimum(rival: Any) -> None:
    market = DuopolyPricing(rival)
    each = np.diff(market.optimal_profits(900))
    assert each @ market.discount ** np.arange(900) == pytest.approx(market.optimal_value(), abs=1e-9)


# ------------------------------------------------------------------------------------------------------------- charts


def played(prices: Sequence[int], sales: Sequence[int]) -> list[Any]:
    """The states of a season in SMALL with the given posted prices (their indices) and units sold."""
    states = [season(0, SMALL.stock)]
    for price, sold in zip(prices, sales, strict=True):
        before = states[-1]
        earned = before.revenue + sold * float(SMALL.prices[price])
        states.append(season(before.period + 1, before.stock - sold, price, sold, earned))
    return states


PRICES, SALES = [4, 4, 0, 1, 3, 3, 2], [0, 1, 1, 0, 0, 1, 0]


def small_layout(policies: int = 1) -> SeasonLayout:
    return layout_of(SMALL, policies, SMALL.prices, 0.0)


def test_the_price_path_lies_at_the_posted_prices() -> None:
    states = played(PRICES, SALES)
    image = picture(SMALL, states[-1], past=states[:-1])
    chart = small_layout().price
    assert chart.y == panels.around(SMALL.prices)  # all prices of the menu are on the axis: 40 and 120 were posted
    for period, (price, sold) in enumerate(zip(PRICES, SALES, strict=True)):
        here = SMALL.prices[price]
        colour = SALE if sold else panels.OWN[0]
        assert distance(image, chart.place(period + 0.5, here), colour) < 12
        assert distance(image, chart.place(period + 0.25, here), panels.OWN[0]) < 12
        for other in set(SMALL.prices.tolist()) - {here}:
            assert distance(image, chart.place(period + 0.5, other), panels.OWN[0]) > 60


def test_the_optimal_price_is_that_of_the_states_visited() -> None:
    states = played(PRICES, SALES)
    image = picture(SMALL, states[-1], past=states[:-1])
    chart, apart = small_layout().price, 0
    for state in states:
        best = SMALL.optimal_policy()[state.period, state.stock]
        if state.period == len(PRICES) or best != PRICES[state.period]:
            apart += 1
            assert distance(image, chart.place(state.period + 0.5, SMALL.prices[best]), panels.BAND) < 12
    assert apart > 3


def test_stock_and_revenue_are_where_they_were() -> None:
    states = played(PRICES, SALES)
    image = picture(SMALL, states[-1], past=states[:-1])
    places = small_layout()
    for state in states[:-1]:
        for chart, value in ((places.stock, state.stock), (places.revenue, state.revenue)):
            assert distance(image, chart.place(state.period + 0.5, value), panels.OWN[0]) < 12
    x, y = places.stock.place(15.5, SMALL.expected.stock[15, 0])  # later than now: the mean alone, a dash in 13 pixels
    assert distance(image, (x, y), panels.OPTIMAL, reach=8) < 25
    assert distance(image, (x, y), panels.OWN[0], reach=8) > 60


def test_without_a_past_the_last_price_is_shown() -> None:
    states = played(PRICES, SALES)
    image, chart = picture(SMALL, states[-1]), small_layout().price
    chart = layout_of(SMALL, 1, SMALL.prices[[2]], 0.0).price
    assert distance(image, chart.place(6.25, SMALL.prices[2]), panels.OWN[0]) < 12
    assert distance(image, chart.place(2.25, SMALL.prices[2]), panels.OWN[0]) > 60


def test_two_products_have_their_paths_and_none_when_sold_out() -> None:
    menu = PAIR.menu
    states = [pair(0, (1, 4)), pair(1, (0, 4), 7, (1, 0), 100.0), pair(2, (0, 4), 3, (0, 0), 100.0)]
    image = picture(PAIR, states[-1], past=states[:-1])
    chart = layout_of(PAIR, 1, PAIR.prices, 0.0).price
    assert distance(image, chart.place(0.25, menu[2]), panels.OWN[0]) < 12  # action 7 is (180, 120)
    assert distance(image, chart.place(0.25, menu[1]), panels.OWN[1]) < 12
    assert distance(image, chart.place(1.5, menu[0]), panels.OWN[1]) < 12  # action 3 is (120, 60), the first sold out
    assert distance(image, chart.place(1.5, menu[1]), panels.OWN[0]) > 60


def test_both_firms_have_their_paths() -> None:
    market = DuopolyPricing()
    states = [firms(0, 1, 1), firms(1, 9, 1, 0.1), firms(2, 4, 9, 0.4)]
    image = picture(market, states[-1], past=states[:-1])
    chart = layout_of_firms(market, 1, firms(2, 1, 1, 0.4)).price
    for period, (own, rival) in enumerate(((9, 1), (4, 9))):
        assert distance(image, chart.place(period + 0.5, market.prices[own]), panels.OWN[0]) < 12
        assert distance(image, chart.place(period + 0.5, market.prices[rival]), panels.OWN[1]) < 12


# ------------------------------------------------------------------------------------------------------------- maps


def cells(image: Image, heat: HeatMap) -> Image:
    """The colour at the middle of each cell, the lowest row first."""
    points = [[heat.place(column, row) for column in range(heat.columns)] for row in range(heat.rows)]
    return np.array([[image[int(y), int(x)] for x, y in line] for line in points])


def away_from(heat: HeatMap, column: float, row: float) -> Any:
    """The cells that a ring around one does not touch, bool [rows, columns]."""
    x, y = heat.place(column, row)
    return np.array([
        [math.dist(heat.place(c, r), (x, y)) > 13 for c in range(heat.columns)] for r in range(heat.rows)
    ])  # fmt: skip


def any_table(market: Market[Any], seed: int) -> Any:
    return np.random.default_rng(seed).integers(0, len(market.prices), (market.stages, market.num_states))


@pytest.mark.parametrize("seed", [0, 1])
def test_the_maps_of_a_season_have_the_colours_of_the_tables(seed: int) -> None:
    table = any_table(SMALL, seed)
    image = picture(SMALL, season(0, 6), policy=table)
    maps = small_layout(policies=2).maps[0]
    for shown, heat in zip((table, SMALL.optimal_policy()), maps, strict=True):
        free = away_from(heat, 0, 5)
        assert free.sum() > 100
        expected = PriceScale(40.0, 120.0).colours(SMALL.prices[shown[:, 1:].T])
        np.testing.assert_array_equal(cells(image, heat)[free], expected[free])


def test_the_maps_of_two_products_are_at_the_stock_of_the_other() -> None:
    table = any_table(PAIR, 3)
    image = picture(PAIR, pair(0, (1, 3)), policy=table)
    maps = layout_of(PAIR, 2, PAIR.prices, 0.0).maps
    scale, menu = PriceScale(60.0, 180.0), PAIR.menu
    for i, shown in enumerate((table, PAIR.optimal_policy())):
        grid = shown.reshape(12, 3, 5)  # [T, first stock, second stock]
        for heat, prices, row in (
            (maps[0][i], menu[grid[:, 1:, 3] // 3].T, 0),
            (maps[1][i], menu[grid[:, 1, 1:] % 3].T, 2),
        ):
            free = away_from(heat, 0, row)
            assert free.sum() > 15
            np.testing.assert_array_equal(cells(image, heat)[free], scale.colours(prices)[free])


def test_the_maps_of_the_duopoly_have_the_colours_of_the_tables() -> None:
    market = DuopolyPricing("undercut")
    table = any_table(market, 4)
    image = picture(market, firms(0, 1, 1), policy=table)
    scale = PriceScale(float(market.prices[0]), float(market.prices[-1]))
    for shown, heat in zip((table, market.optimal_policy()), layout_of_firms(market, 2).maps, strict=True):
        free = away_from(heat, 1, 1)
        expected = scale.colours(market.prices[shown[0].reshape(15, 15)])  # [own, rival], the own price upwards
        np.testing.assert_array_equal(cells(image, heat)[free], expected[free])


@pytest.mark.parametrize("market", [SMALL, PAIR, DuopolyPricing(), Yogurt()])
def test_the_map_of_the_optimal_policy_is_that_of_the_optimum(market: Any) -> None:
    playback = played_by_expert(market, 5)
    image = picture(market, playback.env.state_of(0), past=[], policy=market.optimal_policy())
    if isinstance(market, DuopolyPricing):
        rows = [layout_of_firms(market, 2).maps]
    else:
        rows = list(layout_of(market, 2, np.array([]), 0.0).maps)
    for first, second in rows:
        shown = [
            image[int(m.top) : int(m.top + m.height), int(m.left) : int(m.left + m.width)] for m in (first, second)
        ]
        np.testing.assert_array_equal(*shown)
        assert len(np.unique(shown[0].reshape(-1, 3), axis=0)) > 1


def test_the_ring_is_at_the_present_state() -> None:
    heat = small_layout().maps[0][0]
    image = picture(SMALL, season(11, 3))
    x, y = heat.place(11, 2)
    assert distance(image, (x + 7, y), "#f4f7fa") < 12
    x, y = heat.place(4, 4)
    assert distance(image, (x + 7, y), "#f4f7fa") > 60


def test_the_value_of_a_policy_is_exact_and_each_markets_own() -> None:
    other = Pricing(periods=20, stock=6, prices=(40, 60, 80, 100, 120), arrival_rate=0.3)
    for market in (SMALL, other, SMALL):
        expected = 100 * market.policy_value(SMALL.myopic_policy()) / market.optimal_value()
        assert market.percent_of_optimum(SMALL.myopic_policy()) == expected
    assert SeasonView(SMALL, [season(0, 6)]).captions == ["optimum"]


# ----------------------------------------------------------------------------------------------------- from the stage


def played_by_expert(market: Any, steps: int) -> TensorPlayback:
    playback = TensorPlayback(TensorVectorEnv(market, 1, device="cpu", seed=3), ExpertPolicy())
    playback.start(0)
    for _ in range(steps):
        playback.step()
        playback.reset_finished()
    return playback


def test_a_stage_tabulates_deterministic_policies_only(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(Season, "draw", lambda self, state, canvas: seen.append(canvas.policy))
    batch = TensorVectorEnv(SMALL, 2, device="cpu")
    agent = PPO("MlpPolicy", batch, n_steps=8, batch_size=16, seed=1)
    for policy in (ExpertPolicy(), AgentPolicy(agent), AgentPolicy(agent, deterministic=False), RandomPolicy()):
        playback = TensorPlayback(batch, policy)
        playback.start(0)
        playback.picture(0, (64, 64), over=False)
    expert, greedy, *unknown = seen
    assert unknown == [None, None]
    np.testing.assert_array_equal(expert, SMALL.optimal_policy())
    for period, stock in ((0, 6), (7, 2), (19, 1)):
        one: Any = SMALL.states(period)
        action = agent.act(SMALL.observe(one))[stock]
        assert greedy[period, stock] == int(action)
    assert not (greedy == expert).all()


def test_environments_without_tables_have_none() -> None:
    env = make("snake-small", 1, device="cpu")
    assert isinstance(env, TensorVectorEnv)
    assert TensorPlayback(env, ExpertPolicy())._table is None


# ------------------------------------------------------------------------------------------------------------- endings


@pytest.mark.parametrize(
    ("state", "colour"),
    [
        (season(20, 2, 1, 0, 1.01), panels.GOOD),
        (season(20, 0, 1, 1, 0.8), panels.FAIR),
        (season(9, 0, 1, 1, 0.6), panels.POOR),
        (season(9, 2, 1, 1, 1.2), None),
        (season(0, 6), None),
    ],
)
def test_the_frame_tells_how_it_went(state: Any, colour: Any) -> None:
    """``revenue`` is given relative to V*; the end needs no telling, the state knows."""
    best = SMALL.optimal_value()
    state = season(state.period, state.stock, state.price, state.sold, state.revenue * best)
    image = picture(SMALL, state)
    assert tuple(image[2, 400]) == rgb(colour or "#0d141c")
    x, y = small_layout().maps[0][0].place(state.period, state.stock - 1)
    ring = state.period < 20 and state.stock > 0
    assert (distance(image, (x + 7, y), "#f4f7fa", reach=2) < 12) == ring


def test_a_closed_market_says_so() -> None:
    market = DuopolyPricing()
    for profit, colour in ((market.optimal_profits(3)[-1], panels.GOOD), (0.1, panels.POOR)):
        assert tuple(picture(market, firms(3, 1, 1, profit), over=True)[2, 400]) == rgb(colour)
        assert tuple(picture(market, firms(3, 1, 1, profit))[2, 400]) == rgb("#0d141c")


@pytest.mark.parametrize("market", [Season([1.0, 2.0], np.array([[[1.0, 0.0]] * 2]), 1), Pricing(1, 1, prices=(1, 2))])
def test_the_smallest_markets_have_pictures(market: Season) -> None:
    """One period, one unit, two prices; the first without any customers, so that V* is 0."""
    for state in (season(0, 1), season(1, 1, 0, 0, 0.0), season(1, 0, 1, 1, 2.0)):
        past = [season(0, 1)] * state.period
        image = picture(market, state, past=past)
        assert image.shape == (540, 960, 3)
        assert (tuple(image[2, 400]) != rgb("#0d141c")) == bool(state.period)


# ------------------------------------------------------------------------------------------------------------- parts


@given(st.floats(-1e4, 1e4), st.floats(1e-3, 1e5), st.integers(2, 8))
def test_ticks_are_few_round_and_inside(low: float, span: float, most: int) -> None:
    ticks = round_ticks(low, low + span, most)
    assert most / 2.5 - 1 <= len(ticks) <= most
    assert all(low - 1e-6 * span <= tick <= low + span + 1e-6 * span for tick in ticks)
    if len(ticks) > 1:
        step = ticks[1] - ticks[0]
        np.testing.assert_allclose(np.diff(ticks), step, rtol=1e-5)
        assert round(step / 10 ** math.floor(math.log10(step) + 1e-9), 4) in (1, 2, 5)


@pytest.mark.parametrize(
    ("value", "decimals", "text"),
    [(0.125, 2, "$0.12"), (-3.0, 0, "-$3"), (12_345.6, 1, "$12,345.6"), (123_456.7, 2, "$123.5 k"), (2e6, 0, "$2 M")],
)
def test_numbers_are_short(value: float, decimals: int, text: str) -> None:
    assert format_amount(value, decimals, "$") == text


def test_places_of_a_chart() -> None:
    chart = Chart(100, 50, 200, 80, (0, 10), (-1, 1))
    assert chart.place(0, -1) == (100, 130)
    assert chart.place(10, 1) == (300, 50)
    assert chart.place(5, 0) == (200, 90)
    assert chart.place(5, 7) == (200, 50)


def test_colours_of_prices_go_from_dark_to_light() -> None:
    shades = PriceScale(2.0, 5.0).colours(np.linspace(2.0, 5.0, 50)).astype(int) @ (299, 587, 114)
    assert (np.diff(shades) > 0).all()
    np.testing.assert_array_equal(PriceScale(3.0, 3.0).colours(np.array([3.0])), [[68, 1, 84]])


def test_cells_have_exact_edges() -> None:
    canvas = Canvas(40, 30)
    colours = np.array([[(255, 0, 0), (0, 255, 0)], [(0, 0, 255), (255, 255, 255)]], np.uint8)
    canvas.cells(colours, 4, 5, 20, 8)
    expected = np.zeros((30, 40, 3), np.uint8)
    expected[5:13, 4:24] = colours.repeat(4, 0).repeat(10, 1)
    np.testing.assert_array_equal(canvas.image(), expected)


def test_drawing_changes_nothing() -> None:
    states = played(PRICES, SALES)
    table = any_table(SMALL, 5)
    before = table.copy()
    first = picture(SMALL, states[-1], past=states[:-1], policy=table)
    np.testing.assert_array_equal(picture(SMALL, states[-1], past=states[:-1], policy=table), first)
    np.testing.assert_array_equal(table, before)


def test_drawing_needs_no_tensors_of_the_market() -> None:
    """A market on a GPU draws without asking it; here the device has no numbers at all."""
    states = played(PRICES, SALES)
    expected = picture(SMALL, states[-1], past=states[:-1])
    elsewhere = copy.deepcopy(SMALL).to("meta")
    np.testing.assert_array_equal(picture(elsewhere, states[-1], past=states[:-1]), expected)
