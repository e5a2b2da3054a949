"""One tile primitive per element-wise instruction of operators.scalar.

Words: for each input address and stride (the address is moved by ``t * stride``: a column's width, 0 for a register);
for checked instructions validity (address, stride); then one address per output.
"""

# mypy: ignore-errors
from __future__ import annotations

import numpy as np
from numba import njit

from finequery.operators import scalar
from finequery.operators.intrinsics import POINTER, bits_of
from finequery.operators.primitives import kernel

_SCOPE = {"np": np, **{f"p_{name}": cast for name, cast in POINTER.items()}}


@njit(error_model="numpy", inline="never")
def _bits(a):
    return bits_of(a)


def _compile_scalars():
    """Compile every scalar function, with the functions they call as compiled ones in their globals."""
    scope = dict(vars(scalar))
    scope["bits"] = _bits
    import types as python_types

    compiled = {}
    for name, item in list(vars(scalar).items()):
        if isinstance(item, python_types.FunctionType) and item.__module__ == scalar.__name__ and name != "instruction":
            if name == "bits":
                compiled[name] = _bits
                continue
            clone = python_types.FunctionType(item.__code__, scope, name, item.__defaults__)
            compiled[name] = njit(error_model="numpy")(clone)
    scope.update(compiled)
    return compiled


_COMPILED = _compile_scalars()
WIDE = ("w", "s")


def _source(name: str, inputs: tuple[str, ...], outputs: tuple[str, ...], checked: bool) -> str:
    lines, word = ["def primitive(t, n, k, args):"], 0
    call = []
    for i, kind in enumerate(inputs + (("u8",) if checked else ())):
        element = "i64" if kind in WIDE else kind
        lines.append(f"    a{i} = p_{element}(args[{word}] + t * args[{word + 1}])")
        word += 2
        if i < len(inputs):
            call += [f"a{i}[j + j]", f"a{i}[j + j + np.uint64(1)]"] if kind in WIDE else [f"a{i}[j]"]
    for i, kind in enumerate(outputs):
        lines.append(f"    o{i} = p_{'i64' if kind in WIDE else kind}(args[{word}])")
        word += 1
    targets = []
    for i, kind in enumerate(outputs):
        targets += [f"r{i}", f"h{i}"] if kind in WIDE else [f"r{i}"]
    if checked:
        targets.append("e")
        lines.append("    bad = np.uint8(0)")
    lines.append("    for j in range(np.uint64(k)):")
    lines.append(f"        {', '.join(targets)} = f({', '.join(call)})")
    for i, kind in enumerate(outputs):
        if kind in WIDE:
            lines += [f"        o{i}[j + j] = r{i}", f"        o{i}[j + j + np.uint64(1)] = h{i}"]
        else:
            lines.append(f"        o{i}[j] = r{i}")
    if checked:
        lines.append(f"        bad |= e & a{len(inputs)}[j]")
        lines.append("    if bad != 0:")
        lines.append("        return np.int64(-2)")
    lines.append("    return k")
    return "\n".join(lines)


def _define() -> None:
    for name, (inputs, outputs, checked, function) in scalar.INSTRUCTIONS.items():
        scope = dict(_SCOPE, f=_COMPILED[function.__name__])
        exec(compile(_source(name, inputs, outputs, checked), f"<primitive {name}>", "exec"), scope)
        kernel(name)(scope["primitive"])


_define()
