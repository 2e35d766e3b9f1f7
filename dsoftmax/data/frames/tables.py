"""Frames in memory, and lazy frames of polars, as Arrow tables."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from hashlib import blake2b
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dsoftmax.data.frames.pieces import Pieces, Table
from dsoftmax.data.leaves import MOST_LEAF_ROWS
from dsoftmax.data.rows import cut
from dsoftmax.errors import DataError, ReadError


class ArrowPieces(Pieces):
    """A table in memory, or some spans of its rows.

    Parameters
    ----------
    whole : pyarrow.Table
        The rows of the spans, one span after the other.
    piece_rows : (n,) int64
        Rows of the spans, and of the gaps between them.
    offsets : (n,) int64
        First row of each piece in ``whole``; -1 for a gap.
    nullable : frozenset of str
        Columns with nulls in the table of all rows.
    """

    def __init__(
        self,
        whole: Table,
        piece_rows: NDArray[np.int64],
        offsets: NDArray[np.int64],
        nullable: frozenset[str],
    ) -> None:
        self.whole, self._piece_rows, self.offsets = whole, piece_rows, offsets
        self._nullable = nullable

    def __reduce__(self) -> tuple[Any, ...]:
        present = np.flatnonzero(self.offsets >= 0)
        sizes = self._piece_rows[present]
        spans = zip(self.offsets[present].tolist(), sizes.tolist(), strict=True)
        # A copy of the rows. A slice would be pickled with all rows of its dictionary or buffers.
        parts = [self.whole.slice(low, n) for low, n in spans] or [self.whole.slice(0, 0)]
        own = pa.concat_tables(parts).combine_chunks()
        offsets = np.full(len(self.offsets), -1, np.int64)
        offsets[present] = np.cumsum(sizes) - sizes
        return ArrowPieces, (own, self._piece_rows, offsets, self._nullable)

    @classmethod
    def of(cls, table: Table) -> "ArrowPieces":
        """Return the pieces of a table: all rows are one."""
        names = table.schema.names
        nullable = frozenset(name for name in names if _has_nulls(table.column(name)))
        return cls(table, np.array([table.num_rows], np.int64), np.zeros(1, np.int64), nullable)

    @property
    def types(self) -> Mapping[str, Any]:
        return dict(zip(self.whole.schema.names, self.whole.schema.types, strict=True))

    @property
    def nullable(self) -> frozenset[str]:
        return self._nullable

    @property
    def piece_rows(self) -> NDArray[np.int64]:
        return self._piece_rows

    @property
    def place(self) -> str:
        return "X"

    @property
    def resident(self) -> bool:
        return True

    def table(self, piece: int, names: Sequence[str]) -> Table:
        start = int(self.offsets[piece])
        if start < 0:
            raise KeyError(f"piece {piece} is not among these spans of rows")
        return self.whole.select(list(names)).slice(start, int(self._piece_rows[piece]))

    def only(self, starts: NDArray[np.int64], stops: NDArray[np.int64]) -> "ArrowPieces":
        first = np.cumsum(self._piece_rows) - self._piece_rows
        bounds = np.unique(np.concatenate([[0, self._piece_rows.sum()], starts, stops]))
        lows, sizes = bounds[:-1], np.diff(bounds)
        mine = np.searchsorted(first, lows, side="right") - 1
        offsets = np.where(
            np.isin(lows, starts) & (self.offsets[mine] >= 0),
            self.offsets[mine] + lows - first[mine],
            -1,
        )
        return ArrowPieces(self.whole, sizes, offsets, self._nullable)

    def describe(self) -> dict[str, Any]:
        digest = blake2b(digest_size=16)
        for batch in self.whole.combine_chunks().to_batches():
            for column in batch.columns:
                for buffer in column.buffers():
                    digest.update(b"none" if buffer is None else buffer)
        return {"kind": "arrow", "store": "memory", "digest": digest.hexdigest(), **_PLAIN}


class LazyPieces(Pieces):
    """A lazy frame of polars. A piece is a slice of its rows, and runs the query for them.

    The query must return its rows in the same order every time. polars reads only the rows of a
    slice if the query scans files. After other steps, such as a filter, it reads more.

    Parameters
    ----------
    query : polars.LazyFrame
    schema : pyarrow.Schema
    n_rows : int
    nullable : frozenset of str
    """

    def __init__(self, query: Any, schema: Any, n_rows: int, nullable: frozenset[str]) -> None:
        self.query, self.schema, self.n_rows, self._nullable = query, schema, n_rows, nullable

    @classmethod
    def of(cls, query: Any) -> "LazyPieces":
        """Count rows and nulls, in one run of the query."""
        import polars

        schema = query.slice(0, 0).collect().to_arrow().schema
        counts = query.select(
            polars.len().alias("n"), polars.struct(polars.all().null_count()).alias("nulls")
        ).collect()
        nulls = counts["nulls"][0]
        nullable = frozenset(name for name in schema.names if nulls[name])
        return cls(query, schema, int(counts["n"][0]), nullable)

    @property
    def types(self) -> Mapping[str, Any]:
        return dict(zip(self.schema.names, self.schema.types, strict=True))

    @property
    def nullable(self) -> frozenset[str]:
        return self._nullable

    @cached_property
    def _sizes(self) -> NDArray[np.int64]:
        return cut(self.n_rows, MOST_LEAF_ROWS) if self.n_rows else np.zeros(1, np.int64)

    @property
    def piece_rows(self) -> NDArray[np.int64]:
        return self._sizes

    @property
    def place(self) -> str:
        return "X"

    def table(self, piece: int, names: Sequence[str]) -> Table:
        rows = int(self._sizes[piece])
        try:
            found = self.query.select(names).slice(piece * MOST_LEAF_ROWS, rows).collect()
        except Exception as error:
            raise ReadError(
                f"X rows from {piece * MOST_LEAF_ROWS:,} on: the lazy frame cannot be computed "
                f"({type(error).__name__}: {error}). Check that X.collect() works in every process."
            ) from error
        if found.height != rows:
            raise ReadError(
                f"X rows from {piece * MOST_LEAF_ROWS:,} on: the lazy frame has {found.height:,} "
                f"rows, and had {rows:,} when it was opened. Its files were changed. Fit again."
            )
        return found.to_arrow()

    def describe(self) -> dict[str, Any]:
        digest = blake2b(self.query.explain(optimized=False).encode(), digest_size=16)
        return {"kind": "polars", "store": "query", "digest": digest.hexdigest(), **_PLAIN}


_PLAIN: dict[str, Any] = {"shards": None, "format": "Arrow", "compressors": []}


def _has_nulls(column: Any) -> bool:
    return any(
        chunk.null_count or (pa.types.is_dictionary(chunk.type) and chunk.dictionary.null_count)
        for chunk in column.chunks
    )


def require_distinct(names: list[Any], name: str) -> None:
    """Raise if two columns of a frame have one name.

    Raises
    ------
    DataError
    """
    if len(set(names)) < len(names):
        twice = next(one for one in names if names.count(one) > 1)
        raise DataError(
            f"{name} has two columns named {twice}; expected distinct names. Rename one of them."
        )


def arrow_table(values: Any, name: str) -> Table:
    """Return a frame in memory as an Arrow table. NaN stays NaN in columns of floats.

    Parameters
    ----------
    values : pandas, polars or other eager frame that narwhals knows, Table or RecordBatch
    name : str

    Raises
    ------
    DataError
        Two columns have one name, or a column mixes kinds of values.
    """
    if isinstance(values, pa.RecordBatch):
        values = pa.Table.from_batches([values])
    names = values.schema.names if isinstance(values, pa.Table) else list(values.columns)
    require_distinct(names, name)
    if isinstance(values, pa.Table):
        return values
    import narwhals

    try:
        found = narwhals.from_native(values, eager_only=True).to_arrow()
        table = found.select([str(one) for one in names])
        for one in names:
            column = values[one]
            plain = isinstance(getattr(column, "dtype", None), np.dtype)
            if plain and column.dtype.kind == "f":
                # pandas would declare NaN as null.
                array = pa.array(column.to_numpy(), from_pandas=False)
                table = table.set_column(table.schema.names.index(str(one)), str(one), array)
    except (pa.ArrowException, TypeError) as error:
        raise DataError(
            f"{name} cannot be converted to Arrow ({error}); expected columns of one kind of value "
            "each. Convert the column, for example with astype(str)."
        ) from error
    return table
