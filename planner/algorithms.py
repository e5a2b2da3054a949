"""Which structure a build or an aggregation is expected to choose, from estimates.

The choice itself is made when the rows are there (operators/build.py, operators/aggregate.py, operators/tasks.py):
these rules follow theirs, for whoever has to know before. EXPLAIN ANALYZE shows both where they differ.
"""

from __future__ import annotations

from dataclasses import dataclass

from finequery.operators import build
from finequery.operators.aggregate import ALWAYS_DENSE, MOST_DENSE
from finequery.operators.tasks import RADIX_GROUPS

#: Fewer rows than this are sorted whole.
TOP_ROWS = 65536


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
    if limit is not None and rows >= TOP_ROWS and limit <= rows // 16:
        return Choice("threshold", "a sample bounds the first rows, what passes is sorted", 8 * limit)
    return Choice("radix sort", "keys as words, in buckets by their top bits", 8 * rows)


def aggregation(
    rows: float, groups: float, domain: float | None, keys: int, calls: int, sorted_key: bool, text: bool
) -> Choice:
    """How ``rows`` are grouped by ``keys`` columns. ``domain``: combinations of key values that there can be (None:
    unknown); ``text``: a key is a string without a dictionary; ``sorted_key``: the source is sorted by the one
    key."""
    entry = 8.0 * (calls + 1)
    if keys == 0:
        return Choice("scalar", "no groups: one row of accumulators per thread", entry)
    if sorted_key and (domain or 0) >= ALWAYS_DENSE:
        return Choice("runs", "input sorted by the key: runs of equal keys", entry * groups)
    if not text and domain is not None and domain <= max(ALWAYS_DENSE, min(rows, MOST_DENSE)):
        return Choice("dense", f"{domain:,.0f} possible groups: an array", entry * domain)
    if text:
        return Choice("numbered", "keys of text: rows numbered first", entry * groups + 4 * rows)
    if groups > RADIX_GROUPS:
        return Choice("radix", "many groups: 256 partitions, a small table each", (entry + 16) * groups)
    return Choice("hash", "groups spread over a wide range: hash tables", (entry + 32) * groups)
