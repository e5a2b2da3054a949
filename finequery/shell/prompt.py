"""The input line by prompt_toolkit: several lines, colours, completion and history."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.filters import Condition
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.history import History
from prompt_toolkit.input import Input
from prompt_toolkit.input.typeahead import get_typeahead, store_typeahead
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.keys import Keys
from prompt_toolkit.lexers import Lexer
from prompt_toolkit.output import ColorDepth
from prompt_toolkit.styles import Style

from finequery.shell import history, screen
from finequery.shell.interactive import prompts, warm
from finequery.shell.keywords import KEYWORDS, TYPES
from finequery.shell.tokens import finished, tokens

if TYPE_CHECKING:
    from finequery.shell.shell import Shell

#: The terminal's own colours, so that they suit its background.
STYLE = Style.from_dict(
    {
        "prompt": "ansicyan",
        "keyword": "ansiblue bold",
        "type": "ansicyan",
        "function": "ansimagenta",
        "string": "ansigreen",
        "number": "ansiyellow",
        "comment": "ansibrightblack italic",
        "command": "ansimagenta bold",
        "completion-menu.completion": "bg:ansibrightblack ansiwhite",
        "completion-menu.completion.current": "bg:ansicyan ansiblack",
        "completion-menu.meta.completion": "bg:ansibrightblack ansiwhite",
        "completion-menu.meta.completion.current": "bg:ansicyan ansiblack",
    }
)
_KEYWORDS, _TYPES = frozenset(KEYWORDS), frozenset(TYPES)


def prompt(shell: Shell) -> Callable[[], str]:
    """A function that reads one complete input. Enter before the ``;`` begins a new line; Alt-Enter runs what there
    is."""
    keys = KeyBindings()
    coloured = screen.coloured(sys.stdout, shell.colour)
    session: PromptSession[str] = PromptSession(
        history=_History(),
        completer=_Completer(shell),
        complete_while_typing=False,
        multiline=True,
        key_bindings=keys,
        lexer=_Lexer(),
        style=STYLE if coloured else None,
        color_depth=None if coloured else ColorDepth.DEPTH_1_BIT,
        include_default_pygments_style=False,
        prompt_continuation=lambda width, line, wrapped: [("class:prompt", "...> ".rjust(width))],
    )

    @Condition
    def ready() -> bool:
        return finished(session.default_buffer.text)

    @keys.add("enter", filter=ready)
    def _(event: KeyPressEvent) -> None:
        event.current_buffer.validate_and_handle()

    def read() -> str:
        text = session.prompt([("class:prompt", prompts(shell)[0])], pre_run=warm)
        if _interrupted(session.input):
            shell.complain("Interrupted", "")
            return ""
        return text

    return read


def _interrupted(keyboard: Input) -> bool:
    """Whether Ctrl-C was pressed behind the Enter, but while the prompt still had the terminal: there it is a key and
    no signal, which would wait for the next prompt while the statement runs. What was typed before it is dropped."""
    keys = [*get_typeahead(keyboard), *keyboard.read_keys()]
    behind = max((i for i, press in enumerate(keys, 1) if press.key in (Keys.ControlC, Keys.SIGINT)), default=0)
    store_typeahead(keyboard, keys[behind:])
    return behind > 0


class _Completer(Completer):
    def __init__(self, shell: Shell) -> None:
        self._shell = shell

    def get_completions(self, document: Document, event: CompleteEvent) -> Iterator[Completion]:
        from finequery.shell.completion import complete

        position = document.cursor_position
        with contextlib.suppress(Exception):  # what was typed must not be lost to a defect of what helps to type it
            for found in complete(self._shell, document.text, position):
                yield Completion(found.text, start_position=found.start - position, display_meta=found.about)


class _History(History):
    def load_history_strings(self) -> Iterable[str]:
        return reversed(history.load())

    def store_string(self, string: str) -> None:
        if string.strip():
            history.append(string)


class _Lexer(Lexer):
    def lex_document(self, document: Document) -> Callable[[int], StyleAndTextTuples]:
        lines = list(_coloured(document.text))
        return lambda number: lines[number] if number < len(lines) else []


def _coloured(text: str) -> Iterator[StyleAndTextTuples]:
    """The lines of a text in pieces with their styles."""
    if text.lstrip().startswith("."):
        name, space, rest = text.partition(" ")
        pieces: list[tuple[str, str]] = [("class:command", name), ("", space + rest)]
    else:
        pieces = []
        found = list(tokens(text))
        for token, after in zip(found, [*found[1:], None]):
            call = after is not None and after.text == "("
            pieces.append((_style(token.kind, token.text.upper(), call), token.text))
    line: Any = []
    for style, part in pieces:
        first, *others = part.split("\n")
        line.append((style, first))
        for other in others:
            yield line
            line = [(style, other)]
    yield line


def _style(kind: str, upper: str, call: bool) -> str:
    if kind != "word":
        return f"class:{kind}" if kind in ("string", "number", "comment") else ""
    if upper in _KEYWORDS and not (call and upper in ("LEFT", "RIGHT", "REPLACE", "FIRST", "LAST", "RANGE")):
        return "class:keyword"
    if upper in _TYPES:
        return "class:type"
    return "class:function" if call else ""
