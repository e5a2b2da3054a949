"""Boards: what the CPU, the GPU and the memory of a machine can do, as data.

``load("agx-xavier")`` reads ``boards/agx-xavier.toml``; ``load("agx-xavier:15W")`` the same board in one of its power
modes; ``load("host")`` describes the machine that runs (its CPU, without a GPU). A board is either *integrated*, CPU
and GPU on one memory, or has a *discrete* GPU with memory of its own behind a link.

Every number in a file is a table ``{ value = …, source = "…" }``. ``Board.sources`` keeps the texts by path
("gpu.mhz"). A source that starts with ``estimate:`` says how the number was guessed, one that starts with
``unverified:`` is a manufacturer's or published figure that nobody looked up again; all others were read where they
say. Sources that many numbers share stand in the file's table ``sources`` and are referred to as ``@key``.

A power mode states what it caps (cores, clocks, multiprocessors, the memory's clock) and its powers; what follows from
those is scaled by ``_scaled``.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from finequery.errors import OperationalError, nearest

FOLDER = Path(__file__).parent / "boards"
#: The board that stands for the CPU class on which ``boards/costs.toml`` was measured, and for what sysfs does not say.
REFERENCE = "reference"
#: Bytes a multiprocessor moves per clock at most, whatever the memory gives (limits slow modes; see _scaled).
SM_BYTES_PER_CLOCK = 32


@dataclass(frozen=True, slots=True)
class Cpu:
    """The cores, all of one kind. Bytes of STREAM's counting: what the program reads and writes."""

    cores: int
    mhz: float
    speed: float  # of one core in scalar code, relative to the reference core
    vector_speed: float  # of one core in vectorised code, relative to the reference core
    gain: float  # what each further thread adds, of the first one's speed: 1 on cores of their own, less on shared ones
    l1_bytes: float  # of a core
    l2_bytes: float  # of a core
    l3_bytes: float  # of all cores
    l1_ns: float  # a dependent access that hits the cache
    l2_ns: float
    l3_ns: float
    memory_ns: float  # a dependent access that misses all caches
    parallelism: float  # independent random accesses that a core has under way
    thread_gbs: float  # streamed from memory by one thread
    all_gbs: float  # streamed from memory by as many threads as it takes
    cached_gbs: float  # streamed by one thread from L3
    line_bytes: float


@dataclass(frozen=True, slots=True)
class Gpu:
    """The GPU. Rates of random accesses and of atomics are in 10⁹ a second."""

    sms: int
    lanes: float  # 32-bit integer instructions a multiprocessor finishes per clock
    mhz: float
    l2_bytes: float
    shared_bytes: float  # shared memory of a multiprocessor
    device_gbs: float  # streamed, by kind of memory
    managed_gbs: float
    mapped_gbs: float  # of a discrete GPU: over the link
    cached_random: float  # random accesses that hit L2
    device_random: float  # random accesses that miss L2, device and managed memory
    mapped_random: float  # random accesses to mapped memory, past L2
    atomics: float  # atomic updates of the same few addresses
    sector_bytes: float  # fetched from memory for a random access
    launch_us: float
    sync_us: float
    maintenance_us_per_mb: float  # of managed memory that a kernel may touch, at launch and synchronisation


@dataclass(frozen=True, slots=True)
class Memory:
    """A DRAM and its bus."""

    peak_gbs: float
    shared_gbs: float  # what all who use it at once get together
    capacity_bytes: float
    joules_per_gb: float  # of traffic, above rest


@dataclass(frozen=True, slots=True)
class Link:
    """Copies between the host's memory and the GPU's: over PCIe, or within the one memory of an integrated board."""

    h2d_gbs: float
    d2h_gbs: float
    latency_us: float  # of one copy
    copy_engines: int  # 1: copies of both directions take turns
    duplex_gbs: float  # both directions at once
    joules_per_gb: float


@dataclass(frozen=True, slots=True)
class Power:
    """Watts. A simulated machine draws ``idle_w``, and the others on top while they are active."""

    idle_w: float
    core_w: float  # an active core
    gpu_w: float  # the active GPU, without its memory's traffic
    tdp_w: float  # rated: the board; or the GPU and the host's CPU


@dataclass(frozen=True, slots=True)
class Price:
    """Dollars. For a discrete GPU, ``host_usd`` is the host's CPU alone, as the papers count; 0 for a board."""

    usd: float
    host_usd: float


@dataclass(frozen=True, slots=True)
class Board:
    """A machine in one power mode. ``gpu_memory`` is None where the GPU shares the CPU's memory."""

    name: str  # with the mode, unless that is the first
    title: str
    mode: str
    cpu: Cpu
    memory: Memory
    power: Power
    price: Price
    gpu: Gpu | None = None
    link: Link | None = None
    gpu_memory: Memory | None = None
    sources: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), compare=False, repr=False)

    @property
    def short_title(self) -> str:
        """What people call it: without the maker, the memory and, for a discrete GPU, the host."""
        return self.title.removeprefix("NVIDIA ").partition(" (")[0].partition(" in a ")[0]

    @property
    def discrete(self) -> bool:
        """Has a GPU with memory of its own."""
        return self.gpu_memory is not None

    @property
    def peak_gbs(self) -> float:
        """Peak bandwidth of all memories: what utilisation is a share of."""
        return self.memory.peak_gbs + (self.gpu_memory.peak_gbs if self.gpu_memory else 0.0)

    def estimates(self) -> dict[str, str]:
        """The numbers that nobody read or measured, with how they were guessed."""
        return {path: text for path, text in self.sources.items() if text.startswith("estimate:")}


_PARTS: dict[str, type] = {
    "cpu": Cpu,
    "memory": Memory,
    "power": Power,
    "price": Price,
    "gpu": Gpu,
    "link": Link,
    "gpu_memory": Memory,
}
_REQUIRED = ("cpu", "memory", "power", "price")
_Number = tuple[float, str]
_Part = TypeVar("_Part")


def names() -> list[str]:
    """Boards that can be loaded, without their modes. ``host`` is the machine that runs."""
    files = (path.stem for path in FOLDER.glob("*.toml"))
    return [*sorted(name for name in files if name not in ("costs", REFERENCE)), "host"]


def modes(name: str) -> list[str]:
    """The power modes of a board, the default first."""
    return list(_document(name).get("modes", {}))


def load(name: str) -> Board:
    """A board by name, ``name:mode`` for a power mode other than its first.

    Raises OperationalError for a board or mode that there is not, and for a damaged file.
    """
    stem, _, mode = name.strip().partition(":")
    known = {n.lower(): n for n in [*names(), REFERENCE]}
    if stem.lower() not in known:
        raise OperationalError(
            f'There is no board "{stem}"',
            hint=(nearest(stem, names()) + " Boards: " + ", ".join(names()) + ".").strip(),
        )
    stem = known[stem.lower()]
    return host() if stem == "host" and not mode else _load(stem, mode)


@functools.cache
def _load(stem: str, mode: str) -> Board:
    document = _document(stem)
    available: dict[str, Any] = document.get("modes", {})
    if mode and mode.lower() not in {m.lower() for m in available}:
        raise OperationalError(
            f'Board "{stem}" has no power mode "{mode}"',
            hint=(
                nearest(mode, available) + (" Modes: " + ", ".join(available) + "." if available else " It has one.")
            ).strip(),
        )
    if available:
        mode = next((m for m in available if m.lower() == mode.lower()), next(iter(available)))
    numbers = _numbers(document, stem)
    if mode:
        caps = {"sources": document.get("sources", {}), **available[mode]}
        numbers = _scaled(numbers, _numbers(caps, f"{stem}:{mode}"))
    full = f"{stem}:{mode}" if mode and mode != next(iter(available)) else stem
    return parse(full, str(document.get("title", stem)), mode, numbers)


def in_mode(board: Board, mode: str) -> Board:
    """A board in the power mode that the machine calls ``mode``: nvpmodel's "MODE_15W" is "15W" here. The same board
    where it has no such mode."""
    stem = board.name.partition(":")[0]
    wanted = mode.lower().removeprefix("mode_")
    found = next((m for m in modes(stem) if m.lower() == wanted), None)
    return board if found is None else load(f"{stem}:{found}")


@functools.lru_cache(maxsize=64)
def at_clocks(board: Board, cpu: float = 1.0, gpu: float = 1.0, memory: float = 1.0) -> Board:
    """A board whose clocks are held to these shares of its own: by heat, by a user, or because others need the power.
    What follows from them is scaled as between power modes. Its name, by which its model is found, stays."""
    base = {path: (value, board.sources.get(path, "")) for path, value in _values(board)}
    shares = {"cpu.mhz": cpu, "gpu.mhz": gpu, "memory.peak_gbs": memory}
    held = {path: share for path, share in shares.items() if share < 1.0 and path in base}
    if not held:
        return board
    caps = {path: (base[path][0] * share, "the clock in force now") for path, share in held.items()}
    numbers = _scaled(base, caps)
    together = numbers["cpu.all_gbs"]  # of all cores: one of them can't have more
    numbers["cpu.thread_gbs"] = min(numbers["cpu.thread_gbs"], together, key=lambda number: number[0])
    names = {"cpu.mhz": "CPU", "gpu.mhz": "GPU", "memory.peak_gbs": "memory"}
    said = ", ".join(f"{names[path]} {share:.0%}" for path, share in held.items())
    return parse(board.name, f"{board.title}, clocks held to: {said}", board.mode, numbers)


#: What devices call themselves, and the boards that describe them.
_DEVICES = {
    "AGX Xavier": "agx-xavier",
    "AGX Orin": "agx-orin",
    "Orin Nano": "orin-nano",
    "2080 Ti": "rtx-2080-ti",
    "V100": "v100",
    "3090": "rtx-3090",
    "H100": "h100",
}


def of_device(name: str) -> Board | None:
    """The board that describes a device, by the name that its driver or firmware gives; None if there is none."""
    return next((load(board) for part, board in _DEVICES.items() if part.lower() in name.lower()), None)


def parse(name: str, title: str, mode: str, numbers: Mapping[str, _Number]) -> Board:
    """A board from (value, source) by path ("cpu.cores"). Missing, unknown and impossible numbers are refused."""
    parts: dict[str, Any] = {}
    for part, kind in _PARTS.items():
        given = {path.partition(".")[2]: n for path, n in numbers.items() if path.partition(".")[0] == part}
        if given or part in _REQUIRED:
            parts[part] = _part(name, part, kind, given)
    unknown = {path for path in numbers if path.partition(".")[0] not in _PARTS}
    if unknown:
        raise _damaged(name, f'unknown entry "{min(unknown)}"', nearest(min(unknown).partition(".")[0], _PARTS))
    if ("gpu" in parts) != ("link" in parts):
        raise _damaged(name, "a GPU needs both [gpu] and [link]")
    if "gpu_memory" in parts and "gpu" not in parts:
        raise _damaged(name, "there is a [gpu_memory] without a [gpu]")
    board = Board(
        name, title, mode, **parts, sources=MappingProxyType({path: source for path, (_, source) in numbers.items()})
    )
    _check(board)
    return board


def _part(name: str, part: str, kind: type[_Part], given: Mapping[str, _Number]) -> _Part:
    fields = {f.name: f.type for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    for key in given:
        if key not in fields:
            raise _damaged(name, f'unknown entry "{part}.{key}"', nearest(key, fields))
    missing = [key for key in fields if key not in given]
    if missing:
        raise _damaged(name, "missing " + ", ".join(f"{part}.{key}" for key in missing))
    values = {key: given[key][0] for key in fields}
    return kind(**{key: int(v) if fields[key] == "int" else float(v) for key, v in values.items()})


def _check(board: Board) -> None:
    """What cannot be: numbers out of range, caches out of order, bandwidths above what carries them."""
    values = dict(_values(board))
    for path, value in values.items():
        may_be_zero = path.startswith(("price.", "power.", "cpu.l3_bytes")) or "joules" in path or "_us" in path
        if not (0 if may_be_zero else 1e-9) <= value < float("inf"):
            raise _damaged(board.name, f"{path} is {value}")
    ordered = [
        ("cpu.l1_bytes", "cpu.l2_bytes"),
        ("cpu.l1_ns", "cpu.l2_ns"),
        ("cpu.l2_ns", "cpu.l3_ns"),
        ("cpu.l3_ns", "cpu.memory_ns"),
        ("cpu.thread_gbs", "cpu.all_gbs"),
        ("cpu.all_gbs", "memory.shared_gbs"),
        ("memory.shared_gbs", "memory.peak_gbs"),
    ]
    if board.gpu is not None:
        own = "gpu_memory" if board.discrete else "memory"
        ordered += [(f"gpu.{kind}_gbs", f"{own}.shared_gbs") for kind in ("device", "managed")]
        ordered.append(("gpu.mapped_gbs", "link.h2d_gbs" if board.discrete else "memory.shared_gbs"))
        ordered += [("link.h2d_gbs", "link.duplex_gbs"), ("link.d2h_gbs", "link.duplex_gbs")]
        ordered.append((f"{own}.shared_gbs", f"{own}.peak_gbs"))
    for less, more in ordered:
        if values[less] > values[more] * (1 + 1e-9):
            raise _damaged(board.name, f"{less} ({values[less]:g}) is above {more} ({values[more]:g})")


def _values(board: Board) -> list[tuple[str, float]]:
    """All numbers of a board by path."""
    return [
        (f"{part}.{f.name}", float(getattr(getattr(board, part), f.name)))
        for part, kind in _PARTS.items()
        if getattr(board, part) is not None
        for f in dataclasses.fields(kind)
    ]


def _document(name: str) -> dict[str, Any]:
    """A board's file."""
    path = FOLDER / f"{REFERENCE if name == 'host' else name}.toml"
    return read_toml(path)


def read_toml(path: Path) -> dict[str, Any]:
    """A TOML file; OperationalError with its name if there is none or it cannot be read."""
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as e:
        raise OperationalError(f"Board file {path.name} can't be read: {e.strerror or e}") from e
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise _damaged(path.stem, str(e)) from e


def _numbers(document: Mapping[str, Any], name: str) -> dict[str, _Number]:
    """(value, source) by path."""
    shared: Mapping[str, str] = document.get("sources", {})
    found: dict[str, _Number] = {}
    for part, table in document.items():
        if part in ("title", "sources", "modes"):
            continue
        if not isinstance(table, dict):
            raise _damaged(name, f'"{part}" is no table')
        for key, entry in table.items():
            found[f"{part}.{key}"] = _number(name, f"{part}.{key}", entry, shared)
    return found


def _number(name: str, path: str, entry: Any, shared: Mapping[str, str]) -> _Number:
    if not isinstance(entry, dict) or set(entry) != {"value", "source"}:
        raise _damaged(name, f'{path} must be {{ value = …, source = "…" }}')
    value, source = entry["value"], entry["source"]
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise _damaged(name, f"{path}: the value is no number")
    if not isinstance(source, str) or len(source.strip()) < 3:
        raise _damaged(name, f"{path} has no source")
    for key in re.findall(r"@(\w+)", source):
        if key not in shared:
            raise _damaged(name, f'{path}: there is no source "{key}"', nearest(key, shared))
        source = source.replace(f"@{key}", shared[key])
    return float(value), source


def _scaled(base: Mapping[str, _Number], caps: Mapping[str, _Number]) -> dict[str, _Number]:
    """The numbers of a power mode that states ``caps``.

    The clock of the cores scales their speed, their caches and what one thread streams, and what launching costs; the
    memory's clock scales bandwidths; the GPU's clock its cache, atomics and (with the multiprocessors) the most that it
    can move. Active power goes with the square of the clock where the mode does not state it.
    """
    numbers = {**base, **caps}

    def ratio(path: str) -> float:
        return numbers[path][0] / base[path][0] if path in base else 1.0

    def scale(factor: float, why: str, *paths: str, most: float = float("inf")) -> None:
        for path in paths:
            if path in base and path not in caps:
                value = min(base[path][0] * factor, most)
                if value != base[path][0]:
                    numbers[path] = (value, f"estimate: {base[path][0]:g} at full clocks, scaled with {why}")

    core, bus, gpu = ratio("cpu.mhz"), ratio("memory.peak_gbs"), ratio("gpu.mhz")
    scale(core, "the cores' clock", "cpu.speed", "cpu.vector_speed", "cpu.thread_gbs", "cpu.cached_gbs")
    scale(1 / core, "the cores' clock", "gpu.launch_us", "gpu.sync_us")
    slowest = base["cpu.memory_ns"][0]
    scale(1 / core, "the cores' clock", "cpu.l1_ns", "cpu.l2_ns", "cpu.l3_ns", most=slowest)
    scale(bus, "the memory's clock", "memory.shared_gbs", "link.h2d_gbs", "link.d2h_gbs", "link.duplex_gbs")
    together = numbers["cpu.cores"][0] * numbers["cpu.thread_gbs"][0]
    scale(bus, "the memory's clock", "cpu.all_gbs", most=together)
    scale(bus, "the memory's clock", "gpu.device_random", "gpu.mapped_random")
    scale(gpu, "the GPU's clock", "gpu.cached_random", "gpu.atomics")
    scale(core**2, "the square of the cores' clock", "power.core_w")
    if "gpu.sms" in base:
        moved = numbers["gpu.sms"][0] * numbers["gpu.mhz"][0] * 1e6 * SM_BYTES_PER_CLOCK / 1e9
        scale(bus, "the memory's clock", "gpu.device_gbs", "gpu.managed_gbs", "gpu.mapped_gbs", most=moved)
        scale(gpu**2 * ratio("gpu.sms"), "the square of the GPU's clock", "power.gpu_w")
    return numbers


@functools.cache
def host() -> Board:
    """The machine that runs: its cores and caches as the kernel reports them, otherwise as the reference board."""
    numbers = dict(_numbers(_document("host"), "host"))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    numbers["cpu.cores"] = (cores, "the operating system")
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        capacity = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        numbers["memory.capacity_bytes"] = (capacity, "the operating system")
    for level, nbytes in _caches().items():
        numbers[f"cpu.l{level}_bytes"] = (nbytes, "the kernel's sysfs")
    threads = min(cores * numbers["cpu.thread_gbs"][0], numbers["memory.shared_gbs"][0])
    if threads < numbers["cpu.all_gbs"][0]:
        numbers["cpu.all_gbs"] = (threads, "estimate: as many threads as there are cores")
    return parse("host", "this machine", "", numbers)


def _caches(root: Path = Path("/sys/devices/system/cpu/cpu0/cache")) -> dict[int, float]:
    """Bytes of the data caches by level: of a core, and from level 3 of all cores; empty where sysfs has none."""
    found: dict[int, float] = {}
    for index in sorted(root.glob("index*")):
        try:
            level = int((index / "level").read_text())
            kind = (index / "type").read_text().strip()
            size = re.fullmatch(r"(\d+)([KMG]?)", (index / "size").read_text().strip())
            sharers = len(_cpus((index / "shared_cpu_list").read_text().strip()))
        except (OSError, ValueError):
            continue
        if kind != "Instruction" and size is not None and 1 <= level <= 3:
            nbytes = int(size[1]) * {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}[size[2]]
            found[level] = nbytes if level == 3 else nbytes / max(1, sharers)
    return found


def _cpus(text: str) -> list[int]:
    """The numbers of a list like ``0-3,8``."""
    found: list[int] = []
    for piece in text.split(","):
        first, _, last = piece.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found


def _damaged(name: str, what: str, hint: str = "") -> OperationalError:
    return OperationalError(f'Board file "{name}" is damaged: {what}', hint=hint or None)
