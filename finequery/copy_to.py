"""COPY … TO: a result in a Parquet, CSV or JSON file, complete or not there at all."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from finequery.errors import BindError, FileError, NotSupportedError
from finequery.operators import watch

if TYPE_CHECKING:
    import pyarrow

    from finequery.types import SqlType

#: Rows that are written at a time, at the least.
_PART = 1 << 17
_COMPRESSIONS = ("uncompressed", "snappy", "gzip", "zstd", "lz4", "brotli")


def write(
    tables: Iterator[pyarrow.Table], types: Sequence[SqlType], path: str, format: str, options: dict[str, Any]
) -> int:
    """Write the rows of one table or more to a new file, put it in the place of ``path``, and return how many there
    were."""
    options = {name.lower(): value for name, value in options.items()}
    path = os.path.expanduser(path)
    temporary = f"{path}.{os.getpid()}.tmp"
    opener = {"parquet": _parquet, "csv": _csv, "json": _json}.get(format)
    if opener is None:
        raise NotSupportedError(f"COPY TO format {format} is not supported", hint="There are parquet, csv and json.")
    folder = os.path.dirname(path)
    if folder and not os.path.isdir(folder):
        raise FileError(f"Can't write '{path}': there is no folder \"{folder}\"")
    try:
        first = next(tables)
        rows = first.num_rows
        with opener(first.schema, types, temporary, options) as write_one:
            write_one(first)
            del first
            for table in tables:
                rows += table.num_rows
                write_one(table)
        os.replace(temporary, path)
        return rows
    except OSError as error:
        raise FileError(f"Can't write '{path}': {error.strerror or error}") from None
    finally:
        if os.path.exists(temporary):
            os.unlink(temporary)


@contextmanager
def _parquet(
    schema: pyarrow.Schema, types: Sequence[SqlType], path: str, options: dict[str, Any]
) -> Iterator[Callable[[pyarrow.Table], None]]:
    from pyarrow import parquet

    compression = str(options.pop("compression", options.pop("codec", "snappy"))).lower()
    size = options.pop("row_group_size", 122_880)
    _refuse(options, "parquet")
    if not str(size).isdigit() or int(size) < 1:
        raise BindError(f"row_group_size is a number of rows, 1 or more, not {size!r}")
    if compression not in _COMPRESSIONS:
        raise BindError(f"There is no compression {compression}", hint="There are " + ", ".join(_COMPRESSIONS) + ".")
    _refuse_intervals(schema, types, "Parquet")
    compression = "none" if compression == "uncompressed" else compression
    with parquet.ParquetWriter(path, schema, compression=compression) as writer:
        yield lambda table: _in_parts(
            table.cast(schema), int(size), lambda part: writer.write_table(part, row_group_size=int(size))
        )


@contextmanager
def _csv(
    schema: pyarrow.Schema, types: Sequence[SqlType], path: str, options: dict[str, Any]
) -> Iterator[Callable[[pyarrow.Table], None]]:
    from pyarrow import csv

    header = options.pop("header", True)
    delimiter = options.pop("delimiter", options.pop("delim", options.pop("sep", ",")))
    _refuse(options, "csv")
    if isinstance(header, str):
        header = header.lower() in ("true", "1", "on")
    if not isinstance(delimiter, str) or len(delimiter.encode()) != 1:
        raise BindError(f"The delimiter of a CSV file is one ASCII character, not {delimiter!r}")
    _refuse_intervals(schema, types, "CSV")
    form = csv.WriteOptions(include_header=bool(header), delimiter=delimiter)
    with csv.CSVWriter(path, schema, write_options=form) as writer:
        yield lambda table: _in_parts(table.cast(schema), 1, writer.write_table)


@contextmanager
def _json(
    schema: pyarrow.Schema, types: Sequence[SqlType], path: str, options: dict[str, Any]
) -> Iterator[Callable[[pyarrow.Table], None]]:
    """A line with an object for each row, or with the option ``array`` one array of them."""
    from json import dumps

    from finequery.display import json_value

    array = options.pop("array", False)
    _refuse(options, "json")
    if isinstance(array, str):
        array = array.lower() in ("true", "1", "on")
    _refuse_intervals(schema, types, "JSON")
    names = schema.names
    with open(path, "w", encoding="utf-8") as file:
        separators = itertools.chain(["[\n\t"], itertools.repeat(",\n\t")) if array else itertools.repeat("")

        def write_part(part: pyarrow.Table) -> None:
            columns = [[json_value(value) for value in column.to_pylist()] for column in part.columns]
            for row in zip(*columns):
                text = dumps(dict(zip(names, row)), ensure_ascii=False, separators=(",", ":"))
                file.write(next(separators) + text + ("" if array else "\n"))

        yield lambda table: _in_parts(table.cast(schema), 1, write_part)
        if array:
            file.write("[]\n" if file.tell() == 0 else "\n]\n")


def _in_parts(table: pyarrow.Table, size: int, write_one: Callable[[pyarrow.Table], None]) -> None:
    """Write a table in parts of whole row groups of ``size`` rows, one for an empty table, each after a look whether it
    is to stop."""
    step = max(_PART // size, 1) * size
    bounds = [*range(0, table.num_rows, step), table.num_rows] if table.num_rows else [0, 0]
    parts = (table.slice(first, end - first) for first, end in itertools.pairwise(bounds))
    for part in watch.staged("writing", parts, len(bounds) - 1):
        write_one(part)


def _refuse(options: dict[str, Any], format: str) -> None:
    if options:
        raise BindError(f'COPY TO {format} has no option "{next(iter(options))}"')


def _refuse_intervals(schema: pyarrow.Schema, types: Sequence[SqlType], format: str) -> None:
    for name, type_ in zip(schema.names, types):
        if type_.name == "INTERVAL":
            raise NotSupportedError(
                f'Column "{name}" is an INTERVAL, which {format} does not hold', hint="Cast it to VARCHAR."
            )
