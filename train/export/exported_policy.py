"""Exported policies as players: a file acts in its environment like any other policy.

A policy file comes from anywhere, so that nothing is imported because its contract says so: its environment is a
registered one, or the user names it, and so are Gymnasium wrappers.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from palaestra.envs.core.batched_env import BatchedEnv
from palaestra.envs.core.env import torch_dtype
from palaestra.envs.trained_players import let_meet_itself
from palaestra.train.config.compatibility import spaces_of
from palaestra.train.config.run_config import environment, resolve_config
from palaestra.train.config.schema import ConfigError, parse
from palaestra.train.evaluation.policies import Player
from palaestra.train.export.confirm import fed
from palaestra.train.export.contract import action_of, inputs_of, with_infinities
from palaestra.train.export.policy_file import PolicyFile


class ExportedPolicy:
    """The policy of a file: a function of the observations."""

    deterministic = True

    def __init__(self, file: PolicyFile) -> None:
        self.file, self.name = file, str(file.path)
        self._spoken_to: BatchedEnv | None = None

    def __call__(self, env: BatchedEnv, obs: Any) -> Tensor:
        if env is not self._spoken_to:
            self.check(env)
            let_meet_itself(env, self._act)
            self._spoken_to = env
        action = self._act(obs, env.action_masks()).to(env.device)
        return action.to(torch_dtype(env.single_action_space)).view(
            env.num_envs, *(env.single_action_space.shape or ())
        )

    def _act(self, obs: Any, masks: Any = None) -> Tensor:
        """The file's actions."""
        return torch.as_tensor(self.file(fed(self.file.inputs, obs, masks), ["action"])["action"])

    def check(self, env: BatchedEnv) -> None:
        """Raise a ConfigError unless the environment has the form of the contract."""
        said, here = self.file.contract, {"inputs": inputs_of(env), "outputs": [action_of(env)]}
        for what, ends in here.items():
            noted = said[what] if what == "inputs" else said[what][:1]
            forms = [[(end["name"], end["dtype"], [*end["shape"]]) for end in some] for some in (noted, ends)]
            if forms[0] != forms[1]:
                raise ConfigError(f"{self.file.path} has the {what} {forms[0]}, and its environment {forms[1]}")


def opened(path: Path) -> ExportedPolicy:
    """The policy of a file. A PolicyFileError if it is none."""
    return ExportedPolicy(PolicyFile(path))


def player_of(path: Path, env: str | None, settings: Any) -> Player:
    """An exported policy with the environment of its contract, or with ``env``.

    The contract's settings go with its environment, also where ``env`` names that one.

    Raises:
        ConfigError: if the environment cannot be made, has another form, or would have to be imported.
        PolicyFileError: if the file is no policy.
    """
    file = PolicyFile(path)
    noted = file.contract["environment"]
    name = _environment_of(path, noted["id"]) if env is None else env
    own = env is None or noted["id"] in _names(env)
    kwargs = _settings_of(path, noted.get("settings", {}), settings) if own else {}
    config = resolve_config(name, file={"env_kwargs": kwargs}, settings=settings)
    spaces_of(config.resolved_env, config.env_kwargs)  # it can be made
    label = str(file.contract.get("agent", {}).get("algorithm") or "exported")
    episodes = (file.contract.get("scores") or {}).get("episodes") or config.resolved_env.evaluation_episodes
    return Player(config.env, config.evaluation_kwargs, ExportedPolicy(file), "cpu", label, int(episodes))


def _names(env: str) -> tuple[str, ...]:
    """All that a contract may call that environment."""
    found = environment(env)
    return found.public_name, found.absolute_name, found.id


def _environment_of(path: Path, id: str) -> str:
    """The contract's environment; a ConfigError where its name says what to import."""
    if ":" in id or id.endswith(".py"):
        way_out = f"if you trust that, give --env {shlex.quote(id)}"
        raise ConfigError(f"{path} would import {id}, which its contract names: {way_out}")
    return id


_CODE = re.compile(r"[\w./\\~-]+:[A-Za-z_][\w./-]*|.*\.py(:.*)?", re.DOTALL)  # module:Class, or a Python file


def _settings_of(path: Path, noted: dict[str, Any], settings: Any) -> dict[str, Any]:
    """The contract's settings but those that the user replaces; a ConfigError where one of them names code."""
    given = {parse(setting)[0].removeprefix("env.") for setting in settings}
    kept = {key: with_infinities(value) for key, value in noted.items() if key not in given}
    for key, value in kept.items():
        code = next((text for text in _texts(value) if _CODE.fullmatch(text)), None)
        if code is not None or key == "wrappers":
            raise ConfigError(
                f"{path} would import {code or value}, which {key} of its contract names: if you trust that, give it "
                f"yourself with {shlex.join(['--set', f'env.{key}={value}'])}"
            )
    return kept


def _texts(value: Any) -> Iterator[str]:
    """All texts in nested lists and mappings, the keys too."""
    waiting = [value]
    while waiting:
        part = waiting.pop()
        if isinstance(part, str):
            yield part
        elif isinstance(part, dict):
            waiting += [*part.keys(), *part.values()]
        elif isinstance(part, list):
            waiting += part
