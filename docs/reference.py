"""Pages made from the engine's own tables (functions, settings, dot commands), and from the notebooks."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from finequery import settings as table
from finequery.planner.function_rules import AggregateFunction, Function
from finequery.planner.functions import AGGREGATES, FUNCTIONS

#: Headings of the functions' categories.
TITLES = {"numeric": "Numbers", "text": "Text", "date": "Dates and times", "conditional": "Conditions and NULL"}


def functions() -> str:
    """All functions by category, in Markdown."""
    lines = [
        "# Functions",
        "",
        "Written from the table that the binder looks names up in. Names are those of DuckDB and mean the same; a name",
        "that FineQuery does not have is refused with the nearest ones. `[x]` may be left out, `...` repeats the last",
        "argument.",
    ]
    categories: dict[str, list[Function]] = {}
    for function in dict.fromkeys(FUNCTIONS.values()):
        categories.setdefault(function.category, []).append(function)
    for category, found in sorted(categories.items()):
        lines += ["", f"## {TITLES.get(category, category.capitalize())}", "", *_table(found)]
    whole = list(dict.fromkeys(AGGREGATES.values()))
    takes = "All take `FILTER (WHERE …)` and `OVER (…)`; `DISTINCT` where it has a meaning."
    lines += ["", "## Aggregates", "", takes, ""]
    lines += _table([a for a in whole if not a.window])
    lines += ["", "## Window functions", "", "These need `OVER (…)`.", "", *_table([a for a in whole if a.window])]
    return "\n".join(lines) + "\n"


def settings() -> str:
    """All settings, in Markdown."""
    lines = [
        "# Settings",
        "",
        "Written from the table that `SET` and `connect` look names up in. `SET name = value`, `RESET name`,",
        "`SHOW name`; `SHOW SETTINGS` lists all. {doc}`configuration` says where values come from.",
        "",
        "| setting | type | meaning |",
        "| --- | --- | --- |",
        *(f"| `{s.name}` | {s.type} | {_cell(s.description)} |" for s in table.TABLE.values()),
    ]
    return "\n".join(lines) + "\n"


def dot_commands() -> str:
    """What the shell prints for ``.help``."""
    import contextlib
    import io

    from finequery.shell import main

    with contextlib.redirect_stdout(io.StringIO()) as out:
        main(["--no-rc", "-c", ".help"])
    return out.getvalue()


def notebooks() -> dict[str, str]:
    """The notebooks of examples/ as pages, by the names of their files."""
    scripts = str(Path(__file__).resolve().parent.parent / "scripts")
    if scripts not in sys.path:
        sys.path.append(scripts)
    from notebooks import EXAMPLES, markdown, read

    return {
        f"notebook-{path.stem.replace('_', '-')}.md": markdown(read(path)) for path in sorted(EXAMPLES.glob("*.ipynb"))
    }


def _table(found: Iterable[Function | AggregateFunction]) -> list[str]:
    rows = []
    for function in sorted(found, key=lambda f: f.names[0]):
        names = ", ".join(f"`{name}`" for name in function.names)
        takes = "; ".join(_cell(s) for s in function.signatures)
        rows.append(f"| {names} | {takes} | {_cell(function.description)} |")
    return ["| name | takes → gives | |", "| --- | --- | --- |", *rows]


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("->", "→").replace("<", "&lt;").replace("*", "\\*")
