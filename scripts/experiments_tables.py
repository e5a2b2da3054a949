"""Results by board, suite and scale, and text of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from finequery.compare.measures import less_time, single_devices
from finequery.jetson import board as boards


class Cells:
    """The results, to be picked from."""

    def __init__(self, found: dict[str, Any]):
        self.main, self.scales, self.run = found["main"], found["scales"], found["run"]
        self.edge, self.hosts = list(found["edge"]), list(found["hosts"])
        order = ("tpch", "ssb", "synthetic")
        self._cells = sorted(found["cells"], key=lambda c: (order.index(c["suite"]), c["scale"]))

    def of(self, what: str, **keys: Any) -> list[dict[str, Any]]:
        """Cells of a kind, by suite and scale, that have these values."""
        return [c for c in self._cells if c["what"] == what and all(c[k] == v for k, v in keys.items())]

    def numbers(self, what: str, like: dict[str, Any]) -> list[dict[str, Any]]:
        """Those of another kind in the cell of the same board, suite and scale."""
        keys = {k: like[k] for k in ("board", "suite", "scale", "resident")}
        return [n for c in self.of(what, **keys) for n in c["numbers"]]


def title(board: str) -> str:
    """A board's name for people."""
    name, _, mode = board.partition(":")
    return f"{boards.load(name).short_title} {mode}".strip()


def worst(numbers: Sequence[dict[str, Any]], value: Callable[[dict[str, Any]], float]) -> dict[str, Any]:
    """The query with the most of something."""
    return max(numbers, key=value)


def reduction(numbers: Sequence[dict[str, Any]], of: str) -> float:
    """Mean over queries of how much less time the chosen plan takes than "cpu", "gpu", the "better" or the "mean" of
    both."""
    alone = single_devices([n["cpu_ms"] for n in numbers], [n["gpu_ms"] for n in numbers])
    return less_time([n["chosen_ms"] for n in numbers], alone[of])


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Markdown."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])
