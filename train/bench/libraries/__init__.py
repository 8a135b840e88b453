"""Other people's libraries on the same work as ours, for ``palaestra bench``; one small file each.

Every workload runs in a process of its own (:mod:`palaestra.train.bench.libraries.worker`, steered by
:mod:`palaestra.train.bench.libraries.process`), so that threads, allocators and memory do not mix, and works only when
it is its turn. What a file of a peer does is to say the work of a :class:`~palaestra.train.config.run_config.RunConfig`
in that library's words, with the settings its authors would choose where speed is at stake: no logs, no checkpoints, no
checks that wait for the device. The work done is counted by hooks on the environments and the optimizer, not taken from
the settings.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

INSTALL = "not installed: pip install 'palaestra[bench]'"


@dataclass(frozen=True)
class Peer:
    """A library, where it is installed.

    Attributes:
        name: in tables.
        module: below ``palaestra.train.bench.libraries``, with a function ``build(spec)``.
        package: the distribution that it needs.
        compiles: whether it also needs a C++ compiler.
    """

    name: str
    module: str
    package: str
    compiles: bool = False

    def missing(self) -> str | None:
        """Why it cannot run here, in one line; None if it can."""
        try:
            version(self.package)
        except PackageNotFoundError:
            return INSTALL
        if self.compiles and not any(shutil.which(compiler) for compiler in ("c++", "g++", "clang++")):
            return "no C++ compiler here"
        return None


def installed(peers: Sequence[Peer], left_out: dict[str, str]) -> list[Peer]:
    """Those that can run here; ``left_out`` takes the names of the others, and why."""
    left_out |= {peer.name: reason for peer in peers if (reason := peer.missing()) is not None}
    return [peer for peer in peers if peer.name not in left_out]


def require_jax_on(device: str) -> None:
    """Raise a RuntimeError if JAX would compute on the CPU where all others have a GPU."""
    import jax  # in processes of libraries that need it only

    from palaestra.envs.core import resolve_device

    if resolve_device(device).type == "cuda" and jax.default_backend() != "gpu":
        raise RuntimeError("JAX has no GPU here: pip install 'jax[cuda12]'")


OURS_AND_SB3 = "sb3"
LEARNERS = (
    Peer("rsl_rl", "rsl_rl", "rsl-rl-lib"),
    Peer("rsl_rl, compiled", "rsl_rl", "rsl-rl-lib", compiles=True),
    Peer("skrl", "skrl", "skrl"),
    Peer("sbx", "sbx", "sbx-rl"),
)
"""They learn by PPO, on our batch of CartPole."""

GYMNAX = Peer("gymnax", "jax_batches", "gymnax")
PGX = Peer("pgx", "jax_batches", "pgx")
