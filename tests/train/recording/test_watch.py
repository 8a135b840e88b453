"""Watching: what is recorded is what happened, from the first state to the last, and files are whole or absent."""

from __future__ import annotations

import itertools
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
from palaestra.envs.rendering import window
from palaestra.envs.rendering.canvas import Canvas, Image, fitted
from palaestra.envs.rendering.picture import picture
from palaestra.envs.rendering.window import NoDisplayError, Window
from palaestra.envs.snake import Snake
from palaestra.train import cli
from palaestra.train.recording import playback, viewer
from palaestra.train.recording.layout import Layout, mosaic, title_line
from palaestra.train.recording.playback import TensorPlayback, WatchError
from palaestra.train.recording.show import watch
from palaestra.train.recording.video import RecordingError, write_video
from palaestra.train.recording.viewer import Viewer

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


def below(title: int, frame: Image, picture: Image) -> Image:
    """The part of a frame where the picture stands: in the middle below a line ``title`` pixels high."""
    height, width = picture.shape[:2]
    top, left = title + (frame.shape[0] - title - height) // 2, (frame.shape[1] - width) // 2
    return frame[top : top + height, left : left + width]


def pictures(env: TensorVectorEnv[Any], states: list[Any], width: int) -> list[Image]:
    return [picture(env.env, state, width, over=i == len(states) - 1) for i, state in enumerate(states)]


def frames_shown(monkeypatch: pytest.MonkeyPatch, *args: Any, **kwargs: Any) -> list[Image]:
    """What a window would have shown, the last picture of an episode once more for a second."""
    shown: list[Image] = []

    def show(self: Window, frame: Image, seconds: float | None = None) -> bool:
        shown.append(frame)
        return True

    monkeypatch.setattr(Viewer, "show", show)
    watch(*args, **kwargs)
    return shown


@pytest.mark.parametrize(("row", "episode"), [(20, 1), (32, 2)])
def test_an_episode_of_a_batch_is_replayed_alone(monkeypatch: pytest.MonkeyPatch, row: int, episode: int) -> None:
    env = batch(33, seed=5)
    expected = pictures(env, states_of_episode(env, row, episode), 524)
    shown = frames_shown(monkeypatch, "snake-small", expert, env_kwargs=SMALL, seed=5, env_index=row, episode=episode)
    assert shown[0].shape == (640, 524, 3)
    for one, other in zip(shown, [*expected, expected[-1]], strict=True):
        np.testing.assert_array_equal(below(36, one, other), other)


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
                playback.picture(row, (64, 74), over=bool(done[row]))
                assert seen[-1] == (books[row][-1], books[row][:-1])
            playback.reset_finished()
            for row in np.flatnonzero(done):
                books[row] = flat([playback.env.state_of(int(row))])
                playback.picture(int(row), (64, 74), over=False)
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
    shown.picture(0, (64, 74), over=False)
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
    expected = Layout((1, 1), None, 720, 1280).frame(
        pictures(env, states, 590)[-1:], ["snake-small", "episode 0"], f"step {len(states) - 1} · return 15"
    )
    np.testing.assert_array_equal(imageio.v3.imread(tmp_path / "new" / "end.png"), expected)
    assert (seen.frames, seen.returns, seen.cut, seen.size) == (1, [15.0], False, (590, 720))


def test_mp4_holds_every_state_once(tmp_path: Path) -> None:
    env = batch(1)
    states = states_of_episode(env, 0, 0)
    path = tmp_path / "film.mp4"
    assert watch("snake-small", expert, env_kwargs=SMALL, record=path).frames == len(states) + 10
    film = imageio.v3.imread(path)
    assert film.shape == (len(states) + 10, 720, 590, 3)
    for i in (0, len(states) // 2, len(states) - 1):
        drawn = picture(env.env, states[i], 590, over=i == len(states) - 1)
        assert np.abs(below(40, film[i], drawn).astype(int) - drawn.astype(int)).mean() < 4  # lossy, so near
    facts = next(imageio_ffmpeg.read_frames(path))
    assert (facts["codec"], facts["pix_fmt"].split("(")[0], facts["fps"]) == ("h264", "yuv420p", 10.0)


def test_gif_is_small_and_complete(tmp_path: Path) -> None:
    env = batch(1)
    states = states_of_episode(env, 0, 0)
    path = tmp_path / "film.gif"
    watch("snake-small", expert, env_kwargs=SMALL, record=path)
    film = imageio.v3.imread(path)
    assert film.shape == (len(states) + 10, 480, 394, 3)
    assert imageio.v3.immeta(path)["duration"] == 100  # ms
    drawn = pictures(env, states, 394)[-1]
    error = np.abs(below(26, film[len(states) - 1], drawn).astype(int) - drawn.astype(int))
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
        last = picture(Snake(4), states_of_episode(env, row, 0)[-1], 432, over=True)
        h, w = last.shape[:2]
        top, left = 60 + 2 + 8 + row // 3 * (h + 8), 8 + row % 3 * (w + 8)
        np.testing.assert_array_equal(image[top : top + h, left : left + w], last)
    assert image.shape == (1080, 3 * (w + 8) + 8, 3)


def test_a_tile_that_failed_waits_faded(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = frames_shown(monkeypatch, "snake-small", first_row_straight, env_kwargs=SMALL, grid=(1, 2), episodes=2)
    half = shown[0].shape[1] // 2
    waiting = shown[len(shown) // 2]
    assert waiting[60:, :half].max() <= 255 // 2 + 14
    assert waiting[60:, half:].max() > 200
    assert shown[-1][60:, :half].max() > 200  # at the end nobody waits


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
    np.testing.assert_array_equal(imageio.v3.imread(tmp_path / "end.png")[40:], fitted(expected, (1280, 680)))
    seen = watch("CartPole-v1", straight, record=tmp_path / "film.mp4", seed=3)
    assert seen.returns == [steps]
    with pytest.raises(WatchError, match="cannot be replayed"):
        watch("CartPole-v1", straight, record=tmp_path / "end.png", env_index=2)


@pytest.mark.parametrize(
    ("suffix", "arguments", "shape"),
    [
        ("mp4", {}, (720, 1208)),
        ("gif", {}, (480, 806)),
        ("mp4", {"size": (1280, 720)}, (720, 1280)),
        ("png", {"size": (400, 400)}, (400, 400)),
        ("png", {"size": (None, 360)}, (360, 604)),
        ("png", {"size": (64, 64)}, (64, 64)),
    ],
)
def test_recordings_have_the_size_that_is_asked_for(
    tmp_path: Path, suffix: str, arguments: dict[str, Any], shape: tuple[int, int]
) -> None:
    path = tmp_path / f"film.{suffix}"
    seen = watch("cartpole", straight, record=path, max_steps=3, **arguments)
    assert imageio.v3.imread(path).shape[-3:-1] == shape
    assert seen.size == shape[::-1]


def test_frames_per_second_that_are_asked_for_show_every_step(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    seen = watch("cartpole", straight, record=path, fps=50, size=(None, 90))
    assert (seen.frames, seen.fps) == (1 + int(seen.returns[0]) + 50, 50.0)
    assert next(imageio_ffmpeg.read_frames(path))["fps"] == 50.0
    assert watch("cartpole", straight, record=path, fps=240, size=(None, 90)).fps == 60.0  # every fourth step


class Clock:
    """Stands still but for those who sleep or are said to work."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        for module in (window, viewer):
            monkeypatch.setattr(module, "time", self)

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def window_run(monkeypatch: pytest.MonkeyPatch, keys: dict[int, int], **kwargs: Any) -> tuple[Any, list[str], Viewer]:
    """A window whose keys are pressed with the n-th picture: what came of it, the titles, and the window."""
    Clock(monkeypatch)
    titles: list[str] = []
    windows: list[Viewer] = []
    original = Viewer.show

    def show(self: Viewer, frame: Image, seconds: float | None = None) -> bool:
        titles.append(self.title)
        windows[:] = [self]
        if len(titles) in keys:
            pygame.event.post(pygame.event.Event(pygame.KEYDOWN, key=keys[len(titles)]))
        return original(self, frame, seconds)

    monkeypatch.setattr(Viewer, "show", show)
    seen = watch("snake-small", expert, env_kwargs=SMALL, label="expert", fps=500, **kwargs)
    return seen, titles, windows[0]


def test_the_window_closes_on_a_key_and_names_what_it_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    seen, titles, _ = window_run(monkeypatch, {4: pygame.K_q})
    assert seen.frames == 4
    assert titles[0] == "snake-small · expert · episode 0 · step 0 · return 0"


def test_the_window_restarts_an_episode_and_steps_singly(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pause would never end by itself: every key of these lets a picture through."""
    restart, step = pygame.K_r, pygame.K_RIGHT
    keys = {3: restart, 5: step, 6: pygame.K_PERIOD, 7: restart, 8: pygame.K_SPACE, 10: pygame.K_q}
    _, titles, window = window_run(monkeypatch, keys)
    assert [int(title.split("step ")[1].split()[0]) for title in titles] == [0, 1, 2, 0, 1, 2, 3, 0, 1, 2]
    assert window.closed


def slow_run(
    monkeypatch: pytest.MonkeyPatch,
    step: float,
    drawing: float,
    keys: dict[int, int] | None = None,
    keys_of_steps: dict[int, int] | None = None,
) -> tuple[Clock, Any, list[int], list[float]]:
    """An episode of 200 steps at 50 a second, whose steps and pictures take some seconds, and keys that are pressed
    with the n-th picture or step: the clock, what came of it, the steps that are seen, and when each begins to be."""
    clock, steps, times, played = Clock(monkeypatch), [], [], itertools.count(1)
    show, draw = Viewer.show, Viewer.draw

    def press(key: int | None) -> None:
        if key is not None:
            pygame.event.post(pygame.event.Event(pygame.KEYDOWN, key=key))

    def timed_show(self: Viewer, frame: Image, seconds: float | None = None) -> bool:
        if seconds is None and not self.closed:
            steps.append(int(self.place.rsplit(" ", 1)[1]))
            times.append(clock.now - 100.0)
            press((keys or {}).get(len(steps)))
        return show(self, frame, seconds)

    def slow_draw(self: Viewer, frame: Image) -> None:
        clock.now += drawing
        draw(self, frame)

    def balance(env: BatchedEnv, obs: Any) -> Tensor:
        clock.now += step
        press((keys_of_steps or {}).get(next(played)))
        return (obs[:, 2] + 0.3 * obs[:, 3] > 0.0).long()

    monkeypatch.setattr(Viewer, "show", timed_show)
    monkeypatch.setattr(Viewer, "draw", slow_draw)
    seen = watch("cartpole", balance, env_kwargs={"max_episode_steps": 200}, size=(64, 64), env_index=0)
    return clock, seen, steps, times


@pytest.mark.parametrize(("drawing", "pictures"), [(0.001, 201), (0.13, 30), (0.5, 9)])
def test_an_episode_keeps_its_pace_where_drawing_is_slow(
    monkeypatch: pytest.MonkeyPatch, drawing: float, pictures: int
) -> None:
    """200 steps at 50 a second last 4 seconds; every step is taken, and the last picture is that of the end."""
    clock, seen, steps, times = slow_run(monkeypatch, 0.002, drawing)
    assert seen.returns == [200.0]
    assert (steps[0], steps[-1]) == (0, 200)
    assert len(steps) == pytest.approx(pictures, abs=1)
    late = [time - drawing - step / 50 for step, time in zip(steps[1:], times[1:], strict=True)]
    assert min(late) >= 0.0
    assert max(late[:-1]) <= 0.02 + 0.003
    assert late[-1] <= drawing + 0.003  # the one before it may just have begun
    assert clock.now - times[-1] - 100.0 >= 1.0 + drawing  # it is seen for a second


def test_where_the_steps_are_slow_there_is_a_picture_every_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps of 40 ms, twice their share, cannot keep the pace: what is lost is not made up for."""
    _, seen, steps, times = slow_run(monkeypatch, 0.04, 0.1)
    assert seen.returns == [200.0]
    assert np.diff(times[:-1]) == pytest.approx(1.1, abs=0.07)
    assert times[-1] == pytest.approx(200 * 0.04 + 0.1 * (len(steps) - 1), abs=0.05)


def test_a_pause_and_single_steps_show_every_state(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the pause the episode goes on from where it was, and does not hurry."""
    keys = dict.fromkeys(range(3, 8), pygame.K_RIGHT) | {8: pygame.K_SPACE, 12: pygame.K_q}
    _, _, steps, _ = slow_run(monkeypatch, 0.002, 0.13, keys)
    first, paused, later = steps[:3], steps[2:8], steps[7:]
    assert np.diff(first).max() > 4
    assert (np.diff(paused) == 1).all()
    assert np.diff(later).max() <= 8


@pytest.mark.parametrize(("key", "seen"), [(pygame.K_q, [0, 1]), (pygame.K_r, [0, 1, 0]), (pygame.K_RIGHT, [0, 1, 3])])
def test_keys_count_while_nothing_is_drawn(monkeypatch: pytest.MonkeyPatch, key: int, seen: list[int]) -> None:
    """The third step is one without a picture."""
    _, _, steps, _ = slow_run(monkeypatch, 0.002, 0.13, {3: pygame.K_q}, {3: key})
    assert steps == seen


def viewer_shows(window: Viewer, frame: Image, *keys: int) -> Image:
    """What stands on the screen after a frame during which keys are pressed, the last of which ends it."""
    pygame.display.init()
    for key in keys:
        pygame.event.post(pygame.event.Event(pygame.KEYDOWN, key=key))
    assert window.show(frame)
    return pygame.surfarray.array3d(pygame.display.get_surface()).swapaxes(0, 1)


def test_the_window_marks_a_pause_and_hides_its_legend() -> None:
    window, frame = Viewer("test", 500.0), np.full((400, 600, 3), 50, np.uint8)
    try:
        plain = viewer_shows(window, frame)
        assert plain.shape == (432, 600, 3)
        np.testing.assert_array_equal(plain[:400], frame)
        assert plain[400:].max() > 200
        viewer_shows(window, frame, pygame.K_RIGHT)
        paused = viewer_shows(window, frame, pygame.K_RIGHT)
        changed = np.argwhere((paused[:400] != frame).any(2))
        assert changed.min(0).tolist() == [356, 552]
        assert pygame.display.get_caption()[0] == "test · paused"
        np.testing.assert_array_equal(viewer_shows(window, frame, pygame.K_SPACE, pygame.K_h), frame)
        assert viewer_shows(window, frame, pygame.K_h).shape == (432, 600, 3)
    finally:
        window.close()


def test_the_window_saves_what_it_shows(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without legend and marks, over no other file; where that fails it says so and goes on."""
    monkeypatch.chdir(tmp_path)
    window, frame = Viewer("test", 500.0), np.random.default_rng(0).integers(0, 256, (300, 500, 3)).astype(np.uint8)
    window.place = "my/env.py:MyEnv-ppo-episode 0-step 12"
    names = ["my-env.py-MyEnv-ppo-episode-0-step-12.png", "my-env.py-MyEnv-ppo-episode-0-step-12-2.png"]
    try:
        viewer_shows(window, frame, pygame.K_RIGHT)
        for _ in names:
            viewer_shows(window, frame, pygame.K_s, pygame.K_RIGHT)
        assert capsys.readouterr().err.splitlines() == [f"palaestra: saved {tmp_path / name}" for name in names]
        for name in names:
            np.testing.assert_array_equal(imageio.v3.imread(tmp_path / name), frame)
        window.place = "x" * 300
        viewer_shows(window, frame, pygame.K_s, pygame.K_RIGHT)
        assert "png cannot be saved: File name too long" in capsys.readouterr().err
    finally:
        window.close()
    assert len(list(tmp_path.iterdir())) == 2


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


ARGUMENTS: list[dict[str, Any]] = [
    *({"grid": (0, 1)}, {"grid": (17, 1)}, {"episodes": 0}),
    *({"fps": 0.0}, {"fps": float("nan")}, {"size": (None, 0)}, {"size": (63, 720)}, {"size": (1280, 719)}),
]


@pytest.mark.parametrize("arguments", ARGUMENTS)
def test_bad_arguments_are_refused(tmp_path: Path, arguments: dict[str, Any]) -> None:
    with pytest.raises(WatchError, match=r"at least 1|from 1x1|from 0\.1|even numbers from 64"):
        watch("snake-small", expert, record=tmp_path / "x.mp4", **arguments)


def test_a_picture_has_no_pace(tmp_path: Path) -> None:
    with pytest.raises(WatchError, match="one picture"):
        watch("snake-small", expert, record=tmp_path / "x.png", fps=5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--size", "12x"], "--size 12x: expected pixels, width x height or the height alone, like 1280x720 or 720"),
        (["--size", "big"], "--size big: expected"),
        (["--size", "-720"], "--size -720: expected"),
        (["--size", "641x480"], "even numbers from 64 to 4320, got 641"),
        (["--size", "0"], "even numbers from 64 to 4320, got 0"),
        (["--size", "99999x99999"], "got 99999"),
        (["--fps", "fast"], "--fps fast: expected a number"),
        (["--fps", "nan"], "fps must be from 0.1 to 1000, got nan"),
        (["--fps", "0"], "got 0"),
        (["--fps", "1e9"], "got 1e+09"),
    ],
)
def test_wrong_sizes_and_paces_are_one_line(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    arguments: list[str],
    message: str,
) -> None:
    name = ["watch", "expert", "--env", "snake-small", "--record", str(tmp_path / "x.mp4")]
    monkeypatch.setattr(sys, "argv", ["palaestra", *name, *arguments])
    with pytest.raises(SystemExit, match="2"):
        cli.main()
    assert message in " ".join(capsys.readouterr().err.splitlines()[-1:])
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems always have a display")
def test_without_a_display_the_message_names_record(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER"):
        monkeypatch.delenv(variable, raising=False)
    with pytest.raises(NoDisplayError, match="--record"):
        watch("snake-small", expert)


@pytest.mark.parametrize("driver", ["x11", ""])
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems always have a display")
def test_a_window_that_cannot_open_names_record(monkeypatch: pytest.MonkeyPatch, driver: str) -> None:
    """Without a driver by name SDL would draw into memory, where nobody sees it."""
    pygame.display.quit()
    monkeypatch.setenv("SDL_VIDEODRIVER", driver)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setenv("DISPLAY", ":4321")
    with pytest.raises(NoDisplayError, match=r"cannot open a window: .*; --record FILE\.mp4"):
        watch("snake-small", expert, env_kwargs=SMALL)


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


def test_a_title_gives_way_to_the_tally_part_by_part() -> None:
    parts, tally = ["CartPole-v1", "ppo", "episode 0"], "step 300 · return 26"
    lines = [title_line(width, 40, parts, tally) for width in (700, 400, 330, 120)]
    texts = [[" · ".join(parts), tally], ["CartPole-v1 · ppo", tally], ["CartPole-v1", tally], []]
    for line, shown in zip(lines, texts, strict=True):
        gaps = np.diff(np.flatnonzero((line.max(2) > 60).any(0)))
        assert line.shape[0] == 40
        assert (gaps > 20).sum() == max(0, len(shown) - 1), shown
    assert title_line(200, 40, parts, "").max() > 200


def test_a_picture_that_is_not_as_large_as_the_first_stays_in_its_place() -> None:
    layout = Layout((1, 1), None, 720, 1280)
    first, second = (layout.frame([np.full(size, 200, np.uint8)], [], "") for size in ((680, 500, 3), (300, 900, 3)))
    assert first.shape == second.shape == (720, 500, 3)
    assert (second[40 + 190 : 40 + 490] == 200).all()
    assert second[40:230].max() < 30
    odd = Layout((1, 1), None, 720, 1280).frame([np.zeros((483, 161 * 4 + 1, 3), np.uint8)], [], "")
    assert odd.shape == (720, 646, 3)


def test_titles_have_short_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    titles = set()
    original = Layout.frame

    def frame(self: Layout, pictures: Any, title: Any, tally: str) -> Image:
        titles.add(tuple(title)[:2])
        return original(self, pictures, title, tally)

    monkeypatch.setattr(Layout, "frame", frame)
    watch("palaestra/CartPole-v1", straight, record=tmp_path / "a.png", label="ppo")
    assert titles == {("cartpole", "ppo")}
