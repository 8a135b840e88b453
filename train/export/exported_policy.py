"""Exported policies as players: a file acts in its environment like any other policy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from palaestra.envs.core.batched_env import BatchedEnv
from palaestra.envs.core.env import torch_dtype
from palaestra.train.config.compatibility import spaces_of
from palaestra.train.config.run_config import resolve_config
from palaestra.train.config.schema import ConfigError
from palaestra.train.evaluation.policies import Player
from palaestra.train.export.confirm import fed
from palaestra.train.export.contract import action_of, inputs_of
from palaestra.train.export.policy_file import PolicyFile


class ExportedPolicy:
    """The policy of a file: a function of the observations."""

    deterministic = True

    def __init__(self, file: PolicyFile) -> None:
        self.file, self.name = file, str(file.path)
        self._spoken_to: BatchedEnv | None = None

    def __call__(self, env: BatchedEnv, obs: Any) -> Tensor:
        if env is not self._spoken_to:
            self._check(env)
            self._spoken_to = env
        feed = fed(self.file.inputs, obs, env.action_masks())
        action = torch.as_tensor(self.file(feed, ["action"])["action"], device=env.device)
        return action.to(torch_dtype(env.single_action_space)).view(
            env.num_envs, *(env.single_action_space.shape or ())
        )

    def _check(self, env: BatchedEnv) -> None:
        """Raise a ConfigError unless the environment has the form of the contract."""
        said, here = self.file.contract, {"inputs": inputs_of(env), "outputs": [action_of(env)]}
        for what, ends in here.items():
            noted = said[what] if what == "inputs" else said[what][:1]
            forms = [[(end["name"], end["dtype"], [*end["shape"]]) for end in some] for some in (noted, ends)]
            if forms[0] != forms[1]:
                raise ConfigError(f"{self.file.path} has the {what} {forms[0]}, and its environment {forms[1]}")


def player_of(path: Path, env: str | None, settings: Any) -> Player:
    """An exported policy with the environment of its contract.

    Raises:
        ConfigError: if the environment cannot be made, or has another form.
        PolicyFileError: if the file is no policy.
    """
    file = PolicyFile(path)
    noted = file.contract["environment"]
    kwargs = noted.get("settings", {}) if env is None else {}
    config = resolve_config(env or noted["id"], file={"env_kwargs": kwargs}, settings=settings)
    spaces_of(config.resolved_env, config.env_kwargs)  # it can be made
    label = str(file.contract.get("agent", {}).get("algorithm") or "exported")
    episodes = (file.contract.get("scores") or {}).get("episodes") or config.resolved_env.evaluation_episodes
    return Player(config.env, config.env_kwargs, ExportedPolicy(file), "cpu", label, int(episodes))
