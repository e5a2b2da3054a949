"""Pictures of ``finequery top`` for the documentation, as SVG.

    python scripts/top_image.py                       # docs/images/top.svg: this machine, with a query that runs
    python scripts/top_image.py --board agx-xavier    # docs/images/top-agx-xavier.svg: simulated, and so marked

Without ``--board`` everything is real: another process runs a query over generated orders, and the sensors are this
machine's. With it the query's plan is placed for the board and its simulator says what the board does in the middle of
the run; the rows are those that were counted here.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

IMAGES = ROOT / "docs" / "images"
QUERY = """\
select c.region, count(*) as orders, sum(o.price * (1 - o.discount)) as revenue
from orders o join customers c on o.customer = c.id
where o.price > 100 and c.balance > 0
group by c.region order by revenue desc"""
#: Rows of the orders of the real picture and of the simulated one, and seconds after which the real one is taken.
ROWS, SIMULATED_ROWS, TAKEN = 2_000_000, 4_000_000, 2.5
#: The real one runs long enough to be looked at: every order meets many customers.
SLOW = QUERY.replace("o.customer = c.id", "o.customer % 50 = c.id % 50")


def connect(rows: int, **settings: Any) -> Any:
    """A connection with made orders and customers."""
    import finequery

    rng = np.random.default_rng(7)
    con = finequery.connect(**settings)
    customers = rows // 20
    con.register(
        "made",
        {
            "id": np.arange(customers),
            "region": rng.integers(0, 25, customers),
            "balance": rng.integers(-100, 1000, customers),
        },
    )
    con.execute("create table customers as select * from made")
    con.register(
        "made",
        {
            "customer": rng.integers(0, customers, rows),
            "price": rng.integers(1, 1000, rows),
            "discount": rng.integers(0, 10, rows) / 100,
        },
    )
    con.execute("create table orders as select * from made")
    return con


def real() -> Any:
    """This machine, while another process runs the query."""
    from finequery import published, top
    from finequery.jetson.telemetry import open_telemetry

    process = subprocess.Popen([sys.executable, __file__, "--run"])
    try:
        with open_telemetry() as telemetry:
            begin = time.monotonic()
            while not any(q.text == SLOW and q.seconds >= TAKEN for p in published.processes() for q in p.queries):
                if process.poll() is not None or time.monotonic() - begin > 120:
                    raise SystemExit("the query did not run long enough")
                time.sleep(0.1)
            telemetry.read()
            time.sleep(1.0)  # loads are shares of the time between two readings
            return top.look(telemetry, top.machine_name())
    finally:
        process.kill()
        process.wait()


def simulated(name: str) -> Any:
    """A board in the middle of its run of the query."""
    from finequery import top
    from finequery.jetson.board import load
    from finequery.jetson.telemetry import Reading
    from finequery.progress import PipelineProgress, Progress, words
    from finequery.published import Process

    board = load(name)
    with connect(SIMULATED_ROWS, board=name) as con:
        relation = con.sql(QUERY).execute()
        (scheduler,) = relation.plan.schedulers.values()
    run = scheduler.run
    line = run.timeline
    last = max(range(len(run.parts)), key=run.seconds)
    start, end = run.span(last)
    now = (start + end) / 2
    width = (end - start) / 10

    def busy(engine: str) -> float:
        spans = [s for s in line.spans if s.engine == engine]
        return sum(max(min(s.end, now + width) - max(s.start, now - width), 0.0) for s in spans) / (2 * width)

    def rate(value: str) -> float:
        """Of bytes or joules: how much a second, spread over each span."""
        return sum(
            getattr(s, value) * max(min(s.end, now + width) - max(s.start, now - width), 0.0) / (s.end - s.start)
            for s in line.spans
            if s.end > s.start
        ) / (2 * width)

    reading = Reading(
        0.0,
        rate("joules") + line.idle_joules / line.seconds,
        cpu_load=busy("cpu"),
        gpu_load=busy("gpu"),
        memory_load=min(rate("nbytes") / (board.memory.peak_gbs * 1e9), 1.0),
        cpu_mhz=board.cpu.mhz,
        gpu_mhz=board.gpu.mhz if board.gpu is not None else None,
    )
    pipelines = []
    for place, (item, part) in enumerate(zip(scheduler.schedule.placed, run.parts)):
        begin, over = run.span(place)
        share = min(max((now - begin) / (over - begin), 0.0), 1.0) if over > begin else 1.0
        device = item.chosen.placement.device if now >= begin else ""
        rows = int(part.rows)
        pipelines.append(PipelineProgress(part.info.number, words(part.info), device, int(rows * share), rows, share))
    query = Progress(QUERY, now, now / line.seconds, line.seconds - now, f"pipeline {last + 1}", tuple(pipelines))
    return top.Snapshot(
        board.title, reading, *(0, 0, None), (Process(1, "python report.py", 0.0, (query,)),), note="simulated"
    )


def main() -> None:
    """Write one picture."""
    parser = argparse.ArgumentParser(description="Write a picture of finequery top.")
    parser.add_argument("--board", metavar="NAME", help="a board to simulate")
    parser.add_argument("--run", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        connect(ROWS).execute(SLOW)
        return
    from finequery.top_view import save_svg

    snapshot = simulated(options.board) if options.board else real()
    IMAGES.mkdir(exist_ok=True)
    path = IMAGES / f"top{'-' + options.board if options.board else ''}.svg"
    save_svg(snapshot, str(path))
    print(f"{path.relative_to(ROOT)} is written")


if __name__ == "__main__":
    main()
