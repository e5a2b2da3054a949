"""A program in a pseudo-terminal, and what a person would see there: for tests, and for the pictures of docs."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence

import pexpect
import pyte

from finequery.operators import native

#: Seconds until what is waited for has to be there, on a machine that does other things too.
PATIENCE = 60.0


class Terminal:
    """``finequery`` with ``arguments`` in a terminal of its own. A variable that is None is not set."""

    def __init__(
        self,
        arguments: Sequence[str] = (),
        *,
        home: str | os.PathLike[str],
        columns: int = 80,
        rows: int = 24,
        program: Sequence[str] = (sys.executable, "-m", "finequery"),
        **environment: str | None,
    ) -> None:
        variables: dict[str, str | None] = {
            **os.environ,
            "HOME": str(home),
            "FINEQUERY_CACHE": str(native.cache_directory().parent),  # where kernels are compiled already
            "TERM": "xterm-256color",
            "XDG_CONFIG_HOME": None,
            "NO_COLOR": None,
            "PAGER": None,
            "LESS": None,
            "LANG": "C.UTF-8",
            **environment,
        }
        self.display = pyte.HistoryScreen(columns, rows, history=2000)
        self.stream = pyte.ByteStream(self.display)
        self.raw = b""
        words = [*program, *arguments]
        self.child = pexpect.spawn(
            words[0],
            list(words[1:]),
            env={k: v for k, v in variables.items() if v is not None},
            dimensions=(rows, columns),
            timeout=PATIENCE,
        )
        self.child.delaybeforesend = None  # keys are pressed at once, not 50 ms later
        self.display.write_process_input = self.child.send  # answers to questions of where the cursor is

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        self.child.close(force=True)

    @property
    def lines(self) -> list[str]:
        """The screen, without empty lines at its end."""
        return self.text.split("\n")

    @property
    def text(self) -> str:
        return "\n".join(line.rstrip() for line in self.display.display).rstrip()

    def send(self, text: str) -> None:
        """Press keys."""
        self.child.send(text)

    def pump(self, seconds: float = 0.02) -> bool:
        """Take what is written within so much time; False when the program has closed the terminal."""
        end = time.monotonic() + seconds
        while True:
            try:
                data = self.child.read_nonblocking(65536, 0.01)
                self.raw += data
                self.stream.feed(data)
            except pexpect.TIMEOUT:
                pass
            except pexpect.EOF:
                return False
            if time.monotonic() >= end:
                return True

    def wait(self, text: str, gone: bool = False) -> None:
        """Until the screen shows ``text`` (or, with ``gone``, no longer does)."""
        end = time.monotonic() + PATIENCE
        while (text in self.text) == gone:
            if not self.pump() or time.monotonic() > end:
                if (text in self.text) != gone:
                    return
                raise AssertionError(f"{text!r} {'still' if gone else 'never'} on the screen:\n{self.text}")

    def prompt(self, prompt: str = "finequery>") -> None:
        """Until the last line is an empty prompt."""
        end = time.monotonic() + PATIENCE
        while self.lines[-1].strip() != prompt:
            if not self.pump() or time.monotonic() > end:
                raise AssertionError(f"no prompt {prompt!r}:\n{self.text}")

    def run(self, text: str, prompt: str = "finequery>") -> list[str]:
        """Type a line at a fresh prompt; what the screen shows between it and the next prompt."""
        self.prompt(prompt)
        self.display.reset()
        self.send(text + "\r")
        end = time.monotonic() + PATIENCE
        while True:
            alive = self.pump()
            lines = self.lines
            if len(lines) > 1 and lines[-1].strip() == prompt:
                return lines[1:-1]
            if not alive or time.monotonic() > end:
                raise AssertionError(f"no answer to {text!r}:\n{self.text}")

    def leave(self) -> int:
        """Ctrl-D; the exit code."""
        self.send("\x04")
        return self.exit()

    def exit(self) -> int:
        """Until the program ends; its exit code."""
        end = time.monotonic() + PATIENCE
        while self.pump():
            if time.monotonic() > end:
                raise AssertionError(f"it does not end:\n{self.text}")
        self.child.close()
        return int(self.child.exitstatus if self.child.exitstatus is not None else 128 + self.child.signalstatus)
