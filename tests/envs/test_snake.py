"""Snake: hand-worked positions, an independent reference game, and the published reference table."""

from __future__ import annotations

import hashlib
import math
from collections import deque
from collections.abc import Callable
from functools import cache

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from palaestra.envs.core import TensorVectorEnv, map_state
from palaestra.envs.core.rng import Rng, child_key, env_keys
from palaestra.envs.snake import DOWN, LEFT, RIGHT, UP, WALL, Snake, SnakeState

MOVES = {UP: (-1, 0), RIGHT: (0, 1), DOWN: (1, 0), LEFT: (0, -1)}


def state_of(env: Snake, body: list[int], fruit: int, heading: int = RIGHT, hunger: int = 0) -> SnakeState:
    """One board; ``body`` from head to tail."""
    lifetime = torch.zeros(1, env.cells, dtype=torch.int16)
    for age, cell in enumerate(body):
        lifetime[0, cell] = len(body) - age
    numbers = (torch.tensor([value]) for value in (body[0], heading, fruit, len(body), hunger))
    return SnakeState(lifetime, *numbers)


def body_of(state: SnakeState, row: int = 0) -> list[int]:
    """Cells from head to tail."""
    lifetime = state.lifetime[row]
    cells = lifetime.nonzero().flatten().tolist()
    return sorted(cells, key=lambda cell: -int(lifetime[cell]))


def move(env: Snake, state: SnakeState, action: int) -> tuple[SnakeState, float, bool]:
    after, reward, terminated = env.step(state, torch.tensor([action]), Rng(torch.tensor([5]), torch.tensor([1])))
    return after, reward.item(), bool(terminated.item())


#  0  1  2  3
#  4  5  6  7
#  8  9 10 11
# 12 13 14 15
BOARD = Snake(4, actions="absolute")


@pytest.mark.parametrize(
    ("body", "fruit", "action", "after", "reward", "terminated"),
    [
        ([5], 15, RIGHT, [6], 0, False),  # a snake of length 1 may go anywhere
        ([5], 15, LEFT, [4], 0, False),
        ([5], 6, RIGHT, [6, 5], 1, False),  # growth: the tail stays
        ([6, 5, 4], 15, DOWN, [10, 6, 5], 0, False),  # the tail moves
        ([3], 15, RIGHT, [3], 0, True),  # the four walls
        ([3], 15, UP, [3], 0, True),
        ([12], 15, LEFT, [12], 0, True),
        ([12], 15, DOWN, [12], 0, True),
        ([4, 5, 1, 0], 15, UP, [0, 4, 5, 1], 0, False),  # the head may enter the cell that the tail leaves
        ([4, 5, 1, 0, 8], 15, UP, [4, 5, 1, 0, 8], 0, True),  # but not the segment before it
        ([6, 5, 4], 15, LEFT, [6, 5, 4], 0, True),  # turning back into the neck
        ([6, 5], 15, LEFT, [5, 6], 0, False),  # with length 2 the neck is the tail, which moves away
    ],
)
def test_hand_worked_moves(
    body: list[int], fruit: int, action: int, after: list[int], reward: float, terminated: bool
) -> None:
    state, got_reward, got_terminated = move(BOARD, state_of(BOARD, body, fruit), action)
    assert (body_of(state), got_reward, got_terminated) == (after, reward, terminated)


def test_relative_actions_turn_left_straight_right() -> None:
    env = Snake(4)
    for heading in range(4):
        for action, turn in ((0, -1), (1, 0), (2, 1)):
            after, _, _ = move(env, state_of(env, [5], 15, heading), action)
            direction = (heading + turn) % 4
            row, column = MOVES[direction]
            assert (after.head.item(), after.heading.item()) == (5 + 4 * row + column, direction)


def test_full_board_is_a_win_without_a_fruit() -> None:
    cycle = sorted(range(16), key=lambda cell: int(BOARD.cycle[cell]))
    body = cycle[:15][::-1]  # head at place 14, tail at 0, the last free cell is place 15
    direction = next(d for d in range(4) if BOARD.neighbour.view(16, 4)[body[0], d] == cycle[15])
    state, reward, terminated = move(BOARD, state_of(BOARD, body, cycle[15]), direction)
    assert (reward, terminated) == (1, True)
    assert state.fruit.item() == 16
    assert state.length.item() == 16
    assert BOARD.success(state).item()
    assert BOARD.observe(state)[0, 48:64].sum() == 0  # nothing in the fruit plane


def test_starvation_ends_the_episode_at_exactly_four_boards() -> None:
    """A snake that circles on four cells; hunger counts the steps since the last fruit."""
    batch = TensorVectorEnv(BOARD, 1, device="cpu")
    batch.reset()
    batch.state = state_of(BOARD, [0], 15)
    for step in range(1, 65):
        assert BOARD.observe(batch.state)[0, -1] == pytest.approx((step - 1) / 64)
        _, reward, terminated, truncated = batch.advance(torch.tensor([(RIGHT, DOWN, LEFT, UP)[(step - 1) % 4]]))
        assert (reward.item(), terminated.item(), truncated.item()) == (0, step == 64, False)


def test_eating_on_the_last_step_before_starvation_saves_the_snake() -> None:
    state, reward, terminated = move(BOARD, state_of(BOARD, [5], 6, hunger=63), RIGHT)
    assert (reward, terminated, state.hunger.item()) == (1, False, 0)


def test_observation_of_a_hand_worked_position() -> None:
    obs = BOARD.observe(state_of(BOARD, [6, 5, 4], 15, heading=DOWN, hunger=16))[0]
    assert obs[:16].tolist() == [0, 0, 0, 0, 1 / 16, 2 / 16, 3 / 16, *[0] * 9]
    assert obs[16:64].nonzero().flatten().tolist() == [5, 6, 16 + 6, 32 + 15]
    assert obs[64:].tolist() == [0.25]


def test_with_relative_actions_the_board_is_turned_so_that_the_snake_faces_up() -> None:
    """Head in the top right corner: facing right, say, there are walls ahead and to the left: the top left one."""
    env = Snake(4)
    places = {UP: (3, 15), RIGHT: (0, 3), DOWN: (12, 0), LEFT: (15, 12)}  # cells 3 and 15 on the turned board
    for heading, (head, fruit) in places.items():
        obs = env.observe(state_of(env, [3], 15, heading))[0]
        assert obs[32:64].nonzero().flatten().tolist() == [head, 16 + fruit]


class ReferenceSnake:
    """The rules once more, with a queue of (row, column) segments and none of the environment's code."""

    def __init__(self, size: int, body: list[tuple[int, int]], heading: int, fruit: tuple[int, int]) -> None:
        self.size, self.body, self.heading, self.fruit, self.hunger = size, deque(body), heading, fruit, 0

    def step(self, heading: int) -> tuple[float, bool]:
        self.heading = heading
        self.hunger += 1
        head = (self.body[0][0] + MOVES[heading][0], self.body[0][1] + MOVES[heading][1])
        tail = self.body.pop() if head != self.fruit else None
        if head in self.body or not (0 <= head[0] < self.size and 0 <= head[1] < self.size):
            if tail is not None:
                self.body.append(tail)
            return 0.0, True
        self.body.appendleft(head)
        if tail is None:
            self.hunger = 0
            return 1.0, len(self.body) == self.size**2
        return 0.0, self.hunger == 4 * self.size**2

    def planes(self, turned: bool) -> Tensor:
        """Lifetime, deadly cells, head, fruit and hunger, [5, size, size]; turned to face up, or not."""
        k = self.size**2
        lifetime, head, fruit = [0.0] * k, [0.0] * k, [0.0] * k
        for age, (row, column) in enumerate(self.body):
            lifetime[row * self.size + column] = (len(self.body) - age) / k
        head[self.body[0][0] * self.size + self.body[0][1]] = 1.0
        if len(self.body) < k:
            fruit[self.fruit[0] * self.size + self.fruit[1]] = 1.0
        deadly = [float(cell > 1 / k) for cell in lifetime]
        hunger = [self.hunger / (4 * k)] * k
        planes = torch.tensor([lifetime, deadly, head, fruit, hunger]).view(5, self.size, self.size)
        return planes.rot90(self.heading, (1, 2)) if turned else planes  # a quarter turn to the left for each heading


def framed(planes: Tensor, around: int) -> Tensor:
    """The planes of a board with so many cells around it, in which every move collides."""
    size, number = planes.shape[1], planes.shape[1] + 2 * around
    outside = [0.0, 1.0, 0.0, 0.0, float(planes[4, 0, 0])]
    whole = torch.tensor(outside).view(5, 1, 1).repeat(1, number, number)
    whole[:, around : around + size, around : around + size] = planes
    whole[0] = (whole[0] * size**2).round() / number**2
    return whole


def mixed_policy(env: Snake, state: SnakeState, rng: Rng) -> Tensor:
    """Mostly the expert, so that snakes grow long, with random actions in between."""
    count = int(env.action_space.n)  # type: ignore[attr-defined]
    return torch.where(rng.uniform() < 0.04, rng.integers(0, count), env.expert(state))


@given(
    seed=st.integers(0, 10_000),
    size=st.sampled_from([4, 6]),
    actions=st.sampled_from(["relative", "absolute"]),
    grid=st.booleans(),
    around=st.sampled_from([None, 0, 1, 2]),
    on_host=st.booleans(),
)
def test_play_equals_the_reference_game(
    seed: int, size: int, actions: str, grid: bool, around: int | None, on_host: bool
) -> None:
    """Eight episodes to their end in every example, comparing all observations, rewards and terminations."""
    frame = None if around is None else size + 2 * around
    kind = Snake if on_host else type("OnADevice", (Snake,), {"on_host": False})
    env = kind(size, "grid" if grid else "flat", actions, frame)  # type: ignore[arg-type]
    keys = child_key(env_keys(seed, torch.arange(8)), 0)
    state = env.reset(Rng(keys, 0))
    games = [
        ReferenceSnake(size, [divmod(int(h), size)], int(d), divmod(int(f), size))
        for h, d, f in zip(state.head, state.heading, state.fruit, strict=True)
    ]
    alive = set(range(8))
    for step in range(1, 400):
        action = mixed_policy(env, state, Rng(keys + 1, step))
        headings = (state.heading + action - 1) % 4 if actions == "relative" else action
        state, reward, terminated = env.step(state, action, Rng(keys, step))
        obs = env.observe(state)
        for i in list(alive):
            game = games[i]
            assert game.step(int(headings[i])) == (reward[i].item(), terminated[i].item())
            if reward[i] and len(game.body) < size**2:
                game.fruit = divmod(int(state.fruit[i]), size)
                assert game.fruit not in game.body
            planes = framed(game.planes(turned=actions == "relative"), around or 0)
            assert torch.equal(obs[i], planes if grid else torch.cat((planes[:4].flatten(), planes[4, 0, :1])))
            if terminated[i]:
                alive.remove(i)
        if not alive:
            return


def test_fruit_and_start_are_uniform_over_free_cells() -> None:
    env, n = Snake(4), 60_000
    keys = child_key(env_keys(8, torch.arange(n)), 0)
    start = env.reset(Rng(keys, 0))
    pairs = (start.head * 16 + start.fruit).bincount(minlength=256).view(16, 16)
    assert pairs.diagonal().sum() == 0
    expected = n / 240
    off = pairs[~torch.eye(16, dtype=torch.bool)].double()
    assert abs(((off - expected) ** 2 / expected).sum().item() - 239) < 4.5 * math.sqrt(2 * 239)
    assert abs(((start.heading.bincount() - n / 4) ** 2 / (n / 4)).sum().item() - 3) < 15
    one = state_of(BOARD, [6, 5, 4, 8], 7)
    many = map_state(lambda field: field.expand(n, *field.shape[1:]), one)
    after, _, _ = BOARD.step(many, torch.full((n,), RIGHT), Rng(keys, 1))
    counts = after.fruit.bincount(minlength=16).double()
    free = [cell for cell in range(16) if cell not in (7, 6, 5, 4, 8)]
    assert counts.sum() == counts[free].sum() == n
    assert abs(((counts[free] - n / 11) ** 2 / (n / 11)).sum().item() - 10) < 4.5 * math.sqrt(20)


@pytest.mark.parametrize("frame", [4, 7, 182])
def test_a_frame_holds_the_board(frame: int) -> None:
    with pytest.raises(ValueError, match=f"frame must be an even number from the size, 6, to 180, got {frame}"):
        Snake(6, frame=frame)


def test_stresses_are_boards_that_the_frame_holds() -> None:
    sizes = [{*Snake(size, frame=8).stresses()} & {"size_4", "size_6", "size_8", "size_10"} for size in (6, 8)]
    assert sizes == [{"size_4", "size_8"}, {"size_6"}]


@pytest.mark.parametrize("size", [3, 5, 2, 0, -4, 182])
def test_odd_and_extreme_sizes_are_refused(size: int) -> None:
    with pytest.raises(ValueError, match=f"size must be an even number from 4 to 180, got {size}"):
        Snake(size)


def test_unknown_options_are_refused() -> None:
    with pytest.raises(ValueError, match="observation must be"):
        Snake(6, observation="pixels")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="actions must be"):
        Snake(6, actions="diagonal")  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [4, 6, 10, 12])
def test_cycle_visits_every_cell_once_by_neighbours(size: int) -> None:
    env = Snake(size)
    tour = sorted(range(size * size), key=lambda cell: int(env.cycle[cell]))
    assert sorted(env.cycle.tolist()) == list(range(size * size))
    for here, there in zip(tour, tour[1:] + tour[:1], strict=True):
        assert abs(here // size - there // size) + abs(here % size - there % size) == 1


# The reference table: fruits eaten, maximum size² − 1.

Policy = Callable[[Snake, SnakeState, Rng], Tensor]


def greedy(env: Snake, state: SnakeState, rng: Rng) -> Tensor:
    """The legal move nearest to the fruit (Manhattan), ties in the order up, right, down, left."""
    cells = env.neighbour.view(-1, 4)[state.head]
    legal = (cells != WALL) & (state.lifetime.gather(1, cells.clamp(min=0)) <= 1)
    fruit = state.fruit.unsqueeze(1)
    distance = (cells // env.size - fruit // env.size).abs() + (cells % env.size - fruit % env.size).abs()
    return torch.where(legal, distance, 10_000).argmin(1)


def uniform(env: Snake, state: SnakeState, rng: Rng) -> Tensor:
    return rng.integers(0, int(env.action_space.n))  # type: ignore[attr-defined]


@cache
def play(size: int, actions: str, policy: Policy, games: int) -> tuple[Tensor, Tensor]:
    """Fruits and steps, float64 [games], of the first episode of each environment."""
    env = Snake(size, actions=actions)  # type: ignore[arg-type]
    index = torch.arange(games)
    keys, noise = (child_key(env_keys(2026, index, stream), 0) for stream in (0, 1))
    state, step = env.reset(Rng(keys, 0)), 0
    fruits, steps = torch.zeros(games, dtype=torch.float64), torch.zeros(games, dtype=torch.float64)
    while len(keys):
        step += 1
        state, _, terminated = env.step(state, policy(env, state, Rng(noise, step)), Rng(keys, step))
        if terminated.any():
            fruits[index[terminated]] = (state.length[terminated] - 1).double()
            steps[index[terminated]] = step
            going = ~terminated
            index, keys, noise = index[going], keys[going], noise[going]
            state = map_state(lambda field, going=going: field[going], state)
    return fruits, steps


def assert_agrees(sample: Tensor, figure: float, figure_games: int) -> None:
    """Within four standard errors of the difference; the figure's own error from our standard deviation."""
    error = sample.std().item() * math.sqrt(1 / len(sample) + 1 / figure_games)
    assert abs(sample.mean().item() - figure) < 4 * error, (sample.mean().item(), figure, error)


RANDOM_TABLE = {4: 0.207, 6: 0.135, 8: 0.157, 10: 0.098, 12: 0.085}
GREEDY_TABLE = {4: 10.47, 6: 14.96, 8: 18.54, 10: 21.93, 12: 25.07}
SHORTCUT_TABLE = {4: 56.9, 6: 284.7, 8: 859.6, 10: 2102.2, 12: 4413.1}


@pytest.mark.parametrize("actions", ["relative", "absolute"])
@pytest.mark.parametrize("size", RANDOM_TABLE)
def test_uniform_random_agrees_with_the_table_and_the_reference(size: int, actions: str) -> None:
    fruits, _ = play(size, actions, uniform, 20_000)
    assert_agrees(fruits, RANDOM_TABLE[size], 1000)
    reference = Snake(size, actions=actions).reference.random  # type: ignore[arg-type]
    assert reference is not None
    assert_agrees(fruits, reference, 200_000)


@pytest.mark.parametrize("size", GREEDY_TABLE)
def test_greedy_agrees_with_the_table_and_the_reference(size: int) -> None:
    fruits, _ = play(size, "absolute", greedy, 2000)
    assert_agrees(fruits, GREEDY_TABLE[size], 1000)
    reference = Snake(size).reference.heuristic
    assert reference is not None
    assert_agrees(fruits, reference, 20_000)


@pytest.mark.parametrize(("size", "games"), [(4, 1000), (6, 1000), (8, 300), (10, 150), (12, 60)])
def test_cycle_fills_every_board_in_the_expected_steps(size: int, games: int) -> None:
    """(K − 1)(K + 2) / 4: the fruit lies on average in the middle of the free part of the cycle."""
    fruits, steps = play(
        size, "relative", lambda env, state, rng: env._best_move(state, -env._along_cycle(state)), games
    )
    k = size * size
    assert (fruits == k - 1).all()
    assert_agrees(steps, (k - 1) * (k + 2) / 4, 10**9)


@pytest.mark.parametrize("actions", ["relative", "absolute"])
@pytest.mark.parametrize(("size", "games"), [(4, 2000), (6, 1000), (8, 300), (10, 100), (12, 40)])
def test_expert_fills_every_board_sooner_than_the_table(size: int, games: int, actions: str) -> None:
    fruits, steps = play(size, actions, lambda env, state, rng: env.expert(state), games)
    assert (fruits == size * size - 1).all()
    assert steps.mean() + 4 * steps.std() / math.sqrt(games) < SHORTCUT_TABLE[size]
    assert Snake(size).reference.optimum == size * size - 1


def test_expert_keeps_the_body_in_the_order_of_the_cycle() -> None:
    """The invariant on which the guarantee rests: from head back to tail the cycle is passed at most once."""
    env = Snake(6)
    keys = child_key(env_keys(1, torch.arange(200)), 0)
    state = env.reset(Rng(keys, 0))
    for step in range(1, 150):
        state, _, _ = env.step(state, env.expert(state), Rng(keys, step))
        behind = (env.cycle[state.head].unsqueeze(1) - env.cycle) % env.cells  # [N, K] places behind the head
        order = torch.where(state.lifetime > 0, state.length.unsqueeze(1) - state.lifetime, -1)  # 0 head, 1 neck, …
        by_place = order.gather(1, behind.argsort(1))
        body = torch.where(by_place >= 0, by_place, by_place.cummax(1).values)
        assert (body.diff(dim=1) >= 0).all()


@pytest.mark.parametrize("by_selection", [False, True])
@pytest.mark.parametrize(
    ("observation", "actions", "digest"),
    [("flat", "relative", "a32e514a9e7c7eb2"), ("grid", "absolute", "21cbc134ba9d0e64")],
)
def test_every_bit_of_long_games_stays_as_it_was(
    observation: str, actions: str, digest: str, by_selection: bool
) -> None:
    """Observations, rewards, ends and states of 400 steps on 4×4, as 0897f4c gave them; both ways of resetting."""
    env = Snake(4, observation, actions)  # type: ignore[arg-type]
    batch = TensorVectorEnv(env, 16, device="cpu", seed=3)
    if by_selection:
        batch.reset_finished = batch._reset_by_selection  # type: ignore[method-assign]
    found, keys, ended = hashlib.sha256(), env_keys(5, batch.env_indices, 1), 0
    batch.reset()
    for step in range(400):
        assert batch.state is not None
        obs, reward, terminated, _, info = batch.step(mixed_policy(env, batch.state, Rng(keys, step)))
        numbers = [getattr(batch.state, name) for name in ("lifetime", "head", "heading", "fruit", "length", "hunger")]
        for value in (obs, reward, terminated, info["final_obs"][terminated], *numbers):
            found.update(value.contiguous().numpy().tobytes())
        ended += int(terminated.sum())
    assert ended > 100
    assert found.hexdigest()[:16] == digest
