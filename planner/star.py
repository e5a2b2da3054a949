"""What is expected of consecutive probes of a star join, which run as their build sides turn out (operators/star.py):
the most selective first, and where a build side's keys span a small part of the column's range, behind a test of that
range that joins the filter before them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from finequery.operators.expr import Column
from finequery.operators.probe import Probe
from finequery.operators.star import NARROW
from finequery.planner.attributes import Attribute
from finequery.planner.estimate import estimate, expression
from finequery.planner.expected import expected_lookup


@dataclass(slots=True)
class Expected:
    """A probe: the share of the rows before it that it keeps, that share were keys spread evenly (by which probes are
    ordered), and the share that a test of its keys' range keeps (1: there is none)."""

    probe: Probe
    share: float
    passing: float = 1.0
    within: float = 1.0

    @property
    def rest(self) -> float:
        """Share that it keeps of what is in its range."""
        return self.share / self.within


def expected(probes: Sequence[Probe], before: float, rows: float, scanned: Mapping[int, Attribute]) -> list[Expected]:
    """Probes in the order in which they will run over ``rows`` source rows, of which ``before`` come to the first.
    ``scanned``: the source's stored columns."""
    found, simple = [], True
    for probe in probes:
        after = before if probe.estimate is None else probe.estimate
        one = Expected(probe, after / before if before else 0.0)
        simple &= _looked_up(one, rows, scanned)
        found.append(one)
        before = after
    return sorted(found, key=lambda e: e.passing) if simple else found


def _looked_up(one: Expected, rows: float, scanned: Mapping[int, Attribute]) -> bool:
    """Fill in what is known of a probe by one stored column of the source; whether it is that."""
    probe = one.probe
    key = probe.keys[0][0] if len(probe.keys) == 1 else None
    attribute = scanned.get(key.id) if isinstance(key, Column) else None
    if attribute is None or probe.kind not in ("inner", "semi") or probe.null_safe or probe.condition is not None:
        return False
    built = 1.0 if probe.build.estimate is None else probe.build.estimate
    if expected_lookup(probe, built, rows)[0].name not in ("map", "bits", "rows", "rank"):
        return False
    one.passing = min(1.0, built / max(attribute.distinct or built, 1.0))
    node, other = probe.build.node, probe.keys[0][1]
    if node is not None and attribute.low is not None and attribute.high is not None and other.type.is_exact:
        ends = expression(other, estimate(node))
        if ends.low is not None and ends.high is not None:
            span = (ends.high - ends.low + 1) / (attribute.high - attribute.low + 1)
            if 0.0 < span <= NARROW and one.share < 1.0:
                one.within = max(span, one.share)
    return True
