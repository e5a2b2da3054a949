"""Plans of texts that came before, and of texts that differ from one that came before in literals alone. Plans are
kept, never results."""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from finequery.types import SqlType

if TYPE_CHECKING:
    from finequery.planner.logical import Node
    from finequery.planner.scheduler import Scheduler
    from finequery.planner.shape import Shape, Template
    from finequery.planner.statements import Query, Statement
    from finequery.resolver import Found, Resolver

#: Text (or shape) and types of the parameters.
Key = tuple[str, tuple[tuple[int | str, SqlType], ...]]
#: Plans of one shape: they differ where planning looked at a literal's value.
VARIANTS = 8


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
    deterministic: bool = False  # the setting it was made under
    planning: float = 0.0  # seconds from the text to the plan
    template: Template | None = None  # which other literals it is right for
    schedulers: dict[Any, Scheduler] = field(default_factory=dict)  # by the settings that placement depends on
    lifted: dict[int | str, Any] = field(default_factory=dict)  # values of the parameters that stand for literals

    def holds(self, resolver: Resolver) -> bool:
        """Whether every name still stands for what it stood for."""
        if self.target is not None:
            table = resolver.ask(self.target[0])
            if getattr(table, "columns", None) != self.target[1].columns:
                return False
        return all(resolver.ask(question) is answer for question, answer in self.found)


class PlanCache:
    """The plans used last, by text and by shape, and by the types of the parameters."""

    def __init__(self) -> None:
        self._plans: OrderedDict[Key, Plan] = OrderedDict()
        self._shapes: OrderedDict[Key, list[Plan]] = OrderedDict()
        self.hits = 0
        self.shape_hits = 0
        self.misses = 0

    def get(self, key: Key, resolver: Resolver) -> Plan | None:
        """The plan of a text, if it still holds; one that doesn't is forgotten."""
        plan = self._plans.get(key)
        if plan is not None and plan.holds(resolver):
            self.hits += 1
            self._plans.move_to_end(key)
            return plan
        self._plans.pop(key, None)
        return None

    def like(self, key: Key, shape: Shape, resolver: Resolver) -> Plan | None:
        """A plan made for other literals that is right for these, too. ``key``: the text's."""
        begin = time.perf_counter()
        place = (shape.key, key[1])
        for plan in self._shapes.get(place, ()):
            assert plan.template is not None
            values = plan.template.parameters(shape)
            if values is None:
                continue
            if not plan.holds(resolver):
                del self._shapes[place]
                return None
            self.shape_hits += 1
            self._shapes.move_to_end(place)
            return replace(plan, text=key[0], lifted=values, planning=time.perf_counter() - begin)
        return None

    def put(self, key: Key, plan: Plan, size: int, shape: Shape | None = None) -> None:
        """Keep a plan, for its text and, if it is new and made to be, for its shape; forget those that were not used
        for longest."""
        self._plans[key] = plan
        while len(self._plans) > size:
            self._plans.popitem(last=False)
        if shape is None or plan.template is None:
            return
        variants = self._shapes.setdefault((shape.key, key[1]), [])
        variants.insert(0, plan)
        del variants[VARIANTS:]
        while len(self._shapes) > size:
            self._shapes.popitem(last=False)

    def clear(self) -> None:
        """Forget all plans."""
        self._plans.clear()
        self._shapes.clear()
