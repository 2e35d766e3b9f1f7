"""A source made of arrays that can be read by row: X gives the chunks; y, weights and groups are read along with it."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import prod
from numbers import Real
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from dsoftmax.blocks import Block, Buffer, Columns, Encoded, Names, first_rows
from dsoftmax.errors import DataError
from dsoftmax.groups import group_keys
from dsoftmax.softmax import Features

MISSING_CHUNKS = ("error", "fill")
"""What a stored chunk that is not there may mean."""
STRING_BYTES = 96
"""What a string of any length is taken to have: a Python object with about 40 characters, and what refers to it (bytes)."""
COMPARED_BYTES = 160
"""What it has in an array of fixed width, in which labels are compared (bytes)."""
LEAF_ROW_BYTES = 80
"""What a row of a leaf takes beside its features and copies of its label: codes, weights, hashes, chances (bytes)."""


class Rows(Protocol):
    """An array that is read by spans of rows.

    Attributes
    ----------
    shape : tuple of int
    dtype : numpy dtype
    resident : bool
        Whether all is in memory anyway.
    """

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> np.dtype: ...
    @property
    def resident(self) -> bool: ...
    def read(self, start: int, stop: int, buffer: Buffer | None = None) -> Features:
        """Return rows ``start:stop``, in ``buffer`` where that is given and of use; thread-safe."""

    def only(self, starts: NDArray[np.int64], stops: NDArray[np.int64]) -> "Rows":
        """Return what can read the spans ``starts[i]:stops[i]``, which ascend, and is cheap to pickle."""

    def kept_bytes(self, starts: NDArray[np.int64]) -> int:
        """Return the bytes that stay decoded where spans are read that begin at ``starts``, each up to the next."""

    def smaller_chunks(self, rows: int) -> str:
        """Return the line that stores the array in chunks of ``rows`` rows; empty where it is in such, or there is no need."""

    def describe(self) -> dict[str, Any]:
        """Return what is stored, in JSON types."""


class Column(Protocol):
    """What is to be known of labels, weights or groups before they are read."""

    @property
    def dtype(self) -> np.dtype: ...


def columns_of(starts: NDArray[np.int64], y: Column | None, weights: Column | None, groups: Column | None) -> Columns:
    """Return what labels, weights and groups take.

    Parameters
    ----------
    starts : (n_chunks,) int64
        Rows at which the chunks begin.
    y, weights, groups : Rows or dask array, optional
        What is not `Rows` is taken to be read anew for each block.
    """
    row = stored = label = leaf = units = 0
    for column, kind in ((y, None), (weights, np.float64), (groups, np.uint64)):  # what they are converted to
        if column is None:
            continue
        if not getattr(column, "resident", False):
            stored += value_bytes(column.dtype)
            row += value_bytes(column.dtype) if kind is None else 8
        elif kind is not None and column.dtype != kind:
            row += 8
        units += column.kept_bytes(starts) if hasattr(column, "kept_bytes") else 0
    if groups is not None and groups.dtype.kind not in "biuf":  # words, one by one
        stored += STRING_BYTES
    if y is not None:
        plain = y.dtype.kind not in "OT"
        label = y.dtype.itemsize if plain else COMPARED_BYTES
        leaf = LEAF_ROW_BYTES + 3 * label + (0 if plain else STRING_BYTES)
    return Columns(row, stored, label, leaf, units)


def value_bytes(dtype: np.dtype) -> int:
    """Return the bytes of a value of a column, of strings of any length those they are taken to have."""
    return STRING_BYTES if dtype.kind in "OT" else dtype.itemsize


@dataclass(frozen=True)
class RowSource:
    """Chunks of rows of X, with the same rows of y, weights and groups.

    Attributes
    ----------
    X, y, weights, groups : Rows
        All but X may be None.
    chunk_rows, chunk_bytes : (n_chunks,) int64
    sparse : bool
    names : Names
    """

    X: Rows
    y: Rows | None
    weights: Rows | None
    chunk_rows: NDArray[np.int64]
    chunk_bytes: NDArray[np.int64]
    sparse: bool = False
    names: Names = field(default_factory=Names)
    groups: Rows | None = None

    @property
    def n_features(self) -> int:
        return int(self.X.shape[1])

    @property
    def dtype(self) -> np.dtype:
        return self.X.dtype

    @property
    def resident(self) -> bool:
        return self.X.resident

    def load(self, chunk: int, buffer: Buffer | None = None) -> Block:
        start, stop = self._span(chunk)
        return self.block(self.X.read(start, stop, buffer), start, stop)

    def fetch(self, chunk: int, buffer: Buffer) -> Block:
        start, stop = self._span(chunk)
        return self.block(_fetch(self.X, start, stop, buffer), start, stop)

    def _span(self, chunk: int) -> tuple[int, int]:
        start = int(self.starts[chunk])
        return start, start + int(self.chunk_rows[chunk])

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        return first_rows(self.chunk_rows)

    def block(self, X: Features | Encoded, start: int, stop: int) -> Block:
        """Return rows of X with those that belong to them."""
        y = None if self.y is None else self.y.read(start, stop)
        weights = None if self.weights is None else real_weights(self.weights.read(start, stop), self.names.weights)
        groups = None if self.groups is None else group_keys(self.groups.read(start, stop), self.names.groups, start)
        return Block(X, y, weights, start, self.names, groups)

    @cached_property
    def columns(self) -> Columns:
        return columns_of(self.starts, self.y, self.weights, self.groups)

    def share(self, chunks: Sequence[int]) -> "RowShare":
        numbers = np.unique(np.asarray(chunks, np.int64))
        starts = self.starts[numbers]
        stops = starts + self.chunk_rows[numbers]
        nothing = np.zeros(0, np.int64)
        source = replace(
            self,
            X=self.X.only(starts, stops),
            y=None if self.y is None else self.y.only(starts, stops),
            weights=None if self.weights is None else self.weights.only(starts, stops),
            groups=None if self.groups is None else self.groups.only(starts, stops),
            chunk_rows=nothing,
            chunk_bytes=nothing,
        )
        return RowShare(source, numbers, starts, stops)

    def needs(self, chunk: int) -> tuple[Any, ...]:
        return ()

    def smaller_chunks(self, rows: int) -> str:
        X = self.X if rows < self.chunk_rows.max() else None  # large chunks that are read in parts may stay
        parts = (X, self.y, self.weights, self.groups)
        return "\n  ".join(filter(None, (part.smaller_chunks(rows) for part in parts if part is not None)))

    def describe(self) -> dict[str, Any]:
        parts = {"X": self.X, "y": self.y, "weights": self.weights, "groups": self.groups}
        return {
            "arrays": {name: rows.describe() for name, rows in parts.items() if rows is not None},
            "chunks": len(self.chunk_rows),
        }


@dataclass(frozen=True)
class RowShare:
    """Some chunks of a `RowSource`, and the rows they span.

    Attributes
    ----------
    source : RowSource
    chunks : (n,) int64
        Ascending.
    starts, stops : (n,) int64
    """

    source: RowSource
    chunks: NDArray[np.int64]
    starts: NDArray[np.int64]
    stops: NDArray[np.int64]

    def load(self, chunk: int, buffer: Buffer | None = None) -> Block:
        start, stop = self._span(chunk)
        return self.source.block(self.source.X.read(start, stop, buffer), start, stop)

    def fetch(self, chunk: int, buffer: Buffer) -> Block:
        start, stop = self._span(chunk)
        return self.source.block(_fetch(self.source.X, start, stop, buffer), start, stop)

    def _span(self, chunk: int) -> tuple[int, int]:
        place = int(np.searchsorted(self.chunks, chunk))
        if place == len(self.chunks) or self.chunks[place] != chunk:
            raise KeyError(f"chunk {chunk} is not in this share of {len(self.chunks):,} chunks")
        return int(self.starts[place]), int(self.stops[place])


def _fetch(X: Rows, start: int, stop: int, buffer: Buffer) -> Features | Encoded:
    """Return rows to visit a piece at a time, where X knows of a better way to read those."""
    found: Features | Encoded = getattr(X, "fetch", X.read)(start, stop, buffer)
    return found


def check_shapes(names: Names, X: tuple[int, ...], *columns: tuple[int, ...] | None) -> None:
    """Raise unless X is (n, p) and the columns, which are y, weights and groups, are (n,).

    Raises
    ------
    DataError
        Naming the array, its shape, and the cure.
    """
    if len(X) != 2:
        cure = (
            "Reshape it, for example with X.reshape(-1, X.shape[-1])."
            if len(X) > 2
            else "Reshape your data, with X.reshape(-1, 1)."
        )
        if not names.X.isidentifier():  # the path of what is stored
            cure = _store_again("with two dimensions", names.X, X, X[-1:] if len(X) > 2 else (1,))
        raise DataError(f"{names.X} has {len(X)} dimensions {X}; needed are two, rows and features. {cure}")
    for name, shape in zip((names.y, names.weights, names.groups), columns, strict=False):
        if shape is None:
            continue
        if len(shape) != 1:
            cure = f"Pass {name}.ravel() or one column."
            if not name.isidentifier():
                whole = prod(shape) == X[0]
                cure = _store_again("as one column", name, shape, ()) if whole else "Store one column of it by itself."
            raise DataError(f"{name} has shape {shape}; needed is one value a row, ({X[0]},). {cure}")
        if shape[0] != X[0]:
            raise DataError(
                f"{name} has {shape[0]:,} rows and {names.X} has {X[0]:,}; needed is one value a row. "
                "Check that both come from the same data, in the same order."
            )
    if X[0] == 0:
        raise DataError(f"{names.X} has 0 rows (shape {X}) while a minimum of 1 is required.")
    if X[1] == 0:
        raise DataError(f"{names.X} has 0 feature(s) (shape={X}) while a minimum of 1 is required.")


def _store_again(how: str, path: str, shape: tuple[int, ...], row: tuple[int, ...]) -> str:
    """Return the sentence that says so, with the command that stores a local array as rows of this shape."""
    if not Path(path).is_absolute() or not shape or not prod(shape):
        return f"Store it {how}."
    from dsoftmax.sources.rechunk import reshape_command

    return f"Store it {how}, for example beside it as {Path(path).name}-rows:\n  {reshape_command(path, shape, row)}"


def every_row(weights: Any, n: tuple[int, ...]) -> Any:
    """Return one number as the weight of every row, (n,), without memory for each; other weights as they are."""
    return np.broadcast_to(np.float64(weights), n) if isinstance(weights, Real) else weights


def cut(n: int, step: int) -> NDArray[np.int64]:
    """Return the rows of the chunks that ``n`` rows make at ``step`` rows each; the last may be shorter."""
    rows = np.full(-(-n // step), step, np.int64)
    rows[-1] -= rows.sum() - n
    return rows


def require_numbers(name: str, dtype: np.dtype) -> None:
    """Raise unless the dtype holds real numbers.

    Raises
    ------
    DataError
    """
    if dtype.kind not in "biuf":
        kind = "Complex data not supported: " if dtype.kind == "c" else ""
        raise DataError(
            f"{kind}{name} has dtype {dtype}; needed are real numbers. Convert it with astype(float), or encode it."
        )


def dense_or_csr(X: Features) -> Features:
    """Return a block as ndarray or CSR; other sparse formats are converted.

    The arrays of CSR are contiguous, which SciPy does not ask for, and its values are of the machine's byte order and no float16,
    which SciPy does not compute with.
    """
    if not scipy.sparse.issparse(X):
        return np.asarray(X)
    X = X.tocsr()
    dtype = np.dtype(np.float32) if X.dtype == np.float16 else X.dtype.newbyteorder("=")
    parts = [np.ascontiguousarray(part) for part in (X.data.astype(dtype, copy=False), X.indices, X.indptr)]
    same = all(mine is theirs for mine, theirs in zip(parts, (X.data, X.indices, X.indptr), strict=True))
    return X if same else scipy.sparse.csr_array(tuple(parts), shape=X.shape)


def real_weights(weights: Any, name: str) -> NDArray[np.float64]:
    """Return weights as float64.

    Raises
    ------
    DataError
        They are not real numbers.
    """
    weights = np.asarray(weights)
    require_numbers(name, weights.dtype)
    return weights.astype(np.float64, copy=False)
