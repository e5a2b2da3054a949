"""What FineQuery logs: the logger ``finequery``, silent unless the program or the setting ``log_level`` says where to.

=======  ==============================================================================================================
DEBUG    planning: how long it took, or that a plan was there; where each pipeline was placed
INFO     every query that ran, with its time
WARNING  a pipeline that another device ran than the one asked for, with the reason; queries slower than ``log_slow``;
         variables of the environment that look like settings and are none
=======  ==============================================================================================================
"""

from __future__ import annotations

import logging
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from finequery.operators.context import Context

logger = logging.getLogger("finequery")
logger.addHandler(logging.NullHandler())

#: Characters of a statement that a line shows.
TEXT = 200
_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
_handler: logging.Handler | None = None


def set_level(name: str) -> None:
    """The setting ``log_level``: log to stderr from this level on; "off": to nobody; "default": as the program has
    it."""
    global _handler
    if name == "default" and _handler is None:
        return
    if _handler is not None:
        logger.removeHandler(_handler)
        _handler = None
        logger.setLevel(logging.NOTSET)
    if name == "off":
        logger.setLevel(logging.CRITICAL + 1)
        _handler = logging.NullHandler()
    elif name != "default":
        logger.setLevel(_LEVELS[name])
        _handler = logging.StreamHandler()
        _handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        logger.addHandler(_handler)


@lru_cache(maxsize=1)
def check_environment() -> None:
    """Once a process: variables that look like settings and are none."""
    from finequery import configuration, settings

    for variable, hint in configuration.unknown(settings.TABLE):
        logger.warning("%s in the environment is no setting. %s", variable, hint)


def short(text: str) -> str:
    """A statement on one line, cut."""
    line = " ".join(text.split())
    return line if len(line) <= TEXT else line[: TEXT - 1] + "…"


def planned(text: str, seconds: float) -> None:
    """A statement was planned."""
    logger.debug("planned in %.2f ms: %s", seconds * 1e3, short(text))


def placed(scheduler: Any) -> None:
    """A plan's pipelines were placed."""
    if logger.isEnabledFor(logging.DEBUG):
        for number, item in enumerate(scheduler.schedule.placed, 1):
            price = item.chosen.price
            where = item.chosen.text.lower() + (", simulated" if scheduler.simulated else "")
            logger.debug("pipeline %d: %s, expected %.2f ms", number, where, price.seconds * 1e3)


def departed(context: Context) -> None:
    """Pipelines that did not run where they were asked to."""
    for record in context.measured.values():
        for reason in record.departed:
            logger.warning("the CPU did what was placed on the GPU: %s", reason)


def ran(text: str, seconds: float, slow: float | None) -> None:
    """A query has run."""
    if slow is not None and seconds >= slow:
        logger.warning("slow: %.1f s: %s", seconds, short(text))
    elif logger.isEnabledFor(logging.INFO):
        logger.info("%.2f ms: %s", seconds * 1e3, short(text))
