"""The grid of stored chunks: which of them a rectangle of rows and columns meets."""

import itertools
from collections.abc import Iterator

from dsoftmax.data.zarr.local.faults import Span

Place = tuple[int, int]
"""Number of a file or chunk along the rows, and along the columns."""


def overlaps(
    rows: Span, columns: Span, step: tuple[int, int]
) -> Iterator[tuple[Place, Span, Span]]:
    """Yield the places of a grid that a rectangle meets, and its rows and columns in each.

    Parameters
    ----------
    rows, columns : Span
        The rectangle.
    step : tuple of int
        Rows and columns between the lines of the grid.
    """
    across = [
        range(low // by, -(-high // by))
        for (low, high), by in zip((rows, columns), step, strict=True)
    ]
    for i, j in itertools.product(*across):
        yield (
            (i, j),
            (max(i * step[0], rows[0]), min((i + 1) * step[0], rows[1])),
            (max(j * step[1], columns[0]), min((j + 1) * step[1], columns[1])),
        )
