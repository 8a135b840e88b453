"""A window on the screen that shows pictures and reads keys."""

from __future__ import annotations

import os
import time

import pygame

from palaestra.envs.rendering.canvas import Image, to_surface

_LOOK = 1 / 30  # s between two looks at the keys


class NoDisplayError(RuntimeError):
    """There is no screen to open a window on."""


class Window:
    """A window that shows pictures at a steady pace.

    Space pauses, the right arrow or a period shows one more picture and pauses there, + and − double and halve the
    pace, Escape or Q (or closing the window) ends it.
    """

    def __init__(self, title: str, fps: float) -> None:
        """``fps`` is the pace in pictures per second; the window opens with the first picture."""
        self.title, self.fps = title, fps
        self.paused = False
        self.closed = False
        self._released = False  # whether a pause lets one picture through
        self._due = 0.0  # when the next picture is to follow; 0.0 before the first
        self._most_late = 0.0  # s after which it follows from now on, and what was lost is not made up for
        self._size: tuple[int, int] | None = None  # size of the pictures
        self._shown: tuple[int, int] = (0, 0)  # size of the window: smaller where the screen is

    def show(self, frame: Image, seconds: float | None = None) -> bool:
        """Show the picture for one frame's time, or until the pause ends; False once the window is closed.

        ``seconds`` is another time.

        Raises:
            NoDisplayError: if no window can be opened.
        """
        if self.closed:
            return False
        self._released = False
        self.draw(frame)
        now, duration = time.monotonic(), 1.0 / self.fps if seconds is None else seconds
        first = self._due == 0.0 or seconds is not None
        self._due = now + duration if first else max(self._due + duration, now - self._most_late)
        paused = self.paused
        go_on = self.handle_events()
        while go_on and not self._released and (self.paused or time.monotonic() < self._due):
            time.sleep(_LOOK if self.paused else min(_LOOK, max(0.0, self._due - time.monotonic())))
            paused = paused or self.paused
            go_on = self.handle_events()
            if paused or self.paused:
                self.draw(frame)
        if paused or self.paused:
            self._due = time.monotonic()
        if not go_on:
            self.close()
        return go_on

    def draw(self, frame: Image) -> None:
        """Put the picture on the screen, and open the window for the first one; see :meth:`show`."""
        surface = to_surface(frame)
        if self._size != surface.get_size():
            self._size = surface.get_size()
            open_display()
            try:
                self._shown = _fitting(self._size, pygame.display.get_desktop_sizes()[0])
                pygame.display.set_mode(self._shown)
            except pygame.error as error:
                raise NoDisplayError(f"cannot open a window: {error}") from error
        pygame.display.set_caption(f"{self.title} · paused" if self.paused else self.title)
        if self._shown != self._size:
            surface = pygame.transform.smoothscale(surface, self._shown)
        screen = pygame.display.get_surface()
        assert screen is not None
        screen.blit(surface, (0, 0))
        pygame.display.flip()

    def close(self) -> None:
        """Close the window; closing twice does nothing."""
        self.closed = True
        if self._size is not None:
            self._size = None
            pygame.display.quit()

    def handle_events(self) -> bool:
        """Obey the keys pressed since the last time; False if the window is to close."""
        for event in pygame.event.get():
            key = event.key if event.type == pygame.KEYDOWN else None
            if event.type == pygame.QUIT or key in (pygame.K_ESCAPE, pygame.K_q):
                return False
            self.obey(event)
            if key in (pygame.K_PLUS, pygame.K_EQUALS, pygame.K_KP_PLUS):
                self.fps = min(self.fps * 2, 1000.0)
            elif key in (pygame.K_MINUS, pygame.K_KP_MINUS):
                self.fps = max(self.fps / 2, 0.5)
        return True

    def obey(self, event: pygame.event.Event) -> None:
        """One event among those that neither close the window nor change the pace."""
        if event.type != pygame.KEYDOWN:
            return
        if event.key == pygame.K_SPACE:
            self.paused = not self.paused
        elif event.key in (pygame.K_RIGHT, pygame.K_PERIOD):
            self.paused = self._released = True


def open_display() -> None:
    """Reach the screen.

    Raises:
        NoDisplayError: if there is none.
    """
    try:
        pygame.display.init()
    except pygame.error as error:
        raise NoDisplayError(f"cannot open a window: {error}") from error
    # without being asked to, SDL draws into memory where it reaches no screen, and nobody would see anything
    if pygame.display.get_driver() in ("offscreen", "dummy") and not os.environ.get("SDL_VIDEODRIVER"):
        pygame.display.quit()
        display = os.environ.get("WAYLAND_DISPLAY") or os.environ.get("DISPLAY") or "of this machine"
        raise NoDisplayError(f"cannot open a window: the display {display} cannot be reached")


def _fitting(size: tuple[int, int], screen: tuple[int, int]) -> tuple[int, int]:
    """The size, scaled down where it needs more than nine tenths of the screen (title bars and panels want a share)."""
    scale = min(1.0, 0.9 * screen[0] / size[0], 0.9 * screen[1] / size[1])
    return size if scale == 1.0 else (round(size[0] * scale), round(size[1] * scale))
