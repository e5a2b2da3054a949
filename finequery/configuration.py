"""What settings begin with: configuration files and the environment.

Files are TOML with settings as keys at the top: ``threads = 4``. They are read in this order, later ones winning:
``~/.config/finequery/config.toml`` (below ``$XDG_CONFIG_HOME`` where that is set) and ``finequery.toml`` in the working
directory. ``FINEQUERY_CONFIG`` names one file to be read instead of them; empty, none is read. Behind them comes the
environment: ``FINEQUERY_<NAME>`` of any setting.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from finequery.errors import CatalogError, FileError, nearest

#: Variables that are no settings: the cache folder, the configuration file, the shell's, and switches for developers.
OTHERS = frozenset(f"FINEQUERY_{name}" for name in "CACHE CONFIG CUDA GUARD HISTORY PAGER".split())
PREFIX = "FINEQUERY_"


class Given(NamedTuple):
    """A setting's value and where it was given: for SHOW SETTINGS, and for an error, which names the line too."""

    name: str
    value: Any
    source: str
    place: str


def given(names: Iterable[str]) -> Iterator[Given]:
    """What files and the environment say of the settings ``names``, later values winning."""
    names = list(names)
    for path in paths():
        yield from read(path, names)
    for name in names:
        variable = PREFIX + name.upper()
        value = os.environ.get(variable, "").strip()
        if value:
            yield Given(name, value, variable, variable)


def paths() -> list[Path]:
    """The configuration files that there are."""
    chosen = os.environ.get(PREFIX + "CONFIG")
    if chosen is not None:
        if chosen and not os.path.isfile(os.path.expanduser(chosen)):
            raise FileError(f"There is no configuration file '{chosen}'", hint="FINEQUERY_CONFIG names it.")
        return [Path(chosen).expanduser()] if chosen else []
    base = os.environ.get("XDG_CONFIG_HOME") or os.path.join(os.path.expanduser("~"), ".config")
    candidates = (os.path.join(base, "finequery", "config.toml"), "finequery.toml")
    return [Path(path) for path in candidates if os.path.isfile(path)]


def read(path: Path, names: list[str]) -> Iterator[Given]:
    """The settings in one file."""
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        text = path.read_text(encoding="utf-8")
        document = tomllib.loads(text)
    except OSError as error:
        raise FileError(f"Can't read '{path}': {error.strerror or error}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise FileError(f"'{path}' is not TOML: {error}") from None
    for key, value in document.items():
        place = f"'{path}', line {_line(text, key)}"
        if key.lower() not in names:
            hint = nearest(key, names) or "SHOW SETTINGS lists what there is."
            raise CatalogError(f'{place}: there is no setting "{key}"', hint=hint)
        if isinstance(value, (dict, list)):
            raise CatalogError(f"{place}: the value of {key} is a text, a number, true or false")
        yield Given(key.lower(), value, str(path), place)


def _line(text: str, key: str) -> int:
    """The number of the line that a key of the top, or a table, stands in."""
    found = re.search(rf"^\s*\[*\s*[\"']?{re.escape(key)}[\"']?\s*[\]=.]", text, re.MULTILINE)
    return 1 if found is None else text.count("\n", 0, found.end()) + 1


def unknown(names: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Variables that look like settings and are none, with a hint."""
    names = list(names)
    for variable in os.environ:
        name = variable[len(PREFIX) :].lower()
        if variable.startswith(PREFIX) and variable not in OTHERS and name not in names:
            yield variable, nearest(name, names)
