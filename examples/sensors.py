"""An edge story: a folder of sensor readings larger than the memory given to it, and what is wrong in the plant.

The readings (make_sensor_log.py) are resampled to minutes, window by window: duplicates leave, calibration comes in.
A scan with a bound on time reads only the row groups of its window, and a scan of everything comes in batches, so
memory stays below ``memory_limit``. The minutes are a small table of the database, which then answers: who was silent,
whose readings are outliers against the machine's own, whose sensors drift. At last one of these queries is placed on a
Jetson board beside a neural network that keeps its GPU busy; that part is simulated.

    python examples/make_sensor_log.py plant --rows 10_000_000
    python examples/sensors.py plant --memory 64MiB
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import finequery

SUMMARY = """
select count(*) as readings, count(distinct machine) as machines, min(ts) as first, max(ts) as last from readings
"""

#: A reading that was sent twice is one reading: it has the same machine, sensor and time.
RESAMPLE = """
select machine, sensor, time_bucket(interval '1 minute', ts) as minute,
       count(*) as readings, sum(copies) as received, avg(value * gain + off) as mean, max(value * gain + off) as peak
from (
    select machine, sensor, ts, max(value) as value, count(*) as copies
    from readings where ts >= $1 and ts < $2 group by machine, sensor, ts
) once join calibration using (machine, sensor)
group by all
"""

DUPLICATES = "select sum(received - readings)::bigint as duplicates from minutes"

SILENT = """
select machine, $1 * count(distinct sensor) - sum(readings)::bigint as missing
from minutes group by machine order by missing desc, machine limit 5
"""

#: How far the means of minutes lie from what is usual for this sensor of this machine, in standard deviations. Minutes
#: of few readings say little.
OUTLIERS = """
with whole as (select * from minutes where readings >= 30),
own as (select machine, sensor, avg(mean) as usual, stddev(mean) as spread from whole group by machine, sensor)
select machine, sensor, count(*) as minutes, max(abs(mean - usual) / spread) as worst,
       min(minute) as first, max(minute) as last
from whole join own using (machine, sensor)
where abs(mean - usual) > 4 * spread
group by machine, sensor order by worst desc, machine, sensor limit 10
"""

DRIFT = """
select machine, avg(mean) filter (where minute >= $2) - avg(mean) filter (where minute < $1) as degrees
from minutes where sensor = 'temperature' group by machine order by abs(degrees) desc, machine limit 10
"""

TOP = """
select machine, avg(peak) as vibration, stddev(mean) as spread, count(*) as minutes
from minutes where sensor = 'vibration' group by machine order by vibration desc, machine limit 5
"""


def windows(first: datetime, last: datetime, length: timedelta) -> Iterator[tuple[datetime, datetime]]:
    """Stretches of time from the hour of ``first`` that hold all up to ``last``."""
    begin = first.replace(minute=0, second=0, microsecond=0)
    while begin <= last:
        yield begin, begin + length
        begin += length


def analyse(con: finequery.Connection, folder: Path, window: timedelta = timedelta(minutes=10)) -> dict[str, Any]:
    """All findings about a log, by name; ``minutes`` is a table of ``con`` afterwards."""
    con.execute(f"create or replace view readings as select * from '{folder}/readings/*.parquet'")
    con.execute(f"create or replace view calibration as select * from '{folder}/calibration.parquet'")
    found: dict[str, Any] = {"summary": con.sql(SUMMARY)}
    _, _, first, last = found["summary"].fetchone()
    for number, (begin, end) in enumerate(windows(first, last, window)):
        into = "insert into minutes" if number else "create or replace table minutes as"
        con.execute(f"{into} {RESAMPLE}", [begin, end])
    tenth = (last - first) / 10
    seconds = int((last - first).total_seconds()) + 1
    found["duplicates"] = con.sql(DUPLICATES)
    found["silent"] = con.sql(SILENT, [seconds])
    found["outliers"] = con.sql(OUTLIERS)
    found["drift"] = con.sql(DRIFT, [first + tenth, last - tenth])
    found["top"] = con.sql(TOP)
    return found


def beside_inference(con: finequery.Connection, board: str, loads: tuple[float, ...] = (0.0, 0.9)) -> list[str]:
    """Where the query for the top machines runs on a board, and what it takes there, while a neural network keeps so
    much of the GPU busy. The answer is this machine's; the times are the board's simulator's, and say so."""
    minutes = con.sql("select * from minutes").arrow()
    lines = []
    with finequery.connect(board=board) as there:
        there.register("arrived", minutes)
        there.execute("create table minutes as select * from arrived")
        for load in loads:
            there.execute(f"set gpu_load = {load}")
            query = there.sql(TOP)
            line = query.timeline()
            lines.append(f"{load:.0%} of the GPU busy with inference: on {' and '.join(line.engines)}, {line.heading}")
            lines.append(line.text())
    return lines


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description="Find what is wrong in a plant by its sensor log.")
    parser.add_argument("folder", type=Path, help="what make_sensor_log.py has made")
    parser.add_argument("--memory", default="256MiB", help="memory_limit of the connection")
    parser.add_argument("--board", default="orin-nano", help="the board for the last part; '' leaves it out")
    options = parser.parse_args()
    begin = time.perf_counter()
    with finequery.connect(memory_limit=options.memory) as con:
        for name, result in analyse(con, options.folder).items():
            print(f"\n{name} ({time.perf_counter() - begin:.1f} s)")
            print(result)
        if options.board:
            print("\n".join(["\nbeside an inference job (simulated)", *beside_inference(con, options.board)]))


if __name__ == "__main__":
    main()
