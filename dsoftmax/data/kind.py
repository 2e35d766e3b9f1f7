"""The kind of an array, told by the home of its class.

Neither dask nor Zarr is imported to tell.
"""

from typing import Any


def kind_of(values: Any) -> str:
    """Return "dask", "zarr", "h5py", "stored" or "memory".

    "stored" is a `dsoftmax.data.rows.Stored`: an array in an encoding that is more than one array.
    """
    home = type(values).__module__.partition(".")[0]
    if home == "dsoftmax":
        return "stored"
    return home if home in ("dask", "zarr", "h5py") else "memory"


def is_dask(values: Any) -> bool:
    """Return whether the values are a dask collection, whose results should be lazy too."""
    return kind_of(values) == "dask"


def is_lazy(values: Any) -> bool:
    """Return whether the values are stored or lazy, so that they must not be read as a whole."""
    return kind_of(values) != "memory"
