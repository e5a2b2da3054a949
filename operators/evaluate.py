"""Expressions over a frame outside of a query's own pipelines: build keys, dictionary tables, host functions."""

from __future__ import annotations

import functools
import itertools
import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from finequery.errors import InternalError
from finequery.operators import watch
from finequery.operators.column import ColumnData, Frame
from finequery.operators.expr import Call, Case, Cast, Column, Expr, Literal, columns_of, transform
from finequery.operators.lower import Lower, NeedsHost, Stored
from finequery.operators.lower_expr import coalesce_case
from finequery.operators.materialize import Materialize
from finequery.operators.pool import Pool, get_pool
from finequery.operators.program import MORSEL, ONE_THREAD, Instance, Job

#: Ids of columns that the host computed: frames are handed on, so they are unique in the process.
_fresh = itertools.count(-(10**15), -1)
#: Rows that a function of the host is first called with.
FIRST_PIECE = 1 << 12


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
            fresh = Column(need.expr.type, next(_fresh))
            if len(frame.columns) > 5000:
                raise InternalError(f"{need.expr} is computed over and over") from None
            column = host(need.expr, frame, constant, pool)
            frame = Frame({**frame.columns, fresh.id: column}, frame.length)
            exprs = [_replace(lower.fold(e), need.expr, fresh) for e in exprs]
            continue
        break
    rows = frame.length
    threads = 1 if rows < ONE_THREAD else pool.threads
    instance = Instance(lower.program, threads)
    sink.prepare(threads, rows)
    instance.bind()
    segments = np.zeros((-(-rows // MORSEL), 3), dtype=np.int64)
    job, cursor = (Job(rows, segments=segments), sink.cursor) if sink.wants_segments else (Job(rows), None)
    instance.run(pool, job, range(threads), cursor=cursor, grow=sink.grow)
    result = sink.finish(segments, rows, pool)
    return [result.columns[o.id] for o in outputs]


def _replace(expr: Expr, old: Expr, new: Expr) -> Expr:
    return transform(expr, lambda e: new if e == old else None)


def host_column(expr: Expr, frame: Frame, context: Any) -> ColumnData:
    """A host function over the columns of a frame. The last one is remembered: an aggregation that finds its groups to
    be too many begins anew with the same rows."""
    columns = [frame.columns[i] for i in sorted(columns_of(expr))]
    last = context.hosted
    if last is not None and last[0] is expr and all(map(operator.is_, last[1], columns)):
        return last[2]
    found = host(expr, frame, context.constant, context.pool)
    context.hosted = expr, columns, found
    return found


def host(expr: Expr, frame: Frame, constant: Callable[[Expr], Any], pool: Pool) -> ColumnData:
    """Evaluate one call or cast by the host library: arguments first, by the engine."""
    from finequery.operators.concat import constant_column, empty_column
    from finequery.operators.encode import encode
    from finequery.operators.export import column_to_arrow
    from finequery.operators.host import by_value
    from finequery.operators.host import evaluate as call
    from finequery.operators.host_casts import by_value as cast_by_value
    from finequery.operators.host_casts import cast_constant, cast_host
    from finequery.operators.host_distinct import coarse, over_distinct

    if frame.length == 0:
        return empty_column(expr.type)
    if isinstance(expr, Literal):  # once the definitions of its columns were put in, nothing was left to compute
        return constant_column(expr.type, expr.value, frame.length)
    if isinstance(expr, Case):
        return _host_case(expr, frame, constant, pool)
    if isinstance(expr, Call) and expr.name == "coalesce":
        return _host_case(coalesce_case(expr), frame, constant, pool)
    children = expr.children
    wanted = [c for c in children if not isinstance(c, Literal)]
    columns = iter(evaluate(wanted, frame, constant, pool) if wanted else [])
    args = [c.value if isinstance(c, Literal) else column_to_arrow(next(columns)) for c in children]
    if isinstance(expr, Cast):
        if isinstance(expr.child, Literal):
            value = cast_constant(args[0], expr.child.type, expr.type, expr.safe)
            return constant_column(expr.type, value, frame.length)
        source = expr.child.type
        each = cast_by_value(args[0], source, expr.type)
        one = lambda own, _: cast_host(own[0], source, expr.type, expr.safe)  # noqa: E731
    else:
        assert isinstance(expr, Call)
        types = [c.type for c in children]
        each, args = by_value(expr.name, args, types), coarse(expr.name, args, types)
        one = lambda own, rows: call(expr.name, own, expr.type, rows, types)  # noqa: E731
    function = functools.partial(_in_pieces, one)
    result = over_distinct(function, args, frame.length) if each else function(args, frame.length)
    return encode(result, expr.type)


def _in_pieces(function: Callable[[list[Any], int], Any], args: list[Any], rows: int) -> Any:
    """A function of the host over arrays (others among ``args`` are constants), in so many rows at a time as take a
    moment: a stop is seen between them."""
    import pyarrow as pa

    if rows <= FIRST_PIECE:
        return function(args, rows)
    budget, parts, first = watch.Budget(FIRST_PIECE, rows), [], 0
    with watch.stage("functions", rows, lambda: first):
        while first < rows:
            watch.check()
            count = min(budget.size, rows - first)
            budget.begin()
            own = [a.slice(first, count) if isinstance(a, (pa.Array, pa.ChunkedArray)) else a for a in args]
            parts.append(function(own, count))
            first += count
            budget.adapt()
    if len({part.type for part in parts}) > 1:  # offsets of 64 bits, where a piece's text needs them
        parts = [part.cast(pa.large_string()) for part in parts]
    chunks = [chunk for part in parts for chunk in (part.chunks if isinstance(part, pa.ChunkedArray) else [part])]
    return pa.chunked_array(chunks, parts[0].type)


def _host_case(expr: Case, frame: Frame, constant: Callable[[Expr], Any], pool: Pool) -> ColumnData:
    """A CASE branch by branch, each over the rows that take it: host functions fail for values, not for rows of a
    mask."""
    from finequery.operators.concat import concat_columns
    from finequery.operators.join_keys import valid_flags
    from finequery.operators.take import take, take_frame

    rows = _as_rows(np.arange(frame.length))
    rest = Frame({i: frame.columns[i] for i in columns_of(expr)}, frame.length)
    parts: list[ColumnData] = []
    order: list[np.ndarray] = []

    def branch(result: Expr, picked: np.ndarray) -> None:
        if len(picked):
            part = rest if len(picked) == rest.length else take_frame(rest, _as_rows(picked), pool)
            parts.append(evaluate([result], part, constant, pool)[0])
            order.append(rows[picked])

    for condition, result in expr.whens:
        if rest.length == 0:
            break
        flags = evaluate([condition], rest, constant, pool)[0]
        hit = flags.data[: rest.length] + flags.base != 0
        valid = valid_flags(flags)
        if valid is not None:
            hit &= valid
        branch(result, np.flatnonzero(hit))
        left = np.flatnonzero(~hit)
        if len(left) < rest.length:
            rest, rows = take_frame(rest, _as_rows(left), pool), rows[left]
    branch(expr.default, np.arange(rest.length))
    joined = concat_columns(parts)
    back = _as_rows(np.arange(frame.length))
    back[np.concatenate(order)] = np.arange(frame.length, dtype=np.uint32)
    return take(joined, back, pool)


def _as_rows(numbers: np.ndarray) -> np.ndarray:
    rows = np.zeros(len(numbers) + 16, dtype=np.uint32)[: len(numbers)]
    rows[:] = numbers
    return rows


__all__ = ["columns_of", "evaluate", "host", "host_column"]
