"""Training, evaluation and recording of runs; the functions below are imported when they are first used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from palaestra.train.commands.evaluate import evaluate_player as evaluate
    from palaestra.train.commands.watch import watch_player as watch
    from palaestra.train.config.run_config import resolve_config
    from palaestra.train.runs.finding import curves
    from palaestra.train.runs.trainer import train_new as train

__all__ = ["curves", "evaluate", "resolve_config", "train", "watch"]

_PLACES = {
    "curves": ("runs.finding", "curves"),
    "evaluate": ("commands.evaluate", "evaluate_player"),
    "resolve_config": ("config.run_config", "resolve_config"),
    "train": ("runs.trainer", "train_new"),
    "watch": ("commands.watch", "watch_player"),
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, function = _PLACES[name]
    return getattr(import_module(f"{__name__}.{module}"), function)
