"""The compiled interpreter: runs a program over tiles and morsels, and the loop of the worker threads.

Layouts (int64 words). Job, shared: 0 morsel counter; 8 rows, 9 morsel size, 10 tile size, 11 stop flag (any thread
sets it), 12 address of a byte per morsel: 1 skips it (or 0), 13 address of 3 words per morsel (thread, first row, end
row of what it appended; or 0), 14 address of morsel bounds (count + 1 words; or 0 for equal morsels), 15 number of
morsels.

Thread state: 0 job, 1 address of the instructions (3 words each: function, address of its arguments, flags), 2 their
number, 3 program counter, 4 tile start t, 5 rows n, 6 rows selected k, 7 end of the morsel, 8 state (0 between
morsels, 1 inside a program, 2 stopped), 9 thread number, 10 status of the last primitive, 11 address of the sink's row
count (or 0), 12 current morsel, 13 number of expanding instructions, 14 address of their indices, 15 passes (of the
program over a tile) until the interpreter comes back to the host. Flags: 1 run on no rows too; 2 expanding: argument
word 0 says "more to come", word 1 keeps its k. For ``run_program_profiled`` alone: 16 address of the ticks that each
instruction took, 17 ticks from which on an instruction was interrupted, 18 ticks of those that were.

A primitive gives the new k, or a negative status: the interpreter stops there and is entered again at the same
instruction when the host has dealt with it.
"""

# mypy: ignore-errors
from __future__ import annotations

import numpy as np

from finequery.operators.intrinsics import (
    atomic_add,
    atomic_load,
    atomic_store,
    call,
    compare_and_swap,
    p_i64,
    p_u8,
    pause,
    ticks,
)
from finequery.operators.primitives import kernel


def interpreter(profiled):
    """The loop over a program's instructions; ``profiled``: with a clock around each of them."""

    def run_program(t_, n_, k_, args):
        job = p_i64(args[0])
        code = p_i64(args[1])
        count = args[2]
        tile = job[10]
        expanders = p_i64(args[14])
        budget = args[15]
        while True:
            if args[8] == 0:
                if atomic_load(args[0] + 88) != 0:
                    return np.int64(0)
                if budget <= 0:
                    return np.int64(1)
                m = atomic_add(args[0], np.int64(1))
                if m >= job[15]:
                    return np.int64(0)
                if job[12] != 0 and p_u8(job[12])[m] != 0:
                    continue
                if job[14] != 0:
                    bounds = p_i64(job[14])
                    args[4] = bounds[m]
                    args[7] = bounds[m + 1]
                else:
                    args[4] = m * job[9]
                    args[7] = min(args[4] + job[9], job[8])
                args[12] = m
                if job[13] != 0:
                    segment = p_i64(job[13] + m * 24)
                    segment[0] = args[9]
                    segment[1] = p_i64(args[11])[0]
                    segment[2] = segment[1]
                if args[4] >= args[7]:
                    continue
                args[5] = min(tile, args[7] - args[4])
                args[6] = args[5]
                args[3] = 0
                args[8] = 1
            # inside the program; a pass may be one of many over an expanding tile, so time is counted in passes
            if budget <= 0:
                return np.int64(1)
            budget -= 1
            if atomic_load(args[0] + 88) != 0:
                return np.int64(0)
            t, n, k, pc = args[4], args[5], args[6], args[3]
            if profiled:
                spent = p_i64(args[16])
                before = ticks()
            while pc < count:
                step = pc * 3
                if k == 0 and (code[step + 2] & 1) == 0:
                    pc = count
                    break
                got = call(code[step], t, n, k, code[step + 1])
                if profiled:
                    now = ticks()
                    if now - before < args[17]:
                        spent[pc] += now - before
                    else:
                        args[18] += now - before
                    before = now
                if got < 0:
                    args[3], args[6], args[10] = pc, k, got
                    return got
                k = got
                pc += 1
            again = np.int64(-1)
            for e in range(args[13] - 1, -1, -1):
                index = expanders[e]
                operands = p_i64(code[index * 3 + 1])
                if operands[0] != 0:
                    again = index
                    k = operands[1]
                    break
            if again >= 0:
                args[3], args[6] = again, k
                continue
            t += n
            if t < args[7]:
                args[4] = t
                args[5] = min(tile, args[7] - t)
                args[6] = args[5]
                args[3] = 0
            else:
                args[8] = 0
                if job[13] != 0:
                    p_i64(job[13] + args[12] * 24)[2] = p_i64(args[11])[0]

    return run_program


#: args: the thread state. 0: all morsels done; 1: came back for signals, enter again; else a negative status.
kernel("run_program")(interpreter(False))
kernel("run_program_profiled")(interpreter(True))


@kernel("read_ticks")
def read_ticks(t_, n_, k_, args):
    """The counter that the profile reads."""
    return np.int64(ticks())


@kernel("take_morsels")
def take_morsels(t_, n_, k, args):
    """Take ``k`` morsels of a job from beside the interpreter; gives the first. args: 0 the job's address."""
    return atomic_add(args[0], np.int64(k))


@kernel("run_range")
def run_range(t_, n_, k_, args):
    """Drive a plain kernel over a range. args (per thread): 0 job, 1 function, 2 address of its arguments, 3 thread
    number, 4 morsels until it comes back. The kernel is called as f(first row, end row, thread number, arguments)."""
    job = p_i64(args[0])
    budget = args[4]
    while True:
        if atomic_load(args[0] + 88) != 0:
            return np.int64(0)
        if budget <= 0:
            return np.int64(1)
        budget -= 1
        m = atomic_add(args[0], np.int64(1))
        if m >= job[15]:
            return np.int64(0)
        if job[14] != 0:
            bounds = p_i64(job[14])
            first, end = bounds[m], bounds[m + 1]
        else:
            first = m * job[9]
            end = min(first + job[9], job[8])
        got = call(args[1], first, end, args[3], args[2])
        if got < 0:
            atomic_store(args[0] + 88, np.int64(1))
            return got


@kernel("worker")
def worker(t_, last, k_, args):
    """A worker's wait for jobs. args: its mailbox, words on lines of their own: 0 ticket (2 * job number: offered,
    + 1: taken), 8 ticket done, 9 function, 10 its arguments, 11 status, 12 asked to end. Comes back with the last
    ticket when nothing came for a while."""
    base = args[16]  # the mailbox's own address
    idle = np.int64(0)
    while idle < 20000:
        ticket = atomic_load(base)
        if args[12] != 0:
            return np.int64(-1)
        if ticket != 0 and (ticket & 1) == 0:  # noqa: SIM102
            if compare_and_swap(base, ticket, ticket + 1) == 1:
                args[11] = call(args[9], np.int64(0), np.int64(0), np.int64(0), args[10])
                atomic_store(base + 64, ticket)
                idle = np.int64(0)
                continue
        pause()
        idle += 1
    return np.int64(0)


@kernel("dispatch")
def dispatch(t_, n_, k_, args):
    """A job for the caller and the workers. args: 0 number of mailboxes, 1 function, 2 the caller's own arguments,
    then for each mailbox its address, ticket and arguments. Jobs that nobody has begun when the caller is through are
    taken back, others waited for. It is one call, because between two of them Python may raise KeyboardInterrupt and
    free the memory that the workers use."""
    for i in range(args[0]):
        base = args[3 + 3 * i]
        box = p_i64(base)
        box[9], box[10], box[11] = args[1], args[5 + 3 * i], np.int64(0)
        atomic_store(base, args[4 + 3 * i])
    status = call(args[1], np.int64(0), np.int64(0), np.int64(0), args[2])
    for i in range(args[0]):
        base, ticket = args[3 + 3 * i], args[4 + 3 * i]
        if compare_and_swap(base, ticket, np.int64(0)) == 0:
            while atomic_load(base + 64) != ticket:
                pause()
    return status
