"""Every environment with every agent, in little; callbacks and comparisons of whole training states."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from stable_baselines3.common.callbacks import BaseCallback

from palaestra.agents.checkpoints.training_state import training_state
from palaestra.envs.registry import entries
from palaestra.train.config import AGENTS
from palaestra.train.config.compatibility import can_act, spaces_of
from palaestra.train.config.presets import preset
from palaestra.train.config.run_config import RunConfig, build_arguments

SMALL = {"n_epochs": 2, "batch_size": 32, "buffer_size": 2000, "learning_starts": 32}
SMALL |= {"sequence_length": 2, "samples_per_insert": 2.0, "target_update_interval": 64}


def grid() -> list[tuple[str, str]]:
    """Every built-in environment with every agent that can act in it as its preset makes it."""
    built_in = [entry for entry in entries() if entry.id.startswith("palaestra/")]
    return [
        (entry.short_name, agent)
        for entry in built_in
        for agent in AGENTS
        if can_act(agent, spaces_of(entry, preset(entry, agent).env_kwargs)[1])
        and (agent != "bc" or entry.has("expert", {}))  # its teacher
    ]


def small(config: RunConfig, n_steps: int, **settings: Any) -> dict[str, Any]:
    """The preset's arguments, with its network and all options, and less to do: rollouts of ``n_steps``."""
    arguments = build_arguments(config)
    given = {**SMALL, "n_steps": n_steps, **settings}
    if AGENTS[config.agent].keeps_replay:
        del given["n_steps"]  # of its returns
    return {**arguments, **{k: v for k, v in given.items() if k in arguments}}


class SaveAt(BaseCallback):
    """Writes a checkpoint at the first iteration that begins at or after a step; then stops, if it is to."""

    def __init__(self, step: int, path: Path, stop: bool) -> None:
        super().__init__()
        self.step, self.path, self.stop = step, path, stop

    def _on_step(self) -> bool:
        return not (self.stop and self.path.exists())

    def _on_rollout_start(self) -> None:
        if self.num_timesteps >= self.step and not self.path.exists():
            self.model.save_checkpoint(self.path)  # type: ignore[attr-defined]


def whole_and_resumed(
    agent: Callable[[], Any], resume: Callable[[Path], Any], steps: int, path: Path
) -> tuple[Any, Any, Any]:
    """An agent trained for so many steps, one stopped half-way, and the one that went on from its file at ``path``."""
    whole = agent()
    whole.learn(steps)
    stopped = agent()  # which seeds the generator again
    stopped.learn(steps, SaveAt(steps // 2, path, stop=True))
    torch.manual_seed(12345)  # the generator is part of the file
    again = resume(path)
    again.learn(steps - again.num_timesteps, reset_num_timesteps=False)
    return whole, stopped, again


def resumed_to_the_bit(*arguments: Any) -> tuple[Any, Any]:
    """The first and the last agent of :func:`whole_and_resumed`, whose training states are proved equal."""
    whole, _, again = whole_and_resumed(*arguments)
    ours, theirs = all_tensors(again), all_tensors(whole)
    assert [name for name, value in ours.items() if not torch.equal(value, theirs[name])] == []
    return whole, again


def all_tensors(model: Any) -> dict[str, torch.Tensor]:
    """Weights, optimiser, generator and everything else of the training state."""
    found: dict[str, torch.Tensor] = {}

    def walk(name: str, value: Any) -> None:
        if isinstance(value, torch.Tensor):
            found[name] = value.detach().clone()
        elif isinstance(value, dict):
            for key, item in value.items():
                walk(f"{name}.{key}", item)
        elif isinstance(value, list | tuple):
            for i, item in enumerate(value):
                walk(f"{name}.{i}", item)

    walk("parameters", model.get_parameters())
    state = training_state(model)
    walk("state", {key: value for key, value in state.items() if key != "window"})
    if model._reward_scale is not None:
        walk("scale", model._reward_scale.state())
    return found
