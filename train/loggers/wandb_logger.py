"""Outputs of a run's numbers: ``progress.csv`` always, Weights & Biases beside it. No other file imports wandb.

1. One row, two places. Both outputs get the same scalars from SB3's logger, so what W&B shows equals ``progress.csv``
   row for row. The x axis is ``global_step``, logged with every row; W&B's own step only counts rows.
2. Training never waits. wandb's import, its start-up, its network and its uploads happen on one daemon thread that does
   queued jobs in order; rows logged before the run is open wait in the queue.
3. Training never stops. Whatever wandb raises becomes one line of warning. A run that cannot be opened online within
   ``INIT_TIMEOUT`` is opened offline; one that cannot be opened at all is left to ``progress.csv``.
4. Nobody is asked. ``auto`` is online where credentials lie ready (environment, netrc, wandb's settings file), else
   offline; ``WANDB_MODE`` decides where it is set. Finding them opens no connection.
5. A resumed run stays one run. Its page on W&B goes on, that of ``wandb-id.txt`` or of a later part that `wandb sync`
   has sent, and gets the rows of ``progress.csv`` that it has not. Offline, where W&B can add nothing to a folder, the
   new folder has all rows from the first on. Offline parts before go to ``wandb/earlier``, unless they have been sent.
6. A kill loses nothing of ``progress.csv`` (each row is handed to the operating system) and at most the last 15 seconds
   of the offline W&B file, which wandb-core writes.
"""

from __future__ import annotations

import contextlib
import functools
import math
import netrc
import os
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args
from urllib.parse import urlsplit

import imageio.v3

from palaestra.train.loggers.background import BackgroundLogger, in_one_line
from palaestra.train.loggers.csv_logger import ScalarRow
from palaestra.train.loggers.metric_names import ITERATION, STEP
from palaestra.train.recording.film_pictures import last_picture

if TYPE_CHECKING:
    import wandb

Mode = Literal["auto", "online", "offline", "disabled"]

PROJECT = "palaestra"
INIT_TIMEOUT = 20.0  # seconds to wait for the server before going offline; wandb itself adds up to 10
_KEY_HOSTS = {"api.forge.coreweave.com": "api.wandb.ai"}  # the newer address takes the keys of the older
_PART = re.compile(r"(?P<offline>offline-)?run-(?P<time>\d{8}_\d{6})-(?P<id>.+)")
FINISH_TIMEOUT = 60.0  # seconds for the last uploads; what is left stays on disk for `wandb sync`


class WandbLogger(BackgroundLogger):
    """The thread that talks to wandb: it opens the run, does the jobs in order, and finishes the run.

    Attributes:
        url: of the run on W&B's site; None while it is not known, and offline.
        offline_dir: the folder that `wandb sync` sends; None while it is not known, and online.
    """

    service = "W&B"

    def __init__(
        self,
        run_dir: Path,
        config: Mapping[str, Any],
        mode: Mode,
        id_file: Path,
        earlier_rows: list[ScalarRow] | None,
        warn: Callable[[str], None],
        keeps_parts: bool = False,
    ) -> None:
        """Find the run's page, and queue what it lacks.

        Args:
            run_dir: the run folder, which exists; W&B's files go to ``run_dir/wandb``.
            config: every resolved setting, as plain values.
            mode: ``auto``, ``online`` or ``offline``.
            id_file: keeps the id of the run's page.
            earlier_rows: those from before a resumption; None for a new run.
            warn: takes a line for the user, from another thread.
            keeps_parts: whether offline folders from before stay where they are, and no row is sent again.
        """
        super().__init__(warn)
        self._run_dir, self._config, self._mode = run_dir, dict(config), mode
        self._resumed = resumed = earlier_rows is not None
        known = id_file.read_text().strip() if resumed and id_file.is_file() else secrets.token_hex(4)
        self._online_id = (_page_id(run_dir) if resumed else None) or known
        id_file.write_text(self._online_id)
        self._seen = -math.inf  # the last step that the page of a resumed run shows
        self.url: str | None = None
        self.offline_dir: Path | None = None
        if earlier_rows is not None and not keeps_parts:
            self.submit("logging what was before", functools.partial(self.log_before, earlier_rows))

    def log_row(self, row: ScalarRow, run: wandb.Run) -> None:
        """Send a row, unless the page shows it; the final evaluation's, which tells no steps, has its step from one."""
        if row[STEP] > self._seen or (row[STEP] == self._seen and ITERATION not in row):
            run.log(row)

    def log_before(self, rows: list[ScalarRow], run: wandb.Run) -> None:
        """Send the rows from before a resumption that W&B has not; put offline folders away, which lack the others."""
        for row in rows:
            if row[STEP] > self._seen:
                run.log(row)
        earlier = self._run_dir / "wandb" / "earlier"
        try:
            for folder in earlier.parent.glob("offline-run-*"):
                if (self.offline_dir is None or folder.name != self.offline_dir.name) and not _is_sent(folder):
                    earlier.mkdir(exist_ok=True)
                    folder.rename(earlier / folder.name)
        except OSError as error:
            self._warn(f"W&B: cannot put parts from before into {earlier} ({error.strerror}); send the newest only")

    def close(self, run: wandb.Run) -> None:
        run.finish()

    def log_video(self, path: Path, step: int) -> None:
        """A file of mp4, gif or webm, as ``eval/video``; its last picture as ``eval/picture``."""
        self.submit("sending a video", functools.partial(_log_video, path=path.absolute(), step=step))

    def log_file(self, path: Path, name: str, kind: str) -> None:
        """A copy of the file as an artifact of that type."""
        self.submit(f"sending the {kind}", functools.partial(_log_file, path=path.absolute(), name=name, kind=kind))

    def log_table(self, name: str, heads: Sequence[str], rows: Sequence[Sequence[Any]], step: int) -> None:
        def send(run: wandb.Run) -> None:
            import wandb

            run.log({STEP: step, name: wandb.Table(columns=list(heads), data=[list(row) for row in rows])})

        self.submit("sending a table", send)

    def log_summary(self, values: Mapping[str, Any]) -> None:
        self.submit("writing the summary", lambda run: run.summary.update(dict(values)))

    def open(self) -> wandb.Run:
        # read by wandb's import; behind a firewall these reports hold up the end of the process for up to 30 seconds
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        if not os.environ.get("HOME"):  # wandb's own process would tell its whole story on the terminal
            os.environ.setdefault("XDG_CACHE_HOME", str(self._run_dir.resolve() / "wandb"))
        str(self._run_dir.resolve()).encode()  # wandb cannot work where this fails, and tells it at length
        key = None if self._mode == "offline" else find_credentials()
        if key is not None:
            try:
                return self._init("online", key)
            except Exception as error:  # no network, a refused key, a server that is down
                self._warn(f"W&B: no connection ({in_one_line(error)}); logging offline")
        elif self._mode == "online":
            self._warn("W&B: not logged in (`wandb login`); logging offline")
        return self._init("offline", None)

    def _init(self, mode: Literal["online", "offline"], key: str | None) -> wandb.Run:
        import wandb

        online = mode == "online"
        folder = self._run_dir.absolute()  # wandb-core reads a relative path from the folder where it was first started
        settings = wandb.Settings(
            api_key=key or None,  # given outright, since a key that wandb looks for and misses makes it ask
            console="off",
            silent=True,
            disable_git=True,
            disable_code=True,
            init_timeout=INIT_TIMEOUT,
            finish_timeout=FINISH_TIMEOUT,
            finish_timeout_raises=True,
        )
        run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            dir=str(folder),
            name=folder.name,
            # offline an id of its own: `wandb sync` then overwrites no part that it has sent before
            id=self._online_id if online else secrets.token_hex(4),
            resume="allow" if self._resumed and online else None,
            config=self._config,
            mode=mode,
            reinit="create_new",  # leave a run that the caller's own script has open alone
            settings=settings,
        )
        run.define_metric(STEP)
        run.define_metric("*", step_metric=STEP)
        if online:
            self.url = self.place = run.url
            if self._resumed:
                self._seen = run.summary.get(STEP, -math.inf)  # type: ignore[no-untyped-call]
        else:
            self.offline_dir = self.place = self._run_dir.joinpath(*Path(run.dir).parts[-3:-1])  # wandb/offline-run-…
        return run


def _is_sent(folder: Path) -> bool:
    """True if `wandb sync` has sent an offline folder."""
    return any(folder.glob("*.wandb.synced"))


def _page_id(run_dir: Path) -> str | None:
    """Of the page that W&B got the latest part by, online or from `wandb sync`; None if there is none."""
    parts = [(_PART.fullmatch(path.name), path) for path in (run_dir / "wandb").glob("*run-*")]
    sent = [match for match, path in parts if match and (not match["offline"] or _is_sent(path))]
    return max(sent, key=lambda match: match["time"])["id"] if sent else None


def find_credentials() -> str | None:
    """The API key that lies ready ("" for an identity token, which wandb reads itself); None if there is none.

    The key is looked for in the environment, in wandb's settings file and in netrc; without a prompt or a connection.
    """
    import wandb

    if os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return ""
    settings = wandb.setup(wandb.Settings(silent=True)).settings
    if settings.api_key:
        return settings.api_key
    host = urlsplit(settings.base_url).netloc
    for path in [os.environ["NETRC"]] if "NETRC" in os.environ else ["~/.netrc", "~/_netrc"]:
        with contextlib.suppress(OSError, netrc.NetrcParseError):  # an unreadable netrc holds no key for us
            entries = netrc.netrc(os.path.expanduser(path))
            found = entries.authenticators(host) or entries.authenticators(_KEY_HOSTS.get(host, host))
            if found and found[2]:
                return found[2]
    return None


def resolve_mode(mode: str) -> Mode:
    """The mode that is meant: ``auto`` gives way to ``WANDB_MODE``.

    Raises:
        ValueError: unknown mode.
    """
    if mode not in get_args(Mode):
        raise ValueError(f"track must be one of {', '.join(get_args(Mode))}, got {mode!r}")
    wanted = os.environ.get("WANDB_MODE", "") if mode == "auto" else mode
    wanted = {"run": "online", "dryrun": "offline"}.get(wanted, wanted)  # wandb's older names
    return wanted if wanted in get_args(Mode) else "auto"  # type: ignore[return-value]


def _log_video(run: wandb.Run, path: Path, step: int) -> None:
    import wandb

    format: Any = path.suffix.removeprefix(".")
    shown: dict[str, Any] = {"eval/video": wandb.Video(str(path), format=format)}
    if (picture := last_picture(path)) is not None:
        shown["eval/picture"] = wandb.Image(imageio.v3.imread(picture))
    run.log({STEP: step, **shown})


def _log_file(run: wandb.Run, path: Path, name: str, kind: str) -> None:
    import wandb

    artifact = wandb.Artifact(name, type=kind)
    artifact.add_file(str(path))
    run.log_artifact(artifact)
