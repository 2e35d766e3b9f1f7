"""Sources from the options that name stored arrays. Opening reads metadata only."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsoftmax.cli.cube_choice import CubeChoice
from dsoftmax.cli.frame_choice import AS_NUMBERS, FrameChoice
from dsoftmax.cli.labels import soft_classes
from dsoftmax.cli.missing_choice import NODATA, NONE, UNLABELLED, MissingChoice
from dsoftmax.cli.open_cube import open_cube, require_feature_dim
from dsoftmax.cli.open_frames import coding_of, frame_table, is_frame_data, other_columns
from dsoftmax.data.anndata.element import KNOWN
from dsoftmax.data.anndata.nodes import place_of
from dsoftmax.data.coding import Coding
from dsoftmax.data.counts import Normalisation
from dsoftmax.data.cubes.cube import CubeColumn
from dsoftmax.data.cubes.stored import Coordinates, stored_variable
from dsoftmax.data.kind import is_cube, kind_of
from dsoftmax.data.missing import given_missing
from dsoftmax.data.open import admitted, normalised, open_source, with_features
from dsoftmax.data.open import feature_names as feature_names_of
from dsoftmax.data.several import several_labels
from dsoftmax.data.soft import soft_labels
from dsoftmax.data.source import Source
from dsoftmax.data.table import Names, Table
from dsoftmax.data.zarr.names import encoding_of, open_array
from dsoftmax.errors import OptionError
from dsoftmax.results.no_data import Skips

AS_STORED = Normalisation()


def open_data(
    data: str,
    features: str | CubeChoice | None,
    labels: str | None = None,
    weights: str | None = None,
    missing_chunks: str = "error",
    groups: str | None = None,
    missing: MissingChoice = NONE,
    feature_names: Iterable[str] | None = None,
    how: Normalisation = AS_STORED,
    fold_column: str | None = None,
    classes: str | None = None,
    frames: FrameChoice = AS_NUMBERS,
    coding: Coding | None = None,
) -> Source:
    """Open the arrays that the options name. A column of folds takes the place of groups.

    Parameters
    ----------
    how : Normalisation
        Normalisation of the counts in X.
    feature_names : p strings, optional
        Names of the features of a model. Columns of AnnData are found by them.
    classes : str, optional
        Classes, separated by commas. They make labels of two dimensions soft.
    frames : FrameChoice
        How columns of Parquet become features.
    coding : Coding, optional
        Coding of a model. Columns of Parquet are found by it.

    Raises
    ------
    ReadError, DataError, OptionError
    """
    if groups is not None and fold_column is not None:
        raise OptionError(
            "--groups and --fold-column both choose the fold of each row. Pass only one of them."
        )
    option = "--groups" if fold_column is None else "--fold-column"
    column = groups if fold_column is None else fold_column
    return open_source(
        _table(
            data,
            features,
            labels,
            weights,
            column,
            missing_chunks,
            missing,
            feature_names,
            how,
            option,
            classes,
            frames,
            coding,
        )
    )


def open_columns(
    data: str,
    features: str | None,
    labels: Sequence[str],
    weights: str | None = None,
    missing_chunks: str = "error",
    groups: str | None = None,
    missing: MissingChoice = NONE,
    how: Normalisation = AS_STORED,
    fold_column: str | None = None,
    frames: FrameChoice = AS_NUMBERS,
) -> tuple[Source, dict[str, Source]]:
    """Open X with several label columns: the source of all, and one for each column.

    Raises
    ------
    ReadError, DataError, OptionError
    """
    if missing.unlabelled:
        raise OptionError(
            f"{UNLABELLED} names labels of one column, and --labels names {len(labels)}. Leave it "
            "out, or train on the column alone."
        )
    if groups is not None and fold_column is not None:
        raise OptionError(
            "--groups and --fold-column both choose the fold of each row. Pass only one of them."
        )
    option = "--groups" if fold_column is None else "--fold-column"
    column = groups if fold_column is None else fold_column
    if is_frame_data(data) and features is None:  # no label of one model is a feature of another
        features = other_columns(data, (*labels, weights, column))
    arguments = (weights, column, missing_chunks, missing, None, how, option, None, frames)
    tables = [_table(data, features, one, *arguments) for one in labels]
    names = [table.names.y for table in tables]
    y = several_labels({name: table.y for name, table in zip(names, tables, strict=True)})
    together = replace(tables[0], y=y, names=replace(tables[0].names, y=",".join(names)))
    alone = {one: open_source(table) for one, table in zip(labels, tables, strict=True)}
    return open_source(together), alone


def open_features(
    data: str,
    features: str | CubeChoice | None,
    missing_chunks: str,
    skips: Skips,
    feature_names: Iterable[str] | None = None,
    how: Normalisation = AS_STORED,
    frames: FrameChoice = AS_NUMBERS,
    coding: Coding | None = None,
) -> Source:
    """Open the rows of a prediction.

    Raises
    ------
    ReadError, DataError, OptionError
    """
    if skips.missing.any:
        _require_as_stored(how, "--features-nodata")
    table = _table(
        data,
        features,
        None,
        None,
        None,
        missing_chunks,
        NONE,
        feature_names,
        how,
        frames=frames,
        coding=coding,
    )
    return open_source(replace(table, missing=skips.values(np.dtype(table.X.dtype))))


def open_names(data: str, features: str | CubeChoice | None, source: Source) -> NDArray | None:
    """Return the names of the features of a source, (p,) objects; None if the store has none.

    Raises
    ------
    ReadError, DataError, OptionError
    """
    coding = coding_of(source)
    if coding is not None:
        return np.array(coding.features, object)
    return feature_names_of(_features(data, features))


def _table(
    data: str,
    features: str | CubeChoice | None,
    labels: str | None,
    weights: str | None,
    groups: str | None,
    missing_chunks: str,
    missing: MissingChoice,
    feature_names: Iterable[str] | None = None,
    how: Normalisation = AS_STORED,
    grouping: str = "--groups",
    classes: str | None = None,
    frames: FrameChoice = AS_NUMBERS,
    coding: Coding | None = None,
) -> Table[Any]:
    """Return the table of the named arrays, with their paths as names."""
    if is_frame_data(data):
        if isinstance(features, CubeChoice):
            raise OptionError(
                "--feature-dim names a dimension of a cube, and DATA is Parquet. Leave it out, and "
                "name columns with --features."
            )
        columns = (labels, weights, groups)
        return frame_table(
            data, features, columns, missing, frames, how, coding, feature_names, missing_chunks
        )
    frames.require_none()
    named = (("--labels", labels), ("--weights", weights), (grouping, groups))
    X = _features(data, features)
    known: Coordinates = {}
    if missing.nodata:
        _require_as_stored(how, NODATA)
    X = normalised(X, how, _path(X))
    X = with_features(X, feature_names, _path(X))
    y, s, g = (
        None if name is None else _column(X, data, name, option, known) for option, name in named
    )
    names = Names(*(_path(array) if array is not None else "" for array in (X, y, s, g)))
    if y is not None and classes is not None and len(y.shape) == 2 and y.shape[1] > 1:
        y = _soft(y, classes, names.y, missing)
    labels_missing = () if y is None else missing.labels(np.dtype(y.dtype))
    named_values = given_missing(missing.features(), labels_missing, (NODATA, UNLABELLED))
    return Table(X, y, s, g, names, missing_chunks, named_values)


def _soft(P: Any, classes: str, name: str, missing: MissingChoice) -> Any:
    if missing.unlabelled:
        raise OptionError(
            f"{UNLABELLED} names labels, and {name} has soft ones. Leave it out, and give rows "
            "without a class weight 0."
        )
    return soft_labels(P, soft_classes(classes), name)


def _require_as_stored(how: Normalisation, option: str) -> None:
    """Raise if values of features are named, and features are changed while they are read."""
    if how:
        raise OptionError(
            f"{option} names values of features, which --normalize and --log1p change while they "
            "are read; expected one of the two. Leave one out, or let the stored array declare "
            "the value (_FillValue)."
        )


def _column(X: Any, data: str, name: str, option: str, known: Coordinates) -> Any:
    """Open labels, weights or groups beside X."""
    found = _opened(data, name, option)
    if not is_cube(X) or not hasattr(found, "metadata"):
        return found
    place = _path(found)
    return CubeColumn(stored_variable(found, place, known), place)


def _features(data: str, name: str | CubeChoice | None) -> Any:
    if isinstance(name, CubeChoice):
        return open_cube(data, name)
    if name is None and _encoding(data) == "anndata":
        name = "X"
    found = _opened(data, name, "--features")
    require_feature_dim(found, name or data)
    return found


def _encoding(data: str) -> str:
    return _hdf5().encoding_of_file(data) if Path(data).is_file() else encoding_of(data)


def _hdf5() -> ModuleType:
    try:
        from dsoftmax.data.hdf5 import names
    except ImportError:
        raise OptionError(
            "DATA is a file, which needs h5py; expected it to be installed. Run "
            "pip install 'dsoftmax[hdf5]', or pass the directory of a Zarr store."
        ) from None
    return names


def _opened(data: str, name: str | None, option: str) -> Any:
    if Path(data).expanduser().is_file():
        found: Any = _hdf5().open_hdf5(data, name, option, KNOWN)
    else:
        found = open_array(data, name, option, KNOWN)
    return admitted(found, f"{option} {name or data}")


def open_validation(
    validation: str | None,
    training: Source,
    features: str | CubeChoice | None,
    labels: str,
    weights: str | None = None,
    missing_chunks: str = "error",
    missing: MissingChoice = NONE,
    feature_names: Iterable[str] | None = None,
    how: Normalisation = AS_STORED,
    classes: str | None = None,
) -> Source | None:
    """Open a validation set: a second store whose arrays have the names of the training arrays.

    Returns
    -------
    Source or None
        None if ``validation`` is None.

    Raises
    ------
    ReadError, DataError, OptionError
    """
    if validation is None:
        return None
    table = _table(
        validation,
        features,
        labels,
        weights,
        None,
        missing_chunks,
        missing,
        feature_names,
        how,
        classes=classes,
        coding=coding_of(training),
    )
    names = table.names
    for option, path in (
        ("--features", names.X),
        ("--labels", names.y),
        ("--weights", names.weights),
    ):
        if path and path in vars(training.names).values():
            raise OptionError(
                f"--validation {validation}: {option} names {path}, which is a training array. "
                "Pass a store that has other rows in arrays of the same names as DATA."
            )
    return open_source(table)


def _path(array: Any) -> str:
    if kind_of(array) == "stored":
        return str(array.place)
    return place_of(array)


def label_dtype(source: Source) -> np.dtype:
    """Return the dtype of the stored labels; object if there are none."""
    found = source.dtypes.y
    return np.dtype(object) if found is None else found
