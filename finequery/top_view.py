"""The live view of ``finequery top``, by rich."""

from __future__ import annotations

import io
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from finequery import top_text as words
from finequery.progress import Progress
from finequery.published import Process
from finequery.top import Snapshot

#: Columns of a bar, and of a picture that is saved.
BAR, WIDTH = 24, 100


def view(snapshot: Snapshot, width: int) -> RenderableType:
    """The whole picture."""
    parts: list[Any] = [Panel(_machine(snapshot), title=words.heading(snapshot), title_align="left")]
    parts += [_process(process, width) for process in snapshot.processes if process.queries]
    if len(parts) == 1:
        parts.append(Text(" No query has been running for longer than half a second.", style="dim"))
    return Group(*parts)


def _machine(snapshot: Snapshot) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    for line in words.gauges(snapshot):
        table.add_row(line.name, *(("", "") if line.share is None else _bar(line.share)), line.words)
    facts = Table.grid(padding=(0, 2))
    for name, value in words.facts(snapshot):
        alarm = name == "Throttled" and bool(snapshot.reading.throttled)
        facts.add_row(name, Text(value, style="bold red" if alarm else ""))
    for reason in snapshot.missing:
        facts.add_row("", Text(reason, style="dim"))
    return Group(table, facts)


def _bar(share: float) -> tuple[Text, Text]:
    style = "green" if share < 0.6 else "yellow" if share < 0.9 else "red"
    filled = round(BAR * min(max(share, 0.0), 1.0))
    return Text("━" * filled, style=style) + Text("━" * (BAR - filled), style="bright_black"), Text(f"{share:4.0%}")


def _process(process: Process, width: int) -> RenderableType:
    parts: list[Any] = []
    for query in process.queries:
        parts += _query(query, width - 4)
    return Panel(Group(*parts), title=f"{process.command[: width - 24]} · {process.pid}", title_align="left")


def _query(query: Progress, width: int) -> list[Any]:
    head = Text(words.statement(query, width), style="bold")
    bar = Text() if query.done is None else _progress(query.done, BAR) + Text(" ")
    parts: list[Any] = [head, bar + Text(words.query_words(query)) + Text(f"  {query.doing}", style="dim")]
    table = Table.grid(padding=(0, 2), expand=True)
    table.add_column(no_wrap=True, min_width=2)
    table.add_column(no_wrap=True, min_width=BAR // 2)
    table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    table.add_column(no_wrap=True, min_width=38)
    for p in query.pipelines:
        style = "dim" if not p.device or p.done >= 1.0 else ""
        table.add_row(
            Text(str(p.number), style=style), _progress(p.done, BAR // 2), Text(p.name, style=style), words.state(p)
        )
    return [*parts, table]


def _progress(share: float, width: int) -> Text:
    filled = round(width * min(max(share, 0.0), 1.0))
    return Text("━" * filled, style="cyan") + Text("━" * (width - filled), style="bright_black")


def save_svg(snapshot: Snapshot, path: str) -> None:
    """The picture as an SVG file."""
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    console.print(view(snapshot, WIDTH))
    console.save_svg(path, title="finequery top", unique_id="finequery-top")
