"""Two runs of the duopoly whose agents learn at the same time, each the other's rival.

1. Both are ordinary runs, with folders that ``evaluate``, ``watch`` and ``report`` read. The argument ``rival`` of each
   is ``learning:`` and the model file of the other.
2. Training has ``rounds`` rounds of equally many steps. Before each of them the two see each other as they are by then
   (:func:`palaestra.agents.training.learning_pair.exchange`); in it each takes whole iterations.
3. After each tenth of the training both models are saved, and both agents evaluated against each other's best prices.
   Then both write a checkpoint, and ``pair.json`` in the first one's folder gets the round and the steps of both. Runs
   that were killed go on from there, to the bit.
4. ``pair/…`` in both ``progress.csv`` is what the two came to at the beginning of a round, if each followed its best
   prices: see :mod:`palaestra.envs.pricing.two_learners.price_pairs`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.logger import Logger

from palaestra.agents.training.learning_pair import LearningInParts, best_prices, can_learn_in_pair, exchange
from palaestra.envs.core.atomic_write import write_whole
from palaestra.envs.pricing.two_learners.price_pairs import PricePairs
from palaestra.envs.trained_players import LEARNING, learns_too
from palaestra.train.config import AGENTS
from palaestra.train.config.compatibility import Agent
from palaestra.train.config.run_config import RunConfig, resolve_config, validated
from palaestra.train.config.schema import ConfigError
from palaestra.train.interruptions import Stopped, StopSignal
from palaestra.train.loggers.console import ProgressOutput
from palaestra.train.loggers.tracker import Tracker
from palaestra.train.runs import checkpoints
from palaestra.train.runs.callbacks import EvalAndCheckpointCallback
from palaestra.train.runs.curriculum_callback import training_environments
from palaestra.train.runs.failures import explaining
from palaestra.train.runs.machine import Stopwatch, write_facts
from palaestra.train.runs.run_folder import RunFolder
from palaestra.train.runs.trainer import MakePage, final_evaluation
from palaestra.train.teaching.teachers import learner, new_agent

ENV = "pricing-duopoly"
PARTS = 10  # of the training, after each of which the agents are evaluated and saved
_PAIR_FILE = "pair.json"
_TellLine = Callable[[str], None]


class _Evaluations(EvalAndCheckpointCallback):
    """Those of one of the two, which take place when they are asked for."""

    def _on_rollout_start(self) -> None:
        pass

    def _on_rollout_end(self) -> None:
        pass


@dataclass
class _PairMember:
    """One of the two while it trains."""

    config: RunConfig
    folder: RunFolder
    model: Agent
    tracker: Tracker
    evaluations: _Evaluations
    training: LearningInParts


@dataclass(frozen=True)
class PairedRuns:
    """Two runs, and in how many rounds their agents learn."""

    folders: tuple[RunFolder, RunFolder]
    rounds: int

    @property
    def file(self) -> Path:
        """Says how many rounds there are, and from which round and steps the two go on."""
        return self.folders[0].path / _PAIR_FILE

    def write(self, saved: list[int] | None = None) -> None:
        """Note the round and the steps of both after which both have a checkpoint, if they have."""
        write_whole(self.file, json.dumps({"rounds": self.rounds, "saved": saved}).encode())

    def saved(self) -> list[int]:
        """The round after which both have a checkpoint, and the steps of both then; zeros if they have none."""
        found = _read(self.file)["saved"]
        there = found and all(f.checkpoint_file(n).is_file() for f, n in zip(self.folders, found[1:], strict=True))
        return found if there else [0, 0, 0]

    def is_finished(self) -> bool:
        """True if both are trained, and evaluated unless Ctrl-C skipped that."""
        each = [(folder.facts(), folder.is_evaluated()) for folder in self.folders]
        return all(facts and (evaluated or facts.get("evaluation_skipped")) for facts, evaluated in each)


def _read(file: Path) -> dict[str, Any]:
    """The content of a ``pair.json``; a ConfigError if it is damaged."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        rounds, saved = content["rounds"], content["saved"]
        numbers = [rounds, *(saved or (0, 0, 0))]
        if len(numbers) != 4 or not all(type(number) is int and number >= 0 for number in numbers):
            raise ValueError("it holds something else than counts")
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ConfigError(f"{file} is damaged: {error}") from error
    return {"rounds": rounds, "saved": saved}


def pair_configs(agents: tuple[str, str], rounds: int, seed: int, **options: Any) -> list[RunConfig]:
    """The configurations of two runs whose agents learn against each other, with seeds 2 · ``seed`` and one more.

    Until the folders are there the rival is a rule. ``options`` are those of :func:`resolve_config`.

    Raises:
        ConfigError: if one of the agents cannot learn so, or there are more rounds than steps.
    """
    configs = [resolve_config(ENV, agent, seed=2 * seed + i, threads=1, **options) for i, agent in enumerate(agents)]
    for config in configs:
        if not can_learn_in_pair(AGENTS[config.agent]):
            able = [name for name, kind in AGENTS.items() if can_learn_in_pair(kind)]
            raise ConfigError(f"{config.agent} cannot be one of two learners, which are {', '.join(able)}")
    steps = min(config.total_timesteps for config in configs)
    if rounds > steps:
        raise ConfigError(f"rounds={rounds:,}: there are only {steps:,} steps")
    return [replace(config, total_timesteps=steps) for config in configs]


def new_pair(configs: list[RunConfig], rounds: int, path: Path | None) -> PairedRuns:
    """Make the folders of two new runs, below ``runs/`` or in ``path``, with their agents as they begin.

    Raises:
        ConfigError: if ``path`` is there already, or a folder cannot be made.
    """
    if path is not None and path.exists():
        raise ConfigError(f"{path} exists already; a run is never overwritten")
    places = [None if path is None else path / f"{i + 1}-{config.agent}" for i, config in enumerate(configs)]
    first, second = (RunFolder.new(config, place) for config, place in zip(configs, places, strict=True))
    for folder, config in zip((first, second), configs, strict=True):
        new_agent(config, training_environments(config)).save(folder.model_file)
    for folder, config, other in zip((first, second), configs, (second, first), strict=True):
        rival = f"{LEARNING}{other.model_file.resolve()}"
        config = validated(replace(config, env_kwargs={**config.env_kwargs, "rival": rival}))
        folder.write_config(config)
        folder.write_environment(config)
    pair = PairedRuns((first, second), rounds)
    pair.write()
    return pair


def pair_of(folder: RunFolder) -> PairedRuns:
    """The pair of which that is the folder of one run.

    Raises:
        ConfigError: if it is none.
    """
    other = _other(folder)
    if other is None or _other(other) is None:
        raise ConfigError(f"{folder.path} is no run of two that learn against each other")
    here = (folder.path / _PAIR_FILE).is_file()
    first, second = (RunFolder(_short(one.path)) for one in ((folder, other) if here else (other, folder)))
    return PairedRuns((first, second), _read(first.path / _PAIR_FILE)["rounds"])


def _short(path: Path) -> Path:
    """The path as seen from here, if it is below."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def _other(folder: RunFolder) -> RunFolder | None:
    config = folder.config()
    rival = None if config is None else config.env_kwargs.get("rival")
    return RunFolder(Path(rival.removeprefix(LEARNING)).parent) if learns_too(rival) and rival is not None else None


def train_pair(pair: PairedRuns, tell: _TellLine, make_page: MakePage | None = None) -> bool:
    """Train both, evaluate them and leave everything in their folders; False if a signal has stopped that.

    Args:
        pair: new, or one that was stopped or killed.
        tell: takes a line for the user.
        make_page: makes the page of a finished run.

    Raises:
        ConfigError: if another process works in one of the folders.
        RunFailed: if training diverges or memory runs out; the last checkpoint is kept.
    """
    before, started, stop = torch.get_num_threads(), Stopwatch(), StopSignal(None)
    with ExitStack() as at_end, stop:
        at_end.callback(torch.set_num_threads, before)
        torch.set_num_threads(1)  # one network of the two is small, and sums depend on the number
        for folder in pair.folders:
            at_end.enter_context(folder.lock())
        try:
            members = _members(pair, stop, tell, at_end)
            begun = members[0].model.num_timesteps
            _learn(pair, members, stop, tell)
            for member in members:
                _finish(member, started, begun, stop)
        except Stopped:
            return False
        for member in members:
            checkpoints.discard(member.folder)
            if make_page is not None:
                make_page(member.folder)
    return True


def _members(pair: PairedRuns, stop: StopSignal, tell: _TellLine, at_end: ExitStack) -> list[_PairMember]:
    """Both agents, new or as they were saved; their files are closed at the end."""
    members, saved = [], pair.saved()
    for folder, steps in zip(pair.folders, saved[1:], strict=True):
        config = folder.config()
        assert config is not None
        env = training_environments(config)
        at_end.callback(env.close)
        if steps:
            folder.check_environment(config, tell, trains=True)
            model = checkpoints.resumed(learner(config), folder.checkpoint_file(steps), env, tell)
        else:
            folder.clear()
            model = new_agent(config, env)
        tracker = Tracker.start(
            *(folder.path, config.as_dict(), "disabled"),
            progress_file=folder.progress_file,
            id_file=folder.wandb_id_file,
            resume_step=model.num_timesteps if steps else None,
        )
        at_end.callback(tracker.finish)
        model.set_logger(Logger(None, tracker.outputs))
        evaluations = _Evaluations(config, folder, None, stop)
        evaluations.init_callback(model)
        training = LearningInParts(model, config.total_timesteps)
        members.append(_PairMember(config, folder, model, tracker, evaluations, training))
    return members


def _learn(pair: PairedRuns, members: list[_PairMember], stop: StopSignal, tell: _TellLine) -> None:
    """The rounds that are left."""
    total, done, stop.when = members[0].config.total_timesteps, pair.saved()[0], " after this round"
    for number in range(done, pair.rounds):
        exchange(*(member.model for member in members))
        found = _note(members)
        if number == done:
            tell(_line(number, pair.rounds, members, found))
        for member in members:
            with explaining(member.config, member.folder):
                member.training.learn_until(-(-total * (number + 1) // pair.rounds), [member.evaluations])
        parts = [PARTS * n // pair.rounds for n in (number, number + 1)]
        if parts[0] != parts[1] or stop.requested:
            _save(pair, members, number + 1, looks=parts[0] != parts[1])
            tell(_line(number + 1, pair.rounds, members, _came_to(members)))
        stop.check()
    stop.when = ""


def _save(pair: PairedRuns, members: list[_PairMember], done: int, looks: bool) -> None:
    """Models and checkpoints of both, after so many rounds; evaluations where it is time."""
    for member in members:
        member.model.save(member.folder.model_file)
    if looks:
        with torch.random.fork_rng(devices=[]):  # evaluations draw from it too
            for member in members:
                member.evaluations.look()
    for member in members:
        checkpoints.save(member.model, member.folder)
    pair.write([done, *(member.model.num_timesteps for member in members)])


def _came_to(members: list[_PairMember]) -> PricePairs:
    """The pair that the two are by now."""
    market: Any = members[0].model.batch.env  # type: ignore[attr-defined]
    tables = [market.tabulate(partial(best_prices, member.model, market))[0] for member in members]
    return PricePairs(market, np.stack(tables)[None])


def _note(members: list[_PairMember]) -> PricePairs:
    """Put what the two come to into the next row of both runs."""
    found = _came_to(members)
    for firm, member in enumerate(members):
        numbers = {
            "collusion": found.collusion[0],
            "price": found.mean_prices[0, firm],
            "profit": found.mean_profits[0, firm],
            "of_best_percent": 100.0 * found.of_best[0, firm],
        }
        for name, value in numbers.items():
            member.model.logger.record(f"pair/{name}", float(value))
    return found


def _line(done: int, rounds: int, members: list[_PairMember], found: PricePairs) -> str:
    prices, steps = found.mean_prices[0], members[0].config.total_timesteps * done // rounds
    own = " and ".join(f"{100 * share:.1f} %" for share in found.of_best[0])
    return (
        f"{100 * done // rounds:3d} %  {steps:9,} steps each: prices {prices[0]:.3f} and {prices[1]:.3f}, "
        f"collusion {found.collusion[0]:z.3f}; {own} of the best answers"
    )


def _finish(member: _PairMember, started: Stopwatch, begun: int, stop: StopSignal) -> None:
    """The final evaluation, and the facts of a run."""
    config, folder, model = member.config, member.folder, member.model
    reference = config.resolved_env.reference(config.evaluation_kwargs)
    seconds = member.evaluations.seconds_before + started.seconds
    speed = (model.num_timesteps - begun) / started.seconds
    member.training.finish()
    with ProgressOutput(reference.percent_of_optimal) as progress:
        found = final_evaluation(model, config, folder, member.tracker, stop, progress)
    skipped = found is None
    write_facts(folder.facts_file, model, seconds, speed, (None, None), None, skipped, started, folder.facts())
