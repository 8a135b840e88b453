"""Watching: what is recorded is what happened, from the first state to the last, and files are whole or absent."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import gymnasium
import imageio.v3
import imageio_ffmpeg
import numpy as np
import pygame
import pytest
import torch
from torch import Tensor

from palaestra.envs import BatchedEnv, TensorVectorEnv, make
from palaestra.envs.interop.simulator_seeds import simulator_seeds
from palaestra.envs.rendering.canvas import Canvas, Image, resized
from palaestra.envs.rendering.picture import picture
from palaestra.envs.rendering.window import NoDisplayError, Window
from palaestra.envs.snake import Snake
from palaestra.train.recording import playback
from palaestra.train.recording.playback import TensorPlayback, WatchError
from palaestra.train.recording.show import watch
from palaestra.train.recording.video import RecordingError, captioned, mosaic, write_video

SMALL = {"size": 4}


def expert(env: BatchedEnv, obs: Any) -> Tensor:
    assert isinstance(env, TensorVectorEnv)
    action: Tensor = env.env.expert(env.state)
    return action


def straight(env: BatchedEnv, obs: Any) -> Tensor:
    """Snake: on into the wall; CartPole: always right."""
    return torch.ones(env.num_envs, dtype=torch.int64)


def first_row_straight(env: BatchedEnv, obs: Any) -> Tensor:
    action = expert(env, obs)
    action[0] = 1
    return action


def batch(num_envs: int, seed: int = 0) -> TensorVectorEnv[Any]:
    env = make("snake-small", num_envs, device="cpu", seed=seed, **SMALL)
    assert isinstance(env, TensorVectorEnv)
    return env


def states_of_episode(env: TensorVectorEnv[Any], row: int, episode: int) -> list[Any]:
    """All states of one row's episode while the whole batch plays with automatic resets, the final one included."""
    obs, _ = env.reset(seed=env.seed)
    states = [env.state_of(row)] if episode == 0 else []
    while True:
        final, _, terminated, truncated = env.advance(expert(env, obs))
        mine = int(env.episode[row]) == episode
        states += [env.state_of(row)] if mine else []
        done = terminated | truncated
        if mine and done[row]:
            return states
        obs = env.reset_finished(done, final)
        if done[row] and int(env.episode[row]) == episode:
            states.append(env.state_of(row))


def pictures(env: TensorVectorEnv[Any], states: list[Any], width: int = 640) -> list[Image]:
    return [picture(env.env, state, width, over=i == len(states) - 1) for i, state in enumerate(states)]


def frames_shown(monkeypatch: pytest.MonkeyPatch, *args: Any, **kwargs: Any) -> list[Image]:
    """What a window would have shown."""
    shown: list[Image] = []

    def show(self: Window, frame: Image) -> bool:
        shown.append(frame)
        return True

    monkeypatch.setattr(Window, "show", show)
    watch(*args, **kwargs)
    return shown


@pytest.mark.parametrize(("row", "episode"), [(20, 1), (32, 2)])
def test_an_episode_of_a_batch_is_replayed_alone(monkeypatch: pytest.MonkeyPatch, row: int, episode: int) -> None:
    env = batch(33, seed=5)
    expected = pictures(env, states_of_episode(env, row, episode))
    shown = frames_shown(monkeypatch, "snake-small", expert, env_kwargs=SMALL, seed=5, env_index=row, episode=episode)
    assert len(shown) == len(expected) + 10  # and one second of the end
    for one, other in zip(shown, expected, strict=False):
        np.testing.assert_array_equal(one, other)
    for held in shown[len(expected) :]:
        np.testing.assert_array_equal(held, expected[-1])


def flat(states: Any) -> list[list[Any]]:
    """States of Snake in a form that can be compared."""
    return [[np.asarray(field).tolist() for field in vars(state).values()] for state in states]


def pasts_seen(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Filled with (state, earlier states) by every drawing of a Snake from now on."""
    seen: list[Any] = []

    def draw(self: Snake, state: Any, canvas: Canvas) -> None:
        seen.append((flat([state])[0], flat(canvas.past)))

    monkeypatch.setattr(Snake, "draw", draw)
    return seen


def test_pictures_know_the_earlier_states_of_their_episode(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four rows with episodes of different lengths and automatic resets, against books kept for each row."""
    seen = pasts_seen(monkeypatch)
    playback = TensorPlayback(batch(4, seed=2), first_row_straight)
    for start in (0, 7):
        playback.start(start)
        books = [flat([playback.env.state_of(row)]) for row in range(4)]
        for _ in range(40):
            done = playback.step()
            for row in range(4):
                books[row] += flat([playback.env.state_of(row)])
                playback.picture(row, 64, over=bool(done[row]))
                assert seen[-1] == (books[row][-1], books[row][:-1])
            playback.reset_finished()
            for row in np.flatnonzero(done):
                books[row] = flat([playback.env.state_of(int(row))])
                playback.picture(int(row), 64, over=False)
                assert seen[-1] == (books[row][0], [])
        episodes = playback.env.episode.tolist()
        assert episodes[0] > start + 3
        assert episodes[0] != episodes[1]


def test_a_past_is_a_sequence_and_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(playback, "MOST_PAST", 5)
    seen = pasts_seen(monkeypatch)
    shown = TensorPlayback(batch(1), expert)
    shown.start(0)
    states = flat([shown.env.state_of(0)])
    for _ in range(9):
        shown.step()
        shown.reset_finished()
        states += flat([shown.env.state_of(0)])
    shown.picture(0, 64, over=False)
    assert seen[-1] == (states[9], states[4:9])
    past = playback._Past([shown.env.state] * 3, 0)
    assert (len(past), len(past[1:]), flat([past[-1]])) == (3, 2, states[-1:])
    with pytest.raises(IndexError):
        past[3]


def test_every_frame_of_a_grid_shows_its_own_past(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    expected = [states_of_episode(batch(2), row, 0) for row in range(2)]
    seen = pasts_seen(monkeypatch)
    watch("snake-small", expert, env_kwargs=SMALL, record=tmp_path / "x.mp4", grid=(1, 2))
    ways = [flat(states) for states in expected]
    assert sorted(seen) == sorted((way[i], way[:i]) for way in ways for i in range(len(way)))


def test_png_shows_the_final_state(tmp_path: Path) -> None:
    env = batch(1)
    states = states_of_episode(env, 0, 0)
    assert states[-1].length == 16
    seen = watch("snake-small", expert, env_kwargs=SMALL, record=tmp_path / "new" / "end.png")
    np.testing.assert_array_equal(imageio.v3.imread(tmp_path / "new" / "end.png"), pictures(env, states)[-1])
    assert (seen.frames, seen.returns, seen.cut) == (1, [15.0], False)


def test_mp4_holds_every_state_once(tmp_path: Path) -> None:
    env = batch(1)
    states = states_of_episode(env, 0, 0)
    path = tmp_path / "film.mp4"
    assert watch("snake-small", expert, env_kwargs=SMALL, record=path).frames == len(states) + 10
    film = imageio.v3.imread(path)
    assert film.shape == (len(states) + 10, 552, 480, 3)
    for i in (0, len(states) // 2, len(states) - 1):
        drawn = picture(env.env, states[i], 480, over=i == len(states) - 1)
        assert np.abs(film[i].astype(int) - drawn.astype(int)).mean() < 4  # lossy, so near
    facts = next(imageio_ffmpeg.read_frames(path))
    assert (facts["codec"], facts["pix_fmt"].split("(")[0], facts["fps"]) == ("h264", "yuv420p", 10.0)


def test_gif_is_small_and_complete(tmp_path: Path) -> None:
    env = batch(1)
    states = states_of_episode(env, 0, 0)
    path = tmp_path / "film.gif"
    watch("snake-small", expert, env_kwargs=SMALL, record=path)
    film = imageio.v3.imread(path)
    assert film.shape == (len(states) + 10, 414, 360, 3)
    assert imageio.v3.immeta(path)["duration"] == 100  # ms
    error = np.abs(film[len(states) - 1].astype(int) - pictures(env, states, 360)[-1].astype(int))
    assert error.mean() < 4  # the gold of the full board is in the palette, though it comes last
    assert path.stat().st_size < 8_000 * len(film)


def test_fast_environments_are_thinned_to_thirty_frames_and_keep_the_last(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    seen = watch("cartpole", straight, record=path)
    steps = int(seen.returns[0])  # one per step; 50 steps a second, so every second one is shown at 25 a second
    assert seen.frames == 1 + (steps + 1) // 2 + 25
    assert next(imageio_ffmpeg.read_frames(path))["fps"] == 25.0


def test_a_grid_has_one_episode_per_tile(tmp_path: Path) -> None:
    path = tmp_path / "grid.png"
    seen = watch("snake-small", expert, env_kwargs=SMALL, record=path, grid=(2, 3), label="expert")
    image = imageio.v3.imread(path)
    assert seen.returns == [15.0] * 6
    env = batch(6)
    for row in range(6):
        last = picture(Snake(4), states_of_episode(env, row, 0)[-1], 333, over=True)
        h, w = last.shape[:2]
        top, left = 8 + row // 3 * (h + 8), 8 + row % 3 * (w + 8)
        np.testing.assert_array_equal(image[top : top + h, left : left + w], last)
    assert image.shape == (2 * (h + 8) + 8 + 32, 3 * (w + 8) + 8, 3)


def test_a_tile_that_failed_waits_faded(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = frames_shown(monkeypatch, "snake-small", first_row_straight, env_kwargs=SMALL, grid=(1, 2), episodes=2)
    half = shown[0].shape[1] // 2
    waiting = shown[len(shown) // 2]
    assert waiting[:-32, :half].max() <= 255 // 2 + 14
    assert waiting[:-32, half:].max() > 200
    assert shown[-1][:-32, :half].max() > 200  # at the end nobody waits


def test_episodes_follow_each_other(tmp_path: Path) -> None:
    seen = watch("snake-small", straight, env_kwargs=SMALL, record=tmp_path / "x.mp4", episodes=3, max_steps=500)
    env, lengths = batch(1), []
    for episode in range(3):
        env.reset(options={"episode": episode})
        while not bool(env.advance(torch.ones(1, dtype=torch.int64))[2]):
            pass
        lengths.append(int(env.episode_length))
    assert len(seen.returns) == 3
    assert seen.frames == sum(lengths) + 3 + 3 * 10


def test_a_long_recording_is_cut_and_says_so(tmp_path: Path) -> None:
    seen = watch("snake-small", expert, env_kwargs=SMALL, record=tmp_path / "x.mp4", max_steps=20)
    assert (seen.cut, seen.frames, seen.returns) == (True, 1 + 20 + 10, [])


def test_other_peoples_environments_show_how_they_end(tmp_path: Path) -> None:
    """Against Gymnasium itself, stepped by hand with the same seed."""
    watch("CartPole-v1", straight, record=tmp_path / "end.png", seed=3)
    env = gymnasium.make("CartPole-v1", render_mode="rgb_array")
    env.reset(seed=simulator_seeds(3, 0, 1)[0])
    steps = 1
    while not env.step(1)[2]:
        steps += 1
    expected: Any = env.render()
    np.testing.assert_array_equal(imageio.v3.imread(tmp_path / "end.png"), resized(expected, 640))
    seen = watch("CartPole-v1", straight, record=tmp_path / "film.mp4", seed=3)
    assert seen.returns == [steps]
    with pytest.raises(WatchError, match="cannot be replayed"):
        watch("CartPole-v1", straight, record=tmp_path / "end.png", env_index=2)


def test_the_window_closes_on_a_key_and_names_what_it_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    titles: list[str] = []
    original = Window.show

    def show(self: Window, frame: Image) -> bool:
        titles.append(self.title)
        if len(titles) == 4:
            pygame.event.post(pygame.event.Event(pygame.KEYDOWN, key=pygame.K_q))
        return original(self, frame)

    monkeypatch.setattr(Window, "show", show)
    assert watch("snake-small", expert, env_kwargs=SMALL, label="expert", fps=500).frames == 4
    assert titles[0] == "snake-small · expert · episode 0 · return 0"


# ------------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize("name", ["film.avi", "film", "film.jpeg"])
def test_other_suffixes_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(RecordingError, match=r"\.mp4, \.gif or \.png"):
        watch("snake-small", expert, record=tmp_path / name)


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RecordingError, match="cannot make the folder"):
        watch("snake-small", expert, record=tmp_path / "file" / "x.png")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(RecordingError, match="is a folder"):
        watch("snake-small", expert, record=tmp_path / "folder.png")


@pytest.mark.parametrize("arguments", [{"grid": (0, 1)}, {"grid": (17, 1)}, {"episodes": 0}, {"fps": 0.0}])
def test_bad_arguments_are_refused(tmp_path: Path, arguments: dict[str, Any]) -> None:
    with pytest.raises(WatchError, match=r"at least 1|from 1x1|above 0"):
        watch("snake-small", expert, record=tmp_path / "x.png", **arguments)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems always have a display")
def test_without_a_display_the_message_names_record(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER"):
        monkeypatch.delenv(variable, raising=False)
    with pytest.raises(NoDisplayError, match="--record"):
        watch("snake-small", expert)


@pytest.mark.parametrize("suffix", [".mp4", ".gif"])
def test_an_interrupted_recording_leaves_the_old_file(tmp_path: Path, suffix: str) -> None:
    def frames() -> Any:
        yield np.zeros((32, 32, 3), np.uint8)
        raise KeyboardInterrupt

    path = tmp_path / f"film{suffix}"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt):
        write_video(path, frames(), 10)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_environment_without_pictures_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delattr(Snake, "draw")
    with pytest.raises(WatchError, match="draws no pictures"):
        watch("snake-small", expert, record=tmp_path / "x.png")


def test_mosaic_puts_tiles_row_by_row() -> None:
    tiles = [np.full((4, 6, 3), value, np.uint8) for value in (50, 100, 150)]
    image = mosaic(tiles, columns=2, gap=2)
    assert image.shape == (2 * 6 + 2, 2 * 8 + 2, 3)
    assert (image[3, 3, 0], image[3, 11, 0], image[9, 3, 0]) == (50, 100, 150)
    assert image[9, 11, 0] == image[0, 0, 0] == 13
    assert captioned(image, "left", "right").shape == (14 + 32, 18, 3)
