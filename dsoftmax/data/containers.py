"""Containers that are no arrays: the expression that makes an array of each.

They are known by the home and the name of a class, so no library is imported here.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dsoftmax.errors import DataError

EXPRESSIONS = {
    ("dask", "Index"): "{name}.to_dask_array(lengths=True)",
    ("dask", "Bag"): "{name}.compute()",
    ("dask", "Delayed"): "{name}.compute()",
    ("pyarrow", "RecordBatchReader"): "{name}.read_all()",
    ("pyarrow", "Dataset"): "{name}.to_table()",
    ("pyarrow", "Scanner"): "{name}.to_table()",
    ("pyarrow", "ParquetFile"): "{name}.read()",
    ("pandas", "TextFileReader"): "pandas.concat({name})",
    ("sparse", "SparseArray"): "{name}.tocsr()",
    ("xarray", "Dataset"): "{name}.to_dataarray('feature').transpose(..., 'feature')",
    ("builtins", "dict"): "pandas.DataFrame({name})",
    ("builtins", "generator"): "list({name})",
    ("builtins", "map"): "list({name})",
    ("builtins", "zip"): "list({name})",
}
"""Expressions by the home and the name of a class, or of one of its bases."""
STORED = ("chunks", "chunking", "chunkshape", "chunk_layout")
"""Attributes of the classes whose arrays are stored or computed in chunks."""
OPENED = {
    ".h5": "h5py.File({path!r}, 'r')[{name!r}]",
    ".hdf5": "h5py.File({path!r}, 'r')[{name!r}]",
    ".h5ad": "anndata.read_h5ad({path!r}, backed='r').X",
    ".nc": "xarray.open_dataset({path!r}, chunks={{}})[{name!r}]",
    ".npy": "numpy.load({path!r}, mmap_mode='r')",
    ".npz": "numpy.load({path!r})[{name!r}]",
    ".parquet": "pandas.read_parquet({path!r})",
    ".csv": "pandas.read_csv({path!r})",
}
"""Expressions that open a path, by its suffix."""


def require_no_container(values: Any, name: str, column: bool) -> None:
    """Raise if the values are a path, or a container that is not read as an array.

    Parameters
    ----------
    values : object
    name : str
        The values, as their user spells them.
    column : bool
        Whether one value per row is expected, not rows of features.

    Raises
    ------
    DataError
        The message has the expression that makes an array.
    """
    if isinstance(values, (str, bytes, os.PathLike)):
        line = _opening(os.fsdecode(values), name)
        raise DataError(
            f"{name} is {values!r}; expected an array. If this is the path of one, open it: {line}."
        )
    for cls in _classes(values):
        if cls in EXPRESSIONS:
            line = EXPRESSIONS[cls].format(name=name)
            raise DataError(
                f"{name} is {_called(values)}; expected {_expected(cls[0])}. Pass {line}."
            )
    if _home(type(values)) not in ("dask", "zarr", "h5py", "xarray", "pyarrow") and any(
        hasattr(type(values), one) for one in STORED
    ):
        chunks = "100_000" if column else "(100_000, -1)"
        raise DataError(
            f"{name} is {_called(values)}, which is stored or lazy, and would be read as a "
            f"whole; expected {_expected('dask')}. Pass "
            f"dask.array.from_array({name}, chunks={chunks}, lock=True)."
        )


def require_dimensions(array: Any, values: Any, name: str) -> None:
    """Raise if NumPy has made an array without dimensions of a container that it does not know.

    Raises
    ------
    DataError
    """
    if array.ndim == 0 and array.dtype.kind == "O":
        raise DataError(
            f"{name} is {_called(values)}; expected an array. Convert it to a NumPy array."
        )


def _opening(path: str, name: str) -> str:
    """Return the expression that opens the array at a path."""
    if (line := OPENED.get(Path(path).suffix.lower())) is not None:
        return line.format(path=path, name=name)
    if Path(path).is_dir():
        from dsoftmax.data.zarr.names import array_names

        if names := array_names(Path(path)):
            return f"zarr.open_group({path!r}, mode='r')[{(name if name in names else names[0])!r}]"
    return f"zarr.open_array({path!r}, mode='r')"


def _classes(values: Any) -> Iterator[tuple[str, str]]:
    """Yield the home and the name of the class and its bases.

    A sparse matrix of SciPy may be a dict. It has a shape, and is an array here.
    """
    for cls in type(values).__mro__:
        if cls.__module__ != "builtins" or not hasattr(type(values), "shape"):
            yield _home(cls), cls.__name__


def _home(cls: type) -> str:
    return cls.__module__.partition(".")[0]


def _called(values: Any) -> str:
    cls = type(values)
    found = cls.__name__ if _home(cls) == "builtins" else f"{_home(cls)} {cls.__name__}"
    return f"{'an' if found[0] in 'aeiou' else 'a'} {found}"


def _expected(home: str) -> str:
    return "a dask array" if home == "dask" else "an array"
