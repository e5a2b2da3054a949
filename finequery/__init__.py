"""FineQuery: an embedded SQL engine for devices whose CPU and GPU share one memory.

>>> import finequery
>>> finequery.sql("select 6 * 7 as answer").fetchall()
[(42,)]
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from finequery.connection import (
        Connection,
        Prepared,
        connect,
        default_connection,
        execute,
        interrupt,
        register,
        sql,
        unregister,
    )
    from finequery.errors import Error
    from finequery.relation import Relation

__version__ = "0.1.0"

#: Where the public names live; each is imported when it is first used, so that ``import finequery`` costs nothing.
_HOME = {
    "Connection": "connection",
    "Error": "errors",
    "Prepared": "connection",
    "Relation": "relation",
    "connect": "connection",
    "default_connection": "connection",
    "execute": "connection",
    "interrupt": "connection",
    "register": "connection",
    "sql": "connection",
    "unregister": "connection",
}

__all__ = [
    "Connection",
    "Error",
    "Prepared",
    "Relation",
    "connect",
    "default_connection",
    "execute",
    "interrupt",
    "register",
    "sql",
    "unregister",
]


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'finequery' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"finequery.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
