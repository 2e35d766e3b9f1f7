"""Predictions of rows that are skipped: a label that means "no data", and NaN."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsoftmax.data.block import Block
from dsoftmax.data.missing import (
    NOTHING,
    REASONS,
    Missing,
    in_dtype,
    is_among,
    log,
    skipped_line,
)
from dsoftmax.errors import DataError, OptionError
from dsoftmax.first_pass.checks import check_finite
from dsoftmax.results.outputs import Coefficients, Output, for_rows

LABEL_CURE = (
    "Fill in such values, or pass nodata=LABEL (--nodata LABEL), which is then the prediction of "
    "rows with NaN."
)
WIDE_CURE = (
    "Fill in such values. To skip their rows, fit with nodata={0} (--nodata {0}), or call "
    "set_params(nodata={0})."
)
"""Advice for a value that is not finite, where labels are predicted and elsewhere."""


@dataclass(frozen=True)
class Predict:
    """An output of a model that allows for rows that are skipped.

    Attributes
    ----------
    output : Output
    model : Coefficients
    products : numpy dtype
        Dtype of the products.
    fill : scalar
        Prediction of a skipped row, in the dtype of the predictions; None if there can be none.
    dtype : numpy dtype
        Dtype of the predictions.
    wide : bool
        Whether a prediction is a row of one number per class.
    """

    output: Output
    model: Coefficients
    products: np.dtype | None
    fill: Any
    dtype: np.dtype
    wide: bool

    def __call__(self, block: Block) -> tuple[NDArray, NDArray[np.int64] | None]:
        """Return the predictions of a block, and the numbers of its skipped rows by reason.

        Raises
        ------
        DataError
            X holds NaN or infinity that nobody has declared. Or a row is skipped, and the classes
            leave no value for it.
        """
        counted, skipped = block.counted()
        check_finite(counted, WIDE_CURE if self.wide else LABEL_CURE)
        found = self.output(for_rows(self.model, counted), counted.X, self.products)
        if skipped is None:
            return found.astype(self.dtype, copy=False), None
        if self.fill is None:
            raise DataError(
                f"{block.names.X}: {skipped_line(skipped, block.n_rows)}, from row "
                f"{block.first_row:,} on. The classes are {self.dtype}, which leaves no label for "
                "such rows. Pass nodata=LABEL (--nodata LABEL), or predict probabilities."
            )
        out = np.full((block.n_rows, *found.shape[1:]), self.fill, self.dtype)
        out[counted.row_numbers - block.first_row] = found
        return out, skipped


@dataclass(frozen=True)
class Skips:
    """Rows without data in a prediction, and their label.

    Attributes
    ----------
    missing : Missing
        Values of features that skip a row, beside those that the data declare.
    nan : bool
        Whether NaN skips a row too, because the user has given a label for rows without data.
    label : scalar
        Label of a skipped row; None if there is none.
    """

    missing: Missing = NOTHING
    nan: bool = False
    label: Any = None

    @classmethod
    def of(cls, missing: Missing, classes: NDArray, nodata: Any = None) -> "Skips":
        """Return what a user asks by ``predict(X, nodata=LABEL)``; None for the usual label.

        Raises
        ------
        OptionError
            The label is a class, or the dtype of the classes does not hold it.
        """
        return cls(missing, nodata is not None, skipped_label(classes, nodata))

    def values(self, dtype: np.dtype) -> Missing:
        """Return the missing values that can occur in X of this dtype."""
        values = [value for value in self.missing.X if in_dtype(value, dtype) is not None]
        found = Missing(X=tuple(values))
        return found.adding("X", (np.nan,)) if self.nan and dtype.kind == "f" else found


NO_SKIPS = Skips()
"""Only rows that the data declare as missing are skipped, and they have no label."""


def skipped_label(classes: NDArray, given: Any = None) -> Any:
    """Return the label that is predicted for a skipped row, in the dtype of the classes.

    Parameters
    ----------
    classes : (K,) ndarray
    given : label, optional
        When None: -1 for signed integers, the largest value of unsigned ones, NaN for floats, and
        the empty string.

    Returns
    -------
    label
        None if no value was given, and the usual one is a class or there is none.

    Raises
    ------
    OptionError
        The given label is a class, or the dtype of the classes does not hold it.
    """
    if classes.dtype.kind == "O":  # all strings, or all bytes
        classes = np.array(classes.tolist())
    dtype = classes.dtype
    if given is None:
        usual = {"i": -1, "f": np.nan, "U": "", "S": b""}.get(dtype.kind)
        usual = np.iinfo(dtype).max if dtype.kind == "u" else usual
        taken = usual is None or is_among(usual, classes.tolist())
        return None if taken else in_dtype(usual, dtype)
    label = in_dtype(given, dtype)
    if label is None:
        raise OptionError(
            f"nodata={given!r} is no value of {dtype}, the dtype of the classes. Pass a label that "
            "this dtype holds."
        )
    if is_among(label, classes.tolist()):
        raise OptionError(
            f"nodata={given!r} is a class of the model, so it cannot mean no data. Pass another "
            "label."
        )
    return label


def label_dtype(classes: NDArray, label: Any) -> np.dtype:
    """Return the dtype of predicted labels: that of the classes, or of longer strings."""
    if classes.dtype.kind in "US" and label is not None:
        return np.result_type(classes.dtype, np.asarray(label).dtype)
    return classes.dtype


def report_predicted(
    counts: Sequence[NDArray[np.int64]], n_rows: int, fill: Any, wide: bool
) -> None:
    """Log how many rows were skipped, if any, and what is predicted for them.

    Parameters
    ----------
    counts : sequence of (4,) int64
        Skipped rows of some blocks.
    n_rows : int
        All rows.
    fill : scalar
        Label of the skipped rows.
    wide : bool
        Whether their predictions are NaN instead.
    """
    line = skipped_line(np.sum([np.zeros(len(REASONS), np.int64), *counts], axis=0), n_rows)
    if line:
        what = "Their predictions are nan" if wide else f"Their label is {fill!s}"
        log.warning("%s. %s.", line, what)
