"""The contract of a source."""

import json
import pickle
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from dsoftmax.data.block import Block, Encoded
from dsoftmax.data.columns import ColumnBytes
from dsoftmax.data.groups import group_keys
from dsoftmax.data.source import Share, Source, first_rows
from dsoftmax.data.table import Names, Table
from dsoftmax.testing.require import require
from dsoftmax.typing import SparseArray


def check_source(
    source: Source,
    X: NDArray | SparseArray | None = None,
    y: NDArray | None = None,
    weights: NDArray | None = None,
    groups: NDArray | None = None,
) -> None:
    """Check that a source keeps the contract of `dsoftmax.data.source.Source`.

    * The metadata describe the blocks correctly, and the blocks hold the rows in order.
    * Equal blocks come from a second load, from loads in another order, with and without a buffer,
      and from a pickled share.
    * A block that was loaded without a buffer shares its memory with no buffer.
    * ``describe`` returns JSON types, and the same on each call.

    Parameters
    ----------
    source : Source
        A small source, because every chunk is loaded several times.
    X : (n, p) ndarray or SciPy sparse, optional
        Rows that the blocks must hold together.
    y, weights : (n,) ndarray, optional
        Labels and weights that the blocks must hold together.
    groups : (n,) ndarray, optional
        Groups as stored. The blocks must hold the numbers that `dsoftmax.data.groups` gives them.

    Raises
    ------
    AssertionError
        The message names the broken rule.
    """
    require(
        isinstance(source, Source),
        f"{type(source).__name__} lacks a method or attribute of dsoftmax.data.source.Source",
    )
    _check_metadata(source)
    chunks = range(len(source.chunk_rows))
    blocks = [source.load(chunk) for chunk in chunks]
    for chunk, (block, start) in enumerate(zip(blocks, first_rows(source.chunk_rows), strict=True)):
        _check_block(source, chunk, block, int(start))
    for chunk in reversed(chunks):
        _require_equal(blocks[chunk], source.load(chunk), f"chunk {chunk}, loaded twice")
    _check_buffers("source", source, source, blocks)
    if not any(source.needs(chunk) for chunk in chunks):
        _check_shares(source, blocks)
    require(isinstance(source.smaller_chunks(7), str), "smaller_chunks() must return lines of text")
    described = source.describe()
    require(
        json.loads(json.dumps(described)) == described,
        f"describe() returns other types than those of JSON: {described}",
    )
    require(source.describe() == described, "describe() returns something else on the second call")
    _check_rows("X", X, [_dense(block.X) for block in blocks])
    _check_rows("y", y, [block.y for block in blocks])
    _check_rows("weights", weights, [block.weights for block in blocks])
    _check_rows(
        "groups", None if groups is None else group_keys(groups), [block.groups for block in blocks]
    )


def _check_metadata(source: Source) -> None:
    for name in ("chunk_rows", "chunk_bytes"):
        sizes = getattr(source, name)
        require(
            isinstance(sizes, np.ndarray) and sizes.dtype == np.int64 and sizes.ndim == 1,
            f"{name} is {sizes!r}; expected an int64 array with one entry per chunk",
        )
        require((sizes >= 0).all(), f"{name} holds negative sizes: {sizes}")
    require(
        len(source.chunk_rows) == len(source.chunk_bytes),
        "chunk_rows and chunk_bytes differ in length",
    )
    require(
        isinstance(source.n_features, int) and source.n_features > 0,
        f"n_features is {source.n_features!r}",
    )
    require(
        isinstance(source.dtype, np.dtype), f"dtype is {source.dtype!r}; expected a NumPy dtype"
    )
    require(
        isinstance(source.names, Names),
        f"names is {source.names!r}; expected dsoftmax.data.table.Names",
    )
    require(
        isinstance(source.columns, ColumnBytes),
        f"columns is {source.columns!r}; expected dsoftmax.data.columns.ColumnBytes",
    )
    dtypes = source.dtypes
    require(
        isinstance(dtypes, Table) and all(isinstance(one, np.dtype) for _, one in dtypes.items()),
        f"dtypes is {dtypes!r}; expected dsoftmax.data.table.Table of NumPy dtypes",
    )
    require(dtypes.X == source.dtype, f"dtypes.X is {dtypes.X}, dtype is {source.dtype}")
    for chunk in range(len(source.chunk_rows)):
        require(isinstance(source.needs(chunk), tuple), f"needs({chunk}) is not a tuple")


def _check_block(source: Source, chunk: int, block: Block, start: int) -> None:
    at, rows = f"chunk {chunk}: ", int(source.chunk_rows[chunk])
    require(
        block.X.shape == (rows, source.n_features),
        f"{at}X has shape {block.X.shape}; the source states {(rows, source.n_features)}",
    )
    require(
        scipy.sparse.issparse(block.X) == source.sparse,
        f"{at}X is {type(block.X)}; the source states sparse={source.sparse}",
    )
    require(not source.sparse or block.X.format == "csr", f"{at}a sparse block must be CSR")
    same = block.X.dtype.newbyteorder("=") == source.dtype.newbyteorder("=")
    require(same, f"{at}X has dtype {block.X.dtype}; the source states {source.dtype}")
    require(block.first_row == start, f"{at}first_row is {block.first_row}; expected {start}")
    require(block.names == source.names, f"{at}the block's names are not the source's")
    require(block.y is None or np.shape(block.y) == (rows,), f"{at}y is not ({rows},)")
    if block.weights is not None:
        right = block.weights.shape == (rows,) and block.weights.dtype == np.float64
        require(right, f"{at}weights are not ({rows},) float64")
    if block.groups is not None:
        right = block.groups.shape == (rows,) and block.groups.dtype == np.uint64
        require(right, f"{at}groups are not ({rows},) uint64")
    own = [
        part
        for part in (block.y, block.weights, block.groups)
        if part is not None and part.base is None
    ]
    size, said = sum(part.nbytes for part in own), rows * source.columns.row
    require(
        size <= said, f"{at}labels, weights and groups have {size} bytes; the source states {said}"
    )
    if not source.sparse:
        require(
            block.nbytes == source.chunk_bytes[chunk],
            f"{at}X has {block.nbytes} bytes; the source states {source.chunk_bytes[chunk]}",
        )


def _check_buffers(name: str, source: Source, share: Share, blocks: list[Block]) -> None:
    """Load every chunk into one buffer, which is overwritten before and after."""
    buffer = np.full(int(source.chunk_bytes.max()), 0xA5, np.uint8)
    for chunk, block in enumerate(blocks):
        alone, found = share.load(chunk), share.load(chunk, buffer)
        _require_equal(block, found, f"{name}: chunk {chunk}, loaded into a buffer")
        same = source.sparse or alone.X.flags.c_contiguous == found.X.flags.c_contiguous
        require(
            same,
            f"{name}: chunk {chunk} has another memory order in a buffer, so that sums may round "
            "differently",
        )
        _check_fetched(block, share.fetch(chunk, buffer), f"{name}: chunk {chunk}, fetched")
        buffer[:] = 0xA5
        _require_equal(
            block,
            alone,
            f"{name}: chunk {chunk}, loaded without the buffer, after the buffer was used again",
        )
        _require_equal(
            block, share.load(chunk), f"{name}: chunk {chunk}, loaded without the buffer"
        )


def _check_fetched(block: Block, fetched: Block, what: str) -> None:
    """Visit the leaves of a block that may be encoded, and slices of a few rows."""
    require(
        (fetched.X.shape, fetched.nbytes) == (block.X.shape, block.nbytes),
        f"{what}: X has another shape or size",
    )
    for leaf, found in zip(block.leaves(), fetched.leaves(), strict=True):
        # Rows of encoded X are searched for missing values once they are decoded.
        (counted, skipped), (counted_too, skipped_too) = leaf.counted(), found.counted()
        _require_equal(counted, counted_too, what)
        require(_equal(skipped, skipped_too), f"{what}: other rows are skipped")
    if isinstance(fetched.X, Encoded):
        for rows in (1, 7):
            slices = [some.copy() for some in fetched.X.slices(rows)]
            require(
                _same(np.concatenate(slices), block.X),
                f"{what}: in slices of {rows} rows, X differs",
            )


def _check_shares(source: Source, blocks: list[Block]) -> None:
    n = len(blocks)
    for chunks in (list(range(n)), list(range(n))[::2], [n - 1]):
        share = pickle.loads(pickle.dumps(source.share(chunks)))
        require(isinstance(share, Share), "share() lacks a method of dsoftmax.data.source.Share")
        for chunk in reversed(chunks):
            _require_equal(
                blocks[chunk],
                share.load(chunk),
                f"chunk {chunk} from the pickled share of {chunks}",
            )
        if len(chunks) == n:
            _check_buffers("share", source, share, blocks)


def _require_equal(one: Block, two: Block, what: str) -> None:
    columns = ("y", "weights", "groups", "reasons", "numbers")
    pairs = [(name, getattr(one, name), getattr(two, name)) for name in columns]
    for name, left, right in (("X", _dense(one.X), _dense(two.X)), *pairs):
        require(_equal(left, right), f"{what}: {name} differs")
    require(
        one.first_row == two.first_row and one.names == two.names,
        f"{what}: first_row or names differ",
    )


def _equal(one: Any, two: Any) -> bool:
    return one is two if one is None or two is None else _same(one, two)


def _check_rows(name: str, expected: Any, parts: list[Any]) -> None:
    if expected is None:
        return
    require(all(part is not None for part in parts), f"{name} is missing from the blocks")
    found = np.concatenate([np.asarray(part) for part in parts])
    require(
        _same(found, _dense(expected)),
        f"the {name} of the blocks, one after the other, differs from the original",
    )


def _dense(values: Any) -> NDArray:
    return np.asarray(values.toarray() if scipy.sparse.issparse(values) else values)


def _same(one: Any, two: Any) -> bool:
    one, two = np.asarray(one), np.asarray(two)
    numbers = one.dtype.kind in "fc" and two.dtype.kind in "fc"
    return one.shape == two.shape and bool(np.array_equal(one, two, equal_nan=numbers))
