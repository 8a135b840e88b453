"""Drawing: areas and colours that are known beforehand, the pictures of Snake and CartPole, and the window."""

from __future__ import annotations

import copy
import math
import os
import subprocess
import sys
from typing import Any

import numpy as np
import pygame
import pytest
from hypothesis import given
from hypothesis import strategies as st

from palaestra.envs.cartpole import CartPole, CartPoleState
from palaestra.envs.rendering.canvas import Canvas, even, fitted
from palaestra.envs.rendering.picture import picture
from palaestra.envs.rendering.window import Window, _fitting
from palaestra.envs.snake import DOWN, LEFT, RIGHT, Snake, SnakeState

HEAD, GOLD, GREY = (140, 242, 154), (255, 228, 138), (143, 176, 160)


def coverage(canvas: Canvas) -> float:
    """The amount of white on a black canvas, in pixels."""
    return float(canvas.image()[..., 0].sum() / 255)


def snake_state(body: list[int], heading: int, fruit: int, size: int = 6, hunger: int = 0) -> Any:
    """A state on the host, the body given from head to tail."""
    lifetime = np.zeros(size * size, dtype=np.int16)
    lifetime[body] = np.arange(len(body), 0, -1)
    fields: Any = (lifetime, body[0], heading, fruit, len(body), hunger)
    return SnakeState(*fields)


def at(image: Any, row: float, column: float, size: int = 6) -> tuple[int, ...]:
    """The pixel at the middle of a cell of a Snake picture 640 wide; halves lie between two cells."""
    cell = 608 / size
    return tuple(image[round(112 + (row + 0.5) * cell), round(16 + (column + 0.5) * cell)].tolist())


# --------------------------------------------------------------------------------------------------------- the canvas


@given(st.floats(10, 40), st.floats(0, 1), st.integers(50, 200))
def test_a_circle_covers_its_area(radius: float, shift: float, pixels: int) -> None:
    canvas = Canvas(100, 100, pixels=pixels)
    canvas.circle(50 + shift, 50 - shift, radius, "#ffffff")
    r = radius * even(pixels) / 100
    assert coverage(canvas) == pytest.approx(math.pi * r**2, abs=0.35 * 2 * math.pi * r)  # a third of a pixel's ring


@given(st.lists(st.tuples(st.floats(5, 195), st.floats(5, 195)), min_size=3, max_size=3))
def test_a_triangle_covers_its_area(corners: list[tuple[float, float]]) -> None:
    canvas = Canvas(200, 200)
    canvas.polygon(corners, "#ffffff")
    (ax, ay), (bx, by), (cx, cy) = corners
    perimeter = sum(math.dist(p, q) for p, q in zip(corners, [*corners[1:], corners[0]], strict=True))
    area = abs((bx - ax) * (cy - ay) - (cx - ax) * (by - ay)) / 2
    assert coverage(canvas) == pytest.approx(area, abs=0.6 * perimeter + 1)  # edges are drawn half a pixel outside


def test_slanted_edges_are_drawn_to_the_pixel() -> None:
    """pygame and pygame-ce must give this picture: their ``draw.polygon`` differ at its edges."""
    canvas = Canvas(8, 6)
    canvas.polygon([(1, 0.5), (6.5, 2), (5, 5), (0, 3)], "#ffffff")
    expected = [
        [0, 63, 0, 0, 0, 0, 0, 0],
        [63, 255, 255, 191, 127, 0, 0, 0],
        [191, 255, 255, 255, 255, 255, 255, 0],
        [127, 191, 255, 255, 255, 255, 63, 0],
        [0, 0, 63, 127, 255, 255, 0, 0],
        [0, 0, 0, 0, 0, 63, 0, 0],
    ]
    np.testing.assert_array_equal(canvas.image()[..., 0], expected)


@given(st.floats(0, math.pi), st.floats(4, 20))
def test_a_line_is_as_wide_as_asked_in_any_direction(angle: float, width: float) -> None:
    canvas = Canvas(200, 200)
    dx, dy = 60 * math.cos(angle), 60 * math.sin(angle)
    canvas.line([(100 - dx, 100 - dy), (100 + dx, 100 + dy)], "#ffffff", width)
    assert coverage(canvas) == pytest.approx(120 * width + math.pi * width**2 / 4, rel=0.03, abs=130)


@given(st.lists(st.tuples(st.floats(-20, 60), st.floats(-20, 60)), min_size=3, max_size=6), st.integers(0, 2**24 - 1))
def test_a_polygon_does_not_depend_on_how_its_colour_is_written(
    corners: list[tuple[float, float]], colour: int
) -> None:
    pictures = []
    for same in (f"#{colour:06x}", (colour >> 16, colour >> 8 & 255, colour & 255)):
        canvas = Canvas(40, 40)
        canvas.polygon(corners, same)  # type: ignore[arg-type]
        pictures.append(canvas.image())
    np.testing.assert_array_equal(*pictures)


def test_a_rectangle_has_exact_edges() -> None:
    canvas = Canvas(40, 20)
    canvas.rectangle(10, 5, 8, 4, "#ff8000")
    image = canvas.image()
    inside = np.zeros((20, 40), dtype=bool)
    inside[5:9, 10:18] = True
    assert (image[inside] == (255, 128, 0)).all()
    assert not image[~inside].any()


def test_edges_are_smooth() -> None:
    canvas = Canvas(100, 100)
    canvas.circle(50, 50, 30, "#ffffff")
    assert len(np.unique(canvas.image())) >= 4


def test_opacity_lets_the_background_through() -> None:
    canvas = Canvas(20, 20)
    canvas.fill("#0000ff")
    canvas.circle(10, 10, 8, (255, 0, 0, 128))
    np.testing.assert_allclose(canvas.image()[10, 10], (128, 0, 127), atol=2)
    assert Canvas.mix("#000000", "#c86432", 0.5) == (100, 50, 25, 255)


@pytest.mark.parametrize(("align", "left"), [("left", 150), ("center", 150 - 0.5), ("right", 150 - 1.0)])
def test_text_stands_where_it_is_put(align: Any, left: float) -> None:
    canvas = Canvas(300, 60)
    width = canvas.text("HHHHHH", 150, 30, 30, "#ffffff", align)
    rows, columns = np.nonzero(canvas.image()[..., 0] > 100)
    start = 150 - width * {"left": 0.0, "center": 0.5, "right": 1.0}[align]
    assert (columns.min(), columns.max()) == pytest.approx((start, start + width), abs=4)
    assert (rows.min() + rows.max()) / 2 == pytest.approx(30, abs=3)


def test_text_is_drawn_after_other_code_closed_pygame() -> None:
    before = picture(CartPole(), CartPoleState(0.0, 0.0, 0.0, 0.0))  # type: ignore[arg-type]
    pygame.quit()
    assert (picture(CartPole(), CartPoleState(0.0, 0.0, 0.0, 0.0)) == before).all()  # type: ignore[arg-type]


def test_a_ribbon_goes_from_one_colour_to_the_other() -> None:
    canvas = Canvas(120, 40)
    canvas.ribbon([(x, 20.0) for x in range(10, 111, 5)], [20.0] * 21, "#000000", "#c8c8c8")
    red = canvas.image()[20, 12:108, 0].astype(int)
    assert (np.diff(red) >= 0).all()
    np.testing.assert_allclose(red[[24, 48, 72]], (50, 100, 150), atol=10)
    assert canvas.image()[8, :].max() == 0
    assert canvas.image()[12, 60].max() > 0


@given(st.integers(2, 700))
def test_pictures_have_even_sizes_in_proportion(width: int) -> None:
    image = Canvas(640, 360, pixels=width).image()
    assert image.shape[0] % 2 == image.shape[1] % 2 == 0
    assert abs(image.shape[1] - width) <= 1
    assert image.shape[0] == pytest.approx(image.shape[1] * 360 / 640, abs=2)


@given(st.integers(2, 900), st.integers(2, 900), st.integers(1, 250), st.integers(1, 250))
def test_a_picture_is_fitted_into_a_box_in_proportion(width: int, height: int, across: int, down: int) -> None:
    image = np.arange(down * across * 3).reshape(down, across, 3).astype(np.uint8)
    result = fitted(image, (width, height))
    scale = min(width / across, height / down)
    assert result.shape[1] <= max(width, 2)
    assert result.shape[0] <= max(height, 2)
    if scale >= 2:  # every pixel is a square of whole pixels
        np.testing.assert_array_equal(result[:: int(scale), :: int(scale)], image)
        assert result.shape[:2] == (down * int(scale), across * int(scale))
    else:
        assert result.shape[1] % 2 == result.shape[0] % 2 == 0
        assert result.shape[1] == pytest.approx(across * scale, abs=2)
        assert result.shape[0] == pytest.approx(down * scale, abs=2)


def test_texts_are_as_wide_as_they_are_measured_after_pygame_was_shut_down() -> None:
    drawn = [Canvas(300, 40).text("return 12.5", 5, 20, 24, "#ffffff")]
    pygame.quit()
    canvas = Canvas(300, 40)
    drawn.append(canvas.text("return 12.5", 5, 20, 24, "#ffffff"))
    assert drawn == [Canvas.text_width("return 12.5", 24)] * 2
    assert canvas.image().max() == 255


# ------------------------------------------------------------------------------------------------------- the pictures


def test_snake_head_and_fruit_have_their_colours() -> None:
    image = picture(Snake(6), snake_state([14, 13, 12], RIGHT, 34))
    assert image.shape == (736, 640, 3)
    assert at(image, 2, 2) == HEAD
    red, green, blue = at(image, 5, 4)
    assert red > 200
    assert max(green, blue) < 100
    assert max(at(image, 0, 0)) < 60  # an empty cell


def test_snake_body_joins_what_follows_and_only_that() -> None:
    """A U-turn: cells (1,2) → (1,1) → (2,1) → (2,2), so that (1,2) and (2,2) touch but do not follow each other."""
    image = picture(Snake(6), snake_state([14, 13, 7, 8], RIGHT, 34))
    assert min(at(image, 1, 1.5)[1], at(image, 1.5, 1)[1], at(image, 2, 1.5)[1]) > 100
    assert max(at(image, 1.5, 2.0)) < 60


def test_snake_looks_where_it_goes() -> None:
    """The white of the eyes lies on the side of the heading."""
    cell = 608 / 6
    for heading, side in ((RIGHT, 1), (LEFT, -1)):
        image = picture(Snake(6), snake_state([14], heading, 34))
        top, left = round(112 + 2 * cell), round(16 + 2 * cell)
        rows, columns = np.nonzero((image[top : top + 101, left : left + 101] > 250).all(2))
        assert len(rows) > 50
        assert np.sign(columns.mean() - cell / 2) == side


def test_snake_full_and_dead_look_different() -> None:
    spiral = [0, 1, 2, 3, 7, 11, 15, 14, 13, 12, 8, 4, 5, 6, 10, 9]
    assert at(picture(Snake(4), snake_state(spiral, LEFT, 16, 4)), 0, 0, 4) == GOLD
    state = snake_state([14, 13, 12], DOWN, 34)
    assert at(picture(Snake(6), state, over=True), 2, 2) == GREY


@pytest.mark.parametrize(("fruits", "hunger"), [(0, 0), (7, 36), (21, 72), (34, 143)])
def test_snake_bars_show_fruits_and_patience(fruits: int, hunger: int) -> None:
    image = picture(Snake(6), snake_state(list(range(fruits + 1)), LEFT, 35, hunger=hunger)).astype(int)
    share = (np.abs(image[80] - HEAD).max(1) < 8).sum()
    assert share == pytest.approx(608 * fruits / 35, abs=6)
    patience = (np.abs(image[92] - (232, 163, 61)).max(1) < 12).sum()
    assert patience == pytest.approx(608 * (1 - hunger / 144), abs=6)


def test_cartpole_leans_as_its_angle_says() -> None:
    def orange(position: float, angle: float) -> float:
        state: Any = CartPoleState(position, 0.0, angle, 0.0)  # type: ignore[arg-type]
        image = picture(CartPole(), state).astype(int)
        tip = np.nonzero(np.abs(image[60] - (242, 179, 94)).max(1) < 20)[0]
        return float(tip.mean())

    assert orange(0.0, 0.0) == pytest.approx(320, abs=1.5)
    assert orange(1.0, 0.0) == pytest.approx(320 + 118, abs=1.5)
    assert orange(0.0, 0.1) == pytest.approx(320 + 148 * math.tan(0.1), abs=2)  # 148 units above the hinge
    assert orange(0.0, -0.1) == pytest.approx(320 - 148 * math.tan(0.1), abs=2)


def test_drawing_leaves_the_state_as_it_was() -> None:
    state = snake_state([14, 13, 12], RIGHT, 34)
    before = copy.deepcopy(state)
    first = picture(Snake(6), state)
    assert (state.lifetime == before.lifetime).all()
    assert (state.head, state.heading, state.fruit, state.length, state.hunger) == (14, RIGHT, 34, 3, 0)
    assert (picture(Snake(6), state) == first).all()


# --------------------------------------------------------------------------------------------------------- the window


def press(*keys: int) -> None:
    for key in keys:
        pygame.event.post(pygame.event.Event(pygame.KEYDOWN, key=key))


def test_window_keys() -> None:
    window = Window("test", 500.0)
    frame = np.full((40, 60, 3), 77, np.uint8)
    assert window.show(frame)
    assert pygame.display.get_surface().get_at((30, 20))[:3] == (77, 77, 77)
    press(pygame.K_PLUS)
    assert window.show(frame)
    assert window.fps == 1000.0
    press(pygame.K_MINUS, pygame.K_MINUS, pygame.K_SPACE)
    pygame.time.set_timer(pygame.event.Event(pygame.KEYDOWN, key=pygame.K_SPACE), 150, loops=1)
    started = pygame.time.get_ticks()
    assert window.show(frame)
    assert pygame.time.get_ticks() - started >= 140  # it waited for the second space
    assert window.fps == 250.0
    press(pygame.K_ESCAPE)
    assert not window.show(frame)
    assert not window.show(frame)
    assert not pygame.display.get_init()


def run_python(program: str, **environment: str) -> str:
    hidden = ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER")
    env = {name: value for name, value in os.environ.items() if name not in hidden} | environment
    return subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True, check=True).stdout


def test_importing_the_environments_imports_no_pygame() -> None:
    assert run_python("import sys, palaestra.envs; print('pygame' in sys.modules)") == "False\n"


def test_pictures_need_no_display_and_print_no_greeting() -> None:
    program = (
        "import gymnasium, palaestra.envs\n"
        "env = gymnasium.make('palaestra/SnakeSmall-v0', render_mode='rgb_array'); env.reset(seed=0)\n"
        "frame = env.render()\n"
        "import pygame; print(frame.shape, pygame.display.get_init())"
    )
    assert run_python(program) == "(736, 640, 3) False\n"


@pytest.mark.parametrize(
    ("screen", "expected"), [((1920, 1200), (1000, 1000)), ((1000, 1000), (900, 900)), ((4000, 500), (450, 450))]
)
def test_a_window_fits_the_screen(screen: tuple[int, int], expected: tuple[int, int]) -> None:
    assert _fitting((1000, 1000), screen) == expected
