"""Plans of texts that came before. Plans are kept, never results."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from finequery.types import SqlType

if TYPE_CHECKING:
    from finequery.planner.logical import Node
    from finequery.planner.statements import Query, Statement
    from finequery.resolver import Found, Resolver

#: Text and types of the parameters.
Key = tuple[str, tuple[tuple[int | str, SqlType], ...]]


@dataclass(slots=True, eq=False)
class Plan:
    """A query that is ready to run.

    ``found`` are the names it was bound with and what they stood for. The plan holds as long as every name stands for
    the same object: tables never change, so their contents and statistics are the same too.
    """

    text: str
    statement: Statement  # the whole statement, for example the INSERT around the query
    query: Query
    logical: Node  # optimized
    root: Any  # the physical plan
    types: dict[int | str, SqlType]  # of the parameters
    found: list[Found] = field(default_factory=list)
    target: Found | None = None  # of an INSERT: here it is enough that the columns are the same
    lasting: bool = True
    planning: float = 0.0  # seconds from the text to the plan

    def holds(self, resolver: Resolver) -> bool:
        """Whether every name still stands for what it stood for."""
        if self.target is not None:
            table = resolver.ask(self.target[0])
            if getattr(table, "columns", None) != self.target[1].columns:
                return False
        return all(resolver.ask(question) is answer for question, answer in self.found)


class PlanCache:
    """The plans used last, by text and types of the parameters."""

    def __init__(self) -> None:
        self._plans: OrderedDict[Key, Plan] = OrderedDict()
        self.hits = 0
        self.misses = 0

    def get(self, key: Key, resolver: Resolver) -> Plan | None:
        """A plan that still holds; one that doesn't is forgotten."""
        plan = self._plans.get(key)
        if plan is not None and plan.holds(resolver):
            self.hits += 1
            self._plans.move_to_end(key)
            return plan
        self._plans.pop(key, None)
        self.misses += 1
        return None

    def put(self, key: Key, plan: Plan, size: int) -> None:
        """Keep a plan, and forget those that were not used for longest."""
        self._plans[key] = plan
        while len(self._plans) > size:
            self._plans.popitem(last=False)

    def clear(self) -> None:
        """Forget all plans."""
        self._plans.clear()
