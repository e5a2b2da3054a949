"""The command line of the shell, as a function and as a process: options, scripts, exit codes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from finequery import display, shell
from finequery.shell import cli, tokens
from finequery.shell.cli import PROGRAMS
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


def test_exit_codes(run: Any, tmp_path: Path) -> None:
    code, out, err = run("-c", "select nope; select 1")
    assert (code, out) == (1, "")
    assert "nope" in err and "^" in err
    assert run("-c", ".nonsense")[0] == 1
    assert run("-c", "select 1 as a", "-c", "select nope", "-c", "select 2 as b", "--csv")[:2] == (1, "a\n1\n")
    for arguments in (
        (str(tmp_path / "none.parquet"), "-c", "select 1 as a"),
        ("-c", "select 1 as a", "-f", str(tmp_path / "none.sql")),
        ("-c", "select 1 as a", "--board", "nonesuch"),
        ("-f", str(tmp_path)),
    ):
        code, out, err = run(*arguments)
        assert (code, out) == (2, "") and "error: " in err
    with pytest.raises(SystemExit) as stopped:
        run("--nonsense")
    assert stopped.value.code == 2


def test_words_make_no_database(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mistyped program is an error; a new database is asked for by a path, an ending or --create."""
    monkeypatch.chdir(tmp_path)
    for word, meant in (("device", "devices"), ("calibrat", "calibrate"), ("shop", "")):
        code, out, err = run(word, "-c", "select 1 as a")
        assert (code, out) == (2, "") and f'"{word}"' in err and meant in err and "--create" in err
    assert "-c" in run("select 42")[2]
    assert "no folder" in run("none/shop.fq", "-c", "select 1")[2]
    assert "Parquet and CSV" in run("readings.json", "-c", "select 1")[2]
    assert list(tmp_path.iterdir()) == []
    for arguments in (["shop.fq"], ["./shop"], ["stall", "--create"], ["none/shop.fq", "--create"]):
        assert run(*arguments, "-c", "create table t as select 7 as a")[0] == 0
    assert {p.name for p in tmp_path.iterdir()} == {"shop.fq", "shop", "stall", "none"}
    assert run("shop", "-c", "from t", "--csv")[1] == "a\n7\n"  # what is there needs no hint
    assert "devices" in PROGRAMS
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.csv").write_text("x\n1\n")
    assert "finequery data/*" in run("data", "-c", "select 1")[2]
    assert 'Did you mean "a.csv"?' in run("data/aa.csv", "-c", "select 1")[2]


def test_files_are_tables(run: Any, tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": [1, 2]}), tmp_path / "one.parquet")
    (tmp_path / "two.csv").write_text("b\n5\n")
    files = str(tmp_path / "one.parquet"), str(tmp_path / "two.csv")
    assert run(*files, "-c", "select sum(a) as s, max(b) as m from one, two", "--csv")[1] == "s,m\n3,5\n"
    assert run(*files, "-c", ".tables")[1] == "one\ntwo\n"
    assert run(*files, "-c", ".schema one")[1] == "CREATE TABLE one (\n    a BIGINT\n);\n"
    assert run(str(tmp_path / "*.pq"), "-c", ".tables")[0] == 2
    assert run(str(tmp_path / "*"), "-c", ".tables")[1] == "one\ntwo\n"
    assert {p.name for p in tmp_path.iterdir()} == {"one.parquet", "two.csv"}
    assert run(str(tmp_path / "*.csv"), "-c", ".tables")[1] == "two\n"


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


def test_scripts_run_in_order(run: Any, tmp_path: Path) -> None:
    script = tmp_path / "s.sql"
    script.write_text("#!/usr/bin/env -S finequery -f\ninsert into t values (2);\n")
    given = ("-c", "create table t as select 1 as a", "-f", str(script), "-c", ".mode csv", "-c", "from t order by a")
    assert run(*given)[1] == "a\n1\n2\n"
    assert run("-c", ".quit", "-c", "select 1")[:2] == (0, "")


def test_places_of_errors(run: Any, tmp_path: Path) -> None:
    script = tmp_path / "s.sql"
    script.write_text("select 1 as a;\n-- of fruit\n\nselect\n  pears;\nselect 2;\n")
    code, out, err = run("-f", str(script), "--csv")
    assert (code, out) == (1, "a\n1\n")
    assert err.startswith(f"{script}:4: Bind error: ") and "LINE 2:   pears" in err
    script.write_text("select 1 as a;\n.nonsense\nselect 2;\n")
    assert run("-f", str(script), "--csv")[2].startswith(f"{script}:2: ")
    assert "Parse error" in run("-c", "select 'abc")[2]


def test_options(run: Any) -> None:
    assert "Run time" in run("--timer", "-c", "select 1")[1]
    assert run("-c", ".mode json\nselect 1 as a;\n.mode csv\nselect 1 as a;")[1] == '[{"a": 1}]\na\n1\n'
    assert run("--line", "-c", "select 1 as a")[1] == "a = 1\n"
    assert run("--threads", "1", "-c", "show threads", "--csv")[1] == "threads\n1\n"
    assert "explain_key" not in run("-c", "explain select 1")[1]


def test_pipes_get_everything(run: Any) -> None:
    """What is no terminal gets all rows and columns."""
    rows = run("-c", "select range from range(3000)")[1]
    assert rows.count("\n") == 3000 + 6 and "shown" not in rows
    wide = run("-c", "select " + ", ".join(f"{i} as column_{i}" for i in range(60)))[1]
    assert "column_59" in wide and "…" not in wide


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


def test_help_fits_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    text = cli._parser().format_help()
    assert max(map(len, text.splitlines())) <= 80
    assert all(f"finequery {name} " in text for name in PROGRAMS)


def test_readers_that_go_away() -> None:
    command = f"{sys.executable} -m finequery --csv -c 'select range from range(200000)' | head -n 2"
    result = subprocess.run(["bash", "-c", command + "; exit ${PIPESTATUS[0]}"], capture_output=True, text=True)
    assert (result.returncode, result.stdout, result.stderr) == (141, "range\n0\n", "")


def test_one_command_imports_little() -> None:
    """What makes a process slow to start is what it imports."""
    code = (
        "import sys; from finequery.shell import main; main(['-c', 'select 42']); "
        "heavy = 'asyncio', 'llvmlite', 'numba', 'pandas', 'polars', 'prompt_toolkit', 'pyarrow'; "
        "print(sorted(m for m in heavy if m in sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.endswith("[]\n"), result.stdout + result.stderr


def test_completion_of_statements() -> None:
    for text in ("select 1;", "select ';' ;", "select 1; -- done", 'select "a;b";', "select /* ; */ 1;\n"):
        assert tokens.complete(text), text
    for text in ("select 1", "select ';", "select 1 -- ;", "select /* ; */ 1", "select 1; select 2", ""):
        assert not tokens.complete(text), text
    assert (
        tokens.complete("select $$ ; $$;") and not tokens.complete("select $a$ $$ ;") and not tokens.complete("'it''")
    )


def test_inputs() -> None:
    def found(text: str) -> list[tuple[str, int]]:
        return [tuple(item) for item in tokens.inputs(text)]

    assert found("select 1; select ';'; -- x\n;") == [("select 1;", 1), ("select ';';", 1)]
    assert found(".mode csv\n-- a\nselect\n1; .tables\nselect 2") == [
        (".mode csv", 1),
        ("select\n1;", 3),
        (".tables", 4),
        ("select 2", 5),
    ]
    assert found("select .5\n.x;") == [("select .5\n.x;", 1)]  # a dot begins a command only where a statement may begin
    assert found("  ;; /* ; */ \n") == []


def test_box() -> None:
    wide = display.box([f"column_{i}" for i in range(40)], [INTEGER] * 40, [list(range(40))], max_width=80)
    assert all(len(line) <= 80 for line in wide.splitlines())
    assert "…" in wide and wide.splitlines()[-1].startswith("  1 row, 40 columns (")
    long = display.box(["a", "b"], [VARCHAR, BIGINT], [("x" * 300, 1)], max_width=60)
    assert all(len(line) <= 60 for line in long.splitlines())
    assert "x…" in long and "│ bigint │" in long
    assert "(6 shown; a hint)" in display.box(
        [f"column_{i}" for i in range(40)], [INTEGER] * 40, [], (), 0, 80, "a hint"
    )
    assert len(display.clip("é" * 10**6, 20)) == 20
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
