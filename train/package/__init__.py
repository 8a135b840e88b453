"""The package ``palaestra`` itself, which lies here because its three parts are the folders of the repository.

``palaestra.envs``, ``palaestra.agents`` and ``palaestra.train`` are imported by their full names.
"""

from typing import Any

__version__: str


def __getattr__(name: str) -> Any:
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib.metadata import version  # late: it takes longer to import than this package

    return version("palaestra")
