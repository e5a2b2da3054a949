"""CSV files as a table: dialect, header and types are found in a sample; Arrow parses, in parallel."""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from finequery.errors import FileError, NotSupportedError, nearest
from finequery.operators import files, watch
from finequery.operators.arrow_types import from_arrow, require, supported, to_arrow
from finequery.operators.column import ColumnData
from finequery.operators.table import KeptTable
from finequery.types import HUGEINT

if TYPE_CHECKING:
    import pyarrow as pa

_SAMPLE = 1 << 18
#: Bytes of a line, about.
_ROW = 16
_DELIMITERS = ",|;\t"
_TRUE = ["true", "TRUE", "True", "t", "T", "yes", "YES", "Yes"]
_FALSE = ["false", "FALSE", "False", "f", "F", "no", "NO", "No"]
_INTEGER = re.compile(r"\s*[+-]?\d+\s*$")
_FLOAT = re.compile(r"\s*[+-]?(\d+\.?\d*([eE][+-]?\d+)?|\.\d+([eE][+-]?\d+)?|nan|inf|infinity)\s*$", re.IGNORECASE)
_DATE = re.compile(r"\s*\d{4}-\d\d?-\d\d?\s*$")
_TIME = re.compile(r"\s*\d{4}-\d\d-\d\d[ T]\d\d:\d\d(?::\d\d(?:\.(\d+))?)?(Z|[+-]\d\d(?::?\d\d)?)?\s*$")
_LEADING_ZERO = re.compile(r"\s*[+-]?0\d")

#: Kinds of a single cell that fit a column of a kind.
_FITS = {
    "double": ("double", "int64", "decimal128(38, 0)"),
    "decimal128(38, 0)": ("decimal128(38, 0)", "int64"),
    "timestamp[us]": ("timestamp[us]", "timestamp[ns]", "date32[day]"),
    "timestamp[ns]": ("timestamp[us]", "timestamp[ns]", "date32[day]"),
    "timestamp[us, tz=UTC]": ("timestamp[us, tz=UTC]", "timestamp[ns, tz=UTC]"),
    "timestamp[ns, tz=UTC]": ("timestamp[us, tz=UTC]", "timestamp[ns, tz=UTC]"),
}

#: Options of read_csv, by all their names.
_NAMES = {
    "delim": "delim",
    "sep": "delim",
    "header": "header",
    "quote": "quote",
    "escape": "escape",
    "nullstr": "nullstr",
    "skip": "skip",
    "types": "types",
    "dtypes": "types",
    "column_types": "types",
    "columns": "columns",
    "names": "names",
    "column_names": "names",
    "all_varchar": "all_varchar",
    "decimal_separator": "decimal_separator",
    "auto_detect": "auto_detect",
}


@dataclass
class Dialect:
    """How a CSV file is written; None where it is to be found out."""

    delim: str | None = None
    header: bool | None = None
    quote: str = '"'
    escape: str | None = None
    nullstr: tuple[str, ...] = ("",)
    skip: int = 0
    decimal_separator: str = "."
    all_varchar: bool = False


class CsvTable(KeptTable):
    """One or more CSV files of one form. All columns are parsed at first use and kept.

    Options: delim (sep), header, quote, escape, nullstr, skip, types (by name, or a list), columns (names and types of
    all columns), names, all_varchar, decimal_separator. Types are ``SqlType``s.
    """

    def __init__(
        self, source: str | os.PathLike | Sequence[str | os.PathLike], name: str | None = None, **options: Any
    ):
        self._source = source
        super().__init__(name or files.table_name(source) or "csv", [])
        self._options = _options(options)
        self._seen: tuple[tuple[str, int, int], ...] = ()
        self._version = 0
        self._rows: int | None = None
        self._open()

    def _open(self) -> None:
        self._paths = files.expand(self._source)
        self._seen = files.fingerprint(self._paths)
        self._kept.clear()
        self._rows = None
        self._dialect, self._names, self._arrow = sniff(self._paths[0], self._options)
        self.columns = tuple(
            (name, HUGEINT if _is_huge(kind) else from_arrow(kind)) for name, kind in zip(self._names, self._arrow)
        )

    @property
    def version(self) -> int:  # type: ignore[override]
        """Grows when a file changed since it was last asked for."""
        with self._lock:
            if files.fingerprint(files.expand(self._source)) != self._seen:
                self._open()
                self._version += 1
            return self._version

    @property
    def rows(self) -> int:
        with self._lock:
            if self._rows is None:
                with watch.stage(f"reading {self.name}", 1):
                    watch.aside(self._size(), self._parse)
            assert self._rows is not None
            return self._rows

    def _size(self) -> int:
        return sum(map(os.path.getsize, self._paths)) // _ROW

    def _encode(self, names: list[str]) -> list[ColumnData]:
        self._parse()
        return [self._kept[name] for name in names]

    def _parse(self) -> None:
        import pyarrow as pa

        from finequery.operators.encode import encode

        wanted = [name for name, sql_type in self.columns if supported(sql_type)]
        taken = _Taken()
        watch.counting(sum(os.path.getsize(path) for path in self._paths), lambda: taken.count)
        tables = [_read(path, self._dialect, self._names, self._arrow, taken) for path in self._paths]
        if files.fingerprint(self._paths) != self._seen:
            raise FileError(f'the files of "{self.name}" changed while they were read', hint="Run the query again.")
        table = pa.concat_tables(tables)
        self._rows = table.num_rows
        kept = {}
        for name in wanted:
            column = table.column(self._names.index(name))
            table_type = self.type_of(name)
            if pa.types.is_timestamp(column.type) and column.type.unit == "ns":
                column = column.cast(pa.timestamp("us", column.type.tz), safe=False)
            kept[name] = encode(column, None if table_type == HUGEINT else table_type, name)
            kept[name].type = table_type
        self._kept = kept


def _options(given: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in given.items():
        option = _NAMES.get(key.lower())
        if option is None:
            raise NotSupportedError(f'read_csv has no option "{key}"', hint=nearest(key, _NAMES) or None)
        found[option] = value
    if found.pop("auto_detect", True) is False and "columns" not in found:
        raise NotSupportedError("read_csv with auto_detect = false needs columns")
    return found


def _is_huge(kind: pa.DataType) -> bool:
    return str(kind) == "decimal128(38, 0)"


def sniff(path: str, options: dict[str, Any]) -> tuple[Dialect, list[str], list[pa.DataType]]:
    """Dialect, column names and Arrow types of a CSV file, from its beginning."""
    nullstr = options.get("nullstr", "")
    dialect = Dialect(
        delim=options.get("delim"),
        header=options.get("header"),
        quote=options.get("quote", '"'),
        escape=options.get("escape"),
        nullstr=tuple([nullstr] if isinstance(nullstr, str) else nullstr),
        skip=int(options.get("skip", 0)),
        decimal_separator=options.get("decimal_separator", "."),
        all_varchar=bool(options.get("all_varchar", False)),
    )
    if dialect.delim is not None and (not isinstance(dialect.delim, str) or len(dialect.delim) != 1):
        raise NotSupportedError(f"read_csv with the delimiter {dialect.delim!r}: it must be one character")
    lines = _sample(path, dialect.skip)
    if dialect.delim is None:
        dialect.delim = _delimiter(lines, dialect)
    cells = _cells(lines, dialect)
    width = max((len(row) for row in cells[:100]), default=1)
    body = cells[1:]
    if dialect.header is None:
        dialect.header = _has_header(cells, dialect)
    if dialect.header and cells:
        names = _unique_names([cell.strip() for cell in cells[0]])
    else:
        body = cells
        digits = len(str(width - 1)) if width > 1 else 1
        names = [f"column{i:0{digits}}" for i in range(width)]
    if "columns" in options:
        names = list(options["columns"])
        if cells and len(names) != width:
            raise FileError(f'"{path}" has {width} columns, but the option columns names {len(names)}')
    for i, name in enumerate(options.get("names", ())):
        if i >= len(names):
            raise FileError(f'"{path}" has {len(names)} columns, fewer than the option names gives')
        names[i] = name
    kinds = [_kind_of([row[i] for row in body if i < len(row)], dialect) for i in range(len(names))]
    wanted = options.get("columns", options.get("types", {}))
    if not isinstance(wanted, dict):
        wanted = dict(zip(names, wanted))
    for name, sql_type in wanted.items():
        place = next((i for i, n in enumerate(names) if n.lower() == name.lower()), None)
        if place is None:
            raise FileError(f'"{path}" has no column "{name}"', hint=nearest(name, names) or None)
        require(sql_type, name, path)
        kinds[place] = to_arrow(sql_type)
    return dialect, names, kinds


def _sample(path: str, skip: int) -> list[str]:
    """The first lines of a file, whole."""
    import pyarrow as pa

    try:
        with pa.input_stream(path, compression="detect") as stream:
            raw = stream.read(_SAMPLE)
    except (OSError, pa.ArrowException) as error:
        raise FileError(f'can\'t read "{path}": {error}') from None
    if b"\0" in raw:
        raise FileError(f'"{path}" is not text: it holds zero bytes')
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if error.start < len(raw) - 4:
            raise FileError(f'"{path}" is not UTF-8 text (byte {error.start})') from None
        text = raw[: error.start].decode("utf-8-sig")
    lines = text.splitlines(keepends=True)
    if len(raw) == _SAMPLE and len(lines) > 1:
        lines.pop()  # may be cut
    return lines[skip:]


def _cells(lines: list[str], dialect: Dialect) -> list[list[str]]:
    double = dialect.escape in (None, dialect.quote)
    reader = csv.reader(
        io.StringIO("".join(lines), newline=""),
        delimiter=dialect.delim or ",",
        quotechar=dialect.quote or None,
        quoting=csv.QUOTE_MINIMAL if dialect.quote else csv.QUOTE_NONE,
        doublequote=double,
        escapechar=None if double else dialect.escape,
    )
    try:
        return [row for row in reader if row]
    except csv.Error:
        return []


def _delimiter(lines: list[str], dialect: Dialect) -> str:
    """The delimiter that cuts the first lines into the most columns, the same number in (nearly) all."""
    best, columns = ",", 1
    for candidate in _DELIMITERS:
        rows = _cells(lines[:200], Dialect(delim=candidate, quote=dialect.quote, escape=dialect.escape))
        widths = [len(row) for row in rows]
        if not widths:
            continue
        usual = max(set(widths), key=widths.count)
        if usual > columns and widths.count(usual) == len(widths):
            best, columns = candidate, usual
    return best


def _has_header(cells: list[list[str]], dialect: Dialect) -> bool:
    """Whether the first line names the columns: its cells don't fit the types of those below; or all is text."""
    if not cells:
        return False
    text = True
    for i, head in enumerate(cells[0]):
        kind = str(_kind_of([row[i] for row in cells[1:] if i < len(row)], dialect))
        own = str(_kind_of([head], dialect))
        if kind != "string":
            text = False
            if own not in _FITS.get(kind, (kind,)) and head not in dialect.nullstr:
                return True
        elif own not in ("string", "bool"):
            text = False
    return text


def _kind_of(values: list[str], dialect: Dialect) -> pa.DataType:
    """The narrowest type of all values, in the order BOOLEAN, BIGINT, HUGEINT, DOUBLE, DATE, TIMESTAMP, VARCHAR. It has
    a time zone if all values say theirs."""
    import pyarrow as pa

    values = [v for v in values if v not in dialect.nullstr]
    if not values or dialect.all_varchar:
        return pa.string()
    if all(v in _TRUE or v in _FALSE for v in values):
        return pa.bool_()
    if all(_INTEGER.match(v) for v in values):
        if any(_LEADING_ZERO.match(v) for v in values):
            return pa.string()
        top = max(abs(int(v)) for v in values)
        return pa.int64() if top < 2**63 else pa.decimal128(38, 0) if top < 10**38 else pa.float64()
    point = dialect.decimal_separator
    if all(_FLOAT.match(v if point == "." else v.replace(point, ".")) for v in values):
        return pa.float64()
    if all(_DATE.match(v) for v in values):
        return pa.date32() if all(len(v.strip()) == 10 for v in values) else pa.string()
    times = [time for time in map(_TIME.match, values) if time]
    zoned = sum(time[2] is not None for time in times)
    if zoned in (0, len(values)) and all(_TIME.match(v) or _DATE.match(v) for v in values):
        finest = max(len(time[1] or "") for time in times)
        return pa.timestamp("us" if finest <= 6 else "ns", "UTC" if zoned else None)
    return pa.string()


def _unique_names(names: list[str]) -> list[str]:
    result: list[str] = []
    for i, name in enumerate(names):
        name = base = name or f"column{i}"
        count = 0
        while name.lower() in (known.lower() for known in result):
            count += 1
            name = f"{base}_{count}"
        result.append(name)
    return result


class _Taken:
    """A file's bytes for Arrow, counted; none when the query is to stop, which ends Arrow's reading."""

    def __init__(self) -> None:
        self.count = 0
        self.watch = watch.current.get()
        self.stopped = False

    def open(self, path: str) -> Any:
        """The bytes of a file, decompressed if its name says so, as an Arrow stream."""
        import pyarrow as pa

        self.file = open(path, "rb")  # noqa: SIM115
        stream: Any = pa.PythonFile(self, "r")
        kind = pa.Codec.detect(path).name if path.lower().endswith((".gz", ".bz2", ".zst", ".lz4")) else None
        return stream if kind is None else pa.CompressedInputStream(stream, kind)

    closed = False

    def read(self, size: int = -1) -> bytes:
        """What Arrow asks for, in a thread of its own."""
        if self.watch is not None and self.watch.stopped():
            self.stopped = True
            raise OSError("the query was stopped")
        data = self.file.read(size)
        self.count += len(data)
        return data

    def close(self) -> None:
        """The file is through."""
        self.file.close()


def _read(path: str, dialect: Dialect, names: list[str], kinds: list[pa.DataType], taken: _Taken) -> pa.Table:
    import pyarrow as pa
    from pyarrow import csv as arrow_csv

    double = dialect.escape in (None, dialect.quote)
    try:
        table = arrow_csv.read_csv(
            taken.open(path),
            read_options=arrow_csv.ReadOptions(
                column_names=names, skip_rows=dialect.skip + bool(dialect.header), block_size=4 << 20
            ),
            parse_options=arrow_csv.ParseOptions(
                delimiter=dialect.delim or ",",
                quote_char=dialect.quote or False,
                double_quote=double,
                escape_char=False if double else dialect.escape or False,
                newlines_in_values=bool(dialect.quote),
                ignore_empty_lines=len(names) > 1,
            ),
            convert_options=arrow_csv.ConvertOptions(
                column_types=dict(zip(names, kinds)),
                null_values=list(dialect.nullstr),
                strings_can_be_null=True,
                quoted_strings_can_be_null=True,
                true_values=_TRUE,
                false_values=_FALSE,
                decimal_point=dialect.decimal_separator,
            ),
        )
    except (pa.ArrowException, OSError) as error:
        if taken.stopped:
            raise watch.interrupted() from None
        text = str(error).partition("\n")[0]
        if "Empty CSV file" in text:
            return pa.schema(list(zip(names, kinds))).empty_table()
        if isinstance(error, FileNotFoundError):
            raise FileError(f'there is no file "{path}"') from None
        count = re.search(r"Expected (\d+) columns, got (\d+): (.*)", text)
        if count is not None:
            raise FileError(
                f'"{path}": a line has {count[2]} fields instead of {count[1]}: "{count[3]}"',
                hint="Check the delimiter and the quotes, as in read_csv('file.csv', delim = ';').",
            ) from None
        place = re.search(r"CSV column #(\d+)", text)
        column = f' (column "{names[int(place.group(1))]}")' if place and int(place.group(1)) < len(names) else ""
        raise FileError(
            f'"{path}"{column}: {text}',
            hint="Types are found in the first lines; give others with types = {'column': 'VARCHAR'}.",
        ) from None
    return table
