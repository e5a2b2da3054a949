"""The simulator's CPU against this machine's: predicted and measured times of the pipelines of TPC-H and SSB.

    python scripts/validate_simulator.py                       calibrate, fit, validate
    python scripts/validate_simulator.py --write               and write what was fitted into jetson/boards: the
                                                               table, and what further threads add here
    python scripts/validate_simulator.py --minutes 0 --scales 0.1 --name quick

The cost table is fitted to the micro-queries of ``finequery calibrate`` alone; the queries here are none of them. They
run with every instruction measured, and each pipeline is priced by the simulator from the rows that really came
through. What stands for a pipeline is the least of several runs in rounds that are apart in time. Results go to
benchmarks/results/NAME.{json,md}.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from finequery import calibration, connect  # noqa: E402
from finequery.jetson import board as boards  # noqa: E402
from finequery.jetson import costs  # noqa: E402
from finequery.jetson.conditions import conditions  # noqa: E402
from finequery.jetson.simulator import Machine  # noqa: E402
from finequery.perfmodel import costfit, machine  # noqa: E402
from finequery.perfmodel.calibrate import MOST_RUNS, POINTS, Journal, Pipeline, least  # noqa: E402
from finequery.perfmodel.dataset import Sample  # noqa: E402
from finequery.perfmodel.work import works  # noqa: E402
from finequery.settings import available_cores  # noqa: E402
from finequery.workloads import queries, ssb, tpch  # noqa: E402
from finequery.workloads.progress import Progress  # noqa: E402

#: The median pipeline's relative error that the simulator has to stay below.
WANTED = 0.20
#: Seconds from which on a pipeline is long.
LONG = 1e-3
#: Runs of a query on each number of threads: as many as the calibration takes, since the least of more is less.
RUNS = MOST_RUNS
#: Times that everything is measured, by turns: what else a machine does in a burst is over by then.
ROUNDS = 3
RESULTS = ROOT / "benchmarks" / "results"
VALIDATION = boards.FOLDER / "validation.json"


@dataclass(frozen=True, slots=True)
class Row:
    """A pipeline of a query."""

    benchmark: str
    query: str
    number: int
    threads: int
    measured: float
    predicted: float
    samples: tuple[Sample, ...]

    @property
    def error(self) -> float:
        """Relative to what was measured."""
        return self.predicted / self.measured - 1.0


def journals() -> list[Journal]:
    """Of the calibrations, one for each round, as they are kept: the first is that of ``finequery calibrate``."""
    first = calibration.journal()
    return [first, *(Journal(first.path.with_suffix(f".{number}.jsonl")).load() for number in range(1, ROUNDS))]


def best_of(rounds: list[Journal]) -> list[Sample]:
    """What each point took in the round in which it took the least."""
    found: dict[str, list[list[Pipeline]]] = {}
    for journal in rounds:
        for key, measured in journal.points.items():
            found.setdefault(key, []).append(measured)
    best = [min(several, key=lambda measured: sum(p.seconds for p in measured)) for several in found.values()]
    return [sample for measured in best for p in measured for sample in p.samples]


def pipelines(benchmark: str, folder: Path, threads: list[int]) -> Iterator[tuple[str, int, int, Any]]:
    """Query, pipeline's number, threads and measurements of a benchmark's queries."""
    kind = benchmark.split()[0]
    bench = calibration.Bench(connect())
    for table in tpch.TABLES if kind == "tpch" else ssb.TABLES:
        bench.con.execute(f"create table {table} as select * from '{folder / table}.parquet'")
    texts = queries(kind)
    with Progress(benchmark, len(texts)) as bar:
        for query, sql in texts.items():
            run = bench.runner(bench.con.sql(sql).plan)
            for count in threads:
                for number, found in enumerate(least(run, count, machine.clock_ghz(), fewest=RUNS), 1):
                    yield query, number, count, found
            bar.step(query)
    bench.close()


def measure(benchmark: str, folder: Path, threads: list[int]) -> list[Row]:
    """Measured times of all pipelines."""
    found = pipelines(benchmark, folder, threads)
    return [Row(benchmark, q, number, count, p.seconds, 0.0, p.samples) for q, number, count, p in found if p.seconds]


def predict(rows: list[Row], table: costs.Costs, board: Any) -> list[Row]:
    """With the times that the simulator gives."""
    simulated = Machine(board, table=table)

    def solo(row: Row) -> float:
        return float(simulated.solo([works(s.features, "pageable") for s in row.samples], "cpu", row.threads).seconds)

    return [replace(row, predicted=solo(row)) for row in rows]


def quietest(rows: list[Row]) -> list[Row]:
    """The one of each pipeline that took the least among all rounds."""
    found: dict[tuple[str, str, int, int], Row] = {}
    for row in rows:
        best = found.setdefault((row.benchmark, row.query, row.number, row.threads), row)
        if row.measured < best.measured:
            found[row.benchmark, row.query, row.number, row.threads] = row
    return list(found.values())


def medians(rows: list[Row]) -> dict[str, float]:
    """Median absolute error of the pipelines, by benchmark and threads, and of all."""
    groups: dict[str, list[float]] = {"all": []}
    for row in rows:
        threads = f"{row.threads} thread{'s' * (row.threads > 1)}"
        for key in (f"all, {threads}", f"{row.benchmark}, {threads}", "all"):
            groups.setdefault(key, []).append(abs(row.error))
    return {key: statistics.median(errors) for key, errors in groups.items() if errors}


def scaling(rows: list[Row]) -> str:
    """What more threads brought: time on many over that on one, of pipelines that are long enough for them."""
    one = {(r.benchmark, r.query, r.number): r for r in rows if r.threads == 1}
    pairs = [(r, one.get((r.benchmark, r.query, r.number))) for r in rows if r.threads > 1]
    found = [(r, o) for r, o in pairs if o is not None and o.measured > LONG]
    if not found:
        return ""
    measured = statistics.median(r.measured / o.measured for r, o in found)
    predicted = statistics.median(r.predicted / o.predicted for r, o in found)
    return (
        f"Pipelines beyond {1e3 * LONG:g} ms took {measured:.2f} of one thread's time on more threads at the median; "
        f"predicted: {predicted:.2f}."
    )


def by_kind(rows: list[Row], table: costs.Costs, board: Any) -> dict[str, tuple[int, float, float, float]]:
    """By kind of sub-task: how many, milliseconds measured, median absolute error, predicted over measured in all."""
    simulated = Machine(board, table=table)
    found: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        for sample in row.samples:
            if row.threads == 1 and sample.seconds > 0:
                alone = simulated.solo([works(sample.features, "pageable")], "cpu", 1).seconds
                found.setdefault(sample.features.model, []).append((sample.seconds, alone))
    return {
        kind: (
            len(pairs),
            1e3 * sum(m for m, _ in pairs),
            statistics.median(abs(p / m - 1.0) for m, p in pairs),
            sum(p for _, p in pairs) / sum(m for m, _ in pairs),
        )
        for kind, pairs in sorted(found.items())
    }


def keep_factors(name: str) -> None:
    """Write what finequery.simulation widens its intervals by (``Validation``), from the results of that name: measured
    over predicted times of whole queries."""
    results = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    queries: dict[tuple[Any, ...], list[float]] = {}
    for one in results["pipelines"]:
        sums = queries.setdefault((one["benchmark"], one["query"], one["threads"]), [0.0, 0.0])
        sums[0] += one["measured_s"]
        sums[1] += one["predicted_s"]
    low, *_, high = statistics.quantiles([m / p for m, p in queries.values()], n=20, method="inclusive")
    suites = ", ".join(sorted({benchmark for benchmark, _, _ in queries}))
    found = {"low": round(low, 3), "high": round(high, 3), "queries": len(queries)}
    found |= {"source": f"{suites} on {results['machine']}", "results": f"{name}.json"}
    VALIDATION.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def _verdict(error: float) -> str:
    return "holds" if error <= WANTED else "does NOT hold"


def report(rows: list[Row], kinds: dict[str, tuple[int, float, float, float]], fitted: costfit.Fit) -> str:
    """The page."""
    medians_, total = medians(rows), len(rows)
    fitted_to = sum(n for k, n in fitted.samples.items() if ":" not in k)
    source = f"was fitted to {fitted_to:,}" if fitted_to else "is the package's, which was fitted to"
    verdicts = [
        f"- {key.removeprefix('all, ')}: {value:.1%} (the bound of {WANTED:.0%} {_verdict(value)})"
        for key, value in medians_.items()
        if key.startswith("all, ")
    ]
    lines = [
        "# The simulator's CPU against the machine",
        "",
        f"Predicted (`simulated`) and measured times of {total} pipelines of TPC-H and SSB on {machine.processor()}, "
        f"{available_cores()} cores. The cost table {source} sub-tasks of `finequery calibrate`, "
        "none of them from these queries. Made by `python scripts/validate_simulator.py`.",
        "",
        "Median relative error of all pipelines on",
        "",
        *verdicts,
        "",
        f"The machine's load average was {os.getloadavg()[0]:.1f} at the end. {scaling(rows)}",
        "",
        "| pipelines of | median error |",
        "| --- | ---: |",
        *(f"| {key} | {value:.1%} |" for key, value in medians_.items()),
        "",
        "## By kind of sub-task (one thread)",
        "",
        "| sub-task | count | measured ms | median error | predicted / measured |",
        "| --- | ---: | ---: | ---: | ---: |",
        *(f"| {k} | {n} | {ms:.2f} | {error:.0%} | {ratio:.2f} |" for k, (n, ms, error, ratio) in kinds.items()),
        "",
        "## Pipelines",
        "",
        "| benchmark | query | pipeline | threads | measured ms | predicted ms | error | sub-tasks |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    for r in rows:
        kinds_ = " ".join(s.features.kind for s in r.samples)
        lines.append(
            f"| {r.benchmark} | {r.query} | {r.number} | {r.threads} "
            f"| {1e3 * r.measured:.3f} | {1e3 * r.predicted:.3f} | {r.error:+.0%} | {kinds_} |"
        )
    return "\n".join(lines) + "\n"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--minutes", type=float, default=4.0, help=f"budget of each of {ROUNDS} calibrations (default %(default)s)"
    )
    parser.add_argument("--scales", default="0.1,1", help="scale factors (default %(default)s)")
    parser.add_argument("--threads", default="", help="threads, such as 1,2 (default: one, and all cores)")
    parser.add_argument(
        "--tpch", type=Path, action="append", default=[], help="folder with TPC-H, in order of the scales"
    )
    parser.add_argument("--ssb", type=Path, action="append", default=[], help="folder with SSB, in order of the scales")
    parser.add_argument("--write", action="store_true", help="write the fitted table into jetson/boards/costs.toml")
    parser.add_argument("--keep", action="store_true", help="validate the table as it is: no fit")
    parser.add_argument(
        "--kept", action="store_true", help=f"only write {VALIDATION.name} from the results of that name"
    )
    parser.add_argument("--name", default="simulator-cpu", help="of the result files (default %(default)s)")
    options = parser.parse_args(argv)
    if options.kept:
        keep_factors(options.name)
        return 0
    threads = [int(t) for t in options.threads.split(",") if t] or sorted({1, available_cores()})
    board, table = boards.host(), costs.load()
    rows: list[Row] = []
    rounds = journals()
    for journal in rounds:  # by turns, so that both see the machine's quiet moments
        calibration.run(journal, 60.0 * options.minutes, POINTS)
        for place, scale in enumerate(float(s) for s in options.scales.split(",")):
            for kind, module, given in (("tpch", tpch, options.tpch), ("ssb", ssb, options.ssb)):
                folder = given[place] if place < len(given) else module.generate(scale)
                rows += measure(f"{kind} {scale:g}", folder, threads)
    samples = best_of(rounds)
    fitted = costfit.Fit(table, {}, {}) if options.keep else costfit.fit(samples, board, table)
    for key, error in sorted(fitted.errors.items()):
        print(f"{key:26} {fitted.samples[key]:5} samples, median error {error:.0%}", file=sys.stderr)
    gain, pairs = costfit.gain(samples, board, fitted.table)
    if not options.keep:
        board = replace(board, cpu=replace(board.cpu, gain=gain))
        print(f"gain of a further thread: {gain:g} ({pairs} samples)", file=sys.stderr)
    if options.write:
        costfit.write(boards.FOLDER / "costs.toml", fitted, f"measured on {machine.processor()}")
        source = f"measured on {machine.processor()}, which has hyper-threads: {pairs} sub-tasks on several threads"
        costfit.write_gain(boards.FOLDER / f"{boards.REFERENCE}.toml", gain, source)
    rows = predict(quietest(rows), fitted.table, board)
    kinds = by_kind(rows, fitted.table, board)
    text = report(rows, kinds, fitted)
    print(text.split("## Pipelines")[0])
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / f"{options.name}.md").write_text(text, encoding="utf-8")
    plain = {
        "machine": machine.processor(),
        "load_average": os.getloadavg()[0],
        "conditions": conditions(),
        "medians": medians(rows),
        "kinds": kinds,
        "pipelines": [
            {"benchmark": r.benchmark, "query": r.query, "pipeline": r.number, "threads": r.threads}
            | {"measured_s": r.measured, "predicted_s": r.predicted, "kinds": [s.features.model for s in r.samples]}
            for r in rows
        ],
    }
    (RESULTS / f"{options.name}.json").write_text(json.dumps(plain, indent=1) + "\n", encoding="utf-8")
    if options.write:
        keep_factors(options.name)
    return 0 if max(v for k, v in medians(rows).items() if k.startswith("all, ")) <= WANTED else 1


if __name__ == "__main__":
    sys.exit(main())
