"""The contract of an exported policy: what goes in, what comes out, and where it comes from, as plain data.

``contract["inputs"]`` and ``["outputs"]`` describe each tensor without its batch dimension:

* ``name``, ``dtype``, ``shape``, and ``kind``: box, image, discrete, multi_discrete, multi_binary or mask;
* ``low`` and ``high`` of boxes (None without a bound), a number where all elements are alike; ``first`` and ``count``
  of choices; ``layout`` of images;
* ``elements``: where the environment names its numbers, rows of ``name``, ``first`` place, ``count``, ``unit``,
  ``scale``, ``offset`` and ``meaning``: x stands for offset + scale x in the unit (:mod:`palaestra.envs.interface`);
  ``choices``: what each discrete action is called.

``environment`` has the id, the settings with which ``palaestra evaluate FILE`` plays and a digest of the source;
``prices``, of a seller, lists what it asks at every moment (:mod:`palaestra.train.export.price_table`);
``agent`` the algorithm, the steps these weights were trained for and the seed; ``scores`` the final evaluation, None
unless it was one of these weights in this environment; ``confirmed`` what came of comparing the file with the agent;
``reference`` how observations, actions and returns of held-out episodes were distributed
(:mod:`palaestra.train.export.held_out.held_out_reference`); ``made_with`` versions, commit and time. Settings that are
infinite or NaN are texts as in YAML (``.inf``, ``-.inf``, ``.nan``), which JSON has no numbers for; elsewhere they are
None.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import Space, spaces
from stable_baselines3.common.preprocessing import is_image_space

from palaestra.agents.export.policy_network import MASK, OBSERVATION
from palaestra.envs.core.batched_env import BatchedEnv
from palaestra.envs.core.vector import TensorVectorEnv
from palaestra.envs.interface import interface_of
from palaestra.envs.interop.host_batch import HostEnv, is_channels_last
from palaestra.envs.registry import resolve
from palaestra.train.config.run_config import with_settings
from palaestra.train.evaluation.policies import AgentPolicy, Player
from palaestra.train.export.policy_file import FORMAT
from palaestra.train.plain_json import finite
from palaestra.train.runs.run_folder import RunFolder

_MOST_BOUNDS = 1024  # elements of a box whose bounds are listed one by one


def given_space(env: BatchedEnv) -> Space[Any]:
    """The observations as the environment itself gives them; images may have their channels last there."""
    return env.given_observation_space if isinstance(env, HostEnv) else env.single_observation_space


def inputs_of(env: BatchedEnv) -> list[dict[str, Any]]:
    """The inputs of a policy for that environment, after a reset (which tells whether there are masks)."""
    space = given_space(env)
    parts = space.spaces if isinstance(space, spaces.Dict) else {OBSERVATION: space}
    inputs = [described(name, part) for name, part in parts.items()]
    if isinstance(env, TensorVectorEnv) and (rows := interface_of(env.env)["observations"]):
        inputs[0]["elements"] = [_element(row) for row in rows]
    if (mask := env.action_masks()) is not None:
        inputs.append({"name": MASK, "kind": "mask", "dtype": "bool", "shape": [int(n) for n in mask.shape[1:]]})
    return inputs


def action_of(env: BatchedEnv) -> dict[str, Any]:
    """The output that is the action."""
    space = env.single_action_space
    action = described("action", space)
    if isinstance(env, TensorVectorEnv):
        interface = interface_of(env.env)
        if choices := interface.get("discrete_actions"):
            action["choices"] = choices
        if rows := interface.get("actions"):
            action["elements"] = [_element(row) for row in rows]
    return action


def _element(row: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key not in ("low", "high") and value != ""}


def described(name: str, space: Space[Any]) -> dict[str, Any]:
    """One tensor of a space, without its batch dimension."""
    if isinstance(space, spaces.Discrete):
        bounds = {"kind": "discrete", "first": int(space.start), "count": int(space.n)}
        return {"name": name, "dtype": "int64", "shape": [], **bounds}
    if isinstance(space, spaces.MultiDiscrete):
        bounds = {"kind": "multi_discrete", "first": space.start.tolist(), "count": space.nvec.tolist()}
        return {"name": name, "dtype": "int64", "shape": [*space.shape], **bounds}
    if isinstance(space, spaces.MultiBinary):
        return {"name": name, "dtype": "int8", "shape": [*space.shape], "kind": "multi_binary"}
    assert isinstance(space, spaces.Box)
    whole = {"name": name, "dtype": str(space.dtype), "shape": [*space.shape]}
    if is_image_space(space):
        layout = "rows, columns, channels" if is_channels_last(space) else "channels, rows, columns"
        return {**whole, "kind": "image", "layout": layout}
    return {**whole, "kind": "box", "low": _bounds(space.low), "high": _bounds(space.high)}


def _bounds(values: np.ndarray[Any, Any]) -> Any:
    """A number where all are alike or there are very many, else a nested list; None for those that are infinite."""
    if values.size and ((values == values.flat[0]).all() or values.size > _MOST_BOUNDS):
        alike = bool((values == values.flat[0]).all())
        return _finite(values.flat[0]) if alike else None
    flat = [_finite(value) for value in values.flat]
    return np.array(flat, dtype=object).reshape(values.shape).tolist()


def _finite(value: Any) -> float | int | None:
    if not np.isfinite(value):
        return None
    return int(value) if np.issubdtype(np.asarray(value).dtype, np.integer) else float(value)


def contract_of(player: Player, env: BatchedEnv, folder: RunFolder) -> dict[str, Any]:
    """The contract with the action as its only output, and without what comes of the comparison.

    Args:
        player: the agent with its environment; its policy is an ``AgentPolicy`` with the name of the model's file.
        env: a batch of that environment, after a reset.
        folder: the run's folder, which may hold nothing but the model.
    """
    assert isinstance(player.policy, AgentPolicy)
    facts, config, played = folder.facts(), folder.config(), resolve(player.env)
    pace = interface_of(env.env)["steps_per_second"] if isinstance(env, TensorVectorEnv) else None
    made_with = {name: facts[name] for name in _NOTED if facts.get(name) is not None}
    made_with |= {name: found for name in _WRITERS if (found := _installed(name)) is not None}
    return {
        "format": FORMAT,
        "version": 1,
        "environment": {
            "id": played.public_name,
            "settings": without_infinities(player.env_kwargs),
            "source": played.source(),
            "steps_per_second": pace,
            "max_episode_steps": env.max_episode_steps,
        },
        "agent": {
            "algorithm": player.label,
            "steps": player.policy.model.num_timesteps,
            "seed": None if config is None else config.seed,
        },
        "inputs": inputs_of(env),
        "outputs": [action_of(env)],
        "scores": _scores(player, folder),
        "made_with": {**made_with, "written": datetime.now(UTC).isoformat(timespec="seconds")},
    }


_NOTED = ("palaestra", "torch", "stable_baselines3", "gymnasium", "numpy", "python", "git_commit")  # by the run
_WRITERS = ("onnx", "onnxscript", "onnxruntime")


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _scores(player: Player, folder: RunFolder) -> dict[str, Any] | None:
    """The run's final evaluation, if it was one of these weights in this environment with these settings."""
    config = folder.config()
    if config is None or Path(player.policy.name) != folder.model_file or not folder.is_finished(config):
        return None
    evaluated = with_settings(config, ())
    if not evaluated.plays_in(player.env) or evaluated.evaluation_kwargs != player.env_kwargs:
        return None
    scores: dict[str, Any] = finite(folder.evaluation())
    return {key: value for key, value in scores.items() if key not in _PLACES} or None


_PLACES = ("env", "run")  # a folder of the machine that trained; the environment is named already


_AS_TEXT = {".inf": math.inf, "-.inf": -math.inf, ".nan": math.nan}


def without_infinities(value: Any) -> Any:
    """Settings with texts, as in YAML, in the place of numbers that JSON lacks."""
    if isinstance(value, dict):
        return {key: without_infinities(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [without_infinities(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return ".nan" if math.isnan(value) else ".inf" if value > 0 else "-.inf"
    return value


def with_infinities(value: Any) -> Any:
    """The settings again that :func:`without_infinities` made plain."""
    if isinstance(value, dict):
        return {key: with_infinities(part) for key, part in value.items()}
    if isinstance(value, list):
        return [with_infinities(part) for part in value]
    return _AS_TEXT.get(value, value) if isinstance(value, str) else value
