"""Bytes that a visit allocates on a leaf: as measured, and as the visit says."""

import tracemalloc

from dsoftmax.data.columns import LEAF_ROW_BYTES
from dsoftmax.engines.plan import LEAF_ENTRY_BYTES


def measured(visit, block):
    """Return the peak of the bytes that NumPy allocates while a visit works on a leaf."""
    visit(block)  # compiles, and fills caches
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        visit(block)
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


def said(visit, block):
    """Return the bytes that a visit says it allocates, without and with those of the plan.

    The plan adds vectors with one number a row, three copies of the labels, and the rows that are
    drawn.
    """
    found = visit.footprint(block.X.shape[1], not hasattr(block.X, "strides"))
    kernels = found.scratch + LEAF_ENTRY_BYTES * found.sums
    return kernels, kernels + (LEAF_ROW_BYTES + 3 * block.y.itemsize) * block.n_rows + found.rows


def measured_call(call):
    """Return the result of a call, and the peak of the bytes that NumPy allocates in it."""
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        found = call()
        return found, tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
