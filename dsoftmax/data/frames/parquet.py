"""Parquet: one file, several, or a folder with hive partitions. Pieces are row groups."""

import os
import shlex
import threading
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from dsoftmax.data.frames.files import listed_files, partitions_of
from dsoftmax.data.frames.footers import common_columns, read_footer
from dsoftmax.data.frames.frame import Frame
from dsoftmax.data.frames.pieces import Pieces, Table
from dsoftmax.data.frames.types import common_type, is_text
from dsoftmax.errors import ReadError

LISTED = 4
"""Most files that a command in a message stores again. Others have no command."""
FOOTERS = 32
"""Parsed footers that stay in a process. A footer is parsed again for a file beyond them."""
OPENED_AT_ONCE = 16
"""Threads that read the footers of many files."""


def parquet(
    path: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    columns: Iterable[str] | None = None,
) -> Frame:
    """Open Parquet files as a frame, whose rows are read in row groups.

    Only the footers of the files are read.

    Parameters
    ----------
    path : path, pattern or URL, or a sequence of paths
        A file, a folder, or a pattern such as ``"part-*.parquet"``. Files are taken in the order
        of their names, or in that of the sequence. Folders named ``key=value`` are columns.
    columns : iterable of str, optional
        Columns of the frame; all when None. Others are never read.

    Returns
    -------
    Frame
        ``frame[["a", "b"]]`` has fewer columns, and ``frame["y"]`` is one column.

    Raises
    ------
    OptionError
        pyarrow is not installed.
    ReadError
        There is no such file, or a footer cannot be read.
    DataError
        A column does not exist, or its type differs between the files.

    Examples
    --------
    >>> import tempfile, pyarrow, pyarrow.parquet
    >>> from dsoftmax import SoftmaxRegression, parquet
    >>> table = pyarrow.table({"a": [0.0, 1.0, 2.0, 3.0], "y": ["no", "no", "yes", "yes"]})
    >>> with tempfile.TemporaryDirectory() as place:
    ...     pyarrow.parquet.write_table(table, f"{place}/part-0.parquet")
    ...     frame = parquet(f"{place}/part-*.parquet")
    ...     estimator = SoftmaxRegression().fit(frame, "y")
    ...     frame.columns, estimator.predict(frame).tolist()
    (['a', 'y'], ['no', 'no', 'yes', 'yes'])
    """
    pieces = ParquetPieces.open(path)
    frame = Frame(pieces, list(pieces.found), "X")
    return frame if columns is None else frame[list(columns)]


class ParquetPieces(Pieces):
    """The row groups of Parquet files.

    Parameters
    ----------
    place : str
        The path, as its user spells it.
    filesystem : pyarrow.fs.FileSystem
    files : sequence of str
    keys : sequence of dict
        Values of the hive partitions of each file.
    found : dict
        Types that each column has in the files.
    nullable : frozenset of str
    groups : (n, 2) int64
        Number of the file, and number of the row group in it.
    piece_rows : (n,) int64
    """

    def __init__(
        self,
        place: str,
        filesystem: Any,
        files: Sequence[str],
        keys: Sequence[Mapping[str, Any]],
        found: dict[str, tuple[Any, ...]],
        nullable: frozenset[str],
        groups: NDArray[np.int64],
        piece_rows: NDArray[np.int64],
    ) -> None:
        self._place, self.filesystem, self.files, self.keys = place, filesystem, files, keys
        self.found, self._nullable = found, nullable
        self.groups, self._piece_rows = groups, piece_rows
        self._footers: dict[int, Any] = {}
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        return ParquetPieces, (
            self._place,
            self.filesystem,
            self.files,
            self.keys,
            self.found,
            self._nullable,
            self.groups,
            self._piece_rows,
        )

    @classmethod
    def open(cls, path: Any) -> "ParquetPieces":
        """Read the footers of all files of a path.

        Raises
        ------
        ReadError, DataError
        """
        several = isinstance(path, (list, tuple))
        paths = [os.fspath(one) for one in path] if several else [os.fspath(path)]
        place = paths[0] if len(paths) == 1 else f"{paths[0]} and {len(paths) - 1} more"
        filesystem, files = listed_files(paths, place)
        keys, partitions = partitions_of(files, filesystem)
        with ThreadPoolExecutor(min(OPENED_AT_ONCE, len(files))) as threads:
            footers = list(threads.map(lambda file: read_footer(filesystem, file), files))
        found = common_columns(footers, files, partitions)
        nullable = frozenset().union(*(footer.nullable for footer in footers))
        nullable |= {name for one in keys for name, value in one.items() if value is None}
        groups = [
            (number, group, rows)
            for number, footer in enumerate(footers)
            for group, rows in enumerate(footer.rows)
            if rows
        ]
        table = np.array(groups, np.int64).reshape(-1, 3)
        return cls(place, filesystem, files, keys, found, nullable, table[:, :2], table[:, 2])

    @property
    def types(self) -> Mapping[str, Any]:
        return _Types(self.found, self._place)

    @property
    def nullable(self) -> frozenset[str]:
        return self._nullable

    @property
    def piece_rows(self) -> NDArray[np.int64]:
        return self._piece_rows

    @property
    def place(self) -> str:
        return self._place

    def table(self, piece: int, names: Sequence[str]) -> Table:
        number, group = self.groups[piece].tolist()
        keys = self.keys[number]
        own = [name for name in names if name not in keys]
        text = [name for name in own if any(map(is_text, self.found[name]))]
        try:
            with self.filesystem.open_input_file(self.files[number]) as file:
                metadata = self._metadata(number, file)
                stored = pq.ParquetFile(file, metadata=metadata, read_dictionary=text)
                table = stored.read_row_group(group, columns=own, use_threads=False)
        except (OSError, pa.ArrowException) as error:
            rows = int(self._piece_rows[piece])
            raise ReadError(
                f"{self.files[number]} row group {group} of {rows:,} rows cannot be read "
                f"({type(error).__name__}: {error}). The file is damaged, was changed, or is out "
                "of reach. Write it again from its origin, then run the same command."
            ) from error
        for name in names:
            if name in keys:
                column = pa.array([keys[name]], self.types[name]).take(
                    pa.array(np.zeros(int(self._piece_rows[piece]), np.int32))
                )
                table = table.append_column(name, column)
        return table.select(list(names))

    def _metadata(self, number: int, file: Any) -> Any:
        with self._lock:
            found = self._footers.get(number)
        if found is None:
            found = pq.read_metadata(file)
            file.seek(0)
            with self._lock:
                if len(self._footers) >= FOOTERS:
                    self._footers.pop(next(iter(self._footers)))
                self._footers[number] = found
        return found

    def smaller(self, rows: int) -> str:
        several = len(self.files) > LISTED
        if self._piece_rows.max(initial=0) <= rows or several or any(self.keys):
            return ""
        # pyarrow.dataset would change the order of the rows.
        code = (
            f"import pyarrow.parquet as q; fs = {list(self.files)!r}; "
            "w = q.ParquetWriter('smaller.parquet', q.read_schema(fs[0])); "
            f"[w.write_table(q.ParquetFile(f).read_row_group(i), {rows}) for f in fs "
            "for i in range(q.ParquetFile(f).num_row_groups)]; w.close()"
        )
        return f"python -c {shlex.quote(code)}"

    def describe(self) -> dict[str, Any]:
        return {
            "kind": "parquet",
            "store": self._place,
            "files": len(self.files),
            "row_groups": len(self._piece_rows),
            "shards": None,
            "format": "Parquet",
            "compressors": ["Parquet's encodings"],
        }


class _Types(Mapping[str, Any]):
    """Types of columns, the common one of all files. Files may differ in columns without use."""

    def __init__(self, found: dict[str, tuple[Any, ...]], place: str) -> None:
        self.found, self.place = found, place

    def __getitem__(self, name: str) -> Any:
        return common_type(self.found[name], name, self.place)

    def __iter__(self) -> Any:
        return iter(self.found)

    def __len__(self) -> int:
        return len(self.found)
