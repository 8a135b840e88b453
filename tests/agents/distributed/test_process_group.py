"""Several processes that train one agent: what they collect, learn and write is what one process would."""

from __future__ import annotations

import functools
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import team
import torch
from garbage import leave_imports_alone
from kills import curves, same_weights
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import KVWriter, Logger
from torch.distributed.run import get_args_parser
from torch.distributed.run import main as torchrun

import palaestra.train.__main__
from palaestra.agents import DQN, PPO, PQN, CheckpointError
from palaestra.agents.distributed.process_group import ProcessGroup, is_launched, joined, process_group
from palaestra.agents.reward_norm import merge_moments
from palaestra.envs import make
from palaestra.train.cli import main
from palaestra.train.commands.train import resume_run as resume
from palaestra.train.runs.run_folder import RunFolder

NUM_ENVS = 16
NORMAL = {"normalize_observation": True, "normalize_reward": True}
WHOLE = {"n_steps": 16, "batch_size": 16 * NUM_ENVS}  # the batch is the rollout, in which the order does not matter
REPLAY = {"learning_starts": 256, "batch_size": 64, "buffer_size": 2000, "train_freq": 4, "samples_per_insert": 2.0}
CASES: dict[str, tuple[Any, str, dict[str, Any]]] = {
    "ppo": (PPO, "cartpole", {**WHOLE, "n_epochs": 2, "ent_coef": 0.01}),
    "ppo normalised": (PPO, "reach", {**WHOLE, **NORMAL, "n_epochs": 3}),
    "ppo minibatches": (PPO, "snake-small", {"n_steps": 16, "batch_size": 64, "n_epochs": 4, "target_kl": 0.002}),
    "pqn": (PQN, "cartpole", {**WHOLE, "n_epochs": 2, "exploration_spread": 3.0, **NORMAL}),
    "dqn": (DQN, "cartpole", {**REPLAY, **NORMAL, "exploration_spread": 3.0, "weight_average": 0.05, "n_steps": 3}),
    "dqn prioritised": (DQN, "snake-small", {**REPLAY, "prioritized_replay": 0.6, "target_update_interval": 500}),
}
ROLLOUT_FIELDS = ("observations", "actions", "rewards", "dones", "values")


class _Rows(KVWriter):
    """Everything that is logged, but what the clock says."""

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, Any], step: int = 0) -> None:
        kept = {key: float(value) for key, value in key_values.items() if key not in ("time/fps", "time/time_elapsed")}
        self.rows.append({"step": float(step), **kept})

    def close(self) -> None:
        pass


class _FirstRollout(BaseCallback):
    """Keeps what the first iteration has collected, and the weights at its end."""

    def __init__(self) -> None:
        super().__init__()
        self.fields: dict[str, torch.Tensor] = {}
        self.weights: dict[str, torch.Tensor] = {}

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        if not self.fields and not isinstance(self.model, DQN):
            self.fields = {name: getattr(self.model.rollout_buffer, name).clone() for name in ROLLOUT_FIELDS}

    def _on_rollout_start(self) -> None:
        if self.fields and not self.weights:
            self.weights = _weights(self.model)


def _weights(model: Any) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.policy.state_dict().items()}


@functools.cache
def trained(case: str) -> dict[str, Any]:
    """An agent of the case after 1,024 transitions, in as many processes as are joined."""
    kind, name, kwargs = CASES[case]
    size, rank = process_group().size, process_group().rank
    count = NUM_ENVS // size
    env = make(name, count, device="cpu", seed=3, first_env_index=rank * count)
    model = kind("MlpPolicy", env, seed=1, **kwargs)
    with torch.no_grad():
        for parameter in model.policy.parameters() if rank > 0 else ():
            parameter.add_(1.0)  # those of process 0 count
    rows, first = _Rows(), _FirstRollout()
    model.set_logger(Logger(None, [rows]))
    model.learn(1024, first, log_interval=1)
    return {
        "rollout": first.fields,
        "first": first.weights,
        "last": _weights(model),
        "rows": rows.rows,
        "counts": [model.num_timesteps, model._n_updates, model._episode_num],
        "scale": [] if model._reward_scale is None else model._reward_scale.state(),
    }


def all_trained() -> dict[str, dict[str, Any]]:
    return {case: trained(case) for case in CASES}


@pytest.fixture(scope="module")
def pair() -> list[dict[str, dict[str, Any]]]:
    """What each of two processes has of every case."""
    return team.results(2, all_trained)


@pytest.mark.parametrize("case", ["ppo", "ppo normalised", "pqn"])
def test_two_processes_do_what_one_does(case: str, pair: Any) -> None:
    """The same episodes to the bit; the same update and the same curves within rounding."""
    alone, both = trained(case), [part[case] for part in pair]
    for name in ROLLOUT_FIELDS:
        joint = torch.cat([part["rollout"][name] for part in both], 1)
        if name in ("actions", "dones") or "normalize_reward" not in CASES[case][2]:
            assert torch.equal(joint, alone["rollout"][name]), name
        torch.testing.assert_close(joint, alone["rollout"][name], rtol=1e-5, atol=1e-6)
    for name, value in alone["first"].items():
        torch.testing.assert_close(both[0]["first"][name], value, rtol=1e-4, atol=2e-6, msg=name)
    assert both[0]["counts"] == alone["counts"]
    assert both[0]["scale"] == pytest.approx(alone["scale"], rel=1e-6)
    assert len(both[0]["rows"]) == len(alone["rows"]) > 0
    for ours, theirs in zip(both[0]["rows"], alone["rows"], strict=True):
        assert ours == pytest.approx(theirs, rel=2e-3, abs=2e-4)


@pytest.mark.parametrize("case", CASES)
def test_all_processes_have_the_same_agent_and_statistics(case: str, pair: Any) -> None:
    one, other = (part[case] for part in pair)
    assert all(torch.equal(value, other["last"][name]) for name, value in one["last"].items())
    assert [str(row) for row in one["rows"]] == [str(row) for row in other["rows"]]  # NaN too
    assert (one["counts"], one["scale"]) == (other["counts"], other["scale"])
    if one["rollout"]:
        assert not torch.equal(one["rollout"]["observations"], other["rollout"]["observations"])
    if "target_kl" not in CASES[case][2]:
        assert one["counts"][:2] == trained(case)["counts"][:2]  # steps and updates of one process


def averages() -> dict[str, Any]:
    rank = process_group().rank
    plain, weighted = (torch.tensor([1.0 + rank, 2.0 + rank, 10.0 * rank]) for _ in range(2))
    process_group().average(plain)
    process_group().average(weighted, torch.tensor(1 + 2 * rank))
    values = torch.arange(6.0) ** 2
    own = values[3 * rank : 3 * rank + 3]
    moments = tuple(torch.tensor(number, dtype=torch.float64) for number in (5.0, 2.0, 7.0))
    return {
        "plain": plain,
        "weighted": weighted,
        "mean and std": list(process_group().mean_and_std(own)),
        "variance": process_group().variance(own),
        "moments": list(merge_moments(moments, own.double())),  # type: ignore[arg-type]
        "lowest": process_group().lowest(torch.tensor([rank, -rank])),
        "texts": process_group().all_gather_text("größer" if rank else ""),
        "same": process_group().broadcast_int(7 + rank),
    }


def test_the_numbers_that_processes_share() -> None:
    values = torch.arange(6.0) ** 2
    for found in team.results(2, averages):
        assert found["plain"].tolist() == [1.5, 2.5, 5.0]
        assert found["weighted"].tolist() == [1.75, 2.75, 7.5]
        torch.testing.assert_close(torch.stack(found["mean and std"]), torch.stack((values.mean(), values.std())))
        torch.testing.assert_close(found["variance"], values.var())
        moments = tuple(torch.tensor(number, dtype=torch.float64) for number in (5.0, 2.0, 7.0))
        torch.testing.assert_close(found["moments"], list(merge_moments(moments, values.double())))  # type: ignore[arg-type]
        assert (found["lowest"].tolist(), found["texts"], found["same"]) == ([0, -1], ["", "größer"], 7)


def test_a_process_alone_asks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.distributed.init_process_group", lambda *args, **kwargs: pytest.fail("not alone"))
    values = torch.ones(3)
    with joined() as alone:
        assert type(alone) is ProcessGroup
        assert not is_launched({"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "a", "MASTER_PORT": "1"})
        assert alone.sum(values) is values
        assert alone.gather(values) == [(values,)]
        alone.average(values)
        assert values.tolist() == [1.0, 1.0, 1.0]


def test_other_peoples_environments_are_shared_too() -> None:
    whole, part = make("CartPole-v1", 4, "cpu", seed=2), make("CartPole-v1", 2, "cpu", seed=2, first_env_index=2)
    obs, _ = whole.reset()
    assert torch.equal(part.reset()[0], obs[2:])
    assert part.env_indices.tolist() == [2, 3]
    for step in range(60):
        action = torch.tensor([step % 2, 1, step % 3 % 2, 0])
        ours, theirs = part.step(action[2:]), whole.step(action)
        assert torch.equal(ours[0], theirs[0][2:])
    whole.close()
    part.close()


# ---------------------------------------------------------------------------------------------------- runs

WALK = '''
import os
from dataclasses import dataclass
import torch
from gymnasium.spaces import Box, Discrete
from palaestra.envs import TensorEnv

@dataclass(frozen=True)
class WalkState:
    place: torch.Tensor

class Walk(TensorEnv[WalkState]):
    """Stay near 0 in the wind."""
    max_episode_steps = 20
    observation_space, action_space = Box(-100.0, 100.0, (1,)), Discrete(2)
    steps = 0

    def reset(self, rng):
        return WalkState(rng.uniform(-1.0, 1.0))

    def step(self, state, action, rng):
        place = state.place + 0.2 * action - 0.1 + 0.1 * rng.normal()
        return WalkState(place), -place.abs(), place.abs() > 2.0

    def observe(self, state):
        return state.place.unsqueeze(-1)

class Broken(Walk):
    """Does not work in the second process."""
    def step(self, state, action, rng):
        self.steps += 1
        state, reward, terminated = super().step(state, action, rng)
        if os.environ.get("RANK") == "1" and self.steps > 30:
            reward = torch.where(torch.arange(len(reward)) == 3, torch.nan, reward)
        return state, reward, terminated
'''
SIZES = ["--num-envs", "32", "--seed", "1", "--checkpoint-every", "1024", "--track", "disabled", "--no-report"]
SETTINGS = [part for setting in ("n_steps=16", "batch_size=128", "n_epochs=2") for part in ("--set", setting)]


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("envs") / "walk.py"
    file.write_text(WALK)
    return f"{file}:Walk"


def arguments(walk: str, run: Path, *more: str, steps: int = 16 * 32 * 30) -> list[str]:
    return ["train", walk, *SIZES, *SETTINGS, "--total-timesteps", str(steps), "--run-dir", str(run), *more]


@pytest.fixture(scope="module")
def undisturbed(walk: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    codes, output = team.command(2, arguments(walk, folder / "run"), folder, evaluations=None)
    assert codes == [0, 0], output
    assert "32 environments in 2 processes" in (folder / "0.log").read_text()
    assert (folder / "1.log").read_text() == ""  # only the first one talks
    return folder / "run"


def stopped(walk: str, folder: Path, number: int = signal.SIGTERM) -> Path:
    """A run of two processes that a signal to both has ended after their second checkpoint."""
    processes = team.start_command(2, arguments(walk, folder / "run"), folder, evaluations=None)
    deadline = time.monotonic() + 30
    while len(RunFolder(folder / "run").checkpoints()) < 2 and time.monotonic() < deadline:
        time.sleep(0.002)
    for process in processes:
        process.send_signal(number)
    assert [process.wait() for process in processes] == [130, 130], team.said(2, folder)
    assert "go on with" in (folder / "0.log").read_text()
    return folder / "run"


def test_a_signal_saves_and_the_run_goes_on_exactly(walk: str, undisturbed: Path, tmp_path: Path) -> None:
    """Even where the newest share of one process is damaged; and with another number of processes not at all."""
    run = stopped(walk, tmp_path)
    newest, before = RunFolder(run).checkpoints()
    assert int(newest.stem) == int(curves(run)[-1]["global_step"])
    assert {path.name for path in (run / "checkpoints").iterdir()} == {
        f"{path.stem}{ending}" for path in (newest, before) for ending in (".zip", ".rank1of2")
    }
    with pytest.raises(CheckpointError, match="written by 2 processes, and 1 cannot go on"):
        resume(str(run), "disabled")
    codes, output = team.command(3, ["train", "--resume", str(run)], tmp_path / "three")
    assert 0 not in codes
    assert output.count("palaestra: error") == 1
    assert "32: 3 processes cannot share them equally" in output
    share = newest.with_suffix(".rank1of2")
    share.write_bytes(share.read_bytes()[:-100])
    again = ["train", "--resume", str(run), "--track", "disabled"]
    codes, output = team.command(2, again, tmp_path / "again", evaluations=None)
    assert codes == [0, 0], output
    assert f"{newest.name} is not used" in output
    assert same_weights(run, undisturbed)
    assert curves(run) == curves(undisturbed)
    assert not (run / "checkpoints").exists()


def torchrun_that_forks(log: Path, words: list[str]) -> None:
    """``torchrun WORDS``, but that its processes are forks of this one, which has imported everything."""
    leave_imports_alone()
    torch.set_num_threads(1)
    written = os.open(log, os.O_WRONLY | os.O_CREAT)
    for number in (1, 2):
        os.dup2(written, number)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1, closefd=False) for number in (1, 2))
    torchrun(["--start-method=fork", "--run-path", *words])


def test_a_killed_process_is_started_anew_and_nothing_is_lost(walk: str, undisturbed: Path, tmp_path: Path) -> None:
    """The processes of the next test, and those of two hosts, are new ones."""
    run, log = tmp_path / "run", tmp_path / "log"
    program = ["--nproc-per-node=2", "--max-restarts=1", palaestra.train.__main__.__file__]
    (launcher,) = team.start_functions(torchrun_that_forks, (log, [*program, *arguments(walk, run)]))
    deadline = time.monotonic() + 60
    while len(RunFolder(run).checkpoints()) < 2 and time.monotonic() < deadline:
        time.sleep(0.002)
    os.kill(_children(launcher.pid)[1], signal.SIGKILL)
    assert team.wait([launcher]) == [0], log.read_text()
    assert log.read_text().count("32 environments in 2 processes") == 2
    assert same_weights(run, undisturbed)
    assert curves(run)[:-1] == curves(undisturbed)[:-1]  # the last has a final evaluation of more episodes


def test_a_refusal_is_not_undone_by_a_restart(walk: str, undisturbed: Path, tmp_path: Path) -> None:
    """A finished run of the same configuration is there; a process that is started anew may not take it for its own."""
    run = Path(shutil.copytree(undisturbed, tmp_path / "run"))
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    program = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=1", "--max-restarts=1"]
    done = subprocess.run(
        [*program, "-m", "palaestra.train", *arguments(walk, run)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode != 0
    assert done.stderr.count("palaestra: error: run folder") == 2, done.stderr
    assert done.stderr.count("exists already; a run is never overwritten") == 2
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def _children(pid: int) -> list[int]:
    return sorted(int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split())


def test_what_breaks_in_one_process_ends_all_with_one_message(walk: str, tmp_path: Path) -> None:
    broken = walk.replace("Walk", "Broken")
    codes, output = team.command(2, arguments(broken, tmp_path / "run"), tmp_path)
    assert codes == [1, 1], output
    assert output.count("palaestra: error") == 1
    assert "Traceback" not in output
    assert "reward is not finite in environment 19 at step 30" in output


def test_unequal_shares_are_refused_once(walk: str, tmp_path: Path) -> None:
    for setting, message in (
        (["--num-envs", "31", "--set", "batch_size=31"], "num_envs=31: 2 processes cannot share them equally"),
        (["--set", "batch_size=1", "--set", "normalize_advantage=false"], "batch_size"),
    ):
        codes, output = team.command(2, arguments(walk, tmp_path / "run", *setting), tmp_path / message[:8])
        assert 0 not in codes
        assert output.count("palaestra: error") == 1
        assert message in output
    assert not (tmp_path / "run").exists()


def test_a_dry_run_is_checked_as_a_run_and_printed_once(walk: str, tmp_path: Path) -> None:
    refused = ["--num-envs", "31", "--set", "batch_size=31", "--dry-run"]
    codes, output = team.command(2, arguments(walk, tmp_path / "run", *refused), tmp_path / "refused")
    assert 0 not in codes
    assert "num_envs=31: 2 processes cannot share them equally" in output
    codes, output = team.command(2, arguments(walk, tmp_path / "run", "--dry-run"), tmp_path / "printed")
    assert codes == [0, 0], output
    assert output.count("total_timesteps:") == 1
    assert not (tmp_path / "run").exists()


def test_the_commands_in_the_readme(tmp_path: Path) -> None:
    """As torchrun would carry them out, those for two machines on this one, with fewer steps."""
    text = (Path(__file__).parents[3] / "train/README.md").read_text(encoding="utf-8")
    lines = re.findall(r"^torchrun .*$", text, re.MULTILINE)
    assert len(lines) == 4
    fewer = ["--num-envs", "32", "--total-timesteps", "1024", "--set", "n_steps=16", "--set", "batch_size=256"]
    fewer += ["--set", "env.max_episode_steps=20"]
    for number, line in enumerate(lines):
        options = get_args_parser().parse_args(shlex.split(re.sub(r"(runs|/shared)/", f"{tmp_path}/", line))[1:])
        assert options.module
        assert options.training_script == "palaestra.train"
        more = [] if "--resume" in options.training_script_args else [*fewer, "--track", "disabled"]
        size = int(options.nnodes.partition(":")[0]) * int(options.nproc_per_node)
        codes, output = team.command(size, [*options.training_script_args, *more], tmp_path / str(number))
        assert codes == [0] * size, output
        assert ("is finished" if "--resume" in line else f"in {size} processes") in output


def test_restarts_need_a_named_folder(walk: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHELASTIC_MAX_RESTARTS", "3")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["palaestra", "train", walk, "--total-timesteps", "512"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert not (tmp_path / "runs").exists()
