"""Expressions over a frame outside of a query's own pipelines: build keys, dictionary tables, host functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from finequery.operators.column import ColumnData, Frame
from finequery.operators.expr import Call, Cast, Column, Expr, Literal, columns_of, transform
from finequery.operators.lower import Lower, NeedsHost, Stored
from finequery.operators.materialize import Materialize
from finequery.operators.pool import Pool, get_pool
from finequery.operators.program import Instance


def evaluate(
    exprs: list[Expr],
    frame: Frame,
    constant: Callable[[Expr], Any],
    pool: Pool | None = None,
    tabulate: bool = True,
) -> list[ColumnData]:
    """Columns for expressions over all rows of a frame."""
    pool = pool or get_pool(1)
    if all(isinstance(e, Column) for e in exprs):
        return [frame.columns[e.id] for e in exprs if isinstance(e, Column)]
    outputs = [Column(e.type, -100 - i) for i, e in enumerate(exprs)]
    while True:
        lower = Lower(constant, tabulate)
        for number, data in frame.columns.items():
            lower.environment[number] = Stored(data)
        for output, expr in zip(outputs, exprs):
            lower.environment[output.id] = lower.fold(expr)
        sink = Materialize(outputs)
        try:
            sink.lower_into(lower)
        except NeedsHost as need:
            fresh = Column(need.expr.type, -200 - len(frame.columns))
            column = host(need.expr, frame, constant, pool)
            frame = Frame({**frame.columns, fresh.id: column}, frame.length)
            wanted = need.expr
            exprs = [transform(lower.fold(e), lambda x: fresh if x == wanted else None) for e in exprs]
            continue
        break
    instance = Instance(lower.program, pool.threads)
    sink.prepare(pool.threads, frame.length)
    instance.bind()
    import numpy as np

    count = -(-frame.length // 65536)
    segments = np.zeros((count, 3), dtype=np.int64) if sink.wants_segments else None
    instance.run(
        pool, frame.length, segments=segments, cursor=sink.cursor if segments is not None else None, grow=sink.grow
    )
    result = sink.finish(segments, frame.length, pool.threads)
    return [result.columns[o.id] for o in outputs]


def host_column(expr: Expr, frame: Frame, context: Any) -> ColumnData:
    """A host function over the columns of a frame."""
    return host(expr, frame, context.constant, context.pool)


def host(expr: Expr, frame: Frame, constant: Callable[[Expr], Any], pool: Pool) -> ColumnData:
    """Evaluate one call or cast by the host library: arguments first, by the engine."""
    from finequery.operators.encode import encode
    from finequery.operators.export import column_to_arrow
    from finequery.operators.host import evaluate as call
    from finequery.operators.host_casts import cast_host

    children = expr.children
    fixed = [isinstance(c, Literal) for c in children]
    wanted = [c for c, f in zip(children, fixed) if not f]
    columns = iter(evaluate(wanted, frame, constant, pool) if wanted else [])
    args: list[Any] = []
    for child, is_fixed in zip(children, fixed):
        args.append(child.value if is_fixed and isinstance(child, Literal) else column_to_arrow(next(columns)))
    if isinstance(expr, Cast):
        result = cast_host(args[0], expr.child.type, expr.type, expr.safe)
    else:
        assert isinstance(expr, Call)
        result = call(expr.name, args, expr.type, frame.length)
    return encode(result, expr.type)


__all__ = ["columns_of", "evaluate", "host", "host_column"]
