"""The kind of an array, told by the home of its class.

No library is imported to tell.
"""

from typing import Any

HOMES = ("dask", "zarr", "h5py", "xarray")
"""Libraries whose arrays are stored or lazy."""


def kind_of(values: Any) -> str:
    """Return the home of the array's class if it is one of `HOMES`, else "stored" or "memory".

    "stored" is a `dsoftmax.data.rows.Stored`: an array in an encoding that is more than one array.
    """
    home = type(values).__module__.partition(".")[0]
    if home == "dsoftmax":
        return "stored"
    return home if home in HOMES else "memory"


def is_cube(values: Any) -> bool:
    """Return whether the values are a `dsoftmax.data.cubes.cube.Cube`."""
    return kind_of(values) == "stored" and hasattr(values, "feature_dims")


def is_dask(values: Any) -> bool:
    """Return whether the values are a dask collection, whose results should be lazy too.

    A frame of dask is one, also once its columns are chosen.
    """
    return kind_of(values) == "dask" or (is_frame(values) and bool(values.lazy))


def is_stored(values: Any) -> bool:
    """Return whether the values are an array in storage, read by rows: Zarr or HDF5."""
    return kind_of(values) in ("zarr", "h5py")


def is_lazy(values: Any) -> bool:
    """Return whether the values are stored or lazy, so that they must not be read as a whole."""
    return kind_of(values) != "memory"


def expression(values: Any, name: str) -> str:
    """Return the expression that makes an array with NumPy's methods, lazy if ``values`` are.

    Parameters
    ----------
    values : array
        As its user passed it.
    name : str
        The array, as its user spells it.
    """
    return {
        "dask": name,
        "zarr": f"dask.array.from_zarr({name})",
        "h5py": f"dask.array.from_array({name})",
        "xarray": f"{name}.chunk().data",
    }.get(kind_of(values), f"numpy.asarray({name})")


def is_frame(values: Any) -> bool:
    """Return whether the values are a frame of `dsoftmax.data.frames`, or its matrix."""
    return type(values).__module__.startswith("dsoftmax.data.frames")


FRAMES = {
    "pandas": ("DataFrame",),
    "polars": ("DataFrame", "LazyFrame"),
    "pyarrow": ("Table", "RecordBatch"),
    "dask": ("DataFrame",),
}
"""Classes with columns by name, by their home."""


def has_columns(values: Any) -> bool:
    """Return whether the values are a frame: of a library, or of `dsoftmax.data.frames`."""
    return is_lazy_frame(values) or any(
        cls.__name__ in FRAMES.get(cls.__module__.partition(".")[0], ())
        for cls in type(values).__mro__
    )


def is_lazy_frame(values: Any) -> bool:
    """Return whether the values are a frame that is not in memory, and so no array at all."""
    home, name = type(values).__module__.partition(".")[0], type(values).__name__
    return type(values).__module__ == "dsoftmax.data.frames.frame" or (home, name) in (
        ("polars", "LazyFrame"),
        ("dask", "DataFrame"),
    )


def is_dask_series(values: Any) -> bool:
    """Return whether the values are one column of a frame of dask."""
    return kind_of(values) == "dask" and type(values).__name__ == "Series"
