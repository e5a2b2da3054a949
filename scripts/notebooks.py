"""Run the notebooks of examples/ and store what they show in them, without Jupyter.

    python scripts/notebooks.py [NOTEBOOK …]

A notebook is its own source. Its cells run one after another in one namespace, in a folder of their own; the value of a
cell's last line and what it prints are stored as Jupyter would. Cells tagged ``times`` show other figures on each run:
tests compare the others with what is stored, and the documentation has the notebooks as pages (``markdown``).
"""

from __future__ import annotations

import ast
import contextlib
import io
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "examples"
sys.path[:0] = [str(ROOT), str(EXAMPLES)]

#: A notebook in nbformat, as read from its JSON.
Notebook = dict[str, Any]


def read(path: Path) -> Notebook:
    """The notebook of a file."""
    return json.loads(path.read_text(encoding="utf-8"))


def run(notebook: Notebook) -> dict[str, Any]:
    """Run all cells, put their outputs into them, and return the names that they made."""
    names: dict[str, Any] = {"__name__": "__main__"}
    for number, cell in enumerate(code_cells(notebook), 1):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            value = _run_cell("".join(cell["source"]), names)
        cell["execution_count"] = number
        cell["outputs"] = []
        if printed.getvalue():
            cell["outputs"].append(
                {"name": "stdout", "output_type": "stream", "text": printed.getvalue().splitlines(keepends=True)}
            )
        if value is not None:
            cell["outputs"].append(
                {"data": _shown(value), "execution_count": number, "metadata": {}, "output_type": "execute_result"}
            )
    return names


def code_cells(notebook: Notebook) -> list[dict[str, Any]]:
    """The cells that run."""
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def text(cell: dict[str, Any]) -> str:
    """What a cell shows, as text."""
    return "\n".join("".join(out.get("text") or out["data"]["text/plain"]) for out in cell["outputs"])


def markdown(notebook: Notebook) -> str:
    """The notebook as a page: its text, its code, and below it what that shows."""
    parts = []
    for cell in notebook["cells"]:
        source = "".join(cell["source"]).rstrip("\n")
        parts.append(f"```python\n{source}\n```" if cell["cell_type"] == "code" else source)
        if cell["cell_type"] == "code" and cell["outputs"]:
            parts.append(f"```text\n{text(cell).rstrip()}\n```")
    return "\n\n".join(parts) + "\n"


def write(path: Path, notebook: Notebook) -> None:
    """The notebook's JSON as Jupyter writes it."""
    path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _run_cell(code: str, names: dict[str, Any]) -> Any:
    """The value of the last line where that is an expression."""
    tree = ast.parse(code)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "cell", "exec"), names)
    return None if last is None else eval(compile(ast.Expression(last.value), "cell", "eval"), names)


def _shown(value: Any) -> dict[str, list[str]]:
    found = {}
    if hasattr(value, "_repr_html_"):
        found["text/html"] = value._repr_html_().splitlines(keepends=True)
    if hasattr(value, "_repr_svg_"):
        found["image/svg+xml"] = value._repr_svg_().splitlines(keepends=True)
    found["text/plain"] = repr(value).splitlines(keepends=True)
    return found


def main() -> None:
    """The command."""
    paths = [Path(name).resolve() for name in sys.argv[1:]] or sorted(EXAMPLES.glob("*.ipynb"))
    for path in paths:
        notebook = read(path)
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            run(notebook)
            os.chdir(ROOT)
        write(path, notebook)


if __name__ == "__main__":
    main()
