"""Figures that environments add to a report, as known answers."""

from __future__ import annotations

import numpy as np
import pytest

from palaestra.envs import resolve
from palaestra.envs.core import TensorEnv
from palaestra.envs.core.reference import BarFigure, MapFigure, counts_between, counts_of_whole
from palaestra.envs.pricing import Pricing, TwoProducts
from palaestra.envs.pricing.dashboard.policy_figures import price_maps
from palaestra.envs.snake import Snake
from palaestra.envs.wrappers import StickyActions


def test_whole_numbers_have_a_bar_each() -> None:
    figure = counts_of_whole(np.array([3.0, 5.0, 5.0]), "T", "x", "y", [5, 9])
    assert (figure.edges, figure.counts, figure.names) == ([2.5, 3.5, 4.5, 5.5], [1, 0, 2], ["3", "4", "5"])
    assert figure.marked == [2]
    assert figure.as_dict()["kind"] == "bars"


def test_counts_between_edges() -> None:
    figure = counts_between(np.array([0.0, 0.1, 1.0]), "T", "x", "y", bars=2)
    assert (figure.edges, figure.counts) == ([0.0, 0.5, 1.0], [2, 1])


def test_snake_tells_lengths_and_the_steps_of_full_boards() -> None:
    returns, lengths = np.array([35.0, 35.0, 3.0]), np.array([300, 200, 40])
    ends, pace, full = Snake(size=6).report_figures(returns, lengths, returns == 35, None)
    assert isinstance(ends, BarFigure)
    assert isinstance(full, BarFigure)
    assert (ends.names[0], ends.names[-1], ends.counts[0], ends.counts[-1]) == ("4", "36", 1, 2)
    assert ends.marked == [32]
    assert isinstance(pace, BarFigure)
    assert (pace.edges[0], pace.edges[-1]) == (200 / 35, 40 / 3)
    assert (full.edges[0], full.edges[-1], sum(full.counts)) == (200.0, 300.0, 2)
    assert len(Snake(size=6).report_figures(returns - 1, lengths, None, None)) == 2
    assert len(Snake(size=6).report_figures(returns * 0, lengths, None, None)) == 1  # none has eaten


def test_pricing_tells_its_prices_beside_the_best_known() -> None:
    market = Pricing(periods=7, stock=3, prices=[20, 40, 90])
    fixed = lambda state: state.stock * 0 + 1  # noqa: E731  40 everywhere
    figure = market.report_figures(np.zeros(1), np.zeros(1), None, fixed)[-1]
    assert isinstance(figure, MapFigure)
    assert figure.maps["agent"] == [[40.0] * 7] * 3
    best = market.optimal_policy()
    for units in (1, 2, 3):
        assert figure.maps["best known"][units - 1] == [float(market.prices[best[t, units]]) for t in range(7)]
    assert (figure.first, figure.steps) == ((1.0, 1.0), (1.0, 1.0))
    assert market.report_figures(np.zeros(1), np.zeros(1), None, None) == []


def test_the_best_policy_is_nowhere_away_from_itself() -> None:
    market = TwoProducts()
    figures = price_maps(market, market.optimal_policy())
    assert len(figures) == 2
    for figure in figures:
        assert isinstance(figure, MapFigure)
        assert figure.maps["agent"] == figure.maps["best known"]
        assert "its prices are 0 away" in figure.note


def test_long_seasons_are_thinned() -> None:
    market = Pricing(periods=250, stock=130)
    figure = market.report_figures(np.zeros(1), np.zeros(1), None, lambda state: state.stock * 0)[-1]
    assert isinstance(figure, MapFigure)
    assert (len(figure.maps["agent"]), len(figure.maps["agent"][0])) == (44, 84)
    assert figure.steps == (3.0, 3.0)


def test_a_wrapper_passes_the_question_on_without_the_agent() -> None:
    class Asked(Snake):
        def report_figures(self, returns, lengths, successes, act):  # type: ignore[no-untyped-def]
            assert act is None
            return [counts_of_whole(returns, "T", "x", "y")]

    wrapped = StickyActions(Asked(size=4), 0.1)
    assert wrapped.has("report_figures")
    assert len(wrapped.report_figures(np.zeros(2), np.zeros(2), None, lambda state: state)) == 1


def test_it_is_optional() -> None:
    assert not resolve("cartpole").has("report_figures", {})
    assert resolve("snake").has("report_figures", {})
    with pytest.raises(NotImplementedError):
        TensorEnv.report_figures(Snake(), np.zeros(1), np.zeros(1), None, None)
