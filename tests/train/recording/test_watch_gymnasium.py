"""Recordings of other people's environments: what gives no picture is told in one line."""

from __future__ import annotations

import ctypes.util
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete

from palaestra.train.evaluation.policies import RandomPolicy
from palaestra.train.recording import playback
from palaestra.train.recording.playback import WatchError
from palaestra.train.recording.show import watch


class Five(gymnasium.Env[Any, Any]):
    """Five steps; without ``render_mode`` and ``render``."""

    observation_space, action_space = Box(0.0, 1.0, (1,)), Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.steps = 0
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> Any:
        self.steps += 1
        return np.zeros(1, np.float32), 1.0, self.steps == 5, False, {}


class Drawn(Five):
    def __init__(self, fps: Any = 30, fails_at: int = -1, render_mode: str | None = None) -> None:
        self.render_mode, self.fails_at = render_mode, fails_at
        self.metadata = {"render_modes": ["rgb_array"], "render_fps": fps}

    def render(self) -> Any:
        if self.steps == self.fails_at:
            raise RuntimeError("an OpenGL platform library has\nnot been loaded")
        return np.full((20, 30, 3), 40 * self.steps, np.uint8)


class Undrawn(Five):
    def __init__(self, render_mode: str | None = None) -> None:
        self.render_mode = render_mode


class Text(Drawn):
    def render(self) -> Any:
        return "a picture"


@pytest.fixture(autouse=True)
def _registered() -> Iterator[None]:
    kinds = (Five, Drawn, Undrawn, Text)
    for kind in kinds:
        gymnasium.register(f"{kind.__name__}-v0", entry_point=kind)
    yield
    for kind in kinds:
        del gymnasium.registry[f"{kind.__name__}-v0"]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("name", "kwargs", "message"),
    [
        ("Five-v0", {}, r"Five-v0 cannot be made with render_mode='rgb_array': TypeError: .*render_mode"),
        ("Undrawn-v0", {}, r"Undrawn-v0 draws no pictures: its class has no render method"),
        ("Text-v0", {}, r"the environment's render\(\) gives no picture"),
        ("Drawn-v0", {"fails_at": 0}, r"render\(\) raises RuntimeError: an OpenGL .*; without a display"),
        ("Drawn-v0", {"fails_at": 5}, r"render\(\) raises RuntimeError: .* set MUJOCO_GL=egl"),  # the last picture
    ],
)  # fmt: skip
def test_what_gives_no_picture_is_one_line(name: str, kwargs: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(WatchError, match=message) as caught:
        watch(name, RandomPolicy(), record=tmp_path / "x.png", env_kwargs=kwargs)
    assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("fps", [None, 0, -1, "fast", float("nan"), 10**9])
def test_frames_per_second_that_mean_nothing_are_30(fps: Any, tmp_path: Path) -> None:
    seen = watch("Drawn-v0", RandomPolicy(), record=tmp_path / "x.mp4", env_kwargs={"fps": fps})
    assert (seen.frames, seen.returns) == (1 + 5 + 30, [5.0])


def test_slow_environments_are_recorded_in_this_process(tmp_path: Path) -> None:
    kwargs = {"vectorization_mode": "async"}
    seen = watch("Drawn-v0", RandomPolicy(), record=tmp_path / "x.png", env_kwargs=kwargs, grid=(1, 2))
    assert seen.returns == [5.0, 5.0]


@pytest.mark.parametrize(
    ("given", "libraries", "chosen"),
    [
        ({}, {"EGL", "OSMesa"}, "egl"),
        ({}, {"OSMesa"}, "osmesa"),
        ({}, set(), None),
        ({"MUJOCO_GL": "glfw"}, {"EGL"}, "glfw"),
        ({"DISPLAY": ":0"}, {"EGL"}, None),
    ],
)
def test_mujoco_draws_without_a_display(
    given: dict[str, str], libraries: set[str], chosen: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "environ", dict(given))
    monkeypatch.setattr(ctypes.util, "find_library", lambda name: name if name in libraries else None)
    monkeypatch.setattr("sys.platform", "linux")
    playback._choose_opengl()
    assert os.environ.get("MUJOCO_GL") == chosen
