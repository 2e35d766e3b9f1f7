"""A frame: rows with columns by name, of which features, labels and weights are chosen."""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import overload

from dsoftmax.data.frames.columns import FrameColumn
from dsoftmax.data.frames.pieces import Pieces
from dsoftmax.data.frames.types import is_value
from dsoftmax.errors import DataError

SHOWN = 12
"""Most names that a message lists."""


class Frame:
    """Rows with columns by name. Nothing is read before the rows are needed.

    Parameters
    ----------
    pieces : Pieces
    columns : list of str
        Names of the columns, in their order.
    name : str
        Name of the frame in messages.
    """

    def __init__(self, pieces: Pieces, columns: list[str], name: str) -> None:
        self.pieces, self.columns, self.name = pieces, columns, name

    def __repr__(self) -> str:
        rows = int(self.pieces.piece_rows.sum())
        return f"<Frame {self.pieces.place}: {rows:,} rows, {len(self.columns):,} columns>"

    @overload
    def __getitem__(self, names: str) -> FrameColumn: ...
    @overload
    def __getitem__(self, names: list[str]) -> "Frame": ...
    def __getitem__(self, names: str | list[str]) -> "Frame | FrameColumn":
        """Return a column by its name, or a frame of some columns in the order of a list.

        Raises
        ------
        DataError
            A column does not exist, or is listed twice.
        """
        if isinstance(names, str):
            return self.column(names)
        require_columns(names, self.columns, self.pieces.place)
        return Frame(self.pieces, list(names), self.name)

    def column(self, name: str) -> FrameColumn:
        """Return a column of labels, weights or groups.

        Raises
        ------
        DataError
            There is no such column, or its type is none of numbers and strings.
        """
        require_columns([name], self.columns, self.pieces.place)
        kind = self.pieces.types[name]
        if not is_value(kind):
            raise DataError(
                f"{self.pieces.place}: the column {name} is {kind}; expected numbers, booleans or "
                "strings. Convert it, or pass another column."
            )
        return FrameColumn(self.pieces, name)

    def without(self, names: Iterable[str]) -> "Frame":
        """Return the frame without some columns."""
        left = set(names)
        return Frame(self.pieces, [one for one in self.columns if one not in left], self.name)


def require_columns(wanted: Iterable[str], known: list[str], place: str) -> None:
    """Raise unless all names are distinct columns.

    Raises
    ------
    DataError
        The message offers the nearest name.
    """
    seen: set[str] = set()
    for name in wanted:
        if name in seen:
            raise DataError(
                f"{place}: the column {name} is named twice; expected every column once. Leave one "
                "out."
            )
        seen.add(name)
        if name not in known:
            near = get_close_matches(str(name), known, n=1, cutoff=0.5)
            hint = f" Did you mean {near[0]}?" if near else ""
            more = f" and {len(known) - SHOWN:,} more" if len(known) > SHOWN else ""
            raise DataError(
                f"{place} has no column {name}.{hint} Its columns are "
                f"{', '.join(map(str, known[:SHOWN]))}{more}. Pass one of them."
            )
