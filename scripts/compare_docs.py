"""docs/comparison.md: AGX Xavier beside discrete GPUs, with the pages, plots and numbers that it links to."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path

from finequery.compare import command, comparison, page, plots, sides, words, work
from finequery.compare.measures import percent
from finequery.compare.words import MEASURES, NONE, Document, number, share, times

MINE, HOSTS = "agx-xavier", ("h100", "rtx-2080-ti", "v100")
SUITES = ("ssb", "tpch")
#: The suite and the host whose plots the page shows; all others are in their pages.
SHOWN = ("ssb", "h100")

Found = dict[tuple[str, str], Document]


def documents(scale: float, data: dict[str, Path]) -> Found:
    """The comparisons by suite and host. ``data``: folders of the suites' Parquet files; what is not there is made."""
    found = {}
    for suite in SUITES:
        what = work.suite(suite, scale, data.get(suite))
        mine, *theirs = command.run([sides.side(name) for name in (MINE, *HOSTS)], what)
        found |= {(suite, host): comparison.compare(mine, result) for host, result in zip(HOSTS, theirs)}
    return found


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; all columns but the first to the right."""
    lines = ["| " + " | ".join(head) + " |", "|---|" + "--:|" * (len(head) - 1)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def write(found: Found, folder: Path, options: str) -> Path:
    """The page, the pages it links to, plots and numbers."""
    under = folder / "comparison"
    under.mkdir(parents=True, exist_ok=True)
    for (suite, host), document in found.items():
        page.write(under / f"{suite}-{host}.html", document)
        comparison.write(under / f"{suite}-{host}.json", document)
    shown = found[SHOWN]
    (query,) = shown["timelines"]
    made = {"latency": page.latency_plot(shown), "energy": page.energy_plot(shown)}
    made["timeline"] = page.timeline_plot(shown, query)
    for name, plot in made.items():
        (under / f"{name}.svg").write_text(plots.alone(plot), encoding="utf-8")
    path = folder / "comparison.md"
    path.write_text(_text(found, options, query), encoding="utf-8")
    return path


def _text(found: Found, options: str, query: str) -> str:
    any_of = found[SHOWN]
    paper = any_of["paper"]
    against = "\n\n".join(_against(found, suite) for suite in SUITES)
    queries = "\n\n".join(_queries(found, suite) for suite in SUITES)
    names = [d["sides"]["b"]["title"] for (suite, _), d in found.items() if suite == SUITES[0]]
    definitions = "\n".join(f"- **{m.name[0].upper()}{m.name[1:]}**: {m.definition}." for m in MEASURES)
    links = [
        f"[{work.title(s, d['scale'])}, {d['sides']['b']['title']}](comparison/{s}-{h}.html)"
        for (s, h), d in found.items()
    ]
    page_text = f"""# AGX Xavier beside discrete GPUs

Written by `python scripts/compare_discrete.py --docs{options}`; do not edit. **Every time, joule and byte on this page
is simulated**: neither a Jetson nor one of {", ".join(names)} was at hand. {words.simulated_note()}

Any two machines can be compared like this, measured or simulated: `finequery compare this h100`,
`finequery compare jetson.json rtx-2080-ti:gpu`, `finequery compare --help`. The pages with all queries, plots and
sources, each with its numbers as JSON beside it:

{chr(10).join(f"- {link}" for link in links)}

![The upper part of such a page](images/comparison.png)

A is {any_of["sides"]["a"]["title"]}, as FineQuery places queries there; B is the other machine, with what FineQuery
does there and with its GPU alone, which stands for the paper's "discrete architecture". {words.REGIME_NOTES}

## In short

{_short(found)}

## A against B, with the paper beside

The paper: {paper["latency"]["text"]} time ({paper["latency"]["source"]}), {paper["cost"]["text"]} the performance per
cost and {paper["energy"]["text"]} the energy efficiency of {paper["cost"]["against"]} ({paper["cost"]["source"]}).
{words.PAPER_NOTE}

{against}

{definitions}

## Against one device alone

The paper: {paper["single"]["text"]} time and {paper["bandwidth"]["text"]} the bandwidth utilisation of
{paper["single"]["against"]} ({paper["single"]["source"]}). Means over queries; what "one device alone" means there is
not published. {words.USED_NOTE}

{_alone(found)}

## SSB beside {any_of["sides"]["b"]["title"]}

![Latency by query](comparison/latency.svg)

![Energy against latency](comparison/energy.svg)

![Timeline of {query}](comparison/timeline.svg)

## Query by query

Milliseconds, simulated; B as FineQuery places queries there.

{queries}

## Prices and power

Dollars and watts that the ratios are made of, with their sources and dates:

{_facts(found)}
"""
    return "\n\n".join(_filled(part) for part in page_text.strip().split("\n\n")) + "\n"


def _filled(part: str) -> str:
    """A paragraph in lines of 120 characters; tables, lists, headings and pictures as they are."""
    if part.startswith("- "):
        lines = (textwrap.fill(line, 120, subsequent_indent="  ", break_on_hyphens=False) for line in part.split("\n"))
        return "\n".join(lines)
    return part if part[0] in "#|!" else textwrap.fill(" ".join(part.split()), 120, break_on_hyphens=False)


def _short(found: Found) -> str:
    """A line for each suite and host: against the GPU alone there."""
    lines = []
    for (suite, _), d in found.items():
        resident, cold = (d["against"]["gpu"][regime] for regime in ("resident", "cold"))

        def time(one: Document) -> str:
            over = one["time_over"]
            return f"{times(over)} the time" if over >= 1.0 else f"{times(1.0 / over)} as fast"

        count = len(d["queries"])
        lines.append(
            f"- **{d['sides']['b']['title']}, {work.title(suite, d['scale'])}.** Columns resident there: A takes "
            f"{time(resident)} (faster in {resident['faster']} of {count} queries), does {times(resident['per_cost'])} "
            f"per dollar and takes {times(1.0 / resident['joules'])} the joules. Cold: {time(cold)} (faster in "
            f"{cold['faster']}), {times(cold['per_cost'])} per dollar and {times(1.0 / cold['joules'])} the joules."
        )
    return "Against the GPU alone of the other machine, simulated:\n\n" + "\n".join(lines)


def _against(found: Found, suite: str) -> str:
    of = {host: d for (s, host), d in found.items() if s == suite}
    columns = [(host, *column) for host, d in of.items() for column in words.columns(d)]
    head = [f"{work.title(suite, next(iter(of.values()))['scale'])} ({words.MARK})", "columns on B"]
    head += [m.name for m in MEASURES]
    rows = []
    for host, way, regime in columns:
        values = of[host]["against"][way][regime]
        name = f"{of[host]['sides']['b']['title']}, {'FineQuery there' if way == 'placed' else 'its GPU alone'}"
        rows.append([name, regime, *(NONE if values[m.key] is None else m.write(values[m.key]) for m in MEASURES)])
    papers = [of[HOSTS[0]]["paper"][m.paper]["text"] if m.paper else "" for m in MEASURES]
    return markdown(head, [*rows, ["*the paper*", "", *papers]])


def _alone(found: Found) -> str:
    rows = []
    for (suite, host), d in found.items():
        for side in ("a", "b") if host == HOSTS[0] else ("b",):  # A is the same beside each host
            for regime, one in sorted(d["alone"][side].items()):
                if regime == "cold" and not d["sides"][side]["discrete"]:
                    continue
                name = words.side_title(d, side, regime, mark=False)
                row = [f"{name}, {work.title(suite, d['scale'])}"]
                row += [percent(one["less_time"][key]) for key in words.ALONE]
                for value in ("used", "traffic"):
                    row.append(share(one[value]["mean"]["placed"]))
                    over = one[value]["over"]
                    row.append(
                        " / ".join(times(over[k]) if k in over else "(in cache)" for k in ("cpu", "gpu", "mean"))
                    )
                rows.append(row)
    head = [words.MARK, *(f"less time than {text}" for text in words.ALONE.values())]
    for what in ("operands", "traffic"):
        head += [f"bandwidth used, by {what}", "over CPU / GPU / their mean"]
    return markdown(head, rows)


def _queries(found: Found, suite: str) -> str:
    of = [d for (s, _), d in found.items() if s == suite]
    head = [f"{work.title(suite, of[0]['scale'])} ({words.MARK})", of[0]["sides"]["a"]["title"]]
    for d in of:
        head += [f"{d['sides']['b']['title']}, {regime}" for regime in sorted(d["regimes"])]
    rows = []
    for i, q in enumerate(of[0]["queries"]):
        row = [q["query"], number(q["a"]["placed"]["resident"]["ms"])]
        for d in of:
            row += [number(d["queries"][i]["b"]["placed"][regime]["ms"]) for regime in sorted(d["regimes"])]
        rows.append(row)
    return markdown(head, rows)


def _facts(found: Found) -> str:
    sides_of = [found[SHOWN]["sides"]["a"], *(d["sides"]["b"] for (s, _), d in found.items() if s == SUITES[0])]
    rows = []
    for facts in sides_of:
        row = [facts["title"]]
        for path, key in (("price.usd", "usd"), ("price.host_usd", "host_usd"), ("power.tdp_w", "tdp_w")):
            row.append(f"{facts[key]:,.10g} ({facts['sources'][path]})")
        rows.append([*row, f"{facts['peak_gbs']:,.10g}"])
    return markdown(["", "board or card, $", "CPU beside it, $", "rated, W", "peak of all memories, GB/s"], rows)
