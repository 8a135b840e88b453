"""Frames into files: MP4 and GIF videos, and PNG pictures.

1. MP4 is H.264 with 4:2:0 colours, which every browser and player shows; GIF has one palette for the whole film, made
   from all its frames, and stores only what changes from one to the next.
2. Both go through the ffmpeg that comes with imageio as the frames are made. Those of a GIF wait in ffmpeg's memory
   until the palette is known, so GIFs should be short.
3. A file is written under a temporary name beside its target and renamed when it is whole, all its frames counted:
   what stands under the target's name is never half a film.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable
from contextlib import closing
from itertools import chain
from pathlib import Path
from typing import Any

import imageio.v3
import imageio_ffmpeg
import numpy as np

from palaestra.envs.core.atomic_write import unfinished_file
from palaestra.envs.rendering.canvas import Image

VIDEO_SUFFIXES = (".mp4", ".gif")
PICTURE_SUFFIX = ".png"

_MP4: dict[str, Any] = {
    "codec": "libx264",
    "pix_fmt_out": "yuv420p",
    "quality": None,
    "output_params": ["-crf", "20", "-preset", "veryfast", "-movflags", "+faststart", "-f", "mp4"],
}
_GIF_FILTER = (
    "split[a][b];[a]palettegen=max_colors=96:stats_mode=full[p];[b][p]paletteuse=dither=none:diff_mode=rectangle"
)
_GIF: dict[str, Any] = {
    "codec": "gif",
    "pix_fmt_out": "pal8",
    "quality": None,
    "output_params": ["-filter_complex", _GIF_FILTER, "-f", "gif"],
}


class RecordingError(ValueError):
    """The recording cannot be written; the message says why."""


def check_target(path: Path) -> None:
    """Find out before anything is played whether ``path`` can be written, and make its folder.

    Raises:
        RecordingError: if it is none of the three kinds of file, is a folder, or its folder cannot be made.
    """
    if path.suffix.lower() not in (*VIDEO_SUFFIXES, PICTURE_SUFFIX):
        raise RecordingError(f"cannot record to {path.name!r}: the name must end in .mp4, .gif or .png")
    if path.is_dir():
        raise RecordingError(f"cannot record to {path}: it is a folder")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RecordingError(f"cannot make the folder {path.parent}: {error}") from error


def write_picture(path: Path, image: Image) -> None:
    """Write one picture, uint8 [height, width, 3], as PNG."""
    check_target(path)
    with unfinished_file(path) as (_, part):
        imageio.v3.imwrite(part, image, extension=".png")


def write_video(path: Path, frames: Iterable[Image], fps: float) -> int:
    """Write the frames, uint8 [height, width, 3] with even sizes, as MP4 or GIF by the suffix; how many there were."""
    check_target(path)
    settings = _GIF if path.suffix.lower() == ".gif" else _MP4
    upcoming = iter(frames)
    first = next(upcoming)
    height, width = first.shape[:2]
    count = 0
    with unfinished_file(path) as (_, part):
        # imageio's own writer refuses GIF through ffmpeg, so this calls what lies below it
        ffmpeg = imageio_ffmpeg.write_frames(
            part, (width, height), fps=fps, macro_block_size=2, ffmpeg_log_level="error", **settings
        )
        with closing(ffmpeg):
            ffmpeg.send(None)
            for frame in chain((first,), upcoming):
                ffmpeg.send(np.ascontiguousarray(frame))
                count += 1
        _check_film(part, count, path)
    return count


def _check_film(part: Path, count: int, path: Path) -> None:
    """ffmpeg says nothing where the disk is full: the film must have all its frames."""
    try:
        found = imageio_ffmpeg.count_frames_and_secs(str(part))[0]
    except RuntimeError:
        found = 0
    if found != count:
        reason = f"cannot record: {found} of {count} frames could be written; is the disk full?"
        raise OSError(errno.EIO, reason, str(path))
