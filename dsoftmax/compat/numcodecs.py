"""Numcodecs beyond its documentation: decoding into given memory.

`tests/compat/test_numcodecs_compat.py` says when numcodecs changed.
`dsoftmax.data.zarr.local.blosc` passes Blosc chunks with a header that it wrote itself. It relies
on three properties:

* ``blosc.decompress`` believes the sizes in the header and reads each Blosc block at the offset in
  the table;
* Blosc blocks may lie in any order, and bytes between them are ignored;
* an impossible header or table raises an error.
"""

import numpy as np
from numcodecs import blosc, zstd
from numpy.typing import NDArray


def blosc_decompress(encoded: NDArray[np.uint8], target: NDArray) -> None:
    """Decode a Blosc chunk into ``target``, which has the size that its header states.

    Raises
    ------
    RuntimeError, ValueError
        The chunk is damaged, or the sizes differ.
    """
    blosc.decompress(encoded, target)


def zstd_decompress(encoded: NDArray[np.uint8], target: NDArray) -> None:
    """Decode Zstandard frames into ``target``, which has the size of their content.

    No other memory is taken, whatever the frames hold or claim.

    Raises
    ------
    RuntimeError, ValueError
        The frame is damaged, or the sizes differ.
    """
    zstd.decompress(encoded, target)
