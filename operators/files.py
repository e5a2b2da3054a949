"""Names of data files: globs and lists to paths, and whether the files changed."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence

from finequery.errors import FileError, NotSupportedError


def expand(source: str | os.PathLike | Sequence[str | os.PathLike]) -> list[str]:
    """The files that a path, a glob or a list of them names; a glob's files in order of their names."""
    if not isinstance(source, (str, os.PathLike)):
        found = [path for item in source for path in expand(item)]
        if not found:
            raise FileError("an empty list of files")
        return found
    text = os.path.expanduser(os.fspath(source))
    scheme, separator, _ = text.partition("://")
    if separator and scheme.isalnum():
        raise NotSupportedError(f'"{text}": FineQuery reads local files, not {scheme} addresses')
    if os.path.isfile(text):
        return [text]
    if os.path.isdir(text):
        raise FileError(f'"{text}" is a directory', hint=f"Name its files, as in '{os.path.join(text, '*.parquet')}'.")
    if glob.has_magic(text):
        found = sorted(path for path in glob.glob(text, recursive=True) if os.path.isfile(path))
        if not found:
            raise FileError(f'no file matches "{text}"')
        return found
    raise FileError(f'there is no file "{text}"', hint=_near(text))


def _near(path: str) -> str | None:
    """A file of about that name beside it."""
    from finequery.errors import nearest

    folder = os.path.dirname(path) or "."
    try:
        return nearest(os.path.basename(path), os.listdir(folder), count=1) or None
    except OSError:
        return f'There is no directory "{folder}".'


def fingerprint(paths: Sequence[str]) -> tuple[tuple[str, int, int], ...]:
    """What changes when a file does: names, times of change and sizes."""
    result = []
    for path in paths:
        try:
            state = os.stat(path)
        except OSError as error:
            raise FileError(f'can\'t read "{path}": {error.strerror}') from None
        result.append((path, state.st_mtime_ns, state.st_size))
    return tuple(result)


def table_name(source: str | os.PathLike | Sequence[str | os.PathLike]) -> str:
    """What a table of files is called where nobody names it: as its one file, or the first of several."""
    first = source if isinstance(source, (str, os.PathLike)) else next(iter(source), "")
    return os.path.basename(os.fspath(first)).partition(".")[0]
