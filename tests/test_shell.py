"""The shell, as a function and as a process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from finequery import display, shell
from finequery.types import BIGINT, DOUBLE, INTEGER, VARCHAR, Interval

Output = tuple[int, str, str]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Any:
    def run(*arguments: str) -> Output:
        code = shell.main(arguments)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def test_command(run: Any) -> None:
    code, out, err = run("-c", "select 42 as answer")
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "┌─────────┐",
        "│ answer  │",
        "│ integer │",
        "├─────────┤",
        "│      42 │",
        "└─────────┘",
    ]


def test_modes(run: Any) -> None:
    query = "select 1 as a, 'x|y' as b, null as c"
    assert run("-c", query, "--csv")[1] == "a,b,c\n1,x|y,\n"
    assert run("-c", query, "--json")[1] == '[{"a": 1, "b": "x|y", "c": null}]\n'
    assert run("-c", query, "--markdown")[1] == "| a | b | c |\n|--:|---|--:|\n| 1 | x\\|y | NULL |\n"


def test_errors_leave_with_1(run: Any, tmp_path: Path) -> None:
    code, out, err = run("-c", "select nope; select 1")
    assert (code, out) == (1, "")
    assert "nope" in err and "^" in err
    assert run(str(tmp_path / "none.parquet"), "-c", "select 1")[0] == 1
    assert run("-f", str(tmp_path / "none.sql"))[0] == 1
    assert run("-c", ".nonsense")[0] == 1


def test_files_are_tables(run: Any, tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": [1, 2]}), tmp_path / "one.parquet")
    (tmp_path / "two.csv").write_text("b\n5\n")
    files = str(tmp_path / "one.parquet"), str(tmp_path / "two.csv")
    assert run(*files, "-c", "select sum(a) as s, max(b) as m from one, two", "--csv")[1] == "s,m\n3,5\n"
    assert run(*files, "-c", ".tables")[1] == "one\ntwo\n"
    assert run(*files, "-c", ".schema one")[1] == "one (\n    a BIGINT\n)\n"


def test_script(run: Any, tmp_path: Path) -> None:
    script = tmp_path / "s.sql"
    script.write_text(
        ".mode csv\n-- a comment;\ncreate table t (a integer\n  not null);\ninsert into t values (1);\nfrom t;"
    )
    assert run("-f", str(script))[1] == "a\n1\n"
    assert run("-c", f".read {script}")[1] == "a\n1\n"
    database = str(tmp_path / "d.fq")
    assert run(database, "-f", str(script))[0] == 0
    assert run(database, "-c", "from t", "--csv")[1] == "a\n1\n"


def test_commands(run: Any) -> None:
    assert ".tables" in run("-c", ".help")[1]
    assert "Run time" in run("-c", ".timer on\nselect 1;")[1]
    assert run("-c", ".mode json\nselect 1 as a;\n.mode csv\nselect 1 as a;")[1] == '[{"a": 1}]\na\n1\n'
    assert run("-c", ".mode nonsense")[0] == 1
    assert run("-c", ".quit\nselect 1;")[1] == ""
    assert "explain_key" not in run("-c", "explain select 1")[1]


def test_standard_input_is_a_script() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "finequery", "--csv"],
        input="select 1 as a;\nselect 2 as b",
        capture_output=True,
        text=True,
    )
    assert (result.returncode, result.stdout) == (0, "a\n1\nb\n2\n")
    result = subprocess.run([sys.executable, "-m", "finequery"], input="select;", capture_output=True, text=True)
    assert result.returncode == 1 and result.stderr


def test_one_command_imports_little() -> None:
    """What makes a process slow to start is what it imports."""
    code = (
        "import sys; from finequery.shell import main; main(['-c', 'select 42']); "
        "print(sorted(m for m in ('numba', 'pandas', 'polars', 'prompt_toolkit', 'pyarrow') if m in sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.endswith("[]\n"), result.stdout + result.stderr


def test_completion_of_statements() -> None:
    for text in ("select 1;", "select ';' ;", "select 1; -- done", 'select "a;b";', "select /* ; */ 1;\n"):
        assert shell.complete(text), text
    for text in ("select 1", "select ';", "select 1 -- ;", "select /* ; */ 1", "select 1; select 2", ""):
        assert not shell.complete(text), text
    assert shell.split("select 1; select ';'; -- x\n;") == ["select 1;", "select ';';"]


def test_box() -> None:
    wide = display.box([f"column_{i}" for i in range(40)], [INTEGER] * 40, [list(range(40))], max_width=80)
    assert all(len(line) <= 80 for line in wide.splitlines())
    assert "…" in wide and wide.splitlines()[-1].startswith("  1 row, 40 columns (")
    long = display.box(["a", "b"], [VARCHAR, BIGINT], [("x" * 300, 1)], max_width=60)
    assert all(len(line) <= 60 for line in long.splitlines())
    assert "x…" in long and "│ bigint │" in long
    assert "日本" in display.box(["名"], [VARCHAR], [("日本",)])
    assert "a\\nb" in display.box(["x"], [VARCHAR], [("a\nb",)])
    assert "0 rows" in display.box(["x"], [DOUBLE], [])
    assert display.box([], [], []) == ""


@pytest.mark.parametrize(
    ("interval", "text"),
    [
        (Interval(), "00:00:00"),
        (Interval(14, 3, 5_500_000), "1 year 2 months 3 days 00:00:05.5"),
        (Interval(-14, -1, -1), "-1 year -2 months -1 day -00:00:00.000001"),
    ],
)
def test_interval_text(interval: Interval, text: str) -> None:
    assert display.text(interval) == text
