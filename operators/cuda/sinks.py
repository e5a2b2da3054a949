"""Instructions at the end of a pipeline, for one row: accumulate in totals, groups and tables; write columns.

Totals are added up by every thread for itself, then by block, then in memory. Sums of groups are atomic adds. Written
rows take two passes: the first counts the rows that come out of each source row, the second writes them at the sums
of the counts before; so the rows stand in the source's order, as on the CPU.
"""

from __future__ import annotations

from typing import Any

from finequery.operators.cuda import functions
from finequery.operators.cuda.instructions import element
from finequery.operators.cuda.translate import Translation, Unsupported, template
from finequery.operators.program import Instruction, Reg

EVERY = ("u8", "u16", "u32", "i64", "f64")


# --- totals --------------------------------------------------------------------------------------------------------


def _total(t: Translation, value: str, accumulator: Any, item: str) -> None:
    """Add to a thread's own total."""
    name = f"t{t.totals}"
    t.totals += 1
    function = functions.block_sum_f64 if item == "f64" else functions.block_sum
    t.use(function)
    t.before.append(f"{name} = np.{'float64' if item == 'f64' else 'int64'}(0)")
    t.line(f"{name} += {value}")
    t.after.append(f"{name} = {function.__name__}({name})")
    t.after.append("if cuda.threadIdx.x == 0:")
    t.after.append(f"    cuda.atomic.add({t.array(accumulator, item, written=True)}, 0, {name})")


@template("total_count")
def total_count(t: Translation, i: Instruction) -> None:
    if not t.counting:
        _total(t, "np.int64(1)", i.words[0], "i64")


@template("total_count_valid")
def total_count_valid(t: Translation, i: Instruction) -> None:
    if not t.counting:
        _total(t, f"np.int64({t.one(i.words[0])})", i.words[1], "i64")


def _summed(x: str, ok: Any, t: Translation, item: str) -> str:
    cast = "float64" if item == "f64" else "int64"
    value = f"np.{cast}({x})"
    return f"({value} if {t.one(ok)} != 0 else np.{cast}(0))" if isinstance(ok, Reg) else value


def _define_sums(item: str) -> None:
    target = "f64" if item == "f64" else "i64"

    @template(f"total_sum_{item}")
    def total_sum(t: Translation, i: Instruction) -> None:
        base, stride, index, ok, accumulator = i.words
        _total(t, _summed(element(t, base, stride, index, item), ok, t, item), accumulator, target)

    @template(f"sum_{item}")
    def sum_groups(t: Translation, i: Instruction) -> None:
        group, base, stride, index, ok, accumulator = i.words
        value = _summed(element(t, base, stride, index, item), ok, t, item)
        t.line(f"cuda.atomic.add({t.array(accumulator, target, written=True)}, {t.one(group)}, {value})")

    if item != "f64":

        @template(f"few_sum_{item}")
        def few_sum(t: Translation, i: Instruction) -> None:
            group, base, stride, count, accumulator = i.words
            value = f"np.int64({element(t, base, stride, None, item)})"
            t.line(f"if {t.one(group)} < {count}:")
            t.line(f"    cuda.atomic.add({t.array(accumulator, 'i64', written=True)}, {t.one(group)}, {value})")


for _item in EVERY:
    _define_sums(_item)


# --- groups --------------------------------------------------------------------------------------------------------


@template("count")
def count(t: Translation, i: Instruction) -> None:
    group, accumulator = i.words
    t.line(f"cuda.atomic.add({t.array(accumulator, 'i64', written=True)}, {t.one(group)}, np.int64(1))")


@template("count_valid")
def count_valid(t: Translation, i: Instruction) -> None:
    group, ok, accumulator = i.words
    array = t.array(accumulator, "i64", written=True)
    t.line(f"cuda.atomic.add({array}, {t.one(group)}, np.int64({t.one(ok)}))")


@template("few_count")
def few_count(t: Translation, i: Instruction) -> None:
    group, count, accumulator = i.words
    t.line(f"if {t.one(group)} < {count}:")
    t.line(f"    cuda.atomic.add({t.array(accumulator, 'i64', written=True)}, {t.one(group)}, np.int64(1))")


@template("byte_group")
def byte_group(t: Translation, i: Instruction) -> None:
    t.set(i.words[1], t.one(i.words[0]))


@template("masked_group", "trash_group")
def masked_group(t: Translation, i: Instruction) -> None:
    group, mask, reject, out = i.words
    t.set(out, f"{t.one(group)} if {t.one(mask)} != 0 else np.uint32({reject})")


def _grouped(t: Translation, i: Instruction) -> tuple[str, str]:
    """Where a grouped accumulation of kernels with a step goes, and the indent of what is valid."""
    group, _, ok, _, step = i.words
    if isinstance(ok, Reg):
        t.line(f"if {t.one(ok)} != 0:")
    else:
        t.line("if True:")
    return (f"np.int64({t.one(group)}) * {step}" if isinstance(group, Reg) else "0"), "    "


@template("sum_w_i64")
def sum_w_i64(t: Translation, i: Instruction) -> None:
    at, inner = _grouped(t, i)
    t.use(functions.add_wide)
    x = t.one(i.words[1])
    t.line(f"{inner}add_wide({t.array(i.words[3], 'i64', written=True)}, {at}, {x}, {x} >> np.int64(63))")


@template("sum_w")
def sum_w(t: Translation, i: Instruction) -> None:
    at, _ = _grouped(t, i)
    t.use(functions.add_wide)
    low, high = t.register(i.words[1], "w")
    t.indent += 1
    t.fail(f"add_wide({t.array(i.words[3], 'i64', written=True)}, {at}, {low}, {high})", -2, t.number)
    t.indent -= 1


def _define_wide_extreme(name: str) -> None:
    @template(f"group_{name}_w")
    def extreme(t: Translation, i: Instruction) -> None:
        at, inner = _grouped(t, i)
        t.use(functions.extreme_wide)
        low, high = t.register(i.words[1], "w")
        array = t.array(i.words[3], "i64", written=True)
        t.line(f"{inner}extreme_wide({array}, {at}, {low}, {high}, {name == 'min'}, status)")


_define_wide_extreme("min")
_define_wide_extreme("max")


@template("moments")
def moments(t: Translation, i: Instruction) -> None:
    at, inner = _grouped(t, i)
    t.use(functions.add_moments)
    doubles, words = t.array(i.words[3], "f64", written=True), t.array(i.words[3], "i64", written=True)
    t.line(f"{inner}add_moments({doubles}, {words}, {at}, {t.one(i.words[1])})")


def _define_extremes(name: str) -> None:
    @template(f"group_{name}_i64")
    def extreme(t: Translation, i: Instruction) -> None:
        _, inner = _grouped(t, i)
        t.line(f"{inner}cuda.atomic.{name}({t.array(i.words[3], 'i64', written=True)}, {_group(t, i)}, {_x(t, i)})")

    @template(f"group_{name}_u32")
    def extreme_code(t: Translation, i: Instruction) -> None:
        at, inner = _grouped(t, i)
        t.line(f"{inner}cuda.atomic.{name}({t.array(i.words[3], 'u32', written=True)}, {at}, {_x(t, i)})")

    @template(f"group_{name}_f64")
    def extreme_double(t: Translation, i: Instruction) -> None:
        _, inner = _grouped(t, i)
        function = functions.least_f64 if name == "min" else functions.most_f64
        t.use(function)
        doubles, words = t.array(i.words[3], "f64", written=True), t.array(i.words[3], "i64", written=True)
        t.line(f"{inner}{function.__name__}({doubles}, {_group(t, i)}, {words}, {_x(t, i)})")


def _x(t: Translation, i: Instruction) -> str:
    return t.one(i.words[1])


def _group(t: Translation, i: Instruction) -> str:
    return t.one(i.words[0]) if isinstance(i.words[0], Reg) else "0"


_define_extremes("min")
_define_extremes("max")


@template("first_row")
def first_row(t: Translation, i: Instruction) -> None:
    at, inner = _grouped(t, i)
    t.line(f"{inner}cuda.atomic.min({t.array(i.words[3], 'u32', written=True)}, {at}, {_x(t, i)})")


# --- hash tables of groups -----------------------------------------------------------------------------------------


def _define_find(name: str, item: str | None) -> None:
    @template(name)
    def find(t: Translation, i: Instruction) -> None:
        keys, stride, state, out, morsel, source, source_stride, place = i.words
        if morsel != 0:
            raise Unsupported("groups of one partition after another")
        t.use(functions.find_row)
        table = t.array(state, "i64", written=True, of=True)
        words = t.array(state, "i64", written=True)
        key = t.operand(keys, stride, "i64")[0]
        t.line(f"at = find_row({table}, {key}, {words}[3], {words}[4], {words}[5], groups, {words}[1])")
        t.line("if at < 0:")
        t.line("    status[1] = 1")
        t.line("    continue")
        t.set(out, "np.uint32(at)")
        if name != "find_rows":
            value = "np.int64(1)" if item is None else f"np.int64({element(t, source, source_stride, None, item)})"
            t.line(f"cuda.atomic.add({table}, at + {place}, {value})")


_define_find("find_rows", None)
_define_find("find_rows_count", None)
for _item in ("u8", "u16", "u32", "i64"):
    _define_find(f"find_rows_sum_{_item}", _item)


# --- columns that are written --------------------------------------------------------------------------------------


@template("reserve")
def reserve(t: Translation, i: Instruction) -> None:
    t.counted = True
    if t.counting:
        t.line("places[i] += 1")
    else:
        t.lines.insert(0, "        out = places[i]")
        t.line("row = out")
        t.line("out += 1")


@template("string_bytes")
def string_bytes(t: Translation, i: Instruction) -> None:
    n = t.texts
    t.texts += 1
    t.counted = t.counted or not t.counting
    if t.counting:
        t.line(f"bytes{n}[i] += {t.text(i.words[0], 0)[2]}")
    else:
        t.lines.insert(0, f"        w{n} = bytes{n}[i]")


@template("store_string")
def store_string(t: Translation, i: Instruction) -> None:
    x, target, _, lengths, _ = i.words
    n = t.stored
    t.stored += 1
    t.use(functions.copy_text)
    chars, start, size = t.text(x, 0)
    t.line(f"copy_text({t.array(target, 'u8', True, True)}, w{n}, {chars}, {start}, {size})")
    t.line(f"{t.array(lengths, 'i64', True, True)}[row] = {size}")
    t.line(f"w{n} += {size}")


@template("cursor_at_tile")
def cursor_at_tile(t: Translation, i: Instruction) -> None:
    if t.counting:
        t.counted = True
    t.line("row = i")


def _define_store(width: int) -> None:
    item = {1: "u8", 2: "u16", 4: "u32", 8: None}[width]

    @template(f"store_{width}")
    def store(t: Translation, i: Instruction) -> None:
        base, stride, where, _ = i.words
        t.line(f"{t.array(where, item, True, True)}[row] = {element(t, base, stride, None, item)}")

    @template(f"store_gather_{width}")
    def store_gather(t: Translation, i: Instruction) -> None:
        base, stride, index, where, _ = i.words
        t.line(f"{t.array(where, item, True, True)}[row] = {element(t, base, stride, index, item)}")


for _width in (1, 2, 4, 8):
    _define_store(_width)


@template("store_16")
def store_16(t: Translation, i: Instruction) -> None:
    base, _, where, _ = i.words
    low, high = t.register(base, "w")
    array = t.array(where, "i64", True, True)
    t.line(f"{array}[2 * row] = {low}")
    t.line(f"{array}[2 * row + 1] = {high}")


def _define_narrow(item: str, cast: str) -> None:
    @template(f"store_narrow_{item}")
    def store_narrow(t: Translation, i: Instruction) -> None:
        x, base, where, _ = i.words
        t.line(f"{t.array(where, item, True, True)}[row] = np.{cast}({t.one(x)} - np.int64({base}))")

    @template(f"store_digits_{item}")
    def store_digits(t: Translation, i: Instruction) -> None:
        x, where, _ = i.words
        t.line(f"{t.array(where, item, True, True)}[row] = np.{cast}({t.one(x)})")


for _item, _cast in (("u8", "uint8"), ("u16", "uint16"), ("u32", "uint32")):
    _define_narrow(_item, _cast)


@template("store_f32")
def store_f32(t: Translation, i: Instruction) -> None:
    x, where, _ = i.words
    t.line(f"{t.array(where, 'f32', True, True)}[row] = np.float32({t.one(x)})")
