"""Scores of the rows that are held out: their losses and hits at a point."""

import numpy as np
from numpy.typing import NDArray

from dsoftmax.data.block import Block
from dsoftmax.kernels import softmax

Float = NDArray[np.float64]

SCORED_VALUES = 2**18
"""Logits or features of held-out rows that are scored at a time, whichever are more."""
VALUE_BYTES = 40
"""Bytes that scoring allocates for each of these values."""


def score(theta: Float, block: Block, y: NDArray, weights: Float | None, rows: NDArray) -> Float:
    """Return three sums over some rows of a leaf: of losses, of the weights of hits, and of weights.

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
    step = max(SCORED_VALUES // max(theta.shape), 1)
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
    return VALUE_BYTES * max(SCORED_VALUES, n_classes, n_features)
