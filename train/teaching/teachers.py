"""The teacher of a run, found and checked before the run begins, and the lesson that its agent has of it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from stable_baselines3.common.type_aliases import Schedule
from stable_baselines3.common.utils import FloatSchedule

from palaestra.agents import PPO, CheckpointError
from palaestra.agents.base import OnDeviceAlgorithm
from palaestra.agents.checkpoints.model_file import read
from palaestra.agents.distributed.process_group import process_group
from palaestra.agents.imitation.bc import BC
from palaestra.agents.imitation.lesson import Lesson
from palaestra.agents.imitation.taught_ppo import TaughtPPO
from palaestra.envs.core import resolve_device
from palaestra.train.config import AGENTS, agent_in
from palaestra.train.config.compatibility import check_forms, space_forms
from palaestra.train.config.lessons import EXPERT
from palaestra.train.config.presets import preset
from palaestra.train.config.run_config import RunConfig, build_arguments
from palaestra.train.config.schema import ConfigError, schedule
from palaestra.train.evaluation.episodes import VALIDATION_SEED, evaluate
from palaestra.train.evaluation.policies import AgentPolicy, ExpertPolicy, Policy
from palaestra.train.evaluation.statistics import share_of
from palaestra.train.formatting import known

_EXPORTED = ".onnx"
_BEFORE_PPO = 3.0


def is_taught(config: RunConfig) -> bool:
    """True if the run has a teacher or recorded episodes."""
    return config.pretrain is not None or AGENTS[config.agent] is BC


def learner(config: RunConfig) -> type[OnDeviceAlgorithm]:
    """The class of the run's agent: with a lesson, PPO is one that can be taught."""
    found = AGENTS[config.agent]
    return TaughtPPO if found is PPO and config.pretrain is not None else found


def new_agent(config: RunConfig, env: Any) -> OnDeviceAlgorithm:
    """The run's agent as it begins, in those environments."""
    return learner(config)(env=env, seed=config.seed, **build_arguments(config))


def check_teacher(config: RunConfig) -> None:
    """Raise a ConfigError unless the run's teacher or data set is there and fits its environment."""
    if config.dataset is not None:
        _recorded(config)
    elif is_taught(config):
        teacher_of(config)


def teacher_of(config: RunConfig) -> Policy:
    """The policy that a run clones.

    Raises:
        ConfigError: if there is none of that name, or it has other observations or actions.
    """
    name, env = config.pretrain or EXPERT, config.resolved_env
    if name == EXPERT:
        if not env.has("expert", config.env_kwargs):
            more = ", or recorded episodes with --dataset" if AGENTS[config.agent] is BC else ""
            raise ConfigError(f"{env.short_name} has no expert: name a run or FILE.onnx with --pretrain{more}")
        return ExpertPolicy()
    if name.endswith(_EXPORTED):
        return _exported(Path(name), config)
    try:
        model = read(AGENTS[agent_in(name)], name, device=resolve_device(config.device), to_act=True)
    except (FileNotFoundError, CheckpointError) as error:
        raise ConfigError(f"pretrain={name}: {error}") from error
    try:
        check_forms(space_forms(model.observation_space, model.action_space), env, config.env_kwargs)
    except ConfigError as error:
        raise ConfigError(f"pretrain={name}: {error}") from error
    return AgentPolicy(model, name=name)


def _exported(path: Path, config: RunConfig) -> Policy:
    export = import_module("palaestra.train.export.exported_policy")  # where runs are exported: above them
    policy: Any = export.opened(path)
    batch = config.resolved_env.open(1, "cpu", 0, **config.env_kwargs)
    try:
        policy.check(batch)
    finally:
        batch.close()
    return policy  # type: ignore[no-any-return]


def _recorded(config: RunConfig) -> Any:
    from palaestra.train.datasets.minari_files import read as read_episodes

    assert config.dataset is not None
    return read_episodes(config.dataset, config.resolved_env, config.env_kwargs)


def teach(model: Any, config: RunConfig) -> None:
    """Have the run's agent learn from the run's teacher, and say in ``model.remarks`` how good that is.

    Raises:
        ConfigError: see :func:`teacher_of`.
    """
    if not is_taught(config):
        return
    assert isinstance(model, TaughtPPO)
    steps = config.total_timesteps if config.pretrain_steps is None else config.pretrain_steps
    try:
        teacher: Any = teacher_of(config) if config.dataset is None else _recorded(config)
    except ConfigError as error:
        if model.num_timesteps < steps:
            raise
        model.remarks += (f"the lesson is over, and its teacher has gone: {error}",)
        return
    score: Callable[[int, int], float]
    if config.dataset is None:
        score, what = _scores(teacher, config), config.pretrain or EXPERT
    else:
        mean = float(teacher.returns.mean())
        score, what = (lambda episodes, seed: mean), f"the {len(teacher.returns):,} episodes of {config.dataset}"
    model.begin_lesson(Lesson(teacher, steps, _share(config), score))
    if process_group().rank == 0:
        model.remarks += (f"cloning {what}, {_told(score, config)}",)


def _share(config: RunConfig) -> Schedule:
    """The teacher's share of the actions that are played, as the environment's preset of ``bc`` has it.

    Before PPO the learner plays three times as often: PPO goes on in the states that the learner gets into, with the
    critic that has seen them.
    """
    preset_of_bc = preset(config.resolved_env, "bc").agent_kwargs_with(config.env_kwargs)
    share = FloatSchedule(schedule(preset_of_bc["teacher_share"]))
    return lambda left: max(0.0, 1.0 - _BEFORE_PPO * (1.0 - share(left)))


def _scores(policy: Policy, config: RunConfig) -> Callable[[int, int], float]:
    """The policy's mean return in so many held-out episodes of a seed; it plays them once."""

    @functools.cache
    def score(episodes: int, seed: int) -> float:
        device, kwargs = str(resolve_device(config.device)), config.evaluation_kwargs
        return evaluate(config.env, policy, episodes=episodes, seed=seed, device=device, env_kwargs=kwargs).score

    return score


def _told(score: Callable[[int, int], float], config: RunConfig) -> str:
    """The teacher's score, and its share of the expert's where there is another one, in words."""
    episodes = config.resolved_env.validation_episodes, VALIDATION_SEED
    found, env = score(*episodes), config.resolved_env
    told = f"whose mean return is {known(found)}"
    if (config.dataset is None and config.pretrain in (None, EXPERT)) or not env.has("expert", config.env_kwargs):
        return told
    experts = _scores(ExpertPolicy(), config)(*episodes)
    share = share_of(found, experts, env.reference(config.evaluation_kwargs).random)
    return told if share is None else f"{told}, {share:.1f} % of the expert's"
