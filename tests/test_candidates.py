"""Candidates: what the compiled composition says against perfmodel.compose, and how much work placing is."""

from __future__ import annotations

import itertools
import math
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from test_experiments import plan

from finequery.jetson import board as boards
from finequery.jetson import costs
from finequery.operators import native
from finequery.perfmodel import analytic
from finequery.perfmodel.compose import Price, certain, co_run, total
from finequery.perfmodel.model import Model
from finequery.planner import candidates, placement, scheduler
from finequery.planner.candidates import COUNTS, SHARES, Asked, Candidate, Offers
from finequery.planner.placement import OBJECTIVES, place
from finequery.planner.scheduler import near
from finequery.planner.stages import (
    Part,
    Site,
    coherence,
    column_batches,
    cut_in_features,
    devices,
    end_device,
    front_features,
    merge_work,
)


class Composed:
    """The price of a candidate by the formulas of perfmodel.compose, from prices of sub-tasks."""

    def __init__(self, site: Site, model: Model):
        self.site, self.model, self.board = site, model, site.board
        self.once = model.analytic.batch_seconds("gpu") / (1.0 - site.load.get("gpu", 0.0))
        self.peak = np.inf if self.board.discrete else self.board.memory.shared_gbs * 1e9

    def fused(self, features: Any, device: str, share: float) -> Price:
        threads = self.site.threads if device == "cpu" else 1
        return total(self.model.price(features, device, threads=threads, share=share, load=self.site.load))

    def shared(self, part: Part, share: float) -> Price:
        split = part.features if part.shared_end else part.features[:-1]
        cpu, gpu = self.fused(split, "cpu", 1.0 - share), self.fused(split, "gpu", share)
        gpu = self.launched(gpu, part.base_bytes * share, split)
        gpu += certain(self.coherent(part.probed_bytes(0, len(part.features))))
        if part.shared_end:
            cost = costs.cpu_cost(self.board, [merge_work(part)], costs.load())
            seconds = cost.seconds(self.site.threads) + cost.fixed
            joules = seconds * self.board.power.core_w * cost.threads(self.site.threads)
            end = certain(seconds, cost.traffic, joules)
        else:
            end = self.fused(part.features[-1:], "cpu", 1.0)
        if self.board.discrete and self.board.link is not None:
            link = self.board.link
            end += certain(link.latency_us * 1e-6 + part.result_bytes * share / (link.d2h_gbs * 1e9))
        return self.with_rest(co_run((cpu, gpu), self.peak) + end)

    def phases(self, part: Part, cut: int, first: str, batches: int) -> Price:
        at = cut_in_features(part, cut)
        front, back = front_features(part, at), part.features[at:]
        on_cpu, on_gpu = (front, back) if first == "cpu" else (back, front)
        cpu, gpu = self.fused(on_cpu, "cpu", 1.0 / batches), self.fused(on_gpu, "gpu", 1.0 / batches)
        looked_up = part.probed_bytes(*((at, len(part.features)) if first == "cpu" else (0, at)))
        halves = part.features[:at], part.features[at:]
        once = {"cpu": [0.0] * 3, "gpu": [0.0] * 3}  # what the host pays
        rest: dict[str, Price] = {}
        for own, device, price in zip(halves if first == "cpu" else halves[::-1], ("cpu", "gpu"), (cpu, gpu)):
            ends = price.seconds, price.low, price.high
            once[device] = [min(self.host(own), 0.9 * t) for t in ends]
            rest[device] = Price(*(t - o for t, o in zip(ends, once[device])), price.nbytes, price.joules)
        rest["gpu"] += certain(self.once + self.coherent(looked_up))
        step, copy = co_run((rest["cpu"], rest["gpu"]), self.peak), 0.0
        if self.board.discrete and self.board.link is not None:
            gbs = self.board.link.h2d_gbs if first == "cpu" else self.board.link.d2h_gbs
            handed = front[-1].rows * front[-1].bytes_out
            copy = self.board.link.latency_us * 1e-6 + handed / batches / (gbs * 1e9)
        second, ahead, found = "gpu" if first == "cpu" else "cpu", 4 if copy else 2, []
        for n, end in enumerate(("seconds", "low", "high")):
            each, last = max(getattr(step, end), copy), getattr(rest[second], end)
            late = max((batches - 1) * max(last, copy), (batches - ahead) * each + last) + once[second][n]
            found.append(getattr(rest["cpu"], end) + getattr(rest["gpu"], end) + once[first][n] + copy)
            found[-1] += max((batches - 1) * each, late)
        return self.with_rest(Price(*found, step.nbytes * batches, step.joules * batches))

    def host(self, features: Any) -> float:
        return float(sum(self.model.analytic.fixed_seconds(f.model) for f in features))

    def launched(self, gpu: Price, base: float, features: Any) -> Price:
        link = self.board.link
        if self.site.resident or not self.board.discrete or link is None or not base:
            return gpu + certain(self.once)
        batches = column_batches(base)
        copy, found = base / (link.h2d_gbs * 1e9) / batches + link.latency_us * 1e-6, []
        for t in (gpu.seconds, gpu.low, gpu.high):
            once = min(self.host(features), 0.9 * t)
            work = (t - once) / batches + self.once
            found.append(max(copy + once + batches * work, batches * copy + work))
        return Price(*found, gpu.nbytes, gpu.joules + base / 1e9 * link.joules_per_gb)

    def coherent(self, nbytes: float) -> float:
        return coherence(self.board, nbytes) / (1.0 - self.site.load.get("gpu", 0.0))

    def with_rest(self, price: Price) -> Price:
        return price + Price(joules=price.seconds * self.board.power.idle_w)

    def price(self, part: Part, candidate: Candidate) -> Price:
        p = candidate.placement
        if p.device == "both":
            return self.shared(part, candidate.choice)
        if p.device == "phases":
            return self.phases(part, p.cut, p.first, round(candidate.choice))
        price = self.fused(part.features, p.device, 1.0)
        return self.with_rest(self.launched(price, part.base_bytes, part.features) if p.device == "gpu" else price)


@pytest.mark.parametrize("load", [{}, {"gpu": 0.5, "cpu": 0.25}], ids=["free", "busy"])
@pytest.mark.parametrize("name", ["agx-xavier", "orin-nano", "rtx-3090", "rtx-3090 cold"])
def test_candidates_take_what_the_formulas_say(name: str, load: dict[str, float]) -> None:
    """Every candidate but those between two shares of the grid, whose prices are interpolated."""
    board, made = boards.load(name.removesuffix(" cold")), plan()
    site = Site(board, board.cpu.cores, load, not name.endswith("cold"))
    model = Model(board, None, "", True)
    composed, offers, devices = Composed(site, model), Offers(made.true, site, model, made.asked()), Counter[str]()
    for number, part in enumerate(made.true):
        for candidate in offers.of(number):
            if candidate.placement.device == "both" and candidate.choice not in SHARES:
                continue
            devices[candidate.placement.device] += 1
            want = composed.price(part, candidate)
            found = candidate.price
            # by co_run nothing takes less than its bytes over the peak, which the low end of an interval may
            low = ["low"] if composed.peak == np.inf or candidate.placement.device in ("cpu", "gpu") else []
            for end in ("seconds", "high", "nbytes", "joules", *low):
                assert getattr(found, end) == pytest.approx(getattr(want, end)), (part.info.number, candidate, end)
    assert devices == {"cpu": 4, "gpu": 4, "both": 10, "phases": 4}


def test_number_of_batches_is_the_best() -> None:
    board, made = boards.load("agx-xavier"), plan()
    site, model = Site(board, board.cpu.cores), Model(board, None, "", True)
    composed, part = Composed(site, model), made.true[2]
    for candidate in Offers(made.true, site, model, made.asked()).of(2):
        if candidate.placement.device == "phases":
            p = candidate.placement
            ways = {n: composed.phases(part, p.cut, p.first, n).seconds for n in COUNTS}
            assert round(candidate.choice) == min(ways, key=ways.__getitem__)


def test_best_share_between_those_of_the_grid() -> None:
    board, made = boards.load("agx-xavier"), plan()
    site, model = Site(board, board.cpu.cores), Model(board, None, "", True)
    composed, part = Composed(site, model), made.true[2]
    shared = [c for c in Offers(made.true, site, model, made.asked()).of(2) if c.placement.device == "both"]
    assert [c.choice for c in shared] == sorted(c.choice for c in shared)
    best = min(shared, key=lambda c: c.seconds)
    assert len(shared) == len(SHARES) + (best.choice not in SHARES)
    # between two of the grid prices are linear
    low, high = (max(s for s in SHARES if s <= best.choice), min(s for s in SHARES if s >= best.choice))
    weight = 0.0 if low == high else (best.choice - low) / (high - low)
    cpu, gpu = (
        composed.fused(part.features, device, low_share) * (1.0 - weight)
        + composed.fused(part.features, device, high_share) * weight
        for device, low_share, high_share in (("cpu", 1.0 - low, 1.0 - high), ("gpu", low, high))
    )
    gpu = composed.launched(gpu, 0.0, ()) + certain(composed.coherent(part.probed_bytes(0, len(part.features))))
    cost = costs.cpu_cost(board, [merge_work(part)], costs.load())
    merged = cost.seconds(site.threads) + cost.fixed
    assert best.seconds == pytest.approx(co_run((cpu, gpu), composed.peak).seconds + merged)


@pytest.mark.parametrize("name", ["agx-orin", "h100", "h100 cold"])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_search_finds_the_cheapest_of_all_plans(objective: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every plan that candidates can make, one pipeline after another; a wait for a result costs as a pipeline does."""
    monkeypatch.setattr(placement, "GAIN", 0.0)
    monkeypatch.setattr(placement, "MARGIN", math.inf)
    board, made = boards.load(name.removesuffix(" cold")), plan()
    site = Site(board, board.cpu.cores, {"gpu": 0.25}, not name.endswith("cold"))
    offers = Offers(made.true, site, Model(board, None, "", True), made.asked())
    cost, idle, number = OBJECTIVES[objective], board.power.idle_w, {p.info.number: n for n, p in enumerate(made.true)}

    def waits(choice: Sequence[Candidate]) -> Iterator[float]:
        for c, part in zip(choice, made.true):
            for read in (number[n] for n in part.info.after):
                yield handed(made.true[read], part, c, held(choice[read]), site)
        yield copy(made.true[-1], 0, site) if held(choice[-1]) else 0.0

    def plan_cost(choice: Sequence[Candidate]) -> float:
        ran = sum(cost(c.seconds, c.joules) for c in choice)
        return ran + sum(cost(took, took * idle) for took in waits(choice))

    best = min(itertools.product(*map(offers.of, range(len(made.true)))), key=plan_cost)
    found = placement.search(offers, objective, along=False)
    choice = [offers.candidate(n, row) for n, row in enumerate(found.chosen)]
    assert plan_cost(choice) == pytest.approx(plan_cost(best)) and not any(found.along)
    assert found.price.seconds == pytest.approx(sum(c.seconds for c in choice) + sum(waits(choice)))
    for device, at in (("cpu", 0), ("gpu", 1)):
        alone = [offers.of(n)[at] for n in range(len(made.true))]
        assert found.alone[device].seconds == pytest.approx(sum(c.seconds for c in alone) + sum(waits(alone)))
        assert found.alone[device].joules == pytest.approx(sum(c.joules for c in alone) + idle * sum(waits(alone)))


def held(c: Candidate) -> int:
    """Who has its result: 0, the CPU, or 1, the GPU."""
    return int(end_device(c.placement) == "gpu")


def copy(part: Part, to: int, site: Site) -> float:
    """Seconds of copying a pipeline's result to the CPU (0) or the GPU (1) of a discrete board."""
    link = site.board.link
    if link is None or not site.board.discrete:
        return 0.0
    return link.latency_us * 1e-6 + part.result_bytes / 1e9 / (link.h2d_gbs if to else link.d2h_gbs)


def handed(read: Part, reader: Part, c: Candidate, holder: int, site: Site) -> float:
    """Seconds until who runs as ``c`` says has what another pipeline gave, which one device holds."""
    used = devices(c.placement)
    if site.board.discrete:
        return copy(read, 1 - holder, site) if ("gpu", "cpu")[holder] in used else 0.0
    if read.features[-1].kind != "build" or len(used) == 2 or used[0] == ("cpu", "gpu")[holder]:
        return 0.0
    looked_up = zip(reader.info.subtasks, reader.features)
    nbytes = sum(f.table_bytes for s, f in looked_up if read.info.number in s.reads)
    return coherence(site.board, nbytes) / (1.0 - (site.load.get("gpu", 0.0) if used == ("gpu",) else 0.0))


# --- how much work it is ----------------------------------------------------------------------------------------------


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter[str]]:
    """Calls of kernels, by name."""
    found: Counter[str] = Counter()
    run = native.run

    def counted(name: str, *args: int, **sizes: int) -> int:
        found[name] += 1
        return run(name, *args, **sizes)

    monkeypatch.setattr(native, "run", counted)
    yield found


@pytest.mark.parametrize("name", ["agx-xavier", "rtx-3090"])
def test_placing_is_few_calls_of_compiled_code(name: str, calls: Counter[str]) -> None:
    board, made = boards.load(name), plan()
    for times in (1, 2):
        schedule = place(made.true, Site(board, board.cpu.cores), Model(board, None, "", True), made.asked())
        assert calls == {"price_offers": times, "choose_plan": times}
    assert schedule.looked <= 4 * (2 * 8 * len(made.true) + 1)  # starts, rounds, moves of a pipeline at most


class Guarded:
    """numpy, whose empty arrays end before some words that nobody may write."""

    WORDS, MARK = 64, -7.25e77

    def __init__(self) -> None:
        self.made: list[tuple[np.ndarray, int]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)

    def empty(self, shape: Any, dtype: Any = np.float64) -> np.ndarray:
        size = int(np.prod(shape))
        whole = np.full(size + self.WORDS, self.MARK).view(dtype)  # words of eight bytes
        self.made.append((whole.view(np.float64), size))
        return whole[:size].reshape(shape)


@pytest.mark.parametrize("count", [1, 2, 3, 9, 40])
@pytest.mark.parametrize("name", ["agx-xavier", "h100"])
def test_kernels_keep_to_their_room(name: str, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Plans of many pipelines that read many others, with cuts, on boards that copy results and columns."""
    guarded = Guarded()
    monkeypatch.setattr(analytic, "np", guarded)
    monkeypatch.setattr(placement, "np", guarded)
    board, made, rng = boards.load(name), plan(), random.Random(count)
    parts, cuts = [], {}
    for number in range(1, count + 1):
        part = rng.choice(made.true)
        after = tuple(sorted({rng.randrange(1, number) for _ in range(3)})) if number > 1 else ()
        if part.info.number in made.cuts:
            cuts[number] = made.cuts[part.info.number]
        parts.append(Part(replace(part.info, number=number, after=after), part.features))
    for resident in (True, False):
        site = Site(board, board.cpu.cores, {}, resident)
        schedule = place(parts, site, Model(board, None, "", True), Asked(cuts=cuts))
        assert len(schedule.placed) == count and np.isfinite(schedule.price.seconds)
    assert len(guarded.made) > 6
    for whole, size in guarded.made:
        assert (whole[size:] == guarded.MARK).all()


def test_prices_that_are_evaluated() -> None:
    """Each sub-task once in each variant that a candidate needs: both devices; shares where rows are shared out;
    batches where it stands in a phase."""
    board, made = boards.load("agx-xavier"), plan()
    site, model = Site(board, board.cpu.cores), Model(board, None, "", True)

    def evaluated(**changes: Any) -> int:
        return place(made.true, site, model, made.asked(**changes)).evaluated

    sizes = [len(part.features) for part in made.true]
    whole, shares, batches = 2 * sum(sizes), 2 * len(SHARES) * sizes[2], 2 * len(COUNTS)
    assert evaluated(forms=frozenset(), forced="cpu") == sum(sizes)
    assert evaluated(forms=frozenset()) == whole
    assert evaluated(forms=frozenset(["both"])) == whole + shares
    # two cuts: each sub-task of the pipeline in batches, and what each cut writes down
    assert evaluated(forms=frozenset(["phases"])) == whole + batches * (sizes[2] + 2)
    assert evaluated() == whole + shares + batches * (sizes[2] + 2)


def test_candidates_are_made_when_they_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    board, made = boards.load("agx-xavier"), plan()
    count: Counter[str] = Counter()

    def counted(*numbers: Any) -> Candidate:
        count["made"] += 1
        return Candidate(*numbers)

    monkeypatch.setattr(candidates, "Candidate", counted)
    schedule = place(made.true, Site(board, 8), Model(board, None, "", True), made.asked())
    assert count["made"] == len(made.true)
    assert sum(len(item.candidates) for item in schedule.placed) > 5 * len(made.true)


# --- again only if it would change something --------------------------------------------------------------------------


def scaled(parts: list[Part], factor: float, what: str = "rows_out") -> list[Part]:
    return [Part(p.info, tuple(replace(f, **{what: getattr(f, what) * factor}) for f in p.features)) for p in parts]


def test_near_counts_are_the_same_plan() -> None:
    parts = plan().true
    assert near(parts, parts) and near(scaled(parts, 1.04), parts) and near(parts, scaled(parts, 1.04))
    assert not near(scaled(parts, 1.5), parts) and not near(parts[:-1], parts)
    assert not near(scaled(parts, 1.2, "bytes_in"), parts)
    few = [
        Part(p.info, tuple(replace(f, rows=10.0, rows_out=5.0, table_bytes=64.0) for f in p.features)) for p in parts
    ]
    assert near(scaled(few, 3.0), few)  # of numbers so small nothing depends
    other = [Part(p.info, (*p.features[:-1], replace(p.features[-1], algorithm="map"))) for p in parts]
    assert not near(other, parts)


def test_a_plan_is_placed_again_if_it_is_another_one(monkeypatch: pytest.MonkeyPatch) -> None:
    board, parts = boards.load("agx-xavier"), plan().true
    placed: list[Any] = []

    def counted(parts: Any, *rest: Any) -> Any:
        placed.append(parts)
        return place(parts, *rest)

    monkeypatch.setattr(scheduler, "place", counted)
    made = scheduler.Scheduler([], Site(board, 8), Model(board, None, "", True), Asked(forced="cpu"))
    # 1.08 is near to 1.04, but what counts is what it was placed by; 1.3 is near to nothing
    for factor, times in ((1.0, 1), (1.03, 1), (1.04, 1), (1.08, 2), (1.3, 3)):
        made.parts = scaled(parts, factor)
        for _ in range(2):
            made.begin()
        assert len(placed) == times, factor
