"""The same placed plan with other access patterns and kinds of memory: what choosing them is worth.

FineQuery's own: each CPU thread reads ranges; neighbouring lanes of the GPU read neighbouring values, from mapped
memory; tables of the GPU are in device memory, those of both devices in managed memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from finequery.jetson.board import Board
from finequery.jetson.simulator import Machine, Stage, Timeline, Touch
from finequery.operators.context import Placement
from finequery.planner.stages import Part, Site, stages

Change = Callable[[Touch, str, Board], Touch]


def mapped(touch: Touch, engine: str, board: Board) -> Touch:
    """All of the GPU's memory is mapped: tables too, past its cache."""
    return replace(touch, memory="mapped") if engine == "gpu" else touch


def managed(touch: Touch, engine: str, board: Board) -> Touch:
    """All of the GPU's memory is managed: caches are cleaned for columns too, at every launch."""
    return replace(touch, memory="managed") if engine == "gpu" else touch


def ranges_on_gpu(touch: Touch, engine: str, board: Board) -> Touch:
    """The CPU's pattern on the GPU: each lane reads a range of its own, so a sector of memory for every value."""
    if engine != "gpu" or touch.random:
        return touch
    return replace(touch, random=True, working_set=max(touch.nbytes, 1.0))


def strides_on_cpu(touch: Touch, engine: str, board: Board) -> Touch:
    """The GPU's pattern on the CPU: thread i reads values i, i + n, …, so each thread fetches lines for the others'
    values too."""
    if engine != "cpu" or touch.random:
        return touch
    lines = min(float(board.cpu.cores), max(board.cpu.line_bytes / max(touch.width, 1e-9), 1.0))
    return replace(touch, nbytes=touch.nbytes * lines, working_set=touch.working_set * lines)


def both_wrong(touch: Touch, engine: str, board: Board) -> Touch:
    """Each device in the other's pattern."""
    return strides_on_cpu(ranges_on_gpu(touch, engine, board), engine, board)


PATTERNS: tuple[tuple[str, Change], ...] = (
    ("all mapped", mapped),
    ("all managed", managed),
    ("GPU lanes read ranges", ranges_on_gpu),
    ("CPU threads read strides", strides_on_cpu),
    ("both wrong", both_wrong),
)


def run(parts: Sequence[Part], placements: Sequence[Placement], site: Site, change: Change) -> Timeline:
    """A placed plan with its memory accesses changed."""

    def changed(stage: Stage) -> Stage:
        works = (replace(w, touches=tuple(change(t, stage.engine, site.board) for t in w.touches)) for w in stage.works)
        return replace(stage, works=tuple(works))

    made, _ = stages(parts, placements, site)
    return Machine(site.board, load=site.load).run([changed(stage) for stage in made])
