"""The door of frames: from what users pass to a `Frame`, and from a frame to its matrix."""

from collections.abc import Iterable
from typing import Any

from dsoftmax.data.coding import Coding
from dsoftmax.data.frames.categories import find_coding, matched
from dsoftmax.data.frames.frame import Frame
from dsoftmax.data.frames.matrix import FrameMatrix
from dsoftmax.data.frames.tables import ArrowPieces, LazyPieces, arrow_table


def frame_of(values: Any, name: str) -> Frame:
    """Return a `Frame` of what a user passes: a frame in memory, or a lazy one of polars.

    Raises
    ------
    DataError
        Two columns have one name, or a column mixes kinds of values.
    """
    if isinstance(values, Frame):
        return values
    pieces = (
        LazyPieces.of(values)
        if type(values).__name__ == "LazyFrame"
        else ArrowPieces.of(arrow_table(values, name))
    )
    return Frame(pieces, list(pieces.types), name)


def coded(values: Any, coding: Coding, name: str) -> FrameMatrix:
    """Return the features of a frame, by the names of the columns of a coding.

    Raises
    ------
    DataError
        A column is absent, or has another type.
    """
    frame = matched(frame_of(values, name), coding)
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
        A name stands for the column. Other values are returned as they are.
    name : str
    """
    frame = frame_of(values, name)
    found = [frame.column(one) if isinstance(one, str) else one for one in columns]
    return frame.without(one for one in columns if isinstance(one, str)), found
