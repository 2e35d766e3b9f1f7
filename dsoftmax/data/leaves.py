"""The size of a leaf: the run of rows whose sums are added without order."""

LEAF_BYTES = 8 * 2**20
"""Approximate bytes of a dense leaf's rows as float32, within the next two limits."""
LEAST_LEAF_ROWS, MOST_LEAF_ROWS = 8192, 131_072
"""Least and most rows of a leaf."""


def leaf_rows(n_features: int) -> int:
    """Return the rows of a leaf: a power of two that makes about `LEAF_BYTES` of float32.

    It is at least `LEAST_LEAF_ROWS` and at most `MOST_LEAF_ROWS`.
    """
    fit = max(LEAF_BYTES // (4 * max(n_features, 1)), 1)
    return int(min(max(1 << (fit.bit_length() - 1), LEAST_LEAF_ROWS), MOST_LEAF_ROWS))
