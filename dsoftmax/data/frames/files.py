"""Parquet files by their paths: a file, a folder, a pattern or a URL, with hive partitions."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset
import pyarrow.fs

from dsoftmax.errors import ReadError
from dsoftmax.system.patterns import paths_of

SUFFIXES = (".parquet", ".parq", ".pq")
"""Endings of files that are looked for in a folder."""


def _is_data(file: str, base: str) -> bool:
    """Return whether a file below a folder is one of its Parquet files, by its name."""
    below = file.removeprefix(base).strip("/").split("/")
    return file.lower().endswith(SUFFIXES) and not any(one.startswith(("_", ".")) for one in below)


def listed_files(paths: list[str], place: str) -> tuple[Any, list[str]]:
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


def partitions_of(files: list[str], filesystem: Any) -> tuple[list[dict[str, Any]], dict[str, Any]]:
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
