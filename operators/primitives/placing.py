"""The search for a plan: for every pipeline one of its candidates, and which run beside others.

Pipelines depend on each other through where results are: on a discrete GPU they are copied, and tables that both
devices use are kept coherent. The plan's DAG is a tree but for shared subplans, so the cheapest whole plan is found by
dynamic programming over it: for each pipeline and each device that may hold its result, the cheapest way to get it
there. Then branches that do not read each other are let run beside each other where that gains (primitives/beside.py).
"""

# mypy: ignore-errors
from __future__ import annotations

import numpy as np
from numba import njit

from finequery.operators.intrinsics import p_f64, p_i64
from finequery.operators.primitives import kernel
from finequery.operators.primitives.beside import improved, took
from finequery.operators.primitives.price_layout import (
    CANDIDATE,
    CPU_FIRST,
    GPU_FIRST,
    NEEDS_BOTH,
    ON_GPU,
    OPTION,
    PART,
    RULE,
    SHARED,
    SITE,
    places,
)

C, L, P, T, R = (places(names, np.uint64) for names in (CANDIDATE, SITE, PART, OPTION, RULE))
CANDIDATES, PARTS, OPTIONS = (np.uint64(len(names)) for names in (CANDIDATE, PART, OPTION))
ZERO, ONE, TWO, THREE, FOUR, FIVE, SIX = map(np.uint64, range(7))
#: Bytes of a word.
WORD = np.int64(8)
#: Plans that a search of branches begins with, at most.
STARTS = 4


@njit(error_model="numpy")
def cost(objective, seconds, joules):
    """What a plan costs: its time, its energy, or their product."""
    if objective == 0.0:
        return seconds
    return joules if objective == 1.0 else seconds * joules


@njit(error_model="numpy")
def needs_of(c):
    """The devices that a candidate runs on (price_layout.NEEDS)."""
    return np.uint64(min(c[C.kind], np.float64(NEEDS_BOTH)))


@njit(error_model="numpy")
def held_of(c):
    """Who has its result: 0, the CPU, or 1, the GPU."""
    return ONE if c[C.kind] == ON_GPU or c[C.kind] == CPU_FIRST else ZERO


@njit(error_model="numpy")
def column_batches(nbytes, site):
    """planner.stages.column_batches."""
    return max(1.0, min(site[L.batches], np.floor(nbytes / site[L.least_batch])))


@njit(error_model="numpy")
def as_option(c, part, host, site, option):
    """A candidate as plans with branches are made of: price_layout.OPTION."""
    option[T.seconds], option[T.nbytes] = c[C.seconds], c[C.nbytes]
    option[T.cores] = min(site[L.cores], max(1.0, part[P.rows] / site[L.morsel]))
    option[T.needs], option[T.held] = np.float64(needs_of(c)), np.float64(held_of(c))
    option[T.copying], option[T.once], option[T.pieces] = 0.0, host, 1.0
    if site[L.cold] > 0.0 and (c[C.kind] == ON_GPU or c[C.kind] == SHARED):
        copied = part[P.base_bytes] * (c[C.choice] if c[C.kind] == SHARED else 1.0)
        if copied > 0.0:
            pieces = column_batches(copied, site)
            option[T.copying] = min(copied * site[L.h2d] + site[L.latency] * pieces, c[C.seconds])
            option[T.pieces] = pieces


@njit(error_model="numpy")
def hand_overs(n, parts, begin, tables, reads, site, copies, handed):
    """By pipeline, seconds of copying its result to the CPU and to the GPU; and for each that a pipeline reads, seconds
    until it has that result, by what it needs and by who holds it: ``handed[6 * j + 2 * needs + held]``. ``tables``:
    bytes of the tables that it looks up in there. A pipeline on both keeps its tables coherent: it is in its price."""
    for p in range(n):
        nbytes = parts[p * PARTS + P.result_bytes]
        copies[p * TWO] = site[L.latency] + nbytes * site[L.d2h]
        copies[p * TWO + ONE] = site[L.latency] + nbytes * site[L.h2d]
    for j in range(np.uint64(begin[n])):
        for i in range(SIX):
            handed[j * SIX + i] = 0.0
        if site[L.discrete] > 0.0:
            down, up = copies[np.uint64(reads[j]) * TWO], copies[np.uint64(reads[j]) * TWO + ONE]
            handed[j * SIX + ONE], handed[j * SIX + TWO] = down, up
            handed[j * SIX + FOUR], handed[j * SIX + FIVE] = up, down
        else:
            coherent = site[L.coherence] * tables[j]
            handed[j * SIX + ONE], handed[j * SIX + TWO] = coherent, coherent * site[L.slowed]


@njit(error_model="numpy")
def in_turn(candidates, chosen, n, begin, reads, handed, site, copies, out):
    """Seconds, low, high, bytes and joules of a plan whose pipelines run one after another."""
    waits = 0.0
    for j in range(FIVE):
        out[j] = 0.0
    for p in range(n):
        c = p_f64(candidates + chosen[p] * np.int64(CANDIDATES) * WORD)
        for j in range(FIVE):
            out[j] += c[j]
        for j in range(np.uint64(begin[p]), np.uint64(begin[p + ONE])):
            read = p_f64(candidates + chosen[np.uint64(reads[j])] * np.int64(CANDIDATES) * WORD)
            waits += handed[j * SIX + TWO * needs_of(c) + held_of(read)]
    if n > ZERO and site[L.discrete] > 0.0:
        last = p_f64(candidates + chosen[n - ONE] * np.int64(CANDIDATES) * WORD)
        waits += copies[(n - ONE) * TWO] * np.float64(held_of(last))
    for j in range(THREE):
        out[j] += waits
    out[C.joules] += waits * site[L.idle_w]


@njit(error_model="numpy")
def cheapest(candidates, rows, n, objective, best):
    """By pipeline, the candidates that cost least among all with the same devices and with the same one that has the
    result (nothing else about one matters to the pipelines around it): of the CPU, of the GPU, of both whose result the
    CPU has, and of both whose result the GPU has; -1: there is none."""
    for p in range(n):
        at = p * FOUR
        for group in range(FOUR):
            best[at + group] = -1
        for row in range(np.uint64(rows[p]), np.uint64(rows[p + ONE])):
            c = p_f64(candidates + np.int64(row * CANDIDATES) * WORD)
            if c[C.choice] < 0.0:
                continue
            group = at + (TWO if c[C.kind] == GPU_FIRST else np.uint64(c[C.kind]))
            if best[group] >= 0:
                least = p_f64(candidates + best[group] * np.int64(CANDIDATES) * WORD)
                if cost(objective, least[C.seconds], least[C.joules]) <= cost(objective, c[C.seconds], c[C.joules]):
                    continue
            best[group] = np.int64(row)


@njit(error_model="numpy")
def dynamic(candidates, best, n, begin, reads, handed, site, copies, objective, total, option, wanted, stack, chosen):
    """The cheapest plan whose pipelines run one after another. ``total`` and ``option``: what it costs to have each
    result on each device, and by which candidate; ``wanted``: for each that a pipeline reads, and by what it needs, who
    is to hold it. A shared subplan is placed for the first that reads it."""
    idle = site[L.idle_w]
    for p in range(n):
        first, end = np.uint64(begin[p]), np.uint64(begin[p + ONE])
        for held in range(TWO):
            total[p * TWO + held], option[p * TWO + held] = np.inf, -1
        for group in range(FOUR):
            row = best[p * FOUR + group]
            if row < 0:
                continue
            c = p_f64(candidates + row * np.int64(CANDIDATES) * WORD)
            needs, at = needs_of(c), p * TWO + held_of(c)
            took = cost(objective, c[C.seconds], c[C.joules])
            for j in range(first, end):
                read, least = np.uint64(reads[j]), np.inf
                for held in range(TWO):
                    seconds = handed[j * SIX + TWO * needs + held]
                    there = total[read * TWO + held] + cost(objective, seconds, seconds * idle)
                    if there < least:
                        least, wanted[j * THREE + needs] = there, np.int64(held)
                took += least
            if took < total[at]:
                total[at], option[at] = took, row
    for p in range(n):
        chosen[p] = -1
    back = copies[(n - ONE) * TWO] if site[L.discrete] > 0.0 else 0.0
    on_gpu = total[(n - ONE) * TWO + ONE] + cost(objective, back, back * idle)
    stack[ZERO], stack[ONE] = np.int64(n) - 1, 1 if on_gpu < total[(n - ONE) * TWO] else 0
    depth = ONE
    while depth > ZERO:
        depth -= ONE
        p, held = np.uint64(stack[depth * TWO]), np.uint64(stack[depth * TWO + ONE])
        if chosen[p] >= 0:
            continue
        chosen[p] = option[p * TWO + held]
        needs = needs_of(p_f64(candidates + chosen[p] * np.int64(CANDIDATES) * WORD))
        for j in range(np.uint64(begin[p]), np.uint64(begin[p + ONE])):
            stack[depth * TWO], stack[depth * TWO + ONE] = reads[j], wanted[j * THREE + needs]
            depth += ONE
    for p in range(n):  # read by nobody that was placed
        if chosen[p] < 0:
            chosen[p] = option[p * TWO + (ONE if total[p * TWO + ONE] < total[p * TWO] else ZERO)]


@njit(error_model="numpy")
def longest_chain(candidates, chosen, n, begin, reads, ends):
    """Seconds of the longest chain of pipelines that read each other."""
    longest = 0.0
    for p in range(n):
        ready = 0.0
        for j in range(np.uint64(begin[p]), np.uint64(begin[p + ONE])):
            ready = max(ready, ends[np.uint64(reads[j])])
        ends[p] = ready + p_f64(candidates + chosen[p] * np.int64(CANDIDATES) * WORD)[C.seconds]
        longest = max(longest, ends[p])
    return longest


@njit(error_model="numpy")
def may_run_along(n, begin, reads, along):
    """By pipeline, whether there is one before it that it can run beside: it does not read the one before it, or it
    goes on with a branch that began so. Gives whether there is any."""
    some = False
    for p in range(n):
        reads_last = False
        for j in range(np.uint64(begin[p]), np.uint64(begin[p + ONE])):
            reads_last |= reads[j] == np.int64(p) - 1
        along[p] = 1 if p > ZERO and (not reads_last or along[p - ONE] > 0) else 0
        some |= along[p] > 0
    return some


@njit(error_model="numpy")
def add_change(changes, count, pipeline, option, along):
    """Note what a move does to a pipeline; gives how many changes there are now."""
    at = count * THREE
    changes[at], changes[at + ONE], changes[at + TWO] = np.int64(pipeline), np.int64(option), np.int64(along)
    return count + ONE


@njit(error_model="numpy")
def add_option(candidates, row, parts, p, host, site, options, rows_of, count):
    """Note a candidate of a pipeline as an option; gives how many there are now."""
    c = p_f64(candidates + row * np.int64(CANDIDATES) * WORD)
    part = p_f64(parts + np.int64(p * PARTS) * WORD)
    as_option(c, part, host[p], site, p_f64(options + np.int64(count * OPTIONS) * WORD))
    rows_of[count] = row
    return count + ONE


@njit(error_model="numpy")
def branches(
    candidates, best, n, parts, begin, reads, handed, copies, site, host, rule, chosen, along, price, scratch,
):  # fmt: skip
    """Let branches of a plan run beside each other where that gains; ``chosen``, ``along`` and ``price`` are then those
    of the plan that was found. Gives the number of plans that were looked at.

    Searches begin with the plan whose pipelines run one after another, that one with all branches beside each other
    (where results are copied, moves find what that would), and either device alone with these, and end where no move
    gains. Moves try one device beside the pipeline before; as it is, but beside that; and where results are copied,
    which may cost nothing beside something else, also one device behind it, and the best of the other ways. There they
    begin with those of several pipelines, none of which may gain alone: one device for one with all that it reads, or
    with one of these, and two neighbours' devices exchanged."""
    size, discrete, at = np.int64(n), site[L.discrete] > 0.0, scratch
    limits, at = p_f64(at), at + 5 * WORD
    single, at = p_i64(at), at + 2 * size * WORD  # by pipeline and device: the option
    may, at = p_i64(at), at + size * WORD
    options, at = at, at + 4 * size * np.int64(OPTIONS) * WORD
    rows_of, at = p_i64(at), at + 4 * size * WORD
    below, at = p_i64(at), at + size * size * WORD  # by pipeline: itself and those that its inputs come from
    first, at = p_i64(at), at + (10 * size + 2 * begin[n] + 1) * WORD
    changes, at = p_i64(at), at + 3 * ((size + 11) * size + 4 * begin[n]) * WORD
    starts, at = at, at + 2 * STARTS * size * WORD
    before, rest = p_f64(at), at + 5 * WORD
    some = may_run_along(n, begin, reads, may)
    if not some and not discrete:
        return 0
    limits[ZERO], limits[ONE], limits[TWO] = site[L.cores], site[L.peak], rule[R.least_gain]
    limits[THREE], limits[FOUR] = site[L.discrete], site[L.one_engine]
    count = ZERO
    for p in range(n):
        count = add_option(candidates, chosen[p], parts, p, host, site, options, rows_of, count)
    for p in range(n):
        for device in range(TWO):
            row = best[p * FOUR + device]
            single[p * TWO + device] = np.int64(count) if row >= 0 else -1
            if row >= 0:
                count = add_option(candidates, row, parts, p, host, site, options, rows_of, count)
        one, other = best[p * FOUR + TWO], best[p * FOUR + THREE]
        if discrete and (one >= 0 or other >= 0):
            if one < 0 or (other >= 0 and seconds_of(candidates, other) < seconds_of(candidates, one)):
                one = other
            count = add_option(candidates, one, parts, p, host, site, options, rows_of, count)
    changed = moves = ZERO
    first[ZERO] = 0
    for p in range(n if discrete else ZERO):  # moves of several, which are tried once, before the others
        members = ONE  # one device for it with all that it reads
        for i in range(n):
            below[p * n + i] = 1 if i == p else 0
        for j in range(np.uint64(begin[p]), np.uint64(begin[p + ONE])):
            for i in range(p):
                below[p * n + i] |= below[np.uint64(reads[j]) * n + i]
        for i in range(p):
            members += np.uint64(below[p * n + i])
        for device in range(TWO):
            able = members > ONE
            for i in range(p + ONE):
                able &= below[p * n + i] == 0 or single[i * TWO + device] >= 0
            if not able:
                continue
            for i in range(p + ONE):
                if below[p * n + i] > 0:
                    changed = add_change(changes, changed, i, single[i * TWO + device], may[i])
            moves += ONE
            first[moves] = np.int64(changed)
        for device in range(TWO if may[p] > 0 else ZERO):  # the devices of two neighbours exchanged
            other = ONE - device
            if single[(p - ONE) * TWO + device] >= 0 and single[p * TWO + other] >= 0:
                changed = add_change(changes, changed, p - ONE, single[(p - ONE) * TWO + device], may[p - ONE])
                changed = add_change(changes, changed, p, single[p * TWO + other], ONE)
                moves += ONE
                first[moves] = np.int64(changed)
        for j in range(np.uint64(begin[p]), np.uint64(begin[p + ONE])):
            i = np.uint64(reads[j])
            for device in range(TWO):  # one device for it and one of those that it reads
                if single[i * TWO + device] >= 0 and single[p * TWO + device] >= 0:
                    changed = add_change(changes, changed, i, single[i * TWO + device], may[i])
                    changed = add_change(changes, changed, p, single[p * TWO + device], may[p])
                    moves += ONE
                    first[moves] = np.int64(changed)
    together, option = moves, n
    for p in range(n):
        devices = ZERO
        for device in range(TWO):
            if single[p * TWO + device] >= 0:
                devices += ONE
        behind = option + devices
        for turn in range(TWO):  # beside the pipeline before, then behind it
            if (turn == ZERO and may[p] > 0) or (turn == ONE and discrete):
                for i in range(option, behind):
                    changed = add_change(changes, changed, p, i, ONE - turn)
                    moves += ONE
                    first[moves] = np.int64(changed)
        option = behind
        if discrete and (best[p * FOUR + TWO] >= 0 or best[p * FOUR + THREE] >= 0):
            changed, option = add_change(changes, changed, p, option, ZERO), option + ONE
            moves += ONE
            first[moves] = np.int64(changed)
        if may[p] > 0:
            changed = add_change(changes, changed, p, np.int64(-1), ONE)
            moves += ONE
            first[moves] = np.int64(changed)
    looked, least, found = np.int64(0), np.inf, ZERO
    for start in range(np.uint64(STARTS)):
        if start == ONE and (discrete or not some):
            continue
        ways = p_i64(starts + np.int64(TWO * start * n) * WORD)
        beside = p_i64(starts + np.int64((TWO * start + ONE) * n) * WORD)
        for p in range(n):
            ways[p], beside[p] = np.int64(p), may[p] if start > ZERO else 0
            if start >= TWO and single[p * TWO + start - TWO] >= 0:
                ways[p] = single[p * TWO + start - TWO]
        seconds, plans = improved(
            p_f64(options), ways, beside, n, reads, begin, handed, copies, limits, changes, first, moves, together,
            np.int64(rule[R.rounds]), rest,
        )  # fmt: skip
        looked += plans
        if seconds < least:
            least, found = seconds, start
    if least > (1.0 - rule[R.gain]) * price[C.seconds]:
        return looked
    ways = p_i64(starts + np.int64(found * TWO * n) * WORD)
    beside = p_i64(starts + np.int64((found * TWO + ONE) * n) * WORD)
    for p in range(n):
        chosen[p], along[p] = rows_of[np.uint64(ways[p])], beside[p]
    in_turn(candidates, chosen, n, begin, reads, handed, site, copies, before)
    share = least / before[C.seconds]
    price[C.seconds], price[C.low], price[C.high] = least, before[C.low] * share, before[C.high] * share
    price[C.nbytes] = before[C.nbytes]
    price[C.joules] = before[C.joules] - (before[C.seconds] - least) * site[L.idle_w]
    return looked


@njit(error_model="numpy")
def seconds_of(candidates, row):
    """What a candidate takes."""
    return p_f64(candidates + row * np.int64(CANDIDATES) * WORD)[C.seconds]


@kernel("choose_plan")
def choose_plan(t, n, k, args):
    """n pipelines: 0 candidates (f64: CANDIDATE), 1 the first of each pipeline (i64, n + 1), 2 pipelines (f64: PART), 3
    start of what each reads (i64, n + 1), 4 these pipelines, each before those that read it (i64), 5 bytes of the
    tables that are looked up in there (f64), 6 site (f64), 7 seconds in which the host prepares and finishes each
    (f64), 8 rules (f64); 9 scratch (f64: price_layout.plan_scratch); 10 chosen (i64, n): a candidate of each pipeline,
    11 (i64, n) whether it runs along; 12 out (f64): five numbers of the plan, of the CPU alone, and of the GPU alone,
    whose seconds are infinite where some pipeline can't run there.

    Gives the number of plans with branches beside each other that were compared. With k = 1 the plan is given, as 10
    and 11: what it takes with branches is written to 12, and behind it what it takes one after another."""
    candidates, parts, begin, reads = args[0], args[2], p_i64(args[3]), p_i64(args[4])
    site, host, rule, chosen, along = p_f64(args[6]), p_f64(args[7]), p_f64(args[8]), p_i64(args[10]), p_i64(args[11])
    count, objective, read = np.uint64(n), rule[R.objective], begin[np.uint64(n)]
    price, cpu, gpu = p_f64(args[12]), p_f64(args[12] + 5 * WORD), p_f64(args[12] + 10 * WORD)
    at = args[9]
    copies, at = p_f64(at), at + 2 * n * WORD
    handed, at = p_f64(at), at + 6 * read * WORD
    best, at = p_i64(at), at + 4 * n * WORD
    total, at = p_f64(at), at + 2 * n * WORD
    option, at = p_i64(at), at + 2 * n * WORD
    wanted, at = p_i64(at), at + 3 * read * WORD
    stack, at = p_i64(at), at + 2 * (read + 1) * WORD
    ends, at = p_f64(at), at + n * WORD
    single, at = p_i64(at), at + n * WORD
    hand_overs(count, p_f64(parts), begin, p_f64(args[5]), reads, site, copies, handed)
    if k != 0:
        limits, options, rows = p_f64(at), at + 5 * WORD, p_i64(at + (5 + n * np.int64(OPTIONS)) * WORD)
        limits[ZERO], limits[ONE], limits[TWO] = site[L.cores], site[L.peak], rule[R.least_gain]
        limits[THREE], limits[FOUR] = site[L.discrete], site[L.one_engine]
        for p in range(count):
            add_option(candidates, chosen[p], parts, p, host, site, options, rows, p)
            single[p] = np.int64(p)
        in_turn(candidates, chosen, count, begin, reads, handed, site, copies, cpu)
        rest = at + (5 + n * np.int64(OPTIONS + ONE)) * WORD
        price[ZERO] = took(p_f64(options), single, along, count, reads, begin, handed, copies, limits, np.inf, rest)
        return 1
    cheapest(candidates, p_i64(args[1]), count, objective, best)
    dynamic(
        candidates, best, count, begin, reads, handed, site, copies, objective, total, option, wanted, stack, chosen
    )
    in_turn(candidates, chosen, count, begin, reads, handed, site, copies, price)
    alone, least = -1, np.inf
    for device in range(TWO):
        out, able = cpu if device == ZERO else gpu, True
        for p in range(count):
            along[p], single[p] = 0, best[p * FOUR + device]
            able &= single[p] >= 0
        out[C.seconds] = np.inf
        if able:
            in_turn(candidates, single, count, begin, reads, handed, site, copies, out)
            took_alone = cost(objective, out[C.seconds], out[C.joules])
            if took_alone < least:
                alone, least = np.int64(device), took_alone
    if alone >= 0:  # what uses both has to be surely better than the best single device
        out = cpu if alone == 0 else gpu
        gains = cost(objective, price[C.seconds], price[C.joules]) <= (1.0 - rule[R.gain]) * least
        if not gains or price[C.high] > (1.0 + rule[R.margin]) * out[C.high]:
            for p in range(count):
                chosen[p] = best[p * FOUR + np.uint64(alone)]
            for j in range(FIVE):
                price[j] = out[j]
    chain = longest_chain(candidates, chosen, count, begin, reads, ends)
    if rule[R.along] == 0.0 or price[C.seconds] - chain < rule[R.least_slack] * price[C.seconds]:
        return 0
    return branches(
        candidates, best, count, parts, begin, reads, handed, copies, site, host, rule, chosen, along, price, at
    )
