"""The door of frames: from what users pass to a `Frame`, and from a frame to its matrix."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from dsoftmax.data.coding import Coding
from dsoftmax.data.frames.categories import find_coding, require_coded
from dsoftmax.data.frames.columns import FrameColumn
from dsoftmax.data.frames.frame import Frame
from dsoftmax.data.frames.matrix import FrameMatrix
from dsoftmax.data.frames.pieces import Pieces
from dsoftmax.data.frames.tables import ArrowPieces, LazyPieces, arrow_table, require_distinct
from dsoftmax.data.kind import is_frame, kind_of
from dsoftmax.data.table import Table


def frame_of(values: Any, name: str) -> Frame:
    """Return a `Frame` of what a user passes: one in memory, or lazy ones of polars
    and dask.

    Raises
    ------
    DataError
        Two columns have one name, or a column mixes kinds of values.
    """
    if isinstance(values, Frame):
        return values
    return Frame(pieces := _pieces_of(values, name), list(pieces.types), name)


def _pieces_of(values: Any, name: str) -> Pieces:
    if kind_of(values) == "dask":
        from dsoftmax.data.dask.frames import DaskPieces

        require_distinct(list(values.columns), name)
        return DaskPieces(values)
    if type(values).__name__ == "LazyFrame":
        return LazyPieces.of(values)
    return ArrowPieces.of(arrow_table(values, name))


def series_column(values: Any) -> FrameColumn:
    """Return a dask Series as a column."""
    name = "values" if values.name is None else str(values.name)
    return frame_of(values.to_frame(name=name), name).column(name)


def as_dask(table: Table[Any]) -> Table[Any]:
    """Return a table in which frames of dask, and their columns, are dask arrays.

    The rows of their partitions are counted.
    """
    if not any(is_frame(values) and values.lazy for _, values in table.items()):
        return table
    from dsoftmax.data.dask.frames import column_of, features_of

    def column(values: Any, name: str) -> Any:
        return column_of(values, known=True) if is_frame(values) and values.lazy else values

    if is_frame(table.X) and table.X.lazy:
        X, skipped = features_of(table.X, known=True)
        return replace(table.map_columns(column, X), skipped=skipped)
    return table.map_columns(column, table.X)


def coded(values: Any, coding: Coding, name: str) -> FrameMatrix:
    """Return the features of a frame, by the names of the columns of a coding.

    Raises
    ------
    DataError
        A column is absent, or has another type.
    """
    frame = frame_of(values, name)
    require_coded(frame, coding)
    return FrameMatrix(frame.pieces, coding)


def newly_coded(
    values: Any, categorical: Any, unknown: str, name: str
) -> tuple[FrameMatrix, Coding]:
    """Return the features of a frame, and their coding.

    Raises
    ------
    OptionError, DataError
    """
    frame = frame_of(values, name)
    coding = find_coding(frame, categorical, unknown)
    return FrameMatrix(frame.pieces, coding), coding


def taken(values: Any, columns: Iterable[Any], name: str) -> tuple[Frame, list[Any]]:
    """Return a frame without the columns that are named, and these columns.

    Parameters
    ----------
    values : frame
    columns : iterable
        A name stands for the column, which is an array if the frame is in memory. Other values are
        returned as they are.
    name : str
    """
    frame = frame_of(values, name)
    columns = list(columns)
    found = [_column(frame, one) if isinstance(one, str) else one for one in columns]
    return frame.without(one for one in columns if isinstance(one, str)), found


def _column(frame: Frame, name: str) -> Any:
    column = frame.column(name)
    if not frame.pieces.resident:
        return column
    return column.rows(name, "error").read(0, column.shape[0])
