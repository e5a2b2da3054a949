"""Other ways to place a plan, as functions from a plan to placements: fixed rules, FineQuery with something left out,
and the policies of its relatives, in their published form as far as it is known. All read the same prices.

Relatives: HyPE's response-time criterion (WTAR) and OmniDB's greedy throughput rule place whole pipelines one after
another with regard to queues; EdgeNN splits at the ratio of times alone; SABER's HLS hands out batches with look-ahead;
HJ13 (He, Lu, He, PVLDB 2013) splits everything at one ratio (DD) or nothing (OL).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from experiments_plans import Plan

from finequery.operators.context import CPU, GPU, Placement
from finequery.perfmodel.compose import Price
from finequery.perfmodel.model import Model
from finequery.planner.candidates import FEW_ROWS, SHARES, Asked, Offers
from finequery.planner.stages import Site

Policy = Callable[[Plan, Site, Model], list[Placement]]

#: Batches of a pipeline that HLS hands out, and its switch threshold (SABER's default).
HLS_BATCHES, HLS_SWITCH = 16, 10
#: How far a device's load may lie above the mean in OmniDB (its T0).
OMNIDB_BALANCE = 0.20


def chosen(plan: Plan, site: Site, model: Model) -> list[Placement]:
    """FineQuery, rows known."""
    return [p.chosen.placement for p in plan.second_run(site, model).placed]


def estimated(plan: Plan, site: Site, model: Model) -> list[Placement]:
    """FineQuery in a plan's first run."""
    return plan.first_run(site, model)


def without(*forms: str) -> Policy:
    """FineQuery without kinds of candidates."""

    def policy(plan: Plan, site: Site, model: Model) -> list[Placement]:
        left = Asked().forms - set(forms)
        return [p.chosen.placement for p in plan.second_run(site, model, forms=left).placed]

    return policy


def single(device: Placement) -> Policy:
    """Everything on one device that can run there."""

    def policy(plan: Plan, site: Site, model: Model) -> list[Placement]:
        return [CPU if plan.reasons.get(part.info.number) else device for part in plan.true]

    return policy


def whole_query(plan: Plan, site: Site, model: Model) -> list[Placement]:
    """The better device for the whole query, by the model."""
    schedule = plan.second_run(site, model, forms=frozenset())
    best = min(schedule.alone, key=lambda device: schedule.alone[device].seconds, default="cpu")
    return single(GPU if best == "gpu" else CPU)(plan, site, model)


def by_rows(plan: Plan, site: Site, model: Model) -> list[Placement]:
    """Fixed rule: pipelines over many rows on the GPU."""
    return _where(plan, lambda part: part.rows >= FEW_ROWS)


def by_kind(plan: Plan, site: Site, model: Model) -> list[Placement]:
    """Fixed rule, after Cheng, He, Lau (DaMoN 2015): joins and sorts on the GPU, selections and aggregations not."""
    kinds = {"probe", "build", "sort", "top-k", "pairs"}
    return _where(plan, lambda part: any(f.kind in kinds for f in part.features))


def _where(plan: Plan, gpu: Callable) -> list[Placement]:
    return [GPU if gpu(part) and not plan.reasons.get(part.info.number) else CPU for part in plan.true]


def _prices(plan: Plan, site: Site, model: Model) -> Iterator[tuple[int, tuple[int, ...], Price, Price | None]]:
    """For each pipeline: number, those that it reads, its price on the CPU, and on the GPU if it can run there."""
    offers = Offers(plan.true, site, model, plan.asked(forms=frozenset()))
    for place, part in enumerate(plan.true):
        found = {c.placement.device: c.price for c in offers.of(place)}
        yield part.info.number, part.info.after, found["cpu"], found.get("gpu")


def wtar(plan: Plan, site: Site, model: Model) -> list[Placement]:
    """HyPE's WTAR: where a pipeline would be through first, behind what is queued there."""
    free, ends = {"cpu": 0.0, "gpu": 0.0}, dict[int, float]()
    placements = []
    for number, after, cpu, gpu in _prices(plan, site, model):
        ready = max((ends.get(n, 0.0) for n in after), default=0.0)
        ways = {"cpu": max(free["cpu"], ready) + cpu.seconds}
        if gpu is not None:
            ways["gpu"] = max(free["gpu"], ready) + gpu.seconds
        device = min(ways, key=ways.__getitem__)
        free[device] = ends[number] = ways[device]
        placements.append(replace(GPU if device == "gpu" else CPU, along=bool(placements)))
    return placements


def omnidb(plan: Plan, site: Site, model: Model) -> list[Placement]:
    """OmniDB's greedy rule: the fastest of the devices whose load is near the mean, else the least loaded."""
    load = {"cpu": 0.0, "gpu": 0.0}
    placements = []
    for _, _, cpu, gpu in _prices(plan, site, model):
        took = {"cpu": cpu.seconds} | ({"gpu": gpu.seconds} if gpu is not None else {})
        mean = sum(load.values()) / len(load)
        near = [d for d in took if load[d] <= (1.0 + OMNIDB_BALANCE) * mean]
        device = min(near, key=took.__getitem__) if near else min(took, key=load.__getitem__)
        load[device] += took[device]
        placements.append(replace(GPU if device == "gpu" else CPU, along=bool(placements)))
    return placements


def edgenn(plan: Plan, site: Site, model: Model) -> list[Placement]:
    """EdgeNN: p_cpu = t_gpu / (t_cpu + t_gpu), or nothing for the CPU where copying its part would take longer than
    the GPU takes for all (on an integrated board nothing is copied)."""
    placements = []
    for (_, _, cpu, gpu), part in zip(_prices(plan, site, model), plan.true):
        if gpu is None:
            placements.append(CPU)
            continue
        link = site.board.link
        copied = part.base_bytes / (link.h2d_gbs * 1e9) if site.board.discrete and link is not None else 0.0
        share = 1.0 if copied >= gpu.seconds else cpu.seconds / (cpu.seconds + gpu.seconds)
        placements.append(_split(share))
    return placements


def hls(plan: Plan, site: Site, model: Model) -> list[Placement]:
    """SABER's HLS within each pipeline: devices take batches when they are idle; the slower one only when the batches
    before would keep the faster one busy for longer than it needs itself."""
    return [
        CPU if gpu is None else _split(hls_share(cpu.seconds, gpu.seconds))
        for _, _, cpu, gpu in _prices(plan, site, model)
    ]


def hls_share(cpu: float, gpu: float, batches: int = HLS_BATCHES) -> float:
    """The GPU's share of the batches of a task that takes ``cpu`` or ``gpu`` seconds alone."""
    took = {"cpu": cpu / batches, "gpu": gpu / batches}
    preferred = min(took, key=took.__getitem__)
    free, done, in_a_row, queued = dict.fromkeys(took, 0.0), dict.fromkeys(took, 0), 0, batches
    while queued:
        device = min(free, key=free.__getitem__)
        other = preferred if device != preferred else ("gpu" if preferred == "cpu" else "cpu")
        if device == preferred and in_a_row < HLS_SWITCH:
            takes, in_a_row = True, in_a_row + 1
        elif device != preferred:
            takes = in_a_row >= HLS_SWITCH or (queued - 1) * took[preferred] >= took[device]
            in_a_row = 0 if takes else in_a_row
        else:
            takes, in_a_row = True, 0  # nobody else came for it
        if takes:
            done[device] += 1
            queued -= 1
            free[device] += took[device]
        else:
            free[device] = max(free[other], free[device]) + 1e-12
    return done["gpu"] / batches


def data_dividing(plan: Plan, site: Site, model: Model) -> list[Placement]:
    """HJ13's DD: one ratio for all, the one with the least max(T_cpu, T_gpu)."""
    prices = list(_prices(plan, site, model))

    def took(share: float) -> float:
        cpu = sum(c.seconds * (1.0 if g is None else 1.0 - share) for _, _, c, g in prices)
        return max(cpu, sum(g.seconds * share for _, _, _, g in prices if g is not None))

    best = min((0.0, *SHARES, 1.0), key=took)
    return [CPU if g is None else _split(best) for _, _, _, g in prices]


def off_loading(plan: Plan, site: Site, model: Model) -> list[Placement]:
    """HJ13's OL: each pipeline on the device that is faster at it."""
    return [GPU if g is not None and g.seconds < c.seconds else CPU for _, _, c, g in _prices(plan, site, model)]


def _split(share: float) -> Placement:
    if share <= 0.0:
        return CPU
    return GPU if share >= 1.0 else Placement("both", round(share, 4))


#: Name, what it is, and the policy; the first is what others are compared with.
POLICIES: tuple[tuple[str, str, Policy], ...] = (
    ("FineQuery", "the chosen plan, rows known", chosen),
    ("first run", "rows estimated, placed anew at breakers", estimated),
    ("no split", "without rows shared out", without("both")),
    ("no phases", "without pipelining over batches", without("phases")),
    ("no co-running", "without branches beside each other", without("along")),
    ("operator level", "one device for a whole pipeline, one pipeline at a time", without("both", "phases", "along")),
    ("query level", "the better device for the whole query, by the model", whole_query),
    ("CPU only", "", single(CPU)),
    ("GPU only", "", single(GPU)),
    ("rule: rows", f"GPU from {FEW_ROWS:,} rows on", by_rows),
    ("rule: kinds", "joins and sorts on the GPU (after DaMoN 2015)", by_kind),
    ("HyPE WTAR", "least response time behind the queues", wtar),
    ("OmniDB", "the fastest device within 20 % of the mean load", omnidb),
    ("EdgeNN", "ratio t_gpu / (t_cpu + t_gpu)", edgenn),
    ("SABER HLS", "batches with look-ahead; one for the slower device after ten", hls),
    ("HJ13 DD", "one ratio for all pipelines", data_dividing),
    ("HJ13 OL", "the faster device for each pipeline", off_loading),
)
