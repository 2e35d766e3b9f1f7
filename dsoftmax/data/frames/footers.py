"""Footers of Parquet files: types of columns, nulls, and rows of row groups."""

import json
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from dsoftmax.data.frames.types import value_type
from dsoftmax.errors import DataError, ReadError


@dataclass(frozen=True)
class Footer:
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


def read_footer(filesystem: Any, file: str) -> Footer:
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
    return Footer(
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


def common_columns(
    footers: list[Footer], files: list[str], partitions: dict[str, Any]
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
