"""The shell in a real pseudo-terminal: what a person sees and can do there."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip("pexpect")
pytest.importorskip("pyte")
pytest.importorskip("prompt_toolkit")

from terminal import Terminal

Open = Callable[..., Terminal]

#: Runs for minutes, in compiled code.
LONG = "select count(*) from n a, n b where (a.i * b.i) % 7 = 3;"
COLOUR = re.compile(rb"\x1b\[[0-9;]*[34]\dm")


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table for completion, and one of 300,000 rows."""
    import finequery

    path = tmp_path_factory.mktemp("terminal") / "shop.fq"
    with finequery.connect(str(path)) as con:
        con.execute("create table harvest as select 1 as apples, 2 as apricots, 'x' as \"Grün zu\"")
        con.execute("create table n as select range as i from range(300000)")
    return path


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Open]:
    opened: list[Terminal] = []

    def start(*arguments: str, **more: object) -> Terminal:
        terminal = Terminal(arguments, home=tmp_path, **more)  # type: ignore[arg-type]
        opened.append(terminal)
        return terminal

    yield start
    for terminal in opened:
        terminal.child.close(force=True)


def test_statement_and_leaving(shell: Open) -> None:
    t = shell()
    t.prompt()
    assert t.lines[0].startswith("FineQuery ")
    assert t.run("select 6 * 7 as answer;")[-2:] == ["│      42 │", "└─────────┘"]
    assert t.leave() == 0


@pytest.mark.parametrize("word", [".quit", "exit", "quit;"])
def test_words_for_leaving(word: str, shell: Open) -> None:
    t = shell()
    t.prompt()
    t.send(word + "\r")
    assert t.exit() == 0


def test_leaving_waits_for_imports(monkeypatch: pytest.MonkeyPatch) -> None:
    """The planner is imported beside the prompt; Python that ends beneath an import may crash."""
    import finequery
    from finequery.planner import parse
    from finequery.shell import interactive
    from finequery.shell.output import Output
    from finequery.shell.shell import Shell

    ended: list[str] = []

    def slowly(text: str) -> None:
        time.sleep(0.3)
        ended.append(text)
        raise ValueError

    def read() -> str:
        interactive.warm()
        raise EOFError

    monkeypatch.setattr(parse, "parse", slowly)
    monkeypatch.setattr(interactive, "reader", lambda shell: read)
    interactive.warm.cache_clear()
    with finequery.connect() as con:
        interactive.interact(Shell(con, Output()), rc=False)
    assert ended == ["select 42"]


def test_several_lines(shell: Open) -> None:
    t = shell()
    t.prompt()
    t.send("select 1 as one,\r")
    t.wait("...>")
    t.send("2 as two;\r")
    t.wait("│       1 │       2 │")
    t.prompt()
    t.send("\x1b[A")  # the whole statement comes back, as one entry
    t.pump(0.5)
    assert [line.strip() for line in t.lines[-2:]] == ["finequery> select 1 as one,", "...> 2 as two;"]
    t.send("\x1b[B" * 2 + "\x03")
    t.prompt()
    t.send("select 5 as five\x1b\r")  # Alt-Enter needs no semicolon
    t.wait("│       5 │")


def test_completion(shell: Open, database: Path) -> None:
    t = shell(str(database))
    t.prompt("shop>")
    t.send("select * from harv\t")
    t.wait("from harvest")
    t.send("\x03")
    t.prompt("shop>")
    t.send("select appl\t")  # of all tables, since there is no FROM yet
    t.wait("select apples")
    t.send("\x03")
    t.prompt("shop>")
    t.send("select h. from harvest h" + "\x1b[D" * 15 + "\t")  # the cursor stands behind the dot
    t.wait("apricots")
    t.wait("INTEGER")
    t.wait('"Grün zu"')
    t.send("\x03")
    t.prompt("shop>")
    t.send(".obj\t")
    t.wait(".objective")
    t.send(" en\t")
    t.wait(".objective energy")


def test_file_names(shell: Open, tmp_path: Path) -> None:
    (tmp_path / "orchard.csv").write_text("pears\n3\n")
    t = shell(columns=200)
    t.prompt()
    t.send(f"select * from '{tmp_path}/orch\t")
    t.wait("orchard.csv")
    t.send("';\r")
    t.wait("pears")
    t.wait("┘")
    t.prompt()
    t.send(f"select pe from '{tmp_path}/orchard.csv'" + "\x01" + "\x1b[C" * 9 + "\t")
    t.wait("BIGINT")
    assert "pears" in t.lines[-4] + t.lines[-3] + t.lines[-2] + t.lines[-1]


def test_history_over_sessions(shell: Open, tmp_path: Path) -> None:
    with shell() as t:
        t.run("select 1001;")
        assert t.leave() == 0
    t = shell()
    t.prompt()
    t.send("\x1b[A")
    t.wait("select 1001;")
    t.send("\x03")
    t.prompt()
    t.send("\x12")  # Ctrl-R
    t.wait("I-search backward:")
    t.send("100")
    t.wait("select 1001;")
    assert (tmp_path / ".finequery_history").stat().st_mode & 0o777 == 0o600


def test_pager(shell: Open, database: Path) -> None:
    t = shell(str(database))
    t.prompt("shop>")
    t.send("select i, i * 2 as twice from n;\r")
    t.wait(":")  # less
    assert "twice" in t.text and "shop>" not in t.lines[-1]
    t.send("G")
    t.wait("300,000 rows (1000 shown)")
    t.send("\x03")  # is less's, and stops nothing
    t.pump(0.2)
    t.send("q")
    t.prompt("shop>")
    assert "Interrupted" not in t.text
    t.run(".pager off", "shop>")
    t.run("select i from n;", "shop>")
    assert "300,000 rows (40 shown)" in t.text
    t.run(".mode csv", "shop>")
    t.run(".pager on", "shop>")
    t.send("select i from n;\r")  # all rows, of which less is given as many as it wants
    t.wait(":")
    t.send("q")
    t.prompt("shop>")


def test_own_pager(shell: Open, database: Path) -> None:
    t = shell(str(database), PAGER="head -n 3")
    assert len(t.run("select i from n limit 100;", "shop>")) == 3
    assert t.leave() == 0
    t = shell(str(database), PAGER="no-such-program")
    assert "100 rows (40 shown)" in t.run("select i from n limit 100;", "shop>")[-1]


def test_ctrl_c_stops_a_query(shell: Open, database: Path) -> None:
    t = shell(str(database))
    t.prompt("shop>")
    waits = []
    for _ in range(3):
        t.display.reset()
        t.send(LONG + "\r")
        t.pump(1.0)
        assert t.lines[-1].strip() != "shop>"
        start = time.perf_counter()
        t.send("\x03")
        t.wait("Interrupted")
        waits.append(time.perf_counter() - start)
        t.prompt("shop>")
    assert min(waits) < 5  # a tenth of a second, on a machine that does nothing else; the statement takes minutes
    assert any("300000" in line for line in t.run("select count(*) as n from n;", "shop>"))
    assert t.leave() == 0


def test_ctrl_c_stops_compiling(shell: Open, tmp_path: Path) -> None:
    """On a machine's first start kernels are compiled for a minute; what was begun is ended, and leaves nothing."""
    t = shell(FINEQUERY_CACHE=str(tmp_path / "cache"))
    t.prompt()
    t.send("select sum(range) from range(10);\r")
    t.wait("Compiling kernels for this CPU (once)")
    t.pump(1.0)
    t.send("\x03")
    t.wait("Interrupted")
    t.prompt()
    assert "Compiling" not in t.text
    assert [path.suffix for path in (tmp_path / "cache" / "kernels").iterdir()] == [".lock"]
    assert t.leave() == 0


def test_ctrl_c_right_behind_enter(shell: Open, database: Path) -> None:
    """It is read together with the Enter, before there is a statement to stop."""
    t = shell(str(database))
    t.prompt("shop>")
    t.display.reset()
    start = time.perf_counter()
    t.send(LONG + "\r" + "select 'dropped';\r" + "\x03" + "select 6 * 7 as kept;\r")
    t.wait("Interrupted")
    t.wait("│      42 │")
    assert time.perf_counter() - start < 10  # the statement itself takes minutes
    t.prompt("shop>")
    assert t.text.count("Interrupted") == 1 and "│ dropped" not in t.text
    t.send("\x1b[A\x1b[A")
    t.wait("shop> " + LONG[:20])  # can be had again


def test_ctrl_c_that_the_prompt_did_not_read() -> None:
    from prompt_toolkit.application import create_app_session
    from prompt_toolkit.input import create_pipe_input
    from prompt_toolkit.output import DummyOutput

    import finequery
    from finequery.shell import history
    from finequery.shell.prompt import prompt
    from finequery.shell.shell import Shell

    said: list[str] = []
    with create_pipe_input() as keys, create_app_session(keys, DummyOutput()), finequery.connect() as con:
        shell = Shell(con)
        shell.complain = lambda what, *_: said.append(what)  # type: ignore[method-assign]
        read = prompt(shell)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(history, "load", list)
            patch.setattr(history, "append", lambda text: keys.send_text("\x03select 2;\r"))  # while Enter is handled
            keys.send_text("select 1;\r")
            assert read() == "" and said == ["Interrupted"]
            patch.setattr(history, "append", lambda text: None)
            assert read() == "select 2;" and said == ["Interrupted"]


def test_progress_bar_and_prompt(shell: Open, database: Path) -> None:
    """The bar is drawn while a long query runs, and is gone with it."""
    t = shell(str(database))
    t.prompt("shop>")
    t.display.reset()
    t.send(LONG + "\r")
    t.wait(" s left")
    t.send("\x03")
    t.wait("Interrupted")
    t.prompt("shop>")
    assert t.lines[-2:] == ["Interrupted", "shop>"] and "^C" not in t.text and "█" not in t.text


def test_ctrl_c_at_the_prompt_clears_the_line(shell: Open) -> None:
    t = shell()
    t.prompt()
    t.send("select nonsense\x03")
    t.prompt()
    t.send("select 1,\r")
    t.wait("...>")
    t.send("\x03")
    t.prompt()
    assert "│       9 │" in t.run("select 9 as nine;")
    t.send("selec\x04")  # Ctrl-D leaves from an empty line alone
    t.pump(0.3)
    assert t.child.isalive()


def test_ctrl_c_ends_a_command(shell: Open, database: Path) -> None:
    t = shell(str(database), "-c", LONG)
    t.pump(2.0)
    t.send("\x03")
    assert t.exit() == 130


def test_80_columns(shell: Open, database: Path) -> None:
    wide = "select " + ", ".join(f"{i} as a_column_{i}" for i in range(30))
    t = shell(str(database))
    t.prompt("shop>")
    t.display.reset()
    t.send(wide + ";\r")
    t.wait("30 columns")
    lines = t.text.splitlines()
    assert "  1 row, 30 columns (5 shown; .mode line shows all)" in lines
    tops = [line for line in lines if line.startswith("┌")]
    assert len(tops) == 1 and len(tops[0]) <= 80 and tops[0].endswith("┐")
    t.prompt("shop>")
    t.run(".mode line", "shop>")
    t.send(wide.replace("30", "31") + ";\r")
    t.wait("a_column_20 = 20")


def test_colours(shell: Open) -> None:
    def shown(t: Terminal) -> bytes:
        t.run("select 'x' as a, nope;")
        return t.raw

    assert COLOUR.search(shown(shell()))
    assert b"\x1b[1;31mBind error\x1b[0m" in shown(shell())
    assert not COLOUR.search(shown(shell(NO_COLOR="1")))
    assert not COLOUR.search(shown(shell("--no-color")))


def test_dumb_terminal(shell: Open) -> None:
    t = shell(TERM="dumb")
    t.prompt()
    t.send("select 1 as one,\n")
    t.wait("...>")
    t.send("7 as seven;\n")
    t.wait("│       1 │       7 │")
    t.send("select nope;\n")
    t.wait("Bind error")
    assert b"\x1b" not in t.raw
    t.prompt()
    t.send("\x03")
    t.pump(0.2)
    t.prompt()
    assert t.leave() == 0


def test_start_file(shell: Open, tmp_path: Path) -> None:
    folder = tmp_path / ".config" / "finequery"
    folder.mkdir(parents=True)
    (folder / "shellrc").write_text(".timer on\n.mode csv\ncreate table t as select 4 as four;\n")
    t = shell()
    lines = t.run("from t;")
    assert lines[:2] == ["four", "4"] and lines[2].startswith("Run time: ")
    with shell("--no-rc") as t:
        assert "Catalog error" in "\n".join(t.run("from t;"))
    (folder / "shellrc").write_text("select nope;\n")
    t = shell(columns=200)
    t.prompt()
    assert "shellrc:1: Bind error" in t.text


def test_the_prompt_waits_for_no_engine() -> None:
    """What makes the first prompt slow is what is imported before it."""
    code = (
        "import sys; from finequery.shell import cli, interactive, opening, prompt; opening.connect_to([], {}); "
        "heavy = 'llvmlite', 'numba', 'numpy', 'pyarrow', 'pygments.lexers', 'sqlglot'; "
        "print(sorted(m for m in heavy if m in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


BARE = (
    "import sys; sys.modules['prompt_toolkit'] = None; from finequery.shell import main; sys.exit(main(sys.argv[1:]))"
)


def test_without_prompt_toolkit(shell: Open, database: Path) -> None:
    pytest.importorskip("readline")
    t = shell(str(database), program=(sys.executable, "-c", BARE))
    t.prompt("shop>")
    t.send("select apr\t")
    t.wait("select apricots")
    t.send(" from harv\t")
    t.wait("from harvest")
    t.send("\r;\r")
    t.wait("│        2 │")
    t.prompt("shop>")
    t.send("nonsense\x03")
    t.prompt("shop>")
    assert t.leave() == 0
    t = shell(program=(sys.executable, "-c", BARE))
    t.prompt()
    t.send("\x1b[A")
    t.wait("select apricots from harvest ;")


SLOW = """
import sys, time
class Slow:
    def find_spec(self, name, path=None, target=None):
        if name == "finequery.planner.optimizer":
            time.sleep(1.6)
sys.meta_path.insert(0, Slow())
from finequery.shell import main
sys.exit(main(sys.argv[1:]))
"""


def test_nothing_is_drawn_over_the_prompt(shell: Open) -> None:
    """The planner is imported while the first statement is typed, and takes long; nobody waits for that."""
    t = shell(program=(sys.executable, "-c", SLOW))
    t.prompt()
    t.pump(2.0)
    assert t.lines[-1].strip() == "finequery>" and b"planning" not in t.raw
    t.leave()
    t = shell(program=(sys.executable, "-c", SLOW))
    assert t.run("select nope;")[0].startswith("Bind error")  # which waited, and drew its bar
