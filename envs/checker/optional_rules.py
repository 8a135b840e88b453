"""The rules of the conformance checker on the optional members of a tensor environment, and on its Gymnasium view.

A member that the author did not write does not apply, and the checker says what it would bring.
"""

from __future__ import annotations

import copy
import inspect
import json
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Discrete
from gymnasium.utils.env_checker import check_env as gymnasium_check
from stable_baselines3.common.env_checker import check_env as sb3_check
from torch import Tensor

from palaestra.envs.checker.figure_rules import report_figures
from palaestra.envs.checker.findings import DoesNotApply, Remark, others_verdict
from palaestra.envs.checker.game_rules import two_players
from palaestra.envs.checker.value_rules import SHORT, Rule, Subject, first_row, random_actions
from palaestra.envs.core import Reference, TensorEnv, TensorVectorEnv, torch_dtype
from palaestra.envs.core.suggest import closest
from palaestra.envs.core.symmetries.commuting import first_fault
from palaestra.envs.core.symmetries.group import checked_symmetries
from palaestra.envs.interface import names_problem
from palaestra.envs.interop.gymnasium_env import SingleEnv
from palaestra.envs.wrappers import WRAPPER_SETTINGS, UnseenRules, Wrapper, take_settings, wrapped
from palaestra.envs.wrappers.two_players.by_settings import one_player_view, take_game_settings

EPISODES = 256  # episodes of each policy that the reference is compared with
SECONDS = 2.0  # time that they may take
ERRORS = 5.0  # standard errors between a measured return and the documented one
SMALLEST = 1e-4  # difference that counts: what happens too rarely to be seen earns less
ROUNDING = 0.005  # a documented figure has three significant digits


def expert(subject: Subject) -> str | None:
    if not subject.env.has("expert"):
        return DoesNotApply("write expert(state), a strong scripted policy: agents are compared with it")
    batch = subject.batch()
    batch.reset()
    space, actions = subject.env.action_space, batch.env.expert(batch.state)
    shape, dtype = (subject.num_envs, *(space.shape or ())), torch_dtype(space)
    if not isinstance(actions, Tensor) or actions.shape != shape:
        return f"expert must return {shape} actions, got {getattr(actions, 'shape', actions)}"
    if actions.dtype != dtype or not all(space.contains(a) for a in actions[:64].numpy()):
        return f"expert must return {dtype} actions within {space}, got {actions.dtype} in {actions.aminmax()}"
    return None


def success(subject: Subject) -> str | None:
    if not subject.env.has("success"):
        return DoesNotApply("write success(state): evaluations tell the rate of success")
    return _flags(subject, "success", (subject.num_envs,))


def action_mask(subject: Subject) -> str | None:
    space = subject.env.action_space
    if not subject.env.has("action_mask"):
        if not isinstance(space, Discrete):
            return DoesNotApply("it is for Discrete actions")
        return DoesNotApply("write action_mask(state) where some actions are illegal: agents leave them out")
    return _flags(subject, "action_mask", (subject.num_envs, int(getattr(space, "n", 0))))


def _flags(subject: Subject, name: str, shape: tuple[int, ...]) -> str | None:
    batch = subject.batch()
    batch.reset()
    value: Any = getattr(batch.env, name)(batch.state)
    if not isinstance(value, Tensor) or value.shape != shape or value.dtype != torch.bool:
        got = f"{value.dtype} {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        return f"{name} must return a bool tensor of shape {shape}, got {got}"
    if name == "action_mask" and not value.any(1).all():
        return f"action_mask of env {first_row(~value.any(1))} allows no action"
    return None


def stresses(subject: Subject) -> str | None:
    """Settings that there are, or rules that play the same game."""
    if not subject.env.has("stresses"):
        return DoesNotApply("write stresses(): evaluate --stress has sticky actions and late observations without it")
    named: Any = subject.env.stresses()
    if not isinstance(named, Mapping) or not all(isinstance(name, str) for name in named):
        return f"stresses must return a dict by name, got {named!r}"
    for name, change in named.items():
        if isinstance(change, TensorEnv):
            fault = _other_rules(subject, change)
        elif isinstance(change, Mapping):
            fault = _other_settings(subject, dict(change))
        else:
            fault = f"must be a dict of settings or a TensorEnv, got {type(change).__name__}"
        if fault is not None:
            return f"stresses[{name!r}] {fault}"
    return None


def _other_rules(subject: Subject, rules: TensorEnv[Any]) -> str | None:
    if rules.action_space != subject.env.action_space:
        return f"has the actions {rules.action_space}, not {subject.env.action_space}"
    batch = TensorVectorEnv(UnseenRules(copy.deepcopy(rules), copy.deepcopy(subject.env)), 8, device="cpu")
    batch.reset()
    batch.step(random_actions(batch, 1, batch.action_masks()))
    return None


def _other_settings(subject: Subject, settings: dict[str, Any]) -> str | None:
    inside = subject.env
    while isinstance(inside, Wrapper):
        inside = inside.env
    of_game = take_game_settings(inside, dict(settings))
    known = {*inspect.signature(type(inside)).parameters, *WRAPPER_SETTINGS, "max_episode_steps", *of_game}
    for key in settings:
        if key not in known:
            near = closest(str(key), known)
            return f"sets {key!r}, which is no argument" + (f"; did you mean {near!r}?" if near else "")
    try:
        json.dumps(settings)
    except (TypeError, ValueError):
        return f"must be numbers, texts, lists and dicts, got {settings}"
    wrapped(one_player_view(copy.deepcopy(inside), of_game), take_settings(settings))
    return None


def step_figures(subject: Subject) -> str | None:
    if not subject.env.has("step_figures"):
        return DoesNotApply("write step_figures(…): evaluations tell the means of figures of each step")
    batch = subject.batch()
    batch.reset()
    before, actions = batch.state, random_actions(batch, 1, batch.action_masks())
    batch.step(actions)
    figures: Any = batch.env.step_figures(before, before, actions, batch.final_state)
    if not isinstance(figures, dict):
        return f"step_figures must return a dict by name, got {type(figures).__name__}"
    for name, value in figures.items():
        if not isinstance(value, Tensor) or value.shape != (subject.num_envs,) or not value.is_floating_point():
            got = f"{value.dtype} {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
            return f"step_figures[{name!r}] must be a floating-point tensor of shape ({subject.num_envs},), got {got}"
    return None


def symmetries(subject: Subject) -> str | None:
    """Maps of the right form, with which the rules commute."""
    if not subject.env.has("symmetries"):
        return DoesNotApply("write symmetries() if there are any, as left and right: agents learn of all at once")
    try:
        named = checked_symmetries(subject.env)
    except ValueError as error:
        return str(error)
    faults = [fault for one in named if (fault := first_fault(subject.env, one, seed=subject.seed))]
    return faults[0] if faults else None if named else DoesNotApply("symmetries names none with these settings")


def keys(subject: Subject) -> str | None:
    env, space = subject.env, subject.env.action_space
    if not env.keys_to_action and not env.has("keys_in"):
        if not isinstance(space, Discrete):
            return DoesNotApply("it is for Discrete actions")
        return DoesNotApply("write keys_to_action: a person can play with the keyboard")
    batch = subject.batch(8)
    batch.reset()
    for pairs in (env.keys_to_action, *(batch.env.keys_in(batch.state_of(row)) for row in range(8))):
        for key, action in pairs.items():
            if not isinstance(key, str) or not isinstance(space, Discrete) or not space.contains(action):
                return f"keys_to_action: {key!r} → {action!r} must map a key's name to an action of {space}"
    return None


def names(subject: Subject) -> str | None:
    env = subject.env
    if not env.has("observation_names"):
        return DoesNotApply("write observation_names: people and programs read what each number means, and its unit")
    for member, space in (("observation_names", env.observation_space), ("action_names", env.action_space)):
        told = getattr(env, member)
        problem = names_problem(told, space) if told != () else None
        if problem:
            return f"{member} {problem}"
    if not env.observation_names:
        return DoesNotApply("observation_names is empty")
    return None


def pictures(subject: Subject) -> str | None:
    if not subject.env.has("draw"):
        return DoesNotApply("write draw(state, canvas): the environment can be watched, recorded and played")
    from palaestra.envs.rendering.picture import picture

    batch = subject.short(4)
    batch.reset()
    frames = [picture(batch.env, batch.state_of(0))]
    for step in range(1, SHORT + 2):
        batch.step(random_actions(batch, step))
        frames.append(picture(batch.env, batch.state_of(0)))
    if any(frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 for frame in frames):
        return "a picture must be uint8 [height, width, 3]"
    if len({frame.shape for frame in frames}) > 1:
        return "the size of the picture changes from step to step: keep it fixed, a video needs that"
    return None


def views(subject: Subject) -> str | None:
    """The official checkers of the single-environment view; ``pictures`` looks at what it draws."""
    view = SingleEnv(copy.deepcopy(subject.env))
    view.action_space.seed(subject.seed)
    checks = {
        "gymnasium": lambda env: gymnasium_check(env, skip_render_check=True),
        "stable_baselines3": lambda env: sb3_check(env, skip_render_check=True),
    }
    return others_verdict(checks, view)


def reference(subject: Subject) -> str | None:
    """The documented returns against measured ones."""
    known: Any = subject.env.reference
    if not isinstance(known, Reference):
        return f"reference must be a Reference, got {type(known).__name__}"
    if known.random is not None and known.optimum is not None and known.optimum < known.random:
        return f"reference.optimum, {known.optimum:g}, is below reference.random, {known.random:g}"
    figures = {"random": known.random, "expert": known.optimum if subject.env.has("expert") else None}
    outcomes = [_compared(subject, name, figure) for name, figure in figures.items() if figure is not None]
    if not outcomes:
        return DoesNotApply("write reference, the returns of random play and of the best: scores become percentages")
    if all(isinstance(outcome, DoesNotApply) for outcome in outcomes):
        return outcomes[0]
    said = [Remark(o) if isinstance(o, DoesNotApply) else o for o in outcomes if o is not None]
    return next((text for text in said if not isinstance(text, Remark)), said[0] if said else None)


def _compared(subject: Subject, policy: str, figure: float) -> str | None:
    """The mean return of ``random``, which must be the figure, or of ``expert``, which must not be above it."""
    returns = _first_returns(subject, policy == "expert")
    if returns is None:
        return DoesNotApply(f"{EPISODES} {policy} episodes take longer than {SECONDS:g} s: not measured")
    mean, error = returns.mean().item(), returns.std().item() / EPISODES**0.5
    excess = abs(mean - figure) if policy == "random" else mean - figure
    if excess <= ERRORS * error + ROUNDING * abs(figure) + SMALLEST:
        return None
    measured = f"the {policy} policy's mean return over {EPISODES} episodes is {mean:.4g} ± {error:.2g}"
    if policy == "random":
        return f"{measured}, but reference.random is {figure:g}: correct it"
    return f"{measured}, above reference.optimum, {figure:g}: nothing can be better than the optimum"


def _first_returns(subject: Subject, expert: bool) -> Tensor | None:
    """Returns [EPISODES] of the first episodes of as many environments; None where they take too long."""
    batch = subject.batch(EPISODES)
    batch.reset()
    returns = torch.zeros(EPISODES, dtype=torch.float64)
    running = torch.ones(EPISODES, dtype=torch.bool)
    start, step = time.perf_counter(), 0
    while running.any():
        if time.perf_counter() - start > SECONDS:
            return None
        step += 1
        actions = batch.env.expert(batch.state) if expert else random_actions(batch, step, batch.action_masks())
        _, reward, terminated, truncated, _ = batch.step(actions)
        returns += torch.where(running, reward, 0.0)
        running &= ~(terminated | truncated)
    return returns


MEMBERS: dict[str, Rule] = {
    "expert": expert,
    "success": success,
    "action mask": action_mask,
    "stresses": stresses,
    "step figures": step_figures,
    "report figures": report_figures,
    "symmetries": symmetries,
    "two players": two_players,
    "keys": keys,
    "names": names,
    "pictures": pictures,
    "reference": reference,
    "views": views,
}
