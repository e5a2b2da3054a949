"""Every dot command, and what is said where one is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import finequery
from finequery.shell.commands import known
from finequery.shell.output import Output
from finequery.shell.shell import Shell


@pytest.fixture
def shell() -> Any:
    shell = Shell(finequery.connect(), Output(), interactive=True)
    yield shell
    shell.close()


@pytest.fixture
def say(shell: Shell, capsys: pytest.CaptureFixture[str]) -> Any:
    """Enter a line; what stands on stdout, or with an error on stderr."""

    def say(text: str, fails: bool = False) -> str:
        shell.enter(text)
        captured = capsys.readouterr()
        assert shell.failed == fails, captured
        return (captured.err if fails else captured.out).rstrip("\n")

    return say


def test_help(say: Any) -> None:
    text = say(".help")
    for one in known().values():
        assert one.usage in text
        assert one.summary and one.help
        assert one.help in "\n".join(line[4:] for line in say(f".help {one.name}").splitlines())
    assert max(map(len, text.splitlines())) < 80
    assert say("help") == text
    assert "no command .nonsense" in say(".help nonsense", fails=True)


def test_names(say: Any) -> None:
    assert "Did you mean .timer" in say(".tiner", fails=True)
    assert "Did you mean .tables or .timer?" in say(".t", fails=True)
    assert say(".ta;") == ""
    assert ".help lists" in say(".", fails=True)
    assert "Usage: .import FILE TABLE" in say(".import a.csv", fails=True)
    assert "Usage: .quit" in say(".quit now", fails=True)
    assert "quote is not closed" in say(".read 'x", fails=True)
    assert "Commands begin with a dot" in say("\\d", fails=True)


def test_tables_and_schema(say: Any) -> None:
    say('create table t (a integer not null, "B c" varchar); create view v as select a from t;')
    assert say(".tables") == "t\nv"
    assert say(".tables V*") == "v"
    assert say(".schema T") == 'CREATE TABLE t (\n    a INTEGER NOT NULL,\n    "B c" VARCHAR\n);'
    assert say(".schema").count("CREATE") == 2
    definition = say(".schema v")
    say("drop view v;")
    say(definition)
    assert say(".tables") == "t\nv"
    assert 'Did you mean "t"?' in say(".schema tt", fails=True)


@pytest.mark.parametrize(
    ("mode", "text"),
    [
        ("csv", "a,b\n1,\n"),
        ("json", '[{"a": 1, "b": null}]\n'),
        ("markdown", "| a | b |\n|--:|---|\n| 1 | NULL |\n"),
        ("line", "a = 1\nb = NULL\n"),
    ],
)
def test_modes(mode: str, text: str, say: Any) -> None:
    say(f".mode {mode}")
    assert say(".mode") == mode
    assert say("select 1 as a, null::varchar as b;") + "\n" == text


def test_mode_of_tables(say: Any) -> None:
    table = say("select 1 as a;")
    for name in ("table", "box", "TABLE"):
        say(f".mode {name}")
        assert say("select 1 as a;") == table
    assert 'Did you mean "csv"' in say(".mode cvs", fails=True)


def test_line_mode(say: Any) -> None:
    say(".mode line")
    assert say("select * from (values (1, 'a\nb'), (2, 'c')) as t(n, long);") == (
        "   n = 1\nlong = a\\nb\n\n   n = 2\nlong = c"
    )


def test_json_keeps_columns_of_one_name(say: Any) -> None:
    say(".mode json")
    assert say("select 1 as a, 2 as a;") == '[{"a": 1, "a_1": 2}]'
    assert say("select 1 as a where false;") == "[]"


def test_output(say: Any, tmp_path: Path) -> None:
    path = tmp_path / "out file.csv"
    say(".mode csv")
    assert say(f".output '{path}'") == ""
    assert say("select range as a from range(20000);") == ""
    say(".tables")
    say(".output")
    assert path.read_text().splitlines() == ["a", *map(str, range(20000))]
    say(".mode table")
    say(f".output '{path}'\nselect range as a from range(100);\n.output")
    assert path.read_text().count("\n") == 100 + 6  # all rows, in a frame
    assert say("select 1 as a;").count("\n") == 5
    assert "Can't write" in say(f".output {tmp_path}/none/x", fails=True)


def test_rows(say: Any) -> None:
    assert say(".maxrows") == "auto"
    say(".maxrows 4")
    assert "(4 shown)" in say("select range from range(100);")
    say(".maxrows 0")
    assert "shown" not in say("select range from range(100);")
    say(".maxrows auto")
    assert "a number" in say(".maxrows many", fails=True)


def test_pager(say: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("FINEQUERY_PAGER", raising=False)
    monkeypatch.setenv("PAGER", "cat -u")
    assert say(".pager") == "on: cat -u"
    say(".pager off")
    assert say(".pager") == "off"
    assert "on or off" in say(".pager less", fails=True)


def test_timer(say: Any) -> None:
    assert say(".timer") == "off"
    say(".timer on")
    assert "Run time: 0." in say("select 1;")
    say(".board agx-xavier")
    assert ", simulated" in say("select sum(range) from range(1000);").splitlines()[-1]


def test_settings(say: Any) -> None:
    assert say(".objective") == "latency"
    say(".objective EDP")
    assert say(".objective") == "edp"
    assert 'Did you mean "energy"' in say(".objective enrgy", fails=True)
    say(".device cpu")
    assert say(".device").startswith("device = cpu\n")
    assert "auto or cpu or gpu" in say(".device tpu", fails=True)
    text = say(".settings")
    assert "objective" in text and max(map(len, text.splitlines())) < 80
    assert say(".settings objective").splitlines()[0] == "objective = edp  (SET)"
    assert 'Did you mean "threads"' in say(".settings treads", fails=True)


def test_board(say: Any) -> None:
    assert say(".board").startswith("no board is simulated")
    say(".board agx-xavier:15W")
    text = say(".board")
    assert text.startswith("simulating agx-xavier:15W") and "\n* agx-xavier" in text
    assert max(map(len, text.splitlines())) < 80
    assert 'Did you mean "agx-xavier"' in say(".board agx-xavir", fails=True)
    say(".board none")
    assert say(".board").startswith("no board")


def test_plan(say: Any, tmp_path: Path) -> None:
    assert "no query yet" in say(".plan", fails=True)
    say("create table t as select range as a from range(1000); select sum(a) from t where a > 10;")
    text = say(".plan")
    assert "1 row in" in text and "this machine: " in text and "    CPU  " in text
    assert "in" in say(f".plan {tmp_path}/t.svg")
    assert (tmp_path / "t.svg").read_text().startswith("<svg")
    assert ".svg or .png" in say(f".plan {tmp_path}/t.txt", fails=True)
    say(".board agx-xavier")
    assert "AGX Xavier" in say(".plan") and ", simulated (" in say(".plan")


def test_energy(say: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from finequery import energy

    assert "no query yet" in say(".energy", fails=True)
    say(".board agx-xavier\nselect sum(range) from range(100000);")
    text = say(".energy")
    assert text.startswith("simulated: ") and "J a run" in text and max(map(len, text.splitlines())) < 80
    runs: list[Any] = []

    def measure(run: Any) -> energy.Energy:
        runs.append(run())
        return energy.Energy(0.1, 30, "INA3221", 2.5, 0.5, 25.0, 5.0)

    monkeypatch.setattr(energy, "measure", measure)
    say(".board none\n.mode csv\nselect 6 * 7;")
    assert say(".energy").startswith("2.5 J a run, of which 500 mJ at rest")
    assert runs[0].fetchall() == [(42,)]
    nothing = energy.Energy(0.1, 1, "", note="no sensor of power")
    monkeypatch.setattr(energy, "measure", lambda run: nothing)
    assert say(".energy").startswith("no sensor of power")


def test_import(say: Any, tmp_path: Path) -> None:
    (tmp_path / "it's 1.csv").write_text("a,b\n1,x\n")
    (tmp_path / "it's 2.csv").write_text("a,b\n2,y\n")
    assert say(f'.import "{tmp_path}/it\'s 1.csv" t') == "1 row"
    assert say(f'.import "{tmp_path}/it\'s *.csv" t') == "2 rows"
    say(".mode csv")
    assert say("select * from t order by a;") == "a,b\n1,x\n1,x\n2,y"
    assert "none.csv" in say(f".import {tmp_path}/none.csv u", fails=True)
    assert say(".tables") == "t"


def test_open(say: Any, shell: Shell, tmp_path: Path) -> None:
    say(f".mode csv\n.objective energy\n.open {tmp_path}/one.fq\ncreate table t as select 1 as a;")
    assert shell.name == "one"
    assert "is open already" in say(f".open {tmp_path}/one.fq", fails=True)
    say(".open")
    assert shell.name == "finequery"
    assert say(".tables") == "" and say(".objective") == "energy"
    say(f".open {tmp_path}/one.fq")
    assert say("from t;") == "a\n1"
    assert "no database" in say(".open nonesuch", fails=True)
    assert say("from t;") == "a\n1"  # what was open still is
    (tmp_path / "pears.csv").write_text("p\n5\n")
    say(f".open {tmp_path}/*.csv")
    assert say("from pears;") == "p\n5"


def test_read(say: Any, tmp_path: Path) -> None:
    inner, outer = tmp_path / "inner.sql", tmp_path / "outer.sql"
    inner.write_text("select 1 as a;\n\nselect nope;\nselect 2 as b;\n")
    outer.write_text(f".mode csv\n.read {inner}\nselect 3 as c;\n")
    assert f"{inner}:3: Bind error" in say(f".read {outer}", fails=True)
    inner.write_text(f".read {outer}")
    assert "reads itself" in say(f".read {outer}", fails=True)
    assert "Can't read" in say(f".read {tmp_path}/none.sql", fails=True)


def test_quit(say: Any, shell: Shell) -> None:
    assert say(".quit\nselect 1;") == "" and shell.done


def test_all_commands_are_tested() -> None:
    """A command that is added needs a test here."""
    text = Path(__file__).read_text()
    assert [name for name in known() if f".{name}" not in text] == []
