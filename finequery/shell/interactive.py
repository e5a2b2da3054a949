"""The loop at the terminal: the start file, then what is typed, until Ctrl-D or ``.quit``."""

from __future__ import annotations

import contextlib
import functools
import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from finequery import __version__
from finequery.shell import screen
from finequery.shell.shell import read_file

if TYPE_CHECKING:
    from finequery.shell.shell import Shell


def rc_path() -> str | None:
    """The start file: $XDG_CONFIG_HOME/finequery/shellrc (~/.config), or ~/.finequeryrc; None if there is none."""
    config = os.environ.get("XDG_CONFIG_HOME") or os.path.join(os.path.expanduser("~"), ".config")
    places = (os.path.join(config, "finequery", "shellrc"), os.path.join(os.path.expanduser("~"), ".finequeryrc"))
    return next((path for path in places if os.path.isfile(path)), None)


def interact(shell: Shell, rc: bool = True) -> None:
    """Read from the terminal and run. ``rc``: after the start file."""
    shell.interactive = True
    print(f"FineQuery {__version__}. End a statement with ; — .help for help, Ctrl-D to leave.")
    board = shell.connection.settings["board"]
    if board:
        print(f"Simulated board: {board}. Answers are this machine's; the times of EXPLAIN ANALYZE are the board's.")
    start = rc_path() if rc else None
    if start is not None:
        shell.enter(read_file(start), start)
    read = reader(shell)
    while not shell.done:
        try:
            text = read()
            if text.strip():
                shell.enter(text)
        except KeyboardInterrupt:  # at the prompt, or on the way from it to what handles Ctrl-C while something runs
            continue
        except EOFError:
            break
    for thread in _warming:  # an import that goes on while Python ends would crash it
        thread.join()


_warming: list[threading.Thread] = []


@functools.cache
def warm() -> None:
    """Import the planner while the first statement is being typed: neither the prompt nor the answer waits for it."""

    def plan() -> None:
        from finequery.catalog import Catalog
        from finequery.resolver import Scope
        from finequery.session import Session
        from finequery.settings import Settings

        with contextlib.suppress(Exception):
            import finequery.operators.executor  # noqa: F401 (what runs it)
            from finequery.planner.parse import parse

            session = Session(Catalog(), Settings())  # no statement of it is watched, so none is drawn
            session.prepare(parse("select 42")[0], {}, session.resolver(Scope()))

    _warming.append(threading.Thread(target=plan, name="finequery-warm", daemon=True))
    _warming[-1].start()


def reader(shell: Shell) -> Callable[[], str]:
    """A function that reads one complete input. Completion, colours and editing over several lines need prompt_toolkit
    and a terminal that moves its cursor."""
    if not screen.is_dumb():
        with contextlib.suppress(ImportError):
            from finequery.shell.prompt import prompt

            return prompt(shell)
    from finequery.shell.plain_prompt import prompt as plain

    return plain(shell)


def prompts(shell: Shell) -> tuple[str, str]:
    """The prompt, with the database and the simulated board, and that of the lines after the first."""
    board = shell.connection.settings["board"]
    first = f"{shell.name}{f'[{board}]' if board else ''}> "
    return first, "...> ".rjust(len(first))
