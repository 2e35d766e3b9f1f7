"""Which loops run for a shape, and the sizes of their tiles: arithmetic on integers.

The function `way` chooses one of five ways:

======== ================================ ============================================
way      shape                            vectors
======== ================================ ============================================
narrow   few features                     hold rows; a tile lies feature by feature
wide     more features, few classes       hold features; a tile lies row by row
products many classes                     BLAS multiplies; a loop makes the residuals
sparse   CSR, θ fits the cache            hold classes; the loops read one row at a time
panels   CSR, θ exceeds the cache         hold classes; the loops read panels of columns
======== ================================ ============================================

BLAS is slow at the products of few classes, so loops form those.
"""

from typing import Literal

from dsoftmax.kernels.packed import hessian_entries

Way = Literal["narrow", "wide", "products", "sparse", "panels"]

VECTOR_BYTES = 32
"""Bytes of one vector: 8 float32 or 4 float64."""
NARROW_FEATURES = 64
"""Number of features from which vectors no longer hold rows."""
WIDE_CLASSES = 64
"""Number of classes from which BLAS is no slower than the loops."""
NARROW_BYTES = 2**15
"""Bytes of a narrow tile and its logits: the first-level cache."""
WIDE_BYTES = 192 * 2**10
"""Bytes of a wide tile and its logits: less than half of the second-level cache."""
MULTIPLIED_FEATURES = 256
"""Most features for which loops form the products of the Hessian with vectors."""
CURVED_FEATURES, CURVED_PAIRS, CURVED_SUMS = 128, 78, 2**17
"""Most features, pairs of classes, and entries of the Hessian's pairs, that loops sum.

Their sums, one for each lane, fill 4 MiB. Beyond these sizes BLAS is as fast with vectors of 32
bytes, and twice as fast on processors with longer ones.
"""
PARTIAL_SUMS = 2**13
"""Most entries of θ whose sums are separate for each lane.

At 32 bytes each they fit the second-level cache.
"""
COLUMNS = 64
"""Rows of a tile whose logits become residuals at a time, after BLAS."""

DIGIT_BITS = 32
"""Bits of a digit of an exact sum: see `dsoftmax.sums.totals`."""
LINE = 64
"""Bytes of a cache line."""
SLICE_VECTORS = 4
"""Most vectors of classes that the CSR loops keep in registers at a time."""
CACHED_ENTRIES = 2**20
"""Most entries of θ for which the loops fetch its rows one by one.

Both tables of that size, θ and its sums, are mostly in the cache.
"""
SPARSE_ROWS = 2**14
"""CSR rows whose sums stay in the compute dtype if θ fits the cache.

Moving sums to float64 costs the same for fewer.
"""
BATCH_BYTES = 2**20
"""Bytes of the logits of CSR rows that are computed before they are added to the sums.

A larger batch changes less often between θ and the sums, which evict each other from the cache.
"""
COLUMN_BITS = 19
"""Bits of a 32-bit place in a panel that hold the column. The other 13 hold the row."""
TILE_ENTRIES = 2**20
"""Stored values of a tile of CSR rows that are sorted into panels.

A row with more is a tile of its own.
"""
PANEL_COLUMNS = 1024
"""Columns of a panel, unless that makes more than `MOST_PANELS`."""
MOST_PANELS = 256
"""Most panels of columns."""


def panel_shift(n_features: int) -> int:
    """Return the binary logarithm of the columns of a panel."""
    return max(PANEL_COLUMNS.bit_length() - 1, (-(-n_features // MOST_PANELS) - 1).bit_length())


def way(n_features: int, n_classes: int, sparse: bool) -> Way:
    """Return the loops for a shape."""
    if sparse:
        large = n_features * n_classes > CACHED_ENTRIES
        return "panels" if large and n_features <= MOST_PANELS << COLUMN_BITS else "sparse"
    if n_features < NARROW_FEATURES and (n_features + 1) * n_classes <= PARTIAL_SUMS:
        return "narrow"
    return "wide" if n_classes < WIDE_CLASSES else "products"


def curves(n_features: int, n_classes: int, sparse: bool) -> bool:
    """Return whether loops, not BLAS, sum the Hessian of this shape."""
    few = n_features <= CURVED_FEATURES and n_classes * (n_classes - 1) // 2 <= CURVED_PAIRS
    return not sparse and few and hessian_entries(n_features, n_classes) <= CURVED_SUMS


def multiplies(n_features: int, n_classes: int, sparse: bool) -> bool:
    """Return whether loops, not BLAS, form the products of the Hessian with vectors."""
    return (
        not sparse
        and n_features <= MULTIPLIED_FEATURES
        and (n_features + 1) * n_classes <= PARTIAL_SUMS
    )


def up(number: int, multiple: int) -> int:
    """Return the least multiple that is no less than the number."""
    return -(-number // multiple) * multiple


def pitch_of(d: int, lanes: int) -> int:
    """Return the entries from one row to the next: an odd number of pairs of vectors.

    The rows then spread over the sets of the cache.
    """
    return 2 * lanes * _odd(-(-d // (2 * lanes)))


def narrow_rows(d: int, n_classes: int, itemsize: int) -> int:
    """Return the rows of a narrow tile."""
    return _tile_rows(NARROW_BYTES // (itemsize * (d + n_classes)), itemsize)


def curved_rows(d: int, n_classes: int, itemsize: int) -> int:
    """Return the rows of a tile of the Hessian's pairs."""
    pairs = n_classes * (n_classes - 1) // 2
    return _tile_rows(WIDE_BYTES // (itemsize * (2 * d + n_classes + pairs)), itemsize)


def wide_rows(pitch: int, n_classes: int, itemsize: int) -> int:
    """Return the rows of a wide tile."""
    return _tile_rows(WIDE_BYTES // (itemsize * (pitch + n_classes)), itemsize)


def sparse_batch(pitch: int, itemsize: int) -> int:
    """Return the CSR rows whose logits are computed before they are added to the sums."""
    return min(max(BATCH_BYTES // (pitch * itemsize), 64), SPARSE_ROWS)


def _tile_rows(fit: int, itemsize: int) -> int:
    """Return about ``fit`` rows: an odd number of pairs of vectors, up to 31.

    The rows of a tile are a pitch too, that of its logits.
    """
    pair = 2 * VECTOR_BYTES // itemsize
    return pair * _odd(min(max(fit // pair, 1), 31))


def _odd(number: int) -> int:
    return number | 1
