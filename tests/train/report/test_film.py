"""The film of a page: as it is, made smaller, or left out; its last picture to begin with."""

from __future__ import annotations

import base64
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest

from palaestra.train.recording.video import write_video
from palaestra.train.report import film
from palaestra.train.report.film import film_of

ROOM = 2_000_000


def content(address: str, kind: str) -> bytes:
    assert address.startswith(f"data:{kind};base64,")
    return base64.b64decode(address.partition(",")[2])


@pytest.fixture(scope="module")
def noisy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A film of 700 × 700 pixels that no codec makes small, and whose last picture is white."""
    random = np.random.default_rng(0)
    file = tmp_path_factory.mktemp("film") / "film.mp4"
    frames = [random.integers(0, 256, (700, 700, 3), dtype=np.uint8) for _ in range(40)]
    write_video(file, [*frames, *[np.full((700, 700, 3), 255, dtype=np.uint8)] * 15], 30.0)
    assert file.stat().st_size > ROOM
    return file


def test_a_small_film_is_as_it_is(tmp_path: Path) -> None:
    frames = [np.full((64, 96, 3), shade, dtype=np.uint8) for shade in (0, 100, 200, *[250] * 20)]
    write_video(tmp_path / "film.mp4", frames, 30.0)
    found = film_of(tmp_path / "film.mp4", ROOM)
    assert found is not None
    assert content(found.source or "", "video/mp4") == (tmp_path / "film.mp4").read_bytes()
    poster = iio.imread(content(found.poster or "", "image/jpeg"), extension=".jpg")
    assert poster.shape == (64, 96, 3)
    assert poster.min() > 240  # as it ends
    assert found.remark == ""


def test_a_large_film_is_made_smaller(noisy: Path) -> None:
    found = film_of(noisy, ROOM)
    assert found is not None
    assert found.source is not None
    assert len(found.source) + len(found.poster or "") <= ROOM
    frames = iio.imread(content(found.source, "video/mp4"), extension=".mp4", plugin="FFMPEG")
    assert frames.shape[0] == 55
    assert frames.shape[1] in (320, 480)
    assert found.remark == "The film is made smaller than the recorded one."


def test_a_film_without_room_is_its_last_picture(noisy: Path) -> None:
    whole = film_of(noisy, ROOM)
    assert whole is not None
    room = 2 * len(whole.poster or "") + 1000
    found = film_of(noisy, room)
    assert found is not None
    assert (found.source, found.poster) == (None, whole.poster)
    assert str(noisy) in found.remark
    assert film_of(noisy, 100) == film.Film(None, None, found.remark)


def test_without_ffmpeg(noisy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imageio_ffmpeg.get_ffmpeg_exe", lambda: "/nowhere/ffmpeg")
    found = film_of(noisy, ROOM)
    assert found == film.Film(None, None, f"The film is too large for a page; it is in {noisy}.")
    (tmp_path / "film.mp4").write_bytes(b"small")
    assert film_of(tmp_path / "film.mp4", ROOM) == film.Film("data:video/mp4;base64,c21hbGw=", None)
    assert film_of(tmp_path / "none.mp4", ROOM) is None
