"""Star joins: consecutive probes by columns of the pipeline's own source, reordered and led by range tests.

The build sides are there when the pipeline is compiled, so their sizes are facts: the probe that keeps the fewest rows
goes first. A build side whose keys span a small part of the column's range is tested by that range first, vectorised
and in one mask with the filter before; where its keys fill the range, the look-up itself is left out (reference:
cpu-execution 4.5).
"""

from __future__ import annotations

from finequery.operators.lower import Lower, Stored, bounds_of
from finequery.operators.probe import Probe

#: A range test pays while it keeps less than this share of the column's range.
NARROW = 0.6


def ordered(lower: Lower, probes: list[Probe]) -> list[Probe]:
    """The probes, the most selective first where they may be exchanged."""
    if len(probes) < 2 or any(_source(lower, p) is None for p in probes):
        return probes
    return sorted(probes, key=lambda p: passing(lower, p))


def _source(lower: Lower, probe: Probe) -> Stored | None:
    """The stored column of the source that a simple probe looks up."""
    lookup = probe.current()
    if probe.kind not in ("inner", "semi") or len(probe.keys) != 1 or probe.null_safe or probe.condition is not None:
        return None
    if lookup.kind not in ("map", "bits", "rows", "rank"):
        return None
    stored = lower.stored(lower.fold(probe.keys[0][0]))
    if stored is None or stored.rows is not None or stored.data.kind not in ("uint", "int64", "dict"):
        return None
    if stored.data.kind == "dict" and stored.data.dictionary is not lookup.parts[0].dictionary:
        return None
    return stored if stored.data.scale == 1 else None


def passing(lower: Lower, probe: Probe) -> float:
    """The share of rows that find a partner, were the keys spread evenly (1 where nothing is known)."""
    stored = _source(lower, probe)
    if stored is None:
        return 1.0
    low, high = _range(stored)
    domain = high - low + 1
    distinct = stored.data.stats.distinct
    if distinct is not None:
        domain = min(domain, max(distinct, 1))
    return min(1.0, probe.current().rows / max(domain, 1))


def _range(stored: Stored) -> tuple[int, int]:
    if stored.data.kind == "dict":
        return 0, max(len(stored.data.dictionary or ()) - 1, 0)
    return bounds_of(stored.data)


def range_tests(lower: Lower, probes: list[Probe]) -> list[tuple[Stored, int, int]]:
    """Ranges of stored values that rows must lie in to find partners, where they are worth a test."""
    tests = []
    for probe in probes:
        stored = _source(lower, probe)
        if stored is None:
            continue
        lookup = probe.current()
        low, high = _range(stored)
        if lookup.span <= 0 or lookup.span > NARROW * (high - low + 1):
            continue
        base = stored.data.base
        top = 2**63 - 1 if stored.data.kind == "int64" else 2 ** (8 * stored.data.data.itemsize) - 1
        floor = -(2**63) if stored.data.kind == "int64" else 0
        first, last = max(lookup.low - base, floor), min(lookup.low + lookup.span - 1 - base, top)
        if first <= last:
            tests.append((stored, first, last))
    return tests
