"""A trained model: the coefficients, the classes, and where they came from; saved as a Zarr group without pickle."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from dsoftmax.data.features import Features, rows_between
from dsoftmax.errors import DataError
from dsoftmax.kernels import softmax
from dsoftmax.kernels.tiles import compute_dtype

Float = NDArray[np.float64]
ROUNDED = 1e-4
"""Of a logit, what rounding may change it by before products are in float64: a probability changes by a quarter of it at most."""
SLAB_ROWS = 4096


@dataclass(frozen=True)
class Model:
    """Softmax regression with fixed coefficients.

    Attributes
    ----------
    theta : (K, p+1) float64
        A row per class, the intercept last; every column sums to zero, but for coefficients that an L1 penalty has placed.
    classes : (K,) ndarray
    about : dict
        What was asked and found, in JSON types.
    """

    theta: Float
    classes: NDArray
    about: dict[str, Any] = field(default_factory=dict)

    @property
    def n_features(self) -> int:
        return int(self.theta.shape[1] - 1)

    def decision_function(self, X: Features, dtype: np.dtype | None = None) -> NDArray:
        """Return the logits, (rows, K).

        Raises
        ------
        DataError
            X has another number of features.

        Notes
        -----
        Where float32 would round the logits by more than about `ROUNDED`, as with features that lie far from 0, the products are in
        float64, `SLAB_ROWS` rows at a time.
        """
        if X.shape[1] != self.n_features:
            raise DataError(
                f"X has {X.shape[1]} features, but the model is expecting {self.n_features} features as input. "
                "Pass the columns it was trained on, in the same order."
            )
        products = np.dtype(dtype or compute_dtype(X.dtype))
        if products == np.float64 or not self._rounds(X, products):
            return softmax.decision_function(self.theta, X, products)
        out = np.empty((X.shape[0], len(self.theta)), products)
        for start in range(0, X.shape[0], SLAB_ROWS):
            some = rows_between(X, start, min(start + SLAB_ROWS, X.shape[0]))
            out[start : start + SLAB_ROWS] = softmax.decision_function(
                self.theta, some, np.dtype(np.float64)
            )
        return out

    def _rounds(self, X: Features, dtype: np.dtype) -> bool:
        """Return whether products of this dtype round logits visibly: terms are added with errors of about their size."""
        if X.shape[0] == 0:
            return False
        W = np.abs(self.theta[:, :-1])
        if scipy.sparse.issparse(X):
            size = float(np.abs(X.data).max(initial=0)) * float(
                np.sqrt(np.square(W).sum(axis=1)).max()
            )
        else:
            reach = np.maximum(
                np.abs(X.max(axis=0).astype(np.float64)), np.abs(X.min(axis=0).astype(np.float64))
            )
            size = float(np.sqrt(np.square(W * reach).sum(axis=1)).max())
        return bool(size * np.finfo(dtype).eps > ROUNDED)

    def predict(self, X: Features, dtype: np.dtype | None = None) -> NDArray:
        """Return the most probable class of each row, (rows,), in the dtype of ``classes``."""
        best: NDArray = self.classes[self.decision_function(X, dtype).argmax(axis=1)]
        return best

    def predict_proba(self, X: Features, dtype: np.dtype | None = None) -> NDArray:
        """Return the probabilities, (rows, K)."""
        return softmax.softmax(self.decision_function(X, dtype))


def centred(theta: Float, keep_zeros: bool = False) -> Float:
    """Return θ minus its mean over the classes: the same probabilities, and one representative for all solvers.

    Parameters
    ----------
    theta : (K, p+1) float64
    keep_zeros : bool
        Of more than two classes centre the intercepts alone: where the penalty is L1, it says where coefficients lie. Of two
        classes only the difference counts.
    """
    mean = theta.mean(axis=0)
    if keep_zeros and len(theta) > 2:
        mean[:-1] = 0
    return theta - mean
