"""Runs a pipeline's kernel: compiles it, hands it the arrays, looks at its errors."""

from __future__ import annotations

from typing import Any

import numpy as np

from finequery.errors import InternalError, OutOfMemoryError
from finequery.jetson import memory
from finequery.operators.cuda.launch import start
from finequery.operators.cuda.scan import exclusive_scan
from finequery.operators.cuda.translate import Kernel, Parameter
from finequery.operators.program import error_of

CUDA_OUT_OF_MEMORY = 2

#: Bytes of the host, the kernel argument in their place, and whether that is their copy on the device from now on.
Back = tuple[np.ndarray, Any, bool]
#: Arrays that a sink's run only writes, which of their bytes, and whether they become the result as they are.
Outputs = list[tuple[np.ndarray, slice, bool]]


class Run:
    """Runs of a kernel over ranges of a source's rows, as a worker of the sink."""

    def __init__(self, kernel: Kernel, device: Any, skip: np.ndarray | None, worker: int):
        self.kernel = kernel
        self.device = device
        self.skip = None if skip is None else memory.settled(skip)
        self.worker = worker
        self.groups = np.zeros(2, dtype=np.int64)

    def __call__(self, sink: Any, first: int, end: int) -> tuple[int, int]:
        """Run it over rows ``first`` to before ``end``: the worker of the sink that has what came out, and how many
        rows that are. A table that was full is begun anew, and larger."""
        slot = sink.slot(self.worker) if hasattr(sink, "slot") else self.worker
        for _ in range(40):
            total = self._attempt(sink, slot, first, end)
            if total >= 0:
                return slot, total
            sink.discard(slot)
            sink.grow(slot)
        raise InternalError("a table of groups is always full")

    def _attempt(self, sink: Any, slot: int, first: int, end: int) -> int:
        kernel, rows = self.kernel, end - first
        device, total = self.device, rows
        with device.query():
            places, texts = device.zeros(1, np.int64), [device.zeros(1, np.int64)] * kernel.texts
            if kernel.counted:
                places = device.zeros(rows, np.int64)
                texts = [device.zeros(rows, np.int64) for _ in range(kernel.texts)]
                assert kernel.counting is not None
                self._launch(kernel.counting, slot, first, end, places, texts, None)
                sums = [int(device.to_host(exclusive_scan(device, counts))[0]) for counts in (places, *texts)]
                if not sink.dense:
                    total = sums[0]
                sink.make_room(slot, total, sums[1:])
            outputs = sink.outputs(slot, first, end) if hasattr(sink, "outputs") else []
            return total if self._launch(kernel.source, slot, first, end, places, texts, outputs) else -1

    def _launch(
        self, source: str, slot: int, first: int, end: int, places: Any, texts: list[Any], outputs: Outputs | None
    ) -> bool:
        """Launch a kernel and wait for it; False where a table was full. ``places`` and ``texts``, which number what
        is written, stay on the device; ``outputs`` are the sink's, None while rows are counted."""
        device, parameters = self.device, self.kernel.parameters
        words = device.zeros(5, np.int64, "result")
        status, groups = words[:3], words[3:]
        hosts = [_host(p, slot) for p in parameters]
        arguments, back = _arguments(device, hosts, [p.written for p in parameters], outputs)
        skip = status.view(np.uint8) if self.skip is None else device.view(self.skip)
        head = (first, end, skip, int(self.skip is not None), status, groups, places)
        start(source, device, device.launch_shape(end - first), *head, *texts, *arguments)
        found = device.to_host(words)
        if found[0]:
            number = 0xFFFF - (int(found[0]) >> 16)
            raise error_of(-(int(found[0]) & 0xFFFF), self.kernel.names[number], self.kernel.subjects[number])
        self.groups = found[3:]
        for host, argument, kept in back:
            device.copy_to_host(argument, host)
            if kept:
                device.adopt(host, argument)
        return not found[1]


def device_failure(error: Exception) -> str | None:
    """The words for an error of the device or of its memory, after which the CPU can do the work; None for an error of
    the query, or of the engine. CUDA's errors are told by the package of their class: Numba's built-in target, the
    simulator, numba-cuda and NVIDIA's bindings have different ones."""
    packages = ("numba.cuda.", "cuda.", "finequery.jetson.")
    if isinstance(error, (MemoryError, OutOfMemoryError)) or getattr(error, "code", 0) == CUDA_OUT_OF_MEMORY:
        what = "out of memory"
    elif any(f"{kind.__module__}.".startswith(packages) for kind in type(error).__mro__):
        what = "the kernel failed"
    else:
        return None
    text = str(error).strip().split("\n")[0].strip()
    return f"{what}: {text}" if text else what


def _arguments(
    device: Any, hosts: list[np.ndarray], written: list[bool], outputs: Outputs | None
) -> tuple[list[Any], list[Back]]:
    """Kernel arguments of host arrays, and what is to be copied back after the kernel.

    Arrays that overlap are views of one array on the device too: a row table and the accumulators in it. What is only
    written is not copied to the device; what becomes a result stays there for the pipelines that read it. The kernel
    that counts rows touches nothing that the other one writes."""
    if device.info.simulated:
        return hosts, []
    views: list[Any] = [None] * len(hosts)
    back: list[Back] = []
    if outputs is None:
        for i, host in enumerate(hosts):
            views[i] = device.empty(1, host.dtype) if written[i] else device.view(host)
        return views, []
    only = {array.ctypes.data: (part, stays) for array, part, stays in outputs}
    order = sorted(range(len(hosts)), key=lambda i: (hosts[i].ctypes.data, -hosts[i].nbytes))
    at = 0
    while at < len(order):
        whole = hosts[order[at]]
        low, high, members = whole.ctypes.data, whole.ctypes.data + whole.nbytes, [order[at]]
        at += 1
        while at < len(order) and hosts[order[at]].ctypes.data < high:
            assert hosts[order[at]].ctypes.data + hosts[order[at]].nbytes <= high, "arrays overlap in part"
            members.append(order[at])
            at += 1
        if not any(written[i] for i in members) or device.reaches(whole):
            for i in members:
                views[i] = device.view(hosts[i])
            continue
        raw = whole.view(np.uint8)
        part, stays = only.get(low, (slice(None), False))
        root = device.empty(raw.size, np.uint8) if low in only else device.upload(raw)
        back.append((raw[part], root[part], stays))
        for i in members:
            offset = hosts[i].ctypes.data - low
            views[i] = root[offset : offset + hosts[i].nbytes].view(hosts[i].dtype)
    return views, back


def _host(parameter: Parameter, worker: int) -> np.ndarray:
    """The array of a worker that a parameter stands for, as it sees it."""
    found = parameter.fetch(worker)
    data = found.reshape(-1).view(np.uint8)[parameter.offset :]
    return data[: len(data) // parameter.dtype.itemsize * parameter.dtype.itemsize].view(parameter.dtype)
