"""What placing a plan costs: the only times of the experiments that are measured, on the machine that runs them.

    python scripts/experiments.py --placing       # every query on every board, and only this section of the page

Milliseconds of one core, the least of some runs; and what they were spent on, which is the same on every machine:
prices of a sub-task in a variant that were evaluated, and plans with branches beside each other that were compared.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable
from typing import Any

from experiments_plans import Plan
from experiments_tables import Cells, table, title

from finequery.perfmodel.model import Model
from finequery.planner.placement import Schedule
from finequery.planner.stages import Site

RUNS = 15
HEADING = "## 8. What placing costs"
#: Where prices come from: the key of the milliseconds, and words.
SOURCES = (("ms", "models"), ("analytic_ms", "analytic"))


def placing(plan: Plan, site: Site, model: Model) -> dict[str, Any]:
    """Milliseconds of placing a plan whose rows are known, by the board's models and by the analytic fall-back."""
    analytic = Model(site.board, None, "", True)
    schedule = plan.second_run(site, model)
    return {
        "query": plan.name,
        "pipelines": len(plan.true),
        "subtasks": sum(len(part.features) for part in plan.true),
        "prices": schedule.evaluated,
        "compared": schedule.looked,
        "ms": _milliseconds(lambda: plan.second_run(site, model)),
        "analytic_ms": _milliseconds(lambda: plan.second_run(site, analytic)),
    }


def _milliseconds(run: Callable[[], Schedule]) -> float:
    times = []
    for _ in range(RUNS):
        begin = time.thread_time()
        run()
        times.append(time.thread_time() - begin)
    return min(times) * 1e3


def cost_of_placing(cells: Cells) -> str:
    """The section of the page."""
    rows = []
    for c in (c for board in [*cells.edge, *cells.hosts] for c in cells.of("placing", board=board)):
        ns = c["numbers"]
        for key, words in SOURCES:
            most = max(ns, key=lambda n, key=key: n[key])
            mean = statistics.mean(n[key] for n in ns)
            rows.append([title(c["board"]), c["suite"], words, f"{mean:.2f}", f"{most[key]:.2f} ({most['query']})"])
            rows[-1] += [f"{statistics.mean(n['prices'] for n in ns):.0f}", str(max(n["prices"] for n in ns))]
            rows[-1] += [str(max(n["compared"] for n in ns))]
    head = ("board", "suite", "prices from", "mean, ms", "worst, ms", "prices, mean", "most", "plans compared, most")
    return f"""{HEADING}

**Measured**, unlike the rest of this page: milliseconds of one core of the machine that wrote it, at SF {cells.main:g},
the least of {RUNS} runs for each query. Target: 0.5 ms. A plan is placed before its first run and, if that counted
other rows than were expected, while it runs and before the second; a plan that comes again pays nothing. *Prices* are
those of a sub-task in a variant (a device, and a share of the rows) that were evaluated, *plans compared* those with
branches beside each other; both are the same on every machine.

{table(head, rows)}"""


def printed(cells: Iterable[dict[str, Any]]) -> str:
    """Every query, for a terminal."""
    lines = []
    for c in cells:
        ns = c["numbers"]
        lines += ["", f"{title(c['board'])}, {c['suite']}, SF {c['scale']:g} ({c['source']})"]
        lines.append(f"{'query':8}{'pipelines':>10}{'sub-tasks':>10}{'prices':>8}{'plans':>7}{'ms':>8}{'analytic':>10}")
        for n in ns:
            lines.append(
                f"{n['query']:8}{n['pipelines']:10}{n['subtasks']:10}{n['prices']:8}{n['compared']:7}"
                f"{n['ms']:8.3f}{n['analytic_ms']:10.3f}"
            )
        means = [statistics.mean(n[key] for n in ns) for key, _ in SOURCES]
        most = [max(n[key] for n in ns) for key, _ in SOURCES]
        lines.append(f"{'mean':43}{means[0]:8.3f}{means[1]:10.3f}")
        lines.append(f"{'worst':43}{most[0]:8.3f}{most[1]:10.3f}")
    return "\n".join(lines[1:])
