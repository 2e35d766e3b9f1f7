"""The choice of plain arrays that our own reader can read."""

import zarr
from zarr.storage import LocalStore

from dsoftmax.compat.zarr import codec_settings
from dsoftmax.data.zarr.local import blosc
from dsoftmax.data.zarr.local.codecs import is_little_endian, known_decoder
from dsoftmax.data.zarr.local.files import LocalChunks
from dsoftmax.data.zarr.local.shards import shard_index


def local_chunks(array: zarr.Array) -> LocalChunks | None:
    """Return the reader of a plain local array; None for every other array.

    A plain array has at most one compressor: Blosc, Zstandard or gzip. Each file holds one chunk,
    or a shard with an index in the form that Zarr writes.
    """
    store = array.store_path.store
    if not (isinstance(store, LocalStore) and is_plain(array)):
        return None
    decode = known_decoder(array.compressors)
    index = None if array.shards is None else shard_index(array)
    if decode is None or (index is None) != (array.shards is None):
        return None
    small = decode is blosc.decode and _blocksize(array) <= blosc.SMALL_BLOCK_BYTES
    return LocalChunks(store.root / array.store_path.path, array, decode, index, small)


def is_plain(array: zarr.Array) -> bool:
    """Return whether an array has rows of C-ordered native numbers, and no filters."""
    return (
        array.ndim in (1, 2)
        and not array.filters
        and (array.metadata.zarr_format == 3 or array.order == "C")
        and array.dtype.kind in "biuf"
        and array.dtype.isnative
        and is_little_endian(array.serializer)
    )


def _blocksize(array: zarr.Array) -> int:
    """Return the bytes of a Blosc block that the writer asked for; 0 if the library chose."""
    return int(codec_settings(array.compressors[0])[1].get("blocksize", 0))
