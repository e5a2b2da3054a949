"""What EXPLAIN says of placement: the price of every candidate, and why one was chosen."""

from __future__ import annotations

import textwrap

from finequery.perfmodel.compose import Price
from finequery.planner.placement import Placed, why
from finequery.planner.scheduler import Scheduler
from finequery.planner.stages import device_works, devices
from finequery.planner.subtasks import PipelineInfo


def placed_text(scheduler: Scheduler, pipeline: PipelineInfo) -> str:
    """The device of a pipeline's header."""
    chosen = scheduler.schedule.placed[pipeline.number - 1].chosen
    beside = ", along" if chosen.placement.along else ""
    return f"{chosen.text.lower()}{beside}{' simulated' if scheduler.simulated else ''}"


def prices(scheduler: Scheduler, pipeline: PipelineInfo, width: int, measured: float | None) -> list[str]:
    """Lines for a pipeline: what it is expected to take, and, once it was run, how far from that it took; why it is
    there; all candidates; bytes by memory kind. ``measured`` seconds are None before a run."""
    place = pipeline.number - 1
    item = scheduler.schedule.placed[place]
    price = item.chosen.price
    if scheduler.site.board.gpu is None:
        off = f" (error {price.seconds / measured - 1.0:+.0%})" if measured else ""
        return [f"expected {interval(price)}{off}"]
    head = f"expected {interval(price)}, {price.joules * 1e3:.2f} mJ: {why(item, scheduler.schedule.objective)}"
    if measured:
        error = price.seconds / measured - 1.0
        energy = "" if scheduler.run is None else f", {scheduler.run.joules(place) * 1e3:.2f} mJ"
        how = "simulated" if scheduler.run is not None else "measured"
        head = f"{how} {ms(measured)}{energy}; {head} (error {error:+.0%})"
    lines = wrapped(head, width)
    if len(item.candidates) > 1:
        lines += wrapped(f"candidates: {' · '.join(offered(item))}", width)
    lines += wrapped("memory: " + ", ".join(f"{size(n)} {kind}" for kind, n in kinds(scheduler, item)), width)
    return lines


def offered(item: Placed) -> list[str]:
    """All candidates with their prices; of those on both devices, from the second on, only the GPU's share."""
    found, shared = [], False
    for c in item.candidates:
        text = f"{c.placement.share:.0%}" if shared and c.placement.device == "both" else c.text
        shared |= c.placement.device == "both"
        found.append(f"{text} {interval(c.price, True)}".replace(" ", "\xa0"))
    return found


def kinds(scheduler: Scheduler, item: Placed) -> list[tuple[str, float]]:
    """Bytes that the chosen placement touches, by kind of memory."""
    found: dict[str, float] = {}
    placement = item.chosen.placement
    for device in devices(placement):
        share = 1.0
        if placement.device == "both":
            share = placement.share if device == "gpu" else 1.0 - placement.share
        for work in device_works(item.part.features, scheduler.site.board, device, share):
            for touch in work.touches:
                kind = touch.memory if scheduler.site.board.gpu is not None else "pageable"
                found[kind] = found.get(kind, 0.0) + touch.nbytes
    return sorted(found.items()) or [("pageable", 0.0)]


def interval(price: Price, short: bool = False) -> str:
    """A price's time with its interval."""
    if short:
        return f"{price.seconds * 1e3:.3g}\xa0({price.low * 1e3:.3g}-{price.high * 1e3:.3g})\xa0ms"
    return f"{ms(price.seconds)} ({ms(price.low)} to {ms(price.high)})"


def ms(seconds: float) -> str:
    """Milliseconds."""
    return f"{seconds * 1e3:.2f} ms" if seconds < 0.1 else f"{seconds * 1e3:,.0f} ms"


def size(nbytes: float) -> str:
    """Bytes in a unit that people read."""
    for unit in ("B", "KB", "MB"):
        if nbytes < 1000:
            return f"{nbytes:.0f} {unit}" if unit == "B" or nbytes >= 100 else f"{nbytes:.1f} {unit}"
        nbytes /= 1000
    return f"{nbytes:.1f} GB"


def wrapped(text: str, width: int) -> list[str]:
    """Lines of at most ``width`` columns."""
    return [text] if text and len(text) <= width else textwrap.wrap(text, width)
