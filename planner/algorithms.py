"""Which structure a build or an aggregation is expected to choose, from estimates.

The choice itself is made when the rows are there, by the same rules: operators/build.py, operators/group_modes.py and
operators/topk.py have them. EXPLAIN ANALYZE shows both where they differ.
"""

from __future__ import annotations

from dataclasses import dataclass

from finequery.operators import build
from finequery.operators.group_modes import group_mode
from finequery.operators.topk import by_threshold


@dataclass(frozen=True, slots=True)
class Choice:
    """A structure by name, why, and the bytes it takes."""

    name: str
    reason: str
    nbytes: float = 0.0


def lookup(rows: float, span: float | None, unique: bool, need_rows: bool, probes: float) -> Choice:
    """The look-up of a build (operators/build.py)."""
    kind = build.structure(rows, span, unique, need_rows, probes)
    return Choice(kind, build.reason(kind, rows, span), build.expected_bytes(kind, rows, span))


def sorting(rows: float, limit: float | None) -> Choice:
    """How ``rows`` are sorted, or the first ``limit`` of them found (operators/sort.py, operators/topk.py)."""
    if limit is not None and by_threshold(rows, limit):
        return Choice("threshold", "a sample bounds the first rows, what passes is sorted", 8 * limit)
    return Choice("radix sort", "keys as words, in buckets by their top bits", 8 * rows)


def aggregation(
    rows: float,
    passing: float,
    groups: float,
    domain: float | None,
    keys: int,
    calls: int,
    sorted_key: bool,
    text: bool,
) -> Choice:
    """How ``rows``, of which probes let ``passing`` through, are grouped by ``keys`` columns. ``domain``: combinations
    of key values that there can be (None: unknown); ``text``: a key is a string without a dictionary; ``sorted_key``:
    the source is sorted by the one key."""
    mode = group_mode(keys, rows, groups, domain, ordered=sorted_key, packed=not text, passing=passing)
    return Choice(mode.name, mode.reason, group_bytes(mode.name, rows, groups, domain, calls))


def group_bytes(mode: str, rows: float, groups: float, domain: float | None, calls: int) -> float:
    """Bytes of the accumulators of ``calls`` aggregates, with what finds a group's."""
    entry = 8.0 * (calls + 1)
    sizes = {
        "scalar": entry,
        "runs": entry * groups,
        "dense": entry * (domain or groups),
        "numbered": entry * groups + 4 * rows,
        "radix": entry * groups,
        "hash": 4 * entry * groups,
    }
    return sizes[mode]
