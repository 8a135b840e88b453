"""A model card: what an agent is, how good it is, what it has cost and where its limits are, for those who get it.

It is Markdown with front matter as Hugging Face reads it: the scores stand in ``model-index``, a task, a data set (here
the environment) and metrics, see https://huggingface.co/docs/hub/model-cards. All of it is taken from the run's folder;
what is not known, such as a licence, is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from palaestra.envs.core.user_code import RAISED, one_line
from palaestra.envs.interface import interface_of
from palaestra.envs.specs import ResolvedEnv
from palaestra.train.config import AGENTS
from palaestra.train.config.compatibility import spaces_of
from palaestra.train.config.description import card as card_of
from palaestra.train.config.run_config import RunConfig
from palaestra.train.config.schema import ConfigError, dump_yaml
from palaestra.train.evaluation.episodes import Evaluation
from palaestra.train.formatting import NORMALISED, SCORES, condition_name, known
from palaestra.train.markdown import markdown_table
from palaestra.train.results.cost import Cost, EnergyFactors, cost_of
from palaestra.train.results.evaluation_report import named_figure
from palaestra.train.results.stored_scores import final_evaluation, stored_stress
from palaestra.train.runs.run_folder import RunFolder

LIBRARY = "palaestra"
_TASK = "reinforcement-learning"  # as Hugging Face calls it
_LONGEST_VALUE = 100  # letters of a setting
_OF_STRESS = ("_optimum", "_ratio_percent")  # what pricing adds to an evaluation of its shifted markets


@dataclass(frozen=True)
class _Told:
    """What a run's folder tells."""

    config: RunConfig
    env: ResolvedEnv
    facts: dict[str, Any]
    scores: Evaluation | None
    stress: dict[str, Any] | None
    cost: Cost
    finished: bool

    @property
    def agent(self) -> str:
        return AGENTS[self.config.agent].__name__

    @property
    def is_exact(self) -> bool:
        return self.scores is not None and "exact_mean" in self.scores.more


def model_card(folder: RunFolder, factors: EnergyFactors | None = None) -> str:
    """The card of a run's newest weights, as the text of a Markdown file.

    Args:
        folder: the run's.
        factors: of electricity and CO₂, see :mod:`palaestra.train.results.cost`.

    Raises:
        ConfigError: if the folder holds no run with a model, or one of its files is damaged.
    """
    config = folder.config()
    if config is None:
        raise ConfigError(f"{folder.path} is no run folder: it has no {folder.config_file.name}")
    folder.model()
    scores, stress, cost = final_evaluation(folder), stored_stress(folder), cost_of(folder, factors)
    finished = folder.is_finished(config)
    told = _Told(config, config.resolved_env, folder.facts(), scores, stress, cost, finished)
    sections = {
        "Task": _task(told),
        "Score": _score(told),
        "In changed conditions": _stress(told),
        "Training": _training(told),
        "Cost": _cost(told.cost),
        "Limits": "\n".join(f"* {line}" for line in _limits(told)),
        "Use it": _use(told, folder.model_file.name),
    }
    text = "\n\n".join(f"## {name}\n\n{part}" for name, part in sections.items() if part)
    front = yaml.safe_dump(_front_matter(told), sort_keys=False, allow_unicode=True, width=10_000)
    return f"---\n{front}---\n\n# {told.agent} on {told.env.short_name}\n\n{_summary(told)}\n\n{text}\n"


def is_card(path: Path) -> bool:
    """True if the file is a card that was written here, edited or not."""
    try:
        start, _, rest = path.read_text(encoding="utf-8").partition("---\n")
        front = yaml.safe_load(rest.partition("\n---\n")[0])
    except (OSError, ValueError, RecursionError, yaml.YAMLError):
        return False
    return not start and isinstance(front, dict) and front.get("library_name") == LIBRARY


def _front_matter(told: _Told) -> dict[str, Any]:
    tags = [_TASK, "deep-reinforcement-learning", told.env.short_name, told.config.agent, LIBRARY]
    front: dict[str, Any] = {"library_name": LIBRARY, "pipeline_tag": _TASK, "tags": [*dict.fromkeys(tags)]}
    if told.scores is not None:
        result = {
            "task": {"type": _TASK, "name": _TASK.replace("-", " ")},
            "dataset": {"type": told.env.public_name, "name": told.env.short_name},
            "metrics": list(_metrics(told.scores)),
        }
        front["model-index"] = [{"name": f"{told.config.agent}-{told.env.short_name}", "results": [result]}]
    return front


def _metrics(scores: Evaluation) -> Iterator[dict[str, Any]]:
    """Rows for ``model-index``."""
    played = {"episodes": scores.episodes, "seed": scores.seed}
    interval = {"ci_low": _rounded(scores.ci_low), "ci_high": _rounded(scores.ci_high), "level": 0.95}
    how = {"exact": True} if "exact_mean" in scores.more else {**played, **interval}
    yield {"type": "mean_reward", "value": _rounded(scores.score), "name": "mean return", "args": how}
    if scores.percent_of_optimal is not None:
        scale = {"random": _rounded(scores.reference["random"]), "best_known": _rounded(scores.reference["optimum"])}
        value = _rounded(scores.percent_of_optimal)
        yield {"type": "percent_of_optimal", "value": value, "name": f"{NORMALISED}, %", "args": scale}
    if scores.success_rate is not None:
        yield {"type": "success_rate", "value": _rounded(scores.success_rate), "name": "success rate", "args": played}


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")


def _summary(told: _Told) -> str:
    what = f" It plays {told.env.short_name}: {told.env.summary[:1].lower()}{told.env.summary[1:].rstrip('.')}."
    start = f"An agent trained by {told.agent} with palaestra {told.facts.get('palaestra', version('palaestra'))}."
    return start + (what if told.env.summary else "")


def _task(told: _Told) -> str:
    """What the environment is, and what goes in and out."""
    observations, actions = spaces_of(told.env, told.config.env_kwargs)
    rules = told.env.build(**told.config.env_kwargs)
    names = {} if rules is None else interface_of(rules)
    rows = [("environment", f"`{told.env.public_name}`")]
    rows += [(f"`env.{key}`", f"`{_short(value)}`") for key, value in told.config.env_kwargs.items()]
    rows.append(("observations", _end(observations, names.get("observations", []))))
    listed = [{"name": name} for name in names.get("discrete_actions", [])]
    rows.append(("actions", _end(actions, listed or names.get("actions", []))))
    if rate := names.get("steps_per_second"):
        rows.append(("decisions", f"{rate:g} a second"))
    if rules is not None and rules.max_episode_steps is not None:
        rows.append(("time limit", f"{rules.max_episode_steps:,} steps"))
    first = " ".join(card_of(told.env).partition("\n\n")[0].split())
    return "\n\n".join(part for part in (first, markdown_table(("", "is"), rows)) if part)


def _end(space: Any, named: Sequence[dict[str, Any]]) -> str:
    """A space with the names of its numbers, where those are few."""
    names = [f"{row['name']}{' in ' + row['unit'] if row.get('unit') else ''}" for row in named]
    few = names if len(names) <= 12 else [*names[:6], "…", names[-1]]
    return f"`{one_line(space)}`{': ' + ', '.join(few) if few else ''}"


def _short(value: Any) -> str:
    text = one_line(value).replace("|", "\\|")
    return text if len(text) <= _LONGEST_VALUE else f"{text[: _LONGEST_VALUE - 1]}…"


def _score(told: _Told) -> str:
    if (found := told.scores) is None:
        return "The run has no final evaluation."
    half = 0.0 if told.is_exact else (found.ci_high - found.ci_low) / 2
    low, high = known(found.ci_low, half), known(found.ci_high, half)
    mean = "exact expectation" if told.is_exact else f"95 % interval {low} to {high}"
    rows = [("**mean return**", f"**{known(found.score, half)}** ({mean})")]
    if found.percent_of_optimal is not None:
        rows.append((NORMALISED, f"{found.percent_of_optimal:z.1f} % (random play 0 %, the best known 100 %)"))
    rows += [(SCORES[name], known(value)) for name, value in found.reference.items() if value is not None]
    if (solved := told.env.reference(told.config.evaluation_kwargs).solved_at) is not None:
        rows.append((SCORES["solved_at"], known(solved)))
    if found.success_rate is not None:
        interval = ""
        if (low_end := found.success_ci_low) is not None and (high_end := found.success_ci_high) is not None:
            interval = f" (95 % interval {100 * low_end:.1f} to {100 * high_end:.1f} %)"
        rows.append(("successes", f"{100 * found.success_rate:.1f} %{interval}"))
    rows.append(("episode length", f"{known(found.mean_length)} steps"))
    own = {name: value for name, value in found.more.items() if name != "exact_mean" and not name.endswith(_OF_STRESS)}
    rows += [named_figure(name, value) for name, value in own.items()]
    played = f"{found.episodes:,} held-out episodes with the best (greedy) actions, seed {found.seed}"
    source = told.env.reference(told.config.evaluation_kwargs).source
    text = f"Measured on {played}; training saw none of them."
    return "\n\n".join([text, markdown_table(("", "value"), rows), *([f"Reference: {source}"] if source else [])])


def _stress(told: _Told) -> str:
    """The scores where the environment is not quite the one it was trained in; empty where none were measured."""
    if told.stress is None:
        shares = {} if told.scores is None else told.scores.more
        end = _OF_STRESS[1]
        found = {name.removesuffix(end): value for name, value in shares.items() if name.endswith(end)}
        rows = [(condition_name(name), f"{value:.1f} %") for name, value in found.items()]
        return markdown_table(("condition", "share of the best known there"), rows) if rows else ""
    plain = told.stress["unchanged"]
    exact = "exact_mean" in plain
    score = plain.get("exact_mean", plain["mean"])
    conditions = [{**plain, "name": "unchanged", "score": score}, *told.stress["stresses"]]
    scores = []
    for row in conditions:
        low, high, normalised = row["ci_low"], row["ci_high"], row["percent_of_optimal"]
        half = 0.0 if exact else (high - low) / 2
        interval = "exact" if exact else f"{known(low, half)} to {known(high, half)}"
        share = "–" if normalised is None else f"{normalised:z.1f} %"
        scores.append((condition_name(row["name"]), known(row["score"], half), interval, share))
    count = "Exact mean returns" if exact else f"Mean returns of {plain['episodes']:,} held-out episodes each"
    table = markdown_table(("condition", "score", "95 % interval", NORMALISED), scores)
    return f"{count}. The agent was not trained for the changed conditions.\n\n{table}"


def _training(told: _Told) -> str:
    config, facts = told.config, told.facts
    rows = [
        ("algorithm", told.agent),
        ("environments side by side", f"{config.num_envs:,}"),
        ("seed", f"{config.seed}"),
    ]
    if steps := facts.get("num_timesteps"):
        rows.insert(1, ("environment steps", f"{steps:,}"))
    if config.init_from is not None:
        rows.append(("began with", "the weights of another run"))
    names = {"machine": "machine", "device": "device", "threads": "threads", "processes": "processes"}
    names |= {"torch": "PyTorch", "stable_baselines3": "Stable-Baselines3", "gymnasium": "Gymnasium"}
    names |= {"palaestra": "palaestra", "git_commit": "commit", "finished": "finished"}
    rows += [(name, str(facts[key])) for key, name in names.items() if facts.get(key) is not None]
    settings = dump_yaml(config.agent_kwargs).rstrip()
    return f"{markdown_table(('', 'value'), rows)}\n\n```yaml\n{settings}\n```"


def _cost(cost: Cost) -> str:
    rows = cost.rows()
    return "\n\n".join([*([markdown_table(("", "value"), rows)] if rows else []), cost.assumptions()])


def _limits(told: _Told) -> Iterator[str]:
    """What follows from the run's own numbers, and what nobody has measured."""
    yield "Scores are those of the simulated environment. Nothing was measured outside it."
    yield f"They are of one training, with seed {told.config.seed}; others of the same settings may score otherwise."
    if not told.finished:
        yield "The run is not finished."
    if told.facts.get("stopped"):
        yield f"Training ended before its steps were taken: {told.facts['stopped']}."
    if (found := told.scores) is not None:
        reference = told.env.reference(told.config.evaluation_kwargs)
        if reference.solved_at is not None and found.score < reference.solved_at:
            yield f"The score is below {known(reference.solved_at)}, from which the environment counts as solved."
        if reference.heuristic is not None and found.score < reference.heuristic:
            yield f"A simple rule scores more: {known(reference.heuristic)}."
        if found.cut is not None:
            yield f"{found.cut}."
    if told.stress is not None:
        worst, plain = told.stress.get("worst"), told.stress["unchanged"]
        if isinstance(worst, dict) and isinstance(worst.get("name"), str):
            score = known(worst["score"], 0.0 if "exact_mean" in plain else (worst["ci_high"] - worst["ci_low"]) / 2)
            yield f"The worst of the tested conditions is {condition_name(worst['name'])}, with a score of {score}."
    elif not _stress(told):
        yield "It was not tested in changed conditions."
    try:
        remarks = told.env.remarks(told.config.env_kwargs)
    except RAISED:
        remarks = ()
    yield from remarks


def _use(told: _Told, model: str) -> str:
    cls = told.agent
    return f"""\
With palaestra, and this file's folder as `agent`:

```bash
palaestra evaluate agent
palaestra watch agent --record episode.gif
palaestra export agent --out policy.onnx
```

```python
from palaestra.agents import {cls}

model = {cls}.load("agent/{model}")  # executes no code of the file
print(model.observation_space, model.action_space)
# action, _ = model.predict(observation, deterministic=True)
```"""
