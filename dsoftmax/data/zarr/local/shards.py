"""The index of a shard: offsets and lengths of its inner chunks."""

from dataclasses import dataclass
from typing import BinaryIO

import google_crc32c
import numpy as np
import zarr
from numpy.typing import NDArray

from dsoftmax.compat.zarr import sharding_of
from dsoftmax.data.zarr.local.codecs import is_little_endian
from dsoftmax.system.spans import read_into

NOWHERE = 2**64 - 1
"""Offset and length, in the index, of an inner chunk that was not written."""
CHECKSUM_BYTES = 4
"""Bytes of a CRC-32C."""


@dataclass(frozen=True)
class ShardIndex:
    """Place and form of the index of a shard.

    Attributes
    ----------
    grid : tuple of int
        Inner chunks of a shard, along rows and columns.
    at_end : bool
        Whether the index is at the end of the file, else at its beginning.
    checked : bool
        Whether a CRC-32C follows the index.

    References
    ----------
    Zarr's specification of the codec ``sharding_indexed``, version 1.0.
    """

    grid: tuple[int, int]
    at_end: bool
    checked: bool

    @property
    def nbytes(self) -> int:
        return 16 * self.grid[0] * self.grid[1] + CHECKSUM_BYTES * self.checked

    def read(self, file: BinaryIO, size: int) -> NDArray[np.uint64]:
        """Return offset and length (bytes) of each inner chunk, (rows, columns, 2).

        Both are `NOWHERE` for a chunk that was not written.

        Parameters
        ----------
        file : unbuffered file
            Its position is moved.
        size : int
            Bytes of the file.

        Raises
        ------
        ValueError
            The file is shorter than its index, the checksum is wrong, or a chunk would lie outside
            the file.
        """
        if size < self.nbytes:
            raise ValueError(f"the file has {size:,} bytes; expected an index of {self.nbytes:,}")
        stored = bytearray(self.nbytes)
        file.seek(size - self.nbytes if self.at_end else 0)
        read_into(file, memoryview(stored))
        if self.checked:
            found = google_crc32c.value(bytes(stored[:-CHECKSUM_BYTES]))
            if found.to_bytes(CHECKSUM_BYTES, "little") != bytes(stored[-CHECKSUM_BYTES:]):
                raise ValueError("the checksum of the shard's index is wrong")
        entries = np.frombuffer(stored, "<u8", count=2 * self.grid[0] * self.grid[1])
        index = entries.reshape(*self.grid, 2)
        self._require_inside(index, size)
        return index

    def _require_inside(self, index: NDArray[np.uint64], size: int) -> None:
        present = (index != NOWHERE).any(axis=2)
        offsets, lengths = index[..., 0], index[..., 1]
        inside = (offsets <= size) & (lengths <= size - np.minimum(offsets, size))
        if not inside[present].all():
            row, column = np.argwhere(present & ~inside)[0]
            end = int(offsets[row, column]) + int(lengths[row, column])
            raise ValueError(
                f"the inner chunk ({row}, {column}) would end after byte {end:,} of a file of "
                f"{size:,}"
            )


def shard_index(array: zarr.Array) -> ShardIndex | None:
    """Return the form of the index of an array's shards; None if only Zarr can read them."""
    sharding = sharding_of(array)
    if sharding is None or len(array.shards) > 2:
        return None
    if not is_little_endian(sharding.serializer) or sharding.checks not in ((), ("crc32c",)):
        return None
    grid = [shard // chunk for shard, chunk in zip(array.shards, array.chunks, strict=True)]
    columns = grid[1] if len(grid) == 2 else 1
    return ShardIndex((grid[0], columns), sharding.at_end, bool(sharding.checks))
