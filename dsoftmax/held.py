"""Rows that a model does not learn from: folds of a cross-validation, or a part held out to stop early.

A row is held out by a hash of its number, so that every engine, and every run, holds out the same ones; neighbours, which are
often alike, fall into different folds.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dsoftmax.blocks import Block
from dsoftmax.sample import uniform

SALT = 0x5DEECE66D
"""Makes the hash another one than that of the sample."""


@dataclass(frozen=True)
class Held:
    """The rows whose hash lies in [low, high).

    Attributes
    ----------
    low, high : float
        0 … 1.
    """

    low: float
    high: float

    def mask(self, numbers: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return which rows are held out, by their numbers in the whole data set, (rows,)."""
        place = uniform(numbers, SALT)
        return (place >= self.low) & (place < self.high)


def folds(n: int) -> tuple[Held, ...]:
    """Return what each of n folds holds out: every row is in one of them."""
    return tuple(Held(i / n, (i + 1) / n) for i in range(n))


def numbers_of(block: Block) -> NDArray[np.int64]:
    """Return the numbers of the rows of a block in the whole data set."""
    return block.first_row + np.arange(block.n_rows, dtype=np.int64)


def held_by(helds: Sequence[Held], numbers: NDArray[np.int64]) -> NDArray[np.intp]:
    """Return which of some disjoint parts holds each row, len(helds) where none does."""
    found = np.full(len(numbers), len(helds), np.intp)
    for i, held in enumerate(helds):
        found[held.mask(numbers)] = i
    return found
