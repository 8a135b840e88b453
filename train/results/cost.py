"""The cost of a run: wall time, hours of processors, and the electricity and CO₂ that they stand for.

1. Wall time and processor time are in ``run.json``, added up over all processes that went on with the run one after
   another. Part of it is not measured where a process was killed before it wrote that file, in the further processes
   of torchrun, and in runs from before ``cpu_seconds`` was written: then the estimate is told in a remark.
   ``abandoned-STEP/`` is a run of its own.
2. Electricity = processor hours × watts of a core + hours of GPUs × watts of one. A logical processor counts as a core;
   memory, screen, cooling and idle cores are left out. CO₂ = electricity × that of a kilowatt hour.
3. The defaults are 12 W, Green Algorithms' figure for any processor's core (Lannelongue, Grealey and Inouye 2021,
   ``TDP_cpu.csv``, "Any"), and 473 g CO₂ equivalents, the world's mean of 2024 (Ember, Global Electricity Review 2025).
   A GPU's watts have no default: without them it is left out, which a remark tells.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from palaestra.envs.core.reference import is_finite_number
from palaestra.train.config.schema import ConfigError
from palaestra.train.formatting import hours
from palaestra.train.runs.machine import seconds_in
from palaestra.train.runs.run_folder import RunFolder

WATTS_SOURCE = "Green Algorithms' for any processor (Lannelongue, Grealey and Inouye 2021)"
GRAMS_SOURCE = "the world's mean of 2024 (Ember, Global Electricity Review 2025)"
_SLACK = 1.0  # seconds that may be missing of a run before it counts as measured in part


@dataclass(frozen=True)
class EnergyFactors:
    """What an hour of a processor and a kilowatt hour stand for.

    Attributes:
        watts_per_core: of a core at work.
        grams_per_kwh: of CO₂ equivalents, of the electricity that is used.
        gpu_watts: of one GPU at work; None: not known.

    Raises:
        ConfigError: if one is no finite number of at least 0.
    """

    watts_per_core: float = 12.0
    grams_per_kwh: float = 473.0
    gpu_watts: float | None = None

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value is not None and not (is_finite_number(value) and value >= 0):
                raise ConfigError(f"{name.replace('_', ' ')}: {value} is no number of at least 0")


@dataclass(frozen=True)
class Cost:
    """What a run has taken; None is not known.

    Attributes:
        seconds: of wall time, with evaluations, without the start of Python.
        cpu_hours: of all processors.
        gpu_hours: of all GPUs; None without one.
        kwh: of electricity, estimated with ``factors``.
        co2_grams: CO₂ equivalents of it.
        remarks: how numbers were estimated that were not measured, and what is left out.
    """

    seconds: float | None
    cpu_hours: float | None
    gpu_hours: float | None
    kwh: float | None
    co2_grams: float | None
    factors: EnergyFactors
    remarks: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """As plain data."""
        return {**asdict(self), "remarks": list(self.remarks)}

    def rows(self) -> list[tuple[str, str]]:
        """What is known, as people read it: a name, and the number with its unit."""
        parts = (
            ("wall time", self.seconds, hours),
            ("processors", self.cpu_hours, lambda value: f"{_plain(value)} h"),
            ("GPUs", self.gpu_hours, lambda value: f"{_plain(value)} h"),
            ("electricity", self.kwh, lambda value: f"{_plain(value)} kWh"),
            ("CO₂ equivalents", self.co2_grams, _weight),
        )
        return [(name, text(value)) for name, value, text in parts if value is not None]

    def assumptions(self) -> str:
        """The factors of the estimate with their sources, and the remarks."""
        own, factors = EnergyFactors(), self.factors
        watts = WATTS_SOURCE if factors.watts_per_core == own.watts_per_core else "as given"
        grams = GRAMS_SOURCE if factors.grams_per_kwh == own.grams_per_kwh else "as given"
        gpu = "" if None in (factors.gpu_watts, self.gpu_hours) else f"{factors.gpu_watts:g} W a GPU, as given; "
        estimate = (
            f"Electricity and CO₂ are estimates with {factors.watts_per_core:g} W a core, {watts}; {gpu}"
            f"{factors.grams_per_kwh:g} g CO₂ equivalents a kWh, {grams}; memory, cooling and idle cores are left out."
        )
        return " ".join([*([estimate] if self.kwh is not None else []), *self.remarks])


def cost_of(folder: RunFolder, factors: EnergyFactors | None = None) -> Cost:
    """The cost of a run, finished or not.

    Args:
        folder: the run's.
        factors: for electricity and CO₂; None for those that the module names.

    Raises:
        ConfigError: if ``run.json`` is damaged.
    """
    factors, facts = EnergyFactors() if factors is None else factors, folder.facts()
    counted = seconds_in(facts, "run_seconds")
    wall = max(counted, seconds_in(facts, "training_seconds"), folder.curves.seconds())
    if wall == 0.0:
        return Cost(None, None, None, None, None, factors, ("The run's time is not known.",))
    processes = max(1.0, seconds_in(facts, "processes"))
    cpu_hours, remarks = _cpu_hours(facts, wall, counted, processes)
    on_gpu = str(facts.get("device", "cpu")).partition(":")[0] not in ("cpu", "meta")
    gpu_hours = wall * processes / 3600 if on_gpu else None
    if gpu_hours is not None and factors.gpu_watts is None:
        remarks.append("The electricity of the GPU is left out: its watts are not known.")
    kwh = None if cpu_hours is None else cpu_hours * factors.watts_per_core / 1000
    if kwh is not None and gpu_hours is not None and factors.gpu_watts is not None:
        kwh += gpu_hours * factors.gpu_watts / 1000
    co2 = None if kwh is None else kwh * factors.grams_per_kwh
    return Cost(wall, cpu_hours, gpu_hours, kwh, co2, factors, tuple(remarks))


def _cpu_hours(facts: dict[str, Any], wall: float, counted: float, processes: float) -> tuple[float | None, list[str]]:
    """Hours of all processors, and how what was not measured of them was estimated."""
    measured, threads = seconds_in(facts, "cpu_seconds"), seconds_in(facts, "threads")
    if not (measured and counted):
        if not threads:
            return None, ["Processor time was not measured."]
        at_most = f"Processor time was not measured: the hours are those of {threads:g} busy threads"
        several = f" in each of {processes:g} processes" if processes > 1 else ""
        return threads * processes * wall / 3600, [f"{at_most}{several}."]
    remarks = []
    if wall - counted > _SLACK:
        share = math.floor(100 * counted / wall)
        remarks.append(
            f"Processor time was measured in {share} % of the wall time, and is taken to be alike in the rest."
        )
    if processes > 1:
        remarks.append(
            f"Processor time was measured in one of {processes:g} processes, and is taken to be alike in all."
        )
    return measured * wall / counted * processes / 3600, remarks


def _weight(grams: float) -> str:
    return f"{_plain(grams)} g" if grams < 1000 else f"{_plain(grams / 1000)} kg"


def _plain(number: float) -> str:
    """Two significant digits, without an exponent."""
    return "0" if number == 0 else f"{number:.{max(0, 1 - math.floor(math.log10(number)))}f}"
