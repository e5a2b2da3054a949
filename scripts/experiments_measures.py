"""What the experiments compute: numbers by query for a board, and sweeps. All times and joules are simulated."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import experiments_patterns as patterns
from experiments_plans import Plan
from experiments_policies import POLICIES, chosen, single
from experiments_search import best

from finequery.compare.simulate import short
from finequery.jetson.simulator import Machine
from finequery.operators.context import CPU, GPU, Placement
from finequery.perfmodel.model import Model, Variant
from finequery.planner.scheduler import Simulated, simulate
from finequery.planner.stages import Site, device_works

Numbers = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Cell:
    """What is measured together: a board in a power mode, and whether a discrete GPU has the columns already."""

    board: str
    suite: str
    scale: float
    resident: bool = True


def ran(plan: Plan, placements: Sequence[Placement], site: Site) -> Simulated:
    """A placed plan in the simulator."""
    return simulate(plan.true, placements, site)


def host(plan: Plan, site: Site, model: Model) -> Numbers:
    """What boards are compared with: ms and mJ on a host."""
    numbers: Numbers = {"query": plan.name}
    ways = (("chosen", chosen), ("gpu", single(GPU)))
    for name, policy in ways:
        t = ran(plan, policy(plan, site, model), site).timeline
        numbers |= {f"{name}_ms": t.seconds * 1e3, f"{name}_mj": t.joules * 1e3}
    return numbers


def query(plan: Plan, site: Site, model: Model) -> Numbers:
    """All that the tables say of a query on a board: ms, mJ, share of peak bandwidth."""
    schedule = plan.second_run(site, model)
    mine = [p.chosen.placement for p in schedule.placed]
    first = plan.first_run(site, model)
    runs = {
        "chosen": ran(plan, mine, site),
        "first": ran(plan, first, site),
        "cpu": ran(plan, single(CPU)(plan, site, model), site),
        "gpu": ran(plan, single(GPU)(plan, site, model), site),
    }
    numbers: Numbers = {"query": plan.name, "pipelines": len(plan.true), "scaled": plan.scaled}
    for name, run in runs.items():
        t = run.timeline
        numbers |= {f"{name}_ms": t.seconds * 1e3, f"{name}_mj": t.joules * 1e3, f"{name}_used": t.utilisation}
    numbers["predicted_ms"] = schedule.price.seconds * 1e3
    numbers["devices"] = "".join(sorted({p.device[0] for p in mine}))
    numbers["along"] = any(p.along for p in mine)
    numbers["plan"] = " ".join(map(short, mine))
    found = best(plan, site, [mine, first])
    numbers |= {"best_ms": found.seconds * 1e3, "best_plan": " ".join(map(short, found.placements))}
    return numbers | {"plans": found.plans, "exact": found.exact}


def errors(plan: Plan, site: Site, model: Model) -> Numbers:
    """Relative errors of the model: of each pipeline as it was placed and on either device, and of each sub-task alone,
    by kind and device."""
    schedule = plan.second_run(site, model)
    machine = Machine(site.board, load=site.load)
    pipelines: dict[str, list[float]] = {"chosen": [], "cpu": [], "gpu": []}
    kinds: dict[str, list[float]] = {}
    for item in schedule.placed:
        for candidate in item.candidates:
            device = candidate.placement.device
            is_chosen = candidate.price == item.chosen.price
            if device in ("cpu", "gpu") or is_chosen:
                took = simulate([item.part], [candidate.placement], site).timeline.seconds
                error = candidate.price.seconds / took - 1.0
                if device in ("cpu", "gpu"):
                    pipelines[device].append(error)
                if is_chosen:
                    pipelines["chosen"].append(error)
        for device in ("cpu", "gpu") if site.board.gpu is not None else ("cpu",):
            variant = Variant(device, site.threads if device == "cpu" else 1, load=site.load.get(device, 0.0))
            prices = model.price_all([[f] for f in item.part.features], [variant])
            for i, f in enumerate(item.part.features):
                took = machine.solo(device_works([f], site.board, device), device, site.threads).seconds
                fixed = model.analytic.batch_seconds(device)
                if took > 1e-6 + fixed:
                    price = prices.price(0, i).seconds + fixed
                    kinds.setdefault(f"{f.kind} {device}", []).append(price / took - 1.0)
    return {"query": plan.name, "pipelines": pipelines, "kinds": kinds}


def ablations(plan: Plan, site: Site, model: Model) -> Numbers:
    """Milliseconds by policy and by access pattern."""
    numbers: Numbers = {"query": plan.name}
    for name, _, policy in POLICIES:
        numbers[name] = ran(plan, policy(plan, site, model), site).timeline.seconds * 1e3
    mine, gpu = chosen(plan, site, model), single(GPU)(plan, site, model)
    cpu = single(CPU)(plan, site, model)
    for name, change in patterns.PATTERNS:
        for of, placements in (("", mine), (", GPU only", gpu), (", CPU only", cpu)):
            numbers[name + of] = patterns.run(plan.true, placements, site, change).seconds * 1e3
    return numbers


def gpu_part(run: Simulated) -> float:
    """The GPU's share of all bytes that were moved."""
    moved = {"cpu": 0.0, "gpu": 0.0}
    for span in run.timeline.spans:
        if span.engine in moved:
            moved[span.engine] += span.nbytes
    return moved["gpu"] / max(sum(moved.values()), 1e-300)


def under_load(plan: Plan, site: Site, model: Model, loads: Sequence[float]) -> list[Numbers]:
    """A GPU that others keep busy: what is chosen with that known, and the plan for an idle GPU kept to."""
    idle = chosen(plan, site, model)
    found = []
    for load in loads:
        busy = Site(site.board, site.threads, {"gpu": load}, site.resident)
        mine = ran(plan, chosen(plan, busy, model), busy)
        numbers = {"load": load, "gpu_part": gpu_part(mine), "chosen_ms": mine.timeline.seconds * 1e3}
        for name, placements in (("unaware", idle), ("cpu", single(CPU)(plan, busy, model))):
            numbers[f"{name}_ms"] = ran(plan, placements, busy).timeline.seconds * 1e3
        numbers["gpu_ms"] = ran(plan, single(GPU)(plan, busy, model), busy).timeline.seconds * 1e3
        found.append(numbers)
    return found


def objectives(plan: Plan, site: Site, model: Model) -> Numbers:
    """Milliseconds and millijoules for each objective, and of one device alone."""
    numbers: Numbers = {"query": plan.name}
    ways = {
        objective: [p.chosen.placement for p in plan.second_run(site, model, objective=objective).placed]
        for objective in ("latency", "energy", "edp")
    }
    ways |= {"cpu": single(CPU)(plan, site, model), "gpu": single(GPU)(plan, site, model)}
    for (name, placements), what in itertools.product(ways.items(), ("ms", "mj")):
        t = ran(plan, placements, site).timeline
        numbers[f"{name}_{what}"] = (t.seconds if what == "ms" else t.joules) * 1e3
    return numbers
