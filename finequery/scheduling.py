"""The scheduler of a query: which board it runs on, by the settings and the machine, and with which model."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from finequery.jetson.board import Board
    from finequery.operators.context import Context
    from finequery.perfmodel.model import Model
    from finequery.plan_cache import Plan
    from finequery.planner.scheduler import Scheduler
    from finequery.settings import Settings


def schedule(settings: Settings, plan: Plan, context: Context, shown: bool = False) -> Scheduler | None:
    """Put a scheduler into the context of a query that may run on two devices; None where there is nothing to choose:
    the machine has one device, or no board describes it. ``shown``: EXPLAIN wants to say what the CPU alone is expected
    to take."""
    board = _board(settings, context)
    if board is None and shown and context.gpu is None:
        board = board_named("host")
    if board is None:
        return None
    key = tuple(settings[name] for name in ("board", "device", "objective", "gpu_load", "threads"))
    scheduler = plan.schedulers.get(key)
    if scheduler is None:
        scheduler = plan.schedulers[key] = _make(settings, plan, context, board)
    scheduler.begin()
    context.scheduler = scheduler
    return scheduler


@functools.lru_cache(maxsize=16)
def board_named(name: str) -> Board:
    """A board of the library."""
    from finequery.jetson import board

    return board.load(name)


@functools.lru_cache(maxsize=16)
def posing(name: str) -> Any:
    """Threads that pose as the GPU of a simulated board; None for a board without one."""
    from finequery.operators.sides import Posing

    return Posing() if board_named(name).gpu is not None else None


@functools.lru_cache(maxsize=1)
def described() -> Board | None:
    """The board of the library that describes this machine's GPU, if it has one."""
    from finequery.jetson import driver

    if driver.load()[0] is None:
        return None
    from finequery.jetson import board, device

    info = device.probe()
    return None if info is None or info.simulated else board.of_device(info.board or info.name)


@functools.lru_cache(maxsize=16)
def model_of(board: Board) -> Model:
    """The performance model of a board."""
    from finequery.perfmodel.model import load_model

    return load_model(board)


def _board(settings: Settings, context: Context) -> Board | None:
    if settings["board"]:
        return board_named(settings["board"])
    if context.gpu is None or settings["device"] != "auto":
        return None
    return described()


def _make(settings: Settings, plan: Plan, context: Context, board: Board) -> Scheduler:
    from finequery.operators.cuda import support
    from finequery.operators.cuts import cuts
    from finequery.planner.candidates import Asked
    from finequery.planner.scheduler import Scheduler
    from finequery.planner.stages import Site
    from finequery.planner.subtasks import split

    simulated = bool(settings["board"])
    pipelines = split(plan.root)
    found = support.reasons(plan.root, context) if board.gpu is not None else {}
    reasons, places = {}, {}
    for info in pipelines:
        texts = [r.text for item in info.runs for r in found.get(id(item), []) if r.certain]
        if texts:
            reasons[info.number] = tuple(dict.fromkeys(texts))
        running = [item for item in info.runs if hasattr(item, "steps")]
        if len(running) == 1:
            places[info.number] = tuple(cuts(running[0]))
    asked = Asked(settings["device"], settings["objective"], reasons, places)
    load = {"gpu": settings["gpu_load"]} if settings["gpu_load"] else {}
    threads = board.cpu.cores if simulated else context.pool.threads
    return Scheduler(pipelines, Site(board, threads, load), model_of(board), asked, simulated)
