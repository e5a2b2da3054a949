"""The settings of a connection: one table of what there is, what it means and what it may be.

A value comes from, later ones winning: the default, a configuration file, the environment (``FINEQUERY_THREADS=4``;
both in configuration.py), ``connect(threads=4)``, ``SET threads = 4``. ``RESET threads`` goes back to what holds
without the last two; ``SHOW SETTINGS`` says where each value comes from.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from finequery import configuration
from finequery.errors import CatalogError, DataError, Error, nearest
from finequery.types import UTC_NAMES


@dataclass(frozen=True)
class Setting:
    """``parse`` turns what a user wrote into the value kept, or raises ValueError saying what it must be."""

    name: str
    type: str
    default: Callable[[], Any]
    parse: Callable[[Any], Any]
    description: str


def _threads(value: Any) -> int:
    if isinstance(value, bool) or not str(value).strip().isdigit() or not 1 <= int(value) <= 1024:
        raise ValueError("a number of threads from 1 to 1024")
    return int(value)


_UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}
_UNITS |= {"kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40}


def _bytes(value: Any) -> int:
    match = re.fullmatch(r"\s*(\d+(?:\.\d*)?)\s*([a-zA-Z]*|%)\s*", str(value))
    if match and not isinstance(value, bool):
        number, unit = float(match[1]), match[2].lower()
        if unit == "%" and 0 < number <= 100:
            return int(physical_memory() * number / 100)
        if unit in _UNITS and number > 0:
            return int(number * _UNITS[unit])
    raise ValueError("a size such as '4GB', '512MiB', '80%' or a number of bytes")


def _gpu_bytes(value: Any) -> int:
    if "%" in str(value):
        raise ValueError("a size such as '4GB', '512MiB' or a number of bytes")
    return _bytes(value)


def _boolean(value: Any) -> bool:
    text = str(value).lower()
    if text in ("true", "on", "1", "yes"):
        return True
    if text in ("false", "off", "0", "no"):
        return False
    raise ValueError("true or false")


def _one_of(*choices: str) -> Callable[[Any], str]:
    def parse(value: Any) -> str:
        if str(value).lower() in choices:
            return str(value).lower()
        raise ValueError("one of " + ", ".join(choices))

    return parse


def _share(value: Any) -> float:
    try:
        share = float(value)
    except (TypeError, ValueError):
        share = -1.0
    if isinstance(value, bool) or not 0.0 <= share < 1.0:
        raise ValueError("a share from 0 to below 1, such as 0.5")
    return share


#: A setting that the machine answers.
AUTO = "auto"


def _load(value: Any) -> float | str:
    if str(value).strip().lower() == AUTO:
        return AUTO
    try:
        return _share(value)
    except ValueError as error:
        raise ValueError(f"auto, or {error}") from None


def _board(value: Any) -> str:
    text = str(value).strip()
    if text:
        from finequery.jetson import board

        board.load(text)  # which says what there is
    return text


def _count(value: Any) -> int:
    if isinstance(value, bool) or not str(value).strip().isdigit():
        raise ValueError("a number, 0 or more")
    return int(value)


def _seconds(value: Any) -> float | None:
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        seconds = -1.0
    if isinstance(value, bool) or not 0.0 <= seconds < float("inf"):
        raise ValueError("a number of seconds, or 0 for no limit")
    return seconds or None


def _utc(value: Any) -> str:
    if str(value).lower() not in UTC_NAMES:
        raise ValueError("UTC, the one time zone that there is")
    return "UTC"


def physical_memory() -> int:
    """Bytes of main memory this process may use: the machine's, or its container's where that is less."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            with open(path) as file:
                text = file.read().strip()
        except OSError:
            continue
        if text.isdigit():
            total = min(total, int(text))
    return total


def available_cores() -> int:
    """Cores this process may run on."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        return os.cpu_count() or 1


TABLE: dict[str, Setting] = {
    setting.name: setting
    for setting in (
        Setting("threads", "BIGINT", available_cores, _threads, "worker threads of a query; all cores by default"),
        Setting(
            "memory_limit",
            "VARCHAR",
            lambda: physical_memory() * 8 // 10,
            _bytes,
            "bytes of columns, tables and groups: Parquet beyond it is read in batches, else a query is refused; "
            "80% of main memory by default",
        ),
        Setting(
            "device",
            "VARCHAR",
            lambda: "auto",
            _one_of("auto", "cpu", "gpu"),
            "where queries run: auto lets the performance model choose per pipeline",
        ),
        Setting(
            "board",
            "VARCHAR",
            lambda: "",
            _board,
            "a board to simulate, such as 'agx-xavier': answers are this machine's, times the board's; '' for none",
        ),
        Setting(
            "objective",
            "VARCHAR",
            lambda: "latency",
            _one_of("latency", "energy", "edp"),
            "what placement makes small: time, energy, or their product",
        ),
        Setting(
            "gpu_load",
            "VARCHAR",
            lambda: AUTO,
            _load,
            "share of the GPU that others keep busy, which placement reckons with: from 0 to below 1, or auto: what "
            "sensors say of this machine's GPU",
        ),
        Setting(
            "strict",
            "BOOLEAN",
            lambda: False,
            _boolean,
            "an error instead of another device or a slower path than the one asked for",
        ),
        Setting(
            "gpu_memory_limit",
            "VARCHAR",
            lambda: None,
            _gpu_bytes,
            "bytes of columns that a GPU with memory of its own keeps between queries; 70% of what is free by default",
        ),
        Setting(
            "profile",
            "BOOLEAN",
            lambda: False,
            _boolean,
            "measure the steps inside of pipelines on the CPU: EXPLAIN ANALYZE then shows the time of each",
        ),
        Setting(
            "deterministic",
            "BOOLEAN",
            lambda: False,
            _boolean,
            "floating-point sums, means and deviations with the same bits on every run and device, rounded once",
        ),
        Setting("timezone", "VARCHAR", lambda: "UTC", _utc, "time zone of the session, which is UTC"),
        Setting("plan_cache_size", "BIGINT", lambda: 256, _count, "plans kept for texts that come again; 0 keeps none"),
        Setting(
            "timeout",
            "DOUBLE",
            lambda: None,
            _seconds,
            "seconds after which a statement is stopped with a TimeoutError; 0, the default, is no limit",
        ),
        Setting(
            "progress",
            "VARCHAR",
            lambda: "auto",
            _one_of("auto", "on", "off"),
            "a bar on stderr while a statement takes more than a second: auto shows it where a person is watching",
        ),
        Setting(
            "log_level",
            "VARCHAR",
            lambda: "default",
            _one_of("default", "debug", "info", "warning", "error", "off"),
            "from which level on the process logs to stderr, or off; default leaves the logger finequery alone",
        ),
        Setting(
            "log_slow",
            "DOUBLE",
            lambda: 10.0,
            _seconds,
            "seconds from which on a statement is logged as slow; 0 logs none",
        ),
    )
}


class Settings:
    """The values in force for one connection, and where each comes from."""

    def __init__(self, values: Mapping[str, Any] | None = None) -> None:
        self._values: dict[str, Any] = {name: setting.default() for name, setting in TABLE.items()}
        self._sources = dict.fromkeys(TABLE, "default")
        self._configured: dict[str, tuple[Any, str]] = {}  # what RESET goes back to, where that is not the default
        for name, value, source, place in configuration.given(TABLE):
            try:
                self._put(TABLE[name], value, source)
            except Error as error:
                raise type(error)(f"{place}: {error.message}", hint=error.hint) from None
            self._configured[name] = self._values[name], source
        for name, value in (values or {}).items():
            if value is not None:
                self.set(name, value, "connect")

    def copy(self) -> Settings:
        other = Settings.__new__(Settings)
        other._values, other._sources = dict(self._values), dict(self._sources)
        other._configured = self._configured
        return other

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def get(self, name: str) -> Any:
        """The value of the setting a user named."""
        return self._values[find(name).name]

    def set(self, name: str, value: Any, source: str = "SET") -> None:
        """SET; with None RESET."""
        setting = find(name)
        if value is not None:
            self._put(setting, value, source)
            return
        value, source = self._configured.get(setting.name) or (setting.default(), "default")
        self._values[setting.name], self._sources[setting.name] = value, source
        _apply(setting.name, value)

    def _put(self, setting: Setting, value: Any, source: str) -> None:
        try:
            value = setting.parse(value)
        except ValueError as error:
            raise DataError(f"Setting {setting.name} must be {error}, not {value!r}") from None
        self._values[setting.name], self._sources[setting.name] = value, source
        _apply(setting.name, value)

    def values(self) -> dict[str, Any]:
        """A copy of all, by name."""
        return dict(self._values)

    def rows(self) -> list[tuple[str, str, str, str, str]]:
        """name, value, type, source, description of every setting."""
        return [
            (s.name, shown(self._values[s.name]), s.type, self._sources[s.name], s.description) for s in TABLE.values()
        ]


def _apply(name: str, value: Any) -> None:
    """What a setting does to the process at once."""
    if name == "log_level":
        from finequery import logs

        logs.set_level(value)


def find(name: str) -> Setting:
    """The setting called ``name`` in any case."""
    setting = TABLE.get(name.lower())
    if setting is None:
        hint = nearest(name, TABLE) or "SHOW SETTINGS lists what there is."
        raise CatalogError(f'There is no setting "{name}"', hint=hint)
    return setting


def shown(value: Any) -> str:
    """A value as SHOW gives it."""
    if value is None:
        return "default"
    return str(value).lower() if isinstance(value, bool) else str(value)
