"""h5py beyond its documentation: the dataset behind a view.

`tests/compat/test_h5py_compat.py` says when h5py changed.
"""

from typing import Any

import h5py


def dataset_of(values: Any) -> h5py.Dataset | None:
    """Return the dataset, or the one behind ``astype``, ``asstr`` or ``fields``; None for others.

    Stands for: a public attribute of the views.
    """
    found = getattr(values, "_dset", values)
    return found if isinstance(found, h5py.Dataset) else None
