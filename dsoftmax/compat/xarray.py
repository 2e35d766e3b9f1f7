"""xarray beyond its documentation: whether values are in memory.

`tests/compat/test_xarray_compat.py` says when xarray changed.
"""

from typing import Any


def is_loaded(array: Any) -> bool:
    """Return whether the values of a DataArray are in memory, and not in a file.

    Stands for: a public property. ``chunks`` alone does not tell a lazily opened file.
    """
    return bool(array.variable._in_memory)
