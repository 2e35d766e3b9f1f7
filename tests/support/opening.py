"""Sources for tests, from the arrays that a table is made of."""

from dsoftmax.data.open import open_source


def opened(X, y=None, weights=None, names=None, missing_chunks="error", groups=None):
    """The source of X with these labels, weights and groups."""
    return open_source(X, y, weights, names, missing_chunks, groups)
