"""The device as the executor sees it: arrays in, kernel arguments out, results back.

    with gpu.query(account):
        key = gpu.view(column.data)                        # copied once and kept, or not copied at all
        sums = gpu.zeros(groups, np.int64)                 # of the device alone
        found = gpu.empty(1, np.int64, "counters")         # read by the CPU afterwards
        kernel[*gpu.launch_shape(rows), gpu.stream](key, sums, found)
        result = gpu.to_host(sums)                         # waits for the kernels

All kernel arguments are one-dimensional, contiguous and typed: numpy arrays in the simulator, Numba's device arrays on
a chip. What a side does not reach is copied and counted in ``moved`` and in the query's account; on an integrated
device columns and results never are.

The rules. Give ``view`` only arrays that nobody writes any more. Launch on ``stream``. Between a launch and the next
``synchronise`` or ``to_host`` leave host arrays over ``mapped`` and ``managed`` memory of that launch alone.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import math
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np

from finequery.errors import NotSupportedError, OutOfMemoryError
from finequery.jetson import accounts, cuda, device, driver, memory
from finequery.jetson.residency import Entry, Residency
from finequery.jetson.transfer import Transfers

#: Threads of a block: a multiple of every chip's warps, with registers left for 2,048 threads a multiprocessor.
THREADS = 256


class Device:
    """A device whose memory is the host's, and the simulator's: every array is a kernel argument as it is."""

    def __init__(self, info: device.Info) -> None:
        self.info = info
        #: Bytes copied since the start; a query's own are in its account.
        self.moved = accounts.Moved()

    @property
    def stream(self) -> Any:
        """What kernels are launched on: ``kernel[blocks, threads, device.stream](…)``."""
        return 0

    @contextlib.contextmanager
    def query(self, account: accounts.Account | None = None) -> Iterator[accounts.Account]:
        """A query of the calling thread: what it views stays on the device until its end, which waits for kernels."""
        account = account or accounts.current.get() or accounts.Account(shared=memory.kind_for("column"))
        with accounts.accounting(account) as used:
            yield used

    def view(self, array: np.ndarray) -> Any:
        """A kernel argument with the array's values. The array must be contiguous, and not change any more."""
        return array

    def upload(self, array: np.ndarray) -> Any:
        """A kernel argument over a copy of the array's values, for kernels to write, or of an array that changes."""
        argument = self.empty(array.size, array.dtype)
        argument[...] = array
        return argument

    def empty(self, count: int, dtype: Any, kind: str = "scratch") -> Any:
        """A kernel argument over new memory, of a kind or for a use (``memory.kind_for``). It lives as long as the
        argument or any slice of it. Readable for memory.PADDING bytes past its end."""
        array = memory.array(count, dtype)
        array.view(np.uint8)[...] = 0xA5  # a kernel that reads what nobody wrote must not find lucky zeros
        return array

    def zeros(self, count: int, dtype: Any, kind: str = "scratch") -> Any:
        """``empty``, filled with zeros before the next kernel."""
        argument = self.empty(count, dtype, kind)
        self.fill(argument, 0)
        return argument

    def fill(self, argument: Any, byte: int) -> None:
        """Set all bytes of a kernel argument, in the stream's order."""
        argument.view(np.uint8)[...] = byte

    def to_host(self, argument: Any, *, keep: bool = False) -> np.ndarray:
        """The values after all kernels launched so far: the same bytes where the host reaches them, else a copy.
        ``keep``: nobody writes the argument any more, so that a ``view`` of the copy later is the argument again."""
        return argument

    def copy_to_host(self, argument: Any, array: np.ndarray) -> None:
        """``to_host`` into an array that is there."""
        array[...] = argument

    def download(self, address: int, nbytes: int, stream: int | None) -> np.ndarray:
        """Bytes of another library at an address of the device, after the work of that library's stream: where they
        lie if the host may read there at any time, else a copy."""
        raise NotSupportedError("the simulator has no addresses of a device")

    def foreign(self, address: int, count: int, dtype: Any, owner: object) -> Any:
        """A kernel argument over memory of another library, which ``owner`` keeps."""
        raise NotSupportedError("the simulator has no addresses of a device")

    def reaches(self, array: np.ndarray) -> bool:
        """Whether kernels reach the array where it lies, to read and to write."""
        return True

    def set_limit(self, nbytes: int | None) -> None:
        """Most bytes of copies that are kept on the device between queries; None: 70% of what was free."""

    def adopt(self, array: np.ndarray, argument: Any) -> None:
        """The argument has the array's values and nobody writes either any more: ``view`` need not copy."""

    def drop(self, array: np.ndarray) -> None:
        """The array's block will be written again: forget its copy."""

    def address(self, argument: Any) -> int:
        """The device's address of a kernel argument."""
        return argument.ctypes.data

    def synchronise(self) -> None:
        """Wait for all kernels and copies."""

    def launch_shape(self, rows: int) -> tuple[int, int]:
        """Blocks and threads for a grid-stride kernel over rows."""
        return (2 if rows > 32 else 1), 32  # a simulated thread costs up to a third of a millisecond

    def trim(self) -> None:
        """Forget what is kept on the device between queries, and give empty slabs back."""


class _Work(threading.local):
    """Of the calling thread: arrays that running kernels use, and entries that its query has pinned."""

    def __init__(self) -> None:
        self.held: list[Any] = []
        self.pinned: dict[int, Entry] | None = None


class CudaDevice(Device):
    """A chip. ``argument`` and ``address_of`` are those of ``cuda``; tests put their own in their place."""

    def __init__(
        self,
        info: device.Info,
        chip: driver.Driver,
        argument: Any = cuda.argument,
        address_of: Any = cuda.address_of,
        limit: int | None = None,
    ) -> None:
        super().__init__(info)
        chip.use()
        self._chip, self._argument, self._address_of = chip, argument, address_of
        self._stream = chip.stream()
        self._transfers = Transfers(chip, self._stream)
        self.moved = self._transfers.moved
        if limit is None:  # a part for tables and results of running queries is left
            limit = (info.free_memory() or info.total_memory) * 7 // 10
        self._limit = limit
        self.resident = Residency(limit, self._upload, argument)
        self._work = _Work()
        self._mapped: dict[tuple[int, int, str], Any] = {}  # arguments over mapped memory, by address, count, type
        self._visible: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()  # blocks of ``empty``
        if info.integrated:
            accounts.unify()

    @functools.cached_property
    def stream(self) -> Any:
        return cuda.stream(self._stream)

    @contextlib.contextmanager
    def query(self, account: accounts.Account | None = None) -> Iterator[accounts.Account]:
        self._chip.use()
        outer, self._work.pinned = self._work.pinned, {}
        try:
            with super().query(account) as used:
                yield used
        finally:
            try:
                self.synchronise()
            finally:
                for entry in self._work.pinned.values():
                    self.resident.pin(entry, -1)
                self._work.pinned = outer

    def view(self, array: np.ndarray) -> Any:
        if not array.flags.c_contiguous:
            raise ValueError("kernels take contiguous arrays")
        if not array.size:  # numpy gives it any address
            return self._argument(0, 0, array.dtype, None)
        if self.info.integrated:
            address = self._reached(array)
            if address is not None:
                self._work.held.append(array)  # freed by the host, it might be written again before the kernel ends
                key = (address, array.size, array.dtype.str)
                argument = self._mapped.get(key)
                if argument is None:
                    if len(self._mapped) >= 1 << 14:
                        self._mapped.clear()
                    argument = self._mapped[key] = self._argument(address, array.size, array.dtype, None)
                return argument
        if memory.kind_of(array) == "mapped":
            self._work.held.append(array)  # copied from where it lies, later
        argument, entry = self.resident.view(array)
        pinned = self._work.pinned
        if pinned is not None and entry is not None and id(entry) not in pinned:
            pinned[id(entry)] = entry
            self.resident.pin(entry, 1)
        return argument

    def _reached(self, array: np.ndarray) -> int | None:
        address = memory.device_address(array)
        return memory.address(array) if address is None and self.info.pageable_access else address

    def reaches(self, array: np.ndarray) -> bool:
        return self.info.integrated and (not array.size or self._reached(array) is not None)

    def upload(self, array: np.ndarray) -> Any:
        block = self._device_block(max(array.nbytes, 1))
        if memory.kind_of(array) == "mapped":
            self._work.held.append(array)  # copied from where it lies, later
        self._upload(array, block)
        return self._argument(block.address, array.size, array.dtype, block)

    def empty(self, count: int, dtype: Any, kind: str = "scratch") -> Any:
        if kind in memory.USES:
            kind = memory.kind_for(kind)
        dtype = np.dtype(dtype)
        if kind == "device" or (kind == "pageable" and not self.info.integrated):
            block = self._device_block(max(count * dtype.itemsize, 1))
            return self._argument(block.address, count, dtype, block)
        if kind not in ("mapped", "managed"):
            raise ValueError(f"the device does not reach {kind} memory")
        array = memory.array(count, dtype, kind=kind)
        address = memory.device_address(array)
        assert address is not None
        self._visible[address] = memory.block_of(array)
        self._work.held.append(array)
        return self._argument(address, count, dtype, array)

    def _device_block(self, nbytes: int) -> memory.DeviceBlock:
        while True:
            try:
                return memory.DeviceBlock(nbytes)
            except OutOfMemoryError:
                if not self.resident.evict():
                    raise

    def fill(self, argument: Any, byte: int) -> None:
        self._chip.use()
        address, count, dtype = self._described(argument)
        if count:
            self._chip.fill(address, byte, count * dtype.itemsize, self._stream)

    def to_host(self, argument: Any, *, keep: bool = False) -> np.ndarray:
        address, count, dtype = self._described(argument)
        for start, block in list(self._visible.items()):
            if start <= address < start + max(block.nbytes, 1):
                self.synchronise()
                offset = address - start
                return block[offset : offset + count * dtype.itemsize].view(np.ndarray).view(dtype)
        host = memory.array(count, dtype)
        if count:
            self._transfers.to_host(address, host)
        if keep and not self.info.integrated:
            self.resident.adopt(host, argument, address)
        return host

    def copy_to_host(self, argument: Any, array: np.ndarray) -> None:
        if array.nbytes:
            self._transfers.to_host(self._address_of(argument), array)

    def set_limit(self, nbytes: int | None) -> None:
        self.resident.set_limit(self._limit if nbytes is None else nbytes)

    def download(self, address: int, nbytes: int, stream: int | None) -> np.ndarray:
        self._chip.use()
        if stream is not None:
            self._chip.finish(stream)
        reached = self._chip.host_address(address)
        pages = self.info.integrated and self.info.concurrent_managed_access  # else they move, or may not be touched
        if reached is not None and (pages or not self._chip.managed(address)):
            return memory.steady(np.ctypeslib.as_array((ctypes.c_uint8 * nbytes).from_address(reached)))
        host = memory.allocate(nbytes)
        self._transfers.to_host(address, host)
        return host

    def foreign(self, address: int, count: int, dtype: Any, owner: object) -> Any:
        return self._argument(address, count, np.dtype(dtype), owner)

    def adopt(self, array: np.ndarray, argument: Any) -> None:
        self.resident.adopt(array, argument, self._address_of(argument))

    def drop(self, array: np.ndarray) -> None:
        self.resident.drop(array)

    def address(self, argument: Any) -> int:
        return self._address_of(argument)

    def synchronise(self) -> None:
        self._chip.use()
        held, self._work.held = self._work.held, []
        self._chip.finish(self._stream)  # copies are ordered with it
        del held

    def launch_shape(self, rows: int) -> tuple[int, int]:
        most = self.info.multiprocessors * max(self.info.threads_per_multiprocessor // THREADS, 1)
        return max(1, min(math.ceil(rows / THREADS), most)), THREADS

    def trim(self) -> None:
        self.synchronise()
        self.resident.clear()
        memory.trim()

    def _described(self, argument: Any) -> tuple[int, int, np.dtype[Any]]:
        return self._address_of(argument), argument.size, np.dtype(argument.dtype)

    def _upload(self, array: np.ndarray, target: memory.DeviceBlock) -> None:
        if array.nbytes:
            self._transfers.to_device(array, target.address, fresh=target.fresh)


@functools.cache
def open_device() -> Device:
    """The device of this process. Creates its context when first called; refused where there is none."""
    info = device.probe()
    if info is None:
        raise NotSupportedError(f"There is no GPU: {cuda.available()[1]}", hint="SET device = 'auto' or 'cpu'.")
    if info.simulated:
        return Device(info)
    found, reason = driver.load()
    assert found is not None, reason
    return CudaDevice(info, found)
