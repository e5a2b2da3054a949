"""Runs files of the sqllogictest format, in SQLite's, DuckDB's and sqllogictest-rs's spellings.

    python tests/slt.py FILE...               run with FineQuery
    python tests/slt.py --engine duckdb FILE  run with DuckDB
    python tests/slt.py --complete FILE...    write DuckDB's answers into the files

Under pytest every ``.test`` file below tests/ is a test (see conftest.py). Records:

    statement ok | statement error [REGEX]       the SQL, and for errors optionally ---- and a part of the message
    query TYPES [nosort|rowsort|valuesort] [LABEL]   the SQL, ----, and the values: one a line, or a
                                                     row a line with tabs
    skipif ENGINE | onlyif ENGINE | halt | hash-threshold N
    loop VAR FROM TO | foreach VAR WORDS... | endloop    ${VAR} is replaced

TYPES has one letter a column: I integer, R floating point, T anything else, ? not looked at. Expected values may be
``<REGEX>:`` or ``<!REGEX>:`` patterns, or the line ``N values hashing to MD5``.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from compare import time_limit

ROOT = Path(__file__).resolve().parent.parent
HASHED = re.compile(r"(\d+) values hashing to ([0-9a-f]{32})\Z")
#: Columns of type R with this many digits are compared in SQLite's way: both sides printed with %.3f.
SQLITE_FLOAT = re.compile(r"-?\d+\.\d{3}\Z")
RELATIVE = 1e-9


class Engine(Protocol):
    """What a file runs against. Anything raised that is not ``error`` is a defect of the engine."""

    name: str

    @property
    def error(self) -> type[Exception]: ...

    def execute(self, sql: str) -> None: ...

    def query(self, sql: str) -> list[tuple[Any, ...]]: ...


class FineQuery:
    """A FineQuery connection as an engine."""

    name = "finequery"

    def __init__(self, con: Any):
        from finequery.errors import Error

        self.con = con
        self.error: type[Exception] = Error

    def execute(self, sql: str) -> None:
        relation = self.con.execute(sql)
        if relation is not None:
            relation.fetchall()

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        return list(self.con.sql(sql).fetchall())


class DuckDB:
    """The oracle."""

    name = "duckdb"

    def __init__(self) -> None:
        import duckdb

        self.con = duckdb.connect()
        self.error: type[Exception] = duckdb.Error
        self.con.execute("set timezone = 'UTC'")

    def execute(self, sql: str) -> None:
        self.con.execute(sql).fetchall()

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        return list(self.con.execute(sql).fetchall())


@dataclass
class Record:
    """One statement or query of a file, with its place and what is expected."""

    line: int  # 1-based, of the line "statement ..." or "query ..."
    kind: str  # "ok", "error" or "query"
    sql: str
    types: str = ""
    sort: str = "nosort"
    label: str = ""
    expected: list[str] = field(default_factory=list)
    has_answer: bool = False
    answer_at: tuple[int, int] = (0, 0)  # 0-based lines [from, to) of the answer, its ---- included
    only: set[str] = field(default_factory=set)
    skip: set[str] = field(default_factory=set)

    def applies_to(self, engine: str) -> bool:
        return engine not in self.skip and (not self.only or engine in self.only)


@dataclass
class Report:
    path: Path
    passed: int = 0
    failures: list[tuple[int, str]] = field(default_factory=list)
    skip_reason: str = ""

    def __str__(self) -> str:
        total = self.passed + len(self.failures)
        lines = [f"{self.path}:{line}: {text}" for line, text in self.failures]
        return "\n\n".join([f"{len(self.failures)} of {total} records failed", *lines])


class SltFailure(Exception):
    def __init__(self, report: Report):
        self.report = report
        super().__init__(str(report))


class FormatError(Exception):
    """The file itself is wrong."""


def parse(text: str, engine: str, first_line: int = 0) -> Iterator[Record]:
    """The records that apply to ``engine``, loops unrolled. Stops at ``halt``."""
    yield from parse_lines(text.split("\n"), engine, first_line, {})


def parse_lines(lines: list[str], engine: str, offset: int, values: dict[str, str]) -> Iterator[Record]:
    """Records of ``lines``, the first of which is line ``offset`` (0-based) of the file."""
    position, only, skip = 0, set[str](), set[str]()
    while position < len(lines):
        words = lines[position].split()
        if not words or words[0].startswith("#"):
            position += 1
            continue
        keyword = words[0]
        if keyword in ("skipif", "onlyif"):
            (skip if keyword == "skipif" else only).add(words[1])
            position += 1
            continue
        if keyword in ("statement", "query"):
            record, position = parse_record(lines, position, offset, values)
            record.only, record.skip = only, skip
            if record.applies_to(engine):
                yield record
        elif keyword in ("loop", "foreach"):
            end = matching_endloop(lines, position, offset)
            steps = [str(n) for n in range(int(words[2]), int(words[3]))] if keyword == "loop" else words[2:]
            for step in steps:
                yield from parse_lines(
                    lines[position + 1 : end], engine, offset + position + 1, values | {words[1]: step}
                )
            position = end + 1
        elif keyword == "halt":
            if engine not in skip and (not only or engine in only):
                return
            position += 1
        elif keyword in ("hash-threshold", "mode"):
            position += 1  # answers are compared in the form they are written in
        else:
            raise FormatError(f"line {offset + position + 1}: unknown record {keyword!r}")
        only, skip = set(), set()


def matching_endloop(lines: list[str], start: int, offset: int) -> int:
    depth = 0
    for number in range(start, len(lines)):
        word = lines[number].split()[:1]
        if word in (["loop"], ["foreach"]):
            depth += 1
        elif word == ["endloop"]:
            depth -= 1
            if depth == 0:
                return number
    raise FormatError(f"line {offset + start + 1}: loop without endloop")


def parse_record(lines: list[str], start: int, offset: int, values: dict[str, str]) -> tuple[Record, int]:
    """The record that begins at ``start``, and the position after it."""

    def fill(text: str) -> str:
        for name, value in values.items():
            text = text.replace("${" + name + "}", value)
        return text

    words = lines[start].split()
    position = start + 1
    while position < len(lines) and lines[position].strip() and lines[position].strip() != "----":
        position += 1
    sql = fill("\n".join(lines[start + 1 : position]))
    answer, end = [], position
    has_answer = position < len(lines) and lines[position].strip() == "----"
    if has_answer:
        end = position + 1
        while end < len(lines) and lines[end] != "":
            end += 1
        answer = [fill(line) for line in lines[position + 1 : end]]
    record = Record(offset + start + 1, "query", sql, expected=answer, has_answer=has_answer)
    record.answer_at = (offset + position, offset + end)
    if words[0] == "statement" or words[1] == "error":
        if words[1] not in ("ok", "error"):
            raise FormatError(f"line {record.line}: statement must be ok or error")
        record.kind = words[1]
        pattern = lines[start].split(None, 2)[2:]
        if pattern:
            record.expected = ["<REGEX>:" + fill(pattern[0])]
    else:
        record.types = words[1]
        for word in words[2:]:
            if word in ("nosort", "rowsort", "valuesort"):
                record.sort = word
            else:
                record.label = word
    return record, end


def render(value: Any, kind: str) -> str:
    """A value in the format's spelling. Floats keep all digits; ``matches`` also accepts SQLite's three decimals."""
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return "true" if value else "false"
    if kind == "I" and not isinstance(value, str):
        return str(int(value))
    if kind == "R" and not isinstance(value, str):
        return render_float(float(value))
    if isinstance(value, float):
        return render_float(value)
    text = str(value)
    if text == "":
        return "(empty)"
    return text.replace("\n", "\\n").replace("\t", "\\t")


def render_float(value: float) -> str:
    if not math.isfinite(value):
        return str(value)
    text = repr(value)
    return text + "0" if SQLITE_FLOAT.match(text) else text


def matches(value: str, kind: str, expected: str) -> bool:
    """Whether a rendered value is the expected one."""
    if value == expected:
        return True
    for prefix, wanted in (("<REGEX>:", True), ("<!REGEX>:", False)):
        if expected.startswith(prefix):
            return (re.fullmatch(expected[len(prefix) :], value, re.DOTALL) is not None) is wanted
    if kind == "I":
        return {"true": "1", "false": "0"}.get(value) == expected
    if kind != "R" or "NULL" in (value, expected):
        return False
    try:
        mine, theirs = float(value), float(expected)
    except ValueError:
        return False
    if SQLITE_FLOAT.match(expected):
        return f"{mine:.3f}" == expected
    return math.isclose(mine, theirs, rel_tol=RELATIVE) or (math.isnan(mine) and math.isnan(theirs))


def arrange(rows: list[list[str]], sort: str) -> list[list[str]]:
    if sort == "rowsort":  # the sign of a zero must not decide
        return sorted(rows, key=lambda row: (["0.0" if value == "-0.0" else value for value in row], row))
    if sort == "valuesort":
        return [[value] for value in sorted(value for row in rows for value in row)]
    return rows


def digest(values: list[str]) -> str:
    return hashlib.md5("".join(f"{value}\n" for value in values).encode()).hexdigest()


def check_answer(rows: list[list[str]], record: Record) -> str | None:
    """What differs from the record's answer, or None."""
    expected, width = record.expected, len(record.types)
    kinds = record.types * len(rows)
    if len(expected) == 1 and (hashed := HASHED.match(expected[0])):
        flat = [value for row in arrange(rows, record.sort) for value in row]
        # hashes were taken over SQLite's spelling of floats
        exact = [f"{float(v):.3f}" if k == "R" and v != "NULL" else v for v, k in zip(flat, kinds, strict=True)]
        if len(flat) != int(hashed[1]) or hashed[2] not in (digest(flat), digest(exact)):
            return f"{len(flat)} values hashing to {digest(exact)}, expected {expected[0]}"
        return None
    by_row = width > 1 and bool(expected) and all(line.count("\t") == width - 1 for line in expected)
    if by_row:
        want = [line.split("\t") for line in expected]
    elif len(expected) % max(1, width):
        return f"the answer has {len(expected)} lines, which is no multiple of {width} columns"
    else:
        want = [expected[n : n + width] for n in range(0, len(expected), max(1, width))]
    got = arrange(rows, record.sort)
    want = [[value] for row in want for value in row] if record.sort == "valuesort" else arrange(want, record.sort)
    kinds = "?" if record.sort == "valuesort" else record.types
    if len(got) == len(want) and all(
        (kind == "?" and record.sort != "valuesort") or matches(mine, kind, theirs)
        for row, other in zip(got, want, strict=True)
        for mine, theirs, kind in zip(row, other, kinds, strict=True)
    ):
        return None
    return "expected\n" + show(want) + "\ngot\n" + show(got)


def show(rows: list[list[str]], most: int = 12) -> str:
    lines = ["  " + " | ".join(row) for row in rows[:most]] or ["  (no rows)"]
    return "\n".join(lines + ([f"  … {len(rows)} rows"] if len(rows) > most else []))


def check_error(error: Exception, record: Record) -> str | None:
    wanted = "\n".join(record.expected).strip()
    for prefix, negate in (("<REGEX>:", False), ("<!REGEX>:", True)):
        if wanted.startswith(prefix):
            found = re.search(wanted[len(prefix) :], str(error), re.DOTALL) is not None
            return None if found is not negate else f"expected an error like {wanted!r}, got: {error}"
    return None if wanted.lower() in str(error).lower() else f"expected an error with {wanted!r}, got: {error}"


def run_record(record: Record, engine: Engine, labels: dict[str, str]) -> str | None:
    """Run one record; what went wrong, or None."""
    try:
        with time_limit():
            if record.kind != "query":
                engine.execute(record.sql)
                return None if record.kind == "ok" else f"expected an error\n{record.sql}"
            rows = engine.query(record.sql)
    except engine.error as error:
        problem = check_error(error, record) if record.kind == "error" else f"{type(error).__name__}: {error}"
        return None if problem is None else f"{problem}\n{record.sql}"
    except Exception as error:
        return f"not an error of the engine's own: {type(error).__name__}: {error}\n{record.sql}"
    if rows and len(rows[0]) != len(record.types):
        return f"{len(rows[0])} columns, expected {len(record.types)} ({record.types})\n{record.sql}"
    rendered = [[render(value, kind) for value, kind in zip(row, record.types, strict=True)] for row in rows]
    if record.label:
        seen = digest([value for row in arrange(rendered, record.sort) for value in row])
        if labels.setdefault(record.label, seen) != seen:
            return f"another result than the earlier query with label {record.label!r}\n{record.sql}"
    if not record.has_answer:
        return None
    problem = check_answer(rendered, record)
    return None if problem is None else f"{record.sql}\n{problem}"


def run_file(path: Path, engine: Engine) -> Report:
    """Run all records of a file, whether or not earlier ones failed."""
    report, labels = Report(path), dict[str, str]()
    for record in parse(path.read_text(encoding="utf-8"), engine.name):
        problem = run_record(record, engine, labels)
        if problem is None:
            report.passed += 1
        else:
            report.failures.append((record.line, problem))
    return report


def complete_file(path: Path, engine: Engine) -> int:
    """Write the engine's answers into the file; returns how many queries it has."""
    text = path.read_text(encoding="utf-8")
    lines = text.split("\n")
    answers: dict[tuple[int, int], list[str]] = {}
    for record in parse(text, engine.name):
        if record.kind == "ok":
            engine.execute(record.sql)
        elif record.kind == "error":
            try:
                engine.execute(record.sql)
            except engine.error:
                continue
            raise FormatError(f"{path}:{record.line}: {engine.name} gives no error")
        else:
            try:
                rows = engine.query(record.sql)
            except engine.error as error:
                raise FormatError(f"{path}:{record.line}: {error}") from error
            if rows and len(rows[0]) != len(record.types):
                raise FormatError(f"{path}:{record.line}: {len(rows[0])} columns, not {len(record.types)}")
            rendered = [[render(value, kind) for value, kind in zip(row, record.types, strict=True)] for row in rows]
            answer = ["----", *("\t".join(row) for row in arrange(rendered, record.sort))]
            if any(line.startswith("<") and "REGEX>:" in line for line in record.expected):
                continue
            if (
                record.sort == "nosort"
                and len(rows) > 1
                and not re.search(r"\border\s+by\b", record.sql, re.IGNORECASE)
            ):
                raise FormatError(f"{path}:{record.line}: several rows need an ORDER BY or rowsort")
            if answers.setdefault(record.answer_at, answer) != answer:
                raise FormatError(f"{path}:{record.line}: a query in a loop has several answers")
    for (start, end), answer in sorted(answers.items(), reverse=True):
        lines[start:end] = answer
    path.write_text("\n".join(lines), encoding="utf-8")
    return len(answers)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Run files of the sqllogictest format.")
    parser.add_argument("files", nargs="*", type=Path, default=sorted((ROOT / "tests" / "slt").glob("*.test")))
    parser.add_argument("--engine", choices=("finequery", "duckdb"), default="finequery")
    parser.add_argument("--complete", action="store_true", help="write DuckDB's answers into the files")
    parser.add_argument("--quiet", action="store_true", help="only one line a file")
    options = parser.parse_args(argv)
    sys.path.insert(0, str(ROOT))
    total = failed = 0
    for path in options.files:
        if options.complete:
            count = complete_file(path, DuckDB())
            print(f"{path}: {count} queries")
            total += count
            continue
        if options.engine == "duckdb":
            report = run_file(path, DuckDB())
        else:
            import finequery

            report = run_file(path, FineQuery(finequery.connect(threads=2)))
        total, failed = total + report.passed, failed + len(report.failures)
        if report.failures and not options.quiet:
            print(report, end="\n\n")
        else:
            print(f"{path.name}: {report.passed} passed, {len(report.failures)} failed")
    print(f"{total} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
