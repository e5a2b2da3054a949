"""Fitted models on disk: plain arrays in an ``.npz`` (no pickle) with a description of where they come from.

The array ``meta`` is JSON in UTF-8: schema, version, board, versions of the software, date, coverage, names of the
features, and of every model its family, samples and cross-validation errors. The other arrays are those of all
``Regressor`` one after another. What is damaged, of another version or over other features is refused: the kernel that
reads the arrays tests nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import tempfile
import zipfile
import zlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from finequery.errors import FileError
from finequery.operators.native import cache_directory
from finequery.perfmodel.features import NAMES
from finequery.perfmodel.trees import Regressor

SCHEMA, VERSION = "finequery performance model", 1
#: Models that come with the package.
SHIPPED = Path(__file__).resolve().parent / "models"

#: What reading bytes that are no such file may raise.
_DAMAGE = (
    *(ValueError, KeyError, TypeError, IndexError, AttributeError, EOFError, OSError, MemoryError, RuntimeError),
    *(zipfile.BadZipFile, zlib.error),
)
_FLAT = {"left": "u2", "right": "u2", "weight": "f8", "feature": "u2", "threshold": "f4", "leaf": "f4"}


@dataclass(frozen=True, slots=True)
class Errors:
    """Of out-of-fold predictions: the median, mean and 90th percentile of abs(predicted / measured - 1), and the mean
    of abs(ln(predicted / measured)), by which families are chosen."""

    median: float
    mean: float
    p90: float
    log: float


@dataclass(frozen=True, slots=True)
class Fitted:
    """The model of one ``Features.model`` (or kind) on one device."""

    model: str
    device: str
    family: str
    base: str  # what its value is a factor of: the "analytic" price, or "rows" (perfmodel.batch.units)
    regressor: Regressor
    low: float  # ln of the interval's ends over the expected value
    high: float
    samples: int
    points: int
    errors: dict[str, Errors] = field(default_factory=dict)  # of every candidate, by "family, base"

    @property
    def chosen(self) -> Errors:
        return self.errors[f"{self.family}, {self.base}"]


@dataclass(frozen=True, slots=True)
class Stored:
    """The models of one machine."""

    board: str  # name of the board (jetson.board), or of the machine
    simulated: bool
    coverage: float
    models: tuple[Fitted, ...]
    created: str = ""  # ISO 8601
    versions: dict[str, str] = field(default_factory=dict)
    digest: str = ""  # of the file

    @property
    def samples(self) -> int:
        """Of all models; a sample that taught both an algorithm's and its kind's model counts twice."""
        return sum(m.samples for m in self.models)


def stored(board: str, simulated: bool, coverage: float, models: Sequence[Fitted]) -> Stored:
    """Models fitted now, with this software."""
    from importlib.metadata import PackageNotFoundError, version

    versions = {"python": platform.python_version()}
    for package in ("finequery", "numpy", "scikit-learn"):
        with suppress(PackageNotFoundError):
            versions[package] = version(package)
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    return Stored(board, simulated, coverage, tuple(models), now, versions)


def save(path: Path, models: Stored) -> None:
    """Write a model file, into a new file that then takes the old one's place."""
    regressors = [m.regressor for m in models.models]
    entries = []
    for m in models.models:
        value = {k: v for k, v in ((f, getattr(m, f)) for f in Fitted.__slots__) if k not in ("regressor", "errors")}
        errors = {name: [round(x, 6) for x in asdict(e).values()] for name, e in m.errors.items()}
        entries.append({**value, "errors": errors})
    meta = {
        "schema": SCHEMA,
        "version": VERSION,
        **{f: getattr(models, f) for f in ("board", "simulated", "coverage", "created", "versions")},
        "names": NAMES,
        "models": entries,
    }
    arrays: dict[str, Any] = {
        "meta": np.frombuffer(json.dumps(meta).encode(), np.uint8),
        "sizes": np.array([(len(r.weight), *r.leaf.shape) for r in regressors], np.int64).reshape(-1, 3),
        "bias": np.array([r.bias for r in regressors]),
        **{
            side: np.array([getattr(r, side) for r in regressors], np.float32).reshape(-1, len(NAMES))
            for side in ("low", "high")
        },
    }
    for name, kind in _FLAT.items():
        parts = [getattr(r, name).reshape(-1) for r in regressors]
        arrays[name] = np.concatenate([np.zeros(0, kind), *parts]).astype(kind)
    buffer = BytesIO()
    np.savez_compressed(buffer, **arrays)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(buffer.getvalue())
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(name)
        raise


def load(path: Path) -> Stored:
    """Read a model file. FileNotFoundError if there is none; FileError if it is damaged or of another version."""
    data = path.read_bytes()
    try:
        with np.load(BytesIO(data), allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        meta = json.loads(arrays["meta"].tobytes().decode())
        if not isinstance(meta, dict) or meta.get("schema") != SCHEMA:
            raise _refused(path, "is no performance model")
        if meta["version"] != VERSION:
            raise _refused(path, f"has version {meta['version']}, and this FineQuery reads version {VERSION}")
        if tuple(meta["names"]) != NAMES:
            other = sorted(set(meta["names"]) ^ set(NAMES))
            raise _refused(path, f"is over other features ({', '.join(other) or 'in another order'})")
        return _stored(meta, arrays, hashlib.sha256(data).hexdigest()[:16])
    except _DAMAGE as error:
        raise _refused(path, f"is damaged ({type(error).__name__}: {error})") from error


def _stored(meta: dict[str, Any], arrays: dict[str, Any], digest: str) -> Stored:
    entries, sizes = meta["models"], arrays["sizes"]
    if sizes.shape != (len(entries), 3) or sizes.dtype != np.int64 or (sizes < 0).any():
        raise ValueError("sizes that do not fit the models")
    terms, trees, leaves = sizes.T
    counts = {
        **dict.fromkeys(("left", "right", "weight"), terms),
        **dict.fromkeys(("feature", "threshold"), trees * np.maximum(leaves - 1, 0)),
        "leaf": trees * leaves,
    }
    for name, kind in _FLAT.items():
        if arrays[name].dtype != np.dtype(kind) or arrays[name].shape != (int(counts[name].sum()),):
            raise ValueError(f'array "{name}" has {arrays[name].dtype} {arrays[name].shape}')
    for name, shape in (("low", (len(entries), len(NAMES))), ("high", (len(entries), len(NAMES)))):
        if arrays[name].dtype != np.float32 or arrays[name].shape != shape:
            raise ValueError(f'array "{name}" has {arrays[name].dtype} {arrays[name].shape}')
    pieces = {name: np.split(arrays[name], np.cumsum(counts[name])[:-1]) if entries else [] for name in _FLAT}
    models = []
    for i, entry in enumerate(entries):
        shape = (int(trees[i]), int(leaves[i]))
        nodes = (shape[0], max(shape[1] - 1, 0))
        p = {name: pieces[name][i] for name in _FLAT}
        regressor = Regressor(
            arrays["low"][i],
            arrays["high"][i],
            float(arrays["bias"][i]),
            p["left"],
            p["right"],
            p["weight"],
            p["feature"].reshape(nodes),
            p["threshold"].reshape(nodes),
            p["leaf"].reshape(shape),
        )
        problem = regressor.check()
        if problem or entry["base"] not in ("analytic", "rows") or not entry["low"] <= 0.0 <= entry["high"]:
            raise ValueError(f"{entry['device']} {entry['model']}: {problem or 'no such base or interval'}")
        errors = {name: Errors(*values) for name, values in entry["errors"].items()}
        models.append(Fitted(**{**entry, "regressor": regressor, "errors": errors}))
    same = {name: meta[name] for name in ("board", "simulated", "coverage", "created", "versions")}
    return Stored(**same, models=tuple(models), digest=digest)


def _refused(path: Path, why: str) -> FileError:
    return FileError(
        f"the performance model {path} {why}",
        hint="Make it anew with 'finequery calibrate', or delete the file: the model that comes with FineQuery, or the "
        "analytic prices, are used then.",
    )


# --- which file -------------------------------------------------------------------------------------------------------


def user_path(board: str) -> Path:
    """Where calibration of a board by this user is kept; ``host`` is this machine."""
    name = f"host-{machine()}" if board == "host" else board
    return cache_directory().parent / "models" / f"{_file(name)}.npz"


def correction_path(board: str) -> Path:
    """Where the online corrections of a board's model are kept."""
    return user_path(board).with_suffix(".corrections.json")


def shipped_path(board: str) -> Path:
    """Where a board's model is if it came with the package; ``host`` is this machine's class of CPU."""
    return SHIPPED / f"{_file(f'cpu-{cpu_class()}' if board == 'host' else board)}.npz"


def _file(name: str) -> str:
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in name)


@cache
def machine() -> str:
    """A short text that tells this machine's processor from others that may share its cache folder."""
    text = f"{platform.machine()} {os.cpu_count()} {_cpuinfo('model name')}"
    return hashlib.sha256(text.encode()).hexdigest()[:12]


@cache
def cpu_class() -> str:
    """The class of CPU whose models stand in for a machine that was never calibrated: its widest vectors."""
    kind = platform.machine().lower()
    if kind not in ("x86_64", "amd64"):
        return kind
    flags = set(_cpuinfo("flags").split())
    if {"avx512f", "avx512bw", "avx512dq", "avx512vl"} <= flags:
        return "x86-64-v4"
    return "x86-64-v3" if "avx2" in flags else "x86-64"


def _cpuinfo(key: str) -> str:
    with suppress(OSError), open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
        for line in file:
            name, _, value = line.partition(":")
            if name.strip() == key:
                return value.strip()
    return ""
