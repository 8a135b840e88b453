"""Names: short, full, Gymnasium's and those of a module; typos; plug-ins."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from types import MappingProxyType

import gymnasium
import pytest

from palaestra.envs import UnknownEnvError, entries, make, register, registry, resolve
from palaestra.envs.building import load_tensor_env
from palaestra.envs.core import TensorVectorEnv
from palaestra.envs.core.user_code import UserCodeError, describe
from palaestra.envs.interop.gymnasium_adapter import GymnasiumAdapter
from palaestra.envs.snake import Snake
from palaestra.envs.specs import GymnasiumSpec, TensorEnvSpec


def test_all_names_of_an_environment_lead_to_it() -> None:
    names = ("snake-small", "palaestra/SnakeSmall-v0", "palaestra.envs:palaestra/SnakeSmall-v0")
    found = [resolve(name) for name in names]
    assert isinstance(found[0], TensorEnvSpec)
    assert found[0] == found[1] == found[2]
    assert (found[0].id, found[0].short_name) == names[1::-1]
    env = found[0].build(observation="grid")
    assert isinstance(env, Snake)
    assert (env.size, env.observation) == (6, "grid")


def test_sizes_of_the_registered_boards() -> None:
    sizes = {
        name: make(name, 2, device="cpu", observation="grid").single_observation_space.shape
        for name in ("snake-small", "snake", "snake-large")
    }
    assert sizes == {"snake-small": (5, 6, 6), "snake": (5, 10, 10), "snake-large": (5, 12, 12)}


def test_gymnasium_ids_resolve_to_their_spec() -> None:
    found = resolve("CartPole-v1")
    assert isinstance(found, GymnasiumSpec)
    assert found.spec == gymnasium.spec("CartPole-v1")
    assert isinstance(make("CartPole-v1", 2, device="cpu"), GymnasiumAdapter)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("snak", "unknown environment 'snak'; did you mean 'snake'?"),
        ("palaestra/Snake-v7", "did you mean 'palaestra/Snake-v0'?"),
        ("Cartpole-v1", "did you mean 'CartPole-v1'?"),
        ("zzzzzzzzzzzz", "; palaestra envs lists ours, and Gymnasium has box2d, classic_control, mujoco, "),
        ("ALE/Pong-v5", "unknown environment 'ALE/Pong-v5'; ale-py registers it: name it ale_py:ALE/Pong-v5"),
        ("PandaReach-v3", "; panda-gym registers it: name it panda_gym:PandaReach-v3"),
        ("pettingzoo.classic:chess_v6", "pettingzoo.classic:chess_v6 is for several players and no Gymnasium"),
        ("no.such.module:Env-v0", "cannot import no.such.module"),
        ("", "unknown environment ''"),
    ],
)
def test_unknown_names_give_the_closest_match(name: str, message: str) -> None:
    with pytest.raises((UnknownEnvError, UserCodeError)) as error:
        resolve(name)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_arguments_of_the_batch_and_of_the_environment_are_told_apart() -> None:
    batch = make("snake", 3, device="cpu", seed=5, size=8, max_episode_steps=9, first_env_index=7)
    assert isinstance(batch, TensorVectorEnv)
    assert (batch.env.size, batch.max_episode_steps, batch.seed) == (8, 9, 5)  # type: ignore[attr-defined]
    assert batch.env_indices.tolist() == [7, 8, 9]
    with pytest.raises(TypeError, match="colour"):
        make("snake", 3, device="cpu", colour="red")


def test_make_needs_at_least_one_environment() -> None:
    for name in ("snake", "CartPole-v1"):
        with pytest.raises(ValueError, match="num_envs must be at least 1, got 0"):
            make(name, 0, device="cpu")


def test_registering_twice_is_harmless_but_names_are_not_shared() -> None:
    before = entries()
    first = before[0]
    register(first.id, first.entry_point, first.short_name, first.summary, **first.kwargs)
    assert entries() == before
    with pytest.raises(ValueError, match=r"is taken by palaestra/SnakeSmall-v0 \(snake-small\)"):
        register("me/Other-v0", first.entry_point, "snake-small", "")
    with pytest.raises(ValueError, match="is taken by"):
        register(first.id, first.entry_point, "other", "")


PLUGIN = """
from palaestra.envs import register
register("me/Tiny-v0", "palaestra.envs.snake:Snake", "tiny", "Snake on 4×4", size=4)
"""


@pytest.mark.parametrize(
    ("name", "owner"),
    [("json:CartPole-v1", "gymnasium"), ("json:snake", "palaestra"), ("json:palaestra/Snake-v0", "palaestra")],
)
def test_a_module_that_does_not_register_an_id_is_told(name: str, owner: str) -> None:
    """As old gym, which has a CartPole-v1 of its own that is not Gymnasium's."""
    place, _, id = name.partition(":")
    message = f"^{place} does not register '{id}', which is {owner}'s: name it without {place}:$"
    with pytest.raises(UnknownEnvError, match=message):
        resolve(name)
    assert resolve(f"{owner}.envs:{id}").id == resolve(id).id


def test_a_file_may_register_a_class_of_gymnasiums(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "import gymnasium\n"
        "gymnasium.register('LongPole-v0', 'gymnasium.envs.classic_control:CartPoleEnv', max_episode_steps=1000)\n"
    )
    try:
        assert resolve(f"{file}:LongPole-v0").id == "LongPole-v0"
    finally:
        gymnasium.registry.pop("LongPole-v0", None)


@pytest.fixture
def _plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Two installed plug-ins, one of which fails to import."""
    (tmp_path / "good_plugin.py").write_text(PLUGIN, encoding="utf-8")
    (tmp_path / "bad_plugin.py").write_text("raise RuntimeError('no licence')", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    points = [EntryPoint(name, f"{name}_plugin", registry.PLUGIN_GROUP) for name in ("bad", "good")]
    monkeypatch.setattr(registry, "entry_points", lambda group: points)
    registry.plugin_errors.cache_clear()
    yield
    registry.plugin_errors.cache_clear()
    registry._ENTRIES.pop("me/Tiny-v0", None)
    gymnasium.registry.pop("me/Tiny-v0", None)


@pytest.mark.usefixtures("_plugins")
def test_plugins_are_found_and_a_broken_one_is_kept_with_its_error() -> None:
    entry = resolve("tiny")
    assert isinstance(entry, TensorEnvSpec)
    assert entries()[-1] == entry
    assert MappingProxyType(dict(entry.kwargs)) == {"size": 4}
    assert registry.plugin_errors() == {"bad": "RuntimeError: no licence (bad_plugin.py:1)"}
    assert gymnasium.make("me/Tiny-v0", observation="grid").observation_space.shape == (5, 4, 4)


@pytest.mark.usefixtures("_plugins")
@pytest.mark.parametrize("name", ["bad", "bad/Env-v0"])
def test_the_name_of_a_broken_plugin_gives_its_error(name: str) -> None:
    with pytest.raises(UserCodeError, match=r"plug-in bad cannot be imported: RuntimeError: no licence \(bad_plugin"):
        resolve(name)


FILE = """
from dataclasses import dataclass
import gymnasium, torch
from gymnasium.spaces import Box, Discrete
from palaestra.envs import TensorEnv
import neighbour

@dataclass(frozen=True)
class State:
    x: torch.Tensor

class Mine(TensorEnv[State]):
    \"\"\"One step.\"\"\"
    max_episode_steps = 3
    def __init__(self, bound: float = neighbour.BOUND):
        self.observation_space, self.action_space = Box(-bound, bound, (1,)), Discrete(2)
    def reset(self, rng): return State(rng.uniform())
    def step(self, state, action, rng): return state, state.x, state.x > 2
    def observe(self, state): return state.x.unsqueeze(1)

class Theirs(gymnasium.Env):
    observation_space, action_space = Box(-1, 1, (1,)), Discrete(2)
"""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file with two environments that imports a module beside it."""
    monkeypatch.setattr("sys.path", list(sys.path))
    (tmp_path / "neighbour.py").write_text("BOUND = 7.0", encoding="utf-8")
    (tmp_path / "my envs").mkdir()
    path = tmp_path / "mine.py"
    path.write_text(FILE, encoding="utf-8")
    return path


def test_a_class_in_a_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(file.parent)
    entry = resolve("mine.py:Mine")
    assert isinstance(entry, TensorEnvSpec)
    assert (entry.id, entry.short_name, entry.summary) == (f"{file}:Mine", "Mine", "One step.")
    assert entry == resolve(entry.id) == resolve("./mine.py:Mine")
    assert resolve("mine.py:Mine").absolute_name == entry.id
    assert make("mine.py:Mine", 2, device="cpu", bound=3.0).single_observation_space.high == 3.0
    assert entry not in entries()


def test_a_gymnasium_class_in_a_file(file: Path) -> None:
    found = resolve(f"{file}:Theirs")
    assert isinstance(found, GymnasiumSpec)
    assert resolve(f"{file}:Theirs") == found
    assert resolve(f"{file}:Theirs").absolute_name == f"{file}:Theirs"
    assert gymnasium.make(found.spec).observation_space.shape == (1,)  # type: ignore[arg-type]


def test_a_gymnasium_class_in_a_package_and_in_a_file_of_any_name(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(file.parent))
    for place in (file.parent / "a_package" / "inner" / "more.py", file.parent / "my envs, v1.2.py"):
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(FILE, encoding="utf-8")
    for name in ("a_package.inner.more:Theirs", f"{file.parent}/my envs, v1.2.py:Theirs"):
        assert resolve(name).spaces({})[0].shape == (1,)
        assert resolve(name).absolute_name == name


def test_a_folder_is_no_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_env").mkdir()
    with pytest.raises(UnknownEnvError, match="that is a folder; name a class in a file of it"):
        resolve("my_env")


def test_a_class_in_a_module(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(file.parent))
    entry = resolve("mine:Mine")
    assert isinstance(entry, TensorEnvSpec)
    assert (entry.id, entry.entry_point) == ("mine:Mine", "mine:Mine")
    assert resolve("mine:Mine").absolute_name == "mine:Mine"
    assert resolve("snake").absolute_name == "palaestra/Snake-v0"
    assert resolve("CartPole-v1").absolute_name == "CartPole-v1"


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        (FILE, "mine.py:Mime", "mine.py has no environment 'Mime'; did you mean 'Mine'?"),
        (FILE, "mine.py:State", "'State': the class is neither a TensorEnv nor a gymnasium.Env; it has Mine, Theirs"),
        (FILE, "mine.py", "which environment of mine.py? mine.py:Mine or mine.py:Theirs"),
        ("", "mine.py", "which environment of mine.py? it has none"),
        ("class Mine: pass", "mine.py:Mine", "the class is neither a TensorEnv nor a gymnasium.Env"),
        ("from palaestra.envs.snake import Snake", "mine.py:Snake", "the class comes from palaestra.envs.snake"),
        ("", "mine.py:Mine", "mine.py has no environment 'Mine'"),
        (FILE, "other.py:Mine", "there is no file"),
        ("import nothing_here", "mine.py:Mine", "cannot import mine.py: ModuleNotFoundError: No module named 'nothing"),
        ("x = 1\n\ny = x.z\n", "mine.py:Mine", "AttributeError: 'int' object has no attribute 'z' (mine.py:3)"),
        ("def f(:\n", "mine.py:Mine", "SyntaxError: invalid syntax (mine.py, line 1)"),
    ],
)
def test_files_that_cannot_be_used(
    file: Path, monkeypatch: pytest.MonkeyPatch, content: str, name: str, message: str
) -> None:
    file.write_text(content, encoding="utf-8")
    monkeypatch.chdir(file.parent)
    with pytest.raises((UnknownEnvError, UserCodeError)) as error:
        resolve(name)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_fault_that_is_described_already_keeps_its_words() -> None:
    assert describe(UserCodeError("cannot import mine: OSError: gone (mine.py:3)")).startswith("cannot import mine: OS")


def test_an_entry_point_must_be_a_tensor_env() -> None:
    with pytest.raises(TypeError, match="collections:OrderedDict is not a TensorEnv"):
        load_tensor_env("collections:OrderedDict")
