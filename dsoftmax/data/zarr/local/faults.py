"""Faults of stored chunks. Their reader turns them into errors with the array's name."""

Span = tuple[int, int]
"""First row or column and the one after the last; for bytes of a file, the first and the number."""


class MissingChunkError(Exception):
    """A stored chunk is absent.

    Attributes
    ----------
    what : str
        "the chunk c/3/0", or "the inner chunk (2, 0) of the shard c/3/0".
    rows : Span
        Requested rows that its file should hold.
    """

    def __init__(self, what: str, rows: Span) -> None:
        super().__init__(f"{what} is missing")
        self.what, self.rows = what, rows


class DamagedChunkError(Exception):
    """A file cannot be read or decoded. The cause of this error says why.

    Attributes
    ----------
    key : str
        Key of the chunk or shard.
    rows : Span
        Requested rows that the file should hold.
    """

    def __init__(self, key: str, rows: Span) -> None:
        super().__init__(f"{key} is damaged")
        self.key, self.rows = key, rows
