"""The arithmetic of placement: what ways to run a pipeline take, and which pipelines of a plan run beside others."""

# mypy: ignore-errors
from __future__ import annotations

import numpy as np
from numba import njit

from finequery.operators.intrinsics import p_f64, p_i64
from finequery.operators.primitives import kernel
from finequery.operators.primitives.price_layout import (
    CANDIDATE,
    CPU_FIRST,
    D2H,
    GPU,
    H2D,
    NEEDS_CPU,
    NEEDS_GPU,
    ON_CPU,
    ON_GPU,
    OPTION,
    SHARED,
    SITE,
    WAY,
    places,
)

W, C, L, T = (places(names, np.uint64) for names in (WAY, CANDIDATE, SITE, OPTION))
WAYS, CANDIDATES, OPTIONS = np.uint64(len(WAY)), np.uint64(len(CANDIDATE)), np.uint64(len(OPTION))
ZERO, ONE, TWO, THREE, FOUR, FIVE = map(np.uint64, range(6))
#: Bytes of a word.
WORD = np.int64(8)
#: A task: seconds and bytes alone, the engines that it keeps busy, the cores that it takes.
SECONDS, NBYTES, ENGINES, CORES, TASKS = map(np.uint64, range(5))


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


@kernel("compose_ways")
def compose_ways(t, n, k, args):
    """n ways (f64), prices (f64: seconds, low, high, bytes, joules of k jobs each), site (f64), shares (f64), their
    number, points that each gap between two of them is parted in, counts of batches (f64), their number, out (f64:
    rows of candidates), scratch (f64: 10)"""
    prices, jobs, site, out = p_f64(args[1]), np.uint64(k), p_f64(args[2]), args[8]
    shares, share_count, parts = p_f64(args[3]), np.uint64(args[4]), np.uint64(args[5])
    counts, batch_counts = p_f64(args[6]), np.uint64(args[7])
    cpu, gpu = p_f64(args[9]), p_f64(args[9] + np.int64(FIVE) * WORD)
    for i in range(np.uint64(n)):
        way = p_f64(args[0] + np.int64(i * WAYS) * WORD)
        row = out + np.int64(np.uint64(way[W.out]) * CANDIDATES) * WORD
        if way[W.kind] == ON_CPU or way[W.kind] == ON_GPU:
            wholly(way, prices, jobs, site, p_f64(row))
        elif way[W.kind] == SHARED:
            shared_out(way, prices, jobs, shares, share_count, parts, site, row, cpu, gpu)
        else:
            in_phases(way, prices, jobs, counts, batch_counts, site, p_f64(row), cpu, gpu)
    return n


# --- branches beside each other ---------------------------------------------------------------------------------------


@njit(error_model="numpy")
def fair_level(needs, n, capacity, ordered):
    """perfmodel.compose.fair_level: the most that anybody gets of a capacity shared max-min fair."""
    for i in range(n):
        j, need = i, needs[i]
        while j > ZERO and ordered[j - ONE] > need:
            ordered[j] = ordered[j - ONE]
            j -= ONE
        ordered[j] = need
    rest = capacity
    for i in range(n):
        others = np.float64(n - i)
        if ordered[i] * others >= rest:
            return rest / others
        rest -= ordered[i]
    return np.inf


@njit(error_model="numpy")
def run_paces(tasks, running, count, cores, peak, pace, need, ordered):
    """Share of its own pace for each that runs: cores are shared, and the memory."""
    total = 0.0
    for r in range(count):
        need[r] = tasks[np.uint64(running[r]) * TASKS + CORES]
        total += need[r]
    level = fair_level(need, count, cores, ordered) if total > cores else np.inf
    total = 0.0
    for r in range(count):
        at = np.uint64(running[r]) * TASKS
        pace[r] = min(1.0, level / need[r]) if need[r] > 0.0 else 1.0
        need[r] = tasks[at + NBYTES] / tasks[at + SECONDS] * pace[r] if tasks[at + NBYTES] > 0.0 else 0.0
        total += need[r]
    level = fair_level(need, count, peak, ordered) if total > peak else np.inf
    for r in range(count):
        if need[r] > 0.0:
            pace[r] *= min(1.0, level / need[r])


@njit(error_model="numpy")
def elapsed(tasks, n, start, after, cores, peak, most, scratch):
    """planner.overlap: seconds of n tasks, of which i waits for those in ``after`` from ``start[i]`` on, each once;
    infinite if they are not less than ``most``."""
    size = np.int64(n) * WORD
    left, pace, need, ordered = (
        p_f64(scratch),
        p_f64(scratch + size),
        p_f64(scratch + 2 * size),
        p_f64(scratch + 3 * size),
    )
    waits, queue, running = p_i64(scratch + 4 * size), p_i64(scratch + 5 * size), p_i64(scratch + 6 * size)
    # who waits for a task: a list from head[task] on, of places in ``after``
    head, following = p_i64(scratch + 7 * size), p_i64(scratch + 8 * size)
    waiting = p_i64(scratch + 8 * size + start[n] * WORD)
    queued = count = ZERO
    for i in range(n):
        head[i] = -1
        waits[i], left[i] = start[i + ONE] - start[i], max(tasks[i * TASKS + SECONDS], 1e-12)
        if waits[i] == 0:
            queue[queued] = np.int64(i)
            queued += ONE
    for back in range(n):
        i = n - ONE - back
        for d in range(np.uint64(start[i]), np.uint64(start[i + ONE])):
            before = np.uint64(after[d])
            following[d], waiting[d], head[before] = head[before], np.int64(i), np.int64(d)
    busy, now = np.int64(0), 0.0
    while queued + count > ZERO:
        held = ZERO
        for q in range(queued):
            engines = np.int64(tasks[np.uint64(queue[q]) * TASKS + ENGINES])
            if busy & engines:
                queue[held] = queue[q]
                held += ONE
            else:
                busy |= engines
                running[count] = queue[q]
                count += ONE
        queued = held
        pace[ZERO] = 1.0
        if count > ONE:
            run_paces(tasks, running, count, cores, peak, pace, need, ordered)
        step = np.inf
        for r in range(count):
            step = min(step, left[np.uint64(running[r])] / pace[r])
        now += step
        if now >= most:
            return np.inf
        on = ZERO
        for r in range(count):
            i = np.uint64(running[r])
            left[i] -= pace[r] * step
            if left[i] > 1e-9 * tasks[i * TASKS + SECONDS] + 1e-13:
                running[on] = np.int64(i)
                on += ONE
                continue
            busy &= ~np.int64(tasks[i * TASKS + ENGINES])
            d = head[i]
            while d >= 0:
                j = waiting[np.uint64(d)]
                waits[np.uint64(j)] -= 1
                if waits[np.uint64(j)] == 0:
                    queue[queued] = j
                    queued += ONE
                d = following[np.uint64(d)]
        count = on
    return now


@njit(error_model="numpy")
def wait(after, first, count, task):
    """Add a task to those that another one waits for, from ``first`` on; gives how many they are now."""
    for d in range(first, first + count):
        if after[d] == task:
            return count
    after[first + count] = task
    return count + ONE


@njit(error_model="numpy")
def add(tasks, n, start, count, seconds, nbytes, engines, cores):
    """The n-th task, which waits for the last ``count`` that were put into ``after``."""
    at = n * TASKS
    tasks[at + SECONDS], tasks[at + NBYTES], tasks[at + ENGINES], tasks[at + CORES] = seconds, nbytes, engines, cores
    start[n + ONE] = start[n] + np.int64(count)
    return n + ONE


@njit(error_model="numpy")
def took(options, chosen, along, n, reads, begin, handed, copies, limits, least, scratch):
    """Seconds of a plan; infinite if they are not less than ``least``. Results are copied between the memories of a
    discrete board beside what does not wait for them; on others who reads them waits."""
    most, discrete = np.int64(n) * 11 + 1, limits[THREE] > 0.0
    tasks, ends, copied = p_f64(scratch), p_i64(scratch + most * 4 * WORD), p_i64(scratch + (most * 4 + n) * WORD)
    start, after = p_i64(scratch + most * 7 * WORD), p_i64(scratch + (most * 8 + 1) * WORD)
    found, last = ZERO, np.int64(-1)
    start[ZERO] = 0
    for i in range(n * TWO):
        copied[i] = -1
    for i in range(n):
        o = np.uint64(chosen[i]) * OPTIONS
        seconds, needs = options[o + T.seconds], np.uint64(options[o + T.needs])
        if discrete:
            for j in range(np.uint64(begin[i]), np.uint64(begin[i + ONE])):
                read = np.uint64(reads[j])
                to = ONE - np.uint64(options[np.uint64(chosen[read]) * OPTIONS + T.held])
                if needs != ONE - to and copied[read * TWO + to] < 0:
                    copied[read * TWO + to] = np.int64(found)
                    after[np.uint64(start[found])] = ends[read]
                    engine = H2D if to == NEEDS_GPU or limits[FOUR] > 0.0 else D2H
                    found = add(tasks, found, start, ONE, copies[read * TWO + to], 0.0, engine, 0.0)
        first, count = np.uint64(start[found]), ZERO
        for j in range(np.uint64(begin[i]), np.uint64(begin[i + ONE])):
            read = np.uint64(reads[j])
            held = np.uint64(options[np.uint64(chosen[read]) * OPTIONS + T.held])
            count = wait(after, first, count, ends[read])
            if not discrete:
                seconds += handed[j * np.uint64(6) + needs * TWO + held]
            elif needs != held:
                count = wait(after, first, count, copied[read * TWO + ONE - held])
        if along[i] == 0 and last >= 0:
            count = wait(after, first, count, last)
        pieces = np.uint64(options[o + T.pieces]) if options[o + T.copying] > 0.0 else ZERO
        for _ in range(pieces):  # of columns, which the GPU follows batch by batch
            copying = options[o + T.copying] / options[o + T.pieces]
            found = add(tasks, found, start, count, copying, 0.0, H2D, 0.0)
            seconds -= copying
            after[np.uint64(start[found])] = np.int64(found) - 1
            count = ONE
        ends[i] = np.int64(found)
        engines, cores = GPU if needs != NEEDS_CPU else 0, 0.0
        if needs != NEEDS_GPU:  # while the host prepares and finishes it, others have the cores
            cores = options[o + T.cores] * max(1.0 - options[o + T.once] / max(seconds, 1e-12), 0.05)
        found = add(tasks, found, start, count, seconds, options[o + T.nbytes], engines, cores)
        if along[i] == 0:
            last = ends[i]
    if discrete and n > ZERO and options[np.uint64(chosen[n - ONE]) * OPTIONS + T.held] == NEEDS_GPU:
        after[np.uint64(start[found])] = ends[n - ONE]
        engine = H2D if limits[FOUR] > 0.0 else D2H
        found = add(tasks, found, start, ONE, copies[(n - ONE) * TWO], 0.0, engine, 0.0)
    rest = scratch + (most * 8 + 1 + 3 * begin[n] + 12 * np.int64(n) + 2) * WORD
    return elapsed(tasks, found, start, after, limits[ZERO], limits[ONE], least, rest)


@kernel("run_tasks")
def run_tasks(t, n, k, args):
    """tasks (f64: seconds, bytes, engines, cores; n), start of those that each waits for (i64, n + 1), these (i64),
    cores and bytes a second of the memory (f64), scratch (f64: 8 n + 2 for each that is waited for), out (f64): seconds
    of all of them"""
    limits, out = p_f64(args[3]), p_f64(args[5])
    out[ZERO] = elapsed(
        p_f64(args[0]), np.uint64(n), p_i64(args[1]), p_i64(args[2]), limits[ZERO], limits[ONE], np.inf, args[4]
    )
    return n


@njit(error_model="numpy")
def improved(
    options, chosen, along, n, reads, begin, handed, copies, limits, changes, first, moves, again, rounds, scratch
):
    """Moves in a plan while they gain: its seconds then, and the number of plans that were looked at."""
    kept, kept_along = p_i64(scratch), p_i64(scratch + np.int64(n) * WORD)
    scratch += np.int64(TWO * n) * WORD
    least = took(options, chosen, along, n, reads, begin, handed, copies, limits, np.inf, scratch)
    looked = 1
    for turn in range(rounds):
        before = least
        for move in range(again if turn > 0 else ZERO, moves):
            start, end = np.uint64(first[move]), np.uint64(first[move + ONE])
            for i in range(n):
                kept[i], kept_along[i] = chosen[i], along[i]
            other = False
            for change in range(start, end):
                i = np.uint64(changes[change * THREE])
                if changes[change * THREE + ONE] >= 0:
                    chosen[i] = changes[change * THREE + ONE]
                along[i] = changes[change * THREE + TWO]
                other |= chosen[i] != kept[i] or along[i] != kept_along[i]
            if end == start + ONE:  # what takes longer than the plan by itself needs no look
                i = np.uint64(changes[start * THREE])
                other &= options[np.uint64(chosen[i]) * OPTIONS + T.seconds] < least
            if not other:
                seconds = np.inf
            else:
                goal = least * (1.0 - limits[TWO])
                seconds = took(options, chosen, along, n, reads, begin, handed, copies, limits, goal, scratch)
                looked += 1
            if seconds < least * (1.0 - limits[TWO]):
                least = seconds
            else:
                for i in range(n):
                    chosen[i], along[i] = kept[i], kept_along[i]
        if least == before:
            break
    return least, looked


@kernel("run_beside")
def run_beside(t, n, k, args):
    """Ways to run n pipelines: 0 options (f64). Plans that searches begin with, one after another: 1 the way of each
    pipeline (i64, changed), 2 whether it runs along (i64, changed), 14 their number. 3 what pipelines read, one after
    another (i64), 4 start of each one's in it (i64, n + 1), 5 seconds of each hand-over (f64: six, by what the reader
    needs and by who holds), 6 seconds of copying each result to the CPU and to the GPU (f64). Moves change pipelines
    together: 7 changes (i64: pipeline, option or -1 for the one in the plan, whether it runs along), 8 start of each
    move in them (i64, moves + 1), 9 moves, 10 the first of them that is tried in every round and not only in the first
    one. 11 (f64) cores, bytes a second of the memory, what a move has to gain, whether results are copied, and both
    ways by one engine; 12 scratch (f64: 214 n + 9 for each read + 23), 13 out (f64): seconds of each plan; k: most
    rounds.

    Gives the number of plans that were looked at."""
    options, reads, begin, handed = p_f64(args[0]), p_i64(args[3]), p_i64(args[4]), p_f64(args[5])
    copies, changes, first, limits = p_f64(args[6]), p_i64(args[7]), p_i64(args[8]), p_f64(args[11])
    out, looked = p_f64(args[13]), 0
    for plan in range(np.uint64(args[14])):
        at = np.int64(plan) * n * WORD
        out[plan], plans = improved(
            options, p_i64(args[1] + at), p_i64(args[2] + at), np.uint64(n), reads, begin, handed, copies, limits,
            changes, first, np.uint64(args[9]), np.uint64(args[10]), k, args[12],
        )  # fmt: skip
        looked += plans
    return looked
