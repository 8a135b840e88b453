"""The symmetries that an environment names, and the group of all their products.

A symmetry g is a map of states, observations and actions with which the rules commute: a step from the mapped state
with the mapped action leads to the mapped state after, with the same reward and end, and the mapped state is seen as
the mapped observation. Random steps do so in distribution. Then an optimal policy may be one that commutes too, and
what was learned of an observation holds for its images: that is how agents use it.

An author names as few as generate the others: of a square board a quarter turn and a mirror, which make eight. Starts
need not be symmetric.

Source: Ravindran and Barto, "Symmetries and model minimization in Markov decision processes", 2001; van der Pol et al.,
"MDP homomorphic networks: group symmetries in reinforcement learning", NeurIPS 2020.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium.spaces import Box, Discrete, Space

from palaestra.envs.core.symmetries.signed_permutation import SignedPermutation

MOST = 48  # elements: the rotations and reflections of a cube


@dataclass(frozen=True)
class Symmetry:
    """One symmetry of an environment."""

    name: str
    state: Callable[[Any], Any]  # of N states to N states; only the proof calls it
    observation: SignedPermutation
    action: SignedPermutation  # of a Discrete action's numbers, or of a Box's components


@dataclass(frozen=True)
class SymmetryGroup:
    """All products of some symmetries, G of them, the identity first."""

    observations: tuple[SignedPermutation, ...]
    actions: tuple[SignedPermutation, ...]
    products: tuple[tuple[int, ...], ...]  # products[a][b]: first b, then a

    def __len__(self) -> int:
        return len(self.observations)

    @classmethod
    def of(cls, env: Any) -> SymmetryGroup:
        """The group that the symmetries of an environment, a TensorEnv, generate.

        Raises:
            ValueError: if it names none, their form does not fit its spaces, or there are too many.
        """
        named = checked_symmetries(env)
        if not named:
            name = type(env).__name__
            raise ValueError(f"{name} names no symmetries (with these settings and wrappers), as symmetry=none allows")
        return cls.generated([(one.observation, one.action) for one in named])

    @classmethod
    def generated(cls, generators: Sequence[tuple[SignedPermutation, SignedPermutation]]) -> SymmetryGroup:
        """The group of all products of pairs of maps, of observations and of actions."""
        unit = tuple(SignedPermutation.identity(len(part)) for part in generators[0])
        found = {unit: 0}
        elements = [unit]
        for element in elements:  # which grows
            for generator in generators:
                product = _product(generator, element)
                if product not in found:
                    found[product] = len(elements)
                    elements.append(product)
            if len(elements) > MOST:
                raise ValueError(f"the symmetries generate more than {MOST} maps: name fewer")
        table = tuple(tuple(found[_product(a, b)] for b in elements) for a in elements)
        return cls(tuple(seen for seen, _ in elements), tuple(acted for _, acted in elements), table)


def _product(a: tuple[SignedPermutation, ...], b: tuple[SignedPermutation, ...]) -> tuple[Any, Any]:
    """First b, then a."""
    return a[0].after(b[0]), a[1].after(b[1])


def checked_symmetries(env: Any) -> Sequence[Symmetry]:
    """The symmetries that an environment, a TensorEnv, names.

    Raises:
        ValueError: in one line, if the form of one does not fit the environment's spaces.
    """
    named: Any = env.symmetries()
    if not isinstance(named, Sequence) or not all(isinstance(one, Symmetry) for one in named):
        raise ValueError(f"symmetries() must return a sequence of Symmetry, got {named!r}")
    for one in named:
        for what, part, space in (
            ("observation", one.observation, env.observation_space),
            ("action", one.action, env.action_space),
        ):
            if fault := _misfit(part, space, what):
                raise ValueError(f"symmetry {one.name!r}: its map of {what}s {fault}")
    return named


def _misfit(part: Any, space: Space[Any], what: str) -> str:
    """What is wrong with a map of that space; empty if it fits."""
    if not isinstance(part, SignedPermutation):
        return f"must be a SignedPermutation, got {part!r}"
    if isinstance(space, Discrete) and what == "action":
        if len(part) != space.n or part.has_signs:
            return f"must be of {space.n} numbers without signs, got {len(part)}"
        return ""
    if not isinstance(space, Box):
        return f"needs a Box{' or Discrete' if what == 'action' else ''} space, the environment has {space}"
    if len(part) != (count := int(np.prod(space.shape))):
        return f"must be of {count} numbers, got {len(part)}"
    places, signs = np.array(part.places), np.array(part.signs)
    low, high = space.low.ravel(), space.high.ravel()
    images = np.where(signs > 0, low[places], -high[places]), np.where(signs > 0, high[places], -low[places])
    for bound, image in ((low, images[0]), (high, images[1])):
        if wrong := np.flatnonzero(bound != image).tolist():
            return f"leaves the bounds of {what} {wrong[0]}, {low[wrong[0]]:g} … {high[wrong[0]]:g}"
    return ""
