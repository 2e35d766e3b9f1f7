"""Rows that are held out: the folds of a cross-validation, or the validation set of early stopping.

A hash of its number holds a row out. Every engine and every run therefore hold out the same rows.
Neighbouring rows, which are often alike, fall into different folds. If the rows have groups, the
hash is that of the group, and no group is in two folds. A column may also name the fold of each
row. The rows of a validation source (`dsoftmax.data.validation`) are held out too, and no others
with them.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dsoftmax.data.block import Block
from dsoftmax.errors import DataError

Float = NDArray[np.float64]

SALT = 0x5DEECE66D
"""Offset that makes this hash differ from that of the sample."""
NO_FOLD = np.uint64(2**64 - 1)
"""The number -1 as a group: a row that no given fold holds out."""
MARKS = 4096
"""Places that are distinguished when groups are counted."""


@dataclass(frozen=True)
class HeldOut:
    """The rows whose place lies in [low, high).

    Attributes
    ----------
    low, high : float
        Between 0 and 1; between 1 and 2 for the rows of a validation source.
    given : int
        Number of folds if the groups of the rows are the numbers of their folds; 0 if places are
        hashes.
    """

    low: float
    high: float
    given: int = 0

    def mask(self, where: Float) -> NDArray[np.bool_]:
        """Return whether each row is held out, (rows,), from the rows' `places`."""
        return (where >= self.low) & (where < self.high)


VALIDATION = HeldOut(1.0, 2.0)
"""The rows of a validation source."""


def folds(n: int, given: bool = False) -> tuple[HeldOut, ...]:
    """Return the rows that each of n folds holds out.

    Every row is in one fold. If the folds are given, the last of n + 1 equal steps is left for the
    rows that no fold holds out.
    """
    if given:
        return tuple(HeldOut(i / (n + 1), (i + 1) / (n + 1), n) for i in range(n))
    return tuple(HeldOut(i / n, (i + 1) / n) for i in range(n))


def places(block: Block, held_out: Iterable[HeldOut] = ()) -> Float:
    """Return the place of each row in [0, 1), (rows,).

    It is a hash of the row's group, or of its number if it has no group. If ``held_out`` are given
    folds, it is the middle of the fold that the row's group names.

    The place of a row of a validation source is 1.

    Raises
    ------
    DataError
        The group of a row names no fold.
    """
    if block.validation:
        return np.ones(block.n_rows)
    groups, given = block.groups, max((one.given for one in held_out), default=0)
    if given and groups is not None:
        _require_folds(block, groups, given)
        return (np.minimum(groups, np.uint64(given)).astype(np.float64) + 0.5) / (given + 1)
    return uniform(block.row_numbers if groups is None else groups, SALT)


def _require_folds(block: Block, groups: NDArray[np.uint64], n: int) -> None:
    wrong = (groups >= n) & (groups != NO_FOLD)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise DataError(
            f"{block.names.groups} row {block.origin + row:,}: the fold is "
            f"{groups[row].astype(np.int64)}; expected whole numbers from 0 to {n - 1}, or -1 for "
            "a row that no fold holds out. Pass the number of folds as cv (--folds), and such "
            "numbers."
        )


def uniform(numbers: NDArray[np.integer], salt: int = 0) -> Float:
    """Return a hash of each number, uniform on [0, 1): SplitMix64 (Steele, Lea and Flood 2014)."""
    with np.errstate(over="ignore"):
        z = (numbers.astype(np.uint64) + np.uint64(1 + salt)) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    return (z >> np.uint64(11)).astype(np.float64) * 2.0**-53


def fold_of(held_out: Sequence[HeldOut], where: Float) -> NDArray[np.intp]:
    """Return the number of the set that holds each place out; ``len(held_out)`` if none does."""
    found = np.full(len(where), len(held_out), np.intp)
    for i, one in enumerate(held_out):
        found[one.mask(where)] = i
    return found


def marks(where: Float) -> Float:
    """Return the highest place in each of `MARKS` equal steps of [0, 1), -1 in empty steps.

    The marks distinguish groups as long as groups are few.
    """
    found = np.full(MARKS, -1.0)
    np.maximum.at(found, (where * MARKS).astype(np.intp), where)
    return found
