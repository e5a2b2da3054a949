"""A comparison for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from finequery.compare import words
from finequery.compare.measures import percent
from finequery.compare.result import REGIMES, Result
from finequery.compare.words import ALONE, MARK, MEASURES, NONE, Document, number, share, times
from finequery.compare.work import title


def show(document: Document) -> str:
    """All of it: sides, queries, what follows, and the paper's figures beside."""
    parts = [words.heading(document), _sides(document), _latency(document), _energy(document), _against(document)]
    parts += [_alone(document), _notes(document)]
    return "\n\n".join(part for part in parts if part)


def one(result: Result) -> str:
    """A side alone: its times."""
    regimes = [r for r in REGIMES if r == "resident" or result.facts.discrete]
    how = MARK if result.facts.simulated else "measured"
    rows = [
        [name, *(number(run.median * 1e3) if (run := of.runs["placed"].get(r)) else NONE for r in regimes)]
        for name, of in result.queries.items()
    ]
    head = [["query", *regimes], ["", *(["ms"] * len(regimes))], ["", *([how] * len(regimes))]]
    return f"{result.facts.title}: {title(result.suite, result.scale)}\n\n{table(head, rows)}"


def table(head: Sequence[Sequence[str]], rows: Sequence[Sequence[str]]) -> str:
    """Columns under headings of several lines, all but the first to the right."""
    lines = [*head, *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    texts = ["  ".join(c.rjust(w) if i else c.ljust(w) for i, (c, w) in enumerate(zip(line, widths))) for line in lines]
    rule = "─" * len(texts[0])
    return "\n".join(t.rstrip() for t in [*texts[: len(head)], rule, *texts[len(head) :]])


def _sides(document: Document) -> str:
    lines = []
    for side in ("a", "b"):
        facts = document["sides"][side]
        how = "; ".join(filter(None, (MARK, facts["model"]))) if facts["simulated"] else "measured"
        aim = "" if facts["objective"] == "latency" else f"; placed for {facts['objective']}"
        lines.append(f"{side.upper()}  {facts['title']}: {how}{aim}")
        for warning in facts["conditions"].get("warnings", ()):
            lines.append(f"   warning: {warning}")
    if document["left_out"]:
        lines.append(f"Not on both sides: {', '.join(document['left_out'])}")
    return "\n".join(lines)


def _mark(document: Document, side: str) -> str:
    return MARK if document["sides"][side]["simulated"] else "measured"


def _series_head(document: Document, found: Sequence[tuple[str, str]], what: str) -> list[list[str]]:
    """Three lines over a column for each side and regime."""
    names = [side.upper() + (f" {regime}" if document["sides"][side]["discrete"] else "") for side, regime in found]
    return [names, [what] * len(found), [_mark(document, side) for side, _ in found]]


def _latency(document: Document) -> str:
    found, regimes = words.series(document), sorted(document["regimes"])
    bounded = [any(q[s]["placed"][r]["low_ms"] is not None for q in document["queries"]) for s, r in found]
    head: list[list[str]] = [["query"], [""], [""]]
    for column, wide, (side, _) in zip(zip(*_series_head(document, found, "ms")), bounded, found):
        for line, text, more in zip(head, column, ("", words.bounds(document, side), column[2])):
            line += [text, more] if wide else [text]
    derived = MARK if any(document["sides"][s]["simulated"] for s in "ab") else "measured"
    for regime in regimes:
        for line, text in zip(head, ("A over B", regime if len(regimes) > 1 else "", derived)):
            line.append(text)
    rows = []
    for q in document["queries"]:
        row = [q["query"]]
        for (side, regime), wide in zip(found, bounded):
            cell = q[side]["placed"][regime]
            row.append(number(cell["ms"]))
            if wide:
                row.append(NONE if cell["low_ms"] is None else f"{number(cell['low_ms'])}–{number(cell['high_ms'])}")
        for regime in regimes:
            row.append(times(q["over"][regime]) if regime in q["over"] else NONE)
        rows.append(row)
    return "Latency (median)\n" + table(head, rows)


def _energy(document: Document) -> str:
    found = words.series(document)
    head: list[list[str]] = [["query"], [""], [""]]
    kinds = (("mj", "mJ", number), ("used", "of peak", share))
    for _, unit, _ in kinds:
        for line, texts in zip(head, _series_head(document, found, unit)):
            line += texts
    if all(q[s]["placed"][r][key] is None for q in document["queries"] for s, r in found for key, _, _ in kinds):
        return ""
    rows = [
        [q["query"], *(write(q[s]["placed"][r][key]) for key, _, write in kinds for s, r in found)]
        for q in document["queries"]
    ]
    return "Energy, and bandwidth utilisation by operands\n" + table(head, rows)


def _against(document: Document) -> str:
    columns = words.columns(document)
    if not columns:
        return ""
    marks = [MARK if document["against"][way][regime][MARK] else "measured" for way, regime in columns]
    names = [words.against_title(document, way, regime).split(", ") for way, regime in columns]
    head = [
        ["A against B", *(n[0] for n in names), "the paper"],
        ["", *(n[1] if len(n) > 1 else "" for n in names), ""],
        ["", *marks, ""],
    ]
    rows = []
    for m in MEASURES:
        values = [document["against"][way][regime][m.key] for way, regime in columns]
        paper = document["paper"][m.paper]["text"] if m.paper else ""
        rows.append([m.name, *(NONE if v is None else m.write(v) for v in values), paper])
    return table(head, rows)


def _alone(document: Document) -> str:
    """What co-execution gains on each side: a column for each, the paper's figure behind."""
    found = [(s, r) for s, r in words.series(document) if _column(document, s, r)]
    if not found:
        return ""
    keys = list(dict.fromkeys(key for s, r in found for key in _column(document, s, r)))
    rows = []
    for key in keys:
        paper = document["paper"]["single" if key.startswith("less") else "bandwidth"]["text"]
        rows.append([key, *(_column(document, s, r).get(key, NONE) for s, r in found), paper])
    names, _, marks = _series_head(document, found, "")
    return table([["against one device alone", *names, "the paper"], ["", *marks, ""]], rows)


def _column(document: Document, side: str, regime: str) -> dict[str, str]:
    one = document["alone"][side].get(regime) or {}
    less = one.get("less_time") or {}
    found = {f"less time than {ALONE[key]}": percent(value) for key, value in less.items()}
    for value, what in (("used", "operands"), ("traffic", "traffic")):
        over = (one.get(value) or {}).get("over") or {}
        found |= {f"bandwidth used ({what}) over {ALONE[key]}": times(ratio) for key, ratio in over.items()}
    return found


def _notes(document: Document) -> str:
    import textwrap

    notes = [words.REGIME_NOTES] if len(document["regimes"]) > 1 else []
    notes += [words.USED_NOTE, words.PAPER_NOTE, *words.about_queries(document)]
    if any(document["sides"][side]["simulated"] for side in ("a", "b")):
        notes.append(words.simulated_note())
    return "\n".join(textwrap.fill(note, 100, subsequent_indent="  ") for note in notes)
