"""Results as people read them: boxes for terminals and tables for notebooks."""

from __future__ import annotations

import datetime
import unicodedata
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any

from finequery.types import Interval, SqlType

Row = Sequence[Any]

#: Widest a cell of text gets where the box has to be narrowed.
NARROWEST_CELL = 12
ELLIPSIS = "…"


def text(value: Any) -> str:
    """A value as SQL writes it (without quotes)."""
    if value is None:
        return "NULL"
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, datetime.datetime):
        return value.isoformat(" ") if value.tzinfo is None else value.replace(tzinfo=None).isoformat(" ") + "+00"
    if isinstance(value, datetime.timedelta):
        return interval_text(0, value.days, value.seconds * 1_000_000 + value.microseconds)
    if isinstance(value, Interval):
        return interval_text(*value)
    return str(value)


def json_value(value: Any) -> Any:
    """A value as JSON has it. Decimals, dates and what JSON lacks become text, so that no digit is lost."""
    if isinstance(value, float):
        return value if value - value == 0 else text(value)
    return value if value is None or isinstance(value, (bool, int, str)) else text(value)


def interval_text(months: int, days: int, micros: int) -> str:
    """An interval as SQL shows it: ``1 year 2 months 3 days 04:05:06.5``."""
    parts = []
    years, months = divmod(abs(months), 12) if months >= 0 else tuple(-x for x in divmod(-months, 12))
    for count, unit in ((years, "year"), (months, "month"), (days, "day")):
        if count:
            parts.append(f"{count} {unit}{'' if abs(count) == 1 else 's'}")
    if micros or not parts:
        seconds, fraction = divmod(abs(micros), 1_000_000)
        clock = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
        if fraction:
            clock += f".{fraction:06}".rstrip("0")
        parts.append(("-" if micros < 0 else "") + clock)
    return " ".join(parts)


def width(string: str) -> int:
    """Columns of a terminal the string takes."""
    return len(string) if string.isascii() else sum(map(_cell_width, string))


def _cell_width(c: str) -> int:
    return 0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1


def clip(string: str, room: int) -> str:
    """The string in at most ``room`` columns, ending in … where something was cut off."""
    if width(string) <= room:
        return string
    taken = 0
    for place, c in enumerate(string):
        taken += _cell_width(c)
        if taken > room - 1:
            return string[:place] + ELLIPSIS
    return string


def _pad(string: str, room: int, align: str) -> str:
    space = room - width(string)
    if align == ">":
        return " " * space + string
    if align == "^":
        return " " * (space // 2) + string + " " * (space - space // 2)
    return string + " " * space


def one_line(string: str) -> str:
    """The string with what would break a line or move the cursor written out."""
    if string.isprintable():
        return string
    return "".join(
        c if c.isprintable() else {"\n": "\\n", "\t": "\\t", "\r": "\\r"}.get(c, f"\\x{ord(c):02x}") for c in string
    )


def _visible_columns(widths: list[int], room: int) -> tuple[list[int], list[int]]:
    """Which columns fit into ``room``, and as how wide: first long cells are cut, then middle columns are left out."""
    count = len(widths)

    def total(chosen: Iterable[int]) -> int:
        return sum(chosen) + 3 * len(widths) + 1

    capped = list(widths)
    while total(capped) > room and max(capped, default=0) > NARROWEST_CELL:
        widest = max(capped)
        capped[capped.index(widest)] = max(NARROWEST_CELL, widest - max(1, total(capped) - room))
    keep = list(range(count))
    while len(keep) > 1 and sum(capped[i] for i in keep) + 3 * len(keep) + 1 + (4 if len(keep) < count else 0) > room:
        keep.pop(len(keep) // 2)
    return keep, capped


def box(
    names: Sequence[str],
    types: Sequence[SqlType],
    head: Sequence[Row],
    tail: Sequence[Row] = (),
    total: int | None = None,
    max_width: int = 120,
    hint: str = "",
) -> str:
    """The rows of ``head``, dots and the rows of ``tail`` in a frame under names and types. ``hint``: what to say where
    columns are left out."""
    if not names:
        return ""
    total = len(head) + len(tail) if total is None else total
    cells = [[one_line(text(v)) for v in row] for row in (*head, *tail)]
    heads = [one_line(n) for n in names]
    kinds = [str(t).lower() for t in types]
    widths = [max(width(heads[i]), width(kinds[i]), *(width(row[i]) for row in cells)) for i in range(len(names))]
    keep, capped = _visible_columns(widths, max_width)
    aligns = [">" if t.is_numeric else "<" for t in types]
    gap = len(keep) // 2 if len(keep) < len(names) else None

    def line(values: Sequence[str], how: Sequence[str] | str, filler: str = ELLIPSIS) -> str:
        out = [_pad(clip(values[i], capped[i]), capped[i], how[i] if len(how) > 1 else str(how)) for i in keep]
        if gap is not None:
            out.insert(gap + len(keep) % 2, filler)
        return "│ " + " │ ".join(out) + " │"

    def rule(left: str, middle: str, right: str) -> str:
        out = ["─" * (capped[i] + 2) for i in keep]
        if gap is not None:
            out.insert(gap + len(keep) % 2, "───")
        return left + middle.join(out) + right

    lines = [rule("┌", "┬", "┐"), line(heads, "^"), line(kinds, "^"), rule("├", "┼", "┤")]
    lines += [line(row, aligns if len(aligns) > 1 else aligns[0]) for row in cells[: len(head)]]
    if tail:
        dots = [_pad("·", capped[i], "^") for i in range(len(names))]
        lines += [line(dots, "^", "·")] * 3
        lines += [line(row, aligns if len(aligns) > 1 else aligns[0]) for row in cells[len(head) :]]
    lines.append(rule("└", "┴", "┘"))
    if footer := _footer(total, len(cells), len(names), len(keep), hint):
        lines.append(footer)
    return "\n".join(lines)


def _footer(total: int, shown: int, columns: int, kept: int, hint: str) -> str:
    parts = []
    if total > shown or total >= 10 or total == 0 or kept < columns:
        parts.append(f"{total:,} row{'' if total == 1 else 's'}" + (f" ({shown} shown)" if shown < total else ""))
    if kept < columns:
        parts.append(f"{columns} columns ({kept} shown{'; ' + hint if hint else ''})")
    return "  " + ", ".join(parts) if parts else ""


def html(
    names: Sequence[str], types: Sequence[SqlType], head: Sequence[Row], tail: Sequence[Row] = (), total: int = 0
) -> str:
    """The same for a notebook."""
    from html import escape

    def row_of(row: Row) -> str:
        out = []
        for value, type_ in zip(row, types):
            cell = "<em>NULL</em>" if value is None else escape(text(value))
            out.append(f'<td style="text-align:{"right" if type_.is_numeric else "left"}">{cell}</td>')
        return "<tr>" + "".join(out) + "</tr>"

    header = "".join(f"<th>{escape(n)}<br><small>{escape(str(t).lower())}</small></th>" for n, t in zip(names, types))
    body = [row_of(r) for r in head]
    if tail:
        body.append("<tr>" + "<td>·</td>" * len(names) + "</tr>")
        body += [row_of(r) for r in tail]
    shown = len(head) + len(tail)
    note = f" ({shown} shown)" if shown < total else ""
    foot = f"<p>{total:,} row{'' if total == 1 else 's'}{note}</p>"
    return f"<table><thead><tr>{header}</tr></thead><tbody>{''.join(body)}</tbody></table>{foot}"
