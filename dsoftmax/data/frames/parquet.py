"""Parquet: one file, several, or a folder with hive partitions. Pieces are row groups."""

import json
import os
import shlex
import threading
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset
import pyarrow.fs
import pyarrow.parquet as pq
from numpy.typing import NDArray

from dsoftmax.data.frames.frame import Frame
from dsoftmax.data.frames.pieces import Pieces, Table
from dsoftmax.data.frames.types import common_type, is_text, value_type
from dsoftmax.errors import DataError, ReadError
from dsoftmax.system.patterns import paths_of

SUFFIXES = (".parquet", ".parq", ".pq")
"""Endings of files that are looked for in a folder."""
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


@dataclass(frozen=True)
class _Footer:
    """What the footer of a file says.

    Attributes
    ----------
    types : dict
        Type by column.
    nullable : set of str
        Columns that may have nulls in this file.
    rows : list of int
        Rows of its row groups.
    """

    types: dict[str, Any]
    nullable: set[str]
    rows: list[int]


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
        filesystem, files = _listed(paths, place)
        keys, partitions = _partitions(files, filesystem)
        with ThreadPoolExecutor(min(OPENED_AT_ONCE, len(files))) as threads:
            footers = list(threads.map(lambda file: _footer(filesystem, file), files))
        found = _columns(footers, files, partitions)
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


def _is_data(file: str, base: str) -> bool:
    """Return whether a file below a folder is one of its Parquet files, by its name."""
    below = file.removeprefix(base).strip("/").split("/")
    return file.lower().endswith(SUFFIXES) and not any(one.startswith(("_", ".")) for one in below)


def _listed(paths: list[str], place: str) -> tuple[Any, list[str]]:
    """Return the file system and the files of some paths."""
    if "://" in paths[0]:
        try:
            filesystem, _ = pa.fs.FileSystem.from_uri(paths[0])
            inner = [pa.fs.FileSystem.from_uri(path)[1] for path in paths]
        except (OSError, pa.ArrowException) as error:
            raise ReadError(
                f"{place} cannot be opened ({type(error).__name__}: {error}); expected a path, or "
                "a URL such as s3://bucket/folder. Check the address and the credentials."
            ) from error
    else:
        filesystem = pa.fs.LocalFileSystem()
        inner = [found for path in paths for found in paths_of(path)]
    files: list[str] = []
    for path in inner:
        files += _below(filesystem, path, place)
    if not files:
        raise ReadError(
            f"{place}: there is no such Parquet file; expected a file, a folder of files that end "
            f"in {' or '.join(SUFFIXES)}, or a pattern such as 'part-*.parquet'. Check the path."
        )
    return filesystem, files


def _below(filesystem: Any, path: str, place: str) -> list[str]:
    try:
        about = filesystem.get_file_info(path)
        if about.type == pa.fs.FileType.NotFound:
            return []
        if about.type == pa.fs.FileType.File:
            return [path]
        listed = filesystem.get_file_info(pa.fs.FileSelector(path, recursive=True))
    except OSError as error:
        raise ReadError(
            f"{place} cannot be listed ({type(error).__name__}: {error}); expected Parquet files. "
            "Check the path and the permissions."
        ) from error
    return sorted(
        one.path
        for one in listed
        if one.type == pa.fs.FileType.File and _is_data(one.path, about.path)
    )


def _partitions(files: list[str], filesystem: Any) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return the values of the hive partitions of each file, and the type of each key."""
    if not any("=" in Path(file).parent.as_posix() for file in files):
        return [{}] * len(files), {}
    schema = pa.schema([])
    found = pa.dataset.dataset(
        files, format="parquet", filesystem=filesystem, partitioning="hive", schema=None
    )
    keys = [
        dict(pa.dataset.get_partition_keys(fragment.partition_expression))
        for fragment in found.get_fragments()
    ]
    names = dict.fromkeys(name for one in keys for name in one)
    schema = found.schema
    return keys, {name: schema.field(name).type for name in names}


def _footer(filesystem: Any, file: str) -> _Footer:
    try:
        with filesystem.open_input_file(file) as stored:
            metadata = pq.read_metadata(stored)
            schema = metadata.schema.to_arrow_schema()
    except (OSError, pa.ArrowException) as error:
        raise ReadError(
            f"{file} cannot be read as Parquet ({type(error).__name__}: {error}). The file is "
            "damaged, or none of Parquet. Write it again from its origin, or leave it out."
        ) from error
    if len(set(schema.names)) < len(schema.names):
        twice = next(name for name in schema.names if schema.names.count(name) > 1)
        raise DataError(
            f"{file} has two columns named {twice}; expected distinct names. Write it again with "
            "another name for one of them."
        )
    counts = [metadata.row_group(group) for group in range(metadata.num_row_groups)]
    nullable = set()
    for place in range(metadata.num_columns):
        name = metadata.schema.column(place).path
        if name not in schema.names or not schema.field(name).nullable:  # lists are no features
            continue
        for one in counts:
            about = one.column(place).statistics
            if about is None or not about.has_null_count or about.null_count:
                nullable.add(name)
                break
    return _Footer(
        _types(schema),
        nullable,
        [one.num_rows for one in counts],
    )


def _types(schema: Any) -> dict[str, Any]:
    """Return the type of each column. Categories of pandas are dictionaries again.

    Parquet itself keeps dictionaries of strings alone.
    """
    found = dict(zip(schema.names, schema.types, strict=True))
    about = json.loads((schema.metadata or {}).get(b"pandas", b"{}"))
    for column in about.get("columns", []):
        name = column.get("field_name") or column.get("name")
        if column.get("pandas_type") == "categorical" and name in found:
            found[name] = pa.dictionary(pa.int32(), value_type(found[name]))
    return found


def _columns(
    footers: list[_Footer], files: list[str], partitions: dict[str, Any]
) -> dict[str, tuple[Any, ...]]:
    """Return the types of each column in all files, in the order of the first file.

    Raises
    ------
    DataError
        A file lacks a column of another one.
    """
    names = dict.fromkeys(name for footer in footers for name in footer.types)
    for name in names:
        for footer, file in zip(footers, files, strict=True):
            if name not in footer.types and name not in partitions:
                raise DataError(
                    f"{file} has no column {name}, which other files have; expected the same "
                    "columns in all files. Write it again with this column, or leave it out."
                )
    found = {
        name: tuple(dict.fromkeys(footer.types[name] for footer in footers))
        for name in names
        if name not in partitions
    }
    return found | {name: (kind,) for name, kind in partitions.items()}
