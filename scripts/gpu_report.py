"""The results of ``gpu_check.py`` as Markdown."""

from __future__ import annotations

import math
from typing import Any


def markdown(record: dict[str, Any]) -> str:
    """All pieces that are there so far."""
    device, machine, pieces = record["device"], record["machine"], record["pieces"]
    lines = [f"# {device['name']}", ""]
    if record["simulated"]:
        lines += ["Simulated: this tried the script out and compared answers. There are no figures.", ""]
    else:
        facts = [f"compute capability {device['capability']}", f"{device['multiprocessors']} multiprocessors"]
        facts += [f"{device['memory'] / 1e9:.0f} GB", f"driver for CUDA {device['driver_cuda']}"]
        lines += [f"Measured by `scripts/gpu_check.py`, {machine['time']}: {', '.join(facts)}.", ""]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    lines += [f"Beside it: {machine['cpu']}, {machine['cores']} cores, {machine['memory_gb']} GB. {versions}.", ""]
    lines += [f"Unfair: {text}.\n" for text in record.get("conditions", {}).get("warnings", ())]
    copy = pieces.get("copy", {})
    if not record["simulated"] and "copy" in copy:
        lines += [
            f"Bandwidth: copying {copy['copy']:.0f} GB/s (read and written), reading {copy['read']:.0f} GB/s, "
            f"to the device {copy['to device']:.1f}, to the host {copy['to host']:.1f} GB/s from pinned memory.",
            "",
        ]
    for name, title in (("ssb", "SSB"), ("tpch", "TPC-H")):
        if name in pieces:
            lines += queries(title, pieces[name], copy.get("copy"), record["simulated"])
    if "compile" in pieces:
        found = pieces["compile"]
        figures = (
            f": {found['compile_ms']} ms from nothing, {found['disk_ms']} ms from disk" if "disk_ms" in found else ""
        )
        lines += ["## Compiling", "", f"{found.get('kernels', 0)} kernels of SSB{figures}.", ""]
    if "tests" in pieces:
        found = pieces["tests"]
        lines += ["## Tests", "", f"- pytest: {found.get('tests', 'not run')}"]
        lines += [f"- compute-sanitizer: {found.get('sanitizer', 'not run')}", ""]
    problems = [f"- {name}: {found['problem']}" for name, found in pieces.items() if found.get("problem")]
    return "\n".join(lines + (["## Not finished", "", *problems, ""] if problems else []))


def queries(title: str, piece: dict[str, Any], copy: float | None, simulated: bool) -> list[str]:
    """A benchmark's table."""
    limited = f" ({piece['limited']})" if piece.get("limited") else ""
    results = piece.get("queries", {})
    wrong = {query: r["wrong"] for query, r in results.items() if r.get("wrong")}
    same = len(results) - len(wrong)
    lines = [f"## {title}, scale {piece.get('scale', '?')}{limited}", ""]
    lines += [f"{same} of {len(results)} answers equal the CPU path's.", ""]
    if not simulated:
        lines += [
            "Times in ms with the answer as Python rows. Hot: columns on the device, programs kept. Cold: columns on",
            "the host, kernels loaded. First: also compiled. GB/s: bytes of the base columns over the hot time, and",
            "its share of the copying bandwidth.",
            "",
            "| query | GPU hot | GB/s | of copy | cold | first | CPU hot | CPU / GPU | rows | not on the GPU |",
            "|---|---:|---:|---:|---:|---:|---:|---:|---:|---|",
        ]
        lines += [row(query, r, copy) for query, r in results.items()]
        lines += means(results)
    else:
        lines += ["| query | rows | devices | not on the GPU |", "|---|---:|---|---|"]
        for query, r in results.items():
            lines.append(
                f"| {query} | {r['rows']} | {', '.join(r.get('devices', []))} | {'; '.join(r.get('departures', []))} |"
            )
    lines += ["", *(f"- WRONG {query}: {problem}" for query, problem in wrong.items())]
    return [*lines, ""] if wrong else lines


def row(query: str, result: dict[str, Any], copy: float | None) -> str:
    ms = result.get("ms", {})
    rate = result.get("bytes", 0) / ms["hot"] / 1e6 if ms.get("hot") else None
    cells = [
        query,
        number(ms.get("hot")),
        number(rate),
        f"{rate / copy:.0%}" if rate and copy else "-",
        *(number(ms.get(key)) for key in ("cold", "first", "cpu")),
        number(ratio(ms)),
        str(result.get("rows", "-")),
        "; ".join(result.get("departures", [])),
    ]
    return f"| {' | '.join(cells)} |"


def means(results: dict[str, Any]) -> list[str]:
    """Geometric means over the queries that have both times."""
    both = [r["ms"] for r in results.values() if ratio(r.get("ms", {}))]
    if not both:
        return []
    hot, cpu = (math.exp(sum(math.log(ms[key]) for ms in both) / len(both)) for key in ("hot", "cpu"))
    return [f"| **geometric mean** | {number(hot)} | | | | | {number(cpu)} | {number(cpu / hot)} | | |"]


def ratio(ms: dict[str, float]) -> float | None:
    return ms["cpu"] / ms["hot"] if ms.get("hot") and ms.get("cpu") else None


def number(value: float | None) -> str:
    """Three digits that matter."""
    if value is None:
        return "-"
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:,.0f}"
