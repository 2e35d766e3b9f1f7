"""Scores of the rows that are held out: their losses and hits at a point."""

import numpy as np
from numpy.typing import NDArray

from dsoftmax.data.block import Block
from dsoftmax.kernels import softmax

Float = NDArray[np.float64]

SCORED_VALUES = 2**18
"""Logits or features of held-out rows that are scored at a time, whichever are more."""
FEATURE_BYTES, LOGIT_BYTES, ROW_BYTES = 16, 40, 64
"""Bytes that scoring allocates for each feature, logit and row that it scores at a time."""


def score(theta: Float, block: Block, y: NDArray, weights: Float | None, rows: NDArray) -> Float:
    """Return three sums over some rows of a leaf.

    They are those of the losses, of the weights of hits, and of the weights.

    Parameters
    ----------
    theta : (K, p+1) float64
    block : Block
    y : (rows,) integers
        Class codes of all rows of the block.
    weights : (rows,) float64 or None
    rows : (m,) integers
        Rows that are scored.
    """
    found = np.zeros(3)
    step = scored_rows(*theta.shape)
    for start in range(0, len(rows), step):
        some = rows[start : start + step]
        logits = softmax.decision_function(theta, block.X[some])
        own = y[some]
        losses = -softmax.log_softmax(logits)[np.arange(len(own)), own].astype(np.float64)
        w = np.ones(len(own)) if weights is None else weights[some]
        found += [w @ losses, w @ (logits.argmax(axis=1) == own), w.sum()]
    return found


def score_bytes(n_features: int, n_classes: int) -> int:
    """Return the bytes that `score` allocates."""
    d = n_features + 1
    a_row = FEATURE_BYTES * d + LOGIT_BYTES * n_classes + ROW_BYTES
    return scored_rows(n_classes, d) * a_row


def scored_rows(K: int, d: int) -> int:
    """Return the rows that are scored at a time."""
    return max(SCORED_VALUES // max(K, d), 1)
