"""The check that hindsight has goals to learn from, before a run begins."""

from __future__ import annotations

from typing import Any

from palaestra.envs.core import EnvError
from palaestra.envs.goals import check_goals
from palaestra.envs.specs import ResolvedEnv
from palaestra.train.config.schema import ConfigError


def check_hindsight(env: ResolvedEnv, env_kwargs: dict[str, Any], hindsight: int) -> None:
    """Raise a ConfigError in an environment without goals, for an agent with so many samples of hindsight."""
    batch = env.open(1, "cpu", 0, **env_kwargs)
    try:
        check_goals(batch)
    except EnvError as error:
        raise ConfigError(f"hindsight={hindsight}: {error}, in {env.short_name}; leave it out") from error
    finally:
        batch.close()
