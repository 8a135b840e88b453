"""Trials of a sweep without training, whose scores are known."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from palaestra.train.config.run_config import RunConfig, resolve_config
from palaestra.train.sweep import search, study
from palaestra.train.sweep.custom_space import user_space
from palaestra.train.sweep.search_space import Space
from palaestra.train.sweep.trial import Evaluated, evaluations

BASE = resolve_config(
    "cartpole", total_timesteps=1000, num_envs=1024, settings=["batch_size=4096", "learning_rate=linear(2e-3, 0)"]
)
HEADER = ["global_step", "time/total_timesteps", "eval/mean_reward"]


def write_run(folder: Path, steps: int, scores: list[float], held_out: float | None) -> None:
    """What a run leaves: a row without evaluation first, the final evaluation's row last."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [[1, 1, ""]] + [[steps * (i + 1) // 10, steps * (i + 1) // 10, value] for i, value in enumerate(scores)]
    if held_out is not None:
        rows.append([steps, "", held_out])
        (folder / "eval.json").write_text(json.dumps({"mean": held_out}))
    with (folder / "progress.csv").open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([HEADER, *rows])


@dataclass
class Fake:
    """A trial whose score is known: 100 · (1 − |log10 learning rate + 3|), reached evenly over ten looks."""

    config: RunConfig
    folder: Path
    error_text: str | None = None
    looks: int = 0
    stops: int = 0

    def goal(self) -> float:
        rate = float(str(self.config.agent_kwargs["learning_rate"]).removeprefix("linear(").partition(",")[0])
        return 100 * (1 - abs(math.log10(rate) + 3))

    def evaluations(self) -> list[Evaluated]:
        return evaluations(self.folder, 1000)

    def ended(self) -> bool:
        self.looks += 1
        scores = [self.goal() * (i + 1) / 10 for i in range(min(10, self.looks))]
        done = self.looks >= 10 and self.error_text is None
        write_run(self.folder, 1000, scores, self.goal() + self.config.seed % 2 if done else None)
        return self.looks >= 10 or self.stops > 0

    def error(self) -> str | None:
        return self.error_text

    def stop(self) -> None:
        self.stops += 1

    def wait(self) -> None:
        pass


@dataclass
class Launcher:
    """Starts fakes and remembers them; ``failing`` are the folders of those that go wrong."""

    failing: tuple[str, ...] = ()
    made: list[Fake] = field(default_factory=list)

    def __call__(self, config: RunConfig, folder: Path) -> Fake:
        self.made.append(Fake(config, folder, "it broke" if folder.name in self.failing else None))
        return self.made[-1]

    def folders(self) -> list[str]:
        return [fake.folder.name for fake in self.made]


def rates(*extra: str) -> Space:
    return user_space(BASE, ["learning_rate=1e-5..1e-1", *extra])


# ---------------------------------------------------------------------------------------------------- other workers


def work_on(file: Path, folder: Path, tell: Callable[[int], None]) -> None:
    """In a process of its own: help to make 12 trials, two at once, and tell how many it has made."""
    study.POLL = 0.001
    storage, launcher = study.open_storage(f"sqlite:///{file}"), Launcher()
    opened = study.open_study(storage, "shared", rates(), "here")
    assert study.Worker(opened, storage, rates(), folder, launcher).run(12, 2, lambda: False)
    tell(len(launcher.made))


def begin_and_never_end(url: str, folder: Path, tell: Callable[[str], None]) -> None:
    """In a process of its own: a sweep whose trials run for ever; it tells their names as it looks at them."""
    study.GRACE, study.HEARTBEAT, study.POLL = 8, 1, 0.1

    class Endless(Fake):
        def ended(self) -> bool:
            tell(self.folder.name)
            return False

    endless: Any = Endless
    search.sweep(rates(), 6, 1, folder, url, False, endless)
