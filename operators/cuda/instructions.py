"""Instructions for one row: reading columns, selecting, looking up."""

from __future__ import annotations

from typing import Any

from finequery.operators.cuda import functions
from finequery.operators.cuda.translate import Translation, Unsupported, template
from finequery.operators.program import Instruction, Reg

ITEMS = ("u8", "u16", "u32", "i64")
OF_WIDTH = {1: "u8", 2: "u16", 4: "u32"}


def element(t: Translation, base: Any, stride: int, index: Any, item: str | None) -> str:
    """One entry of a column or vector."""
    if isinstance(base, Reg):
        return t.one(base)
    return f"{t.array(base, item)}[{t.row(stride, index)}]"


# --- columns -------------------------------------------------------------------------------------------------------


def _define_columns(item: str) -> None:
    @template(f"widen_{item}")
    def widen(t: Translation, i: Instruction) -> None:
        base, stride, low, scale, out = i.words
        t.set(out, _decoded(element(t, base, stride, None, item), low, scale))

    @template(f"gather_widen_{item}")
    def gather_widen(t: Translation, i: Instruction) -> None:
        base, stride, index, low, scale, out = i.words
        t.set(out, _decoded(element(t, base, stride, index, item), low, scale))

    if item != "i64":

        @template(f"digits_{item}")
        def digits(t: Translation, i: Instruction) -> None:
            base, stride, shift, out = i.words
            t.set(out, f"np.uint32({element(t, base, stride, None, item)}) - np.uint32({shift & 0xFFFFFFFF})")

        @template(f"gather_digits_{item}")
        def gather_digits(t: Translation, i: Instruction) -> None:
            base, stride, index, shift, out = i.words
            t.set(out, f"np.uint32({element(t, base, stride, index, item)}) - np.uint32({shift & 0xFFFFFFFF})")

    @template(f"between_{item}")
    def between(t: Translation, i: Instruction) -> None:
        base, stride, low, high, out = i.words
        t.set(out, _between(element(t, base, stride, None, item), low, high, item))

    @template(f"between_and_{item}")
    def between_and(t: Translation, i: Instruction) -> None:
        base, stride, low, high, before, out = i.words
        t.set(out, f"{t.one(before)} & {_between(element(t, base, stride, None, item), low, high, item)}")

    # --- look-ups by a stored value

    def place(t: Translation, base: Any, stride: int, index: Any, shift: int, limit: int) -> str:
        return _place(t, base, stride, index, shift, limit, item)

    def select(t: Translation, i: Instruction, bits: bool) -> None:
        base, stride, table, shift, limit, index, out, positions = i.words
        t.line(f"v = {place(t, base, stride, index, shift, limit)}")
        t.keep(_bit(t.array(table, "u8")) if bits else f"{t.array(table, 'u8')}[v] != 0")
        t.set(out, f"np.uint32({t.row(stride, index)})")
        t.positions(positions)

    @template(f"probe_map_{item}")
    def probe_map(t: Translation, i: Instruction) -> None:
        select(t, i, False)

    @template(f"probe_bits_{item}")
    def probe_bits(t: Translation, i: Instruction) -> None:
        select(t, i, True)

    @template(f"test_map_{item}")
    def test_map(t: Translation, i: Instruction) -> None:
        base, stride, table, shift, limit, out = i.words
        t.set(out, f"{t.array(table, 'u8')}[{place(t, base, stride, None, shift, limit)}]")

    @template(f"test_bits_{item}")
    def test_bits(t: Translation, i: Instruction) -> None:
        base, stride, table, shift, limit, out = i.words
        t.line(f"v = {place(t, base, stride, None, shift, limit)}")
        t.set(out, f"np.uint8({_bit(t.array(table, 'u8'))})")

    @template(f"clamp_{item}")
    def clamp(t: Translation, i: Instruction) -> None:
        base, stride, index, shift, limit, out = i.words
        t.set(out, f"np.uint32({place(t, base, stride, index, shift, limit)})")

    for entry in ("u8", "u16", "u32"):

        @template(f"map_{entry}_{item}")
        def map_entry(t: Translation, i: Instruction, entry: str = entry) -> None:
            base, stride, table, shift, limit, out = i.words
            t.set(out, f"np.uint32({t.array(table, entry)}[{place(t, base, stride, None, shift, limit)}])")

        @template(f"gather_map_{entry}_{item}")
        def gather_map(t: Translation, i: Instruction, entry: str = entry) -> None:
            base, stride, index, table, shift, limit, out = i.words
            t.set(out, f"np.uint32({t.array(table, entry)}[{place(t, base, stride, index, shift, limit)}])")


for _item in ITEMS:
    _define_columns(_item)


@template("rank_u32")
def rank(t: Translation, i: Instruction) -> None:
    digits, stride, bits, prefix, shift, limit, out = i.words
    t.use(functions.rank)
    place = _place(t, digits, stride, None, shift, limit, "u32")
    t.set(out, f"rank({t.array(bits, 'u64')}, {t.array(prefix, 'u32')}, {place})")


def _place(t: Translation, base: Any, stride: int, index: Any, shift: int, limit: int, item: str) -> str:
    """The entry of a stored value in a look-up: min(x - shift, limit), which at the limit is the miss."""
    x = element(t, base, stride, index, item)
    return f"min(np.uint64({x}) - np.uint64({shift & (2**64 - 1)}), np.uint64({limit}))"


def _decoded(x: str, low: int, scale: int) -> str:
    value = f"np.int64({x})"
    if scale != 1:
        value = f"np.int64({scale}) * {value}"
    return f"np.int64({low}) + {value}" if low else value


def _between(x: str, low: int, high: int, item: str) -> str:
    cast = {"u8": "uint8", "u16": "uint16", "u32": "uint32", "i64": "int64"}[item]
    return f"np.uint8(({x} >= np.{cast}({low})) & ({x} <= np.{cast}({high})))"


def _bit(table: str) -> str:
    return f"(({table}[v >> np.uint64(3)] >> np.uint8(v & np.uint64(7))) & np.uint8(1)) != 0"


@template("load_f32")
def load_f32(t: Translation, i: Instruction) -> None:
    base, stride, out = i.words
    t.set(out, f"np.float64({element(t, base, stride, None, 'f32')})")


@template("gather_f32")
def gather_f32(t: Translation, i: Instruction) -> None:
    base, stride, index, out = i.words
    t.set(out, f"np.float64({element(t, base, stride, index, 'f32')})")


def _define_gather(width: int) -> None:
    item = OF_WIDTH.get(width)  # of eight bytes: as the array has it, integers or doubles

    @template(f"gather_{width}")
    def gather(t: Translation, i: Instruction) -> None:
        base, stride, index, out = i.words
        t.set(out, element(t, base, stride, index, item))

    if width in (1, 8):

        @template(f"copy_{width}")
        def copy(t: Translation, i: Instruction) -> None:
            base, stride, out = i.words
            t.set(out, element(t, base, stride, None, item))


for _width in (1, 2, 4, 8):
    _define_gather(_width)


@template("gather_16")
def gather_16(t: Translation, i: Instruction) -> None:
    base, stride, index, out = i.words
    _wide(t, base, t.row(stride, index), out)


@template("copy_16")
def copy_16(t: Translation, i: Instruction) -> None:
    base, _, out = i.words
    _wide(t, base, "i", out)


def _wide(t: Translation, base: Any, row: str, out: Any) -> None:
    if isinstance(base, Reg):
        t.set_wide(out, *t.register(base, "w"))
        if base in t.chars:
            t.chars[out.reg] = t.chars[base]
        return
    array = t.array(base, "i64")
    t.line(f"at = np.int64({row})")
    t.set_wide(out, f"{array}[2 * at]", f"{array}[2 * at + 1]")


@template("views")
def views(t: Translation, i: Instruction) -> None:
    base, _, chars, out = i.words
    _view(t, base, chars, "i", out)


@template("gather_views")
def gather_views(t: Translation, i: Instruction) -> None:
    base, stride, chars, index, out = i.words
    _view(t, base, chars, t.row(stride, index), out)


def _view(t: Translation, base: Any, chars: Any, row: str, out: Any) -> None:
    offsets = t.array(base, "i64")
    t.chars[out.reg] = t.array(chars, "u8")
    t.line(f"at = np.int64({row})")
    t.set_wide(out, f"{offsets}[at]", f"{offsets}[at + 1] - {offsets}[at]")


@template("valid")
def valid(t: Translation, i: Instruction) -> None:
    bitmap, _, out = i.words
    t.use(functions.bit)
    t.set(out, f"bit({t.array(bitmap, 'u8')}, i)")


@template("gather_valid")
def gather_valid(t: Translation, i: Instruction) -> None:
    bitmap, stride, index, out = i.words
    t.use(functions.bit)
    t.set(out, f"bit({t.array(bitmap, 'u8')}, {t.row(stride, index)})")


@template("row_numbers")
def row_numbers(t: Translation, i: Instruction) -> None:
    out, index = i.words
    t.set(out, f"np.uint32({t.row(1, index)})")


# --- selections and look-ups ---------------------------------------------------------------------------------------


@template("select")
def select(t: Translation, i: Instruction) -> None:
    mask, out = i.words
    t.keep(f"{t.one(mask)} != 0")
    t.positions(out)


@template("matched")
def matched(t: Translation, i: Instruction) -> None:
    rows, ok, safe = i.words
    row = t.one(rows)
    t.set(ok, f"np.uint8({row} != np.uint32(0xFFFFFFFF))")
    t.set(safe, f"{row} if {row} != np.uint32(0xFFFFFFFF) else np.uint32(0)")


@template("mark_matched")
def mark_matched(t: Translation, i: Instruction) -> None:
    rows, flags = i.words
    row = t.one(rows)
    t.line(f"if {row} != np.uint32(0xFFFFFFFF):")
    t.line(f"    {t.array(flags, 'u8', written=True)}[{row}] = np.uint8(1)")


@template("find_lines")
def find_lines(t: Translation, i: Instruction) -> None:
    keys, stride, table, lines, _, out = i.words
    t.use(functions.search)
    t.set(out, f"{_search(t, keys, stride, table, lines)} - np.uint32(1)")


@template("probe_lines")
def probe_lines(t: Translation, i: Instruction) -> None:
    keys, stride, table, lines = i.words[:4]
    positions, values = i.words[12:]
    t.use(functions.search)
    t.line(f"found = {_search(t, keys, stride, table, lines)}")
    t.keep("found != np.uint32(0)")
    t.positions(positions)
    t.set(values, "found - np.uint32(1)")


def _search(t: Translation, keys: Any, stride: int, table: Any, lines: int) -> str:
    key = t.operand(keys, stride, "i64")[0]
    return f"search({t.array(table, 'u64')}, {t.array(table, 'u32')}, np.uint64({lines}), np.uint64({key}))"


@template("group_of_entry")
def group_of_entry(t: Translation, i: Instruction) -> None:
    digits, limit, mask, out = i.words
    x = t.one(digits)
    known = f"{x} < np.uint32({limit})" + (f" and {t.one(mask)} != 0" if isinstance(mask, Reg) else "")
    t.set(out, f"{x} if {known} else np.uint32(0xFFFFFFFF)")


@template("row_of_entry")
def row_of_entry(t: Translation, i: Instruction) -> None:
    entries, mask, out = i.words
    row = f"{t.one(entries)} - np.uint32(1)"
    t.set(out, f"{row} if {t.one(mask)} != 0 else np.uint32(0xFFFFFFFF)" if isinstance(mask, Reg) else row)


@template("expand")
def expand(t: Translation, i: Instruction) -> None:
    group, starts, listed, keep, _, positions, rows = i.words[4:]
    n, g = t.expansions, t.one(group)
    t.expansions += 1
    array = t.array(starts, "u32")
    t.line(f"b{n}, e{n} = np.int64(0), np.int64(0)")
    t.line(f"if {g} != np.uint32(0xFFFFFFFF):")
    t.line(f"    b{n}, e{n} = np.int64({array}[{g}]), np.int64({array}[np.int64({g}) + 1])")
    if keep:  # a row without partner goes on once
        t.line(f"lone{n} = b{n} == e{n}")
        t.line(f"for j{n} in range(b{n}, e{n} + 1 if lone{n} else e{n}):")
    else:
        t.line(f"for j{n} in range(b{n}, e{n}):")
    t.indent += 1
    partner = f"np.uint32(j{n})" if listed == 0 else f"{t.array(listed, 'u32')}[j{n}]"
    if keep and listed != 0:
        t.line(f"x{n} = np.uint32(0xFFFFFFFF)")
        t.line(f"if not lone{n}:")
        t.line(f"    x{n} = {partner}")
        partner = f"x{n}"
    elif keep:
        partner = f"np.uint32(0xFFFFFFFF) if lone{n} else {partner}"
    t.set(rows, partner)
    t.positions(positions)


@template("single_match")
def single_match(t: Translation, i: Instruction) -> None:
    group, starts, listed, out = i.words
    g, array = t.one(group), t.array(starts, "u32")
    t.line("found = np.uint32(0xFFFFFFFF)")
    t.line(f"if {g} != np.uint32(0xFFFFFFFF):")
    t.line(f"    b, e = np.int64({array}[{g}]), np.int64({array}[np.int64({g}) + 1])")
    t.line("    if e > b:")
    t.line("        found = np.uint32(b)" if listed == 0 else f"        found = {t.array(listed, 'u32')}[b]")
    t.indent += 1
    t.fail("e > b + 1", -4, t.number)
    t.indent -= 1
    t.set(out, "found")


@template("pack_keys")
def pack_keys(t: Translation, i: Instruction) -> None:
    before, part, low, span, factor, mask, shift, flags, out = i.words
    t.line(f"v = np.uint64({t.one(part)}) - np.uint64({low & (2**64 - 1)})")
    t.line(f"inside = v < np.uint64({span})")
    t.line(f"digit = np.int64(v + np.uint64({shift})) if inside else np.int64(0)")
    if isinstance(flags, Reg):
        t.line(f"if {t.one(flags)} == 0:")
        t.line(f"    digit, inside = np.int64(0), {bool(shift)}")
    if isinstance(mask, Reg):
        t.line(f"{t.name(mask)} = {t.name(mask)} & np.uint8(inside)")
    head = f"{t.one(before)} + " if isinstance(before, Reg) else ""
    t.set(out, f"{head}digit * np.int64({factor})")


@template("views_of_w")
def views_of_w(t: Translation, i: Instruction) -> None:
    values, out = i.words
    t.set_wide(out, *t.register(values, "w"))
    t.wides.add(out.reg)


@template("find_interned")
def find_interned(t: Translation, i: Instruction) -> None:
    strings, offsets, chars, table, mask, firsts, out = i.words[:7]
    tail = f"{t.array(table, 'u64')}, np.uint64({mask}), {t.array(firsts, 'u32')}"
    if strings in t.wides:
        t.use(functions.find_wide)
        low, high = t.register(strings, "w")
        t.set(out, f"find_wide({low}, {high}, {t.array(chars, 'i64')}, {tail})")
        return
    t.use(functions.find_text)
    text = ", ".join(t.text(strings, 0))
    t.set(out, f"find_text({text}, {t.array(offsets, 'i64')}, {t.array(chars, 'u8')}, {tail})")


# --- strings -------------------------------------------------------------------------------------------------------


def _define_comparison(name: str, test: str) -> None:
    @template(name)
    def compare(t: Translation, i: Instruction) -> None:
        a, a_stride, b, b_stride, out = i.words
        t.use(functions.text_order)
        left, right = t.text(a, a_stride), t.text(b, b_stride)
        t.set(out, f"np.uint8(text_order({', '.join((*left, *right))}) {test} 0)")


for _name, _test in (("eq_s", "=="), ("lt_s", "<"), ("le_s", "<=")):
    _define_comparison(_name, _test)


@template("blend_w")
def blend_w(t: Translation, i: Instruction) -> None:
    """Of 128-bit values, or of strings: then the bytes are chosen with the start and the length."""
    mask, mask_stride, a, a_stride, b, b_stride, out = i.words
    chosen = f"{t.operand(mask, mask_stride, 'u8')[0]} != 0"
    left, right = t.operand(a, a_stride, "w"), t.operand(b, b_stride, "w")
    if a in t.chars or b in t.chars:
        (one, *left), (other, *right) = t.text(a, a_stride), t.text(b, b_stride)
        t.chars[out.reg] = chars = f"{t.name(out.reg)}c"
        t.line(f"{chars} = {one}")
        t.line(f"if not ({chosen}):")
        t.line(f"    {chars} = {other}")
    low, high = (f"{x} if {chosen} else {y}" for x, y in zip(left, right))
    t.set_wide(out, low, high)


def _define_constant_text(name: str) -> None:
    @template(name)
    def compare(t: Translation, i: Instruction) -> None:
        a, stride, text, size, out = i.words
        t.use(functions.same_text)
        chars, start, length = t.text(a, stride)
        test = f"{length} == {size}" if name == "eq_text_s" else f"{length} >= {size}"
        if name == "ends_with_s":
            start = f"{start} + {length} - {size}"
        t.set(out, f"{test} and same_text({chars}, {start}, {t.array(text, 'u8')}, {size})")


for _name in ("eq_text_s", "starts_with_s", "ends_with_s"):
    _define_constant_text(_name)


def _like(t: Translation, text: tuple[str, str, str], words: Any, out: Any) -> None:
    t.use(functions.like)
    t.set(out, f"like({', '.join(text)}, {t.array(words, 'i64')}, {t.array(words, 'u8', of=True)})")


@template("like_s")
def like_s(t: Translation, i: Instruction) -> None:
    a, stride, words, out = i.words
    _like(t, t.text(a, stride), words, out)


@template("like_tile")
def like_tile(t: Translation, i: Instruction) -> None:
    base, _, chars, words, out = i.words
    offsets = t.array(base, "i64")
    _like(t, (t.array(chars, "u8"), f"{offsets}[i]", f"{offsets}[i + 1] - {offsets}[i]"), words, out)


@template("byte_length_s")
def byte_length_s(t: Translation, i: Instruction) -> None:
    a, stride, out = i.words
    t.set(out, t.text(a, stride)[2])


@template("length_s")
def length_s(t: Translation, i: Instruction) -> None:
    a, stride, out = i.words
    t.use(functions.characters)
    t.set(out, f"characters({', '.join(t.text(a, stride))})")


def _define_substring(name: str, ascii_: bool) -> None:
    @template(name)
    def substring(t: Translation, i: Instruction) -> None:
        a, stride, start, length, out = i.words
        function = functions.substring_ascii if ascii_ else functions.substring
        t.use(function)
        chars, first, size = t.text(a, stride)
        t.chars[out.reg] = chars
        name = t.name(out.reg)
        call = f"{function.__name__}({chars}, {first}, {size}, np.int64({start}), np.int64({length}))"
        t.line(f"{name}, {name}h = {call}")


_define_substring("substring_ascii_s", True)
_define_substring("substring_s", False)


__all__ = ["Unsupported"]
