"""The groups of class pairs that a sum of Kronecker products has: how many pay off, and which."""

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]

MOST_WORK = 4
"""Limit on the work of all products in memory, as a multiple of the work of a pass."""
MOST_FEATURES = 2048
"""Limit on the features, intercept included: beyond it a Gram matrix of each group is too large."""
MOST_ENTRIES = 3 * 2**22
"""Limit on the entries of all packed Gram matrices together: 48 MiB in float32."""


def n_groups(n_rows: int, n_classes: int, n_features: int) -> int:
    """Return the number of groups that pay off; 1 if no grouping does.

    A pass costs 4·n·K·p flops. A product with the sum costs 2·groups·K·(p+1)·(K+p+1), and a step
    needs about six. All products of a step may cost about as much as the pass (`MOST_WORK`), the
    Gram matrices must fit in `MOST_ENTRIES`, and each class needs a group.
    """
    d = n_features + 1
    if d > MOST_FEATURES:
        return 1
    by_work = int(MOST_WORK * n_rows / (3 * (n_classes + d)))
    by_memory = MOST_ENTRIES // (d * (d + 1) // 2)
    found = min(n_classes * (n_classes + 1) // 2, by_work, by_memory)
    return found if found >= n_classes else 1


def groups(moments: Float, n: int) -> NDArray[np.int64]:
    """Return the group of each class, on the diagonal, and of each pair of classes.

    Class k has group k. The n − K pairs with the largest curvature −A_kl = Σ sᵢpᵢₖpᵢₗ/S have a
    group each. Every other pair [k, l] counts towards the groups of its classes, see
    `dsoftmax.kernels.curvature.curvatures`.

    Parameters
    ----------
    moments : (K, K) float64
        A.
    n : int
        Number of groups, at least K.

    Returns
    -------
    (K, K) int64
    """
    K = len(moments)
    found = np.repeat(np.arange(K)[:, None], K, axis=1)
    k, other = np.triu_indices(K, 1)
    chosen = np.argsort(moments[k, other], kind="stable")[: max(n - K, 0)]
    for number, pair in enumerate(chosen, K):
        found[k[pair], other[pair]] = found[other[pair], k[pair]] = number
    return found
