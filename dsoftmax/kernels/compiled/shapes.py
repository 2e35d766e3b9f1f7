"""Which loops run for a shape, in tiles of which size, and what they take: arithmetic on integers.

There are five ways, and `way` chooses one by the shape:

======== ============================================================ =================================================
way      when                                                         how
======== ============================================================ =================================================
narrow   few features                                                 vectors hold rows: the tile lies feature by feature
wide     more features, few classes: too few for BLAS to be good at   vectors hold features: the tile lies row by row
products many classes                                                 BLAS multiplies, a loop makes the residuals
sparse   CSR, θ fits the cache                                        vectors hold classes: one row of X at a time
blocked  CSR, θ does not                                              the same, of a block of rows and columns at a time
======== ============================================================ =================================================
"""

from typing import Literal

import numpy as np

from dsoftmax.data.leaves import MOST_LEAF_ROWS, leaf_rows
from dsoftmax.kernels import hessian, tiles
from dsoftmax.kernels.hessian import hessian_entries
from dsoftmax.kernels.tiles import SPARSE_TILE_ROWS

Way = Literal["narrow", "wide", "products", "sparse", "blocked"]

VECTOR_BYTES = 32
"""Of one vector: 8 float32 or 4 float64."""
NARROW_FEATURES = 64
"""With fewer features than this, vectors hold rows."""
WIDE_CLASSES = 64
"""With fewer classes than this, BLAS is slower than the loops."""
NARROW_BYTES = 2**15
"""A tile by features and its logits: the first-level cache."""
WIDE_BYTES = 192 * 2**10
"""A tile by rows and its logits: less than half of the second-level cache."""
MULTIPLIED_FEATURES = 256
"""With no more features than this, products of the Hessian are formed by loops."""
CURVED_FEATURES, CURVED_PAIRS, CURVED_SUMS = 128, 78, 2**17
"""With no more features, pairs of classes and entries of both than this, the Hessian's pairs are summed by loops: their sums, by lane,
take 4 MiB. Beyond, BLAS is as fast with vectors of 32 bytes, and twice as fast where it has longer ones."""
PARTIAL_SUMS = 2**13
"""The most entries of θ whose sums may be kept by lane while tiles pass: with 32 bytes each they fit the second-level cache."""
COLUMNS = 64
"""Rows of a tile whose logits are made residuals at a time, after BLAS."""

DIGIT_BITS = 32
"""Of the digits of exact sums: see `dsoftmax.sums.totals`."""
LINE = 64
"""Of the cache (bytes)."""
SLICE_VECTORS = 4
"""The most vectors of classes that the CSR loops hold at a time."""
CACHED_ENTRIES = 2**20
"""Of θ, up to which rows of it are fetched one by one as they are met: the two tables of it are mostly in the cache."""
SPARSE_ROWS = 2**14
"""Rows of CSR whose sums are kept in the compute dtype where θ fits the cache; moving them on takes as long for fewer."""
BATCH_BYTES = 2**20
"""Logits of CSR rows that are computed before they are added: the more, the more seldom θ and the sums take each other's cache."""
COLUMN_BITS = 19
"""Of a place in a block of rows and columns: its column. The other 13 of 32 bits are its row."""
TILE_ENTRIES = 2**20
"""Stored values of a tile of CSR rows that are sorted into blocks of columns; a row with more is a tile of its own."""
BLOCK_COLUMNS, MOST_BLOCKS = 1024, 256
"""Columns of such a block, where they do not make too many blocks."""


def block_shift(n_features: int) -> int:
    """Return the logarithm of the columns of a block."""
    return max(BLOCK_COLUMNS.bit_length() - 1, (-(-n_features // MOST_BLOCKS) - 1).bit_length())


def way(n_features: int, n_classes: int, sparse: bool) -> Way:
    """Return the loops for a shape."""
    if sparse:
        blocked = (
            n_features * n_classes > CACHED_ENTRIES and n_features <= MOST_BLOCKS << COLUMN_BITS
        )
        return "blocked" if blocked else "sparse"
    if n_features < NARROW_FEATURES and (n_features + 1) * n_classes <= PARTIAL_SUMS:
        return "narrow"
    return "wide" if n_classes < WIDE_CLASSES else "products"


def scratch_bytes(n_features: int, n_classes: int, dtype: np.dtype, sparse: bool) -> int:
    """Return what a leaf takes beside its rows and arrays in the shape of θ (bytes)."""
    d, itemsize, lanes = n_features + 1, dtype.itemsize, VECTOR_BYTES // dtype.itemsize
    # Labels and weights in the compute dtype, with room for copies on the way.
    rows = 16 * (MOST_LEAF_ROWS if sparse else leaf_rows(n_features))
    chosen = way(n_features, n_classes, sparse)
    if chosen == "sparse":
        pitch = up(n_classes, lanes)
        return rows + (2 * n_features + sparse_batch(pitch, itemsize)) * pitch * itemsize
    if chosen == "blocked":
        entries = max(TILE_ENTRIES, n_features) * (4 + itemsize)
        sums = VECTOR_BYTES * SLICE_VECTORS << block_shift(n_features)
        return (
            rows
            + entries
            + up(n_classes, lanes) * (n_features + SPARSE_TILE_ROWS) * itemsize
            + sums
        )
    if chosen == "products":
        return (
            rows
            + tiles.scratch_bytes(n_features, n_classes, dtype, sparse)
            + n_classes * (COLUMNS + 16) * itemsize
        )
    if chosen == "narrow":
        return (
            rows
            + (d + n_classes) * narrow_rows(d, n_classes, itemsize) * itemsize
            + d * n_classes * VECTOR_BYTES
        )
    pitch = pitch_of(d, lanes)
    return (
        rows
        + ((pitch + n_classes) * wide_rows(pitch, n_classes, itemsize) + 2 * n_classes * pitch)
        * itemsize
    )


def curves(n_features: int, n_classes: int, sparse: bool) -> bool:
    """Return whether loops sum the Hessian of this shape, and not BLAS."""
    few = n_features <= CURVED_FEATURES and n_classes * (n_classes - 1) // 2 <= CURVED_PAIRS
    return not sparse and few and hessian_entries(n_features, n_classes) <= CURVED_SUMS


def multiplies(n_features: int, n_classes: int, sparse: bool) -> bool:
    """Return whether loops form the products of the Hessian with vectors, and not BLAS."""
    return (
        not sparse
        and n_features <= MULTIPLIED_FEATURES
        and (n_features + 1) * n_classes <= PARTIAL_SUMS
    )


def hessian_scratch_bytes(n_features: int, n_classes: int, dtype: np.dtype) -> int:
    """Return what the Hessian of a leaf takes beside its rows and its result (bytes)."""
    if not curves(n_features, n_classes, False):
        return hessian.hessian_scratch_bytes(n_features, n_classes, dtype)
    d, pairs = n_features + 1, n_classes * (n_classes - 1) // 2
    tile = curved_rows(d, n_classes, dtype.itemsize) * (2 * d + n_classes + pairs) * dtype.itemsize
    return 16 * leaf_rows(n_features) + tile + hessian_entries(n_features, n_classes) * VECTOR_BYTES


def up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple


def _odd(number: int) -> int:
    return number | 1


def pitch_of(d: int, lanes: int) -> int:
    """Entries between two rows: an odd number of pairs of vectors, so that the rows spread over the sets of the cache."""
    return 2 * lanes * _odd(-(-d // (2 * lanes)))


def narrow_rows(d: int, n_classes: int, itemsize: int) -> int:
    return _tile_rows(NARROW_BYTES // (itemsize * (d + n_classes)), itemsize)


def curved_rows(d: int, n_classes: int, itemsize: int) -> int:
    pairs = n_classes * (n_classes - 1) // 2
    return _tile_rows(WIDE_BYTES // (itemsize * (2 * d + n_classes + pairs)), itemsize)


def wide_rows(pitch: int, n_classes: int, itemsize: int) -> int:
    return _tile_rows(WIDE_BYTES // (itemsize * (pitch + n_classes)), itemsize)


def sparse_batch(pitch: int, itemsize: int) -> int:
    """Return the rows of CSR whose logits are computed before they are added."""
    return min(max(BATCH_BYTES // (pitch * itemsize), 64), SPARSE_ROWS)


def _tile_rows(fit: int, itemsize: int) -> int:
    """About ``fit`` rows, an odd number of pairs of vectors up to 31: these too are a distance between rows of logits."""
    pair = 2 * VECTOR_BYTES // itemsize
    return pair * _odd(min(max(fit // pair, 1), 31))
