"""The arithmetic of branches: what a plan takes some of whose pipelines run beside others, and moves that gain.

Pipelines of a plan run one after another but for those that are ``along``: these wait for what they read alone. The GPU
does one pipeline at a time, in the order in which they are ready, as do the engines that copy from and to a discrete
one; what is on the CPU shares its cores, and all share the memory, each by max-min fairness, as
perfmodel.compose.co_run has it.
"""

# mypy: ignore-errors
from __future__ import annotations

import numpy as np
from numba import njit

from finequery.operators.intrinsics import p_f64, p_i64
from finequery.operators.primitives import kernel
from finequery.operators.primitives.price_layout import D2H, GPU, H2D, NEEDS_CPU, NEEDS_GPU, OPTION, places

T = places(OPTION, np.uint64)
OPTIONS = np.uint64(len(OPTION))
ZERO, ONE, TWO, THREE, FOUR = map(np.uint64, range(5))
#: Bytes of a word.
WORD = np.int64(8)
#: A task: seconds and bytes alone, the engines that it keeps busy, the cores that it takes.
SECONDS, NBYTES, ENGINES, CORES, TASKS = map(np.uint64, range(5))


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
    """Seconds of n tasks, of which i waits for those in ``after`` from ``start[i]`` on, each once;
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
def add(tasks, n, start, after, count, earliest, seconds, nbytes, engines, cores):
    """The n-th task, which waits for the last ``count`` that were put into ``after``. ``earliest``: when each could
    end, were it but for those that it waits for."""
    at, first, ready = n * TASKS, np.uint64(start[n]), 0.0
    for d in range(first, first + count):
        ready = max(ready, earliest[np.uint64(after[d])])
    earliest[n] = ready + seconds
    tasks[at + SECONDS], tasks[at + NBYTES], tasks[at + ENGINES], tasks[at + CORES] = seconds, nbytes, engines, cores
    start[n + ONE] = start[n] + np.int64(count)
    return n + ONE


@njit(error_model="numpy")
def took(options, chosen, along, n, reads, begin, handed, copies, limits, least, scratch):
    """Seconds of a plan; infinite if they are not less than ``least``. Results are copied between the memories of a
    discrete board beside what does not wait for them; on others who reads them waits."""
    most, discrete = np.int64(n) * 11 + 1, limits[THREE] > 0.0
    tasks, ends, copied = p_f64(scratch), p_i64(scratch + most * 4 * WORD), p_i64(scratch + (most * 4 + n) * WORD)
    start, earliest = p_i64(scratch + most * 7 * WORD), p_f64(scratch + (most * 8 + 1) * WORD)
    after = p_i64(scratch + (most * 9 + 1) * WORD)
    found, last, on_gpu = ZERO, np.int64(-1), 0.0
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
                    found = add(tasks, found, start, after, ONE, earliest, copies[read * TWO + to], 0.0, engine, 0.0)
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
            found = add(tasks, found, start, after, count, earliest, copying, 0.0, H2D, 0.0)
            seconds -= copying
            after[np.uint64(start[found])] = np.int64(found) - 1
            count = ONE
        ends[i] = np.int64(found)
        engines, cores = GPU if needs != NEEDS_CPU else 0, 0.0
        if needs != NEEDS_GPU:  # while the host prepares and finishes it, others have the cores
            cores = options[o + T.cores] * max(1.0 - options[o + T.once] / max(seconds, 1e-12), 0.05)
        found = add(tasks, found, start, after, count, earliest, seconds, options[o + T.nbytes], engines, cores)
        on_gpu += seconds if needs != NEEDS_CPU else 0.0
        if max(on_gpu, earliest[found - ONE]) >= least:
            return np.inf
        if along[i] == 0:
            last = ends[i]
    if discrete and n > ZERO and options[np.uint64(chosen[n - ONE]) * OPTIONS + T.held] == NEEDS_GPU:
        after[np.uint64(start[found])] = ends[n - ONE]
        engine = H2D if limits[FOUR] > 0.0 else D2H
        found = add(tasks, found, start, after, ONE, earliest, copies[(n - ONE) * TWO], 0.0, engine, 0.0)
    rest = scratch + (most * 9 + 1 + 3 * begin[n] + 12 * np.int64(n) + 2) * WORD
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
    ways by one engine; 12 scratch (f64: price_layout.beside_scratch), 13 out (f64): seconds of each plan; k: most
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
