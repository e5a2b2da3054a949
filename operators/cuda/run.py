"""Runs a pipeline's kernel: compiles it, hands it the arrays, looks at its errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from finequery.errors import InternalError
from finequery.operators.cuda.launch import start
from finequery.operators.cuda.scan import exclusive_scan
from finequery.operators.cuda.translate import Kernel, Parameter
from finequery.operators.program import error_of


class Run:
    """One run of a kernel over ``rows`` rows. ``prepare`` gives the sink's arrays anew, larger with every attempt."""

    def __init__(self, kernel: Kernel, device: Any, rows: int, skip: np.ndarray | None):
        self.kernel = kernel
        self.device = device
        self.rows = rows
        self.skip = skip if skip is not None else np.zeros(1, dtype=np.uint8)
        self.skips = int(skip is not None)
        self.groups = np.zeros(2, dtype=np.int64)

    def __call__(self, sink: Any, prepare: Callable[[int], None]) -> np.ndarray:
        """Run it; gives the segments that the sink wants: all rows in one piece."""
        attempt = 0
        while True:
            prepare(attempt)
            total = self._attempt(sink)
            if total >= 0:
                return np.array([[0, 0, total]], dtype=np.int64)
            attempt += 1
            if attempt > 40:
                raise InternalError("a table of groups is always full")

    def _attempt(self, sink: Any) -> int:
        kernel, rows = self.kernel, self.rows
        device, total = self.device, rows
        places, texts = device.zeros(1, np.int64), [device.zeros(1, np.int64)] * kernel.texts
        if kernel.counted:
            places = device.zeros(rows, np.int64)
            texts = [device.zeros(rows, np.int64) for _ in range(kernel.texts)]
            assert kernel.counting is not None
            self._launch(kernel.counting, places, texts)
            sums = [int(device.to_host(exclusive_scan(device, counts))[0]) for counts in (places, *texts)]
            if not sink.dense:
                total = sums[0]
            sink.make_room(total, sums[1:])
        return total if self._launch(kernel.source, places, texts) else -1

    def _launch(self, source: str, places: Any, texts: list[Any]) -> bool:
        """Launch a kernel and wait for it; False where a table was full."""
        status = np.zeros(3, dtype=np.int64)
        self.groups[:] = 0
        device = self.device
        skip, *counters = [device.view(a) for a in (self.skip, status, self.groups)]
        arrays = [_host(p) for p in self.kernel.parameters]
        views = [device.view(a) for a in arrays]
        shape = device.launch_shape(self.rows)
        start(source, device, shape, self.rows, skip, self.skips, *counters, places, *texts, *views)
        device.synchronise()
        for array, view in zip((status, self.groups), counters):
            device.fetch(view, array)
        for parameter, array, view in zip(self.kernel.parameters, arrays, views):
            if parameter.written:
                device.fetch(view, array)
        if status[0]:
            raise error_of(-(int(status[0]) >> 16), self.kernel.names[int(status[0]) & 0xFFFF])
        return not status[1]


def _host(parameter: Parameter) -> np.ndarray:
    """The array that a parameter stands for, as it sees it."""
    found = parameter.fetch()
    data = found.reshape(-1).view(np.uint8)[parameter.offset :]
    return data[: len(data) // parameter.dtype.itemsize * parameter.dtype.itemsize].view(parameter.dtype)
