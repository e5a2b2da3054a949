"""Programs: what a pipeline becomes. A list of instructions over registers, symbols and constants.

A program is built once per pipeline and kept with the plan. It is free of addresses: ``Instance`` gives every thread an
argument block and scratch memory, and ``bind`` writes the addresses of columns, tables and sinks into it before a run.
The CUDA back end generates its kernels from the same list.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

import numpy as np

from finequery.errors import DataError, OutOfRangeError
from finequery.jetson import memory
from finequery.operators import native, watch
from finequery.operators.expr import Expr
from finequery.operators.pool import AGAIN, Pool, new_job
from finequery.operators.profile import INTERRUPTED, SINK, Profile, tick

#: Rows per tile: its vectors stay in the caches next to the core (reference: cpu-execution 3.2).
TILE = 4096
#: Rows per morsel, what a thread takes at a time.
MORSEL = 65536
#: Below this a second thread costs more than it brings.
ONE_THREAD = 100_000
#: Passes over a tile that a thread makes before it comes back to Python, where a stop is seen: at first, at the most.
PASSES, MOST_PASSES = 64, 1 << 14
#: Room behind a vector: appends and 64-byte stores may write past the last row.
SLACK = 64


class Reg:
    """A vector of the tile, ``width`` bytes an entry, written by one instruction."""

    __slots__ = ("uses", "width")

    def __init__(self, width: int):
        self.width = width
        self.uses = 0


class Symbol:
    """Something whose address is known when the program runs: the same for all threads, or one for each.

    ``value`` is a numpy array, or a function of the thread number that gives one (or an address). ``content``: where
    the words at the address are addresses themselves, a function that gives the array they lead to, for back ends that
    pass arrays. ``groups``: of an accumulator by number, how many numbers there are (0: not known beforehand).
    """

    __slots__ = ("_address", "_last", "computed", "content", "groups", "offset", "value")

    def __init__(
        self,
        value: Any,
        offset: int = 0,
        content: Callable[[int], np.ndarray] | np.ndarray | None = None,
        groups: int = 0,
    ):
        self.groups = groups
        self.value = value
        self.computed = callable(value)
        self.offset = offset
        self.content = content
        self._last: Any = None
        self._address = 0

    def forget(self) -> None:
        """Hold on to no array of a finished run."""
        if self.computed:
            self._last = None

    def address(self, thread: int) -> int:
        value = self.value(thread) if self.computed else self.value
        if value is self._last:  # ndarray.ctypes costs a microsecond
            return self._address
        if isinstance(value, np.ndarray):
            self._last, self._address = value, memory.address(value) + self.offset
            return self._address
        return int(value) + self.offset


@dataclass(slots=True)
class Out:
    """Marks the register that an operand word names as written."""

    reg: Reg


@dataclass(slots=True)
class Optional:
    """An output that is only written if somebody reads it (else the word is 0)."""

    reg: Reg


@dataclass(slots=True)
class Instruction:
    """One call of a primitive. ``pure``: may be dropped when nobody reads its outputs. ``always``: runs on no rows
    too."""

    name: str
    words: list[Any]
    pure: bool = True
    always: bool = False
    expands: bool = False
    subject: Expr | None = None  # what it computes, for errors
    owner: int = SINK  # id of the step that it is part of


@dataclass(slots=True, eq=False)
class Program:
    """The instructions of one pipeline, in order, and the constant vectors they read."""

    instructions: list[Instruction] = field(default_factory=list)
    constants: dict[tuple[str, Any], Reg] = field(default_factory=dict)
    constant_data: dict[Reg, np.ndarray] = field(default_factory=dict)
    subject: Expr | None = None  # the expression that is being lowered
    owner: int = SINK  # id of the step that is being lowered

    def emit(self, name: str, *words: Any, pure: bool = True, always: bool = False, expands: bool = False) -> None:
        """Append an instruction. Words: ints, Reg (read), Out(Reg), Optional(Reg), Symbol."""
        self.instructions.append(Instruction(name, list(words), pure, always, expands, self.subject, self.owner))

    def constant(self, kind: str, value: Any) -> Reg:
        """A vector that holds one value everywhere; filled once. ``kind``: u8 u32 i64 f64 w."""
        key = (kind, repr(value))
        found = self.constants.get(key)
        if found is None:
            dtype = {"u8": np.uint8, "u32": np.uint32, "i64": np.int64, "f64": np.float64, "w": np.int64}[kind]
            if kind == "w":
                low, high = value & (2**64 - 1), (value >> 64) & (2**64 - 1)
                pair = np.array([low, high], dtype=np.uint64).view(np.int64)
                data = np.tile(pair, TILE + SLACK)
            elif kind == "s":
                raise AssertionError("string constants are symbols")
            else:
                data = np.full(TILE + SLACK, value, dtype=dtype)
            found = self.constants[key] = Reg(16 if kind == "w" else data.itemsize)
            self.constant_data[found] = data
        return found

    def constant_vector(self, kind: str, data: np.ndarray, width: int) -> Reg:
        """A vector given entry by entry (string constants)."""
        reg = Reg(width)
        self.constant_data[reg] = data
        return reg


class Job:
    """Morsels of a run, from ``first`` to before ``end``, taken one after another by whoever works on it."""

    def __init__(
        self,
        rows: int,
        *,
        tile: int = TILE,
        bounds: np.ndarray | None = None,
        skip: np.ndarray | None = None,
        segments: np.ndarray | None = None,
        first: int = 0,
        end: int | None = None,
    ):
        self.words, count = new_job(rows, MORSEL, bounds, tile)
        self.arrays = bounds, skip, segments  # alive as long as their addresses are
        self.address = memory.address(self.words)
        self.words[0], self.words[15] = first, count if end is None else end
        if skip is not None:
            self.words[12] = memory.address(skip)
        if segments is not None:
            self.words[13] = memory.address(segments)

    def part(self, first: int, end: int) -> Job:
        """Morsels of this job that were taken from it, as a job."""
        part = copy.copy(self)
        part.words = self.words.copy()
        part.address = memory.address(part.words)
        part.words[0], part.words[11], part.words[15] = first, 0, end
        return part

    def take(self, count: int) -> tuple[int, int] | None:
        """The next ``count`` morsels, or as many as there are; None if there are none, or it was stopped."""
        if self.words[11]:
            return None
        first = native.run("take_morsels", self.address, k=count)
        end = min(first + count, int(self.words[15]))
        return (first, end) if first < end else None

    def stop(self) -> None:
        """Nobody takes morsels any more."""
        self.words[11] = 1


class Instance:
    """A program made ready for ``threads`` workers: code, argument blocks, scratch."""

    def __init__(self, program: Program, threads: int):
        self.program = program
        self.threads = threads
        self.active = threads  # workers of this run
        self.lock = threading.Lock()  # of the addresses: workers of two devices may ask for room at once
        kept = _live(program)
        self.names = [i.name for i in kept]
        self.owners = [i.owner for i in kept]
        self.subjects = [None if i.pure else i.subject for i in kept]
        slots, sizes = _allocate(kept, program)
        stride = TILE + SLACK
        *starts, scratch = accumulate([size * stride for size in sizes], initial=0)
        self.scratch = [np.zeros(max(scratch, 1) + 128, dtype=np.uint8) for _ in range(threads)]
        bases = [memory.address(s) + (-memory.address(s) % 64) for s in self.scratch]
        self.expanders = np.array([n for n, i in enumerate(kept) if i.expands] or [0], dtype=np.int64)
        self.states = np.zeros((threads, 24), dtype=np.int64)
        self.constant_data = list(program.constant_data.values())  # alive as long as the addresses are
        self.symbols: list[Symbol] = []
        places: list[int] = []  # of the symbols in the argument blocks
        vectors: list[int] = []  # places of the registers, which are known by where they begin in the scratch memory
        words: list[int] = []
        code: list[tuple[int, int, int]] = []
        for item in kept:
            code.append((native.address(item.name), 8 * len(words), item.always | item.expands << 1))
            for word in item.words:
                reg = _register(word)
                if type(word) is Symbol:
                    self.symbols.append(word)
                    places.append(len(words))
                    words.append(0)
                elif reg is None:
                    words.append(word)
                elif type(word) is Optional and reg.uses == 0:
                    words.append(0)
                elif reg in program.constant_data:
                    words.append(memory.address(program.constant_data[reg]))
                else:
                    vectors.append(len(words))
                    words.append(starts[slots[reg]])
        self.blocks = [np.array(words or [0], dtype=np.int64) for _ in range(threads)]
        self.code = [np.array(code or [(0, 0, 0)], dtype=np.int64) for _ in range(threads)]
        for block, steps, base in zip(self.blocks, self.code, bases):
            block[vectors] += base
            steps[:, 1] += memory.address(block)
        self.places = np.array(places, dtype=np.int64)
        for thread in range(threads):
            state = self.states[thread]
            state[1] = memory.address(self.code[thread])
            state[2] = len(kept)
            state[9] = thread
            state[13] = sum(1 for i in kept if i.expands)
            state[14] = memory.address(self.expanders)
        self.state_addresses = [memory.address(self.states[i]) for i in range(threads)]
        self.expander_words = [(sum(len(j.words) for j in kept[:n])) for n, i in enumerate(kept) if i.expands]

    def bind(self) -> None:
        """Write the addresses of all symbols for the workers that the sink is prepared for."""
        with self.lock:
            for worker, block in enumerate(self.blocks[: self.active]):
                block[self.places] = [symbol.address(worker) for symbol in self.symbols]

    def run(
        self,
        pool: Pool,
        job: Job,
        workers: range,
        *,
        cursor: Callable[[int], int] | None = None,
        grow: Callable[[int], None] | None = None,
        stopped: Callable[[], bool] | None = None,
        profile: Profile | None = None,
    ) -> None:
        """Let workers, each in a thread of the pool, do what is left of a job. ``grow(worker)`` is called when a
        primitive of that worker asks for room (-1). ``bind`` comes first; other workers may be at the same job, or at
        another one, from another pool. ``profile``: measure every instruction, and add it
        there."""
        states, mine, running = self.states, slice(workers.start, workers.stop), watch.current.get()
        if stopped is None and running is not None:
            stopped = running.stopped
        states[mine, 0] = job.address
        states[mine, 8] = 0
        budget = watch.Budget(PASSES, MOST_PASSES)
        states[mine, 15] = budget.size
        for worker in workers:
            states[worker, 11] = cursor(worker) if cursor is not None else 0
            for word in self.expander_words:
                self.blocks[worker][word] = 0
        kernel = "run_program"
        if profile is not None:
            kernel, ticks = "run_program_profiled", np.zeros((len(workers), len(self.names)), dtype=np.int64)
            states[mine, 16] = [memory.address(row) for row in ticks]
            states[mine, 17], states[mine, 18] = INTERRUPTED / tick(), 0
        active = list(workers)
        while active:
            budget.begin()
            try:
                statuses = pool.run(kernel, [self.state_addresses[t] for t in active])
            except KeyboardInterrupt:
                job.stop()
                raise watch.interrupted() from None
            if stopped is not None and stopped():
                job.stop()
                raise watch.interrupted()
            if AGAIN in statuses:
                states[mine, 15] = budget.adapt()
            inside: list[int] = []  # threads that are inside a program
            for thread, status in zip(active, statuses):
                if status == -1:
                    assert grow is not None, "a primitive asked for room and nobody gives it"
                    grow(thread)
                elif status < 0:
                    job.stop()
                    step = int(states[thread, 3])
                    raise error_of(status, self.names[step], self.subjects[step])
                # one whose work was taken back before it began again reports 0, and may be inside a program too
                if status in (-1, AGAIN) or states[thread, 8] == 1:
                    inside.append(thread)
            if job.words[11]:  # stopped by whoever else works on it: a thread inside of a program stays there
                return
            # The first in the list is run by this thread itself: work that is left is done even if no worker wakes.
            active = inside + [t for t in active if t not in inside] if AGAIN in statuses else inside
        if profile is not None:
            profile.charge(self.owners, ticks, int(states[mine, 18].sum()))

    def unbind(self) -> None:
        """Forget the arrays of the last run."""
        for symbol in self.symbols:
            symbol.forget()


def error_of(status: int, name: str, subject: Expr | None = None) -> DataError:
    """The error that a negative status of a primitive stands for. It has the expression that was computed as its
    ``subject``, which the session writes out."""
    if status == -4:
        return too_many_rows()
    if name == "divisor":
        error: DataError = DataError("Division by zero", hint="nullif(x, 0) as the divisor gives NULL instead.")
    elif status == -2:
        wanted = "its type" if subject is None else str(subject.type)
        hint = "Cast its parts to a wider type, such as HUGEINT or DOUBLE."
        error = OutOfRangeError(f"Overflow: a result does not fit {wanted}", hint=hint)
    else:
        error = DataError(f"primitive {name} failed with status {status}")
    error.subject = subject
    return error


def too_many_rows() -> DataError:
    return DataError(
        "More than one row returned by a subquery used as an expression",
        hint="Take one of its rows with LIMIT 1, or with an aggregate such as max(…).",
    )


def _live(program: Program) -> list[Instruction]:
    """Drop instructions whose outputs nobody reads; count the readers of every register."""
    kept: list[Instruction] = []
    readers: dict[Reg, int] = {}
    for item in reversed(program.instructions):  # what writes a register comes before what reads it
        written = [word.reg for word in item.words if type(word) in (Out, Optional)]
        needless = not any(reg in readers for reg in written)
        if needless and item.pure and any(type(word) is Out for word in item.words):
            continue
        for reg in written:
            reg.uses = readers.get(reg, 0)
        for word in item.words:
            if type(word) is Reg:
                readers[word] = readers.get(word, 0) + 1
        kept.append(item)
    kept.reverse()
    return kept


def _register(word: Any) -> Reg | None:
    """The register that an operand word names, read or written."""
    kind = type(word)
    return word if kind is Reg else word.reg if kind is Out or kind is Optional else None  # type: ignore[no-any-return]


def _allocate(kept: Sequence[Instruction], program: Program) -> tuple[dict[Reg, int], list[int]]:
    """Give registers to slots, reusing a slot after its register's last reader. What is written before an expanding
    instruction and read after it lives to the end, since the code between runs again."""
    last: dict[Reg, int] = {}
    first: dict[Reg, int] = {}
    met: list[list[Reg]] = []  # by instruction
    for number, item in enumerate(kept):
        met.append([r for word in item.words if (r := _register(word)) is not None and r not in program.constant_data])
        for reg in met[-1]:
            first.setdefault(reg, number)
            last[reg] = number
    expanding = [n for n, i in enumerate(kept) if i.expands]
    for reg in last if expanding else ():
        if any(first[reg] <= e <= last[reg] for e in expanding):
            last[reg] = len(kept)
    slots: dict[Reg, int] = {}
    sizes: list[int] = []
    free: dict[int, list[int]] = {}
    ending: dict[int, list[Reg]] = {}
    for number, registers in enumerate(met):
        for reg in registers:
            if reg in slots:
                continue
            pool = free.get(reg.width)
            if pool:
                slots[reg] = pool.pop()
            else:
                slots[reg] = len(sizes)
                sizes.append(reg.width)
            ending.setdefault(last[reg], []).append(reg)
        for reg in ending.pop(number, []):
            free.setdefault(reg.width, []).append(slots[reg])
    return slots, sizes
