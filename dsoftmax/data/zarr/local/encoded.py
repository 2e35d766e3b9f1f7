"""Rows that were read encoded and are decoded by slices, each used while it is in the cache."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dsoftmax.data.block import Encoded
from dsoftmax.data.zarr.local.codecs import Decoder
from dsoftmax.data.zarr.local.scratch import Scratch

Damaged = Callable[[str, tuple[int, int], Exception], Exception]
"""Returns the error for a file that cannot be decoded: from its key, the rows, and the cause."""


@dataclass(frozen=True)
class Stored:
    """Encoded rows of a file.

    Attributes
    ----------
    decoder : Decoder
        Decoder of a chunk of whole rows, or of the requested rows with their Blosc blocks.
    key : str
        Key of the file.
    rows : tuple of int
        First requested row of the file, and the row after the last.
    skipped : int
        Decoded bytes before the first requested row; 0 in all but the first of a sequence.
    """

    decoder: Decoder
    key: str
    rows: tuple[int, int]
    skipped: int = 0


@dataclass(frozen=True)
class EncodedRows(Encoded):
    """Rows of one or more files.

    Attributes
    ----------
    shape : tuple of int
    dtype : numpy dtype
    stored : sequence of Stored
        Chunks that hold the rows, one after the other, at least one; the last may hold more.
    scratch : Scratch
    damaged : Damaged, optional
        Errors of decoders are raised unchanged without it.
    """

    shape: tuple[int, int]
    dtype: np.dtype
    stored: Sequence[Stored]
    scratch: Scratch
    damaged: Damaged | None = None

    @property
    def row_bytes(self) -> int:
        return self.shape[1] * self.dtype.itemsize

    def slices(self, n_rows: int) -> Iterator[NDArray]:
        """Yield ``n_rows`` rows at a time.

        A slice is valid until the same thread asks for the next one.

        Raises
        ------
        Exception
            The result of ``damaged``.

        Notes
        -----
        All parts are decoded into the same scratch memory. The rest of a part belongs
        to the next slice and is moved to the front::

            parts    |   0   |   1   |   2   |   3   |   4   |
            slices   |     0     |     1     |     2     | 3 |
        """
        step, skipped = n_rows * self.row_bytes, self.stored[0].skipped
        whole = sum(one.decoder.n_bytes for one in self.stored)
        longest = max(one.decoder.step for one in self.stored)
        scratch = self.scratch.get("slices", min(whole, skipped + step + longest))
        chunk = at = 0  # the place of the next part
        begin = end = 0  # the decoded bytes that were not yielded
        for done in range(0, self.nbytes, step):
            size = min(step, self.nbytes - done)
            if end - begin < size:
                scratch[: end - begin] = scratch[begin:end]
                begin, end = 0 if done else skipped, end - begin
            while end - begin < size:
                parts = self.stored[chunk].decoder
                more = min(-(-(size + begin - end) // parts.step) * parts.step, parts.n_bytes - at)
                self._decode(self.stored[chunk], at, scratch[end : end + more])
                at, end = at + more, end + more
                if at == parts.n_bytes:
                    chunk, at = chunk + 1, 0
            yield scratch[begin : begin + size].view(self.dtype).reshape(-1, self.shape[1])
            begin += size

    def _decode(self, stored: Stored, start: int, target: NDArray[np.uint8]) -> None:
        try:
            stored.decoder.decode(start, target)
        except Exception as error:
            if self.damaged is None:
                raise
            raise self.damaged(stored.key, stored.rows, error) from error
