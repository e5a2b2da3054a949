"""A placed plan as the stages that a board's simulator runs.

Pipelines run one after another, as the executor runs them (operators/branches.py), but for those placed ``along``:
these wait for the pipelines that they read alone, and nobody waits for them but who reads them. A pipeline on both
devices is a stage on each, and a merge; one in phases is two stages over batches, of which the second follows the
first. On a board with a discrete GPU, what a device reads and the other one has is copied: base columns that are not
resident in batches, each while the GPU works on the one before.

Memory by use (jetson/memory.py): columns are streamed from mapped memory on an integrated board; a table that the GPU
alone builds and probes is in device memory, one that both devices use is managed, for which who reads it pays
(``coherence``); on a discrete GPU all is device memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate

from finequery.jetson.board import Board
from finequery.jetson.simulator import Stage, Touch, Work
from finequery.operators.context import Placement
from finequery.perfmodel.features import Features
from finequery.perfmodel.work import works
from finequery.planner.subtasks import PipelineInfo

#: Sub-tasks whose own work can be shared between devices; the others' (a sort's, a build's) is done by one.
SHARED_ENDS = frozenset(["aggregate", "materialize"])
#: Batches of a pipeline whose phases, or whose copies and kernels, overlap.
BATCHES = 8
#: Bytes below which a batch costs more than it hides.
LEAST_BATCH = 256 << 10
#: Bytes of a value in a result, where nothing better is known.
VALUE = 8.0


@dataclass(frozen=True, slots=True)
class Site:
    """Where a plan is to run: a board, the threads of its CPU, what others keep busy, and whether base columns are on
    a discrete GPU already."""

    board: Board
    threads: int
    load: Mapping[str, float] = field(default_factory=dict)
    resident: bool = True


@dataclass(frozen=True, slots=True)
class Part:
    """A pipeline with the features of its sub-tasks, in the order in which they run. Parts with the same features are
    the same to a model."""

    info: PipelineInfo = field(compare=False)
    features: tuple[Features, ...]

    @property
    def rows(self) -> float:
        """Rows of its source."""
        return self.features[0].rows_out

    @property
    def rows_given(self) -> float:
        """Rows that come out of it; of a build, those in its table."""
        end = self.features[-1]
        return end.rows if end.kind == "build" else end.rows_out

    @property
    def base_bytes(self) -> float:
        """Bytes of stored columns that it reads."""
        if self.info.source.kind != "scan":
            return 0.0
        return sum(f.rows * f.bytes_in for f in self.features)

    @property
    def shared_end(self) -> bool:
        """Whether its breaker's work can be shared."""
        return self.features[-1].kind in SHARED_ENDS

    @property
    def result_bytes(self) -> float:
        """Bytes of what it hands on."""
        end = self.features[-1]
        if end.kind == "build":
            return end.table_bytes + end.rows * end.bytes_out
        if end.kind == "aggregate":
            return max(end.groups, 1.0) * VALUE * (1.0 + end.steps)
        return end.rows_out * max(end.bytes_out, VALUE)

    def probed_bytes(self, first: int, end: int) -> float:
        """Bytes of the tables that sub-tasks ``first`` to before ``end`` look up in."""
        return sum(f.table_bytes for f in self.features[first:end] if f.kind == "probe")

    def width_at(self, cut: int) -> float:
        """Bytes of a row between the steps before ``cut`` and those behind it."""
        return sum(max(f.bytes_in, 0.5 * VALUE * f.columns) for f in self.features[cut + 1 :]) or VALUE


def scaled(work: Work, share: float) -> Work:
    """A share of the rows of a work."""
    if share == 1.0:
        return work
    touches = tuple(replace(t, nbytes=t.nbytes * share) for t in work.touches)
    return replace(work, rows=work.rows * share, touches=touches, atomics=work.atomics * share)


def device_works(
    features: Sequence[Features], board: Board, device: str, share: float = 1.0, managed: Sequence[bool] = ()
) -> tuple[Work, ...]:
    """Sub-tasks on a device, with their operands in the memory that their use asks for. ``managed``: for each, whether
    the CPU uses the table that it looks up in too."""
    if device == "cpu":
        return tuple(scaled(works(f, "mapped"), share) for f in features)
    streamed = "device" if board.discrete else "mapped"

    made = []
    for number, f in enumerate(features):
        both = f.kind == "probe" and any(managed[number : number + 1])  # what a device writes at random is its own
        table = "managed" if both and not board.discrete else "device"
        work = works(f, streamed)
        touches = (replace(t, memory=table if t.random else streamed) for t in work.touches)
        made.append(scaled(replace(work, touches=tuple(touches)), share))
    return tuple(made)


def coherence(board: Board, nbytes: float) -> float:
    """Seconds that an integrated board's caches take for managed memory, at a launch or before the CPU reads it."""
    if board.gpu is None or board.discrete:
        return 0.0
    return nbytes / 1e6 * board.gpu.maintenance_us_per_mb * 1e-6


def foreign(part: Part, device: str, held: Mapping[int, str]) -> list[bool]:
    """For each sub-task of a pipeline on ``device``, whether it looks up in a table that the other device built;
    ``held``: by pipeline, the device that has its result."""
    return [
        s.kind == "probe" and any(held.get(number, device) != device for number in s.reads) for s in part.info.subtasks
    ]


def devices(placement: Placement) -> tuple[str, ...]:
    """The devices that a pipeline placed so runs on."""
    return ("cpu", "gpu") if placement.device in ("both", "phases") else (placement.device,)


def end_device(placement: Placement) -> str:
    """The device that has a pipeline's result."""
    if placement.device == "phases":
        return "cpu" if placement.first == "gpu" else "gpu"
    return "gpu" if placement.device == "gpu" else "cpu"


def stages(parts: Sequence[Part], placements: Sequence[Placement], site: Site) -> tuple[list[Stage], list[int]]:
    """The stages of a plan, and for each the place of its pipeline in ``parts``."""
    builder = _Builder(parts, placements, site)
    for place in range(len(parts)):
        builder.add(place)
    last = len(parts) - 1
    if site.board.discrete and end_device(placements[last]) == "gpu":
        builder.stage(last, "result", "d2h", nbytes=parts[last].result_bytes, after=(builder.ends[last],))
    return builder.stages, builder.owners


class _Builder:
    def __init__(self, parts: Sequence[Part], placements: Sequence[Placement], site: Site):
        self.parts, self.placements, self.site = parts, placements, site
        self.stages: list[Stage] = []
        self.owners: list[int] = []
        self.ends: list[int] = []  # by pipeline: its last stage
        self.place_of = {part.info.number: place for place, part in enumerate(parts)}
        self.copied: dict[tuple[int, str], int] = {}  # results by device: the copy
        self.held = {part.info.number: end_device(placement) for part, placement in zip(parts, placements)}
        self.last: int | None = None  # the last stage of the last pipeline that is not placed along

    def stage(self, place: int, what: str, engine: str, **fields: object) -> int:
        name = f"{self.parts[place].info.number} {what}"
        self.stages.append(Stage(name, engine, **fields))  # type: ignore[arg-type]
        self.owners.append(place)
        return len(self.stages) - 1

    def add(self, place: int) -> None:
        part, placement = self.parts[place], self.placements[place]
        reads = [self.place_of[n] for n in part.info.after if n in self.place_of]
        after = {self.ends[r] for r in reads}
        if self.last is not None and not placement.along:
            after.add(self.last)
        for device in devices(placement):
            after |= self._handed_over(place, reads, device)
        make = {"both": self._both, "phases": self._phases}.get(placement.device, self._one)
        self.ends.append(make(place, part, placement, tuple(sorted(after))))
        if not placement.along:
            self.last = self.ends[place]

    def _handed_over(self, place: int, reads: list[int], device: str) -> set[int]:
        """Copies of results that the device does not have."""
        if not self.site.board.discrete:
            return set()
        made = set()
        for r in reads:
            if end_device(self.placements[r]) == device:
                continue
            if (r, device) not in self.copied:
                engine = "h2d" if device == "gpu" else "d2h"
                nbytes = self.parts[r].result_bytes
                copy = self.stage(place, "hand-over", engine, nbytes=nbytes, after=(self.ends[r],))
                self.copied[r, device] = copy
            made.add(self.copied[r, device])
        return made

    def _gpu(
        self,
        place: int,
        part: Part,
        features: Sequence[Features],
        share: float,
        after: tuple[int, ...],
        managed: Sequence[bool],
    ) -> int:
        """A stage on the GPU, behind the copies of base columns that are not there."""
        works = device_works(features, self.site.board, "gpu", share, managed)
        nbytes = part.base_bytes * share
        if self.site.resident or not self.site.board.discrete or not nbytes:
            return self.stage(place, "gpu", "gpu", works=works, after=after)
        batches = column_batches(nbytes)
        copy = self.stage(place, "columns", "h2d", nbytes=nbytes, after=after, batches=batches)
        # Columns stay on the device, each batch in its place of them: copies wait for no buffer.
        return self.stage(place, "gpu", "gpu", works=works, batches=batches, follows=copy, depth=batches)

    def _one(self, place: int, part: Part, placement: Placement, after: tuple[int, ...]) -> int:
        others = foreign(part, placement.device, self.held)
        if placement.device == "gpu":
            return self._gpu(place, part, part.features, 1.0, after, others)
        works = device_works(part.features, self.site.board, "cpu")
        fixed = coherence(self.site.board, sum(f.table_bytes for f, other in zip(part.features, others) if other))
        return self.stage(
            *(place, "cpu", "cpu"), works=works, after=after, threads=self.site.threads, fixed_seconds=fixed
        )

    def _both(self, place: int, part: Part, placement: Placement, after: tuple[int, ...]) -> int:
        board, share, threads = self.site.board, placement.share, self.site.threads
        split = part.features if part.shared_end else part.features[:-1]
        on_gpu = self._gpu(place, part, split, share, after, [True] * len(split))
        on_cpu = self.stage(
            *(place, "cpu", "cpu"),
            works=device_works(split, board, "cpu", 1.0 - share),
            after=after,
            threads=threads,
        )
        ends = [on_cpu, on_gpu]
        if board.discrete:
            ends.append(self.stage(place, "share", "d2h", nbytes=part.result_bytes * min(share, 1.0), after=(on_gpu,)))
        rest = [merge_work(part)] if part.shared_end else list(device_works(part.features[-1:], board, "cpu"))
        return self.stage(place, "merge", "cpu", works=tuple(rest), after=tuple(ends), threads=threads)

    def _phases(self, place: int, part: Part, placement: Placement, after: tuple[int, ...]) -> int:
        board, threads = self.site.board, self.site.threads
        cut = cut_in_features(part, placement.cut)
        front, back = front_features(part, cut), part.features[cut:]
        handed = front[-1].rows * front[-1].bytes_out
        batches = batch_count(part, placement)
        first, second = ("gpu", "cpu") if placement.first == "gpu" else ("cpu", "gpu")
        leading = self.stage(
            *(place, first, first),
            works=device_works(front, board, first, managed=[True] * len(front)),
            after=after,
            batches=batches,
            threads=threads if first == "cpu" else None,
        )
        if board.discrete:
            engine = "h2d" if second == "gpu" else "d2h"
            leading = self.stage(place, "batches", engine, nbytes=handed, batches=batches, follows=leading)
        return self.stage(
            *(place, second, second),
            works=device_works(back, board, second, managed=[True] * len(back)),
            batches=batches,
            follows=leading,
            threads=threads if second == "cpu" else None,
        )


def front_features(part: Part, cut: int) -> tuple[Features, ...]:
    """The sub-tasks of a first phase, which writes down what the second one reads."""
    return (*part.features[:cut], handed_over(*handed_on(part, cut)))


def handed_on(part: Part, cut: int) -> tuple[float, float]:
    """Rows between two phases, and bytes of each."""
    return part.features[cut - 1].rows_out, part.width_at(cut - 1)


def handed_over(rows: float, width: float) -> Features:
    """Writing rows of so many bytes for the other device."""
    return Features("materialize", rows=rows, rows_out=rows, bytes_in=width, bytes_out=width, columns=1.0)


def column_batches(nbytes: float) -> int:
    """Batches that base columns are copied to a discrete GPU in."""
    return max(1, min(BATCHES, int(nbytes / LEAST_BATCH)))


def batch_count(part: Part, placement: Placement) -> int:
    """Batches that a pipeline in phases hands over."""
    if placement.batch:
        return max(1, round(part.rows / placement.batch))
    return BATCHES


def merge_work(part: Part) -> Work:
    """Adding one device's groups, or putting its rows beside the other's."""
    end = part.features[-1]
    if end.kind == "aggregate":
        groups = max(end.groups, 1.0)
        nbytes = groups * VALUE * (1.0 + end.steps)
        touch = Touch(nbytes, VALUE, random=True, write=True, working_set=nbytes)
        return Work("merge", groups, end.steps, (touch,))
    nbytes = part.result_bytes
    return Work("copy", 0.0, 0.0, (Touch(nbytes), Touch(nbytes, write=True)))


def cut_in_features(part: Part, cut: int) -> int:
    """Where a cut before step ``cut`` of the pipeline's task falls among its sub-tasks (bare names are none)."""
    return cut_places(part)[cut]


def cut_places(part: Part) -> list[int]:
    """``cut_in_features`` for all cuts."""
    (steps,) = (task.steps for task in part.info.runs if hasattr(task, "steps"))
    at = {id(s.item): n for n, s in enumerate(part.info.subtasks)}
    return [1 + last for last in accumulate((at.get(id(step), 0) for step in steps), max, initial=0)]
