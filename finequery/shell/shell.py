"""What is typed, or stands in a script, run on a connection and shown."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from finequery.errors import Error, FileError, InterruptError, ProgrammingError
from finequery.resolver import Scope
from finequery.shell import interrupts, screen
from finequery.shell.output import Output
from finequery.shell.tokens import WORDS, Input, inputs

if TYPE_CHECKING:
    from finequery.connection import Connection
    from finequery.relation import Relation


class Shell:
    """The state of one shell. Errors are printed and remembered in ``failed``; nothing after one is run."""

    def __init__(
        self, connection: Connection, output: Output | None = None, interactive: bool = False, colour: bool = True
    ) -> None:
        self.connection = connection
        self.output = output or Output()
        self.interactive = interactive
        self.colour = colour
        self.timer = False
        self.done = False  # .quit was said
        self.failed = False
        self.last: str | None = None  # the last query, for .plan and .energy
        self.reading: list[str] = []  # scripts that are being read, one inside of another

    @property
    def name(self) -> str:
        """What is open: the database's name, or ``finequery`` for one in memory."""
        name = self.connection._session.catalog.name
        return "finequery" if name == "memory" else name

    def close(self) -> None:
        """Close the connection and the file of ``.output``."""
        self.output.to_file(None)
        self.connection.close()

    def run(self, statement: str) -> Relation:
        """Run one statement; the names in it are tables and files, never variables of Python."""
        return self.bind(statement).execute()

    def bind(self, statement: str) -> Relation:
        """A query that is bound and not run yet; other statements are run."""
        if self.output.stopping:
            raise InterruptError("the query was stopped")
        relation = self.connection._session.run(statement, None, Scope())
        relation.connection = self.connection
        return relation

    def enter(self, text: str, name: str = "") -> None:
        """Run what was typed or a script of this name, up to the first error. Ctrl-C stops it."""
        self.failed = self.output.stopping = False
        interrupts.run(lambda: self.script(text, name), self.stop)

    def stop(self) -> bool:
        """Stop what runs, from another thread; False while the pager has the terminal."""
        if self.output.paging:
            return False
        self.output.stopping = True
        self.connection.interrupt()
        return True

    def script(self, text: str, name: str = "") -> None:
        """Run one input after another, in this thread."""
        if text.startswith("#!"):
            text = "--" + text
        for item in inputs(text):
            self._input(item, name)
            if self.failed or self.done:
                return

    def _input(self, item: Input, name: str) -> None:
        try:
            word = item.text.rstrip("; ").lower()
            if item.is_command or (self.interactive and word in WORDS):
                from finequery.shell.commands import execute

                execute(self, WORDS.get(word, item.text))
            else:
                self._statement(item.text)
        except Error as error:
            self.failed = True
            stopped = self.output.stopping and isinstance(error, InterruptError)
            place = f"{name}:{item.line}: " if name else ""
            if stopped:
                self.complain("Interrupted", "")
            else:
                self.complain(*error_text(error), place)
        except OSError:
            raise  # a closed pipe
        except Exception as error:  # a defect of FineQuery must not cost the user the session
            self.failed = True
            self.complain("Internal error", f"{type(error).__name__}: {error}")

    def _statement(self, text: str) -> None:
        if text.startswith("\\"):
            raise ProgrammingError("Commands begin with a dot", hint=".help lists them.")
        start = time.perf_counter()
        relation = self.run(text)
        seconds = time.perf_counter() - start
        if relation.plan is not None:
            self.last = text
        self.show(relation)
        if self.timer:
            self.output.text(f"Run time: {seconds:.3f} s{_on_board(relation)}")

    def show(self, relation: Relation) -> None:
        """Print what a statement gave."""
        names = relation.columns
        if not names:
            return
        if relation.changed is not None:
            if self.interactive:
                self.output.text(f"{relation.changed:,} row{'' if relation.changed == 1 else 's'}")
        elif names == ["explain_key", "explain_value"]:
            self.output.text(relation.fetchall()[0][1])
        else:
            self.output.relation(relation)

    def complain(self, what: str, message: str, place: str = "") -> None:
        """An error, on stderr."""
        sys.stdout.flush()
        if screen.coloured(sys.stderr, self.colour):
            what = f"\x1b[1;31m{what}\x1b[0m"
        sys.stderr.write(f"{place}{what}{': ' if message else ''}{message}\n")
        sys.stderr.flush()


def _on_board(relation: Relation) -> str:
    """What the query takes on the simulated board, if there is one."""
    if relation.plan is None or not relation.connection or not relation.connection.settings["board"]:
        return ""
    timeline = relation.timeline()
    return f"; {timeline.heading}" if timeline.simulated else ""


def error_text(error: Error) -> tuple[str, str]:
    """An error as the shell prints it: its class in words, and the message."""
    name = type(error).__name__.removesuffix("Error")
    words = "".join(" " + c.lower() if c.isupper() else c for c in name).strip()
    return (f"{words.capitalize()} error" if words else "Error"), str(error)


def read_file(path: str) -> str:
    """The text of a script; ``-`` is the standard input."""
    import os

    if path == "-":
        return sys.stdin.read()
    try:
        with open(os.path.expanduser(path), encoding="utf-8") as file:
            return file.read()
    except OSError as error:
        raise FileError(f"Can't read '{path}': {error.strerror}") from None
    except UnicodeDecodeError:
        raise FileError(f"'{path}' is not UTF-8 text") from None
