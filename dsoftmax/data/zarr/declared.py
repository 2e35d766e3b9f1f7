"""Values that the attributes of a stored array declare as missing: CF conventions and xarray.

* ``_FillValue`` and ``missing_value`` in the attributes, of Zarr v2 and v3. They are in the units
  of the stored values, before ``scale_factor`` and ``add_offset``. xarray writes floats of v3 in
  base64.
* The fill value of a Zarr v2 array that has the attribute ``_ARRAY_DIMENSIONS``: xarray writes
  ``_FillValue`` there, and reads it so. The fill value of another array declares nothing, because
  Zarr gives one to every array.
"""

import base64
import binascii
import struct
from typing import Any

import numpy as np
import zarr

from dsoftmax.data.missing import Missing, in_dtype

ATTRIBUTES = ("_FillValue", "missing_value")
DIMENSIONS = "_ARRAY_DIMENSIONS"
"""Attribute with the names of the dimensions, by which xarray recognises its arrays of v2."""


def declared_missing(array: zarr.Array) -> tuple[Any, ...]:
    """Return the values that a stored array declares as missing, in its dtype."""
    attributes, dtype = dict(array.attrs), np.dtype(array.dtype)
    stated: list[Any] = []
    for name in ATTRIBUTES:
        value = attributes.get(name)
        stated += value if isinstance(value, list) else [value]
    if array.metadata.zarr_format == 2 and DIMENSIONS in attributes:
        stated.append(array.fill_value)
    found = (in_dtype(_number(value, dtype), dtype) for value in stated if value is not None)
    return Missing().adding("X", (value for value in found if value is not None)).X


def _number(value: Any, dtype: np.dtype) -> Any:
    """Return a float that JSON holds as text: "NaN", "-Infinity", or its eight bytes in base64."""
    if dtype.kind != "f" or not isinstance(value, str):
        return value
    try:
        return float(value)
    except ValueError:
        pass
    try:
        return struct.unpack("<d", base64.b64decode(value, validate=True))[0]
    except (binascii.Error, struct.error):
        return None
