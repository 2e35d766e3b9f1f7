"""Labels as stored, classes as scikit-learn orders them, and the codes 0 … K−1 between them."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsoftmax.data.block import Block
from dsoftmax.errors import DataError

MAX_CLASSES = 50_000
"""More different labels than this are taken for something else, such as row numbers."""
TABLE_SPAN = 2**16
"""Integer classes within this span are encoded by a look-up table, others by bisection."""


def plain_labels(y: NDArray, name: str = "y", first_row: int = 0) -> NDArray:
    """Return labels as integers, booleans, whole floats or fixed-width strings.

    Raises
    ------
    DataError
        Labels that are missing, fractional, or of no kind that classes have.
    """
    kind = y.dtype.kind
    if kind in "iubUS":
        return y
    if kind == "f":
        bad = ~np.isfinite(y)
        if bad.any():
            row = int(np.argmax(bad))
            raise DataError(
                f"{name} row {first_row + row:,}: the label is {y[row]}. Input {name} contains NaN or infinity; needed is a "
                "class for every row. Leave such rows out, or give them a class of their own."
            )
        if np.any(y != np.floor(y)):
            row = int(np.argmax(y != np.floor(y)))
            raise DataError(
                f"{name} row {first_row + row:,}: the label is {y[row]}. Unknown label type: continuous. Needed are classes "
                "(integers, whole floats, booleans or strings); for real-valued targets use a regression."
            )
        return y
    if kind in "OT":  # Python objects, variable-width strings
        for row, label in enumerate(y):
            if label is None or label != label:
                raise DataError(
                    f"{name} row {first_row + row:,}: the label is {label}. Input {name} contains NaN or None; needed is a class "
                    "for every row."
                )
        if kind == "T" or all(isinstance(label, str) for label in y):
            return np.array(y.tolist(), dtype=str)
        plain = np.array(y.tolist())
        if plain.dtype.kind in "iubf" and plain.shape == y.shape:
            return plain_labels(plain, name, first_row)
    raise DataError(
        f"{name} has dtype {y.dtype}, Unknown label type: unknown. Needed are integers, whole floats, booleans or strings."
    )


def ordered_classes(found: Iterable[Any]) -> NDArray:
    """Return labels in the order of scikit-learn's ``classes_``: ascending.

    Raises
    ------
    DataError
        Fewer than two, or of kinds that have no order among them.
    """
    labels = list(found)
    kinds = sorted({type(label).__name__ for label in labels})
    if len(kinds) > 1 and {"str", "bytes"} & set(
        kinds
    ):  # NumPy would turn 1 into "1", which no row has
        raise DataError(
            f"The labels mix {', '.join(kinds)}; needed is one kind. Convert them with astype(str)."
        )
    array = np.array(labels)
    if (
        kinds == ["int"] and array.dtype.kind not in "iu"
    ):  # some beyond int64, which NumPy makes floats that are not equal to them
        if min(labels) < 0:
            raise DataError(
                f"The labels reach from {min(labels)} to {max(labels)}; no integer dtype holds both. Give the classes smaller numbers."
            )
        array = np.array(labels, np.uint64)
    classes = np.unique(array)
    if len(classes) < 2:
        shown = classes[0].item() if len(classes) else "none"
        raise DataError(
            f"This solver needs samples of at least 2 classes in the data, but the data contains only one class: {shown!r}. "
            "Check that the labels belong to these rows."
        )
    return classes


def given_classes(classes: NDArray) -> NDArray:
    """Return classes that were given in ascending order, in the dtype they were given in.

    Raises
    ------
    DataError
        Fewer than two.
    """
    ordered = ordered_classes(classes.tolist())
    return ordered.astype(classes.dtype) if classes.dtype.kind in "biuf" else ordered


def _largest(labels: NDArray, n: int) -> int:
    """Return the largest of some whole numbers, or one from ``n`` on if there are any below zero."""
    if n > np.iinfo(labels.dtype).max:
        return int(labels.max()) if int(labels.min()) >= 0 else n
    return int(
        labels.view(labels.dtype.str.replace("i", "u")).max()
    )  # unsigned, those below zero are the largest of all


def _above(labels: NDArray, low: int, high: int) -> NDArray[np.integer]:
    """Return labels between ``low`` and ``high`` less ``low``, without overflow."""
    wide = np.uint64 if high > np.iinfo(np.int64).max else np.int64
    return labels.astype(wide) - wide(low)


@dataclass(frozen=True)
class Encoder:
    """From labels to codes.

    Attributes
    ----------
    classes : (K,) ndarray
        Ascending.
    trained : bool
        Whether they are those of a model, so that no others can be given.
    """

    classes: NDArray
    trained: bool = False

    @cached_property
    def _table(self) -> tuple[int, NDArray[np.int32]] | None:
        if self.classes.dtype.kind not in "iu":
            return None
        low, high = int(self.classes[0]), int(self.classes[-1])
        if high - low >= TABLE_SPAN:
            return None
        table = np.full(high - low + 1, -1, np.int32)
        table[_above(self.classes, low, high)] = np.arange(len(self.classes))
        return low, table

    def codes(self, block: Block) -> NDArray[np.integer]:
        """Return the codes of a block's labels, (rows,) integers.

        Raises
        ------
        DataError
            A label that is not among the classes, with its row.
        """
        assert block.y is not None
        y = plain_labels(block.y, block.names.y, block.first_row)
        if len(y) == 0:
            return np.zeros(0, np.int64)
        if self._table is not None and y.dtype.kind in "iu":
            low, table = self._table
            if (
                low == 0
                and len(table) == len(self.classes)
                and _largest(y, len(table)) < len(table)
            ):
                return y  # the classes are 0 … K-1: labels are their own codes
            if int(y.min()) >= low and int(y.max()) < low + len(table):
                codes: NDArray[np.integer] = table[_above(y, low, low + len(table))]
                if codes.min() >= 0:
                    return codes
        if (y.dtype.kind in "US") != (self.classes.dtype.kind in "US"):
            self._unknown(block, y, 0)
        codes = np.minimum(np.searchsorted(self.classes, y), len(self.classes) - 1)
        wrong = self.classes[codes] != y
        if wrong.any():
            self._unknown(block, y, int(np.argmax(wrong)))
        return codes

    def _unknown(self, block: Block, y: NDArray, row: int) -> None:
        shown = [str(label) for label in self.classes[:8].tolist()] + (
            ["…"] if len(self.classes) > 8 else []
        )
        cure = "Pass classes that name every label, or leave them out to have them found in the first pass."
        if self.trained:
            cure = "The model knows these classes only: leave the others out, or train on rows of them too."
        if block.validation:
            cure = "Validation rows may only have classes that are trained: leave the others out, or train on rows of them too."
        raise DataError(
            f"{block.names.y} rows {block.first_row:,}–{block.first_row + len(y) - 1:,}: label {y[row].item()!r} (row "
            f"{block.first_row + row:,}) is not among the {len(self.classes)} classes [{' '.join(shown)}]. {cure}"
        )
