"""Model files: what is stored comes back, vanilla SB3 reads them too, and no file makes ``load`` execute anything."""

from __future__ import annotations

import base64
import io
import json
import os
import pickle
import random
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import fuzz_checkpoints as fuzz
import numpy as np
import pytest
import stable_baselines3
import torch
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st
from stable_baselines3.common.envs import SimpleMultiObsEnv
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.utils import ConstantSchedule, FloatSchedule, LinearSchedule

from palaestra.agents import DQN, PPO, PQN, CheckpointError, SharedMlp
from palaestra.agents.checkpoints import json_values
from palaestra.agents.checkpoints import model_file as files
from palaestra.agents.checkpoints.zip_archive import seal
from palaestra.envs import SB3VecEnv, TensorVectorEnv, make

SHARED = {"features_extractor_class": SharedMlp, "features_extractor_kwargs": {"hidden": [16]}, "net_arch": []}


def cartpole(n: int = 4) -> TensorVectorEnv[Any]:
    return make("cartpole", n, "cpu")  # type: ignore[return-value]


def small(**kwargs: Any) -> PPO:
    options = {"n_steps": 8, "batch_size": 16, "n_epochs": 1, "seed": 0, "policy_kwargs": SHARED, **kwargs}
    return PPO("MlpPolicy", cartpole(), **options)


@cache
def good_file() -> bytes:
    """A model after two updates."""
    buffer = io.BytesIO()
    small(learning_rate=LinearSchedule(1e-3, 1e-5, 0.9), ent_coef=LinearSchedule(0.1, 0.0, 1.0)).learn(64).save(buffer)
    return buffer.getvalue()


@cache
def good_file_of_format_2() -> bytes:
    return fuzz.in_format_2(good_file())


def observations() -> Any:
    return np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)


def altered(changes: dict[str, bytes | None], original: bytes | None = None) -> io.BytesIO:
    """The good (or another) file with some members replaced, added, or (None) left out, and right checksums."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(original or good_file())) as source, zipfile.ZipFile(buffer, "w") as target:
        for name in source.namelist():
            if name not in {**changes, "checksums.json": None}:
                target.writestr(name, source.read(name))
        for name, content in changes.items():
            if content is not None:
                target.writestr(name, content)
    if "checksums.json" not in changes:
        seal(buffer)
    buffer.seek(0)
    return buffer


def with_settings(change: Callable[[dict[str, Any]], None]) -> io.BytesIO:
    """The good file with changed settings."""
    with zipfile.ZipFile(io.BytesIO(good_file())) as archive:
        content = json.loads(archive.read("palaestra.json"))
    change(content)
    return altered({"palaestra.json": json.dumps(content).encode()})


# ------------------------------------------------------------------------------------------- what comes back


def test_vanilla_sb3_opens_the_file(tmp_path: Path) -> None:
    model = small(learning_rate=LinearSchedule(1e-3, 1e-5, 0.9)).learn(64)
    model.save(tmp_path / "model")
    theirs = stable_baselines3.PPO.load(tmp_path / "model.zip", device="cpu")
    assert type(theirs) is stable_baselines3.PPO
    for deterministic in (True, False):
        torch.manual_seed(3)
        expected = model.predict(observations(), deterministic=deterministic)[0]
        torch.manual_seed(3)
        np.testing.assert_array_equal(theirs.predict(observations(), deterministic=deterministic)[0], expected)
    assert theirs.num_timesteps == 64
    assert theirs.lr_schedule(0.5) == model.lr_schedule(0.5)
    theirs = stable_baselines3.PPO.load(tmp_path / "model.zip", env=SB3VecEnv(cartpole()), device="cpu", n_steps=16)
    theirs.learn(32)


@pytest.mark.parametrize("policy", ["MultiInputPolicy", "box"])
def test_other_spaces_survive(policy: str, tmp_path: Path) -> None:
    kwargs = {"n_steps": 8, "batch_size": 8, "n_epochs": 1, "seed": 0, "device": "cpu"}
    if policy == "box":
        model = PPO("MlpPolicy", "Pendulum-v1", use_sde=True, **kwargs).learn(8)  # type: ignore[arg-type]
    else:
        model = PPO("MultiInputPolicy", SimpleMultiObsEnv(), **kwargs).learn(8)  # type: ignore[arg-type]
    model.save(tmp_path / "model.zip")
    obs = model.get_env().reset()  # type: ignore[union-attr]
    expected = model.predict(obs, deterministic=True)[0]  # type: ignore[arg-type]
    for kind in (PPO, stable_baselines3.PPO):
        np.testing.assert_array_equal(kind.load(tmp_path / "model.zip").predict(obs, deterministic=True)[0], expected)  # type: ignore[arg-type]


@pytest.mark.parametrize("agent", [PPO, DQN, PQN])
def test_a_model_read_to_act_acts_like_the_loaded_one(agent: Any, tmp_path: Path) -> None:
    options = {"learning_starts": 8} if agent is DQN else {"n_steps": 8, "batch_size": 16}
    kwargs = {"optimizer_class": torch.optim.RMSprop, "optimizer_kwargs": {"alpha": 0.9}, **SHARED}
    model = agent("MlpPolicy", cartpole(), seed=0, policy_kwargs=kwargs, normalize_observation=True, **options)
    model.learn(64).save(tmp_path / "m.zip")
    acting, loaded = files.read(agent, tmp_path / "m.zip", to_act=True), agent.load(tmp_path / "m.zip")
    assert (acting.act(torch.tensor(observations())) == loaded.act(torch.tensor(observations()))).all()
    for name, value in loaded.policy.state_dict().items():
        assert torch.equal(acting.policy.state_dict()[name], value)
    assert not isinstance(acting.policy.optimizer, torch.optim.Optimizer)


def test_reading_a_model_to_act_leaves_random_numbers_as_they_were(tmp_path: Path) -> None:
    """A teacher or an opponent that is read must not decide what its reader draws next."""
    small(seed=7).save(tmp_path / "m.zip")
    drawn = []
    for reads in (False, True):
        torch.manual_seed(1)
        np.random.seed(1)
        random.seed(1)
        if reads:
            files.read(PPO, tmp_path / "m.zip", to_act=True)
        drawn.append((float(torch.rand(())), float(np.random.rand()), random.random()))
    assert drawn[0] == drawn[1]


def test_our_load_restores_everything() -> None:
    model = PPO.load(io.BytesIO(good_file()), env=cartpole())
    again = io.BytesIO()
    model.save(again)
    with zipfile.ZipFile(io.BytesIO(good_file())) as a, zipfile.ZipFile(again) as b:
        assert json.loads(a.read("palaestra.json")) == json.loads(b.read("palaestra.json"))
        for member in ("weights.safetensors", "optimizer.safetensors", "optimizer.json", "policy.pth"):
            assert a.read(member) == b.read(member)
    assert model.num_timesteps == 64
    assert model._n_updates == 2
    assert (model.lr_schedule(1.0), model.lr_schedule(0.0)) == (1e-3, 1e-5)
    assert model.ent_coef_schedule(0.5) == pytest.approx(0.05)
    assert model.policy_kwargs == SHARED
    assert len(model.policy.optimizer.state) == len(list(model.policy.parameters()))


def test_continuing_equals_the_model_that_was_never_saved() -> None:
    """Weights and Adam's moments: one more update on the same rollout gives the same bits."""
    model = small().learn(64)
    buffer = io.BytesIO()
    model.save(buffer)
    loaded = PPO.load(buffer, env=cartpole())
    finals = []
    for agent in (model, loaded):
        _, callback = agent._setup_learn(32, None, reset_num_timesteps=False)
        agent._last_obs, _ = agent.batch.reset(seed=1)
        agent.collect_rollouts(agent.env, callback, agent.rollout_buffer, 8)  # type: ignore[arg-type]
        torch.manual_seed(5)
        agent.train()
        finals.append(torch.cat([p.detach().flatten() for p in agent.policy.parameters()]))
    assert torch.equal(*finals)
    loaded.learn(64, reset_num_timesteps=False)
    assert loaded.num_timesteps == 64 + 32 + 64


def test_overrides_replace_stored_arguments() -> None:
    model = PPO.load(io.BytesIO(good_file()), env=cartpole(16), n_steps=4, learning_rate=0.5)
    assert (model.n_steps, model.n_envs, model.lr_schedule(0.3)) == (4, 16, 0.5)
    model.learn(64)


class OwnPolicy(ActorCriticPolicy):
    pass


def own_schedule(progress: float) -> float:
    return 1e-3 * progress


def test_a_model_whose_schedule_was_a_function_acts(tmp_path: Path) -> None:
    """Its learning rate is not needed to act, so nobody is asked for it."""
    model = PPO("MlpPolicy", cartpole(), n_steps=8, batch_size=16, learning_rate=own_schedule, clip_range=own_schedule)
    model.save(tmp_path / "m.zip")
    acting = files.read(PPO, tmp_path / "m.zip", to_act=True)
    assert (acting.act(torch.tensor(observations())) == model.act(torch.tensor(observations()))).all()


def test_what_a_safe_file_cannot_hold_is_passed_again() -> None:
    model = PPO(OwnPolicy, cartpole(), n_steps=8, batch_size=16, learning_rate=own_schedule)
    buffer = io.BytesIO()
    model.save(buffer)
    with pytest.raises(CheckpointError, match=r"learning_rate was a function.*pass learning_rate="):
        PPO.load(buffer)
    with pytest.raises(CheckpointError, match=r"OwnPolicy is not a network class.*pass policy=OwnPolicy to load"):
        PPO.load(buffer, learning_rate=own_schedule)
    loaded = PPO.load(buffer, learning_rate=own_schedule, policy=OwnPolicy)
    assert type(loaded.policy) is OwnPolicy
    np.testing.assert_array_equal(
        loaded.predict(observations(), deterministic=True)[0], model.predict(observations(), deterministic=True)[0]
    )


finite = st.floats(allow_nan=False, allow_infinity=False, width=32)
shapes = st.lists(st.integers(1, 4), max_size=3).map(tuple)


@st.composite
def boxes(draw: st.DrawFn) -> spaces.Box:
    shape = draw(shapes)
    size = int(np.prod(shape))
    if draw(st.booleans()):
        dtype = draw(st.sampled_from([np.uint8, np.int64]))
        low = np.array(draw(st.lists(st.integers(0, 100), min_size=size, max_size=size)), dtype=dtype)
        return spaces.Box(low.reshape(shape), (low + dtype(draw(st.integers(0, 100)))).reshape(shape), dtype=dtype)  # type: ignore[arg-type, operator]
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    low, width = (draw(st.lists(finite, min_size=size, max_size=size)) for _ in range(2))
    lows = np.where(draw(st.booleans()), -np.inf, np.array(low)).astype(dtype)
    highs = np.where(draw(st.booleans()), np.inf, np.array(low) + np.abs(width)).astype(dtype)
    return spaces.Box(lows.reshape(shape), highs.reshape(shape), dtype=dtype)  # type: ignore[arg-type]


plain = st.one_of(
    boxes(),
    st.builds(spaces.Discrete, st.integers(1, 10**6), start=st.integers(-5, 5)),
    st.builds(spaces.MultiDiscrete, st.lists(st.integers(1, 9), min_size=1, max_size=5)),
    st.builds(spaces.MultiDiscrete, st.just([[2, 3], [4, 5]])),
    st.builds(spaces.MultiBinary, st.one_of(st.integers(1, 9), st.just([2, 3]))),
)


@settings(max_examples=200)
@given(st.one_of(plain, st.dictionaries(st.text(max_size=5), plain, min_size=1, max_size=3).map(spaces.Dict)))
def test_spaces_survive_json(space: spaces.Space[Any]) -> None:
    again = files.decode_space(json.loads(json.dumps(files.encode_space(space))))
    assert again == space
    assert again.dtype == space.dtype
    if isinstance(space, spaces.Dict):
        assert list(again) == list(space)  # type: ignore[call-overload]


values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), finite, st.text()),
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.sampled_from(["pi", "vf", "x"]), inner)),
)


@given(values)
def test_plain_values_survive_json(value: Any) -> None:
    assert files.decode("x", json.loads(json.dumps(files.encode("x", value)))) == value


@pytest.mark.parametrize(
    "value", [torch.nn.Tanh, torch.nn.ReLU, torch.optim.AdamW, SharedMlp, ActorCriticPolicy, torch.nn.modules.Module]
)
def test_network_classes_survive_json(value: type) -> None:
    assert files.decode("x", json.loads(json.dumps(files.encode("x", value)))) is value


def test_schedules_survive_json() -> None:
    for schedule in (LinearSchedule(1.0, 0.25, 0.5), FloatSchedule(LinearSchedule(1.0, 0.25, 0.5))):
        again = files.decode("x", json.loads(json.dumps(files.encode("x", schedule))))
        for progress in (1.0, 0.8, 0.5, 0.2, 0.0):
            assert again(progress) == schedule(progress)
    assert files.decode("x", files.encode("x", FloatSchedule(0.125))) == 0.125
    assert files.decode("x", files.encode("x", ConstantSchedule(0.125))) == 0.125
    assert files.decode("x", files.encode("x", np.float32(0.125))) == 0.125


def test_values_that_are_no_plain_data_are_refused_when_saving() -> None:
    with pytest.raises(CheckpointError, match=r"cannot store policy_kwargs\.x=tensor"):
        files.encode("policy_kwargs", {"x": torch.zeros(2)})
    with pytest.raises(CheckpointError, match="space of type Text"):
        files.encode_space(spaces.Text(3))


# ------------------------------------------------------------------------------------------- files that attack


class Bomb:
    """Unpickling it makes a folder."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.trace),)


class Shell(Bomb):
    def __reduce__(self) -> Any:
        return os.system, (f"mkdir {self.trace}",)


def saved(value: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


NO_PLAIN_VALUES = r"mentions posix|not a zip file|is no file of tensors"


@pytest.mark.parametrize("bomb", [Bomb, Shell])
def test_the_pickles_that_sb3_would_read_are_never_opened(bomb: type[Bomb], tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    serialized = base64.b64encode(pickle.dumps(bomb(trace))).decode()
    data = json.dumps({"policy_class": {":type:": "x", ":serialized:": serialized}}).encode()
    file = altered({"data": data, "pytorch_variables.pth": saved(bomb(trace))})
    loaded = PPO.load(file)
    assert loaded.num_timesteps == 64
    assert not trace.exists()
    with pytest.raises(Exception):  # noqa: B017, PT011 (whatever vanilla SB3 makes of it)
        stable_baselines3.PPO.load(altered({"data": data}))
    assert trace.exists()  # so the bomb was live


@pytest.mark.parametrize("kind", [DQN, PQN])
def test_no_agent_unpickles(kind: Any, tmp_path: Path) -> None:
    """Bombs wherever SB3 would read a pickle; then one in the weights."""
    trace, original = tmp_path / "trace", io.BytesIO()
    model = kind("MlpPolicy", cartpole(), seed=0, **({"buffer_size": 100} if kind is DQN else {}))
    model.save(original)
    bomb = base64.b64encode(pickle.dumps(Bomb(trace))).decode()
    data = json.dumps({"policy_class": {":type:": "x", ":serialized:": bomb}}).encode()
    file = altered({"data": data, "pytorch_variables.pth": saved(Bomb(trace))}, original.getvalue())
    np.testing.assert_array_equal(
        kind.load(file).predict(observations(), deterministic=True)[0],
        model.predict(observations(), deterministic=True)[0],
    )
    with pytest.raises(CheckpointError, match=NO_PLAIN_VALUES):
        kind.load(altered({"policy.pth": saved(Bomb(trace))}, fuzz.in_format_2(original.getvalue())))
    assert not trace.exists()


@pytest.mark.parametrize("bomb", [Bomb, Shell])
@pytest.mark.parametrize("member", ["policy.pth", "policy.optimizer.pth"])
@pytest.mark.parametrize("wrap", [saved, pickle.dumps, lambda b: saved({"weight": b}), lambda b: saved([{}, b])])
def test_weights_that_are_pickles_are_refused(
    bomb: type[Bomb], member: str, wrap: Callable[[Any], bytes], tmp_path: Path
) -> None:
    content = wrap(bomb(tmp_path / "trace"))
    with pytest.raises(CheckpointError, match=NO_PLAIN_VALUES):
        PPO.load(altered({member: content}, good_file_of_format_2()))
    assert PPO.load(altered({member: content})).num_timesteps == 64  # ours are there, so SB3's are not looked at
    assert not (tmp_path / "trace").exists()


def test_a_module_that_cannot_be_imported_has_no_class(monkeypatch: pytest.MonkeyPatch) -> None:
    """As torch.utils.cpp_extension, which fails an assertion of setuptools where distutils was imported before it."""

    def fails(name: str) -> None:
        raise AssertionError(name)

    monkeypatch.setattr(json_values.importlib, "import_module", fails)
    with pytest.raises(CheckpointError, match=r"there is no class torch\.nn:Tanh"):
        json_values.decode("activation_fn", {"class": "torch.nn:Tanh"})


DANGEROUS = [
    "os:system",
    "subprocess:Popen",
    "builtins:eval",
    "torch:load",
    "torch.hub:load",
    "torch:os.system",
    "torch.serialization:pickle.Unpickler",
    "torch.utils.cpp_extension:load_inline",
    "torch:serialization.os.system",
    "torch.nn:Module.forward",
    "torch.nn:functional",
    "palaestra.agents.checkpoints.model_file:os.system",
    "stable_baselines3.common.save_util:load_from_pkl",
    "torchx.nn:Module",
    "torch.no_such_module:X",
    "torch:",
    "",
]


@pytest.mark.parametrize("path", DANGEROUS)
@pytest.mark.parametrize("where", ["activation_fn", "optimizer_class", "policy", "learning_rate"])
def test_names_that_are_no_network_classes_are_refused(path: str, where: str) -> None:
    def change(content: dict[str, Any]) -> None:
        if where == "policy":
            content["policy"] = {"class": path}
        elif where == "learning_rate":
            content["arguments"][where] = {"class": path}
        else:
            content["arguments"]["policy_kwargs"][where] = {"class": path}

    with pytest.raises(CheckpointError, match=r"network class|there is no class"):
        PPO.load(with_settings(change))


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c["arguments"].update(rollout_buffer_class={"class": "torch.nn:Module"}),
        lambda c: c["arguments"].update(device="cuda:99"),
        lambda c: c["arguments"].update(env="CartPole-v1"),
        lambda c: c["arguments"].update(nonsense=1),
        lambda c: c["arguments"].update(seed="x"),
        lambda c: c["arguments"].update(policy_kwargs=[1]),
        lambda c: c["arguments"]["policy_kwargs"].update(features_extractor_kwargs={"hidden": [10**15]}),
        lambda c: c.update(policy="NoPolicy"),
        lambda c: c.update(policy={"class": "torch.nn:Linear"}),
        lambda c: c.update(policy=7),
        lambda c: c["counters"].update(predict=1),
        lambda c: c["counters"].update(num_timesteps="1"),
        lambda c: c.update(counters=[]),
        lambda c: c.update(action_space={"type": "Discrete", "n": 0, "start": 0}),
        lambda c: c.update(action_space={"type": "Discrete", "n": 10**30, "start": 0}),
        lambda c: c.update(action_space={"type": "Discrete", "n": "x", "start": 0}),
        lambda c: c.update(action_space={"type": "Text"}),
        lambda c: c.update(action_space=None),
        lambda c: c["observation_space"].update(shape=[10**7, 10**7]),
        lambda c: c["observation_space"].update(shape=[5]),
        lambda c: c["observation_space"].update(dtype="object"),
        lambda c: c["observation_space"].update(dtype="no dtype"),
        lambda c: c["observation_space"].update(low=[[]]),
        lambda c: c.update(format=99),
        lambda c: c.pop("format"),
        lambda c: c.pop("arguments"),
        lambda c: c.pop("agent"),
        lambda c: c.update(agent="DQN"),
        lambda c: c.update(arguments=[]),
    ],
)
def test_settings_that_make_no_sense_are_refused(change: Callable[[dict[str, Any]], None]) -> None:
    with pytest.raises(CheckpointError):
        PPO.load(with_settings(change))


@pytest.mark.parametrize("text", [b"", b"[]", b"null", b"{", b"\xff\xfe", b"7", b"[" * 100_000])
def test_settings_that_are_no_object_are_refused(text: bytes) -> None:
    with pytest.raises(CheckpointError):
        PPO.load(altered({"palaestra.json": text}))


@pytest.mark.parametrize("member", ["palaestra.json", "weights.safetensors", "optimizer.safetensors", "optimizer.json"])
def test_missing_members_are_named(member: str) -> None:
    with pytest.raises(CheckpointError, match=member):
        PPO.load(altered({member: None}))


@pytest.mark.parametrize("member", ["palaestra.json", "policy.pth", "policy.optimizer.pth"])
def test_missing_members_of_format_2_are_named(member: str) -> None:
    with pytest.raises(CheckpointError, match=member):
        PPO.load(altered({member: None}, good_file_of_format_2()))


def test_weights_of_another_shape_or_kind_are_refused() -> None:
    for weights in ({}, {"x": torch.zeros(2)}, [1, 2], torch.zeros(3), None, {"value_net.bias": torch.zeros(7)}):
        for member in ("policy.pth", "policy.optimizer.pth"):
            with pytest.raises(CheckpointError):
                PPO.load(altered({member: saved(weights)}, good_file_of_format_2()))
    for tensors in ({}, {"x": torch.zeros(2)}, {"value_net.bias": torch.zeros(7)}):
        with pytest.raises(CheckpointError):
            PPO.load(io.BytesIO(fuzz.with_state(good_file(), "weights", tensors)))
    for value in ({}, {"x": torch.zeros(2)}, [1, 2], torch.zeros(3), None):
        with pytest.raises(CheckpointError):
            PPO.load(io.BytesIO(fuzz.with_state(good_file(), "optimizer", value)))


# ------------------------------------------------------------------------------------------- damaged files


def load_or_refuse(content: bytes) -> None:
    """Loading damaged bytes works (the damage hit nothing that is read) or is refused; nothing else happens."""
    try:
        PPO.load(io.BytesIO(content))
    except CheckpointError as error:
        message = str(error)
    else:
        message = ""
    assert "\n" not in message


@settings(max_examples=200)
@given(st.lists(st.tuples(st.integers(0, 10**9), st.integers(0, 7)), min_size=1, max_size=4))
def test_bit_flips(flips: list[tuple[int, int]]) -> None:
    content = bytearray(good_file())
    for position, bit in flips:
        content[position % len(content)] ^= 1 << bit
    load_or_refuse(bytes(content))


@settings(max_examples=100)
@given(st.floats(0, 1), st.lists(st.tuples(st.floats(0, 1), st.binary(min_size=1, max_size=9)), max_size=3))
def test_bytes_overwritten_near_the_directory(where: float, patches: list[tuple[float, bytes]]) -> None:
    """The end of a zip, with names, sizes and offsets, is where damage leads readers astray."""
    content = bytearray(good_file())
    for share, patch in [(where, b"\x00"), *patches]:
        start = len(content) - 1 - int(share * 700)
        content[start : start + len(patch)] = patch
    load_or_refuse(bytes(content))


@given(st.floats(0, 0.999))
def test_truncated_files(share: float) -> None:
    with pytest.raises(CheckpointError):
        PPO.load(io.BytesIO(good_file()[: int(share * len(good_file()))]))


@given(st.binary(max_size=300))
def test_random_bytes(content: bytes) -> None:
    with pytest.raises(CheckpointError):
        PPO.load(io.BytesIO(content))


def test_every_bit_of_the_settings() -> None:
    """The settings as a whole, bit by bit at every 7th place: refused or understood, never another error."""
    with zipfile.ZipFile(io.BytesIO(good_file())) as archive:
        text = archive.read("palaestra.json")
    for position in range(0, len(text), 7):
        broken = bytearray(text)
        broken[position] ^= 1 << position % 7
        load_or_refuse(altered({"palaestra.json": bytes(broken)}).getvalue())


def test_files_that_are_not_ours(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no model file at .*nothing"):
        PPO.load(tmp_path / "nothing")
    with pytest.raises(FileNotFoundError):
        PPO.load(tmp_path)
    stable_baselines3.PPO("MlpPolicy", "CartPole-v1", device="cpu").save(tmp_path / "vanilla.zip")
    with pytest.raises(CheckpointError, match=r"vanilla was not saved by palaestra but by stable.*pass env="):
        PPO.load(tmp_path / "vanilla")
    (tmp_path / "empty.zip").touch()
    with pytest.raises(CheckpointError, match=r"empty.zip"):
        PPO.load(tmp_path / "empty.zip")

    class Other(PPO):
        pass

    with pytest.raises(CheckpointError, match="holds a PPO agent, not Other"):
        Other.load(io.BytesIO(good_file()))


@pytest.mark.parametrize("name", ["snake-small", "Pendulum-v1"])
def test_another_environment_is_refused(name: str) -> None:
    with pytest.raises(CheckpointError, match="spaces do not match"):
        PPO.load(io.BytesIO(good_file()), env=make(name, 2, "cpu"))


# ------------------------------------------------------------------------------------------- writing


@pytest.mark.parametrize("broken", ["os.replace", "os.fsync", "os.fdopen"])
@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_an_interrupted_write_leaves_the_old_file(
    broken: str, error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.zip"
    path.write_bytes(good_file())

    def fail(*args: Any, **kwargs: Any) -> None:
        raise error

    monkeypatch.setattr(broken, fail)
    with pytest.raises(type(error)):
        small().save(path)
    monkeypatch.undo()
    assert path.read_bytes() == good_file()
    assert [p.name for p in tmp_path.iterdir()] == ["model.zip"]


def test_names_and_permissions_of_files(tmp_path: Path) -> None:
    model = small()
    model.save(tmp_path / "deep" / "model")
    model.save(str(tmp_path / "with.dots"))
    assert sorted(p.name for p in tmp_path.rglob("*") if p.is_file()) == ["model.zip", "with.dots"]
    mask = os.umask(0)
    os.umask(mask)
    assert (tmp_path / "deep" / "model.zip").stat().st_mode & 0o777 == 0o666 & ~mask
    assert PPO.load(tmp_path / "deep" / "model").num_timesteps == 0
    assert PPO.load(tmp_path / "with.dots").num_timesteps == 0
