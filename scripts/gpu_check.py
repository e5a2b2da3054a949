"""Everything that needs a GPU, in one command and under eight minutes: is it right, and how fast is it?

    python scripts/gpu_check.py                              all pieces
    python scripts/gpu_check.py --only copy,ssb,cold         some
    python scripts/gpu_check.py --ssb-scale 5 --minutes 3
    python scripts/gpu_check.py --simulator                  tries the script out on any machine; no figures

Pieces: ``copy`` (bandwidths of the chip), ``compile`` (kernels from nothing and from disk), ``ssb`` and ``tpch`` (data
made on the spot; each query on the GPU and on the CPU, answers compared; hot, and its bytes a second beside the
chip's), ``cold`` (each query of those with its columns on the host, so with all transfers), ``tests`` (the CUDA path's
tests, some under compute-sanitizer if that is there). Each piece has its own process; what it has found is written at
once, so that a piece that fails or runs out of time loses nothing.

Results: benchmarks/results/gpu-NAME.json and .md. Without a GPU it says so and ends with code 2.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
for folder in (ROOT, ROOT / "tests", ROOT / "scripts"):
    sys.path.insert(0, str(folder))

from gpu_device import describe  # noqa: E402
from gpu_report import markdown  # noqa: E402

PIECES = ("copy", "compile", "ssb", "tpch", "tests", "cold")
#: The share of the time that is left which a piece may take.
SHARES = {"copy": 0.3, "compile": 0.3, "ssb": 0.5, "tpch": 0.6, "tests": 0.95}


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Correctness and speed on a GPU.")
    parser.add_argument("--only", default=",".join(PIECES), help=f"pieces, by comma (default {','.join(PIECES)})")
    parser.add_argument("--simulator", action="store_true", help="at tiny scale in Numba's simulator: no figures")
    parser.add_argument("--ssb-scale", type=float, default=20.0, help="at most this scale (default 20)")
    parser.add_argument("--tpch-scale", type=float, default=10.0, help="at most this scale (default 10)")
    parser.add_argument("--minutes", type=float, default=7.5, help="for everything (default 7.5)")
    parser.add_argument("--queries", default="", help="only these queries, by comma")
    parser.add_argument("--data", type=Path, help="where the data is made (default: the cache folder)")
    parser.add_argument("--out", type=Path, help="the results' files without .json and .md")
    parser.add_argument("--piece", help=argparse.SUPPRESS)  # this process is one piece, and writes into --out
    parser.add_argument("--seconds", type=float, default=0.0, help=argparse.SUPPRESS)  # that the piece may take
    options = parser.parse_args(argv)
    options.only = [name.strip() for name in options.only.split(",") if name.strip()]
    if unknown := set(options.only) - set(PIECES):
        parser.error(f"no such piece: {', '.join(sorted(unknown))}; there are {', '.join(PIECES)}")
    options.queries = [name for name in options.queries.split(",") if name]
    return options


def write(path: Path, value: Any) -> None:
    """Replace a file's text at once: a reader sees the old or the new one."""
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(value, indent=1) + "\n")
    partial.replace(path)


# --- tests of the CUDA path -------------------------------------------------------------------------------------------


def run_tests(options: argparse.Namespace, seconds: float) -> dict[str, Any]:
    """The tests that use the device, in a process of their own; then some under compute-sanitizer."""
    files = sorted(
        str(p.relative_to(ROOT)) for p in (ROOT / "tests").glob("test_*.py") if re.search("cuda|gpu", p.name)
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    begin = time.perf_counter()
    few = ["-k", "q06 or explain_shows"]
    found = {"tests": finish([*command, *files, *(few if options.simulator else [])], seconds * 0.8)}
    sanitizer = shutil.which("compute-sanitizer") or "/usr/local/cuda/bin/compute-sanitizer"
    left = seconds - (time.perf_counter() - begin)
    if options.simulator or not os.path.exists(sanitizer):
        found["sanitizer"] = "not here"
    elif left > 20:
        check = [sanitizer, "--tool", "memcheck", "--error-exitcode", "9", "--target-processes", "all"]
        found["sanitizer"] = finish([*check, *command, "tests/test_cuda.py", "-k", "q06 or q1.1 or q03"], left)
    return found


def finish(command: list[str], seconds: float) -> str:
    """Run a command; the last line that says how it went."""
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=seconds)
    except subprocess.TimeoutExpired:
        return f"not through after {seconds:.0f} s"
    lines = [line.strip("= ") for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    failures = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
    told = [line for line in lines if re.search(r"\d+ (passed|failed|error|skipped)|ERROR SUMMARY", line)]
    return "; ".join([*told[-2:], *failures[:20]]) or f"code {done.returncode}: {' '.join(lines[-2:])}"


# --- the whole --------------------------------------------------------------------------------------------------------


def run_piece(options: argparse.Namespace) -> int:
    """The body of a piece's process."""
    found: dict[str, Any] = {}

    def save() -> None:
        write(options.out, found)

    if options.piece == "copy":
        from gpu_copy import bandwidths

        found |= bandwidths(options.simulator)
    elif options.piece == "tests":
        found |= run_tests(options, options.seconds)
    else:
        import gpu_queries

        if options.piece == "compile":
            gpu_queries.compile_times(options, found)
        else:
            gpu_queries.benchmark(options, found, save)
    save()
    return 0


def main(argv: list[str] | None = None) -> int:
    options = parse_arguments(argv)
    device = {"name": "Numba's simulator"} if options.simulator else describe()
    if isinstance(device, str):
        print(f"There is no GPU here: {device}. --simulator tries the script out.")
        return 2
    os.environ["FINEQUERY_CUDA"] = "simulator" if options.simulator else "device"
    if options.simulator:
        os.environ["NUMBA_ENABLE_CUDASIM"] = "1"
    else:
        os.environ.pop("NUMBA_ENABLE_CUDASIM", None)
    if options.piece:
        return run_piece(options)
    from finequery.bench.record import conditions, machine

    slug = re.sub(r"[^a-z0-9]+", "-", device["name"].lower()).strip("-")
    out = options.out or (
        Path(tempfile.mkdtemp()) / "gpu-simulated" if options.simulator else ROOT / f"benchmarks/results/gpu-{slug}"
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    begin = time.perf_counter()
    pieces: dict[str, Any] = {}
    record = {"simulated": options.simulator, "device": device, "machine": machine(os.cpu_count() or 1)}
    record["conditions"] = conditions()
    for text in record["conditions"]["warnings"]:
        print(f"warning: {text}", flush=True)
    record |= {"pieces": pieces}
    names = [name for name in options.only if name != "cold"]
    if "cold" in options.only and not {"ssb", "tpch"} & set(names):
        names.append("ssb")
    for name in names:
        left = options.minutes * 60 - (time.perf_counter() - begin)
        share = left * SHARES[name] if name != names[-1] else left
        with tempfile.TemporaryDirectory() as temporary:
            part = Path(temporary) / "piece.json"
            child = [sys.executable, __file__, *(sys.argv[1:] if argv is None else argv), "--piece", name]
            child += ["--seconds", str(share), "--out", str(part)]
            problem = ""
            started = time.perf_counter()
            try:
                code = subprocess.run(child, cwd=ROOT, timeout=max(share, 5.0)).returncode
                problem = f"the process ended with code {code}" if code else ""
            except subprocess.TimeoutExpired:
                problem = f"not through after {share:.0f} s"
            pieces[name] = json.loads(part.read_text()) if part.exists() else {}
        pieces[name]["seconds"] = round(time.perf_counter() - started, 1)
        if problem:
            pieces[name]["problem"] = problem
        print(f"{name}: {problem or 'done'}, {pieces[name]['seconds']} s", flush=True)
        write(out.with_suffix(".json"), record)
        out.with_suffix(".md").write_text(markdown(record))
    print(out.with_suffix(".md").read_text())
    return 1 if any(p.get("problem") or p.get("wrong") for p in pieces.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
