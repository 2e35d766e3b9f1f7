"""Decoded units of labels, weights or groups that stay in memory between reads."""

import threading
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from dsoftmax.data.buffer import Buffer

Read = Callable[[int, int, Buffer | None], NDArray]
CACHED_UNITS, CACHED_BYTES = 4, 8 * 2**20
"""Most units of an array that stay decoded, and most bytes of them. One unit always stays."""


class Units:
    """A few decoded units of an array. A unit is a run of rows that must be decoded together.

    Neighbouring blocks of X read the two ends of one unit if the units are cut otherwise than X.
    The unit is then decoded by one thread, while others that need it wait.

    Parameters
    ----------
    n_bytes : int
        Bytes of a unit, decoded.
    shared : bool
        Whether blocks may share units at all; if not, one unit is enough.
    """

    def __init__(self, n_bytes: int, shared: bool) -> None:
        fit = min(CACHED_BYTES // max(n_bytes, 1), CACHED_UNITS) if shared else 0
        self._units = [_Unit() for _ in range(max(fit, 1))]
        self._n_bytes = n_bytes

    def __len__(self) -> int:
        return len(self._units)

    def rows(
        self,
        number: int,
        start: int,
        stop: int,
        decode: Callable[[Buffer | None], NDArray],
        reuse: bool,
    ) -> NDArray:
        """Return a copy of rows ``start:stop`` of a unit.

        Parameters
        ----------
        number : int
            Number of the unit in the array.
        start, stop : int
            Rows, counted from the unit's first.
        decode : callable
            Returns the unit's values, in the given buffer if there is one.
        reuse : bool
            Whether values can be decoded into a buffer.
        """
        unit = self._units[number % len(self._units)]
        with unit.lock:
            if unit.number != number or unit.values is None:
                unit.values = None
                if unit.buffer is None and reuse:
                    unit.buffer = np.empty(self._n_bytes, np.uint8)
                unit.values, unit.number = decode(unit.buffer), number
            return unit.values[start:stop].copy()


def read_span(
    units: Units,
    unit_rows: int,
    span: tuple[int, int, int],
    read: Read,
    decode: Read,
    out: NDArray | None = None,
) -> NDArray:
    """Return a span of rows. Neighbouring blocks ask for its two end units too, if it cuts them.

    Parameters
    ----------
    units : Units
        The array's decoded units.
    unit_rows : int
        Rows of a unit.
    span : (start, stop, n)
        Rows, and the number of rows of the array.
    read : callable
        From two row numbers and a buffer, or None, to the rows between them.
    decode : callable
        As ``read``, for a unit that stays in memory.
    out : (stop - start,) ndarray, optional
        Memory for the rows. None if they cannot be read into memory.
    """
    start, stop, end = span
    first, last = -(-start // unit_rows) * unit_rows, stop
    if stop < end:
        last = stop // unit_rows * unit_rows
    if (first, last) == (start, stop):
        return read(start, stop, _bytes(out))

    def in_unit(number: int, start: int, stop: int) -> NDArray:
        low, high = number * unit_rows, min((number + 1) * unit_rows, end)
        return units.rows(
            number,
            start - low,
            stop - low,
            lambda buffer: decode(low, high, buffer),
            reuse=out is not None,
        )

    if first > last:
        return in_unit(start // unit_rows, start, stop)
    if out is None:
        parts = [in_unit(start // unit_rows, start, first)] if start < first else []
        parts += [read(first, last, None)] if first < last else []
        parts += [in_unit(stop // unit_rows, last, stop)] if last < stop else []
        return parts[0] if len(parts) == 1 else np.concatenate(parts)
    if start < first:
        out[: first - start] = in_unit(start // unit_rows, start, first)
    if first < last:
        inner = out[first - start : last - start]
        found = read(first, last, _bytes(inner))
        if not np.may_share_memory(found, inner):
            inner[...] = found
    if last < stop:
        out[last - start :] = in_unit(stop // unit_rows, last, stop)
    return out


def _bytes(values: NDArray | None) -> Buffer | None:
    return None if values is None else values.view(np.uint8)


class _Unit:
    """One cached unit, and later another one in the same buffer.

    Only the holder of the lock reads or changes it.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.number = -1
        self.values: NDArray | None = None
        self.buffer: Buffer | None = None
