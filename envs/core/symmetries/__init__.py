"""Symmetries of environments: what an author names, the group that they make, and the proof on the rules."""

from palaestra.envs.core.symmetries.group import Symmetry, SymmetryGroup
from palaestra.envs.core.symmetries.signed_permutation import SignedPermutation

__all__ = ["SignedPermutation", "Symmetry", "SymmetryGroup"]
