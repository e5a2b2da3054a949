"""Which structure a build or an aggregation is expected to choose, from estimates.

The choice itself is made when the rows are there. Groups and sorts have one rule for both (operators/group_modes.py,
operators/topk.py); that of look-ups follows operators/build.py. EXPLAIN ANALYZE shows both where they differ.
"""

from __future__ import annotations

from dataclasses import dataclass

from finequery.operators.build import MAP_BYTES, SMALL_BUILD
from finequery.operators.group_modes import group_mode
from finequery.operators.topk import by_threshold


@dataclass(frozen=True, slots=True)
class Choice:
    """A structure by name, why, and the bytes it takes."""

    name: str
    reason: str
    nbytes: float = 0.0


def lookup(rows: float, span: float | None, unique: bool, need_rows: bool, probes: float) -> Choice:
    """The look-up of a build: ``rows`` with keys in a range of ``span`` (None: unknown or not dense), looked up at most
    ``probes`` times. ``need_rows``: columns or the number of partners matter, not membership alone."""
    if span is not None and span < 2**31:
        keys = f"{span:,.0f} possible keys"
        if not need_rows:
            if span <= MAP_BYTES:
                return Choice("map", f"{keys}: a byte each", span)
            if span <= max(64 * rows, 1 << 22, 8 * probes):
                return Choice("bits", f"{keys}: a bit each", span / 8)
        elif unique:
            if 1 << 18 < span <= max(64 * rows, 8 * probes):
                return Choice("rank", f"unique keys in a range of {span:,.0f}: bits and counts", span / 8 + span / 16)
            if span <= max(8 * rows, 1 << 16, min(probes, 1 << 20)):
                marks = 0.0 if rows >= span else span if span <= MAP_BYTES else span / 8
                return Choice("rows", f"unique keys in a range of {span:,.0f}: row by key", 4 * span + marks)
        elif span <= max(8 * rows, 1 << 16, min(probes, 1 << 20)):
            return Choice("groups", f"repeated keys in a range of {span:,.0f}: rows by key", 4 * (span + rows))
    nbytes = 16.0 * 2 ** max(12, int(2 * rows - 1).bit_length())
    where = "keys" if span is None else f"keys spread over a range of {span:,.0f}"
    if need_rows and not unique:
        return Choice("chains", f"{where}, repeated", nbytes + 8 * rows)
    return Choice("hash", where + (", Bloom filter" if rows > SMALL_BUILD else ""), nbytes)


def sorting(rows: float, limit: float | None) -> Choice:
    """How ``rows`` are sorted, or the first ``limit`` of them found (operators/sort.py, operators/topk.py)."""
    if limit is not None and by_threshold(rows, limit):
        return Choice("threshold", "a sample bounds the first rows, what passes is sorted", 8 * limit)
    return Choice("radix sort", "keys as words, in buckets by their top bits", 8 * rows)


def aggregation(
    rows: float, groups: float, domain: float | None, keys: int, calls: int, sorted_key: bool, text: bool
) -> Choice:
    """How ``rows`` are grouped by ``keys`` columns. ``domain``: combinations of key values that there can be (None:
    unknown); ``text``: a key is a string without a dictionary; ``sorted_key``: the source is sorted by the one
    key."""
    mode = group_mode(keys, rows, groups, domain, ordered=sorted_key, packed=not text)
    entry = 8.0 * (calls + 1)
    sizes = {
        "scalar": entry,
        "runs": entry * groups,
        "dense": entry * (domain or 0),
        "numbered": entry * groups + 4 * rows,
        "radix": entry * groups,
        "hash": 4 * entry * groups,
    }
    return Choice(mode.name, mode.reason, sizes[mode.name])
