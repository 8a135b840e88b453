"""Playing: a person's keys are the actions taken, and the agent beside them plays the very episode it would alone."""

from __future__ import annotations

import itertools
import shutil
import sys
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pygame
import pytest
import torch
import yaml
from gymnasium.spaces import Discrete
from torch import Tensor

from palaestra.agents import PPO
from palaestra.envs import TensorVectorEnv, make, resolve
from palaestra.envs.core import TensorEnv
from palaestra.envs.core.rng import Rng
from palaestra.envs.interop.simulator_seeds import simulator_seeds
from palaestra.envs.rendering.canvas import Canvas, Image
from palaestra.envs.rendering.window import NoDisplayError
from palaestra.train import cli
from palaestra.train.config.run_config import resolve_config
from palaestra.train.evaluation.episodes import EVALUATION_SEEDS, run_episodes
from palaestra.train.evaluation.policies import ExpertPolicy, Player, RandomPolicy
from palaestra.train.play.game import EpisodeScore, PlayWindow, play, table
from palaestra.train.play.keyboard import KeyboardController, MenuController
from palaestra.train.players import find_player
from palaestra.train.recording import playback
from palaestra.train.recording.playback import TensorPlayback, WatchError

SEED = EVALUATION_SEEDS
Press = Callable[["Script"], list[int] | None]


class Script:
    """A console whose keys a function gives, frame by frame; None closes it. Nobody sleeps."""

    def __init__(self, press: Press) -> None:
        self.taps: deque[int] = deque()
        self.held: set[int] = set()
        self.frames: list[Image] = []
        self.closed = False
        self.played: list[EpisodeScore] = []
        self._press = press

    def show(self, frame: Image) -> bool:
        self.frames.append(frame)
        keys = self._press(self)
        self.taps.extend(keys or ())
        return keys is not None

    def close(self) -> None:
        self.closed = True


def run(name: str, press: Press, **kwargs: Any) -> tuple[list[EpisodeScore], Script]:
    console = Script(press)
    played, _ = play(name, seed=SEED, open_console=lambda title, fps: console, **kwargs)
    assert console.closed
    console.played = played
    return played, console


def fixed(*frames: list[int]) -> Press:
    """These keys, then the window is closed."""
    keys = iter(frames)
    return lambda console: next(keys, None)


def expert(name: str, **env_kwargs: Any) -> Player:
    return Player(name, env_kwargs, ExpertPolicy(), "cpu", "expert")


def alone(name: str, episode: int, env_kwargs: dict[str, Any], policy: Any = None) -> float:
    """The return of one episode in a batch of one, by the loop of ``palaestra evaluate``."""
    env = make(name, 1, "cpu", SEED, **env_kwargs)
    for _ in range(episode):
        env.reset()  # goes on to the next episode
    return float(run_episodes(env, policy or ExpertPolicy()).returns[0])


def expert_keys(
    monkeypatch: pytest.MonkeyPatch, name: str, keys: Callable[[Any, int], int], episodes: int, **env_kwargs: Any
) -> Press:
    """Presses the key of the expert's action in the state of an environment that it plays for itself."""
    env = make(name, 1, "cpu", SEED, **env_kwargs)
    assert isinstance(env, TensorVectorEnv)

    def pressed() -> Iterator[list[int]]:
        for episode in range(episodes):
            env.reset(options={"episode": episode})
            over = False
            while not over:
                action = env.env.expert(env.state)
                yield [keys(env, int(action))]
                _, _, terminated, truncated = env.advance(action)
                over = bool(terminated | truncated)
            yield [pygame.K_RETURN]

    stream = pressed()
    return lambda console: next(stream, None)


def snake_key(env: Any, action: int) -> int:
    """The arrow that points where a relative action leads."""
    arrows = (pygame.K_UP, pygame.K_RIGHT, pygame.K_DOWN, pygame.K_LEFT)
    return arrows[(int(env.state.heading) + action - 1) % 4]


def absolute_key(env: Any, action: int) -> int:
    return (pygame.K_UP, pygame.K_RIGHT, pygame.K_DOWN, pygame.K_LEFT)[action]


def cartpole_key(env: Any, action: int) -> int:
    return (pygame.K_LEFT, pygame.K_RIGHT)[action]


def reach_key(env: Any, action: int) -> int:
    """Of a move along x, y or z, forwards or back; nothing belongs to F1, and so to staying."""
    keys = (pygame.K_F1, pygame.K_RIGHT, pygame.K_LEFT, pygame.K_w, pygame.K_s, pygame.K_UP, pygame.K_DOWN)
    return keys[action]


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes most of the time, and some tests are not about it."""
    for name in ("picture", "fitted"):
        monkeypatch.setattr(playback, name, lambda *args: np.zeros((4, 4, 3), np.uint8))


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize(
    ("name", "keys", "env_kwargs"),
    [
        ("snake-small", snake_key, {"size": 4}),
        ("snake-small", absolute_key, {"size": 4, "actions": "absolute"}),
        ("cartpole", cartpole_key, {"max_episode_steps": 40}),
        ("reach", reach_key, {"control": "cartesian"}),
        ("reach", reach_key, {"control": "velocity"}),  # of a run beside the person, who did not ask for it
    ],
    ids=["snake", "snake-absolute", "cartpole", "reach", "reach-of-a-run"],
)
def test_the_experts_keys_earn_the_experts_return(
    monkeypatch: pytest.MonkeyPatch, name: str, keys: Any, env_kwargs: dict[str, Any]
) -> None:
    if name == "cartpole":  # it has no expert: a rule that is good enough
        rule = staticmethod(lambda state: (state.angle + state.angular_velocity > 0).long())
        monkeypatch.setattr("palaestra.envs.cartpole.CartPole.expert", rule, raising=False)
    person_kwargs = {"control": "cartesian"} if name == "reach" else env_kwargs
    press = expert_keys(monkeypatch, name, keys, 2, **person_kwargs)
    played, _ = run(name, press, env_kwargs=env_kwargs)
    env_kwargs = person_kwargs
    returns = [alone(name, episode, env_kwargs) for episode in range(2)]
    assert played == [EpisodeScore(episode, score, None, True) for episode, score in enumerate(returns)]
    assert returns[0] > 0


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize("policy", [ExpertPolicy(), RandomPolicy()], ids=["expert", "random"])
def test_the_rival_plays_the_episode_that_it_would_alone(policy: Any) -> None:
    """While the person runs into a wall, in several episodes."""
    env_kwargs = {"size": 4}
    rival = Player("snake-small", env_kwargs, policy, "cpu", policy.name)

    def press(console: Script) -> list[int] | None:
        return [pygame.K_UP, pygame.K_RIGHT, pygame.K_SPACE] if len(console.frames) < 60 else None

    played, _ = run("snake-small", press, env_kwargs=env_kwargs, rival=rival)
    finished = [one for one in played if one.finished]
    assert len(finished) >= 3
    assert [one.rival for one in finished] == [
        alone("snake-small", one.episode, env_kwargs, type(policy)()) for one in finished
    ]
    assert {one.rival for one in finished} != {one.score for one in finished}


@dataclass(frozen=True)
class Count:
    steps: Tensor  # int64 [N]
    actions: Tensor  # int64 [N], all so far as the digits of one number


class Counting(TensorEnv[Count]):
    """Ten steps of 1; the second action is forbidden where ``masked``."""

    observation_space = gymnasium.spaces.Box(0.0, 100.0, (1,))
    max_episode_steps = 10
    turn_based = True
    keys: dict[str, int] = {"a": 2, "b": 3}  # noqa: RUF012  read only

    def __init__(self, masked: bool = False) -> None:
        self.action_space = Discrete(3, start=1)
        self.masked = masked

    def reset(self, rng: Rng) -> Count:
        zero = torch.zeros(rng.num_envs, dtype=torch.int64)
        return Count(zero, zero)

    def step(self, state: Count, action: Tensor, rng: Rng) -> tuple[Count, Tensor, Tensor]:
        after = Count(state.steps + 1, state.actions * 10 + action)
        return after, torch.ones(len(action)), torch.zeros(len(action), dtype=torch.bool)

    def observe(self, state: Count) -> Tensor:
        return state.steps.float().unsqueeze(1)

    def action_mask(self, state: Count) -> Tensor:
        return torch.tensor([[True, not self.masked, True]]).expand(len(state.steps), 3)

    def draw(self, state: Count, canvas: Canvas) -> None:
        canvas.fill("#000000")

    @property
    def keys_to_action(self) -> dict[str, int]:
        return self.keys


class Choosing(Counting):
    keys: dict[str, int] = {}  # noqa: RUF012


class RealTime(Counting):
    turn_based = False


class WithNoKey(RealTime):
    keys: dict[str, int] = {"a": 2, "b": 3, "": 1}  # noqa: RUF012


def actions_taken(
    monkeypatch: pytest.MonkeyPatch, rules: type[Counting], press: Press, masked: bool = False
) -> tuple[int, Script]:
    """The actions of the first episode as the digits of a number."""
    taken = [0]
    original = TensorPlayback.step

    def act(self: TensorPlayback) -> Any:
        result = original(self)
        taken.append(int(self.env.state.actions))
        return result

    monkeypatch.setattr(TensorPlayback, "step", act)
    monkeypatch.setattr(
        "palaestra.train.play.game.open_playback",
        lambda name, policy, *rest: TensorPlayback(TensorVectorEnv(rules(masked), 1, device="cpu"), policy),
    )
    monkeypatch.setattr("palaestra.train.play.game.environment", lambda name: resolve("cartpole"))
    _, console = run("counting", press)
    return taken[-1], console


A, B, C = pygame.K_a, pygame.K_b, pygame.K_c


def test_turn_based_takes_one_step_for_each_key(monkeypatch: pytest.MonkeyPatch) -> None:
    press = fixed([], [], [A], [C], [B, A, A], [], [], [], [])
    assert actions_taken(monkeypatch, Counting, press)[0] == 2322


def test_real_time_starts_with_a_key_and_goes_on_with_the_last_one(monkeypatch: pytest.MonkeyPatch) -> None:
    press = fixed([], [C], [A], [], [B], [C], [A, A, B, A], [])
    assert actions_taken(monkeypatch, RealTime, press)[0] == 223332


def test_with_an_action_for_no_key_a_key_acts_while_it_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = iter([([A], {A}), ([], {A}), ([], set()), ([B], set()), ([], set()), ([A], {A, C}), ([B], {A}), ([], {A})])

    def press(console: Script) -> list[int] | None:
        taps, console.held = next(frames, (None, set()))
        return taps

    assert actions_taken(monkeypatch, WithNoKey, press)[0] == 22131232


def test_forbidden_actions_are_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    assert actions_taken(monkeypatch, Counting, fixed([A], [B], [A]), masked=True)[0] == 3
    monkeypatch.undo()
    press = fixed([pygame.K_2], [pygame.K_1], [pygame.K_RETURN], [pygame.K_RIGHT], [pygame.K_RETURN])
    assert actions_taken(monkeypatch, Choosing, press, masked=True)[0] == 33


def test_any_action_can_be_chosen_from_a_list(monkeypatch: pytest.MonkeyPatch) -> None:
    left, right, up, enter = pygame.K_LEFT, pygame.K_RIGHT, pygame.K_UP, pygame.K_RETURN
    press = fixed([enter], [left, enter], [left, left, enter], [up, enter], [], [right], [right, right], [enter])
    assert actions_taken(monkeypatch, Choosing, press)[0] == 21123 // 10 * 10 + 3
    chooser, console = MenuController(Discrete(30), "price {}".format), Script(fixed())
    assert chooser.status == "price 15  (16 of 30)"
    for key, choice in ((up, 20), (pygame.K_DOWN, 15), (up, 20), (up, 25), (up, 29), (left, 28), (pygame.K_3, 28)):
        console.taps.append(key)
        assert chooser.choose(console, lambda action: True) is None
        assert chooser.status.startswith(f"price {choice} ")
    console.taps.extend([pygame.K_SPACE, enter])
    assert chooser.choose(console, lambda action: False) is None
    assert "not allowed" in chooser.status


def test_prices_are_shown_while_they_are_chosen() -> None:
    rules = make("pricing", 1, "cpu").env  # type: ignore[attr-defined]
    assert [rules.action_name(action) for action in (0, 29)] == ["price 20", "price 600"]
    two = make("pricing-two", 1, "cpu").env  # type: ignore[attr-defined]
    assert two.action_name(11) == "price 60 and 40"


def test_keys_held_together_mean_what_gymnasium_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """MountainCar gives the key codes of an older pygame: nothing 1, left 0, right 2, both 1."""
    left, right = pygame.K_LEFT, pygame.K_RIGHT
    frames = [([left], {left}), ([], {left}), ([right], {left, right}), ([], {right}), ([], set()), ([right], {right})]
    seen = []
    original = KeyboardController.choose

    def choose(self: KeyboardController, *args: Any) -> int | None:
        seen.append(original(self, *args))
        return seen[-1]

    monkeypatch.setattr(KeyboardController, "choose", choose)
    upcoming = iter(frames)

    def press(console: Script) -> list[int] | None:
        taps, console.held = next(upcoming, (None, set()))
        return taps

    played, _ = run("MountainCar-v0", press)
    assert seen == [0, 0, 1, 2, 1, 2]
    assert played == [EpisodeScore(0, -6.0, None, False)]


@pytest.mark.usefixtures("no_pictures")
def test_every_gymnasium_episode_is_the_same_for_both_however_long_the_one_before() -> None:
    """A person who falls early and a rival who does not must still start alike in the next episode."""
    starts: list[list[float]] = []

    class Left:
        name, deterministic = "left", True

        def __call__(self, env: Any, obs: Any) -> Tensor:
            starts.append(obs[0].tolist())
            return torch.zeros(1, dtype=torch.int64)

    def press(console: Script) -> list[int] | None:
        return [pygame.K_LEFT, pygame.K_SPACE] if len(console.frames) < 45 else None

    rival = Player("CartPole-v1", {}, Left(), "cpu", "left")
    played, _ = run("CartPole-v1", press, rival=rival)
    seeds = simulator_seeds(SEED, 0, 3)  # those of the first three evaluation episodes
    first = [gymnasium.make("CartPole-v1").reset(seed=seed)[0].tolist() for seed in seeds]
    assert [start for start in starts if start in first] == first
    assert sum(one.finished for one in played) >= 3


def test_keys_pressed_before_the_end_do_not_start_the_next_episode(monkeypatch: pytest.MonkeyPatch) -> None:
    for after, episodes in ([[A], [A]], 1), ([[A], [pygame.K_SPACE], [A]], 2):
        press = fixed([A] * 10 + [pygame.K_RETURN], *[[]] * 9, *after, [])
        _, console = actions_taken(monkeypatch, Counting, press)
        assert len(console.played) == episodes
        monkeypatch.undo()


def test_leaving_an_episode_tells_the_score_so_far() -> None:
    played, _ = run("cartpole", fixed([pygame.K_LEFT], [], []), rival=expert_of_cartpole())
    assert played == [EpisodeScore(0, 3.0, None, False)]
    assert run("cartpole", fixed([], []))[0] == []


def expert_of_cartpole() -> Player:
    return Player("cartpole", {}, RandomPolicy(), "cpu", "random")


def test_the_table_has_a_line_for_each_episode() -> None:
    reference = make("snake-small", 1, "cpu").env.reference  # type: ignore[attr-defined]
    played = [EpisodeScore(0, 5.0, 35.0, True), EpisodeScore(1, 2.5, None, False)]
    assert table(played, reference, "dqn").splitlines() == [
        "episode  you  dqn  best known",
        "      0    5   35          35",
        "      1  2.5    -          35  (left)",
    ]
    assert table(played[:1], reference, None).splitlines() == ["episode  you  best known", "      0    5          35"]


def test_who_plays_beside_a_run_of_reach_moves_the_tool() -> None:
    """The run's joint velocities are no keys, so the person gets moves, and the run keeps its own actions."""
    kwargs = {"control": "velocity"}
    rival = Player("reach", kwargs, ExpertPolicy(), "cpu", "expert")
    played, _ = run("reach", fixed(*[[pygame.K_UP]] * 200), env_kwargs=kwargs, rival=rival)
    assert played[0].finished
    assert played[0].rival == alone("reach", 0, kwargs)


def test_the_optimum_is_hidden_until_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the texts, and in the pictures of both players, of whom the agent is done sooner or later."""
    texts: list[str] = []
    original = Canvas.text
    monkeypatch.setattr(Canvas, "text", lambda self, text, *args: (texts.append(text), original(self, text, *args))[1])
    seen: list[str] = []

    def press(console: Script) -> list[int] | None:
        seen.append(" | ".join(texts))
        texts.clear()
        return [pygame.K_1, pygame.K_RETURN] if len(seen) < 9 else None

    kwargs = {"periods": 4}
    rival = Player("pricing", kwargs, RandomPolicy(), "cpu", "random")
    played, _ = run("pricing", press, env_kwargs=kwargs, rival=rival)
    assert played[0].finished
    words = ("optim", "V*", "policy", "best known", "solved at")
    shown = [any(word in text for word in words) for text in (one.replace("optimal prices are", "") for one in seen)]
    ends = ["next episode" in text for text in seen]
    assert shown == ends
    assert ends.count(True) == 1
    assert "random" in seen[ends.index(True)]
    assert "best known" in seen[ends.index(True)]


def test_keys_are_shown_until_one_is_pressed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    texts: list[str] = []
    original = Canvas.text
    monkeypatch.setattr(Canvas, "text", lambda self, text, *args: (texts.append(text), original(self, text, *args))[1])
    _, console = run("reach", fixed([], [pygame.K_UP], [], []))
    assert capsys.readouterr().err.splitlines()[:3] == [
        "keys of reach:",
        "  no key   stay",
        "  right    move right (+x)",
    ]
    assert "move away (+y)" in texts
    background = [(frame == np.array([24, 34, 45])).all(2).sum() for frame in console.frames]
    assert min(background[:2]) > 20_000
    assert max(background[2:]) < 1000


# ---------------------------------------------------------------------------------------------------- the window


def key_event(kind: int, key: int) -> pygame.event.Event:
    return pygame.event.Event(kind, key=key)


class NoClock:
    def tick(self, fps: float) -> None:
        pass


@pytest.mark.usefixtures("no_pictures")
def test_the_window_passes_keys_on_and_quits(monkeypatch: pytest.MonkeyPatch) -> None:
    """All the way from pygame's events to the score: left is pressed once, which pushes the cart to the left."""
    monkeypatch.setattr(pygame.time, "Clock", NoClock)
    lengths = [constant_cartpole(episode) for episode in range(2)]
    presses = {0: pygame.K_LEFT, lengths[0] + 5: pygame.K_RETURN, lengths[0] + 9: pygame.K_LEFT}
    presses[lengths[0] + 9 + lengths[1] + 5] = pygame.K_q
    frames = 0
    original = PlayWindow.show

    def show(self: PlayWindow, frame: Image) -> bool:
        nonlocal frames
        if frames in presses:
            pygame.event.post(key_event(pygame.KEYDOWN, presses[frames]))
            pygame.event.post(key_event(pygame.KEYUP, presses[frames]))
        frames += 1
        return original(self, frame)

    monkeypatch.setattr(PlayWindow, "show", show)
    played, _ = play("cartpole", seed=SEED)
    assert played == [EpisodeScore(episode, length, None, True) for episode, length in enumerate(lengths)]
    assert frames == max(presses) + 1
    assert not pygame.display.get_init()


def constant_cartpole(episode: int) -> int:
    """How long pushing left goes well."""
    env = make("cartpole", 1, "cpu", SEED)
    env.reset(options={"episode": episode})
    for steps in itertools.count(1):
        if env.step(torch.zeros(1, dtype=torch.int64))[2]:
            return steps
    raise AssertionError


def test_plus_and_minus_change_the_pace() -> None:
    window = PlayWindow("test", 400.0)
    frame = np.zeros((4, 4, 3), np.uint8)
    assert window.show(frame)
    for key in (pygame.K_PLUS, pygame.K_a, pygame.K_MINUS, pygame.K_MINUS):
        pygame.event.post(key_event(pygame.KEYDOWN, key))
    assert window.show(frame)
    assert window.fps == 200.0
    assert pygame.K_a in window.taps
    pygame.event.post(pygame.event.Event(pygame.QUIT))
    assert not window.show(frame)
    window.close()


# ---------------------------------------------------------------------------------------------------- refusals


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems always have a display")
def test_a_display_that_cannot_be_reached_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """SDL would draw into memory, where nobody sees it."""
    pygame.display.quit()
    monkeypatch.delenv("SDL_VIDEODRIVER", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setenv("DISPLAY", ":4321")
    with pytest.raises(NoDisplayError, match=r"cannot open a window: .*; palaestra watch RUN --record FILE"):
        play("cartpole", seed=SEED)


def run_cli(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["palaestra", *arguments])
    with pytest.raises(SystemExit) as exit_:
        cli.main()
    return int(exit_.value.code or 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("play snak", "did you mean 'snake'"),
        ("play reach --set env.control=velocity", "reach has Box(-1.0, 1.0, (7,), float32)"),
        ("play reach-torque", "look for a setting with discrete actions, or see an agent play: palaestra watch"),
        ("play snake-small --versus nosuchrun", "no run 'nosuchrun'"),
        ("play cartpole --versus expert", "cartpole has no expert"),
        ("play snake-small --set learning_rate=1", "only environment settings"),
        ("play snake-small --set env.size=7", "size must be an even number"),
    ],
)
def test_refusals_are_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: str, message: str
) -> None:
    assert run_cli(monkeypatch, *arguments.split()) == 2
    err = capsys.readouterr().err
    assert err.startswith("palaestra: error: ")
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems always have a display")
def test_without_a_screen_watch_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER"):
        monkeypatch.delenv(variable, raising=False)
    with pytest.raises(NoDisplayError, match=r"play needs a screen.*palaestra watch RUN --record"):
        play("snake-small")


def test_environments_without_pictures_and_unknown_keys_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class BadKey(Counting):
        keys: dict[str, int] = {"arrow-left": 1}  # noqa: RUF012

    with pytest.raises(WatchError, match="pygame knows no key 'arrow-left'"):
        actions_taken(monkeypatch, BadKey, fixed())
    monkeypatch.undo()
    monkeypatch.delattr("palaestra.envs.snake.Snake.draw")
    with pytest.raises(WatchError, match="draws no pictures"):
        play("snake-small")


@pytest.mark.usefixtures("no_pictures")
def test_a_run_beside_the_person(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its environment must be the same, its settings are taken over, and it earns what it earns alone."""
    monkeypatch.chdir(tmp_path)
    config = resolve_config("snake-small", settings=["env.size=4"])
    Path("here").mkdir()
    Path("here/config.yaml").write_text(yaml.safe_dump(config.as_dict()))
    PPO("MlpPolicy", make("snake-small", 8, "cpu", size=4), n_steps=8, batch_size=8).save("here/model.zip")
    subject = find_player("here", None, False, ())
    assert subject.env_kwargs["size"] == 4
    frames = itertools.count()

    def show(self: PlayWindow, frame: Image) -> bool:
        self.taps.extend([pygame.K_UP, pygame.K_RIGHT, pygame.K_SPACE])
        return next(frames) < 30

    monkeypatch.setattr(PlayWindow, "show", show)
    capsys.readouterr()
    assert run_cli(monkeypatch, "play", "snake-small", "--versus", "here") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["episode", "you", "ppo", "best", "known"]
    assert len(lines) > 3
    for line in lines[1:]:
        if "(left)" not in line:
            episode, _, rival, best = line.split()
            assert float(rival) == alone("snake-small", int(episode), subject.env_kwargs, subject.policy)
            assert best == "15"
    assert run_cli(monkeypatch, "play", "snake", "--versus", "here") == 2
    assert "this agent plays palaestra/SnakeSmall-v0, not snake" in capsys.readouterr().err
    assert run_cli(monkeypatch, "play", "snake-small", "--versus", "here", "--set", "env.size=6") == 2
    assert "trained with observations Box(65,), and snake-small has Box(145,)" in capsys.readouterr().err
    shutil.copy("here/model.zip", "bare.zip")
    assert run_cli(monkeypatch, "play", "snake-small", "--versus", "bare.zip", "--set", "env.size=4") == 0


def test_what_the_game_is_about_is_told_until_the_first_step(monkeypatch: pytest.MonkeyPatch) -> None:
    texts: list[str] = []
    original = Canvas.text
    monkeypatch.setattr(Canvas, "text", lambda self, text, *args: (texts.append(text), original(self, text, *args))[1])
    run("palaestra/CartPole-v1", fixed([], [pygame.K_LEFT], []))
    facts = [text for text in texts if text.startswith("episode 0")]
    assert facts[0].startswith("episode 0 · Balance a pole on a cart")
    assert facts[-1] == "episode 0"
    assert "keys: left right, of which the last one pressed goes on · + and - the pace · Q quits" in texts
