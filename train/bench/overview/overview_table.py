"""The overview for people to read, a block of lines for each topic; and as cells of a table."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import Any

from palaestra.train.bench.bench_tables import wrapped
from palaestra.train.bench.overview.measured import MIB, PERCENT
from palaestra.train.formatting import three_digits

LABEL = 38  # columns of the first column
_SIZES = (8, 8, 8, 9, 7)  # of the others


def overview_table(result: dict[str, Any]) -> str:
    """The result of :func:`palaestra.train.bench.overview.all_figures.measure_overview`."""
    on_gpu = _on_gpu(result)
    heads = ("median", "least", "most", "ours is", "MiB")
    lines = [*_heading(result), "", _line("steps/s", heads)]
    for topic, figures in groupby(result["figures"], key=lambda figure: figure["topic"]):
        lines += [*wrapped(topic), *(line for figure in figures for line in _rows(figure, on_gpu))]
    lines += ["", *wrapped(_notes(result))]
    lines += [line for name, reason in result["left_out"].items() for line in wrapped(f"left out: {name}: {reason}")]
    return "\n".join(lines)


def _heading(result: dict[str, Any]) -> list[str]:
    versions = ", ".join(f"{name} {number}" for name, number in result["versions"].items())
    threads = f"{result['threads']} thread{'s' if result['threads'] != 1 else ''}"
    commit = "" if result["commit"] is None else f", commit {result['commit']}"
    return [*wrapped(f"{result['processor']}; {threads}; {result['device']}{commit}"), *wrapped(versions)]


def _line(label: str, cells: tuple[str, ...]) -> str:
    return f"{label:<{LABEL}}{''.join(f'{cell:>{size}}' for cell, size in zip(cells, _SIZES, strict=True))}".rstrip()


def _on_gpu(result: dict[str, Any]) -> bool:
    """True if the memory that is shown is the GPU's."""
    return any(figure["device_mib"] is not None for figure in result["figures"])


def _rows(figure: dict[str, Any], on_gpu: bool) -> Iterator[str]:
    """The figure; its name has a line of its own where it is long."""
    values, unit = figure["values"], figure["unit"]
    numbers = tuple(shown(number, unit) for number in (figure["median"], min(values), max(values)))
    times = "" if figure["times"] is None else f"{figure['times']:.2f} ×"
    peak = figure["device_mib"] if on_gpu else figure["host_mib"]
    name = f"  {figure['name']}"
    if len(name) >= LABEL:
        yield from wrapped(name)
        name = ""
    yield _line(name, (*numbers, times, "" if peak is None else f"{peak:,.0f}"))
    if figure["note"]:
        yield f"    {figure['note']}"


def shown(number: float, unit: str) -> str:
    """A number with its unit, but for steps/s, whose unit stands above."""
    if unit == PERCENT:
        return f"{number:.0f} %"
    return f"{number:,.0f} {MIB}" if unit == MIB else three_digits(number)


def _notes(result: dict[str, Any]) -> str:
    counts = [len(figure["values"]) for figure in result["figures"] if figure["unit"] == "steps/s"] or [0]
    load = "" if result["load"] is None else f" The load of the machine was {result['load']:.1f} before."
    work = f"PPO on CartPole: {result['work']}, equal gradient steps, counted. " if result["work"] else ""
    held = "on the GPU" if _on_gpu(result) else "that the whole process held"
    return (
        f"{work}Medians of {max(counts)} or fewer measurements in turns: as many as {result['seconds']:g} s allow "
        "(--seconds); ours is so many times as fast, by the medians. MiB: the most memory "
        f"{held}. A step is a transition of one environment.{load}"
    )


def cells(result: dict[str, Any]) -> dict[str, str]:
    """Row → cell of this processor's column, in order: the median with its range, the ratio, the peak of memory."""
    return {f"{figure['topic']}: {figure['name']}": _cell(figure) for figure in result["figures"]}


def _cell(figure: dict[str, Any]) -> str:
    values, unit = figure["values"], figure["unit"]
    low, high, middle = (shown(number, unit) for number in (min(values), max(values), figure["median"]))
    text = middle if low == high else f"{middle} ({_joined(low, high)})"
    parts = [text if figure["times"] is None else f"{text}, {figure['times']:.2f} ×"]
    peak, place = (figure["host_mib"], "") if figure["device_mib"] is None else (figure["device_mib"], " on the GPU")
    parts += [] if peak is None else [f"{peak:,.0f} MiB{place}"]
    return ", ".join([*parts, *([figure["note"]] if figure["note"] else [])])


def _joined(low: str, high: str) -> str:
    """A range, whose unit stands once where both have it."""
    number, _, unit = low.partition(" ")
    return f"{number}–{high}" if unit and high.endswith(f" {unit}") else f"{low}–{high}"


def source(result: dict[str, Any], command: str) -> str:
    """Where a column comes from, in a line."""
    versions = result["versions"]
    peers = ", ".join(f"{name} {number}" for name, number in versions.items() if name not in ("palaestra", "python"))
    load = "" if result["load"] is None else f", load {result['load']:.1f} before"
    threads = f"{result['threads']} thread{'s' if result['threads'] != 1 else ''}"
    absent = "".join(f"; {name}: {reason}" for name, reason in result["left_out"].items())
    return (
        f"`{command}`, {threads}, commit {result['commit'] or 'unknown'}, {result['date']}{load}; Python "
        f"{versions['python']}, {peers}{absent}"
    )
