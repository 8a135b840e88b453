"""The stress test of a run's agent, kept in the run's folder for its report."""

from __future__ import annotations

import json
from pathlib import Path

from palaestra.envs.core.atomic_write import write_whole
from palaestra.train.evaluation.stress import StressTest
from palaestra.train.runs.run_folder import RunFolder


def keep_stress_test(test: StressTest) -> Path | None:
    """Write it to the folder of the run whose latest weights were tested, and return the file; None if they were not.

    Raises:
        OSError: if it cannot be written.
    """
    model = Path(test.unchanged.run)
    folder = RunFolder(model.parent)
    if model != folder.model_file or not folder.config_file.is_file():
        return None
    write_whole(folder.stress_file, json.dumps(test.as_dict(), indent=1))
    return folder.stress_file
