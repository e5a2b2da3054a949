"""Make a log of sensor readings as Parquet files: what an edge device collects from the machines of a plant.

Every machine has four sensors that are read once a second. The log is not clean, as such logs are:

- *gaps*: a machine is silent for some minutes;
- *duplicates*: some readings were sent twice;
- *drift*: the temperature sensors of some machines read higher and higher;
- *faults*: for a while, some machines vibrate far more than they should.

Everything is drawn from ``seed``, part by part: the same arguments make the same log, and memory is that of one part.
Beside the readings (``readings/*.parquet``) lie ``calibration.parquet``, with gain and offset of every sensor, and
``truth.json``, which says what was put in, for whoever wants to check what he found.

    python examples/make_sensor_log.py plant --rows 100_000_000
"""

from __future__ import annotations

import argparse
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

SENSORS = ("current", "pressure", "temperature", "vibration")
#: Usual reading of a sensor, how much machines differ in it, and the noise of one reading.
USUAL = np.array([[12.0, 2.0, 0.4], [3.0, 0.4, 0.05], [60.0, 6.0, 1.5], [2.0, 0.3, 0.15]], np.float32)
START = np.datetime64("2026-03-02T00:00:00", "ms")
SCHEMA = pa.schema(
    [
        ("machine", pa.int16()),
        ("sensor", pa.dictionary(pa.int8(), pa.string())),
        ("ts", pa.timestamp("ms")),
        ("value", pa.float32()),
    ]
)


@dataclass
class Plant:
    """What is the same in all parts: ``seconds`` of readings of so many ``machines``."""

    machines: int
    seconds: int
    seed: int

    def __post_init__(self) -> None:
        rng = np.random.default_rng(self.seed)
        shape = self.machines, len(SENSORS)
        self.level = USUAL[:, 0] + USUAL[:, 1] * rng.standard_normal(shape, np.float32)
        self.gain = (1 + 0.02 * rng.standard_normal(shape)).round(4)
        self.offset = (0.1 * rng.standard_normal(shape)).round(3)
        order = rng.permutation(self.machines)
        few = max(self.machines // 20, 1)
        self.drifting, self.faulty = np.sort(order[:few]), np.sort(order[few : 2 * few])
        self.fault = int(self.seconds * 0.6), int(self.seconds * 0.6) + max(self.seconds // 50, 1)
        gaps = max(self.machines * self.seconds // 40_000, 1)
        first = rng.integers(0, self.seconds, gaps)
        self.gaps = np.stack([rng.integers(0, self.machines, gaps), first, first + rng.integers(60, 600, gaps)], axis=1)

    def part(self, first: int, end: int) -> tuple[pa.Table, int, int]:
        """The readings of some seconds in order of time, and how many of them are missing and sent twice."""
        rng = np.random.default_rng([self.seed, first])
        rows = self.machines * len(SENSORS)
        second = np.repeat(np.arange(first, end, dtype=np.int64), rows)
        machine = np.tile(np.repeat(np.arange(self.machines, dtype=np.int16), len(SENSORS)), end - first)
        sensor = np.tile(np.arange(len(SENSORS), dtype=np.int8), (end - first) * self.machines)
        value = rng.standard_normal(len(second), np.float32) * USUAL[sensor, 2] + self.level[machine, sensor]
        drifts = (sensor == 2) & np.isin(machine, self.drifting)
        value[drifts] += (12.0 / self.seconds * second[drifts]).astype(np.float32)
        faults = (sensor == 3) & np.isin(machine, self.faulty) & (second >= self.fault[0]) & (second < self.fault[1])
        value[faults] += np.abs(rng.standard_normal(int(faults.sum()), np.float32)) * 1.5 + 1.0
        value = ((value - self.offset[machine, sensor]) / self.gain[machine, sensor]).astype(np.float32)
        count = np.ones(len(second), np.int8)
        count[rng.random(len(second), np.float32) < 0.002] = 2
        doubled = count == 2
        for silent, begin, stop in self.gaps[(self.gaps[:, 1] < end) & (self.gaps[:, 2] > first)]:
            rest = slice((max(begin, first) - first) * rows, (min(stop, end) - first) * rows)
            count[rest][machine[rest] == silent] = 0
        order = np.repeat(np.arange(len(second)), count)
        ts = START + (second[order] * 1000 + machine[order] % 50 * 20).astype("timedelta64[ms]")
        names = pa.DictionaryArray.from_arrays(pa.array(sensor[order]), pa.array(SENSORS))
        columns = [pa.array(machine[order]), names, pa.array(ts), pa.array(value[order].round(3))]
        return pa.table(columns, schema=SCHEMA), int((count == 0).sum()), int((doubled & (count == 2)).sum())


def make(
    folder: str | Path, rows: int = 100_000_000, machines: int = 200, part_rows: int = 2_500_000, seed: int = 1
) -> dict[str, Any]:
    """Write the log of about ``rows`` readings in parts of about ``part_rows``; what ``truth.json`` says."""
    folder = Path(folder)
    shutil.rmtree(folder / "readings", ignore_errors=True)
    (folder / "readings").mkdir(parents=True)
    each = machines * len(SENSORS)
    plant = Plant(machines, max(rows // each, 1), seed)
    step = max(part_rows // each, 1)
    written = missing = doubled = 0
    for number, first in enumerate(range(0, plant.seconds, step)):
        table, gone, twice = plant.part(first, min(first + step, plant.seconds))
        path = folder / "readings" / f"part-{number:04}.parquet"
        pq.write_table(table, path, row_group_size=min(part_rows, 500_000), use_dictionary=["machine", "sensor"])
        written, missing, doubled = written + table.num_rows, missing + gone, doubled + twice
    names = {"machine": pa.array(np.repeat(np.arange(machines, dtype=np.int16), len(SENSORS)))}
    names["sensor"] = pa.array(list(SENSORS) * machines)
    pq.write_table(
        pa.table({**names, "gain": plant.gain.reshape(-1), "off": plant.offset.reshape(-1)}),
        folder / "calibration.parquet",
    )
    truth = {
        "rows": written,
        "missing": missing,
        "doubled": doubled,
        "machines": machines,
        "seconds": plant.seconds,
        "drifting": plant.drifting.tolist(),
        "faulty": plant.faulty.tolist(),
        "fault": [str(START + np.timedelta64(second, "s")) for second in plant.fault],
    }
    (folder / "truth.json").write_text(json.dumps(truth, indent=2) + "\n")
    return truth


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description="Make a log of sensor readings as Parquet files.")
    parser.add_argument("folder", help="where it is written")
    parser.add_argument("--rows", type=lambda text: int(text.replace("_", "")), default=100_000_000)
    parser.add_argument("--machines", type=int, default=200)
    parser.add_argument("--part-rows", type=int, default=2_500_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    truth = make(options.folder, options.rows, options.machines, options.part_rows, options.seed)
    print(f"{truth['rows']:,} readings of {truth['machines']} machines over {truth['seconds']:,} s in {options.folder}")


if __name__ == "__main__":
    main()
