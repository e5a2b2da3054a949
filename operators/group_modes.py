"""Which way to tell groups apart: one rule, for the aggregation that runs and for whoever plans or explains it."""

from __future__ import annotations

from dataclasses import dataclass

#: Arrays by packed key up to this many groups are used however few rows there are; sorted keys of a smaller range too.
ALWAYS_DENSE = 1 << 16
MOST_DENSE = 1 << 28
#: Packed keys must stay below this.
MOST_PACKED = 2**62
#: More groups than this (by estimate) are partitioned before they are told apart (reference: cpu-execution 4.11).
RADIX_GROUPS = 60_000


@dataclass(frozen=True, slots=True)
class GroupMode:
    """A way by name, and why."""

    name: str
    reason: str


def group_mode(
    keys: int,
    rows: float,
    groups: float | None,
    domain: float | None,
    *,
    ordered: bool = False,
    narrow: bool = True,
    packed: bool = True,
    passing: float | None = None,
    gpu: bool = False,
) -> GroupMode:
    """How ``rows`` are grouped by ``keys`` columns.

    ``groups``: estimate (None: unknown). ``domain``: combinations of key values that there can be (None: unknown).
    ``ordered``: the source is sorted by the one key. ``narrow``: every key is a number below 2**32 from the start.
    ``packed``: the keys fit one word. ``passing``: rows that are expected to be grouped, if not all are.
    """
    if keys == 0:
        return GroupMode("scalar", "no groups: one row of accumulators per thread")
    if ordered and (domain or 0) > ALWAYS_DENSE:
        return GroupMode("runs", "input sorted by the key: runs of equal keys")
    most = max(ALWAYS_DENSE, min(rows, MOST_DENSE, 16 * (rows if passing is None else passing)))
    if narrow and packed and domain is not None and domain <= most:
        return GroupMode("dense", f"{domain:,.0f} possible groups: an array")
    if not packed:
        return GroupMode("numbered", "keys of text or of wide types: rows numbered first")
    if (groups or 0) > RADIX_GROUPS and not gpu:
        return GroupMode("radix", "many groups: 256 partitions, a small table each")
    return GroupMode("hash", "groups spread over a wide range: hash tables")
