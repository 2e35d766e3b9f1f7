r"""Margins of rows along a direction of θ: they say whether F falls without end.

Along D the logit of the own class of row i gains on that of class k by

.. math::  m_{ik} = \tilde x_i^T (D^{(y_i)} - D^{(k)}).

If no margin is negative and one is positive, F(θ + tD) falls for all t. F then has no finite
optimum. See Albert and Anderson 1984, "On the existence of maximum likelihood estimates in logistic
regression models". If all margins are positive, D separates the classes completely. Otherwise it
is called quasi-separation.
"""

import numpy as np
from numpy.typing import NDArray

from dsoftmax.data.features import Features
from dsoftmax.kernels import softmax

Float = NDArray[np.float64]

MARGIN_VALUES = 2**18
"""Logits or features of rows whose margins are computed at a time, whichever are more."""
FEATURE_BYTES, LOGIT_BYTES, ROW_BYTES = 32, 40, 64
"""Bytes allocated for each feature, logit and row whose margins are computed at a time."""
ROUNDING = 2 * float(np.finfo(np.float64).eps)
"""Relative rounding of a term of a margin."""
NEGATIVE = 1e-10
"""Most by which a margin of a direction that separates may be negative."""
POSITIVE = 1e-3
"""Least margin that is called positive, and that some row must have.

Directions are those of Newton steps, whose positive margins are about 1.
"""


def largest_margins(direction: Float, X: Features, y: NDArray, weights: Float | None) -> Float:
    """Return the largest margins of some rows, and the least one, (K, K+1) float64.

    Entry (l, k) is the largest margin of the rows of class l over class k; −inf if there is none.
    Entry (l, K) is minus the least margin of the rows of class l. Margins within their own rounding
    are 0. Rows without weight do not count. The largest entries of two sets of rows are those of
    their union.

    Parameters
    ----------
    direction : (K, p+1) float64
        D, the intercept last.
    X : (rows, p) ndarray or CSR
    y : (rows,) integers
    weights : (rows,) float64, optional

    Notes
    -----
    Work 2·K·p flops a row.
    """
    K, d = direction.shape
    D = direction - direction.mean(axis=0)
    size = ROUNDING * (d + 1) * np.abs(D).max(axis=0)
    found = np.full((K, K + 1), -np.inf)
    counted = np.arange(len(y)) if weights is None else np.flatnonzero(weights)
    step = _rows_at_a_time(K, d)
    for start in range(0, len(counted), step):
        rows = counted[start : start + step]
        some, own = X[rows].astype(np.float64), y[rows]
        Z = softmax.decision_function(D, some)
        M = Z[np.arange(len(own)), own][:, None] - Z
        M[np.abs(M) <= (abs(some) @ size[:-1] + size[-1])[:, None]] = 0
        M[np.arange(len(own)), own] = np.inf
        least = -M.min(axis=1)
        M[np.arange(len(own)), own] = -np.inf
        order = np.argsort(own, kind="stable")
        classes, first = np.unique(own[order], return_index=True)
        most = np.maximum.reduceat(np.column_stack([M, least])[order], first, axis=0)
        found[classes] = np.maximum(found[classes], most)
    return found


def margin_bytes(n_features: int, n_classes: int) -> int:
    """Return the bytes that `largest_margins` allocates."""
    d = n_features + 1
    a_row = FEATURE_BYTES * d + LOGIT_BYTES * n_classes + ROW_BYTES
    return _rows_at_a_time(n_classes, d) * a_row


def _rows_at_a_time(K: int, d: int) -> int:
    return max(MARGIN_VALUES // max(K, d), 1)


def separates(margins: Float, negative: float = NEGATIVE) -> bool:
    """Return whether no margin is negative and some are positive, from `largest_margins`.

    ``negative`` is the most by which a margin may be negative.
    """
    return bool(margins[:, -1].max() <= negative and margins[:, :-1].max() >= POSITIVE)
