"""The command that the README has for two machines, on two hosts of this machine's kernel that a cable connects.

Each host is a network namespace with one end of a pair of virtual network devices, and has a name, a table of hosts and
shared memory of its own. The folder that they share is this machine's.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import team
from kills import curves, same_weights

from palaestra.train.runs.run_folder import RunFolder

README = Path(__file__).parents[4] / "train/README.md"
HOSTS = ("first-machine", "second-machine")
NETWORK = "10.203.77"
SETTINGS = ("n_steps=16", "batch_size=256", "n_epochs=2", "env.max_episode_steps=20")
SIZES = ["--num-envs", "32", "--seed", "1", "--total-timesteps", str(16 * 32 * 30), "--checkpoint-every", "1024"]
FEWER = [*SIZES, *(part for setting in SETTINGS for part in ("--set", setting)), "--track", "disabled", "--no-report"]
START = """
hostname {name} && mount --bind {table} /etc/hosts && mount -t tmpfs tmpfs /dev/shm && ip link set lo up && exec "$@"
"""


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


class TwoHosts:
    """Two hosts, connected.

    Attributes:
        spaces: the names of their network namespaces.
    """

    def __init__(self, folder: Path) -> None:
        self.spaces = [f"palaestra-{os.getpid()}-{number}" for number in (1, 2)]
        self._table = folder / "hosts"
        lines = ("127.0.0.1 localhost", *(f"{NETWORK}.{number} {name}" for number, name in enumerate(HOSTS, 1)))
        self._table.write_text("\n".join(lines) + "\n")

    def connect(self) -> None:
        for space in self.spaces:
            ip("netns", "add", space)
        one, other = self.spaces
        ip("link", "add", "name", "wire", "netns", one, "type", "veth", "peer", "name", "wire", "netns", other)
        for number, space in enumerate(self.spaces, 1):
            ip("-n", space, "address", "add", f"{NETWORK}.{number}/24", "dev", "wire")
            ip("-n", space, "link", "set", "wire", "up")

    def start(self, host: int, command: list[str], log: Path) -> subprocess.Popen[bytes]:
        script = START.format(name=HOSTS[host], table=shlex.quote(str(self._table)))
        inside = ["ip", "netns", "exec", self.spaces[host], "unshare", "--uts", "--mount", "sh", "-ec", script, "sh"]
        with log.open("w") as out:
            return subprocess.Popen(
                [*inside, *command],
                stdout=out,
                stderr=subprocess.STDOUT,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )

    def pull_out(self) -> None:
        ip("-n", self.spaces[1], "link", "set", "wire", "down")

    def plug_in(self) -> None:
        ip("-n", self.spaces[1], "link", "set", "wire", "up")

    def close(self) -> None:
        for space in self.spaces:
            with contextlib.suppress(FileNotFoundError):
                subprocess.run(["ip", "netns", "delete", space], check=False, capture_output=True)


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[TwoHosts]:
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("only root makes network namespaces, on Linux")
    two = TwoHosts(tmp_path)
    try:
        two.connect()
        subprocess.run(["unshare", "--uts", "--mount", "true"], check=True, capture_output=True, text=True)
    except (FileNotFoundError, subprocess.CalledProcessError) as error:
        two.close()
        said = getattr(error, "stderr", "") or str(error)
        pytest.skip(f"no two hosts here (they need iproute2, util-linux and the kernel's consent): {said.strip()}")
    yield two
    two.close()


def command_in_readme(run: Path) -> list[str]:
    """That for two machines, with one process on each, as the shell would start it."""
    (line,) = re.findall(r"^torchrun --nnodes=2 .*$", README.read_text(encoding="utf-8"), re.MULTILINE)
    assert HOSTS[0] in line
    words = shlex.split(line.replace("/shared/run", str(run)).replace("--nproc-per-node=2", "--nproc-per-node=1"))
    return [sys.executable, "-m", "torch.distributed.run", *words[1:], *FEWER]


def child_of(pid: int) -> int:
    """The process that torchrun has started."""
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


def test_a_host_that_is_cut_off_and_comes_back_costs_nothing(hosts: TwoHosts, tmp_path: Path) -> None:
    """Its cable is pulled and its process dies, which the other host cannot see until it is there again."""
    run, logs = tmp_path / "shared", [tmp_path / f"{name}.log" for name in HOSTS]
    running = [hosts.start(host, command_in_readme(run), logs[host]) for host in (0, 1)]
    try:
        deadline = time.monotonic() + 120
        while len(RunFolder(run).checkpoints()) < 2:
            assert time.monotonic() < deadline, "".join(log.read_text() for log in logs)
            assert [process.poll() for process in running] == [None, None], "".join(log.read_text() for log in logs)
            time.sleep(0.002)
        hosts.pull_out()
        os.kill(child_of(running[1].pid), signal.SIGKILL)
        time.sleep(1.0)
        hosts.plug_in()
        codes = [process.wait(120) for process in running]
    finally:
        for process in running:
            process.kill()
            process.wait()
    said = "".join(log.read_text() for log in logs)
    assert codes == [0, 0], said
    assert said.count("32 environments in 2 processes") == 2, said
    words = command_in_readme(tmp_path / "one")
    codes, output = team.command(2, words[words.index("palaestra.train") + 1 :], tmp_path / "log", evaluations=None)
    assert codes == [0, 0], output
    assert same_weights(run, tmp_path / "one")
    assert curves(run)[:-1] == curves(tmp_path / "one")[:-1]  # the last has a final evaluation of more episodes
