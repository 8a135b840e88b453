"""The settings of a run that learns from a teacher: ``pretrain``, ``pretrain_steps`` and ``dataset``.

1. ``pretrain`` names the teacher: ``expert``, a model file, or an exported policy (``.onnx``). PPO clones it for
   ``pretrain_steps`` of its steps, then goes on by itself; ``bc`` clones it to the end, the expert if none is named.
2. ``dataset`` names a Minari data set that ``bc`` clones in place of a teacher; no environment is stepped.
3. Agents that learn the values of actions have no use for a teacher: which action it takes says nothing of the values
   of all others.
"""

from __future__ import annotations

from dataclasses import replace

from palaestra.agents.imitation.bc import BC
from palaestra.agents.options import AtLeastOne
from palaestra.agents.ppo import PPO
from palaestra.train.config import AGENTS
from palaestra.train.config.run_config import RunConfig
from palaestra.train.config.schema import ConfigError, Option

EXPERT = "expert"
SHARE = 5  # one part in so many of a run's steps is its lesson if nothing is said


def with_lesson_steps(config: RunConfig) -> RunConfig:
    """The configuration with its lesson's length: all of the run for an agent that only clones."""
    if AGENTS[config.agent] is not PPO or type(config.total_timesteps) is not int:
        return config
    return replace(config, pretrain_steps=max(1, config.total_timesteps // SHARE))


def check_lesson(config: RunConfig) -> None:
    """Raise a ConfigError unless the settings of a run go with each other and with its agent."""
    clones, plain = AGENTS[config.agent] is BC, AGENTS[config.agent] is PPO
    for name in ("pretrain", "dataset"):
        if not isinstance(getattr(config, name), str | None) or getattr(config, name) == "":
            raise ConfigError(f"{name}={getattr(config, name)}: expected a name or null")
    steps = Option(AtLeastOne | None).check("pretrain_steps", config.pretrain_steps)
    if config.dataset is not None and not clones:
        raise ConfigError(f"dataset={config.dataset}: {config.agent} learns from environments; use --agent bc")
    if config.dataset is not None and config.pretrain is not None:
        raise ConfigError(f"dataset={config.dataset} and pretrain={config.pretrain}: one of them is to be cloned")
    if config.pretrain is not None and not (clones or plain):
        raise ConfigError(
            f"pretrain={config.pretrain}: {config.agent} cannot begin with what a teacher does, ppo can: "
            "use --agent ppo, or --agent bc to clone only"
        )
    if steps is not None and clones:
        raise ConfigError(f"pretrain_steps={steps}: bc clones in all of its steps; use --total-timesteps {steps}")
    if steps is not None and config.pretrain is None:
        raise ConfigError(f"pretrain_steps={steps}: there is no teacher; name one with --pretrain expert")
    if steps is not None and steps >= config.total_timesteps:
        raise ConfigError(
            f"pretrain_steps={steps}: must be below total_timesteps={config.total_timesteps}; --agent bc clones only"
        )
