"""Where pictures and their title stand in a frame.

1. A line at the top has a title and a tally. Below it stands the picture, or a grid of them, as large as the frame lets
   them be.
2. A frame of a given width has that width and height. Otherwise the width is the picture's, up to a limit; where the
   limit makes the picture less high, the frame is less high too.
3. All frames of a recording have the size of the first, and even numbers of pixels, which video formats require.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from palaestra.envs.rendering.canvas import Canvas, Image, even

BACKGROUND = (13, 20, 28)
GAP = 8  # pixels between the tiles of a grid
Size = tuple[int, int]  # width, height


class Layout:
    """Frames of one size.

    Attributes:
        box: the largest size of one picture.
    """

    def __init__(self, grid: tuple[int, int], width: int | None, height: int, widest: int) -> None:
        """``grid`` has rows and columns; without a ``width`` the frame is at most ``widest`` pixels wide."""
        (rows, self._columns), self._alone = grid, grid == (1, 1)
        self._width, self._height, self._strip = width, height, even(height / 18)
        gap = 0 if self._alone else GAP
        across = ((width or widest) - gap * (self._columns + 1)) // self._columns
        down = (height - self._strip - gap * (rows + 1)) // rows
        self.box: Size = max(2, across // 2 * 2), max(2, down // 2 * 2)
        self._tile: Size | None = None

    def frame(self, pictures: Sequence[Image], title: Sequence[str], tally: str) -> Image:
        """The pictures, row by row, under the line; of the title's parts, as many as there is room for."""
        if self._tile is None:
            high, wide = pictures[0].shape[:2]
            self._tile = wide + wide % 2, high + high % 2
        tiles = [centred(picture, self._tile) for picture in pictures]
        body = tiles[0] if self._alone else mosaic(tiles, self._columns)
        width, height = body.shape[1], body.shape[0]
        if self._width is not None or self._tile[0] * self.box[1] <= self._tile[1] * self.box[0]:
            height = self._height - self._strip
        width = self._width or max(width, even(self._height / 2))
        return np.concatenate((title_line(width, self._strip, title, tally), centred(body, (width, height))))


def centred(image: Image, size: Size) -> Image:
    """The image in the middle of a background of that size, or its middle where it is larger."""
    width, height = size
    if image.shape[:2] == (height, width):
        return image
    left, top = max(0, (image.shape[1] - width) // 2), max(0, (image.shape[0] - height) // 2)
    part = image[top : top + height, left : left + width]
    whole = np.empty((height, width, 3), dtype=np.uint8)
    whole[:] = BACKGROUND
    y, x = (height - part.shape[0]) // 2, (width - part.shape[1]) // 2
    whole[y : y + part.shape[0], x : x + part.shape[1]] = part
    return whole


def mosaic(tiles: Sequence[Image], columns: int, gap: int = GAP) -> Image:
    """Tiles of one size in rows from the upper left, ``gap`` pixels (an even number) apart and from the edge."""
    height, width = tiles[0].shape[:2]
    rows = -(-len(tiles) // columns)
    whole = np.empty((rows * (height + gap) + gap, columns * (width + gap) + gap, 3), dtype=np.uint8)
    whole[:] = BACKGROUND
    for i, tile in enumerate(tiles):
        row, column = divmod(i, columns)
        top, left = gap + row * (height + gap), gap + column * (width + gap)
        whole[top : top + height, left : left + width] = tile
    return whole


def paste(whole: Image, part: Image, x: int, y: int) -> None:
    """Put the part, as far as it lies inside, onto the picture, whose upper left corner is 0, 0."""
    room = whole[max(y, 0) :, max(x, 0) :][: part.shape[0], : part.shape[1]]
    room[:] = part[: room.shape[0], : room.shape[1]]


def faded(image: Image) -> Image:
    """The image half-way to the background."""
    return image // 2 + np.array(BACKGROUND, dtype=np.uint8) // 2


def title_line(width: int, height: int, title: Sequence[str], tally: str) -> Image:
    """The tally at the right end and, of the title's parts, as many as there is room for at the left one."""
    line, size, edge = Canvas(width, height), 0.66 * height, 0.3 * height
    line.fill(BACKGROUND)
    room = width - 2 * edge - Canvas.text_width(tally, size)
    if room >= 0:
        line.text(tally, width - edge, height / 2, size, "#ffe48a", "right")
    for count in range(len(title), 0, -1):
        text = " · ".join(title[:count])
        if Canvas.text_width(text, size) <= room - 2 * edge:
            line.text(text, edge, height / 2, size, "#e6edf3")
            break
    return line.image()
