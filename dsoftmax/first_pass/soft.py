r"""What soft labels add to the sums of hard ones.

A row with the distribution q over the classes has the loss :math:`-\sum_k q_k \log P_k`. With the
code c of its most probable class, and logits z = θx̃,

.. math::  -\sum_k q_k \log P_k = -\log P_c - \sum_k (q_k - 1\{k = c\}) z_k

because q adds up to one. The sum over the rows is that of hard labels c, minus a function that is
linear in θ:

.. math::  J_q(θ) = J_c(θ) - \langle θ, D \rangle, \qquad \nabla J_q = \nabla J_c - D,
           \qquad D = \sum_i w_i (q_i - e_{c_i}) \tilde x_i^T

The first pass collects D. All other passes see the codes alone, so every kernel is that of hard
labels. D is exactly zero if the labels are hard.
"""

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from dsoftmax.data.block import Block
from dsoftmax.data.features import Features
from dsoftmax.data.soft import soft_codes, soft_values
from dsoftmax.errors import DataError

Float = NDArray[np.float64]

TILE_VALUES = 2**17
"""Features or probabilities of rows that are added at a time, whichever are more."""
TILE_BYTES = 48
"""Bytes allocated for each of them."""
TOLERANCE = {2: 1e-2, 4: 1e-4}
"""Largest distance of a sum from 1, by the bytes of a float; 1e-6 for other dtypes.

Classifiers write probabilities that are rounded in their dtype.
"""


def checked_soft(block: Block, y: NDArray, n_classes: int) -> tuple[Float, NDArray[np.integer]]:
    """Return the labels of some rows, which add up to 1, (rows, K), and their codes.

    Raises
    ------
    DataError
        A label is no distribution; the message names its row.
    """
    q, name = soft_values(y, n_classes), block.names.y
    wrong = ~(np.isfinite(q) & (q >= 0)).all(axis=1)
    if wrong.any():
        row = int(np.argmax(wrong))
        bad = q[row][~(np.isfinite(q[row]) & (q[row] >= 0))][0]
        raise DataError(
            f"{name} row {block.origin + row:,}: a soft label has the value {bad}; expected "
            "probabilities, finite and at least 0. Leave out the row, or correct it."
        )
    sums = q.sum(axis=1)
    p = y.dtype["p"].base
    far = np.abs(sums - 1) > (TOLERANCE.get(p.itemsize, 1e-6) if p.kind == "f" else 1e-6)
    if far.any():
        row = int(np.argmax(far))
        raise DataError(
            f"{name} row {block.origin + row:,}: the soft label adds up to {sums[row]:.6g}; "
            "expected 1. Divide every row by its sum. If the values are counts, also pass the sums "
            "as sample weights. If they are several labels of a row, pass one label for each row."
        )
    return q / sums[:, None], soft_codes(y)


def soft_sums(block: Block, weights: Float, sets: NDArray, n: int, n_classes: int) -> Float:
    """Return D of each set of rows of a block, (n, K, p+1).

    Parameters
    ----------
    block : Block
        With soft labels.
    weights : (rows,) float64
    sets : (rows,) integers
        Set of each row, below ``n``.
    n, n_classes : int

    Raises
    ------
    DataError
        A label is no distribution.
    """
    assert block.y is not None
    K, p = n_classes, block.X.shape[1]
    found = np.zeros((n, K, p + 1))
    step = max(TILE_VALUES // max(K, p), 64)
    for start in range(0, block.n_rows, step):
        rows = block.between(start, min(start + step, block.n_rows))
        assert rows.y is not None
        q, codes = checked_soft(rows, rows.y, K)
        q[np.arange(len(q)), codes] -= 1
        q *= weights[start : start + step, None]
        _add(found, q, rows.X, sets[start : start + step])
    return found


def _add(found: Float, q: Float, X: Features, sets: NDArray) -> None:
    for one in np.unique(sets):
        some = slice(None) if (sets == one).all() else np.flatnonzero(sets == one)
        part, rows = q[some], X[some]
        if scipy.sparse.issparse(rows):
            found[one, :, :-1] += (rows.T.astype(np.float64) @ part).T
        else:
            found[one, :, :-1] += part.T @ rows.astype(np.float64)
        found[one, :, -1] += part.sum(axis=0)


def soft_bytes(n_features: int, n_classes: int) -> int:
    """Return the bytes that `soft_sums` allocates beside its sums."""
    width = n_features + n_classes + 8
    return TILE_BYTES * width * max(TILE_VALUES // max(n_features, n_classes), 64) // 2
