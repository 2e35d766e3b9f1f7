"""Decoded pieces that several readers need, because chunks of the source begin or end inside them.

A piece is decoded by one thread, while others that need it wait. It stays until all of them have
it. So threads that read neighbouring chunks decode each piece once.
"""

import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

Table = Any
"""A ``pyarrow.Table``."""


class Decoded:
    """A few decoded pieces; thread-safe.

    Parameters
    ----------
    most : int
        Pieces that stay decoded, or are being decoded, at the same time.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._changed = threading.Condition()
        self._tables: dict[int, Table | None] = {}  # None while it is decoded
        self._wanted: Counter[int] = Counter()

    def table(self, piece: int, decode: Callable[[int], Table]) -> Table:
        """Return a piece, decoded by this thread unless it is there already."""
        with self._changed:
            self._wanted[piece] += 1
        try:
            found = self._found(piece)
            if found is None:
                found = self._decoded(piece, decode)
            return found
        finally:
            with self._changed:
                self._wanted[piece] -= 1
                self._changed.notify_all()

    def _found(self, piece: int) -> Table | None:
        """Return the piece once it is decoded; None if this thread must decode it."""
        with self._changed:
            while True:
                if piece in self._tables:
                    if (found := self._tables[piece]) is not None:
                        return found
                elif self._make_room():
                    self._tables[piece] = None
                    return None
                self._changed.wait()

    def _make_room(self) -> bool:
        """Evict a piece that nobody waits for if there are too many; return whether one fits."""
        if len(self._tables) < self._most:
            return True
        for piece, found in self._tables.items():
            if found is not None and not self._wanted[piece]:
                del self._tables[piece]
                return True
        return False

    def _decoded(self, piece: int, decode: Callable[[int], Table]) -> Table:
        try:
            found = decode(piece)
        except BaseException:
            with self._changed:
                del self._tables[piece]
            raise
        with self._changed:
            self._tables[piece] = found
            self._changed.notify_all()
        return found
