"""Mutated model files: each is refused with a CheckpointError, or does no harm and trains on.

    python tests/stress/fuzz_checkpoints.py --count 10000 [--seed 0]

prints how many files of each kind of mutation were refused and how many were read, and fails at the first one that
raises anything else, runs anything, takes longer than 20 seconds or more than 2 GiB of memory. The number of a file and
the seed give the same file again. tests/agents/checkpoints/test_hostile_files.py runs a short version.
"""

from __future__ import annotations

import argparse
import collections
import io
import json
import os
import random
import resource
import sys
import time
import traceback
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch
from stable_baselines3.common.logger import Logger

from palaestra.agents import DQN, PPO, CheckpointError, DivergedError
from palaestra.agents.checkpoints import tensor_members
from palaestra.agents.checkpoints import zip_archive as archives
from palaestra.agents.checkpoints.zip_archive import SUMS, seal
from palaestra.envs import make
from palaestra.envs.core import EnvError

MAX_SECONDS, MAX_BYTES = 20.0, 2 << 30
AGENTS: dict[str, Any] = {"ppo": PPO, "dqn": DQN, "dqn of format 2": DQN}
Members = dict[str, bytes]
VALUES: list[Any] = [
    0,
    -1,
    1,
    7,
    10**9,
    10**12,
    -(2**63),
    2**64,
    0.5,
    1e308,
    float("nan"),
    float("inf"),
    True,
    None,
    "",
]
VALUES += ["x", "../../x", "MlpPolicy", [], [1], [[[]]], [10**9, 10**9], {}, {"class": "os:system"}, {"type": "Box"}]
VALUES += [{"class": "torch.nn:Linear"}, {"schedule": "linear"}, {"schedule": "custom"}, "\x00", "é" * 1000, "cuda:99"]

# ------------------------------------------------------------------------------------------- whole files


def environment() -> Any:
    return make("cartpole", 4, "cpu", seed=0)


@cache
def original(agent: str) -> bytes:
    """A model file of PPO; a checkpoint of DQN, and the same with files of ``torch.save`` instead of safetensors."""
    if agent == "dqn of format 2":
        return in_format_2(original("dqn"))
    buffer = io.BytesIO()
    small = {"policy_kwargs": {"net_arch": [16]}, "seed": 0}
    if agent == "ppo":
        PPO("MlpPolicy", environment(), n_steps=8, batch_size=16, n_epochs=1, **small).learn(64).save(buffer)  # type: ignore[arg-type]
    else:
        model = DQN("MlpPolicy", environment(), buffer_size=200, learning_starts=20, batch_size=8, **small)  # type: ignore[arg-type]
        model.learn(100).save_checkpoint(buffer)
    return buffer.getvalue()


def unpacked(content: bytes) -> Members:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def state_of(content: bytes, name: str) -> Any:
    """The "weights", the "optimizer" or the "training" state in a file."""
    return tensor_members.read_tree(archives.Members(io.BytesIO(content), "the file"), name)


def with_state(content: bytes, name: str, value: Any) -> bytes:
    """The file with that state in place of its own, and right checksums."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        tensor_members.write_tree(archive, name, value)
    return packed({**unpacked(content), **unpacked(buffer.getvalue())})


def torch_saved(value: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def in_format_2(content: bytes) -> bytes:
    """The file as commit 885ce09 wrote it."""
    members = unpacked(content)
    if "training.json" in members:
        members["training.tensors"] = torch_saved(state_of(content, "training"))
    settings = json.loads(members["palaestra.json"]) | {"format": 2}
    kept = {name: part for name, part in members.items() if not name.endswith((".json", ".safetensors"))}
    return packed({**kept, "palaestra.json": json.dumps(settings).encode()})


def packed(members: Members, sealed: bool = True) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            if not (sealed and name == SUMS):
                archive.writestr(name, content)
    if sealed:
        seal(buffer)
    return buffer.getvalue()


# ------------------------------------------------------------------------------------------- mutations


def flip_bits(rng: random.Random, content: bytes) -> bytes:
    changed = bytearray(content)
    for _ in range(rng.randint(1, 8)):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def truncate(rng: random.Random, content: bytes) -> bytes:
    return content[: rng.randrange(len(content))]


def splice(rng: random.Random, content: bytes) -> bytes:
    """A piece of this or the other file over, or between, the bytes here."""
    source = original(rng.choice(list(AGENTS)))
    start, length = rng.randrange(len(source)), rng.choice([1, 4, 30, 1000, 20_000])
    at = rng.randrange(len(content))
    after = at + (length if rng.random() < 0.5 else 0)
    return content[:at] + source[start : start + length] + content[after:]


def damage_directory(rng: random.Random, content: bytes) -> bytes:
    """Near the end of a zip are the names, sizes and places of its members."""
    changed = bytearray(content)
    for _ in range(rng.randint(1, 3)):
        at = len(changed) - rng.randint(1, 800)
        patch = rng.choice(
            [b"\xff" * 4, b"\x00" * 4, b"\xff\xff\xff\x7f", b"PK\x05\x06", b"PK\x01\x02", rng.randbytes(3)]
        )
        changed[at : at + len(patch)] = patch
    return bytes(changed[: len(content)])


def swap_members(rng: random.Random, content: bytes) -> bytes:
    """Members exchanged, left out, twice, renamed, or those of the other agent."""
    members = unpacked(content)
    first, second = rng.sample([name for name in members if name != SUMS], 2)
    kind = rng.randrange(5)
    if kind == 0:
        members[first], members[second] = members[second], members[first]
    elif kind == 1:
        del members[first]
    elif kind == 2:
        members[rng.choice(["../x.pth", "/etc/x", "x\\..\\y", "C:x", "actor.pth", "policy/"])] = members.pop(first)
    elif kind == 3:
        other = unpacked(original(rng.choice(list(AGENTS))))
        members[first] = other.get(first, b"")
    else:
        members[first] = rng.randbytes(rng.randrange(100))
    return packed(members, sealed=rng.random() < 0.8)


def _places(value: Any, found: list[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
    for key, item in value.items() if isinstance(value, dict) else enumerate(value):
        found.append((value, key))
        if isinstance(item, dict | list):
            _places(item, found)
    return found


def change_settings(rng: random.Random, content: bytes) -> bytes:
    """Other values in palaestra.json, with right checksums."""
    members = unpacked(content)
    settings = json.loads(members["palaestra.json"])
    for _ in range(rng.randint(1, 2)):
        where, key = rng.choice(_places(settings, []))
        if rng.random() < 0.15 and isinstance(where, dict):
            where.pop(key, None)
        else:
            where[key] = rng.choice(VALUES)
    members["palaestra.json"] = json.dumps(settings).encode()
    return packed(members)


def change_member(rng: random.Random, content: bytes) -> bytes:
    """Damaged bytes within a member, with right checksums."""
    members = unpacked(content)
    name = rng.choice([name for name in members if name != SUMS])
    if members[name]:
        members[name] = rng.choice([flip_bits, truncate, splice, damage_directory])(rng, members[name])
    return packed(members)


def _change_inner(content: bytes, name: str, ending: str, change: Callable[[bytes], bytes]) -> bytes:
    members = unpacked(content)
    inner = unpacked(members[name])
    path = next(path for path in inner if path.endswith(ending))
    inner[path] = change(inner[path])
    members[name] = packed(inner, sealed=False)
    return packed(members)


def _a_torch_file(rng: random.Random, content: bytes) -> str:
    names = [name for name in unpacked(content) if name.endswith((".pth", ".tensors")) and "variables" not in name]
    return rng.choice(names)


def change_header(rng: random.Random, content: bytes) -> bytes:
    """Other names, types, shapes and places in the header of a safetensors member, with right checksums."""
    members = unpacked(content)
    names = [name for name in members if name.endswith(".safetensors")]
    if not names:
        return change_instructions(rng, content)
    name = rng.choice(names)
    size = int.from_bytes(members[name][:8], "little")
    header, data = json.loads(members[name][8 : 8 + size]), members[name][8 + size :]
    kind = rng.randrange(4)
    if kind == 0:
        size = rng.choice([0, 1, size - 1, size + 8, 10**8, 2**40, 2**63, 2**64 - 1])
    elif kind == 1:
        where, key = rng.choice(_places(header, []))
        where[key] = rng.choice([*VALUES, *NUMBER_TYPES, [0, 4], [4, 0], [0, 2**64], [2**62, 4], [1] * 5000])
    elif kind == 2:
        first, second = (rng.choice(list(header)) for _ in range(2))
        header[first], header[second] = header[second], header[first]
    else:
        header[rng.choice(["__metadata__", "x", *header])] = header.pop(rng.choice(list(header)))
    text = json.dumps(header).encode()
    return packed({**members, name: (size if kind == 0 else len(text)).to_bytes(8, "little") + text + data})


def change_structure(rng: random.Random, content: bytes) -> bytes:
    """Other values in the JSON around tensors, with right checksums."""
    members = unpacked(content)
    names = [name for name in ("weights.json", "optimizer.json", "training.json") if name in members]
    if not names:
        return change_settings(rng, content)
    name = rng.choice(names)
    structure = json.loads(members[name])
    for _ in range(rng.randint(1, 3)):
        where, key = rng.choice(_places(structure, []))
        where[key] = rng.choice(
            [*VALUES, {"tensor": "x"}, {"tensor": []}, {"tuple": 3}, {"dict": [[[], 1]]}, {"a": 1, "b": 2}]
        )
    return packed({**members, name: json.dumps(structure).encode()})


def change_instructions(rng: random.Random, content: bytes) -> bytes:
    """Other bytes in the instructions that put tensors together, with right checksums everywhere."""
    if "training.tensors" not in unpacked(content):
        content = in_format_2(content)
    calls = [b"cos\nsystem\nX\x04\x00\x00\x00true\x85R", b"cbuiltins\nbytearray\n\x8a\x05\x00\x00\x00\x00\x40\x85R"]
    calls += [
        b"ctorch\nFloatStorage\nJ\xff\xff\xff\x7f\x85R",
        b"h\x00",
        b"(",
        b".",
        b"}",
        b"]",
        b"K\xff",
        b"0",
        b"b",
        b"2",
    ]

    def change(instructions: bytes) -> bytes:
        kind, at = rng.randrange(4), rng.randrange(len(instructions))
        if kind == 0:
            return flip_bits(rng, instructions)
        if kind == 1:
            return instructions[:at] + rng.choice(calls) + instructions[at:]
        if kind == 2:
            return instructions[:at] + instructions[at + rng.randint(1, 12) :]
        start = rng.randrange(len(instructions))
        return instructions[:at] + instructions[start : start + rng.randint(1, 60)] + instructions[at:]

    return _change_inner(content, _a_torch_file(rng, content), "data.pkl", change)


def change_values(rng: random.Random, content: bytes) -> bytes:
    """Another value somewhere in weights, optimizer or training state, saved properly."""
    torch_file = "training.tensors" in unpacked(content)
    if torch_file:
        name = _a_torch_file(rng, content)
        state = torch.load(io.BytesIO(unpacked(content)[name]), weights_only=True)
    else:
        name = rng.choice(["optimizer", "training"] if "training.json" in unpacked(content) else ["optimizer"])
        state = state_of(content, name)
    where, key = rng.choice([place for place in _places(state, []) if isinstance(place[0], dict | list)] or [({}, 0)])
    tensors = [torch.zeros(2), torch.full((3, 2), torch.nan), torch.zeros(0), torch.ones(4, dtype=torch.int64)]
    old = where.get(key) if isinstance(where, dict) else where[key]
    if isinstance(old, torch.Tensor) and old.is_floating_point() and old.numel() and rng.random() < 0.5:
        old.view(-1)[rng.randrange(old.numel())] = rng.choice([torch.nan, torch.inf, -torch.inf])
    else:
        where[key] = rng.choice([*tensors, *(v for v in VALUES if v != 2**64)])
    if torch_file:
        return packed({**unpacked(content), name: torch_saved(state)})
    return with_state(content, name, state)


NUMBER_TYPES = ("F64", "F16", "BF16", "I64", "U8", "BOOL", "C64", "F8_E4M3", "F4", "U64", "X9")
MUTATIONS = [flip_bits, truncate, splice, damage_directory, swap_members, change_settings, change_member]
MUTATIONS += [change_header, change_structure, change_instructions, change_values]

# ------------------------------------------------------------------------------------------- what comes of them

_FORBIDDEN = ("os.system", "os.exec", "os.posix_spawn", "os.fork", "subprocess.Popen", "pickle.find_class", "os.remove")
_FORBIDDEN += ("os.mkdir", "os.rename", "os.rmdir", "socket.connect", "shutil.rmtree", "ctypes.dlopen")
_watching: list[list[str]] = []


def _audit(event: str, arguments: Any) -> None:
    if _watching and event in _FORBIDDEN:
        _watching[-1].append(f"{event} {arguments}"[:300])


@cache
def _install() -> None:
    sys.addaudithook(_audit)  # for the rest of the process: hooks cannot be taken back


@contextmanager
def nothing_runs() -> Iterator[None]:
    """Fails if anything is executed, unpickled, or changed on the disk."""
    _install()
    happened: list[str] = []
    bytecode, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    _watching.append(happened)
    try:
        yield
    finally:
        _watching.pop()
        sys.dont_write_bytecode = bytecode
    assert not happened, happened


def go_on(model: Any) -> None:
    """Train from what was read: it learns, or says in one line what is not finite or which environment fails."""
    model.set_logger(Logger(None, []))  # SB3's own makes a folder
    try:
        model.learn(64, reset_num_timesteps=False)
        reason = "none"
    except (DivergedError, EnvError) as error:
        reason = str(error)
    assert reason, "an error without a reason"
    assert "\n" not in reason, reason


def outcome(agent: str, content: bytes, goes_on: bool = False) -> str:
    """Read a file, as a checkpoint if it is one of DQN: "read", or "refused" with a message of one line.

    What was read then trains on, if it ``goes_on``.
    """
    env = environment()
    start = time.perf_counter()
    with nothing_runs():
        try:
            if agent == "ppo":
                model = AGENTS[agent].load(io.BytesIO(content), env=env)
            else:
                model = AGENTS[agent].resume(io.BytesIO(content), env)
            found, reason = "read", "none"
        except CheckpointError as error:
            found, reason = "refused", str(error)
        if found == "read" and goes_on:
            go_on(model)
    assert reason, "an error without a reason"
    assert "\n" not in reason, reason
    assert time.perf_counter() - start < MAX_SECONDS
    return found


def mutated(number: int, seed: int) -> tuple[str, str, bytes]:
    """The agent, the kind of mutation and the file."""
    rng = random.Random(f"{seed} {number}")
    agent = rng.choice(list(AGENTS))
    mutation = MUTATIONS[number % len(MUTATIONS)]
    return agent, mutation.__name__, mutation(rng, original(agent))


def run(count: int, seed: int) -> dict[str, collections.Counter[str]]:
    """Outcomes by kind of mutation."""
    counts: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for agent in AGENTS:
        assert outcome(agent, original(agent)) == "read"
    for number in range(count):
        agent, kind, content = mutated(number, seed)
        try:
            goes_on = kind not in ("change_settings", "change_structure")  # settings may ask for years of training
            counts[kind][outcome(agent, content, goes_on)] += 1
        except BaseException:
            print(f"file {number} of seed {seed} ({agent}, {kind}):", file=sys.stderr)
            raise
    return counts


def main() -> int:
    parser = argparse.ArgumentParser(description="Mutated model files.")
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for agent in AGENTS:
        outcome(agent, original(agent))  # everything is imported before memory is counted
    pages = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (pages + MAX_BYTES, pages + MAX_BYTES))
    start = time.perf_counter()
    try:
        counts = run(arguments.count, arguments.seed)
    except BaseException:
        traceback.print_exc()
        return 1
    for kind, found in counts.items():
        print(f"{kind:20} refused {found['refused']:6}   read {found['read']:6}")
    total = sum(counts.values(), collections.Counter())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    print(f"{'all':20} refused {total['refused']:6}   read {total['read']:6}", end="   ")
    print(f"{time.perf_counter() - start:.0f} s, at most {peak} MiB of memory")
    return 0


if __name__ == "__main__":
    sys.exit(main())
