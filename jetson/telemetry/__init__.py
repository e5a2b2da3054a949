"""Sensors of the machine: power, load, clocks and temperature of CPU, GPU and memory.

    with open_telemetry() as telemetry:
        print(telemetry.describe())
        reading = telemetry.read()
        reading.watts, reading.gpu_load, reading.temperatures

Nothing is opened before ``open_telemetry`` is called, and then only sources that give something that is still missing.
One file for each source; ``composite.py`` puts them together, ``clocks.py`` and ``thermal.py`` read what several need.
"""

from finequery.jetson.telemetry.composite import FINEST, LOADS, ORDER, SOURCES, Telemetry, open_power, open_telemetry
from finequery.jetson.telemetry.reading import Reading, Source, Unavailable

__all__ = [
    "FINEST",
    "LOADS",
    "ORDER",
    "SOURCES",
    "Reading",
    "Source",
    "Telemetry",
    "Unavailable",
    "open_power",
    "open_telemetry",
]
