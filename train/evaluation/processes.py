"""Episodes of Gymnasium environments in several processes, one for each core.

1. A process is a fork: it has the policy already, makes its own environments, plays a range of the episodes with one
   thread, and sends what they gave. Episode k is the same wherever it is played.
2. There are none where a fork would be of no use or could hang: on a GPU, with JAX or TensorFlow, for few episodes, for
   policies that are not ours and may keep something, and where ``vectorization_mode`` says where environments run.
"""

from __future__ import annotations

import multiprocessing
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from multiprocessing import connection
from typing import Any, TypeVar

import torch

from palaestra.envs.core import EnvError
from palaestra.envs.core.host import available_cores
from palaestra.envs.core.user_code import RAISED, describe
from palaestra.envs.interop.worker_process import NAME, Starting, leave_signals_to_parent
from palaestra.train.evaluation.policies import AgentPolicy, Policy, RandomPolicy, Tell

FEW = 50  # fewer episodes are not worth while
LOOKING = 0.2  # s between two looks at the signals
GRACE = 1.0  # seconds that the other processes have to end by themselves when one has failed

T = TypeVar("T")


def processes_for(policy: Policy, episodes: int, device: str, env_kwargs: dict[str, Any]) -> int:
    """How many to play the episodes in; 1 for this one."""
    able = isinstance(policy, AgentPolicy | RandomPolicy) and episodes >= FEW
    able = able and device == "cpu" and env_kwargs.get("vectorization_mode", "auto") == "auto"
    able = able and "fork" in multiprocessing.get_all_start_methods()
    able = able and not any(
        name in sys.modules for name in ("jax", "tensorflow")
    )  # their threads do not outlive a fork
    return available_cores() if able else 1


def play_in_processes(
    play: Callable[[range, Tell], list[T]], policy: Policy, episodes: int, count: int, tell: Tell
) -> list[T]:
    """What ``play`` gives for the ranges into which the processes divide the episodes, in their order.

    ``tell`` takes how many episodes are over, of all.

    Raises:
        EnvError: what it raises in one of them, or that one has died.
    """
    context: Any = multiprocessing.get_context("fork")
    bounds = [episodes * index // count for index in range(count + 1)]
    processes: dict[Any, Any] = {}  # by their pipes, as the answers are
    answers: dict[Any, list[T]] = {}
    over: dict[Any, float] = {}
    try:
        with Starting():
            for first, end in pairwise(bounds):
                ours, theirs = context.Pipe(duplex=False)
                work = (play, range(first, end), theirs)
                processes[ours] = context.Process(target=_work, args=work, name=f"{NAME}-from-{first}", daemon=True)
                processes[ours].start()
                theirs.close()
        while len(answers) < count:
            if isinstance(policy, AgentPolicy):
                policy.check()
            for pipe in connection.wait([pipe for pipe in processes if pipe not in answers], LOOKING):
                answer = _answer(pipe, processes[pipe])
                if isinstance(answer, float):
                    over[pipe] = answer
                    tell(sum(over.values()))
                else:
                    answers[pipe] = answer
    except EnvError:
        for process in processes.values():
            process.join(GRACE)  # so that environments close what they hold, if that is soon
        raise
    finally:
        for process in processes.values():
            process.kill()
            process.join()
    return [part for pipe in processes for part in answers[pipe]]


def _work(play: Callable[[range, Tell], list[T]], episodes: range, pipe: Any) -> None:
    """What a process runs: it sends numbers of episodes that are over, and in the end what they gave."""
    leave_signals_to_parent()
    torch.set_num_threads(1)
    told = time.monotonic()

    def tell(over: float) -> None:
        nonlocal told
        if time.monotonic() - told > LOOKING:
            told = time.monotonic()
            pipe.send(float(over))

    try:
        pipe.send(play(episodes, tell))
    except RAISED as error:
        pipe.send(error if isinstance(error, EnvError | MemoryError) else EnvError(describe(error)))


def _answer(pipe: Any, process: Any) -> Any:
    try:
        answer = pipe.recv()
    except EOFError:
        process.join()
        raise EnvError(f"a process of the evaluation has died (exit code {process.exitcode})") from None
    if isinstance(answer, Exception):
        raise answer
    return answer
