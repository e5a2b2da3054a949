"""What both sides run: a workload that comes with FineQuery, or the user's own queries over the user's own files."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finequery import workloads
from finequery.errors import CatalogError, FileError, NotSupportedError, ProgrammingError

if TYPE_CHECKING:
    from finequery.connection import Connection

OWN = "own"
#: What tables of the user's own are read from.
_ENDINGS = (".parquet", ".pq", ".csv", ".tsv", ".csv.gz", ".tsv.gz")


@dataclass(frozen=True, slots=True)
class Work:
    """Queries by name, and the files of their tables by name. ``kept``: tables are loaded before anything runs, as a
    benchmark's are; the user's own files are read by the first query that needs a column, which keeps it encoded."""

    suite: str
    scale: float
    queries: Mapping[str, str]
    tables: Mapping[str, Path]
    kept: bool = True

    def open(self, **settings: Any) -> Connection:
        """A connection with these settings that has the tables."""
        from finequery.connection import connect

        connection = connect(**{"progress": "off", **settings})
        for name, path in self.tables.items():
            if self.kept:
                quoted = str(path).replace("'", "''")
                connection.execute(f"create table {name} as select * from '{quoted}'")
            else:
                connection.register(name, path)
        return connection


def title(suite: str, scale: float) -> str:
    """A suite for people."""
    return "own queries" if suite == OWN else f"{workloads.TITLES.get(suite, suite)}, SF {scale:g}"


def suite(name: str, scale: float, folder: Path | None, only: Sequence[str] = ()) -> Work:
    """A workload. Its data is made in the cache folder or in ``folder``, unless it is there already."""
    if not scale > 0.0:
        raise ProgrammingError(f"A scale is a number above 0, not {scale:g}")
    return Work(name, scale, workloads.queries(name, only), workloads.generate(name, scale, folder))


def own(queries: Sequence[Path], data: Sequence[str], only: Sequence[str] = ()) -> Work:
    """The queries of files, or of all .sql files of folders, over tables that are called as their files are."""
    texts: dict[str, str] = {}
    for path in queries:
        texts |= _queries(path)
    for name in only:
        if name not in texts:
            raise CatalogError(f'There is no query "{name}": {", ".join(texts)}')
    chosen = {name: text for name, text in texts.items() if not only or name in only}
    return Work(OWN, 1.0, chosen, dict(map(_table, _with_parts(data))), kept=False)


def digest(sql: str) -> str:
    """A hash of a query's words, by which two results are known to be of the same."""
    return hashlib.sha256(" ".join(sql.split()).encode()).hexdigest()[:16]


def _queries(path: Path) -> dict[str, str]:
    from finequery.planner.parse import parse

    if path.is_dir():
        files = sorted(path.glob("*.sql"))
        if not files:
            raise FileError(f"There is no .sql file in '{path}'")
        return {name: text for file in files for name, text in _queries(file).items()}
    try:
        sql = path.read_text(encoding="utf-8")
    except OSError as error:
        raise FileError(f"Can't read '{path}': {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise FileError(f"'{path}' is not UTF-8 text") from None
    found = parse(sql)
    if not found:
        raise ProgrammingError(f"There is no query in '{path}'")
    for one in found:
        if one.verb or not _is_query(one.tree):
            raise NotSupportedError(
                f"'{path}' has a statement that is no query: {one.text.splitlines()[0][:60]}",
                hint="Only queries are compared; tables come from --data.",
            )
    if len(found) == 1:
        return {path.stem: found[0].text}
    return {f"{path.stem}-{number}": one.text for number, one in enumerate(found, 1)}


def _is_query(tree: Any) -> bool:
    from sqlglot import exp

    return isinstance(tree, (exp.Query, exp.Values))


def _with_parts(data: Sequence[str]) -> list[str]:
    """Where all Parquet files of a folder are named and have the same columns, they are one table, called as the
    folder: what a shell makes of ``readings/*.parquet``. The others stay as they are."""
    folders: dict[Path, list[str]] = {}
    for text in data:
        if "=" not in text and text.lower().endswith(".parquet"):
            folders.setdefault(Path(text).expanduser().absolute().parent, []).append(text)
    made = list(data)
    for folder, named in folders.items():
        if len(named) > 1 and len(named) == len(list(folder.glob("*.parquet"))) and _alike(named):
            made = [text for text in made if text not in named] + [f"{folder.name}={folder}/*.parquet"]
    return made


def _alike(paths: Sequence[str]) -> bool:
    """Whether Parquet files have the same columns."""
    from finequery.operators.files import expand
    from finequery.operators.parquet_table import ParquetTable

    columns = [ParquetTable(expand(path)).columns for path in paths]
    return all(other == columns[0] for other in columns)


def _table(text: str) -> tuple[str, Path]:
    """``orders.parquet``, or ``orders=parts/*.parquet``."""
    name, equals, rest = text.partition("=")
    if not equals:
        rest, name = text, Path(text).name.partition(".")[0]
    if not name.isidentifier():
        raise ProgrammingError(f"'{text}' gives no name for a table", hint="Write --data name=FILE.")
    path = Path(rest).expanduser()
    if not rest.lower().endswith(_ENDINGS):
        raise FileError(f"'{rest}' is neither Parquet nor CSV by its name")
    return name, path
