"""A Connect Four board's picture: two players over a board of stones, the newest marked, and the line that won."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from palaestra.envs.games.bitboards import BoardShape
    from palaestra.envs.rendering.canvas import Canvas, Colour

_TOP, _SIDE, _ROOM = 100.0, 608.0, 530.0  # where the board may lie: below, and as wide and as high
_NAMES = ("yellow", "red")


class _Stone(NamedTuple):
    """Colours of one player's stones."""

    face: Colour
    rim: Colour
    shine: Colour


_STONES = (_Stone("#ffd447", "#e0a21b", "#ffe58a"), _Stone("#f2585b", "#c23240", "#ff8d86"))


class _Position(NamedTuple):
    """One board on the host, its stones as bits."""

    stones: tuple[int, int]  # of player 0 and of player 1
    turn: int  # whose it would be
    newest: int
    line: int  # cells of the lines that won


def draw_game(canvas: Canvas, state: Any, shape: BoardShape, line: int) -> None:
    """Draw one board's state, which is on the host.

    Args:
        canvas: in whose units all lengths are.
        state: a ``ConnectFourState``.
        shape: of the board.
        line: the cells of lines that have won, as bits.
    """
    turn = int(state.moves) & 1
    own, other = int(state.own), int(state.other)
    before = int(canvas.past[-1].own) | int(canvas.past[-1].other) if len(canvas.past) else 0
    # without an earlier picture only a first move, or both players', is known to be new
    newest = (own | other) & ~before if len(canvas.past) or int(state.moves) <= 2 else 0
    place = _Position((other, own) if turn else (own, other), turn, newest, line)
    canvas.fill("#0d141c")
    _draw_players(canvas, place, full=int(state.moves) == shape.cells)
    _draw_stones(canvas, place, shape)


def _draw_players(canvas: Canvas, place: _Position, full: bool) -> None:
    """Who plays with which stones; the one whose turn it is, or who has won, stands out."""
    winner = 1 - place.turn if place.line else None
    over = canvas.over or winner is not None or full
    marked = winner if over else place.turn
    for player, name in enumerate(canvas.players or _NAMES):
        left = 16.0 + player * 312
        stands_out = player == marked
        canvas.rectangle(left, 14, 296, 68, "#22303d" if stands_out else "#131d27", radius=16)
        if stands_out:
            canvas.rectangle(left, 14, 296, 68, _STONES[player].face, radius=16, line=3)
        _draw_stone(canvas, left + 38, 48, 22, _STONES[player])
        said = "wins" if winner == player else "draw" if over and full and winner is None else ""
        said = said or ("to move" if stands_out else "")
        ink = "#f4f7fa" if stands_out else "#8a99a8"
        size = min(34.0, 34.0 * 215 / max(1.0, canvas.text_width(name, 34)))
        canvas.text(name, left + 74, 48 if not said else 39, size, ink)
        if said:
            canvas.text(said, left + 74, 65, 21, _STONES[player].shine if stands_out else ink)


def _draw_stones(canvas: Canvas, place: _Position, shape: BoardShape) -> None:
    cell = min(_SIDE / shape.columns, _ROOM / shape.rows)
    width, height = cell * shape.columns, cell * shape.rows
    left = (canvas.width - width) / 2
    canvas.rectangle(left - 8, _TOP - 8, width + 16, height + 16, "#12305f", radius=26)
    canvas.rectangle(left - 3, _TOP - 3, width + 6, height + 6, "#1d4c9c", radius=22)
    for column in range(shape.columns):
        x = left + (column + 0.5) * cell
        for row in range(shape.rows):
            y, bit = _TOP + (shape.rows - row - 0.5) * cell, shape.bottom(column) << row
            canvas.circle(x, y, 0.43 * cell, "#15397a")
            owner = next((player for player in (0, 1) if place.stones[player] & bit), None)
            if owner is None:
                canvas.circle(x, y, 0.39 * cell, "#0b1830")
                continue
            _draw_stone(canvas, x, y, 0.39 * cell, _STONES[owner])
            if place.line and not place.line & bit:
                canvas.circle(x, y, 0.39 * cell, "#0d1c3a60")
            if place.line & bit:
                canvas.circle(x, y, 0.43 * cell, "#ffffff", line=0.06 * cell)
            elif place.newest & bit:
                canvas.circle(x, y, 0.1 * cell, "#ffffffd0")
        canvas.text(str(column + 1), x, _TOP + height + 26, 26, "#7d8b99", "center")


def _draw_stone(canvas: Canvas, x: float, y: float, radius: float, stone: _Stone) -> None:
    canvas.circle(x, y, radius, stone.rim)
    canvas.circle(x, y, 0.84 * radius, stone.face)
    canvas.circle(x, y, 0.62 * radius, stone.rim, line=0.07 * radius)
    canvas.circle(x - 0.42 * radius, y - 0.46 * radius, 0.13 * radius, stone.shine)
