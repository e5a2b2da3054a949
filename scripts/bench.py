"""FineQuery beside DuckDB: one table a group, DuckDB's time over ours.

    python scripts/bench.py                        all groups
    python scripts/bench.py --only ssb,tpch --json results.json
    python scripts/bench.py --engines polars,datafusion
    python scripts/bench.py --self-test --fraction 0.01     tries the script out: DuckDB stands in for FineQuery

Every answer is compared with DuckDB's before it is timed. Runs are interleaved (A B C A B C …) in one process, each
engine on the same number of threads, with the garbage collector off. DuckDB runs in memory and from a database file;
the better of the two medians counts. Times are in milliseconds.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from bench_data import Data  # noqa: E402
from bench_groups import NAMES, Case, Group, query_groups  # noqa: E402
from bench_report import Result, Table, as_json, show  # noqa: E402

from finequery import workloads  # noqa: E402
from finequery.bench import answers, engines  # noqa: E402
from finequery.bench.engines import ARROW, DUCKDB, DUCKDB_FILE, OURS, Engine  # noqa: E402
from finequery.bench.measure import interleave  # noqa: E402
from finequery.bench.record import conditions, machine  # noqa: E402
from finequery.workloads.files import cache_dir  # noqa: E402
from finequery.workloads.progress import Progress  # noqa: E402


def difference(got: Any, want: Any, case: Case, exact: bool) -> str | None:
    """What differs between two engines' answers, in words, or None."""
    if case.form != ARROW:
        return answers.difference(got, want, [], exact)
    import pyarrow as pa

    if isinstance(got, pa.RecordBatchReader):
        got = got.read_all()
    if (got.num_rows, got.num_columns) != (want.num_rows, want.num_columns):
        return f"{got.num_rows} × {got.num_columns} values, expected {want.num_rows} × {want.num_columns}"
    got = got.rename_columns(want.column_names).cast(want.schema)
    for name in case.order:
        if not got[name].equals(want[name]):
            return f"column {name} is not in the order asked for"
    keys = [(name, "ascending") for name in want.column_names]
    if not got.sort_by(keys).equals(want.sort_by(keys)):
        return "the values differ"
    return None


def run_case(case: Case, running: list[Engine], seconds: float) -> Result:
    """Warm up, compare the answers, then time the engines whose answer is right."""
    result, want, runs = Result(case.name), None, dict[str, partial[Any]]()
    for engine in running:
        try:
            answer = engine.run(case.sql, case.form)
            if want is None:
                want = answer  # the first engine is DuckDB
            elif problem := difference(answer, want, case, exact=engine.name not in engines.OTHERS):
                result.problems[engine.name] = f"WRONG: {problem}"
                continue
        except Exception as error:
            result.problems[engine.name] = f"{type(error).__name__}: {error}"
            continue
        runs[engine.name] = partial(engine.run, case.sql, case.form)
    want = answer = None

    def forget() -> None:
        for engine in running:
            if isinstance(engine, engines.FineQuery):
                engine.forget()

    if case.fresh:
        forget()
    result.times = interleave(runs, seconds, forget if case.fresh else None)
    return result


def start(name: str, options: argparse.Namespace, folder: Path) -> Engine:
    """A fresh engine by its name."""
    if name == DUCKDB_FILE:
        return engines.DuckDB(options.threads, Path(tempfile.mkdtemp(dir=folder)) / "bench.duckdb")
    if name == DUCKDB:
        return engines.DuckDB(options.threads)
    if name == OURS:
        return engines.stand_in(options.threads) if options.self_test else engines.FineQuery(options.threads)
    return engines.rival(name, options.threads)


def run_group(group: Group, names: list[str], options: argparse.Namespace, folder: Path) -> Table:
    table = Table(group)
    running = [start(name, options, folder) for name in names]
    with Progress(group.title, sum(len(stage.cases) for stage in group.stages)) as bar:
        for stage in group.stages:
            ready, broken = [], dict[str, str]()
            for engine in running:
                bar.step(f"loading {engine.name}", 0)
                try:
                    engine.load(stage.tables)
                    ready.append(engine)
                except Exception as error:
                    broken[engine.name] = f"load: {type(error).__name__}: {error}"
            for case in stage.cases:
                bar.step(case.name, 0)
                result = run_case(case, ready, options.seconds)
                result.problems |= broken
                table.results.append(result)
                bar.step(case.name)
            for engine in ready:
                engine.drop(stage.tables)
    for engine in running:
        engine.close()
    return table


def run_load(data: Data, names: list[str], options: argparse.Namespace, folder: Path) -> Table:
    """Parquet to tables, each time into a fresh connection."""
    files = data.tpch()
    table = Table(Group("load", "Load TPC-H SF1 from Parquet into tables", 0.7, None))
    jobs = {"all tables": files, "lineitem": {"lineitem": files["lineitem"]}}
    with Progress(table.group.title, len(jobs)) as bar:
        for label, tables in jobs.items():
            opened: list[Engine] = []

            def load(name: str, tables: dict[str, Path] = tables, opened: list[Engine] = opened) -> None:
                opened.append(start(name, options, folder))
                opened[-1].load(tables)

            def close(opened: list[Engine] = opened) -> None:
                while opened:
                    opened.pop().close()
                for path in folder.iterdir():
                    shutil.rmtree(path)

            result, runs = Result(label), dict[str, partial[Any]]()
            for name in names:
                try:
                    load(name)
                    runs[name] = partial(load, name)
                except Exception as error:
                    result.problems[name] = f"{type(error).__name__}: {error}"
                close()
            result.times = interleave(runs, options.seconds, close, least=3)
            table.results.append(result)
            bar.step(label)
    return table


def run_overhead(data: Data, names: list[str], options: argparse.Namespace, folder: Path) -> Table:
    """What a query costs beside the work on its rows: planning, the first run, and the start of the process."""
    table = Table(Group("overhead", "Overheads"))
    names = [name for name in names if name in (DUCKDB, OURS)]
    small = Data(data.folder, 0.01)
    tables = {"tpch": small.tpch(), "ssb": small.ssb(1.0)}
    everything = {name: path for group in tables.values() for name, path in group.items() if group is tables["tpch"]}
    running = [start(name, options, folder) for name in names]
    for engine in running:
        engine.load(everything)
    for label, sql in (("select 42, hot", "select 42"), ("count(*) of 5 rows, hot", "select count(*) from region")):
        table.results.append(run_case(Case(label, sql), running, options.seconds))
    for engine in running:
        engine.close()
    for benchmark, title in (("ssb", "SSB"), ("tpch", "TPC-H")):
        table.results += new_queries(benchmark, title, tables[benchmark], names, options, folder)
    table.results += processes(options)
    return table


def new_queries(
    benchmark: str, title: str, tables: dict[str, Path], names: list[str], options: argparse.Namespace, folder: Path
) -> list[Result]:
    """Planning, and the first run less the hot run, of queries new to the connection: means over the queries."""
    queries = workloads.queries(benchmark)
    planning = Result(f"planning a new {title} query")
    first = Result(f"new {title} query: first run less hot run")
    rounds = 3
    with Progress(f"Planning {title}", rounds * len(names)) as bar:
        for _ in range(rounds):
            for name in names:
                try:
                    planned = first_less_hot = 0.0
                    for purpose in ("plan", "run"):
                        engine = start(name, options, folder)
                        engine.load(tables)
                        engine.run("select 1")
                        for sql in queries.values():
                            begin = time.perf_counter()
                            if purpose == "plan":
                                engine.explain(sql)
                                planned += time.perf_counter() - begin
                                continue
                            engine.run(sql)
                            cold = time.perf_counter() - begin
                            hot = statistics.median(interleave({"hot": partial(engine.run, sql)}, 0.0)["hot"])
                            first_less_hot += max(0.0, cold - hot)
                        engine.close()
                    planning.times.setdefault(name, []).append(planned / len(queries))
                    first.times.setdefault(name, []).append(first_less_hot / len(queries))
                except Exception as error:
                    planning.problems[name] = first.problems[name] = f"{type(error).__name__}: {error}"
                bar.step(name)
    return [planning, first]


def call(command: list[str]) -> None:
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def processes(options: argparse.Namespace) -> list[Result]:
    """Whole processes: the shell with one query, and the import alone."""
    ours = "duckdb" if options.self_test else "finequery"
    folders = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    script = shutil.which("finequery", path=folders)
    shell = [script] if script else [sys.executable, "-m", "finequery.shell"]
    query = "import duckdb; duckdb.sql('select 42').show()"
    pairs = [
        ('process: -c "select 42"', [sys.executable, "-c", query], [*shell, "-c", "select 42"], 0.25),
        ("process: import", [sys.executable, "-c", "import duckdb"], [sys.executable, "-c", f"import {ours}"], 0.15),
        ("process: python alone", [sys.executable, "-c", ""], [sys.executable, "-c", ""], None),
    ]
    results = []
    for name, theirs, mine, limit in pairs:
        if options.self_test and "-c" in mine and mine[-1] == "select 42":
            mine = theirs
        result, runs = Result(name, limit=limit), dict[str, partial[Any]]()

        for label, command in ((DUCKDB, theirs), (OURS, mine)):
            try:
                call(command)
                runs[label] = partial(call, command)
            except (OSError, subprocess.CalledProcessError) as error:
                output = getattr(error, "stderr", b"") or b""
                result.problems[label] = output.decode(errors="replace").strip().rsplit("\n", 1)[-1] or str(error)
        result.times = interleave(runs, min(2.0, options.seconds))
        results.append(result)
    return results


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="FineQuery beside DuckDB.")
    parser.add_argument("--only", default=",".join(NAMES), help=f"groups, by comma (default all: {','.join(NAMES)})")
    parser.add_argument("--threads", type=int, default=2, help="threads of each engine (default 2)")
    parser.add_argument("--ssb-scale", type=float, default=1.0, help="scale of the group ssb (default 1)")
    parser.add_argument("--engines", default="", help="also show: polars,datafusion")
    parser.add_argument(
        "--data", type=Path, default=cache_dir() / "bench", help="where the data is kept (default %(default)s)"
    )
    parser.add_argument("--json", type=Path, help="write the results and the machine's description into this file")
    parser.add_argument("--seconds", type=float, default=2.0, help="time for each query and engine (default 2)")
    parser.add_argument("--fraction", type=float, default=1.0, help="shrink all data to this share, for trials")
    parser.add_argument("--self-test", action="store_true", help="DuckDB stands in for FineQuery")
    options = parser.parse_args(argv)
    options.only = [name.strip() for name in options.only.split(",") if name.strip()]
    options.engines = [name.strip() for name in options.engines.split(",") if name.strip()]
    if unknown := set(options.only) - set(NAMES):
        parser.error(f"no such group: {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    if unknown := set(options.engines) - set(engines.OTHERS):
        parser.error(f"no such engine: {', '.join(sorted(unknown))}; there are {', '.join(engines.OTHERS)}")
    return options


def main(argv: list[str] | None = None) -> int:
    options = parse_arguments(argv)
    data = Data(options.data, options.fraction)
    options.data.mkdir(parents=True, exist_ok=True)
    names = [DUCKDB, DUCKDB_FILE, OURS, *options.engines]
    about = machine(options.threads)
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    about_now = conditions()
    print(f"{about['cpu']}, {about['cores']} cores, {options.threads} threads an engine; {versions}")
    if options.self_test or options.fraction != 1:
        print("A trial run: these figures say nothing about FineQuery.")
    for text in about_now["warnings"]:
        print(f"warning: {text}")
    tables: list[Table] = []

    def finish(table: Table) -> None:
        tables.append(table)
        print("\n" + show(table, names), flush=True)
        if options.json:
            record = {"machine": about, "conditions": about_now}
            record |= {"self_test": options.self_test, "fraction": options.fraction}
            options.json.write_text(json.dumps(record | {"groups": [as_json(t) for t in tables]}, indent=1) + "\n")

    with tempfile.TemporaryDirectory(dir=options.data) as name:
        folder = Path(name)
        for group_name in options.only:
            if group_name == "load":
                finish(run_load(data, names[:3], options, folder))
            elif group_name == "overhead":
                finish(run_overhead(data, names, options, folder))
            else:
                shown = names[:3] if group_name == "parquet" else names  # the others read files in ways of their own
                for group in query_groups(data, [group_name], options.ssb_scale):
                    finish(run_group(group, shown, options, folder))
            for path in folder.iterdir():
                shutil.rmtree(path)
    return 0 if not any(OURS in result.problems for table in tables for result in table.results) else 1


if __name__ == "__main__":
    sys.exit(main())
