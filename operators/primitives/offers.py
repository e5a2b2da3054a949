"""The ways to run the pipelines of a plan: which there are, what their sub-tasks take, and what they take composed.

``price_offers`` notes for every pipeline what has to be priced, has ``price_jobs`` price it, and composes candidates of
the prices, their inputs being where they are needed. What the formulas say stands in perfmodel/compose.py and
planner/stages.py, to which tests/test_candidates.py holds these.
"""

# mypy: ignore-errors
from __future__ import annotations

import numpy as np
from numba import njit

from finequery.operators.intrinsics import p_f64, p_i64
from finequery.operators.primitives import kernel
from finequery.operators.primitives.price_layout import (
    BOARD,
    CANDIDATE,
    CPU_FIRST,
    CUT,
    GPU_FIRST,
    MODEL,
    ON_CPU,
    ON_GPU,
    PART,
    SHARED,
    SITE,
    SUBTASK,
    WAY,
    places,
)
from finequery.operators.primitives.prices import price_jobs

W, C, L, P, K, M, S, B = (places(n, np.uint64) for n in (WAY, CANDIDATE, SITE, PART, CUT, MODEL, SUBTASK, BOARD))
WAYS, CANDIDATES, PARTS, CUTS = (np.uint64(len(names)) for names in (WAY, CANDIDATE, PART, CUT))
MODELS, SUBTASKS = np.uint64(len(MODEL)), np.uint64(len(SUBTASK))
ZERO, ONE, TWO, THREE, FOUR, FIVE = map(np.uint64, range(6))
#: Bytes of a word.
WORD = np.int64(8)


@njit(error_model="numpy")
def together(one, one_bytes, two, two_bytes, peak):
    """Seconds of two tasks that start together on one memory: perfmodel.compose.co_run for two. Who needs less than
    half of what there is gets it, the other one the rest."""
    one, two, half = max(one, 1e-12), max(two, 1e-12), peak / 2.0
    one_need, two_need = one_bytes / one, two_bytes / two
    one_pace = min(max(half, peak - two_need) / max(one_need, 1.0), 1.0)
    two_pace = min(max(half, peak - one_need) / max(two_need, 1.0), 1.0)
    one_end, two_end = one / one_pace, two / two_pace
    first = min(one_end, two_end)
    left = two - first * two_pace if one_end <= two_end else one - first * one_pace
    return first + max(left, 0.0)


@njit(error_model="numpy")
def between(prices, jobs, job, weight, out):
    """The prices between those of a job and of the next one, at ``weight`` of the latter."""
    for j in range(FIVE):
        out[j] = prices[j * jobs + job]
        if weight > 0.0:
            out[j] += weight * (prices[j * jobs + job + ONE] - out[j])


@njit(error_model="numpy")
def launched(gpu, base, host, site):
    """The GPU at work, with its launch, behind the copies of ``base`` bytes of columns that it lacks: in batches, each
    while it works on the one before, but for the first, with which the host pays ``host`` seconds once."""
    if site[L.cold] <= 0.0 or base <= 0.0:
        for j in range(THREE):
            gpu[j] += site[L.once]
        return
    batches = max(1.0, min(site[L.batches], np.floor(base / site[L.least_batch])))
    copy = base * site[L.h2d] / batches + site[L.latency]
    gpu[FOUR] += base * site[L.link_joules]
    for j in range(THREE):
        once = min(host, 0.9 * gpu[j])
        took = (gpu[j] - once) / batches + site[L.once]
        gpu[j] = max(copy + once + batches * took, batches * copy + took)


@njit(error_model="numpy")
def wholly(way, prices, jobs, site, out):
    """One device for all of it."""
    between(prices, jobs, np.uint64(way[W.first]), 0.0, out)
    if way[W.kind] == ON_GPU:
        launched(out, way[W.base_bytes], way[W.gpu_once], site)
    out[C.joules] += out[C.seconds] * site[L.idle_w]
    out[C.choice] = way[W.kind]


@njit(error_model="numpy")
def shared_out(way, prices, jobs, shares, count, parts, site, out, cpu, gpu):
    """Rows shared out at ``count`` shares, and in the row behind these at the best of the points that part two of them
    in ``parts``, where prices are linear in between. Tables that are looked up in are both devices'."""
    coherent = site[L.coherence] * way[W.table_bytes] * site[L.slowed]
    end = np.uint64(way[W.end])
    extra = p_f64(out + np.int64(count * CANDIDATES) * WORD)
    extra[C.choice] = -1.0
    best = np.inf
    for point in range((count - ONE) * parts + ONE):
        place, step = point // parts, point % parts
        weight = np.float64(step) / np.float64(parts)
        share = shares[place]
        if step != ZERO:
            share += weight * (shares[place + ONE] - share)
        between(prices, jobs, np.uint64(way[W.first]) + place, weight, cpu)
        between(prices, jobs, np.uint64(way[W.gpu]) + place, weight, gpu)
        launched(gpu, way[W.base_bytes] * share, way[W.gpu_once], site)
        back = site[L.latency] + way[W.passed_bytes] * share * site[L.d2h] if site[L.d2h] > 0.0 else 0.0
        for j in range(THREE):
            both = together(cpu[j], cpu[THREE], gpu[j] + coherent, gpu[THREE], site[L.peak])
            cpu[j] = both + prices[j * jobs + end] + back
        better = cpu[ZERO] < best
        if better:
            best, extra[C.choice] = cpu[ZERO], -1.0
        if better or step == ZERO:
            row = p_f64(out + np.int64((place if step == ZERO else count) * CANDIDATES) * WORD)
            for j in range(THREE):
                row[j] = cpu[j]
            for j in range(THREE, FIVE):
                row[j] = cpu[j] + gpu[j] + prices[j * jobs + end]
            row[C.joules] += cpu[ZERO] * site[L.idle_w]
            row[C.choice] = share


@njit(error_model="numpy")
def in_phases(way, prices, jobs, counts, count, site, out, cpu, gpu):
    """Two phases over the best number of batches: t1 + t2 + (n - 1)·step of a batch's times, as
    perfmodel.compose.batch_pipeline has it. What the host pays once is not paid for every batch: for the first phase
    it comes before all, for the second one beside the first's next batch (behind a copy, three) before these wait."""
    coherent = site[L.coherence] * way[W.table_bytes] * site[L.slowed]
    leads = way[W.kind] == CPU_FIRST
    rate = site[L.h2d] if leads else site[L.d2h]
    ahead = 4.0 if rate > 0.0 else 2.0  # batches of the first phase when the second is through with one
    out[C.seconds] = np.inf
    for i in range(count):
        between(prices, jobs, np.uint64(way[W.first]) + i, 0.0, cpu)
        between(prices, jobs, np.uint64(way[W.gpu]) + i, 0.0, gpu)
        n = counts[i]
        copy = site[L.latency] + way[W.passed_bytes] / n * rate if rate > 0.0 else 0.0
        for j in range(THREE):
            once, gpu_once = min(way[W.once], 0.9 * cpu[j]), min(way[W.gpu_once], 0.9 * gpu[j])
            one, two = cpu[j] - once, gpu[j] - gpu_once + site[L.once] + coherent
            step = max(together(one, cpu[THREE], two, gpu[THREE], site[L.peak]), copy)
            second, second_once = (two, gpu_once) if leads else (one, once)
            late = second_once + max((n - 1.0) * max(second, copy), (n - ahead) * step + second)
            cpu[j] = one + two + once + gpu_once - second_once + copy + max((n - 1.0) * step, late)
        if cpu[ZERO] < out[C.seconds]:
            for j in range(THREE):
                out[j] = cpu[j]
            out[C.nbytes] = (cpu[THREE] + gpu[THREE]) * n
            out[C.joules] = (cpu[FOUR] + gpu[FOUR]) * n + cpu[ZERO] * site[L.idle_w]
            out[C.choice] = n


@njit(error_model="numpy")
def add_pipeline(member, start, count, first, end):
    """Note sub-tasks that run fused, as the ``count``-th pipeline; gives how many there are now."""
    at = np.uint64(start[count])
    for i in range(first, end):
        member[at] = np.int64(i)
        at += ONE
    start[count + ONE] = np.int64(at)
    return count + ONE


@njit(error_model="numpy")
def add_jobs(job_of, variant_of, jobs, pipeline, variant, count):
    """Have a pipeline priced in ``count`` variants from one on; gives how many jobs there are now."""
    for i in range(count):
        job_of[jobs + i], variant_of[jobs + i] = np.int64(pipeline), np.int64(variant + i)
    return jobs + count


@njit(error_model="numpy")
def overheads(subtasks, model, models, b, first, end):
    """Of sub-tasks, the seconds that the host pays once, and bytes of the tables that they look up in."""
    once = tables = 0.0
    for i in range(first, end):
        m = p_f64(models + model[i] * np.int64(MODELS) * WORD)
        once += m[M.fixed_us] * 1e-6 / b[B.speed]
        if m[M.looks_up] > 0.0:
            tables += p_f64(subtasks + np.int64(i * SUBTASKS) * WORD)[S.table_bytes]
    return once, tables


@njit(error_model="numpy")
def add_way(ways, n, kind, first, out):
    """The n-th way, with nothing but its kind, its first price and its first row; where its numbers stand."""
    way = p_f64(ways + np.int64(n * WAYS) * WORD)
    for j in range(WAYS):
        way[j] = 0.0
    way[W.kind], way[W.first], way[W.out] = np.float64(kind), np.float64(first), np.float64(out)
    return way


@njit(error_model="numpy")
def compose(ways, n, prices, jobs, site, shares, share_count, points, counts, batch_counts, out, scratch):
    """Candidates of n ways. ``prices``: seconds, low, high, bytes and joules of each of so many jobs."""
    cpu, gpu = p_f64(scratch), p_f64(scratch + np.int64(FIVE) * WORD)
    for i in range(n):
        way = p_f64(ways + np.int64(i * WAYS) * WORD)
        at = out + np.int64(np.uint64(way[W.out]) * CANDIDATES) * WORD
        if way[W.kind] == ON_CPU or way[W.kind] == ON_GPU:
            wholly(way, prices, jobs, site, p_f64(at))
        elif way[W.kind] == SHARED:
            shared_out(way, prices, jobs, shares, share_count, points, site, at, cpu, gpu)
        else:
            in_phases(way, prices, jobs, counts, batch_counts, site, p_f64(at), cpu, gpu)
        for j in range(share_count + ONE if way[W.kind] == SHARED else ONE):
            row = p_f64(at + np.int64(j * CANDIDATES) * WORD)
            row[C.kind], row[C.cut] = way[W.kind], way[W.cut]


@kernel("price_offers")
def price_offers(t, n, k, args):
    """n pipelines, k cuts: 0 sub-tasks (f64), 1 their number, 2 model of each (i64), 3 models (f64), 4 variants (f64:
    the CPU, the GPU, a batch of each count on the CPU and then on the GPU, each share in the same order), 5 their
    number, 6 board (f64), 7 to 11 what was fitted, as ``price_subtasks`` has it, 12 pipelines (f64: PART), 13 cuts
    (f64), 14 site (f64), 15 shares (f64), 16 their number, 17 points that each gap between two of them is parted in, 18
    counts of batches (f64), 19 their number; 20 scratch (f64: price_layout.offers_scratch); 21 out (f64): rows of
    CANDIDATE, 22 (i64, n + 1) the first of each pipeline, 23 (f64) seconds in which the host prepares and
    finishes each.

    Gives how many prices of a sub-task in a variant were evaluated."""
    count, model, models, states = np.uint64(args[1]), p_i64(args[2]), args[3], np.uint64(args[5])
    b, site, shares, share_count = p_f64(args[6]), p_f64(args[14]), p_f64(args[15]), np.uint64(args[16])
    batch_counts, parts, cuts, host = np.uint64(args[19]), np.uint64(n), np.uint64(k), p_f64(args[23])
    first_row, subtasks = p_i64(args[22]), args[0]
    batched, in_shares = TWO, TWO + TWO * batch_counts  # the first variants of these
    # scratch: lists of jobs, ways, prices, and what pricing needs
    most = parts * (THREE + TWO * share_count) + cuts * FOUR * batch_counts
    lists, at = THREE * parts + TWO * cuts, args[20]
    member, at = p_i64(at), at + np.int64(count * (THREE + cuts)) * WORD
    start, at = p_i64(at), at + np.int64(lists + ONE) * WORD
    job_of, at = p_i64(at), at + np.int64(most) * WORD
    variant_of, at = p_i64(at), at + np.int64(most) * WORD
    ways, at = at, at + np.int64(lists * WAYS) * WORD
    prices, rest = at, at + np.int64(FIVE * (most + parts)) * WORD
    start[ZERO] = 0
    # what merges take stands before the prices of jobs
    merges = ZERO
    for p in range(parts):
        part = p_f64(args[12] + np.int64(p * PARTS) * WORD)
        if part[P.split] > 0.0 and part[P.shared_end] > 0.0:
            merges += ONE
    pipelines = jobs = merge = found = row = cut = ZERO
    for p in range(parts):
        part = p_f64(args[12] + np.int64(p * PARTS) * WORD)
        first, end = np.uint64(part[P.first]), np.uint64(part[P.end])
        first_row[p] = np.int64(row)
        once, tables = overheads(subtasks, model, models, b, first, end)
        host[p] = once
        whole, pipelines = pipelines, add_pipeline(member, start, pipelines, first, end)
        if part[P.on_cpu] > 0.0:
            add_way(ways, found, ON_CPU, merges + jobs, row)
            jobs, found, row = add_jobs(job_of, variant_of, jobs, whole, ZERO, ONE), found + ONE, row + ONE
        if part[P.on_gpu] > 0.0:
            way = add_way(ways, found, ON_GPU, merges + jobs, row)
            way[W.base_bytes], way[W.gpu_once] = part[P.base_bytes], once
            jobs, found, row = add_jobs(job_of, variant_of, jobs, whole, ONE, ONE), found + ONE, row + ONE
        if part[P.split] > 0.0:
            way = add_way(ways, found, SHARED, ZERO, row)
            way[W.base_bytes], way[W.table_bytes], way[W.gpu_once] = part[P.base_bytes], tables, once
            way[W.passed_bytes] = part[P.result_bytes] if site[L.discrete] > 0.0 else 0.0
            shared = whole
            if part[P.shared_end] > 0.0:
                way[W.end] = np.float64(merge)
                for j in range(FIVE):
                    taken = part[P.merge_seconds] if j < THREE else part[P.merge_seconds + j - TWO]
                    p_f64(prices)[j * (merges + most) + merge] = taken
                merge += ONE
            else:  # the breaker's own work is one device's: the CPU does it when both are through
                way[W.gpu_once] = overheads(subtasks, model, models, b, first, end - ONE)[0]
                way[W.end] = np.float64(merges + jobs)
                pipelines = add_pipeline(member, start, pipelines, end - ONE, end)
                jobs = add_jobs(job_of, variant_of, jobs, pipelines - ONE, ZERO, ONE)
                shared, pipelines = pipelines, add_pipeline(member, start, pipelines, first, end - ONE)
            way[W.first], way[W.gpu] = np.float64(merges + jobs), np.float64(merges + jobs + share_count)
            jobs = add_jobs(job_of, variant_of, jobs, shared, in_shares, TWO * share_count)
            found, row = found + ONE, row + share_count + ONE
        while cut < cuts:
            place = p_f64(args[13] + np.int64(cut * CUTS) * WORD)
            if np.uint64(place[K.part]) != p:
                break
            before = first + np.uint64(place[K.before])
            front_once, front_tables = overheads(subtasks, model, models, b, first, before)
            written = np.uint64(start[pipelines]) + before - first
            pipelines = add_pipeline(member, start, pipelines, first, before)
            member[written] = np.int64(place[K.handed])
            start[pipelines] += 1
            front, jobs = (
                merges + jobs,
                add_jobs(job_of, variant_of, jobs, pipelines - ONE, batched, TWO * batch_counts),
            )
            pipelines = add_pipeline(member, start, pipelines, before, end)
            back, jobs = merges + jobs, add_jobs(job_of, variant_of, jobs, pipelines - ONE, batched, TWO * batch_counts)
            way = add_way(ways, found, CPU_FIRST, front, row)
            way[W.gpu], way[W.table_bytes] = np.float64(back + batch_counts), tables - front_tables
            way[W.once], way[W.gpu_once] = front_once, once - front_once
            way[W.passed_bytes], way[W.cut] = place[K.nbytes], place[K.step]
            way = add_way(ways, found + ONE, GPU_FIRST, back, row + ONE)
            way[W.gpu], way[W.table_bytes] = np.float64(front + batch_counts), front_tables
            way[W.once], way[W.gpu_once] = once - front_once, front_once
            way[W.passed_bytes], way[W.cut] = place[K.nbytes], place[K.step]
            found, row, cut = found + TWO, row + TWO, cut + ONE
    first_row[parts] = np.int64(row)
    columns = merges + most
    evaluated = price_jobs(
        subtasks, count, model, models, args[4], states, b, member, start, job_of, variant_of, jobs, p_i64(args[7]),
        p_f64(args[8]), p_f64(args[9]), p_f64(args[10]), args[11] != 0, rest, p_f64(prices + np.int64(merges) * WORD),
        columns, True,
    )  # fmt: skip
    compose(
        ways, found, p_f64(prices), columns, site, shares, share_count, np.uint64(args[17]), p_f64(args[18]),
        batch_counts, args[21], rest,
    )  # fmt: skip
    return evaluated
