"""The links' masses and shapes as tensors, in frames whose x and y may have been mirrored."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from palaestra.envs.arm.chain import SerialChain
from palaestra.envs.arm.tables import tables

Signs = tuple[tuple[float, float], ...]  # of each link's x and y


class LinkTables(NamedTuple):
    """Numbers of the links, shaped to broadcast over vectors, links and environments."""

    masses: Tensor  # [3, dof, 1] kg, of each link and all behind it, and twice of each link
    shares: Tensor  # [3, 4, 1, dof, 1]: of x, y and z in each of the columns of the inertia, and in the centre of mass


@cache
def link_tables(chain: SerialChain, dtype: torch.dtype, device: torch.device, signs: Signs) -> LinkTables:
    """The tables of a chain, made once for each dtype and device, given the signs of the axes in memory."""
    with torch.inference_mode(False):  # as the first caller's mode must not stay in the tables
        table = tables(chain, dtype, device)
        xx, yy, zz, xy, xz, yz = table.inertia
        flip = torch.tensor([(*pair, 1.0) for pair in signs], dtype=dtype, device=device).T.unsqueeze(-1)  # [3, dof, 1]
        inertia = torch.stack([torch.stack(row) for row in ((xx, xy, xz), (xy, yy, yz), (xz, yz, zz))])
        mirrored = inertia * flip.unsqueeze(0) * flip.unsqueeze(1)
        shares = torch.cat((mirrored, (table.centre_of_mass * flip).unsqueeze(1)), 1).unsqueeze(2).contiguous()
        masses = torch.stack((carried_mass(table.mass), table.mass, table.mass))
        return LinkTables(masses, shares)


def carried_mass(mass: Tensor) -> Tensor:
    """Sums [dof, …] from the last link to each, one after the other."""
    sums = [mass[-1]]
    for part in reversed(mass[:-1].unbind()):
        sums.append(part + sums[-1])
    return torch.stack(sums[::-1])
