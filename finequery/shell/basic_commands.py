"""Dot commands for tables, output and files."""

from __future__ import annotations

import fnmatch
import os
import textwrap

from finequery.errors import CatalogError, FileError, ProgrammingError, nearest
from finequery.shell import screen
from finequery.shell.commands import choice, command, find, known, literal, quoted
from finequery.shell.output import MODES
from finequery.shell.shell import Shell, read_file

ON_OFF = ("on", "off")

KEYS = """\
End a statement with ; and Enter runs it. It may span lines; Alt-Enter runs it
without the ;. Tab completes. Ctrl-R searches the history. Ctrl-C stops what
runs, or clears the line. Ctrl-D leaves.

"""


@command(".help [COMMAND]", "command")
def help_(shell: Shell, name: str | None = None) -> None:
    """This text, or more on one command."""
    if name is not None:
        one = find(name)
        shell.output.text(f"{one.usage}\n\n{textwrap.indent(one.help, '    ')}")
        return
    commands = sorted(known().values(), key=lambda c: c.name)
    room = max(len(c.usage) for c in commands) + 2
    lines = [c.usage.ljust(room) + c.summary for c in commands]
    shell.output.text(
        KEYS + "\n".join(lines) + "\n\nThe beginning of a name is enough, where it is the beginning of one alone."
    )


@command(".quit")
def quit_(shell: Shell) -> None:
    """Leave, as Ctrl-D does."""
    shell.done = True


def table_names(shell: Shell) -> list[str]:
    """Tables and views, registered files too."""
    return [name for (name,) in shell.run("show tables").fetchall()]


@command(".tables [PATTERN]", "table")
def tables(shell: Shell, pattern: str = "*") -> None:
    """Tables and views; a pattern may have * and ?.

    .tables line*
    """
    names = [n for n in table_names(shell) if fnmatch.fnmatchcase(n.lower(), pattern.lower())]
    if names:
        shell.output.text("\n".join(names))


@command(".schema [TABLE]", "table")
def schema(shell: Shell, table: str | None = None) -> None:
    """Columns of a table, or of all tables, as SQL."""
    names = table_names(shell)
    if table is not None:
        chosen = [n for n in names if n.lower() == table.lower()]
        if not chosen:
            raise CatalogError(f'There is no table "{table}"', hint=nearest(table, names) or None)
        names = chosen
    if names:
        shell.output.text("\n".join(_definition(shell, name) for name in names))


def _definition(shell: Shell, name: str) -> str:
    entry = shell.connection._session.catalog.get(name)
    shown = name if name.isidentifier() and name.islower() else quoted(name)
    if entry is not None and hasattr(entry, "sql"):
        return f"CREATE VIEW {shown} AS {entry.sql.strip().rstrip(';')};"
    columns = shell.run(f"describe {quoted(name)}").fetchall()
    lines = []
    for column, type_, null, *_ in columns:
        column = column if column.isidentifier() and column.islower() else quoted(column)
        lines.append(f"    {column} {type_}{' NOT NULL' if null == 'NO' else ''}")
    return f"CREATE TABLE {shown} (\n" + ",\n".join(lines) + "\n);"


@command(".mode [NAME]", "|".join(MODES))
def mode(shell: Shell, name: str | None = None) -> None:
    """How results are shown: table, csv, json, markdown, line.

    table     a frame; on a terminal the first and last rows, and as many columns as
              fit. box is another name for it
    csv       comma-separated values with a header
    json      an array of objects
    markdown  a table in Markdown
    line      a line for each value: for wide tables
    """
    if name is None:
        shell.output.text(shell.output.mode)
    else:
        shell.output.mode = choice("mode", name, MODES)


@command(".output [FILE]", "file")
def output(shell: Shell, path: str | None = None) -> None:
    """Send results to a file, or back to the screen.

    They are written in the mode, with all rows and columns. A file that is there is
    overwritten. Without a FILE results go to the screen again.
    """
    shell.output.to_file(path)


@command(".pager [on|off]", "on|off")
def pager(shell: Shell, state: str | None = None) -> None:
    """Page what is longer than the screen, or not.

    The pager is $FINEQUERY_PAGER, $PAGER or "less -SRFX". Output that is piped, or
    sent to a file, never is.
    """
    if state is not None:
        shell.output.pager = choice("pager", state, ON_OFF) == "on"
    else:
        words = screen.pager_command() if shell.output.pager else []
        shell.output.text(f"on: {' '.join(words)}" if words else "off")


@command(".maxrows [N|auto]", "auto")
def maxrows(shell: Shell, number: str | None = None) -> None:
    """Most rows of a table that are shown.

    Half of them from each end; 0 shows all. auto, which it is at first, is 1000 with
    a pager, 40 without one, and all where output is piped or sent to a file. Other
    modes show all rows.
    """
    if number is None:
        shell.output.text("auto" if shell.output.max_rows is None else str(shell.output.max_rows))
    elif number.isdigit():
        shell.output.max_rows = int(number)
    elif number == "auto":
        shell.output.max_rows = None
    else:
        raise ProgrammingError(f".maxrows {number}: it is a number, or auto")


@command(".timer [on|off]", "on|off")
def timer(shell: Shell, state: str | None = None) -> None:
    """Print how long each statement took, or not.

    On a simulated board also what it would take there.
    """
    if state is None:
        shell.output.text("on" if shell.timer else "off")
    else:
        shell.timer = choice("timer", state, ON_OFF) == "on"


@command(".read FILE", "file")
def read(shell: Shell, path: str) -> None:
    """Run a file of statements and dot commands.

    It ends at the first error, which is printed with its line.
    """
    path = os.path.expanduser(path)
    real = os.path.realpath(path)
    if real in shell.reading:
        raise FileError(f"'{path}' reads itself")
    text = read_file(path)
    shell.reading.append(real)
    try:
        shell.script(text, path)
    finally:
        shell.reading.pop()


@command(".import FILE TABLE", "file", "table")
def import_(shell: Shell, path: str, table: str) -> None:
    """Load Parquet, CSV or TSV files into a table.

    The table is made unless it is there; then the rows are added, by position. FILE
    may have * and ?:

    .import 'logs/*.parquet' logs
    """
    source = literal(os.path.expanduser(path))
    if shell.connection._session.catalog.get(table) is None:
        relation = shell.run(f"create table {quoted(table)} as select * from {source}")
    else:
        relation = shell.run(f"insert into {quoted(table)} select * from {source}")
    if shell.interactive:
        shell.show(relation)


@command(".open [PATH ...]", "file", "...")
def open_(shell: Shell, *paths: str) -> None:
    """Open another database, or Parquet and CSV files.

    Without a PATH one in memory. A database is a directory. It is made if its name is
    a path or has an ending (shop.fq, ./shop). Settings stay. Tables in memory are gone.
    """
    from finequery.shell.opening import connect_to

    before = shell.connection
    settings = {name: value for name, value in before.settings.items() if value is not None}
    opened = before._session.catalog.path
    if opened is not None and any(os.path.realpath(os.path.expanduser(p)) == os.path.realpath(opened) for p in paths):
        raise FileError(f"{opened} is open already")
    shell.connection = connect_to(paths, settings)
    shell.last = None
    before.close()
