"""The span of a statement, or of a conversion of its answer: from here it is watched, stopped and timed."""

from __future__ import annotations

# the functions of ``signal`` without its enumerations, which take ten microseconds
import _signal  # type: ignore[import-not-found]
import threading
from signal import SIGINT, default_int_handler
from typing import TYPE_CHECKING, Any

from finequery import progress
from finequery.errors import InterruptError, TimeoutError
from finequery.operators import watch

if TYPE_CHECKING:
    from finequery.session import Session


_INTERRUPT = int(SIGINT)


class Working:
    """``with session.working(text)``: what runs inside can be stopped and looked at; inside of another one it is part
    of that. What a stop raises comes out as InterruptError, or TimeoutError where its time was over.

    Ctrl-C raises KeyboardInterrupt wherever the main thread is, as always, and also tells the watch: an exception that
    Python drops because it came upon a destructor is not lost. While a span begins or ends it raises nothing, which
    would leave the span half begun or half ended; InterruptError comes then."""

    __slots__ = ("_handles", "_inside", "_late", "_outer", "_seconds", "_session", "_text", "_token", "watch")

    def __init__(self, session: Session, text: str, seconds: float | None):
        self._session, self._text, self._seconds = session, text, seconds

    def __enter__(self) -> watch.Watch:
        self._outer = watch.current.get()
        if self._outer is not None:
            return self._outer
        session = self._session
        limit = session.settings["timeout"] if self._seconds is None else self._seconds or None
        self.watch = watch.Watch(self._text, limit, session)
        self._inside = self._late = False
        self._handles = (
            threading.get_ident() == threading.main_thread().ident
            and _signal.getsignal(_INTERRUPT) is default_int_handler
        )
        if self._handles:
            _signal.signal(_INTERRUPT, self._interrupted)
        self._token = watch.current.set(self.watch)
        session.running.append(self.watch)
        try:
            progress.enter(self.watch)
        except BaseException:  # no thread is to be had
            self._end()
            raise
        self._inside = True
        return self.watch

    def _interrupted(self, number: int, frame: Any) -> None:
        self.watch.stop()
        if self._inside and frame.f_code is not Working.__exit__.__code__:
            raise KeyboardInterrupt
        self._late = True

    def _end(self) -> None:
        watch.current.reset(self._token)
        self._session.running.remove(self.watch)
        progress.leave(self.watch)
        if self._handles:
            _signal.signal(_INTERRUPT, default_int_handler)

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if self._outer is not None:
            return
        self._inside = False
        mine = self.watch
        self._end()
        if mine.abandoned:
            self._session.plans.clear()
            if mine.plan is not None:
                mine.plan.root.spoiled = True
        mine.plan = mine.context = mine.look = None  # a traceback may keep it
        if isinstance(error, KeyboardInterrupt) or (error is None and self._late):
            raise watch.interrupted() from None
        if isinstance(error, InterruptError):
            error.sql = error.position = None  # the place in the text that was being read has nothing to do with it
        if isinstance(error, InterruptError) and mine.late and not mine.asked:
            assert mine.deadline is not None
            raise TimeoutError(
                f"The statement was stopped after {mine.deadline - mine.begin:g} s, its timeout",
                hint="SET timeout, or timeout= of the call, gives it longer; 0 sets no limit.",
            ) from None
