"""What environments of other people print: kept in a file, lines that repeat once, and nothing of it on the screen."""

from __future__ import annotations

import gc
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from palaestra.envs.core import user_code
from palaestra.envs.specs import GymnasiumSpec
from palaestra.train import cli, env_output
from palaestra.train.env_output import EnvOutput
from palaestra.train.interruptions import Shown

NOISY = """
import atexit, ctypes, os, subprocess, sys
import gymnasium, numpy as np
print("imported")
c = ctypes.CDLL(None)
atexit.register(lambda: (print("at exit"), os.write(2, b"natively at exit\\n")))

class Noisy(gymnasium.Env):
    observation_space, action_space = gymnasium.spaces.Box(-1, 1, (2,)), gymnasium.spaces.Discrete(2)

    def __init__(self, fail=0):
        self.fail = fail
        print("made"); print("made too", file=sys.stderr)
        print("\\x1b[33mcareful\\x1b[0m", file=sys.stderr)
        subprocess.run(["echo", "a child"])

    def reset(self, *, seed=None, options=None):
        self.t = 0
        return np.zeros(2, np.float32), {}

    def step(self, action):
        self.t += 1
        print("step", self.t); c.printf(b"in C\\n"); os.write(2, b"\\x1b[31mred\\x1b[0m line\\n")
        assert self.t != self.fail
        return np.zeros(2, np.float32), 1.0, self.t >= 2, False, {}

    def close(self):
        print("closed")
"""
POLE = """
import os
os.write(1, b"imported\\n")
from palaestra.envs.cartpole import CartPole as Base

class Pole(Base):
    def reset(self, rng):
        print("reset")
        return super().reset(rng)
"""
LINES = ["imported", "made", "careful", "made too", "a child", "step 1", "step 2", "in C", "red line", "closed"]
TRAIN = "train noisy.py:Noisy --num-envs 2 --total-timesteps 64 --set n_steps=32 --set batch_size=32 --track disabled"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "noisy.py").write_text(NOISY)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(GymnasiumSpec, "evaluation_episodes", 3)
    monkeypatch.setattr(GymnasiumSpec, "validation_episodes", 3)
    return tmp_path


def status(monkeypatch: pytest.MonkeyPatch, words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["palaestra", *words.split()])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return int(end.value.code or 0)


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_a_run_keeps_it_in_its_folder(
    here: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], mode: str
) -> None:
    assert status(monkeypatch, f"{TRAIN} --run-dir run --set env.vectorization_mode={mode}") == 0
    captured = capfd.readouterr()
    assert captured.out.startswith("what Noisy prints goes to run/env.log (-v: to the screen)\n")
    assert captured.err == ""
    assert set(captured.out.splitlines()).isdisjoint(LINES)
    kept = (here / "run/env.log").read_text().splitlines()
    assert [line for line in kept if line in LINES] == sorted({*LINES} & {*kept}, key=kept.index)
    assert {*LINES} <= {*kept}
    assert isinstance(user_code.printing, user_code.Printing)
    print("the screen is as it was")
    os.write(1, b"natively too\n")
    assert capfd.readouterr().out == "the screen is as it was\nnatively too\n"


def test_an_error_leads_to_it(here: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    assert status(monkeypatch, f"{TRAIN} --run-dir run --set env.fail=2") == 1
    assert "What the environment printed is in run/env.log." in capfd.readouterr().err
    assert "step 2" in (here / "run/env.log").read_text()


def test_other_commands_count_the_lines_and_show_them_with_v(
    here: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    words = "evaluate random --env noisy.py:Noisy --episodes 3"
    assert status(monkeypatch, words) == 0
    captured = capfd.readouterr()
    assert captured.err == "palaestra: the environment printed 10 lines, which -v shows\n"
    assert "made" not in captured.out
    assert status(monkeypatch, f"{words} -q") == 0
    assert capfd.readouterr() == (captured.out, "")
    assert status(monkeypatch, f"{words} -v") == 0
    shown = capfd.readouterr()
    assert {"made", "a child", "in C", "closed"} <= {*shown.out.splitlines()}
    assert "which -v shows" not in shown.err
    assert status(monkeypatch, f"{words} -v -q") == 2


def test_environments_in_tensors_print_as_they_do(
    here: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """What the import printed is shown before the rest, and there is no log."""
    (here / "pole.py").write_text(POLE)
    assert status(monkeypatch, "evaluate random --env pole.py:Pole --episodes 3") == 0
    captured = capfd.readouterr()
    assert captured.out.startswith("imported\nreset\n")
    assert captured.err == ""


def test_quiet_training_prints_the_result(
    here: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert status(monkeypatch, f"{TRAIN} --run-dir run -q") == 0
    captured = capfd.readouterr()
    assert captured.out.startswith("trained: mean return 2.00 after ")
    assert captured.out.endswith("; run folder: run\n")
    assert (captured.out.count("\n"), captured.err) == (1, "")


def test_lines_come_once_while_a_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file stays as small as what is different in it, also after a resumption."""
    monkeypatch.setattr(env_output, "TIDY", 1 << 10)
    monkeypatch.setattr(Shown, "environments", False)
    log = tmp_path / "env.log"
    for start in (0, 1):
        env_output.arm()
        user_code.printing.keep_in(log)
        for entry in range(1024 * start, 1024 * start + 2048):
            with user_code.printing:
                print("10 %\r90 %\rnoise", flush=True)
                os.write(1, b"x" * 99 + b"\n")
                print(f"entry {entry // 1024}")
        assert log.stat().st_size < 512 * 120
        env_output.disarm()
    assert log.read_text().splitlines() == ["noise", "x" * 99, "entry 0", "entry 1", "entry 2"]


def test_a_full_disk_stops_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "env.log").symlink_to("/dev/full")
    monkeypatch.setattr(Shown, "environments", False)
    env_output.arm()
    user_code.printing.keep_in(tmp_path / "env.log")
    with user_code.printing:
        print("lost")
    print("shown")
    env_output.disarm()
    assert capfd.readouterr() == ("shown\n", "")


def test_nothing_is_touched_before_somebody_prints() -> None:
    output = EnvOutput()
    before = os.fstat(1), os.fstat(2), sys.stdout, sys.stderr
    output.keep_in(Path("none/env.log"))
    assert output.end() == 0
    assert (os.fstat(1), os.fstat(2), sys.stdout, sys.stderr) == before


@pytest.mark.parametrize("closed", ["", " >&-"])
def test_a_process_keeps_its_end_off_the_screen_too(here: Path, closed: str) -> None:
    command = f"{sys.executable} -m palaestra.train evaluate random --env noisy.py:Noisy --episodes 3{closed}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.stdout.startswith("" if closed else "random scores 2.000 an episode on ")
    assert re.fullmatch(r"palaestra: the environment printed \d+ lines, which -v shows\n", done.stderr)
    assert "exit" not in done.stdout


LAZY = """
    body = "<worldbody><body><freejoint/><geom size='1'/></body></worldbody>"
    data = mujoco.MjData(model := mujoco.MjModel.from_xml_string(f"<mujoco>{body}</mujoco>"))
    data.qpos[0] = float("nan")
    mujoco.mj_checkPos(model, data)
"""


@pytest.mark.parametrize("imported", ["before", "within"])
def test_mujoco_leaves_no_log(tmp_path: Path, imported: str) -> None:
    """Neither one that was imported before nor one whose import and first message come in the same block."""
    pytest.importorskip("mujoco")
    within = "    import mujoco" if imported == "within" else ""
    code = f"""
from pathlib import Path
from palaestra.envs.core import user_code
from palaestra.train import env_output
from palaestra.train.interruptions import Shown
{"" if within else "import mujoco"}
Shown.environments = False
env_output.arm()
user_code.printing.keep_in(Path("env.log"))
with user_code.printing:
{within}
{LAZY}
env_output.disarm()
import sys
assert not any(isinstance(finder, type) and finder.__module__ == env_output.__name__ for finder in sys.meta_path)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (tmp_path / "env.log").read_text().startswith("WARNING: Nan, Inf or huge value in QPOS")
    assert [path.name for path in tmp_path.iterdir()] == ["env.log"]


@pytest.mark.parametrize(("code", "name"), [(NOISY, "Noisy"), (POLE, "Pole")])
def test_no_descriptor_stays_open(
    here: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], code: str, name: str
) -> None:
    descriptors = Path("/proc/self/fd")
    if not descriptors.is_dir():
        pytest.skip("descriptors cannot be counted here")
    counts = []
    gc.collect()  # closes what earlier tests left open, which would happen at any time
    for count in range(11):  # the first command opens what stays
        (here / f"env{count}.py").write_text(code)
        assert status(monkeypatch, f"evaluate random --env env{count}.py:{name} --episodes 3") == 0
        counts.append(len([*descriptors.iterdir()]))
    assert counts[-1] == counts[0]


def test_what_a_logger_kept_leads_to_the_screen_afterwards(
    here: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """And into no other file that has the descriptor of the closed one."""
    monkeypatch.setattr(Shown, "environments", False)
    env_output.arm()
    with user_code.printing:
        kept = sys.stderr
        print("within", file=kept)
    env_output.disarm()
    with open("other", "w") as other:
        print("afterwards", file=kept)
        assert other.fileno() > 2
    assert Path("other").read_text() == ""
    assert capfd.readouterr().err.endswith("which -v shows\nafterwards\n")
