"""Pictures out of a recorded episode, made by the ffmpeg that comes with imageio: its last one, and a GIF of it."""

from __future__ import annotations

import subprocess
from pathlib import Path

_SECONDS = 20.0  # that ffmpeg may take
_PICTURE = ("-frames:v", "1", "-c:v", "png", "-f", "image2pipe", "-")
GIF_HEIGHT, GIF_FPS, GIF_SECONDS = 240, 10, 30  # at most: pixels, pictures a second, and the begin of a longer film


def last_picture(film: Path) -> bytes | None:
    """The last picture as PNG, or the first where a film is too short to look for it; None if there is none."""
    return ffmpeg("-sseof", "-0.3", "-i", str(film), *_PICTURE) or ffmpeg("-i", str(film), *_PICTURE)


def as_gif(film: Path) -> bytes | None:
    """The film as a GIF, smaller, in fewer pictures a second, and cut where it is long; None if there is none."""
    look = f"fps={GIF_FPS},scale=-2:'min({GIF_HEIGHT},ih)',split[a][b];[a]palettegen=max_colors=96[p];[b][p]paletteuse"
    return ffmpeg("-t", str(GIF_SECONDS), "-i", str(film), "-filter_complex", look, "-f", "gif", "-")


def ffmpeg(*arguments: str) -> bytes | None:
    """What it writes to its standard output; None if it writes nothing there or is not to be had."""
    try:
        from imageio_ffmpeg import get_ffmpeg_exe

        command = [get_ffmpeg_exe(), "-v", "error", "-y", *arguments]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_SECONDS, check=False)
    except (ImportError, OSError, RuntimeError, subprocess.TimeoutExpired):
        return None
    return done.stdout or None
