"""From a pipeline's program to the source of one CUDA kernel.

The interpreter runs an instruction over all rows of a tile before the next; a kernel runs all instructions over a row
before the next row. So a vector register becomes a local variable, a selection becomes ``continue``, an expansion a
loop over the partners, and to carry a vector to a later space is to do nothing. Rows are taken in grid strides:
neighbouring threads read neighbouring rows.

A selection's positions are the row's number where they index the source's columns (in the first space), and are not
looked at elsewhere: an index into a vector is the identity. What an instruction means for one row stands in
``instructions.py`` and ``sinks.py``; ``translate`` raises ``Unsupported`` for what has no such form, so that a
pipeline's placement is decided before it runs.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from finequery.jetson import memory
from finequery.operators import scalar
from finequery.operators.cuda.launch import add_sources
from finequery.operators.program import Instruction, Optional, Out, Program, Reg, Symbol, _live

#: numpy types of the items that instructions name.
ITEMS: dict[str, Any] = {
    "u8": np.uint8,
    "u16": np.uint16,
    "u32": np.uint32,
    "u64": np.uint64,
    "i64": np.int64,
    "f32": np.float32,
    "f64": np.float64,
}
#: Registers of two words: 128-bit integers, and strings as a start in their array of bytes and a length.
WIDE = 16


#: Shared memory of a block that its own accumulators may take, of the 48 KB that every chip gives without being asked.
SHARED_BYTES = 40 << 10
#: They get copies up to this size: eight blocks of a multiprocessor then fit 128 KB, which Volta has.
FAST_BYTES = 16 << 10
#: Lanes of a warp.
LANES = 32


class Unsupported(Exception):
    """What has no form on the GPU: the reason, in words for EXPLAIN."""


@dataclass(slots=True, eq=False)
class Parameter:
    """An array argument of the kernel: which array of a worker, seen as which item, from which byte on."""

    name: str
    fetch: Callable[[int], np.ndarray]
    dtype: Any
    offset: int = 0
    written: bool = False


@dataclass(eq=False)
class Kernel:
    """Source of a kernel and its array arguments. Its other arguments come first: ``HEAD``."""

    source: str
    parameters: list[Parameter]
    counted: bool  # rows are counted by a first pass (``counting`` is its source), then written at their places
    counting: str | None = None
    texts: int = 0  # string columns that are written: their bytes are counted and placed like the rows
    names: list[str] = field(default_factory=list)  # of the instructions, and what they compute, for errors
    subjects: list[Any] = field(default_factory=list)


#: First row and end of the rows; a byte per block of 65,536 rows to be skipped, and whether there are such; error
#: status, whether a table is full, and a lock; groups entered; places of the rows that are written (counts of them in
#: the first pass).
HEAD = ("first", "n", "skip", "skips", "status", "groups", "places")

Template = Callable[["Translation", Instruction], None]
TEMPLATES: dict[str, Template] = {}


def template(*names: str) -> Callable[[Template], Template]:
    """Register the form of instructions for one row."""

    def register(function: Template) -> Template:
        for name in names:
            assert name not in TEMPLATES, name
            TEMPLATES[name] = function
        return function

    return register


class Translation:
    """One program on its way: lines of the kernel's body, arguments, functions used.

    ``counting``: the first of two passes, which counts the rows that come out."""

    def __init__(self, program: Program, counting: bool = False):
        self.program = program
        self.counting = counting
        self.lines: list[str] = []
        self.totals: list[str] = []  # in front of the loop: a thread's own
        self.after: list[str] = []  # behind the loop: what a thread adds to its block's accumulators
        self.flush: list[str] = []  # and what the block then adds to those in memory
        self.own_words = 0  # of the block's accumulators, and (first word, groups, the words they start as)
        self.own_starts: list[tuple[int, int, tuple[int, ...]]] = []
        self.indent = 2
        self.parameters: dict[Any, Parameter] = {}
        self.functions: dict[str, str] = {}
        self.names: dict[Reg, str] = {}
        self.chars: dict[Reg, str] = {}  # of a string register: the argument that holds its bytes
        self.wides: set[Reg] = set()  # string registers that hold 128-bit values, for look-ups by their bytes
        self.constants = {reg: key[0] for key, reg in program.constants.items()}
        self.counted = False
        self.texts = 0
        self.stored = 0
        self.rooted = True  # whether positions still are rows of the source
        self.expansions = 0

    # --- lines and names --------------------------------------------------------------------------------------------

    def line(self, text: str) -> None:
        self.lines.append("    " * self.indent + text)

    def name(self, reg: Reg) -> str:
        """The variable of a register."""
        found = self.names.get(reg)
        if found is None:
            found = self.names[reg] = f"r{len(self.names)}"
        return found

    def set(self, word: Any, value: str) -> None:
        """Assign to the register of an ``Out``, or of an ``Optional`` that is read."""
        if isinstance(word, Out) or (isinstance(word, Optional) and word.reg.uses):
            cast = {1: "np.uint8", 4: "np.uint32"}.get(word.reg.width)  # arithmetic on narrow integers widens them
            self.line(f"{self.name(word.reg)} = {value if cast is None else f'{cast}({value})'}")

    def set_wide(self, word: Any, low: str, high: str) -> None:
        if isinstance(word, Out):
            name = self.name(word.reg)
            self.line(f"{name}, {name}h = {low}, {high}")

    def array(self, word: Any, item: str | None = None, written: bool = False, of: bool = False) -> str:
        """The argument for a symbol's array, seen as ``item`` (None: as it is). ``of``: the array at whose address
        the symbol's own words point."""
        if not isinstance(word, Symbol):
            raise Unsupported("an operand that is no array")
        if of and word.content is None:
            raise Unsupported("memory that only the CPU can address")

        value = word.content if of else word.value

        def fetch(worker: int) -> Any:
            return value(worker) if callable(value) else value

        found = fetch(0)
        if not isinstance(found, np.ndarray):
            raise Unsupported("memory that only the CPU can address")
        if not callable(value) and not written:  # a table that is part of the program
            value = memory.placed(found)
        dtype = found.dtype if item is None else np.dtype(ITEMS[item])
        offset = 0 if of else word.offset
        key = (id(word) if not isinstance(word.value, np.ndarray) else id(word.value), of, dtype.str, offset)
        parameter = self.parameters.get(key)
        if parameter is None:
            name = f"p{len(self.parameters)}"
            parameter = self.parameters[key] = Parameter(name, fetch, dtype, offset)
        parameter.written |= written
        return parameter.name

    def constant_array(self, data: np.ndarray) -> str:
        """An argument for a small array of the translation's own."""
        key = ("constant", data.tobytes(), data.dtype.str)
        if key not in self.parameters:
            placed = memory.placed(data)
            self.parameters[key] = Parameter(f"p{len(self.parameters)}", lambda worker: placed, data.dtype)
        return self.parameters[key].name

    def use(self, *functions: Callable[..., Any]) -> None:
        """Put device functions, and those they call, into the kernel's source."""
        for function in functions:
            add_sources(self.functions, function)

    # --- operands ---------------------------------------------------------------------------------------------------

    def operand(self, word: Any, stride: int, kind: str) -> list[str]:
        """An input of one row: an expression, or two for wide kinds."""
        if isinstance(word, Reg):
            return self.register(word, kind)
        if stride == 0:
            raise Unsupported("a vector that is no register")
        if kind == "s":
            raise Unsupported("strings of another form than offsets and bytes")
        if kind == "w":
            array = self.array(word, "i64")
            return [f"{array}[2 * i]", f"{array}[2 * i + 1]"]
        return [f"{self.array(word, kind)}[i]"]

    def register(self, reg: Reg, kind: str) -> list[str]:
        """A register read as a kind."""
        data = self.program.constant_data.get(reg)
        if data is not None:
            return self.constant(reg, data)
        name = self.name(reg)
        return [name, f"{name}h"] if kind in ("w", "s") else [name]

    def constant(self, reg: Reg, data: np.ndarray) -> list[str]:
        kind = self.constants.get(reg)
        if kind is None:  # a string: address and length
            text = ctypes.string_at(int(data[0]), int(data[1]))
            self.chars[reg] = self.constant_array(np.frombuffer(text + bytes(8), dtype=np.uint8))
            return ["np.int64(0)", f"np.int64({len(text)})"]
        if kind == "w":
            return [f"np.int64({int(data[0])})", f"np.int64({int(data[1])})"]
        if kind == "f64":
            value = float(data[0])
            return [f"np.float64({'np.nan' if value != value else repr(value).replace('inf', 'np.inf')})"]
        return [f"np.{ITEMS[kind].__name__}({int(data[0])})"]

    def one(self, word: Any) -> str:
        """A register of one word: flags, row numbers, indexes."""
        return self.register(word, "")[0]

    def text(self, word: Any, stride: int) -> tuple[str, str, str]:
        """A string of one row: its array of bytes, start and length."""
        if not isinstance(word, Reg):
            raise Unsupported("strings of another form than offsets and bytes")
        start, length = self.register(word, "s")
        if word not in self.chars:
            raise Unsupported("strings that were computed")
        return self.chars[word], start, length

    def row(self, stride: int, index: Any) -> str:
        """The row that an instruction reads in a column: the source's own, or an index's."""
        return "i" if index is None or index == 0 else self.one(index)

    # --- what happens to a row --------------------------------------------------------------------------------------

    def keep(self, condition: str) -> None:
        """Go on with the rows for which a condition holds."""
        self.line(f"if not ({condition}):")
        self.line("    continue")

    def positions(self, *words: Any) -> None:
        """Positions of the rows that are kept."""
        for word in words:
            self.set(word, "np.uint32(i)" if self.rooted else "np.uint32(0)")
        self.rooted = False

    def fail(self, condition: str, status: int, number: int) -> None:
        """An error of the query."""
        for line in self.failure(condition, status, number):
            self.line(line)

    @staticmethod
    def failure(condition: str, status: int, number: int) -> list[str]:
        """Lines that note an error: the instruction's number and its status. The first instruction's is told, as the
        CPU does: the words of earlier ones are larger."""
        return [
            f"if {condition}:",
            f"    cuda.atomic.max(status, 0, np.int64({(0xFFFF - number << 16) | -status}))",
        ]

    # --- the whole --------------------------------------------------------------------------------------------------

    def run(self, kept: list[Instruction]) -> None:
        """Translate the instructions; ``Unsupported`` with all reasons. What is computed from the result of one
        without a form is passed over: its own reason would say nothing."""
        reasons: list[str] = []
        lost: set[Reg] = set()
        for number, item in enumerate(kept):
            self.number = number
            form = TEMPLATES.get(item.name) or (_scalar if item.name in scalar.INSTRUCTIONS else None)
            try:
                if not lost.isdisjoint(word for word in item.words if isinstance(word, Reg)):
                    raise Unsupported("")
                if form is None:
                    raise Unsupported(f"{item.name.replace('_', ' ')} has no form on the GPU")
                form(self, item)
            except Unsupported as reason:
                reasons.append(str(reason))
                lost.update(word.reg for word in item.words if isinstance(word, (Out, Optional)))
            if self.counting and self.counted:
                break
        if reasons:
            raise Unsupported("; ".join(dict.fromkeys(r for r in reasons if r)))

    def source(self) -> str:
        texts = [f"bytes{n}" for n in range(self.texts)]
        arguments = ", ".join([*HEAD, *texts, *(p.name for p in self.parameters.values())])
        body = [f"    {line}" for line in (*self._own(), *self.totals)]
        body.append("    for i in range(first + cuda.grid(1), n, cuda.gridsize(1)):")
        body.append("        if skips != 0 and skip[i >> 16] != 0:")
        body.append("            continue")
        body += self.lines
        end = [*self.after, "cuda.syncthreads()", *self.flush] if self.own_words else self.after
        body += [f"    {line}" for line in end]
        return "\n".join([*self.functions.values(), f"def kernel({arguments}):", *body, ""])

    def _own(self) -> list[str]:
        """Lines that make a block's accumulators, each in as many copies as there is room for."""
        if not self.own_words:
            return []
        copies = LANES
        while copies > 1 and 8 * copies * self.own_words > FAST_BYTES:
            copies //= 2
        lines = [
            f"copies, lane = {copies}, cuda.threadIdx.x & {copies - 1}",
            f"own = cuda.shared.array({copies * self.own_words}, np.int64)",
            "own32, own64 = own.view(np.uint32), own.view(np.float64)",
            f"for s in range(cuda.threadIdx.x, {copies * self.own_words}, cuda.blockDim.x):",
            "    own[s] = 0",
        ]
        starts = [(f, g, w) for f, g, w in self.own_starts if any(w)]
        if starts:
            lines.append("cuda.syncthreads()")
        for first, groups, words in starts:
            lines.append(f"for s in range({first} + cuda.threadIdx.x, {first + groups}, cuda.blockDim.x):")
            each = [
                f"        own[copies * ({first} + {len(words)} * (s - {first}) + {n}) + c] = np.int64({w})"
                for n, w in enumerate(words)
                if w
            ]
            lines += ["    for c in range(copies):", *each]
        return [*lines, "cuda.syncthreads()"]


def _scalar(t: Translation, item: Instruction) -> None:
    """An element-wise instruction: a call of its function."""
    inputs, outputs, checked, function = scalar.INSTRUCTIONS[item.name]
    words, call = item.words, []
    for place, kind in enumerate(inputs):
        call += t.operand(words[2 * place], words[2 * place + 1], kind)
    at = 2 * len(inputs)
    valid = "1"
    if checked:
        valid = t.operand(words[at], words[at + 1], "u8")[0]
        at += 2
    targets = []
    for word, kind in zip(words[at:], outputs):
        name = t.name(word.reg)
        targets += [name, f"{name}h"] if kind in ("w", "s") else [name]
    if checked:
        targets.append("e")
    t.use(function)
    value = f"{function.__name__}({', '.join(call)})"
    if len(targets) == 1:
        t.set(words[at], value)
    else:
        t.line(f"{', '.join(targets)} = {value}")
    if checked:
        t.fail(f"(e & {valid}) != 0", -2, t.number)


def translate(program: Program) -> Kernel:
    """The kernel of a program; ``Unsupported`` with the reason if there is none."""
    from finequery.operators.cuda import accumulate, instructions, sinks  # noqa: F401  they register their templates

    kept = _live(program)
    whole = Translation(program)
    whole.run(kept)
    counting = None
    if whole.counted:
        first = Translation(program, counting=True)
        first.parameters = whole.parameters
        first.run(kept)
        counting = first.source()
    return Kernel(
        whole.source(),
        list(whole.parameters.values()),
        whole.counted,
        counting,
        whole.texts,
        [k.name for k in kept],
        [None if k.pure else k.subject for k in kept],
    )
