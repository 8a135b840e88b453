"""Watch a policy: in a window, or recorded as a video or a picture.

1. A round plays one episode in every environment of a grid. A tile whose episode has ended waits for the others, faded
   unless it was a success; the last frame of an episode shows the state in which it ended.
2. Environment ``env_index`` + i plays in tile i, and round r shows episode ``episode`` + r, so one episode of a large
   batch is watched alone by its (seed, env index, episode).
3. Videos have at most 30 frames per second (GIF 15) unless they are asked for: of a faster environment every k-th step
   is shown, and always the last one. A window leaves out what cannot be drawn in time. A picture shows the end of the
   first round.
4. Episodes without a time limit are cut where an evaluation cuts them.
5. Gymnasium environments are recorded through their own ``render``, in the order in which they come.
"""

from __future__ import annotations

import itertools
import math
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from palaestra.envs.registry import resolve
from palaestra.envs.rendering.canvas import Image
from palaestra.envs.rendering.window import NoDisplayError
from palaestra.train.evaluation.episodes import most_steps
from palaestra.train.formatting import four_digits
from palaestra.train.recording.layout import Layout, faded
from palaestra.train.recording.playback import Playback, PolicyFunction, Rows, WatchError, open_playback
from palaestra.train.recording.video import PICTURE_SUFFIX, check_target, write_picture, write_video
from palaestra.train.recording.viewer import Viewer


@dataclass(frozen=True)
class _Medium:
    """Limits of a kind of target: frames per second (``most_fps`` if they are asked for), pixels and steps."""

    fps: float
    most_fps: float
    alone: int
    grid: int
    widest: float
    steps: int


_MEDIA = {
    ".mp4": _Medium(30.0, 60.0, 720, 1080, 16 / 9, 3_000),
    ".gif": _Medium(15.0, 50.0, 480, 720, 16 / 9, 400),
    ".png": _Medium(30.0, 60.0, 720, 1080, 16 / 9, 20_000),
}
_SCREEN = _Medium(math.inf, math.inf, 640, 1000, 5 / 4, sys.maxsize)
_SIZES = range(64, 4321)
_NO_WINDOW = "--record FILE.mp4, .gif or .png does without a window"


@dataclass(frozen=True)
class Watched:
    """The pictures and episodes shown.

    Attributes:
        path: the file, or None for a window.
        frames: how many pictures were shown or written.
        fps: the pace of these in pictures per second.
        size: width and height of the pictures in pixels.
        returns: of every episode that ended, in the order of rounds and tiles.
        cut: whether the recording stopped at ``max_steps``, or an episode was cut before it ended.
    """

    path: Path | None
    frames: int
    fps: float
    size: tuple[int, int]
    returns: list[float]
    cut: bool


def watch(
    name: str,
    policy: PolicyFunction,
    *,
    env_kwargs: dict[str, Any] | None = None,
    seed: int = 0,
    device: str = "cpu",
    record: Path | None = None,
    grid: tuple[int, int] = (1, 1),
    episodes: int | None = None,
    env_index: int | None = None,
    episode: int | None = None,
    fps: float | None = None,
    size: tuple[int | None, int] | None = None,
    max_steps: int | None = None,
    label: str = "",
) -> Watched:
    """Play episodes in a window or into a file.

    Args:
        name: of the environment, as ``palaestra.envs.make`` knows it.
        policy: (environment, observations [N, …]) → actions [N, …].
        env_kwargs: arguments of the environment.
        seed: of the episodes.
        device: where environment and policy compute.
        record: an .mp4, .gif or .png file; None opens a window.
        grid: rows and columns of environments shown at once.
        episodes: how many to show, rounded up to full grids. None for one grid, or for no end in a window.
        env_index: of the first tile's environment, and ``episode``: of the first round (both 0 if None); either
            given shows one round unless ``episodes`` says otherwise.
        fps: steps per second, each with a frame; None for the environment's own pace.
        size: width and height of the frames in pixels; a width of None follows the picture.
        max_steps: steps recorded at most, over all rounds. None for 3,000 (mp4), 400 (gif) or 20,000 (png).
        label: what to call the policy in titles.

    Raises:
        RecordingError: if the file cannot be written, before anything is played.
        NoDisplayError: if there is no display for a window.
        WatchError: if the environment draws no pictures, or an argument does not fit.
    """
    _check_arguments(grid, episodes, fps, size, max_steps)
    medium = _SCREEN
    if record is not None:
        check_target(record)
        medium = _MEDIA[record.suffix.lower()]
        if fps is not None and record.suffix.lower() == PICTURE_SUFFIX:
            raise WatchError("fps is the pace of a video, and a .png is one picture: record an .mp4 or .gif")
    elif no_display():
        raise NoDisplayError(f"there is no display to open a window on; {_NO_WINDOW}")
    width, height = size or (None, medium.alone if grid == (1, 1) else medium.grid)
    layout = Layout(grid, width, height, round(height * medium.widest))
    playback = open_playback(name, policy, math.prod(grid), env_kwargs or {}, seed, device, env_index, episode)
    try:
        pace = fps or playback.fps
        show = _Show(
            playback,
            layout,
            pace,
            medium.fps if fps is None else medium.most_fps,
            max_steps or medium.steps,
            resolve(name).short_name,
            label,
        )
        endless = record is None and episodes is None and env_index is None and episode is None
        first = episode or 0
        rounds = itertools.count() if endless else range(first, first + math.ceil((episodes or 1) / math.prod(grid)))
        frames = _show_in_window(show, rounds) if record is None else _record(show, rounds, record)
    finally:
        playback.env.close()
    return Watched(record, frames, show.fps, show.size, show.returns, show.cut)


def _check_arguments(
    grid: tuple[int, int],
    episodes: int | None,
    fps: float | None,
    size: tuple[int | None, int] | None,
    max_steps: int | None,
) -> None:
    if min(grid) < 1 or max(grid) > 16:
        raise WatchError(f"a grid has from 1x1 to 16x16 tiles, got {grid[0]}x{grid[1]}")
    for name, value in (("episodes", episodes), ("max_steps", max_steps)):
        if value is not None and value < 1:
            raise WatchError(f"{name} must be at least 1, got {value}")
    if fps is not None and not 0.1 <= fps <= 1000:
        raise WatchError(f"fps must be from 0.1 to 1000, got {fps:g}")
    for pixels in size or ():
        if pixels is not None and (pixels not in _SIZES or pixels % 2):
            raise WatchError(f"width and height must be even numbers from {_SIZES[0]} to {_SIZES[-1]}, got {pixels}")


def no_display() -> bool:
    """True on a Linux without a screen; SDL_VIDEODRIVER counts as one, since it is set on purpose."""
    variables = ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER")
    return sys.platform.startswith("linux") and not any(os.environ.get(variable) for variable in variables)


def _record(show: _Show, rounds: Iterable[int], path: Path) -> int:
    if path.suffix.lower() != PICTURE_SUFFIX:
        return write_video(path, show.frames(rounds), show.fps)
    for last in show.episode(next(iter(rounds)), lambda: False):
        image = last
    write_picture(path, image)
    return 1


def _show_in_window(show: _Show, rounds: Iterable[int]) -> int:
    window = Viewer(show.title, show.fps)
    try:
        for episode in rounds:
            while _show_episode(show, episode, window):
                pass
            if window.closed:
                break
    except NoDisplayError as error:
        raise NoDisplayError(f"{error}; {_NO_WINDOW}") from error
    finally:
        window.close()
    return window.frames


def _show_episode(show: _Show, episode: int, window: Viewer) -> bool:
    """One episode, unless the window is closed; True if the person wants it once more."""
    window.begin()
    for frame in show.episode(episode, window.has_time):
        window.title, window.place = show.title, show.place
        if window.restart or not window.show(frame) or window.restart:
            return window.restart
    return window.show(frame, seconds=1.0) and window.restart


class _Show:
    """Plays rounds on a playback and makes the frames.

    Attributes:
        fps: frames per second.
        title: of the newest frame, and ``place``: what it shows, in the words of a file's name.
        size: of the frames.
    """

    def __init__(
        self, playback: Playback, layout: Layout, pace: float, most_fps: float, max_steps: int, name: str, label: str
    ) -> None:
        """``pace`` is in steps per second."""
        self.playback, self.layout = playback, layout
        self.names = [part for part in (name, label) if part]
        self.title = self.place = " · ".join(self.names)
        self.stride = max(1, math.ceil(pace / most_fps))
        self.fps = pace / self.stride
        self.size = 0, 0
        self.steps_left = max_steps
        self.cut = False
        self.returns: list[float] = []

    def frames(self, rounds: Iterable[int]) -> Iterator[Image]:
        """The frames of all rounds, with a second after each to see how it ended."""
        for episode in rounds:
            if self.steps_left == 0:
                self.cut = True
                return
            for frame in self.episode(episode, lambda: True):
                yield frame
            yield from itertools.repeat(frame, round(self.fps))

    def episode(self, episode: int, wanted: Callable[[], bool]) -> Iterator[Image]:
        """The frames of one round; ``wanted`` decides on each between the first and the last."""
        playback = self.playback
        count = playback.env.num_envs
        playback.start(episode)
        over, lost, score = np.zeros(count, dtype=bool), np.zeros(count, dtype=bool), np.zeros(count)
        tiles = [playback.picture(row, self.layout.box, over=False) for row in range(count)]
        yield self._compose(tiles, episode, 0, over, lost, score)
        longest = most_steps(playback.env)
        for step in itertools.count(1):
            done = playback.step() & ~over
            score = np.where(over, score, playback.returns)
            over = over | done
            self.steps_left -= 1
            end = over.all() or self.steps_left == 0 or step == longest
            due = end or (step % self.stride == 0 and wanted())
            for row in np.flatnonzero(done | (due & ~over)):
                tiles[row] = playback.picture(int(row), self.layout.box, over=bool(done[row]))
            lost = lost | (done & ~playback.success)
            playback.reset_finished()
            if end:  # before the last frame, after which a window may be closed
                self.cut = self.cut or not over.all()
                self.returns += score[over].tolist()
            if due:
                yield self._compose(tiles, episode, step, over, lost, score)
            if end:
                break

    def _compose(self, tiles: list[Image], episode: int, step: int, over: Rows, lost: Rows, score: Rows) -> Image:
        if len(tiles) == 1:
            tally = f"step {step} · return {four_digits(score[0])}"
        else:
            tally = f"{int(over.sum())} of {len(over)} finished · mean return {four_digits(score.mean())}"
        parts = [*self.names, f"episode {episode}"]
        self.title, self.place = " · ".join([*parts, tally]), "-".join([*parts, f"step {step}"])
        fade = lost & ~over.all()
        shown = [faded(tile) if fade[row] else tile for row, tile in enumerate(tiles)]
        frame = self.layout.frame(shown, parts, tally)
        self.size = frame.shape[1], frame.shape[0]
        return frame
