"""Watch a policy: in a window, or recorded as a video or a picture.

1. A round plays one episode in every environment of a grid. A tile whose episode has ended waits for the others, faded
   unless it was a success; the last frame of an episode shows the state in which it ended.
2. Environment ``env_index`` + i plays in tile i, and round r shows episode ``episode`` + r, so one episode of a large
   batch is watched alone by its (seed, env index, episode).
3. Videos have at most 30 frames per second (GIF 15): of a faster environment every k-th step is shown, and always the
   last one. A picture shows the end of the first round.
4. Episodes without a time limit are cut where an evaluation cuts them.
5. Gymnasium environments are recorded through their own ``render``, in the order in which they come.
"""

from __future__ import annotations

import itertools
import math
import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from palaestra.envs.rendering.canvas import Image
from palaestra.envs.rendering.window import NoDisplayError, Window
from palaestra.train.evaluation.episodes import most_steps
from palaestra.train.recording.playback import Playback, PolicyFunction, Rows, WatchError, open_playback
from palaestra.train.recording.video import (
    PICTURE_SUFFIX,
    captioned,
    check_target,
    faded,
    mosaic,
    write_picture,
    write_video,
)


@dataclass(frozen=True)
class _Medium:
    """Limits of a kind of target: frames per second, pixels across alone and in a grid, and steps."""

    fps: float
    alone: int
    grid: int
    steps: int


_MEDIA = {
    ".mp4": _Medium(30.0, 480, 1000, 3_000),
    ".gif": _Medium(15.0, 360, 480, 400),
    ".png": _Medium(30.0, 640, 1000, 20_000),
}
_SCREEN = _Medium(math.inf, 640, 1000, sys.maxsize)


@dataclass(frozen=True)
class Watched:
    """The pictures and episodes shown.

    Attributes:
        path: the file, or None for a window.
        frames: how many pictures were shown or written.
        returns: of every episode that ended, in the order of rounds and tiles.
        cut: whether the recording stopped at ``max_steps``, or an episode was cut before it ended.
    """

    path: Path | None
    frames: int
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
        fps: steps per second; None for the environment's own pace.
        max_steps: steps recorded at most, over all rounds. None for 3,000 (mp4), 400 (gif) or 20,000 (png).
        label: what to call the policy in titles.

    Raises:
        RecordingError: if the file cannot be written, before anything is played.
        NoDisplayError: if there is no display for a window.
        WatchError: if the environment draws no pictures, or an argument does not fit.
    """
    _check_arguments(grid, episodes, fps, max_steps)
    if record is not None:
        check_target(record)
    elif no_display():
        raise NoDisplayError("there is no display to open a window on; use --record FILE.mp4, .gif or .png")
    medium = _SCREEN if record is None else _MEDIA[record.suffix.lower()]
    rows, columns = grid
    playback = open_playback(name, policy, rows * columns, env_kwargs or {}, seed, device, env_index, episode)
    try:
        show = _Show(
            playback, grid, medium, fps or playback.fps, max_steps or medium.steps, f"{name} · {label}".strip(" ·")
        )
        endless = record is None and episodes is None and env_index is None and episode is None
        first = episode or 0
        rounds = itertools.count() if endless else range(first, first + math.ceil((episodes or 1) / (rows * columns)))
        frames = _show_in_window(show, rounds) if record is None else _record(show, rounds, record)
    finally:
        playback.env.close()
    return Watched(record, frames, show.returns, show.cut)


def _check_arguments(grid: tuple[int, int], episodes: int | None, fps: float | None, max_steps: int | None) -> None:
    if min(grid) < 1 or max(grid) > 16:
        raise WatchError(f"a grid has from 1x1 to 16x16 tiles, got {grid[0]}x{grid[1]}")
    for name, value in (("episodes", episodes), ("max_steps", max_steps)):
        if value is not None and value < 1:
            raise WatchError(f"{name} must be at least 1, got {value}")
    if fps is not None and not 0 < fps <= 1000:
        raise WatchError(f"fps must be above 0 and at most 1000, got {fps}")


def no_display() -> bool:
    """True on a Linux without a screen; SDL_VIDEODRIVER counts as one, since it is set on purpose."""
    variables = ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER")
    return sys.platform.startswith("linux") and not any(os.environ.get(variable) for variable in variables)


def _record(show: _Show, rounds: Iterable[int], path: Path) -> int:
    if path.suffix.lower() != PICTURE_SUFFIX:
        return write_video(path, show.frames(rounds), show.fps)
    for last in show.frames(itertools.islice(rounds, 1), only_ends=True):
        image = last
    write_picture(path, image)
    return 1


def _show_in_window(show: _Show, rounds: Iterable[int]) -> int:
    window = Window(show.name, show.fps)
    count = 0
    try:
        for frame in show.frames(rounds):
            window.title = show.title
            count += 1
            if not window.show(frame):
                break
    finally:
        window.close()
    return count


class _Show:
    """Plays rounds on a playback and makes the frames."""

    def __init__(
        self, playback: Playback, grid: tuple[int, int], medium: _Medium, pace: float, max_steps: int, name: str
    ) -> None:
        """``pace`` is in steps per second."""
        self.playback, self.grid, self.name, self.title = playback, grid, name, name
        self.stride = max(1, math.ceil(pace / medium.fps))
        self.fps = pace / self.stride
        self.alone = grid == (1, 1)
        self.tile_width = medium.alone if self.alone else medium.grid // max(grid)
        self.steps_left = max_steps
        self.cut = False
        self.returns: list[float] = []

    def frames(self, rounds: Iterable[int], only_ends: bool = False) -> Iterator[Image]:
        """The frames of all rounds; ``only_ends`` leaves out what lies between the start and the end of a round."""
        for episode in rounds:
            if self.steps_left == 0:
                self.cut = True
                return
            yield from self._round(episode, only_ends)

    def _round(self, episode: int, only_ends: bool) -> Iterator[Image]:
        playback = self.playback
        count = playback.env.num_envs
        playback.start(episode)
        over, lost, score = np.zeros(count, dtype=bool), np.zeros(count, dtype=bool), np.zeros(count)
        tiles = [playback.picture(row, self.tile_width, over=False) for row in range(count)]
        frame = self._compose(tiles, episode, over, lost, score)
        yield frame
        longest = most_steps(playback.env)
        for step in itertools.count(1):
            done = playback.step() & ~over
            score = np.where(over, score, playback.returns)
            over = over | done
            self.steps_left -= 1
            end = over.all() or self.steps_left == 0 or step == longest
            due = end or (step % self.stride == 0 and not only_ends)
            for row in np.flatnonzero(done | (due & ~over)):
                tiles[row] = playback.picture(int(row), self.tile_width, over=bool(done[row]))
            lost = lost | (done & ~playback.success)
            playback.reset_finished()
            if due:
                frame = self._compose(tiles, episode, over, lost, score)
                yield frame
            if end:
                break
        self.cut = self.cut or not over.all()
        self.returns += score[over].tolist()
        yield from itertools.repeat(frame, 0 if only_ends else round(self.fps))  # a second to see how it ended

    def _compose(self, tiles: list[Image], episode: int, over: Rows, lost: Rows, score: Rows) -> Image:
        if self.alone:
            self.title = f"{self.name} · episode {episode} · return {score[0]:.4g}"
            return tiles[0]
        tally = f"{int(over.sum())} of {len(over)} finished · mean return {score.mean():.4g}"
        self.title = f"{self.name} · episode {episode} · {tally}"
        fade = lost & ~over.all()
        shown = [faded(tile) if fade[row] else tile for row, tile in enumerate(tiles)]
        return captioned(mosaic(shown, self.grid[1]), self.name, tally)
