"""Outputs of a model for rows in memory: logits, labels, probabilities and their logarithms."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from dsoftmax.data.block import Block
from dsoftmax.data.features import Features, rows_between
from dsoftmax.errors import DataError
from dsoftmax.kernels import softmax
from dsoftmax.kernels.tiles import compute_dtype

Float = NDArray[np.float64]

ROUNDED = 1e-4
"""Rounding error of a logit above which products are in float64.

An error of ε in the logits changes a probability by ε/4 at most.
"""
SLAB_ROWS = 4096
"""Rows that are converted to float64 at once, because float32 would round their logits visibly."""
SLAB_VALUES = 2**20
"""Logits that are in memory at once while labels are computed (entries)."""


class Coefficients(Protocol):
    """Coefficients and classes of a model.

    Attributes
    ----------
    theta : (K, p+1) float64
    classes : (K,) ndarray
    """

    @property
    def theta(self) -> Float: ...
    @property
    def classes(self) -> NDArray: ...


@dataclass(frozen=True)
class Folded:
    """Coefficients for the stored units of packed features.

    Attributes
    ----------
    theta : (K, p+1) float64
    classes : (K,) ndarray
    """

    theta: Float
    classes: NDArray


def for_rows(model: Coefficients, block: Block) -> Coefficients:
    """Return the coefficients for the rows of a block as they are stored."""
    if block.scaling is None:
        return model
    require_features(model, block.X.shape[1], block.names.X)
    return Folded(block.scaling.theta(model.theta), model.classes)


Output = Callable[[Coefficients, Features, np.dtype | None], NDArray]
"""A function of a model, rows (ndarray or CSR) and the dtype of the products."""


def require_features(
    model: Coefficients, n_features: int, name: str = "X", owner: str = "the model"
) -> None:
    """Raise unless rows have as many features as the model.

    Parameters
    ----------
    model : Coefficients
    n_features : int
        Features of the rows.
    name, owner : str
        The rows and the model, as their user spells them.

    Raises
    ------
    DataError
    """
    expected = model.theta.shape[1] - 1
    if n_features != expected:
        raise DataError(
            f"{name} has {n_features} features, but {owner} is expecting {expected} features as "
            "input. Pass the columns of the training, in the same order."
        )


def logits(model: Coefficients, X: Features, dtype: np.dtype | None = None) -> NDArray:
    """Return the logits z = θᵀx + b, (rows, K).

    Parameters
    ----------
    model : Coefficients
    X : (rows, p) ndarray or CSR
    dtype : numpy dtype, optional
        Dtype of the products; follows the dtype of X when None.

    Raises
    ------
    DataError
        X has another number of features.

    Notes
    -----
    If float32 would round the logits by more than about `ROUNDED`, the products are in float64,
    `SLAB_ROWS` rows at a time. This happens with features that lie far from 0.
    """
    require_features(model, X.shape[1])
    products = np.dtype(dtype or compute_dtype(X.dtype))
    if products == np.float64 or not _rounds(model.theta, X, products):
        return softmax.decision_function(model.theta, X, products)
    out = np.empty((X.shape[0], len(model.theta)), products)
    for start in range(0, X.shape[0], SLAB_ROWS):
        some = rows_between(X, start, min(start + SLAB_ROWS, X.shape[0]))
        out[start : start + SLAB_ROWS] = softmax.decision_function(
            model.theta, some, np.dtype(np.float64)
        )
    return out


def _rounds(theta: Float, X: Features, dtype: np.dtype) -> bool:
    """Return whether products of this dtype round logits visibly.

    Terms are added with errors of about their size times the machine epsilon.
    """
    if X.shape[0] == 0:
        return False
    reach: Float | float
    if scipy.sparse.issparse(X):
        reach = float(np.abs(X.data).max(initial=0))
    else:
        reach = np.maximum(
            np.abs(X.max(axis=0).astype(np.float64)), np.abs(X.min(axis=0).astype(np.float64))
        )
    # Class by class: arrays in the shape of a large θ would take several times its memory.
    size = max(float(np.linalg.norm(row[:-1] * reach)) for row in theta)
    return bool(size * np.finfo(dtype).eps > ROUNDED)


def labels(model: Coefficients, X: Features, dtype: np.dtype | None = None) -> NDArray:
    """Return the most probable class of each row, (rows,), in the dtype of ``classes``."""
    return model.classes[most_probable(model, X, dtype)]


def most_probable(
    model: Coefficients, X: Features, dtype: np.dtype | None = None
) -> NDArray[np.intp]:
    """Return the number of the most probable class of each row, (rows,)."""
    step = max(SLAB_VALUES // len(model.classes), 1)
    parts = [
        logits(model, rows_between(X, i, min(i + step, X.shape[0])), dtype).argmax(axis=1)
        for i in range(0, X.shape[0], step)
    ]
    return np.concatenate(parts) if parts else np.zeros(0, np.intp)


def probabilities(model: Coefficients, X: Features, dtype: np.dtype | None = None) -> NDArray:
    """Return the probabilities P = softmax(z), (rows, K)."""
    return softmax.softmax(logits(model, X, dtype))


def log_probabilities(model: Coefficients, X: Features, dtype: np.dtype | None = None) -> NDArray:
    """Return log P, (rows, K), finite also if P is 0 in floating point."""
    return softmax.log_softmax(logits(model, X, dtype))
