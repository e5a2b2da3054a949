"""LLVM intrinsics that the primitives need and Numba does not offer. Imported only while primitives are compiled.

Pointers travel as 64-bit integers; ``p_u8(address)`` and its kin turn one into a typed pointer. Index pointers with
*unsigned* integers: a signed index makes Numba handle negative ones, and the loop no longer vectorises.
"""

# mypy: ignore-errors
from __future__ import annotations

import platform

import llvmlite.binding as llvm
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

I64, I32 = ir.IntType(64), ir.IntType(32)
X86 = platform.machine() in ("x86_64", "AMD64")
AVX512 = X86 and llvm.get_host_cpu_features().get("avx512f", False) and llvm.get_host_cpu_features().get("avx512bw")


def _pointer(element):
    @intrinsic
    def cast(typingctx, address):
        def codegen(context, builder, signature, args):
            return builder.inttoptr(args[0], context.get_value_type(types.CPointer(element)))

        return types.CPointer(element)(address), codegen

    return cast


p_u8, p_u16, p_u32, p_u64 = (_pointer(t) for t in (types.uint8, types.uint16, types.uint32, types.uint64))
p_i8, p_i16, p_i32, p_i64 = (_pointer(t) for t in (types.int8, types.int16, types.int32, types.int64))
p_f32, p_f64 = _pointer(types.float32), _pointer(types.float64)

POINTER = {"u8": p_u8, "u16": p_u16, "u32": p_u32, "u64": p_u64, "i64": p_i64, "f32": p_f32, "f64": p_f64, "i32": p_i32}


@intrinsic
def call(typingctx, function, t, n, k, args):
    """Call a primitive through its address."""

    def codegen(context, builder, signature, values):
        kind = ir.FunctionType(I64, [I64, I64, I64, I64])
        return builder.call(builder.inttoptr(values[0], kind.as_pointer()), values[1:])

    return types.int64(types.int64, types.int64, types.int64, types.int64, types.int64), codegen


@intrinsic
def atomic_add(typingctx, address, value):
    """Fetch and add; gives the old value."""

    def codegen(context, builder, signature, values):
        pointer = builder.inttoptr(values[0], I64.as_pointer())
        return builder.atomic_rmw("add", pointer, values[1], "seq_cst")

    return types.int64(types.int64, types.int64), codegen


@intrinsic
def atomic_load(typingctx, address):
    def codegen(context, builder, signature, values):
        return builder.load_atomic(builder.inttoptr(values[0], I64.as_pointer()), "seq_cst", 8)

    return types.int64(types.int64), codegen


@intrinsic
def atomic_store(typingctx, address, value):
    def codegen(context, builder, signature, values):
        builder.store_atomic(values[1], builder.inttoptr(values[0], I64.as_pointer()), "seq_cst", 8)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), codegen


@intrinsic
def compare_and_swap(typingctx, address, expected, new):
    """1 if the word was ``expected`` and is ``new`` now."""

    def codegen(context, builder, signature, values):
        pointer = builder.inttoptr(values[0], I64.as_pointer())
        pair = builder.cmpxchg(pointer, values[1], values[2], "seq_cst", "seq_cst")
        return builder.zext(builder.extract_value(pair, 1), I64)

    return types.int64(types.int64, types.int64, types.int64), codegen


@intrinsic
def pause(typingctx):
    """Tell the core that this is a spin loop."""

    def codegen(context, builder, signature, values):
        if X86:
            function = cgutils.get_or_insert_function(
                builder.module, ir.FunctionType(ir.VoidType(), []), "llvm.x86.sse2.pause"
            )
            builder.call(function, [])
        else:  # yield hint
            function = cgutils.get_or_insert_function(
                builder.module, ir.FunctionType(ir.VoidType(), [I32]), "llvm.aarch64.hint"
            )
            builder.call(function, [ir.Constant(I32, 1)])
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic
def ticks(typingctx):
    """A counter of constant rate that all cores share and user code may read: x86's time stamps, ARM's virtual timer
    (its cycle counter traps). How long a tick is: operators.profile."""

    def codegen(context, builder, signature, values):
        if X86:
            kind = ir.FunctionType(I64, [])
            return builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.readcyclecounter"), [])
        kind = ir.FunctionType(I64, [ir.MetaDataType()])
        read = cgutils.get_or_insert_function(builder.module, kind, "llvm.read_volatile_register.i64")
        return builder.call(read, [builder.module.add_metadata(["cntvct_el0"])])

    return types.int64(), codegen


@intrinsic
def prefetch(typingctx, address):
    """Bring the cache line at ``address`` near, for reading."""

    def codegen(context, builder, signature, values):
        byte = ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [byte, I32, I32, I32])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        one, zero, three = ir.Constant(I32, 1), ir.Constant(I32, 0), ir.Constant(I32, 3)
        builder.call(function, [builder.inttoptr(values[0], byte), zero, three, one])
        return context.get_dummy_value()

    return types.void(types.int64), codegen


def _unary(name, extra=()):
    @intrinsic
    def function(typingctx, value):
        def codegen(context, builder, signature, values):
            kind = ir.FunctionType(I64, [I64] + [e.type for e in extra])
            target = cgutils.get_or_insert_function(builder.module, kind, name)
            return builder.call(target, [values[0], *extra])

        return types.uint64(types.uint64), codegen

    return function


_FALSE = ir.Constant(ir.IntType(1), 0)
popcount = _unary("llvm.ctpop.i64")
count_trailing_zeros = _unary("llvm.cttz.i64", (_FALSE,))
count_leading_zeros = _unary("llvm.ctlz.i64", (_FALSE,))
byte_swap = _unary("llvm.bswap.i64")


@intrinsic
def bits_of(typingctx, value):
    """The bit pattern of a double."""

    def codegen(context, builder, signature, values):
        return builder.bitcast(values[0], I64)

    return types.int64(types.float64), codegen


@intrinsic
def double_of(typingctx, value):
    """The double with this bit pattern."""

    def codegen(context, builder, signature, values):
        return builder.bitcast(values[0], ir.DoubleType())

    return types.float64(types.int64), codegen


@intrinsic
def load_u64(typingctx, address):
    """Eight bytes from any address."""

    def codegen(context, builder, signature, values):
        load = builder.load(builder.inttoptr(values[0], I64.as_pointer()))
        load.align = 1
        return load

    return types.uint64(types.int64), codegen


@intrinsic
def load_u32(typingctx, address):
    """Four bytes from any address."""

    def codegen(context, builder, signature, values):
        load = builder.load(builder.inttoptr(values[0], I32.as_pointer()))
        load.align = 1
        return load

    return types.uint32(types.int64), codegen


@intrinsic
def store_u64(typingctx, address, value):
    """Eight bytes to any address."""

    def codegen(context, builder, signature, values):
        store = builder.store(values[1], builder.inttoptr(values[0], I64.as_pointer()))
        store.align = 1
        return context.get_dummy_value()

    return types.void(types.int64, types.uint64), codegen


@intrinsic
def copy_bytes(typingctx, target, source, count):
    """memmove."""

    def codegen(context, builder, signature, values):
        byte = ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [byte, byte, I64, ir.IntType(1)])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.memmove.p0.p0.i64")
        builder.call(
            function, [builder.inttoptr(values[0], byte), builder.inttoptr(values[1], byte), values[2], _FALSE]
        )
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), codegen


def _overflowing(name):
    @intrinsic
    def function(typingctx, a, b):
        def codegen(context, builder, signature, values):
            kind = ir.FunctionType(ir.LiteralStructType([I64, ir.IntType(1)]), [I64, I64])
            target = cgutils.get_or_insert_function(builder.module, kind, name)
            pair = builder.call(target, values)
            low, flag = builder.extract_value(pair, 0), builder.zext(builder.extract_value(pair, 1), I64)
            return context.make_tuple(builder, signature.return_type, [low, flag])

        return types.UniTuple(types.int64, 2)(types.int64, types.int64), codegen

    return function


#: (result, 1 if it overflowed)
add_overflow = _overflowing("llvm.sadd.with.overflow.i64")
sub_overflow = _overflowing("llvm.ssub.with.overflow.i64")
mul_overflow = _overflowing("llvm.smul.with.overflow.i64")


def _wide(operation):
    @intrinsic
    def function(typingctx, a_low, a_high, b_low, b_high):
        def codegen(context, builder, signature, values):
            i128 = ir.IntType(128)

            def join(low, high):
                return builder.or_(
                    builder.zext(low, i128), builder.shl(builder.zext(high, i128), ir.Constant(i128, 64))
                )

            result = getattr(builder, operation)(join(*values[:2]), join(*values[2:]))
            low = builder.trunc(result, I64)
            high = builder.trunc(builder.lshr(result, ir.Constant(i128, 64)), I64)
            return context.make_tuple(builder, signature.return_type, [low, high])

        return types.UniTuple(types.uint64, 2)(types.uint64, types.uint64, types.uint64, types.uint64), codegen

    return function


#: 128-bit two's complement in two words (low, high), wrapping
add128, sub128, mul128 = _wide("add"), _wide("sub"), _wide("mul")


@intrinsic
def equal8(typingctx, address, key):
    """Which of the eight words of a cache line are equal to a key: bit i for word i."""

    def codegen(context, builder, signature, values):
        vector, lanes = ir.VectorType(I64, 8), ir.VectorType(I32, 8)
        line = builder.load(builder.inttoptr(values[0], vector.as_pointer()))
        line.align = 64
        undefined = ir.Constant(vector, ir.Undefined)
        one = builder.insert_element(undefined, values[1], ir.Constant(I32, 0))
        same = builder.icmp_unsigned("==", line, builder.shuffle_vector(one, undefined, ir.Constant(lanes, [0] * 8)))
        return builder.zext(builder.bitcast(same, ir.IntType(8)), I64)

    return types.uint64(types.int64, types.uint64), codegen


@intrinsic
def compress16(typingctx, target, mask, first):
    """Store first + j as uint32 for each set byte j of the 16 mask bytes; gives how many.

    One register compress on AVX-512 (the form that compresses to memory is microcoded on some cores); elsewhere the
    branch-free append. Writes 16 values always: the target needs room for them.
    """

    def codegen(context, builder, signature, values):
        lanes = 16
        vector = ir.VectorType(I32, lanes)
        mask_type = ir.VectorType(ir.IntType(8), lanes)
        load = builder.load(builder.inttoptr(values[1], mask_type.as_pointer()))
        load.align = 1
        bits = builder.icmp_unsigned("!=", load, ir.Constant(mask_type, [0] * lanes))
        base = builder.insert_element(
            ir.Constant(vector, ir.Undefined), builder.trunc(values[2], I32), ir.Constant(I32, 0)
        )
        base = builder.shuffle_vector(
            base, ir.Constant(vector, ir.Undefined), ir.Constant(ir.VectorType(I32, lanes), [0] * lanes)
        )
        rows = builder.add(base, ir.Constant(vector, list(range(lanes))))
        kind = ir.FunctionType(vector, [vector, vector, ir.VectorType(ir.IntType(1), lanes)])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.avx512.mask.compress.v16i32")
        packed = builder.call(function, [rows, ir.Constant(vector, [0] * lanes), bits])
        store = builder.store(packed, builder.inttoptr(values[0], vector.as_pointer()))
        store.align = 1
        short = ir.IntType(16)
        count = cgutils.get_or_insert_function(builder.module, ir.FunctionType(short, [short]), "llvm.ctpop.i16")
        return builder.zext(builder.call(count, [builder.bitcast(bits, short)]), I64)

    return types.uint64(types.int64, types.int64, types.uint64), codegen
