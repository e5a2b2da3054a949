"""The command line of ``finequery``: programs by their first word, else the shell with its options and exit codes."""

from __future__ import annotations

import atexit
import gc
import importlib
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from finequery import __version__
from finequery.errors import Error
from finequery.shell import screen
from finequery.shell.output import Output
from finequery.shell.shell import Shell, error_text, read_file

if TYPE_CHECKING:
    import argparse

#: First words that are programs of their own: the modules whose ``main`` takes the words after them.
PROGRAMS = {
    "advise": "finequery.advise",
    "bench": "finequery.bench.command",
    "calibrate": "finequery.calibration",
    "compare": "finequery.compare.command",
    "devices": "finequery.devices",
    "top": "finequery.top",
}

#: Exit codes. FAILED: an SQL statement or a dot command; what came after it was not run. USAGE: nothing was run, for
#: a wrong option, or a file or database that can't be opened. The others are 128 and the signal, as in every shell.
OK, FAILED, USAGE, INTERRUPTED, BROKEN_PIPE = 0, 1, 2, 130, 141

EPILOG = """\
Without -c, -f or piped input it reads SQL from the terminal; .help lists what
else can be typed there. A PATH that is not there becomes a new database if it
looks like a path (shop.fq, ./shop) or with --create.

programs:
  finequery devices     the processor, the GPU, the sensors
  finequery top         a live view of the machine and its queries
  finequery bench       SSB, TPC-H and others, beside other engines
  finequery compare     this machine or a board beside another
  finequery advise      which board meets a target, for your own queries
  finequery calibrate   measure what sub-tasks take on this machine
  (each has its own --help)

exit codes:
  0  all went well
  1  a statement or dot command failed; those after it were not run
  2  nothing was run: a wrong option, a file or database that can't be opened
  130  stopped by Ctrl-C          141  the reader of a pipe went away
"""


def _parser() -> argparse.ArgumentParser:
    import argparse

    parser = argparse.ArgumentParser(
        prog="finequery",
        usage="finequery [options] [PATH ...]\n       finequery PROGRAM ...",
        description="SQL on Parquet, CSV and FineQuery databases.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )

    class Script(argparse.Action):
        """-c and -f, in the order in which they were given."""

        def __call__(self, parser: Any, options: Any, values: Any, option: Any = None) -> None:
            options.scripts = [*(options.scripts or ()), (option.strip("-")[0], values)]

    add = parser.add_argument
    add(
        "paths",
        nargs="*",
        metavar="PATH",
        help="a database (a directory), or Parquet and CSV files: tables by their names",
    )
    add("-c", "--command", metavar="SQL", dest="scripts", action=Script, help="run this and leave; may come again")
    add("-f", "--file", metavar="FILE", dest="scripts", action=Script, help="run a script and leave; - is stdin")
    add("--create", action="store_true", help="make the database if it is not there, whatever its name")
    modes = parser.add_mutually_exclusive_group()
    for mode in ("csv", "json", "markdown", "line"):
        modes.add_argument(f"--{mode}", dest="mode", action="store_const", const=mode, help=f"results as {mode}")
    add("--timer", action="store_true", help="print how long each statement took")
    add("--threads", type=int, metavar="N", help="worker threads")
    add("--memory-limit", metavar="SIZE", help="such as 4GB")
    add("--device", choices=("auto", "cpu", "gpu"), help="where queries run")
    add("--board", metavar="NAME", help="a board to simulate, such as agx-xavier")
    add("--no-color", dest="colour", action="store_false", help="no colours; $NO_COLOR says the same")
    add("--no-pager", dest="pager", action="store_false", help="print long results as they are")
    add("--no-rc", dest="rc", action="store_false", help="do not read ~/.config/finequery/shellrc")
    add("--version", action="version", version=f"finequery {__version__}")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """The ``finequery`` command; its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if given and given[0] in PROGRAMS:
            code = int(importlib.import_module(PROGRAMS[given[0]]).main(given[1:]))
            sys.stdout.flush()
            return code
        return _main(_parser().parse_args(given))
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # the reader of a pipe went away, as head does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE


def _main(options: argparse.Namespace) -> int:
    from finequery.shell.opening import connect_to

    gc.set_threshold(100_000)  # imports make many objects and no garbage
    atexit.register(gc.freeze)  # nor is there any use in looking through them once more at the end
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # nothing here uses BLAS, and its threads take time to start
    settings = {name: getattr(options, name) for name in ("threads", "memory_limit", "device", "board")}
    try:
        scripts = [("-c", text) if kind == "c" else (text, read_file(text)) for kind, text in options.scripts or ()]
        connection = connect_to(options.paths, settings, options.create, tuple(PROGRAMS))
    except Error as error:
        print(": ".join(error_text(error)), file=sys.stderr)
        return USAGE
    shell = Shell(connection, Output(options.mode or "table", options.pager), colour=options.colour)
    shell.timer = options.timer
    try:
        if not scripts and screen.is_terminal(sys.stdin):
            from finequery.shell.interactive import interact

            interact(shell, options.rc)
            return OK
        return _run(shell, scripts or [("", sys.stdin.read())])
    finally:
        shell.close()


def _run(shell: Shell, scripts: list[tuple[str, str]]) -> int:
    for name, text in scripts:
        shell.enter(text, "" if name == "-c" else name)
        if shell.failed:
            return INTERRUPTED if shell.output.stopping else FAILED
        if shell.done:
            break
    sys.stdout.flush()
    return OK
