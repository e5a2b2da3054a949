"""Samples that models are fitted to: a sub-task, the device it ran on, and what it took. JSON lines on disk."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from finequery.errors import DataError
from finequery.perfmodel.features import Features

#: Of the layout of a line. A file of another version is refused.
VERSION = 1


@dataclass(frozen=True, slots=True)
class Sample:
    """``device``: "cpu" or "gpu"; ``load``: share of it that others kept busy; ``seconds``: of this sub-task alone, as
    its share of the elapsed time; ``weight``: what it counts in a fit (less where repeats differed); ``simulated``:
    priced by a board's simulator, not measured."""

    features: Features
    device: str
    threads: int
    clock_ghz: float
    load: float
    seconds: float
    weight: float = 1.0
    simulated: bool = False


_SAMPLE = {f.name for f in fields(Sample)}
_FEATURES = {f.name: f.type for f in fields(Features)}


def to_json(sample: Sample) -> dict[str, Any]:
    """A sample as plain values."""
    return {"version": VERSION, **asdict(sample)}


def from_json(value: Any) -> Sample:
    """The sample that ``to_json`` made plain; ValueError where it is something else."""
    if not isinstance(value, dict) or value.get("version") != VERSION:
        raise ValueError(f"not a sample of version {VERSION}")
    given = {k: v for k, v in value.items() if k != "version"}
    features = given.get("features")
    if set(given) != _SAMPLE or not isinstance(features, dict) or set(features) != set(_FEATURES):
        raise ValueError("a sample has other fields")
    for name, kind in _FEATURES.items():
        if not isinstance(features[name], str if kind == "str" else (int, float)):
            raise ValueError(f"{name} is {features[name]!r}")
    sample = Sample(**{**given, "features": Features(**features)})
    if not isinstance(sample.seconds, (int, float)) or not sample.seconds >= 0:
        raise ValueError(f"seconds is {sample.seconds!r}")
    return sample


def write(path: Path, samples: Iterable[Sample]) -> None:
    """A file of samples, one a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        for sample in samples:
            file.write(json.dumps(to_json(sample)) + "\n")


def read(path: Path) -> list[Sample]:
    """The samples of a file. A damaged line is an error that names it."""
    samples = []
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                samples.append(from_json(json.loads(line)))
            except (ValueError, TypeError) as error:
                raise DataError(f"{path}, line {number}, is no sample: {error}") from None
    return samples
