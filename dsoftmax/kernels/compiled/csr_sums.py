"""What the first pass sums over CSR rows, in one compiled sweep over the stored values."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dsoftmax.data.features import Features
from dsoftmax.kernels.compiled.arrays import csr_arguments, takes, takes_csr

Float = NDArray[np.float64]


@dataclass(frozen=True)
class FeatureSums:
    """Sums over some rows, with weights w and x̃ = [x, 1].

    Attributes
    ----------
    by_class : (labels, p+1) float64
        Σ wᵢxᵢ by label; the caller fills in the last column.
    squares : (p,) float64
        Σ wᵢxᵢ².
    absolute : (p+1,) float64
        Σ wᵢ|x̃ᵢⱼ|·‖x̃ᵢ‖₁.
    low, high : (p,) float64
        Range of each feature.
    """

    by_class: Float
    squares: Float
    absolute: Float
    low: Float
    high: Float


def csr_sums(X: Features, codes: NDArray, weights: Float, n_labels: int) -> FeatureSums | None:
    """Return the first pass's sums over CSR rows; None if the loops cannot read X.

    They cannot read a dtype that `takes` rejects, or a row whose columns do not ascend.

    Notes
    -----
    Work 10 flops a stored value; memory the sums, and 64 bytes a feature.
    """
    if not (takes(X.dtype) and takes_csr(X)):
        return None
    from dsoftmax.kernels.compiled import feature_sums

    n, p = X.shape
    by_class, features = np.zeros((n_labels, p + 1)), feature_sums.empty_features(p)
    values = np.empty(int(np.diff(X.indptr).max(initial=0)))
    codes, weights = (
        np.ascontiguousarray(codes, np.int64),
        np.ascontiguousarray(weights, np.float64),
    )
    mass = feature_sums.add_rows(
        *csr_arguments(X), codes, weights, n, p, by_class.reshape(-1), features, values
    )
    if mass < 0:
        return None
    squares, absolute, low, high, counts = features.reshape(p, -1).T[:5]
    some = counts < n  # a feature that some row does not store has a zero in its range
    low = np.where(some, np.minimum(low, 0), low)
    high = np.where(some, np.maximum(high, 0), high)
    return FeatureSums(by_class, squares.copy(), np.append(absolute, mass), low, high)
