"""Linear systems in every time step: the operations that solve M x = b for symmetric positive definite matrices.

M = U D Uᵀ, where U has ones on its diagonal and only the upper triangle of M is read. The right side is eliminated with
the matrix. Where an operation costs more than what it computes, both are one operation: the right side is then the
first column of a second matrix, whose other columns hold numbers that nothing depends on.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, div

from palaestra.envs.arm.stepping.operations import Operations


class Systems(NamedTuple):
    """Some systems of n equations each; the elimination destroys them."""

    memory: Tensor  # [systems, 2, 2 n, n + 1, N] a matrix, and another one with the right side
    matrix: Tensor  # [systems, n, n, N]
    right: Tensor  # [systems, n, N]

    @classmethod
    def empty(cls, like: Tensor, number: int) -> Systems:
        """For right sides as ``like`` [n, N]."""
        n = len(like)
        memory = like.new_zeros(number, 2, 2 * n, n + 1, like.shape[1])
        return cls(memory, memory[:, 0, :n, :n], memory[:, 1, :n, 0])

    def products(self) -> Tensor:
        """[n, n + 1, N]: the first matrix's entries (i, i), …, (i, i + n − 1), and one more number for each row i.

        What is behind the matrix's last column, and the number, lie below the diagonal of the row after.
        """
        n, (*_, row, column, one) = self.right.shape[1], self.memory.stride()
        size = (n, n + 1, self.memory.shape[-1])
        return self.memory.as_strided(size, (row + column, column, one), self.memory.storage_offset())


def eliminate(operations: Operations, systems: Systems) -> Tensor:
    """U D Uᵀ of all matrices, and the first right side accordingly; U above its diagonal, [systems, n, n, N]."""
    matrix, right = systems.matrix, systems.right
    shares = matrix.new_empty(matrix.shape)
    for k in range(matrix.shape[1] - 1, 0, -1):
        column, share = matrix[:, :k, k], shares[:, :k, k]
        operations.call(div, column, matrix[:, k, k].unsqueeze(1), out=share)
        if operations.fewest:
            both, pair = _with_right_sides(systems, k)
            operations.add_product(both, share[:, None, :, None], pair.unsqueeze(2), sign=-1.0)
        else:
            operations.add_product(matrix[:, :k, :k], share.unsqueeze(2), column.unsqueeze(1), sign=-1.0)
            operations.add_product(right[0, :k], share[0], right[0, k], sign=-1.0)
    return shares


def _with_right_sides(systems: Systems, k: int) -> tuple[Tensor, Tensor]:
    """The first k rows and columns of each matrix and of the one with its right side, [systems, 2, k, k, N], and what
    they lose shares of, [systems, 2, k, N]: column k, and entry k of the right side (behind which is anything)."""
    memory = systems.memory
    system, layer, row, column, one = memory.stride()
    apart = layer + k * row - k * column
    size = (memory.shape[0], 2, k, memory.shape[-1])
    return memory[:, :, :k, :k], memory.as_strided(
        size, (system, apart, row, one), memory.storage_offset() + k * column
    )


def eliminate_right_side(operations: Operations, systems: Systems, shares: Tensor, which: int) -> None:
    """The same for the right side of another system than the first."""
    right = systems.right[which]
    for k in range(len(right) - 1, 0, -1):
        operations.add_product(right[:k], shares[which, :k, k], right[k], sign=-1.0)


def solution(operations: Operations, systems: Systems, shares: Tensor, which: int) -> Tensor:
    """x [n, N] of one system that was eliminated."""
    right = systems.right[which]
    x = right.new_empty(right.shape)
    operations.call(div, right, systems.matrix[which].diagonal().T, out=x)
    for k in range(len(x) - 1):
        operations.add_product(x[k + 1 :], shares[which, k, k + 1 :], x[k], sign=-1.0)
    return x
