"""Chunks that cannot be read are tried again: remote storage fails now and then."""

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from numpy.typing import NDArray

from dsoftmax.data.block import Block, Encoded, slices_of
from dsoftmax.data.features import Features
from dsoftmax.data.retries import counting_retries
from dsoftmax.errors import AccessError, ReadError
from dsoftmax.sums.work import Meter

LOADS = 3
"""Number of times that a chunk is tried."""
PAUSE = 0.1
"""Time before the second try, in seconds. Each further pause is four times as long."""


class Retries:
    """The retries of one pass. Thread-safe.

    Parameters
    ----------
    meter : Meter
        Counts them.
    stopped : Event
        Set when the pass has ended: nothing is tried again.
    """

    def __init__(self, meter: Meter, stopped: threading.Event) -> None:
        self.meter, self.stopped = meter, stopped

    def load(self, load: Callable[..., Block], *args: Any) -> Block:
        """Return the block that ``load`` returns, after at most `LOADS` tries.

        Raises
        ------
        ReadError
            The last try failed, or remote storage forbids the read.
        """
        for attempt in itertools.count(1):
            try:
                with counting_retries(self.meter.retry):
                    return load(*args)
            except AccessError:  # the requests were repeated already
                raise
            except ReadError as error:
                self.pause(attempt, error)
        raise AssertionError("unreachable")

    def pause(self, attempt: int, error: ReadError) -> None:
        """Wait before the next try, or raise the error if ``attempt`` was the last one."""
        if attempt == LOADS or self.stopped.is_set():
            raise error
        self.meter.retry()
        time.sleep(PAUSE * 4 ** (attempt - 1))


class RetriedRows(Encoded):
    """Encoded rows whose block is fetched again if they cannot be decoded.

    Parameters
    ----------
    rows : Encoded
    again : callable
        Fetches the block.
    retries : Retries
    """

    def __init__(self, rows: Encoded, again: Callable[[], Block], retries: Retries) -> None:
        self.shape, self.dtype = rows.shape, rows.dtype
        self._rows, self._again, self._retries = rows, again, retries

    def slices(self, n_rows: int) -> Iterator[NDArray]:
        rows: Features | Encoded = self._rows
        done = 0
        for attempt in itertools.count(1):
            try:
                for number, part in enumerate(slices_of(rows, n_rows)):
                    if number == done:  # the parts before were visited already
                        yield part
                        done += 1
                return
            except ReadError as error:
                self._retries.pause(attempt, error)
            rows = self._again().X
