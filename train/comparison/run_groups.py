"""Groups of runs that differ by nothing but the seed, named by what tells them from the others.

1. A task is an environment with its settings, a method an agent with its settings: of those that differ between runs of
   the same agent in the same task. The same method may be in several tasks, where its preset says something else.
2. A seed that is there twice counts once, as the newest finished run: on one machine both are the same run to the last
   bit, and would seem to agree.
3. Names of settings that would be too long become numbers, which a list explains.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from palaestra.train.comparison.compared_runs import ComparedRun

LONGEST = 32  # letters of a method's settings
_OF_ENV = "env."


@dataclass(frozen=True)
class RunGroup:
    """Runs of one method in one task, by seed; ``settings`` are those by which it differs from others of its agent."""

    task: str
    method: str
    settings: Mapping[str, Any]
    runs: Sequence[ComparedRun]

    @property
    def name(self) -> str:
        return f"{self.task}, {self.method}"


def grouped(runs: Sequence[ComparedRun]) -> tuple[list[RunGroup], list[str]]:
    """The groups by task and method, and remarks on runs that do not count."""
    tasks = _tasks(runs)
    members: dict[tuple[str, str], list[tuple[ComparedRun, dict[str, Any]]]] = {}
    for task in dict.fromkeys(tasks.values()):
        inside = [run for run in runs if tasks[run.path] == task]
        for agent in dict.fromkeys(run.agent for run in inside):
            own = [run for run in inside if run.agent == agent]
            keys = _differing(own, of_env=False)
            for run in own:
                settings = {key: run.settings.get(key) for key in keys}
                members.setdefault((task, " ".join([agent, *_words(settings)])), []).append((run, settings))
    short = _short({method for _, method in members})
    groups, remarks = [], []
    for (task, method), found in sorted(members.items()):
        kept, repeated = _one_a_seed([run for run, _ in found])
        if repeated:
            name = f"{task}, {short[method]}"
            remarks.append(f"{name}: of runs that repeat a seed the newest counts; left out are {', '.join(repeated)}")
        groups.append(RunGroup(task, short[method], found[0][1], kept))
    return groups, remarks


def _tasks(runs: Sequence[ComparedRun]) -> dict[str, str]:
    """The task of each run by its path: the environment, with the settings that differ between those of one name."""
    names = {}
    for env in dict.fromkeys(run.env for run in runs):
        own = [run for run in runs if run.env == env]
        keys = _differing(own, of_env=True)
        for run in own:
            words = _words({key.removeprefix(_OF_ENV): run.settings.get(key) for key in keys if key in run.settings})
            names[run.path] = " ".join([env, *words])
    return names


def _differing(runs: Sequence[ComparedRun], of_env: bool) -> list[str]:
    """The settings, of the environment or others, that are not the same in all."""
    keys = sorted({key for run in runs for key in run.settings if key.startswith(_OF_ENV) == of_env})
    missing = object()
    return [key for key in keys if len({_text(run.settings.get(key, missing)) for run in runs}) > 1]


def _words(settings: Mapping[str, Any]) -> list[str]:
    return [f"{key}={_text(value)}" for key, value in settings.items()]


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=lambda _: "–")
    return text if text.isprintable() else json.dumps(text)


def _short(methods: Iterable[str]) -> dict[str, str]:
    """A name for each method, a number where its settings are many."""
    found, counts = {}, dict[str, int]()
    for method in sorted(methods):
        agent, _, settings = method.partition(" ")
        if len(settings) > LONGEST:
            counts[agent] = counts.get(agent, 0) + 1
            found[method] = f"{agent} #{counts[agent]}"
        else:
            found[method] = method
    return found


def _one_a_seed(runs: Sequence[ComparedRun]) -> tuple[list[ComparedRun], list[str]]:
    """One run of each seed, and the paths of the others; folders of one place have their times for names."""
    best: dict[Any, ComparedRun] = {}
    for run in sorted(runs, key=lambda run: (run.state == "finished", run.path)):
        best[run.path if run.seed is None else run.seed] = run
    kept = sorted(best.values(), key=lambda run: (run.seed is None, run.seed or 0, run.path))
    return kept, [run.path for run in runs if run not in kept]
