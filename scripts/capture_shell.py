"""Make docs/images/shell.svg and shell-board.svg anew: a session of the shell, as a terminal shows it.

    python scripts/capture_shell.py [FOLDER]

The shell runs in a pseudo-terminal over TPC-H at scale factor 0.1, and its screens are drawn. Needs pexpect, pyte,
prompt_toolkit, and tpchgen-cli for the data. Times on the pictures are this machine's, or simulated where they say so.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from terminal import Terminal  # noqa: E402

from finequery.workloads import tpch  # noqa: E402

COLUMNS, ROWS = 80, 28
#: Of a character, in pixels.
WIDTH, HEIGHT, SIZE = 8.4, 18, 14
INK, PAPER = "#d8dee9", "#1e222a"
#: pyte's names of the terminal's colours.
COLOURS = {
    "default": INK,
    "black": "#3b4252",
    "red": "#e06c75",
    "green": "#98c379",
    "brown": "#e5c07b",
    "blue": "#61afef",
    "magenta": "#c678dd",
    "cyan": "#56b6c2",
    "white": "#e5e9f0",
    "brightblack": "#4c566a",
    "brightwhite": "#ffffff",
}

QUERY = """\
select l_shipmode, count(*) as orders, avg(l_extendedprice) as price
from lineitem join orders on l_orderkey = o_orderkey
where o_orderdate >= date '1995-01-01'
group by l_shipmode order by orders desc limit 4;"""


def svg(terminal: Terminal) -> str:
    """The terminal's screen as a picture that needs nothing else, with its text as text."""
    display = terminal.display
    rows = max(len(terminal.lines), 1)
    width, height = COLUMNS * WIDTH + 24, rows * HEIGHT + 24
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height}" width="{width:.0f}" '
        f'height="{height}" font-family="DejaVu Sans Mono, Menlo, Consolas, monospace" '
        f'font-size="{SIZE}" xml:space="preserve">',
        f'<rect width="100%" height="100%" rx="8" fill="{PAPER}"/>',
    ]
    for y in range(rows):
        line = display.buffer[y]
        x = 0
        while x < COLUMNS:
            cell, end = line[x], x
            while end < COLUMNS and line[end][1:] == cell[1:]:
                end += 1
            text = "".join(line[i].data for i in range(x, end))
            ink, paper = COLOURS.get(cell.fg, f"#{cell.fg}"), COLOURS.get(cell.bg, f"#{cell.bg}")
            if cell.bg != "default":
                box = (
                    f'x="{12 + x * WIDTH:.1f}" y="{12 + y * HEIGHT}" width="{(end - x) * WIDTH:.1f}" height="{HEIGHT}"'
                )
                parts.append(f'<rect {box} fill="{paper}"/>')
            if text.strip():
                weight = ' font-weight="bold"' if cell.bold else ""
                at = f'x="{12 + x * WIDTH:.1f}" y="{12 + y * HEIGHT + SIZE}" textLength="{(end - x) * WIDTH:.1f}"'
                parts.append(f'<text {at} fill="{ink}"{weight}>{escape(text)}</text>')
            x = end
    return "\n".join([*parts, "</svg>\n"])


def main() -> int:
    """Run the sessions and write their pictures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT / "docs" / "images")
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    data = tpch.generate(0.1)
    files = [str(data / f"{name}.parquet") for name in ("lineitem", "orders")]
    with tempfile.TemporaryDirectory() as home, Terminal(files, home=home, columns=COLUMNS, rows=ROWS) as t:
        t.prompt()
        t.run(QUERY)  # reads the files
        t.display.reset()
        t.send(".timer on\r")
        t.prompt()
        t.send(QUERY + "\r")
        t.wait("Run time")
        t.prompt()
        t.send("select o_custkey, sum(o_total\t")
        t.pump(1.0)
        t.send(") from orders group by o_c\t")
        t.pump(1.0)
        (folder / "shell.svg").write_text(svg(t), encoding="utf-8")
        t.send("\x03")
        t.prompt()
        t.run(".timer off")
        t.prompt()
        t.send(".board agx-xavier\r")
        for _ in range(2):  # the first run counts rows
            t.prompt("finequery[agx-xavier]>")
            t.display.reset()
            t.send(QUERY + "\r")
            t.wait("┘")
        t.prompt("finequery[agx-xavier]>")
        t.send(".energy\r")
        t.wait("simulated")
        t.prompt("finequery[agx-xavier]>")
        (folder / "shell-board.svg").write_text(svg(t), encoding="utf-8")
    print(folder / "shell.svg", folder / "shell-board.svg")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
