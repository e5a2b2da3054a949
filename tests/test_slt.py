"""The runner of the sqllogictest format itself, with a made-up engine."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
import slt


class Refusal(Exception):
    pass


class Toy:
    """Answers a few texts; ``fail: message`` raises."""

    name = "toy"
    error: type[Exception] = Refusal

    def __init__(self, answers: dict[str, list[tuple[Any, ...]]] | None = None):
        self.answers = answers or {}
        self.executed: list[str] = []

    def execute(self, sql: str) -> None:
        self.executed.append(sql)
        if sql.startswith("fail:"):
            raise Refusal(sql[5:].strip())
        if sql == "crash":
            raise KeyError("oops")

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        self.execute(sql)
        return self.answers[sql]


def run(tmp_path: Path, text: str, answers: dict[str, list[tuple[Any, ...]]] | None = None) -> slt.Report:
    path = tmp_path / "x.test"
    path.write_text(text)
    return slt.run_file(path, Toy(answers))


ROWS = [(2, None, 0.5), (10, "", 1e-9)]
HASH = hashlib.md5(b"1\n2\n3\n").hexdigest()

PASSING = {
    "row a line": "query ITR\nq\n----\n2\tNULL\t0.5\n10\t(empty)\t1e-09\n",
    "value a line": "query ITR\nq\n----\n2\nNULL\n0.500\n10\n(empty)\n0.000\n",
    "rowsort": "query ITR rowsort\nq\n----\n2\tNULL\t0.5\n10\t(empty)\t1e-09\n",
    "valuesort": "query IT valuesort\np\n----\n1\n2\na\nb\n",
    "hash": f"query I\nn\n----\n3 values hashing to {HASH}\n",
    "regex": "query IT\np\n----\n1\t<REGEX>:[a-c]\n2\t<!REGEX>:a.*\n",
    "boolean as integer": "query I\nt\n----\n1\n",
    "no rows": "query I\nnone\n----\n",
    "no answer": "query I\nn\n",
    "labels": "query I rowsort same\nn\n\nquery I rowsort same\nm\n",
    "error": "statement error\nfail: bad thing\n",
    "error message": "statement error\nfail: bad thing\n----\nBad Thing\n",
    "error pattern": "statement error b.d\nfail: bad thing\n",
    "error regex": "statement error\nfail: bad thing\n----\n<REGEX>:^bad\n",
    "skipif": "skipif toy\nstatement ok\nfail: no\n\nstatement ok\nx\n",
    "onlyif": "onlyif duckdb\nstatement ok\nfail: no\n\nonlyif toy\nstatement ok\nx\n",
    "halt": "statement ok\nx\n\nhalt\n\nstatement ok\nfail: no\n",
    "onlyif halt": "onlyif duckdb\nhalt\n\nstatement ok\nx\n",
    "threshold": "hash-threshold 8\n\nstatement ok\nx\n",
}
FAILING = {
    "wrong value": "query I\nn\n----\n1\n2\n4\n",
    "wrong order": "query I\nn\n----\n3\n2\n1\n",
    "too few rows": "query I\nn\n----\n1\n2\n",
    "no row expected": "query I\nn\n----\n",
    "wrong columns": "query II\nn\n----\n1\t1\n2\t2\n3\t3\n",
    "null is not empty": "query ITR\nq\n----\n2\t(empty)\t0.5\n10\t(empty)\t1e-09\n",
    "float too far": "query ITR\nq\n----\n2\tNULL\t0.5001\n10\t(empty)\t1e-09\n",
    "wrong hash": f"query I\nnone\n----\n3 values hashing to {HASH}\n",
    "regex": "query IT\np\n----\n1\t<REGEX>:[b-c]\n2\tb\n",
    "labels": "query I nosort same\nn\n\nquery I nosort same\nm\n",
    "error expected": "statement error\nx\n",
    "other message": "statement error\nfail: bad\n----\nworse\n",
    "statement fails": "statement ok\nfail: no\n",
    "query fails": "query I\nfail: no\n----\n1\n",
    "defect": "statement error\ncrash\n",
}
ANSWERS: dict[str, list[tuple[Any, ...]]] = {
    "q": ROWS, "p": [(1, "a"), (2, "b")], "n": [(1,), (2,), (3,)], "m": [(3,), (2,), (1,)], "none": [], "t": [(True,)],
}  # fmt: skip


@pytest.mark.parametrize("name", PASSING)
def test_passes(name: str, tmp_path: Path) -> None:
    report = run(tmp_path, PASSING[name], ANSWERS)
    assert report.failures == [] and report.passed


@pytest.mark.parametrize("name", FAILING)
def test_fails(name: str, tmp_path: Path) -> None:
    assert len(run(tmp_path, FAILING[name], ANSWERS).failures) == 1


def test_all_failures_are_reported_with_their_lines(tmp_path: Path) -> None:
    text = "statement ok\nfail: one\n\n# a comment\nstatement ok\nx\n\nstatement ok\nfail: two\n"
    report = run(tmp_path, text)
    assert [line for line, _ in report.failures] == [1, 8]
    assert report.passed == 1 and "2 of 3 records failed" in str(report)


def test_loops() -> None:
    text = "loop i 0 2\nforeach w a b\nstatement ok\ns ${i} ${w}\n\nendloop\nendloop\n\nstatement ok\nend\n"
    assert [record.sql for record in slt.parse(text, "toy")] == ["s 0 a", "s 0 b", "s 1 a", "s 1 b", "end"]


@pytest.mark.parametrize("text", ["nonsense\n", "loop i 0 2\n", "statement maybe\nx\n"])
def test_wrong_files(text: str) -> None:
    with pytest.raises(slt.FormatError, match="line 1"):
        list(slt.parse(text, "toy"))


def test_complete(tmp_path: Path) -> None:
    path = tmp_path / "x.test"
    path.write_text("# kept\nquery IT rowsort\np\n\nquery I\nn order by 1\n----\nold\n\nstatement ok\nx\n")
    assert slt.complete_file(path, Toy(ANSWERS | {"n order by 1": ANSWERS["n"]})) == 2
    lines = path.read_text()
    expected = (
        "# kept\nquery IT rowsort\np\n----\n1\ta\n2\tb\n\nquery I\nn order by 1\n----\n1\n2\n3\n\nstatement ok\nx\n"
    )
    assert lines == expected
    with pytest.raises(slt.FormatError, match="ORDER BY or rowsort"):
        path.write_text("query I\nn\n")
        slt.complete_file(path, Toy(ANSWERS))
