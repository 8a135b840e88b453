"""Columns of names: each text once, and a number in its place."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from palaestra.envs.core import Array
from palaestra.envs.pricing.sales.number_cells import EMPTY
from palaestra.envs.pricing.sales.sales_table import Labels

_ODD = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0xD6E8FEB86659FD93], np.uint64)


def factorise(texts: Array) -> tuple[Array, Array, Array]:
    """Different texts in the order of their first appearance, where that was, and which text each cell has.

    Texts are compared by a hash, which is checked: two of the same hash fall back on the comparison of texts.

    Args:
        texts: S [n].

    Returns:
        The texts S [m], their first places int64 [m], and codes int64 [n].
    """
    n, words = len(texts), -(-texts.dtype.itemsize // 8)
    padded = texts.astype(f"S{8 * words}").view(np.uint64).reshape(n, words)
    change = np.ones(n, bool)
    change[1:] = padded[1:, 0] != padded[:-1, 0]  # runs of the same text count once
    for k in range(1, words):
        change[1:] |= padded[1:, k] != padded[:-1, k]
    heads = np.flatnonzero(change)
    keys = padded if len(heads) == n else padded[heads]
    hashed = np.zeros(len(heads), np.uint64)
    for k in range(words):
        hashed = (hashed ^ keys[:, k]) * _ODD[k % 4]
        hashed ^= hashed >> np.uint64(29)
    in_order = np.sort(hashed)
    if (in_order[1:] != in_order[:-1]).all():  # all runs are different
        return texts[heads], heads, np.cumsum(change) - 1
    _, first, inverse = np.unique(hashed, return_index=True, return_inverse=True)
    if any((keys[first, k][inverse] != keys[:, k]).any() for k in range(words)):
        _, first, inverse = np.unique(texts[heads], return_index=True, return_inverse=True)
    order = np.argsort(first, kind="stable")
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    places = heads[first[order]]
    return texts[places], places, rank[inverse][np.cumsum(change) - 1]


def text_of_numbers(cells: Array) -> Array:
    """Numbers of a spreadsheet as the texts that it shows: 1001, not 1001.0."""
    shown = ["" if np.isnan(value) else f"{value:.15g}" for value in cells.tolist()]
    return np.array([text.encode() for text in shown], "S")


@dataclass
class TextColumn:
    """A column of names while its blocks pass."""

    name: str
    texts: list[Array] = field(default_factory=list)  # different texts of each block
    first_rows: list[Array] = field(default_factory=list)
    codes: list[Array] = field(default_factory=list)

    def read(self, cells: Array, rows: Array) -> Array:
        """Append a block; True [rows] where a cell is empty."""
        if cells.dtype.kind == "f":
            cells = text_of_numbers(cells)
        if self.texts and 2 * len(self.texts[-1]) > len(self.codes[-1]):  # many texts: told apart at the end
            texts, places, codes = cells, np.arange(len(cells)), np.arange(len(cells))
        else:
            texts, places, codes = factorise(cells)
        texts = np.char.strip(texts)
        self.texts.append(texts)
        self.first_rows.append(rows[places])
        self.codes.append(codes.astype(np.int32))
        empty: Any = np.isin(texts, list(EMPTY - {b"-", b"."}))
        return empty[codes] if empty.any() else np.zeros(len(cells), bool)

    def finish(self) -> tuple[Array, Labels, Array]:
        """Codes int64 [rows], their texts, and the first row of each text."""
        texts, places, codes = factorise(np.concatenate(self.texts))
        begins = np.cumsum([0, *map(len, self.texts)])
        values = np.concatenate([codes[begin + own] for begin, own in zip(begins, self.codes, strict=False)])
        return values, Labels(texts), np.concatenate(self.first_rows)[places]
