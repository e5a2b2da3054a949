"""``finequery devices``: the processor, the GPU and the sensors, and what follows from them."""

from __future__ import annotations

import argparse
from collections.abc import Sequence


def main(arguments: Sequence[str]) -> int:
    """The command; its exit code."""
    from finequery.jetson.device import report

    argparse.ArgumentParser(
        prog="finequery devices",
        description="Show the processor, the GPU and the sensors, and what follows from them.",
    ).parse_args(arguments)
    print(report())
    return 0
