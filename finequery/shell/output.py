"""How and where results are shown: the mode, the file of ``.output``, the pager, how many rows."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

from finequery import display
from finequery.errors import FileError, InterruptError
from finequery.shell import screen
from finequery.shell.formats import FORMATS

if TYPE_CHECKING:
    from finequery.display import Row
    from finequery.relation import Relation

#: ``box`` is another word for ``table``.
MODES = ("table", *FORMATS, "box")
#: Rows of a table on a terminal, where a pager shows it and where none does: the first and the last of them.
PAGED_ROWS, ROWS = 1000, 40
#: Rows made into text at once; then Ctrl-C is seen.
CHUNK = 8192

Write = Callable[[str], bool]


class Output:
    """Everything the shell prints that is no message."""

    def __init__(self, mode: str = "table", pager: bool = True) -> None:
        self.mode = mode
        self.pager = pager
        self.max_rows: int | None = None  # of a table; None: as many as the place it goes to has room for
        self.path: str | None = None  # of the file that results go to
        self.paging = False
        self.stopping = False  # Ctrl-C was pressed
        self._file: IO[str] | None = None

    def to_file(self, path: str | None) -> None:
        """Send what follows to a new file, or back to the screen. FileError where it can't be written."""
        file = None
        if path is not None:
            path = os.path.expanduser(path)
            try:
                file = open(path, "w", encoding="utf-8")  # noqa: SIM115 (open until the next .output)
            except OSError as error:
                raise FileError(f"Can't write '{path}': {error.strerror}") from None
        if self._file is not None:
            self._file.close()
        self._file, self.path = file, path

    @property
    def on_terminal(self) -> bool:
        """Whether results go to a screen."""
        return self._file is None and screen.is_terminal(sys.stdout)

    @contextmanager
    def lines(self) -> Iterator[Write]:
        """A function that writes lines; it says whether more are wanted."""
        if self._file is not None:
            file, path = self._file, self.path

            def write(line: str) -> bool:
                try:
                    file.write(line + "\n")
                except OSError as error:
                    raise FileError(f"Can't write '{path}': {error.strerror}") from None
                return True

            yield write
            file.flush()
            return
        shown = screen.Screen(self.pager, self._pages)
        try:
            yield shown.write
        finally:
            shown.close()

    def _pages(self, on: bool) -> None:
        self.paging = on

    def text(self, text: str) -> None:
        """Print a text."""
        with self.lines() as write:
            write(text)

    def relation(self, relation: Relation) -> None:
        """Print a result in the mode. InterruptError when Ctrl-C is pressed meanwhile."""
        names, types = relation.columns, relation.types
        form = FORMATS.get(self.mode)
        if form is None:
            self.text(self._table(relation))
            return
        with self.lines() as write:
            for line in form(names, types, self._chunks(relation)):
                if not write(line):
                    return

    def _chunks(self, relation: Relation, start: int = 0, stop: int | None = None) -> Iterator[Sequence[Row]]:
        stop = len(relation) if stop is None else stop
        for first in range(start, stop, CHUNK):
            if self.stopping:
                raise InterruptError("the output was stopped")
            yield relation.shown_rows(first, min(first + CHUNK, stop))

    def _table(self, relation: Relation) -> str:
        width, total = screen.size()[0], len(relation)
        if self.max_rows is not None:
            room = self.max_rows or total
        elif self.on_terminal:
            room = PAGED_ROWS if self.pager and screen.pager_command() else ROWS
        else:
            room = total
        if not self.on_terminal:
            width = sys.maxsize
        split = total if total <= room else (room + 1) // 2
        head = [row for rows in self._chunks(relation, 0, split) for row in rows]
        tail = [row for rows in self._chunks(relation, max(split, total - room // 2)) for row in rows]
        hint = ".mode line shows all"
        return display.box(relation.columns, relation.types, head, tail, total, width, hint)
