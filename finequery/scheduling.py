"""The scheduler of a query: which board it runs on, by the settings and the machine, and with which model."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from finequery.settings import AUTO

if TYPE_CHECKING:
    from finequery.jetson.board import Board
    from finequery.jetson.telemetry.observer import Observer, State
    from finequery.operators.context import Context
    from finequery.perfmodel.model import Model
    from finequery.plan_cache import Plan
    from finequery.planner.scheduler import Scheduler
    from finequery.planner.stages import Site
    from finequery.planner.subtasks import PipelineInfo
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
    site, model = _site(settings, context, board)
    key = tuple(settings[name] for name in ("board", "device", "objective", "gpu_load", "threads"))
    scheduler = plan.schedulers.get(key)
    if scheduler is None:
        scheduler = plan.schedulers[key] = _make(settings, plan, context, site, model)
    scheduler.begin(site, model)
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


@functools.lru_cache(maxsize=1)
def observer() -> Observer:
    """What tells this machine's clocks and what others do to its GPU; made when a query is first placed on one."""
    from finequery.jetson.telemetry.observer import Observer

    return Observer()


@functools.lru_cache(maxsize=16)
def model_of(board: Board, simulated: bool = False) -> Model:
    """The performance model of a board: the real one's, or that of its simulator."""
    from finequery.perfmodel.model import load_model

    return load_model(board, corrected=not simulated)


def expected(settings: Settings, plan: Plan, context: Context) -> tuple[list[PipelineInfo], list[list[float]]]:
    """The pipelines of a plan that runs, and the seconds that each of their sub-tasks is expected to take: where it was
    placed, else on this machine's CPU."""
    from finequery.perfmodel.model import Variant
    from finequery.planner.features import features
    from finequery.planner.subtasks import split

    scheduler: Any = context.scheduler
    pipelines = scheduler.pipelines if scheduler is not None else split(plan.root)
    parts = [list(map(features, info.subtasks)) for info in pipelines]
    model = model_of(board_named("host"))
    prices = model.price_all(parts, [Variant("cpu", threads=context.pool.threads)])
    seconds = iter(prices.seconds[0].tolist())
    found = [[next(seconds) for _ in part] for part in parts]
    if scheduler is not None and not scheduler.simulated:
        for place, item in enumerate(scheduler.schedule.placed):
            whole = sum(found[place])
            if whole > 0.0:
                found[place] = [s * item.chosen.price.seconds / whole for s in found[place]]
    return pipelines, found


@functools.lru_cache(maxsize=64)
def _model_at(board: Board, now: Board) -> Model:
    """A board's model at the clocks of ``now``."""
    return model_of(board) if now == board else model_of(board).at(now)


@contextlib.contextmanager
def ours(context: Context) -> Iterator[None]:
    """What is on the GPU in this block is no load of others."""
    if context.gpu is None or context.gpu.info.simulated or not observer.cache_info().currsize:
        yield
        return
    with observer().ours() as spans:
        try:
            yield
        finally:
            found = (span for measured in context.measured.values() for span in measured.spans)
            spans += [(begin, end) for device, begin, end in found if device == "gpu"]


#: Steps of a share of a clock: less is not worth placing plans anew.
_STEP = 0.05


def at_state(board: Board, state: State) -> tuple[Board, Board]:
    """This machine's board in the power mode that is set, and that at the clocks that are in force."""
    from finequery.jetson.board import at_clocks, in_mode

    board = in_mode(board, state.mode) if state.mode else board

    def held(now: float | None, full: float | None) -> float:
        if not now or not full:
            return 1.0
        return min(max(round(now / full / _STEP), 1) * _STEP, 1.0)

    # The memory's clock follows the load, and what it goes up to is known from the mode alone.
    gpu = board.gpu.mhz if board.gpu is not None else None
    return board, at_clocks(board, held(state.cpu_mhz, board.cpu.mhz), held(state.gpu_mhz, gpu))


def _site(settings: Settings, context: Context, board: Board) -> tuple[Site, Model]:
    """Where a query runs now, and its model. Of a real GPU the machine tells clocks and load."""
    from finequery.planner.stages import Site

    load = settings["gpu_load"]
    if settings["board"]:
        threads, model = board.cpu.cores, model_of(board, simulated=True)
    elif board.gpu is None:
        threads, model = context.pool.threads, model_of(board)
    else:
        state = observer().state()
        moded, board = at_state(board, state)
        threads, model = context.pool.threads, _model_at(moded, board)
        load = state.gpu_load if load == AUTO else load
    return Site(board, threads, {} if load in (AUTO, 0.0) else {"gpu": load}), model


def _board(settings: Settings, context: Context) -> Board | None:
    if settings["board"]:
        return board_named(settings["board"])
    if context.gpu is None or settings["device"] != "auto":
        return None
    return described()


def _make(settings: Settings, plan: Plan, context: Context, site: Site, model: Model) -> Scheduler:
    from finequery.planner.candidates import Asked
    from finequery.planner.scheduler import Scheduler
    from finequery.planner.subtasks import split

    pipelines, simulated = split(plan.root), bool(settings["board"])
    asked = Asked(settings["device"], settings["objective"])
    if site.board.gpu is not None:
        asked.reasons, asked.cuts = _ways(pipelines, plan, context)
    elif not simulated:  # priced for EXPLAIN: where there is no choice nothing schedules runs
        asked.forms = frozenset()
    return Scheduler(pipelines, site, model, asked, simulated)


def _ways(
    pipelines: list[PipelineInfo], plan: Plan, context: Context
) -> tuple[dict[int, tuple[str, ...]], dict[int, tuple[int, ...]]]:
    """By pipeline: why the GPU can't run it, and where it may be cut."""
    from finequery.operators.cuda import support
    from finequery.operators.cuts import cuts

    found = support.reasons(plan.root, context)
    reasons: dict[int, tuple[str, ...]] = {}
    places: dict[int, tuple[int, ...]] = {}
    for info in pipelines:
        texts = [r.text for item in info.runs for r in found.get(id(item), []) if r.certain]
        if texts:
            reasons[info.number] = tuple(dict.fromkeys(texts))
        running = [item for item in info.runs if hasattr(item, "steps")]
        if len(running) == 1:
            places[info.number] = tuple(cuts(running[0]))
    return reasons, places
