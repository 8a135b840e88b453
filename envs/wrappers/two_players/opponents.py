"""Opponents in games for two players: each chooses the moves of the player whose turn it is.

* ``random``: any legal move, all equally likely.
* ``one-ply`` and ``two-ply``: looking one or two moves ahead, by playing all of them; they win where they can and, with
  two, leave no win where they can. Among moves that look alike they draw.
* ``perfect``: a move that keeps the game's value (``TensorEnv.game_value``), of these one that ``two-ply`` would make.
* a model file: the agent in it, which draws as it does while training. ``FILE.zip@64`` searches before each move, with
  64 simulations, and draws by their visits.
* ``earlier``: earlier selves of the agent that trains, :data:`POOL` of them, one of which is drawn for each episode;
  random moves until there are any. Where agents are evaluated and shown there are none: see :func:`fixed_opponent`.
* ``self``: no opponent. The agent moves for both players and learns from both, see :mod:`.both_sides`.

Several with + between them are a mixture, one of which is drawn for each episode: ``random+two-ply``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from palaestra.envs.core import TensorEnv, map_state, state_fields
from palaestra.envs.core.errors import check_returned
from palaestra.envs.core.rng import Rng, sample_actions
from palaestra.envs.core.suggest import closest
from palaestra.envs.trained_players import TrainedPlayer, read_player, require_spaces

LOOKAHEAD = {"one-ply": 1, "two-ply": 2}
SCRIPTED_OPPONENTS = ("random", *LOOKAHEAD, "perfect")
LONGEST = 512  # moves of a random game
EARLIER, POOL = "earlier", 4
SELF = "self"  # no opponent: the agent moves for both players, see :mod:`.both_sides`
YARDSTICK = "two-ply"  # which every game has
MODEL_FILE = ".zip"


class Opponent(Protocol):
    """Chooses moves.

    Attributes:
        name: for people.
        is_symmetric: whether it plays alike, in distribution, in positions that are images of each other.
    """

    @property
    def name(self) -> str: ...

    @property
    def is_symmetric(self) -> bool: ...

    def __call__(self, game: TensorEnv[Any], state: Any, rng: Rng) -> Tensor:
        """Legal actions int64 [N] in N states; any where a game is over."""
        ...


def legal_moves(game: TensorEnv[Any], state: Any) -> Tensor:
    """Which moves are legal, bool [N, A]; all of them where a game has no mask.

    Raises:
        EnvError: if the game's mask has another form.
    """
    rows = next(iter(state_fields(state).values())).shape[0]
    shape = rows, int(game.action_space.n)  # type: ignore[attr-defined]
    if not game.has("action_mask"):
        return torch.ones(shape, dtype=torch.bool, device=game.device)
    mask = game.action_mask(state)
    check_returned(game, "action_mask", mask, shape, torch.bool)
    return mask


@dataclass(frozen=True)
class RandomOpponent:
    """Uniform over the legal moves."""

    name: str = "random"
    is_symmetric: ClassVar[bool] = True

    def __call__(self, game: TensorEnv[Any], state: Any, rng: Rng) -> Tensor:
        return sample_actions(game.action_space, rng, legal_moves(game, state))


def random_games(game: TensorEnv[Any], count: int) -> Iterator[tuple[Rng, Any, Tensor, Tensor]]:
    """So many games of random moves, :data:`LONGEST` at most, move by move; the same at each call, on every device.

    Each move gives its random numbers, the states after it, float32 rewards [count] of who moved, 0 in games that were
    over, and those that go on, bool [count].
    """
    keys = torch.arange(count, device=game.device)
    state, running = game.reset(Rng(keys, 0)), torch.ones_like(keys, dtype=torch.bool)
    for move in range(1, LONGEST + 1):
        rng = Rng(keys, move)
        state, reward, over = game.step(state, RandomOpponent()(game, state, rng), rng.spawn())
        reward, running = reward.masked_fill(~running, 0.0), running & ~over
        yield rng, state, reward, running
        if not running.any():
            return


def move_values(game: TensorEnv[Any], state: Any, plies: int | None, rng: Rng) -> Tensor:
    """What each move earns within so many plies if both players play for that, float32 [N, A]; −∞ for illegal ones.

    With None for ``plies`` they play perfectly to the end, as ``TensorEnv.game_value`` knows.
    """
    legal = legal_moves(game, state)
    (n, count), first = legal.shape, int(getattr(game.action_space, "start", 0))
    rows = torch.arange(n, device=legal.device).repeat_interleave(count)
    actions = torch.arange(first, first + count, device=legal.device).repeat(n)
    draws = rng.of_rows(rows)
    after, earned, over = game.step(map_state(lambda field: field.index_select(0, rows), state), actions, draws)
    if plies is None:
        earned = with_perfect_play(game, after, earned, over)
    elif plies > 1:
        replies = move_values(game, after, plies - 1, draws.spawn()).amax(1)
        earned = earned - replies.masked_fill(over, 0.0)
    return earned.view(n, count).masked_fill(~legal, -torch.inf)


def with_perfect_play(game: TensorEnv[Any], after: Any, earned: Tensor, over: Tensor) -> Tensor:
    """What moves earn in all, float32 [N], that led to these states and rewards, if both play perfectly from there."""
    return earned - game.game_value(after).masked_fill(over, 0.0)


@dataclass(frozen=True)
class LookaheadOpponent:
    """Any of the best moves as far as so many plies show, each the move of one player; None for all plies.

    Of the best moves of all plies it makes one that two plies ahead is the best: a lost game is not thrown away.
    """

    name: str
    plies: int | None
    is_symmetric: ClassVar[bool] = True

    def __call__(self, game: TensorEnv[Any], state: Any, rng: Rng) -> Tensor:
        values = move_values(game, state, self.plies, rng.spawn())
        best = values == values.amax(1, keepdim=True)
        if self.plies is None:
            ahead = move_values(game, state, LOOKAHEAD["two-ply"], rng.spawn()).masked_fill(~best, -torch.inf)
            best = ahead == ahead.amax(1, keepdim=True)
        return sample_actions(game.action_space, rng, best)


def require_perfect_play(game: TensorEnv[Any]) -> None:
    """Raise a ValueError unless perfect play of the game is known here."""
    if type(game).game_value is TensorEnv.game_value:
        raise ValueError(f"perfect play of {type(game).__name__} is not known: it has no game_value")
    game.game_value(game.reset(Rng(torch.zeros(1, dtype=torch.int64, device=game.device), 0)))  # it says what it lacks


def keeps_value(game: TensorEnv[Any], state: Any, action: Tensor) -> Tensor:
    """True for moves after which perfect play would still end as before them, bool [N]."""
    after, earned, over = game.step(state, action, Rng(torch.zeros_like(action), 0))
    return with_perfect_play(game, after, earned, over) >= game.game_value(state)


class TrainedOpponent:
    """The agent in a model file; its moves are drawn as while training, so that games differ."""

    is_symmetric = False

    def __init__(self, game: TensorEnv[Any], file: Path, simulations: int = 0) -> None:
        """Raises ValueError unless the file holds an agent for this game and this board, which can search if it is to.

        Args:
            game: who plays it.
            file: of the agent.
            simulations: before each of its moves; 0 for no search.
        """
        self.name = f"{file.name}@{simulations}" if simulations else file.name
        self.file, self.simulations = file, simulations
        player = read_player(file, "cpu", simulations)
        if player.remembers:
            raise ValueError(f"{file}: an agent with a memory of its own cannot be an opponent")
        require_spaces(player, _seen_by(player, game), str(file), "this game")
        self._players: dict[str, Any] = {"cpu": player}
        self._views: dict[str, TensorEnv[Any]] = {}

    def __call__(self, game: TensorEnv[Any], state: Any, rng: Rng) -> Tensor:
        device = str(game.device)
        if device not in self._players:
            self._players[device] = read_player(self.file, device, self.simulations)
        player = self._players[device]
        if device not in self._views:
            self._views[device] = _seen_by(player, game)
        view = self._views[device]
        if self.simulations:
            moves: Tensor = player.move(view, state, rng)
            return moves
        return _act(player, view, state, rng)

    def __deepcopy__(self, memo: dict[int, Any]) -> TrainedOpponent:
        return self  # a frozen agent, which copies of a game share


def _seen_by(player: TrainedPlayer, game: TensorEnv[Any]) -> TensorEnv[Any]:
    """The game as the agent was trained to see it, if it has such a view."""
    if game.observation_space == player.observation_space:
        return game
    return game.seen_as(player.observation_space) or game


@torch.no_grad()
def _act(player: TrainedPlayer, game: TensorEnv[Any], state: Any, rng: Rng) -> Tensor:
    """An agent's moves, drawn as while it trains."""
    mask = game.action_mask(state) if game.has("action_mask") else None
    if mask is not None:  # a full board has no legal move, and needs none
        mask = mask | ~mask.any(1, keepdim=True)
    return player.act(game.observe(state), rng, mask)


class EarlierSelf:
    """One of the earlier selves; see the module."""

    name, is_symmetric = EARLIER, False

    def __init__(self, player: TrainedPlayer | None = None) -> None:
        self.player = player

    def __call__(self, game: TensorEnv[Any], state: Any, rng: Rng) -> Tensor:
        if self.player is None:
            return RandomOpponent()(game, state, rng)
        return _act(self.player, game, state, rng)

    def __deepcopy__(self, memo: dict[int, Any]) -> EarlierSelf:
        return self


def opponents_named(game: TensorEnv[Any], text: Any) -> tuple[Opponent, ...]:
    """The opponents that a setting names, see the module.

    Raises:
        ValueError: for a name that is none, a file that holds no player of this game, and where perfect play is asked
            for and not known.
    """
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f"name an opponent: {', '.join(SCRIPTED_OPPONENTS)} or a model file; got {text!r}")
    names = [text] if is_file(text) else text.split("+")
    return tuple(one for name in names for one in _opponents(game, name.strip()))


def _file_and_search(name: str) -> tuple[str, str]:
    """The model file that an opponent's name begins with, and how it goes on: ``""``, or ``@`` and a number."""
    file, at, count = name.rpartition("@")
    return (file, at + count) if file.endswith(MODEL_FILE) else (name, "")


def is_file(name: str) -> bool:
    """True if an opponent's name is that of a model file."""
    file, _ = _file_and_search(name)
    return file.endswith(MODEL_FILE) and Path(file).expanduser().is_file()


def _opponents(game: TensorEnv[Any], name: str) -> list[Opponent]:
    """The opponent of that name, or the several that it stands for."""
    if name == "random":
        return [RandomOpponent()]
    if name == EARLIER:
        return [EarlierSelf() for _ in range(POOL)]
    if name in LOOKAHEAD:
        return [LookaheadOpponent(name, LOOKAHEAD[name])]
    if name == "perfect":
        require_perfect_play(game)
        return [LookaheadOpponent(name, None)]
    if name == SELF:
        raise ValueError(f"{SELF} stands alone: such an agent moves for both players, and has no other opponent")
    file, search = _file_and_search(name)
    if file.endswith(MODEL_FILE):
        if search and not (search[1:].isdecimal() and int(search[1:])):
            raise ValueError(f"{file}@N searches with N simulations, such as @64; got {search}")
        return [TrainedOpponent(game, Path(file).expanduser(), int(search[1:] or 0))]
    near = closest(name, (*SCRIPTED_OPPONENTS, EARLIER, SELF))
    hint = f"; did you mean {near!r}?" if near else f"; there are {', '.join(SCRIPTED_OPPONENTS)}, and model files"
    if name and Path(name).expanduser().is_dir():
        hint = "; it is a folder: name the model file in it, as model.zip or best.zip of a run"
    raise ValueError(f"no opponent is called {name!r}{hint}")


def fixed_opponent(game: type[TensorEnv[Any]], text: Any) -> Any:
    """The opponents against whom an agent is evaluated that trains against these: the same, unless one is itself.

    Scores against earlier selves would be of another scale in each run, and at each moment. Instead of them, and of
    what they are mixed with, there is the opponent that the game suits people with (``TensorEnv.played_with``).
    """
    if not isinstance(text, str) or not {EARLIER, SELF} & {name.strip() for name in text.split("+")}:
        return text
    return game.played_with.get("opponent", YARDSTICK)


def lasting_names(text: Any) -> Any:
    """The same opponents with the full path of files, which mean the same in any folder."""
    if not isinstance(text, str):
        return text
    names = [text] if is_file(text) else text.split("+")
    return "+".join(_lasting_name(name) for name in names)


def _lasting_name(name: str) -> str:
    if not is_file(name):
        return name
    file, search = _file_and_search(name)
    return f"{Path(file).expanduser().resolve()}{search}"
