"""Sources for tests, from the arrays of a table."""

from dsoftmax.data.open import open_source
from dsoftmax.data.table import Names, Table


def opened(X, y=None, weights=None, names=None, missing_chunks="error", groups=None):
    """The source of X with these labels, weights and groups."""
    return open_source(Table(X, y, weights, groups, names or Names(), missing_chunks))
