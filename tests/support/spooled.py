"""A share that counts its loads, and blocks and files of a spool."""

import numpy as np
import scipy.sparse

from dsoftmax.data.block import Block
from dsoftmax.data.source import Share
from dsoftmax.data.table import Names
from dsoftmax.engines.kept.directory import PREFIX


class Counting(Share):
    """A share of three chunks that counts its loads and reads into the buffer, as Zarr's do."""

    def __init__(self, *, y=None, weights=None, X=None, groups=None):
        rng = np.random.default_rng(3)
        self.X = rng.normal(size=(30, 4)).astype("f4") if X is None else X
        self.y = rng.integers(0, 3, 30) if y is None else y
        self.weights, self.groups = weights, groups
        self.loads = []

    def load(self, chunk, buffer=None):
        self.loads.append(chunk)
        rows = slice(10 * chunk, 10 * chunk + 10)
        X = self.X[rows]
        if buffer is not None:
            X = buffer[: X.nbytes].view(X.dtype).reshape(X.shape)
            X[...] = self.X[rows]
        weights, groups = (
            None if values is None else values[rows] for values in (self.weights, self.groups)
        )
        return Block(X, self.y[rows], weights, 10 * chunk, Names("a", "b", "c", "d"), groups)


def equal(one, two):
    """Assert that two blocks are equal bit for bit."""
    for left, right in (
        (one.X, two.X),
        (one.y, two.y),
        (one.weights, two.weights),
        (one.groups, two.groups),
    ):
        if scipy.sparse.issparse(left):
            assert type(left) is type(right)
            equal_arrays(left.toarray(), right.toarray())
        elif left is not None or right is not None:
            equal_arrays(left, right)
    assert (one.first_row, one.names) == (two.first_row, two.names)


def equal_arrays(one, two):
    """Assert that two arrays are equal bit for bit, in dtype, shape and memory order."""
    assert (one.dtype, one.shape) == (two.dtype, two.shape)
    assert one.flags.f_contiguous == two.flags.f_contiguous
    if one.dtype.kind in "OT" or one.dtype.hasobject:
        assert one.tolist() == two.tolist()
    else:
        assert one.tobytes() == two.tobytes()


def files(directory):
    """Return the files of all spools in a directory."""
    return sorted(directory.glob(f"{PREFIX}*/*"))
