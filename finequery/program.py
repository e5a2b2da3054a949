"""How the programs behind ``finequery WORD`` end."""

from __future__ import annotations

import sys
from collections.abc import Callable

from finequery.errors import Error


def exit_code(run: Callable[[], int]) -> int:
    """What ``run`` gives; 1 where it raises an error of ours, which is printed, and 130 where Ctrl-C stops it."""
    try:
        return run()
    except Error as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        return 130
