"""A timeline of devices: which pipeline ran where and when, as text for a terminal, as SVG and as PNG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from finequery.errors import FileError, NotSupportedError

if TYPE_CHECKING:
    from finequery.operators.context import Context
    from finequery.operators.tasks import Task
    from finequery.planner.scheduler import Simulated

#: Engines from top to bottom, and their names.
ENGINES = {"cpu": "CPU", "gpu": "GPU", "h2d": "to GPU", "d2h": "to host"}
#: Colours of pipelines in turn: told apart by people who see no red or no green (Okabe and Ito).
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442", "#999999")
WIDTH, BAR, LEFT = 760, 26, 70


@dataclass(frozen=True, slots=True)
class Bar:
    """A stretch of time, in seconds, in which an engine worked for a pipeline."""

    engine: str
    pipeline: int
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Timeline:
    """``simulated``: no figure in it was measured."""

    bars: tuple[Bar, ...]
    seconds: float
    title: str
    simulated: bool

    @property
    def engines(self) -> list[str]:
        """Those with work, top to bottom."""
        return [e for e in ENGINES if any(b.engine == e for b in self.bars)]

    @property
    def heading(self) -> str:
        """Title, length, and whether it was simulated."""
        return f"{self.title}: {self.seconds * 1e3:.2f} ms{', simulated' if self.simulated else ''}"

    def text(self, width: int = 80) -> str:
        """A line for each engine; a column is as long as the heading says, and shows the number of the pipeline that
        had most of it (the last digit), or "·" where the engine rested."""
        if not self.bars and not self.seconds:
            return self.heading  # nothing ran that has a time, as of a query over a few rows
        columns = max(width - 9, 10)
        step = self.seconds / columns if self.seconds > 0 else 1.0
        lines = [f"{self.heading} ({step * 1e6:{'.0f' if step >= 1e-5 else '.2g'}} us a column)"]
        for engine in self.engines:
            row = ""
            for column in range(columns):
                begin, end = column * step, (column + 1) * step
                inside: dict[int, float] = {}
                for b in self.bars:
                    if b.engine == engine and b.start < end and b.end > begin:
                        inside[b.pipeline] = inside.get(b.pipeline, 0.0) + min(b.end, end) - max(b.start, begin)
                busy = sum(inside.values())
                row += str(max(inside, key=lambda n: inside[n]) % 10) if busy > 0.5 * step else "-" if busy else "·"
            lines.append(f"{ENGINES[engine]:>7}  {row}")
        return "\n".join(lines)

    def svg(self) -> str:
        """A picture that needs nothing else."""
        height = 60 + BAR * len(self.engines)
        scale = (WIDTH - LEFT - 10) / self.seconds if self.seconds > 0 else 0.0
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" font-family="sans-serif" '
            'font-size="12">',
            f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
            f'<text x="{LEFT}" y="18">{escape(self.heading)}</text>',
        ]
        for row, engine in enumerate(self.engines):
            y = 28 + BAR * row
            parts.append(f'<text x="{LEFT - 8}" y="{y + 16}" text-anchor="end">{ENGINES[engine]}</text>')
            for b in self.bars:
                if b.engine == engine:
                    x, w = LEFT + b.start * scale, max((b.end - b.start) * scale, 0.5)
                    colour = COLOURS[(b.pipeline - 1) % len(COLOURS)]
                    tip = f"pipeline {b.pipeline}: {b.start * 1e3:.3f} to {b.end * 1e3:.3f} ms"
                    parts.append(
                        f'<rect x="{x:.2f}" y="{y}" width="{w:.2f}" height="{BAR - 4}" fill="{colour}">'
                        f"<title>{tip}</title></rect>"
                    )
                    if w > 16:
                        at = f'x="{x + w / 2:.2f}" y="{y + 15}" text-anchor="middle" fill="white"'
                        parts.append(f"<text {at}>{b.pipeline}</text>")
        y = 28 + BAR * len(self.engines)
        parts.append(f'<line x1="{LEFT}" y1="{y}" x2="{WIDTH - 10}" y2="{y}" stroke="black"/>')
        for tick in range(5):
            x = LEFT + (WIDTH - LEFT - 10) * tick / 4
            anchor = "end" if tick == 4 else "middle" if tick else "start"
            parts.append(
                f'<text x="{x:.1f}" y="{y + 16}" text-anchor="{anchor}">{self.seconds * 250 * tick:.2f} ms</text>'
            )
        return "\n".join([*parts, "</svg>"])

    def save(self, path: str | Path) -> None:
        """Write ``.svg``, or ``.png`` (which needs matplotlib: NotSupportedError without it). ValueError for another
        ending, FileError where the file can't be written."""
        path = Path(path).expanduser()
        if path.suffix not in (".svg", ".png"):
            raise ValueError(f"a timeline is written as .svg or .png, not {path.suffix or path.name!r}")
        try:
            if path.suffix == ".svg":
                path.write_text(self.svg(), encoding="utf-8")
            else:
                self._png(path)
        except OSError as error:
            raise FileError(f"Can't write '{path}': {error.strerror or error}") from None

    def _png(self, path: Path) -> None:
        try:
            from matplotlib.backends.backend_agg import FigureCanvasAgg
            from matplotlib.figure import Figure
        except ImportError:
            raise NotSupportedError(
                "A timeline as PNG needs matplotlib", hint="pip install 'finequery[plots]', or save it as .svg."
            ) from None

        figure = Figure(figsize=(8, 1 + 0.4 * len(self.engines)), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots()
        for row, engine in enumerate(self.engines):
            for b in self.bars:
                if b.engine == engine:
                    colour = COLOURS[(b.pipeline - 1) % len(COLOURS)]
                    axes.barh(row, (b.end - b.start) * 1e3, left=b.start * 1e3, height=0.8, color=colour)
        axes.set_yticks(range(len(self.engines)), [ENGINES[e] for e in self.engines])
        axes.invert_yaxis()
        axes.set_xlabel("ms")
        axes.set_title(self.heading, fontsize=10)
        figure.savefig(path)

    def _repr_svg_(self) -> str:
        return self.svg()


def merged(bars: Sequence[Bar]) -> tuple[Bar, ...]:
    """Bars of one pipeline on one engine that touch become one."""
    found: list[Bar] = []
    for b in sorted(bars, key=lambda b: (b.engine, b.pipeline, b.start)):
        last = found[-1] if found else None
        if last and (last.engine, last.pipeline) == (b.engine, b.pipeline) and b.start <= last.end * (1 + 1e-9):
            found[-1] = Bar(b.engine, b.pipeline, last.start, max(b.end, last.end))
        else:
            found.append(b)
    return tuple(found)


def of_run(root: Task, context: Context) -> Timeline:
    """The timeline of a finished run: the simulator's on a simulated board, else the devices' as they were measured."""
    from finequery.planner.scheduler import Scheduler
    from finequery.planner.subtasks import split

    scheduler = context.scheduler
    if isinstance(scheduler, Scheduler) and scheduler.run is not None:
        return of_simulation(scheduler.run)
    bars = []
    for info in split(root):
        for item in info.runs:
            record = context.measured.get(id(item))
            bars += [Bar(device, info.number, begin, end) for device, begin, end in (record.spans if record else [])]
    first = min((b.start for b in bars), default=0.0)
    moved = [Bar(b.engine, b.pipeline, b.start - first, b.end - first) for b in bars]
    simulated = context.gpu is not None and context.gpu.info.simulated
    return Timeline(merged(moved), max((b.end for b in moved), default=0.0), "this machine", simulated)


def of_simulation(run: Simulated) -> Timeline:
    """The timeline of a run on a simulated board."""
    bars = [Bar(s.engine, run.parts[run.owners[s.stage]].info.number, s.start, s.end) for s in run.timeline.spans]
    return Timeline(merged(bars), run.timeline.seconds, run.site.board.title, True)
