"""Folds from scikit-learn's splitters, or from an iterable of training and test rows."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsoftmax.data.kind import is_lazy
from dsoftmax.errors import OptionError

Split = tuple[Any, Any]


def is_splitter(cv: Any) -> bool:
    """Return whether ``cv`` makes splits, and is not their number."""
    return not isinstance(cv, (str, bytes)) and (hasattr(cv, "split") or hasattr(cv, "__iter__"))


def folds_of(cv: Any, X: Any, y: Any, groups: Any) -> tuple[int, NDArray[np.int64]]:
    """Return the number of folds, and the fold that holds out each row; -1 for none, (n,).

    Parameters
    ----------
    cv : splitter or iterable
        An object with scikit-learn's ``split``, or pairs of training and test rows.
    X : (n, p) array
    y : (n,) array
        Labels in memory.
    groups : (n,) array or None

    Raises
    ------
    OptionError
        Labels or groups are lazy, test sets overlap, or a training set is not all other rows.
    """
    for name, values in (("y", y), ("groups", groups)):
        if is_lazy(values):
            raise OptionError(
                f"cv={cv!r} needs all of {name} in memory, and {name} is stored or lazy. Pass "
                "cv=5 for folds by a hash of the rows, or the number of each row's fold as "
                "fit(..., folds=column)."
            )
    n = len(y)
    if hasattr(cv, "split"):
        rows = np.zeros((n, 1)) if is_lazy(X) else X
        splits = list(cv.split(rows, _plain(y), groups))
    else:
        splits = list(cv)
    folds = np.full(n, -1, np.int64)
    for number, (train, test) in enumerate(splits):
        held = _mask(test, n)
        if (folds[held] >= 0).any() or not np.array_equal(_mask(train, n), ~held):
            raise OptionError(
                f"cv={cv!r}: split {number} shares test rows with an earlier one, or does not "
                "train on all other rows; expected disjoint test sets, because all models share "
                "each pass. Pass KFold, StratifiedKFold, GroupKFold or another splitter of this "
                "kind. For other splitters use sklearn.model_selection.GridSearchCV."
            )
        folds[held] = number
    return len(splits), folds


def _plain(y: NDArray) -> NDArray:
    """Return labels that every splitter takes: numbers instead of bytes and objects."""
    return y if y.dtype.kind in "biufU" else np.unique(y, return_inverse=True)[1]


def _mask(rows: Any, n: int) -> NDArray[np.bool_]:
    found = np.zeros(n, bool)
    found[np.asarray(rows)] = True
    return found
