"""The settings of a run that learns from a teacher: ``pretrain``, ``pretrain_steps`` and ``dataset``.

1. ``pretrain`` names the teacher: ``expert``, a model file, or an exported policy (``.onnx``). PPO clones it for
   ``pretrain_steps`` of its steps, then goes on by itself; ``bc`` clones it to the end, the expert if none is named.
2. ``dataset`` names a Minari data set that ``bc`` clones in place of a teacher; no environment is stepped.
3. Agents that learn the values of actions have no use for a teacher: which action it takes says nothing of the values
   of all others.
"""

from __future__ import annotations

from palaestra.agents.imitation.bc import BC
from palaestra.agents.options import AtLeastOne
from palaestra.agents.ppo import PPO
from palaestra.train.config import AGENTS
from palaestra.train.config.schema import ConfigError, Option

EXPERT = "expert"
SHARE = 5  # one part in so many of a run's steps is its lesson if nothing is said


def lesson_steps(agent: str, total_timesteps: int) -> int | None:
    """The length of a lesson for which none is given; None for an agent that only clones."""
    return max(1, total_timesteps // SHARE) if AGENTS[agent] is PPO else None


def check_lesson(
    agent: str, total_timesteps: int, *, pretrain: str | None, pretrain_steps: int | None, dataset: str | None
) -> None:
    """Raise a ConfigError unless the settings of a run go with each other and with its agent."""
    clones, plain = AGENTS[agent] is BC, AGENTS[agent] is PPO
    for name, value in (("pretrain", pretrain), ("dataset", dataset)):
        if not isinstance(value, str | None) or value == "":
            raise ConfigError(f"{name}={value}: expected a name or null")
    steps = Option(AtLeastOne | None).check("pretrain_steps", pretrain_steps)
    if dataset is not None and not clones:
        raise ConfigError(f"dataset={dataset}: {agent} learns from environments; use --agent bc")
    if dataset is not None and pretrain is not None:
        raise ConfigError(f"dataset={dataset} and pretrain={pretrain}: one of them is to be cloned")
    if pretrain is not None and not (clones or plain):
        raise ConfigError(
            f"pretrain={pretrain}: {agent} cannot begin with what a teacher does, ppo can: "
            "use --agent ppo, or --agent bc to clone only"
        )
    if steps is not None and clones:
        raise ConfigError(f"pretrain_steps={steps}: bc clones in all of its steps; use --total-timesteps {steps}")
    if steps is not None and pretrain is None:
        raise ConfigError(f"pretrain_steps={steps}: there is no teacher; name one with --pretrain expert")
    if steps is not None and steps >= total_timesteps:
        raise ConfigError(
            f"pretrain_steps={steps}: must be below total_timesteps={total_timesteps}; --agent bc clones only"
        )
