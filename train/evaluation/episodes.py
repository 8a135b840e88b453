"""Evaluation of a policy on episodes that training never saw.

1. One episode per environment: all episodes of a batch are run to their end and the first of each row is counted, so
   that short episodes are not counted more often than long ones. Episodes without a time limit may never end: they are
   cut after ``MAX_STEPS`` steps, those of Gymnasium environments after ``MAX_HOST_STEPS``, and count with what they
   have collected until then.
2. Seeds: training uses 0 … 2^32 − 1, evaluation 2^32 + seed. The streams of the generator share nothing, nor do the
   seeds of simulators; see :mod:`palaestra.envs.interop.simulator_seeds`. Episode k is that of environment k: it
   depends neither on the batch nor on what was played before.
3. Statistics: mean, standard deviation, interquartile mean (Agarwal et al., "Deep reinforcement learning at the edge of
   the statistical precipice", 2021), and 95 % intervals of the mean and of the share of successes
   (:mod:`palaestra.train.evaluation.statistics`).
4. Where an environment can compute a policy's expected return exactly, that is the score.
5. ``percent_of_optimal`` puts the random policy at 0 and the environment's optimum at 100;
   ``ratio_to_optimal_percent`` is the plain ratio, which means something above 0 only.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import torch

from palaestra.envs.building import vector_env
from palaestra.envs.core import BatchedEnv, EnvError, Reference, TensorEnv, TensorVectorEnv
from palaestra.envs.interop.simulator_seeds import HELD_OUT_SEEDS
from palaestra.envs.registry import resolve
from palaestra.envs.wrappers import WRAPPER_SETTINGS
from palaestra.envs.wrappers.two_players.game_view import opponent_in
from palaestra.train.evaluation.policies import Policy, Tell, on_states, untold
from palaestra.train.evaluation.statistics import interquartile_mean, mean_interval, share_interval

EVALUATION_SEEDS = HELD_OUT_SEEDS  # added to the seed of an evaluation
VALIDATION_SEED = 2**31  # of evaluations during training, so that best.zip is not chosen on the final episodes

MAX_STEPS = 100_000  # of an episode in tensors without a time limit
ROOT = "rms_"  # of which the root mean square is told, see ``TensorEnv.step_figures``
MAX_HOST_STEPS = 10_000  # the same in a Gymnasium environment, whose copies step one after another


@dataclass(frozen=True)
class Episodes:
    """Raw results, one entry per episode."""

    returns: np.ndarray[Any, np.dtype[np.float64]]
    lengths: np.ndarray[Any, np.dtype[np.int64]]
    successes: np.ndarray[Any, np.dtype[np.bool_]] | None
    cut: np.ndarray[Any, np.dtype[np.bool_]]  # those that had no end within ``most_steps``
    step_sums: dict[str, float] = field(default_factory=dict)  # of ``step_figures`` over all steps, rms_… squared


@dataclass(frozen=True)
class Evaluation:
    """The object that ``palaestra evaluate --json`` prints."""

    env: str
    run: str
    episodes: int
    seed: int
    mean: float
    std: float
    iqm: float
    ci_low: float
    ci_high: float
    percent_of_optimal: float | None
    ratio_to_optimal_percent: float | None
    success_rate: float | None
    mean_length: float
    reference: dict[str, Any]
    more: dict[str, float]  # what the environment adds
    cut_episodes: int = 0  # that had no end when they were cut
    cut_after: int | None = None  # steps
    success_ci_low: float | None = None
    success_ci_high: float | None = None
    opponent: str | None = None  # in a game for two, as its setting names it
    played: Episodes | None = field(default=None, repr=False, compare=False)  # one by one, by these rules
    rules: TensorEnv[Any] | None = field(default=None, repr=False, compare=False)

    @property
    def cut(self) -> str | None:
        """Says in a line how many episodes were cut, and how to choose where; None where all have ended."""
        if not self.cut_episodes:
            return None
        share = f"{self.cut_episodes:,} of {self.episodes:,} episodes had no end and were cut"
        return f"{share} after {self.cut_after:,} steps (--set env.max_episode_steps=N sets a limit)"

    @property
    def score(self) -> float:
        """The expected return where it is known exactly, else the mean of the episodes."""
        return self.more.get("exact_mean", self.mean)

    @property
    def lower_end(self) -> float:
        """The same, or the lower end of the mean's interval; the mean where all episodes gave it."""
        return self.more.get("exact_mean", self.ci_low if self.std else self.mean)

    def as_dict(self) -> dict[str, Any]:
        plain = asdict(replace(self, played=None, rules=None))
        del plain["played"], plain["rules"]
        if self.opponent is None:
            del plain["opponent"]
        more: dict[str, float] = plain.pop("more")
        return plain | more


def most_steps(env: BatchedEnv) -> int:
    """Steps after which an episode is cut, unless it has ended; with a time limit they all have."""
    if env.max_episode_steps is not None:
        return env.max_episode_steps
    return MAX_STEPS if isinstance(env, TensorVectorEnv) else MAX_HOST_STEPS


def _tell_more(tell: Tell, before: int, over: float) -> None:
    tell(before + over)


@torch.no_grad()
def run_episodes(env: BatchedEnv, policy: Policy, tell: Tell = untold) -> Episodes:
    """Play the first episode of each row of ``env`` to its end, or for :func:`most_steps`."""
    obs, _ = env.reset()
    n, device = env.num_envs, env.device
    finished = torch.zeros(n, dtype=torch.bool, device=device)
    returns, lengths = torch.zeros(n, device=device), torch.zeros(n, dtype=torch.int64, device=device)
    successes: torch.Tensor | None = None
    longest = most_steps(env)
    figures = _StepSums(env) if isinstance(env, TensorVectorEnv) and env.env.has("step_figures") else None
    for step in range(longest):
        actions = policy(env, obs)
        if figures is not None:
            figures.begin()
        obs, _, terminated, truncated, info = env.step(actions)
        if figures is not None:
            figures.add(actions, ~finished)
        first = (terminated | truncated) & ~finished
        returns = torch.where(first, info["episode"]["r"], returns)
        lengths = torch.where(first, info["episode"]["l"], lengths)
        if "is_success" in info:
            successes = torch.zeros_like(finished) if successes is None else successes
            successes = torch.where(first, info["is_success"], successes)
        finished |= first
        if step % 8 == 7:  # looking costs a synchronisation
            over = int(finished.sum())
            tell(max(over, n * (step + 1) / longest))
            if over == n:
                break
    returns = torch.where(finished, returns, info["episode"]["r"])
    lengths = torch.where(finished, lengths, info["episode"]["l"])
    flags = None if successes is None else successes.cpu().numpy()
    sums = {} if figures is None else {name: float(total) for name, total in figures.sums.items()}
    return Episodes(returns.double().cpu().numpy(), lengths.cpu().numpy(), flags, ~finished.cpu().numpy(), sums)


class _StepSums:
    """Sums of an environment's ``step_figures`` over the steps of the episodes that count, on the device."""

    def __init__(self, env: TensorVectorEnv[Any]) -> None:
        self.sums: dict[str, torch.Tensor] = {}
        self._env, self._before = env, env.state
        self._earlier = env.state

    def begin(self) -> None:
        """Call it before each step; rows that have begun a second episode no longer count."""
        self._earlier, self._before = self._before, self._env.state

    def add(self, actions: torch.Tensor, counts: torch.Tensor) -> None:
        """Add the step just taken, of the rows that count, bool [N]."""
        rules = self._env.env
        for name, value in rules.step_figures(self._earlier, self._before, actions, self._env.final_state).items():
            value = value.double().square() if name.startswith(ROOT) else value.double()
            total = torch.where(counts, value, 0.0).sum()
            self.sums[name] = self.sums[name] + total if name in self.sums else total


def _step_means(parts: list[Episodes]) -> dict[str, float]:
    """Means over all steps of all episodes, and roots of mean squares."""
    steps = sum(int(part.lengths.sum()) for part in parts)
    means = {name: sum(part.step_sums[name] for part in parts) / steps for name in parts[0].step_sums}
    return {name: mean**0.5 if name.startswith(ROOT) else mean for name, mean in means.items()}


class NotOpenedError(EnvError):
    """An environment cannot be opened, perhaps because another process has done so."""


def _play(
    open_batch: Callable[..., BatchedEnv],
    batch: int,
    policy: Policy,
    device: str,
    seed: int,
    kwargs: dict[str, Any],
    numbers: range,
    tell: Tell = untold,
    *,
    apart: bool = False,
) -> tuple[list[Episodes], TensorEnv[Any] | None]:
    """Episodes of those numbers, a batch at a time, or one by one where an environment can be open once only.

    Args:
        open_batch: makes so many environments on a device, as ``ResolvedEnv.open`` does.
        batch: how many at a time.

    Returns:
        The episodes, and the rules of an environment in tensors.

    Raises:
        NotOpenedError: if the batch cannot be made and others play ``apart``.
    """
    parts: list[Episodes] = []
    rules, first = None, numbers.start
    while first < numbers.stop:
        count = min(batch, numbers.stop - first)
        place = {"first_env_index": first} | ({"vectorization_mode": "sync"} if apart else {})
        try:
            env = open_batch(count, device, EVALUATION_SEEDS + seed, **kwargs | place)
        except EnvError as error:
            if apart:
                raise NotOpenedError(str(error)) from error
            if batch == 1:
                raise
            batch = 1
            continue
        if isinstance(env, TensorVectorEnv):
            rules = env.env
        try:
            parts.append(run_episodes(env, policy, partial(_tell_more, tell, first - numbers.start)))
        finally:
            env.close()
        first += count
    return parts, rules


def evaluate(
    env_name: str,
    policy: Policy,
    *,
    episodes: int = 1000,
    seed: int = 0,
    device: str = "cpu",
    env_kwargs: dict[str, Any] | None = None,
    tell: Tell = untold,
    changed: TensorEnv[Any] | None = None,
    floor: float | None = None,
) -> Evaluation:
    """Play held-out episodes and summarise them; ``seed`` is offset by ``EVALUATION_SEEDS``.

    Args:
        changed: rules that are played in place of the environment's own, within the wrappers of ``env_kwargs``.
        floor: what an episode may give that goes badly, where no random policy's return is known.

    Raises:
        ValueError: if ``episodes`` is not positive.
    """
    if episodes < 1:
        raise ValueError(f"episodes must be at least 1, got {episodes}")
    found, kwargs = resolve(env_name), dict(env_kwargs or {})
    parts: list[Episodes] = []
    rules: TensorEnv[Any] | None = None
    open_batch: Callable[..., BatchedEnv] = found.open
    if changed is not None:
        limits = {"max_episode_steps", *WRAPPER_SETTINGS}
        kwargs = {"tensor_env": copy.deepcopy(changed)} | {k: v for k, v in kwargs.items() if k in limits}
        open_batch = _open_changed
    if not found.in_tensors:
        from palaestra.train.evaluation.processes import play_in_processes, processes_for

        if (processes := processes_for(policy, episodes, device, kwargs)) > 1:
            play = partial(_play, open_batch, found.default_batch, policy, device, seed, kwargs, apart=True)
            with contextlib.suppress(NotOpenedError):  # perhaps while another process has it open: it is tried here
                parts = play_in_processes(lambda *part: play(*part)[0], policy, episodes, processes, tell)
    if not parts:
        parts, rules = _play(open_batch, found.default_batch, policy, device, seed, kwargs, range(episodes), tell)
    returns = np.concatenate([part.returns for part in parts])
    lengths = np.concatenate([part.lengths for part in parts])
    exact = rules.exact(on_states(policy, rules)) if rules and rules.has("exact") and policy.deterministic else {}
    successes, cut = _successes(parts), np.concatenate([part.cut for part in parts])
    result = summarise(
        env_name, policy.name, seed, returns, lengths, successes, rules, exact, floor, _step_means(parts)
    )
    result = replace(result, played=Episodes(returns, lengths, successes, cut), rules=rules)
    return replace(result, cut_episodes=int(cut.sum()), cut_after=int(lengths.max())) if cut.any() else result


def _open_changed(count: int, device: str, seed: int, **kwargs: Any) -> BatchedEnv:
    return vector_env(count, device=device, seed=seed, **kwargs)


def _successes(parts: list[Episodes]) -> np.ndarray[Any, np.dtype[np.bool_]] | None:
    """The successes of all episodes, or None without any report; an environment may report successes only."""
    if all(part.successes is None for part in parts):
        return None
    return np.concatenate([part.cut & False if part.successes is None else part.successes for part in parts])


def summarise(
    env_name: str,
    run: str,
    seed: int,
    returns: Any,
    lengths: Any,
    successes: Any,
    rules: TensorEnv[Any] | None,
    exact: dict[str, float] | None = None,
    floor: float | None = None,
    step_means: dict[str, float] | None = None,
) -> Evaluation:
    """The statistics of a set of episodes.

    Args:
        rules: None for Gymnasium environments.
        exact: what is known without playing; its ``exact_mean`` stands for the mean return where it is compared with
            the optimum.
        floor: see :func:`evaluate`.
        step_means: further figures, of steps.
    """
    reference = rules.reference if rules else Reference()
    exact = exact or {}
    mean = float(returns.mean())
    score = exact.get("exact_mean", mean)
    low, high = mean_interval(returns, floor if reference.random is None else reference.random)
    share = (None, None) if successes is None else share_interval(int(successes.sum()), len(returns))
    ratio = 100.0 * score / reference.optimum if reference.optimum and reference.optimum > 0 else None
    return Evaluation(
        env=env_name,
        run=run,
        episodes=len(returns),
        seed=seed,
        mean=mean,
        std=float(returns.std(ddof=1)) if len(returns) > 1 else 0.0,
        iqm=interquartile_mean(returns),
        ci_low=low,
        ci_high=high,
        percent_of_optimal=reference.percent_of_optimal(score),
        ratio_to_optimal_percent=ratio,
        success_rate=None if successes is None else float(successes.mean()),
        mean_length=float(lengths.mean()),
        reference={"random": reference.random, "heuristic": reference.heuristic, "optimum": reference.optimum},
        more={**(rules.summary(returns, lengths, successes) if rules else {}), **(step_means or {}), **exact},
        success_ci_low=share[0],
        success_ci_high=share[1],
        opponent=opponent_in(rules),
    )
