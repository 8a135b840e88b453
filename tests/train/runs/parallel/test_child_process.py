"""A child process: its threads, log and session, how it is asked and answers, how it ends, and what is said of it."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from palaestra.train.runs.parallel.child_process import ChildProcess, failure, last_line


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def wait_for(path: Path, text: str) -> None:
    for _ in range(600):
        if path.is_file() and text in path.read_text():
            return
        time.sleep(0.05)
    raise AssertionError(f"{text!r} is not in {path}")


def test_what_it_prints_is_appended_to_the_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    for status in (0, 3):
        code = f"import sys; print('out', flush=True); print('err {status}', file=sys.stderr); sys.exit({status})"
        assert ChildProcess(python(code), log).wait() == status
    assert log.read_text() == "out\nerr 0\nout\nerr 3\n"
    assert failure(3, log) == "exit status 3: err 3"


@pytest.mark.parametrize(("threads", "told"), [(3, "3"), (None, "7")])
def test_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threads: int | None, told: str) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert (
        ChildProcess(python("import os; print(os.environ['OMP_NUM_THREADS'])"), tmp_path / "log", threads).wait() == 0
    )
    assert last_line(tmp_path / "log") == told


def test_questions_and_answers(tmp_path: Path) -> None:
    """Standard error alone goes to the log."""
    code = "import sys\nfor line in sys.stdin: print(line.strip() * 2, flush=True); print('é', file=sys.stderr)"
    child = ChildProcess(python(code), tmp_path / "log", stdin=True, stdout=True)
    assert child.answers is not None
    for question in ("ab", "ç"):
        child.send(question)
        assert child.answers.readline() == question * 2 + "\n"
    wait_for(tmp_path / "log", "é\né\n")
    child.end()
    assert (tmp_path / "log").read_text() == "é\né\n"


PARENT = """
import sys, time
from pathlib import Path
from palaestra.train.runs.parallel.child_process import ChildProcess
child = ChildProcess([sys.executable, "-c", "import sys; print(sys.stdin.read() + '!')"], Path(sys.argv[1]), stdin=True)
child.send("the last words")
print("sent", flush=True)
time.sleep(60)
"""


def test_the_end_of_the_parent_is_the_end_of_the_questions(tmp_path: Path) -> None:
    """Killed outright, so that it can close nothing."""
    with ChildProcess([*python(PARENT), str(tmp_path / "child")], tmp_path / "parent") as parent:
        wait_for(tmp_path / "parent", "sent")
        assert last_line(tmp_path / "child") == ""
        parent.kill()
    wait_for(tmp_path / "child", "the last words\n!")


def test_one_that_is_asked_has_a_session_of_its_own(tmp_path: Path) -> None:
    """So that Ctrl-C in a terminal is the parent's; one that could outlive its parent stays in the parent's."""
    code = "import os; print(os.getsid(0))"
    with (
        ChildProcess(python(code), tmp_path / "asked", stdin=True) as asked,
        ChildProcess(python(code), tmp_path / "x"),
    ):
        asked.wait()
    ChildProcess(python(code), tmp_path / "alone").wait()
    assert int(last_line(tmp_path / "asked")) == asked.pid
    assert int(last_line(tmp_path / "alone")) == os.getsid(0)


def test_a_gentle_stop_and_one_by_force(tmp_path: Path) -> None:
    saves = "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: (print('saved'), sys.exit()))"
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)"
    ready = "; print('ready', flush=True); time.sleep(60)"
    children = [ChildProcess(python(code + ready), tmp_path / name) for name, code in (("a", saves), ("b", deaf))]
    for child, name in zip(children, "ab", strict=True):
        wait_for(tmp_path / name, "ready")
        assert child.status() is None
        child.stop()
    children[0].end(30.0)
    assert (children[0].status(), last_line(tmp_path / "a")) == (0, "saved")
    assert children[1].wait(0.2) is None
    children[1].end()
    assert failure(children[1].status() or 0, tmp_path / "b") == "killed by SIGKILL (out of memory?)"


def test_the_end_of_a_block_ends_it(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), ChildProcess(["sleep", "60"], tmp_path / "log", stdin=True, stdout=True) as child:
        raise RuntimeError
    assert child.status() == -9


def test_a_question_to_one_that_has_ended_is_no_error(tmp_path: Path) -> None:
    with ChildProcess(["true"], tmp_path / "log", stdin=True) as child:
        child.wait()
        child.send("x")


def test_a_log_that_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b" \n\n")
    assert failure(1, tmp_path / "log") == "exit status 1: it said nothing"
    assert last_line(tmp_path / "none") == ""
    (tmp_path / "log").write_bytes(b"first\nout of \xff luck \n\n")
    assert last_line(tmp_path / "log") == "out of \ufffd luck"
    assert failure(-15, tmp_path / "log") == "killed by SIGTERM"
