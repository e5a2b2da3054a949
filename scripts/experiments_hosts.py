"""The part of the page that compares integrated boards with hosts that have a discrete GPU."""

from __future__ import annotations

from typing import Any

from experiments_tables import Cells, table, title

from finequery.compare.measures import (
    PAPER,
    faster,
    less_time,
    machine_price,
    mean,
    per_unit,
    percent,
    time_over,
    times_less,
)
from finequery.jetson import board as boards


def _pairs(
    cells: Cells, board: str, host: str, resident: bool, scale: float
) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Numbers of the same query on a board and on a host."""
    found = []
    for suite in ("tpch", "ssb"):
        mine = [n for c in cells.of("query", board=board, suite=suite, scale=scale) for n in c["numbers"]]
        keys = {"board": host, "suite": suite, "scale": scale, "resident": resident}
        theirs = [n for what in ("query", "host") for c in cells.of(what, **keys) for n in c["numbers"]]
        found += list(zip(mine, theirs))
    return found


def _row(cells: Cells, board: str, host: str, resident: bool, scale: float) -> list[str]:
    pairs = _pairs(cells, board, host, resident, scale)
    b, h = boards.load(board), boards.load(host)
    mine, gpu = [m["chosen_ms"] for m, _ in pairs], [t["gpu_ms"] for _, t in pairs]
    row = [title(board), title(host), "resident" if resident else "cold", f"{time_over(mine, gpu):.2f}"]
    for theirs in (gpu, [t["chosen_ms"] for _, t in pairs]):
        row.append(f"{percent(less_time(mine, theirs))}, {faster(mine, theirs)} of {len(pairs)}")
    units = (machine_price(b.price), machine_price(h.price)), (b.price.usd, h.price.usd), (b.power.tdp_w, h.power.tdp_w)
    row += [f"{per_unit(mine, gpu, *pair):.1f}" for pair in units]
    return [*row, f"{times_less([m['chosen_mj'] for m, _ in pairs], [t['gpu_mj'] for _, t in pairs]):.1f}"]


def against_hosts(cells: Cells) -> str:
    """Section 5."""
    head = (
        "board",
        "host",
        "columns",
        "time over GPU only there",
        "less time than GPU only there, faster in",
        "than FineQuery there, faster in",
    )
    head += ("per cost, GPU and CPU", "per cost, GPU", "per TDP", "joules")
    texts = []
    for scale in cells.scales:
        rows = [
            _row(cells, b, h, resident, scale) for b in cells.edge for h in cells.hosts for resident in (False, True)
        ]
        mark = "" if scale in cells.run else " (scaled statistics)"
        texts.append(f"SF {scale:g}{mark}:\n\n{table(head, rows)}")
    prices = [
        [title(n), f"{b.price.usd:,.0f}", b.sources.get("price.usd", ""), f"{b.price.host_usd:,.0f}"]
        + [b.sources.get("price.host_usd", ""), f"{b.power.tdp_w:g}", b.sources.get("power.tdp_w", "")]
        for n, b in ((n, boards.load(n)) for n in (*cells.edge, *cells.hosts))
    ]
    return f"""## 5. Against discrete GPUs

The chosen plan on the board against *GPU only* on the host, as the paper's "discrete architecture", and against what
FineQuery chooses there. *Cold*: base columns are in the host's memory and are copied over PCIe, overlapped with the
kernels; *resident*: they are on the GPU already. A board's GPU reads columns where they are, so both are the same to
it.

- **Time over**: t_board / t_host, geometric mean over queries; above 1: the host is faster.
- **Less time**: mean over queries of 1 - t_board / t_host; negative: the host is faster. Paper's slides:
  {percent(PAPER["latency"].value)}.
- **Per cost**: (1 / (t · dollars)) on the board over the same on the host, mean over queries; dollars are list prices
  of GPU and CPU (a board has both), or of the GPU card alone. No memory, mainboard or power supply, as in the papers of
  that group. Paper: {PAPER["cost"].value:g} times.
- **Per TDP**: (1 / (t · rated power)) likewise; the host's is GPU and CPU. **Joules**: joules of the host over the
  board's, simulated: power at rest of the whole machine, active cores and GPU, bytes moved. Paper:
  {PAPER["energy"].value:g} times.

{chr(10).join(t + chr(10) for t in texts)}
Prices in dollars, rated power in watts, and where they come from:

{table(("", "board or card", "source", "host CPU", "source", "W", "source"), prices)}"""


def host_wins(cells: Cells) -> list[str]:
    """Lines of section 7: where the hosts are better."""
    lines = []
    for board in cells.edge:
        parts = []
        for host in cells.hosts:
            pairs = _pairs(cells, board, host, True, cells.main)
            faster = sum(t["gpu_ms"] < m["chosen_ms"] for m, t in pairs)
            ratio = mean(m["chosen_ms"] / t["gpu_ms"] for m, t in pairs)
            joules = sum(t["gpu_mj"] < m["chosen_mj"] for m, t in pairs)
            parts.append(f"{title(host)} {ratio:.1f} times in {faster} of {len(pairs)} (fewer joules in {joules})")
        lines.append(
            f"- With resident data, SF {cells.main:g}, discrete GPUs are faster than the {title(board)}:\n  "
            f"{'; '.join(parts)}. Their memory has several times its bandwidth, and nothing is copied."
        )
    return lines
