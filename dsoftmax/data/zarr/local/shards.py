"""The index of a shard: where in the file each of its inner chunks lies."""

from dataclasses import dataclass
from typing import Any, BinaryIO

import google_crc32c  # Zarr's own dependency
import numpy as np
from numpy.typing import NDArray

from dsoftmax.data.zarr.local.codecs import is_little_endian
from dsoftmax.system.spans import read_into

NOWHERE = 2**64 - 1
"""Offset and length of an inner chunk that was not written."""
CHECKSUM_BYTES = 4


@dataclass(frozen=True)
class ShardIndex:
    """Where the index lies and how it is kept.

    Attributes
    ----------
    grid : tuple of int
        Inner chunks of a shard, along rows and columns.
    at_end : bool
        Whether it is the last of the file, else the first.
    checked : bool
        Whether a CRC-32C follows it.

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
        """Return offset and length (bytes) of each inner chunk, (rows, columns, 2); `NOWHERE` where there is none.

        Parameters
        ----------
        file : unbuffered file
            Its position is moved.
        size : int
            Bytes of the file.

        Raises
        ------
        ValueError
            The file is shorter than its index, the checksum is wrong, or a chunk would lie outside the file.
        """
        if size < self.nbytes:
            raise ValueError(
                f"the file holds {size:,} bytes; its index alone takes {self.nbytes:,}"
            )
        stored = bytearray(self.nbytes)
        file.seek(size - self.nbytes if self.at_end else 0)
        read_into(file, memoryview(stored))
        if self.checked:
            found, needed = (
                google_crc32c.value(bytes(stored[:-CHECKSUM_BYTES])),
                stored[-CHECKSUM_BYTES:],
            )
            if found.to_bytes(CHECKSUM_BYTES, "little") != bytes(needed):
                raise ValueError("the checksum of the shard's index is wrong")
        index = np.frombuffer(stored, "<u8", count=2 * self.grid[0] * self.grid[1]).reshape(
            *self.grid, 2
        )
        present = (index != NOWHERE).any(axis=2)
        offsets, lengths = index[..., 0], index[..., 1]
        inside = (offsets <= size) & (lengths <= size - np.minimum(offsets, size))
        if not inside[present].all():
            row, column = np.argwhere(present & ~inside)[0]
            raise ValueError(
                f"the inner chunk ({row}, {column}) would end after byte {int(offsets[row, column]) + int(lengths[row, column]):,}"
                f" of a file of {size:,}"
            )
        return index


def shard_index(array: Any) -> ShardIndex | None:
    """Return how the index of an array's shards is kept; None if the array is not sharded, or in a way that only Zarr knows."""
    codecs = array.metadata.codecs
    about = codecs[0].to_dict() if len(codecs) == 1 else {"name": ""}
    if about["name"] != "sharding_indexed" or len(array.shards) > 2:
        return None
    options = codecs[0]
    serializer, *checks = options.index_codecs
    names = [codec.to_dict()["name"] for codec in checks]
    if not is_little_endian(serializer) or names not in ([], ["crc32c"]):
        return None
    grid = [shard // chunk for shard, chunk in zip(array.shards, array.chunks, strict=True)]
    return ShardIndex(
        (grid[0], grid[1] if len(grid) == 2 else 1),
        options.index_location.value == "end",
        bool(names),
    )
