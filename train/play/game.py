"""Play with the keyboard, alone or beside an agent.

1. Episodes are those that ``palaestra watch`` shows and ``palaestra evaluate`` starts with: environment 0 of the
   held-out seed, episode 0, 1, … An agent beside the person plays the same episode in a batch of its own, a step for
   each of the person's; what it has left when the person's episode is over is played at once.
2. Real-time environments run at their own pace, which + and − double and halve; the others wait for keys, see
   :mod:`palaestra.train.play.keyboard`.
3. The window is drawn thirty times a second or once per step, and keys are looked for at the end of that time, so that
   a key counts for the step that follows it.
"""

from __future__ import annotations

import itertools
import os
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")  # see palaestra.envs.rendering.canvas
import pygame
import torch
from torch import Tensor

from palaestra.envs.core import BatchedEnv, Reference
from palaestra.envs.rendering.canvas import Canvas, Image
from palaestra.envs.rendering.window import NoDisplayError, Window, open_display
from palaestra.envs.specs import TensorEnvSpec
from palaestra.train.config.run_config import environment
from palaestra.train.evaluation.episodes import most_steps
from palaestra.train.evaluation.policies import AgentPolicy, Player
from palaestra.train.formatting import SCORES, four_digits, tell
from palaestra.train.play.keyboard import ENTER, Keyboard, controller_for
from palaestra.train.recording.layout import Layout, mosaic, paste
from palaestra.train.recording.playback import Playback, PolicyFunction, WatchError, open_playback
from palaestra.train.recording.show import no_display

_TURN_FPS = 30.0  # how often a turn-based game looks for a key
_NO_WINDOW = "palaestra watch RUN --record FILE does without"
_ALONE, _BESIDE = (640, 960), (560, 640)  # height and largest width of a player's picture in pixels


class Console(Keyboard, Protocol):
    """A screen and a keyboard."""

    def show(self, frame: Image) -> bool:
        """Show the picture for one frame's time and note the keys pressed meanwhile; False once the person quits."""

    def close(self) -> None:
        """Close it."""


class PlayWindow(Window):
    """A window whose keys are noted."""

    def __init__(self, title: str, fps: float) -> None:
        super().__init__(title, fps)
        self.clock = pygame.time.Clock()
        self.taps: deque[int] = deque()
        self.held: set[int] = set()

    def show(self, frame: Image, seconds: float | None = None) -> bool:
        self.draw(frame)
        self.clock.tick(self.fps)
        return self.handle_events()

    def obey(self, event: pygame.event.Event) -> None:
        if event.type == pygame.KEYDOWN:
            self.taps.append(event.key)
            self.held.add(event.key)
        elif event.type == pygame.KEYUP:
            self.held.discard(event.key)


@dataclass(frozen=True)
class EpisodeScore:
    """One episode.

    Attributes:
        score: the person's return.
        rival: the agent's; None without one, and where the episode was left.
        finished: whether the person's episode came to its end.
    """

    episode: int
    score: float
    rival: float | None
    finished: bool


def play(
    name: str,
    env_kwargs: dict[str, Any] | None = None,
    seed: int = 0,
    rival: Player | None = None,
    given: Collection[str] = (),
    open_console: Callable[[str, float], Console] = PlayWindow,
) -> tuple[list[EpisodeScore], Reference]:
    """Play episode after episode until the person quits; what was played, and what scores mean there.

    Args:
        name: of the environment, as ``palaestra.envs.make`` knows it.
        env_kwargs: its arguments.
        seed: of the episodes.
        rival: who plays beside the person, in the same environment.
        given: those of its arguments that the person asked for; others may be replaced by such as suit a person.
        open_console: makes the screen and keyboard from a title and frames per second.

    Raises:
        NoDisplayError: if there is no display for a window.
        WatchError: if the environment draws no pictures or cannot be played with keys, or the rival not play there.
    """
    if no_display():
        raise NoDisplayError(f"play needs a screen, and there is none; {_NO_WINDOW}")
    person = _Person()
    kwargs = _suited(name, env_kwargs or {}, given)
    playbacks = [open_playback(name, person, 1, kwargs, seed, "cpu", None, None)]
    if rival is not None:
        playbacks.append(open_playback(name, rival.policy, 1, env_kwargs or {}, seed, rival.device, None, None))
        _check_fits(rival.policy, playbacks[1].env)
    try:
        try:
            open_display()
        except NoDisplayError as error:
            raise NoDisplayError(f"{error}; {_NO_WINDOW}") from error
        short = environment(name).short_name
        game = _Game(name, person, playbacks, rival.label if rival else "", environment(name).reference(kwargs))
        console = open_console(f"palaestra play {short}", _TURN_FPS if game.controller.turn_based else playbacks[0].fps)
        try:
            game.run(console)
        finally:
            console.close()
    finally:
        for playback in playbacks:
            playback.env.close()
        pygame.display.quit()
    return game.played, game.reference


def _suited(name: str, env_kwargs: dict[str, Any], given: Collection[str]) -> dict[str, Any]:
    """The arguments, with those for a person's game in place of those that the person did not give."""
    env = environment(name)
    suited = env.load().played_with if isinstance(env, TensorEnvSpec) else {}
    return env_kwargs | {key: value for key, value in suited.items() if key not in given}


def _check_fits(policy: PolicyFunction, env: BatchedEnv) -> None:
    if isinstance(policy, AgentPolicy) and policy.model.observation_space != env.single_observation_space:
        raise WatchError(f"--versus {policy.name}: this agent was trained on other observations; see its env settings")


def table(played: Sequence[EpisodeScore], reference: Reference, rival: str | None) -> str:
    """The episodes for people to read, one per line."""
    rows = [["episode", "you", *([rival] if rival else []), SCORES["optimum"]]]
    for one in played:
        scores = [one.score, *([one.rival] if rival else []), reference.optimum]
        rows.append([str(one.episode), *("-" if score is None else four_digits(score) for score in scores)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(f"{cell:>{width}}" for cell, width in zip(row, widths, strict=True)) for row in rows]
    lines[1:] = [line if one.finished else f"{line}  (left)" for line, one in zip(lines[1:], played, strict=True)]
    return "\n".join(lines)


class _Person:
    """The policy whose next action is set from outside."""

    action: Any = 0

    def __call__(self, env: BatchedEnv, obs: Any) -> Tensor:
        return torch.as_tensor(np.asarray(self.action)[None], device=env.device)


class _Side:
    """One player's episode and its picture."""

    def __init__(self, playback: Playback, who: str, layout: Layout) -> None:
        self.playback, self.who, self._layout = playback, who, layout
        playback.player = who

    def start(self, episode: int) -> None:
        self.playback.start(episode)
        self.playback.reveals = False  # what the best policy would do is no secret once all is over
        self.over, self.score, self.steps = False, 0.0, 0
        self.image = self.playback.picture(0, self._layout.box, over=False)

    def act(self, look: bool = True) -> None:
        """A step, unless the episode is over; without a ``look`` at it only the last one is drawn."""
        if self.over:
            return
        self.over = bool(self.playback.step()[0])
        self.score, self.steps = float(self.playback.returns[0]), self.steps + 1
        if look or self.over:
            self.image = self.playback.picture(0, self._layout.box, self.over)
        if not self.over:
            self.playback.reset_finished()

    def finish(self) -> None:
        """Play to the end at once, or until an evaluation would cut the episode."""
        while not self.over and self.steps < most_steps(self.playback.env):
            self.act(look=False)

    def reveal(self) -> None:
        """Show the best policy too."""
        self.playback.reveals = True
        self.image = self.playback.picture(0, self._layout.box, self.over)

    def tile(self) -> Image:
        return self._layout.frame([self.image], [f"{self.who}: {four_digits(self.score)}"], f"step {self.steps}")


class _Game:
    """Episodes, and the frames that show them."""

    def __init__(
        self, name: str, person: _Person, playbacks: Sequence[Playback], rival: str, reference: Reference
    ) -> None:
        playback = playbacks[0]
        height, widest = _ALONE if len(playbacks) == 1 else _BESIDE
        self._person = person
        self._sides = [
            _Side(each, who, Layout((1, 1), None, height, widest))
            for each, who in zip(playbacks, ("you", rival), strict=False)
        ]
        env = environment(name)
        self.aim = env.summary if isinstance(env, TensorEnvSpec) else ""  # told until the first step
        self.reference = reference
        self.played: list[EpisodeScore] = []
        playback.start(0)
        self.controller = controller_for(playback, name)
        self._keys = _key_table(self.controller.legend)
        if self.controller.legend:
            tell(f"keys of {env.short_name}:")
        for key, meaning in self.controller.legend:
            tell(f"  {key:<8} {meaning}")
        self._help = " · ".join(
            [self.controller.help, *([] if self.controller.turn_based else ["+ and - the pace"]), "Q quits"]
        )

    def run(self, console: Console) -> None:
        """Until the person quits."""
        for episode in itertools.count():
            for side in self._sides:
                side.start(episode)
            if not (self._play(console, episode) and self._pause(console, episode)):
                return

    def _play(self, console: Console, episode: int) -> bool:
        """One episode; False if the person left it."""
        you = self._sides[0]
        console.taps.clear()
        self.controller.start()
        frame, status = self._frame(episode), self.controller.status
        while not you.over:
            if not console.show(frame):
                if you.steps:
                    self.played.append(EpisodeScore(episode, you.score, None, False))
                return False
            action = self.controller.choose(console, self._allowed())
            if action is not None:
                self._person.action = action
                for side in self._sides:
                    side.act()
            if action is not None or self.controller.status != status:
                frame, status = self._frame(episode), self.controller.status
        for other in self._sides[1:]:
            other.finish()
        for side in self._sides:
            side.reveal()
        self.played.append(EpisodeScore(episode, you.score, self._sides[1].score if self._sides[1:] else None, True))
        return True

    def _pause(self, console: Console, episode: int) -> bool:
        """Show how the episode ended until the person goes on; False if they quit."""
        console.taps.clear()
        frame = self._frame(episode, over=True)
        while console.show(frame):
            while console.taps:
                if console.taps.popleft() in ENTER:
                    return True
        return False

    def _allowed(self) -> Callable[[Any], bool]:
        env = self._sides[0].playback.env
        mask, first = env.action_masks(), int(getattr(env.single_action_space, "start", 0))
        return lambda action: mask is None or bool(mask[0, action - first])

    def _frame(self, episode: int, over: bool = False) -> Image:
        tiles = [side.tile() for side in self._sides]
        if self.controller.waits and self.controller.legend:
            paste(tiles[0], self._keys, 12, tiles[0].shape[0] - self._keys.shape[0] - 12)
        whole = tiles[0] if len(tiles) == 1 else mosaic(tiles, len(tiles))
        headline = self._verdict() if over else self.controller.status or four_digits(self._sides[0].score)
        goals = [
            f"{SCORES[name]} {four_digits(value)}"
            for name in ("optimum", "solved_at")
            if over and (value := getattr(self.reference, name)) is not None  # who plays is not to be told before
        ]
        aim = [] if over or self._sides[0].steps or not self.aim else [self.aim]
        facts = " · ".join([f"episode {episode}", *aim, *goals])
        return np.concatenate((whole, _footer(whole.shape[1], headline, facts, self._help)))

    def _verdict(self) -> str:
        """The headline at the end of an episode."""
        best = self.reference.optimum
        scores = [f"{side.who} {four_digits(side.score)}" for side in self._sides]
        scores[0] += "" if best is None else f" of {four_digits(best)}"
        return " · ".join([*scores, "Space: next episode"])


def _footer(width: int, headline: str, facts: str, help: str) -> Image:
    """A large line over two small ones."""
    canvas = Canvas(width, 104)
    canvas.fill("#0d141c")
    canvas.text(headline, 12, 24, 34, "#ffe48a")
    canvas.text(facts, 12, 58, 22, "#e6edf3")
    canvas.text(help, 12, 86, 22, "#9fb0c0")
    return canvas.image()


def _key_table(legend: Sequence[tuple[str, str]]) -> Image:
    """The keys and what they do, a line each."""
    row, edge = 30, 18.0
    left = max((Canvas.text_width(key, 24) for key, _ in legend), default=0.0)
    right = max((Canvas.text_width(meaning, 24) for _, meaning in legend), default=0.0)
    canvas = Canvas(left + right + 4 * edge, row * len(legend) + edge)
    canvas.fill("#18222d")
    for line, (key, meaning) in enumerate(legend):
        y = edge / 2 + (line + 0.5) * row
        canvas.text(key, edge, y, 24, "#ffe48a")
        canvas.text(meaning, left + 3 * edge, y, 24, "#e6edf3")
    return canvas.image()
