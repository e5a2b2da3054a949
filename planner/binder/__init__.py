"""Binding: a syntax tree becomes a typed logical plan.

Names are resolved, every cast is made explicit, and SQL that is not understood is refused by name: the arguments of
each node go through ``scope.checked``, so that nothing is ignored.
"""

from __future__ import annotations

from collections.abc import Mapping

from finequery.errors import BindError, Error
from finequery.planner.binder.scope import Binder, position
from finequery.planner.binder.statements import bind_statement
from finequery.planner.parse import ParsedStatement
from finequery.planner.shape import Lifting
from finequery.planner.statements import Resolver, Statement
from finequery.types import SqlType


def bind(
    statement: ParsedStatement,
    resolver: Resolver,
    parameters: Mapping[int | str, SqlType] | None = None,
    lifting: Lifting | None = None,
) -> Statement:
    """The statement with names resolved and types settled.

    ``parameters`` gives the types of the user's values: keys are 0-based numbers for ? and $1, names for $name. Errors
    know their place in ``statement.sql``. ``lifting``: literals that the plan is to be kept open for.
    """
    binder = Binder(statement.sql, resolver, parameters, lifting)
    try:
        return bind_statement(binder, statement)
    except Error as error:
        node = getattr(error, "node", None)
        place = position(node) if node is not None else None
        error.at(statement.sql, statement.start if place is None else place)
        error.node = None  # type: ignore[attr-defined]
        raise
    except RecursionError:
        raise BindError(
            "The statement is nested too deeply.",
            sql=statement.sql,
            position=statement.start,
            hint="Split it with WITH, or join long chains of conditions by IN.",
        ) from None


__all__ = ["bind"]
