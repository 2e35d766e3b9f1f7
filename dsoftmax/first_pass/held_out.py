"""Rows that a model does not learn from: folds of a cross-validation, or a part held out to stop early.

A row is held out by a hash of its number, so that every engine, and every run, holds out the same ones; neighbours, which are
often alike, fall into different folds. Where the rows have groups, it is a hash of the group: no group is in two folds. Rows of
a validation source (`dsoftmax.data.validation`) are held out too, and no others with them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dsoftmax.data.block import Block

Float = NDArray[np.float64]

SALT = 0x5DEECE66D
"""Makes the hash another one than that of the sample."""
MARKS = 4096
"""Places that are told apart where groups are counted."""


@dataclass(frozen=True)
class Held:
    """The rows whose place lies in [low, high).

    Attributes
    ----------
    low, high : float
        0 … 1; 1 … 2 for the rows of a validation source.
    """

    low: float
    high: float

    def mask(self, where: Float) -> NDArray[np.bool_]:
        """Return which rows are held out, by their `places`, (rows,)."""
        return (where >= self.low) & (where < self.high)


VALIDATION = Held(1.0, 2.0)
"""The rows of a validation source."""


def folds(n: int) -> tuple[Held, ...]:
    """Return what each of n folds holds out: every row is in one of them."""
    return tuple(Held(i / n, (i + 1) / n) for i in range(n))


def places(block: Block) -> Float:
    """Return the place of each row in [0, 1), (rows,): a hash of its group, or of its number where it has none.

    The place of a row of a validation source is 1.
    """
    if block.validation:
        return np.ones(block.n_rows)
    return uniform(
        block.first_row + np.arange(block.n_rows) if block.groups is None else block.groups, SALT
    )


def uniform(numbers: NDArray[np.integer], salt: int = 0) -> Float:
    """Return a hash of each number, uniform on [0, 1): SplitMix64 (Steele, Lea and Flood 2014)."""
    with np.errstate(over="ignore"):
        z = (numbers.astype(np.uint64) + np.uint64(1 + salt)) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    return (z >> np.uint64(11)).astype(np.float64) * 2.0**-53


def held_by(helds: Sequence[Held], where: Float) -> NDArray[np.intp]:
    """Return which of some disjoint parts holds each place, len(helds) where none does."""
    found = np.full(len(where), len(helds), np.intp)
    for i, held in enumerate(helds):
        found[held.mask(where)] = i
    return found


def marks(where: Float) -> Float:
    """Return the highest place found in each of `MARKS` equal steps, -1 where there is none: tells groups apart while few."""
    found = np.full(MARKS, -1.0)
    np.maximum.at(found, (where * MARKS).astype(np.intp), where)
    return found
