"""Tensors read from a file, and those that they are to replace."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor


def check_form(name: str, own: Mapping[str, Tensor], saved: Mapping[str, Tensor]) -> None:
    """Raise a ValueError unless both have the same names, shapes and dtypes."""

    def form(part: Mapping[str, Tensor], key: str) -> str:
        return f"{part[key].dtype} {tuple(part[key].shape)}" if key in part else "missing"

    for key in {**own, **saved}:
        here, there = form(own, key), form(saved, key)
        if here != there:
            raise ValueError(f"{name}.{key} is {there} in the file, {here} here")


def fill(name: str, own: Mapping[str, Tensor], saved: Mapping[str, Tensor]) -> None:
    """Copy ``saved`` into ``own``, in place.

    Raises:
        ValueError: unless they have the same form; nothing is changed then.
    """
    check_form(name, own, saved)
    for key, value in own.items():
        value.copy_(saved[key])
