"""What sub-tasks take, by formula and by regressor, for many in one call; and what plans made of them take.

``price_subtasks`` is perfmodel.model's inference: the analytic price of every sub-task that is asked for in a variant
(the formula of jetson/costs.py), the fitted factor to it (perfmodel/trees.py packs the arrays), and what the formula
says of a fused pipeline over the sum of its sub-tasks.
"""

# mypy: ignore-errors
from __future__ import annotations

import numpy as np
from numba import njit

from finequery.operators.intrinsics import p_f32, p_f64, p_i64, p_u16
from finequery.operators.primitives import kernel
from finequery.operators.primitives.price_layout import BOARD, MODEL, SUBTASK, VARIANT, places

S, M, V, B = (places(names, np.uint64) for names in (SUBTASK, MODEL, VARIANT, BOARD))
SUBTASKS, MODELS, VARIANTS = np.uint64(len(SUBTASK)), np.uint64(len(MODEL)), np.uint64(len(VARIANT))
#: Terms that add up over a pipeline, of either device.
PARALLEL, SERIAL, RANDOM, ONCE, STREAMED, MISSED, TERMS = map(np.uint64, range(7))
COMPUTE, ATOMIC = PARALLEL, SERIAL
#: Numbers that are kept of each sub-task in each variant.
ASKED, ALONE, SECONDS, LOW, HIGH, WATTS, KEPT = map(np.uint64, range(7))
ZERO, ONE, TWO, THREE, FOUR, FIVE = map(np.uint64, range(6))
#: Bytes of a word.
WORD = np.int64(8)
#: The interval of an analytic price, as ln of a factor either way: no data says how far off it is.
UNKNOWN = np.log(2.0)


@njit(error_model="numpy")
def cpu_terms(f, m, b, out):
    """Of one sub-task (``f``) of a model: core-seconds that threads share, those of one thread, seconds paid once;
    bytes streamed, and bytes of lines that random accesses fetch."""
    slowness = m[M.vector] / b[B.vector_speed] + (1.0 - m[M.vector]) / b[B.speed]
    l1, l2 = b[B.l1_bytes], max(b[B.l1_bytes], b[B.l2_bytes])
    l3, working_set = max(l2, b[B.l3_bytes]), max(f[S.table_bytes], 1.0)
    first, second, last = min(1.0, l1 / working_set), min(1.0, l2 / working_set), min(1.0, l3 / working_set)
    ns = b[B.memory_ns] + first * (b[B.l1_ns] - b[B.l2_ns]) + second * (b[B.l2_ns] - b[B.l3_ns])
    ns += last * (b[B.l3_ns] - b[B.memory_ns])
    rows, width = f[S.rows], f[S.random_width]
    accesses = rows * max(width / b[B.line], 1.0) if width > 0.0 else 0.0
    core = rows * (m[M.row] + m[M.step] * f[S.steps]) * slowness / b[B.reference_hz]
    core += accesses * ns * m[M.random] * (1e-9 / b[B.parallelism])
    out[PARALLEL], out[SERIAL] = core * (1.0 - m[M.serial]), core * m[M.serial]
    out[RANDOM], out[ONCE] = 0.0, m[M.fixed_us] * 1e-6 / b[B.speed]
    out[STREAMED] = rows * (f[S.bytes_in] + f[S.bytes_out])
    out[MISSED] = accesses * (1.0 - last) * max(b[B.line_bytes], min(width, b[B.line]))


@njit(error_model="numpy")
def cpu_seconds(term, rows, v, b):
    """Seconds and watts of what has these terms, ``rows`` being the most of one of its sub-tasks. Others keep a share
    of the cores busy, of which what is left is shared by the threads."""
    threads = min(v[V.threads], b[B.cores] * (1.0 - min(v[V.load], 0.99)))
    n = min(threads, max(rows * v[V.share] / b[B.morsel], 1.0))
    busy = term[SERIAL] + term[PARALLEL] / (1.0 + (n - 1.0) * b[B.gain])
    cached = cached_bytes(term, term[STREAMED], b[B.cpu_cache])
    stream = (term[STREAMED] - cached) / min(n * b[B.thread_rate], b[B.all_rate]) + cached / (n * b[B.cached_rate])
    mixed = max(busy, stream) + (1.0 - b[B.cpu_overlap]) * min(busy, stream)
    traffic = term[STREAMED] - cached + term[MISSED]
    return max(mixed, traffic / b[B.all_rate]) * v[V.share] + term[ONCE], b[B.core_w] * n


@njit(error_model="numpy")
def cached_bytes(term, together, cache):
    """costs.fits: what is streamed out of a cache, where what its pipeline streams is so many bytes together."""
    return term[STREAMED] if together <= cache else 0.0


@njit(error_model="numpy")
def gpu_terms(f, m, b, out):
    """Of one sub-task: seconds of arithmetic with all lanes at work, of atomics, and of random accesses, and those of
    the host, which are paid once; bytes streamed, and bytes that random accesses fetch."""
    rows, width = f[S.rows], f[S.random_width]
    accesses = rows * max(width / b[B.line], 1.0) if width > 0.0 else 0.0
    hit = min(1.0, b[B.gpu_l2_bytes] / max(f[S.table_bytes], 1.0))
    missed = accesses * (1.0 - hit)
    updated = f[S.table_bytes] / b[B.l2_sector] if width > 0.0 else 0.0  # atomic kinds write their tables
    rate = min(b[B.gpu_cached_random], b[B.gpu_atomics] * max(updated, 1.0))
    out[COMPUTE] = rows * (m[M.gpu_row] + m[M.gpu_step] * f[S.steps]) / b[B.lanes_hz]
    out[ATOMIC] = rows * (m[M.large] if f[S.table_bytes] > b[B.own_bytes] else m[M.small]) / rate
    out[RANDOM] = accesses * hit / b[B.gpu_cached_random] + missed / b[B.gpu_random]
    out[ONCE] = m[M.fixed_us] * 1e-6 / b[B.speed]
    out[STREAMED] = rows * (f[S.bytes_in] + f[S.bytes_out])
    out[MISSED] = missed * max(b[B.sector_bytes], min(width, b[B.line]))


@njit(error_model="numpy")
def gpu_seconds(term, rows, v, b):
    """As ``cpu_seconds``. Others keep a share of the GPU's time."""
    cached = cached_bytes(term, term[STREAMED], b[B.gpu_cache])
    memory = term[RANDOM] + (term[STREAMED] - (1.0 - 1.0 / b[B.l2_speedup]) * cached) / b[B.gpu_rate]
    compute = term[COMPUTE] / min(1.0, max(rows * v[V.share], 32.0) / b[B.full_rows])
    longest = max(compute, max(memory, term[ATOMIC]))
    mixed = b[B.gpu_overlap] * longest + (1.0 - b[B.gpu_overlap]) * (compute + memory + term[ATOMIC])
    moved = term[STREAMED] - cached + term[MISSED]
    seconds = max(mixed, moved / b[B.gpu_bus_rate]) * v[V.share] / (1.0 - min(v[V.load], 0.99))
    return seconds + term[ONCE], b[B.gpu_w]


@njit(error_model="numpy")
def log2(x):
    return np.log2(1.0 + max(x, 0.0))


@njit(error_model="numpy")
def describe(f, v, tile, x):
    """The numbers of perfmodel.features.NAMES of a sub-task in a variant, and the constant 1. A share of it has that
    share of the rows, and meets the same keys and groups and the whole table."""
    rows, selectivity = f[S.rows] * v[V.share], f[S.selectivity]
    working_set = f[S.table_bytes]
    if working_set <= 0.0:
        working_set = min(f[S.rows], tile) * (f[S.bytes_in] + f[S.bytes_out])
    working_set = np.log2(max(working_set, 1.0))
    x[ZERO] = log2(rows)
    x[ONE] = log2(f[S.rows_out] * v[V.share])
    x[TWO] = f[S.bytes_in]
    x[THREE] = f[S.bytes_out]
    x[FOUR] = f[S.random_width]
    x[FIVE] = log2(f[S.table_bytes])
    x[np.uint64(6)] = working_set - v[V.first]
    x[np.uint64(7)] = working_set - v[V.second]
    x[np.uint64(8)] = working_set - v[V.last]
    x[np.uint64(9)] = selectivity
    x[np.uint64(10)] = 4.0 * selectivity * (1.0 - min(selectivity, 1.0))
    x[np.uint64(11)] = f[S.match_rate]
    x[np.uint64(12)] = log2(f[S.distinct])
    x[np.uint64(13)] = log2(f[S.groups])
    x[np.uint64(14)] = log2(rows / f[S.groups]) if f[S.groups] > 0.0 else 0.0
    x[np.uint64(15)] = f[S.nulls]
    x[np.uint64(16)] = f[S.skew]
    x[np.uint64(17)] = f[S.steps]
    x[np.uint64(18)] = f[S.columns]
    x[np.uint64(19)] = f[S.wide]
    x[np.uint64(20)] = f[S.floats]
    x[np.uint64(21)] = f[S.strings]
    x[np.uint64(22)] = v[V.threads]
    x[np.uint64(23)] = v[V.clock_ghz]
    x[np.uint64(24)] = v[V.load]
    x[np.uint64(25)] = 1.0


DESCRIBED = np.uint64(26)


@njit(error_model="numpy")
def regress(x, stride, rows, m, bank, out, outside):
    """Regressor ``m`` of a bank for ``rows`` rows of ``stride`` f32, the last of them 1; clamped in place. ``out``
    (f64): its values; ``outside`` (f64): how far each row lay outside of what it was trained on. A tree is walked for
    all rows, one after another.

    The bank's words: low and high (f32, a row of stride - 1 a model), bias (f64); terms: start (i64, models + 1), left
    and right factor (u16), weight (f64); trees: start (i64, models + 1), depth (i64), first node (i64), feature (u16),
    threshold (f32), first leaf (i64), leaf (f32)."""
    low, high, bias = p_f32(bank[ZERO]), p_f32(bank[ONE]), p_f64(bank[TWO])
    term_start, left, right = p_i64(bank[THREE]), p_u16(bank[FOUR]), p_u16(bank[FIVE])
    weight, tree_start, depths = p_f64(bank[np.uint64(6)]), p_i64(bank[np.uint64(7)]), p_i64(bank[np.uint64(8)])
    node_start, feature, threshold = p_i64(bank[np.uint64(9)]), p_u16(bank[np.uint64(10)]), p_f32(bank[np.uint64(11)])
    leaf_start, leaf = p_i64(bank[np.uint64(12)]), p_f32(bank[np.uint64(13)])
    columns = stride - ONE
    term, last_term = np.uint64(term_start[m]), np.uint64(term_start[m + ONE])
    for row in range(rows):
        at, far = row * stride, 0.0
        for j in range(columns):
            v, least, most = x[at + j], low[m * columns + j], high[m * columns + j]
            if v < least or v > most:
                span, near = np.float64(most - least), least if v < least else most
                far += min(abs(np.float64(v - near)) / span, 1.0) if span > 0.0 else 1.0
                x[at + j] = near
        total = bias[m]
        for j in range(term, last_term):
            a, b = x[at + np.uint64(left[j])], x[at + np.uint64(right[j])]
            total += weight[j] * (np.float64(a) * np.float64(b))
        out[row] = total
        outside[row] = far
    depth = np.uint64(depths[m])
    leaves = ONE << depth
    node, at_leaf = np.uint64(node_start[m]), np.uint64(leaf_start[m])
    for _ in range(np.uint64(tree_start[m]), np.uint64(tree_start[m + ONE])):
        for row in range(rows):
            at, place = row * stride, ZERO
            for _ in range(depth):
                split = node + place
                place = place + place + ONE
                if x[at + np.uint64(feature[split])] > threshold[split]:
                    place += ONE
            out[row] += np.float64(leaf[at_leaf + place - (leaves - ONE)])
        node += leaves - ONE
        at_leaf += leaves


@kernel("price_trees")
def price_trees(t, n, k, args):
    """x (n rows of ``stride`` f32, the last of them 1; clamped in place), stride, regressor (i64, one a row), bank (its
    words), out (f64): the regressor's value; outside (f64): how far the row lay outside of its ranges. Rows of one
    regressor should stand together."""
    stride, model = np.uint64(args[1]), p_i64(args[2])
    bank, rows, first = p_i64(args[3]), np.uint64(n), ZERO
    while first < rows:
        end = first + ONE
        while end < rows and model[end] == model[first]:
            end += ONE
        at = np.int64(first) * WORD
        x = p_f32(args[0] + np.int64(first * stride) * (WORD >> 1))
        regress(x, stride, end - first, np.uint64(model[first]), bank, p_f64(args[4] + at), p_f64(args[5] + at))
        first = end
    return n


@kernel("describe_subtasks")
def describe_subtasks(t, n, k, args):
    """sub-tasks (f64), variants (f64), sub-task and variant of each row (i64), rows of a tile; out (f32): n rows of
    what a regressor reads."""
    subtask, variant = p_i64(args[2]), p_i64(args[3])
    for row in range(np.uint64(n)):
        f = p_f64(args[0] + subtask[row] * np.int64(SUBTASKS) * WORD)
        v = p_f64(args[1] + variant[row] * np.int64(VARIANTS) * WORD)
        describe(f, v, np.float64(args[4]), p_f32(args[5] + np.int64(row * DESCRIBED) * (WORD >> 1)))
    return n


@njit(error_model="numpy")
def price_jobs(
    subtasks, count, model, models, variants, states, b, member, start, job_of, variant_of, jobs, bank, by_units, low,
    high, adds_up, scratch, out, columns, summed,
):  # fmt: skip
    """What ``price_subtasks`` says; ``out``: rows of ``columns`` numbers. ``summed``: one number a job, of all its
    sub-tasks."""
    terms = scratch
    kept = p_f64(terms + np.int64(TWO * TERMS * count) * WORD)
    value = terms + np.int64(TWO * TERMS * count + KEPT * count * states) * WORD
    outside = value + np.int64(states) * WORD
    inputs = outside + np.int64(states) * WORD
    values, far = p_f64(value), p_f64(outside)
    for i in range(count * states):
        kept[i * KEPT] = 0.0
    for job in range(jobs):
        pipeline, variant = np.uint64(job_of[job]), np.uint64(variant_of[job])
        for i in range(np.uint64(start[pipeline]), np.uint64(start[pipeline + ONE])):
            kept[(np.uint64(member[i]) * states + variant) * KEPT + ASKED] = 1.0
    evaluated = 0
    for device in range(TWO):
        for i in range(count):
            f = p_f64(subtasks + np.int64(i * SUBTASKS) * WORD)
            m = p_f64(models + model[i] * np.int64(MODELS) * WORD)
            term = p_f64(terms + np.int64((device * count + i) * TERMS) * WORD)
            regressor = np.int64(m[M.cpu_regressor + device])
            found = ZERO
            for j in range(states):
                v = p_f64(variants + np.int64(j * VARIANTS) * WORD)
                if v[V.device] != device or kept[(i * states + j) * KEPT + ASKED] == 0.0:
                    continue
                if found == ZERO:
                    if device == ZERO:
                        cpu_terms(f, m, b, term)
                    else:
                        gpu_terms(f, m, b, term)
                if device == ZERO:
                    seconds, watts = cpu_seconds(term, f[S.rows], v, b)
                else:
                    seconds, watts = gpu_seconds(term, f[S.rows], v, b)
                kept[(i * states + j) * KEPT + ALONE], kept[(i * states + j) * KEPT + WATTS] = seconds, watts
                if regressor >= 0:
                    describe(f, v, b[B.tile], p_f32(inputs + np.int64(found * DESCRIBED) * (WORD >> 1)))
                found += ONE
            if regressor >= 0 and found > ZERO:
                regress(p_f32(inputs), DESCRIBED, found, np.uint64(regressor), bank, values, far)
            evaluated += np.int64(found)
            found = ZERO
            for j in range(states):
                v = p_f64(variants + np.int64(j * VARIANTS) * WORD)
                at = (i * states + j) * KEPT
                if v[V.device] != device or kept[at + ASKED] == 0.0:
                    continue
                base, learned = kept[at + ALONE], m[M.cpu_factor + device]
                middle, least, most = 0.0, -UNKNOWN, UNKNOWN
                if regressor >= 0:
                    r = np.uint64(regressor)
                    middle, wider = values[found], 1.0 + far[found]
                    least, most = middle + wider * low[r], middle + wider * high[r]
                    if by_units[r] > 0.0:
                        base = max(f[S.rows] * v[V.share], 1.0)
                        if m[M.sorts] > 0.0:
                            base *= max(np.log2(base), 1.0)
                kept[at + SECONDS] = base * np.exp(middle + learned)
                kept[at + LOW] = base * np.exp(least + learned)
                kept[at + HIGH] = base * np.exp(most + learned)
                found += ONE
    total = p_f64(inputs)  # the terms of a fused pipeline
    entry = ZERO
    for job in range(jobs):
        pipeline, variant = np.uint64(job_of[job]), np.uint64(variant_of[job])
        first, end = np.uint64(start[pipeline]), np.uint64(start[pipeline + ONE])
        v = p_f64(variants + np.int64(variant * VARIANTS) * WORD)
        on_gpu = v[V.device] != 0.0
        rows = parts = 0.0
        for j in range(TERMS):
            total[j] = 0.0
        for i in range(first, end):
            subtask = np.uint64(member[i])
            term = p_f64(terms + np.int64(((count if on_gpu else ZERO) + subtask) * TERMS) * WORD)
            for j in range(TERMS):
                total[j] += term[j]
            rows = max(rows, p_f64(subtasks + np.int64(subtask * SUBTASKS) * WORD)[S.rows])
            parts += kept[(subtask * states + variant) * KEPT + ALONE]
        fusion = 1.0
        if not adds_up and parts > 0.0 and end > first + ONE:
            fused = gpu_seconds(total, rows, v, b)[0] if on_gpu else cpu_seconds(total, rows, v, b)[0]
            fusion = fused / parts
        a_byte = b[B.gpu_joules_a_byte] if on_gpu else b[B.joules_a_byte]
        cache = b[B.gpu_cache] if on_gpu else b[B.cpu_cache]
        if summed:
            for j in range(FIVE):
                out[j * columns + job] = 0.0
        for i in range(first, end):
            subtask = np.uint64(member[i])
            at = (subtask * states + variant) * KEPT
            term = p_f64(terms + np.int64(((count if on_gpu else ZERO) + subtask) * TERMS) * WORD)
            moved = term[STREAMED] - cached_bytes(term, total[STREAMED], cache) + term[MISSED]
            moved *= v[V.share]
            seconds = kept[at + SECONDS] * fusion
            place = job if summed else entry
            if not summed:
                for j in range(FIVE):
                    out[j * columns + place] = 0.0
            out[place] += seconds
            out[columns + place] += kept[at + LOW] * fusion
            out[columns * TWO + place] += kept[at + HIGH] * fusion
            out[columns * THREE + place] += moved
            out[columns * FOUR + place] += kept[at + WATTS] * seconds + moved * a_byte
            entry += ONE
    return evaluated


@kernel("price_subtasks")
def price_subtasks(t, n, k, args):
    """0 sub-tasks (f64), 1 their number, 2 model of each (i64), 3 models (f64), 4 variants (f64), 5 their number, 6
    board (f64); 7 the sub-tasks of all pipelines, one after another (i64), 8 start of each pipeline in them (i64, one
    more than there are); n jobs: 9 pipeline and 10 variant of each (i64); regressors: 11 bank (0: none), 12 whether
    each one's value is a factor of units and not of the analytic price (u8 as f64), 13 and 14 ln of the ends of its
    interval (f64), 15 whether prices add up as they are, without the formula for fused pipelines; 16 scratch (f64):
    12 numbers a sub-task, 6 a sub-task and variant, 15 a variant; 17 out (f64): seconds, low, high,
    bytes, joules, each k numbers: the sub-tasks of one job after another.

    Gives how many prices of a sub-task in a variant were evaluated: each that a job asks for, once."""
    return price_jobs(
        args[0], np.uint64(args[1]), p_i64(args[2]), args[3], args[4], np.uint64(args[5]), p_f64(args[6]),
        p_i64(args[7]), p_i64(args[8]), p_i64(args[9]), p_i64(args[10]), np.uint64(n), p_i64(args[11]),
        p_f64(args[12]), p_f64(args[13]), p_f64(args[14]), args[15] != 0, args[16], p_f64(args[17]), np.uint64(k),
        False,
    )  # fmt: skip
