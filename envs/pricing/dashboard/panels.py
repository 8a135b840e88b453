"""Parts that both dashboards share: colours, the places of plots and maps, captions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from palaestra.envs.core import Array
from palaestra.envs.pricing.dashboard.chart import BACKGROUND, MUTED, PANEL, SMALL, Chart, HeatMap, PriceScale

if TYPE_CHECKING:
    from palaestra.envs.rendering.canvas import Canvas, Colour, Table

OPTIMAL = "#ffb02e"
OWN = ("#5cb8ff", "#ff85b8")  # one colour per product or firm
GOOD, FAIR, POOR = "#3ddc84", "#ffb02e", "#ff5a5f"
BAND = "#a8752a"
PLOT_LEFT, PLOT_WIDTH = 78.0, 470.0
MAPS_LEFT, MAPS_WIDTH, MAPS_TOP, MAPS_BOTTOM = 624.0, 250.0, 152.0, 500.0


class MarketView(ABC):
    """What a dashboard shows of a market and n states that an episode has visited.

    Attributes:
        policies: tables, int64 [T, S] each: the watched policy's if it is known, then the optimal one's.
        captions: of each, with its exact value relative to V*.
        period: int64 [n] periods gone.
        over: whether the episode has ended.
        reveals: whether the optimal policy is shown.
    """

    def __init__(
        self,
        market: Any,
        states: Sequence[Any],
        policy: Table | None = None,
        *,
        over: bool = False,
        reveals: bool = True,
    ) -> None:
        """``states`` are one environment's on the host, oldest first; ``policy`` is the watched one's table."""
        self.market, self.over, self.reveals = market, over, reveals
        self.policies, self.captions = [market.optimal_policy()], ["optimum"]
        if policy is not None:
            self.policies.insert(0, policy)
            self.captions = [f"policy {market.percent_of_optimum(policy):.1f} %", "optimum 100 %"]
        self.period: Array = np.array([state.period for state in states], np.int64)
        self._read(states)

    @abstractmethod
    def _read(self, states: Sequence[Any]) -> None:
        """Take what this kind of market shows from the states."""


def plot(top: float, height: float, x: tuple[float, float], y: tuple[float, float]) -> Chart:
    """A chart in the left panel."""
    return Chart(PLOT_LEFT, top, PLOT_WIDTH, height, x, y)


def around(prices: Array) -> tuple[float, float]:
    """The range of the prices, with a margin."""
    low, high = float(prices.min()), float(prices.max())
    margin = max(0.08 * (high - low), 0.01 * high)
    return low - margin, high + margin


def map_row(top: float, height: float, cells: tuple[int, int], policies: int) -> tuple[HeatMap, ...]:
    """Heat maps side by side in the right panel."""
    width = (MAPS_WIDTH - 14.0 * (policies - 1)) / policies
    return tuple(HeatMap(MAPS_LEFT + i * (width + 14.0), top, width, height, *cells) for i in range(policies))


def draw_panels(canvas: Canvas) -> None:
    """The background and both panels."""
    canvas.fill(BACKGROUND)
    canvas.rectangle(12, 96, 552, 434, PANEL, radius=12)
    canvas.rectangle(574, 96, 374, 434, PANEL, radius=12)


def draw_scale(canvas: Canvas, scale: PriceScale, bottom: float, currency: str = "") -> None:
    """The scale of prices, beside the maps."""
    scale.draw(canvas, MAPS_LEFT + MAPS_WIDTH + 10, MAPS_TOP, bottom - MAPS_TOP, currency)


def result_colour(percent: float) -> Colour:
    """The colour of an episode's return as a percentage of V*."""
    return GOOD if round(percent) >= 100 else FAIR if round(percent) >= 75 else POOR


def draw_secret(canvas: Canvas) -> None:
    """Where the maps stand once the episode is over."""
    middle = MAPS_LEFT + MAPS_WIDTH / 2
    canvas.text("the optimal prices are", middle, 300, SMALL, MUTED, "center")
    canvas.text("shown at the end", middle, 324, SMALL, MUTED, "center")
