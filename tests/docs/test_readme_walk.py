"""From a run to use: the five commands of train/README.md that end with an answer over HTTP, as a stranger types them.

Each is a process of its own in a folder where nothing is yet; only the steps are fewer, and the port is a free one.
The server is started as a shell would, the others are forked from an interpreter that has imported everything.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from forked_command import ForkedCommand
from pages import blocks, read

pytest.importorskip("uvicorn")
pytest.importorskip("onnxruntime")
FEWER = ("--track", "disabled", "--num-envs", "32", "--total-timesteps", "2048", "--threads", "1", "--no-report")
SMALLER = ("--set", "batch_size=64", "--set", "n_steps=16", "--set", "env.periods=30")
SECONDS = 240  # for one command, beside other work


def walk() -> list[str]:
    """The commands, without their comments."""
    block = next(text for kind, text in blocks(read("train/README.md")) if kind == "bash" and "/price?" in text)
    return [re.sub(r"\s+#.*", "", line) for line in block.splitlines()]


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl here")
def test_five_commands_lead_from_training_to_a_price(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    install, train, export, serve, ask = walk()
    assert install == 'pip install -e ".[serve]"'  # the gate installs the package with all its extras

    def run(line: str, *more: str) -> str:
        words = [*shlex.split(line)[1:], *more]
        command = ForkedCommand(words, tmp_path / f"{words[0]}.log", environ=environ)
        assert command.wait(SECONDS) == 0, command.said()
        return command.said()

    environ = {**os.environ, "WANDB_MODE": "disabled", "HOME": str(tmp_path)}
    run(train, *FEWER, *SMALLER)
    run(export)
    words = [sys.executable, "-m", *shlex.split(serve), "--port", "0"]
    with subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.PIPE, text=True, env=environ) as server:
        assert server.stdout is not None
        try:
            begun = re.search(r"http://127\.0\.0\.1:(\d+) ", server.stdout.readline())
            assert begun is not None
            assert "localhost:8000" in ask
            curl = shlex.split(ask.replace("localhost:8000", f"127.0.0.1:{begun[1]}"))
            asked = subprocess.run([*curl, "--silent", "--max-time", "30"], capture_output=True, check=True)
            answer = json.loads(asked.stdout)
            server.send_signal(signal.SIGTERM)
            assert server.wait(30) == 0
        finally:
            server.kill()
    told = run("palaestra prices latest:pricing --day 4 --stock 12")
    assert f"price now {answer['price']:g} " in " ".join(told.split()), (answer, told)
