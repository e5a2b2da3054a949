"""The shell's input line with colours, history and completion, by prompt_toolkit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import Completer, Completion
from prompt_toolkit.filters import Condition
from prompt_toolkit.history import FileHistory
from prompt_toolkit.key_binding import KeyBindings

from finequery import shell as shells

if TYPE_CHECKING:
    from finequery.shell import Shell


class _Completer(Completer):
    def __init__(self, shell: Shell) -> None:
        self._shell = shell

    def get_completions(self, document: Any, event: Any) -> Iterator[Completion]:
        word = document.get_word_before_cursor()
        if word:
            for name in shells.completions(self._shell, word):
                yield Completion(name, start_position=-len(word))


def prompt(shell: Shell, history: str) -> Callable[[], str]:
    """A function that reads one complete input; Enter before the ``;`` starts a new line."""
    keys = KeyBindings()
    session: PromptSession[str] = PromptSession(
        history=FileHistory(history),
        completer=_Completer(shell),
        complete_while_typing=False,
        multiline=True,
        key_bindings=keys,
        lexer=_lexer(),
        prompt_continuation=lambda width, line, wrapped: "...> ".rjust(width),
    )

    @Condition
    def ready() -> bool:
        return shells.finished(session.default_buffer.text)

    @keys.add("enter", filter=ready)
    def _(event: Any) -> None:
        event.current_buffer.validate_and_handle()

    return lambda: session.prompt("finequery> ")


def _lexer() -> Any:
    try:
        from prompt_toolkit.lexers import PygmentsLexer
        from pygments.lexers.sql import SqlLexer
    except ImportError:
        return None
    return PygmentsLexer(SqlLexer)
