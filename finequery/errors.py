"""Everything FineQuery raises. The PEP 249 hierarchy, so that ``finequery.dbapi`` can export it as it stands."""

from __future__ import annotations

import builtins
import difflib
from collections.abc import Iterable
from typing import Any


class Warning(Exception):
    """Required by PEP 249; never raised."""


class Error(Exception):
    """Base of all errors. ``str()`` gives message, caret under the SQL where known, and what to do."""

    def __init__(self, message: str, *, sql: str | None = None, position: int | None = None, hint: str | None = None):
        self.message = message
        self.sql = sql
        self.position = position  # 0-based offset into sql
        self.hint = hint
        self.subject: Any = None  # the expression (operators.expr.Expr) whose computation failed
        super().__init__(message)

    def __str__(self) -> str:
        parts = [self.message]
        if self.sql is not None and self.position is not None:
            parts.append(caret(self.sql, self.position))
        if self.hint:
            parts.append(self.hint)
        return "\n".join(parts)

    def at(self, sql: str, position: int | None) -> Error:
        """The same error with its place in the SQL text, unless it has one already."""
        if self.position is None:
            self.sql, self.position = sql, position
        return self


class InterfaceError(Error):
    """The API was used wrongly (closed connection, fetch before execute)."""


class DatabaseError(Error):
    """Base of what goes wrong in the engine."""


class DataError(DatabaseError):
    """A value does not fit."""


class ConversionError(DataError):
    """A value can't be cast to the type asked for."""


class OutOfRangeError(DataError):
    """Overflow of an exact type."""


class OperationalError(DatabaseError):
    """Files, memory, devices."""


class FileError(OperationalError):
    """A file is missing, unreadable, or not what its name says."""


class OutOfMemoryError(OperationalError):
    """The memory limit would be passed; the message names the tier and the setting."""


class InterruptError(OperationalError):
    """The query was stopped by the user."""


class TimeoutError(InterruptError, builtins.TimeoutError):
    """The statement took longer than its ``timeout``, and was stopped."""


class IntegrityError(DatabaseError):
    """Required by PEP 249."""


class InternalError(DatabaseError):
    """A defect of FineQuery itself."""


class ProgrammingError(DatabaseError):
    """Base of what is wrong with the SQL."""


class ParseError(ProgrammingError):
    """The text is not SQL."""


class BindError(ProgrammingError):
    """A name or type in the SQL does not fit: unknown or ambiguous column, wrong argument types."""


class CatalogError(ProgrammingError):
    """No such table, view, function or setting, or it exists already."""


class NotSupportedError(DatabaseError):
    """Valid SQL that FineQuery does not do. It is refused, never ignored."""


def caret(sql: str, position: int) -> str:
    """The line of ``sql`` around ``position`` with a caret under it, cut to 78 characters.

    >>> print(caret("select a\\nfrom t", 14))
    LINE 2: from t
                 ^
    """
    position = max(0, min(position, len(sql)))
    start = sql.rfind("\n", 0, position) + 1
    end = sql.find("\n", position)
    line, column = sql[start : end if end >= 0 else len(sql)], position - start
    if len(line) > 70:
        cut = max(0, column - 35)
        head = "…" if cut else ""
        line, column = head + line[cut : cut + 69], column - cut + len(head)
    label = f"LINE {sql.count(chr(10), 0, start) + 1}: "
    return f"{label}{line}\n{' ' * (len(label) + column)}^"


def nearest(name: str, candidates: Iterable[str], count: int = 3) -> str:
    """A sentence with the names most like ``name``, or an empty string."""
    folded = {c.lower(): c for c in candidates}
    close = difflib.get_close_matches(name.lower(), list(folded), n=count, cutoff=0.5)
    if not close:
        return ""
    return "Did you mean " + " or ".join(f'"{folded[c]}"' for c in close) + "?"
