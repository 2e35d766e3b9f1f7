"""Scratch memory of threads that read and decode."""

import threading

import numpy as np
from numpy.typing import NDArray


class Scratch:
    """Named scratch memory of each thread.

    It is reused, because fresh pages cost more than decoding into used ones.
    """

    def __init__(self) -> None:
        self._own = threading.local()

    def get(self, name: str, n_bytes: int) -> NDArray[np.uint8]:
        """Return ``n_bytes`` of this thread's memory of that name, with undefined content."""
        found: NDArray[np.uint8] | None = vars(self._own).get(name)
        if found is None or found.nbytes < n_bytes:
            found = vars(self._own)[name] = np.empty(n_bytes, np.uint8)
        return found[:n_bytes]

    def release(self) -> None:
        """Free this thread's memory."""
        vars(self._own).clear()
