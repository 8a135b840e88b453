"""Run folders with chosen numbers, for tests of what reads them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from palaestra.train.runs.run_folder import RunFolder

SOURCE = Path(__file__).parents[1] / "data/runs-885ce09/ppo-cartpole"


def made_run(
    path: str | Path,
    score: float | None = 100.0,
    *,
    env: str = "palaestra/CartPole-v1",
    agent: str = "ppo",
    seed: int = 0,
    evaluations: Sequence[tuple[int, float]] = ((512, 20.0), (1024, 60.0), (8192, 100.0)),
    scale: tuple[float, float] | None = (0.0, 200.0),
    env_kwargs: dict[str, Any] | None = None,
    **settings: Any,
) -> RunFolder:
    """A finished run with that score, unless it is None, and those evaluations (step, mean return), a second for each.

    ``scale`` are the returns of random play and of the best known; ``settings`` are the agent's.
    """
    folder = RunFolder(Path(shutil.copytree(SOURCE, path)))
    config = yaml.safe_load(folder.config_file.read_text(encoding="utf-8"))
    config |= {"env": env, "agent": agent, "seed": seed, "env_kwargs": env_kwargs or {}}
    config["agent_kwargs"] |= settings
    folder.config_file.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    evaluation = json.loads(folder.evaluation_file.read_text(encoding="utf-8"))
    folder.evaluation_file.unlink()
    if score is not None:
        low, high = scale or (None, None)
        percent = None if low is None or high is None else 100 * (score - low) / (high - low)
        reference = {"random": low, "heuristic": None, "optimum": high}
        evaluation |= {"mean": score, "percent_of_optimal": percent, "reference": reference}
        folder.evaluation_file.write_text(json.dumps(evaluation))
    facts = json.loads(folder.facts_file.read_text(encoding="utf-8"))
    folder.facts_file.write_text(json.dumps({**facts, "solved_at": 60.0}))
    rows = [f"{step},{step},{number},{value}" for number, (step, value) in enumerate(evaluations, 1)]
    lines = ["global_step,time/total_timesteps,time/time_elapsed,eval/mean_reward", *rows, f"8192,,,{score or 0}"]
    folder.progress_file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder
