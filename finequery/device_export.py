"""A result as Arrow's device arrays: the columns where a GPU's kernels reach them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from finequery.jetson import arrow_device, dlpack, memory
from finequery.jetson.arrow_device import Node

if TYPE_CHECKING:
    import pyarrow

    from finequery.operators.column import ColumnData, Frame


class DeviceResult:
    """Columns of a frame on a device, as one record batch."""

    def __init__(self, device: Any, frame: Frame, ids: Sequence[int], names: Sequence[str]) -> None:
        import pyarrow

        self._device = device
        self._owners: list[Any] = [device]
        self.device_type = dlpack.CUDA_HOST if device.info.integrated else dlpack.CUDA
        with device.query(memory.Account(shared=memory.kind_for("column"))):
            parts = [self._column(frame.columns[i]) for i in ids]
        self.schema = pyarrow.schema([pyarrow.field(name, kind) for name, (kind, _) in zip(names, parts)])
        self.node = Node(frame.length, 0, [0], [node for _, node in parts])

    def array(self) -> tuple[object, object]:
        """Capsules of the schema and of the record batch."""
        return self.schema.__arrow_c_schema__(), arrow_device.array(self.node, self.device_type, self._owners)

    def stream(self) -> object:
        """A capsule of a stream of one record batch."""
        return arrow_device.stream(self.schema._export_to_c, self.node, self.device_type, self._owners)

    def _column(self, column: ColumnData) -> tuple[pyarrow.DataType, Node]:
        from finequery.operators.arrow_types import to_arrow
        from finequery.operators.cuda.decode import KINDS, plain
        from finequery.operators.export import column_to_arrow

        kind = to_arrow(column.type)
        nulls = column.stats.nulls if column.validity is not None else 0
        if column.kind in KINDS and column.type.name != "BOOLEAN" and not column.type.is_decimal and _word(kind):
            valid = 0 if column.validity is None else self._keep(self._device.view(column.validity))
            dtype = column.data.dtype if column.type.is_float else f"{_sign(kind)}{kind.bit_width // 8}"
            return kind, Node(column.length, nulls, [valid, self._keep(plain(self._device, column, dtype))])
        array = column_to_arrow(column, dictionary=True)
        return array.type, self._node(array, column)

    def _node(self, array: pyarrow.Array, column: ColumnData | None = None) -> Node:
        """An Arrow array of the host. Its buffers go to the device, unless they are the column's own and there."""
        import pyarrow

        own = [] if column is None else [column.data, column.validity, column.chars]
        known = {memory.address(part): part for part in own if part is not None}
        buffers = []
        codes = array.indices if isinstance(array, pyarrow.DictionaryArray) else array
        for buffer in codes.buffers():
            if buffer is None or not buffer.size:
                buffers.append(0 if buffer is None else self._keep(self._device.empty(8, np.uint8)))
                continue
            host = known.get(buffer.address)
            host = memory.placed(np.frombuffer(buffer, np.uint8)) if host is None else host.view(np.uint8)
            buffers.append(self._keep(self._device.view(host), host))
        words = self._node(array.dictionary) if isinstance(array, pyarrow.DictionaryArray) else None
        return Node(len(array), array.null_count, buffers, (), words)

    def _keep(self, argument: Any, host: Any = None) -> int:
        self._owners.append((argument, host))
        return int(self._device.address(argument))


def _word(kind: pyarrow.DataType) -> bool:
    """Whether Arrow holds the values as words of 8 to 64 bits."""
    import pyarrow.types as types

    tests = (types.is_integer, types.is_floating, types.is_date32, types.is_timestamp)
    return any(test(kind) for test in tests)


def _sign(kind: pyarrow.DataType) -> str:
    import pyarrow.types as types

    return "u" if types.is_unsigned_integer(kind) else "i"
