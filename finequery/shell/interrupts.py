"""Ctrl-C while something runs.

What runs does so in a thread of its own, and the main thread waits for it: there a signal is seen at once, whatever
native code is running, and Python raises no KeyboardInterrupt in the middle of the engine or of an import.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

#: Seconds between two calls of ``stop`` once Ctrl-C was pressed: the first may come before there is anything to stop.
AGAIN = 0.05
#: So many times Ctrl-C end the process, should something not let itself be stopped.
PRESSES = 3


def run(work: Callable[[], None], stop: Callable[[], bool]) -> None:
    """Do ``work`` to its end and raise what it raised. Ctrl-C calls ``stop``, which asks it to end soon, and says
    whether it did (False: Ctrl-C is somebody else's just now, such as the pager's)."""
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        work()
        return
    raised: list[BaseException] = []
    done = threading.Lock()
    done.acquire()
    presses = 0

    def target() -> None:
        try:
            work()
        except BaseException as error:
            raised.append(error)
        finally:
            done.release()

    def pressed(*_: Any) -> None:
        nonlocal presses
        if stop():
            presses += 1
        if presses == PRESSES - 1:
            sys.stderr.write("\nStill stopping. Ctrl-C once more ends finequery.\n")
        elif presses >= PRESSES:
            os._exit(130)

    before = signal.signal(signal.SIGINT, pressed)
    try:
        with _unechoed():
            threading.Thread(target=target, name="finequery-statement", daemon=True).start()
            while not done.acquire(timeout=AGAIN):
                if presses:
                    stop()
    finally:
        signal.signal(signal.SIGINT, before)
    if raised:
        raise raised[0]


@contextlib.contextmanager
def _unechoed() -> Iterator[None]:
    """The terminal writes no ^C, which would break the line of the progress bar. A job in the background leaves the
    terminal alone."""
    before: list[Any] | None = None
    with contextlib.suppress(Exception):  # no terminal, or none of POSIX
        import termios

        if os.tcgetpgrp(0) == os.getpgrp():
            before = termios.tcgetattr(0)
            quiet = [*before]
            quiet[3] &= ~termios.ECHOCTL
            termios.tcsetattr(0, termios.TCSANOW, quiet)
    try:
        yield
    finally:
        if before is not None:
            with contextlib.suppress(Exception):
                termios.tcsetattr(0, termios.TCSANOW, before)
