"""Tables of Parquet files from the options that name columns."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from dsoftmax.cli.frame_choice import CATEGORICAL, FrameChoice, split
from dsoftmax.cli.missing_choice import NODATA, UNLABELLED, MissingChoice
from dsoftmax.data.coding import Coding
from dsoftmax.data.counts import Normalisation
from dsoftmax.data.missing import given_missing
from dsoftmax.data.source import Source
from dsoftmax.data.table import Names, Table
from dsoftmax.errors import OptionError
from dsoftmax.system.patterns import paths_of

ENDINGS = (".parquet", ".parq", ".pq")
"""Endings of Parquet files."""
ZARR = ("zarr.json", ".zgroup", ".zarray", ".zmetadata")
"""Files of a Zarr store."""


def is_frame_data(data: str) -> bool:
    """Return whether DATA names Parquet files: by its ending, or that of the files of a folder.

    A pattern such as ``year=*`` is judged by the first path that it finds.
    """
    if data.rstrip("/").lower().endswith(ENDINGS):
        return True
    if "://" in data:
        return False
    found = paths_of(data)
    if found != [str(Path(data).expanduser())]:
        return bool(found) and is_frame_data(found[0])
    folder = Path(found[0])
    if not folder.is_dir() or any((folder / name).exists() for name in ZARR):
        return False
    return any(one.suffix.lower() in ENDINGS for one in folder.rglob("*"))


def frame_table(
    data: str,
    features: str | None,
    columns: tuple[str | None, str | None, str | None],
    missing: MissingChoice,
    choice: FrameChoice,
    how: Normalisation,
    coding: Coding | None,
    feature_names: Iterable[str] | None,
    missing_chunks: str,
) -> Table[Any]:
    """Return the table of some columns of Parquet files.

    Parameters
    ----------
    data : str
        File, folder, pattern or URL.
    features : str or None
        Columns separated by commas; all but labels, weights and groups when None.
    columns : tuple of str or None
        Columns of labels, weights and groups.
    missing : MissingChoice
    choice : FrameChoice
    how : Normalisation
        Refused, because columns of frames are no counts of one row.
    coding : Coding or None
        Coding of a model, by which columns are found.
    feature_names : p strings, optional
        Names of the features of a model without a coding.
    missing_chunks : str

    Raises
    ------
    ReadError, DataError, OptionError
    """
    from dsoftmax.data.frames.open import coded, newly_coded
    from dsoftmax.data.frames.parquet import parquet

    if how:
        raise OptionError(
            "--normalize and --log1p are for rows of counts in Zarr or HDF5, and DATA is Parquet. "
            "Leave them out, or store the counts as one array."
        )
    frame = parquet(data)
    y, s, g = (None if name is None else frame.column(name) for name in columns)
    X = (
        frame.without(name for name in columns if name)
        if features is None
        else frame[split(features)]
    )
    if coding is None and feature_names is not None:
        coding = Coding.of_numbers(feature_names)
    if coding is None:
        matrix, _ = newly_coded(X, choice.columns(), choice.unknown or "error", data)
    else:
        if choice.categorical is not None:
            raise OptionError(
                f"{CATEGORICAL} does nothing here, because the model has its own categories. "
                "Leave it out."
            )
        matrix = coded(X, replace(coding, unknown=choice.unknown or coding.unknown), data)
    labels = () if y is None else missing.labels(y.dtype)
    named = given_missing(missing.features(), labels, (NODATA, UNLABELLED))
    names = Names(data, *("" if one is None else one.place for one in (y, s, g)))
    return Table(matrix, y, s, g, names, missing_chunks, named)


def other_columns(data: str, columns: Iterable[str | None]) -> str:
    """Return the columns of Parquet files but some, separated by commas."""
    from dsoftmax.data.frames.parquet import parquet

    return ",".join(parquet(data).without(name for name in columns if name).columns)


def coding_of(source: Source) -> Coding | None:
    """Return the coding of the frame of a source; None if it has none."""
    rows = getattr(getattr(source, "table", None), "X", None)
    found = getattr(rows, "coding", None)
    return found if isinstance(found, Coding) else None


def coding_record(source: Source) -> dict[str, Any]:
    """Return the record of the coding for a model; empty if the data are no frame."""
    coding = coding_of(source)
    return {} if coding is None else {"frame": coding.as_json()}
