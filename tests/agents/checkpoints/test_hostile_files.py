"""Files that attack or are damaged: refused with the reason, before memory is used up; and writing that fails."""

from __future__ import annotations

import ast
import errno
import io
import json
import os
import pickle
import signal
import struct
import subprocess
import sys
import time
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fuzz_checkpoints as fuzz
import numpy as np
import pytest
import safetensors.torch
import stable_baselines3
import torch
import yaml
from hostile_files import changed, load, refused, resume, with_member

from palaestra.agents import DQN, PPO, CheckpointError
from palaestra.agents.checkpoints.tensor_members import read_torch_file, read_tree, write_tree
from palaestra.agents.checkpoints.zip_archive import SUMS, Members
from palaestra.envs.core.atomic_write import write_whole
from palaestra.train.config import schema

ROOT = Path(__file__).parents[3]


# ------------------------------------------------------------------------------------------- at random


@pytest.mark.filterwarnings("ignore")
def test_mutated_files_are_refused_or_do_no_harm() -> None:
    counts = fuzz.run(550, seed=1)
    assert sum(counts["flip_bits"].values()) == 50
    assert counts["flip_bits"]["refused"] >= 45  # else the mutation misses what is read
    assert counts["change_settings"]["read"] > 0  # else they are refused for another reason than the mutation
    assert counts["change_values"]["refused"] > 30


def test_what_runs_is_noticed() -> None:
    for run in (lambda: pickle.loads(pickle.dumps(os.getpid)), lambda: os.system("true")):
        with pytest.raises(AssertionError, match=r"pickle\.find_class|os\.system"), fuzz.nothing_runs():
            run()


# ------------------------------------------------------------------------------------------- the zip file


@pytest.mark.parametrize("agent", ["ppo", "dqn"])
def test_every_flipped_bit_of_a_member_is_found_and_the_member_named(agent: str) -> None:
    content = fuzz.original(agent)
    rng = np.random.default_rng(0)
    for name, member in fuzz.unpacked(content).items():
        start = content.index(member)
        for _ in range(5):
            changed = bytearray(content)
            changed[start + int(rng.integers(len(member)))] ^= 1 << int(rng.integers(8))
            refused(bytes(changed), f"is damaged: {name}$")


def test_members_that_do_not_belong_there() -> None:
    for name in ("../../etc/x", "/etc/x", "a/../../x", "C:\\x", "actor.pth", "policy.pth "):
        refused(with_member(name, b""), "does not belong into a model file")
    buffer = io.BytesIO(fuzz.original("ppo"))
    with zipfile.ZipFile(buffer, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("policy.pth", b"")
    refused(buffer.getvalue(), "two members called 'policy.pth'")


def test_checksums_must_be_there_and_of_the_same_members() -> None:
    members = fuzz.unpacked(fuzz.original("ppo"))
    sums = json.loads(members.pop(SUMS))
    refused(fuzz.packed(members, sealed=False), "is not whole: there is no checksums.json in it")
    sums["sha256"]["data"] = "0" * 64
    refused(fuzz.packed({**members, SUMS: json.dumps(sums).encode()}, sealed=False), "is damaged: data$")
    del sums["sha256"]["data"]
    refused(fuzz.packed({**members, SUMS: json.dumps(sums).encode()}, sealed=False), "lists other members")
    refused(fuzz.packed({**members, SUMS: b"[]"}, sealed=False), "is not an object")


def test_compressed_and_encrypted_members() -> None:
    for method in (zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", method) as archive:
            archive.writestr("palaestra.json", b" " * 1000)
        refused(buffer.getvalue(), "'palaestra.json' is compressed")
    content = bytearray(fuzz.original("ppo"))
    content[content.rindex(b"PK\x01\x02", 0, content.rindex(b"data")) + 8] |= 1
    refused(bytes(content), "'data' is encrypted")


def declaring(content: bytes, name: bytes, size: int) -> bytes:
    """The zip file with other sizes of a member in its directory."""
    changed = bytearray(content)
    at = changed.rindex(b"PK\x01\x02", 0, changed.rindex(name))
    changed[at + 20 : at + 28] = struct.pack("<LL", size, size)
    return bytes(changed)


def test_declared_sizes_beyond_the_file() -> None:
    for size in (10**6, 3 << 30):
        refused(declaring(fuzz.original("ppo"), b"policy.pth", size), "its members overlap")
    inner = declaring(fuzz.unpacked(fuzz.original("ppo"))["policy.pth"], b"archive/data/0", 3 << 30)
    refused(with_member("policy.pth", inner, format_2=True), "its members overlap")


BOMBS = """
import io, os, resource, sys, zipfile
sys.path.insert(0, {tests!r})
import fuzz_checkpoints as fuzz
from palaestra.agents import CheckpointError
fuzz.outcome("ppo", fuzz.original("ppo"))
pages = int(open("/proc/self/statm").read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
resource.setrlimit(resource.RLIMIT_AS, (pages + (256 << 20),) * 2)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for path in sys.argv[1:]:
    print(fuzz.outcome("ppo", open(path, "rb").read()))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before >> 10)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_bombs_are_refused_without_memory(tmp_path: Path) -> None:
    """A gigabyte of zeros, deflated; a million members; settings that describe enormous networks and spaces."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("policy.pth", "w") as member:
        for _ in range(256):
            member.write(bytes(1 << 20))
    files = [packed.getvalue()]
    entry = struct.pack("<4s6H3L5H2L", b"PK\x01\x02", *[0] * 10, 0, 0, 0, 0, 0, 0) + b""
    count = 300_000
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, count & 0xFFFF, count & 0xFFFF, len(entry) * count, 0, 0)
    files.append(entry * count + end)
    settings = fuzz.unpacked(fuzz.original("ppo"))["palaestra.json"]
    for change in ("net_arch", "shape", "json"):
        content = json.loads(settings)
        if change == "net_arch":
            content["arguments"]["policy_kwargs"]["net_arch"] = [30_000, 30_000]
        elif change == "shape":
            content["observation_space"].update(shape=[30_000, 30_000], low=0.0, high=1.0)
        else:
            content["arguments"]["x"] = [[]] * (5 << 20)
        files.append(with_member("palaestra.json", json.dumps(content).encode()))
    for i, content in enumerate(files):
        (tmp_path / str(i)).write_bytes(content)
    program = [sys.executable, "-W", "ignore", "-c", BOMBS.format(tests=str(ROOT / "tests/stress"))]
    arguments = [str(tmp_path / str(i)) for i in range(len(files))]
    result = subprocess.run([*program, *arguments], capture_output=True, text=True, timeout=120)
    *outcomes, grown = [line for line in result.stdout.split("\n") if line and "device" not in line]
    assert outcomes == ["refused"] * len(files), result.stderr
    assert int(grown) < 150


# ------------------------------------------------------------------------------------------- files of tensors


def as_member(content: bytes) -> Members:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("x.pth", content)
    return Members(buffer, "f")


def equal(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and a.shape == b.shape and a.stride() == b.stride() and torch.equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and list(a) == list(b) and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(equal, a, b))
    return type(a) is type(b) and a == b


def test_values_are_those_of_torch_load() -> None:
    rng = torch.Generator().manual_seed(0)
    whole = torch.randn(4, 6, generator=rng)
    dtypes = [torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8]
    value = {
        "views": [whole, whole.t(), whole[1:3, ::2], whole[2, 3], whole.unsqueeze(0)],
        "types": [(whole * 10).to(dtype) for dtype in [*dtypes, torch.uint8, torch.bool]],
        "empty": (torch.zeros(0), torch.zeros(3, 0, 2), torch.tensor(1.5)),
        "plain": [None, True, False, 0, 255, 256, -1, 2**31, -(2**40), 2**70, 0.1, float("inf"), "é" * 300, ""],
        "nested": OrderedDict(a={}, b=[], c=(), d=(1, (2, [3, (4, 5, 6, 7)])), e={7: "x"}),
        "twice": ["repeated", "repeated", (1, 2), whole, whole],
        "network": torch.nn.BatchNorm1d(3).state_dict(),
    }
    members = as_member(fuzz.torch_saved(value))
    expected = torch.load(io.BytesIO(fuzz.torch_saved(value)), weights_only=True)
    expected["nested"], expected["network"] = dict(expected["nested"]), dict(expected["network"])
    assert equal(read_torch_file(members, "x.pth"), expected)


def instructions(text: bytes, numbers: bytes = bytes(16)) -> bytes:
    inner = {"archive/data.pkl": b"\x80\x02" + text + b".", "archive/byteorder": b"little", "archive/data/0": numbers}
    inner["archive/version"] = b"3"
    return fuzz.packed(inner, sealed=False)


def tensor(size: bytes, stride: bytes, offset: bytes = b"K\x00", length: bytes = b"K\x04") -> bytes:
    """A tensor over the first numbers, four of float32."""
    storage = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpu" + length + b"tQ"
    rest = storage + offset + size + stride + b"\x89ccollections\nOrderedDict\n)R"
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + rest + b"tR"


HUGE = b"\x8a\x06\x00\x00\x00\x00\x00\x10"
ATTACKS = [
    (tensor(b"K\x05\x85", b"K\x01\x85"), "no file of tensors"),  # more numbers than there are
    (tensor(b"K\x02\x85", b"K\x01\x85", offset=b"K\x03"), "no file of tensors"),
    (tensor(b"K\x02\x85", b"K\x04\x85"), "no file of tensors"),
    (tensor(HUGE + b"\x85", b"K\x00\x85"), "reaches beyond the bytes that the file holds"),
    (tensor(b"K\x02\x85", b"J\xff\xff\xff\xff\x85"), "no file of tensors"),
    (tensor(b"K\x04\x85", b"K\x01\x85", length=HUGE), "no file of tensors"),
    (b"cbuiltins\nbytearray\n" + HUGE + b"\x85R", "mentions builtins.bytearray"),
    (b"ctorch\nFloatStorage\n" + HUGE + b"\x85R", "no file of tensors"),
    (b"ctorch\nTensor\n" + HUGE + b"\x85R", "mentions torch.Tensor"),
    (b"cos\nsystem\nX\x04\x00\x00\x00true\x85R", "mentions os.system"),
    (b"\x8c\x02os\x8c\x06system\x93", "STACK_GLOBAL"),
    (b"(cos\nsystem\no", "mentions os.system"),
    (b"(ios\nsystem\n", "INST"),
    (b"ccollections\nOrderedDict\n]K\x01a\x85R", "no file of tensors"),
    (b"ccollections\nOrderedDict\n", "a value of type type"),
    (b")q\x00]q\x01h\x01a", "RecursionError"),  # a list that holds itself
    (b"]q\x00" + b"".join(b"](h%ch%ceq%c" % (i, i, i + 1) for i in range(40)), "more than 262144 values"),
    (b"}K\x01\x85K\x02s", "a key that is neither text nor a number"),
    (b"X\xff\xff\xff\x7f", "unicodestring"),
    (b"", "no file of tensors"),
    (b"K\x01K\x02s", "no file of tensors"),
    (b"((((", "no file of tensors"),
    (b"t", "no file of tensors"),
]


@pytest.mark.parametrize(("text", "message"), ATTACKS)
def test_instructions_that_are_not_plain_values_are_refused(text: bytes, message: str) -> None:
    with pytest.raises(CheckpointError, match=message), fuzz.nothing_runs():
        read_torch_file(as_member(instructions(text)), "x.pth")


def test_the_attacks_are_well_formed_but_for_what_they_attack() -> None:
    found = read_torch_file(as_member(instructions(tensor(b"K\x02K\x02\x86", b"K\x02K\x01\x86"))), "x.pth")
    assert equal(found, torch.zeros(2, 2))


def test_many_tensors_of_the_same_bytes_are_refused() -> None:
    whole = b"]" + (tensor(b"J\x00\x00\x01\x00\x85", b"K\x01\x85", length=b"J\x00\x00\x01\x00") + b"a") * 9
    with pytest.raises(CheckpointError, match="more than 8 tensors of the same bytes"):
        read_torch_file(as_member(instructions(whole, bytes(1 << 18))), "x.pth")


def test_long_instructions_and_other_files_are_refused() -> None:
    with pytest.raises(CheckpointError, match="more than the 4194304 allowed"):
        read_torch_file(as_member(instructions(b"]" * (5 << 20))), "x.pth")
    legacy = io.BytesIO()
    torch.save({"x": torch.zeros(3)}, legacy, _use_new_zipfile_serialization=False)
    refused(with_member("policy.pth", legacy.getvalue(), format_2=True), "not a zip file")
    truth = fuzz.torch_saved(torch.tensor([True, False]))
    inner = {**fuzz.unpacked(truth), "archive/data/0": b"\x07\x00"}
    with pytest.raises(CheckpointError, match="truth values other than"):
        read_torch_file(as_member(fuzz.packed(inner, sealed=False)), "x.pth")


# ------------------------------------------------------------------------------------------- safetensors


def test_values_in_safetensors_are_those_that_were_written() -> None:
    """Strides aside: a tensor is stored by its numbers."""
    whole = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    types = [torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8]
    value = {
        "views": [whole.t().contiguous(), whole[1:3], whole[2, 3], torch.nn.Parameter(whole).detach()],
        "types": [(whole * 10).to(dtype) for dtype in [*types, torch.uint8, torch.bool]],
        "empty": (torch.zeros(0), torch.zeros(3, 0, 2), torch.tensor(1.5)),
        "plain": [None, True, False, 0, -1, 2**31, -(2**40), 2**70, 0.1, float("inf"), 1e-320, "é" * 300, ""],
        "nested": {"a": {}, "b": [], "c": (), "d": (1, (2, [3, (4,)])), "tensor": {7: "x", "7": "y", "dict": []}},
        "twice": [whole, whole],
    }
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        write_tree(archive, "x", value)
        write_tree(archive, "strided", [whole.t(), whole[:, ::2]])
    assert equal(read_tree(Members(buffer, "f"), "x"), value)
    strided = read_tree(Members(buffer, "f"), "strided")
    assert torch.equal(strided[0], whole.t())
    assert torch.equal(strided[1], whole[:, ::2])
    theirs = safetensors.torch.load(fuzz.unpacked(buffer.getvalue())["x.safetensors"])
    assert torch.equal(theirs["x.views.3"], whole)
    assert not any(key.startswith("x.twice") for key in theirs)  # the same memory again
    with zipfile.ZipFile(io.BytesIO(), "w") as archive, pytest.raises(KeyError):
        write_tree(archive, "x", [torch.zeros(2, dtype=torch.complex64)])


def entry(dtype: Any = "F32", shape: Any = (4,), offsets: Any = (0, 16)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


HEADERS: list[tuple[Any, str]] = [
    ({"a": entry(), "b": entry()}, "invalid offset"),
    ({"a": entry(shape=[2], offsets=[0, 8])}, "not fully covered"),
    ({"a": entry(shape=[2], offsets=[8, 16])}, "invalid offset"),
    ({"a": entry(shape=[3])}, "invalid shape"),
    ({"a": entry(shape=[-4])}, "invalid JSON in header"),
    ({"a": entry(shape=[2**62, 4])}, "overflow"),
    ({"a": entry(shape=[2**64, 4])}, "invalid JSON in header"),
    ({"a": entry(offsets=[16, 0])}, "invalid offset"),
    ({"a": entry(offsets=[0, 2**63])}, "invalid"),
    ({"a": entry("X9")}, "unknown variant"),
    ({"a": entry("F4", [32])}, "F4"),
    ({"a": entry("F8_E4M3", [16])}, "which no agent has"),
    ({"a": entry("C64", [2])}, "which no agent has"),
    ({"a": entry("BOOL", [16])}, "truth values other than 0 and 1"),
    ({"a": entry(), "__metadata__": {"x": 1}}, "expected a string"),
    ({"a": 3}, "invalid"),
    ([], "invalid"),
    (b"[" * 100_000, "invalid JSON in header"),
    (b"\xff\xfe", "invalid"),
    (b"", "invalid JSON in header"),
]


@pytest.mark.parametrize(("header", "message"), HEADERS)
def test_headers_that_lie_are_refused(header: Any, message: str) -> None:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    content = with_member("weights.safetensors", len(text).to_bytes(8, "little") + text + b"\x02" * 16)
    refused(content, rf"weights\.safetensors.*{message}")


@pytest.mark.parametrize("size", [0, 7, 1 << 20, 99 << 20, 101 << 20, 2**40, 2**63, 2**64 - 1])
def test_headers_of_another_length_are_refused(size: int) -> None:
    content = fuzz.unpacked(fuzz.original("ppo"))["weights.safetensors"]
    refused(with_member("weights.safetensors", size.to_bytes(8, "little") + content[8:]), r"weights\.safetensors: ")
    refused(with_member("weights.safetensors", content[:5]), r"weights\.safetensors: ")


@pytest.mark.parametrize(
    "structure",
    [
        {"value": {"tensor": "no such tensor"}},
        {"value": {"tensor": []}},
        {"value": {"tuple": 3}},
        {"value": {"dict": [[[], 1]]}},
        {"value": {"dict": [[1]]}},
        {"value": {"dict": [[None, 1]]}},
        {"value": {"code": "x"}},
        {"value": {}},
        {"value": {"tuple": [], "dict": []}},
        {},
    ],
)
def test_structures_that_make_no_sense_are_refused(structure: Any) -> None:
    refused(with_member("optimizer.json", json.dumps(structure).encode()), "optimizer.json is not of the form")


# ------------------------------------------------------------------------------------------- wrong contents


def put(name: str, value: Any) -> Callable[[Any], None]:
    return lambda state: state.__setitem__(name, value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s["action_net.bias"].fill_(torch.nan), "policy weights hold NaN in action_net.bias"),
        (lambda s: s["value_net.weight"][0].fill_(-torch.inf), "policy weights hold infinity in value_net.weight"),
        (
            put("action_net.bias", torch.zeros(3)),
            r"policy weights.action_net.bias is .*\(3,\) in the file, .*\(2,\) here",
        ),
        (put("action_net.bias", torch.zeros(2, dtype=torch.int64)), r"int64 \(2,\) in the file"),
        (put("x", torch.zeros(1)), r"policy weights.x is .* in the file, missing here"),
        (lambda s: s.pop("action_net.bias"), r"policy weights.action_net.bias is missing in the file"),
    ],
)
def test_wrong_weights_are_named(change: Callable[[Any], Any], message: str) -> None:
    refused(changed("ppo", "weights", change), message)


def test_weights_of_format_2_that_are_no_tensors_are_named() -> None:
    weights = fuzz.state_of(fuzz.original("ppo"), "weights")
    content = fuzz.torch_saved({**weights, "action_net.bias": 1.0})
    refused(with_member("policy.pth", content, format_2=True), "something else than named tensors")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s["state"][0].update(exp_avg=torch.zeros(3)), "exp_avg of weight 0 has another form"),
        (lambda s: s["state"][1]["exp_avg_sq"].fill_(torch.nan), "NaN in exp_avg_sq of weight 1"),
        (lambda s: s["state"].update({99: {}}), "of a weight 99"),
        (lambda s: s["state"].update({-1: {}}), "of a weight -1"),
        (lambda s: s["state"][0].update(step=1), "step of weight 0"),
        (lambda s: s["param_groups"][0].update(lr="x"), "not those of this agent's optimizer"),
        (lambda s: s["param_groups"][0].update(lr=float("nan")), "not those of this agent's optimizer"),
        (lambda s: s["param_groups"][0].update(betas=(0.9,)), "not those of this agent's optimizer"),
        (lambda s: s["param_groups"][0].update(params=[0]), "not those of this agent's optimizer"),
        (lambda s: s["param_groups"].clear(), "not those of this agent's optimizer"),
        (lambda s: s.pop("state"), "does not hold the state of an optimizer"),
    ],
)
def test_wrong_optimizer_state_is_named(change: Callable[[Any], Any], message: str) -> None:
    refused(changed("ppo", "optimizer", change), message)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (put("obs", torch.zeros(4, 9)), r"observations do not have the form \(4, 4\)"),
        (put("obs", [1]), "observations do not have the form"),
        (put("starts", torch.zeros(4)), "training state.starts"),
        (put("sums", torch.zeros(9)), "training state.sums"),
        (put("has_ended", torch.zeros(9)), "training state.has_ended"),
        (put("losses", torch.zeros(9)), "training state.losses"),
        (put("window", [{"n": 1}]), "window does not hold"),
        (put("window", [{"n": 1, "r": "x", "l": 1, "t": 0}]), "window holds something else"),
        (put("logged", {"x": 1}), "logged values"),
        (put("generator", torch.zeros(3)), "TypeError"),
        (put("returns", torch.zeros(9)), "training state.returns"),
        (put("returns", torch.tensor([0.0, 0.0, 0.0, torch.nan])), "returns hold NaN"),
        (put("sums", torch.tensor([torch.inf, 0.0, 0.0, 0.0])), "counts inf ended episodes"),
        (put("sums", torch.tensor([-1.0, 0.0, 0.0, 0.0])), "counts -1.0 ended episodes"),
        (put("window", [{"n": 0, "r": 0.0, "l": 1, "t": 0}]), "reports of no episodes"),
        (lambda s: s["batch"].update(episode=torch.full((4,), -1)), "batch.episode holds numbers that no episode has"),
        (lambda s: s["batch"].update(episode_return=torch.full((4,), torch.nan)), "batch.episode_return holds"),
        (lambda s: s["batch"].update(seed=-1), "cannot load"),
        (lambda s: s["replay"]["fields"]["rewards"].fill_(torch.inf), "replay.rewards hold NaN or infinity"),
        (put("batch", 3), "cannot load"),
        (lambda s: s["batch"]["state"].popitem(), "missing in the file"),
        (lambda s: s["replay"]["fields"].update(rewards=torch.zeros(3)), "replay.rewards"),
        (lambda s: s["replay"]["content"].update(x=torch.zeros(3)), "replay"),
        (lambda s: s.pop("replay"), "KeyError: 'replay'"),
        (lambda s: s.pop("losses"), "KeyError: 'losses'"),
    ],
)
def test_wrong_training_state_is_named(change: Callable[[Any], Any], message: str) -> None:
    refused(changed("dqn", "training", change), message, resume)


def test_another_agents_file_is_refused() -> None:
    refused(fuzz.original("dqn"), "holds a DQN agent, not PPO")
    other = fuzz.unpacked(fuzz.original("dqn"))["weights.safetensors"]
    refused(with_member("weights.safetensors", other), "weights.json is not of the form")
    other = fuzz.unpacked(fuzz.original("dqn"))["policy.pth"]
    refused(with_member("policy.pth", other, format_2=True), "policy weights.*missing")


# ------------------------------------------------------------------------------------------- vanilla SB3


@pytest.mark.parametrize(("ours", "theirs"), [(PPO, stable_baselines3.PPO), (DQN, stable_baselines3.DQN)])
def test_weights_of_vanilla_sb3(ours: Any, theirs: Any, tmp_path: Path) -> None:
    model = theirs("MlpPolicy", "CartPole-v1", seed=1, device="cpu")
    model.save(tmp_path / "m.zip")
    obs = np.random.default_rng(0).normal(size=(100, 4)).astype(np.float32)
    with fuzz.nothing_runs():
        loaded = ours.load(tmp_path / "m.zip", fuzz.environment(), **({"n_steps": 16} if ours is PPO else {}))
    np.testing.assert_array_equal(loaded.predict(obs, deterministic=True)[0], model.predict(obs, deterministic=True)[0])
    loaded.learn(200)
    with pytest.raises(CheckpointError, match=r"pickles, which are never opened; pass env="):
        ours.load(tmp_path / "m.zip")
    with pytest.raises(CheckpointError, match="policy weights"):
        ours.load(tmp_path / "m.zip", env=fuzz.environment(), policy_kwargs={"net_arch": [7]})
    with pytest.raises(CheckpointError, match="policy weights"):
        (DQN if ours is PPO else PPO).load(tmp_path / "m.zip", env=fuzz.environment())
    content = bytearray((tmp_path / "m.zip").read_bytes())
    content[content.index(fuzz.unpacked(bytes(content))["policy.pth"]) + 3000] ^= 4
    with pytest.raises(CheckpointError, match=r"is damaged: policy.pth"):
        ours.load(io.BytesIO(content), env=fuzz.environment())


def test_the_members_with_pickles_are_never_looked_into(tmp_path: Path) -> None:
    stable_baselines3.PPO("MlpPolicy", "CartPole-v1", device="cpu").save(tmp_path / "m.zip")
    vanilla = {**fuzz.unpacked((tmp_path / "m.zip").read_bytes()), "data": b"\x80no JSON", "pytorch_variables.pth": b""}
    load(fuzz.packed(vanilla, sealed=False))
    load(fuzz.packed({**fuzz.unpacked(fuzz.original("ppo")), "data": b"\x80no JSON", "pytorch_variables.pth": b""}))


def test_vanilla_sb3_opens_checkpoints(tmp_path: Path) -> None:
    (tmp_path / "c.zip").write_bytes(fuzz.original("dqn"))
    obs = np.random.default_rng(0).normal(size=(100, 4)).astype(np.float32)
    theirs, ours = stable_baselines3.DQN.load(tmp_path / "c.zip"), DQN.load(tmp_path / "c.zip")
    np.testing.assert_array_equal(theirs.predict(obs, deterministic=True)[0], ours.predict(obs, deterministic=True)[0])


# ------------------------------------------------------------------------------------------- writing


@pytest.mark.parametrize("broken", ["os.replace", "os.fsync", "tempfile.mkstemp", "os.chmod"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.ENOENT])
def test_failing_writes_keep_the_old_file(
    broken: str, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.zip"
    path.write_bytes(b"old")

    def fail(*args: Any, **kwargs: Any) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(broken, fail)
        with pytest.raises(OSError, match=rf"cannot write the file \({os.strerror(number)}\): '.*model.zip'") as caught:
            write_whole(path, b"new")
    assert caught.value.errno == number
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["model.zip"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_while_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.zip"
    path.write_bytes(b"old")
    open_handle = os.fdopen

    def full(handle: int, mode: str) -> Any:
        os.dup2(os.open("/dev/full", os.O_WRONLY), handle)
        return open_handle(handle, mode)

    monkeypatch.setattr("os.fdopen", full)
    with pytest.raises(OSError, match="No space left on device"):
        PPO.load(io.BytesIO(fuzz.original("ppo"))).save(path)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["model.zip"]


def test_folders_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OSError, match=r"cannot write the file .*model.zip"):
        write_whole(tmp_path / "file" / "model.zip", b"")
    with pytest.raises(OSError, match=r"cannot write the file .*model.zip"):
        write_whole(Path("/proc/no such folder/model.zip"), b"")


def test_a_folder_that_vanishes_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "run"
    replace = os.replace

    def vanish(source: str, target: Path) -> None:
        os.unlink(source)
        os.rmdir(folder)
        replace(source, target)

    monkeypatch.setattr("os.replace", vanish)
    with pytest.raises(FileNotFoundError, match=r"cannot write the file \(No such file or directory\): '.*model.zip'"):
        write_whole(folder / "model.zip", b"new")


def test_the_folder_is_flushed_after_the_renaming(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    flush, replace = os.fsync, os.replace

    def flushed(handle: int) -> None:
        done.append("folder" if os.path.isdir(f"/proc/self/fd/{handle}") else "file")
        flush(handle)

    def replaced(*args: Any) -> None:
        done.append("rename")
        replace(*args)

    monkeypatch.setattr("os.fsync", flushed)
    monkeypatch.setattr("os.replace", replaced)
    write_whole(tmp_path / "x", b"1")
    assert done == ["file", "rename", "folder"]


KILLED = """
import os, sys, time
from pathlib import Path
from palaestra.envs.core.atomic_write import write_whole
from palaestra.train.config import schema
def wait(*args):
    print("here", flush=True)
    time.sleep(60)
os.fsync = wait
write_whole(Path(sys.argv[1]), b"half")
"""


def test_what_a_killed_writer_left_is_removed_and_a_living_ones_is_not(tmp_path: Path) -> None:
    (tmp_path / ".mine.unfinished.txt").write_bytes(b"")
    program = [sys.executable, "-c", KILLED, str(tmp_path / "000512.zip")]
    process = subprocess.Popen(program, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "here\n"
        write_whole(tmp_path / "001024.zip", b"whole")
        assert len(list(tmp_path.glob(".000512.zip.*"))) == 1
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    (tmp_path / ".old.unfinished").write_bytes(b"")
    os.utime(tmp_path / ".old.unfinished", (time.time() - 3600,) * 2)
    write_whole(tmp_path / "001536.zip", b"whole")
    assert sorted(os.listdir(tmp_path)) == [".mine.unfinished.txt", "001024.zip", "001536.zip"]


# ------------------------------------------------------------------------------------------- the code itself

_MODULES = {"pickle", "_pickle", "cPickle", "cloudpickle", "dill", "joblib", "shelve", "marshal", "jsonpickle"}
_CALLS = {"eval", "exec", "compile", "__import__", "unsafe_load", "full_load", "load_replay_buffer", "load_from_pkl"}
_SAFE = "weights_only=True"
_LOADS = {"torch.load", "yaml.load", "numpy.load", "np.load", "yaml.load_all", "torch.jit.load", "torch.package"}


def unsafe_calls(text: str) -> list[str]:
    """Names in source code of what may execute a file's contents."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            modules = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            found += [name for name in modules if name.split(".")[0] in _MODULES]
            if isinstance(node, ast.ImportFrom) and node.module in ("torch", "yaml", "numpy"):
                found += [f"{node.module}.{a.name}" for a in node.names if a.name.startswith(("load", "unsafe"))]
        elif isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            if name == "torch.load" and any(ast.unparse(k) == _SAFE for k in node.keywords):
                found.append("torch.load of tensors")
            elif name == "yaml.load" and [ast.unparse(argument) for argument in node.args[1:]] == ["_Loader"]:
                found.append("yaml.load of plain values")
            elif name == "np.load" and [ast.unparse(k) for k in node.keywords] == ["allow_pickle=False"]:
                found.append("np.load of arrays")
                continue
            elif (
                name in _LOADS or (isinstance(node.func, ast.Name) and name in _CALLS) or name.endswith("load_from_pkl")
            ):
                found.append(name)
            found += ["allow_pickle" for keyword in node.keywords if keyword.arg == "allow_pickle"]
            found += [
                "weights_only" for k in node.keywords if k.arg == "weights_only" and ast.unparse(k.value) != "True"
            ]
    return found


def test_no_module_loads_anything_that_executes() -> None:
    sources = [path for part in ("agents", "train", "envs") for path in (ROOT / part).rglob("*.py")]
    assert len(sources) > 80
    found = {str(path): unsafe_calls(path.read_text(encoding="utf-8")) for path in sources}
    reader = str(ROOT / "agents" / "checkpoints" / "tensor_members.py")
    settings = str(ROOT / "train" / "config" / "schema.py")
    assert {path: names for path, names in found.items() if names} == {
        reader: ["torch.load of tensors"],
        settings: ["yaml.load of plain values"],
        str(ROOT / "train" / "export" / "act_on_table.py"): ["np.load of arrays"],
    }


def test_the_loader_of_settings_makes_plain_values_alone() -> None:
    assert issubclass(schema._Loader, yaml.SafeLoader)
    assert schema._Loader.yaml_constructors == yaml.SafeLoader.yaml_constructors
    assert schema._Loader.yaml_multi_constructors == yaml.SafeLoader.yaml_multi_constructors
    for tag in ("python/object/apply:os.getcwd []", "python/name:os.getcwd", "python/tuple [1]"):
        with pytest.raises(yaml.constructor.ConstructorError, match="could not determine a constructor"):
            schema.load_yaml(f"key: !!{tag}")


@pytest.mark.parametrize(
    "text",
    [
        *("import pickle", "from cloudpickle import loads", "import joblib as j", "from pickle import *"),
        *(
            "torch.load(x)",
            "from torch import load",
            "np.load(x)",
            "f(x, allow_pickle=True)",
            "yaml.load(x, L)",
            "yaml.load(x)",
        ),
        *("eval('1')", "exec(x)", "torch.load(x, weights_only=False)", "f(x, weights_only=y)"),
    ],
)
def test_the_walk_finds_them(text: str) -> None:
    assert unsafe_calls(text) != []
