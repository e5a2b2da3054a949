"""From the binder's plan to the plan that is run: rules in a fixed order, each applied once."""

from __future__ import annotations

from finequery.planner.logical import Materialize, Node
from finequery.planner.rules._everywhere import Everywhere
from finequery.planner.rules._tree import start_ids
from finequery.planner.rules.aggregate_dependency import aggregate_dependency
from finequery.planner.rules.decorrelate import decorrelate
from finequery.planner.rules.distinct_aggregates import distinct_aggregates
from finequery.planner.rules.extract_keys import extract_keys
from finequery.planner.rules.fold_constants import fold_constants
from finequery.planner.rules.inline_materialize import inline_materialize
from finequery.planner.rules.join_order import join_order
from finequery.planner.rules.limit_into_sort import limit_into_sort
from finequery.planner.rules.merge_projects import merge_projects
from finequery.planner.rules.narrow_scans import narrow_scans
from finequery.planner.rules.outer_to_inner import outer_to_inner
from finequery.planner.rules.prune_columns import prune_columns
from finequery.planner.rules.push_filters import push_filters
from finequery.planner.rules.reduce_aggregates import reduce_aggregates
from finequery.planner.rules.reduce_by_left import reduce_by_left
from finequery.planner.rules.semi_bounds import semi_bounds
from finequery.planner.rules.share_subplans import share_subplans
from finequery.planner.rules.simplify import simplify
from finequery.planner.rules.unwrap_casts import unwrap_casts

#: For the whole plan, subqueries and shared subplans included.
WHOLE = (
    narrow_scans,
    fold_constants,
    simplify,
    unwrap_casts,
    decorrelate,
    inline_materialize,
    distinct_aggregates,
)
#: For each region: the plan, a scalar subquery's plan or a shared subplan, down to the next Materialize.
REGION = (
    merge_projects,
    outer_to_inner,
    push_filters,
    extract_keys,
    aggregate_dependency,
    semi_bounds,
    reduce_aggregates,
    join_order,
    limit_into_sort,
    merge_projects,
)
#: For the whole plan again.
LAST = (reduce_by_left, share_subplans, prune_columns)
RULES = WHOLE + REGION + LAST


def optimize(plan: Node) -> Node:
    """The same result, sooner. The output columns stay as they are."""
    start_ids(plan)
    for rule in WHOLE:
        plan = rule(plan)
    plan = _Regions().region(plan)
    for rule in LAST:
        plan = rule(plan)
    return plan


class _Regions(Everywhere):
    """Optimises shared subplans and scalar subqueries before what uses them, so that their sizes are known."""

    def region(self, plan: Node) -> Node:
        plan = self.node(plan)
        for rule in REGION:
            plan = rule(plan)
        return plan

    def plan(self, plan: Node) -> Node:
        if id(plan) not in self.done:
            self.done[id(plan)] = (plan, self.region(plan))
        return self.done[id(plan)][1]

    def node(self, node: Node) -> Node:
        if not isinstance(node, Materialize):
            return super().node(node)
        if id(node) not in self.done:
            self.done[id(node)] = (node, Materialize(self.region(node.input), node.name))
        return self.done[id(node)][1]
