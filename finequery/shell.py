"""The shell: ``finequery [database or files] [-c SQL] [-f script]``, ``finequery devices`` and
``finequery calibrate``."""

from __future__ import annotations

import importlib
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finequery import __version__, display
from finequery.errors import Error, FileError
from finequery.resolver import Scope

if TYPE_CHECKING:
    import argparse

    from finequery.connection import Connection
    from finequery.relation import Relation

MODES = ("box", "csv", "json", "markdown")
#: First words that are programs of their own: the modules whose ``main`` takes the words after them.
PROGRAMS = {
    "advise": "finequery.advise",
    "bench": "finequery.bench.command",
    "calibrate": "finequery.calibration",
    "compare": "finequery.compare.command",
    "devices": "finequery.devices",
    "top": "finequery.top",
}
_DATA = (".parquet", ".pq", ".csv", ".tsv", ".csv.gz", ".tsv.gz")

HELP = """\
End a statement with ; to run it. It may span lines.

.tables              tables and views
.schema [table]      columns of a table, or of all
.mode [box|csv|json|markdown]
                     how results are shown
.timer on|off        print how long each statement took
.read FILE           run the statements of a file
.help                this text
.quit                leave (or Ctrl-D)

Ctrl-C stops the running query. EXPLAIN [ANALYZE] shows its plan, SHOW SETTINGS what can be SET."""


class Shell:
    """What is typed, run on a connection and printed."""

    def __init__(self, connection: Connection, mode: str = "box", interactive: bool = False) -> None:
        self.connection = connection
        self.mode = mode
        self.interactive = interactive
        self.timer = False
        self.done = False
        self.failed = False

    def run(self, statement: str) -> Relation:
        """Run one statement; the names in it are tables and files, never variables of Python."""
        return self.connection._session.run(statement, None, Scope()).execute()

    def line(self, text: str) -> None:
        """Run one complete input: a dot command or statements. Errors are printed and remembered in ``failed``."""
        try:
            if text.lstrip().startswith("."):
                self._command(text.strip())
            else:
                self._statements(text)
        except Error as error:
            self.failed = True
            print(error_text(error), file=sys.stderr)
        except KeyboardInterrupt:
            self.failed = True
            print("Interrupted", file=sys.stderr)
        except OSError:
            raise  # a closed pipe
        except Exception as error:  # a defect of FineQuery must not cost the user the session
            self.failed = True
            print(f"Internal error: {type(error).__name__}: {error}", file=sys.stderr)

    def script(self, text: str) -> None:
        """Run a whole file, statement by statement, up to the first error."""
        buffer: list[str] = []
        for line in text.splitlines():
            if not buffer and line.lstrip().startswith("."):
                self.line(line)
            else:
                buffer.append(line)
                if complete("\n".join(buffer)):
                    self.line("\n".join(buffer))
                    buffer = []
            if self.failed or self.done:
                return
        if "".join(buffer).strip():
            self.line("\n".join(buffer))

    def _statements(self, text: str) -> None:
        for statement in split(text):
            start = time.perf_counter()
            relation = self.run(statement)
            seconds = time.perf_counter() - start
            self._print(relation)
            if self.timer:
                print(f"Run time: {seconds:.3f} s")

    def _print(self, relation: Relation) -> None:
        names, types = relation.columns, relation.types
        if not names:
            return
        if relation.changed is not None:
            if self.interactive:
                print(f"{relation.changed:,} row{'' if relation.changed == 1 else 's'}")
        elif names == ["explain_key", "explain_value"]:
            print(relation.fetchall()[0][1])
        elif self.mode == "csv":
            print(display.csv_lines(names, relation.shown_rows()))
        elif self.mode == "json":
            print(display.json_lines(names, relation.shown_rows()))
        elif self.mode == "markdown":
            print(display.markdown(names, types, relation.shown_rows()))
        else:
            print(relation.box(max_rows=40, max_width=terminal_width()))

    def _command(self, text: str) -> None:
        name, *arguments = text.split()
        command: Callable[..., None] | None = getattr(self, "_do_" + name[1:], None)
        if command is None or len(arguments) > 1:
            self.failed = True
            print(f"There is no command {text}; .help lists them", file=sys.stderr)
            return
        command(*arguments)

    def _do_help(self) -> None:
        print(HELP)

    def _do_quit(self) -> None:
        self.done = True

    _do_exit = _do_quit

    def _do_tables(self) -> None:
        for (name,) in self.run("show tables").fetchall():
            print(name)

    def _do_schema(self, table: str | None = None) -> None:
        tables = [table] if table else [name for (name,) in self.run("show tables").fetchall()]
        for name in tables:
            quoted = '"' + name.replace('"', '""') + '"'
            columns = self.run(f"describe {quoted}").fetchall()
            lines = [f"    {c[0]} {c[1]}{' NOT NULL' if c[2] == 'NO' else ''}" for c in columns]
            print(f"{name} (\n" + ",\n".join(lines) + "\n)")

    def _do_mode(self, mode: str | None = None) -> None:
        if mode is None:
            print(self.mode)
        elif mode in MODES:
            self.mode = mode
        else:
            self._wrong("mode", mode, MODES)

    def _do_timer(self, state: str = "on") -> None:
        if state in ("on", "off"):
            self.timer = state == "on"
        else:
            self._wrong("timer", state, ("on", "off"))

    def _do_read(self, path: str | None = None) -> None:
        if path is None:
            raise FileError(".read needs the name of a file")
        self.script(read_file(path))

    def _wrong(self, command: str, value: str, choices: Sequence[str]) -> None:
        self.failed = True
        print(f".{command} {value}: must be {' or '.join(choices)}", file=sys.stderr)


def error_text(error: Error) -> str:
    """An error as the shell prints it: its class in words, and the message."""
    name = type(error).__name__.removesuffix("Error")
    words = "".join(" " + c.lower() if c.isupper() else c for c in name).strip()
    return f"{words.capitalize()} error: {error}" if words else f"Error: {error}"


def _ends(text: str) -> list[int]:
    """Offsets just after each ``;`` that ends a statement: outside quotes and comments."""
    ends, i, size = [], 0, len(text)
    while i < size:
        c = text[i]
        if c in "'\"":
            i = text.find(c, i + 1)  # a doubled quote closes and opens again
        elif text.startswith("--", i):
            i = text.find("\n", i)
        elif text.startswith("/*", i):
            i = text.find("*/", i + 2)
            i += i >= 0
        elif c == ";":
            ends.append(i + 1)
        if i < 0:
            break
        i += 1
    return ends


def _blank(text: str) -> bool:
    """Whether there is nothing but space, semicolons and line comments."""
    return all(not line.partition("--")[0].strip(" \t\r;") for line in text.splitlines())


def complete(text: str) -> bool:
    """Whether the text can be run: it ends with a ``;`` that ends a statement, or has nothing in it."""
    ends = _ends(text)
    return _blank(text[ends[-1] :]) if ends else False


def split(text: str) -> list[str]:
    """The statements of a text, so that each can be run and shown before the next."""
    starts = [0, *_ends(text)]
    parts = [text[a:b] for a, b in zip(starts, [*starts[1:], len(text)])]
    return [part.strip() for part in parts if not _blank(part)]


def read_file(path: str) -> str:
    """The text of a script."""
    try:
        with open(os.path.expanduser(path), encoding="utf-8") as file:
            return file.read()
    except OSError as error:
        raise FileError(f"Can't read '{path}': {error.strerror}") from None
    except UnicodeDecodeError:
        raise FileError(f"'{path}' is not UTF-8 text") from None


def terminal_width() -> int:
    """Columns of the terminal; 120 where output goes to a file."""
    try:
        return max(40, os.get_terminal_size(sys.stdout.fileno()).columns)
    except (OSError, ValueError):
        return 120


def _parser() -> argparse.ArgumentParser:
    import argparse

    parser = argparse.ArgumentParser(
        prog="finequery",
        description="SQL on Parquet, CSV and FineQuery databases.",
        epilog="Without -c, -f or piped input it reads SQL from the terminal. 'finequery devices' shows the processor "
        "and the GPU, and what follows from them; 'finequery calibrate' measures what sub-tasks take here.",
    )
    parser.add_argument(
        "paths", nargs="*", metavar="PATH", help="a database directory, or Parquet and CSV files: tables by their names"
    )
    parser.add_argument("-c", metavar="SQL", dest="commands", action="append", help="run this and leave")
    parser.add_argument("-f", metavar="FILE", dest="files", action="append", help="run a script and leave")
    parser.add_argument("--threads", type=int, metavar="N", help="worker threads")
    parser.add_argument("--memory-limit", metavar="SIZE", help="such as 4GB")
    parser.add_argument("--device", choices=("auto", "cpu", "gpu"), help="where queries run")
    parser.add_argument("--board", metavar="NAME", help="a board to simulate, such as agx-xavier")
    modes = parser.add_mutually_exclusive_group()
    for mode in MODES[1:]:
        modes.add_argument(f"--{mode}", dest="mode", action="store_const", const=mode, help=f"results as {mode}")
    parser.add_argument("--version", action="version", version=f"finequery {__version__}")
    return parser


def _open(options: argparse.Namespace) -> Connection:
    from finequery.connection import connect

    data = [p for p in options.paths if p.lower().endswith(_DATA)]
    databases = [p for p in options.paths if p not in data]
    if len(databases) > 1:
        raise FileError(
            "Only one database can be opened", hint=f"{databases[1]} is neither Parquet nor CSV by its name."
        )
    connection = connect(
        databases[0] if databases else ":memory:",
        threads=options.threads,
        memory_limit=options.memory_limit,
        device=options.device,
        board=options.board,
    )
    for path in data:
        if not os.path.exists(path):
            raise FileError(f"There is no file '{path}'")
        connection.register(os.path.basename(path).partition(".")[0], Path(path))
    return connection


def main(arguments: Sequence[str] | None = None) -> int:
    """The ``finequery`` command; its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given and given[0] in PROGRAMS:
        return int(importlib.import_module(PROGRAMS[given[0]]).main(given[1:]))
    options = _parser().parse_args(given)
    try:
        connection = _open(options)
    except Error as error:
        print(error_text(error), file=sys.stderr)
        return 1
    with connection:
        shell = Shell(connection, options.mode or "box")
        try:
            return _run(shell, options)
        except BrokenPipeError:  # the reader of a pipe went away, as head does
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1


def _run(shell: Shell, options: argparse.Namespace) -> int:
    scripts = list(options.commands or ())
    try:
        scripts = [read_file(path) for path in options.files or ()] + scripts
    except FileError as error:
        print(error_text(error), file=sys.stderr)
        return 1
    if not scripts and not sys.stdin.isatty():
        scripts = [sys.stdin.read()]
    if not scripts:
        shell.interactive = True
        interact(shell)
        return 0
    for script in scripts:
        shell.script(script)
        if shell.failed:
            return 1
    sys.stdout.flush()
    return 0


def interact(shell: Shell) -> None:
    """Read from the terminal until Ctrl-D or .quit."""
    print(f"FineQuery {__version__}. End a statement with ; — .help for help, Ctrl-D to leave.")
    board = shell.connection.settings["board"]
    if board:
        print(f"Simulated board: {board}. Answers are this machine's; the times of EXPLAIN ANALYZE are the board's.")
    read = reader(shell)
    while not shell.done:
        try:
            text = read()
        except KeyboardInterrupt:
            continue
        except EOFError:
            print()
            return
        if text.strip():
            shell.line(text)


def reader(shell: Shell) -> Callable[[], str]:
    """A function that reads one complete input, with history and completion where there is a library for them."""
    history = os.path.join(os.path.expanduser("~"), ".finequery_history")
    try:
        from finequery.prompt import prompt
    except ImportError:
        return _plain_reader(history)
    return prompt(shell, history)


def _plain_reader(history: str) -> Callable[[], str]:
    try:
        import atexit
        import contextlib
        import readline

        with contextlib.suppress(OSError):
            readline.read_history_file(history)
        readline.set_history_length(1000)

        def save() -> None:
            with contextlib.suppress(OSError):
                readline.write_history_file(history)

        atexit.register(save)
    except ImportError:
        pass

    def read() -> str:
        lines = [input("finequery> ")]
        while not finished("\n".join(lines)):
            lines.append(input("      ...> "))
        return "\n".join(lines)

    return read


def finished(text: str) -> bool:
    """Whether Enter runs what was typed: a dot command, complete statements, or nothing."""
    return not text.strip() or text.lstrip().startswith(".") or complete(text)


def completions(shell: Shell, word: str) -> list[str]:
    """Keywords, tables and columns that start with ``word``."""
    names: set[Any] = {k for k in KEYWORDS if k.lower().startswith(word.lower())}
    try:
        for (table,) in shell.run("show tables").fetchall():
            names.add(table)
            quoted = '"' + table.replace('"', '""') + '"'
            names.update(row[0] for row in shell.run(f"describe {quoted}").fetchall())
    except Error:
        pass
    return sorted(n for n in names if n.lower().startswith(word.lower()))


KEYWORDS = (
    "ALL ANALYZE AND ANTI AS ASC BETWEEN BY CASE CAST COPY CREATE CROSS DATE DESC DESCRIBE DISTINCT DROP ELSE END "
    "EXCEPT EXISTS EXPLAIN FALSE FROM FULL GROUP HAVING IN INNER INSERT INTERSECT INTERVAL INTO IS JOIN LEFT LIKE "
    "LIMIT NOT NULL OFFSET ON OR ORDER OVER PARTITION REPLACE RESET RIGHT SELECT SEMI SET SETTINGS SHOW TABLE "
    "TABLES THEN TRUE UNION USING VALUES VIEW WHEN WHERE WINDOW WITH"
).split()
