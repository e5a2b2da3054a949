"""docs/experiments.md: the results as text, tables and plots."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import experiments_plots as plots
from experiments_hosts import against_hosts, host_wins
from experiments_placing import HEADING, cost_of_placing
from experiments_policies import POLICIES
from experiments_tables import Cells, reduction, table, title, worst

from finequery.compare.measures import IN_CACHE, PAPER, mean, percent

#: A relative error or regret as text, and where a plan counts as no faster than one device.
NO_FASTER = 0.99


def write(found: dict[str, Any], folder: Path) -> str:
    """Write the page and its plots; give the page."""
    cells = Cells(found)
    folder.mkdir(parents=True, exist_ok=True)
    images: dict[str, str] = {}
    sections = [_head(cells), _regret(cells), _errors(cells), _latency(cells, images), _bandwidth(cells)]
    sections += [against_hosts(cells), _ablations(cells), _sweeps(cells, images), _losses(cells)]
    sections += [cost_of_placing(cells)]
    text = "\n\n".join(sections) + "\n"
    (folder / "experiments").mkdir(exist_ok=True)
    for name, svg in images.items():
        (folder / "experiments" / f"{name}.svg").write_text(svg, encoding="utf-8")
    (folder / "experiments.md").write_text(text, encoding="utf-8")
    return text


def renew(found: dict[str, Any], folder: Path) -> None:
    """Write the last section of the page anew: what placing costs."""
    path = folder / "experiments.md"
    before = path.read_text(encoding="utf-8").partition(HEADING)[0] if path.exists() else ""
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{before.rstrip()}\n\n{cost_of_placing(Cells(found))}\n".lstrip(), encoding="utf-8")


def headlines(found: dict[str, Any]) -> str:
    """The most important figures in a few lines."""
    cells = Cells(found)
    lines = []
    for board in cells.edge:
        all_of = [n for c in cells.of("query", board=board) if c["suite"] != "synthetic" for n in c["numbers"]]
        at = worst(all_of, regret)
        lines.append(
            f"{title(board)}: regret {percent(mean(map(regret, all_of)))} mean, {percent(regret(at))} worst "
            f"({at['query']}); {percent(reduction(all_of, 'cpu'))} less time than the CPU, "
            f"{percent(reduction(all_of, 'gpu'))} than the GPU, {percent(reduction(all_of, 'better'))} than the better "
            f"(simulated)"
        )
    return "\n".join(lines)


def regret(n: dict[str, Any], of: str = "chosen") -> float:
    """How much longer than the best plan."""
    return max(n[f"{of}_ms"] / n["best_ms"] - 1.0, 0.0)


def _head(cells: Cells) -> str:
    sources = "; ".join(f"{title(b)}: {cells.of('query', board=b)[0]['source']}" for b in cells.edge)
    more = [f"{s:g}" for s in cells.scales if s not in cells.run]
    return f"""# Experiments

Written by `python scripts/experiments.py`; do not edit. **Every time, byte and joule on this page is simulated** (but
for what placing costs, section 8) by the discrete-event simulator of `jetson/simulator.py` on the board files of
`jetson/boards/` (whose numbers say where they come from, many of them estimates). Nothing here was measured on a
Jetson. What was really run is each query once, on the CPU of the machine that wrote this page, for its answer and its
true numbers of rows.

- **Queries.** All 22 of TPC-H and 13 of SSB. None was used to make the model: it is fitted on synthetic points, or is
  the analytic formula where no fitted model is there. Here: {sources}.
- **Scales.** {", ".join(f"{s:g}" for s in cells.run)} ran. Others ({", ".join(more) or "none here"}; marked \\*) are
  *scaled statistics*: rows, keys, groups and bytes go on growing as between the two that ran.
- **Plans.** *chosen*: placed with true rows known, as in a plan's second run. *first run*: placed by estimates, and
  what is left anew whenever a pipeline gave far from what was expected. *CPU only*, *GPU only*: everything that can run
  there, there. *best*: see 1.
- **Objective.** Latency, unless said otherwise; base columns are in memory, and on discrete GPUs resident there,
  unless said *cold*."""


def _scale(cells: Cells, scale: float) -> str:
    return f"{scale:g}" if scale in cells.run else f"{scale:g} \\*"


def _regret(cells: Cells) -> str:
    def rows(found: Iterable[dict[str, Any]]) -> list[list[str]]:
        made = []
        for c in found:
            ns = c["numbers"]
            at, first = worst(ns, regret), worst(ns, lambda n: regret(n, "first"))
            sizes = [n["plans"] for n in ns]
            made.append(
                [title(c["board"]) + ("" if c["resident"] else ", cold"), c["suite"], _scale(cells, c["scale"])]
                + [percent(mean(map(regret, ns))), f"{percent(regret(at))} ({at['query']})"]
                + [
                    percent(mean(regret(n, "first") for n in ns)),
                    f"{percent(regret(first, 'first'))} ({first['query']})",
                ]
                + [f"{statistics.median(sizes):.1e}", f"{sum(n['exact'] for n in ns)} of {len(ns)}"]
            )
        return made

    head = ("board", "suite", "SF", "mean", "worst", "first run, mean", "worst", "plans (median)", "exact")
    edge = [c for b in cells.edge for c in cells.of("query", board=b) if c["suite"] != "synthetic"]
    modes = [c for c in cells.of("query") if ":" in c["board"]]
    hosts = [c for c in cells.of("query") if c["board"] in cells.hosts]
    return f"""## 1. Regret

Time of the chosen plan over that of the best plan, less one, both by the simulator with true rows. Targets: mean at
most 3 %, worst at most 15 %. The best plan of an integrated board is *exact* over all plans whose pipelines run one
after another: every pipeline on the CPU, on the GPU, shared at a ratio (of nine, and then in steps of 0.02 around the
best), or cut at every place into two phases either way in 4, 8, 16 or 32 batches, however many such plans there are
(the column *plans*): pipelines depend on each other there through the devices that hold their results alone, so the sum
is minimised over all assignments of these. From the best of them, from the chosen plans, from CPU only and GPU only,
coordinate descent with the simulator as its judge then lets branches run beside each other. With a discrete GPU, copies
overlap with what runs, and the whole search is coordinate descent over the same placements, from the chosen plans and
the better single device.

{table(head, rows(edge))}

Power modes:

{table(head, rows(modes)) if modes else "(left out by --quick)"}

Hosts with a discrete GPU:

{table(head, rows(hosts))}

The first run pays for estimates of rows that are off, which is not the model's doing. Samples of the tables see what
predicates have to do with each other, across joins too (planner/sampled.py), and what is left is placed anew at
breakers, but what one pipeline turns out to do inside comes too late: how many groups pass a HAVING, say."""


def _errors(cells: Cells) -> str:
    rows, kinds = [], dict[str, list[float]]()
    for c in cells.of("errors"):
        row = [title(c["board"]), c["suite"], _scale(cells, c["scale"])]
        for what in ("chosen", "cpu", "gpu"):
            errors = [abs(e) for n in c["numbers"] for e in n["pipelines"][what]]
            row.append(percent(statistics.median(errors)) if errors else "")
            if what == "chosen":
                row.append(percent(sorted(errors)[int(0.95 * (len(errors) - 1))]))
        whole = [abs(n["predicted_ms"] / n["chosen_ms"] - 1.0) for n in cells.numbers("query", c)]
        rows.append([*row, percent(statistics.median(whole))])
        for n in c["numbers"]:
            for kind, errors in n["kinds"].items():
                kinds.setdefault(kind, []).extend(map(abs, errors))
    by_kind = [
        [*kind.split(), str(len(errors)), percent(statistics.median(errors)), percent(max(errors))]
        for kind, errors in sorted(kinds.items())
    ]
    head = (
        "board",
        "suite",
        "SF",
        "as placed, median",
        "95th percentile",
        "CPU, median",
        "GPU, median",
        "query, median",
    )
    return f"""## 2. Error of predictions

Relative error of the predicted time of a pipeline against the simulated one, rows known, over all pipelines of the
queries: as it was placed, and on either device alone; and of whole queries. Target: median at most 10 %. Models of
simulated boards are factors of the simulator's own formula, or that formula itself: what is seen here is their noise
and the error of composition (shared memory, merges, phases, branches). It says nothing about a real board.

{table(head, rows)}

By kind of sub-task (alone, longer than a microsecond):

{table(("kind", "device", "sub-tasks", "median", "worst"), by_kind)}"""


def _better(n: dict[str, Any]) -> float:
    return min(n["cpu_ms"], n["gpu_ms"])


def _latency(cells: Cells, images: dict[str, str]) -> str:
    rows = []
    for board in cells.edge:
        for c in cells.of("query", board=board):
            if c["suite"] == "synthetic":
                continue
            ns = c["numbers"]
            one = sum(n["devices"] in ("c", "g") for n in ns)
            rows.append(
                [title(board), c["suite"], _scale(cells, c["scale"])]
                + [percent(reduction(ns, of)) for of in ("cpu", "gpu", "better", "mean")]
                + [f"{one} of {len(ns)}", f"{sum(n['devices'] == 'g' for n in ns)}"]
            )
    detail = []
    for suite in ("tpch", "ssb"):
        for c in cells.of("query", board=cells.edge[0], suite=suite, scale=cells.main):
            images[f"latency-{suite}"] = plots.bars(
                f"{title(cells.edge[0])}, {suite} SF {cells.main:g}: time over CPU only (simulated)",
                [n["query"].lstrip("q") for n in c["numbers"]],
                {
                    "CPU only": [1.0 for n in c["numbers"]],
                    "GPU only": [n["gpu_ms"] / n["cpu_ms"] for n in c["numbers"]],
                    "chosen": [n["chosen_ms"] / n["cpu_ms"] for n in c["numbers"]],
                },
                2.0,
            )
            for n in c["numbers"]:
                cut = [percent(1.0 - n["chosen_ms"] / v) for v in (n["cpu_ms"], n["gpu_ms"], _better(n))]
                times = [f"{n[k]:.3g}" for k in ("cpu_ms", "gpu_ms", "chosen_ms", "best_ms")]
                detail.append([suite, n["query"], *times, *cut, f"`{n['plan']}`"])
    head = ("board", "suite", "SF", "vs CPU", "vs GPU", "vs the better", "vs their mean", "one device only", "GPU only")
    columns = ("suite", "query", "CPU ms", "GPU ms", "chosen ms", "best ms", "vs CPU", "vs GPU", "vs better", "plan")
    return f"""## 3. Latency against a single device

Less time than CPU only, GPU only, and the better of both for each query: mean of the queries' reductions. The paper
reports {percent(PAPER["single"].value)} less than "using only GPU or CPU", without saying which mean; its board,
queries and scale are not known. *One device only*: the whole plan was placed on one device.

{table(head, rows)}

![](experiments/latency-tpch.svg)

![](experiments/latency-ssb.svg)

{title(cells.edge[0])}, SF {cells.main:g}. Plan: for each pipeline C (CPU), G (GPU), Bn (both, n % of the rows on the
GPU), Pn (in phases, cut before step n, c or g first); a: beside the one before it.

{table(columns, detail)}"""


def _bandwidth(cells: Cells) -> str:
    rows = []
    for board in cells.edge:
        for c in cells.of("query", board=board):
            if c["suite"] == "synthetic":
                continue
            ns = c["numbers"]
            cpu, gpu, mine = (mean(n[f"{of}_used"] for n in ns) for of in ("cpu", "gpu", "chosen"))
            used = [percent(u) for u in (cpu, gpu, mine)]
            ratio = [f"{mine / u:.2f}" if u > IN_CACHE else "(in cache)" for u in (cpu, gpu)]
            rows.append([title(board), c["suite"], _scale(cells, c["scale"]), *used, *ratio])
    head = ("board", "suite", "SF", "CPU only", "GPU only", "chosen", "chosen / CPU", "chosen / GPU")
    return f"""## 4. Bandwidth utilisation

By the measure of the paper's group (FineStream, eq. 11, over peak): bytes moved to and from memory, over time, over the
memory's peak bandwidth; means over queries, and their ratios. The paper reports {PAPER["bandwidth"].value:g} times. A
plan that moves fewer bytes in less time is no worse for a lower utilisation: small queries are bound by launches and
latencies.

{table(head, rows)}"""


def _ablations(cells: Cells) -> str:
    found = cells.of("ablations")
    groups = sorted({(c["board"], c["scale"]) for c in found}, key=lambda g: (cells.edge.index(g[0]), g[1]))

    def column(board: str, scale: float, name: str, base: str = "FineQuery") -> str:
        ns = [n for c in found if (c["board"], c["scale"]) == (board, scale) for n in c["numbers"]]
        slower = [n[name] / n[base] for n in ns]
        return f"{mean(slower):.2f} ({max(slower):.1f})"

    head = ("", "what", *(f"{title(b)}, SF {_scale(cells, s)}" for b, s in groups))
    rows = [[name, what, *(column(b, s, name) for b, s in groups)] for name, what, _ in POLICIES[1:]]
    names = [k for k in found[0]["numbers"][0] if "," not in k and k != "query" and k not in {p[0] for p in POLICIES}]
    wrong = []
    for name in names:
        wrong.append([name, *(column(b, s, name) for b, s in groups)])
        for of in ("CPU only", "GPU only"):
            values = [column(b, s, f"{name}, {of}", of) for b, s in groups]
            if any(not v.startswith("1.00 (1.0)") for v in values):
                wrong.append([f"… on the {of.split()[0]} alone", *values])
    return f"""## 6. Ablations and other policies

Time over FineQuery's (rows known), mean over all TPC-H and SSB queries; in brackets the worst. All read the same
prices.

{table(head, rows)}

Access patterns and kinds of memory: the same placements with memory touched otherwise. *On the GPU* or *CPU alone*:
over that device alone with its own pattern.

{table(("", *head[2:]), wrong)}

*GPU lanes read ranges*: each lane reads a range, so that a value costs a sector of memory. *CPU threads read strides*:
each thread fetches lines that hold the others' values. Shared caches that would soften this are not modelled."""


def _sweeps(cells: Cells, images: dict[str, str]) -> str:
    board = cells.edge[0]
    texts = ["## 6b. Sweeps", _load(cells, images), _synthetic(cells, images)]
    scale = {
        suite: [_relative(c["numbers"]) for c in cells.of("query", board=board, suite=suite)]
        for suite in ("tpch", "ssb")
    }
    images["scale"] = plots.lines(
        f"{title(board)}: chosen over the better device, by scale (simulated)",
        [_scale(cells, s).replace("\\*", "*") for s in cells.scales],
        scale,
        "scale factor (*: scaled statistics)",
    )
    texts.append("**Scale.** Time over the better single device, mean over queries.\n\n![](experiments/scale.svg)")
    rows = []
    for c in cells.of("query", scale=cells.main):
        if c["board"].partition(":")[0] in cells.edge and c["suite"] == "tpch":
            ns = c["numbers"]
            energy = mean(n["chosen_mj"] / min(n["cpu_mj"], n["gpu_mj"]) for n in ns)
            rows.append(
                [title(c["board"]), f"{mean(n['chosen_ms'] for n in ns):.2f}"]
                + [percent(reduction(ns, of)) for of in ("cpu", "gpu", "better")]
                + [
                    f"{mean(n['chosen_mj'] for n in ns):.1f}",
                    f"{energy:.2f}",
                    f"{sum(n['devices'] == 'g' for n in ns)}",
                ]
            )
    head = ("board", "mean ms", "vs CPU", "vs GPU", "vs better", "mean mJ", "mJ over the better's", "GPU only")
    texts.append(f"**Power modes.** TPC-H SF {cells.main:g}.\n\n{table(head, rows)}")
    rows = []
    for c in cells.of("objectives"):
        ns = c["numbers"]
        row = [title(c["board"]), c["suite"]]
        for what in ("cpu", "gpu", "latency", "energy", "edp"):
            row.append(f"{mean(n[f'{what}_ms'] for n in ns):.2f} ms, {mean(n[f'{what}_mj'] for n in ns):.1f} mJ")
        rows.append(row)
    head = ("board", "suite", "CPU only", "GPU only", "`latency`", "`energy`", "`edp`")
    texts.append(f"**Objectives.** `SET objective`, SF {cells.main:g}, means over queries.\n\n{table(head, rows)}")
    return "\n\n".join(texts)


def _relative(ns: Sequence[dict[str, Any]]) -> float:
    return mean(n["chosen_ms"] / _better(n) for n in ns)


def _load(cells: Cells, images: dict[str, str]) -> str:
    queries = [n for c in cells.of("load") for n in c["numbers"]]
    loads = [point["load"] for point in queries[0]]

    def of(at: int, value: Callable[[dict[str, Any]], float]) -> float:
        return mean(value(n[at]) for n in queries)

    rows, part = [], []
    for at, load in enumerate(loads):
        part.append(of(at, lambda p: p["gpu_part"]))
        rows.append(
            [f"{load:.0%}", percent(part[-1])]
            + [f"{of(at, lambda p, k=k: p[k] / p['chosen_ms']):.2f}" for k in ("unaware_ms", "cpu_ms", "gpu_ms")]
        )
    labels = [f"{load:.0%}" for load in loads]
    images["load"] = plots.lines(
        f"{title(cells.edge[0])}: the GPU's part of the bytes, by its load (simulated)",
        labels,
        {"part": part},
        "GPU load",
    )
    head = ("GPU busy with others", "GPU's part of the bytes", "plan for an idle GPU", "CPU only", "GPU only")
    where = f"{title(cells.edge[0])}, all queries at SF {cells.main:g}"
    return f"""**Load.** {where}, while others keep the GPU busy (`SET gpu_load`): work
moves to the CPU. Times over that of the plan chosen with the load known.

{table(head, rows)}

![](experiments/load.svg)"""


def _synthetic(cells: Cells, images: dict[str, str]) -> str:
    by_name = {n["query"]: n for c in cells.of("query", suite="synthetic") for n in c["numbers"]}
    texts = []
    for kind, what in (
        ("selectivity", "a sum behind a filter"),
        ("selective-join", "a join and a GROUP BY behind a filter"),
        ("skew", "GROUP BY of up to a million keys by a Zipf distribution of this exponent, and the first ten"),
    ):
        of = {k.rpartition("-")[2]: n for k, n in by_name.items() if k.startswith(f"{kind}-")}
        labels = [k if kind == "skew" else f"{int(k) / 10:g}%" for k in of]
        series = {name: [n[f"{key}_ms"] for n in of.values()] for name, key in _LINES}
        images[kind] = plots.lines(f"ms by {kind} (simulated)", labels, series, kind.partition("-")[0])
        rows = [
            [label, *(f"{n[f'{k}_ms']:.3g}" for _, k in _LINES), f"`{n['plan']}`"]
            for label, n in zip(labels, of.values())
        ]
        head = (
            kind.partition("-")[0].replace("selective", "selectivity"),
            *(f"{name} ms" for name, _ in _LINES),
            "plan",
        )
        texts.append(f"**{head[0].capitalize()}**: {what}.\n\n{table(head, rows)}\n\n![](experiments/{kind}.svg)")
    texts.append(
        "The simulator sees skew as what it does to rows, groups and working sets; that hot keys stay in caches, and "
        "that atomic updates of one key wait for each other, it does not."
    )
    return "\n\n".join(texts)


_LINES = (("CPU only", "cpu"), ("GPU only", "gpu"), ("chosen", "chosen"), ("best", "best"))


def _losses(cells: Cells) -> str:
    lines = []
    for board in cells.edge:
        ns = [n for c in cells.of("query", board=board) if c["suite"] != "synthetic" for n in c["numbers"]]
        none = [n for n in ns if n["chosen_ms"] >= NO_FASTER * _better(n)]
        slower = [n for n in ns if n["chosen_ms"] > 1.001 * _better(n)]
        first = [n for n in ns if n["first_ms"] > 1.001 * _better(n)]
        lines.append(
            f"- {title(board)}: of {len(ns)} queries at all scales, {len(none)} are no faster than on the\n"
            f"  better device alone, and {len(slower)} are slower, by the simulator though not by the model; "
            f"in the first run, {len(first)} are slower."
        )
    return "\n".join(
        [
            "## 7. Where FineQuery does not win",
            "",
            *lines,
            *host_wins(cells),
            "- Small queries: below some hundred thousand rows a pipeline is not taken apart, and launches are",
            "  all that counts. There the better device alone is the plan, and there is nothing to gain on it.",
            "- Where one device fills the memory's bandwidth by itself (the GPU at scans on most boards), the other",
            "  one has nothing to add: both share the same bus.",
            "- Energy: an objective of latency keeps both devices awake, which can cost more joules than the better",
            "  device alone takes (6b, power modes); `SET objective = 'energy'` places otherwise.",
        ]
    )
