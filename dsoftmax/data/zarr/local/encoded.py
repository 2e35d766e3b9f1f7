"""Rows that were read and are decoded a piece at a time: each piece is worked on while it is in the cache."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dsoftmax.data.block import Encoded
from dsoftmax.data.zarr.local.codecs import Parts

Room = Callable[[str, int], NDArray[np.uint8]]
"""Returns scratch memory of this thread by its name and bytes."""
Damaged = Callable[[str, tuple[int, int], Exception], Exception]
"""Returns what to raise for a file that cannot be decoded, by its key, the rows that were wanted of it, and the error."""


@dataclass(frozen=True)
class Stored:
    """Encoded rows of a file.

    Attributes
    ----------
    parts : Parts
        A chunk of whole rows, or of those that were wanted with what cannot be decoded without them.
    key : str
        Of the file.
    rows : tuple of int
        Wanted of the file.
    skipped : int
        Bytes before the rows; only before the first of all.
    """

    parts: Parts
    key: str
    rows: tuple[int, int]
    skipped: int = 0


@dataclass(frozen=True)
class EncodedRows(Encoded):
    """See `dsoftmax.data.block.Encoded`.

    Attributes
    ----------
    shape : tuple of int
    dtype : numpy dtype
    stored : sequence of Stored
        Chunks that hold the rows, one after the other, at least one; the last may hold more.
    room : Room
    damaged : Damaged, optional
        Without it, errors are raised as they are.
    """

    shape: tuple[int, int]
    dtype: np.dtype
    stored: Sequence[Stored]
    room: Room
    damaged: Damaged | None = None

    @property
    def row_bytes(self) -> int:
        return self.shape[1] * self.dtype.itemsize

    def pieces(self, n_rows: int) -> Iterator[NDArray]:
        """Yield so many rows at a time; each piece is good until the next is asked for, by the same thread.

        Raises
        ------
        Exception
            What ``damaged`` returns.

        Notes
        -----
        Parts are decoded one after the other into the same memory; what is left of one belongs to the next piece and is moved to the
        front::

            parts    |   0   |   1   |   2   |   3   |   4   |
            pieces   |     0     |     1     |     2     | 3 |
        """
        step, skipped = n_rows * self.row_bytes, self.stored[0].skipped
        whole = sum(one.parts.n_bytes for one in self.stored)
        room = self.room(
            "pieces", min(whole, skipped + step + max(one.parts.step for one in self.stored))
        )
        chunk = at = begin = end = (
            0  # the place of the next part; what is decoded and was not yielded
        )
        for done in range(0, self.nbytes, step):
            size = min(step, self.nbytes - done)
            if end - begin < size:
                room[: end - begin] = room[begin:end]
                begin, end = 0 if done else skipped, end - begin
            while end - begin < size:
                parts = self.stored[chunk].parts
                more = min(-(-(size + begin - end) // parts.step) * parts.step, parts.n_bytes - at)
                self._decode(self.stored[chunk], at, room[end : end + more])
                at, end = at + more, end + more
                if at == parts.n_bytes:
                    chunk, at = chunk + 1, 0
            yield room[begin : begin + size].view(self.dtype).reshape(-1, self.shape[1])
            begin += size

    def _decode(self, stored: Stored, start: int, target: NDArray[np.uint8]) -> None:
        try:
            stored.parts.decode(start, target)
        except Exception as error:
            if self.damaged is None:
                raise
            raise self.damaged(stored.key, stored.rows, error) from error
