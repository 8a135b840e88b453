"""The window of ``palaestra watch``: a legend of its keys, a mark while it is paused, and pictures that are saved.

An episode keeps its pace: steps for whose pictures there is no time are played and not shown. Where the steps
themselves are too slow, there is a picture every ``_GAP`` seconds, and the episode lasts longer.
"""

from __future__ import annotations

import itertools
import math
import os
import re
import time
from pathlib import Path

import numpy as np
import pygame

from palaestra.envs.rendering.canvas import Canvas, Image
from palaestra.envs.rendering.window import Window
from palaestra.train.formatting import tell
from palaestra.train.recording.layout import BACKGROUND, paste
from palaestra.train.recording.video import write_picture

_KEYS = (
    ("Space", "pause"),
    ("Right", "one step"),
    ("R", "restart"),
    ("S", "save picture"),
    ("+ -", "pace"),
    ("H", "hide this"),
    ("Q", "quit"),
)
_TEXT = 20.0  # pixels of a line of text
_NOTICE = 3.0  # s for which a message is seen at least
_GAP = 1.0  # s between two pictures at most


class Viewer(Window):
    """Shows the frames of episodes.

    Attributes:
        place: what the picture shows, for the name of its file.
        restart: whether the person wants this episode from its start.
        frames: how many were shown.
    """

    def __init__(self, title: str, fps: float) -> None:
        super().__init__(title, fps)
        self.place, self.restart, self.frames = "", False, 0
        self._most_late, self._seen = math.inf, 0.0  # when the newest picture had been shown
        self._legend = True
        self._notice, self._noticed = "", 0.0  # a message, and when it came
        self._frame: Image = np.empty((0, 0, 3), np.uint8)

    def show(self, frame: Image, seconds: float | None = None) -> bool:
        self.frames += not self.closed
        if time.monotonic() - self._noticed > _NOTICE:
            self._notice = ""
        go_on = super().show(frame, seconds)
        self._seen = time.monotonic()
        return go_on

    def begin(self) -> None:
        """Show an episode from its start: its time begins with the next picture."""
        self.restart, self._due = False, 0.0

    def has_time(self) -> bool:
        """Whether the next step is to be shown: not if the time of its picture is over already."""
        if self._due == 0.0 or self.paused:
            return True
        if not self.handle_events():
            self.close()
        now = time.monotonic()
        if now - self._seen > _GAP:
            self._due = now
        if self.closed or self.restart or self.paused or now < self._due + 1.0 / self.fps:
            return True
        self._due += 1.0 / self.fps
        return False

    def draw(self, frame: Image) -> None:
        self._frame = frame
        whole = np.concatenate((frame, _legend(frame.shape[1]))) if self._legend else frame.copy()
        if self.paused:
            paste(whole, _pause_mark(), frame.shape[1] - 48, frame.shape[0] - 44)
        if self._notice:
            paste(whole, _plate(self._notice), 12, frame.shape[0] - 44)
        super().draw(whole)

    def obey(self, event: pygame.event.Event) -> None:
        super().obey(event)
        key = event.key if event.type == pygame.KEYDOWN else None
        if key == pygame.K_r:
            self.restart = self._released = True
        elif key == pygame.K_h:
            self._legend = not self._legend
            self.draw(self._frame)
        elif key == pygame.K_s:
            self._save()
            self.draw(self._frame)

    def _save(self) -> None:
        """Write the picture without legend and marks, into the current folder and over no other file."""
        name = re.sub(r"[^\w.-]+", "-", self.place).strip("-.")
        names = itertools.chain([name], (f"{name}-{count}" for count in itertools.count(2)))
        file = next(f"{name}.png" for name in names if not os.path.exists(f"{name}.png"))
        self._noticed = time.monotonic()
        try:
            write_picture(Path(file), self._frame)
            tell(f"palaestra: saved {Path(file).absolute()}")
            self._notice = f"saved: {file}"
        except OSError as error:
            tell(f"palaestra: {file} cannot be saved: {error.strerror or error}")
            self._notice = f"not saved: {error.strerror or error}"


def _legend(width: int) -> Image:
    """The keys in one line."""
    gap = 14.0
    needed = sum(Canvas.text_width(f"{key} {meaning}", _TEXT) + gap for key, meaning in _KEYS) + gap
    size = min(_TEXT, _TEXT * width / needed)
    line, x, gap = Canvas(width, 32), gap * size / _TEXT, gap * size / _TEXT
    line.fill("#18222d")
    for key, meaning in _KEYS:
        x += line.text(f"{key} ", x, 16, size, "#ffe48a")
        x += line.text(meaning, x, 16, size, "#9fb0c0") + gap
    return line.image()


def _plate(text: str) -> Image:
    """A message on a dark plate."""
    plate = Canvas(Canvas.text_width(text, _TEXT) + 24, 32)
    plate.fill(BACKGROUND)
    plate.text(text, 12, 16, _TEXT, "#ffe48a")
    return plate.image()


def _pause_mark() -> Image:
    """Two bars."""
    plate = Canvas(36, 32)
    plate.fill(BACKGROUND)
    for x in (10, 20):
        plate.rectangle(x, 7, 6, 18, "#ffe48a")
    return plate.image()
