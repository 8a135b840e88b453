"""What environments of other people print, in Python or below it: it stays off the screen while a command runs.

1. Descriptors 1 and 2 lead to a file, and what this program prints goes to copies of what they led to. It is a file and
   no pipe: nobody has to read it, so no environment waits, and what is printed last is there after any death.
2. The file is ``RUN/env.log`` as soon as a run has a folder, and has no name before that and in other commands.
3. Nothing happens before somebody's code is entered for the first time, and for environments in tensors it is undone.
4. Lines that came before are left out, and colours: every ``TIDY`` bytes, between two steps, when no process of
   environments prints. They have the file from this one, and keep no lines themselves.
5. After the command the screen is as it was and no file is open, until the interpreter ends: what libraries print then
   is kept off again.
6. MuJoCo's own log file is turned off as soon as MuJoCo is imported, by whom and wherever it is.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import os
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any, TextIO, cast

from palaestra.train.formatting import tell
from palaestra.train.interruptions import LastingOutput, Shown

TIDY = 1 << 20  # bytes
_ENTRIES = 256  # between two looks at the file's size
_MOST = 100_000  # different lines that are remembered
_COLOURS = re.compile(rb"\x1b(?:\[[0-9;?]*[ -/]*[@-~]|\][^\x07\n]*\x07)")  # and what else is for terminals only


class EnvOutput:
    """The block around somebody's code, as :class:`palaestra.envs.core.user_code.Printing` has it.

    Attributes:
        place: the file that a run keeps it in; None for one without a name.
    """

    def __init__(self) -> None:
        self.place: Path | None = None
        self._file: _Lines | None = None  # nobody's code has been entered yet
        self._process, self._entries = os.getpid(), 0
        self._outside: list[tuple[TextIO, TextIO]] = []
        self._screen: dict[int, int] = {}  # copies of the descriptors 1 and 2, where those are open

    def __enter__(self) -> None:
        if self._file is None:
            self._begin()
        self._outside.append((sys.stdout, sys.stderr))
        sys.stdout = sys.stderr = cast(TextIO, self._printed)

    def __exit__(self, *error: object) -> None:
        sys.stdout, sys.stderr = self._outside.pop()
        self._entries += 1
        if self._entries % _ENTRIES == 0 and os.getpid() == self._process and self._file is not None:
            self._file.tidy(TIDY)

    def _begin(self) -> None:
        self._file = _Lines(self.place)
        stream = open(self._file.handle, "w", 1, "utf-8", "backslashreplace", closefd=False)  # noqa: SIM115
        self._printed = LastingOutput(stream)
        for number, stdio in ((1, sys.__stdout__), (2, sys.__stderr__)):
            if stdio is not None:
                with contextlib.suppress(OSError):  # it is closed
                    self._screen[number] = os.dup(number)
        self._move(self._screen)
        self._cover()
        with contextlib.suppress(Exception):  # C's library writes each line at once, as on a terminal
            c = ctypes.CDLL(None)
            c.setvbuf(ctypes.c_void_p.in_dll(c, "stdout"), _BUFFER, 1, len(_BUFFER))  # _IOLBF
        if "mujoco" in sys.modules:
            _write_no_log(sys.modules["mujoco"])
        else:
            sys.meta_path.insert(0, _MuJoCoFinder)

    def _move(self, targets: dict[int, int]) -> None:
        """What this program prints goes to other descriptors."""
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, LastingOutput):
                stream.move(targets)
        vars(sys)["__stdout__"] = sys.stdout  # which shutil asks for the width of the terminal

    def _cover(self) -> None:
        assert self._file is not None
        for number in self._screen:
            os.dup2(self._file.handle, number)

    def keep_in(self, file: Path) -> None:
        """What is printed goes into ``file``, and what was printed before."""
        self.place, before = file, self._file
        if before is not None:
            self._file = _Lines(file)
            before.tidy()
            os.write(self._file.handle, before.text())
            self._file.move(before.handle)  # the stream's
            before.close()
            self._cover()

    def give_back(self) -> None:
        """Show what was printed: it is no environment of other people."""
        from palaestra.envs.core import user_code

        user_code.printing = user_code.Printing()
        if self._file is not None:
            text = self._file.text()
            self._end(self._file)
            sys.stdout.write(text.decode(errors="replace"))

    def end(self) -> int:
        """Let the screen be as it was, and count the lines that were printed and are kept nowhere."""
        if self._file is None:
            return 0
        self._file.tidy()
        text = self._file.text()
        self._end(self._file)
        atexit.unregister(_keep_off)
        atexit.register(_keep_off, self.place if text else None, [*self._screen])
        if self.place is None:
            return sum(map(bool, map(bytes.strip, text.splitlines())))
        if not text:
            self.place.unlink(missing_ok=True)
        return 0

    def _end(self, file: _Lines) -> None:
        self._file = None
        if _MuJoCoFinder in sys.meta_path:
            sys.meta_path.remove(_MuJoCoFinder)
        self._move({copy: number for number, copy in self._screen.items()})
        for number, copy in self._screen.items():
            os.dup2(copy, number)
            os.close(copy)
        self._printed.move({file.handle: 2})  # handlers of logging keep it
        os.close(file.handle)
        file.close()


def _keep_off(place: Path | None, numbers: Sequence[int]) -> None:
    """What is printed while the interpreter ends goes from these descriptors into the file, or is lost."""
    sys.stdout.flush()
    try:
        handle = os.open(place or os.devnull, os.O_WRONLY | os.O_APPEND)
    except OSError:
        handle = os.open(os.devnull, os.O_WRONLY)
    for number in numbers:
        os.dup2(handle, number)


class _Lines:
    """A file to which ``handle`` appends; where none can be made, what is printed is lost."""

    def __init__(self, path: Path | None) -> None:
        self._clean = 0  # bytes from its beginning in which no line comes twice
        self._seen: set[int] = set()
        try:
            number, name = tempfile.mkstemp() if path is None else (os.open(path, os.O_RDWR | os.O_CREAT, 0o666), path)
        except OSError:
            number, name = os.open(os.devnull, os.O_RDWR), os.devnull
        self._file = open(number, "r+b", buffering=0)  # noqa: SIM115
        self.handle = os.open(name, os.O_WRONLY | os.O_APPEND)
        if path is None and name != os.devnull:
            with contextlib.suppress(OSError):
                os.unlink(name)

    def move(self, handle: int) -> None:
        """Append through another descriptor, whose file is given up."""
        os.dup2(self.handle, handle)
        os.close(self.handle)
        self.handle = handle

    def close(self) -> None:
        """Let go of the file; ``handle`` is its user's."""
        self._file.close()

    def text(self) -> bytes:
        return self._from(0)

    def _from(self, start: int) -> bytes:
        self._file.seek(start)
        return self._file.read(max(0, os.fstat(self._file.fileno()).st_size - start))

    def tidy(self, size: int = 0) -> None:
        """Leave out what came before, where there are ``size`` bytes of new lines; nothing may be appended meanwhile.

        What is left is written first and the file cut then, so that a kill in between loses nothing.
        """
        with contextlib.suppress(OSError):
            if os.fstat(self._file.fileno()).st_size - self._clean <= size:
                return
            lines = self._from(self._clean).split(b"\n")
            rest = lines.pop()  # a line that is not at its end
            kept = b"".join(self._new(lines))
            self._file.seek(self._clean)
            self._file.write(kept + rest)
            self._file.truncate()
            self._clean += len(kept)

    def _new(self, lines: list[bytes]) -> Iterator[bytes]:
        for line in lines:
            shown = _COLOURS.sub(b"", line).rstrip(b"\r").rpartition(b"\r")[2]
            if hash(shown) not in self._seen:
                if len(self._seen) < _MOST:
                    self._seen.add(hash(shown))
                yield shown + b"\n"


_BUFFER = ctypes.create_string_buffer(1 << 12)  # C's library uses it to its end
_armed: list[EnvOutput] = []  # one while a command runs


def arm() -> None:
    """Before somebody's code is imported: the environments know of it now, if a command wants it."""
    from palaestra.envs.core import user_code

    if not Shown.environments and not _armed:
        _armed.append(EnvOutput())
        user_code.printing = cast(Any, _armed[0])


def disarm() -> None:
    """After the command: tell if something was printed that is kept nowhere."""
    from palaestra.envs.core import user_code

    user_code.printing = user_code.Printing()
    while _armed:
        if lines := _armed.pop().end():
            tell(f"palaestra: the environment printed {lines} line{'s' * (lines > 1)}, which -v shows")


class _MuJoCoFinder:
    """Finds MuJoCo where Python does, and sets it up when its import is done."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path, target) if name == "mujoco" else None
        if spec is not None and type(spec.loader) is SourceFileLoader:
            spec.loader = _MuJoCoLoader(spec.loader.name, spec.loader.path)
        return spec


class _MuJoCoLoader(SourceFileLoader):
    def exec_module(self, module: ModuleType) -> None:
        super().exec_module(module)
        _write_no_log(module)


def _write_no_log(mujoco: Any) -> None:
    """Each message would come into MUJOCO_LOG.TXT in the current folder too."""
    with contextlib.suppress(Exception):  # another version
        if hasattr(mujoco, "MjLogConfig"):
            config = mujoco.MjLogConfig.get()
            config.logto_file &= config.logfile != "MUJOCO_LOG.TXT"
            config.set()
        elif mujoco.get_mju_user_warning() is None:  # before MuJoCo 4
            mujoco.set_mju_user_warning(lambda text: print(f"WARNING: {text}"))
