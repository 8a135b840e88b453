"""Configuration files and command lines of all kinds: accepted, or refused in one clear line with exit status 2.

    python tests/stress/fuzz_commands.py --count 10000 [--seed 0]

tries so many configuration files and as many command lines, made by hypothesis: whole ones with other values in them,
broken YAML, options with values of every kind. Whatever is refused must say why in one line and leave no file behind;
with settings that are accepted the agent must be built without an error. What would train, play or measure after that
does not. Prints how many had which exit status, and the smallest example of a failure.
tests/train/commands/test_command_fuzz.py runs a short version.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import io
import os
import re
import shutil
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import yaml
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from palaestra.envs import make
from palaestra.envs.core.errors import is_out_of_memory
from palaestra.train import cli
from palaestra.train.bench import throughput
from palaestra.train.bench.overview import all_figures
from palaestra.train.config import AGENTS
from palaestra.train.config.run_config import RunConfig, build_arguments, resolve_config
from palaestra.train.config.schema import options_of
from palaestra.train.evaluation import episodes
from palaestra.train.recording import show
from palaestra.train.results import grid
from palaestra.train.runs import trainer
from palaestra.train.runs.run_folder import RunFolder
from palaestra.train.sweep import search

LINE = re.compile(r"palaestra: error: [^\n]+\n")
MOST_BUILT = 64  # environments with which accepted settings are tried

# ------------------------------------------------------------------------------------------- configuration files

NAMES = st.sampled_from(
    ["snake-small", "cartpole", "reach", "pricing-easy", "CartPole-v1", "snke", "", "x:y", "no.py:C"]
)
NUMBERS = st.sampled_from([0, -1, 1, 2, 3, 7, 64, 10**9, 10**12, -(2**63), 2**64, 10**400, 0.5, 1e308, -0.0, 1e-300])
PLAIN = st.one_of(
    NUMBERS,
    st.sampled_from([float("nan"), float("inf"), True, False, None, "", "x", "1e-3", "linear(1, 0)", "linear(x, 1)"]),
    st.sampled_from(
        ["MlpPolicy", "ReLU", "torch.nn:ReLU", "auto", "cuda:9", "1m", "5", "../../x", "é\u0000", "é" * 500]
    ),
    st.text(max_size=8),
    st.dates(),
    st.binary(max_size=4),
)
VALUES = st.recursive(
    PLAIN,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=4,
)
POLICY_KEYS = [
    "net_arch",
    "activation_fn",
    "ortho_init",
    "optimizer_class",
    "optimizer_kwargs",
    "features_extractor_class",
]
POLICY_KEYS += ["features_extractor_kwargs", "log_std_init", "normalize_images", "net_arc", "squash_output"]


def bases() -> dict[str, dict[str, Any]]:
    """Whole configurations, one of each agent."""
    small = {"num_envs": 8, "total_timesteps": 4096}
    of_agent = {
        "ppo": ["n_steps=16", "batch_size=64"],
        "dqn": ["buffer_size=1000", "learning_starts=64"],
        "pqn": ["n_steps=16", "batch_size=64"],
        "sac": ["buffer_size=1000", "learning_starts=64"],
        "td3": ["buffer_size=1000", "learning_starts=64"],
        "bc": ["n_steps=16", "batch_size=64"],
        "recurrent-ppo": ["n_steps=16", "batch_size=64", "sequence_length=16"],
    }
    chosen = {"ppo": "reach", "dqn": "snake-small", "pqn": "cartpole", "sac": "reach", "td3": "reach"}
    chosen |= {"bc": "pricing", "recurrent-ppo": "cartpole"}
    return {
        agent: resolve_config(chosen[agent], agent, settings=of_agent[agent], **small).as_dict() for agent in AGENTS
    }


BASES = bases()


@st.composite
def configurations(draw: st.DrawFn) -> bytes:
    """A configuration file: a good one with a few changes, or any text."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=60) | st.text(max_size=60).map(lambda text: text.encode()))
    agent = draw(st.sampled_from(sorted(BASES)))
    data = yaml.safe_load(yaml.safe_dump(BASES[agent]))
    for _ in range(draw(st.integers(0, 3))):
        place = draw(st.sampled_from(["top", "agent", "policy", "env"]))
        inner = data.get("agent_kwargs")
        if place == "top":
            where, keys = data, [*data, "sed", "agent_kwarg"]
        elif place == "env":
            where, keys = data.get("env_kwargs"), ["size", "max_episode_steps", "action_delay", "frame_stack", "x"]
        elif place == "policy" and isinstance(inner, dict):
            where, keys = inner.setdefault("policy_kwargs", {}), POLICY_KEYS
        else:
            where, keys = inner, [*options_of(AGENTS[agent]), "learning_rat", "env"]
        if isinstance(where, dict):
            key = draw(st.sampled_from(sorted(keys, key=str)) | st.text(max_size=5))
            if draw(st.integers(0, 5)) == 0:
                where.pop(key, None)
            else:
                where[key] = draw(NAMES if key == "env" else VALUES)
    content: bytes = yaml.safe_dump(data, allow_unicode=draw(st.booleans())).encode("utf-8", "surrogatepass")
    if draw(st.integers(0, 4)) == 0 and content:
        at = draw(st.integers(0, len(content) - 1))
        content = content[:at] + draw(st.binary(max_size=3)) + content[at + draw(st.integers(0, 3)) :]
    return content


# ------------------------------------------------------------------------------------------- command lines

WORDS = st.sampled_from(
    ["0", "-1", "1", "64", "1e3", "nan", "", "x", "-", "--", "99999999999999999999", "é", "a b", "1m"]
)
RUNS = st.sampled_from(
    ["good", "bad.zip", "good/model.zip", "good/config.yaml", "latest", "random", "expert", "nowhere", "."]
)
SETTING = st.builds(
    "{}={}".format,
    st.sampled_from(
        [
            *options_of(AGENTS["ppo"]),
            *options_of(AGENTS["dqn"]),
            "env.size",
            "env.x",
            "policy_kwargs.net_arch",
            "learning_rat",
            "",
        ]
    ),
    st.sampled_from(
        ["0", "-1", "1e-3", "7", "[64]", "[-1]", "{a: 1}", "null", "true", "linear(1,0)", "[", "x", "1e400"]
    ),
)
FILES = st.sampled_from(["good/config.yaml", "bad.zip", "nowhere.yaml", ".", "good"])
OUT = st.sampled_from(["x.mp4", "x.png", "x.txt", "good", "", "no/such/x.gif", "bad.zip/x.png"])
OPTIONS: dict[str, dict[str, Any]] = {  # what takes a value; None for flags
    "train": {
        **dict.fromkeys(
            ["--total-timesteps", "--num-envs", "--seed", "--checkpoint-every", "--device", "--track"], WORDS
        ),
        **{"--agent": st.sampled_from([*AGENTS, "pp", ""]), "--set": SETTING, "--config": FILES, "--init-from": RUNS},
        **{
            "--run-dir": st.sampled_from(["new", "good", "bad.zip/x", "a b/é"]),
            "--resume": RUNS,
            "--deterministic": None,
            "--precision": st.sampled_from(["float32", "tf32", "bf16", "", "0"]),
        },
    },
    "evaluate": {
        "--env": NAMES,
        "--episodes": WORDS,
        "--seed": WORDS,
        "--stochastic": None,
        "--json": None,
        "--set": SETTING,
    },
    "watch": {
        **{
            "--env": NAMES,
            "--record": OUT,
            "--grid": st.sampled_from(["1x1", "0x1", "x", "4x4", "99x99"]),
            "--training": None,
        },
        **dict.fromkeys(["--episodes", "--seed", "--env-index", "--episode"], WORDS),
        **{"--stochastic": None, "--set": SETTING},
    },
    "envs": {"--json": None},
    "results": {**dict.fromkeys(["--seeds", "--jobs", "--agents"], WORDS), "--readme": FILES, "--fresh": None},
    "sweep": {
        **dict.fromkeys(["--trials", "--total-timesteps", "--num-envs", "--jobs", "--seed", "--vary"], WORDS | SETTING),
        **{"--agent": st.sampled_from([*AGENTS, "x"]), "--set": SETTING},
    },
    "bench": {"--repeats": WORDS, "--seconds": WORDS, "--readme": FILES, "--json": None},
    "new": {"--template": st.sampled_from(["minimal", "gird"]), "--dir": st.sampled_from(["nowhere", "bad.zip"])},
    "fit-demand": {
        **{"--out": OUT, "--buyers": WORDS, "--product": WORDS, "--instrument": WORDS, "--all": None, "--json": None},
        **{
            "--gaps": st.sampled_from(["zero", "unknown", "none"]),
            "--curve": st.sampled_from(["logit", "linear", "x"]),
        },
    },
    "play": {"--versus": RUNS, "--seed": WORDS, "--set": SETTING},
    "prices": {**dict.fromkeys(["--stock", "--day"], WORDS), "--out": OUT, "--env": NAMES, "--set": SETTING},
}
_SUBJECTS = {"evaluate": RUNS, "watch": RUNS, "prices": RUNS | st.just("optimal"), "fit-demand": FILES, "new": WORDS}


@st.composite
def command_lines(draw: st.DrawFn) -> list[str]:
    """A command with options that exist, most of them, and values of all kinds."""
    command = draw(st.sampled_from(sorted(OPTIONS)))
    words = [command if draw(st.integers(0, 19)) else draw(st.sampled_from(["trian", "", "-x", "--version"]))]
    if draw(st.integers(0, 9)):
        words.append(draw(_SUBJECTS.get(command, NAMES)))
    for _ in range(draw(st.integers(0, 4))):
        option = draw(st.sampled_from(sorted(OPTIONS[command])))
        value = OPTIONS[command][option]
        words.append(option if draw(st.integers(0, 14)) else option[:-1])
        if value is not None and draw(st.integers(0, 14)):
            words.append(draw(value))
    return words


# ------------------------------------------------------------------------------------------- what comes of them


class Accepted(SystemExit):
    """The words were accepted; a plain SystemExit would be an environment's."""


def build(config: RunConfig, folder: RunFolder, *args: Any, **kwargs: Any) -> Any:
    """In place of training: make the environments and the agent, if there are few."""
    shutil.rmtree(folder.path if folder.path.name != "good" else "none", ignore_errors=True)
    if config.num_envs <= MOST_BUILT:
        env = make(config.env, config.num_envs, config.device, config.seed, **config.env_kwargs)
        try:
            AGENTS[config.agent](env=env, seed=config.seed, **build_arguments(config))
        except Exception as error:
            if not is_out_of_memory(error):
                raise
        finally:
            env.close()
    raise Accepted(0)


def stop(*args: Any, **kwargs: Any) -> Any:
    """In place of what would play or measure."""
    raise Accepted(0)


@contextlib.contextmanager
def workplace() -> Iterator[None]:
    """A folder with a finished run, ``good``, and a damaged file; nothing is trained, played or measured."""
    before = os.getcwd()
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        stack.callback(os.chdir, before)
        os.chdir(folder)
        small = resolve_config(
            "cartpole", "ppo", settings=["n_steps=16", "batch_size=64"], num_envs=8, total_timesteps=512
        )
        Path("good").mkdir()
        Path("good/config.yaml").write_text(yaml.safe_dump(small.as_dict()))
        AGENTS["ppo"](env=make("cartpole", 8, "cpu"), seed=0, **build_arguments(small)).save("good/model.zip")
        Path("bad.zip").write_bytes(b"PK\x03\x04 no model")
        for module, name in (
            (show, "watch"),
            (episodes, "evaluate"),
            (throughput, "measure"),
            (all_figures, "measure_overview"),
            (grid, "run_grid"),
            (search, "sweep"),
        ):
            stack.enter_context(mock.patch.object(module, name, stop))
        stack.enter_context(mock.patch.object(trainer, "train", build))
        stack.enter_context(mock.patch("palaestra.train.play.game.play", stop))
        yield


def files() -> list[str]:
    return sorted(str(path) for path in Path().rglob("*"))


def outcome(words: list[str]) -> str:
    """The exit status of a command line, in the :func:`workplace`; fails where it is not refused in a proper way."""
    before, out, err = files(), io.StringIO(), io.StringIO()
    path = list(sys.path)
    try:
        with mock.patch.object(sys, "argv", ["palaestra", *words]), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                cli.main()
        raise AssertionError("the command came back")
    except SystemExit as exit_:
        status = exit_.code or 0
    finally:
        sys.path[:] = path
    text = err.getvalue()
    assert status in (0, 1, 2), (words, status, text)
    assert "Traceback" not in text, (words, text)
    if status:
        assert status == 2, (words, text)
        assert LINE.fullmatch(text), (words, text)
        assert files() == before, (words, {*files()} - {*before})
    return f"exit {status}"


Counts = dict[str, collections.Counter[str]]


def checks(counts: Counts) -> dict[str, Callable[..., None]]:
    """The two properties, which count what they find."""

    @given(configurations())
    def files_of_settings(content: bytes) -> None:
        Path("c.yaml").write_bytes(content)
        counts["configuration files"][outcome(["train", "--config", "c.yaml", "--run-dir", "new"])] += 1

    @given(command_lines())
    def lines(words: list[str]) -> None:
        counts["command lines"][outcome(words)] += 1

    return {"configuration files": files_of_settings, "command lines": lines}


def fuzz(count: int, number: int) -> Counts:
    """So many of either kind; raises what the first failure raises, with its smallest example."""
    counts: Counts = collections.defaultdict(collections.Counter)
    few = settings(max_examples=count, database=None, deadline=None, suppress_health_check=list(HealthCheck))
    with workplace():
        for check in checks(counts).values():
            seed(number)(few(check))()
    return counts


def main() -> int:
    parser = argparse.ArgumentParser(description="Configuration files and command lines of all kinds.")
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    start = time.perf_counter()
    for kind, found in fuzz(arguments.count, arguments.seed).items():
        print(f"{kind:20} " + "   ".join(f"{status} {count:6}" for status, count in sorted(found.items())))
    print(f"{time.perf_counter() - start:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
