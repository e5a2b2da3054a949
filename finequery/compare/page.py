"""A comparison as one page of HTML that needs nothing else: no script, no font, no address. Readable in light and dark.

Every number stands in a ``<data>`` with its place in the document of numbers and its value there, and has the class
``sim`` if it is simulated or follows from what is, which a raised s shows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path
from typing import Any

from finequery.compare import plots, words
from finequery.compare.measures import percent
from finequery.compare.plots import Lane, Series
from finequery.compare.words import ALONE, MARK, MEASURES, NONE, Document, number, share, times
from finequery.errors import FileError

Place = tuple[str | int, ...]

_BOUNDS = ("low_ms", "high_ms")


def write(path: Path, document: Document) -> None:
    """Write the page; FileError where that can't be done."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(html(document), encoding="utf-8")
    except OSError as error:
        raise FileError(f"Can't write '{path}': {error.strerror or error}") from None


def html(document: Document) -> str:
    """The page's text."""
    a, b = (document["sides"][side]["title"] for side in ("a", "b"))
    head = f"{a} against {b}"
    sections = [_cards(document), _latency(document), _energy(document), _timelines(document), _queries(document)]
    sections += [_against(document), _alone(document), _sides(document)]
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8"/>
<meta name="viewport" content="width=device-width, initial-scale=1"/>
<title>{escape(head)}: {escape(words.heading(document))}</title>
<style>
{plots.CSS.read_text(encoding="utf-8")}</style>
</head>
<body>
<main>
<div class="over">FineQuery · comparison of two machines</div>
<h1>{escape(head)}</h1>
<p>{escape(words.heading(document))}. {_badges(document)}</p>
<p class="note">{_legend(document)}</p>
{chr(10).join(section for section in sections if section)}
<footer>Written by <code>finequery compare</code>. {_legend(document)}</footer>
</main>
</body>
</html>
"""


def _simulated(document: Document, *sides: str) -> bool:
    """Whether what follows from these sides is simulated."""
    return any(document["sides"][side]["simulated"] for side in sides)


def _badges(document: Document) -> str:
    marks = [
        f'<span class="badge">{escape(document["sides"][s]["title"])}: {_how(document, s)}</span>' for s in ("a", "b")
    ]
    return " ".join(marks)


def _how(document: Document, *sides: str) -> str:
    return MARK if _simulated(document, *sides) else "measured"


def _legend(document: Document) -> str:
    return "A raised ˢ marks a number that is simulated, not measured." if _simulated(document, "a", "b") else ""


def _value(document: Document, place: Place, write: Callable[[Any], str], simulated: bool) -> str:
    """A number of the document, by its place there."""
    found: Any = document
    for key in place:
        if found is None or (isinstance(found, dict) and key not in found):
            return NONE
        found = found[key]
    if found is None:
        return NONE
    mark = f' class="sim" title="{MARK}"' if simulated else ""
    at = "/".join(map(str, place))
    return f'<data value="{found!r}" data-at="{escape(at)}"{mark}>{escape(write(found))}</data>'


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], texts: Sequence[int] = ()) -> str:
    """Cells are HTML. ``texts``: columns of text besides the first; a cell that starts with ! is bold."""

    def cell(tag: str, n: int, content: str) -> str:
        kinds = [name for name, holds in (("text", n in texts), ("win", content.startswith("!"))) if holds]
        mark = f' class="{" ".join(kinds)}"' if kinds else ""
        return f"<{tag}{mark}>{content.removeprefix('!')}</{tag}>"

    lines = ["".join(cell("td", n, c) for n, c in enumerate(row)) for row in rows]
    top = "".join(cell("th", n, c) for n, c in enumerate(head))
    body = "\n".join(f"<tr>{line}</tr>" for line in lines)
    return f'<div class="scroll"><table><thead><tr>{top}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>'


def _badge(document: Document, *sides: str) -> str:
    return f'<span class="badge">{_how(document, *sides)}</span>'


def _style(document: Document, side: str, regime: str) -> str:
    two = sum(s == side for s, _ in words.series(document)) > 1
    return f"{side}-{regime}" if two else f"{side}-only"


def _figure(plot: str) -> str:
    return f"<figure>\n{plot}\n</figure>"


def _cards(document: Document) -> str:
    """The figures that the paper has, too."""
    columns = words.columns(document)
    cards = []
    if columns:
        way = "gpu" if ("gpu", "resident") in columns else "placed"
        regime = "cold" if (way, "cold") in columns else "resident"
        there = words.against_title(document, way, regime)
        b = escape(document["sides"]["b"]["title"])
        for key, name, text in (
            ("time_over", "Time", f"of A over {b}: {there}"),
            ("per_cost", "Performance per dollar", f"of A over {b}: {there}; GPU and CPU priced"),
            ("joules", "Energy", f"times fewer joules a query than {b}: {there}"),
        ):
            measure = next(m for m in MEASURES if m.key == key)
            place = ("against", way, regime, key)
            value = _value(document, place, measure.write, _simulated(document, "a", "b"))
            paper = measure.paper or "latency"
            if key == "time_over":
                less = _value(document, (*place[:3], "less_time"), percent, _simulated(document, "a", "b"))
                text += f"; mean of less time: {less}"
            cards.append(_card(document, name, value, text, paper))
    alone: list[tuple[Place, str, str, str, Callable[[float], str]]] = [
        (("less_time", "mean"), "Placement", "less time on A than one device alone (mean of both)", "single", percent),
        (("used", "over", "mean"), "Bandwidth", "used on A over one device alone (mean of both)", "bandwidth", times),
    ]
    for at, name, text, paper, form in alone:
        value = _value(document, ("alone", "a", "resident", *at), form, _simulated(document, "a"))
        cards.append(_card(document, name, value, text, paper))
    shown = [card for card in cards if f"<b>{NONE}</b>" not in card]
    return f'<div class="cards">{chr(10).join(shown)}</div>' if shown else ""


def _card(document: Document, name: str, value: str, text: str, paper: str) -> str:
    said = document["paper"][paper]
    beside = f'the paper: {escape(said["text"])} <span class="muted">than {escape(said["against"])}</span>'
    return f'<div class="card"><h3>{name}</h3><b>{value}</b><p>{text}</p><div class="paper">{beside}</div></div>'


def _tip(document: Document, name: str, side: str, regime: str, text: str) -> str:
    return f"{name}, {words.side_title(document, side, regime, mark=False)}: {text}, {_how(document, side)}"


def _series(document: Document, key: str = "ms", others: str = "") -> list[Series]:
    """Of a plot; sides that have no such numbers are left out."""
    made = []
    for side, regime in words.series(document):
        cells = [q[side]["placed"][regime] for q in document["queries"]]
        if any(cell[k] is None or cell[k] <= 0 for cell in cells for k in (key, others) if k):
            continue
        texts = [f"{number(c['ms'])} ms" + (f", {number(c['mj'])} mJ" if others else "") for c in cells]
        tips = [_tip(document, q["query"], side, regime, t) for q, t in zip(document["queries"], texts)]
        values, up = [c[key] for c in cells], [c[others] for c in cells] if others else []
        made.append(Series(words.side_title(document, side, regime), _style(document, side, regime), values, tips, up))
    return made


def _unit(document: Document, unit: str) -> str:
    how = [_how(document, side) for side in ("a", "b")]
    return f"{unit} ({how[0]})" if how[0] == how[1] else f"{unit} ({MARK} where the legend says so)"


def latency_plot(document: Document) -> str:
    """Bars for each query."""
    return plots.bars([q["query"] for q in document["queries"]], _series(document), _unit(document, "median, ms"))


def energy_plot(document: Document) -> str:
    """A point for each query; nothing where no side's energy is known."""
    series = _series(document, "ms", "mj")
    labels = [q["query"] for q in document["queries"]]
    return plots.scatter(labels, series, _unit(document, "ms a query"), _unit(document, "mJ a query")) if series else ""


def timeline_plot(document: Document, query: str) -> str:
    """A query on both sides; nothing where no side has a timeline of it."""
    found = document["timelines"][query]
    lanes = []
    for side in ("a", "b"):
        for regime, one in sorted(found[side].items()):
            title = f"{words.side_title(document, side, regime)}: {number(one['ms'])} ms"
            lanes.append(Lane(title, one["ms"] / 1e3, one["bars"]))
    return plots.timelines(lanes, found["pipelines"]) if lanes else ""


def _latency(document: Document) -> str:
    note = words.REGIME_NOTES if len(document["regimes"]) > 1 else ""
    return f'<h2>Latency by query</h2>\n<p class="note">{note}</p>\n{_figure(latency_plot(document))}'


def _energy(document: Document) -> str:
    plot = energy_plot(document)
    note = "A point is a query; both axes are logarithmic, and down and left is better."
    found = words.series(document)
    unknown = [s for s, r in found if any(q[s]["placed"][r]["mj"] is None for q in document["queries"])]
    for side in dict.fromkeys(unknown):
        why = next((c["note"] for q in document["queries"] if (c := q[side]["placed"]["resident"])["note"]), "")
        note += escape(f" Of {document['sides'][side]['title']} no joules are known{why and ': '}{why}.")
    return f'<h2>Energy against latency</h2>\n<p class="note">{note}</p>\n{_figure(plot)}' if plot else ""


def _timelines(document: Document) -> str:
    made = {name: timeline_plot(document, name) for name in document["timelines"]}
    return "\n".join(f"<h2>Timeline of {escape(n)}</h2>\n{_figure(plot)}" for n, plot in made.items() if plot)


def _queries(document: Document) -> str:
    found, regimes = words.series(document), sorted(document["regimes"])
    head = ["query", "rows"]
    for side, regime in found:
        head.append(f"{escape(words.side_title(document, side, regime, mark=False))}<br/>ms {_badge(document, side)}")
    for regime in regimes:
        both = f", {regime}" if len(regimes) > 1 else ""
        head.append(f"A over B{both}<br/>{_badge(document, 'a', 'b')}")
    rows = []
    for i, q in enumerate(document["queries"]):
        least = min(q[side]["placed"][regime]["ms"] for side, regime in found)
        row = [escape(q["query"]), f'<data value="{q["rows"]}" data-at="queries/{i}/rows">{q["rows"]:,}</data>']
        for side, regime in found:
            place: Place = ("queries", i, side, "placed", regime)
            text = _value(document, (*place, "ms"), number, _simulated(document, side))
            if q[side]["placed"][regime]["low_ms"] is not None:
                low, high = (_value(document, (*place, k), number, _simulated(document, side)) for k in _BOUNDS)
                text += f' <span class="muted">{low}–{high}</span>'
            row.append(("!" if q[side]["placed"][regime]["ms"] == least else "") + text)
        for regime in regimes:
            row.append(_value(document, ("queries", i, "over", regime), times, _simulated(document, "a", "b")))
        rows.append(row)
    latency = _table(head, rows)
    head, rows = ["query"], []
    kinds = (("mj", "mJ", number), ("used", "of peak", share))
    for _, text, _ in kinds:
        for side, regime in found:
            head.append(
                f"{escape(words.side_title(document, side, regime, mark=False))}<br/>{text} {_badge(document, side)}"
            )
    for i, q in enumerate(document["queries"]):
        row = [escape(q["query"])]
        for key, _, form in kinds:
            for side, regime in found:
                at: Place = ("queries", i, side, "placed", regime, key)
                row.append(_value(document, at, form, _simulated(document, side)))
        rows.append(row)
    first = "Medians; behind a measured one the quartiles, behind a simulated one its interval. The least is bold."
    about = "".join(f'<p class="note">{escape(text)}</p>\n' for text in words.about_queries(document))
    return f"""<h2>Query by query</h2>
<p class="note">{first}</p>
{about}{latency}
<h2>Energy and bandwidth utilisation</h2>
<p class="note">Utilisation by operands. {words.USED_NOTE}</p>
{_table(head, rows)}"""


def _against(document: Document) -> str:
    columns = words.columns(document)
    if not columns:
        return ""
    a, b = (document["sides"][side]["title"] for side in ("a", "b"))
    head = [f"A: {escape(a)}<br/>B: {escape(b)}"]
    head += [
        f"{words.against_title(document, *column).replace(', ', ',<br/>')}<br/>{_badge(document, 'a', 'b')}"
        for column in columns
    ]
    head.append("the paper")
    rows = []
    for m in MEASURES:
        values = [
            _value(document, ("against", *column, m.key), m.write, _simulated(document, "a", "b")) for column in columns
        ]
        paper = escape(document["paper"][m.paper]["text"]) if m.paper else ""
        rows.append([f'{m.name}<div class="note what">{escape(m.definition)}</div>', *values, paper])
    return (
        "<h2>A against B, with the paper beside</h2>\n"
        f'<p class="note">{escape(words.PAPER_NOTE)}</p>\n{_table(head, rows)}'
    )


def _alone(document: Document) -> str:
    rows = []
    for side in ("a", "b"):
        for regime, found in document["alone"][side].items():
            if not found or (regime == "cold" and not document["sides"][side]["discrete"]):
                continue
            name, sim = escape(words.side_title(document, side, regime)), _simulated(document, side)
            at: Place = ("alone", side, regime)
            row = [name, *(_value(document, (*at, "less_time", key), percent, sim) for key in ALONE)]
            for key in ("used", "traffic"):
                row += [_value(document, (*at, key, "mean", "placed"), share, sim)]
                row += [_value(document, (*at, key, "over", of), times, sim) for of in ("cpu", "gpu", "mean")]
            if any(cell != NONE for cell in row[1:]):
                rows.append(row)
    if not rows:
        return ""
    head = ["", *(f"less time than<br/>{text}" for text in ALONE.values())]
    for what in ("operands", "traffic"):
        head += [
            f"bandwidth used,<br/>by {what}",
            "over its<br/>CPU alone",
            "over its<br/>GPU alone",
            "over their<br/>mean",
        ]
    said = document["paper"]
    paper = f"The paper: {said['single']['text']} time and {said['bandwidth']['text']} the bandwidth utilisation."
    return f'<h2>Against one device alone</h2>\n<p class="note">{paper}</p>\n{_table(head, rows)}'


def _sides(document: Document) -> str:
    """What each side is, and where its numbers come from."""
    rows = []
    for side in ("a", "b"):
        facts = document["sides"][side]
        rows.append([f"{side.upper()}: {escape(facts['title'])}", _badge(document, side), ""])
        rows.append(["placed for", "", escape(facts["objective"])])
        if facts["model"]:
            rows.append(["prices of the placement's model", "", escape(facts["model"])])
        rows += [_fact(document, side, path) for path in facts["sources"]]
        if facts["simulated"]:
            text = f"{facts['estimates']} of the board's numbers are estimates, and its file says which"
            rows.append(["estimates", "", text])
        rows += [["warning", "", escape(text)] for text in facts["conditions"].get("warnings", ())]
        known = {key: value for key, value in facts["machine"].items() if key in _SHOWN and value}
        rows += [[escape(key), "", escape(str(value))] for key, value in known.items()]
    missing = f"Not on both sides: {escape(', '.join(document['left_out']))}."
    left = f'<p class="note">{missing}</p>' if document["left_out"] else ""
    note = f'<p class="note">{escape(words.simulated_note())}</p>' if _simulated(document, "a", "b") else ""
    return f"<h2>The two sides</h2>\n{note}\n{left}{_table(['', '', 'from'], rows, (2,))}"


#: Of a machine's description.
_SHOWN = ("cpu", "gpu", "cores", "memory_gb", "threads_used", "system", "time")
#: Numbers of a side with a source: what they are, and where they stand in the document.
_NAMES = {
    "price.usd": ("price of the board, or of the card, $", "usd"),
    "price.host_usd": ("price of the CPU beside the card, $", "host_usd"),
    "power.tdp_w": ("rated power, W", "tdp_w"),
    "memory.peak_gbs": ("peak bandwidth of all memories, GB/s", "peak_gbs"),
    "gpu_memory.peak_gbs": ("… of these, the GPU's", ""),
}


def _fact(document: Document, side: str, path: str) -> list[str]:
    """A row for a number of a side: what it is, its value, and where it comes from."""
    name, key = _NAMES[path]
    value = _value(document, ("sides", side, key), lambda v: f"{v:,.10g}", False) if key else ""
    return [name, value, escape(document["sides"][side]["sources"][path])]
