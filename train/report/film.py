"""The recorded episode for a page: the film, made smaller where it is too large, and its last picture to begin with.

The ffmpeg that comes with imageio makes both. Without it, or where it fails, a film that is small enough is shown as it
is, and a larger one is left out.
"""

from __future__ import annotations

import base64
import tempfile
from dataclasses import dataclass
from pathlib import Path

from palaestra.train.recording.film_pictures import ffmpeg

_POSTER = ("-vf", "scale='min(720,iw)':-2", "-frames:v", "1", "-q:v", "5", "-f", "mjpeg", "-")
_SMALLER = ((480, 30), (320, 34))  # height in pixels, quality of H.264


@dataclass(frozen=True)
class Film:
    """Addresses that hold their content (``data:``); ``source`` is None where the film is too large."""

    source: str | None
    poster: str | None
    remark: str = ""


def film_of(file: Path, room: int) -> Film | None:
    """The film in at most ``room`` bytes of the page; None if there is none."""
    try:
        content = file.read_bytes()
    except OSError:
        return None
    poster = ffmpeg("-sseof", "-0.3", "-i", str(file), *_POSTER) or ffmpeg("-i", str(file), *_POSTER)
    if poster is not None and 2 * _encoded(len(poster)) > room:  # it is there once more for paper
        poster = None
    left, remark = (room - (0 if poster is None else 2 * _encoded(len(poster)))), ""
    for height, quality in _SMALLER:
        if _encoded(len(content)) <= left:
            break
        content, remark = _smaller(file, height, quality) or content, "The film is made smaller than the recorded one."
    if _encoded(len(content)) > left:
        return Film(None, _address("image/jpeg", poster), f"The film is too large for a page; it is in {file}.")
    return Film(_address("video/mp4", content), _address("image/jpeg", poster), remark)


def _encoded(size: int) -> int:
    return 4 * (size + 2) // 3 + 40


def _address(kind: str, content: bytes | None) -> str | None:
    return None if not content else f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _smaller(file: Path, height: int, quality: int) -> bytes | None:
    """The film at that height; a file is needed, since the format is written from both ends."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "film.mp4"
        size = ("-vf", f"scale=-2:'min({height},ih)'", "-c:v", "libx264", "-pix_fmt", "yuv420p", "-an")
        ffmpeg(
            "-i", str(file), *size, "-crf", str(quality), "-preset", "veryfast", "-movflags", "+faststart", str(target)
        )
        return target.read_bytes() if target.is_file() else None
