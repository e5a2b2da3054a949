"""What the kernels of all queries take on each target: compiled and assembled without a GPU.

    python scripts/ptx_report.py                                  all kernels of TPC-H and SSB
    python scripts/ptx_report.py --queries ssb/q1.1,tpch/q06 --out report
    python scripts/ptx_report.py --python /other/venv/bin/python  which has the compiler wheels

The queries run in Numba's simulator over a few thousand rows. Every kernel they launch is compiled to PTX for Jetson
AGX Xavier (7.2), Orin (8.7) and H100 (9.0), and assembled. It fails where a kernel does not compile or spills
registers, or needs more than PTX 7.4 on 7.2: the driver of JetPack 5 (CUDA 11.4) takes no newer one. For that the PTX
is marked as 7.4 and assembled again, also with the assembler of CUDA 11.8 where ``--ptxas11`` or the PATH has it.

Needs the extra ``ptx``: the CUDA 12.9 wheels. Numba looks for them in the folders of a CUDA toolkit, so such folders
are made out of links.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from finequery.workloads.progress import Progress  # noqa: E402

TARGETS = {"7.2": "Xavier", "8.7": "Orin", "9.0": "H100"}
#: The newest PTX that the driver of JetPack 5 takes, for targets before Orin.
OLD_TARGET, OLD_PTX = "7.2", "7.4"
FACTS = {
    "registers": r"Used (\d+) registers",
    "stack": r"(\d+) bytes stack frame",
    "spill_stores": r"(\d+) bytes spill stores",
    "spill_loads": r"(\d+) bytes spill loads",
    "shared": r"(\d+) bytes smem",
}


@dataclass
class Kernel:
    """A kernel, and what each target's assembler says of it."""

    name: str
    queries: list[str]
    targets: dict[str, dict[str, int]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def wheels(python: str) -> Path | None:
    """The folder with the CUDA wheels of a Python, if they are there."""
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    found = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    folder = Path(found) / "nvidia"
    needed = ("cuda_nvcc/nvvm/lib64/libnvvm.so", "cuda_nvcc/bin/ptxas", "cuda_runtime/lib/libcudart.so.12")
    return folder if all((folder / part).exists() for part in needed) else None


def toolkit(folder: Path, wheels: Path) -> None:
    """Make ``folder`` look like a CUDA toolkit, with the names that Numba's built-in target looks for."""
    for link, target in {
        "nvvm/lib64/libnvvm.so.4": "cuda_nvcc/nvvm/lib64/libnvvm.so",
        "nvvm/libdevice": "cuda_nvcc/nvvm/libdevice",
        "lib64/libcudart.so.12": "cuda_runtime/lib/libcudart.so.12",
    }.items():
        (folder / link).parent.mkdir(parents=True, exist_ok=True)
        (folder / link).symlink_to(wheels / target)


def assemble(ptxas: str | Path, ptx: Path, target: str) -> tuple[dict[str, int], str]:
    """What ptxas reports of a kernel, and its words if it fails."""
    command = [str(ptxas), "-v", f"-arch=sm_{target.replace('.', '')}", str(ptx), "-o", os.devnull]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        return {}, done.stderr.strip().splitlines()[0] if done.stderr.strip() else "ptxas failed"
    found = {name: re.search(pattern, done.stderr) for name, pattern in FACTS.items()}
    return {name: int(match[1]) if match else 0 for name, match in found.items()}, ""


def version_of(ptxas: str | Path) -> str:
    """The release of an assembler."""
    text = subprocess.run([str(ptxas), "--version"], capture_output=True, text=True).stdout
    match = re.search(r"V([\d.]+)", text)
    return match[1] if match else ""


def examine(kernel: Kernel, number: int, folder: Path, ptxas: Path, old: str | None) -> None:
    """Assemble a kernel for every target."""
    for target in TARGETS:
        ptx = folder / f"{number}-{target}.ptx"
        error = ptx.with_suffix(".error")
        if error.exists():
            kernel.problems.append(f"{target}: {error.read_text().strip().splitlines()[-1]}")
            continue
        facts, problem = assemble(ptxas, ptx, target)
        if problem:
            kernel.problems.append(f"{target}: {problem}")
            continue
        kernel.targets[target] = facts
        if facts["spill_stores"] or facts["spill_loads"]:
            spilled = facts["spill_stores"] + facts["spill_loads"]
            kernel.problems.append(f"{target}: {spilled} bytes are spilled")
        if target == OLD_TARGET:
            marked = folder / f"{number}-old.ptx"
            marked.write_text(re.sub(r"(?m)^\.version .*$", f".version {OLD_PTX}", ptx.read_text(), count=1))
            for assembler in (ptxas, old):
                problem = assemble(assembler, marked, target)[1] if assembler else ""
                if problem:
                    kernel.problems.append(f"{target} as PTX {OLD_PTX}, ptxas {version_of(assembler or '')}: {problem}")


def report(options: argparse.Namespace, cuda: Path) -> tuple[list[Kernel], dict[str, str]]:
    """All kernels of the queries, and the versions that were used."""
    ptxas = cuda / "cuda_nvcc" / "bin" / "ptxas"
    old = options.ptxas11 or shutil.which("ptxas")
    old = old if old and version_of(old).startswith("11.") else None
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        toolkit(folder / "cuda", cuda)
        listing = folder / "kernels.json"
        collect = [sys.executable, str(ROOT / "scripts" / "ptx_collect.py"), str(listing), *options.queries]
        subprocess.run(collect, cwd=ROOT, check=True)
        found = json.loads(listing.read_text())[: options.most]
        listing.write_text(json.dumps(found))
        kernels = []
        compile_them = [options.python, str(ROOT / "scripts" / "ptx_compile.py"), str(listing), name, *TARGETS]
        environment = os.environ | {"CUDA_HOME": str(folder / "cuda")}
        with (
            Progress("kernels", len(found)) as bar,
            subprocess.Popen(compile_them, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as running,
        ):
            assert running.stdout is not None
            for _ in running.stdout:
                number = len(kernels)
                item = found[number]
                label = hashlib.sha256(repr((item["source"], item["types"])).encode()).hexdigest()[:10]
                kernels.append(Kernel(label, item["queries"]))
                examine(kernels[-1], number, folder, ptxas, old)
                bar.step(label)
        if running.returncode or len(kernels) < len(found):
            raise SystemExit("the compiler's process failed")
        some_ptx = next(iter(folder.glob("*-7.2.ptx")), None)
        written = re.search(r"(?m)^\.version ([\d.]+)", some_ptx.read_text()) if some_ptx else None
    code = "import numba; print(numba.__version__)"
    numba = subprocess.run([options.python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    versions = {
        "numba": numba,
        "ptxas": version_of(ptxas),
        "ptxas for JetPack 5": version_of(old) if old else "not at hand",
        "PTX written": written[1] if written else "",
        "python": platform.python_version(),
    }
    return kernels, versions


def markdown(kernels: list[Kernel], versions: dict[str, str]) -> str:
    """The report for people."""
    bad = [k for k in kernels if k.problems]
    lines = [
        "# Kernels of TPC-H and SSB, compiled and assembled without a GPU",
        "",
        "Made by `scripts/ptx_report.py`. Nothing here was run on a device: these are the compiler's and the",
        "assembler's figures. Stack is local memory for arrays and calls; spills are registers moved to it.",
        "",
        ", ".join(f"{name} {version}" for name, version in versions.items()) + ".",
        "",
        f"{len(kernels)} kernels, {len(bad)} with problems. Marked as PTX {OLD_PTX}, those for {OLD_TARGET} assemble"
        f"{' as well' if not any(f'as PTX {OLD_PTX}' in p for k in bad for p in k.problems) else ' not all'}.",
        "",
        "| target | kernels | registers: median | most | stack, most | spilling kernels |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for target, board in TARGETS.items():
        facts = [k.targets[target] for k in kernels if target in k.targets]
        registers = sorted(f["registers"] for f in facts) or [0]
        spilling = sum(1 for f in facts if f["spill_stores"] or f["spill_loads"])
        stack = max((f["stack"] for f in facts), default=0)
        middle = registers[len(registers) // 2]
        lines.append(f"| {target} ({board}) | {len(facts)} | {middle} | {registers[-1]} | {stack} B | {spilling} |")
    if bad:
        lines += ["", "## Problems", ""]
        lines += [f"- `{k.name}` ({', '.join(k.queries[:3])}): {problem}" for k in bad for problem in k.problems]
    heads = " | ".join(f"registers {t} | stack | spills" for t in TARGETS)
    lines += ["", "## Kernels", "", f"| kernel | queries | {heads} |", "|---|---|" + "---:|" * (3 * len(TARGETS))]
    for kernel in kernels:
        more = f" and {len(kernel.queries) - 3} more" if len(kernel.queries) > 3 else ""
        row = [f"`{kernel.name}`", ", ".join(kernel.queries[:3]) + more]
        for target in TARGETS:
            f = kernel.targets.get(target)
            spills = f["spill_stores"] + f["spill_loads"] if f else 0
            row += [str(f["registers"]), str(f["stack"]), str(spills)] if f else ["-", "-", "-"]
        lines.append(f"| {' | '.join(row)} |")
    return "\n".join(lines) + "\n"


def as_json(kernels: list[Kernel], versions: dict[str, str]) -> dict[str, Any]:
    return {"versions": versions, "targets": TARGETS, "kernels": [asdict(k) for k in kernels]}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Compile and assemble the kernels of the benchmarks' queries.")
    parser.add_argument(
        "--queries", default="tpch,ssb", help="tpch, ssb, or single ones as ssb/q1.1 (default tpch,ssb)"
    )
    parser.add_argument("--most", type=int, help="stop after so many kernels")
    parser.add_argument("--python", default=sys.executable, help="the Python with numba and the CUDA wheels")
    parser.add_argument("--ptxas11", help="an assembler of CUDA 11")
    out = ROOT / "benchmarks" / "results" / "ptx-report"
    parser.add_argument("--out", type=Path, default=out, help="files without .md and .json (default %(default)s)")
    options = parser.parse_args(argv)
    options.queries = options.queries.split(",")
    cuda = wheels(options.python)
    if cuda is None:
        print(f"The CUDA 12 compiler wheels are missing in {options.python}: pip install 'finequery[ptx]'")
        return 2
    kernels, versions = report(options, cuda)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.with_suffix(".json").write_text(json.dumps(as_json(kernels, versions), indent=1) + "\n")
    options.out.with_suffix(".md").write_text(markdown(kernels, versions))
    bad = sum(1 for k in kernels if k.problems)
    print(f"{options.out.with_suffix('.md')}: {len(kernels)} kernels, {bad} with problems")
    return 1 if bad or not kernels else 0


if __name__ == "__main__":
    sys.exit(main())
