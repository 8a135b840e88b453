"""``palaestra collusion --agents A,B``: two agents that learn against each other, each in a run of its own."""

from __future__ import annotations

import shlex
from typing import Any

from palaestra.train.commands import UsageError
from palaestra.train.formatting import tell
from palaestra.train.interruptions import Interrupted

_STEPS, _ROUNDS = 1_000_000, 100
_SHARED = ("seed", "discount")  # options of Q-learners that these have too


def learned_pair(
    agents: str | None, resume: str | None, given: dict[str, Any], training: dict[str, Any]
) -> tuple[str, str]:
    """Train two agents, or go on with two, and return their run folders.

    Args:
        agents: two names with a comma; None where two runs go on.
        resume: the name of one of these.
        given: options of Q-learners that were given.
        training: options of a training.

    Raises:
        UsageError: if the options do not go with each other.
        Interrupted: after a signal.
    """
    from palaestra.train.commands.looking.report import report_after_training
    from palaestra.train.runs.finding import find_run
    from palaestra.train.runs.pair.paired_runs import pair_of, train_pair

    if resume is not None:
        for name in (*(["agents"] if agents is not None else []), *given, *training):
            raise UsageError(f"--resume goes on with the runs' own settings: leave --{name.replace('_', '-')} out")
        pair = pair_of(find_run(resume, to_resume=True))
    else:
        pair = _new_pair(agents or "", given, training)
    first, second = (str(folder.path) for folder in pair.folders)
    if pair.is_finished():
        tell(f"{first} and {second} are finished")
    elif not train_pair(pair, tell, report_after_training):
        tell(f"interrupted; go on with: palaestra collusion --resume {shlex.quote(first)}")
        raise Interrupted
    tell(f"run folders: {first} and {second}")
    return first, second


def _new_pair(agents: str, given: dict[str, Any], training: dict[str, Any]) -> Any:
    from palaestra.train.runs.pair.paired_runs import new_pair, pair_configs

    names = tuple(name.strip() for name in agents.split(","))
    if len(names) != 2:
        raise UsageError(f"--agents {agents}: name two, with a comma, as dqn,ppo")
    for name in given:
        if name not in _SHARED:
            raise UsageError(f"--{name} is of Q-learners: leave it or --agents out")
    rounds, options = training.get("rounds", _ROUNDS), {"total_timesteps": training.get("total_timesteps", _STEPS)}
    if "num_envs" in training:
        options["num_envs"] = training["num_envs"]
    settings = [f"env.discount={given['discount']}"] if "discount" in given else []
    configs = pair_configs((names[0], names[1]), rounds, given.get("seed", 0), settings=settings, **options)
    return new_pair(configs, rounds, training.get("run_dir"))
