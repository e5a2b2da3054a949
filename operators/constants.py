"""Constant expressions folded to their value when a plan runs: parameters are known then, and scalar subqueries."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from finequery.errors import InternalError, ProgrammingError
from finequery.operators.expr import Call, Case, Cast, Expr, Literal, Parameter, ScalarSubquery
from finequery.types import SqlType


def fold(expr: Expr, parameters: Mapping[Any, Any] | None = None, subquery: Callable[[Any], Any] | None = None) -> Any:
    """The physical value of an expression without columns. ``subquery`` gives the value of a plan."""
    if isinstance(expr, Literal):
        return expr.value
    if isinstance(expr, Parameter):
        if parameters is None or expr.key not in parameters:
            name = f"${expr.key}" if isinstance(expr.key, str) else f"number {expr.key + 1}"
            raise ProgrammingError(f"The parameter {name} has no value.")
        return parameters[expr.key]
    if isinstance(expr, ScalarSubquery):
        if subquery is None:
            raise InternalError("a subquery where none can be run")
        return subquery(expr.plan)
    if isinstance(expr, Cast):
        from finequery.operators.host_casts import cast_constant

        return cast_constant(fold(expr.child, parameters, subquery), expr.child.type, expr.type, expr.safe)
    if isinstance(expr, Case):
        for condition, value in expr.whens:
            if fold(condition, parameters, subquery):
                return fold(value, parameters, subquery)
        return fold(expr.default, parameters, subquery)
    if isinstance(expr, Call):
        if expr.name == "coalesce":  # what is behind the first value is not computed
            for arg in expr.args:
                value = fold(arg, parameters, subquery)
                if value is not None:
                    return value
            return None
        values = [fold(arg, parameters, subquery) for arg in expr.args]
        return constant_call(expr.name, values, [a.type for a in expr.args], expr.type)
    raise InternalError(f"{type(expr).__name__} is not constant")


def constant_call(name: str, args: Sequence[Any], types: Sequence[SqlType], type_: SqlType) -> Any:
    """One function call on physical values."""
    from finequery.operators.scalar_calls import bind

    return bind(name, types, type_)(*args)
