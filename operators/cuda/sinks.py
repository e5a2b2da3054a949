"""Instructions at the end of a pipeline, for one row: enter groups into hash tables; write columns.

Written rows take two passes: the first counts the rows that come out of each source row, the second writes them at the
sums of the counts before; so the rows stand in the source's order, as on the CPU.
"""

from __future__ import annotations

from finequery.operators.cuda import functions
from finequery.operators.cuda.instructions import element
from finequery.operators.cuda.translate import Translation, Unsupported, template
from finequery.operators.program import Instruction
from finequery.operators.row_tables import EMPTY

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
        shape = f"{words}[3], {words}[4], {words}[5]"
        t.line(f"at = find_row({table}, np.int64({EMPTY}), {key}, {shape}, groups, {words}[1])")
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
        t.line("places[i - first] += 1")
    else:
        t.lines.insert(0, "        out = places[i - first]")
        t.line("row = out")
        t.line("out += 1")


@template("string_bytes")
def string_bytes(t: Translation, i: Instruction) -> None:
    n = t.texts
    t.texts += 1
    t.counted = t.counted or not t.counting
    if t.counting:
        t.line(f"bytes{n}[i - first] += {t.text(i.words[0], 0)[2]}")
    else:
        t.lines.insert(0, f"        w{n} = bytes{n}[i - first]")


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
