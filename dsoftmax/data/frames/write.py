"""Predictions as one Parquet file."""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

MARK = b"dsoftmax_classes"
"""Key of the file's metadata that names the classes."""


class OrderedWriter:
    """A Parquet file whose rows arrive in blocks, in any order. A block is a row group.

    Blocks wait in memory until those before them are written.

    Parameters
    ----------
    file : binary file
    dtypes : mapping
        NumPy dtype of each column; object for strings.
    classes : sequence
        Classes of the model in JSON types, for the metadata of the file.
    """

    def __init__(
        self, file: BinaryIO, dtypes: Mapping[str, np.dtype], classes: Sequence[Any]
    ) -> None:
        fields = [
            (name, pa.string() if dtype.kind in "OU" else pa.from_numpy_dtype(dtype))
            for name, dtype in dtypes.items()
        ]
        self.schema = pa.schema(fields, {MARK: json.dumps(list(classes)).encode()})
        self._writer = pq.ParquetWriter(file, self.schema)
        self._waiting: dict[int, Any] = {}
        self._next = 0

    def add(self, first_row: int, columns: Mapping[str, NDArray]) -> None:
        """Write rows, or keep them until those before them are there. Masked entries are null."""
        arrays = [
            pa.array(
                np.ma.getdata(values),
                field.type,
                mask=np.ma.getmaskarray(values) if np.ma.isMaskedArray(values) else None,
                from_pandas=False,
            )
            for field, values in zip(self.schema, columns.values(), strict=True)
        ]
        self._waiting[first_row] = pa.Table.from_arrays(arrays, schema=self.schema)
        while (table := self._waiting.pop(self._next, None)) is not None:
            self._writer.write_table(table, row_group_size=max(table.num_rows, 1))
            self._next += table.num_rows

    def close(self) -> None:
        """Write the footer."""
        self._writer.close()

    def abandon(self) -> None:
        """Release the file after an error. What was written is no whole file."""
        with suppress(Exception):
            self._writer.close()


def holds_predictions(path: Path) -> bool:
    """Return whether a file is Parquet that an `OrderedWriter` wrote."""
    try:
        return MARK in (pq.read_schema(path).metadata or {})
    except (OSError, pa.ArrowException):
        return False
