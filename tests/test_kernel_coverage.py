"""Every compiled kernel has a test of its own: a new one without is noticed here."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
import pytest
import test_group_primitives
import test_key_primitives
import test_tile_primitives
from kernels import Out, covered, covers, run
from test_instructions import MEANING

from finequery.operators import native

#: Tests that say of themselves what they cover (``kernels.covers``).
OWN = (test_tile_primitives, test_group_primitives, test_key_primitives)
#: Kernels that are tested through the functions that they are made for.
ELSEWHERE = {
    "test_analytic.py": ("price_subtasks", "describe_subtasks"),
    "test_candidates.py": ("price_offers", "choose_plan"),
    "test_coexecution.py": ("take_morsels",),
    "test_engine.py": ("run_program", "run_range", "worker", "dispatch"),
    "test_profile.py": ("run_program_profiled", "read_ticks"),
    "test_groups.py": ("find_rows", "find_rows_count", "find_rows_sum_*", "clear_rows", "flush_rows", "rehash_rows"),
    "test_join_kernels.py": ("build_lines", "group_lines", "build_bloom", "find_lines", "probe_lines"),
    "test_like.py": (
        *("like_s", "like_rows", "like_tile", "eq_s", "lt_s", "le_s", "eq_text_s", "starts_with_s", "ends_with_s"),
        *("length_s", "byte_length_s", "substring_s", "substring_ascii_s"),
    ),
    "test_overlap.py": ("run_tasks", "run_beside"),
    "test_parquet_decode.py": ("parquet_*",),
    "test_sort.py": (
        *("sort_words", "sort_histogram", "sort_scatter", "sort_buckets", "sort_ties", "sort_text_prefix"),
        *("sort_text_ties", "sort_ranks", "sort_select"),
    ),
    "test_trees.py": ("price_trees",),
    "test_window_kernels.py": ("window_*", "sort_boundaries"),
}


def test_every_kernel_is_tested() -> None:
    names = native.names()
    own = {name for module in OWN for test in vars(module).values() for name in covered(test)} | set(MEANING)
    assert own <= names, f"no such kernels: {own - names}"
    patterns = [pattern for file in ELSEWHERE for pattern in ELSEWHERE[file]]
    assert all(any(fnmatchcase(name, pattern) for name in names) for pattern in patterns)
    assert all((Path(__file__).parent / file).exists() for file in ELSEWHERE)
    missing = {n for n in names if n not in own and not any(fnmatchcase(n, pattern) for pattern in patterns)}
    assert not missing, f"kernels without a test: {sorted(missing)}"


def test_damage_is_noticed() -> None:
    source = np.arange(9, dtype=np.uint8)
    with pytest.raises(AssertionError, match="written behind"):
        run("copy_1", source, 0, Out(8), k=9)
    with pytest.raises(AssertionError, match="changed what it reads"):
        run("copy_1", source, 0, np.zeros(9, np.uint8), k=9)
    with pytest.raises(AssertionError, match="not called"):
        covers("copy_1", "copy_8")(lambda: run("copy_1", source, 0, Out(9), k=9))()


def test_builders_import_the_package(tmp_path: Path) -> None:
    """From wherever it is installed: here a copy as in a wheel, where all parts lie inside of the package's folder."""
    root = Path(__file__).resolve().parent.parent
    shutil.copytree(root / "finequery", tmp_path / "finequery", ignore=shutil.ignore_patterns("__pycache__", "models"))
    code = "from finequery.operators import native; print(native.package_parent())"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=tmp_path, check=True
    )
    assert found.stdout.strip() == str(tmp_path.resolve())
